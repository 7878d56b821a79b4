# SPDX-License-Identifier: MIT
"""Planes of samples coded by pixels in the compiled core: network, mixtures and rANS in one pass."""

import ctypes
from collections.abc import Sequence
from ctypes import c_int32, c_int64, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import Core
from smalti.core.memory import address, aligned
from smalti.core.streams import LogisticTables, StreamDecoder, StreamState
from smalti.core.symbols import Record, Recorded

MOST_LAYERS, SMALL, SLACK = 8, 16, 64
"""SMALTI_LAYERS, SMALTI_SMALL and SMALTI_SLACK of `core/smalti.h`."""
OK, NO_SUCH_LEVEL = 0, 1

Ints = NDArray[np.int64]
Samples = NDArray[np.uint8]


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("pairs", "outputs", "big")),
        *((name, c_void_p) for name in ("weights", "biases", "shifts", "scales")),
    )


class _Prior(ctypes.Structure):
    _fields_ = (
        *((name, c_int32) for name in ("channels", "above", "reach", "left")),
        *((name, c_int32) for name in ("layers", "components", "kernel", "reserved")),
        ("layer", _Layer * MOST_LAYERS),
        *((name, c_void_p) for name in ("rows", "columns", "errors")),
        ("logistics", LogisticTables),
    )


class _Planes(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("n", "h", "m", "least")),
        *((name, c_void_p) for name in ("sides", "errors", "images", "padded", "values")),
    )


