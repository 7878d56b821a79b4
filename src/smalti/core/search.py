# SPDX-License-Identifier: MIT
"""The search of latents in the compiled core: networks in stages, which are computed again only where inputs change."""

import copy
import ctypes
from collections.abc import Sequence
from ctypes import c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import Core
from smalti.core.memory import address, aligned
from smalti.core.streams import LogisticTables

MULTIPLE, FULL_LIST = 16, 16
"""Outputs and lists are filled up to multiples, SMALTI_SMALL of `core/smalti.h`; lists have as many entries behind."""

Ints = NDArray[np.int64]


class _Stage(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("positions", "taps", "outputs", "padded")),
        *((name, c_int64) for name in ("rows", "channels", "first", "first_row", "first_sum", "stride")),
        *((name, c_void_p) for name in ("where", "more", "weights", "biases", "shifts", "scales")),
        *((name, c_int32) for name in ("high", "is_last")),
    )


class _Net(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("units", "rows", "sums", "entries", "most")),
        *((name, c_void_p) for name in ("lists", "starts", "channels", "stage")),
        *((name, c_int32) for name in ("stages", "kernel")),
    )


class _Search(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("image", "prior", "logistics", "bits")),
        *((name, c_int64) for name in ("patches", "latents", "pixels", "most")),
        *((name, c_void_p) for name in ("steps", "low", "high", "image_row", "image_unit")),
        *((name, c_void_p) for name in ("prior_unit", "prior_row", "prior_sum", "pixel_unit", "table")),
        *((name, c_int32) for name in ("components", "passes")),
    )


@dataclass(frozen=True, eq=False)
class StageArrays:
    """A stage of a network; `core/search.h` tells what a stage is."""

    rows: int  # of a position
    where: NDArray[np.int32]  # positions taps 2: row, or -1 for none, and the first pair of its weights
    more: NDArray[np.int32] | None  # positions
    weights: NDArray[np.int16]  # pairs outputs 2
    biases: Ints  # positions outputs, or 1 outputs if they are the same everywhere
    embeddings: Ints  # biases of each quality embedding: QUALITY_EMBEDDINGS, and the same shape
    shifts: Ints  # of the same shape as the biases
    high: int
    is_last: bool = False


