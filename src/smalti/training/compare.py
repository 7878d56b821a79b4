# SPDX-License-Identifier: MIT
"""The report that compares a trained model with JPEG, WebP and AVIF on images that it was not trained on.

The other codecs get all images on one sheet, which suits them best; smalti writes a real file. No model is counted.
"""

import lzma
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smalti.api import load, pack
from smalti.demo import baselines
from smalti.demo.figure import draw_pairs
from smalti.model.bundle import load_model
from smalti.model.model import Model
from smalti.rate.metrics import mse, psnr
from smalti.training.report import plot_rivals
from smalti.types import Pixels
from smalti.util.atomic import atomic_write

MAX_IMAGES, LEAST_IMAGES = 400, 64
"""The most images of 28x28 samples that are compared, and the fewest of any."""
OTHERS = 6
"""The steps of the lossless comparison."""
WEBP_SIDE = 16384
"""The side, in pixels, from which on a sheet is too large for WebP."""
QUALITIES = (1, 15, 30, 45, 60, 75, 90, 100)
"""The qualities of smalti in the report."""
RIVAL_QUALITIES = (1, 5, 10, 20, 35, 50, 70, 90)
"""The qualities of the other codecs, each on its own scale."""
FIGURE_IMAGES = 20
FIGURE_QUALITY = 50

Point = tuple[float, float]
"""A point of a rate-distortion curve: bytes an image, PSNR in dB."""
Encode = Callable[[Pixels, int], bytes]
RIVALS: dict[str, Encode] = {"AVIF": baselines.avif, "WebP": baselines.webp, "JPEG": baselines.jpeg}


def write_report(
    folder: Path,
    bundle: Path,
    held_out: NDArray[np.uint8],
    progress: Callable[[int, int], None] | None = None,
    *,
    share: float = 1.0,
    verdicts: Mapping[str, str] | None = None,
) -> Path:
    """Write `report.md` with its pictures to `folder`, for the model in `bundle`, and return the path of the report.

    held_out: images that the model was not trained on (`n h w` or `n h w c`); the first ones are used.
    progress: a function that is called with the number of measurements just done, and of all.
    share: of the images that are usually compared, so that this does not dwarf a short training.
    verdicts: of each part, whether it would gain by more training.
    """
    model = load_model(bundle)
    x = held_out[: max(LEAST_IMAGES, round(share * MAX_IMAGES * min(1, 784 / held_out[0].size)))]
    rivals = {name: encode for name, encode in RIVALS.items() if name != "AVIF" or baselines.has_avif()}
    steps = len(QUALITIES) + len(rivals) * len(RIVAL_QUALITIES) + (0 if model.pixels is None else OTHERS)

    def step() -> None:
        if progress is not None:
            progress(1, steps)

    lines = [
        f"# Model {model.name}",
        "",
        f"{len(x)} images that the model was not trained on. smalti writes one real file at the default effort. The"
        f" model itself is not counted: a receiver needs it once ({model.size:,} bytes).",
        *_lossy(folder, model, x, rivals, step),
    ]
    if model.pixels is not None:
        lines += _lossless(folder, model, x, step)
    if verdicts:
        lines += ["", "## Verdict", "", *(f"- {part}: {words}." for part, words in verdicts.items())]
    with atomic_write(folder / "report.md", force=True) as file:
        file.write("\n".join([*lines, ""]).encode())
    return folder / "report.md"


