# SPDX-License-Identifier: MIT
"""The codecs that people take for small pictures: as files, and with all pictures on one sheet; kept in a cache."""

import hashlib
import io
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import PIL
from PIL import Image, features

from bench.thumbnails.metrics import ms_ssim_of, psnr_of
from smalti.types import Pixels


@dataclass(frozen=True)
class Point:
    """The measurement of one codec at one quality."""

    codec: str
    how: str  # "files", "sheet" or "smalti"
    settings: str
    quality: float
    bytes_an_image: float  # all in
    psnr: float  # dB
    ms_ssim: float


@dataclass(frozen=True)
class Rival:
    """A codec with one kind of settings."""

    codec: str
    settings: str
    qualities: tuple[float, ...]
    encode: Callable[[Pixels, float], bytes]
    decode: Callable[[bytes], Pixels]
    alpha: bool = True  # whether it can hold alpha


def _pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def _jpeg(image: Pixels, quality: float) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=int(quality), optimize=True, subsampling="4:2:0")
    return file.getvalue()


def _webp(image: Pixels, quality: float) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", quality=int(quality), method=6)
    return file.getvalue()


def _avif(subsampling: str, *, exact_alpha: bool = False) -> Callable[[Pixels, float], bytes]:
    advanced = {"tune": "psnr"} | ({"a:end-usage": "q", "a:cq-level": "0"} if exact_alpha else {})

    def encode(image: Pixels, quality: float) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(
            file, "AVIF", quality=int(quality), subsampling=subsampling, speed=6, max_threads=1, advanced=advanced
        )
        return file.getvalue()

    return encode


def _jxl(image: Pixels, distance: float) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(image, effort=7, distance=distance, usecontainer=False, numthreads=1))


_AVIF_QUALITIES = (20, 30, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95)
_DISTANCES = (0.3, 0.5, 0.7, 1, 1.4, 2, 2.8, 4, 5.5, 8, 11, 15)
RIVALS = (
    Rival("JPEG", "optimised, 4:2:0", (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95), _jpeg, _pillow, alpha=False),
    Rival("WebP", "method 6", (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95, 100), _webp, _pillow),
    *(
        Rival("AVIF", f"speed 6, tune PSNR, {sampling}", _AVIF_QUALITIES, _avif(sampling), _pillow)
        for sampling in ("4:2:0", "4:4:4")
    ),
    Rival("JPEG XL", "effort 7", _DISTANCES, _jxl, imagecodecs.jpegxl_decode),
)
EXACT_ALPHA = tuple(
    Rival(
        "AVIF",
        f"speed 6, tune PSNR, {sampling}, exact alpha",
        _AVIF_QUALITIES,
        _avif(sampling, exact_alpha=True),
        _pillow,
    )
    for sampling in ("4:2:0", "4:4:4")
)
"""AVIF once more for pictures with alpha: it keeps alpha with loss unless it is told otherwise."""


def versions() -> str:
    """Return the versions of the rivals' libraries, in words."""
    jxl = next(part for part in imagecodecs.version().split(", ") if part.startswith("libjxl"))
    found = {name: features.version(name) for name in ("libjpeg_turbo", "webp", "avif")}
    return (
        f"Pillow {PIL.__version__} with libjpeg-turbo {found['libjpeg_turbo']}, libwebp {found['webp']} and libavif"
        f" {found['avif']}; {jxl.replace('-', ' ')} through imagecodecs {imagecodecs.__version__}"
    )


def rivals_for(images: Sequence[Pixels]) -> tuple[Rival, ...]:
    """Return the rivals that can hold `images`."""
    if images[0].shape[-1] == 4:
        return (*(rival for rival in RIVALS if rival.alpha), *EXACT_ALPHA)
    return RIVALS


def measured(images: Sequence[Pixels], rival: Rival, cache: Path, qualities: Sequence[float] = ()) -> list[Point]:
    """Return the points of a rival, as files and as a sheet; those that were measured before are in the cache."""
    content = hashlib.sha256()
    for image in images:
        content.update(f"{image.shape}".encode() + image.tobytes())
    points = list[Point]()
    for quality in qualities or rival.qualities:
        key = hashlib.sha256(f"{versions()} {rival.codec} {rival.settings} {quality} {content.hexdigest()}".encode())
        path = cache / f"{key.hexdigest()[:24]}.json"
        if path.exists():
            points += [Point(**row) for row in json.loads(path.read_text())]
            continue
        points += (found := _measure(images, rival, quality))
        cache.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([asdict(point) for point in found]))
    return points


def _measure(images: Sequence[Pixels], rival: Rival, quality: float) -> list[Point]:
    def coded(image: Pixels) -> tuple[int, Pixels]:
        file = rival.encode(image, quality)
        return len(file), rival.decode(file)

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(coded, images))
    sheet, places = sheet_of(images)
    size, back = coded(sheet)
    cut = [back[y : y + image.shape[0], x : x + image.shape[1]] for (y, x), image in zip(places, images, strict=True)]
    return [
        _point(rival, "files", quality, sum(size for size, _ in found), images, [x_hat for _, x_hat in found]),
        _point(rival, "sheet", quality, size, images, cut),
    ]


def _point(
    rival: Rival, how: str, quality: float, size: int, images: Sequence[Pixels], back: Sequence[Pixels]
) -> Point:
    rate = size / len(images)
    return Point(rival.codec, how, rival.settings, quality, rate, psnr_of(images, back), ms_ssim_of(images, back))


def sheet_of(images: Sequence[Pixels]) -> tuple[Pixels, list[tuple[int, int]]]:
    """Return images as one, about square, and the row and column at which each begins.

    Images of one height stand in rows; what is free is black. Where each image lies would have to be kept, too: those
    bytes are not counted.
    """
    width = max(
        math.ceil(math.sqrt(sum(math.prod(image.shape[:2]) for image in images))), *(i.shape[1] for i in images)
    )
    width = -(-width // images[0].shape[1]) * images[0].shape[1] if len({i.shape for i in images}) == 1 else width
    places, at = [(0, 0)] * len(images), (0, 0)
    height = 0  # of the present row
    for i in sorted(range(len(images)), key=lambda i: images[i].shape[:2]):
        h, w, _ = images[i].shape
        if h != height or at[1] + w > width:
            at, height = (at[0] + height, 0), h
        places[i], at = at, (at[0], at[1] + w)
    sheet = np.zeros((at[0] + height, width, images[0].shape[2]), np.uint8)
    for (y, x), image in zip(places, images, strict=True):
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    return sheet, places
