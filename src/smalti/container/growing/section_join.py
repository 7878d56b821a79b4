# SPDX-License-Identifier: MIT
"""Join small sections of one code, so that a file of many appends has few of them."""

import itertools
from collections.abc import Callable, Sequence

from smalti.container.annotation_codec import (
    pack_labels,
    pack_names,
    pack_numbers,
    pack_profiles,
    pack_shapes,
    unpack_labels,
    unpack_names,
    unpack_numbers,
    unpack_profiles,
    unpack_shapes,
)
from smalti.container.format import (
    EDITS,
    LABELS,
    MAX_KINDS,
    MAX_SECTION_IMAGES,
    METADATA,
    NAMES,
    ORDER,
    PLACES,
    PROFILES,
    SHAPES,
    SectionEntry,
)
from smalti.container.growing.listing_codec import (
    PLACES_IMAGES,
    pack_edits,
    pack_places,
    unpack_edits,
    unpack_places,
)
from smalti.errors import CorruptError

MOST_BYTES = 1 << 16
"""The most bytes of the data of sections that are joined to one: a larger one costs too much each time."""

Part = tuple[int, bytes]
"""The number of images of a section, and its data."""
_UNLISTED = (1 << 63) - 1


def fits(code: int, entries: Sequence[SectionEntry]) -> bool:
    """Return whether one section may take the place of these, as far as their entries tell."""
    most = PLACES_IMAGES if code == PLACES else MAX_SECTION_IMAGES
    small = sum(entry.size for entry in entries) <= MOST_BYTES and sum(entry.images for entry in entries) <= most
    return code in _JOIN and small


def joined(code: int, parts: Sequence[Part]) -> bytes | None:
    """Return the data of one section that says what several of a code say one after another; None if none can."""
    try:
        return _JOIN[code](parts)
    except CorruptError:  # they are as good, or as bad, as they were
        return None


def _numbers(parts: Sequence[Part]) -> bytes:
    return pack_numbers([n for count, data in parts for n in unpack_numbers(data, count, MAX_KINDS)])


def _names(parts: Sequence[Part]) -> bytes:
    return pack_names([name for count, data in parts for name in unpack_names(data, count)])


def _labels(parts: Sequence[Part]) -> bytes | None:
    labels = [label for count, data in parts for label in unpack_labels(data, count)]
    return pack_labels(labels) if labels and len({type(label) for label in labels}) == 1 else None


def _profiles(parts: Sequence[Part]) -> bytes:
    return pack_profiles([profile for count, data in parts for profile in unpack_profiles(data, count)])


def _places(parts: Sequence[Part]) -> bytes:
    found = [unpack_places(data, count) for count, data in parts]
    return pack_places(list(itertools.chain.from_iterable(places for _, places in found)), found[0][0])


def _edits(parts: Sequence[Part]) -> bytes:
    return pack_edits([edit for _, data in parts for edit in unpack_edits(data, _UNLISTED)])


def _shapes(parts: Sequence[Part]) -> bytes:
    return pack_shapes(list(dict.fromkeys(shape for _, data in parts for shape in unpack_shapes(data))))


_JOIN: dict[int, Callable[[Sequence[Part]], bytes | None]] = {
    ORDER: _numbers,
    NAMES: _names,
    LABELS: _labels,
    METADATA: lambda parts: parts[-1][1],
    SHAPES: _shapes,
    PLACES: _places,
    EDITS: _edits,
    PROFILES: _profiles,
}
