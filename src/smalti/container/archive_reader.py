# SPDX-License-Identifier: MIT
"""Read any record of an archive. Bytes, not images."""

import functools
from collections import Counter
from collections.abc import Sequence

from smalti.container.entries.blocks import Blocks
from smalti.container.format import (
    BLOCK,
    BLOCK_MARK,
    END_MAGIC,
    EXTENDED,
    INDEX,
    MAX_MODEL_BYTES,
    MODEL,
    SINGLE_FLAG,
    START_BYTES,
    TRAILER,
    BlockHead,
    Kind,
    ModelEntry,
    SectionEntry,
    check_start,
    unpack_block,
    unpack_header,
    unpack_model,
    unpack_section,
    unpack_trailer,
)
from smalti.container.index import Index, IndexEntry, Segment, unpack_index
from smalti.errors import CorruptError, within
from smalti.util.binary import hash64
from smalti.util.storage import Storage

MOST_ENDS = 8
"""The most marks of an end that are looked at where a file does not end with one."""
TAIL_BYTES = 1 << 16
"""The number of bytes that are read from the end at once: the trailer and, mostly, the whole index."""


def read_index(storage: Storage, end: int, model_id: bytes | None = None) -> tuple[Index, list[Segment]]:
    """Read the index of an archive that ends at byte `end`; also return the parts of it, the last one its own.

    model_id: the id of the first model that the header holds; None: the header is not compared.

    Raises:
        SourceError, TruncatedError, CorruptError: the index cannot be read, is not there, or is damaged.
    """
    tail_at = max(0, end - TAIL_BYTES)
    tail = storage.read(tail_at, end - tail_at)
    if not tail.endswith(END_MAGIC) and (behind := _behind_the_end(tail)):
        raise CorruptError(
            f"{behind} bytes follow the end of the smalti file; cut them off, or write the images anew: smalti repair"
        )
    index_size, check = unpack_trailer(tail[-TRAILER.size :], end)
    at = end - TRAILER.size - index_size

    def read(offset: int, size: int) -> bytes:
        start = offset - tail_at
        return tail[start : start + size] if start >= 0 else storage.read(offset, size)

    return unpack_index(read(at, index_size), check, model_id, at, read)


def _behind_the_end(tail: bytes) -> int:
    """Return how many bytes follow a trailer whose index fits it, in the last bytes of a file; 0 if none is found."""
    at = len(tail)
    for _ in range(MOST_ENDS):
        at = tail.rfind(END_MAGIC, 0, at)
        if at + len(END_MAGIC) < TRAILER.size:
            break
        size, check, _ = TRAILER.unpack(tail[at + len(END_MAGIC) - TRAILER.size : at + len(END_MAGIC)])
        body = tail[: at + len(END_MAGIC) - TRAILER.size]
        if INDEX.size <= size <= len(body) and hash64(body[-size:]) == check:
            return len(tail) - at - len(END_MAGIC)
    return 0


