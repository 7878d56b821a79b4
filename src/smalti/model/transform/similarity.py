# SPDX-License-Identifier: MIT
"""Weigh errors of coefficients for multi-scale SSIM, by which the encoder chooses levels and quantisation indices.

MS-SSIM (Wang, Simoncelli and Bovik 2003, "Multiscale structural similarity for image quality assessment") loses, at
each scale, the variance of the error in a window over about twice the variance of the image there. So an error counts
less where the image varies, and less at frequencies that vanish from the coarser scales. The decoder knows nothing of
it.
"""

import functools
import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.model.transform.reduction import LAST_LEVEL
from smalti.model.transform.transform import BASIS_BITS, COEFFICIENTS, COLOURS, SIDE, Transform, step_of
from smalti.util.parallel import in_order

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The weight of each scale, the finest first. An image has as many of them as leave its short side WINDOW pixels."""
WINDOW, SIGMA = 11, 1.5
"""The side in pixels and the deviation of the window, which is Gaussian."""
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
NOISE = 8 / 12
"""What is taken for the variance that the errors of other coefficients add, in squared quantisation steps."""
TYPICAL, TYPICAL_STEP = 4700.0, 3.0
"""One over the weight of a typical image, and how much it grows with a squared step; such an image keeps its level."""
LEVELS_AN_OCTAVE, MOST_LEVELS = 4, 12
"""By how many levels an image is coded more coarsely that weighs half as much, and by how many at most."""
FACTOR, ONE, MOST = 0.8, 256, 65535
"""How much more bits count than for least squared error, where an error weighs as much as in all of an image; the
factor that stands for 1, and the largest one."""
LEAST_SEEN = 1 / 16
"""An error under full transparency weighs so much, as a share."""
TOGETHER = 1 << 18
"""The samples of images that are looked at together."""


@dataclass(frozen=True, eq=False)
class Weighed:
    """How images are coded so that their error, weighed, is small for the bits that it takes."""

    levels: NDArray[np.int64]  # n
    factors: NDArray[np.uint16]  # n rows columns COEFFICIENTS: how much more bits count, times 256


def weighed(transform: Transform, x: Pixels, levels: NDArray[np.int64], alpha: Pixels | None = None) -> Weighed:
    """Weigh the errors of images (`n h w c`, c 1 or 3), which are to be coded at about these levels (`n`).

    alpha: that of the images (`n h w`), if they have it.
    """
    each = max(1, TOGETHER // max(1, x[0].size)) if len(x) else 1
    places = [slice(i, i + each) for i in range(0, len(x), each)]
    some = in_order(lambda at: _weighed(transform, x[at], levels[at], None if alpha is None else alpha[at]), places)
    parts = list(some)
    return Weighed(np.concatenate([part.levels for part in parts]), np.concatenate([part.factors for part in parts]))


def _weighed(transform: Transform, x: Pixels, levels: NDArray[np.int64], alpha: Pixels | None) -> Weighed:
    squared_steps = np.array([4.0 ** step_of(level) for level in levels.tolist()])
    weights, seen = _weights(transform, x, NOISE * squared_steps), np.ones(1, np.float32)
    of_blocks = weights.mean(3, dtype=np.float64)  # n rows columns
    if alpha is not None:
        seen = _of_blocks(alpha[..., None].astype(np.float32) / np.float32(255), 0, of_blocks.shape[1:])[..., 0]
        weights *= np.maximum(seen, LEAST_SEEN)[..., None]
    shares = np.broadcast_to(seen, of_blocks.shape).reshape(len(x), -1)
    typical = 1 / (TYPICAL + TYPICAL_STEP * squared_steps)
    logs = (shares * np.log(of_blocks).reshape(len(x), -1)).sum(1) / np.maximum(shares.sum(1), 1e-6)
    usual = np.where(shares.any(1), np.exp(logs), typical)
    coarser = LEVELS_AN_OCTAVE * np.log2(typical / usual)
    found = np.rint(levels + coarser.clip(-MOST_LEVELS, MOST_LEVELS)).clip(0, LAST_LEVEL).astype(np.int64)
    factors = FACTOR * ONE * usual[:, None, None, None] / weights
    return Weighed(found, np.rint(factors).clip(1, MOST).astype(np.uint16))


def _weights(transform: Transform, x: Pixels, noise: NDArray[np.float64]) -> Floats:
    """Return how much of MS-SSIM a squared error of each coefficient costs (`n rows columns COEFFICIENTS`), per pixel.

    noise: the variance that is added to that of each image (`n`), at the finest scale.
    """
    structures, means = _shares(transform)
    n, h, w, _ = x.shape
    blocks, z = (-(-h // SIDE), -(-w // SIDE)), x.astype(np.float32)
    scales = min(len(SCALES), 1 + int(math.log2(max(min(h, w), WINDOW) / WINDOW)))
    found = np.zeros((n, *blocks, COEFFICIENTS), np.float32)
    for scale in range(scales):
        share = SCALES[scale] / sum(SCALES[:scales])
        mean = _blurred(z)
        variance = np.maximum(_blurred(z * z) - mean * mean, 0)
        added = (noise / 4**scale).astype(np.float32).reshape(n, 1, 1, 1)
        found += _sums(_of_blocks(share / (2 * variance + C2 + added), scale, blocks), structures[scale])
        if scale == scales - 1:
            found += _sums(_of_blocks(share / (2 * mean * mean + C1), scale, blocks), means[scale])
        else:
            z = _halved(z)
    return found


def _sums(of_blocks: Floats, shares: Floats) -> Floats:
    """Return the weights (`n rows columns COEFFICIENTS`) of those of channels; a gray image has three equal ones."""
    found: Floats = of_blocks @ (shares.T if of_blocks.shape[3] == COLOURS else shares.sum(1)[None])
    return found


def _shares(transform: Transform) -> tuple[Floats, Floats]:
    """Return how much of the error of each coefficient is structure, and how much mean, at each scale.

    Both are `scales COEFFICIENTS COLOURS`, of a squared error of 1 in the coefficient, per pixel of the scale.
    """
    if transform not in _KNOWN:
        _KNOWN[transform] = _made_shares(transform)
    return _KNOWN[transform]


_KNOWN: weakref.WeakKeyDictionary[Transform, tuple[Floats, Floats]] = weakref.WeakKeyDictionary()


def _made_shares(transform: Transform) -> tuple[Floats, Floats]:
    basis = transform.backward.astype(np.float32).reshape(COEFFICIENTS, COLOURS, SIDE, SIDE) / np.float32(
        1 << BASIS_BITS
    )
    z: Floats = basis.transpose(0, 2, 3, 1)
    structures, means = list[Floats](), list[Floats]()
    for _ in SCALES:
        edges = [(0, 0), (WINDOW, WINDOW), (WINDOW, WINDOW), (0, 0)]
        all_of_it, mean = (z * z).sum((1, 2)), (_blurred(np.pad(z, edges)) ** 2).sum((1, 2))
        structures.append(all_of_it - mean)
        means.append(mean)
        z = _halved(z) if len(z[0]) > 1 else z / np.float32(4)  # a block is less than a pixel then
    return np.stack(structures), np.stack(means)


def _blurred(x: Floats) -> Floats:
    """Return `x` (`n h w c`) under the window; what is outside is like the nearest pixel inside."""
    half = WINDOW // 2
    wide = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)), mode="edge")
    rows = functools.reduce(np.add, (tap * part for tap, part in _under(wide, 1, x.shape[1])))
    found: Floats = functools.reduce(np.add, (tap * part for tap, part in _under(rows, 2, x.shape[2])))
    return found


def _under(wide: Floats, axis: int, size: int) -> Iterator[tuple[np.float32, Floats]]:
    taps = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    for i, tap in enumerate(taps / taps.sum()):
        yield np.float32(tap), (wide[:, i : i + size] if axis == 1 else wide[:, :, i : i + size])


def _halved(x: Floats) -> Floats:
    h, w = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    halved: Floats = (x[:, :h:2, :w:2] + x[:, 1:h:2, :w:2] + x[:, :h:2, 1:w:2] + x[:, 1:h:2, 1:w:2]) / np.float32(4)
    return halved


def _of_blocks(x: Floats, scale: int, blocks: tuple[int, ...]) -> Floats:
    """Return the means over blocks (`n rows columns c`) of what is known of the pixels of a scale (`n h w c`)."""
    n, c, (rows, columns) = len(x), x.shape[3], blocks
    if scale > 3:  # pixels are larger than blocks
        wide = x.repeat(2, 1).repeat(2, 2)
        side = 1
    else:
        wide, side = x, SIDE >> scale
    more = [
        (0, 0),
        *((0, max(0, count * side - size)) for count, size in zip(blocks, wide.shape[1:3], strict=True)),
        (0, 0),
    ]
    wide = np.pad(wide, more, mode="edge")[:, : rows * side, : columns * side]
    means: Floats = wide.reshape(n, rows, side, columns, side, c).mean((2, 4))
    return means
