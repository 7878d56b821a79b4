# SPDX-License-Identifier: MIT
"""What the encoder may choose: the symbols. The decoder knows nothing of how they were found.

`nearest` rounds what g_a says. `refine` then tries single steps of single latents with the decoder's own networks,
image by image, for as long as they pay in bits + multiplier * squared error.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.bundle import Model
from smalti.prior import CDF_ONE, WEIGHT_ONE, mixture_cdf, scaled, to_latents
from smalti.tables import PRECISION, Ints

REFINE_IMAGES = 8
"""Images refined at a time; each tries a step up and down of every latent at once."""
MOVES = 16
"""Steps tried together, best first."""

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Effort:
    """How hard the encoder looks."""

    passes: int  # of `refine`, at most


# 1 to 5 are the same as yet: the nearest symbols.
EFFORTS = {1: Effort(0), 2: Effort(0), 3: Effort(0), 4: Effort(0), 5: Effort(0), 6: Effort(1), 7: Effort(2)}
EFFORTS |= {8: Effort(4), 9: Effort(16)}


def nearest(y: NDArray[np.float32], points: Ints, model: Model) -> Ints:
    """Latents (`n l`) of rows at operating points (`n`) to the nearest symbols (`n l`) that the tables know."""
    grid = model.grid
    return np.rint(y / grid.steps[points]).astype(np.int64).clip(grid.low[points], grid.high[points])


def refine(x: Pixels, symbols: Ints, points: Ints, model: Model, passes: int) -> Ints:
    """Better symbols (`n*cells l`) for images `x` (`n h w` or `n h w c`), whose points are `points` (`n`)."""
    if not passes:
        return symbols
    found = symbols.reshape(len(x), -1).copy()
    for start in range(0, len(x), REFINE_IMAGES):
        part = slice(start, start + REFINE_IMAGES)
        found[part] = _refine(x[part], found[part], points[part], model, passes)
    return found.reshape(symbols.shape)


def _refine(x: Pixels, symbols: Ints, points: Ints, model: Model, passes: int) -> Ints:
    """As `refine`, for a few images; `symbols`: `n size`, all latents of all cells of an image."""
    n, size = symbols.shape
    active, least = np.arange(n), cost(x, symbols, points, model)
    steps = np.concatenate([np.eye(size, dtype=np.int64), -np.eye(size, dtype=np.int64)])  # 2*size size
    hopeful = np.tile(np.arange(2 * size), (n, 1))
    for _ in range(passes):
        gain = least[active, None] - _costs(x[active], symbols[active, None] + steps[hopeful], points[active], model)
        order = np.argsort(-gain, axis=1)[:, : max(MOVES, size // 2)]
        hopeful = np.take_along_axis(hopeful, order, 1)  # the others will hardly ever pay
        pays = np.take_along_axis(gain, order, 1)[:, :MOVES] > 0
        moves = np.where(pays[..., None], steps[hopeful[:, :MOVES]], 0).cumsum(1)  # the best, the best two, ...
        tried = symbols[active, None] + moves
        costs = _costs(x[active], tried, points[active], model)
        best, rows = costs.argmin(1), np.arange(len(active))
        better = costs[rows, best] < least[active]
        symbols[active[better]] = tried[rows, best][better]
        least[active[better]] = costs[rows, best][better]
        active, hopeful = active[better], hopeful[better]
        if not len(active):
            break
    return symbols


def _costs(x: Pixels, tried: Ints, points: Ints, model: Model) -> Floats:
    """Cost of each of several choices of symbols (`n choices size`) for each image: `n choices`."""
    n, choices = tried.shape[:2]
    flat = cost(x.repeat(choices, 0), tried.reshape(n * choices, -1), points.repeat(choices), model)
    table: Floats = flat.reshape(n, choices)
    return table


def cost(x: Pixels, symbols: Ints, points: Ints, model: Model) -> Floats:
    """Bits + multiplier * squared error of each image (`n`); infinite where a symbol (`n cells*l`) is out of range."""
    rows = symbols.reshape(-1, model.latents)
    row_points = points.repeat(model.cells)
    rate = row_bits(rows, row_points, model).reshape(len(x), -1).sum(1)
    x_hat = model.synthesise(to_latents(rows, model.grid.steps[row_points]), points)
    error = (x.astype(np.float32) - x_hat).reshape(len(x), -1)
    squared = np.einsum("np,np->n", error, error, dtype=np.float64) / 255**2
    total: Floats = rate + model.multipliers[points] * squared
    return total


def row_bits(symbols: Ints, points: Ints, model: Model) -> Floats:
    """What the symbols (`n l`) of rows at operating points (`n`) take in an ideal coder; infinite if out of range."""
    grid = model.grid
    low, high, steps = grid.low[points], grid.high[points], grid.steps[points]
    mixture = model.prior.outputs(to_latents(symbols, steps), points)
    edges = np.stack([2 * symbols - 1, 2 * symbols + 1], -1) * steps[..., None]  # n l 2
    cumulative = mixture_cdf(model.prior, mixture, edges).astype(np.int64)
    cumulative[..., 0][symbols == low] = 0
    cumulative[..., 1][symbols == high] = CDF_ONE * WEIGHT_ONE
    found = np.diff(scaled(cumulative, (high - low + 1)[..., None]))[..., 0] + 1
    rate: Floats = PRECISION - np.log2(found.astype(np.float64))
    rate[(low == high) & (symbols == low)] = 0
    rate[(symbols < low) | (symbols > high)] = np.inf
    total: Floats = rate.sum(1)
    return total
