# SPDX-License-Identifier: MIT
"""Which units of a network are often zero together: the compiled core takes units in pairs and skips those of zeros."""

import numpy as np
from numpy.typing import NDArray

MOST_UNITS = 512
"""In larger networks, units are paired as they stand: to find better pairs would take long."""

Ints = NDArray[np.int64]


def pair_units(active: NDArray[np.bool_]) -> Ints:
    """Return an order of units such that neighbours are active together as often as a greedy choice finds.

    active: whether each unit is, in each of some trials (`trials units`).

    >>> pair_units(np.array([[True, False, True, False], [False, True, False, True]])).tolist()
    [0, 2, 1, 3]
    """
    n = active.shape[1]
    if n > MOST_UNITS:
        return np.arange(n)
    together = active.T.astype(np.float32) @ active.astype(np.float32)  # whole numbers, exact in float32
    first, second = np.triu_indices(n, 1)
    best = np.argsort(-together[first, second], kind="stable")
    left, order = np.ones(n, bool), list[int]()
    for i, j in zip(first[best].tolist(), second[best].tolist(), strict=True):
        if left[i] and left[j]:
            order += [i, j]
            left[i] = left[j] = False
    return np.array([*order, *np.flatnonzero(left).tolist()], np.int64)
