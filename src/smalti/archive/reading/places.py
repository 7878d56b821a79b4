# SPDX-License-Identifier: MIT
"""Find the block of each image, and its place there."""

from bisect import bisect_right

import numpy as np

from smalti.archive.reading.listing import Listing
from smalti.container.index import Blocks, Index
from smalti.entropy.frequencies import Ints
from smalti.util.parallel import once


class Places:
    """The places of the shown images of a file.

    Attributes:
        in_order: whether the shown images are those of the blocks, in their order.
    """

    def __init__(self, index: Index, order: list[int] | None, listing: Listing) -> None:
        """order: the kind of each stored image; None if these are in the order of blocks."""
        self._index, self._order, self._listing = index, order, listing
        self.in_order = order is None and listing.in_order

    @once
    def _found(self) -> tuple[Ints, Ints]:
        """The block of each image and its place there, where images are not in the order of the blocks."""
        rows = np.argsort(np.array(self._order, np.int64), kind="stable")  # images, kind after kind
        entries = Blocks.of(self._index.blocks)
        several = np.argsort(np.array(entries.kinds, np.int64), kind="stable")  # blocks likewise
        counts = np.array(entries.images, np.int64)[several]
        blocks, offsets = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        blocks[rows] = np.repeat(several, counts)
        offsets[rows] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        return blocks, offsets

    @once
    def _starts(self) -> list[int]:
        """The number of the first image of each block, where images are in the order of the blocks."""
        starts: list[int] = np.cumsum([0, *Blocks.of(self._index.blocks).images]).tolist()
        return starts

    def of(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return the block of each of those images and its place there."""
        return self.of_stored(rows if self._listing.in_order else self._listing.stored(rows))

    def of_stored(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return the block of each of those stored images and its place there."""
        if self._order is not None:
            blocks, offsets = self._found
            return blocks[rows], offsets[rows]
        starts = np.array(self._starts)
        found = np.searchsorted(starts, rows, "right") - 1
        return found, rows - starts[found]

    def of_one(self, i: int) -> tuple[int, int]:
        """Return the block of an image and its place there."""
        if not self._listing.in_order:
            i = self._listing.stored_one(i)
        if self._order is not None:
            blocks, offsets = self._found
            return int(blocks[i]), int(offsets[i])
        block = bisect_right(self._starts, i) - 1
        return block, i - self._starts[block]
