# SPDX-License-Identifier: MIT
"""Encode images by transform, each at the size at which it costs least (`model/transform/reduction.py`)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.entropy.frequencies import Ints
from smalti.model.transform import engine
from smalti.model.transform.reduction import FINER, enlarged, reduced
from smalti.model.transform.reference import of_gray
from smalti.model.transform.similarity import ONE, weighed
from smalti.model.transform.transform import (
    BASIS_BITS,
    COEFFICIENT_BITS,
    COEFFICIENT_MAX,
    COLOURS,
    LEVELS,
    SIDE,
    Transform,
    step_of,
)
from smalti.types import Pixels

Floats = NDArray[np.float64]

KAPPA = round(0.1 * (1 << 16))
"""How many squared quantisation steps of error, in 2^-16, the encoder takes for one bit less of a coefficient."""
MOST_LOSS = 0.014
"""An image is tried at a reduction by which it loses at most so much a sample, in squared steps of its level."""
SURE_LOSS = 0.002
"""A quick encoder takes the last reduction by which an image loses no more than this, without trying any other."""
STREAM_BITS = 24
"""About the bits that a stream takes besides those of its images: its length, and its end."""
SIZE_KAPPA = 0.15
"""How many squared steps of error the encoder takes for one bit less when it compares reductions.

That is more than for coefficients, because a tenth was measured to make too many images small.
"""


@dataclass(frozen=True, eq=False)
class Planes:
    """Images as they are coded: colours (`n h w c`, c 1 or 3), and alpha (`n h w`), if they have it."""

    colours: Pixels
    alpha: Pixels | None


@dataclass(frozen=True, eq=False)
class Work:
    """Images that are to be encoded."""

    transform: Transform
    planes: Planes
    levels: Ints  # n
    factors: NDArray[np.uint16] | None  # n rows columns 192: how much more bits count, times 256, if not alike

    def pick(self, rows: Ints) -> "Work":
        """Return some of the images."""
        alpha = None if self.planes.alpha is None else self.planes.alpha[rows]
        factors = None if self.factors is None else self.factors[rows]
        return Work(self.transform, Planes(self.planes.colours[rows], alpha), self.levels[rows], factors)

    def off(self, x_hat: Pixels) -> Ints:
        """Return what images are off by (`n h w c`), weighed by alpha."""
        off: Ints = self.planes.colours.astype(np.int64) - x_hat
        return off if self.planes.alpha is None else (off * self.planes.alpha[..., None] + 127) // 255

    def errors(self, off: Ints) -> Floats:
        """Return the squared errors of images (`n`), in squared steps of their levels, of all three colours."""
        if self.factors is None:
            sums = (off.astype(np.float64) ** 2).sum((1, 2, 3)) * (COLOURS / off.shape[3])
        else:
            each = to_coefficients(self.transform, off) / (1 << COEFFICIENT_BITS)
            sums = (each**2 * (ONE / self.factors)).sum((1, 2, 3))
        errors: Floats = sums / np.array([4.0 ** step_of(level) for level in self.levels.tolist()])
        return errors


class Coding:
    """Some images while they are encoded at one reduction."""

    def __init__(self, work: Work, rows: Ints, reduction: int) -> None:
        """Analyse and encode the images `rows` of the work."""
        self.rows, self.reduction, self._work = rows, reduction, work.pick(rows)
        self.stream: bytes | None = None  # of all these images, if it is known
        planes, self._factors = self._work.planes, self._work.factors
        small = _smaller(planes.colours, reduction)
        self._shape = small.shape[1], small.shape[2], small.shape[3]
        if reduction and self._factors is not None:
            seen = None if planes.alpha is None else _smaller(planes.alpha[..., None], reduction)[..., 0]
            self._factors = weighed(work.transform, small, self._of_coefficients, seen).factors
        self._targets = engine.analyse(work.transform, small, self._of_coefficients.tolist())
        self.encode()

    @property
    def levels(self) -> Ints:
        """The levels of the images; at the finest steps that there are, higher ones than were asked."""
        return self._of_coefficients + FINER[self.reduction]

    @property
    def _of_coefficients(self) -> Ints:
        """The levels of their coefficients."""
        return (self._work.levels - FINER[self.reduction]).clip(0)

    def encode(self) -> None:
        """Encode the images by what they aim at."""
        transform, own = self._work.transform, self._of_coefficients.tolist()
        h, w = self._work.planes.colours.shape[1:3]
        self.stream, self.coded, self.bits = engine.encode(
            transform, self._targets, own, self._shape, KAPPA, self._factors
        )
        self.x_hat = enlarged(engine.synthesise(transform, self.coded, own, self._shape), h, w, self.reduction)

    def aim(self) -> None:
        """Aim at what would bring the images closer that the decoder gives."""
        off = self._work.off(self.x_hat)
        if self.reduction:
            off = np.rint(reduced(off, self.reduction)).astype(np.int64)
        aim: Ints = self.coded + to_coefficients(self._work.transform, off)
        self._targets = aim.clip(-COEFFICIENT_MAX, COEFFICIENT_MAX).astype(np.int16)

    def costs(self) -> Floats:
        """Return for each image what it costs, in squared steps: its error, and so much of its bits as they weigh."""
        return self._work.errors(self._work.off(self.x_hat)) + SIZE_KAPPA * self.bits

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Keep some of the images alone."""
        if not kept.all():
            self.rows, self.bits, self.stream = self.rows[kept], self.bits[kept], None
            self.coded, self.x_hat, self._targets = self.coded[kept], self.x_hat[kept], self._targets[kept]
            self._work = self._work.pick(np.flatnonzero(kept))
            self._factors = None if self._factors is None else self._factors[kept]


