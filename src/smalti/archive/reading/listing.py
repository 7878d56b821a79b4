# SPDX-License-Identifier: MIT
"""Find which stored image each shown one is, in a file whose images were removed, replaced or are there twice."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np

from smalti.container.format import EDITS, PLACES
from smalti.container.growing.listing_codec import Edit, unpack_edits, unpack_places
from smalti.container.reader import Reader
from smalti.entropy.frequencies import Ints
from smalti.errors import CorruptError, within
from smalti.util.parallel import once


class Listing:
    """The shown images of a file: the listed ones, without those that were removed, and with others in their places.

    Names, labels and profiles are those of listed images; a listed image is one of the stored ones.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader, self._index = reader, reader.index
        self.in_order = not reader.has(PLACES) and not reader.has(EDITS)
        """Whether the shown images are the stored ones, one by one."""
        self._read: dict[int, Ints] = {}  # the places of a section, by its number

    @once
    def _shown(self) -> tuple[Ints, Ints] | None:
        """The listed images that own the places of shown ones, and those that are shown there; None: all, in order."""
        if not self._reader.has(EDITS):
            return None
        listed, where = self._index.listed, self._reader.storage.where
        with within(where):
            edits = [edit for _, data in self._reader.sections(EDITS) for edit in unpack_edits(data, listed)]
            owners, shown = shown_images(listed, edits)
            if len(shown) != self._reader.count:
                raise CorruptError(f"{len(shown)} images are shown, not {self._reader.count}; the file is damaged")
        return owners, shown

    def owners(self, rows: Ints) -> Ints:
        """Return the listed images whose places these shown images take: their own, unless they replaced others."""
        return rows if self._shown is None else self._shown[0][rows]

    def listed(self, rows: Ints) -> Ints:
        """Return which listed images these shown ones are."""
        return rows if self._shown is None else self._shown[1][rows]

    def of_shown(self, column: Sequence[Any]) -> tuple[Any, ...]:
        """Return the entries of a column of listed images that belong to shown ones."""
        return tuple(column) if self._shown is None else tuple(column[i] for i in self._shown[1].tolist())

    def stored(self, rows: Ints) -> Ints:
        """Return which stored images these shown ones are.

        Raises:
            CorruptError: the places or edits are damaged.
        """
        listed = self.listed(rows)
        if not self._reader.has(PLACES):
            return listed
        firsts = np.array(self._reader.firsts(PLACES))
        sections = np.searchsorted(firsts, listed, "right") - 1
        found = np.empty(len(listed), np.int64)
        for number in np.unique(sections).tolist():
            mine = sections == number
            found[mine] = self._places(number)[listed[mine] - firsts[number]]
        return found

    def stored_one(self, i: int) -> int:
        """Return which stored image a shown one is; the errors are those of `stored`."""
        i = i if self._shown is None else int(self._shown[1][i])
        if not self._reader.has(PLACES):
            return i
        firsts = self._reader.firsts(PLACES)
        number = bisect_right(firsts, i) - 1
        return int(self._places(number)[i - firsts[number]])

    def _places(self, number: int) -> Ints:
        """Return the stored images of the listed ones that a section of places speaks of."""
        if number not in self._read:
            with within(self._reader.storage.where):
                count, data = self._reader.section(PLACES, number)
                places = np.array(unpack_places(data, count)[1], np.int64)
                if places.max(initial=-1) >= self._index.stored:
                    raise CorruptError("an image lies where none is stored; the file is damaged")
            self._read[number] = places
        return self._read[number]

    def check(self) -> None:
        """Read all places and edits.

        Raises:
            CorruptError: they are damaged.
        """
        if not self.in_order:
            for number in range(len(self._reader.firsts(PLACES))):
                self._places(number)
            self.listed(np.arange(0))


def shown_images(listed: int, edits: Sequence[Edit]) -> tuple[Ints, Ints]:
    """Return the listed images whose places are shown, and the listed images that are shown there.

    Args:
        listed: the number of listed images.
        edits: edits of these, of which the last one of an image counts.

    Raises:
        CorruptError: an image is edited that is shown in the place of another one.

    >>> shown_images(5, [(1, None), (0, 4)])
    (array([0, 2, 3]), array([4, 2, 3]))
    """
    shown = np.arange(listed)
    taken = np.array([other for _, other in edits if other is not None], np.int64)
    edited = np.array([image for image, _ in edits], np.int64)
    if np.isin(taken, edited).any():
        raise CorruptError("an image that is shown in another place is edited itself; the file is damaged")
    for image, other in edits:
        shown[image] = -1 if other is None else other
    kept = shown >= 0
    kept[taken] = False
    owners = np.flatnonzero(kept)
    return owners, shown[owners]
