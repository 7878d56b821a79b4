# SPDX-License-Identifier: MIT
"""Images as WebP lossless bitstreams (RFC 9649), which need no model; Pillow writes and reads them.

A record is the size as a varint and the bitstream without its first five bytes: these hold the size of the image and
whether it has alpha, which the block says already. So a bitstream cannot claim another size.
"""

import io
import struct
from typing import TYPE_CHECKING

import numpy as np

from smalti.errors import CorruptError
from smalti.types import Pixels
from smalti.util.binary import read_varint, varint

if TYPE_CHECKING:
    from PIL import Image  # it is imported where it is needed: most images are read without it

MAX_WEBP_SIDE = (1 << 14) - 1
"""The largest height or width, in pixels, of a WebP image that libwebp takes."""
FEW_COLOURS, FEW_GRAYS, FEW_PIXELS, SOME_PIXELS = 256, 16, 1 << 12, 1 << 14
"""Images of few colours and few pixels are tried with WebP's slowest settings as well, which take 20 times as long and
help them only; others are if it is asked for, up to some pixels. Where it is known what else a gray image takes, it
counts as one of few colours only with few levels, since it never has more than 256."""
SLOWEST_GAINS, OF_FEW_COLOURS, MOST_PIXELS = 1.1, 1.4, 1 << 16
"""Where it is known what else an image takes, they are tried if the usual settings take at most so many times as much;
the second number is for images of few colours. The third one is the most pixels."""
_USUAL, _SLOWEST = (4, 75), (6, 100)  # method and effort ("quality") of libwebp
LIGHT = (1, 20)
"""The same for little work: 40 to 90 nanoseconds a sample, and up to 4 % more bytes of photographs, 17 % of others."""
_START = 5  # bytes: a signature, 14 bits of width - 1, 14 of height - 1, 1 of alpha, 3 of the version
_SIGNATURE = 0x2F
_RIFF = struct.Struct("<4sI4s4sI")


def encode_webp(
    image: Pixels, *, thorough: bool = False, rival: float | None = None, settings: tuple[int, int] | None = None
) -> bytes | None:
    """Encode an image (`h w` or `h w c`) to a record, losslessly; None if WebP cannot hold its size.

    Args:
        image: the image.
        thorough: whether the slowest settings are tried as well.
        rival: the bytes that the image takes otherwise. The slowest settings are tried if they may take fewer, and only
            then. None: that is not known.
        settings: the only method and effort of libwebp that are tried, if they are given.
    """
    h, w = image.shape[:2]
    if max(h, w) > MAX_WEBP_SIDE:
        return None
    from PIL import Image

    colour = Image.fromarray(_as_colour(image))
    if settings is not None:
        return _encode(colour, *settings)
    usual = _encode(colour, *_USUAL)
    few = h * w <= FEW_PIXELS and colour.getcolors(FEW_COLOURS) is not None
    if rival is not None:
        few = few and (image.ndim > 2 or colour.getcolors(FEW_GRAYS) is not None)
        slow = h * w <= MOST_PIXELS and len(usual) <= (OF_FEW_COLOURS if few else SLOWEST_GAINS) * rival
    elif thorough:
        slow = h * w <= SOME_PIXELS
    else:
        slow = few
    return min(usual, _encode(colour, *_SLOWEST), key=len) if slow else usual


def _encode(image: "Image.Image", method: int, effort: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True, method=method, quality=effort, exact=True)
    data = file.getvalue()
    size = struct.unpack_from("<I", data, _RIFF.size - 4)[0]
    bitstream = data[_RIFF.size + _START : _RIFF.size + size]
    return varint(len(bitstream)) + bitstream


def decode_webp(data: bytes, at: int, shape: tuple[int, ...]) -> tuple[Pixels, int]:
    """Decode the image of `shape` (`h w` or `h w c`) whose record starts at byte `at`; also return where that ends.

    Raises:
        CorruptError: the record is damaged.
    """
    from PIL import Image

    size, start = read_varint(data, at)
    end = start + size
    if end > len(data) or max(shape[:2]) > MAX_WEBP_SIDE:
        raise CorruptError("a WebP record has an impossible field; the file is damaged")
    (h, w), channels = shape[:2], shape[2] if len(shape) == 3 else 1
    alpha = channels in (2, 4)
    head = bytes([_SIGNATURE]) + struct.pack("<I", w - 1 | h - 1 << 14 | alpha << 28)
    chunk = head + data[start:end]
    padded = chunk + bytes(len(chunk) & 1)
    file = io.BytesIO(_RIFF.pack(b"RIFF", _RIFF.size - 8 + len(padded), b"WEBP", b"VP8L", len(chunk)) + padded)
    try:
        with Image.open(file, formats=("WEBP",)) as image:
            pixels = np.asarray(image.convert("RGBA" if alpha else "RGB"))
    except Exception as exc:  # Pillow raises errors of many kinds
        raise CorruptError("a WebP record cannot be decoded; the file is damaged") from exc
    if pixels.shape[:2] != (h, w):
        raise CorruptError("a WebP record is of another size than its block; the file is damaged")
    return np.ascontiguousarray({1: pixels[..., 1], 2: pixels[..., [1, -1]]}.get(channels, pixels)), end


def _as_colour(image: Pixels) -> Pixels:
    """Return an image as RGB or RGBA: the channels of a gray one are equal."""
    channels = image.shape[2] if image.ndim == 3 else 1
    if channels > 2:
        return np.ascontiguousarray(image)
    gray = image.reshape(*image.shape[:2], -1)
    return np.ascontiguousarray(gray[..., [0, 0, 0] if channels == 1 else [0, 0, 0, 1]])
