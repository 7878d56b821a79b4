# SPDX-License-Identifier: MIT
"""Read single images of blocks whose images have entries: the table of a block once, then the bytes of the image."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from smalti.codec.batching import EACH, packing_of
from smalti.codec.block_codec import decode_entries
from smalti.container.archive_reader import ArchiveReader
from smalti.container.mixed_payload import PartPlace, table_end, unpack_places
from smalti.errors import CorruptError, within
from smalti.model.model import Model
from smalti.types import Pixels, Shape
from smalti.util.parallel import by_key, in_order

if TYPE_CHECKING:
    from smalti.codec.payload.entries import Entries, Entry

    _Job = tuple[int, int, Entry]  # the number of a place, the number of a model, and the entry of the image

MOST_TABLES = 1 << 12
"""The most blocks whose tables are kept."""
START_BYTES = 1 << 11
"""The bytes of a block that are read at first; mostly, its table is among them."""


LEAST_SHARE = 16
"""The fewest images that a thread of its own decodes."""


def _shares(jobs: "list[_Job]") -> "list[list[_Job]]":
    """Return images in as many shares as there are cores, or in fewer if they are few."""
    shares = max(1, min(os.cpu_count() or 1, len(jobs) // LEAST_SHARE))
    each = -(-len(jobs) // shares)
    return [jobs[i : i + each] for i in range(0, len(jobs), each)]


class _Bytes(NamedTuple):
    """The first bytes of a block, which were just read; others are read when they are asked for."""

    reader: ArchiveReader
    block: int
    data: bytes

    def read(self, start: int, end: int) -> bytes:
        """Return some bytes of the payload."""
        return self.data[start:end] if end <= len(self.data) else self.reader.part_of(self.block, start, end)


class _Table:
    """The parts of a block, and the tables of those parts that were asked for."""

    def __init__(self, parts: Sequence[PartPlace]) -> None:
        self.parts = parts
        self.entries: dict[int, Entries | None] = {}  # by number of part; None: the part has no entries
        several = enumerate(parts) if len(parts) > 1 else ()
        self._places = {row: (i, j) for i, part in several for j, row in enumerate(part.rows)}

    def place(self, row: int) -> tuple[int, int]:
        """Return the part of an image, and its place there."""
        return self._places.get(row, (0, row))


class SingleImages:
    """The images of an archive that are read without their neighbours; threads may share it.

    No checksum of a block is compared, since that takes all of its bytes: each image has a check of its own.
    """

    def __init__(self, reader: ArchiveReader, model: Callable[[int], Model]) -> None:
        """model: a function that returns a model of the file by its number."""
        self._reader, self._model = reader, model
        self._tables: dict[int, _Table | None] = {}
        self._likely = reader.extended  # whether the next block may have entries

    def decode(self, places: Sequence[tuple[int, int]]) -> list[Pixels | None]:
        """Return images (`h w` or `h w c` each) by their blocks and their places there; None where they have no entry.

        Many images are decoded by several threads.

        Raises:
            CorruptError: an image is damaged.
        """
        found: list[Pixels | None] = [None] * len(places)
        jobs: list[_Job] = []
        for i, place in enumerate(places):
            if (found_entry := self.entry(*place)) is not None:
                jobs.append((i, *found_entry))
        by_model = by_key(jobs, lambda job: job[1]) if len(jobs) > 1 else [(job[1], [job]) for job in jobs]
        some = [part for _, alike in by_model for part in _shares(alike)]
        for part, images in zip(some, in_order(lambda part: self._decode(part, places), some), strict=True):
            for (i, *_), image in zip(part, images, strict=True):
                found[i] = image
        return found

    def _decode(self, jobs: "Sequence[_Job]", places: Sequence[tuple[int, int]]) -> list[Pixels]:
        """Decode images of one model together."""
        entries, model = [entry for *_, entry in jobs], self._model(jobs[0][1])
        try:
            with within(self._where(*places[jobs[0][0]])):
                return decode_entries(entries, model)
        except CorruptError:
            if len(jobs) == 1:
                raise
            images = []
            for i, _, entry in jobs:  # so that the error names the image
                with within(self._where(*places[i])):
                    images += decode_entries([entry], model)
            return images

    def are_likely(self) -> bool:
        """Return whether the first image of the archive is read without its neighbours."""
        try:
            return bool(self._reader.index.blocks) and self.entry(0, 0) is not None
        except CorruptError:
            return False

    def shapes(self, block: int) -> list[Shape] | None:
        """Return the shape (h w c) of each image of a block; None if the block has no table that tells them.

        Raises:
            CorruptError: the table of the block is damaged.
        """
        with within(f"{self._reader.storage.where}: block {block}"):
            table, _ = self._table(block)
        if table is None:
            return None
        return [table.parts[table.place(row)[0]].kind.shape for row in range(self._reader.index.blocks[block].images)]

    def _where(self, block: int, row: int) -> str:
        return f"{self._reader.storage.where}: image {row} of block {block}"

    def entry(self, block: int, row: int) -> "tuple[int, Entry] | None":
        """Return the number of the model of an image, and its entry; None if it has none.

        Raises:
            CorruptError: the table of the block is damaged.
        """
        from smalti.codec.payload.entries import Entry, room, unpack_entries

        with within(self._where(block, row)):
            table, given = self._table(block)
            if table is None:
                return None
            i, at = table.place(row)
            kind, rows, start, end = table.parts[i]
            if i not in table.entries:
                data = given.read(start, min(end, start + room(len(rows))))
                has = packing_of(data) == EACH
                table.entries[i] = unpack_entries(data, len(rows), end - start) if has else None
            entries = table.entries[i]
            if entries is None:
                return None
            first, last = entries.ends[at : at + 2]
            data = given.read(start + first, start + last)
            return kind.model, Entry(entries.head, entries.bits, entries.kinds[at], data, kind.shape)

    def _table(self, block: int) -> "tuple[_Table | None, _Bytes]":
        """Return the table of a block, or None if its images are read together; and bytes of it."""
        given = _Bytes(self._reader, block, b"")
        if block in self._tables:
            return self._tables[block], given
        if not self._likely or not self._reader.index.blocks[block].offset:
            return None, given
        given = given._replace(data=self._reader.start_of(block, START_BYTES))
        if len(self._tables) >= MOST_TABLES:
            self._tables.clear()
        self._tables[block] = table = self._read_table(block, given)
        return table, given

    def _read_table(self, block: int, given: _Bytes) -> _Table | None:
        index, size = self._reader.index, self._reader.payload_size(block)
        kind, images = index.kinds[index.blocks[block].kind], index.blocks[block].images
        if not kind.mixed:
            self._likely = packing_of(given.data) == EACH
            return _Table([PartPlace(kind, range(images), 0, size)]) if self._likely else None
        table = given.read(0, min(size, table_end(given.data)))
        parts = unpack_places(table, images, size)
        if any(part.kind.model >= len(index.models) for part in parts):
            raise CorruptError("a part names a model that does not exist; the file is damaged")
        return _Table(parts)