def _lossy(folder: Path, model: Model, x: Pixels, rivals: Mapping[str, Encode], step: Callable[[], None]) -> list[str]:
    codecs: dict[str, Callable[[int], Point]] = {"smalti": lambda quality: _smalti(x, model, quality)}
    for name, encode in rivals.items():
        codecs[f"{name}, one sheet"] = lambda quality, encode=encode: _sheet(x, encode, quality)  # type: ignore[misc]  # a default in a lambda has no type
    curves: dict[str, list[Point]] = {}
    for name, measure in codecs.items():
        qualities = QUALITIES if name == "smalti" else RIVAL_QUALITIES
        curves[name] = []
        for quality in qualities:
            curves[name].append(measure(quality))
            step()
    plot_rivals(folder / "curves.png", curves)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "x.smalti"
        some = x[:FIGURE_IMAGES]
        rate = pack(some, path, model=model, quality=FIGURE_QUALITY).rate
        x_hat = load(path, model=model).pixels
    title = f"{model.name}, quality {FIGURE_QUALITY}: {rate:.1f} bytes an image, {psnr(mse(some, x_hat)):.2f} dB"
    with atomic_write(folder / "pairs.png", force=True) as file:
        draw_pairs(some, x_hat, [rate] * len(some), title).save(file, "PNG")
    others = [name for name in curves if name != "smalti"]
    lines = [
        "",
        "The other codecs have all images on one sheet, which suits them best.",
        "",
        "![curves](curves.png)",
        "",
        "| quality | bytes an image | PSNR, dB | " + " | ".join(f"{name}: bytes there" for name in others) + " |",
        "| ---: | ---: | ---: |" + " ---: |" * len(others),
    ]
    for quality, (rate, decibel) in zip(QUALITIES, curves["smalti"], strict=True):
        cells = [_rate_at(points, decibel) for name, points in curves.items() if name in others]
        lines.append(f"| {quality} | {rate:.2f} | {decibel:.2f} | " + " | ".join(cells) + " |")
    return [*lines, "", "A cell is empty where the codec does not reach that PSNR.", "", "![images](pairs.png)"]


def _lossless(folder: Path, model: Model, x: Pixels, step: Callable[[], None]) -> list[str]:
    n, sheet = len(x), baselines.mosaic(x)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "x.smalti"
        ours = pack(x, path, model=model, max_error=0).bytes
        same = bool((load(path, model=model).pixels == x).all())
    step()
    ways: dict[str, Callable[[], int]] = {
        "PNG, a file each": lambda: sum(len(baselines.png(image)) for image in x),
        "PNG, one sheet": lambda: len(baselines.png(sheet)),
        "WebP lossless, a file each": lambda: sum(len(baselines.webp_lossless(image)) for image in x),
        "WebP lossless, one sheet": lambda: len(baselines.webp_lossless(sheet)),
        "xz -9e of all pixels": lambda: len(lzma.compress(x.tobytes(), preset=9 | lzma.PRESET_EXTREME)),
    }
    rows = {"smalti, one file": ours}
    for name, size in ways.items():
        if "WebP lossless, one" not in name or max(sheet.shape) < WEBP_SIDE:
            rows[name] = size()
        step()
    rows["raw pixels"] = x.nbytes
    return [
        "",
        "## Lossless",
        "",
        f"Unpacked again, smalti's images are {'the same, every pixel' if same else 'NOT THE SAME'}.",
        "",
        "| codec | bytes an image |",
        "| --- | ---: |",
        *(f"| {name} | {size / n:.2f} |" for name, size in rows.items()),
    ]


def _smalti(x: Pixels, model: Model, quality: int) -> Point:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "x.smalti"
        rate = pack(x, path, model=model, quality=quality).rate
        return rate, psnr(mse(x, load(path, model=model).pixels))


def _sheet(x: Pixels, encode: Callable[[Pixels, int], bytes], quality: int) -> Point:
    n, h, w = x.shape[:3]
    data = encode(baselines.mosaic(x), quality)
    decode = baselines.decode_gray if x.ndim == 3 else baselines.decode_rgb
    return len(data) / n, psnr(mse(x, baselines.cut(decode(data), n, h, w)))


def _rate_at(points: list[Point], decibel: float) -> str:
    """Return the bytes at a PSNR, log bytes interpolated over PSNR, or "" if the curve does not reach it."""
    curve = sorted((p, math.log(rate)) for rate, p in points)
    if not curve[0][0] <= decibel <= curve[-1][0]:
        return ""
    return f"{math.exp(float(np.interp(decibel, [p for p, _ in curve], [r for _, r in curve]))):.1f}"
