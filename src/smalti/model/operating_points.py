# SPDX-License-Identifier: MIT
"""The operating points of a model: measured rates and distortions, and which one a quality asks for.

An operating point codes an image by latents with given quantisation steps, or by pixels up to a given largest error.
The rate (bytes) and the distortion (squared error) of each were measured on held-out images when the model was made.

A quality stands for a Lagrange multiplier: the bits that a squared error of 1 is worth, which rises with the quality.
It asks for the point that minimises bits + multiplier * squared error. The points that some multiplier asks for are
those on the lower convex hull of all measured points; no other point is ever worth its bits (Shoham and Gersho 1988).
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smalti.errors import UsageError
from smalti.model.masked_mlp import POINTS
from smalti.model.transform.transform import LEVELS, step_of

KAPPA = 0.1
"""The same multiplier of coding by transform, in units of the squared quantisation step (bits of coefficients)."""
LMBDA = 0.08
"""The Lagrange multiplier lambda of coding by pixels: the encoder minimises squared error + lambda * bits.

The error is in units of the squared step between levels, so that one value serves all steps.
"""
QUALITIES = (1, 100)
"""The lowest and the highest quality."""
PLACES = ((1, 0.0), (50, 0.48), (100, 1.0))
"""Of a model that codes by transform: qualities, and how far up in the points each is; the others lie between."""
FINEST = (1, 0)
"""The largest errors of the points beyond the highest quality."""
MULTIPLIERS = 400
"""The convex hull is found by trying so many multipliers."""


@dataclass(frozen=True)
class OperatingPoint:
    """A setting of the encoder, with its rate and distortion on images that the model was not trained on."""

    pixels: bool  # whether it codes by pixels (or by mixing); if not, it codes by latents or by transform
    setting: int  # by pixels: the largest error, 0 to 126; by latents: the index of the quantisation steps, 0 to 64
    bytes: float  # of the payload of an image
    psnr: float  # in dB
    transform: bool = False  # whether it codes by transform; its setting is the level, 0 to 57

    @property
    def error(self) -> float:
        """Return the mean squared error, of pixels in [0, 1]."""
        return float(10 ** (-self.psnr / 10))


def multiplier_of(error: int) -> float:
    """Return the multiplier of coding by pixels up to `error`: bits that a squared error of 1, on [0, 1], is worth."""
    return 255**2 / (LMBDA * (2 * error + 1) ** 2)


def multiplier_of_level(level: int) -> float:
    """Return the multiplier of coding by transform at a level."""
    return float(255**2 / (KAPPA * 4 ** step_of(level)))


class OperatingPoints:
    """The operating points that qualities choose from, each with more bytes and a higher PSNR than the one before."""

    def __init__(self, measured: Sequence[OperatingPoint], multipliers: NDArray[np.float64], samples: int) -> None:
        """Find the convex hull of the points that were measured.

        multipliers: the Lagrange multipliers of coding by latents (`POINTS`).
        samples: the number of samples in an image.
        """
        by_latents = _all_points([point for point in measured if not point.pixels])
        by_pixels = [point for point in measured if point.pixels]
        self._ways, self._samples = [*by_latents, *by_pixels], samples
        self._only_latents, self._of_transform = not by_pixels, False
        ends = [
            *(multipliers[[0, -1]] if by_latents else ()),
            *(multiplier_of(point.setting) for point in by_pixels),
        ]
        self._low, self._high = float(min(ends, default=1.0)), float(max(ends, default=1.0))
        tried = np.geomspace(self._low, self._high, MULTIPLIERS)
        first = {self._cheapest(multiplier): float(multiplier) for multiplier in tried[::-1]} if self._ways else {}
        self.by_quality = tuple(reversed(first))
        if self._only_latents:
            self.by_quality = tuple(by_latents)
            first = dict(zip(by_latents, multipliers.tolist(), strict=False))
        top = self.by_quality[-1] if by_pixels else None
        self.all = self.by_quality if top is None else (*self.by_quality, *(replace(top, setting=e) for e in FINEST))
        """The points of `by_quality`, and finer ones than any quality asks for; the last is lossless."""
        finer = [multiplier_of(0) * 4.0 ** (i + 1) for i in range(len(self.all) - len(self.by_quality))]
        self.from_multiplier = (*(first[point] for point in self.by_quality), *finer)
        """The least multiplier at which each point of `all` is the cheapest; finer points come at ever larger ones."""

    @property
    def first_by_pixels(self) -> int | None:
        """Return the index in `all` of the lowest point that codes by pixels, or None."""
        return next((i for i, point in enumerate(self.all) if point.pixels), None)

    @staticmethod
    def by_transform(measured: Sequence[OperatingPoint]) -> "OperatingPoints":
        """Return the points of a model that codes by transform, and by mixing what is finer.

        measured: the points by transform from the highest level to the lowest, then those by mixing. Qualities ask for
            those alone at which images need not be reduced.
        """
        points = OperatingPoints((), np.ones(POINTS), 1)
        points.all = tuple(measured)
        points.by_quality = tuple(point for point in measured if not (point.transform and point.setting >= LEVELS))
        points.from_multiplier = tuple(
            multiplier_of_level(point.setting) if point.transform else multiplier_of(point.setting)
            for point in measured
        )
        points._of_transform = True
        return points

    def _cheapest(self, multiplier: float) -> OperatingPoint:
        return min(
            self._ways,
            key=lambda point: 8 * point.bytes + multiplier * self._samples * point.error,
        )

    def of_quality(self, quality: int) -> OperatingPoint:
        """Return the operating point that a quality asks for.

        Raises:
            UsageError: the quality is not from 1 to 100.
        """
        check_quality(quality)
        if self._of_transform:
            places, shares = zip(*PLACES, strict=True)
            return self.by_quality[round(float(np.interp(quality, places, shares)) * (len(self.by_quality) - 1))]
        if self._only_latents:
            share = (quality - QUALITIES[0]) / (QUALITIES[1] - QUALITIES[0])
            return self.by_quality[round(share * (POINTS - 1))]
        return self._cheapest(self.multiplier(quality))

    def multiplier(self, quality: int) -> float:
        """Return the multiplier that a quality, 1 to 100, stands for: the bits that a squared error of 1 is worth."""
        if self._of_transform:
            return self.from_multiplier[self.all.index(self.of_quality(quality))]
        share = (quality - QUALITIES[0]) / (QUALITIES[1] - QUALITIES[0])
        return float(self._low * (self._high / self._low) ** share)


def check_quality(quality: int) -> None:
    """Refuse a quality that is no whole number from 1 to 100.

    Raises:
        UsageError: it is none.
    """
    try:
        possible = QUALITIES[0] <= operator.index(quality) <= QUALITIES[1]
    except TypeError:
        possible = False
    if not possible:
        raise UsageError(f"quality is {quality!r}; give a whole number from 1 (fewest bytes) to 100 (best)")


def _all_points(measured: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    """Return the points of all quantisation steps, interpolated between those that were measured."""
    if not measured:
        return []
    known, points = [point.setting for point in measured], range(POINTS)
    rates = np.interp(points, known, [point.bytes for point in measured])
    decibels = np.interp(points, known, [point.psnr for point in measured])
    return [OperatingPoint(pixels=False, setting=i, bytes=float(rates[i]), psnr=float(decibels[i])) for i in points]
