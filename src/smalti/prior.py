# SPDX-License-Identifier: MIT
"""The prior: how likely each symbol of a cell's latent is, given the latents before it. Integers only.

A masked MLP gives each latent three logistics. Their cumulative distributions come from a table; mixed with integer
weights they give the frequencies for the entropy coder.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.masked import POINTS, MaskedMLP, Steps, anchor_columns
from smalti.tables import TOTAL, Ints

COMPONENTS = 3
"""Logistics in a mixture."""
OUTPUTS = 3 * COMPONENTS - 1
LATENT_MAX = 4095
"""Of the absolute value of a latent; 256 is the 1.0 of training."""
SCALES = 112
"""Widths that a logistic may have: 2^(i/8) units of a latent, i from 0."""
CDF_STEPS = 512
"""Entries of the table of the logistic's cumulative distribution to one width."""
CDF_RANGE = 12
"""The table goes from minus to plus so many widths."""
CDF_ONE = 1 << 16
WEIGHT_RANGE = 192
"""The table of mixture weights goes from minus to plus so many sixteenths of a logit."""
WEIGHT_ONE = 1 << 12
INVERSE_BITS = 17

MAX_SYMBOLS = 1 << 13
"""From the lowest symbol of a latent to the highest."""

Mixture = tuple[Ints, Ints, Ints]
"""Centres (units of a latent), widths (indices) and logits (sixteenths) of a latent: COMPONENTS, the last one fewer."""


