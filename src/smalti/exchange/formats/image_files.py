# SPDX-License-Identifier: MIT
"""Image files, each with one image (PNG, JPEG, WebP, ...): decode them to pixels, encode PNG."""

import io
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from smalti.errors import SourceError
from smalti.exchange.formats.image_headers import deep_file, deep_image, lost_samples
from smalti.exchange.parts import MAX_PIXELS, Parts, Single, grouped
from smalti.exchange.recognise import FURTHER, formats
from smalti.types import Label, OnBad, PassedOver, Source, check_name

_MODES = {"1": "L", "L": "L", "P": "RGB", "LA": "RGBA", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"}
"""Pillow's modes that are taken, and those that keep all of their samples; with a transparent colour, RGBA does."""
ICONS = (".ico", ".icns")
"""The suffixes of files that may hold several images; how many files are is then not how many images are."""
_CONVERT = "convert it to 8-bit gray, RGB or RGBA first"
OnFurther = Callable[[int], object]
"""A function that is told how many images of a file are passed over."""


def open_image_files(paths: Sequence[Path], on_bad: OnBad) -> Source:
    """Open image files as a source; each image has the name of its file, without the folder."""
    passed = PassedOver()
    total = None if any(path.suffix.lower() in ICONS for path in paths) else len(paths)
    parts = Parts(lambda: grouped(_singles(paths, on_bad, passed)))
    return Source(parts, total, named=True, labelled=False, passed_over=passed)


def _singles(paths: Sequence[Path], on_bad: OnBad, passed: PassedOver) -> Iterator[Single]:
    passed.clear()
    for path in paths:
        yield from read_singles(path, path.name, str(path), on_bad, passed)


def read_singles(
    data: Path | bytes, name: str, where: str, on_bad: OnBad, passed: PassedOver, label: Label | None = None
) -> list[Single]:
    """Return the images of the file `name`, each with the label of the file: one, or all sizes of an icon.

    The images are none if the file cannot be read and `on_bad`, called with the error, returns.
    """
    try:
        check_name(name)
        further: list[int] = []
        images = decode_all(data, where, further.append)
        for added, _ in images:
            check_name(name + added)
    except SourceError as exc:
        on_bad(exc)
        return []
    for n in further:
        passed.note(FURTHER, name, n)
    return [Single(pixels, name + added, label) for added, pixels in images]


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
    images = decode_all(data, where)
    if len(images) > 1:
        raise SourceError(f"{where} holds {len(images)} images of an icon; save each in a file of its own")
    return images[0][1]


def decode_all(data: Path | bytes, where: str, further: OnFurther = int) -> list[tuple[str, NDArray[np.uint8]]]:
    """Decode an image file to its images, each with what is added to the name of the file.

    Nothing is added where there is one image. An icon gives an image for each of its sizes: "/64x64.png", ...

    Args:
        data: the path or the content of the file.
        where: the file, in words, for messages.
        further: a function that is called with the number of images beside a photo (MPO), which are not read.

    Raises:
        SourceError: the file cannot be read, or its pixels do not fit 8-bit gray, RGB or RGBA.
    """
    try:
        if isinstance(data, Path) and not stat.S_ISREG(data.stat().st_mode):
            raise SourceError(f"{where} is no regular file; give an image file")
        with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check_depth(deep_file(file), where)
            with Image.open(file, formats=formats()) as image:
                if image.format == "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
                    further(frames - 1)
                return _images(image, where)
    except SourceError:
        raise
    except UnidentifiedImageError as exc:
        raise SourceError(f"{where} is no image or other source that smalti knows; leave it out") from exc
    except OSError as exc:
        raise SourceError(f"cannot read {where}: {exc.strerror or exc}; check the file") from exc
    except Exception as exc:
        raise SourceError(f"{where} is a damaged or too large image ({exc}); leave it out or copy it again") from exc


def pixels_of(image: Image.Image, where: str) -> NDArray[np.uint8]:
    """Return the pixels of an image of Pillow as `h w`, `h w 3` or `h w 4`, turned as its EXIF data says.

    Raises:
        SourceError: the image cannot be read, or its pixels do not fit 8-bit gray, RGB or RGBA.
    """
    try:
        return _pixels(image, where)
    except SourceError:
        raise
    except Exception as exc:
        raise SourceError(f"{where} cannot be read ({exc}); load it again") from exc


def _images(image: Image.Image, where: str) -> list[tuple[str, NDArray[np.uint8]]]:
    """Return the image of an opened file, or those of an icon, from the largest to the smallest."""
    images: list[tuple[str, NDArray[np.uint8]]] = []
    seen: Counter[str] = Counter()
    pixels = 0
    for size, frame in _frames(image):
        pixels += frame.width * frame.height
        if pixels > MAX_PIXELS and images:
            raise SourceError(f"{where} claims more than {MAX_PIXELS} pixels in all sizes of an icon; it is damaged")
        seen[size] += 1  # an icon may hold a size several times, with fewer colours
        again = f"-{seen[size]}" if seen[size] > 1 else ""
        images.append((f"/{size}{again}.png", _pixels(frame, f"{where}, size {size}" if size else where)))
    return images if len(images) > 1 else [("", array) for _, array in images]


def _frames(image: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """Yield an opened file that is no icon, or each image of an icon, each with its size in words."""
    if image.format == "ICO":
        icon = image.ico  # type: ignore[attr-defined]
        for i in range(len(icon.entry)):
            frame = icon.frame(i)
            yield f"{frame.width}x{frame.height}", frame
    elif image.format == "ICNS":
        for size in sorted(image.info["sizes"], key=lambda size: (size[0] * size[2], size), reverse=True):
            w, h, scale = size
            yield f"{w}x{h}" + (f"@{scale}x" if scale > 1 else ""), image.icns.getimage(size)  # type: ignore[attr-defined]
    else:
        yield "", image


def _pixels(image: Image.Image, where: str) -> NDArray[np.uint8]:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.height}x{image.width}"
        raise SourceError(
            f"{where} is an image of {size}, more than a file can hold: {MAX_PIXELS} samples (4096x4096 gray);"
            " cut it into tiles"
        )
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        what = "pages" if image.format == "TIFF" else "frames of an animation"
        raise SourceError(f"{where} holds {frames} {what}, not one image; save each in a file of its own")
    clear = "transparency" in image.info or image.has_transparency_data
    mode = "RGBA" if clear else _MODES.get(image.mode)
    if mode is None or image.mode not in _MODES:
        raise SourceError(f"{where} has mode {image.mode}; {_CONVERT}")
    _check_depth(deep_image(image), where)
    if lost := lost_samples(image):
        raise SourceError(f"{where} has {lost}; {_CONVERT}")
    pixels = np.asarray(_upright(image).convert(mode), np.uint8)
    if image.mode == "P" and mode == "RGB" and (pixels == pixels[..., :1]).all():
        return np.ascontiguousarray(pixels[..., 0])  # all colours of the palette are grays
    return pixels


def _check_depth(bits: int, where: str) -> None:
    if bits > 8:
        raise SourceError(f"{where} has {bits} bits a sample, more than the 8 that are kept; {_CONVERT}")


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF data says; damaged EXIF data is ignored, as viewers do."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - Pillow raises many kinds of errors here
        return image


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Encode an image (`h w`, `h w 3` or `h w 4`) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
