# SPDX-License-Identifier: MIT
"""A largest error for every pixel, 0 being lossless: coded by pixels, and plain where that does not suit an image."""

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from smalti.code import ABSENT, Block
from smalti.codec import Pixels, encode_block, quantise_parts, raw_block
from smalti.model import Model
from smalti.pixelcoder import Quantised
from smalti.plain import encode_plain


def exact_blocks(parts: Sequence[Pixels], max_error: int, model: Model) -> list[bytes]:
    """Each of `parts` (images, `n h w` or `n h w c`) to the bytes of a block."""
    channels = parts[0].shape[3] if parts[0].ndim == 4 else 1
    if model.pixels_for(channels) is None:
        return [_block(x, max_error, None, model) for x in parts]
    quantised = quantise_parts(parts, max_error, 0, model)
    return [_block(x, max_error, q, model) for x, q in zip(parts, quantised, strict=True)]


def _block(x: Pixels, max_error: int, quantised: Quantised | None, model: Model) -> bytes:
    n = len(x)
    errors = np.full(n, max_error)
    bits = np.full(n, np.inf) if quantised is None else quantised.bits
    plain = {}
    for i, image in enumerate(x):
        if _unlike(image, bits[i] / 8):
            record = encode_plain(image, max_error=max_error)
            if 8 * len(record) < bits[i]:
                plain[i] = record
    if plain and quantised is not None:
        modelled = np.array([i not in plain for i in range(n)])
        errors[~modelled] = ABSENT
        quantised = replace(quantised, columns=quantised.of(modelled))
    if len(plain) == n:
        errors, quantised = np.full(n, ABSENT), None
    block = Block(np.full(n, ABSENT), errors, quantised=quantised, plain=plain)
    return min(raw_block(x), encode_block(block, model), key=len)


def _unlike(image: Pixels, size: float) -> bool:
    """Whether an image that the model codes in `size` bytes may take fewer without it; a guess that costs little."""
    return size > image.size / 2 or len(zlib.compress(image.tobytes(), 1)) < 1.3 * size + 20
