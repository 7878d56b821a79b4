# SPDX-License-Identifier: MIT
"""Write kinds, names, labels and metadata as sections, each within the limits of a section."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from smalti.container.annotation_codec import pack_labels, pack_names, pack_profiles, pack_text
from smalti.container.format import LABELS, MAX_SECTION_BYTES, MAX_SECTION_IMAGES, METADATA, NAMES, PLACES, PROFILES
from smalti.container.growing.listing_codec import PLACES_IMAGES, introduced, pack_places
from smalti.container.records import ArchiveWriter
from smalti.errors import SourceError, UsageError
from smalti.types import Label

MOST_WEIGHT = 1 << 20
"""The most bytes of names and texts, plus numbers in lists, that are written to one section; a reader allows more."""
MAX_TEXT_BYTES = 1 << 16
"""The most bytes of a label that is a text, in UTF-8."""
MAX_NUMBER, MAX_NUMBERS = 1 << 61, 1 << 10
"""A bound that each number of a label stays below, in absolute value, and the most numbers of a list."""


def weight(name: str | None, label: Label | None) -> int:
    """Return what an image counts for MOST_WEIGHT: bytes of its name and of a text label, or numbers of a list."""
    of_name = 0 if name is None else len(name.encode())
    return of_name + (len(label.encode()) if isinstance(label, str) else len(label) if isinstance(label, tuple) else 0)


def check_label(label: object, kind: type) -> None:
    """Check that a section can hold the label, and that it is of the kind (int, str or tuple) of the other labels.

    Raises:
        SourceError: the label is of another kind, too long or too large.
    """
    numbers = label if isinstance(label, tuple) else (label,) if isinstance(label, int) else ()
    if kind not in (int, str, tuple):
        raise SourceError(f"{label!r:.40} is no label; give whole numbers, texts or lists of whole numbers")
    if type(label) is not kind:
        raise SourceError(f"the labels are of several kinds: {label!r:.40} differs; give labels of one kind")
    if any(type(n) is not int or not -MAX_NUMBER < n < MAX_NUMBER for n in numbers) or len(numbers) > MAX_NUMBERS:
        raise SourceError(
            f"the label {label!r:.40} has more than {MAX_NUMBERS} numbers, or one that is no whole number below 2^61;"
            " give others"
        )
    if isinstance(label, str):
        try:
            size = len(label.encode())
        except UnicodeEncodeError as exc:
            raise SourceError(f"the label {label!r:.40} is not Unicode; give another") from exc
        if size > MAX_TEXT_BYTES:
            raise SourceError(f"the label {label!r:.40} has {size} bytes; {MAX_TEXT_BYTES} are allowed")


def write_sections(
    writer: ArchiveWriter,
    kinds: Sequence[int],
    names: Sequence[str] | None,
    labels: Sequence[Label] | None,
    profiles: Sequence[bytes | None] | None = None,
    places: Sequence[int] | None = None,
) -> None:
    """Write the annotations of the next listed images, and the kinds of the next stored ones, in sections.

    A section ends before it would have more than MAX_SECTION_IMAGES images or more than MOST_WEIGHT.

    Args:
        writer: the archive to write to.
        kinds: the numbers of the kinds of the next stored images.
        names, labels, profiles: one for each of the next listed images, if they have some.
        places: for each of these the number of its stored image; None: they are the stored ones, in order.
    """
    stored = range(writer.ordered, writer.ordered + len(kinds))
    listed = len(kinds) if places is None else len(places)
    if writer.covered[PLACES] or (places is not None and list(places) != list(stored)):
        write_places(writer, stored if places is None else places)
    start, total, apart = 0, 0, listed != len(kinds)
    for i in range(0, len(kinds) if apart else 0, MAX_SECTION_IMAGES):
        writer.order(kinds[i : i + MAX_SECTION_IMAGES])
    for i in range(listed + 1):
        added = 0
        if i < listed:
            added = weight(None if names is None else names[i], None if labels is None else labels[i])
            if profiles is not None and (profile := profiles[i]) and (i == start or profile != profiles[i - 1]):
                added += len(profile)
        if i == listed or i - start == MAX_SECTION_IMAGES or (i > start and total + added > MOST_WEIGHT):
            rows = slice(start, i)
            if profiles is not None:
                _write_profiles(writer, profiles[rows])
            writer.order([] if apart else kinds[rows])
            if names is not None and i > start:
                writer.section(NAMES, i - start, pack_names(names[rows]))
            if labels is not None and i > start:
                writer.section(LABELS, i - start, pack_labels(labels[rows]))
            writer.list_images(i - start)
            start, total = i, 0
        total += added


def write_places(writer: ArchiveWriter, places: Sequence[int]) -> None:
    """Write which stored images the next listed ones are; those before them that have no section are in order."""
    for start in range(writer.covered[PLACES], writer.listed, MAX_SECTION_IMAGES):
        count = min(MAX_SECTION_IMAGES, writer.listed - start)
        writer.section(PLACES, count, pack_places(range(start, start + count), start))
    new = writer.ordered
    for start in range(0, len(places), PLACES_IMAGES):
        some = places[start : start + PLACES_IMAGES]
        writer.section(PLACES, len(some), pack_places(some, new))
        new = introduced(some, new)


def _write_profiles(writer: ArchiveWriter, profiles: Sequence[bytes | None]) -> None:
    """Write the ICC profiles of the next listed images, if any has one; those before that have no section have none."""
    if not any(profiles):
        return
    for start in range(writer.covered[PROFILES], writer.listed, MAX_SECTION_IMAGES):
        count = min(MAX_SECTION_IMAGES, writer.listed - start)
        writer.section(PROFILES, count, pack_profiles([None] * count))
    writer.section(PROFILES, len(profiles), pack_profiles(profiles))


def metadata_bytes(metadata: Mapping[str, Any] | None) -> bytes | None:
    """Return metadata as the data of a section; None if there are none.

    Raises:
        UsageError: JSON or a section cannot hold the metadata.
    """
    if metadata is None:
        return None
    try:
        if not isinstance(metadata, Mapping):
            raise TypeError("it must be a mapping")
        text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False)
        if len(text.encode()) > MAX_SECTION_BYTES:
            raise ValueError(f"it is longer than {MAX_SECTION_BYTES} bytes")
    except (TypeError, ValueError, RecursionError) as exc:
        raise UsageError(f"the metadata cannot be kept as JSON: {exc}") from exc
    return pack_text(text)


def write_metadata(writer: ArchiveWriter, metadata: Mapping[str, Any] | None) -> None:
    """Write the metadata of the whole file as a section, if there are any."""
    data = metadata_bytes(metadata)
    if data is not None:
        writer.section(METADATA, 0, data)
