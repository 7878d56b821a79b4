# SPDX-License-Identifier: MIT
"""What a fit (`pack --fit`) and tuning (`train --from colour`) save on kinds of images that no model was trained on."""

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import smalti
from bench.data import folder, test_images
from bench.thumbnails.metrics import bd_rate, log_bytes
from smalti.training import TrainingPlan
from smalti.training.train_bundle import train
from smalti.types import Pixels

WORDS = str.split(
    "the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not"
    " what all were we when your can said there use an each which she do how their if will up other about out many"
)
QUALITIES, COUNTED = (5, 15, 25, 35, 45, 55, 65, 75), 20_000
"""The qualities at which lossy files are compared, and the images over which the bytes of a model are shared out."""
LINES = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189))
"""The colours of the lines of plots."""


def sprites(n: int, seed: int) -> Pixels:
    """Return drawn sprites (`n 32 32 4`): symmetric, of a few shaded shapes in colours of a common palette."""
    rng, palette = np.random.default_rng(seed), np.random.default_rng(9).integers(0, 256, (40, 3))
    found = np.empty((n, 32, 32, 4), np.uint8)
    for i in range(n):
        image = Image.new("RGBA", (32, 32))
        draw, base = ImageDraw.Draw(image), palette[rng.integers(0, 40, 3)]
        for _ in range(rng.integers(2, 6)):
            colour, kind = base[rng.integers(3)], rng.integers(2)
            x, y, w, h = rng.integers(1, 14), rng.integers(2, 24), rng.integers(3, 14), rng.integers(3, 10)
            for light, inset in ((0.5, 0), (1, 1), (1.3, 2)):
                box = x + inset, y + inset, max(x + inset, x + w - inset), max(y + inset, y + h - inset)
                fill = (*np.minimum(colour * light, 255).astype(int).tolist(), 255)
                (draw.ellipse if kind else draw.rectangle)([int(v) for v in box], fill=fill)
        found[i] = np.asarray(image)
        found[i, :, 16:] = found[i, :, 15::-1]
        spots = (found[i, ..., 3] > 0) & (rng.random((32, 32)) < 0.06)
        found[i][spots, :3] = (found[i][spots, :3] * 0.8).astype(np.uint8)
    return found


def words(n: int, seed: int) -> Pixels:
    """Return two lines of words (`n 32 64`), gray, antialiased, on paper of several shades."""
    rng, font = np.random.default_rng(seed), ImageFont.load_default(size=13)
    found = np.empty((n, 32, 64), np.uint8)
    for i in range(n):
        image = Image.new("L", (64, 32), int(rng.integers(235, 256)))
        for line in range(2):
            text = " ".join(rng.choice(WORDS, 2))
            ImageDraw.Draw(image).text((int(rng.integers(0, 4)), line * 15), text, int(rng.integers(0, 40)), font)
        found[i] = np.asarray(image)
    return found


def plots(n: int, seed: int) -> Pixels:
    """Return thumbnails of plots (`n 64 64 3`): axes, lines in five colours and numbers, reduced three times."""
    rng, font = np.random.default_rng(seed), ImageFont.load_default(size=18)
    found = np.empty((n, 64, 64, 3), np.uint8)
    for i in range(n):
        image = Image.new("RGB", (192, 192), "white")
        draw = ImageDraw.Draw(image)
        for y in range(40, 160, 30):
            draw.line((30, y, 185, y), (225, 225, 225), 2)
        draw.line((30, 10, 30, 165, 185, 165), (60, 60, 60), 3)
        for _ in range(rng.integers(1, 4)):
            heights = np.clip(np.cumsum(rng.normal(0, 12, 12)) + rng.integers(50, 130), 12, 163)
            draw.line([(30 + 14 * j, float(y)) for j, y in enumerate(heights)], LINES[rng.integers(5)], 4)
        for j in range(3):
            draw.text((32 + 50 * j, 167), str(rng.integers(10, 99)), (60, 60, 60), font)
        draw.text((60, 0), "".join(rng.choice(list("abcdefgh"), 6)), "black", font)
        found[i] = np.asarray(image.resize((64, 64), Image.Resampling.LANCZOS))
    return found


def clothes(n: int, seed: int) -> Pixels:
    """Return images of Fashion-MNIST (`n 28 28 3`), each in one of twelve gradients of three colours."""
    rng, ramps = np.random.default_rng(seed), np.random.default_rng(5).integers(0, 256, (12, 3, 3))
    gray = test_images("fashion-mnist")
    some = gray[np.random.default_rng(0).permutation(len(gray))[n * seed : n * (seed + 1)], ..., None] / 255
    dark, middle, light = ramps[rng.integers(0, 12, n)].transpose(1, 0, 2)[:, :, None, None]
    below, above = dark + (middle - dark) * 2 * some, middle + (light - middle) * (2 * some - 1)
    coloured: Pixels = np.rint(np.where(some < 0.5, below, above)).astype(np.uint8)
    return coloured


