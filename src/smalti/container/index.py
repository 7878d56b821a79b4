# SPDX-License-Identifier: MIT
"""The index of an archive: where its records are; packing, unpacking and checks. Standard library only.

An index of version 1 lists all records. An index of version 2 names earlier indexes of the file, whose entries come
before its own, so that a writer which appends writes only what is new.
"""

import itertools
import operator
import struct
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, overload

from smalti.container.format import (
    BLOCK,
    BLOCK_ENTRY,
    CARRIERS,
    EDITS,
    EMPTY_MODEL,
    END_MAGIC,
    FREE_SECTIONS,
    GROWN_INDEX,
    GROWN_MARK,
    HEADER,
    INDEX,
    INDEX_ENTRY,
    INDEX_MARK,
    KIND_ENTRY,
    LABELS,
    MAX_EARLIER,
    MAX_MODELS,
    MAX_PAYLOAD,
    MAX_SECTION_BYTES,
    MAX_SECTION_IMAGES,
    METADATA,
    MIXED,
    MODEL,
    MODEL_ENTRY,
    NAMES,
    ORDER,
    PLACES,
    PROFILES,
    SECTION,
    SECTION_ENTRY,
    SECTIONS,
    SHAPES,
    TRAILER,
    BlockEntry,
    Kind,
    ModelEntry,
    SectionEntry,
    check_kind,
)
from smalti.errors import CorruptError
from smalti.util.binary import hash64


class Blocks(Sequence[BlockEntry]):
    """The entries of blocks, kept as the bytes of an index; an entry is made when it is asked for."""

    def __init__(self, raw: bytes) -> None:
        """raw: the entries as an index holds them, one after another."""
        self.raw = raw
        self._n = len(raw) // BLOCK_ENTRY.size

    @classmethod
    def of(cls, entries: Sequence[BlockEntry]) -> "Blocks":
        """Return these entries as `Blocks`."""
        return entries if isinstance(entries, Blocks) else cls(b"".join(BLOCK_ENTRY.pack(*entry) for entry in entries))

    def _column(self, code: Literal["Q", "I", "H"], first: int, step: int) -> Sequence[int]:
        """Return every `step`-th integer of a type (as `struct` names it) from the `first` on."""
        if sys.byteorder == "little" and self.raw:
            return memoryview(self.raw).cast(code)[first::step].tolist()
        return struct.unpack(f"<{len(self.raw) // struct.calcsize(code)}{code}", self.raw)[first::step]

    @cached_property
    def offsets(self) -> Sequence[int]:
        """The place of each record, in bytes; 0 if the order of images carries it."""
        return self._column("Q", 0, 2)

    @cached_property
    def sizes(self) -> Sequence[int]:
        """The bytes of each record."""
        return self._column("I", 2, 4)

    @cached_property
    def images_and_kinds(self) -> Sequence[int]:
        """The number of images of each block, plus 65536 times the number of its kind."""
        return self._column("I", 3, 4)

    @cached_property
    def images(self) -> Sequence[int]:
        """The number of images of each block."""
        return self._column("H", 6, 8)

    @cached_property
    def total(self) -> int:
        """The number of images of all blocks."""
        return sum(self.images)

    @cached_property
    def kinds(self) -> Sequence[int]:
        """The number of the kind of each block."""
        return self._column("H", 7, 8)

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, number: int) -> BlockEntry: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[BlockEntry, ...]: ...
    def __getitem__(self, number: int | slice) -> BlockEntry | tuple[BlockEntry, ...]:
        if isinstance(number, slice):
            return tuple(self[i] for i in range(*number.indices(self._n)))
        if not -self._n <= number < self._n:
            raise IndexError(f"block {number} of {self._n}")
        return BlockEntry._make(BLOCK_ENTRY.unpack_from(self.raw, number % self._n * BLOCK_ENTRY.size))

    def __iter__(self) -> Iterator[BlockEntry]:
        return map(BlockEntry._make, BLOCK_ENTRY.iter_unpack(self.raw))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blocks) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"Blocks({self._n}, {hash64(self.raw).hex()})"


class IndexEntry(NamedTuple):
    """An entry of an index of version 2: the place of an earlier index."""

    offset: int  # in bytes
    size: int  # in bytes, without a trailer
    check: bytes  # hash of the index


