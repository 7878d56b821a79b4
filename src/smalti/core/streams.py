# SPDX-License-Identifier: MIT
"""Streams of rANS in the compiled core: decode by tables, encode by intervals."""

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import Core
from smalti.core.memory import address
from smalti.core.symbols import SampleStream

Ints = NDArray[np.int64]


class StreamState(ctypes.Structure):
    """`smalti_stream` of `core/smalti.h`."""

    _fields_ = (("state", ctypes.c_uint64), ("left", ctypes.c_int64), ("words", ctypes.c_void_p))


class LogisticTables(ctypes.Structure):
    """`smalti_logistics` of `core/smalti.h`."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("cdf", "weights", "inverse", "limits"))


class _Column(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n", "stride", "low", "high")),
        *((name, ctypes.c_void_p) for name in ("outputs", "steps")),
        *((name, ctypes.c_int32) for name in ("components", "reserved")),
    )


class StreamDecoder:
    """A decoder of columns of symbols, one after another, each by its frequencies."""

    def __init__(self, core: Core, words: NDArray[np.uint32]) -> None:
        """words: those of the stream; the last one must not be zero."""
        self.core, self._words = core, np.ascontiguousarray(words)
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
        self.core.library.smalti_take(ctypes.byref(self.state), at, n, k, stride, to)
        return symbols

    def take_mixtures(
        self, logistics: Sequence[NDArray[np.int32]], outputs: Ints, steps: Ints, low: int, high: int
    ) -> Ints:
        """Decode a symbol from `low` to `high` for each mixture; `n` of them, each in steps of its own.

        logistics: `cdf`, `weights`, `inverse` and limits. outputs: of the network (`n 3 * components - 1`).
        """
        n, entries = outputs.shape
        rows, each, symbols = np.ascontiguousarray(outputs), np.ascontiguousarray(steps), np.empty(n, np.int64)
        places = address(rows, np.int64), address(each, np.int64)
        column = _Column(n, entries, low, high, *places, (entries + 1) // 3, 0)
        tables = LogisticTables(*(address(table, np.int32) for table in logistics))
        arguments = (ctypes.byref(argument) for argument in (self.state, tables, column))
        code = self.core.library.smalti_take_mixtures(*arguments, address(symbols, np.int64))
        assert code == 0
        return symbols

    @property
    def rest(self) -> int | None:
        """The state, if no word is left of the stream; else None."""
        return None if self.state.left else int(self.state.state)


class States:
    """The states of several decoders as one array, for as long as it is entered."""

    def __init__(self, decoders: Sequence[StreamDecoder]) -> None:
        self._decoders = decoders

    def __enter__(self) -> "ctypes.Array[StreamState]":
        self._array = (StreamState * len(self._decoders))(*(decoder.state for decoder in self._decoders))
        return self._array

    def __exit__(self, *_: object) -> None:
        for decoder, state in zip(self._decoders, self._array, strict=True):
            decoder.state = state


def take_mixtures(
    core: Core,
    states: "ctypes.Array[StreamState]",
    logistics: Sequence[NDArray[np.int32]],
    outputs: Ints,
    steps: Ints,
    low: int,
    high: int,
) -> Ints:
    """Decode what `StreamDecoder.take_mixtures` decodes from several streams, which have as many rows each."""
    n, entries = outputs.shape
    rows, each, symbols = np.ascontiguousarray(outputs), np.ascontiguousarray(steps), np.empty(n, np.int64)
    column = _Column(n, entries, low, high, address(rows, np.int64), address(each, np.int64), (entries + 1) // 3, 0)
    tables = LogisticTables(*(address(table, np.int32) for table in logistics))
    code = core.library.smalti_take_mixtures_each(
        ctypes.byref(states), len(states), ctypes.byref(tables), ctypes.byref(column), address(symbols, np.int64)
    )
    assert code == 0
    return symbols


def take_tables(core: Core, states: "ctypes.Array[StreamState]", of: Ints, which: Ints, starts: Ints) -> Ints:
    """Decode a symbol of the stream `of` (`n`) for each row, by table `which` (`n`) of the sums `starts` (`t k`)."""
    rows, tables, symbols = np.ascontiguousarray(of), np.ascontiguousarray(which), np.empty(len(which), np.int64)
    places = address(rows, np.int64), address(tables, np.int64)
    core.library.smalti_take_tables(
        ctypes.byref(states),
        *places,
        len(which),
        address(starts, np.int64),
        starts.shape[1],
        address(symbols, np.int64),
    )
    return symbols


def encode_streams(
    core: Core, streams: Sequence[tuple[Ints, Ints] | SampleStream], begin: int = 0
) -> NDArray[np.uint32]:
    """Return the words of symbols, given as starts and frequencies (`n` each); the streams follow each other.

    begin: the state that the encoder begins with, below 2^32, which the decoder is left with.
    """
    sizes = (len(stream) if isinstance(stream, SampleStream) else len(stream[0]) for stream in streams)
    words, state, count = np.empty(sum(sizes) + 2, np.uint32), ctypes.c_uint64(begin), 0
    for stream in reversed(streams):
        if isinstance(stream, SampleStream):
            count = stream.put(core, state, words, count)
            continue
        first, wide = (np.ascontiguousarray(values, np.int64) for values in stream)
        places = address(first, np.int64), address(wide, np.int64), len(first), address(words, np.uint32)
        count = core.library.smalti_put(ctypes.byref(state), *places, count)
    rest = state.value
    while rest:
        words[count] = rest & 0xFFFFFFFF
        rest, count = rest >> 32, count + 1
    return words[:count]
