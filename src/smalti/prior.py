# SPDX-License-Identifier: MIT
"""The prior: how likely each symbol of a latent is, given the latents before it. Integers only.

A masked MLP (MADE, Germain et al. 2015) walks over the latents in order. Each latent has `hidden` units in each of two
layers, which see the units of its own and of earlier latents only, and three logistics as its output. Their cumulative
distributions come from a table; mixed with integer weights they give the frequencies for the entropy coder.

Matrix products run on float32, on integers whose every sum stays below 2^24, so that no rounding ever happens and
any order of summation gives the same result; `Prior.__post_init__` proves the bound from the weights.
"""

import functools
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from smalti.tables import TOTAL, Ints

COMPONENTS = 3
"""Logistics in a mixture."""
ANCHORS = 9
"""Qualities at which biases are learned; those in between are interpolated."""
SUBSTEPS = 8
"""Operating points from one anchor to the next."""
POINTS = (ANCHORS - 1) * SUBSTEPS + 1
ACTIVATION_MAX = 1023
"""Of a hidden unit; 128 is the 1.0 of training."""
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
EXACT = 1 << 24
"""Below this every integer is a float32."""
INVERSE_BITS = 17

MAX_SYMBOLS = 1 << 13
"""From the lowest symbol of a latent to the highest."""

Mixture = tuple[Ints, Ints, Ints]
"""Centres (units of a latent), widths (indices) and logits (sixteenths) of a latent: COMPONENTS, the last one fewer."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer with its shift done."""

    weights: NDArray[np.float32]  # out in
    anchors: NDArray[np.float32]  # out ANCHORS
    bias: NDArray[np.float32]  # out 1

    def part(self, inputs: slice, outputs: slice) -> "Layer":
        """Some inputs, some outputs."""
        return Layer(self.weights[outputs, inputs], self.anchors[outputs], self.bias[outputs])