@dataclass(frozen=True)
class Index:
    """The tables at the end of an archive, which are known only after all records are written."""

    models: tuple[ModelEntry, ...]
    kinds: tuple[Kind, ...]
    blocks: Sequence[BlockEntry]
    sections: tuple[SectionEntry, ...]
    shown: int | None = None  # the images that a reader shows; None: all that are stored
    earlier: tuple[IndexEntry, ...] = ()  # the indexes whose entries come before those of this one

    @property
    def stored(self) -> int:
        """The number of images in all blocks."""
        return Blocks.of(self.blocks).total

    @property
    def count(self) -> int:
        """The number of images that a reader shows."""
        return self.stored if self.shown is None else self.shown

    @property
    def listed(self) -> int:
        """The number of images that have names, labels and places, also where they were removed."""
        return sum(entry.images for entry in self.sections if entry.code == PLACES) or self.stored

    @property
    def extended(self) -> bool:
        """Whether something in the index is an addition of version 2."""
        kinds = any(kind.mode in (MIXED.mode, 2) for kind in self.kinds)
        return kinds or self.grown or any(model.id == EMPTY_MODEL for model in self.models)

    @property
    def grown(self) -> bool:
        """Whether this needs an index of version 2."""
        return bool(self.earlier) or any(entry.code in (PLACES, EDITS) for entry in self.sections)


@dataclass
class Segment:
    """The entries that an index holds itself."""

    models: list[ModelEntry] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    blocks: bytes = b""  # the entries of blocks as an index holds them
    sections: list[SectionEntry] = field(default_factory=list)
    place: IndexEntry | None = None  # of that index, if it is in the file

    def then(self, after: "Segment") -> "Segment":
        """Return these entries and those of a segment behind this one."""
        sections = self.sections + after.sections
        return Segment(self.models + after.models, self.kinds + after.kinds, self.blocks + after.blocks, sections)

    @property
    def size(self) -> int:
        """The bytes of the entries."""
        listed = len(self.models) * MODEL_ENTRY.size + len(self.kinds) * KIND_ENTRY.size + len(self.blocks)
        return listed + len(self.sections) * SECTION_ENTRY.size


def joined(segments: Sequence[Segment], shown: int | None) -> Index:
    """Return the index that all segments together give; the last one is that of the index itself."""
    models, kinds, sections = (
        tuple(itertools.chain.from_iterable(getattr(segment, name) for segment in segments))
        for name in ("models", "kinds", "sections")
    )
    earlier = tuple(segment.place for segment in segments[:-1] if segment.place)
    return Index(models, kinds, Blocks(b"".join(segment.blocks for segment in segments)), sections, shown, earlier)


def pack_index(index: Index, own: Segment | None = None) -> bytes:
    """Return the index and the trailer, the end of an archive.

    own: what the index holds itself, if it names earlier ones.
    """
    own = own or Segment(list(index.models), list(index.kinds), Blocks.of(index.blocks).raw, list(index.sections))
    blocks, numbers = len(own.blocks) // BLOCK_ENTRY.size, (len(own.models), len(own.kinds), len(own.sections))
    if index.grown:
        body = GROWN_INDEX.pack(GROWN_MARK, index.count, len(index.earlier), blocks, *numbers)
        body += b"".join(INDEX_ENTRY.pack(*entry) for entry in index.earlier)
    else:
        body = INDEX.pack(INDEX_MARK, index.count, blocks, *numbers)
    body += b"".join(MODEL_ENTRY.pack(*entry) for entry in own.models)
    body += b"".join(KIND_ENTRY.pack(*entry) for entry in own.kinds)
    body += own.blocks + b"".join(SECTION_ENTRY.pack(*entry) for entry in own.sections)
    return body + TRAILER.pack(len(body), hash64(body), END_MAGIC)


