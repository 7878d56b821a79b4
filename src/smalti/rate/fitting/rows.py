# SPDX-License-Identifier: MIT
"""Rows of samples for training: what a network sees of a sample, its value, its prediction and its energy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from smalti.codec.mixing_codec import is_drawn
from smalti.core.mixing import CoreMixing
from smalti.model.mixing.engine import mixing_rows, packed_mixer
from smalti.model.mixing.mixer import CHANNELS, DRAWN_INPUTS, INPUTS, Mixer
from smalti.types import Pixels

Rows = NDArray[np.int16]
TOLD = 3
"""The numbers of a row behind its inputs: value, prediction and energy (in eighths)."""
DRAWN_TIMES = 4
"""Few pixels of drawn images come to a network: of these, so many times the share is kept."""
STATE_BITS = 18
"""The logarithm of the lines of the state in which drawn images are coded to see what their networks see."""


@dataclass(eq=False)
class RowStore:
    """Rows of each network, those for drawn images behind the others; a share of all, picked at random with a seed.

    Where a mixer has no networks for drawn images, those of drawn images are of pixels unlike their neighbours.
    """

    mixer: Mixer
    seed: int = 0
    found: list[list[Rows]] = field(default_factory=lambda: [[] for _ in INPUTS + DRAWN_INPUTS])

    def add(self, images: Iterable[Pixels], share: float, *, flip: bool = False, gray: bool = False) -> None:
        """Add a share of the pixels of images (`h w` or `h w c`).

        Args:
            images: the images.
            share: the share of their pixels.
            flip: whether they are taken as in a mirror.
            gray: whether they are made gray.
        """
        rng, packed = np.random.default_rng((self.seed, len(self.found[0]))), packed_mixer(self.mixer)
        assert packed is not None
        coding = CoreMixing(packed, STATE_BITS, None)
        for image in images:
            some = image[:, ::-1] if flip else image
            some = to_gray(some) if gray else some
            pixels = np.ascontiguousarray(some.reshape(*some.shape[:2], -1))
            drawn = is_drawn(image, self.mixer)
            if drawn and self.mixer.drawn:
                for of_network, mine in zip(self.found[CHANNELS:], coding.rows(pixels), strict=True):
                    of_network.append(mine[rng.random(len(mine)) < DRAWN_TIMES * share])
                continue
            rows = mixing_rows(self.mixer, pixels)
            kept = rng.random(len(rows[0])) < share
            if drawn:
                kept &= hard(some).ravel()
            for of_channel, mine in zip(self.found, rows, strict=False):
                of_channel.append(mine[kept])

    def rows(self, network: int) -> Rows:
        """Return all rows of a network (`n inputs+3`)."""
        width = (INPUTS + DRAWN_INPUTS)[network] + TOLD
        return np.concatenate([np.empty((0, width), np.int16), *self.found[network]])

    def all_rows(self) -> list[Rows]:
        """Return the rows of each network that the mixer has."""
        return [self.rows(i) for i in range(len(self.mixer.networks + self.mixer.drawn))]


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
