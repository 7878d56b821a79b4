# SPDX-License-Identifier: MIT
"""Describe a smalti file without decoding it."""

from collections import Counter
from typing import Any

import numpy as np

from smalti.archive.reader import Contents, Place, parts_of
from smalti.archive.reading.places import Places
from smalti.codec.batching import block_images
from smalti.codec.payload.head import describe_payload, needs_model
from smalti.container.archive_reader import ArchiveReader
from smalti.container.format import (
    BLOCK,
    BLOCK_ENTRY,
    EMPTY_MODEL,
    HEADER,
    INDEX,
    KIND_ENTRY,
    LABELS,
    MODEL,
    MODEL_ENTRY,
    NAMES,
    PROFILES,
    SECTION_ENTRY,
    TRAILER,
)
from smalti.errors import FormatError, UnknownModelError
from smalti.model.bundle import find_model
from smalti.types import describe

SHOWN_KINDS = 5
"""The most shapes of images that the description lists."""


def describe_file(place: Place) -> dict[str, Any]:
    """Return facts of a smalti file by their names; a model that is not known here has no name.

    Raises:
        SourceError, FormatError: the file cannot be read, or is damaged.
    """
    contents = Contents(place, models=False)
    try:
        reader, index = contents.reader, contents.index
        count = reader.count
        shapes = [describe(shape) for shape in sorted(contents.shapes())]
        return {
            "images": count,
            "size": "; ".join(shapes[:SHOWN_KINDS]) + (f"; {len(shapes)} in all" if len(shapes) > SHOWN_KINDS else ""),
            "bytes": reader.end,
            "bytes_an_image": round(reader.end / count, 3) if count else None,
            "payload_bytes": reader.payload_bytes(),
            "models": _models(contents),
            "blocks": len(index.blocks),
            "images_a_block": max((block.images for block in index.blocks), default=0),
            "first_block": _first_block(contents) if count else None,
            "packing": contents.packing(),
            "carried_blocks": sum(not block.offset for block in index.blocks),
            "named": reader.has(NAMES),
            "labelled": reader.has(LABELS),
            "profiles": reader.has(PROFILES),
            "format_version": 2 if reader.extended else 1,
            "metadata": contents.metadata() or None,
            "bytes_after_the_end": contents.storage.size - reader.end,
            "compact_saves": _spare_bytes(contents),
        }
    finally:
        contents.storage.close()


def _spare_bytes(contents: Contents) -> int:
    """Return about how many bytes `compact` saves at least: what nothing names, removed images, heads of small blocks.

    How much shorter the streams of joined blocks are is not known before.
    """
    reader, index = contents.reader, contents.index
    if not isinstance(reader, ArchiveReader):
        return 0
    entries = len(index.models) * MODEL_ENTRY.size + len(index.kinds) * KIND_ENTRY.size
    entries += len(index.blocks) * BLOCK_ENTRY.size + len(index.sections) * SECTION_ENTRY.size
    used = HEADER.size + INDEX.size + TRAILER.size + entries + sum(entry.size for entry in index.sections)
    used += sum(entry.size for entry in index.blocks if entry.offset)
    bundles = [reader.model(number) for number, model in enumerate(index.models) if model.offset]
    used += sum(MODEL.size + len(bundle) for bundle in bundles if bundle)
    blocks, offsets = Places(index, contents.order(), contents.listing).of(np.arange(reader.count))
    shown = Counter(block for block, _ in set(zip(blocks.tolist(), offsets.tolist(), strict=True)))
    gone, small, rest = 0.0, Counter[int](), Counter[int]()
    for number, entry in enumerate(index.blocks):
        gone += (entry.images - shown[number]) / entry.images * (entry.size - BLOCK.size)
        kind = index.kinds[entry.kind]
        if not kind.mixed and 2 * shown[number] <= block_images(kind.shape):
            small[entry.kind] += 1
            rest[entry.kind] += shown[number]
    needed = sum(-(-rest[kind] // block_images(index.kinds[kind].shape)) for kind in small)
    joined = (small.total() - needed) * (BLOCK.size + BLOCK_ENTRY.size)
    dead = contents.storage.size - used
    return max(0, dead + round(gone) + joined)


def _needed(contents: Contents) -> set[int]:
    """Return the numbers of the models that code an image; blocks are read until all are found.

    A block that cannot be read without decoding, or is damaged, counts as one that needs all that it may name.
    """
    index, needed = contents.index, set[int]()
    named = {number for number, model in enumerate(index.models) if model.id != EMPTY_MODEL}
    for number, entry in enumerate(index.blocks):
        kind = index.kinds[entry.kind]
        may = (named if kind.mixed else named & {kind.model}) - needed
        if not may:
            continue
        try:
            parts = parts_of(*contents.reader.block(number)) if entry.offset else None
            needed |= (
                may
                if parts is None
                else {part.kind.model for part in parts if needs_model(part.payload, len(part.rows))}
            )
        except FormatError:
            needed |= may
    return needed


def _first_block(contents: Contents) -> str:
    """Say in words how the images of the first block are coded."""
    parts = parts_of(*contents.reader.block(0, contents.record(0)))
    ways = dict.fromkeys(way for part in parts for way in describe_payload(part.payload, len(part.rows)).split("; "))
    return "; ".join(ways) + (f" ({len(parts)} parts)" if len(parts) > 1 else "")


def _models(contents: Contents) -> list[str]:
    """Return in words the models that images need, and those that the file holds."""
    needed, found = _needed(contents), list[str]()
    for number, entry in enumerate(contents.index.models):
        if number in needed or entry.offset:
            try:
                name = find_model(entry.id).name
            except UnknownModelError:
                name = "unknown here"
            unused = "" if number in needed else "; no image needs it"
            found.append(f"{name} ({entry.id.hex()})" + (", in the file" if entry.offset else "") + unused)
    return found
