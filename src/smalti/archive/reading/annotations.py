# SPDX-License-Identifier: MIT
"""Read what a smalti file says of its images: shapes, names, labels, ICC profiles, metadata."""

import itertools
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from smalti.archive.reading.listing import Listing
from smalti.container.annotation_codec import (
    parse_metadata,
    unpack_labels,
    unpack_names,
    unpack_profiles,
    unpack_shapes,
)
from smalti.container.format import EDITS, LABELS, METADATA, NAMES, PROFILES, SHAPES
from smalti.container.index import Index
from smalti.container.reader import Reader
from smalti.errors import CorruptError, within
from smalti.types import Label, Shape
from smalti.util.binary import hash64, varint
from smalti.util.kept import Kept
from smalti.util.storage import Storage

KEPT_BYTES = 1 << 18
"""The most bytes of sections of names of which the process keeps the names, some fifty times as many bytes."""
_KEPT = Kept[frozenset[str]](KEPT_BYTES)


@dataclass
class TakenNames:
    """Names that are taken: those of sections, which several may share, and those that were added."""

    sections: Sequence[AbstractSet[str]] = ()
    added: set[str] = field(default_factory=set)

    def __contains__(self, name: object) -> bool:
        return name in self.added or any(name in section for section in self.sections)

    def add(self, name: str) -> None:
        """Take a name."""
        self.added.add(name)


class Annotations:
    """The annotations of an open smalti file."""

    storage: Storage
    reader: Reader
    index: Index
    listing: Listing

    def shapes(self) -> frozenset[Shape]:
        """Return the shapes (h w c) that images of the file have.

        Raises:
            CorruptError: they cannot be read.
        """
        with within(self.storage.where):
            listed = [shape for _, data in self.reader.sections(SHAPES) for shape in unpack_shapes(data)]
        return frozenset([*listed, *(kind.shape for kind in self.index.kinds if not kind.mixed)])

    def profiles(self) -> tuple[bytes | None, ...] | None:
        """Return the ICC profile of each image; None if no image has one.

        Raises:
            CorruptError: they cannot be read.
        """
        found = self._listed(PROFILES, unpack_profiles)
        if found is None:
            return None
        found = self.listing.of_shown((*found, *[None] * (self.index.listed - len(found))))
        return found if any(found) else None

    def names(self) -> tuple[str, ...] | None:
        """Return the name of each image; None if images have no names.

        Raises:
            CorruptError: they cannot be read.
        """
        names = self._column(NAMES, unpack_names)
        if names is not None and len(set(names)) < len(names):
            raise CorruptError(f"{self.storage.where}: two images have one name; the file is damaged")
        return names

    def taken_names(self) -> TakenNames:
        """Return the names of all images, as one asks for them who adds others.

        A process that adds images one at a time to a file that no image was removed from reads few names each time.

        Raises:
            CorruptError: they cannot be read.
        """
        if self.reader.has(EDITS):
            return TakenNames([frozenset(self.names() or ())])
        with within(self.storage.where):
            return TakenNames([_set_of_names(data, count) for count, data in self.reader.sections(NAMES)])

    def labels(self) -> tuple[Label, ...] | None:
        """Return the label of each image; None if images have no labels.

        Raises:
            CorruptError: they cannot be read.
        """
        labels = self._column(LABELS, unpack_labels)
        if labels is not None and len({type(label) for label in labels}) > 1:
            raise CorruptError(f"{self.storage.where}: labels are of several kinds; the file is damaged")
        return labels

    def _column(self, code: int, unpack: Callable[[bytes, int], tuple[Any, ...]]) -> tuple[Any, ...] | None:
        """Return the entry of each shown image, from the sections of that code; None if there are none."""
        found = self._listed(code, unpack)
        return found if found is None or self.listing.in_order else self.listing.of_shown(found)

    def _listed(self, code: int, unpack: Callable[[bytes, int], tuple[Any, ...]]) -> tuple[Any, ...] | None:
        if not self.reader.has(code):
            return None
        with within(self.storage.where):
            parts = [unpack(data, count) for count, data in self.reader.sections(code)]
        return tuple(itertools.chain.from_iterable(parts))

    def metadata(self) -> dict[str, Any]:
        """Return the metadata of the file.

        Raises:
            CorruptError: they cannot be read.
        """
        parts = self.reader.sections(METADATA)
        if not parts:
            return {}
        with within(self.storage.where):
            return parse_metadata(parts[-1][1])


def _set_of_names(data: bytes, count: int) -> frozenset[str]:
    """Return the names that a section holds, at once if the process has read the same section lately."""
    check = hash64(data, varint(count))
    found = _KEPT.get(data, check)
    if found is None:
        found = frozenset(unpack_names(data, count))
        _KEPT.put(data, check, found)
    return found
