# SPDX-License-Identifier: MIT
"""The index of an archive: where its records are; packing, unpacking and checks. Standard library only.

An index of version 1 lists all records. An index of version 2 names earlier indexes of the file, whose entries come
before its own, so that a writer which appends writes only what is new. Readers of a file that grows meet the same
earlier indexes again and again; the process keeps those that it unpacked last.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from smalti.container.entries.blocks import Blocks, Table
from smalti.container.entries.checks import check_index
from smalti.container.format import (
    BLOCK_ENTRY,
    EDITS,
    EMPTY_MODEL,
    END_MAGIC,
    GROWN_INDEX,
    GROWN_MARK,
    HEADER,
    INDEX,
    INDEX_ENTRY,
    INDEX_MARK,
    KIND_ENTRY,
    MAX_EARLIER,
    MIXED,
    MODEL_ENTRY,
    PLACES,
    SECTION_ENTRY,
    TRAILER,
    BlockEntry,
    Kind,
    ModelEntry,
    SectionEntry,
)
from smalti.errors import CorruptError
from smalti.util.binary import hash64
from smalti.util.kept import Kept

KEPT_BYTES = 1 << 22
"""The most bytes of indexes that the process keeps unpacked."""


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


@dataclass(frozen=True)
class Segment:
    """The entries that an index holds itself."""

    models: tuple[ModelEntry, ...] = ()
    kinds: tuple[Kind, ...] = ()
    blocks: Table = Table(b"")  # noqa: RUF009 - nothing of it changes
    sections: tuple[SectionEntry, ...] = ()
    place: IndexEntry | None = None  # of that index, if it is in the file

    def then(self, after: "Segment") -> "Segment":
        """Return these entries and those of a segment behind this one."""
        blocks = Table(self.blocks.raw + after.blocks.raw)
        return Segment(self.models + after.models, self.kinds + after.kinds, blocks, self.sections + after.sections)

    @property
    def size(self) -> int:
        """The bytes of the entries."""
        listed = len(self.models) * MODEL_ENTRY.size + len(self.kinds) * KIND_ENTRY.size + len(self.blocks.raw)
        return listed + len(self.sections) * SECTION_ENTRY.size


def joined(segments: Sequence[Segment], shown: int | None) -> Index:
    """Return the index that all segments together give; the last one is that of the index itself."""
    models, kinds, sections = (
        tuple(itertools.chain.from_iterable(getattr(segment, name) for segment in segments))
        for name in ("models", "kinds", "sections")
    )
    earlier = tuple(segment.place for segment in segments[:-1] if segment.place)
    return Index(models, kinds, Blocks(*(segment.blocks for segment in segments)), sections, shown, earlier)


def pack_index(index: Index, own: Segment | None = None) -> bytes:
    """Return the index and the trailer, the end of an archive.

    own: what the index holds itself, if it names earlier ones.
    """
    own = own or Segment(index.models, index.kinds, Table(Blocks.of(index.blocks).raw), index.sections)
    blocks, numbers = len(own.blocks), (len(own.models), len(own.kinds), len(own.sections))
    if index.grown:
        body = GROWN_INDEX.pack(GROWN_MARK, index.count, len(index.earlier), blocks, *numbers)
        body += b"".join(INDEX_ENTRY.pack(*entry) for entry in index.earlier)
    else:
        body = INDEX.pack(INDEX_MARK, index.count, blocks, *numbers)
    body += b"".join(MODEL_ENTRY.pack(*entry) for entry in own.models)
    body += b"".join(KIND_ENTRY.pack(*entry) for entry in own.kinds)
    body += own.blocks.raw + b"".join(SECTION_ENTRY.pack(*entry) for entry in own.sections)
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
    own, earlier, count = _segment(data, check)
    own = replace(own, place=IndexEntry(at, len(data), check))
    places = sorted([*earlier, IndexEntry(at, len(data), check)])
    if any(e.offset < HEADER.size or e.size < INDEX.size or e.offset + e.size > at for e in earlier):
        raise CorruptError("the index names an earlier one outside of the file; the file is damaged")
    if any(here.offset + here.size > after.offset for here, after in itertools.pairwise(places)):
        raise CorruptError("two indexes take the same bytes; the file is damaged")
    segments = [replace(_segment(read(e.offset, e.size), e.check)[0], place=e) for e in earlier]
    return [*segments, own], count


_Unpacked = tuple[Segment, tuple[IndexEntry, ...], int]
_KEPT = Kept[_Unpacked](KEPT_BYTES)


def _segment(data: bytes, check: bytes) -> "_Unpacked":
    """Return what `_unpack_segment` does, at once if the process has unpacked the same bytes lately."""
    found = _KEPT.get(data, check)
    if found is None:
        found = _unpack_segment(data, check)
        _KEPT.put(data, check, found)
    return found


def _unpack_segment(data: bytes, check: bytes) -> "_Unpacked":
    """Return the entries that an index holds itself, the earlier indexes that it names, and the images it claims.

    Raises:
        CorruptError: the checksum or a count is wrong.
    """
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
        tuple(map(ModelEntry._make, MODEL_ENTRY.iter_unpack(tables[1]))),
        tuple(map(Kind._make, KIND_ENTRY.iter_unpack(tables[2]))),
        Table(tables[3]),
        tuple(map(SectionEntry._make, SECTION_ENTRY.iter_unpack(tables[4]))),
    )
    return segment, tuple(map(IndexEntry._make, INDEX_ENTRY.iter_unpack(tables[0]))), count


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
    check_index(index, model_id, segments, grown=grown)
    return index, segments
