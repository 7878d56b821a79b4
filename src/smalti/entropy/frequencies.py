# SPDX-License-Identifier: MIT
"""Integer frequency tables: the probabilities that the entropy coder uses, and the bits that symbols cost."""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

PRECISION = 24
"""The bits of a probability: the frequencies of a table sum to 2^24, the precision of the entropy coder."""
TOTAL = 1 << PRECISION

Ints = NDArray[np.int64]


def bits(frequencies: Ints, symbols: Ints) -> NDArray[np.float64]:
    """Return the bits that each symbol (`n`, from 0) costs in an ideal coder, by its row of `frequencies` (`n k`).

    >>> bits(np.array([[TOTAL // 2, TOTAL // 4, TOTAL // 4]]), np.array([1])).tolist()
    [2.0]
    """
    found = np.take_along_axis(frequencies, symbols[:, None], axis=1)[:, 0]
    cost: NDArray[np.float64] = PRECISION - np.log2(found.astype(np.float64))
    return cost


def by_value(values: Ints) -> Iterator[tuple[int, Ints]]:
    """Yield each different value of `values`, in rising order, and the indices where it stands.

    >>> [(value, where.tolist()) for value, where in by_value(np.array([7, 3, 7]))]
    [(3, [1]), (7, [0, 2])]
    """
    order = np.argsort(values, kind="stable")
    rising = values[order]
    starts = np.flatnonzero(np.diff(rising, prepend=rising[:1] - 1)).tolist()
    for start, end in itertools.pairwise([*starts, len(values)]):
        yield int(rising[start]), order[start:end]


def uniform(n: int, k: int) -> Ints:
    """Return the frequencies (`n k`) of `k` equally likely symbols; the first symbol takes the remainder."""
    rows = np.full((n, k), TOTAL // k, np.int64)
    rows[:, 0] += TOTAL % k
    return rows
