# SPDX-License-Identifier: MIT
"""Streams of rANS in the compiled core: decode by tables, encode by intervals."""

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import Core
from smalti.core.memory import address

Ints = NDArray[np.int64]


class StreamState(ctypes.Structure):
    """`smalti_stream` of `core/smalti.h`."""

    _fields_ = (("state", ctypes.c_uint64), ("left", ctypes.c_int64), ("words", ctypes.c_void_p))


class StreamDecoder:
    """A decoder of columns of symbols, one after another, each by its frequencies."""

    def __init__(self, core: Core, words: NDArray[np.uint32]) -> None:
        """words: those of the stream; the last one must not be zero."""
        self._core, self._words = core, np.ascontiguousarray(words)
        self.state = StreamState(0, len(words), address(self._words, np.uint32))
        core.library.smalti_open(ctypes.byref(self.state))

    def take(self, frequencies: Ints) -> Ints:
        """Decode a symbol for each row of `frequencies` (`n k`)."""
        return self._take(len(frequencies), frequencies.shape[1], frequencies.shape[1], frequencies)

    def take_alike(self, n: int, frequencies: Ints) -> Ints:
        """Decode `n` symbols, all of the same frequencies (`k`)."""
        return self._take(n, len(frequencies), 0, frequencies)

    def _take(self, n: int, k: int, stride: int, frequencies: Ints) -> Ints:
        tables, symbols = np.ascontiguousarray(frequencies, np.int64), np.empty(n, np.int64)
        at, to = address(tables, np.int64), address(symbols, np.int64)
        self._core.library.smalti_take(ctypes.byref(self.state), at, n, k, stride, to)
        return symbols

    @property
    def is_used_up(self) -> bool:
        """Say whether nothing is left of the stream."""
        return not self.state.left and not self.state.state


def encode_streams(core: Core, streams: Sequence[tuple[Ints, Ints]]) -> NDArray[np.uint32]:
    """Return the words of symbols, given as starts and frequencies (`n` each); the streams follow each other."""
    words = np.empty(sum(len(starts) for starts, _ in streams) + 2, np.uint32)
    state, count = ctypes.c_uint64(0), 0
    for starts, frequencies in reversed(streams):
        first, wide = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(frequencies, np.int64)
        places = address(first, np.int64), address(wide, np.int64), len(first), address(words, np.uint32)
        count = core.library.smalti_put(ctypes.byref(state), *places, count)
    rest = state.value
    while rest:
        words[count] = rest & 0xFFFFFFFF
        rest, count = rest >> 32, count + 1
    return words[:count]
