# SPDX-License-Identifier: MIT
"""Integer frequency tables: what the entropy coder believes about a symbol.

A table is made once, when a model is exported, and travels with it; nothing is computed from floats when decoding.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PRECISION = 24
"""Bits of a probability: the frequencies of a table sum to 2^24, the precision of the entropy coder."""
TOTAL = 1 << PRECISION
MAX_SYMBOLS = 1 << 12
"""Symbols a table may have; far above need, low enough to bound the memory a hostile bundle can ask for."""

_HEAD = struct.Struct("<iI")  # lowest symbol, number of symbols


@dataclass(frozen=True, eq=False)
class Table:
    """Frequencies of the symbols `low`, `low + 1`, ...: uint32, each at least 1, summing to 2^24.

    Raises:
        ValueError: the frequencies are not such.
    """

    low: int
    frequencies: NDArray[np.uint32]

    def __post_init__(self) -> None:
        f = self.frequencies
        if f.ndim != 1 or f.dtype != np.uint32 or not 1 <= len(f) <= MAX_SYMBOLS:
            raise ValueError(f"a table has 1 to {MAX_SYMBOLS} uint32 frequencies, not {f.shape} of {f.dtype}")
        if abs(self.low) > 1 << 30:
            raise ValueError(f"a table's lowest symbol is {self.low}, out of range")
        if f.min() < 1 or int(f.sum(dtype=np.uint64)) != TOTAL:
            raise ValueError(f"frequencies must be at least 1 and sum to {TOTAL}, not {int(f.sum(dtype=np.uint64))}")

    @property
    def high(self) -> int:
        """The highest symbol."""
        return self.low + len(self.frequencies) - 1

    def clip(self, symbols: NDArray[np.int64]) -> NDArray[np.int32]:
        """`symbols`, each moved to the nearest one that the table knows."""
        return symbols.clip(self.low, self.high).astype(np.int32)

    def bits(self, symbols: NDArray[np.int32]) -> NDArray[np.float64]:
        """What each of `symbols` (within the table) costs in an ideal coder."""
        cost: NDArray[np.float64] = PRECISION - np.log2(self.frequencies[symbols - self.low].astype(np.float64))
        return cost


def fit_table(symbols: NDArray[np.int64]) -> Table:
    """The table of the symbols seen (any shape, at least one), from the lowest to the highest.

    Half an observation is added to each symbol (Krichevsky and Trofimov 1981), so that none in between is impossible.

    >>> fit_table(np.array([3, 3, 3, 5])).frequencies.tolist()
    [10676410, 1525202, 4575604]
    """
    low = int(symbols.min())
    counts = 2 * np.bincount(symbols.ravel() - low).astype(np.int64) + 1
    frequencies = 1 + counts * (TOTAL - len(counts)) // counts.sum()
    frequencies[np.argmax(frequencies)] += TOTAL - frequencies.sum()
    return Table(low, frequencies.astype(np.uint32))


def tables_to_bytes(tables: tuple[Table, ...]) -> bytes:
    """Each table in turn: lowest symbol (i32), number of symbols (u32), frequencies (u32 each); little-endian."""
    return b"".join(_HEAD.pack(t.low, len(t.frequencies)) + t.frequencies.astype("<u4").tobytes() for t in tables)


def tables_from_bytes(data: bytes) -> tuple[Table, ...]:
    """The tables that `tables_to_bytes` wrote.

    Raises:
        ValueError: `data` is not such.
    """
    tables, at = [], 0
    while at < len(data):
        if at + _HEAD.size > len(data):
            raise ValueError("tables end within a head")
        low, n = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if n > MAX_SYMBOLS or at + 4 * n > len(data):
            raise ValueError(f"a table claims {n} symbols, more than allowed or than there are bytes")
        tables.append(Table(low, np.frombuffer(data, "<u4", n, at).astype(np.uint32)))
        at += 4 * n
    return tuple(tables)
