# SPDX-License-Identifier: MIT
"""Meet a least PSNR of every image, each at its lowest operating point or without a model."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from smalti.codec.block import Block, WithoutModel
from smalti.codec.block_codec import block_without_model, encode_images, encode_without_model, way_without_model
from smalti.codec.rdo import EFFORTS, FAST_EFFORT, Effort
from smalti.entropy.frequencies import Ints
from smalti.model.model import Model
from smalti.rate.max_error import replace_without_model, unlike
from smalti.rate.metrics import squared_errors
from smalti.types import Pixels, shape_of
from smalti.util.parallel import in_order

RDO_GAIN = 14
"""The most operating points by which rate-distortion optimisation can lower an image at the same PSNR."""
FEW_LEVELS = 2
"""So many levels lower are tried with an encoder that aims, which may keep the same PSNR there."""
NONE = -1
"""The value in the place of an operating point or a block that was not found yet."""


def block_of_least_psnr(x: Pixels, model: Model, psnr: float, effort: Effort) -> Block:
    """Encode images so that each has `psnr` dB or more, at the lowest operating point that a bisection finds.

    An image is coded by the fallback if no operating point suits it, or if the fallback takes fewer bytes.
    Rate-distortion optimisation, if the effort has it, is tried near the point that is found without it; so is aiming,
    where images are coded by transform.
    """
    n, limit, every = len(x), 10 ** (-psnr / 10), model.operating_points.all
    latents = model.has_latents and shape_of(x) == model.image_shape
    first = 0 if latents or model.transform is not None else model.operating_points.first_by_pixels
    if first is None or (not latents and model.transform is None and model.pixels_for(shape_of(x)[2]) is None):
        return encode_without_model(x, effort, largest_mse=limit)
    found, highest = _Found(x, model, limit), np.full(n, len(every) - 1)
    fast = replace(EFFORTS[FAST_EFFORT], similar=effort.similar, alpha_error=effort.alpha_error)
    found.bisect(np.full(n, first), highest.copy(), fast)
    if effort.passes and latents:
        highest = np.where(found.points == NONE, highest, found.points)
        lowest = (highest - RDO_GAIN).clip(0)
        by_latents = np.array([not point.pixels for point in every])
        found.bisect(lowest, np.where(by_latents[lowest], highest, lowest - 1), effort)  # pixels are not optimised
    if effort.passes and model.transform is not None:
        highest = found.points - 1
        by_transform = np.array([point.transform for point in every])
        lower = (highest >= 0) & by_transform[highest.clip(0)]
        found.bisect((highest - FEW_LEVELS + 1).clip(0), np.where(lower, highest, NONE), effort)
    if every[-1].pixels:  # lossless coding may take the fewest bytes where images hold little
        found.consider(np.arange(n), len(every) - 1, fast)
    tried = np.flatnonzero(unlike(x, found.rates)).tolist()
    ways = zip(tried, in_order(lambda i: way_without_model(x[i], effort, largest_mse=limit), tried), strict=True)
    return found.block({i: way for i, way in ways if len(way.record) < found.rates[i]})


class _Found:
    """The smallest code of each image that keeps the limit, among those that were tried."""

    def __init__(self, x: Pixels, model: Model, limit: float) -> None:
        n = len(x)
        self.x, self.model, self.limit = x, model, limit
        self.points, self.rates = np.full(n, NONE), np.full(n, np.inf)  # operating points; bytes
        self._blocks: list[Block] = []
        self._places = [(NONE, 0)] * n  # the block of each image, and the place in it

    def bisect(self, low: Ints, high: Ints, effort: Effort) -> None:
        """Look from `low` to `high` (`n` each) for the lowest operating point at which an image keeps the limit."""
        while len(rows := np.flatnonzero(low <= high)):
            tried = (low[rows] + high[rows]) // 2
            kept = np.zeros(len(rows), bool)
            for point in np.unique(tried):
                here = np.flatnonzero(tried == point)
                kept[here] = self.consider(rows[here], int(point), effort)
            high[rows[kept]], low[rows[~kept]] = tried[kept] - 1, tried[~kept] + 1

    def consider(self, rows: Ints, point: int, effort: Effort) -> NDArray[np.bool_]:
        """Encode some images at an operating point and keep the better codes; return which images keep the limit."""
        (block,) = encode_images([self.x[rows]], self.model.operating_points.all[point], self.model, effort)
        kept: NDArray[np.bool_] = squared_errors(self.x[rows], block.x_hat) <= self.limit
        better = np.flatnonzero(kept & (block.rate < self.rates[rows]))
        if len(better):
            images = rows[better]
            self.points[images], self.rates[images] = point, block.rate[better]
            for place, i in enumerate(images.tolist()):
                self._places[i] = len(self._blocks), place
            self._blocks.append(block.pick(better))
        return kept

    def block(self, without_model: dict[int, WithoutModel]) -> Block:
        """Return the block of all images, some of them coded in these ways without a model."""
        missing = [i for i, (block, _) in enumerate(self._places) if block == NONE]
        blocks, starts = list(self._blocks), np.cumsum([0, *map(len, self._blocks)])
        rows = [int(starts[block]) + place for block, place in self._places]
        if missing:  # no operating point suits them
            for place, i in enumerate(missing):
                rows[i] = int(starts[-1]) + place
            ways = [without_model.pop(i) for i in missing]
            blocks.append(block_without_model(ways, self.x.shape[1:]))
        return replace_without_model(Block.join(blocks).pick(np.array(rows)), without_model)
