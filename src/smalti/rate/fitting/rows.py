# SPDX-License-Identifier: MIT
"""Rows of samples for training: what a network sees of a sample, its value, its prediction and its energy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from smalti.codec.mixing_codec import is_drawn
from smalti.model.mixing.engine import mixing_rows
from smalti.model.mixing.mixer import CHANNELS, INPUTS, Mixer
from smalti.types import Pixels

Rows = NDArray[np.int16]
TOLD = 3
"""The numbers of a row behind its inputs: value, prediction and energy (in eighths)."""


@dataclass(eq=False)
class RowStore:
    """Rows of each channel, a share of all, picked at random with a seed."""

    mixer: Mixer
    seed: int = 0
    found: list[list[Rows]] = field(default_factory=lambda: [[] for _ in range(CHANNELS)])

    def add(self, images: Iterable[Pixels], share: float, *, flip: bool = False, gray: bool = False) -> None:
        """Add a share of the pixels of images (`h w` or `h w c`).

        Args:
            images: the images.
            share: the share of their pixels.
            flip: whether they are taken as in a mirror.
            gray: whether they are made gray.
        """
        rng = np.random.default_rng((self.seed, len(self.found[0])))
        for image in images:
            some = image[:, ::-1] if flip else image
            some = to_gray(some) if gray else some
            rows = mixing_rows(self.mixer, np.ascontiguousarray(some.reshape(*some.shape[:2], -1)))
            kept = rng.random(len(rows[0])) < share
            if is_drawn(image, self.mixer):
                kept &= hard(some).ravel()
            for of_channel, mine in zip(self.found, rows, strict=False):
                of_channel.append(mine[kept])

    def rows(self, channel: int) -> Rows:
        """Return all rows of a channel (`n inputs+3`)."""
        width = INPUTS[channel] + TOLD
        return np.concatenate([np.empty((0, width), np.int16), *self.found[channel]])


def hard(image: Pixels) -> NDArray[np.bool_]:
    """Return which pixels (`h w`) of a drawn image are opaque and differ from their west, north and diagonal ones."""
    pixels = image.reshape(*image.shape[:2], -1)
    wide = np.pad(pixels, ((1, 0), (1, 1), (0, 0)), mode="edge")
    h, w, c = pixels.shape
    places: Sequence[tuple[int, int]] = ((1, 0), (0, 1), (0, 0), (0, 2))
    same = [(wide[y : y + h, x : x + w] == pixels).all(2) for y, x in places]
    seen = pixels[..., -1] > 0 if c in (2, 4) else np.ones((h, w), bool)
    different: NDArray[np.bool_] = seen & ~np.logical_or.reduce(same)
    return different


def to_gray(image: Pixels) -> Pixels:
    """Return the luma (`h w`) of an image (`h w`, or `h w c` with three or four channels), by the weights of BT.601."""
    if image.ndim == 2:
        return image
    luma: Pixels = (image[..., :3].astype(np.int64) @ np.array([77, 150, 29]) >> 8).astype(np.uint8)
    return luma
