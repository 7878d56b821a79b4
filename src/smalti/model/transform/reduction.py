# SPDX-License-Identifier: MIT
"""Reduce images before they are coded by transform, and enlarge what is decoded.

An image that may take few bytes is better kept at fewer pixels: what is lost between them is less than what coarser
steps would lose (Bruckstein, Elad and Kimmel 2003, "Down-scaling for better transform compression"). The decoder
enlarges by cubic convolution (Keys 1981, a = -1/2), in integers. The encoder takes the smaller image that, enlarged,
comes closest to the original by least squares.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from smalti.model.transform.transform import LEVELS

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

EIGHTHS = (8, 6, 4, 2, 1)
"""The sides at each reduction, in eighths of those of the image; the first reduction is none."""
FINER = (0, 2, 5, 11, 17)
"""By how many levels an image is coded more finely at each reduction than its own level says.

What a coefficient is off by spreads over more samples, so at equal worth of bits and error the steps are smaller.
"""
LAST_LEVEL = LEVELS - 1 + FINER[-1]
"""The highest level of an image."""
PIECE, MARGIN = 512, 64
"""So many pixels of a side are reduced together, by what they are and by so many to either side of them."""
PHASES, TAP_BITS = 16, 7
"""A sample lies between two others at one of so many places; the taps of a place sum to 2^TAP_BITS."""
WEIGHT_BITS = 12
"""The fractional bits of the weights that reduce."""
TAPS = np.array(
    [
        (0, 128, 0, 0),
        (-4, 127, 5, 0),
        (-6, 123, 12, -1),
        (-8, 118, 20, -2),
        (-9, 111, 29, -3),
        (-10, 103, 39, -4),
        (-9, 93, 50, -6),
        (-9, 83, 61, -7),
        (-8, 72, 72, -8),
        (-7, 61, 83, -9),
        (-6, 50, 93, -9),
        (-4, 39, 103, -10),
        (-3, 29, 111, -9),
        (-2, 20, 118, -8),
        (-1, 12, 123, -6),
        (0, 5, 127, -4),
    ],
    np.int32,
)
"""How much two samples before and two behind weigh at each place between them."""


def possible_at(levels: NDArray[np.int64], reduction: int) -> NDArray[np.bool_]:
    """Return whether images of these levels (`n`) can be coded at a reduction."""
    own = levels - FINER[reduction]
    return (own >= 0) & (own < LEVELS)


def reduced_side(side: int, reduction: int) -> int:
    """Return how many pixels of a side are coded."""
    return -(-side * EIGHTHS[reduction] // EIGHTHS[0])


def enlarged(x: Pixels, h: int, w: int, reduction: int) -> Pixels:
    """Return images of `h` rows and `w` columns (`n h w c`) of those that were reduced."""
    if not reduction:
        return x
    sums = _along(_along(x.astype(np.int32), 1, h, reduction), 2, w, reduction)
    rounded = (sums + (1 << 2 * TAP_BITS - 1)) >> 2 * TAP_BITS
    return rounded.clip(0, 255).astype(np.uint8)


def _along(x: NDArray[np.int32], axis: int, side: int, reduction: int) -> NDArray[np.int32]:
    """Return weighed sums along an axis, as many as the side has pixels; what is outside is like the last sample."""
    before, phases = _places(side, reduction)
    last, shape = x.shape[axis] - 1, [1] * x.ndim
    shape[axis] = side
    found = np.zeros((*x.shape[:axis], side, *x.shape[axis + 1 :]), np.int32)
    for tap in range(TAPS.shape[1]):
        found += TAPS[phases, tap].reshape(shape) * x.take((before + tap).clip(0, last), axis)
    return found


def _places(side: int, reduction: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first of the four samples that each pixel of a side is made of, and its place between them."""
    middles = (2 * np.arange(side) + 1) * EIGHTHS[reduction] - EIGHTHS[0]
    return middles // PHASES - 1, middles % PHASES


def reduced(x: Pixels | NDArray[np.int64], reduction: int) -> Floats:
    """Return the smaller images that, enlarged, come closest to images (`n h w c`).

    All sums are exact, since weights are multiples of 2^-WEIGHT_BITS: so all machines find the same images.
    """
    found = x.astype(np.float64)
    if reduction:
        for _ in range(2):  # first along rows, then along what were columns
            found = _reduced_along(found, reduction).swapaxes(1, 2)
    return found


def _reduced_along(x: Floats, reduction: int) -> Floats:
    """Return images (`n h w c`) of fewer rows. A long side is cut in pieces, which see what is near them."""
    n, side = x.shape[:2]
    rows, parts = np.ascontiguousarray(x).reshape(n, side, -1), list[Floats]()
    for start in range(0, side, PIECE):
        end = min(start + PIECE, side)
        first, last = max(0, start - MARGIN), min(end + MARGIN, side)
        part: Floats = _closest(last - first, reduction) @ rows[:, first:last]
        parts.append(part[:, reduced_side(start - first, reduction) : reduced_side(end - first, reduction)])
    return np.concatenate(parts, 1).reshape(n, -1, *x.shape[2:])


@functools.lru_cache(maxsize=64)
def _closest(side: int, reduction: int) -> Floats:
    """Return the matrix that reduces a side by least squares: the pseudoinverse of what enlarges it, rounded."""
    unit = np.eye(reduced_side(side, reduction), dtype=np.int32)
    enlarging = _along(unit, 0, side, reduction) / (1 << TAP_BITS)
    exactly = np.linalg.solve(enlarging.T @ enlarging, enlarging.T)
    rounded: Floats = np.rint(exactly * (1 << WEIGHT_BITS)) / (1 << WEIGHT_BITS)
    return rounded