@dataclass(frozen=True, eq=False)
class Prior:
    """The masked MLP's integers. `l`: latents, `u`: hidden units of all latents, `o`: outputs of all latents.

    A layer is `(weights @ inputs + bias + anchors @ biases_of_anchors) >> shift`; the anchors' weights add up to 8.

    Raises:
        ValueError: shapes do not fit, or a sum could leave what float32 holds exactly.
    """

    w1: NDArray[np.int8]  # u l
    w2: NDArray[np.int8]  # u u
    w3: NDArray[np.int8]  # o u
    b1: NDArray[np.int32]  # u
    b2: NDArray[np.int32]  # u
    b3: NDArray[np.int32]  # o
    q1: NDArray[np.int32]  # anchors u
    q2: NDArray[np.int32]  # anchors u
    q3: NDArray[np.int32]  # anchors o
    s1: NDArray[np.uint8]  # u
    s2: NDArray[np.uint8]  # u
    s3: NDArray[np.uint8]  # o
    cdf: NDArray[np.int32]  # of the logistic: 2 * CDF_RANGE * CDF_STEPS + 1, rising from 0 to CDF_ONE
    weights: NDArray[np.int32]  # of a component by its logit: 2 * WEIGHT_RANGE + 1, from 0 to WEIGHT_ONE
    inverse: NDArray[np.int32]  # of the widths: SCALES, CDF_STEPS << INVERSE_BITS over twice the width

    def __post_init__(self) -> None:
        o, u = self.w3.shape
        n = self.w1.shape[1]
        outputs = 3 * COMPONENTS - 1
        shapes = {
            "w1": (u, n),
            "w2": (u, u),
            "w3": (n * outputs, u),
            "b1": (u,),
            "b2": (u,),
            "b3": (o,),
            "q1": (ANCHORS, u),
            "q2": (ANCHORS, u),
            "q3": (ANCHORS, o),
            "s1": (u,),
            "s2": (u,),
            "s3": (o,),
            "cdf": (2 * CDF_RANGE * CDF_STEPS + 1,),
            "weights": (2 * WEIGHT_RANGE + 1,),
            "inverse": (SCALES,),
        }
        for field in fields(self):
            if getattr(self, field.name).shape != shapes[field.name]:
                raise ValueError(f"prior: {field.name} is of shape {getattr(self, field.name).shape}")
            if getattr(self, field.name).dtype.kind not in "iu":
                raise ValueError(f"prior: {field.name} holds no integers")
        if n < 1 or u % n:
            raise ValueError(f"prior: {u} hidden units for {n} latents")
        for table, top in ((self.cdf, CDF_ONE), (self.weights, WEIGHT_ONE)):
            if table.min() < 0 or table.max() > top or (np.diff(table) < 0).any():
                raise ValueError(f"prior: a table does not rise from 0 at least to {top} at most")
        if self.inverse.min() < 1 or self.inverse.max() > CDF_STEPS << INVERSE_BITS - 1:
            raise ValueError("prior: an inverse width out of range")
        for layer, top in (("1", LATENT_MAX), ("2", ACTIVATION_MAX), ("3", ACTIVATION_MAX)):
            w, b, q, s = (getattr(self, name + layer) for name in "wbqs")
            worst = np.abs(w.astype(np.int64)).sum(1) * top + np.abs(b.astype(np.int64))
            worst += SUBSTEPS * np.abs(q.astype(np.int64)).max(0)
            if worst.max() >= EXACT or s.max() > 24:
                raise ValueError(f"prior: a sum of layer {layer} could reach {worst.max()}, beyond the {EXACT} allowed")

    @property
    def latents(self) -> int:
        """How many latents there are."""
        return int(self.w1.shape[1])

    def outputs(self, v: Ints, points: Ints) -> Mixture:
        """The mixtures of all latents at once, for latents `v` (`n l`) known already; `n l ...`.

        The same integers as a `Walk` over `v` finds one latent after another.
        """
        anchors = anchor_weights(points).T.astype(np.float32)
        one, two, three = self.layers
        a1 = _layer(v.T.astype(np.float32), anchors, one).clip(0, ACTIVATION_MAX)
        a2 = (_layer(a1, anchors, two) + a1).clip(0, ACTIVATION_MAX)
        return _split(_layer(a2, anchors, three).T.reshape(len(v), self.latents, -1))

    @functools.cached_property
    def lookup(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """The logistic's table, the inverse widths, and how far from a centre (twice) each leads to the table's end."""
        limit = (CDF_RANGE * CDF_STEPS << INVERSE_BITS) // self.inverse.astype(np.int64)
        return self.cdf.astype(np.int32), self.inverse.astype(np.int32), limit.astype(np.int32)

    @functools.cached_property
    def layers(self) -> tuple[Layer, Layer, Layer]:
        """The layers times 2^-shift in float32, which changes no digit, with the weights that look ahead at zero."""
        n = self.latents
        latent = np.arange(n)
        unit, output = latent.repeat(self.w1.shape[0] // n), latent.repeat(self.w3.shape[0] // n)
        masks = latent < unit[:, None], unit <= unit[:, None], unit <= output[:, None]
        layers = []
        for mask, i in zip(masks, "123", strict=True):
            w, b, q, s = (getattr(self, name + i) for name in "wbqs")
            scale = np.exp2(-s.astype(np.float32))
            weights = (w * mask).astype(np.float32) * scale[:, None]
            layers.append(Layer(weights, (q * scale).T.astype(np.float32), (b * scale)[:, None].astype(np.float32)))
        return layers[0], layers[1], layers[2]


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
    """A walk over the latents of rows at operating points `points` (`n`): what each may be, told the ones before."""

    def __init__(self, prior: Prior, grid: Grid, points: Ints) -> None:
        self.prior, self.grid, self.points = prior, grid, points
        self.at = 0
        self._anchors = np.ascontiguousarray(anchor_weights(points).T, np.float32)
        self._present = np.unique(points) if len(points) else np.zeros(1, np.int64)
        n, u = len(points), len(prior.b1)
        self._v = np.zeros((prior.latents, n), np.float32)
        self._a1, self._a2 = np.zeros((u, n), np.float32), np.zeros((u, n), np.float32)

    def next(self) -> Column:
        """What the next latent may be: symbols from the lowest to the highest of any operating point present."""
        i, grid = self.at, self.grid
        low, high = int(grid.low[self._present, i].min()), int(grid.high[self._present, i].max())
        steps = grid.steps[self.points, i]
        borders = (2 * np.arange(low, high) + 1) * steps[:, None]
        return Column(low, steps, frequencies(self.prior, self._mixture(), borders))

    def take(self, column: Column, symbols: Ints) -> None:
        """The next latent is `symbols` (`n`); go on to the one behind it."""
        self._v[self.at] = to_latents(symbols, column.steps)
        self.at += 1

    def _mixture(self) -> Mixture:
        p, i = self.prior, self.at
        u, o = len(p.b1) // p.latents, len(p.b3) // p.latents
        mine, seen, out = slice(i * u, (i + 1) * u), slice(0, (i + 1) * u), slice(i * o, (i + 1) * o)
        one, two, three = p.layers
        a1 = _layer(self._v[:i], self._anchors, one.part(slice(0, i), mine)).clip(0, ACTIVATION_MAX)
        self._a1[mine] = a1
        a2 = _layer(self._a1[seen], self._anchors, two.part(seen, mine))
        self._a2[mine] = (a2 + a1).clip(0, ACTIVATION_MAX)
        return _split(_layer(self._a2[seen], self._anchors, three.part(seen, out)).T)


def anchor_weights(points: Ints) -> Ints:
    """Weights of the anchors (`n ANCHORS`) for operating points (`n`): linear between two neighbours, in SUBSTEPS.

    >>> anchor_weights(np.array([0, 11]))[:, :4].tolist()
    [[8, 0, 0, 0], [0, 5, 3, 0]]
    """
    distance: Ints = np.abs(points[:, None] - SUBSTEPS * np.arange(ANCHORS))
    return (SUBSTEPS - distance).clip(0)


def _layer(x: NDArray[np.float32], anchors: NDArray[np.float32], layer: Layer) -> NDArray[np.float32]:
    """`x` (`in n`) and anchors (`ANCHORS n`) to `out n`, rounded down. Multiples of a power of two: exact."""
    total: NDArray[np.float32] = layer.weights @ x
    total += layer.anchors @ anchors
    total += layer.bias
    return np.floor(total, out=total)


def _split(outputs: NDArray[np.float32]) -> Mixture:
    """`... o` to centres, widths and logits within their ranges."""
    whole = outputs.astype(np.int64)
    centres, widths, logits = np.split(whole, [COMPONENTS, 2 * COMPONENTS], axis=-1)
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
