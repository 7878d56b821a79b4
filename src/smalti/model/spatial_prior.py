# SPDX-License-Identifier: MIT
"""The prior of the spatial latents, a few for every 4x4 pixels: how likely their symbols are.

It computes in integers only. A masked MLP gives each spatial latent of a position one logistic, from the synthesis'
features of that position and the latents before it there. The positions are coded in two passes, as the squares of a
checkerboard (He et al. 2021, checkerboard context model): the odd ones come second and also see their four even
neighbours. The centre and the width of the logistic, counted in quantisation steps, choose one of a few tables of
frequencies.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.core.latents import Positions, SpatialLatents
from smalti.entropy.frequencies import PRECISION, TOTAL, Ints
from smalti.model.latent_prior import LATENT_MAX, to_latents
from smalti.model.masked_mlp import ACTIVATION_MAX, POINTS, MaskedMLP, Steps, embedding_columns, embedding_weights
from smalti.util.parallel import once

SYMBOL_MAX = 448
"""The largest absolute value of a symbol that an encoder may choose."""
LEAST_STEP = -(-LATENT_MAX // SYMBOL_MAX)
"""The finest quantisation step; with a finer one, the largest latents would need symbols beyond SYMBOL_MAX."""
BASE_MAX = 64
"""The largest absolute value of the base: the symbol that is taken as the nearest to the logistic's centre."""
REACH = SYMBOL_MAX + BASE_MAX
"""A table holds the symbols that are at most this far from the base."""
SHARES = 8
"""The tables tell apart so many places of the centre between two symbols."""
WIDTHS = 37
"""The tables tell apart so many widths: 2^((i-20)/4) steps."""
WIDTH_LOW = 40
"""The narrowest table is for a width so many eighths of an octave below one step."""
INVERSE_BITS = 16
ONE = 128
"""The integer that stands for 1.0 in the inputs of the network."""
OUTPUTS = 2

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SpatialPrior:
    """The masked MLP, the tables and the quantisation steps. `p`: POINTS, `c`: spatial latents of a position.

    Raises:
        ValueError: shapes do not fit, or an array is not what it should be.
    """

    mlp: MaskedMLP  # its context: features, 4c latents of neighbours, whether the position is odd
    tables: NDArray[np.int32]  # WIDTHS SHARES 2*REACH+1: frequencies, each row summing to 2^24
    steps: Ints  # p c, from 1 to LATENT_MAX
    octaves: Ints  # p c: log2 of the steps, in eighths
    active: NDArray[np.bool_]  # p c: whether the latent is coded; it is 0 if not

    def __post_init__(self) -> None:
        c = self.mlp.latents
        if self.features < 1 or len(self.mlp.w3) != OUTPUTS * c or self.mlp.largest != ACTIVATION_MAX:
            raise ValueError("spatial prior: the network is of another kind")
        if self.tables.shape != (WIDTHS, SHARES, 2 * REACH + 1) or self.tables.dtype.kind not in "iu":
            raise ValueError(f"spatial prior: the tables are of shape {self.tables.shape}")
        if self.tables.min() < 1 or (self.tables.sum(2, dtype=np.int64) != TOTAL).any():
            raise ValueError("spatial prior: a table does not sum to 2^24")
        for array in (self.steps, self.octaves, self.active):
            if array.shape != (POINTS, c):
                raise ValueError(f"spatial prior: an array is of shape {array.shape}")
        if self.steps.min() < 1 or self.steps.max() > LATENT_MAX or np.abs(self.octaves).max() > 1 << 10:
            raise ValueError(f"spatial prior: steps must be from 1 to {LATENT_MAX}")

    @property
    def features(self) -> int:
        """Return how many channels the synthesis' features have."""
        return self.mlp.context - 4 * self.mlp.latents - 1

    @once
    def inverses(self) -> Ints:
        """Return the inverses of the steps (`p c`): SHARES in a unit of the latents, times 2^INVERSE_BITS."""
        result: Ints = ((SHARES << INVERSE_BITS) + self.steps // 2) // self.steps
        return result

    @once
    def starts(self) -> Ints:
        """Return the cumulative frequencies: for every entry of a table, the sum of all entries before it."""
        tables = self.tables.astype(np.int64)
        starts: Ints = tables.cumsum(2) - tables
        return starts

    def in_core(self) -> SpatialLatents | None:
        """Return the prior as the compiled core takes it, or None if numpy computes."""
        packed = self.mlp.packed()
        return None if packed is None else SpatialLatents(packed, self.starts)

    def places(self, features: Floats, points: Ints) -> Positions:
        """Return images with features (`n k H W`, integers) at operating points (`n`) as the core takes them."""
        present, which = np.unique(points, return_inverse=True)
        steps, inverses, octaves = (array[present] for array in (self.steps, self.inverses, self.octaves))
        weights, active = embedding_weights(present), self.active[present]
        return Positions(features, which.astype(np.int32), weights, steps, inverses, octaves, active)

    @once
    def costs(self) -> NDArray[np.float64]:
        """Return the bits that a symbol costs, for every entry of the tables."""
        costs: NDArray[np.float64] = PRECISION - np.log2(self.tables.astype(np.float64))
        return costs


@dataclass(frozen=True, eq=False)
class SpatialColumn:
    """The distributions of one spatial latent at some positions, in the order of the stream: table by table."""

    latent: int
    rows: Ints  # m: indices of the positions, among those of all images (n*H*W)
    base: Ints  # m: the symbol nearest to the centre of the logistic
    table: Ints  # m: index of the table (of WIDTHS*SHARES), never falling


class SpatialWalk:
    """A walk over the spatial latents of images in coding order: even positions first, and latent by latent in each.

    The caller tells it the symbols of each column before it computes the next one.
    """

    def __init__(self, prior: SpatialPrior, features: Floats, points: Ints) -> None:
        """Begin a walk with features (`n k H W`, integers) at operating points (`n`)."""
        n, _, h, w = features.shape
        self.prior, self.points, self._shape = prior, points.repeat(h * w), (n, h, w)
        self._features = features.transpose(1, 0, 2, 3).reshape(-1, n * h * w)
        self._odd = np.tile(odd_positions(h, w).ravel(), n)
        self._u = np.zeros((prior.mlp.latents, n * h * w), np.int64)
        self.symbols = np.zeros_like(self._u)

    def columns(self) -> Iterator[SpatialColumn]:
        """Yield the columns; each needs a call of `take` before the next one is asked for."""
        for odd in (False, True):
            rows = np.flatnonzero(self._odd == odd)
            active = self.prior.active[self.points[rows]].T  # c m
            if not active.any():
                continue
            around = neighbours(self._u.reshape(-1, *self._shape)).reshape(-1, self._u.shape[1])[:, rows] * odd
            flag = np.full((1, len(rows)), ONE * odd)
            context = np.concatenate([self._features[:, rows], inputs(around), flag], dtype=np.float32)
            steps = Steps(self.prior.mlp, context, embedding_columns(self.points[rows]))
            group, used = self.prior.mlp.group, int(np.flatnonzero(active.any(1)).max()) + 1
            for first in range(0, used, group):
                outputs = steps.next()
                for i in range(first, first + group):
                    if active[i].any():
                        yield self._column(i, rows[active[i]], outputs[active[i], i - first])
                steps.take(inputs(self._u[first : first + group, rows].T))

    def _column(self, i: int, rows: Ints, outputs: Ints) -> SpatialColumn:
        points = self.points[rows]
        base, table = choose(self.prior, outputs, points, i)
        order = np.argsort(table, kind="stable")
        return SpatialColumn(i, rows[order], base[order], table[order])

    def take(self, column: SpatialColumn, symbols: Ints) -> None:
        """Set the latents of `column` to `symbols`."""
        self.symbols[column.latent, column.rows] = symbols
        steps = self.prior.steps[self.points[column.rows], column.latent]
        self._u[column.latent, column.rows] = to_latents(symbols, steps)


def choose(prior: SpatialPrior, outputs: Ints, points: Ints, i: Ints | int) -> tuple[Ints, Ints]:
    """Return the symbols nearest to the centres, and the indices of the tables, for latent `i`.

    outputs: what the network gave (`... 2`): centre and width of each logistic.
    points: the operating points of the same shape, without the last axis.
    """
    centre = outputs[..., 0].clip(-LATENT_MAX, LATENT_MAX)
    share = (centre * prior.inverses[points, i] + (1 << INVERSE_BITS - 1)) >> INVERSE_BITS
    base = ((share + SHARES // 2) >> 3).clip(-BASE_MAX, BASE_MAX)  # SHARES is 2^3
    rest = (share - base * SHARES + SHARES // 2).clip(0, SHARES - 1)
    width = (outputs[..., 1] - prior.octaves[points, i] + WIDTH_LOW + 1) >> 1
    return base, width.clip(0, WIDTHS - 1) * SHARES + rest


def nearest_spatial(prior: SpatialPrior, y: Floats, points: Ints) -> Ints:
    """Return the nearest symbols that may be coded, for spatial latents (`n c H W`) at operating points (`n`)."""
    symbols = np.rint(y / prior.steps[points][:, :, None, None]).astype(np.int64).clip(-SYMBOL_MAX, SYMBOL_MAX)
    symbols[~prior.active[points]] = 0
    return symbols


def spatial_latents(prior: SpatialPrior, symbols: Ints, points: Ints) -> Ints:
    """Return the spatial latents of symbols (`n c H W`) of images at operating points (`n`)."""
    return to_latents(symbols, prior.steps[points][:, :, None, None])


def inputs(u: Ints) -> Ints:
    """Return spatial latents as the network takes them: halved, and clipped."""
    return (u >> 1).clip(-ACTIVATION_MAX, ACTIVATION_MAX)


def odd_positions(h: int, w: int) -> NDArray[np.bool_]:
    """Return which of `h w` positions are odd, as on a checkerboard."""
    odd: NDArray[np.bool_] = (np.arange(h)[:, None] + np.arange(w)) % 2 == 1
    return odd


def neighbours(u: Ints) -> Ints:
    """Return the latents above, below, left and right of each position of `c n H W`, as `4c n H W`; 0 beyond edges."""
    p = np.pad(u, ((0, 0), (0, 0), (1, 1), (1, 1)))
    around: Ints = np.concatenate([p[:, :, :-2, 1:-1], p[:, :, 2:, 1:-1], p[:, :, 1:-1, :-2], p[:, :, 1:-1, 2:]])
    return around


def spatial_tables(prior: SpatialPrior, symbols: Ints, features: Floats, points: Ints) -> tuple[Ints, Ints]:
    """Return for each symbol (`n c H W`) the one nearest to the centre of its logistic, and its table (`n*H*W c`)."""
    if (found := prior.in_core()) is not None:
        return found.tables(prior.places(features, points), symbols)
    n, c, h, w = symbols.shape
    of_positions = points.repeat(h * w)
    u = to_latents(symbols.transpose(1, 0, 2, 3).reshape(c, -1), prior.steps[of_positions].T)
    odd = np.tile(odd_positions(h, w).ravel(), n)
    around = neighbours(u.reshape(c, n, h, w)).reshape(4 * c, -1) * odd
    of_features = features.transpose(1, 0, 2, 3).reshape(-1, n * h * w)
    x = np.concatenate([of_features, inputs(around), ONE * odd[None], inputs(u)], dtype=np.float32)
    outputs = prior.mlp.outputs(x, embedding_columns(of_positions))  # n*H*W c 2
    return choose(prior, outputs, of_positions[:, None], np.arange(c))


def spatial_costs(
    prior: SpatialPrior, symbols: Ints, features: Floats, points: Ints
) -> tuple[NDArray[np.float64], NDArray[np.float64], Ints]:
    """Return the bits that each symbol (`n c H W`) of images takes of an ideal coder.

    Return also the bits that each would take one step nearer to the likeliest symbol, all others left alone, and that
    step: -1, 0 or 1.
    """
    n, c, h, w = symbols.shape
    active = prior.active[points.repeat(h * w)]
    base, table = spatial_tables(prior, symbols, features, points)
    off = symbols.transpose(0, 2, 3, 1).reshape(-1, c) - base
    tables = prior.costs.reshape(WIDTHS * SHARES, -1)
    step = np.where(active, -np.sign(off), 0)
    costs = (np.where(active, tables[table, off + moved + REACH], 0.0) for moved in (0, step))

    def by_image(values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(n, h, w, c).transpose(0, 3, 1, 2)

    now, then = (by_image(values) for values in costs)
    return now, then, by_image(step)


def spatial_bits(prior: SpatialPrior, symbols: Ints, features: Floats, points: Ints) -> NDArray[np.float64]:
    """Return the bits that the symbols (`n c H W`) of each image take of an ideal coder (`n`)."""
    if not prior.active[points].any():
        return np.zeros(len(points))
    total: NDArray[np.float64] = spatial_costs(prior, symbols, features, points)[0].sum((1, 2, 3))
    return total