class PackedNet:
    """A network as the core takes it. `at` gives it the biases of an operating point."""

    def __init__(self, core: Core, inputs: Sequence[tuple[int, int]], stages: Sequence[StageArrays]) -> None:
        """inputs: of each, its rows and the units of a row."""
        self._kept, self._biases = list[NDArray[Any]](), list[tuple[Ints, Ints]]()
        channels, units, sums, most = [c for rows, c in inputs for _ in range(rows)], 0, 0, 0
        units = sum(channels)
        self.stages = (_Stage * len(stages))()
        nothing = len(channels) + sum(len(stage.where) * stage.rows for stage in stages if not stage.is_last)
        for i, stage in enumerate(stages):
            (positions, taps, _), outputs = stage.where.shape, stage.weights.shape[1]
            padded, each = outputs + -outputs % MULTIPLE, outputs // stage.rows
            more = (0, 0), (0, padded - outputs)
            shifts = np.pad(stage.shifts, more)
            self._biases.append((np.pad(stage.biases, more), np.pad(stage.embeddings, ((0, 0), *more))))
            self.stages[i] = _Stage(
                *(positions, taps, outputs, padded, stage.rows, each, units, len(channels), sums),
                padded if len(shifts) > 1 else 0,
                self._keep(np.where(stage.where[..., :1] < 0, (nothing, 0), stage.where), np.int32),
                None if stage.more is None else self._keep(stage.more, np.int32),
                self._keep(np.pad(stage.weights, (*more, (0, 0))), np.int16),
                None,  # `at` sets the biases
                self._keep(shifts, np.int32),
                self._keep(np.ldexp(np.float32(1), -shifts.astype(np.int32)), np.float32),
                stage.high,
                stage.is_last,
            )
            sums, most = sums + positions * padded, max(most, padded)
            if not stage.is_last:
                units += positions * outputs
                channels += [each] * (positions * stage.rows)
        of_rows = np.array([*channels, 2])  # the last row stays empty: it is read where there is none
        assert len(of_rows) == nothing + 1
        entries = -(-of_rows // (2 * FULL_LIST)) * FULL_LIST + FULL_LIST
        self.starts: Ints = np.cumsum(of_rows) - of_rows
        self.struct = _Net(
            *(units + 2, len(of_rows), sums, int(entries.sum()), max(most, int(of_rows.max()))),
            self._keep(np.cumsum(entries) - entries, np.int64),
            self._keep(self.starts, np.int64),
            self._keep(of_rows, np.int32),
            ctypes.addressof(self.stages),
            *(len(stages), core.kernel),
        )

    def at(self, weights: Ints) -> "PackedNet":
        """Return the network with the biases for these weights of the quality embeddings (`QUALITY_EMBEDDINGS`)."""
        other = copy.copy(self)
        other._kept = list(self._kept)
        other.stages = type(self.stages).from_buffer_copy(self.stages)
        for stage, (biases, embeddings) in zip(other.stages, self._biases, strict=True):
            stage.biases = other._keep(biases + np.tensordot(weights, embeddings, 1), np.int32)
        other.struct = _Net.from_buffer_copy(self.struct)
        other.struct.stage = ctypes.addressof(other.stages)
        return other

    def _keep(self, array: NDArray[Any], dtype: type[np.generic]) -> int:
        self._kept.append(aligned(array, dtype))
        return address(self._kept[-1], dtype)


@dataclass(frozen=True, eq=False)
class Places:
    """Where latents and pixels are in the networks of a search. `l`: latents of a patch."""

    image: Ints  # patches*l: the unit of each latent in the network that makes images
    prior: Ints  # l: the unit of each latent in the prior
    prior_sums: Ints  # l: where its mixture is in the sums of the prior's last stage
    pixels: Ints  # pixels: the unit that becomes each pixel
    table: NDArray[np.uint8]  # the pixel for each value of its unit


class PatchSearch:
    """The search of the latents of images at one operating point."""

    def __init__(
        self,
        core: Core,
        nets: tuple[PackedNet, PackedNet],
        logistics: Sequence[NDArray[np.int32]],
        grid: tuple[Ints, Ints, Ints],
        places: Places,
        *,
        most: int,
        components: int,
        log2s: Ints,
    ) -> None:
        """nets: of the images and the prior. grid: steps, lowest and highest symbols (`l` each). most: of a latent."""
        self._core, self._nets, self._kept = core, nets, list[NDArray[Any]]()
        image, prior = nets
        self._tables = LogisticTables(*(self._keep(table, np.int32) for table in logistics))
        latents = len(places.prior)
        self._struct = _Search(
            *(ctypes.addressof(net.struct) for net in nets),
            ctypes.addressof(self._tables),
            self._keep(log2s, np.int64),
            *(len(places.image) // latents, latents, len(places.pixels), most),
            *(self._keep(array, np.int64) for array in grid),
            self._keep(_rows(image, places.image), np.int32),
            self._keep(places.image, np.int32),
            self._keep(places.prior, np.int32),
            self._keep(_rows(prior, places.prior), np.int32),
            self._keep(places.prior_sums, np.int32),
            self._keep(places.pixels, np.int32),
            self._keep(places.table, np.uint8),
            *(components, 0),
        )

    def work_size(self, hopeful: int) -> int:
        """Return the bytes of memory that `refine` needs for so many hopeful latents."""
        size: int = self._core.library.smalti_refine_work(ctypes.byref(self._struct), hopeful)
        return size

    def refine(
        self,
        pixels: NDArray[np.uint8],
        units: NDArray[np.int16],
        multiplier: float,
        hopeful: Ints,
        symbols: Ints,
        passes: int,
        work: NDArray[np.uint8],
    ) -> Ints:
        """Return better symbols (`patches*l`) of an image; `core/search.h` tells the rest.

        work: memory of at least `work_size` bytes.
        """
        search = _Search.from_buffer_copy(self._struct)
        search.passes = passes
        some, found = hopeful.astype(np.int64), symbols.astype(np.int64)
        x, inputs = np.ascontiguousarray(pixels.ravel()), np.ascontiguousarray(units)
        code = self._core.library.smalti_refine(
            ctypes.byref(search),
            address(x, np.uint8),
            address(inputs, np.int16),
            len(inputs),
            multiplier,
            address(some, np.int64),
            len(some),
            address(found, np.int64),
            address(work, np.uint8),
        )
        assert code == 0
        return found

    def _keep(self, array: NDArray[Any], dtype: type[np.generic]) -> int:
        self._kept.append(aligned(array, dtype))
        return address(self._kept[-1], dtype)


def _rows(net: PackedNet, units: Ints) -> Ints:
    """Return the rows in which units are."""
    found: Ints = np.searchsorted(net.starts, units, side="right") - 1
    return found
