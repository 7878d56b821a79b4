# SPDX-License-Identifier: MIT
"""How far decoded pictures are from their originals (PSNR, MS-SSIM), and how curves of bytes compare (BD-rate)."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from smalti.rate.metrics import psnr
from smalti.types import Pixels

Floats = NDArray[np.float32]
Grid = NDArray[np.float64]
Curve = Sequence[tuple[float, float]]
"""Points (bytes an image, dB) of one codec with one kind of settings."""

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The weight of each scale, the finest first (Wang, Simoncelli, Bovik: Multi-scale structural similarity, 2003)."""
_WINDOW = 11
_SIGMA = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_BATCH = 64  # images at a time, which bounds memory


def psnr_of(x: Iterable[Pixels], x_hat: Iterable[Pixels]) -> float:
    """Return the PSNR in dB over RGB, of the squared error averaged over all samples of all images.

    Images with alpha are compared as people see them: over black, and over white; the error is the mean of both.
    """
    total, count = 0.0, 0
    for a, b in zip(x, x_hat, strict=True):
        for one, other in zip(_views(a), _views(b, like=a), strict=True):
            total += float(((one - other) ** 2).sum(dtype=np.float64))
            count += one.size
    return psnr(total / count / 255**2)


def ms_ssim_of(x: Sequence[Pixels], x_hat: Sequence[Pixels]) -> float:
    """Return the mean MS-SSIM of all images (`h w 3` or `h w 4` each), over RGB.

    An image has as many of the five scales as leave its short side at least 11 pixels, the width of the window; the
    weights of these scales are divided by their sum. Images with alpha are seen over black and over white.
    """
    groups = defaultdict[tuple[int, ...], list[int]](list)
    for i, image in enumerate(x):
        groups[image.shape].append(i)
    total = 0.0
    for members in groups.values():
        for at in range(0, len(members), _BATCH):
            some = members[at : at + _BATCH]
            views = zip(
                zip(*(_views(x[i]) for i in some), strict=True),
                zip(*(_views(x_hat[i], like=x[i]) for i in some), strict=True),
                strict=True,
            )
            total += len(some) * float(np.mean([_ms_ssim(np.stack(a), np.stack(b)).mean() for a, b in views]))
    return total / len(x)


def decibel(similarity: float) -> float:
    """Return MS-SSIM in dB, which spreads the values near 1."""
    return math.inf if similarity >= 1 else -10 * math.log10(1 - similarity)


def _views(image: Pixels, like: Pixels | None = None) -> list[Floats]:
    """Return an image as it is seen (`h w 3` each): itself, or over black and over white if `like` has alpha."""
    if (image if like is None else like).shape[-1] == 3:
        return [image[..., :3].astype(np.float32)]
    alpha = (image[..., 3:] if image.shape[-1] == 4 else np.full((1, 1, 1), 255)).astype(np.float32) / 255
    black = image[..., :3].astype(np.float32) * alpha
    return [black.astype(np.float32), (black + 255 * (1 - alpha)).astype(np.float32)]


def _ms_ssim(x: Floats, x_hat: Floats) -> Grid:
    """Return the MS-SSIM of each image of two batches (`n h w 3`), averaged over the channels."""
    short = min(x.shape[1:3])
    if short < _WINDOW:
        edges = [(0, 0), *((0, max(0, _WINDOW - side)) for side in x.shape[1:3]), (0, 0)]
        x, x_hat = (np.pad(some, edges, mode="edge") for some in (x, x_hat))
    scales = max(1, min(len(WEIGHTS), int(math.log2(max(short, _WINDOW) / _WINDOW)) + 1))
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    result = np.ones((len(x), x.shape[-1]))
    for scale, weight in enumerate(weights):
        similar, contrast = _ssim(x, x_hat)
        result *= np.maximum(similar if scale == scales - 1 else contrast, 0) ** weight
        x, x_hat = _halved(x), _halved(x_hat)
    means: Grid = result.mean(1)
    return means


def _ssim(x: Floats, x_hat: Floats) -> tuple[Grid, Grid]:
    """Return the SSIM, and its factor of contrast and structure (`n c` each)."""
    mean, mean_hat = _blurred(x), _blurred(x_hat)
    var, var_hat = _blurred(x * x) - mean**2, _blurred(x_hat * x_hat) - mean_hat**2
    covariance = _blurred(x * x_hat) - mean * mean_hat
    contrast = (2 * covariance + _C2) / (var + var_hat + _C2)
    similar = (2 * mean * mean_hat + _C1) / (mean**2 + mean_hat**2 + _C1) * contrast
    return similar.mean((1, 2), dtype=np.float64), contrast.mean((1, 2), dtype=np.float64)


def _blurred(x: Floats) -> Floats:
    """Return `x` under a Gaussian window, where the window lies within the image."""
    taps = np.exp(-((np.arange(_WINDOW) - _WINDOW // 2) ** 2) / (2 * _SIGMA**2))
    taps = (taps / taps.sum()).astype(np.float32)
    h, w = x.shape[1] - _WINDOW + 1, x.shape[2] - _WINDOW + 1
    rows = np.zeros((len(x), h, *x.shape[2:]), np.float32)
    for i, tap in enumerate(taps):
        rows += tap * x[:, i : i + h]
    blurred = np.zeros((len(x), h, w, x.shape[3]), np.float32)
    for i, tap in enumerate(taps):
        blurred += tap * rows[:, :, i : i + w]
    return blurred


def _halved(x: Floats) -> Floats:
    h, w = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    halved: Floats = (x[:, :h:2, :w:2] + x[:, 1:h:2, :w:2] + x[:, :h:2, 1:w:2] + x[:, 1:h:2, 1:w:2]) / np.float32(4)
    return halved


LOW, HIGH, POINTS = 26.0, 36.0, 201
"""The range of PSNR, in dB, over which bytes are compared, and at how many points."""


def grid() -> Grid:
    """Return the PSNRs at which curves are compared."""
    return np.linspace(LOW, HIGH, POINTS)


def log_bytes(curves: Iterable[Curve], at: Grid | None = None) -> Grid:
    """Return the logarithm of the fewest bytes that one of `curves` takes at each dB of `at`; NaN where none reaches.

    Between two points of a curve, log bytes are interpolated linearly. A point that another point of its curve beats
    in bytes and in dB is left out.
    """
    at = grid() if at is None else at
    best = np.full(len(at), np.inf)
    for curve in curves:
        kept = list[tuple[float, float]]()
        for size, quality in sorted(curve):
            if math.isfinite(quality) and (not kept or quality > kept[-1][1]):
                kept.append((size, quality))
        if len(kept) > 1:
            sizes, qualities = np.array(kept).T
            best = np.fmin(best, np.interp(at, qualities, np.log(sizes), left=np.inf, right=np.inf))
    return np.where(np.isfinite(best), best, np.nan)


def bd_rate(ours: Grid, theirs: Grid) -> tuple[float, float]:
    """Return by what share `ours` (`log_bytes`) takes more bytes than `theirs`, and over what share of the range.

    This is the Bjøntegaard delta: the mean difference of log bytes, as a ratio less 1. Only those dB count that both
    curves reach; without any, the result is NaN and 0.
    """
    both = np.isfinite(ours) & np.isfinite(theirs)
    if not both.any():
        return math.nan, 0.0
    return math.expm1(float((ours[both] - theirs[both]).mean())), float(both.mean())
