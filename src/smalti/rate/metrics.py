# SPDX-License-Identifier: MIT
"""Measure how far decoded images are from their originals: MSE and PSNR.

Where there is alpha, the squared error of a colour counts as much as its pixel is opaque: alpha / 255 of it. The mean
is over what is seen: each pixel counts as much as it is opaque there, too. So colours that alpha hides count for
nothing, and do not make the error of the others look smaller. The error of alpha itself counts in full.
"""

import math

import numpy as np
from numpy.typing import NDArray


def mse(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    """Return the mean squared error of two arrays of images of one shape, on pixels scaled to [0, 1].

    >>> mse(np.zeros((1, 2, 2), np.uint8), np.full((1, 2, 2), 51, np.uint8))
    0.04
    """
    if x.ndim == 4 and x.shape[3] in (2, 4):
        return float(squared_errors(x, x_hat).mean())
    total = sum(float(((a.astype(np.float32) - b) ** 2).sum(dtype=np.float64)) for a, b in zip(x, x_hat, strict=True))
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
    squared: NDArray[np.float64] = ((x.astype(np.float64) - x_hat) / 255) ** 2
    if x.ndim == 4 and x.shape[3] in (2, 4):
        squared[..., :-1] *= x[..., -1:] / 255
    errors: NDArray[np.float64] = squared.reshape(len(x), -1).sum(1) / np.maximum(seen_samples(x), 1)
    return errors


def seen_samples(x: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how many samples of colours each image (`n h w` or `n h w c`) shows: as many as it has, weighed by alpha.

    >>> seen_samples(np.zeros((1, 2, 2), np.uint8)).tolist()
    [4.0]
    """
    if x.ndim == 4 and x.shape[3] in (2, 4):
        seen: NDArray[np.float64] = x[..., -1].reshape(len(x), -1).sum(1) / 255.0 * (x.shape[3] - 1)
        return seen
    return np.full(len(x), float(x[0].size) if len(x) else 0.0)
