# SPDX-License-Identifier: MIT
"""What is said of images, as sections of an archive: cut so that each says no more than a section may."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from smalti.container.annotation_codec import pack_labels, pack_names, pack_text
from smalti.container.format import LABELS, MAX_SECTION_BYTES, MAX_SECTION_IMAGES, METADATA, NAMES
from smalti.container.records import ArchiveWriter
from smalti.errors import SourceError, UsageError
from smalti.types import Label

MOST_WEIGHT = 1 << 20
"""Bytes of names and texts, and numbers in lists, that one section says at most; a part of what it may."""
MAX_TEXT_BYTES = 1 << 16
"""Of a label that is a text."""
MAX_NUMBER, MAX_NUMBERS = 1 << 61, 1 << 10
"""Size of a number in a label, and how many a list may have."""


def weight(name: str | None, label: Label | None) -> int:
    """What a section must say of an image."""
    told = 0 if name is None else len(name.encode())
    return told + (len(label.encode()) if isinstance(label, str) else len(label) if isinstance(label, tuple) else 0)


def check_label(label: object, kind: type) -> None:
    """Refuse a label that no section holds, or that is of another kind than the others.

    Raises:
        SourceError: it is such a one.
    """
    numbers = label if isinstance(label, tuple) else (label,) if isinstance(label, int) else ()
    if kind not in (int, str, tuple):
        raise SourceError(f"{label!r:.40} is no label; give whole numbers, texts or lists of whole numbers")
    if type(label) is not kind:
        raise SourceError(f"the labels are of several kinds, {label!r:.40} is one; give labels of one kind")
    if any(type(n) is not int or not -MAX_NUMBER < n < MAX_NUMBER for n in numbers) or len(numbers) > MAX_NUMBERS:
        raise SourceError(
            f"the label {label!r:.40} has too many numbers, too large ones or others; give fewer, below 2^61"
        )
    if isinstance(label, str):
        try:
            size = len(label.encode())
        except UnicodeEncodeError as exc:
            raise SourceError(f"the label {label!r:.40} is not Unicode; give another") from exc
        if size > MAX_TEXT_BYTES:
            raise SourceError(f"the label {label!r:.40} has {size} bytes; {MAX_TEXT_BYTES} are allowed")


def write_sections(
    writer: ArchiveWriter, kinds: Sequence[int], names: Sequence[str] | None, labels: Sequence[Label] | None
) -> None:
    """Say of which kind the next images are, and how they are called and labelled."""
    start, told = 0, 0
    for i in range(len(kinds) + 1):
        mine = 0
        if i < len(kinds):
            mine = weight(None if names is None else names[i], None if labels is None else labels[i])
        if i == len(kinds) or i - start == MAX_SECTION_IMAGES or (i > start and told + mine > MOST_WEIGHT):
            rows = slice(start, i)
            writer.order(kinds[rows])
            if names is not None and i > start:
                writer.section(NAMES, i - start, pack_names(names[rows]))
            if labels is not None and i > start:
                writer.section(LABELS, i - start, pack_labels(labels[rows]))
            start, told = i, 0
        told += mine


def metadata_bytes(metadata: Mapping[str, Any] | None) -> bytes | None:
    """Metadata as the data of a section.

    Raises:
        UsageError: they are nothing that JSON, or a section, can hold.
    """
    if metadata is None:
        return None
    try:
        if not isinstance(metadata, Mapping):
            raise TypeError("it must be an object, with names for what it holds")
        text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False)
        if len(text.encode()) > MAX_SECTION_BYTES:
            raise ValueError(f"it is longer than {MAX_SECTION_BYTES} bytes")
    except (TypeError, ValueError, RecursionError) as exc:
        raise UsageError(f"the metadata cannot be kept as JSON: {exc}") from exc
    return pack_text(text)


def write_metadata(writer: ArchiveWriter, metadata: Mapping[str, Any] | None) -> None:
    """Say something of all of the file, if there is something to say."""
    data = metadata_bytes(metadata)
    if data is not None:
        writer.section(METADATA, 0, data)
