# SPDX-License-Identifier: MIT
"""Write the records of an archive one after another, read any of them. Bytes, not images."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from smalti.container.annotation_codec import MAX_SHAPES, pack_numbers, pack_shapes
from smalti.container.format import (
    BLOCK,
    BLOCK_MARK,
    EXTENDED,
    MAGIC,
    MAX_KINDS,
    MAX_MODEL_BYTES,
    MAX_MODELS,
    MAX_SECTION_IMAGES,
    MAX_SECTIONS,
    MIXED,
    MODEL,
    ORDER,
    SHAPES,
    SINGLE_FLAG,
    START_BYTES,
    TRAILER,
    VERSION,
    BlockEntry,
    BlockHead,
    Index,
    Kind,
    ModelEntry,
    SectionEntry,
    check_start,
    needs_extended,
    pack_block,
    pack_header,
    pack_index,
    pack_model,
    pack_section,
    unpack_block,
    unpack_header,
    unpack_index,
    unpack_model,
    unpack_section,
    unpack_trailer,
)
from smalti.container.mixed_payload import Part, mixed_hash, pack_mixed
from smalti.errors import CorruptError, SourceError, within
from smalti.util.storage import Storage

TAIL_BYTES = 1 << 16
"""The number of bytes that are read from the end at once: the trailer and, mostly, the whole index."""


@dataclass
class ArchiveWriter:
    """A writer of records, one behind the other; `finish` completes the archive.

    The header of a new archive is written with the first model. A file that cannot be sought in says version 2 at once;
    any other file says it in the end, if it uses an addition.
    """

    file: BinaryIO
    models: list[ModelEntry]
    kinds: list[Kind] = field(default_factory=list)
    blocks: list[BlockEntry] = field(default_factory=list)
    sections: list[SectionEntry] = field(default_factory=list)
    at: int = 0  # where the next record goes
    stored: dict[int, int] = field(default_factory=dict)  # images of each kind so far
    start_at: int | None = None  # where the archive starts in a file that can be sought in; None: it cannot
    extended: bool = False  # whether an addition of version 2 is used
    shapes: dict[tuple[int, int, int], None] = field(default_factory=dict)  # of mixed blocks, that no section lists yet

    def __post_init__(self) -> None:
        self._numbers = {kind: i for i, kind in enumerate(self.kinds)}
        self.listed = sum(self.stored.values())  # images whose kinds, names and labels were written

    @classmethod
    def start(cls, file: BinaryIO, model_id: bytes | None = None) -> "ArchiveWriter":
        """Start a new archive in `file`; None: with the first model that `model` is asked for."""
        writer = cls(file, [], start_at=_place(file))
        if model_id is not None:
            writer.model(model_id)
        return writer

    @classmethod
    def resume(cls, file: BinaryIO, index: Index, at: int, *, extended: bool = False) -> "ArchiveWriter":
        """Continue an archive, which may use additions; `file` stands at byte `at`, behind all of it."""
        stored: dict[int, int] = {}
        for block in index.blocks:
            stored[block.kind] = stored.get(block.kind, 0) + block.images
        parts = (list(index.models), list(index.kinds), list(index.blocks), list(index.sections))
        return cls(file, *parts, at=at, stored=stored, extended=extended)

    def model(self, model_id: bytes, bundle: bytes | None = None) -> int:
        """Return the number of a model, which may be new; write its bundle if one is given and the file holds none.

        Raises:
            SourceError: there are too many models.
        """
        known = [entry.id for entry in self.models]
        number = known.index(model_id) if model_id in known else len(known)
        if number == MAX_MODELS:
            raise SourceError(f"the images are coded by more than {MAX_MODELS} models; make several files")
        if not known:
            self._write(pack_header(model_id, version=VERSION if self.start_at is not None else EXTENDED))
        if number == len(known):
            self.models.append(ModelEntry(model_id, 0))
        if bundle is not None and not self.models[number].offset:
            self.models[number] = ModelEntry(model_id, self._write(pack_model(number, bundle)))
        return number

    def kind(self, kind: Kind) -> int:
        """Return the number of a kind, which may be new.

        Raises:
            SourceError: there are too many kinds.
        """
        if kind not in self._numbers:
            if len(self.kinds) == MAX_KINDS:
                raise SourceError(f"the images are of more than {MAX_KINDS} sizes; pack them into several files")
            self._numbers[kind] = len(self.kinds)
            self.kinds.append(kind)
        return self._numbers[kind]

    def order(self, kinds: Sequence[int]) -> None:
        """Record the kinds of the next images; nothing is written while there is one kind."""
        if len(self.kinds) > 1:
            covered = sum(entry.images for entry in self.sections if entry.code == ORDER)
            for start in range(covered, self.listed, MAX_SECTION_IMAGES):  # they came while there was one kind
                count = min(MAX_SECTION_IMAGES, self.listed - start)
                self.section(ORDER, count, pack_numbers([0] * count))
            self.section(ORDER, len(kinds), pack_numbers(kinds))
        self.listed += len(kinds)

    def block_record(self, kind: Kind, count: int, pixels: bytes, payload: bytes, after: int = 0) -> bytes:
        """Return the record that `block` would write behind `after` more images of the kind."""
        number = self.kind(kind)
        self.extended |= needs_extended(kind, payload)
        return pack_block(BlockHead(kind, number, count, self.stored.get(number, 0) + after, pixels), payload)

    def block(self, kind: Kind, count: int, pixels: bytes, payload: bytes) -> None:
        """Append a block. count: its images; pixels: the hash of the pixels that it decodes to."""
        record = self.block_record(kind, count, pixels, payload)
        self._list(kind, count, self._write(record), len(record))

    def mixed_block(self, parts: Sequence[tuple[Part, bytes]]) -> None:
        """Append a mixed block of parts, each with the hash of the pixels that it decodes to."""
        parts = sorted(parts, key=lambda part: part[0].rows[0])
        self.note_shapes(part.kind.shape for part, _ in parts)
        count, pixels = sum(len(part.rows) for part, _ in parts), mixed_hash([pixels for _, pixels in parts])
        self.block(MIXED, count, pixels, pack_mixed([part for part, _ in parts]))

    def note_shapes(self, shapes: Iterable[tuple[int, int, int]]) -> None:
        """List these shapes (h w c) of images in mixed blocks at the end."""
        self.shapes |= dict.fromkeys(shapes)

    def carried(self, kind: Kind, count: int, size: int) -> None:
        """List a block, a record of `size` bytes, that the order of images carries."""
        self._list(kind, count, 0, size)

    def _list(self, kind: Kind, count: int, offset: int, size: int) -> None:
        number = self.kind(kind)
        self.blocks.append(BlockEntry(offset, size, count, number))
        self.stored[number] = self.stored.get(number, 0) + count

    def section(self, code: int, count: int, data: bytes) -> None:
        """Append a section on the next `count` images that no section of that code has covered.

        Raises:
            SourceError: there are too many sections.
        """
        if len(self.sections) == MAX_SECTIONS:
            raise SourceError("the file was appended to too often; put it together anew: smalti merge FILE -o NEW")
        first = sum(entry.images for entry in self.sections if entry.code == code)
        record = pack_section(code, first, count, data)
        self.sections.append(SectionEntry(code, self._write(record), len(record), count))

    def _write(self, record: bytes) -> int:
        self.file.write(record)
        self.at += len(record)
        return self.at - len(record)

    def finish(self) -> int:
        """Write the index and the trailer; return the byte at which the archive ends."""
        shapes = list(self.shapes)
        for start in range(0, len(shapes), MAX_SHAPES):
            self.section(SHAPES, 0, pack_shapes(shapes[start : start + MAX_SHAPES]))
        index = self.index()
        self.extended |= index.extended
        data = pack_index(index)
        self.file.write(data)
        self.at += len(data)
        if self.extended and self.start_at is not None:
            self.file.seek(self.start_at + len(MAGIC))
            self.file.write(bytes([EXTENDED]))
            self.file.seek(self.start_at + self.at)
        return self.at

    def index(self) -> Index:
        """Return the index of all that was written."""
        return Index(tuple(self.models), tuple(self.kinds), tuple(self.blocks), tuple(self.sections))


def _place(file: BinaryIO) -> int | None:
    """Return where a file stands; None if nothing that is written can be written over."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # streams of strangers may lack what files have
        if file.seekable() and not _only_appended_to(file):
            return file.tell()
    return None