def crops(n: int, seed: int) -> Pixels:
    """Return crops (`n 32 32 3`) of the photographs, which were JPEG at quality 60."""
    import io

    rng, photos = np.random.default_rng(seed), list[NDArray[np.uint8]]()
    for path in sorted((folder("colour") / "photos").glob("*.webp")):
        data = io.BytesIO()
        Image.open(path).convert("RGB").save(data, "JPEG", quality=60)
        photos.append(np.asarray(Image.open(data)))
    found = np.empty((n, 32, 32, 3), np.uint8)
    for i in range(n):
        photo = photos[rng.integers(len(photos))]
        y, x = rng.integers(0, photo.shape[0] - 32), rng.integers(0, photo.shape[1] - 32)
        found[i] = photo[y : y + 32, x : x + 32]
    return found


KINDS: dict[str, Callable[[int, int], Pixels]] = {
    "sprites": sprites,
    "words": words,
    "plots": plots,
    "clothes": clothes,
    "crops": crops,
}


def run(only: list[str], images: int, packings: list[str], minutes: float, lossy: float) -> None:
    """Print a table of what a fit saves, and of what tuning saves, losslessly and lossily, if it is given minutes."""
    kinds = only or list(KINDS)
    if packings:
        print("| kind | packing | bytes an image | with a fit, all in | less | kB of the fit | seconds to fit |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for kind in kinds:
        x = KINDS[kind](images, 0)
        for packing in packings:
            _print_fit(kind, packing, x)
    if minutes:
        print("| kind | bytes an image | tuned, the model not counted | less |")
        print("| --- | ---: | ---: | ---: |")
        for kind in kinds:
            _print_tuned(kind, images, minutes)
    if lossy:
        print("| kind | BD-rate, the model not counted | kB of the model | BD-rate, it counted over 20,000 images |")
        print("| --- | ---: | ---: | ---: |")
        for kind in kinds:
            _print_tuned_lossily(kind, images, lossy)


def _print_fit(kind: str, packing: str, x: Pixels) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "x.smalti"
        began = time.perf_counter()
        without = smalti.pack(x, path, lossless=True, model="colour", packing=packing)
        middle = time.perf_counter()
        fitted = smalti.pack(x, path, lossless=True, model="colour", packing=packing, fit=True, force=True)
        seconds = time.perf_counter() - middle - (middle - began)
        assert fitted.fitted is not None
        if not (smalti.load(path).pixels == x).all():
            raise AssertionError(f"{kind} do not come back")
    size = fitted.fitted.size / 1000 if fitted.fitted.model is not None else 0
    less = 1 - fitted.bytes / without.bytes
    print(
        f"| {kind} | {packing} | {without.rate:.1f} | {fitted.rate:.1f} | {less:.1%} | {size:.1f} | {seconds:.0f} |",
        flush=True,
    )


def _print_tuned(kind: str, images: int, minutes: float) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path, model = Path(scratch) / "x.smalti", Path(scratch) / "x.model"
        train(KINDS[kind](images, 0), model, plan=TrainingPlan(start="colour", minutes=minutes, lossless=True))
        others, sizes = KINDS[kind](images // 2, 2), list[float]()
        for used in ("colour", model):
            sizes.append(smalti.pack(others, path, lossless=True, model=used, force=True).rate)
    before, after = sizes
    print(f"| {kind} | {before:.1f} | {after:.1f} | {1 - after / before:.1%} |", flush=True)


def _print_tuned_lossily(kind: str, images: int, minutes: float) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path, model = Path(scratch) / "x.smalti", Path(scratch) / "x.model"
        train(KINDS[kind](images, 0), model, plan=TrainingPlan(start="colour", minutes=minutes, lossy=True))
        others, curves = KINDS[kind](images // 4, 2), dict[str, list[tuple[float, float]]]()
        for name, used in (("colour", "colour"), ("tuned", model)):
            curves[name] = []
            for quality in QUALITIES:
                rate = smalti.pack(others, path, quality=quality, model=used, force=True).rate
                error = float(np.mean((smalti.load(path, model=used).pixels.astype(np.float64) - others) ** 2))
                curves[name].append((rate, 10 * math.log10(255**2 / error) if error else math.inf))
        size = model.stat().st_size
    counted = [(rate + size / COUNTED, psnr) for rate, psnr in curves["tuned"]]
    before = log_bytes([curves["colour"]])
    alone, in_all = (bd_rate(log_bytes([curve]), before)[0] for curve in (curves["tuned"], counted))
    print(f"| {kind} | {alone:.1%} | {size / 1000:.0f} | {in_all:.1%} |", flush=True)
