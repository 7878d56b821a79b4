# SPDX-License-Identifier: MIT
"""Local latents: a few at each site of an image, 4x4 pixels, and how likely their symbols are. Integers only.

A masked MLP gives each local latent of a site one logistic, from the synthesis' features of that site and the latents
before it there. The sites are as on a checkerboard (He et al. 2021): the odd ones, which come second, also see their
four even neighbours. The logistic's place and width, counted in steps, choose one of a few tables of frequencies.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.entropy.frequencies import PRECISION, TOTAL, Ints
from smalti.model.latent_prior import LATENT_MAX, to_latents
from smalti.model.masked_mlp import ACTIVATION_MAX, POINTS, MaskedMLP, Steps, embedding_columns
from smalti.util.parallel import once

SYMBOL_MAX = 448
"""Of the absolute value of a symbol that an encoder may choose."""
LEAST_STEP = -(-LATENT_MAX // SYMBOL_MAX)
"""With a finer one, the largest latents would have symbols beyond that."""
BASE_MAX = 64
"""Of the absolute value of the symbol that counts as the one nearest to the logistic's centre."""
REACH = SYMBOL_MAX + BASE_MAX
"""So far from that one a table goes."""
SHARES = 8
"""Places of the centre between two symbols that tables tell apart."""
WIDTHS = 37
"""Widths that tables tell apart: 2^((i-20)/4) steps."""
WIDTH_LOW = 40
"""Eighths of an octave that the narrowest table is below a step."""
INVERSE_BITS = 16
ONE = 128
"""The 1.0 of training, of all inputs of the network."""
OUTPUTS = 2

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SpatialPrior:
    """The network, the tables and the steps. `p`: POINTS, `c`: local latents of a site.

    Raises:
        ValueError: shapes do not fit, or an array is not what it should be.
    """

    mlp: MaskedMLP  # context: features, 4c neighbours, whether odd
    tables: NDArray[np.int32]  # WIDTHS SHARES 2*REACH+1: frequencies, each row summing to 2^24
    steps: Ints  # p c, from 1 to LATENT_MAX
    octaves: Ints  # p c: of the steps, in eighths
    active: NDArray[np.bool_]  # p c: whether the latent is coded at all; else it is 0

    def __post_init__(self) -> None:
        c = self.mlp.latents
        if self.features < 1 or len(self.mlp.w3) != OUTPUTS * c or self.mlp.largest != ACTIVATION_MAX:
            raise ValueError("local prior: a network of another kind")
        if self.tables.shape != (WIDTHS, SHARES, 2 * REACH + 1) or self.tables.dtype.kind not in "iu":
            raise ValueError(f"local prior: tables of shape {self.tables.shape}")
        if self.tables.min() < 1 or (self.tables.sum(2, dtype=np.int64) != TOTAL).any():
            raise ValueError("local prior: a table does not sum to 2^24")
        for array in (self.steps, self.octaves, self.active):
            if array.shape != (POINTS, c):
                raise ValueError(f"local prior: an array of shape {array.shape}")
        if self.steps.min() < 1 or self.steps.max() > LATENT_MAX or np.abs(self.octaves).max() > 1 << 10:
            raise ValueError(f"local prior: steps must be from 1 to {LATENT_MAX}")

    @property
    def features(self) -> int:
        """Channels of the synthesis' features."""
        return self.mlp.context - 4 * self.mlp.latents - 1

    @once
    def inverses(self) -> Ints:
        """Of the steps (`p c`): how many SHARES a unit is, times 2^INVERSE_BITS."""
        result: Ints = ((SHARES << INVERSE_BITS) + self.steps // 2) // self.steps
        return result

    @once
    def starts(self) -> Ints:
        """The sum of the frequencies of all smaller entries, for every entry of the tables."""
        tables = self.tables.astype(np.int64)
        starts: Ints = tables.cumsum(2) - tables
        return starts

    @once
    def costs(self) -> NDArray[np.float64]:
        """Bits of every entry of the tables."""
        costs: NDArray[np.float64] = PRECISION - np.log2(self.tables.astype(np.float64))
        return costs


@dataclass(frozen=True, eq=False)
class SpatialColumn:
    """What one local latent may be at some sites, in the order of the stream: table by table."""

    latent: int
    rows: Ints  # m: which sites, those of all images in a row (n*H*W)
    base: Ints  # m: symbol nearest to the centre of the logistic
    table: Ints  # m: index of the table (of WIDTHS*SHARES), never falling

    def spans(self) -> Iterator[tuple[slice, int]]:
        """Each stretch of sites that share a table, and the table."""
        starts = np.flatnonzero(np.diff(self.table, prepend=-1)).tolist()
        for start, end in zip(starts, [*starts[1:], len(self.table)], strict=False):
            yield slice(start, end), int(self.table[start])


class SpatialWalk:
    """A walk over the local latents of images, even sites first, then latent by latent, told the ones before."""

    def __init__(self, prior: SpatialPrior, features: Floats, points: Ints) -> None:
        """features: `n k H W`, integers; points: `n`."""
        n, _, h, w = features.shape
        self.prior, self.points, self._shape = prior, points.repeat(h * w), (n, h, w)
        self._features = features.transpose(1, 0, 2, 3).reshape(-1, n * h * w)
        self._odd = np.tile(odd_positions(h, w).ravel(), n)
        self._u = np.zeros((prior.mlp.latents, n * h * w), np.int64)
        self.symbols = np.zeros_like(self._u)

    def columns(self) -> Iterator[SpatialColumn]:
        """Each of them wants a call of `take` before the next."""
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
        """The latents of `column` are `symbols`."""
        self.symbols[column.latent, column.rows] = symbols
        steps = self.prior.steps[self.points[column.rows], column.latent]
        self._u[column.latent, column.rows] = to_latents(symbols, steps)


def choose(prior: SpatialPrior, outputs: Ints, points: Ints, i: Ints | int) -> tuple[Ints, Ints]:
    """Outputs (`... 2`) at operating points for latent `i` to the symbols nearest to the centres, and the tables."""
    centre = outputs[..., 0].clip(-LATENT_MAX, LATENT_MAX)
    share = (centre * prior.inverses[points, i] + (1 << INVERSE_BITS - 1)) >> INVERSE_BITS
    base = ((share + SHARES // 2) >> 3).clip(-BASE_MAX, BASE_MAX)  # SHARES is 2^3
    rest = (share - base * SHARES + SHARES // 2).clip(0, SHARES - 1)
    width = (outputs[..., 1] - prior.octaves[points, i] + WIDTH_LOW + 1) >> 1
    return base, width.clip(0, WIDTHS - 1) * SHARES + rest


def nearest_spatial(prior: SpatialPrior, y: Floats, points: Ints) -> Ints:
    """Local latents (`n c H W`) of images at operating points (`n`) to the nearest symbols that may be coded."""
    symbols = np.rint(y / prior.steps[points][:, :, None, None]).astype(np.int64).clip(-SYMBOL_MAX, SYMBOL_MAX)
    symbols[~prior.active[points]] = 0
    return symbols


def spatial_latents(prior: SpatialPrior, symbols: Ints, points: Ints) -> Ints:
    """Symbols (`n c H W`) of images at operating points (`n`) to local latents."""
    return to_latents(symbols, prior.steps[points][:, :, None, None])


def inputs(u: Ints) -> Ints:
    """Local latents as the network takes them."""
    return (u >> 1).clip(-ACTIVATION_MAX, ACTIVATION_MAX)


def odd_positions(h: int, w: int) -> NDArray[np.bool_]:
    """Which of `h w` sites are odd."""
    odd: NDArray[np.bool_] = (np.arange(h)[:, None] + np.arange(w)) % 2 == 1
    return odd


def neighbours(u: Ints) -> Ints:
    """Of each site of `c n H W` the latents above, below, to the left, to the right, 0 beyond the edge: `4c n H W`."""
    p = np.pad(u, ((0, 0), (0, 0), (1, 1), (1, 1)))
    around: Ints = np.concatenate([p[:, :, :-2, 1:-1], p[:, :, 2:, 1:-1], p[:, :, 1:-1, :-2], p[:, :, 1:-1, 2:]])
    return around


def spatial_tables(prior: SpatialPrior, symbols: Ints, features: Floats, points: Ints) -> tuple[Ints, Ints]:
    """Return for each symbol (`n c H W`) the one nearest to the centre of its logistic, and its table (`n*H*W c`)."""
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
    """What the symbols (`n c H W`) of images take in an ideal coder (`n`)."""
    if not prior.active[points].any():
        return np.zeros(len(points))
    total: NDArray[np.float64] = spatial_costs(prior, symbols, features, points)[0].sum((1, 2, 3))
    return total
