# SPDX-License-Identifier: MIT
"""Meet a largest error of every sample (0: lossless), by pixels or by the fallback."""

import zlib
from collections.abc import Sequence

import numpy as np

from smalti.codec.block import Block
from smalti.codec.block_codec import encode_exactly, encode_without_model, fallback_block
from smalti.codec.fallback_codec import encode_fallback
from smalti.model.model import Model
from smalti.types import Pixels, shape_of


def near_lossless(parts: Sequence[Pixels], max_error: int, model: Model) -> list[Block]:
    """Encode each of `parts` (images, `n h w` or `n h w c`) as a block; no sample is off by more than `max_error`."""
    if model.pixels_for(shape_of(parts[0])[2]) is None:
        return [encode_without_model(x, max_error=max_error) for x in parts]
    blocks = encode_exactly(parts, max_error, model)
    return [_or_fallback(x, block, max_error) for x, block in zip(parts, blocks, strict=True)]


def _or_fallback(x: Pixels, block: Block, max_error: int) -> Block:
    records = {}
    for i in np.flatnonzero(unlike(x, block)).tolist():
        record = encode_fallback(x[i], max_error=max_error)
        if 8 * len(record) < block.bits[i]:
            records[i] = record
    return replace_by_fallback(block, records)


def replace_by_fallback(block: Block, records: dict[int, bytes]) -> Block:
    """Return the block with the images of these numbers coded by the fallback, as these records."""
    if not records:
        return block
    rows = np.array(sorted(records))
    return block.replace(rows, fallback_block([records[i] for i in rows.tolist()], block.x_hat.shape[1:]))


def exactly_where_cheaper(x: Pixels, block: Block, model: Model) -> Block:
    """Return the block with those of its images `x` coded losslessly that take fewer bytes losslessly.

    They are coded by pixels, if the block has images by latents, or by the fallback.
    """
    rows = np.flatnonzero(unlike(x, block))
    if not len(rows):
        return block
    records = [encode_fallback(x[i]) for i in rows]
    exact = None
    if block.patches is not None and model.pixels_for(shape_of(x)[2]) is not None:
        exact = encode_exactly([x[rows]], 0, model)[0]
    bits = np.full(len(rows), np.inf) if exact is None else exact.bits
    of_records = np.array([8 * len(record) for record in records])
    cheaper = np.minimum(of_records, bits) < block.bits[rows]
    by_fallback = cheaper & (of_records <= bits)
    by_pixels = np.flatnonzero(cheaper & ~by_fallback)
    block = replace_by_fallback(block, {int(rows[i]): records[i] for i in np.flatnonzero(by_fallback)})
    return block if exact is None else block.replace(rows[by_pixels], exact.pick(by_pixels))


def unlike(x: Pixels, block: Block) -> list[bool]:
    """Guess at little cost which of the images `x` of a block may take fewer bytes without the model."""
    return [
        rate > image.size / 2 or len(zlib.compress(image.tobytes(), 1)) < 1.3 * rate + 20
        for image, rate in zip(x, block.rate.tolist(), strict=True)
    ]
