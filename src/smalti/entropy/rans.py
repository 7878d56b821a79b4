# SPDX-License-Identifier: MIT
"""Code symbols to bytes and back by rANS (Duda 2013). Only this file uses constriction.

The compiled core does it where there is one, constriction elsewhere; the bytes are the same.

The coder is a stack (64-bit state, 32-bit words): encoding goes backwards so that decoding goes forwards, one column of
symbols after another, for all images of a block at a time.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import core
from smalti.core.streams import States, StreamDecoder, encode_streams, take_mixtures, take_tables
from smalti.core.symbols import SampleStream
from smalti.entropy.frequencies import TOTAL, Ints, by_value
from smalti.entropy.logistic_mixture import Column
from smalti.errors import CorruptError

WORD = 4
"""The size of a word of the coder, in bytes."""


Stream = tuple[NDArray[Any], Ints, Ints]
"""Symbols in order: keys, starts and frequencies (`n` each). Neighbours of one key have tables of one size."""


def encode_intervals(streams: Sequence[Stream | SampleStream], rest: int = 0) -> bytes:
    """Encode streams of symbols, one behind the other; each symbol is given by its interval in its table.

    The start of a symbol is the sum of the frequencies of all smaller symbols; a table sums to 2^24. A symbol that is
    certain takes no bits.

    rest: a number below 2^32, which is left of the stream when all symbols are decoded. Its lowest 20 bits take nearly
        no bytes, since a coder that begins with 0 loses as much with its first symbols.
    """
    if (found := core()) is not None:
        split = [stream if isinstance(stream, SampleStream) else stream[1:] for stream in streams]
        return _bytes(encode_streams(found, split, rest))
    coder = _constriction().stream.stack.AnsCoder(*([np.array([rest], np.uint32)] if rest else []))
    for stream in reversed(streams):
        assert not isinstance(stream, SampleStream)  # it comes from the core, which is still there
        keys, starts, frequencies = stream
        kept = frequencies < TOTAL
        for piece in reversed(_pieces(keys[kept], starts[kept], frequencies[kept])):
            coder.encode_reverse(*piece)
    return _bytes(coder.get_compressed())


def _bytes(words: NDArray[np.uint32]) -> bytes:
    """Return the words of a coder as bytes."""
    return words.astype("<u4").tobytes().rstrip(b"\0")  # the last word is never zero: nothing is lost


def _pieces(keys: NDArray[Any], starts: Ints, frequencies: Ints) -> list[tuple[NDArray[np.int32], Any, Any]]:
    """Return what to encode, piece by piece: symbols, the coder's model and its weights.

    A symbol's interval decides its code, not how the rest of the table is divided. So a table of three entries (what
    is below, the symbol, what is above) serves for any, and one of two entries where the table itself has only two.
    """
    if not len(keys):
        return []
    above = TOTAL - starts - frequencies
    first, last = starts == 0, above == 0
    narrow = (first & (above == 1)) | (last & (starts == 1))  # nothing is left that could be divided in two
    bounds = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    of_two = np.logical_or.reduceat(narrow, bounds)
    changes = bounds[np.concatenate([[True], of_two[1:] != of_two[:-1]])]
    ends = np.append(changes[1:], len(keys))
    pieces = []
    for start, end in zip(changes.tolist(), ends.tolist(), strict=True):
        rows = slice(start, end)
        two = bool(of_two[np.searchsorted(bounds, start)])
        pieces.append(_of_two(starts[rows], frequencies[rows]) if two else _of_three(starts[rows], frequencies[rows]))
    return pieces


def _of_two(starts: Ints, frequencies: Ints) -> tuple[NDArray[np.int32], Any, Any]:
    symbols = (starts > 0).astype(np.int32)
    first = np.where(symbols, starts, frequencies)
    return symbols, _model(), _weights(np.stack([first, TOTAL - first], 1))


def _of_three(starts: Ints, frequencies: Ints) -> tuple[NDArray[np.int32], Any, Any]:
    above = TOTAL - starts - frequencies
    first, last = starts == 0, above == 0
    symbols = np.where(first, 0, np.where(last, 2, 1)).astype(np.int32)
    low = np.where(first, frequencies, np.where(last, 1, starts))
    high = np.where(last, frequencies, np.where(first, above - 1, above))
    return symbols, _model(), _weights(np.stack([low, TOTAL - low - high, high], 1))


class SymbolDecoder:
    """A decoder of columns of symbols, one after another, each by its frequencies.

    Raises:
        CorruptError: `data` ends as no encoder would end it.
    """

    def __init__(self, data: bytes) -> None:
        if data.endswith(b"\0"):
            raise CorruptError("a block ends in a zero byte, which no encoder writes; the file is damaged")
        words = np.frombuffer(data + bytes(-len(data) % WORD), "<u4").astype(np.uint32)
        found = core()
        self.in_core = None if found is None else StreamDecoder(found, words)
        self._coder: Any = _constriction().stream.stack.AnsCoder(words) if found is None else None

    @property
    def streams(self) -> list[StreamDecoder]:
        """The stream in the compiled core, if it decodes there."""
        return [] if self.in_core is None else [self.in_core]

    def take(self, frequencies: Ints) -> Ints:
        """Decode the next column: a symbol (counted from 0) for each row of `frequencies` (`n k`)."""
        n, k = frequencies.shape
        if k == 1 or not n:
            return np.zeros(n, np.int64)
        if self.in_core is not None:
            return self.in_core.take(frequencies)
        symbols: NDArray[np.int32] = self._coder.decode(_model(), _weights(frequencies))
        return symbols.astype(np.int64)

    def take_column(self, column: Column) -> Ints:
        """Decode a symbol for each row (`n`) of a column."""
        if self.in_core is None:
            return self.take(column.frequencies) + column.low
        cdf, inverse, limit = column.logistics.lookup
        tables = cdf, column.logistics.weights, inverse, limit
        return self.in_core.take_mixtures(tables, column.outputs, column.steps, column.low, column.high)

    def take_alike(self, n: int, frequencies: Ints) -> Ints:
        """Decode the next column of `n` symbols, all of the same frequencies (`k`)."""
        if self.in_core is not None:
            return self.in_core.take_alike(n, frequencies)
        symbols: NDArray[np.int32] = self._coder.decode(_model(frequencies), n)
        return symbols.astype(np.int64)

    def take_tables(self, of: Ints, which: Ints, tables: NDArray[Any], starts: NDArray[Any]) -> Ints:
        """Decode a symbol for each row (`n`); rows of one table follow each other.

        Args:
            of: the stream of each row; there is one, so it does not matter.
            which: the table of each row, of `tables` (`t k`: frequencies).
            starts: the sums of all entries of a table before each.
        """
        if self.in_core is not None:
            with States([self.in_core]) as states:
                return take_tables(self.in_core.core, states, np.zeros_like(of), which, starts)
        symbols, bounds = np.empty(len(which), np.int64), np.flatnonzero(np.diff(which, prepend=-1)).tolist()
        for start, end in itertools.pairwise([*bounds, len(which)]):
            symbols[start:end] = self.take_alike(end - start, tables[which[start]])
        return symbols

    @property
    def rest(self) -> int | None:
        """The number that is left of the stream, if it is below 2^32; else None."""
        if self.in_core is not None:
            return self.in_core.rest
        words = self._coder.get_compressed()
        return None if len(words) > 1 else int(words.sum())

    def finish(self) -> None:
        """Check that all columns have been decoded.

        Raises:
            CorruptError: bits are left over.
        """
        if self.rest != 0:
            raise CorruptError("a block holds more than its images; the file is damaged or of another model")


class SeveralStreams:
    """Decoders of streams that are decoded together, each of an image of its own, as if they were one decoder."""

    def __init__(self, decoders: Sequence[SymbolDecoder]) -> None:
        self._decoders = decoders
        self._in_core = [decoder.in_core for decoder in decoders if decoder.in_core is not None]
        self._together = len(self._in_core) == len(decoders) > 0

    @property
    def streams(self) -> list[StreamDecoder]:
        """The streams in the compiled core, if all are decoded there."""
        return self._in_core if self._together else []

    def take_column(self, column: Column) -> Ints:
        """Decode a symbol for each row of a column, in which each stream has as many rows."""
        if not self._together:
            each = len(column.outputs) // max(1, len(self._decoders))
            parts = [slice(i * each, (i + 1) * each) for i in range(len(self._decoders))]
            found = [d.take_column(column.part(rows)) for d, rows in zip(self._decoders, parts, strict=True)]
            return np.concatenate(found) if found else np.zeros(0, np.int64)
        cdf, inverse, limit = column.logistics.lookup
        tables = cdf, column.logistics.weights, inverse, limit
        with States(self._in_core) as states:
            return take_mixtures(
                self._in_core[0].core, states, tables, column.outputs, column.steps, column.low, column.high
            )

    def take_tables(self, of: Ints, which: Ints, tables: NDArray[Any], starts: NDArray[Any]) -> Ints:
        """Decode a symbol for each row (`n`), of stream `of` (`n`); the others are those of `SymbolDecoder`."""
        if self._together:
            with States(self._in_core) as states:
                return take_tables(self._in_core[0].core, states, of, which, starts)
        symbols = np.empty(len(which), np.int64)
        for i, rows in by_value(of):
            symbols[rows] = self._decoders[i].take_tables(of[rows], which[rows], tables, starts)
        return symbols


def _model(frequencies: NDArray[Any] | None = None) -> Any:
    """Return the coder's model of exactly these frequencies, or of those whose `_weights` it is given later.

    constriction takes floats and turns them into integers: 1 + floor(scale * weight) each, where scale is
    (2^24 - n) / (sum of weights). Weights of frequency - 1 make that scale 1, and all of it exact; a test holds the
    bytes against plain integers.
    """
    if frequencies is None:
        return _constriction().stream.model.Categorical(perfect=False)
    return _constriction().stream.model.Categorical(_weights(frequencies), perfect=False)


def _weights(frequencies: NDArray[Any]) -> NDArray[np.float64]:
    return frequencies.astype(np.float64) - 1


def _constriction() -> Any:
    """Return the library constriction, which is loaded where there is no core: not every platform has it."""
    import constriction

    return constriction
