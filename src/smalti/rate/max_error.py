# SPDX-License-Identifier: MIT
"""A largest error for every pixel, 0 being lossless: coded by pixels, and plain where that does not suit an image."""

from collections.abc import Sequence

import numpy as np

from smalti.codec.block import ABSENT, Block
from smalti.codec.block_codec import quantise_parts, unlike
from smalti.codec.fallback_codec import encode_fallback
from smalti.codec.pixel_codec import Quantised
from smalti.model.model import Model
from smalti.types import Pixels


def exact_blocks(parts: Sequence[Pixels], max_error: int, model: Model) -> list[Block]:
    """A block of each of `parts` (images, `n h w` or `n h w c`)."""
    channels = parts[0].shape[3] if parts[0].ndim == 4 else 1
    if model.pixels_for(channels) is None:
        return [_block(x, max_error, None) for x in parts]
    quantised = quantise_parts(parts, max_error, 0, model)
    return [_block(x, max_error, q) for x, q in zip(parts, quantised, strict=True)]


def _block(x: Pixels, max_error: int, quantised: Quantised | None) -> Block:
    n = len(x)
    bits = np.full(n, np.inf) if quantised is None else quantised.bits
    plain = {}
    for i, image in enumerate(x):
        if unlike(image, bits[i] / 8):
            record = encode_fallback(image, max_error=max_error)
            if 8 * len(record) < bits[i]:
                plain[i] = record
    absent = np.full(n, ABSENT)
    return Block(absent, absent if quantised is None else np.full(n, max_error), quantised=quantised).without(plain)
