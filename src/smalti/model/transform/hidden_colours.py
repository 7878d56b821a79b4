# SPDX-License-Identifier: MIT
"""Fill the colours that alpha hides with what is around them, so that they cost nothing by transform."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def filled(colours: Pixels, alpha: Pixels) -> Pixels:
    """Return colours (`n h w c`) of which those that alpha (`n h w`) hides are like what is around them.

    Means of ever larger squares, weighed by alpha, are taken; each hidden sample gets that of the smallest square that
    shows anything.
    """
    hidden = alpha == 0
    if not hidden.any():
        return colours
    weights = [alpha.astype(np.float64)[..., None]]
    sums = [colours * weights[0]]
    while max(sums[-1].shape[1:3]) > 1:
        sums.append(_halved(sums[-1]))
        weights.append(_halved(weights[-1]))
    means = np.zeros_like(sums[-1])
    for total, weight in zip(reversed(sums), reversed(weights), strict=True):  # the largest square comes first
        means = means.repeat(2, 1).repeat(2, 2)[:, : total.shape[1], : total.shape[2]]
        means = np.where(weight > 0, total / np.maximum(weight, 1), means)
    return np.where(hidden[..., None], np.rint(means), colours).clip(0, 255).astype(np.uint8)


def _halved(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of squares of 2x2 (`n h w c`)."""
    n, h, w, c = x.shape
    even = np.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
    summed: NDArray[np.float64] = even.reshape(n, (h + 1) // 2, 2, (w + 1) // 2, 2, c).sum((2, 4))
    return summed
