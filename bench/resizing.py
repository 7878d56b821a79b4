# SPDX-License-Identifier: MIT
"""Measure ways to reduce photographs: what a decoder that reduces costs in quality, and what linear light changes."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smalti.exchange.formats.image_files import decode_all
from smalti.rate.metrics import mse, psnr
from smalti.types import Pixels

SIDE = 64
"""The long side, in pixels, of the thumbnails; the photographs have 320."""
CAMERA = (4000, 3000)
"""The size of the photograph that is timed, in pixels."""
TIMED_SIDE = 256
Floats = NDArray[np.float64]


def run(data: Path, most: int) -> None:
    """Reduce at most `most` photographs of `data`, and print how far each way is from Lanczos on samples of sRGB."""
    found: dict[str, list[tuple[Pixels, Pixels]]] = {}
    for path in sorted((data / "photos").glob("*.webp"))[:most]:
        with Image.open(path) as image:
            photo = image.convert("RGB")
        scale = SIDE / max(photo.size)
        size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=95, subsampling="4:4:4")
        decoded = Image.open(io.BytesIO(file.getvalue())).convert("RGB")
        plain = np.asarray(decoded.resize(size, Image.Resampling.LANCZOS))
        ways = {
            "pack --resize": decode_all(file.getvalue(), "the photograph", side=SIDE)[0].pixels,
            "linear light": _linear(decoded, size),
        }
        for name, made in ways.items():
            found.setdefault(name, []).append((plain, made))
    print("| way | PSNR against Lanczos in sRGB, dB | brighter by, levels | ms of a JPEG of 12 megapixels |")
    print("| --- | ---: | ---: | ---: |")
    times = _times()
    print(f"| Lanczos in sRGB | | | {times['Lanczos in sRGB']:.0f} |")
    for name, pairs in found.items():
        error = float(np.mean([mse(a, b) for a, b in pairs]))
        brighter = float(np.mean([b.mean() - a.mean() for a, b in pairs]))
        print(f"| {name} | {psnr(error):.1f} | {brighter:+.2f} | {times[name]:.0f} |")


def _linear(image: Image.Image, size: tuple[int, int]) -> Pixels:
    """Return an image that is reduced by Lanczos in linear light, in floats."""
    x = np.asarray(image, np.float64) / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)
    planes = [Image.fromarray(linear[..., i]).resize(size, Image.Resampling.LANCZOS) for i in range(3)]
    y = np.stack([np.asarray(plane) for plane in planes], -1).clip(0, 1)
    made: Pixels = np.rint(255 * np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055)).astype(np.uint8)
    return made


def _times() -> dict[str, float]:
    """Return the milliseconds that each way takes for a photograph of a camera, decoding and all: the best of 3."""
    rng = np.random.default_rng(0)
    w, h = CAMERA
    coarse = Image.fromarray(rng.integers(0, 256, (h // 40, w // 40, 3), np.uint8)).resize(CAMERA)
    noisy = (np.asarray(coarse).astype(np.int16) + rng.integers(-12, 13, (h, w, 1))).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=92)
    size = TIMED_SIDE, TIMED_SIDE * h // w

    def opened() -> Image.Image:
        return Image.open(io.BytesIO(file.getvalue()))

    ways: dict[str, Callable[[], object]] = {
        "Lanczos in sRGB": lambda: opened().resize(size, Image.Resampling.LANCZOS),
        "pack --resize": lambda: decode_all(file.getvalue(), "the photograph", side=TIMED_SIDE),
        "linear light": lambda: _linear(opened(), size),
    }
    return {name: 1e3 * min(_seconds(work) for _ in range(3)) for name, work in ways.items()}


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