def _sizes_to_try(work: Work, *, quick: bool) -> NDArray[np.bool_]:
    """Return at which reductions images are tried (`reductions n`).

    Each is tried at the first reduction that its level allows. It is tried at a further one if it loses little by that
    one, and by those before. A quick encoder tries only the last of these, and asks for less loss.
    """
    levels, (h, w), n = work.levels, work.planes.colours.shape[1:3], len(work.levels)
    allowed = np.array([levels < LEVELS + finer for finer in FINER])
    tried = np.zeros(allowed.shape, np.bool_)
    tried[allowed.argmax(0), np.arange(n)] = True  # the first that is allowed
    most, some = (SURE_LOSS if quick else MOST_LOSS) * COLOURS * h * w, np.arange(n)
    for reduction in range(1, len(FINER)):
        if not len(some):
            break
        part = work.pick(some)
        off = part.off(enlarged(_smaller(part.planes.colours, reduction), h, w, reduction))
        some = some[part.errors(off) <= most]
        now = some[allowed[reduction, some]]
        if quick:
            tried[:, now] = False
        tried[reduction, now] = True
    return tried


def at_best_sizes(work: Work, *, quick: bool) -> list[Coding]:
    """Return images as they are encoded without aiming, each at the reduction where it costs least.

    quick: whether each image is tried at one reduction alone.
    """
    tried = _sizes_to_try(work, quick=quick)
    compared = tried.sum() > len(work.levels)
    costs, codings = np.full(tried.shape, np.inf), list[Coding]()
    for reduction in np.flatnonzero(tried.any(1)).tolist():
        rows = np.flatnonzero(tried[reduction])
        codings.append(Coding(work, rows, reduction))
        costs[reduction, rows] = codings[-1].costs() if compared else 0  # costs take time
    few = _few_reductions(costs)
    best = costs[few].argmin(0) + few.start
    for coding in codings:
        coding.keep(best[coding.rows] == coding.reduction)
    return [coding for coding in codings if len(coding.rows)]


def _few_reductions(costs: Floats) -> slice:
    """Return the reductions among which images choose, by what each image costs at each (`reductions n`).

    To have several of them costs bits as well: a choice for each image, and a stream for each reduction.
    """
    every, totals = range(len(costs)), dict[tuple[int, int], float]()
    for first, last in ((a, b) for a in every for b in every[a:]):
        several = last - first
        bits = costs.shape[1] * math.log2(several + 1) + several * STREAM_BITS
        totals[first, last] = float(costs[first : last + 1].min(0).sum()) + SIZE_KAPPA * bits
    first, last = min(totals, key=lambda ends: totals[ends])
    return slice(first, last + 1)


def _smaller(x: Pixels, reduction: int) -> Pixels:
    """Return images (`n h w c`) that are reduced, in whole samples."""
    return np.rint(reduced(x, reduction)).clip(0, 255).astype(np.uint8) if reduction else x


def to_coefficients(transform: Transform, x: Ints) -> Ints:
    """Return what images (`n h w c`, of 1 or 3 channels) are as coefficients, by the linear part of the analysis."""
    n, h, w, c = x.shape
    rows, columns = -(-h // SIDE), -(-w // SIDE)
    padded = np.zeros((n, rows * SIDE, columns * SIDE, COLOURS), np.float64)
    padded[:, :h, :w] = x
    blocks = padded.reshape(n, rows, SIDE, columns, SIDE, COLOURS).transpose(0, 1, 3, 5, 2, 4)
    sums = np.rint(blocks.reshape(n, rows, columns, -1) @ transform.forward.T.astype(np.float64)).astype(np.int64)
    y: Ints = sums >> (BASIS_BITS - COEFFICIENT_BITS)
    if c == 1:
        y[..., ~of_gray()] = 0
    return y
