# SPDX-License-Identifier: MIT
"""Images that no model suits: pixels in even steps, a filter, deflate. Each image by itself.

A record is the step (1 byte, 1 is lossless), the filter (1 byte), the size (4 bytes) and the deflate stream (RFC 1951).
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from smalti.errors import CorruptError

HEAD = struct.Struct("<BBI")
MAX_STEP = 64
FILTERS = 3
"""0: none, 1: less the left neighbour, 2: less the upper neighbour; of the levels, modulo 256."""

Pixels = NDArray[np.uint8]


def encode_plain(image: Pixels, largest_mse: float = 0.0) -> bytes:
    """An image (`h w` or `h w c`) as a record, off by a mean squared error (of [0, 1] pixels) of that at most."""
    step = max(s for s in range(1, MAX_STEP + 1) if s == 1 or _error(image, s) <= largest_mse)
    levels = _levels(image, step)
    streams = [_deflate(_filter(levels, kind).tobytes()) for kind in range(FILTERS)]
    kind = min(range(FILTERS), key=lambda k: len(streams[k]))
    return HEAD.pack(step, kind, len(streams[kind])) + streams[kind]


def decode_plain(data: bytes, at: int, shape: tuple[int, ...]) -> tuple[Pixels, int]:
    """The image of `shape` whose record starts at `at`, and where the record ends.

    Raises:
        CorruptError: it is not such a record.
    """
    if at + HEAD.size > len(data):
        raise CorruptError("a block ends within the record of a plain image; the file is damaged")
    step, kind, size = HEAD.unpack_from(data, at)
    start, end = at + HEAD.size, at + HEAD.size + size
    if not 1 <= step <= MAX_STEP or kind >= FILTERS or end > len(data):
        raise CorruptError("the record of a plain image has an impossible field; the file is damaged")
    count = int(np.prod(shape))
    inflater = zlib.decompressobj(-15)
    try:
        levels = inflater.decompress(data[start:end], count + 1)
    except zlib.error as exc:
        raise CorruptError("a plain image cannot be inflated; the file is damaged") from exc
    if len(levels) != count or not inflater.eof or inflater.unused_data:
        raise CorruptError("a plain image has the wrong number of pixels; the file is damaged")
    return _pixels(_unfilter(np.frombuffer(levels, np.uint8).reshape(shape), kind), step), end


def _levels(image: Pixels, step: int) -> Pixels:
    return ((image.astype(np.int64) + step // 2) // step).astype(np.uint8)


def _pixels(levels: Pixels, step: int) -> Pixels:
    return (levels.astype(np.int64) * step).clip(0, 255).astype(np.uint8)


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


def _error(image: Pixels, step: int) -> float:
    off = (_pixels(_levels(image, step), step).astype(np.float64) - image) / 255
    return float((off**2).mean())


def _deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-15)
    return deflater.compress(data) + deflater.flush()