@dataclass(frozen=True, eq=False)
class Prior:
    """The masked MLP and the tables that turn its outputs into probabilities.

    Raises:
        ValueError: shapes do not fit, or a table is none.
    """

    mlp: MaskedMLP
    cdf: NDArray[np.int32]  # of the logistic: 2 * CDF_RANGE * CDF_STEPS + 1, rising from 0 to CDF_ONE
    weights: NDArray[np.int32]  # of a component by its logit: 2 * WEIGHT_RANGE + 1, from 0 to WEIGHT_ONE
    inverse: NDArray[np.int32]  # of the widths: SCALES, CDF_STEPS << INVERSE_BITS over twice the width

    def __post_init__(self) -> None:
        if self.mlp.context or len(self.mlp.w3) != self.latents * OUTPUTS or self.mlp.largest != LATENT_MAX:
            raise ValueError("prior: a network of another kind")
        shapes = {"cdf": 2 * CDF_RANGE * CDF_STEPS + 1, "weights": 2 * WEIGHT_RANGE + 1, "inverse": SCALES}
        for name, length in shapes.items():
            if getattr(self, name).shape != (length,) or getattr(self, name).dtype.kind not in "iu":
                raise ValueError(f"prior: {name} is not {length} integers")
        for table, top in ((self.cdf, CDF_ONE), (self.weights, WEIGHT_ONE)):
            if table.min() < 0 or table.max() > top or (np.diff(table) < 0).any():
                raise ValueError(f"prior: a table does not rise from 0 at least to {top} at most")
        if self.inverse.min() < 1 or self.inverse.max() > CDF_STEPS << INVERSE_BITS - 1:
            raise ValueError("prior: an inverse width out of range")

    @property
    def latents(self) -> int:
        """How many latents there are."""
        return self.mlp.latents

    def outputs(self, v: Ints, points: Ints) -> Mixture:
        """The mixtures of all latents at once, for latents `v` (`n l`) known already; `n l ...`.

        The same integers as a `Walk` over `v` finds one group after another.
        """
        return _split(self.mlp.outputs(v.T.astype(np.float32), anchor_columns(points)))

    @functools.cached_property
    def lookup(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """The logistic's table, the inverse widths, and how far from a centre (twice) each leads to the table's end."""
        limit = (CDF_RANGE * CDF_STEPS << INVERSE_BITS) // self.inverse.astype(np.int64)
        return self.cdf.astype(np.int32), self.inverse.astype(np.int32), limit.astype(np.int32)


@dataclass(frozen=True, eq=False)
class Grid:
    """How symbols become latents at each operating point: latent = symbol * step. `p`: POINTS, `l`: latents.

    Raises:
        ValueError: a step or a range of symbols that cannot be.
    """

    steps: Ints  # p l, at least 1
    low: Ints  # p l, lowest symbol
    high: Ints  # p l, highest symbol

    def __post_init__(self) -> None:
        p, n = self.steps.shape
        if p != POINTS or not self.low.shape == self.high.shape == (p, n):
            raise ValueError(f"grid: arrays of shapes {self.steps.shape}, {self.low.shape}, {self.high.shape}")
        if self.steps.min() < 1 or self.steps.max() > LATENT_MAX:
            raise ValueError(f"grid: steps must be from 1 to {LATENT_MAX}")
        if (self.low > 0).any() or (self.high < 0).any() or (self.high - self.low).max() >= MAX_SYMBOLS:
            raise ValueError(f"grid: each range of symbols must hold 0 and at most {MAX_SYMBOLS} symbols")


def to_latents(symbols: Ints, steps: Ints) -> Ints:
    """Symbols to latents: times the step, and no further from 0 than the networks can take."""
    return (symbols * steps).clip(-LATENT_MAX, LATENT_MAX)


@dataclass(frozen=True, eq=False)
class Column:
    """What one latent may be, for `n` rows (images, or cells of images)."""

    low: int  # lowest symbol
    steps: Ints  # n: of a symbol, in units of the latent
    frequencies: Ints  # n k, for the symbols from `low` on


class Walk:
    """A walk over the latents of rows at operating points `points` (`n`), group by group: what each may be."""

    def __init__(self, prior: Prior, grid: Grid, points: Ints) -> None:
        self.prior, self.grid, self.points = prior, grid, points
        self._present = np.unique(points) if len(points) else np.zeros(1, np.int64)
        nothing = np.zeros((0, len(points)), np.float32)
        self._steps = Steps(prior.mlp, nothing, anchor_columns(points))

    def groups(self) -> Iterator[list[Column]]:
        """What the latents of each group may be; each group wants a call of `take` before the next."""
        for first in range(0, self.prior.latents, self.prior.mlp.group):
            mixtures = self._steps.next()
            yield [self._column(first + j, _split(mixtures[:, j])) for j in range(mixtures.shape[1])]

    def _column(self, i: int, mixture: Mixture) -> Column:
        """Symbols of latent `i` go from the lowest to the highest of any operating point present."""
        grid = self.grid
        low, high = int(grid.low[self._present, i].min()), int(grid.high[self._present, i].max())
        steps = grid.steps[self.points, i]
        borders = (2 * np.arange(low, high) + 1) * steps[:, None]
        return Column(low, steps, frequencies(self.prior, mixture, borders))

    def take(self, columns: Sequence[Column], symbols: Ints) -> None:
        """The latents of the group of `columns` are `symbols` (`n group`)."""
        self._steps.take(to_latents(symbols, np.stack([column.steps for column in columns], 1)))


def _split(outputs: Ints) -> Mixture:
    """`... o` to centres, widths and logits within their ranges."""
    centres, widths, logits = np.split(outputs, [COMPONENTS, 2 * COMPONENTS], axis=-1)
    return centres, widths.clip(0, SCALES - 1), logits.clip(-WEIGHT_RANGE, WEIGHT_RANGE)


def frequencies(prior: Prior, mixture: Mixture, edges: Ints) -> Ints:
    """Integer frequencies, at least 1 and summing to 2^24.

    mixture: centres, widths, logits of `n` images.
    edges: `n k-1`, twice the borders between the k symbols, rising; what is beyond belongs to the first and last.
    Returns `n k`.
    """
    n, k = len(edges), edges.shape[1] + 1
    cumulative = np.empty((n, k + 1), np.int64)
    cumulative[:, 0], cumulative[:, -1] = 0, CDF_ONE * WEIGHT_ONE
    cumulative[:, 1:-1] = mixture_cdf(prior, mixture, edges)
    return np.diff(scaled(cumulative, np.int64(k)), axis=1) + 1


def scaled(cumulative: Ints, k: Ints | np.int64) -> Ints:
    """A distribution that goes up to 2^28 as one that goes up to 2^24 - k, which leaves 1 for each of `k` symbols."""
    result: Ints = cumulative * (TOTAL - k) >> 28
    return result


def mixture_cdf(prior: Prior, mixture: Mixture, edges: Ints) -> NDArray[np.int32]:
    """The mixture's cumulative distribution, 0 to 2^28, at half of `edges` (`n e`, or `n l e` for all latents)."""
    centres, widths, logits = mixture
    cdf, inverse, limit = prior.lookup
    inverse, limit = inverse[widths], limit[widths]
    first = prior.weights[logits[..., 0] + WEIGHT_RANGE]
    second = (WEIGHT_ONE - first) * prior.weights[logits[..., 1] + WEIGHT_RANGE] >> 12  # WEIGHT_ONE is 2^12
    whole, twice = edges.astype(np.int32), 2 * centres.astype(np.int32)
    total = np.zeros(edges.shape, np.int32)
    for c, weight in enumerate((first, second, WEIGHT_ONE - first - second)):
        z = whole - twice[..., c, None]
        np.minimum(z, limit[..., c, None], out=z)  # beyond, the table would end
        np.maximum(z, -limit[..., c, None], out=z)
        z *= inverse[..., c, None]
        z >>= INVERSE_BITS
        part = cdf.take(z + CDF_RANGE * CDF_STEPS)
        part *= weight[..., None]
        total += part
    return total
