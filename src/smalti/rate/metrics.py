# SPDX-License-Identifier: MIT
"""Measure how far decoded images are from their originals: MSE and PSNR.

The squared error of a colour counts as much as its pixel is opaque: alpha / 255 of it. So colours that alpha hides
count for nothing. The error of alpha itself counts in full. The mean is over the samples of colours, so that alpha that
is kept exactly does not make the error of colours look smaller.
"""

import math

import numpy as np
from numpy.typing import NDArray


def mse(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    """Return the mean squared error of two arrays of images of one shape, on pixels scaled to [0, 1].

    >>> mse(np.zeros((1, 2, 2), np.uint8), np.full((1, 2, 2), 51, np.uint8))
    0.04
    """
    images = zip(x, x_hat, strict=True)
    total = sum(float(_squared(a[None], b[None], x.ndim).sum(dtype=np.float64)) for a, b in images)
    return total / x.size / 255**2


def psnr(error: float) -> float:
    """Return the peak signal-to-noise ratio in dB of an MSE on [0, 1]; it is infinite for no error.

    >>> psnr(0.01)
    20.0
    """
    return math.inf if error == 0 else -10 * math.log10(error)


def squared_errors(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the MSE of each image (`n`), on pixels in [0, 1].

    >>> squared_errors(np.zeros((1, 2, 2), np.uint8), np.full((1, 2, 2), 51, np.uint8)).round(6).tolist()
    [0.04]
    """
    errors: NDArray[np.float64] = _squared(x, x_hat, x.ndim).reshape(len(x), -1).mean(1, dtype=np.float64) / 255**2
    return errors


def _squared(x: NDArray[np.uint8], x_hat: NDArray[np.uint8], ndim: int) -> NDArray[np.float32]:
    """Return squared errors of samples, whose mean is an MSE; they are weighed by alpha (`n h w c`, if `ndim` is 4)."""
    squared: NDArray[np.float32] = (x.astype(np.float32) - x_hat) ** 2
    if ndim == 4 and x.shape[3] in (2, 4):
        squared[..., :-1] *= x[..., -1:] / np.float32(255)
        squared *= x.shape[3] / (x.shape[3] - 1)
    return squared
