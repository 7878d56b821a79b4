# SPDX-License-Identifier: MIT
"""Crops of images to train a transform on: photographs reduced to many sizes, and sets of small images.

Images lie on the device that trains, and crops are made there. A reduced crop is what Lanczos resampling of the whole
image would give: a matrix of weights for rows and for columns (Duchon 1979, "Lanczos Filtering in One and Two
Dimensions", with three lobes).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smalti.types import Pixels

GRAY = 0.06
"""The share of crops whose colours are taken away, so that gray images are coded well, too."""
PALE, LEAST_CONTRAST = 0.15, 0.6
"""The share of crops whose contrast is lowered, and the lowest."""
FLIPPED, TURNED = 0.5, 0.25
"""The shares of crops that are mirrored, and whose rows and columns change places."""
LOBES = 3
"""Half of the width of Lanczos' filter, in pixels of what it gives."""
TOGETHER = 8
"""The crops of photographs of a batch are of so many sizes, or fewer."""


class Shelf:
    """Images of one kind (`h w 3` each), how often a crop comes from them, and how they are reduced before."""

    def __init__(
        self, images: Sequence[Pixels], share: float, sides: tuple[int, int] | None = None, device: str = "cpu"
    ) -> None:
        """Copy the images to a device.

        Args:
            images: the images.
            share: of all crops.
            sides: the least and the most pixels of the long side to which images are reduced; None: they are not.
            device: of torch.
        """
        ordered = sorted(images, key=lambda image: min(image.shape[:2]))
        self.share, self.sides = share, sides
        self.shapes = torch.tensor([image.shape[:2] for image in ordered], device=device)
        self.starts = torch.tensor(np.cumsum([0, *(image.size // 3 for image in ordered)])[:-1], device=device)
        self.samples = torch.from_numpy(np.concatenate([image.reshape(-1, 3) for image in ordered])).to(device)
        self.least = np.array([min(image.shape[:2]) for image in ordered])
        self.longest = max(max(image.shape[:2]) for image in ordered)

    def crops(self, side: int, count: int, rng: torch.Generator) -> Tensor:
        """Return crops (`count 3 side side`) of samples."""
        if self.sides is None:
            return self._crops(side, count, 1.0, rng)
        found, parts = list[Tensor](), min(TOGETHER, count)
        for i in range(parts):
            at = float(torch.rand((), generator=rng, device=rng.device))
            longest = math.exp(math.log(self.sides[0]) * at + math.log(self.sides[1]) * (1 - at))
            scale = max(1.0, min(self.longest / longest, float(self.least[-1]) / side))
            found.append(self._crops(side, count // parts + (i < count % parts), scale, rng))
        return torch.cat(found)

    def _crops(self, side: int, count: int, scale: float, rng: torch.Generator) -> Tensor:
        """Return crops of images that are `scale` times smaller than they are here."""
        device = rng.device
        region, margin = math.ceil(side * scale - 1e-9), 0 if scale == 1 else math.ceil(LOBES * scale)
        first = int(np.searchsorted(self.least, region))
        chosen = torch.randint(first, len(self.least), (count,), generator=rng, device=device)
        shapes = self.shapes[chosen]
        corners = (torch.rand((count, 2), generator=rng, device=device) * (shapes - region + 1)).long()
        reach = torch.arange(-margin, region + margin, device=device)
        rows, columns = (
            torch.minimum((corners[:, i, None] + reach).clamp(min=0), shapes[:, i, None] - 1) for i in range(2)
        )
        places = self.starts[chosen, None, None] + rows[:, :, None] * shapes[:, 1, None, None] + columns[:, None]
        x = self.samples[places].permute(0, 3, 1, 2).float()
        if scale == 1:
            return x
        weights = lanczos(side, scale, margin, len(reach)).to(device)
        return (weights @ x @ weights.T).round().clamp(0, 255)


@dataclass(frozen=True, eq=False)
class Crop:
    """What a batch is made of: `count` crops of `side` pixels from the images of shelves."""

    shelves: Sequence[Shelf]
    side: int
    count: int


class Crops:
    """Batches of crops, of several kinds in turn."""

    def __init__(self, kinds: Sequence[Crop], seed: int, device: str = "cpu", *, varied: bool = True) -> None:
        """Begin.

        Args:
            kinds: of crops.
            seed: of what is chosen.
            device: the one on which the images of all shelves are.
            varied: whether some crops are mirrored, turned, made pale and made gray.
        """
        self.kinds, self.device, self._varied, self._step = kinds, device, varied, 0
        self.rng = torch.Generator(device)
        self.rng.manual_seed(seed)

    def batch(self) -> Tensor:
        """Return the next batch (`n 3 side side`), of samples less 128."""
        kind, self._step = self.kinds[self._step % len(self.kinds)], self._step + 1
        shares = np.array([shelf.share for shelf in kind.shelves])
        ends = np.rint(np.cumsum(shares / shares.sum()) * kind.count).astype(int)
        parts = [
            shelf.crops(kind.side, count, self.rng)
            for shelf, count in zip(kind.shelves, np.diff(ends, prepend=0).tolist(), strict=True)
            if count
        ]
        x = torch.cat(parts)
        if not self._varied:
            return (x.float() - 128).contiguous()
        x = torch.where(self._some(x, FLIPPED), x.flip(3), x)
        x = torch.where(self._some(x, TURNED), x.transpose(2, 3), x) - 128
        means, n = x.mean((2, 3), keepdim=True), (len(x), 1, 1, 1)
        contrast = 1 - (1 - LEAST_CONTRAST) * torch.rand(n, generator=self.rng, device=self.device)
        x = torch.where(self._some(x, PALE), (means + contrast * (x - means)).round(), x)
        return torch.where(self._some(x, GRAY), x.mean(1, keepdim=True).round(), x).contiguous()

    def _some(self, x: Tensor, share: float) -> Tensor:
        """Return a mask (`n 1 1 1`) of some of the crops."""
        return torch.rand((len(x), 1, 1, 1), generator=self.rng, device=self.device) < share


def lanczos(side: int, scale: float, margin: int, inputs: int) -> Tensor:
    """Return the weights (`side inputs`) by which samples are reduced `scale` times; `margin` of them are outside."""
    centres = (torch.arange(side, dtype=torch.float64)[:, None] + 0.5) * scale + margin - 0.5
    off = (torch.arange(inputs, dtype=torch.float64) - centres) / scale
    weights = torch.where(off.abs() < LOBES, torch.sinc(off) * torch.sinc(off / LOBES), 0.0)
    return (weights / weights.sum(1, keepdim=True)).float()


def over(images: Sequence[Pixels], grounds: Sequence[int], rng: np.random.Generator) -> list[Pixels]:
    """Return images with alpha (`h w 4`) as they look over a gray ground of one of these values."""
    found = list[Pixels]()
    for image in images:
        alpha = image[..., 3:].astype(np.float32) / 255
        seen = image[..., :3] * alpha + rng.choice(grounds) * (1 - alpha)
        found.append(np.clip(np.rint(seen), 0, 255).astype(np.uint8))
    return found
