# SPDX-License-Identifier: MIT
"""Latents in the compiled core: the masked MLP with mixtures or tables, and rANS, in one pass, both ways."""

import ctypes
from collections.abc import Sequence
from ctypes import c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import Core
from smalti.core.memory import address, aligned
from smalti.core.streams import LogisticTables, States, StreamDecoder

SMALL = 16
"""SMALTI_SMALL of `core/smalti.h`."""
MOST_BYTES = 1 << 28
"""The most bytes of a layer's weights, as the core takes them; larger networks run in numpy."""

Ints = NDArray[np.int64]
Weights = NDArray[np.int8]


class _Mlp(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("groups", "group", "units", "outputs", "context")),
        *((name, c_int64) for name in ("unit_room", "output_room", "all_units", "all_outputs")),
        *((name, c_void_p) for name in ("context_weights", "first", "second", "third")),
        *((name, c_void_p * 3) for name in ("biases", "shifts", "scales")),
        *((name, c_int32) for name in ("kernel", "reserved")),
    )


class _Latents(ctypes.Structure):
    _fields_ = (
        ("n", c_int64),
        *((name, c_void_p) for name in ("which", "steps", "low", "high")),
        *((name, c_int32) for name in ("components", "reserved")),
    )


class _Spatial(ctypes.Structure):
    _fields_ = (
        ("mlp", c_void_p),
        ("features", c_int64),
        *((name, c_void_p) for name in ("steps", "inverses", "octaves", "active", "starts")),
    )


class _Positions(ctypes.Structure):
    _fields_ = (*((name, c_int64) for name in ("n", "h", "w")), *((name, c_void_p) for name in ("features", "which")))


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of a masked MLP. `o`: outputs of all groups, `i`: inputs."""

    weights: Weights  # o i
    biases: NDArray[np.int32]  # o
    embeddings: NDArray[np.int32]  # QUALITY_EMBEDDINGS o
    shifts: NDArray[np.uint8]  # o


class PackedMlp:
    """A masked MLP as a kernel of the core takes it. `at` gives it the biases of some operating points."""

    def __init__(self, core: Core, layers: Sequence[Layer], latents: int, group: int) -> None:
        """Pack the three layers of a network, all of whose arrays were checked; masked weights do not count."""
        self.core, self._layers, self._kept = core, layers, list[NDArray[Any]]()
        groups = latents // group
        units, outputs = (len(layer.biases) // groups for layer in layers[1:])
        rooms, wide = (
            [_room(units), _room(units), _room(outputs)],
            [_room(groups * k + SMALL) for k in (units, outputs)],
        )
        context = layers[0].weights.shape[1] - latents
        self._wide = wide[0], wide[0], wide[1]
        of_context, weights = layers[0].weights[:, :context], layers[0].weights[:, context:]
        pairs = _pairs(of_context.T[None], wide[0]) if context else np.zeros(0, np.int16)
        blocks = [
            _blocks(some, size, seen, room, groups, own)
            for some, size, seen, room, own in (
                (weights, units, group, rooms[0], 0),
                (layers[1].weights, units, units, rooms[1], 1),
                (layers[2].weights, outputs, units, rooms[2], 1),
            )
        ]
        places = (self._keep(array, np.int16) for array in (pairs, *blocks))
        self.struct = _Mlp(groups, group, units, outputs, context, rooms[0], rooms[2], *wide, *places)
        self.struct.kernel = core.kernel
        for i, (layer, room) in enumerate(zip(layers, self._wide, strict=True)):
            shifts = _filled(layer.shifts.astype(np.int32), room)
            self.struct.shifts[i] = self._keep(shifts, np.int32)
            self.struct.scales[i] = self._keep(np.ldexp(np.float32(1), -shifts), np.float32)

    @staticmethod
    def fits(layers: Sequence[Layer], latents: int, group: int) -> bool:
        """Return whether the core takes a network of this size."""
        groups, sizes = latents // group, [len(layer.biases) for layer in layers]
        rooms = [_room(size // groups) for size in sizes]
        inputs = layers[0].weights.shape[1] + groups, sizes[0] + groups, sizes[1] + groups
        return all(4 * groups * room * seen <= MOST_BYTES for room, seen in zip(rooms, inputs, strict=True))

    def at(self, embeddings: Ints) -> "tuple[_Mlp, list[NDArray[np.int32]]]":
        """Return the network with the biases for weights of embeddings (`p QUALITY_EMBEDDINGS`), and what it needs."""
        struct, kept = _Mlp.from_buffer_copy(self.struct), list[NDArray[np.int32]]()
        for i, (layer, room) in enumerate(zip(self._layers, self._wide, strict=True)):
            kept.append(_filled(layer.biases + embeddings @ layer.embeddings.astype(np.int64), room).astype(np.int32))
            struct.biases[i] = address(kept[-1], np.int32)
        return struct, kept

    def _keep(self, array: NDArray[Any], dtype: type[np.generic]) -> int:
        self._kept.append(aligned(array, dtype))
        return address(self._kept[-1], dtype)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of latents at operating points, and the quantisers. `p`: points that are present, `l`: latents."""

    which: NDArray[np.int32]  # n: the number of each row's point
    embeddings: Ints  # p QUALITY_EMBEDDINGS: weights
    steps: Ints  # p l
    low: Ints  # l: the lowest symbol at any point
    high: Ints  # l