def unpack_segments(data: bytes, check: bytes, at: int, read: Callable[[int, int], bytes]) -> tuple[list[Segment], int]:
    """Return the entries of the index at byte `at` of a file and of the earlier ones that it names, in their order.

    Also return the number of images that it claims; the entries themselves are not checked.

    Args:
        data: the bytes of the index, without the trailer.
        check: the hash of `data` in the trailer.
        at: the byte of the file at which the index starts.
        read: a function that returns some bytes of the file, from a byte on.

    Raises:
        CorruptError: a checksum, a count or the place of an index is wrong.
    """
    own, earlier, count = _unpack_segment(data, check)
    own.place = IndexEntry(at, len(data), check)
    places = sorted([*earlier, own.place])
    if any(e.offset < HEADER.size or e.size < INDEX.size or e.offset + e.size > at for e in earlier):
        raise CorruptError("the index names an earlier one outside of the file; the file is damaged")
    if any(here.offset + here.size > after.offset for here, after in itertools.pairwise(places)):
        raise CorruptError("two indexes take the same bytes; the file is damaged")
    segments = []
    for entry in earlier:
        segments.append(_unpack_segment(read(entry.offset, entry.size), entry.check)[0])
        segments[-1].place = entry
    return [*segments, own], count


def _unpack_segment(data: bytes, check: bytes) -> tuple[Segment, list[IndexEntry], int]:
    """Return the entries that an index holds itself, the earlier indexes that it names, and the images it claims."""
    if hash64(data) != check or not data.startswith((INDEX_MARK, GROWN_MARK)):
        raise CorruptError("the checksum of the index is wrong; the file is damaged; try: smalti repair")
    if data.startswith(INDEX_MARK):
        start, n_earlier = INDEX.size, 0
        _, count, n_blocks, *rest = INDEX.unpack_from(data)
    elif len(data) < GROWN_INDEX.size:
        raise CorruptError("the index is shorter than its own fields; the file is damaged")
    else:
        start = GROWN_INDEX.size
        _, count, n_earlier, n_blocks, *rest = GROWN_INDEX.unpack_from(data)
    lengths = (n_earlier, rest[0], rest[1], n_blocks, rest[2])
    layouts = (INDEX_ENTRY, MODEL_ENTRY, KIND_ENTRY, BLOCK_ENTRY, SECTION_ENTRY)
    if len(data) != start + sum(n * layout.size for n, layout in zip(lengths, layouts, strict=True)):
        raise CorruptError(f"the index is {len(data)} bytes long, which does not fit its {n_blocks} blocks")
    if n_earlier > MAX_EARLIER:
        raise CorruptError(f"the index names {n_earlier} earlier ones; {MAX_EARLIER} are allowed; the file is damaged")
    tables = []
    for n, layout in zip(lengths, layouts, strict=True):
        tables.append(data[start : start + n * layout.size])
        start += n * layout.size
    segment = Segment(
        list(map(ModelEntry._make, MODEL_ENTRY.iter_unpack(tables[1]))),
        list(map(Kind._make, KIND_ENTRY.iter_unpack(tables[2]))),
        tables[3],
        list(map(SectionEntry._make, SECTION_ENTRY.iter_unpack(tables[4]))),
    )
    return segment, list(map(IndexEntry._make, INDEX_ENTRY.iter_unpack(tables[0]))), count


def unpack_index(
    data: bytes,
    check: bytes,
    model_id: bytes | None,
    at: int,
    read: Callable[[int, int], bytes] = lambda _at, _size: b"",
) -> tuple[Index, list[Segment]]:
    """Return the index that starts at byte `at` of a file, and its parts: those of earlier indexes, then its own.

    Args:
        data, check, at, read: as in `unpack_segments`.
        model_id: the id in the header, which the first model must have; None if it is not compared.

    Raises:
        CorruptError: a checksum, a count or a place is wrong.
    """
    segments, count = unpack_segments(data, check, at, read)
    grown = data.startswith(GROWN_MARK)
    index = joined(segments, count if grown else None)
    if index.count != count:
        raise CorruptError("the index does not fit the header or its own blocks; the file is damaged")
    _check_index(index, model_id, segments, grown=grown)
    return index, segments


def _check_index(index: Index, model_id: bytes | None, segments: Sequence[Segment], *, grown: bool) -> None:
    first = index.models[0].id if 1 <= len(index.models) <= MAX_MODELS else None
    if first is None or model_id not in (None, first):
        raise CorruptError("the index does not fit the header or its own blocks; the file is damaged")
    if len(set(index.kinds)) < len(index.kinds) or len({model.id for model in index.models}) < len(index.models):
        raise CorruptError("two models or kinds of the index are the same; the file is damaged")
    if index.kinds and not index.blocks:
        raise CorruptError("the index has kinds of images, but no blocks; the file is damaged")
    for kind in index.kinds:
        check_kind(kind, 1)
        if kind.model >= len(index.models):
            raise CorruptError("the index names a model that does not exist; the file is damaged")
    blocks = Blocks.of(index.blocks)
    for images, number in (divmod(both, 1 << 16)[::-1] for both in set(blocks.images_and_kinds)):
        if number >= len(index.kinds):
            raise CorruptError("the index names a kind that does not exist; the file is damaged")
        check_kind(index.kinds[number], images)
    _check_places(index, segments)
    _check_sections(index, grown=grown)


