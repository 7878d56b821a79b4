# SPDX-License-Identifier: MIT
"""Rate-distortion optimisation: choose the symbols of the latents of images.

`nearest` rounds the latents that g_a computes. `refine` then tries steps of single latents of patches with the
decoder's own networks, image by image, and takes those steps together that lower bits + multiplier * squared error,
until none does. The decoder does not know how the symbols were chosen.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smalti.entropy.frequencies import FRACTION_BITS, MASS_BITS, PRECISION, Ints, mass_bits
from smalti.entropy.logistic_mixture import WHOLE, scaled
from smalti.model.latent_prior import to_latents
from smalti.model.model import Model
from smalti.model.spatial_prior import nearest_spatial, spatial_bits, spatial_costs, spatial_latents
from smalti.types import Pixels
from smalti.util.parallel import in_order

if TYPE_CHECKING:
    from smalti.model.search.model_search import ModelSearch

REFINE_IMAGES = 8
"""The number of images that are refined together; each tries a step up and down of every latent at once."""
MOVES = 16
"""The most steps of latents of patches that a pass takes together, best first."""
SPATIAL_STEPS = 64
"""The most steps of spatial latents that are tried: those that save most bits."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LatentCode:
    """The symbols that the encoder chooses for `n` images by latents, exactly as the decoder will see them."""

    points: Ints  # n: operating points
    symbols: Ints  # n p l: of p patches with l latents each
    spatial: Ints  # n c H W: symbols of the spatial latents; c is 0 if the model has none

    def pick(self, rows: NDArray[Any]) -> "LatentCode":
        """Return the code of some of the images."""
        return LatentCode(self.points[rows], self.symbols[rows], self.spatial[rows])

    def put(self, rows: NDArray[Any], other: "LatentCode") -> None:
        """Replace the code of some of the images."""
        self.points[rows], self.symbols[rows], self.spatial[rows] = other.points, other.symbols, other.spatial


@dataclass(frozen=True)
class Effort:
    """The work that the encoder spends to take fewer bytes, and what it works for."""

    passes: int  # the most passes of `refine`, the rate-distortion optimisation of latents
    thorough: bool = False  # whether images without model are tried in all ways, however slow
    quick: bool = False  # whether images of any kind are kept exactly by the general model for speed
    similar: bool = False  # whether coding by transform weighs errors for multi-scale SSIM, and not all alike
    alpha_error: int = 0  # the most that alpha may be off by, where images are coded with loss by the general model


FAST_EFFORT = 3
"""The highest effort without rate-distortion optimisation."""
EFFORTS = {1: Effort(0, quick=True), 2: Effort(0), 3: Effort(0), 4: Effort(1), 5: Effort(2), 6: Effort(3), 7: Effort(4)}
EFFORTS |= {8: Effort(8, thorough=True), 9: Effort(16, thorough=True)}
"""What each effort that users may give, 1 to 9, means."""


def nearest(x: Pixels, points: Ints, model: Model) -> tuple[LatentCode, NDArray[np.float32]]:
    """Round the latents of images (`n h w` or `n h w c`); also return what g_a computed at the positions."""
    rows, grid = points.repeat(model.patches), model.grid
    y, positions = model.analyse(x, points)
    symbols = np.rint(y / grid.steps[rows]).astype(np.int64).clip(grid.low[rows], grid.high[rows])
    symbols = symbols.reshape(len(x), model.patches, model.latents)
    return LatentCode(points, symbols, _spatial(positions, symbols, points, model)), positions


def _spatial(positions: NDArray[np.float32], symbols: Ints, points: Ints, model: Model) -> Ints:
    """Return the nearest symbols of the spatial latents (`n c H W`), given those of the patches."""
    spatial = np.zeros((len(points), *model.spatial_shape), np.int64)
    if model.spatial is None:
        return spatial
    used = np.flatnonzero(model.spatial.active[points].any(1))
    if len(used):
        features = model.features(_latents(symbols[used], points[used], model), points[used])
        y = model.analyse_spatial(positions[used], features, points[used])
        spatial[used] = nearest_spatial(model.spatial, y, points[used])
    return spatial


def refine(x: Pixels, code: LatentCode, positions: NDArray[np.float32], model: Model, passes: int) -> LatentCode:
    """Return a better code for images `x` (`n h w` or `n h w c`), refined a few at a time on all cores."""
    if not passes or not len(x):
        return code
    groups = [np.arange(i, min(i + REFINE_IMAGES, len(x))) for i in range(0, len(x), REFINE_IMAGES)]
    work = in_order(
        lambda rows: _refine(x[rows], code.pick(rows), positions[rows], model, passes), groups, model.threads
    )
    parts = list(work)
    symbols, spatial = np.concatenate([p.symbols for p in parts]), np.concatenate([p.spatial for p in parts])
    return LatentCode(code.points, symbols, spatial)


