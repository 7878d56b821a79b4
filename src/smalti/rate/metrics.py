# SPDX-License-Identifier: MIT
"""Measure how far decoded images are from their originals: MSE and PSNR."""

import math

import numpy as np
from numpy.typing import NDArray


def mse(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    """Return the mean squared error of two arrays of images of one shape, on pixels scaled to [0, 1].

    >>> mse(np.zeros((1, 2, 2), np.uint8), np.full((1, 2, 2), 51, np.uint8))
    0.04
    """
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
    off = (x.astype(np.float64) - x_hat).reshape(len(x), -1) / 255
    errors: NDArray[np.float64] = (off**2).mean(1)
    return errors