def _check_places(index: Index, segments: Sequence[Segment]) -> None:
    """Check that the records and indexes lie between the header and the last index, and do not overlap."""
    indexes = [segment.place for segment in segments if segment.place]
    blocks, at = Blocks.of(index.blocks), indexes[-1].offset
    places = [(entry.offset, entry.size, SECTION.size) for entry in index.sections]
    places += [(entry.offset, MODEL.size, MODEL.size) for entry in index.models if entry.offset]
    outside = any(offset < HEADER.size or size < least or offset + size > at for offset, size, least in places)
    starts, sizes = blocks.offsets, blocks.sizes
    if not all(starts):  # some blocks are carried
        starts = list(itertools.compress(starts, blocks.offsets))
        sizes = list(itertools.compress(sizes, blocks.offsets))
    ends = list(map(operator.add, starts, sizes))
    twice = any(map(operator.gt, ends, starts[1:]))
    if twice:  # mostly, they are in order
        pairs = sorted(zip(starts, sizes, strict=True))
        starts, sizes = [start for start, _ in pairs], [size for _, size in pairs]
        ends = list(map(operator.add, starts, sizes))
        twice = any(map(operator.gt, ends, starts[1:]))
    least, most = (min(sizes), max(sizes)) if sizes else (BLOCK.size, BLOCK.size)
    if outside or (
        starts and (starts[0] < HEADER.size or least < BLOCK.size or (max(ends) if twice else ends[-1]) > at)
    ):
        raise CorruptError("the index names a place outside of the file; it is damaged")
    spans = [(offset, offset + size) for offset, size, _ in places]
    spans = sorted(spans + [(entry.offset, entry.offset + entry.size) for entry in indexes])
    twice = twice or any(here[1] > after[0] for here, after in itertools.pairwise(spans))
    for start, end in spans:
        behind = bisect_left(starts, start)
        twice = twice or (behind > 0 and ends[behind - 1] > start) or (behind < len(starts) and starts[behind] < end)
    if twice:
        raise CorruptError("two entries of the index name the same bytes; the file is damaged")
    carried = [] if len(sizes) == len(blocks) else blocks.sizes
    if max(most, *carried, 0) > BLOCK.size + MAX_PAYLOAD or min(carried, default=least) < BLOCK.size:
        raise CorruptError("the index names a block that is too small or too large; the file is damaged")


def _check_sections(index: Index, *, grown: bool) -> None:
    counts = dict.fromkeys(SECTIONS, 0)
    for section in index.sections:
        if section.images > MAX_SECTION_IMAGES or section.size > SECTION.size + 2 * MAX_SECTION_BYTES:
            raise CorruptError("the index names a section that is too large; the file is damaged")
        if section.code not in SECTIONS and section.code < FREE_SECTIONS:
            raise CorruptError(f"the index names a section of the unknown code {section.code}; the file is damaged")
        if section.code in SECTIONS:
            counts[section.code] += section.images
    codes = {section.code for section in index.sections}
    if not grown and not codes.isdisjoint((PLACES, EDITS)):
        raise CorruptError("an index of version 1 names places or edits of images; the file is damaged")
    impossible = any(counts[code] not in (0, index.listed) for code in (NAMES, LABELS))
    impossible = impossible or counts[PROFILES] > index.listed or counts[ORDER] not in (0, index.stored)
    if impossible or any(counts[code] for code in (METADATA, CARRIERS, SHAPES, EDITS)):
        raise CorruptError(f"the names, labels or order do not fit the {index.listed} images; the file is damaged")
    if counts[ORDER] != (index.stored if len(index.kinds) > 1 else 0):
        raise CorruptError("the images are of several kinds and have no order, or the reverse; the file is damaged")
    if index.count > index.listed or (EDITS not in codes and index.count != index.listed):
        raise CorruptError(f"the index claims {index.count} images of {index.listed}; the file is damaged")
