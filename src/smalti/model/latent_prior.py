# SPDX-License-Identifier: MIT
"""The prior of a patch's latents: how likely each symbol is, given the latents before it.

It computes in integers only. A masked MLP gives each latent a mixture of three logistics; discretised, the mixture
gives the frequencies for the entropy coder.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from smalti.core.latents import PatchLatents, Rows
from smalti.entropy.frequencies import Ints
from smalti.entropy.logistic_mixture import Column, Logistics, Mixture, mixture_cdf, split_outputs
from smalti.model.masked_mlp import POINTS, MaskedMLP, Steps, embedding_columns, embedding_weights

COMPONENTS = 3
"""The number of logistics in a mixture."""
OUTPUTS = 3 * COMPONENTS - 1
LATENT_MAX = 4095
"""The largest absolute value of a latent; 256 stands for 1.0 of training."""

MAX_SYMBOLS = 1 << 13
"""The most symbols of a latent, from the lowest to the highest."""


@dataclass(frozen=True, eq=False)
class LatentPrior:
    """The masked MLP, and the tables that turn its outputs into probabilities.

    Raises:
        ValueError: the network is of another kind.
    """

    mlp: MaskedMLP
    logistics: Logistics

    def __post_init__(self) -> None:
        if self.mlp.context or len(self.mlp.w3) != self.latents * OUTPUTS or self.mlp.largest != LATENT_MAX:
            raise ValueError("prior: the network is of another kind")

    @property
    def latents(self) -> int:
        """Return how many latents a patch has."""
        return self.mlp.latents

    def outputs(self, v: Ints, points: Ints) -> Mixture:
        """Return the mixtures of all latents (`n l ...`) at once, for latents `v` (`n l`) at points (`n`).

        They are the same integers as a `LatentWalk` over `v` computes one group after another.
        """
        return split_outputs(self.mlp.outputs(v.T.astype(np.float32), embedding_columns(points)), COMPONENTS)

    def cdf(self, grid: "Grid", symbols: Ints, points: Ints) -> Ints:
        """Return the distributions of latents (`n l 2`), of 2^28: below each symbol (`n l`) and up to it.

        They are as if no range of symbols ended them. points: those of the rows (`n`).
        """
        if (found := self.in_core()) is not None:
            return found.cdf(grid.rows(points), symbols)
        steps = grid.steps[points]
        edges = np.stack([2 * symbols - 1, 2 * symbols + 1], -1) * steps[..., None]
        mixture = self.outputs(to_latents(symbols, steps), points)
        return mixture_cdf(self.logistics, mixture, edges).astype(np.int64)

    def in_core(self) -> PatchLatents | None:
        """Return the prior as the compiled core takes it, or None if numpy computes."""
        packed = self.mlp.packed()
        if packed is None:
            return None
        cdf, inverse, limit = self.logistics.lookup
        return PatchLatents(packed, (cdf, self.logistics.weights, inverse, limit), COMPONENTS)


@dataclass(frozen=True, eq=False)
class Grid:
    """The uniform quantisers of the latents: latent = symbol * step. `p`: POINTS, `l`: latents.

    Raises:
        ValueError: a step or a range of symbols is impossible.
    """

    steps: Ints  # p l, at least 1
    low: Ints  # p l, lowest symbol
    high: Ints  # p l, highest symbol

    def __post_init__(self) -> None:
        p, n = self.steps.shape
        if p != POINTS or not self.low.shape == self.high.shape == (p, n):
            raise ValueError(f"grid: arrays are of shapes {self.steps.shape}, {self.low.shape}, {self.high.shape}")
        if self.steps.min() < 1 or self.steps.max() > LATENT_MAX:
            raise ValueError(f"grid: steps must be from 1 to {LATENT_MAX}")
        if (self.low > 0).any() or (self.high < 0).any() or (self.high - self.low).max() >= MAX_SYMBOLS:
            raise ValueError(f"grid: each range of symbols must hold 0 and at most {MAX_SYMBOLS} symbols")

    def rows(self, points: Ints) -> Rows:
        """Return rows at operating points (`n`) as the compiled core takes them."""
        present, which = np.unique(points, return_inverse=True)
        if not len(points):
            present = np.zeros(1, np.int64)
        steps, low, high = self.steps[present], self.low[present].min(0), self.high[present].max(0)
        return Rows(which.astype(np.int32), embedding_weights(present), steps, low, high)


def to_latents(symbols: Ints, steps: Ints) -> Ints:
    """Return the latents of symbols: symbol times step, clipped to what the networks can take."""
    return (symbols * steps).clip(-LATENT_MAX, LATENT_MAX)


class LatentWalk:
    """A walk over the latents of rows at operating points (`n`), in coding order, group by group.

    The caller tells it the symbols of each group before it computes the next one.
    """

    def __init__(self, prior: LatentPrior, grid: Grid, points: Ints) -> None:
        self.prior, self.grid, self.points = prior, grid, points
        self._present = np.unique(points) if len(points) else np.zeros(1, np.int64)
        nothing = np.zeros((0, len(points)), np.float32)
        self._steps = Steps(prior.mlp, nothing, embedding_columns(points))

    def groups(self) -> Iterator[list[Column]]:
        """Yield the distributions of each group; it needs a call of `take` before the next one is asked for."""
        for first in range(0, self.prior.latents, self.prior.mlp.group):
            mixtures = self._steps.next()
            yield [self._column(first + j, mixtures[:, j]) for j in range(mixtures.shape[1])]

    def _column(self, i: int, outputs: Ints) -> Column:
        """Return the column of latent `i`; its symbols cover the ranges of all operating points that are present."""
        grid = self.grid
        low, high = int(grid.low[self._present, i].min()), int(grid.high[self._present, i].max())
        return Column(self.prior.logistics, outputs, grid.steps[self.points, i], low, high)

    def take(self, columns: Sequence[Column], symbols: Ints) -> None:
        """Set the latents of the group of `columns` to `symbols` (`n group`)."""
        self._steps.take(to_latents(symbols, np.stack([column.steps for column in columns], 1)))
