# SPDX-License-Identifier: MIT
"""The story: images to blocks and back. Read this file first.

    pack:    read -> batch -> analyse (g_a)    -> quantise   -> entropy-code   -> block -> file
    unpack:  file -> block -> entropy-decode   -> dequantise -> synthesise (g_s)        -> write

The ends of it, reading and writing, are in `images.py`, `targets.py` and `archive.py`; `api.py` ties them together.
"""

import numpy as np
from numpy.typing import NDArray

from smalti.bundle import Model, Point
from smalti.entropy import decode_symbols, encode_symbols

BLOCK_IMAGES = 256
"""Images that share a stream: enough to make the coder's few bytes vanish, few enough to read one image fast."""

Pixels = NDArray[np.uint8]


def encode_block(x: Pixels, model: Model, point: Point) -> bytes:
    """Images (`n h w` or `n h w c`) to the bytes of a block."""
    y = model.analyse(x)
    symbols = quantise(y, point)
    return encode_symbols(symbols, point.tables)


def decode_block(payload: bytes, n: int, model: Model, point: Point) -> Pixels:
    """The bytes of a block to its `n` images."""
    symbols = decode_symbols(payload, n, point.tables)
    y_hat = dequantise(symbols, point)
    return model.synthesise(y_hat)


def quantise(y: NDArray[np.float32], point: Point) -> NDArray[np.int32]:
    """Latents (`n p`) to the nearest symbols that the tables know."""
    nearest = np.rint(y / np.float32(point.step)).astype(np.int64)
    return np.stack([t.clip(column) for column, t in zip(nearest.T, point.tables, strict=True)], axis=1)


def dequantise(symbols: NDArray[np.int32], point: Point) -> NDArray[np.float32]:
    """Symbols (`n p`) to quantised latents y_hat."""
    return symbols.astype(np.float32) * np.float32(point.step)


def payload_bytes(symbols: NDArray[np.int32], point: Point) -> NDArray[np.float64]:
    """What each image's symbols (`n p`) take of their block, in bytes: a fraction, since images share a stream."""
    bits = [t.bits(column) for column, t in zip(symbols.T, point.tables, strict=True)]
    total: NDArray[np.float64] = np.sum(bits, axis=0) / 8
    return total
