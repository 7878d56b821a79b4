# SPDX-License-Identifier: MIT
"""Integer frequency tables: the probabilities that the entropy coder uses, and the bits that symbols cost."""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

PRECISION = 24
"""The bits of a probability: the frequencies of a table sum to 2^24, the precision of the entropy coder."""
TOTAL = 1 << PRECISION

MASS_BITS, LOG2_STEPS, FRACTION_BITS = 28, 4096, 32
"""A mass is a share of 2^28. Its bits, in units of 2^-32, come from a table of log2 with so many steps an octave."""

Ints = NDArray[np.int64]


LOG2: Ints = np.rint(np.log2(1 + np.arange(LOG2_STEPS + 1) / LOG2_STEPS) * (1 << FRACTION_BITS)).astype(np.int64)
"""The table of log2, from 1 to 2."""


def mass_bits(mass: Ints) -> Ints:
    """Return the bits that a symbol of a mass of 1 to 2^28 costs in an ideal coder, in units of 2^-32 bits.

    The result is within 2^-26 bits, and it is the same integer in every engine and on every machine.

    >>> (mass_bits(np.array([1 << 28, 1 << 27, 3])) / 2**32).round(6).tolist()
    [0.0, 1.0, 26.415037]
    """
    shift = MASS_BITS + 1 - np.frexp(mass.astype(np.float64))[1].astype(np.int64)
    whole = mass << shift  # 2^28 to 2^29
    step, rest = (whole >> 16) & LOG2_STEPS - 1, whole & 65535
    low, high = LOG2[step], LOG2[step + 1]
    result: Ints = (shift << FRACTION_BITS) - (low + ((high - low) * rest >> 16))
    return result


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
