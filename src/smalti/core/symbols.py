# SPDX-License-Identifier: MIT
"""The symbols of samples in the compiled core: record them, sort them, count their bits, encode them."""

import ctypes
from ctypes import c_int64, c_void_p
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import Core
from smalti.core.memory import address

Ints = NDArray[np.int64]
Recorded = tuple[Ints, NDArray[Any], NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint8]]
"""The symbols of images, as `SampleSymbols` holds them: counts, keys, below, up to, whole, kinds."""


class SymbolArrays(ctypes.Structure):
    """`smalti_symbols` of `core/smalti.h`."""

    _fields_ = (
        *((name, c_int64) for name in ("capacity", "count")),
        *((name, c_void_p) for name in ("images", "keys", "below", "up_to", "whole", "kinds")),
    )


class Record:
    """The symbols of samples, in the order of coding."""

    TYPES: ClassVar[tuple[type[np.generic], ...]] = (np.uint32, np.uint64, np.uint32, np.uint32, np.uint32, np.uint8)

    def __init__(self, samples: int) -> None:
        """samples: how many are coded, with up to three symbols each; memory that is not used costs nothing."""
        self._arrays = [np.empty(3 * samples, dtype) for dtype in self.TYPES]
        places = (address(array, dtype) for array, dtype in zip(self._arrays, self.TYPES, strict=True))
        self.struct = SymbolArrays(3 * samples, 0, *places)

    def sorted(self, core: Core, n: int) -> Recorded:
        """Return the symbols of `n` images, image after image."""
        count = self.struct.count
        images, keys = self._arrays[0][:count], self._arrays[1][:count]
        counts = np.bincount(images, minlength=n).astype(np.int64)
        small = np.empty(count, np.min_scalar_type(int(keys.max(initial=0))))
        rest = [np.empty(count, dtype) for dtype in self.TYPES[2:]]
        to = SymbolArrays(count, 0, None, None, *(array.ctypes.data for array in rest))
        places = counts.copy()
        core.library.smalti_sort(
            ctypes.byref(self.struct),
            n,
            address(places, np.int64),
            ctypes.byref(to),
            small.ctypes.data,
            small.itemsize,
        )
        below, up_to, whole, kinds = rest
        return counts, small, below, up_to, whole, kinds


def sum_bits(core: Core, symbols: Recorded, table_sizes: tuple[int, int, int], log2s: Ints) -> Ints:
    """Return the bits that the symbols of each image take of an ideal coder (`n`), in units of 2^-32 bits."""
    counts, (struct, _kept) = symbols[0], _arrays_of(symbols)
    of_images, sizes = np.ascontiguousarray(counts, np.int64), np.array(table_sizes, np.int64)
    table, sums = np.ascontiguousarray(log2s), np.empty(len(counts), np.int64)
    places = (address(array, np.int64) for array in (sizes, table, sums))
    core.library.smalti_sum_bits(ctypes.byref(struct), address(of_images, np.int64), len(counts), *places)
    return sums


@dataclass(frozen=True, eq=False)
class SampleStream:
    """The symbols of a block's samples, which the core puts into the order of the stream when it encodes them."""

    symbols: Recorded
    table_sizes: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.symbols[5])

    def put(self, core: Core, state: ctypes.c_uint64, words: NDArray[np.uint32], count: int) -> int:
        """Encode the symbols to `words`, which hold `count` words, and return how many they hold then."""
        struct, _kept = _arrays_of(self.symbols)
        keys, n = np.ascontiguousarray(self.symbols[1]), len(self)
        order, work, sizes = np.empty(n, np.uint32), np.empty(n, np.uint32), np.array(self.table_sizes, np.int64)
        places = address(order, np.uint32), address(work, np.uint32)
        core.library.smalti_order(keys.ctypes.data, keys.itemsize, n, int(keys.max(initial=0)), *places)
        found: int = core.library.smalti_put_symbols(
            ctypes.byref(state),
            ctypes.byref(struct),
            address(order, np.uint32),
            address(sizes, np.int64),
            address(words, np.uint32),
            count,
        )
        return found


def _arrays_of(symbols: Recorded) -> tuple[SymbolArrays, list[NDArray[Any]]]:
    """Return symbols as the core takes them, and the arrays that must live as long."""
    _, _, *rest = symbols
    arrays = [np.ascontiguousarray(array) for array in rest]
    places = (address(array, dtype) for array, dtype in zip(arrays, Record.TYPES[2:], strict=True))
    return SymbolArrays(len(arrays[0]), len(arrays[0]), None, None, *places), arrays
