# SPDX-License-Identifier: MIT
"""Check that the entries of an index fit each other and the file. Standard library only."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from smalti.container.entries.blocks import Blocks, Placed, Table
from smalti.container.format import (
    BLOCK,
    CARRIERS,
    EDITS,
    FREE_SECTIONS,
    HEADER,
    LABELS,
    MAX_MODELS,
    MAX_PAYLOAD,
    MAX_SECTION_BYTES,
    MAX_SECTION_IMAGES,
    METADATA,
    MODEL,
    NAMES,
    ORDER,
    PLACES,
    PROFILES,
    SECTION,
    SECTIONS,
    SHAPES,
    check_kind,
)
from smalti.errors import CorruptError

if TYPE_CHECKING:
    from smalti.container.index import Index, Segment


def check_index(index: "Index", model_id: bytes | None, segments: "Sequence[Segment]", *, grown: bool) -> None:
    """Check an index, which consists of these segments.

    Args:
        index: the entries of all segments together.
        model_id: the id in the header, which the first model must have; None if it is not compared.
        segments: the entries that each index holds itself; the last one is that of the index at the end of the file.
        grown: whether the index is of version 2.

    Raises:
        CorruptError: two entries contradict each other, or one of them is impossible.
    """
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
    tables = Blocks.of(index.blocks).tables
    for images, number in (divmod(both, 1 << 16)[::-1] for both in set().union(*(table.alike for table in tables))):
        if number >= len(index.kinds):
            raise CorruptError("the index names a kind that does not exist; the file is damaged")
        check_kind(index.kinds[number], images)
    _check_places(index, tables, segments)
    _check_sections(index, grown=grown)


def _check_places(index: "Index", tables: Sequence[Table], segments: "Sequence[Segment]") -> None:
    """Check that the records and indexes lie between the header and the last index, and do not overlap."""
    indexes = [segment.place for segment in segments if segment.place]
    at = indexes[-1].offset
    places = [(entry.offset, entry.size, SECTION.size) for entry in index.sections]
    places += [(entry.offset, MODEL.size, MODEL.size) for entry in index.models if entry.offset]
    outside = any(offset < HEADER.size or size < least or offset + size > at for offset, size, least in places)
    blocks = _in_order([table.placed for table in tables if table.placed.starts])
    outside = outside or any(some.start < HEADER.size or some.end > at for some in blocks)
    if outside:
        raise CorruptError("the index names a place outside of the file; it is damaged")
    for least, most in (table.size_range for table in tables):
        if least < BLOCK.size or most > BLOCK.size + MAX_PAYLOAD:
            raise CorruptError("the index names a block that is too small or too large; the file is damaged")
    spans = [(offset, offset + size) for offset, size, _ in places]
    spans = sorted(spans + [(entry.offset, entry.offset + entry.size) for entry in indexes])
    twice = any(some.twice for some in blocks) or any(here[1] > after[0] for here, after in itertools.pairwise(spans))
    if twice or any(some.meets(*span) for some in blocks for span in spans):
        raise CorruptError("two entries of the index name the same bytes; the file is damaged")


def _in_order(blocks: Sequence[Placed]) -> list[Placed]:
    """Return places of blocks one behind the other; those of tables that lie among each other are joined."""
    blocks = sorted(blocks, key=lambda some: some.start)
    if all(here.end <= after.start for here, after in itertools.pairwise(blocks)):
        return blocks
    starts = itertools.chain.from_iterable(some.starts for some in blocks)
    return [Placed.of(list(starts), list(itertools.chain.from_iterable(some.sizes for some in blocks)))]


def _check_sections(index: "Index", *, grown: bool) -> None:
    counts = dict.fromkeys(SECTIONS, 0)
    for section in index.sections:
        if section.images > MAX_SECTION_IMAGES or section.size > SECTION.size + 2 * MAX_SECTION_BYTES:
            raise CorruptError("the index names a section that is too large; the file is damaged")
        if section.code not in SECTIONS and section.code < FREE_SECTIONS:
            raise CorruptError(f"the index names a section of the unknown code {section.code}; the file is damaged")
        if section.code in SECTIONS:
            counts[section.code] += section.images
    codes, stored, listed = {section.code for section in index.sections}, index.stored, index.listed
    if not grown and not codes.isdisjoint((PLACES, EDITS)):
        raise CorruptError("an index of version 1 names places or edits of images; the file is damaged")
    impossible = any(counts[code] not in (0, listed) for code in (NAMES, LABELS))
    impossible = impossible or counts[PROFILES] > listed or counts[ORDER] not in (0, stored)
    if impossible or any(counts[code] for code in (METADATA, CARRIERS, SHAPES, EDITS)):
        raise CorruptError(f"the names, labels or order do not fit the {listed} images; the file is damaged")
    if counts[ORDER] != (stored if len(index.kinds) > 1 else 0):
        raise CorruptError("the images are of several kinds and have no order, or the reverse; the file is damaged")
    if index.count > listed or (EDITS not in codes and index.count != listed):
        raise CorruptError(f"the index claims {index.count} images of {listed}; the file is damaged")
