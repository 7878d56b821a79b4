# SPDX-License-Identifier: MIT
"""Crops of images to train a transform on: photographs of several sizes, and sets of small images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smalti.training.mixers.sets import reduced
from smalti.types import Pixels

SIDES = (256, 208, 176, 144, 120, 104, 96, 80)
"""The long sides, in pixels, to which photographs are reduced for crops of 64 pixels and more; some keep their size."""
SMALL_SIDES = (160, 96, 72, 64, 56, 48)
"""The same for crops of 32 pixels."""
GRAY = 0.06
"""The share of crops whose colours are taken away, so that gray images are coded well, too."""
FLIPPED, TURNED = 0.5, 0.25
"""The shares of crops that are mirrored, and whose rows and columns change places."""
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Shelf:
    """Images of one kind, and how often a crop comes from them, as a share of all."""

    images: Sequence[Pixels]
    share: float


@dataclass(frozen=True, eq=False)
class Crop:
    """What a batch is made of: `count` crops of `side` pixels from the images of shelves."""

    shelves: Sequence[Shelf]
    side: int
    count: int


@dataclass(eq=False)
class Crops:
    """Batches of crops, of several kinds in turn."""

    kinds: Sequence[Crop]
    rng: np.random.Generator
    _step: int = 0

    def batch(self) -> Floats:
        """Return the next batch (`n 3 side side`), of samples less 128."""
        kind, self._step = self.kinds[self._step % len(self.kinds)], self._step + 1
        shares = np.array([shelf.share for shelf in kind.shelves])
        chosen = self.rng.choice(len(shares), kind.count, p=shares / shares.sum())
        crops = np.stack([self._crop(kind.shelves[i].images, kind.side) for i in chosen.tolist()])
        x = crops.transpose(0, 3, 1, 2).astype(np.float32) - 128
        gray = self.rng.random(len(x)) < GRAY
        x[gray] = np.rint(x[gray].mean(1, keepdims=True))
        return np.ascontiguousarray(x)

    def _crop(self, images: Sequence[Pixels], side: int) -> Pixels:
        image = images[int(self.rng.integers(len(images)))]
        y, x = (int(self.rng.integers(n - side + 1)) for n in image.shape[:2])
        crop = image[y : y + side, x : x + side]
        crop = crop[:, ::-1] if self.rng.random() < FLIPPED else crop
        turned: Pixels = crop.transpose(1, 0, 2) if self.rng.random() < TURNED else crop
        return turned


def of_sizes(photos: Sequence[Pixels], sides: Sequence[int], least: int, *, whole: bool) -> list[Pixels]:
    """Return photographs (`h w 3`) reduced to long sides, those whose short side has `least` pixels.

    whole: whether they are taken in their own size, too.
    """
    found = list[Pixels]()
    for photo in photos:
        image, longest = Image.fromarray(photo), max(photo.shape[:2])
        sizes = [photo] if whole else []
        sizes += [reduced(image, side) for side in sides if side < longest]
        found += [size for size in sizes if min(size.shape[:2]) >= least]
    return found


def over(images: Sequence[Pixels], grounds: Sequence[int], rng: np.random.Generator) -> list[Pixels]:
    """Return images with alpha (`h w 4`) as they look over a gray ground of one of these values."""
    found = list[Pixels]()
    for image in images:
        alpha = image[..., 3:].astype(np.float32) / 255
        seen = image[..., :3] * alpha + rng.choice(grounds) * (1 - alpha)
        found.append(np.clip(np.rint(seen), 0, 255).astype(np.uint8))
    return found
