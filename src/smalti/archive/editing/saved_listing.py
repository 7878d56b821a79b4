# SPDX-License-Identifier: MIT
"""Find which images of a damaged archive were shown, as far as places and edits can be read."""

import contextlib
from dataclasses import dataclass

import numpy as np

from smalti.archive.reading.listing import shown_images
from smalti.container.format import EDITS, PLACES
from smalti.container.growing.listing_codec import Edit, unpack_edits, unpack_places
from smalti.container.index import Index
from smalti.container.recovery_scan import Found
from smalti.entropy.frequencies import Ints
from smalti.errors import CorruptError


@dataclass(frozen=True)
class SavedListing:
    """The images of an archive that can be shown after a repair, in order."""

    listed: Ints  # n: the numbers that names and labels know them by
    places: Ints  # n: which of the saved stored images each is
    total: int  # how many were shown, as far as that is known
    notes: tuple[str, ...]  # what is lost


def saved_listing(found: Found, index: Index | None, saved: Ints) -> SavedListing | None:
    """Return which images can be shown; None if the file has neither places nor edits, so that all stored ones are.

    saved: the numbers of the stored images that are saved, rising.
    """
    codes = {code for code, *_ in found.sections} | ({entry.code for entry in index.sections} if index else set())
    if codes.isdisjoint((PLACES, EDITS)):
        return None
    told = [first + count for code, first, count, _ in found.sections if code == PLACES]
    listed = index.listed if index else max(told, default=int(saved.max(initial=-1)) + 1)
    places = _places(found) if PLACES in codes else {i: i for i in range(listed)}
    notes = list[str]()
    if len(places) < listed:
        notes.append("which images are where is lost in part; saved images that nothing names come last")
    edits = _edits(found, listed)
    if not edits and EDITS in codes:
        notes.append("which images were removed or replaced is lost; they are back")
    try:
        shown = shown_images(listed, edits)[1]
    except CorruptError:
        shown = np.arange(listed)
    kept = {number: rank for rank, number in enumerate(saved.tolist())}
    here = [(i, kept[places[i]]) for i in shown.tolist() if places.get(i) in kept]
    if len(places) < listed:
        nameless = kept.keys() - places.values()
        here += [(listed + i, kept[number]) for i, number in enumerate(sorted(nameless))]
    columns = np.array(here, np.int64).reshape(-1, 2)
    return SavedListing(columns[:, 0], columns[:, 1], len(shown), tuple(notes))


def _places(found: Found) -> dict[int, int]:
    """Return the stored image of each listed one, as far as sections tell it."""
    places = dict[int, int]()
    for code, first, count, data in found.sections:
        with contextlib.suppress(CorruptError):
            if code == PLACES:
                places |= {first + i: place for i, place in enumerate(unpack_places(data, count)[1])}
    return places


def _edits(found: Found, listed: int) -> list[Edit]:
    """Return the edits that sections tell, in the order of the file."""
    edits = list[Edit]()
    for code, _, _, data in found.sections:
        with contextlib.suppress(CorruptError):
            if code == EDITS:
                edits += unpack_edits(data, listed)
    return edits