def _refine(x: Pixels, code: LatentCode, positions: NDArray[np.float32], model: Model, passes: int) -> LatentCode:
    """Refine the code of a few images."""
    points, symbols = code.points, _refine_patches(x, code, model, passes)
    found = LatentCode(points, symbols, _spatial(positions, symbols, points, model))
    if model.spatial is None:
        return found
    both = LatentCode(points, symbols, code.spatial)  # where the old spatial latents suit the new patches better
    worse = np.flatnonzero(total_cost(x, found, model) > total_cost(x, both, model))
    found.put(worse, both.pick(worse))
    return _refine_spatial(x, found, model)


def _refine_patches(x: Pixels, code: LatentCode, model: Model, passes: int) -> Ints:
    """Return better symbols (`n p l`) of the patches of a few images; their spatial latents stay.

    A pass tries a step up of each latent with the decoder. It assumes that the changes of the image add up when several
    latents take a step, and picks steps on that assumption, best first. The decoder then tells how many of them pay.
    """
    from smalti.model.search.model_search import model_search  # only those who search need it

    if (search := model_search(model)) is not None:
        return _refine_in_core(x, code, search, model, passes)
    points, size = code.points, model.patches * model.latents
    symbols = code.symbols.reshape(len(x), size).copy()
    active, least = np.arange(len(x)), _cost(x, code, model)
    hopeful = _coded(points, model)
    for _ in range(passes):
        now = LatentCode(
            points[active], symbols[active].reshape(-1, model.patches, model.latents), code.spatial[active]
        )
        moves, hopeful = _moves(x[active], now, hopeful, model)
        tried = symbols[active, None] + moves
        costs = _costs(x[active], now, tried, model)
        best, rows = costs.argmin(1), np.arange(len(active))
        better = costs[rows, best] < least[active]
        symbols[active[better]] = tried[rows, best][better]
        least[active[better]] = costs[rows, best][better]
        active, hopeful = active[better], hopeful[better]
        if not len(active):
            break
    return symbols.reshape(code.symbols.shape)


def _refine_in_core(x: Pixels, code: LatentCode, search: "ModelSearch", model: Model, passes: int) -> Ints:
    """Do the same as `_refine_patches` in the compiled core, which chooses the same symbols."""
    u = code.spatial if model.spatial is None else spatial_latents(model.spatial, code.spatial, code.points)
    hopeful, found = _coded(code.points, model), np.empty_like(code.symbols)
    work = np.empty(search.at(int(code.points[0])).work_size(hopeful.shape[1]), np.uint8)
    for i, point in enumerate(code.points.tolist()):
        multiplier, units = float(model.multipliers[point]), search.units(u[i])
        symbols = search.at(point).refine(x[i], units, multiplier, hopeful[i], code.symbols[i].ravel(), passes, work)
        found[i] = symbols.reshape(code.symbols[i].shape)
    return found


def _coded(points: Ints, model: Model) -> Ints:
    """Return the latents of images at operating points (`n`) whose symbol may vary: `n k`, filled up with others."""
    grid = model.grid
    fixed = np.tile(grid.low[points] == grid.high[points], (1, model.patches))
    k = max(MOVES, int((~fixed).sum(1).max()))
    return np.argsort(fixed, axis=1, kind="stable")[:, :k]


def _refine_spatial(x: Pixels, code: LatentCode, model: Model) -> LatentCode:
    """Move spatial latents of a few images a step nearer to their likeliest symbol, where that pays."""
    prior, points, n = model.spatial, code.points, len(x)
    assert prior is not None
    if not prior.active[points].any():
        return code
    features = model.features(_latents(code.symbols, points, model), points)
    now, then, step = spatial_costs(prior, code.spatial, features, points)
    extra_bits, size = (then - now).reshape(n, -1), code.spatial[0].size
    k = min(SPATIAL_STEPS, size)
    hopeful = np.argsort(extra_bits, axis=1)[:, :k]
    flat, steps = code.spatial.reshape(n, 1, -1), np.zeros((n, k, size), np.int64)
    np.put_along_axis(steps, hopeful[..., None], np.take_along_axis(step.reshape(n, -1), hopeful, 1)[..., None], 2)

    def decoded(tried: Ints) -> NDArray[np.float32]:
        choices = tried.shape[1]
        spatial = tried.reshape(n * choices, *code.spatial.shape[1:])
        several = LatentCode(points.repeat(choices), code.symbols.repeat(choices, 0), spatial)
        pixels = _synthesised(several, features.repeat(choices, 0), model)
        return pixels.reshape(n, choices, -1).astype(np.float32)

    x_hat = decoded(flat)
    cost: Floats = np.take_along_axis(extra_bits, hopeful, 1)
    never = np.full_like(cost, np.inf)  # only toward what is likeliest
    which, sign, _ = _greedy(
        decoded(flat + steps) - x_hat, x.reshape(n, 1, -1) - x_hat, cost, never, model.multipliers[points]
    )
    tried = flat + np.cumsum(np.take_along_axis(steps, which[..., None], 1) * sign[..., None], 1)  # n MOVES size
    tried = np.concatenate([flat, tried], 1)
    choices = tried.shape[1]
    several = tried.reshape(n * choices, *code.spatial.shape[1:])
    bits = spatial_bits(prior, several, features.repeat(choices, 0), points.repeat(choices)).reshape(n, choices)
    error = np.square(x.reshape(n, 1, -1) - decoded(tried), dtype=np.float64).sum(2) / 255**2
    best = (bits + model.multipliers[points, None] * error).argmin(1)
    return LatentCode(points, code.symbols, tried[np.arange(n), best].reshape(code.spatial.shape))


