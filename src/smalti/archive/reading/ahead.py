# SPDX-License-Identifier: MIT
"""Decode all images where they are not in the order of their blocks: blocks ahead of their images, by all cores."""

from collections.abc import Iterator, Sequence

import numpy as np

from smalti.archive.reader import Contents, Images
from smalti.entropy.frequencies import Ints, by_value
from smalti.types import Pixels

CHUNK_IMAGES = 256
"""The most images that are handed out at a time where blocks do not tell how many."""
CHUNK_BYTES = 1 << 24
"""Fewer images are handed out at a time as soon as they have so many bytes."""
MOST_OPEN = 16
"""Blocks are decoded ahead if at most so many of them are open at a time: begun to be shown, but not shown wholly."""

Shown = tuple[int, int, int]
"""The numbers of the first and the last image of a block, and the number of the block."""


def in_turn(blocks: Ints) -> list[Shown] | None:
    """Return the blocks in the order in which they are first shown; None if too many would be open at a time.

    blocks: the block of each image.

    >>> in_turn(np.array([7, 7, 2, 7, 2]))
    [(0, 3, 7), (2, 4, 2)]
    """
    shown = sorted((int(where[0]), int(where[-1]), block) for block, where in by_value(blocks))
    ends = np.sort([last for _, last, _ in shown])
    most_open = np.arange(1, len(shown) + 1) - np.searchsorted(ends, [first for first, _, _ in shown])
    return shown if most_open.max(initial=0) <= MOST_OPEN else None


def decoded_ahead(contents: Contents, shown: Sequence[Shown], blocks: Ints, offsets: Ints) -> Iterator[list[Pixels]]:
    """Yield views of all images, some at a time. A block is held until its last image is shown.

    shown: as `in_turn` returns it; blocks, offsets: the block of each image, and its place there.
    """
    decoded = contents.decode(block for _, _, block in shown)
    held, last = dict[int, Images](), {block: end for _, end, block in shown}
    some, size = list[Pixels](), 0
    for row, (block, offset) in enumerate(zip(blocks.tolist(), offsets.tolist(), strict=True)):
        if block not in held:
            _, held[block] = next(decoded)
        some.append(held[block][offset])
        size += some[-1].nbytes
        if last[block] == row:
            del held[block]
        if len(some) == CHUNK_IMAGES or size >= CHUNK_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some
