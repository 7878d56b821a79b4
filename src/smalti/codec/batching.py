# SPDX-License-Identifier: MIT
"""How many images make a block, which model codes them, and which blocks are coded at the same time."""

from collections.abc import Sequence
from dataclasses import dataclass

from smalti.model.model import Model
from smalti.types import Pixels, Shape, shape_of

BLOCK_IMAGES, BLOCK_SAMPLES = 256, 1 << 20
"""The most images and the most samples of a block. In a larger block, one image is read more slowly; in a smaller one,
the bytes that each block takes besides its images weigh more."""
BLOCK, EACH = "block", "each"
PACKINGS = (BLOCK, EACH)
"""Which images share an entropy-coded stream: those of a block, or none, so that each is read without the others."""
RAW, ENTRIES = 255, 32
"""The first byte of a payload that has no head: its images follow as they are. And the flag in the first byte of others
that says that each image can be read without the others (`payload/entries.py`)."""
TOGETHER, MOST_LOAD = 4, 1 << 20
"""The most whole blocks that are coded by pixels at the same time, and the most samples of them, as `load` counts."""


def packing_of(payload: bytes) -> str:
    """Return which images of a payload share a stream, one of PACKINGS, from its first byte."""
    flags = payload[0] if payload else RAW
    return EACH if flags != RAW and flags & ENTRIES else BLOCK


@dataclass(frozen=True, eq=False)
class Batch:
    """Images that become a block, or a part of a mixed one, and the model that codes them."""

    x: Pixels  # n h w or n h w c
    model: Model

    @property
    def shape(self) -> Shape:
        """The shape (h w c) of each image."""
        return shape_of(self.x)

    def __len__(self) -> int:
        return len(self.x)


def block_images(shape: Shape, most: int = BLOCK_IMAGES) -> int:
    """Return how many images of `shape` (h w c) make a block: at most `most`."""
    h, w, c = shape
    return max(1, min(most, BLOCK_SAMPLES // (h * w * c)))


def alike(shape: Shape) -> Shape:
    """Return a key of a shape (h w c): images of shapes with equal keys are coded together.

    Of two such shapes, neither side of one is twice as long as that of the other.


    >>> alike((28, 28, 1)), alike((17, 32, 1)), alike((33, 1, 3))
    ((32, 32, 1), (32, 32, 1), (64, 1, 3))
    """
    h, w, c = shape
    return 1 << (h - 1).bit_length(), 1 << (w - 1).bit_length(), c


def load(blocks: Sequence[tuple[Shape, int]]) -> int:
    """Return the samples, with room for the largest image, of blocks that are coded by pixels at the same time.

    blocks: for each block, the shape (h w c) of its images and their number.
    """
    h, w, c = (max(shape[side] for shape, _ in blocks) for side in range(3))
    return sum(n for _, n in blocks) * max(h * w * c, MOST_LOAD // (TOGETHER * BLOCK_IMAGES))
