# SPDX-License-Identifier: MIT
"""Find the block of each image, and its place there."""

import numpy as np

from smalti.archive.reading.listing import Listing
from smalti.container.entries.blocks import Blocks
from smalti.container.format import BLOCK_ENTRY
from smalti.container.index import Index
from smalti.entropy.frequencies import Ints
from smalti.util.parallel import once

_IMAGES, _KIND = 6, 7
"""Where the entry of a block has the number of its images, and that of its kind, as numbers of 16 bits."""


class Places:
    """The places of the shown images of a file.

    Attributes:
        in_order: whether the shown images are those of the blocks, in their order.
    """

    def __init__(self, index: Index, order: Ints | None, listing: Listing) -> None:
        """order: the kind of each stored image; None if these are in the order of blocks."""
        self._index, self._order, self._listing = index, order, listing
        self.in_order = order is None and listing.in_order

    @once
    def _found(self) -> tuple[Ints, Ints]:
        """The block of each image and its place there, where images are not in the order of the blocks."""
        assert self._order is not None
        rows = np.argsort(self._order.astype(np.uint16), kind="stable")  # images, kind after kind
        entries = self._entries
        several = np.argsort(entries[:, _KIND], kind="stable")  # blocks likewise
        counts = entries[several, _IMAGES].astype(np.int64)
        blocks, offsets = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        blocks[rows] = np.repeat(several, counts)
        offsets[rows] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        return blocks, offsets

    @once
    def _starts(self) -> Ints:
        """The number of the first image of each block, where images are in the order of the blocks."""
        return np.cumsum(np.append(0, self._entries[:, _IMAGES]), dtype=np.int64)

    @property
    def _entries(self) -> Ints:
        """The entries of all blocks as numbers of 16 bits: blocks by eight."""
        return np.frombuffer(Blocks.of(self._index.blocks).raw, "<u2").reshape(-1, BLOCK_ENTRY.size // 2)

    def of(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return the block of each of those images and its place there."""
        return self.of_stored(rows if self._listing.in_order else self._listing.stored(rows))

    def of_stored(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return the block of each of those stored images and its place there."""
        if self._order is not None:
            blocks, offsets = self._found
            return blocks[rows], offsets[rows]
        starts = self._starts
        found = np.searchsorted(starts, rows, "right") - 1
        return found, rows - starts[found]

    def of_one(self, i: int) -> tuple[int, int]:
        """Return the block of an image and its place there."""
        if not self._listing.in_order:
            i = self._listing.stored_one(i)
        if self._order is not None:
            blocks, offsets = self._found
            return int(blocks[i]), int(offsets[i])
        block = int(np.searchsorted(self._starts, i, "right")) - 1
        return block, i - int(self._starts[block])
