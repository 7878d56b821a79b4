# SPDX-License-Identifier: MIT
"""Meet a largest error of every sample (0: lossless), by pixels or without a model."""

import itertools
import math
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smalti.codec.batching import BLOCK, EACH
from smalti.codec.block import Block, ByTransform, ByWebP, Fallback, WithoutModel
from smalti.codec.block_codec import (
    block_without_model,
    encode_block,
    encode_exactly,
    encode_without_model,
    way_at_sight,
    way_without_model,
)
from smalti.codec.mixing_codec import coarse_alpha, drawn_at_sight, encode_mixing, mixer_of
from smalti.codec.payload.head import COUNT, Head
from smalti.codec.rdo import EFFORTS, FAST_EFFORT, Effort
from smalti.entropy.frequencies import Ints
from smalti.model.model import Model
from smalti.model.operating_points import multiplier_of_level
from smalti.rate.metrics import seen_samples, squared_errors
from smalti.rate.quick import colours_of, has_few_colours, is_beyond_webp, may_be_webp, surely_not_webp
from smalti.types import Pixels, shape_of
from smalti.util.parallel import in_order

WEBP_OF_PLAIN = ((0.1, 0.3), (0.4, 0.5), (math.inf, 0.85))
"""Where `plain_bytes` gives at most the first number as a share of the samples, WebP takes at least the second one as a
share of it."""
EXACTLY_TRIED = 1.15
"""Images are also coded exactly, although they need not be, if a fast coder takes at most so many times as much."""


DRAWN_OF_DEFLATE, TONE_OF_DEFLATE, FEW_COLOURS = 0.2, 0.38, 0.4
"""What mixing takes at best of what a fast deflate takes, of images whose colours repeat and of others; and how many
colours, as a share of the pixels, an image has at most whose colours repeat."""


SMALL_BITS = 512
"""Images that cost fewer bits on average are compared as whole blocks."""
FLAT_BITS = 512
"""Among them, an image is tried exactly that may take at most so many bits: in a block it takes fewer than alone."""
LEAST_SAVED = 0.01
"""Where speed is asked for, a block is coded twice only if that saves this share of its bytes."""


def near_lossless(
    parts: Sequence[Pixels],
    max_error: int,
    model: Model,
    effort: Effort = EFFORTS[FAST_EFFORT],
    packing: str = BLOCK,
) -> list[Block]:
    """Encode each of `parts` (images, `n h w` or `n h w c`) as a block; no sample is off by more than `max_error`.

    packing: one of PACKINGS.
    """
    if model.mixer is not None:
        return [_by_mixing(x, max_error, model, effort, alone=packing == EACH) for x in parts]
    if model.pixels_for(shape_of(parts[0])[2]) is None:
        return [encode_without_model(x, effort, max_error=max_error) for x in parts]
    blocks = encode_exactly(parts, max_error, model)
    return [
        _or_without_model(x, block, np.flatnonzero(unlike(x, block.rate)), max_error, effort)
        for x, block in zip(parts, blocks, strict=True)
    ]


def _by_mixing(x: Pixels, max_error: int, model: Model, effort: Effort, *, alone: bool) -> Block:
    """Encode images as a block by mixing, or without model those of them that take fewer bytes so.

    alone: whether each image is coded by itself.
    """
    block, quick = encode_mixing(x, max_error, model, alone=alone), mixer_of(model).uses.is_quick
    if quick and not max_error:
        return _or_at_sight(x, block)
    rows = np.arange(len(x)) if max_error else np.flatnonzero(~_beyond_webp(x, block.rate))
    rest = x[rows]
    plain = np.array(list(in_order(plain_bytes, rest)))
    if max_error:
        levels = np.array([plain_bytes(image) for image in block.x_hat])
        near = np.flatnonzero(plain <= EXACTLY_TRIED * levels)
        exact = encode_mixing(x[near], 0, model, alone=alone)
        fewer = np.flatnonzero(exact.bits < block.bits[near])
        if len(fewer):
            block = block.replace(near[fewer], exact.pick(fewer))
    tried = _is_tried(rest, plain, block.rate[rows])
    return _or_without_model(x, block, rows[tried], max_error, effort)


