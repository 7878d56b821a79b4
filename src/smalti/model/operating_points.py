# SPDX-License-Identifier: MIT
"""Ways to code an image, from the fewest bytes to the best: latents at an operating point, or pixels up to an error.

Each has been measured when the model was made. What a quality asks for is the way that costs least in bits and
multiplier * squared error, where the multiplier rises with the quality: a few of the ways, rung by rung, make a ladder.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smalti.errors import UsageError
from smalti.model.masked_mlp import POINTS

LMBDA = 0.08
"""What a bit is worth when coding by pixels, as a squared error in squared steps between levels."""
QUALITIES = (1, 100)
FINEST = (1, 0)
"""Largest errors beyond the highest quality."""
MULTIPLIERS = 400
"""Tried, to find the ladder."""


@dataclass(frozen=True)
class OperatingPoint:
    """A way to code, and what it did on images that the model was not trained on."""

    pixels: bool  # pixel by pixel; else by latents
    setting: int  # the largest error of a level, or the operating point of latents
    bytes: float  # an image, payload
    psnr: float  # dB

    @property
    def error(self) -> float:
        """MSE, of pixels in [0, 1]."""
        return float(10 ** (-self.psnr / 10))


def multiplier_of(error: int) -> float:
    """Bits that a squared error of 1, on [0, 1] pixels, is worth when coding by pixels up to an error."""
    return 255**2 / (LMBDA * (2 * error + 1) ** 2)


class OperatingPoints:
    """The rungs of a model for images of some size, each of more bytes and a higher PSNR than the one before."""

    def __init__(self, measured: Sequence[OperatingPoint], multipliers: NDArray[np.float64], samples: int) -> None:
        """multipliers: of the operating points; samples: of an image."""
        by_latents = _all_points([point for point in measured if not point.pixels])
        by_pixels = [point for point in measured if point.pixels]
        self._ways, self._samples = [*by_latents, *by_pixels], samples
        self._only_latents = not by_pixels
        ends = [
            *(multipliers[[0, -1]] if by_latents else ()),
            *(multiplier_of(point.setting) for point in by_pixels),
        ]
        self._low, self._high = float(min(ends, default=1.0)), float(max(ends, default=1.0))
        tried = np.geomspace(self._low, self._high, MULTIPLIERS)
        self.by_quality = tuple(dict.fromkeys(self._cheapest(multiplier) for multiplier in tried)) if self._ways else ()
        if self._only_latents:
            self.by_quality = tuple(by_latents)
        top = self.by_quality[-1] if by_pixels else None
        self.all = self.by_quality if top is None else (*self.by_quality, *(replace(top, setting=e) for e in FINEST))
        """Those and finer ones than any quality asks for, the last of them lossless."""

    @property
    def first_by_pixels(self) -> int | None:
        """Place of the lowest of `all` that codes by pixels, if any does."""
        return next((i for i, point in enumerate(self.all) if point.pixels), None)

    def _cheapest(self, multiplier: float) -> OperatingPoint:
        return min(
            self._ways,
            key=lambda point: 8 * point.bytes + multiplier * self._samples * point.error,
        )

    def of_quality(self, quality: int) -> OperatingPoint:
        """The rung of a quality.

        Raises:
            UsageError: it is not from 1 to 100.
        """
        check_quality(quality)
        share = (quality - QUALITIES[0]) / (QUALITIES[1] - QUALITIES[0])
        if self._only_latents:
            return self.by_quality[round(share * (POINTS - 1))]
        return self._cheapest(self._low * (self._high / self._low) ** share)


def check_quality(quality: int) -> None:
    """Refuse what is no quality.

    Raises:
        UsageError: it is not from 1 to 100.
    """
    try:
        possible = QUALITIES[0] <= operator.index(quality) <= QUALITIES[1]
    except TypeError:
        possible = False
    if not possible:
        raise UsageError(f"quality is {quality!r}; give a whole number from 1 (fewest bytes) to 100 (best)")


def _all_points(measured: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    """All operating points, from those that were measured."""
    if not measured:
        return []
    known, points = [point.setting for point in measured], range(POINTS)
    rates = np.interp(points, known, [point.bytes for point in measured])
    decibels = np.interp(points, known, [point.psnr for point in measured])
    return [OperatingPoint(pixels=False, setting=i, bytes=float(rates[i]), psnr=float(decibels[i])) for i in points]