def _only_appended_to(file: BinaryIO) -> bool:
    """Return whether all writes go to the end of a file, wherever it stands."""
    with contextlib.suppress(ImportError, OSError, AttributeError):  # a stream in memory has no number
        import fcntl

        return bool(fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_APPEND)
    return "a" in str(getattr(file, "mode", ""))


def read_index(storage: Storage, end: int, model_id: bytes | None = None) -> tuple[Index, int]:
    """Read the index of an archive that ends at byte `end`; also return the byte at which the index starts.

    model_id: the id of the first model that the header holds; None: the header is not compared.

    Raises:
        SourceError, TruncatedError, CorruptError: the index cannot be read, is not there, or is damaged.
    """
    tail_at = max(0, end - TAIL_BYTES)
    tail = storage.read(tail_at, end - tail_at)
    index_size, check = unpack_trailer(tail[-TRAILER.size :], end)
    at = end - TRAILER.size - index_size
    data = tail[at - tail_at : -TRAILER.size] if at >= tail_at else storage.read(at, index_size)
    return unpack_index(data, check, model_id, at), at


class ArchiveReader:
    """A reader of the records of an archive, in any order; threads may share it. It implements `Reader`.

    Raises:
        SourceError: it cannot be read.
        FormatError: it is not an archive, or a damaged one.
    """

    growable = stored_checksums = True

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
        self.index, self._index_at = read_index(storage, self.end, self.model_id)
        self.count, stored = self.index.count, dict[int, int]()
        self._firsts = []
        for block in self.index.blocks:
            self._firsts.append(stored.get(block.kind, 0))
            stored[block.kind] = self._firsts[-1] + block.images

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
        same = same and head.first == self._firsts[block]
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
        return sum(block.size - BLOCK.size for block in self.index.blocks)

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
        tables: tuple[Sequence[ModelEntry | BlockEntry | SectionEntry], ...]
        tables = (self.index.models, self.index.blocks, self.index.sections)
        starts = (entry.offset for entries in tables for entry in entries)
        return min((start for start in starts if start > offset), default=self._index_at) - offset

    def sections(self, code: int) -> list[tuple[int, bytes]]:
        """Return the number of images and the data of each section of that code, in order.

        Raises:
            CorruptError: a section is damaged, or is not the one that the index lists.
        """
        found, after = [], 0
        for entry in self.index.sections:
            if entry.code == code:
                with within(self.storage.where):
                    found_code, first, count, data = unpack_section(self.storage.read(entry.offset, entry.size))
                    if (found_code, first, count) != (code, after, entry.images):
                        raise CorruptError("a section is not the one that the index says; the file is damaged")
                found.append((count, data))
                after += count
        return found

    def has(self, code: int) -> bool:
        """Return whether there is a section of that code."""
        return any(entry.code == code for entry in self.index.sections)

    def close(self) -> None:
        """Close the storage; reading afterwards is an error."""
        self.storage.close()
