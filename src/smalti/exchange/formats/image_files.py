# SPDX-License-Identifier: MIT
"""Image files, each with one image (PNG, JPEG, WebP, ...): decode them to pixels, encode PNG."""

import functools
import io
import stat
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from smalti.errors import SourceError
from smalti.exchange.parts import MAX_PIXELS, Parts, Single, grouped
from smalti.types import OnBad, Source, check_name

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".avif", ".jp2")
)
"""The suffixes by which files in a folder or an archive are taken for images."""
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "TGA")
"""The formats that Pillow may decode. Others are left out on purpose: EPS, for one, runs a program."""


def open_image_files(paths: Sequence[Path], on_bad: OnBad) -> Source:
    """Open image files as a source; each image has the name of its file, without the folder."""
    return Source(Parts(lambda: grouped(_singles(paths, on_bad))), len(paths), named=True, labelled=False)


def _singles(paths: Sequence[Path], on_bad: OnBad) -> Iterator[Single]:
    for path in paths:
        if (pixels := read_image(path, path.name, str(path), on_bad)) is not None:
            yield Single(pixels, path.name, None)


def read_image(data: Path | bytes, name: str, where: str, on_bad: OnBad) -> NDArray[np.uint8] | None:
    """Return the pixels of the image `name`; None if it cannot be read and `on_bad`, called with the error, returns."""
    try:
        check_name(name)
        return decode(data, where)
    except SourceError as exc:
        on_bad(exc)
        return None


def decode(data: Path | bytes, where: str) -> NDArray[np.uint8]:
    """Decode an image file to `h w`, `h w 3` or `h w 4`, turned as its EXIF data says, so as viewers show it.

    Raises:
        SourceError: the file cannot be read, or its pixels do not fit 8-bit gray, RGB or RGBA.
    """
    try:
        if isinstance(data, Path) and not stat.S_ISREG(data.stat().st_mode):
            raise SourceError(f"{where} is no regular file; give an image file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=_formats()) as image:
                return _pixels(image, where)
    except SourceError:
        raise
    except UnidentifiedImageError as exc:
        raise SourceError(f"{where} is no image or other source that smalti knows; leave it out") from exc
    except OSError as exc:
        raise SourceError(f"cannot read {where}: {exc.strerror or exc}; check the file") from exc
    except Exception as exc:
        raise SourceError(f"{where} is a damaged or too large image ({exc}); leave it out or copy it again") from exc


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _pixels(image: Image.Image, where: str) -> NDArray[np.uint8]:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.height}x{image.width}"
        raise SourceError(f"{where} is an image of {size}, more than a file can hold; cut it into tiles")
    if getattr(image, "n_frames", 1) > 1:
        raise SourceError(f"{where} holds several images; save each in a file of its own")
    clear = "transparency" in image.info or image.has_transparency_data
    mode = {"1": "L", "P": "RGBA" if clear else "RGB"}.get(image.mode, image.mode)
    if mode not in ("L", "RGB", "RGBA") or ("transparency" in image.info and image.mode != "P"):
        raise SourceError(f"{where} has mode {_mode(image)}; convert it to 8-bit gray, RGB or RGBA first")
    if _deep(image):
        raise SourceError(f"{where} has 16 bits a sample; convert it to 8-bit gray, RGB or RGBA first")
    pixels = np.asarray(_upright(image).convert(mode), np.uint8)
    if image.mode == "P" and mode == "RGB" and (pixels == pixels[..., :1]).all():
        return np.ascontiguousarray(pixels[..., 0])  # all colours of the palette are grays
    return pixels


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF data says; damaged EXIF data is ignored, as viewers do."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - Pillow raises many kinds of errors here
        return image


def _mode(image: Image.Image) -> str:
    return f"{image.mode} with a transparent colour" if "transparency" in image.info else image.mode


def _deep(image: Image.Image) -> bool:
    """Return whether Pillow would cut the samples down to 8 bits: it calls the mode of 16-bit RGB "RGB", too."""
    arguments = [tile[3] for tile in getattr(image, "tile", ())]
    if image.format == "PPM":
        return any(isinstance(args, tuple) and int(args[-1]) > 255 for args in arguments)
    return any(";16" in str(args) for args in arguments)


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Encode an image (`h w`, `h w 3` or `h w 4`) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
