# SPDX-License-Identifier: MIT
"""The entries of blocks: a table for each index, whose sums and places are computed once. Standard library only."""

import itertools
import operator
import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, overload

from smalti.container.format import BLOCK_ENTRY, BlockEntry
from smalti.util.binary import hash64
from smalti.util.parallel import once

FEW_ASKED = 8
"""The number of questions after which the first images of all blocks of a table are computed at once."""


@dataclass(frozen=True)
class Placed:
    """Where the records of some blocks lie, in the order of their places; carried blocks lie nowhere."""

    starts: Sequence[int]  # the first byte of each record
    sizes: Sequence[int]  # its bytes
    end: int  # the byte behind the last record; 0 if there is none
    twice: bool  # whether two records share a byte

    @classmethod
    def of(cls, starts: Sequence[int], sizes: Sequence[int]) -> "Placed":
        """Return the places of records, given in any order."""
        ends = list(map(operator.add, starts, sizes))
        twice = any(map(operator.gt, ends, itertools.islice(starts, 1, None)))
        if twice:  # mostly, they are in order
            pairs = sorted(zip(starts, sizes, strict=True))
            starts, sizes = [start for start, _ in pairs], [size for _, size in pairs]
            ends = list(map(operator.add, starts, sizes))
            twice = any(map(operator.gt, ends, starts[1:]))
        return cls(array("Q", starts), array("I", sizes), max(ends, default=0) if twice else (ends or [0])[-1], twice)

    @property
    def start(self) -> int:
        """The first byte of the first record."""
        return self.starts[0]

    def meets(self, start: int, end: int) -> bool:
        """Return whether a record has a byte from `start` to before `end`, where no two records share one."""
        at = bisect_left(self.starts, start)
        before = at > 0 and self.starts[at - 1] + self.sizes[at - 1] > start
        return before or (at < len(self.starts) and self.starts[at] < end)

    def next(self, place: int) -> int | None:
        """Return the first byte of the first record behind a place; None if there is none."""
        at = bisect_right(self.starts, place)
        return self.starts[at] if at < len(self.starts) else None


class Table:
    """The entries of blocks that one index holds, as its bytes; what follows from them is computed once.

    Readers share tables, and threads may share readers: nothing of a table ever changes, but for what it remembers.
    """

    def __init__(self, raw: bytes) -> None:
        """raw: the entries as an index holds them, one after another."""
        self.raw = raw
        self._n, self._asked = len(raw) // BLOCK_ENTRY.size, 0

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, row: int) -> BlockEntry:
        return BlockEntry._make(BLOCK_ENTRY.unpack_from(self.raw, row * BLOCK_ENTRY.size))

    def __iter__(self) -> Iterator[BlockEntry]:
        return map(BlockEntry._make, BLOCK_ENTRY.iter_unpack(self.raw))

    def column(self, code: Literal["Q", "I", "H"], first: int, step: int) -> list[int]:
        """Return every `step`-th integer of a type (as `struct` names it) from the `first` on."""
        if sys.byteorder == "little" and self.raw:
            return memoryview(self.raw).cast(code)[first::step].tolist()
        return list(struct.unpack(f"<{len(self.raw) // struct.calcsize(code)}{code}", self.raw)[first::step])

    @once
    def alike(self) -> Counter[int]:
        """The number of blocks of each number of images plus 65536 times the number of a kind."""
        return Counter(self.column("I", 3, 4))

    @once
    def of_kinds(self) -> dict[int, int]:
        """The number of images of each kind."""
        found = dict[int, int]()
        for both, blocks in self.alike.items():
            kind, images = divmod(both, 1 << 16)
            found[kind] = found.get(kind, 0) + images * blocks
        return found

    @once
    def total(self) -> int:
        """The number of images of all blocks."""
        return sum(self.of_kinds.values())

    @once
    def placed(self) -> Placed:
        """Where the blocks lie that are not carried."""
        starts, sizes = self.column("Q", 0, 2), self.column("I", 2, 4)
        return Placed.of(list(filter(None, starts)), list(itertools.compress(sizes, starts)))

    @once
    def size_range(self) -> tuple[int, int]:
        """The bytes of the smallest and of the largest record."""
        sizes = self.column("I", 2, 4)
        return min(sizes), max(sizes)

    def first(self, row: int) -> int:
        """Return the number of the first image of a block among those of its kind, which come in this table."""
        if self._asked >= FEW_ASKED:
            return self._firsts[row]
        self._asked += 1
        kinds = self.column("H", 7, 8)
        return sum(itertools.compress(self.column("H", 6, 8)[:row], map(kinds[row].__eq__, kinds)))

    @once
    def _firsts(self) -> Sequence[int]:
        stored, firsts = dict[int, int](), array("Q")
        for kind, images in zip(self.column("H", 7, 8), self.column("H", 6, 8), strict=True):
            first = stored.get(kind, 0)
            firsts.append(first)
            stored[kind] = first + images
        return firsts


class Blocks(Sequence[BlockEntry]):
    """The entries of the blocks of a file: those of one table behind those of another."""

    def __init__(self, *tables: Table) -> None:
        """tables: the tables of the indexes of the file, in their order."""
        self.tables = tuple(table for table in tables if len(table))
        self._ends = list(itertools.accumulate(map(len, self.tables)))

    @classmethod
    def of(cls, entries: Sequence[BlockEntry]) -> "Blocks":
        """Return these entries as `Blocks`."""
        if isinstance(entries, Blocks):
            return entries
        return cls(Table(b"".join(BLOCK_ENTRY.pack(*entry) for entry in entries)))

    @once
    def raw(self) -> bytes:
        """All entries as an index would hold them."""
        return b"".join(table.raw for table in self.tables)

    @property
    def total(self) -> int:
        """The number of images of all blocks."""
        return sum(table.total for table in self.tables)

    @property
    def of_kinds(self) -> dict[int, int]:
        """The number of images of each kind."""
        return dict(sum((Counter(table.of_kinds) for table in self.tables), Counter[int]()))

    @property
    def record_bytes(self) -> int:
        """The bytes of all records."""
        return sum(sum(table.column("I", 2, 4)) for table in self.tables)

    def first(self, block: int) -> int:
        """Return the number of the first image of a block among those of its kind."""
        number, row = self._place(block)
        kind = self.tables[number][row].kind
        return sum(table.of_kinds.get(kind, 0) for table in self.tables[:number]) + self.tables[number].first(row)

    def next(self, place: int) -> int | None:
        """Return the first byte of the first record behind a place; None if there is none."""
        found = (table.placed.next(place) for table in self.tables)
        return min((start for start in found if start is not None), default=None)

    def _place(self, block: int) -> tuple[int, int]:
        """Return the number of the table of a block, and its row there."""
        number = bisect_right(self._ends, block)
        return number, block - (self._ends[number - 1] if number else 0)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, number: int) -> BlockEntry: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[BlockEntry, ...]: ...
    def __getitem__(self, number: int | slice) -> BlockEntry | tuple[BlockEntry, ...]:
        n = len(self)
        if isinstance(number, slice):
            return tuple(self[i] for i in range(*number.indices(n)))
        if not -n <= number < n:
            raise IndexError(f"block {number} of {n}")
        table, row = self._place(number % n)
        return self.tables[table][row]

    def __iter__(self) -> Iterator[BlockEntry]:
        return itertools.chain.from_iterable(self.tables)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blocks) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"Blocks({len(self)}, {hash64(self.raw).hex()})"
