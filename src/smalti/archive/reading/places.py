# SPDX-License-Identifier: MIT
"""Find the block of each image, and its place there."""

from bisect import bisect_right

import numpy as np

from smalti.container.format import Index
from smalti.entropy.frequencies import Ints
from smalti.util.parallel import once


class Places:
    """The places of the images of a file. order: the kind of each image; None if images are in the order of blocks."""

    def __init__(self, index: Index, order: list[int] | None) -> None:
        self._index, self._order = index, order
        self.in_order = order is None

    @once
    def _found(self) -> tuple[Ints, Ints]:
        """The block of each image and its place there, where images are not in the order of the blocks."""
        rows = np.argsort(np.array(self._order, np.int64), kind="stable")  # images, kind after kind
        entries = self._index.blocks
        several = np.argsort([block.kind for block in entries], kind="stable")  # blocks likewise
        counts = np.array([block.images for block in entries], np.int64)[several]
        blocks, offsets = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        blocks[rows] = np.repeat(several, counts)
        offsets[rows] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        return blocks, offsets

    @once
    def _starts(self) -> list[int]:
        """The number of the first image of each block, where images are in the order of the blocks."""
        starts: list[int] = np.cumsum([0, *(block.images for block in self._index.blocks)]).tolist()
        return starts

    def of(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return the block of each of those images and its place there."""
        if not self.in_order:
            blocks, offsets = self._found
            return blocks[rows], offsets[rows]
        starts = np.array(self._starts)
        found = np.searchsorted(starts, rows, "right") - 1
        return found, rows - starts[found]

    def of_one(self, i: int) -> tuple[int, int]:
        """Return the block of an image and its place there."""
        if not self.in_order:
            blocks, offsets = self._found
            return int(blocks[i]), int(offsets[i])
        block = bisect_right(self._starts, i) - 1
        return block, i - self._starts[block]
