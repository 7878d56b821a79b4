# SPDX-License-Identifier: MIT
"""Meet a largest error of every sample (0: lossless), by pixels or without a model."""

import zlib
from collections.abc import Sequence

import numpy as np

from smalti.codec.block import Block, WithoutModel
from smalti.codec.block_codec import block_without_model, encode_exactly, encode_without_model, way_without_model
from smalti.codec.rdo import EFFORTS, FAST_EFFORT, Effort
from smalti.codec.webp_codec import webp_estimate
from smalti.model.model import Model
from smalti.types import Pixels, shape_of


def near_lossless(
    parts: Sequence[Pixels], max_error: int, model: Model, effort: Effort = EFFORTS[FAST_EFFORT]
) -> list[Block]:
    """Encode each of `parts` (images, `n h w` or `n h w c`) as a block; no sample is off by more than `max_error`."""
    if model.pixels_for(shape_of(parts[0])[2]) is None:
        return [encode_without_model(x, effort, max_error=max_error) for x in parts]
    blocks = encode_exactly(parts, max_error, model)
    return [_or_without_model(x, block, max_error, effort) for x, block in zip(parts, blocks, strict=True)]


def _or_without_model(x: Pixels, block: Block, max_error: int, effort: Effort) -> Block:
    ways = {}
    for i in np.flatnonzero(unlike(x, block)).tolist():
        way = way_without_model(x[i], effort, max_error=max_error)
        if 8 * len(way.record) < block.bits[i]:
            ways[i] = way
    return replace_without_model(block, ways)


def replace_without_model(block: Block, ways: dict[int, WithoutModel]) -> Block:
    """Return the block with the images of these numbers coded in these ways, without a model."""
    if not ways:
        return block
    rows = np.array(sorted(ways))
    return block.replace(rows, block_without_model([ways[i] for i in rows.tolist()], block.x_hat.shape[1:]))


def exactly_where_cheaper(x: Pixels, block: Block, model: Model, effort: Effort) -> Block:
    """Return the block with those of its images `x` coded losslessly that take fewer bytes losslessly.

    They are coded by pixels, if the block has images by latents, or without a model.
    """
    rows = np.flatnonzero(unlike(x, block))
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


def unlike(x: Pixels, block: Block) -> list[bool]:
    """Guess at little cost which of the images `x` of a block may take fewer bytes without the model."""
    return [
        rate > image.size / 2 or _may_be_less(image, rate) for image, rate in zip(x, block.rate.tolist(), strict=True)
    ]


def _may_be_less(image: Pixels, rate: float) -> bool:
    """Guess whether an image may take less than `rate` bytes without a model, by what fast coders take."""
    deflated = len(zlib.compress(image.tobytes(), 1))
    if deflated < 1.3 * rate + 20:
        return True
    return deflated < 4 * rate and 0.7 * webp_estimate(image) < rate
