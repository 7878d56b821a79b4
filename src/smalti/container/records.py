# SPDX-License-Identifier: MIT
"""Write the records of an archive one after another. Bytes, not images."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from smalti.container.annotation_codec import MAX_SHAPES, pack_numbers, pack_shapes
from smalti.container.archive_reader import ArchiveReader
from smalti.container.entries.blocks import Blocks, Table
from smalti.container.format import (
    EDITS,
    EMPTY_MODEL,
    EXTENDED,
    MAX_KINDS,
    MAX_MODELS,
    MAX_SECTION_IMAGES,
    MAX_SECTIONS,
    MIXED,
    ORDER,
    PLACES,
    SHAPES,
    VERSION,
    BlockEntry,
    BlockHead,
    Kind,
    ModelEntry,
    SectionEntry,
    needs_extended,
    pack_block,
    pack_header,
    pack_model,
    pack_section,
    unpack_section,
)
from smalti.container.growing import section_join
from smalti.container.growing.listing_codec import MAX_EDITS, Edit, pack_edits
from smalti.container.growing.section_join import MOST_BYTES
from smalti.container.index import Index, Segment, joined, pack_index
from smalti.container.mixed_payload import Part, mixed_hash, pack_mixed
from smalti.errors import SourceError
from smalti.util.parallel import by_key

SMALL_INDEX = 512
"""The most bytes of entries that a writer which appends always writes anew, whatever earlier indexes there are."""


@dataclass
class ArchiveWriter:
    """A writer of records, one behind the other; `finish` completes the archive.

    The header of a new archive is written with the first model. A file that cannot be sought in says version 2 at once;
    any other file says it in the end, if it uses an addition.
    """

    file: BinaryIO
    models: list[ModelEntry]
    kinds: list[Kind] = field(default_factory=list)
    blocks: list[BlockEntry] = field(default_factory=list)  # new ones
    sections: list[SectionEntry] = field(default_factory=list)  # new ones
    at: int = 0  # where the next record goes
    stored: dict[int, int] = field(default_factory=dict)  # images of each kind so far
    start_at: int | None = None  # where the archive starts in a file that can be sought in; None: it cannot
    extended: bool = False  # whether an addition of version 2 is used
    shapes: dict[tuple[int, int, int], None] = field(default_factory=dict)  # of mixed blocks, that no section lists yet
    earlier: list[Segment] = field(default_factory=list)  # the entries of indexes that are in the file already
    covered: Counter[int] = field(default_factory=Counter)  # the images that all sections of a code speak of
    listed: int = 0  # images whose names and labels were written
    shown: int = 0  # those of them that a reader shows
    read: Callable[[int, int], bytes] | None = None  # what gives bytes of a file that grows

    def __post_init__(self) -> None:
        self._numbers = {kind: i for i, kind in enumerate(self.kinds)}
        self.ordered = sum(self.stored.values())  # stored images whose kinds were written
        self.first_block = sum(len(segment.blocks) for segment in self.earlier)
        self._known = len(self.models), len(self.kinds)  # the models and kinds of earlier indexes
        self._changed = False  # whether a model that an earlier index lists has got another entry
        self._said = dict[int, bytes]()  # the data of new sections by their places, where the file grows

    @classmethod
    def start(cls, file: BinaryIO, model_id: bytes | None = None) -> "ArchiveWriter":
        """Start a new archive in `file`; None: with the first model that `model` is asked for."""
        writer = cls(file, [], start_at=_place(file))
        if model_id is not None:
            writer.model(model_id)
        return writer

    @classmethod
    def resume(cls, file: BinaryIO, reader: ArchiveReader) -> "ArchiveWriter":
        """Continue the archive of a reader, which may use additions; `file` stands behind all of it."""
        index = reader.index
        covered = Counter[int]()
        for entry in index.sections:
            covered[entry.code] += entry.images
        return cls(
            file,
            list(index.models),
            list(index.kinds),
            at=reader.end,
            stored=Blocks.of(index.blocks).of_kinds,
            extended=reader.extended,
            earlier=list(reader.segments),
            covered=covered,
            listed=index.listed,
            shown=index.count,
            read=reader.storage.read,
        )

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
            self._changed |= number < self._known[0]
            self.models[number] = ModelEntry(model_id, self._write(pack_model(number, bundle)))
        return number

    def need_no_model(self) -> None:
        """Name the empty model in the place of the only one, which codes no image, if the header can be rewritten."""
        if self.start_at is not None and len(self.models) == 1 and not self.models[0].offset:
            self.models = [ModelEntry(EMPTY_MODEL, 0)]

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
        """Record the kinds of the next stored images; nothing is written while there is one kind."""
        if len(self.kinds) > 1:
            for start in range(self.covered[ORDER], self.ordered, MAX_SECTION_IMAGES):  # they came while there was one
                count = min(MAX_SECTION_IMAGES, self.ordered - start)
                self.section(ORDER, count, pack_numbers([0] * count))
            if kinds:
                self.section(ORDER, len(kinds), pack_numbers(kinds))
        self.ordered += len(kinds)

    def list_images(self, count: int) -> None:
        """Count the next listed images, whose annotations are written."""
        self.listed += count
        self.shown += count

    def edit(self, edits: Sequence[Edit]) -> None:
        """Write edits of listed images: each hides a shown image, which is removed or has another in its place."""
        for start in range(0, len(edits), MAX_EDITS):
            self.section(EDITS, 0, pack_edits(edits[start : start + MAX_EDITS]))
        self.shown -= len(edits)

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
        if len(self.sections) + sum(len(segment.sections) for segment in self.earlier) >= MAX_SECTIONS:
            raise SourceError("the file was appended to too often; put it together anew: smalti compact FILE")
        record = pack_section(code, self.covered[code], count, data)
        self.sections.append(SectionEntry(code, self._write(record), len(record), count))
        self.covered[code] += count
        if self.read is not None and len(data) <= MOST_BYTES:
            self._said[self.sections[-1].offset] = data

    def _write(self, record: bytes) -> int:
        self.file.write(record)
        self.at += len(record)
        return self.at - len(record)

    def finish(self) -> int:
        """Write the index and the trailer; return the byte at which the archive ends."""
        shapes = list(self.shapes)
        for start in range(0, len(shapes), MAX_SHAPES):
            self.section(SHAPES, 0, pack_shapes(shapes[start : start + MAX_SHAPES]))
        index, own = self._index()
        self.extended |= index.extended
        data = pack_index(index, own)
        self.file.write(data)
        self.at += len(data)
        if self.extended and self.start_at is not None:
            self.file.seek(self.start_at)
            self.file.write(pack_header(self.models[0].id, version=EXTENDED))
            self.file.seek(self.start_at + self.at)
        return self.at

    def _index(self) -> tuple[Index, Segment]:
        """Return the index of all that was written, and what it holds itself.

        It takes over the entries of earlier indexes that are not at least twice as large, so that few are left.
        """
        models, kinds = tuple(self.models[self._known[0] :]), tuple(self.kinds[self._known[1] :])
        own = Segment(models, kinds, Table(Blocks.of(self.blocks).raw), tuple(self.sections))
        earlier = list(self.earlier)
        while earlier and (
            self._changed
            or earlier[-1].size <= 2 * own.size
            or sum(segment.size for segment in earlier) + own.size <= SMALL_INDEX
        ):
            own = earlier.pop().then(own)
        if len(earlier) < len(self.earlier):
            own = replace(own, sections=self._joined(own.sections))
        if self._changed:
            own = replace(own, models=tuple(self.models))
        shown = self.shown if PLACES in self.covered or EDITS in self.covered else None
        return joined([*earlier, own], shown), own

    def _joined(self, sections: Sequence[SectionEntry]) -> tuple[SectionEntry, ...]:
        """Return entries of sections where small ones of a code are joined to a new one."""
        found = list[SectionEntry]()
        for code, several in by_key(sections, lambda entry: entry.code):
            first = self.covered[code] - sum(entry.images for entry in several)
            group = list[SectionEntry]()
            for entry in [*several, None]:
                if entry is None or section_join.fits(code, [*group, entry]) is False:
                    found += self._as_one(code, group, first)
                    first += sum(entry.images for entry in group)
                    group = []
                if entry is not None:
                    group.append(entry)
        return tuple(found)

    def _as_one(self, code: int, group: Sequence[SectionEntry], first: int) -> list[SectionEntry]:
        """Return the entry of one section in the place of a group, where they can be joined."""
        if len(group) < 2 or self.read is None:
            return list(group)
        parts = []
        for entry in group:
            data = self._said.get(entry.offset)
            parts.append(
                (entry.images, unpack_section(self.read(entry.offset, entry.size))[3] if data is None else data)
            )
        data = section_join.joined(code, parts)
        if data is None:
            return list(group)
        count = sum(entry.images for entry in group)
        record = pack_section(code, first, count, data)
        return [SectionEntry(code, self._write(record), len(record), count)]


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
