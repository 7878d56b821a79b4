# SPDX-License-Identifier: MIT
"""The other codecs at their best for small gray images: slow, monochrome, tuned for PSNR if possible."""

import io
import lzma
from collections.abc import Callable
from dataclasses import dataclass

import imagecodecs
import numpy as np
from PIL import Image

from smalti.demo.baselines import decode_gray, jpeg, webp
from smalti.types import Pixels


@dataclass(frozen=True)
class Codec:
    """An image codec and the qualities to try; `encode` takes a gray image (`h w`) and one of them."""

    name: str
    settings: str
    qualities: tuple[float, ...]  # a single meaningless one for a lossless codec
    encode: Callable[[Pixels, float], bytes]
    decode: Callable[[bytes], Pixels]


def _pillow(image: Pixels, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def _avif(image: Pixels, quality: float) -> bytes:
    return _pillow(
        image, "AVIF", quality=int(quality), subsampling="4:0:0", speed=6, max_threads=1, advanced={"tune": "psnr"}
    )


def _avif_lossless(image: Pixels, _: float) -> bytes:
    return _pillow(image, "AVIF", quality=100, subsampling="4:0:0", range="full", speed=6, max_threads=1)


def _jxl(image: Pixels, distance: float) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(image, distance=distance, effort=7, usecontainer=False, numthreads=1))


def _jxl_lossless(image: Pixels, _: float) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(image, lossless=True, effort=9, usecontainer=False, numthreads=1))


def _jpeg2000(image: Pixels, level: float) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(image, level=int(level), codecformat="J2K"))


def _gray(decode: Callable[[bytes], Pixels]) -> Callable[[bytes], Pixels]:
    """Return a decoder to `h w` from one that may return `h w 1`."""
    return lambda data: np.atleast_3d(decode(data))[:, :, 0]


LOSSY = (
    Codec("JPEG", "Pillow, optimize", (1, 5, 10, 20, 30, 50, 75, 90), lambda x, q: jpeg(x, int(q)), decode_gray),
    Codec("WebP", "Pillow, method 6", (1, 5, 10, 25, 50, 75, 90), lambda x, q: webp(x, int(q)), decode_gray),
    Codec("AVIF", "Pillow, speed 6, 4:0:0, tune=psnr", (1, 5, 10, 30, 60, 80), _avif, decode_gray),
    Codec("JPEG XL", "imagecodecs, effort 7, distance", (15, 10, 6, 3, 1), _jxl, _gray(imagecodecs.jpegxl_decode)),
    Codec("JPEG 2000", "imagecodecs, bare codestream, dB", (20, 24, 28, 32, 36), _jpeg2000,
          _gray(imagecodecs.jpeg2k_decode)),
)  # fmt: skip
LOSSLESS = (
    Codec("PNG", "Pillow, optimize", (0,), lambda x, _: _pillow(x, "PNG", optimize=True), decode_gray),
    Codec("WebP lossless", "Pillow, method 6", (0,),
          lambda x, _: _pillow(x, "WEBP", lossless=True, quality=100, method=6), decode_gray),
    Codec("JPEG XL lossless", "imagecodecs, effort 9", (0,), _jxl_lossless, _gray(imagecodecs.jpegxl_decode)),
    Codec("AVIF lossless", "Pillow, quality 100, 4:0:0", (0,), _avif_lossless, decode_gray),
    Codec("JPEG-LS", "imagecodecs", (0,), lambda x, _: bytes(imagecodecs.jpegls_encode(x)),
          _gray(imagecodecs.jpegls_decode)),
)  # fmt: skip


def _whole(decode: Callable[[bytes], bytes | bytearray]) -> Callable[[bytes], Pixels]:
    """Return a decoder to one tall image with the pixels of the whole set, from a decoder to bytes."""
    return lambda data: np.frombuffer(decode(data), np.uint8)[:, None]


GENERAL = (
    Codec("xz", "-9e", (0,), lambda x, _: lzma.compress(x.tobytes(), preset=9 | lzma.PRESET_EXTREME),
          _whole(lzma.decompress)),
    Codec("zstd", "-19", (0,), lambda x, _: bytes(imagecodecs.zstd_encode(x.tobytes(), level=19)),
          _whole(imagecodecs.zstd_decode)),
)  # fmt: skip
