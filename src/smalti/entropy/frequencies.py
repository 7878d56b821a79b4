# SPDX-License-Identifier: MIT
"""Integer frequency tables: what the entropy coder believes about a symbol, and what that costs."""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

PRECISION = 24
"""Bits of a probability: the frequencies of a table sum to 2^24, the precision of the entropy coder."""
TOTAL = 1 << PRECISION

Ints = NDArray[np.int64]


def bits(frequencies: Ints, symbols: Ints) -> NDArray[np.float64]:
    """What each of `symbols` (`n`, counted from 0) costs in an ideal coder, by its row of `frequencies` (`n k`).

    >>> bits(np.array([[TOTAL // 2, TOTAL // 4, TOTAL // 4]]), np.array([1])).tolist()
    [2.0]
    """
    found = np.take_along_axis(frequencies, symbols[:, None], axis=1)[:, 0]
    cost: NDArray[np.float64] = PRECISION - np.log2(found.astype(np.float64))
    return cost


def by_value(values: Ints) -> Iterator[tuple[int, Ints]]:
    """Each of `values`, rising, and where it is.

    >>> [(value, where.tolist()) for value, where in by_value(np.array([7, 3, 7]))]
    [(3, [1]), (7, [0, 2])]
    """
    order = np.argsort(values, kind="stable")
    rising = values[order]
    starts = np.flatnonzero(np.diff(rising, prepend=rising[:1] - 1)).tolist()
    for start, end in itertools.pairwise([*starts, len(values)]):
        yield int(rising[start]), order[start:end]


def uniform(n: int, k: int) -> Ints:
    """Frequencies of `k` symbols as likely as each other, for `n` images; the first takes what is left over."""
    rows = np.full((n, k), TOTAL // k, np.int64)
    rows[:, 0] += TOTAL % k
    return rows
