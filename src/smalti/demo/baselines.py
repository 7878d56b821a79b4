# SPDX-License-Identifier: MIT
"""The baseline codecs that smalti is compared with (PNG, JPEG, WebP, AVIF), through Pillow."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, features

from smalti.rate.metrics import mse
from smalti.types import Pixels


def jpeg(pixels: Pixels, quality: int) -> bytes:
    """Encode an image (`h w` or `h w 3`) as a JPEG file with optimised Huffman tables, at quality 1 to 95."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()


def webp(pixels: Pixels, quality: int) -> bytes:
    """Encode an image (`h w` or `h w 3`) as a lossy WebP file with the slowest method, at quality 0 to 100."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=quality, method=6)
    return file.getvalue()


def avif(pixels: Pixels, quality: int) -> bytes:
    """Encode an image (`h w` or `h w 3`) as an AVIF file that is tuned for PSNR, at quality 0 to 100."""
    file = io.BytesIO()
    sampling = "4:0:0" if pixels.ndim == 2 else "4:2:0"
    options = {"quality": quality, "subsampling": sampling, "speed": 6, "max_threads": 1, "advanced": {"tune": "psnr"}}
    Image.fromarray(pixels).save(file, "AVIF", **options)
    return file.getvalue()


def png(pixels: Pixels) -> bytes:
    """Encode an image (`h w` or `h w 3`) as an optimised PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def webp_lossless(pixels: Pixels) -> bytes:
    """Encode an image (`h w` or `h w 3`) as a lossless WebP file with the slowest method."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True, quality=100, method=6)
    return file.getvalue()


def has_avif() -> bool:
    """Return whether the installed Pillow can write AVIF."""
    return bool(features.check("avif"))


def mosaic(pixels: Pixels) -> Pixels:
    """Put images (`n h w` or `n h w c`) on one sheet, row by row, as square as possible; free places are black."""
    n, h, w, *c = pixels.shape
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, h, w, *c), np.uint8)
    sheet[:n] = pixels
    return sheet.reshape(rows, columns, h, w, *c).swapaxes(1, 2).reshape(rows * h, columns * w, *c)


def cut(sheet: Pixels, n: int, h: int, w: int) -> Pixels:
    """Cut the `n` images of `h` by `w` pixels out of a sheet that `mosaic` made."""
    rows, columns, c = sheet.shape[0] // h, sheet.shape[1] // w, sheet.shape[2:]
    return sheet.reshape(rows, h, columns, w, *c).swapaxes(1, 2).reshape(-1, h, w, *c)[:n]


def decode_gray(data: bytes) -> Pixels:
    """Decode an image file to `h w`."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L"))


def decode_rgb(data: bytes) -> Pixels:
    """Decode an image file to `h w 3`."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def lowest_quality(x: Pixels, limit: float, encode: Callable[[Pixels, int], bytes]) -> tuple[list[bytes], Pixels]:
    """Encode each image of `x` at the lowest quality at which their MSE on [0,1] pixels is at most `limit`.

    The quality is found by bisection from 1 to 95, and is 95 if no quality meets the limit. Returns the files, and the
    decoded images.
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