def _moves(x: Pixels, code: LatentCode, hopeful: Ints, model: Model) -> tuple[Ints, Ints]:
    """Return the sums of the best step, the best two, ... (`n MOVES size`) among `hopeful` latents; and the best half.

    hopeful: latents of each image (`n k`). Bits are those of each step alone; the image is assumed to be linear in the
    steps.
    """
    (n, k), size = hopeful.shape, model.patches * model.latents
    steps = np.zeros((n, k, size), np.int64)
    np.put_along_axis(steps, hopeful[..., None], 1, 2)
    flat = code.symbols.reshape(n, 1, size)
    rate = _rates(code, np.concatenate([flat + steps, flat - steps], 1), model) - _patch_bits(code, model)[:, None]
    x_hat = _decoded(code, model).reshape(n, 1, -1)
    change = _decoded(_alternatives(code, flat + steps, model), model).reshape(n, k, -1) - x_hat  # n k pixels
    up, down = rate[:, :k], rate[:, k:]
    chosen, sign, gain = _greedy(change, x.reshape(n, 1, -1) - x_hat, up, down, model.multipliers[code.points])
    best_first = np.argsort(-gain, axis=1, kind="stable")[:, : max(MOVES, k // 2)]  # the others will hardly ever pay
    moves = np.zeros((n, MOVES, size), np.int64)
    for m in range(MOVES):
        moves[np.arange(n), m:, hopeful[np.arange(n), chosen[:, m]]] += sign[:, m, None]
    return moves, np.take_along_axis(hopeful, best_first, 1)


def _greedy(
    change: NDArray[Any], rest: NDArray[Any], up: Floats, down: Floats, multipliers: Floats
) -> tuple[Ints, Ints, Floats]:
    """Choose among k steps those to take together, best first: which (`n MOVES`), their signs (0: none), and gains.

    change: how a step up changes the image (`n k pixels`); rest: the original less the image (`n 1 pixels`); up, down:
    the bits that a step costs (`n k`). Gains (`n k`) are those of each step alone, up or down, whichever is better.
    """
    n, k = up.shape
    rows, weight = np.arange(n), multipliers[:, None] / 255**2
    change, rest = change.astype(np.float64), rest.astype(np.float64)  # sums of integers are exact, in any order
    gram = (change @ change.transpose(0, 2, 1)) * weight[..., None]  # n k k
    toward = (change @ rest.transpose(0, 2, 1))[..., 0] * weight
    own = np.diagonal(gram, axis1=1, axis2=2)
    rate, left = np.concatenate([up, down], 1), np.ones((n, 2 * k), bool)
    which, signs = np.zeros((n, MOVES), np.int64), np.zeros((n, MOVES), np.int64)
    alone = np.maximum(2 * toward - own - up, -2 * toward - own - down)
    for m in range(MOVES):
        gain = np.where(left, np.concatenate([2 * toward - own, -2 * toward - own], 1) - rate, -np.inf)
        best = gain.argmax(1)
        which[:, m], signs[:, m] = best % k, np.where(best < k, 1, -1) * (gain[rows, best] > 0)
        toward = toward - signs[:, m, None] * gram[rows, which[:, m]]
        left[rows, which[:, m]] = left[rows, which[:, m] + k] = False
    return which, signs, alone


def _alternatives(code: LatentCode, tried: Ints, model: Model) -> LatentCode:
    """Return several choices of symbols (`n choices size`) for each image as a code of `n*choices` images."""
    n, choices = tried.shape[:2]
    flat = tried.reshape(n * choices, model.patches, model.latents)
    return LatentCode(code.points.repeat(choices), flat, code.spatial.repeat(choices, 0))


def _costs(x: Pixels, code: LatentCode, tried: Ints, model: Model) -> Floats:
    """Return the cost of several choices of symbols (`n choices size`) for each image: `n choices`."""
    choices = tried.shape[1]
    table: Floats = _cost(x.repeat(choices, 0), _alternatives(code, tried, model), model).reshape(-1, choices)
    return table


def _rates(code: LatentCode, tried: Ints, model: Model) -> Floats:
    """Return the bits of several choices (`n choices size`), without those of the spatial latents: `n choices`."""
    table: Floats = _patch_bits(_alternatives(code, tried, model), model).reshape(tried.shape[:2])
    return table


def _cost(x: Pixels, code: LatentCode, model: Model) -> Floats:
    """Return the same as `total_cost`, without the bits of the spatial latents."""
    features = model.features(_latents(code.symbols, code.points, model), code.points)
    return _patch_bits(code, model) + _weighed_error(x, code, features, model)


def total_cost(x: Pixels, code: LatentCode, model: Model) -> Floats:
    """Return bits + multiplier * squared error of each image (`n`); it is infinite where a symbol is out of range."""
    features = model.features(_latents(code.symbols, code.points, model), code.points)
    total = _patch_bits(code, model) + _weighed_error(x, code, features, model)
    if model.spatial is not None:
        total += spatial_bits(model.spatial, code.spatial, features, code.points)
    return total


def _latents(symbols: Ints, points: Ints, model: Model) -> Ints:
    """Return the latents (`n*p l`) of symbols (`n p l`)."""
    return to_latents(symbols.reshape(-1, model.latents), model.grid.steps[points.repeat(model.patches)])


def _decoded(code: LatentCode, model: Model) -> NDArray[np.float32]:
    features = model.features(_latents(code.symbols, code.points, model), code.points)
    return _synthesised(code, features, model).astype(np.float32)


def _synthesised(code: LatentCode, features: NDArray[np.float32], model: Model) -> Pixels:
    u = code.spatial if model.spatial is None else spatial_latents(model.spatial, code.spatial, code.points)
    return model.synthesise(features, u, code.points)


def _weighed_error(x: Pixels, code: LatentCode, features: NDArray[np.float32], model: Model) -> Floats:
    x_hat = _synthesised(code, features, model)
    error = (x.astype(np.float32) - x_hat).reshape(len(x), -1)
    squared = np.einsum("np,np->n", error, error, dtype=np.float64) / 255**2
    weighed: Floats = model.multipliers[code.points] * squared
    return weighed


def _patch_bits(code: LatentCode, model: Model) -> Floats:
    rows, points = code.symbols.reshape(-1, model.latents), code.points.repeat(model.patches)
    bits: Floats = row_bits(rows, points, model).reshape(len(code.points), -1).sum(1)
    return bits


def row_bits(symbols: Ints, points: Ints, model: Model) -> Floats:
    """Return the bits that the symbols (`n l`) of patches at operating points (`n`) take of an ideal coder.

    They are infinite if a symbol is out of range.
    """
    return _bits_between(patch_cdf(symbols, points, model), symbols, points, model)


def patch_cdf(symbols: Ints, points: Ints, model: Model) -> Ints:
    """Return the cumulative distribution below each symbol and up to it, of 2^28, as if no range ended it (`n l 2`)."""
    return model.prior.cdf(model.grid, symbols, points)


def _bits_between(below: Ints, symbols: Ints, points: Ints, model: Model) -> Floats:
    grid, cumulative = model.grid, below.copy()
    low, high = grid.low[points], grid.high[points]
    cumulative[..., 0][symbols == low] = 0
    cumulative[..., 1][symbols == high] = WHOLE
    found = np.diff(scaled(cumulative, (high - low + 1)[..., None]))[..., 0] + 1
    rate = mass_bits(found) - (MASS_BITS - PRECISION << FRACTION_BITS)
    rate[(low == high) & (symbols == low)] = 0
    total: Floats = rate.sum(1) / (1 << FRACTION_BITS)
    total[((symbols < low) | (symbols > high)).any(1)] = np.inf
    return total


def patch_bits(below: Ints, code: LatentCode, model: Model) -> Floats:
    """Return the bits that the patches' symbols of each image (`n`) take, by their `patch_cdf` (`n p l 2`)."""
    rows = code.symbols.reshape(-1, model.latents)
    bits = _bits_between(below.reshape(*rows.shape, 2), rows, code.points.repeat(model.patches), model)
    total: Floats = bits.reshape(len(code.points), -1).sum(1)
    return total
