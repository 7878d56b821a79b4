# SPDX-License-Identifier: MIT
"""Discretised logistic mixtures in integers, as frequencies for the entropy coder.

A symbol's probability is the mixture's mass between the borders of its bin (PixelCNN++, Salimans et al. 2017). The
cumulative distribution of a logistic is looked up in a table, so that no floating-point function is called.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.entropy.frequencies import TOTAL, Ints
from smalti.util.parallel import once

SCALES = 112
"""The number of widths that a logistic may have: 2^(i/8) units, i from 0."""
CDF_STEPS = 512
"""The table of the logistic's cumulative distribution has so many entries for one width."""
CDF_RANGE = 12
"""The table covers so many widths on each side of the centre."""
CDF_ONE = 1 << 16
WEIGHT_RANGE = 192
"""The table of mixture weights covers logits from minus to plus so many sixteenths."""
WEIGHT_BITS = 12
WEIGHT_ONE = 1 << WEIGHT_BITS
WHOLE_BITS = 28
"""The cumulative distribution of a mixture goes from 0 to 2^28."""
WHOLE = 1 << WHOLE_BITS
INVERSE_BITS = 17

Mixture = tuple[Ints, Ints, Ints]
"""The centres (units), widths (indices) and logits (sixteenths) of a mixture: `... k`, and `... k-1` for logits."""


@dataclass(frozen=True, eq=False)
class Logistics:
    """The tables from which logistic mixtures are computed.

    Raises:
        ValueError: a table has the wrong length, type or values.
    """

    cdf: NDArray[np.int32]  # 2 * CDF_RANGE * CDF_STEPS + 1: the logistic's distribution, rising from 0 to CDF_ONE
    weights: NDArray[np.int32]  # 2 * WEIGHT_RANGE + 1: the sigmoid of a logit, from 0 to WEIGHT_ONE
    inverse: NDArray[np.int32]  # SCALES: CDF_STEPS << INVERSE_BITS over twice the width

    def __post_init__(self) -> None:
        shapes = {"cdf": 2 * CDF_RANGE * CDF_STEPS + 1, "weights": 2 * WEIGHT_RANGE + 1, "inverse": SCALES}
        for name, length in shapes.items():
            if getattr(self, name).shape != (length,) or getattr(self, name).dtype != np.int32:
                raise ValueError(f"prior: {name} is not {length} integers of 32 bits")
        for table, top in ((self.cdf, CDF_ONE), (self.weights, WEIGHT_ONE)):
            if table.min() < 0 or table.max() > top or (np.diff(table) < 0).any():
                raise ValueError(f"prior: a table does not rise from 0 at least to {top} at most")
        if self.inverse.min() < 1 or self.inverse.max() > CDF_STEPS << INVERSE_BITS - 1:
            raise ValueError("prior: an inverse width is out of range")

    @once
    def lookup(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Return the logistic's table, the inverse widths, and twice the distance at which each reaches its end."""
        limit = (CDF_RANGE * CDF_STEPS << INVERSE_BITS) // self.inverse.astype(np.int64)
        return self.cdf.astype(np.int32), self.inverse.astype(np.int32), limit.astype(np.int32)

    def shares(self, logits: Ints) -> list[Ints]:
        """Return the weights of the components (`...` each), which sum to WEIGHT_ONE (stick-breaking).

        Each component takes the share that its logit says of what those before it left; the last takes the rest.
        """
        left, shares = np.full(logits.shape[:-1], WEIGHT_ONE, np.int64), []
        for k in range(logits.shape[-1]):
            shares.append(left * self.weights[logits[..., k] + WEIGHT_RANGE] >> WEIGHT_BITS)
            left = left - shares[-1]
        return [*shares, left]


def split_outputs(outputs: Ints, components: int) -> Mixture:
    """Return the outputs of a network (`... 3 * components - 1`) as a mixture, clipped to its ranges."""
    centres, widths, logits = np.split(outputs, [components, 2 * components], axis=-1)
    return centres, widths.clip(0, SCALES - 1), logits.clip(-WEIGHT_RANGE, WEIGHT_RANGE)


def mixture_cdf(logistics: Logistics, mixture: Mixture, edges: Ints) -> NDArray[np.int32]:
    """Return the mixture's cumulative distribution, 0 to 2^28, at half of `edges` (`... e`)."""
    centres, widths, logits = mixture
    cdf, inverse, limit = logistics.lookup
    inverse, limit = inverse[widths], limit[widths]
    whole, twice = edges.astype(np.int32), 2 * centres.astype(np.int32)
    total = np.zeros(edges.shape, np.int32)
    for c, share in enumerate(logistics.shares(logits)):
        z = whole - twice[..., c, None]
        np.minimum(z, limit[..., c, None], out=z)  # the table ends there
        np.maximum(z, -limit[..., c, None], out=z)
        z *= inverse[..., c, None]
        z >>= INVERSE_BITS
        part = cdf.take(z + CDF_RANGE * CDF_STEPS)
        part *= share.astype(np.int32)[..., None]
        total += part
    return total


def frequencies(logistics: Logistics, mixture: Mixture, edges: Ints) -> Ints:
    """Return the integer frequencies of k symbols under mixtures (`n k`); each is at least 1, a row sums to 2^24.

    mixture: one for each of `n` rows.
    edges: twice the borders between the k symbols, rising (`n k-1`); the mass beyond them belongs to the first and the
        last symbol.
    """
    n, k = len(edges), edges.shape[1] + 1
    cumulative = np.empty((n, k + 1), np.int64)
    cumulative[:, 0], cumulative[:, -1] = 0, 1 << WHOLE_BITS
    cumulative[:, 1:-1] = mixture_cdf(logistics, mixture, edges)
    return np.diff(scaled(cumulative, np.int64(k)), axis=1) + 1


@dataclass(frozen=True, eq=False)
class Column:
    """The distributions of the symbols from `low` to `high`, for `n` rows, each by a mixture of its own."""

    logistics: Logistics
    outputs: Ints  # n 3*components-1: of the network
    steps: Ints  # n: from a symbol to the next one, in units of the logistics
    low: int
    high: int

    def part(self, rows: slice) -> "Column":
        """Return the column that has only these rows."""
        return Column(self.logistics, self.outputs[rows], self.steps[rows], self.low, self.high)

    @once
    def frequencies(self) -> Ints:
        """Return the integer frequencies of the symbols (`n k`)."""
        mixture = split_outputs(self.outputs, (self.outputs.shape[1] + 1) // 3)
        borders = (2 * np.arange(self.low, self.high) + 1) * self.steps[:, None]
        return frequencies(self.logistics, mixture, borders)


def scaled(cumulative: Ints, k: Ints | np.int64) -> Ints:
    """Return a cumulative distribution scaled from 2^28 to 2^24 - k, which leaves 1 for each of `k` symbols."""
    result: Ints = cumulative * (TOTAL - k) >> WHOLE_BITS
    return result
