# SPDX-License-Identifier: MIT
"""The fallback for images that no model suits: even quantisation, a filter and deflate, image by image.

A record is the step (1 is lossless) and the filter in one byte, the size as a varint and the deflate stream
(RFC 1951); or, with filter 3, that one byte and the levels as they are.
"""

import zlib

import numpy as np
from numpy.typing import NDArray

from smalti.errors import CorruptError
from smalti.types import Pixels
from smalti.util.binary import read_varint, varint

MAX_STEP = 64
"""The largest step between levels, of 255."""
FILTERS = 3
"""The number of filters: 0 keeps the levels, 1 subtracts the left neighbour, 2 the upper one, modulo 256."""
RAW = 3
"""The number that stands in the place of a filter where the levels are not deflated."""


def encode_fallback(image: Pixels, *, largest_mse: float = 0.0, max_error: int = 0) -> bytes:
    """Encode an image (`h w` or `h w c`) to a record.

    Its mean squared error (on pixels in [0, 1]) is at most `largest_mse`, or no sample is off by more than `max_error`.
    """
    step = min(2 * max_error + 1, MAX_STEP)
    if largest_mse > 0:
        allowed = np.flatnonzero(_errors(image) <= largest_mse) + 1
        step = max(step, int(allowed.max(initial=1)))
    levels = _levels(image, step)
    streams = [_deflate(_filter(levels, kind).tobytes()) for kind in range(FILTERS)]
    kind = min(range(FILTERS), key=lambda k: len(streams[k]))
    record = bytes([_head(step, kind)]) + varint(len(streams[kind])) + streams[kind]
    raw = bytes([_head(step, RAW)]) + levels.tobytes()
    return min(raw, record, key=len)


def raw_record(image: Pixels) -> bytes:
    """Return the record that holds the pixels of an image (`h w` or `h w c`) as they are."""
    return bytes([_head(1, RAW)]) + image.tobytes()


def decode_fallback(data: bytes, at: int, shape: tuple[int, ...]) -> tuple[Pixels, int]:
    """Decode the image of `shape` (`h w` or `h w c`) whose record starts at byte `at`; also return where that ends.

    Raises:
        CorruptError: the record is damaged.
    """
    if at >= len(data):
        raise CorruptError("a block ends within a fallback record; the file is damaged")
    step, kind = data[at] // (RAW + 1) + 1, data[at] % (RAW + 1)
    count = int(np.prod(shape))
    size, start = (count, at + 1) if kind == RAW else read_varint(data, at + 1)
    end = start + size
    if end > len(data):
        raise CorruptError("a fallback record has an impossible field; the file is damaged")
    if kind == RAW:
        return _pixels(np.frombuffer(data[start:end], np.uint8).reshape(shape), step), end
    inflater = zlib.decompressobj(-15)
    try:
        levels = inflater.decompress(data[start:end], count + 1)
    except zlib.error as exc:
        raise CorruptError("a fallback record cannot be inflated; the file is damaged") from exc
    if len(levels) != count or not inflater.eof or inflater.unused_data:
        raise CorruptError("a fallback record has the wrong number of pixels; the file is damaged")
    return _pixels(_unfilter(np.frombuffer(levels, np.uint8).reshape(shape), kind), step), end


def _head(step: int, kind: int) -> int:
    return (step - 1) * (RAW + 1) + kind


def _levels(image: Pixels, step: int) -> Pixels:
    table = ((np.arange(256) + step // 2) // step).astype(np.uint8)
    return table[image]


def _pixels(levels: Pixels, step: int) -> Pixels:
    table = np.minimum(np.arange(256) * step, 255).astype(np.uint8)
    return table[levels]


def _filter(levels: Pixels, kind: int) -> Pixels:
    if kind == 0:
        return levels
    before = np.zeros_like(levels)
    if kind == 1:
        before[:, 1:] = levels[:, :-1]
    else:
        before[1:] = levels[:-1]
    return levels - before  # modulo 256


def _unfilter(filtered: Pixels, kind: int) -> Pixels:
    return filtered if kind == 0 else np.cumsum(filtered, axis=2 - kind, dtype=np.uint8)


def _errors(image: Pixels) -> NDArray[np.float64]:
    """Return the mean squared error of an image at each step from 1 on, from how often each value occurs."""
    values = np.arange(256, dtype=np.uint8)
    off = np.stack([_pixels(_levels(values, step), step) for step in range(1, MAX_STEP + 1)]) - values.astype(
        np.float64
    )
    errors: NDArray[np.float64] = (off / 255) ** 2 @ np.bincount(image.ravel(), minlength=256) / image.size
    return errors


def _deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-15)
    return deflater.compress(data) + deflater.flush()