class PatchLatents:
    """The latents of patches in the core: decoded, or the distributions of known symbols."""

    def __init__(self, mlp: PackedMlp, logistics: Sequence[NDArray[np.int32]], components: int) -> None:
        """logistics: `cdf`, `weights`, `inverse` and limits."""
        self._mlp, self._logistics, self._components = mlp, logistics, components

    def take(self, decoders: Sequence[StreamDecoder], rows: Rows) -> Ints:
        """Decode the symbols of rows (`n l`) from streams, each of which has as many rows."""
        symbols = np.empty((len(rows.which), len(rows.low)), np.int64)
        with States(decoders) as states:
            self._run("smalti_take_latents", rows, ctypes.byref(states), len(states), address(symbols, np.int64))
        return symbols

    def cdf(self, rows: Rows, symbols: Ints) -> Ints:
        """Return the distributions below symbols (`n l`) and up to each (`n l 2`), as if no range ended them."""
        known, cdf = np.ascontiguousarray(symbols, np.int64), np.empty((*symbols.shape, 2), np.int64)
        self._run("smalti_latent_cdf", rows, address(known, np.int64), address(cdf, np.int64))
        return cdf

    def _run(self, name: str, rows: Rows, *arguments: object) -> None:
        library = self._mlp.core.library
        mlp, _kept = self._mlp.at(rows.embeddings)
        arrays = [np.ascontiguousarray(array) for array in (rows.steps, rows.low, rows.high)]
        places = address(rows.which, np.int32), *(address(array, np.int64) for array in arrays)
        latents = _Latents(len(rows.which), *places, self._components, 0)
        tables = LogisticTables(*(address(table, np.int32) for table in self._logistics))
        work = np.empty(library.smalti_latents_work(ctypes.byref(mlp), len(rows.which)), np.uint8)
        given = (ctypes.byref(mlp), ctypes.byref(tables), ctypes.byref(latents), *arguments, address(work, np.uint8))
        assert getattr(library, name)(*given) == 0


@dataclass(frozen=True, eq=False)
class Positions:
    """Images whose spatial latents are coded. `p`: operating points that are present, `c`: latents of a position."""

    features: NDArray[np.float32]  # n k H W, integers
    which: NDArray[np.int32]  # n: the number of each image's point
    embeddings: Ints  # p QUALITY_EMBEDDINGS: weights
    steps: Ints  # p c
    inverses: Ints  # p c
    octaves: Ints  # p c
    active: NDArray[np.bool_]  # p c


class SpatialLatents:
    """Spatial latents in the core: decoded, or the tables of known symbols."""

    def __init__(self, mlp: PackedMlp, starts: Ints) -> None:
        """starts: the sums of all entries before each, of each table."""
        self._mlp, self._starts = mlp, starts

    def take(self, decoders: Sequence[StreamDecoder], of: Ints, places: Positions, latents: int) -> Ints:
        """Decode the symbols (`n c H W`) of images, each from the stream that `of` (`n`) tells."""
        n, _, h, w = places.features.shape
        symbols, streams = np.zeros((n, latents, h, w), np.int64), of.astype(np.int32)
        with States(decoders) as states:
            given = ctypes.byref(states), address(streams, np.int32), address(symbols, np.int64)
            self._run("smalti_take_spatial", places, *given)
        return symbols

    def tables(self, places: Positions, symbols: Ints) -> tuple[Ints, Ints]:
        """Return for known symbols (`n c H W`) those nearest to the centres, and their tables (`n*H*W c` each)."""
        n, c, h, w = symbols.shape
        known = np.ascontiguousarray(symbols, np.int64)
        base, table = np.empty((n * h * w, c), np.int64), np.empty((n * h * w, c), np.int64)
        self._run("smalti_spatial_tables", places, *(address(array, np.int64) for array in (known, base, table)))
        return base, table

    def _run(self, name: str, places: Positions, *arguments: object) -> None:
        library, features = self._mlp.core.library, np.ascontiguousarray(places.features, np.float32)
        n, k, h, w = features.shape
        mlp, _kept = self._mlp.at(places.embeddings)
        arrays = [np.ascontiguousarray(array) for array in (places.steps, places.inverses, places.octaves)]
        active = np.ascontiguousarray(places.active).view(np.uint8)
        values = *(address(array, np.int64) for array in arrays), address(active, np.uint8)
        prior = _Spatial(ctypes.addressof(mlp), k, *values, address(self._starts, np.int64))
        where = _Positions(n, h, w, address(features, np.float32), address(places.which, np.int32))
        work = np.empty(library.smalti_spatial_work(ctypes.byref(prior), ctypes.byref(where)), np.uint8)
        given = (ctypes.byref(prior), ctypes.byref(where), *arguments, address(work, np.uint8))
        assert getattr(library, name)(*given) == 0


def _room(outputs: int) -> int:
    """Return so many outputs, filled up to a multiple of SMALL."""
    return outputs + -outputs % SMALL


def _filled(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Return an array whose last axis is filled up with zeros."""
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, size - array.shape[-1])])


def _pairs(weights: NDArray[Any], room: int) -> NDArray[np.int16]:
    """Return weights (`groups inputs outputs`) in pairs of inputs, with outputs filled up: `groups*pairs room 2`."""
    _, inputs, outputs = weights.shape
    filled = np.pad(weights, ((0, 0), (0, inputs % 2), (0, room - outputs))).astype(np.int16)
    return np.ascontiguousarray(filled.reshape(-1, 2, room).transpose(0, 2, 1))


def _blocks(weights: Weights, outputs: int, seen: int, room: int, groups: int, own: int) -> NDArray[np.int16]:
    """Return the blocks of all groups, of what each sees: earlier groups of `seen` inputs, and `own` (0 or 1) of it."""
    parts = [np.zeros(0, np.int16)]
    for g in range(groups):
        mine = weights[g * outputs : (g + 1) * outputs, : (g + own) * seen]
        parts.append(_pairs(mine.T.reshape(-1, seen, outputs), room).ravel())
    return np.concatenate(parts)