class PackedPrior:
    """A pixel prior as a kernel of the core takes it."""

    def __init__(
        self,
        core: Core,
        window: tuple[int, int, int, int],
        layers: Sequence[tuple[NDArray[np.int16], NDArray[np.int32], NDArray[np.uint8]]],
        places: Sequence[NDArray[np.int32]],
        logistics: Sequence[NDArray[np.int32]],
    ) -> None:
        """Pack a prior, all of whose arrays were checked.

        window: channels, above, reach and left. layers: weights (`outputs inputs`), biases and shifts (`outputs`).
        places: biases of rows, columns and errors. logistics: `cdf`, `weights`, `inverse` and limits.
        """
        channels, above, reach, left = window
        self.core, self.window = core, window
        self._kept = list[NDArray[Any]]()
        self.struct = _Prior(*window, len(layers), (len(layers[-1][1]) + 1) // 3, core.kernel)
        sizes = [2 * reach * channels + 1] * above + [left * channels]
        for i, (weights, biases, shifts) in enumerate(layers):
            inputs = _in_pairs(weights, sizes) if i == 0 else _filled(weights, 1)
            self.struct.layer[i] = self._layer(_filled(inputs, 0), biases, shifts)
        for name, array in zip(("rows", "columns", "errors"), places, strict=True):
            setattr(self.struct, name, self._keep(_filled(array, 1), np.int32))
        for name, array in zip(("cdf", "weights", "inverse", "limits"), logistics, strict=True):
            setattr(self.struct.logistics, name, self._keep(array, np.int32))

    @property
    def side(self) -> int:
        """Return the samples that a plane has to its left and right, all zero."""
        channels, _, reach, left = self.window
        return max(reach, left) * channels

    def _layer(self, weights: NDArray[np.int16], biases: NDArray[np.int32], shifts: NDArray[np.uint8]) -> _Layer:
        """Return a layer whose weights (`outputs inputs`) are put into blocks of outputs, and there into pairs."""
        outputs, inputs = weights.shape
        size = self.core.library.smalti_big(self.core.kernel)
        big = outputs // size * size
        starts = [*range(0, big, size), *range(big, outputs, SMALL)]
        ends = [*starts[1:], outputs]
        blocks = [
            weights[start:end].reshape(end - start, inputs // 2, 2).transpose(1, 0, 2).ravel()
            for start, end in zip(starts, ends, strict=True)
        ]
        widths = _filled(shifts[None], 1)[0]
        return _Layer(
            inputs // 2,
            outputs,
            big,
            self._keep(np.concatenate(blocks), np.int16),
            self._keep(_filled(biases[None], 1)[0], np.int32),
            self._keep(widths, np.int32),
            self._keep(np.ldexp(np.float32(1), -widths.astype(np.int32)), np.float32),
        )

    def _keep(self, array: NDArray[Any], dtype: type[np.generic]) -> int:
        """Return the address of a copy of an array, which lives as long as this."""
        self._kept.append(aligned(array, dtype))
        return address(self._kept[-1], dtype)


class PixelWalk:
    """Planes of samples of any sizes, which are walked over once: either decoded or quantised."""

    def __init__(self, prior: PackedPrior, sides: Ints, errors: Ints, each: int, least: int) -> None:
        """Begin a walk over `n` planes.

        sides: the rows of each plane and the samples of a row (`n 2`). errors: its largest error (`n`).
        each: the planes of an image. least: the smallest largest error that an image may have.
        """
        n, (h, m) = len(sides), sides.max(0).tolist()
        self.prior, self._shape = prior, (n, h, m)
        self._images, self._samples = n // each, int(sides.prod(1).sum())
        rows, stride = prior.window[1] + h, m + 2 * prior.side
        self._padded = np.zeros(n * rows * stride + SLACK, np.uint8)
        self._arrays = sides.astype(np.int32), errors.astype(np.int32), (np.arange(n) // each).astype(np.int32)
        places = (address(np.ascontiguousarray(array), np.int32) for array in self._arrays)
        self._planes = _Planes(n, h, m, least, *places, address(self._padded, np.uint8), None)
        self._view = self._padded[:-SLACK].reshape(n, rows, stride)
        size = prior.core.library.smalti_work(ctypes.byref(prior.struct), ctypes.byref(self._planes))
        self._work = np.empty(size, np.uint8)

    @property
    def samples(self) -> Samples:
        """The samples of all planes (`n h m`)."""
        _, _, m = self._shape
        return self._view[:, self.prior.window[1] :, self.prior.side : self.prior.side + m]

    def decode(
        self, decoders: Sequence[StreamDecoder], of_plane: Ints, *, record: bool
    ) -> tuple[bool, Recorded | None]:
        """Decode all planes, each from the stream that `of_plane` (`n`) tells.

        Returns:
            Whether all levels exist, and all symbols if `record` says so.
        """
        streams = (StreamState * len(decoders))(*(decoder.state for decoder in decoders))
        record_to = Record(self._samples) if record else None
        which = of_plane.astype(np.int32)
        code = self.prior.core.library.smalti_decode(
            ctypes.byref(self.prior.struct),
            ctypes.byref(self._planes),
            ctypes.byref(streams),
            address(which, np.int32),
            ctypes.byref(record_to.struct) if record_to else None,
            address(self._work, np.uint8),
        )
        for decoder, state in zip(decoders, streams, strict=True):
            decoder.state = state
        assert code in (OK, NO_SUCH_LEVEL)
        return code == OK, record_to.sorted(self.prior.core, self._images) if record_to and code == OK else None

    def quantise(self, values: Samples, lmbda: float, log2s: Ints) -> Recorded:
        """Quantise the samples `values` (`n h m`) and return their symbols; `core/smalti.h` tells the rest."""
        assert values.shape == self._shape
        kept, table = np.ascontiguousarray(values), np.ascontiguousarray(log2s)
        self._planes.values = address(kept, np.uint8)
        record = Record(self._samples)
        code = self.prior.core.library.smalti_quantise(
            ctypes.byref(self.prior.struct),
            ctypes.byref(self._planes),
            lmbda,
            address(table, np.int64),
            ctypes.byref(record.struct),
            address(self._work, np.uint8),
        )
        assert code == OK
        return record.sorted(self.prior.core, self._images)


def _filled(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return an array with zeros appended, up to a multiple of SMALL."""
    more = [(0, 0)] * array.ndim
    more[axis] = (0, -array.shape[axis] % SMALL)
    return np.pad(array, more)


def _in_pairs(weights: NDArray[np.int16], sizes: Sequence[int]) -> NDArray[np.int16]:
    """Return weights whose inputs come in stretches of these sizes, with an input of no weight behind odd ones."""
    parts = np.split(weights, np.cumsum(sizes)[:-1], axis=1)
    return np.concatenate([np.pad(part, ((0, 0), (0, part.shape[1] % 2))) for part in parts], axis=1)
