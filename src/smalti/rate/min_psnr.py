# SPDX-License-Identifier: MIT
"""A least PSNR for every image: each at the lowest rung that keeps it, or without the model."""

import numpy as np
from numpy.typing import NDArray

from smalti.codec.block import ABSENT, Block, Code
from smalti.codec.block_codec import code_images, reconstruct, shape_of, sizes
from smalti.codec.fallback_codec import encode_fallback
from smalti.codec.pixel_codec import quantise
from smalti.codec.rdo import EFFORTS, FAST_EFFORT, Effort
from smalti.entropy.frequencies import Ints
from smalti.model.model import Model
from smalti.types import Pixels

SEARCH_GAIN = 14
"""Rungs by which a search may get an image lower at the same PSNR."""


def block_of_least(x: Pixels, model: Model, psnr: float, effort: Effort) -> Block:
    """Images, each of which has `psnr` dB or more: at the lowest rung that bisection finds.

    An image that no rung suits, or that takes fewer bytes so, is coded without the model. An effort that searches
    does so near the rung that is found without.
    """
    n, limit = len(x), 10 ** (-psnr / 10)
    found, shape = _Found(x, model, limit), shape_of(x)
    latents = model.has_latents and shape == model.image_shape
    first = 0 if latents else model.operating_points.first_by_pixels
    if first is None or (not latents and model.pixels_for(shape[2]) is None):
        return found.block({i: encode_fallback(image, largest_mse=limit) for i, image in enumerate(x)})
    highest = np.full(n, len(model.operating_points.all) - 1)
    found.bisect(np.full(n, first), highest.copy(), EFFORTS[FAST_EFFORT])
    if effort.passes and latents:
        highest = np.where(found.by_quality == ABSENT, highest, found.by_quality)
        lowest = (highest - SEARCH_GAIN).clip(0)
        by_latents = np.array([not point.pixels for point in model.operating_points.all])
        found.bisect(lowest, np.where(by_latents[lowest], highest, lowest - 1), effort)  # only latents are searched
    if model.operating_points.all[-1].pixels:  # where little is to be coded, lossless may take less than anything
        found.consider(np.arange(n), len(model.operating_points.all) - 1, EFFORTS[FAST_EFFORT])
    records = {i: encode_fallback(x[i], largest_mse=limit) for i in range(n)}
    return found.block({i: record for i, record in records.items() if len(record) < found.sizes[i]})


class _Found:
    """The smallest code of each image that keeps the limit, as far as it was looked for; sizes in bytes."""

    def __init__(self, x: Pixels, model: Model, limit: float) -> None:
        n = len(x)
        self.x, self.model, self.limit = x, model, limit
        self.by_quality, self.sizes = np.full(n, ABSENT), np.full(n, np.inf)
        symbols = np.zeros((n, model.patches, model.latents), np.int64)
        self._code = Code(np.zeros(n, np.int64), symbols, np.zeros((n, *model.spatial_shape), np.int64))
        self._samples = np.zeros_like(x)

    def bisect(self, low: Ints, high: Ints, effort: Effort) -> None:
        """Look from `low` to `high` (`n` each) for the lowest rung at which an image keeps the limit."""
        while len(rows := np.flatnonzero(low <= high)):
            tried = (low[rows] + high[rows]) // 2
            kept = np.zeros(len(rows), bool)
            for point in np.unique(tried):
                mine = np.flatnonzero(tried == point)
                kept[mine] = self.consider(rows[mine], int(point), effort)
            high[rows[kept]], low[rows[~kept]] = tried[kept] - 1, tried[~kept] + 1

    def consider(self, rows: Ints, point: int, effort: Effort) -> NDArray[np.bool_]:
        """Code some images at a rung, keep what is better; whether they keep the limit there."""
        block = code_images(self.x[rows], self.model.operating_points.all[point], self.model, effort)
        kept = squared_errors(self.x[rows], reconstruct(block, self.x[rows].shape, self.model)) <= self.limit
        found = sizes(block, self.model)
        better = kept & (found < self.sizes[rows])
        mine = rows[better]
        self.by_quality[mine], self.sizes[mine] = point, found[better]
        if block.code is not None:
            self._code.put(mine, block.code.pick(better))
        if block.quantised is not None:
            self._samples[mine] = block.quantised.samples[better]
        return kept

    def block(self, plain: dict[int, bytes]) -> Block:
        """All images, some of them plain."""
        by_quality = [self.model.operating_points.all[point] if point != ABSENT else None for point in self.by_quality]
        settings = np.array([point.setting if point else ABSENT for point in by_quality])
        pixels = np.array([bool(point and point.pixels) for point in by_quality])
        modelled = np.array([i not in plain for i in range(len(self.x))])
        points = np.where(modelled & ~pixels, settings, ABSENT)
        errors = np.where(modelled & pixels, settings, ABSENT)
        by_latents, by_pixels = points != ABSENT, errors != ABSENT
        code = self._code.pick(by_latents) if by_latents.any() else None
        quantised = None
        if by_pixels.any():
            prior = self.model.pixels_for(self.x.shape[3] if self.x.ndim == 4 else 1)
            assert prior is not None
            quantised = quantise(self._samples[by_pixels], errors[by_pixels], prior, 0)
        return Block(points, errors, code, quantised, plain, post_filtered=True)


def squared_errors(x: Pixels, x_hat: Pixels) -> NDArray[np.float64]:
    """MSE of each image (`n`), on pixels in [0, 1]."""
    off = (x.astype(np.float64) - x_hat).reshape(len(x), -1) / 255
    errors: NDArray[np.float64] = (off**2).mean(1)
    return errors
