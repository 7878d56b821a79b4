# SPDX-License-Identifier: MIT
"""A least PSNR for every image: each at the lowest rung that keeps it, or without the model."""

import numpy as np
from numpy.typing import NDArray

from smalti.code import ABSENT, Block, Code
from smalti.codec import Pixels, code_images, reconstruct, shape_of, sizes
from smalti.model import Model
from smalti.pixelcoder import quantise
from smalti.plain import encode_plain
from smalti.search import EFFORTS, FAST_EFFORT, Effort
from smalti.tables import Ints

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
    first = 0 if latents else model.ladder.first_by_pixels
    if first is None or (not latents and model.pixels_for(shape[2]) is None):
        return found.block({i: encode_plain(image, largest_mse=limit) for i, image in enumerate(x)})
    highest = np.full(n, len(model.ladder.all) - 1)
    found.bisect(np.full(n, first), highest.copy(), EFFORTS[FAST_EFFORT])
    if effort.passes and latents:
        highest = np.where(found.rungs == ABSENT, highest, found.rungs)
        lowest = (highest - SEARCH_GAIN).clip(0)
        by_latents = np.array([not rung.pixels for rung in model.ladder.all])
        found.bisect(lowest, np.where(by_latents[lowest], highest, lowest - 1), effort)  # only latents are searched
    if model.ladder.all[-1].pixels:  # where little is to be coded, lossless may take less than anything
        found.consider(np.arange(n), len(model.ladder.all) - 1, EFFORTS[FAST_EFFORT])
    records = {i: encode_plain(x[i], largest_mse=limit) for i in range(n)}
    return found.block({i: record for i, record in records.items() if len(record) < found.sizes[i]})


class _Found:
    """The smallest code of each image that keeps the limit, as far as it was looked for; sizes in bytes."""

    def __init__(self, x: Pixels, model: Model, limit: float) -> None:
        n = len(x)
        self.x, self.model, self.limit = x, model, limit
        self.rungs, self.sizes = np.full(n, ABSENT), np.full(n, np.inf)
        symbols = np.zeros((n, model.cells, model.latents), np.int64)
        self._code = Code(np.zeros(n, np.int64), symbols, np.zeros((n, *model.local_shape), np.int64))
        self._samples = np.zeros_like(x)

    def bisect(self, low: Ints, high: Ints, effort: Effort) -> None:
        """Look from `low` to `high` (`n` each) for the lowest rung at which an image keeps the limit."""
        while len(rows := np.flatnonzero(low <= high)):
            tried = (low[rows] + high[rows]) // 2
            kept = np.zeros(len(rows), bool)
            for rung in np.unique(tried):
                mine = np.flatnonzero(tried == rung)
                kept[mine] = self.consider(rows[mine], int(rung), effort)
            high[rows[kept]], low[rows[~kept]] = tried[kept] - 1, tried[~kept] + 1

    def consider(self, rows: Ints, rung: int, effort: Effort) -> NDArray[np.bool_]:
        """Code some images at a rung, keep what is better; whether they keep the limit there."""
        block = code_images(self.x[rows], self.model.ladder.all[rung], self.model, effort)
        kept = squared_errors(self.x[rows], reconstruct(block, self.x[rows].shape, self.model)) <= self.limit
        found = sizes(block, self.model)
        better = kept & (found < self.sizes[rows])
        mine = rows[better]
        self.rungs[mine], self.sizes[mine] = rung, found[better]
        if block.code is not None:
            self._code.put(mine, block.code.pick(better))
        if block.quantised is not None:
            self._samples[mine] = block.quantised.samples[better]
        return kept

    def block(self, plain: dict[int, bytes]) -> Block:
        """All images, some of them plain."""
        rungs = [self.model.ladder.all[rung] if rung != ABSENT else None for rung in self.rungs]
        settings = np.array([rung.setting if rung else ABSENT for rung in rungs])
        pixels = np.array([bool(rung and rung.pixels) for rung in rungs])
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
        return Block(points, errors, code, quantised, plain, smooth=True)


def squared_errors(x: Pixels, x_hat: Pixels) -> NDArray[np.float64]:
    """MSE of each image (`n`), on pixels in [0, 1]."""
    off = (x.astype(np.float64) - x_hat).reshape(len(x), -1) / 255
    errors: NDArray[np.float64] = (off**2).mean(1)
    return errors
