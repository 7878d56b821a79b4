# SPDX-License-Identifier: MIT
"""The codecs a user would pick instead, as Pillow has them: for the demo's table and the report on a training."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, features

from smalti.rate.metrics import mse
from smalti.types import Pixels


def jpeg(pixels: Pixels, quality: int) -> bytes:
    """An image (`h w` or `h w 3`) as a JPEG file with optimised Huffman tables."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()


def webp(pixels: Pixels, quality: int) -> bytes:
    """An image (`h w` or `h w 3`) as a lossy WebP file, at the slowest setting."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=quality, method=6)
    return file.getvalue()


def avif(pixels: Pixels, quality: int) -> bytes:
    """An image (`h w` or `h w 3`) as an AVIF file, tuned for PSNR."""
    file = io.BytesIO()
    sampling = "4:0:0" if pixels.ndim == 2 else "4:2:0"
    options = {"quality": quality, "subsampling": sampling, "speed": 6, "max_threads": 1, "advanced": {"tune": "psnr"}}
    Image.fromarray(pixels).save(file, "AVIF", **options)
    return file.getvalue()


def png(pixels: Pixels) -> bytes:
    """An image (`h w` or `h w 3`) as a PNG file, optimised."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def webp_lossless(pixels: Pixels) -> bytes:
    """An image (`h w` or `h w 3`) as a lossless WebP file, at the slowest setting."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True, quality=100, method=6)
    return file.getvalue()


def has_avif() -> bool:
    """Whether this Pillow can write AVIF."""
    return bool(features.check("avif"))


def mosaic(pixels: Pixels) -> Pixels:
    """`n h w` or `n h w c` images as one sheet, as square as can be, row by row; what is left over is black."""
    n, h, w, *c = pixels.shape
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, h, w, *c), np.uint8)
    sheet[:n] = pixels
    return sheet.reshape(rows, columns, h, w, *c).swapaxes(1, 2).reshape(rows * h, columns * w, *c)


def cut(sheet: Pixels, n: int, h: int, w: int) -> Pixels:
    """The `n` images of a mosaic."""
    rows, columns, c = sheet.shape[0] // h, sheet.shape[1] // w, sheet.shape[2:]
    return sheet.reshape(rows, h, columns, w, *c).swapaxes(1, 2).reshape(-1, h, w, *c)[:n]


def decode_gray(data: bytes) -> Pixels:
    """An image file to `h w`."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L"))


def decode_rgb(data: bytes) -> Pixels:
    """An image file to `h w 3`."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def lowest_quality(x: Pixels, limit: float, encode: Callable[[Pixels, int], bytes]) -> tuple[list[bytes], Pixels]:
    """Each image of `x` as a file of the lowest quality at which their MSE is at most `limit`, and all decoded.

    Found by bisection from 1 to 95; if even 95 misses the limit, 95 is what comes back.
    """
    low, high = 1, 95
    while low < high:
        middle = (low + high) // 2
        if mse(x, _coded(x, middle, encode)[1]) <= limit:
            high = middle
        else:
            low = middle + 1
    return _coded(x, low, encode)


def _coded(x: Pixels, quality: int, encode: Callable[[Pixels, int], bytes]) -> tuple[list[bytes], Pixels]:
    files = [encode(image, quality) for image in x]
    return files, np.stack([decode_gray(file) for file in files])