def _beyond_webp(x: Pixels, rates: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which images take so many more bytes as WebP that neither deflate nor WebP at its best need be tried.

    Most photographs in colour do. This takes a quarter of the time of deflate.
    """
    found = surely_not_webp(x, rates)
    rows = np.flatnonzero(found)
    found[rows] = list(in_order(lambda i: is_beyond_webp(x[i], float(rates[i])), rows.tolist()))
    return found


def _is_tried(x: Pixels, plain: Ints, rates: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which images are tried as WebP; plain: the bytes of each by `plain_bytes`, rates: by mixing."""
    at_least = [next(share for most, share in WEBP_OF_PLAIN if size <= most * x[0].size) * size for size in plain]
    tried = np.array(at_least) < rates + 10
    for i in np.flatnonzero(~tried).tolist():  # WebP may pack lists of few colours far better than planes tell
        tried[i] = has_few_colours(x[i]) and may_be_webp(x[i], float(rates[i]))
    return tried


def _or_at_sight(x: Pixels, block: Block) -> Block:
    """Return the block, or one in which images are kept without model that take fewer bytes so, if that saves enough.

    Little work is spent. Only drawn images are tried, and those of few colours or of noise. The stream of all others is
    coded anew then, because it has learnt from those images.
    """
    ways, saved = dict[int, WithoutModel](), 0.0
    for i in np.flatnonzero(drawn_at_sight(x) | ~surely_not_webp(x, block.rate)).tolist():
        way = way_at_sight(x[i], float(block.rate[i]))
        if way is not None:
            ways[i], saved = way, saved + float(block.bits[i]) - 8 * len(way.record)
    return replace_without_model(block, ways) if saved > LEAST_SAVED * block.bits.sum() else block


def _or_without_model(x: Pixels, block: Block, rows: Ints, max_error: int, effort: Effort) -> Block:
    """Return the block with those of its images `rows` coded without model that take fewer bytes so."""
    rates = block.rate

    def way_of(i: int) -> WithoutModel:
        return way_without_model(x[i], effort, max_error=max_error, rival=float(rates[i]))

    found = zip(rows.tolist(), in_order(way_of, rows.tolist()), strict=True)
    return replace_without_model(block, {i: way for i, way in found if len(way.record) < rates[i]})


def plain_bytes(image: Pixels) -> int:
    """Return what a fast coder takes for an image (`h w` or `h w c`): each plane by the best of a few filters."""
    planes = list(np.ascontiguousarray(image.reshape(*image.shape[:2], -1).transpose(2, 0, 1)))
    total = 0
    for i, plane in enumerate(planes):
        alone = len(planes) <= 2 or i in (1, 3)  # alpha, and green, by which the other colours are predicted
        tried = itertools.chain.from_iterable(map(_filtered, (plane,) if alone else (plane, plane - planes[1])))
        total += min(len(zlib.compress(some.tobytes(), 1)) for some in tried)
    return total


def _filtered(plane: Pixels) -> tuple[Pixels, ...]:
    none = np.uint8(0)
    across = np.diff(plane, axis=1, prepend=none)
    return plane, across, np.diff(plane, axis=0, prepend=none), np.diff(across, axis=0, prepend=none)


def replace_without_model(block: Block, ways: dict[int, WithoutModel]) -> Block:
    """Return the block with images of these numbers coded in these ways, without a model, as far as that pays.

    A way that the block does not offer yet makes the choice of every image dearer.
    """
    _, head, _ = Head.of(block.ways)
    for kind, offered in ((Fallback, head.fallbacks), (ByWebP, head.webps)):
        mine = [i for i, way in ways.items() if isinstance(way, kind)]
        saved = sum(float(block.bits[i]) - 8 * len(ways[i].record) for i in mine)
        if offered is None and saved <= len(block) * math.log2((head.ways + 1) / head.ways) + 8 * COUNT.size:
            ways = {i: way for i, way in ways.items() if i not in mine}
    if not ways:
        return block
    rows = np.array(sorted(ways))
    return block.replace(rows, block_without_model([ways[i] for i in rows.tolist()], block.x_hat.shape[1:]))


def exactly_where_cheaper(x: Pixels, block: Block, model: Model, effort: Effort) -> Block:
    """Return the block in which those of its images `x` are coded losslessly that take fewer bytes so.

    Each of these is coded without a model, or by pixels; the latter only if the block has images by latents.
    """
    if block.transformed is not None:
        return exactly_where_it_pays(x, block, model, effort.alpha_error)
    rows = np.flatnonzero(unlike(x, block.rate))
    if not len(rows):
        return block
    ways = [way_without_model(x[i], effort) for i in rows]
    exact = None
    if block.patches is not None and model.pixels_for(shape_of(x)[2]) is not None:
        exact = encode_exactly([x[rows]], 0, model)[0]
    bits = np.full(len(rows), np.inf) if exact is None else exact.bits
    of_records = np.array([8 * len(way.record) for way in ways])
    cheaper = np.minimum(of_records, bits) < block.bits[rows]
    without = cheaper & (of_records <= bits)
    by_pixels = np.flatnonzero(cheaper & ~without)
    block = replace_without_model(block, {int(rows[i]): ways[i] for i in np.flatnonzero(without)})
    return block if exact is None else block.replace(rows[by_pixels], exact.pick(by_pixels))


def exactly_where_it_pays(x: Pixels, block: Block, model: Model, alpha_error: int = 0) -> Block:
    """Return the block with those of its images `x` by transform kept exactly for which that costs less.

    The cost of an image is its bits, and its squared error at the multiplier of its level: so many bits as the same
    error would be worth elsewhere. It is drawn images that take few bits when they are kept exactly.

    Images of few bytes cost more than their share where they are divided among streams. So the whole block is compared
    with one that keeps none of them exactly, and with one that keeps all.

    alpha_error: the most that alpha may be off by; such images are tried beside exact ones.
    """
    levels = [way.level if isinstance(way, ByTransform) else 0 for way in block.ways]
    worth = np.array([multiplier_of_level(level) for level in levels]) * seen_samples(x)
    costs = block.bits + worth * squared_errors(x, _with_alpha_of(x, block.x_hat))
    small = costs.mean() < SMALL_BITS
    most = np.maximum(costs, FLAT_BITS if small else 0) / 8
    rows = np.flatnonzero([_may_pay(image, cost) for image, cost in zip(x, most.tolist(), strict=True)])
    if not len(rows):
        return block
    found = [block]
    for tried in (x[rows], *([coarse_alpha(x[rows], alpha_error)] if alpha_error else [])):
        exact = encode_mixing(tried, 0, model)
        chosen = np.flatnonzero(exact.bits < costs[rows])
        block = block.replace(rows[chosen], exact.pick(chosen))
        costs[rows[chosen]] = exact.bits[chosen]
        if small:
            found.append(found[0].replace(rows, exact))
    if not small:
        return block

    def cost(some: Block) -> float:
        errors = squared_errors(x, _with_alpha_of(x, some.x_hat))
        return 8 * len(encode_block(some, model)) + float((worth * errors).sum())

    return min(found if block is found[0] else (block, *found), key=cost)


def _with_alpha_of(x: Pixels, x_hat: Pixels) -> Pixels:
    """Return images with the alpha of others, if they have it: what was asked of alpha is no matter of choice."""
    if x.ndim == 3 or x.shape[3] not in (2, 4):
        return x_hat
    return np.concatenate([x_hat[..., :-1], x[..., -1:]], -1)


def _may_pay(image: Pixels, most: float) -> bool:
    """Guess at little cost whether an image may take less than so many bytes exactly, by what a fast coder takes.

    The upper half is tried first, since that says enough of most images.
    """
    few = colours_of(image) <= FEW_COLOURS * image.shape[0] * image.shape[1]
    share = DRAWN_OF_DEFLATE if few else TONE_OF_DEFLATE
    return all(share * len(zlib.compress(part.tobytes(), 1)) < most for part in (image[: len(image) // 2], image))


def unlike(x: Pixels, rates: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Guess at little cost which of the images `x` may take fewer than so many bytes (`n`) without the model."""
    return np.array([_may_be_less(image, rate) for image, rate in zip(x, rates.tolist(), strict=True)], bool)


def _may_be_less(image: Pixels, rate: float) -> bool:
    """Guess whether an image may take less than `rate` bytes without a model, by what a fast coder takes.

    WebP takes 0.8 to 0.9 of it for gray images like digits, and 0.5 to 0.7 for images in colour.
    """
    if rate > image.size / 2:
        return True
    deflated = len(zlib.compress(image.tobytes(), 1))
    share = 1 / 1.3 if image.ndim == 2 else 1 / 2
    return share * deflated < rate + 10