class ArchiveReader:
    """A reader of the records of an archive, in any order; threads may share it. It implements `Reader`.

    Raises:
        SourceError: it cannot be read.
        FormatError: it is not an archive, or a damaged one.
    """

    stored_checksums = True

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        with within(storage.where):
            self._open(storage)

    def _open(self, storage: Storage) -> None:
        head = storage.read(0, START_BYTES)
        form = check_start(head)
        self.extended = form & 0x0F == EXTENDED
        if form & SINGLE_FLAG:
            raise CorruptError("this is a file of a single image")
        self.model_id, self.end = unpack_header(head, storage.size)
        self.index, self.segments = read_index(storage, self.end, self.model_id)
        self.count, self._blocks = self.index.count, Blocks.of(self.index.blocks)

    def read(self, block: int) -> bytes:
        """Return the record of a block, unchecked; it is empty if the order of images carries the block."""
        entry = self.index.blocks[block]
        return self.storage.read(entry.offset, entry.size) if entry.offset else b""

    def block(self, block: int, record: bytes | None = None) -> tuple[BlockHead, bytes]:
        """Return the head and the payload of a block.

        record: the record of a block that the order of images carries.

        Raises:
            CorruptError: the block is damaged, or is not the one that the index lists.
        """
        with within(f"{self.storage.where}: block {block}"):
            head, payload = unpack_block(self.read(block) if record is None else record)
            self._check_head(block, head)
        return head, payload

    def _check_head(self, block: int, head: BlockHead) -> None:
        entry = self.index.blocks[block]
        same = head.number == entry.kind and head.kind == self.index.kinds[entry.kind]
        same = same and head.first == self._blocks.first(block)
        if not same or head.images != entry.images:
            raise CorruptError("a block is not the one that the index says; the file is damaged")

    def start_of(self, block: int, most: int) -> bytes:
        """Return the first bytes of the payload of a block, at most `most`, without a look at its checksum.

        Raises:
            CorruptError: the block is not the one that the index lists.
        """
        entry = self.index.blocks[block]
        with within(f"{self.storage.where}: block {block}"):
            record = self.storage.read(entry.offset, min(entry.size, BLOCK.size + most))
            if len(record) < BLOCK.size or not record.startswith(BLOCK_MARK):
                raise CorruptError("a block does not start as one; the file is damaged")
            _, size, count, first, number, *kind, pixels, _ = BLOCK.unpack_from(record)
            self._check_head(block, BlockHead(Kind(*kind), number, count, first, pixels))
            if BLOCK.size + size != entry.size:
                raise CorruptError("a block is not the one that the index says; the file is damaged")
        return record[BLOCK.size :]

    def payload_size(self, block: int) -> int:
        """Return the bytes of the payload of a block, as the index tells."""
        return self.index.blocks[block].size - BLOCK.size

    def part_of(self, block: int, start: int, end: int) -> bytes:
        """Return some bytes of the payload of a block, unchecked."""
        return self.storage.read(self.index.blocks[block].offset + BLOCK.size + start, end - start)

    def decodes_to(self, head: BlockHead, pixels: bytes) -> bool:
        """Return whether a block of that head is whole, where it decodes to pixels of that hash."""
        return head.pixels == pixels

    def payload_bytes(self) -> int:
        """Return the bytes of all payloads."""
        return self._blocks.record_bytes - len(self._blocks) * BLOCK.size

    def model(self, number: int) -> bytes | None:
        """Return the bundle of a model, if the file holds it.

        Raises:
            CorruptError: the bundle is damaged.
        """
        offset = self.index.models[number].offset
        if not offset:
            return None
        head = self.storage.read(offset, MODEL.size)
        size = min(MODEL.unpack(head)[2], MAX_MODEL_BYTES) if len(head) == MODEL.size else 0
        with within(self.storage.where):
            found, bundle = unpack_model(self.storage.read(offset, min(MODEL.size + size, self._room(offset))))
            if found != number:
                raise CorruptError("a model is not the one that the index says; the file is damaged")
        return bundle

    def _room(self, offset: int) -> int:
        """Return the number of bytes up to the next record that the index lists, or up to the index."""
        entries: tuple[Sequence[ModelEntry | SectionEntry | IndexEntry], ...]
        entries = (self.index.models, self.index.sections, [s.place for s in self.segments if s.place])
        starts = [entry.offset for some in entries for entry in some if entry.offset > offset]
        behind = self._blocks.next(offset)
        return min(starts if behind is None else [behind, *starts]) - offset

    def sections(self, code: int) -> list[tuple[int, bytes]]:
        """Return the number of images and the data of each section of that code, in order.

        Raises:
            CorruptError: a section is damaged, or is not the one that the index lists.
        """
        return [self.section(code, i) for i in range(len(self._by_code.get(code, ())))]

    def section(self, code: int, number: int) -> tuple[int, bytes]:
        """Return the number of images and the data of the section of that number (from 0) among those of that code.

        Raises:
            CorruptError: the section is damaged, or is not the one that the index lists.
        """
        entry, after = self._by_code[code][number]
        with within(self.storage.where):
            found_code, first, count, data = unpack_section(self.storage.read(entry.offset, entry.size))
            if (found_code, first, count) != (code, after, entry.images):
                raise CorruptError("a section is not the one that the index says; the file is damaged")
        return count, data

    @functools.cached_property
    def _by_code(self) -> dict[int, list[tuple[SectionEntry, int]]]:
        """The entries of each code, each with the number of its first image."""
        found, after = dict[int, list[tuple[SectionEntry, int]]](), Counter[int]()
        for entry in self.index.sections:
            found.setdefault(entry.code, []).append((entry, after[entry.code]))
            after[entry.code] += entry.images
        return found

    def firsts(self, code: int) -> list[int]:
        """Return the number of the first image of each section of that code."""
        return [first for _, first in self._by_code.get(code, ())]

    def has(self, code: int) -> bool:
        """Return whether there is a section of that code."""
        return code in self._by_code

    def close(self) -> None:
        """Close the storage; reading afterwards is an error."""
        self.storage.close()
