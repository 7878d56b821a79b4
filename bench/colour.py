# SPDX-License-Identifier: MIT
"""Benchmark of lossless coding of small colour images: smalti in its three packings, and what people take instead.

The images are those that the built-in model was not trained on (`smalti/training/mixers/sets.py` holds them out). Every
result is decoded and compared. Rivals code images as files of their own, as one sheet, or deflate-like as one strip.
What rivals take is kept beside the results, so that the next run measures smalti alone.
"""

import csv
import io
import json
import lzma
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

import smalti
from smalti.training.mixers.sets import GROUPS, HELD_SIDES, Divided, read_photos, read_strips
from smalti.types import Pixels

Coder = tuple[Callable[[Pixels], bytes], Callable[[bytes], Pixels]]
"""How an image (`h w c`) is encoded and decoded."""


def _pillow(name: str, **options: object) -> Coder:
    def encode(image: Pixels) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, name, **options)
        return file.getvalue()

    def decode(data: bytes) -> Pixels:
        return np.asarray(Image.open(io.BytesIO(data)))

    return encode, decode


def _jxl(effort: int) -> Coder:
    def encode(image: Pixels) -> bytes:
        return bytes(imagecodecs.jpegxl_encode(image, lossless=True, effort=effort, usecontainer=False, numthreads=1))

    return encode, imagecodecs.jpegxl_decode


FILES: dict[str, Coder] = {
    "PNG": _pillow("PNG", optimize=True),
    "QOI": (lambda image: bytes(imagecodecs.qoi_encode(image)), imagecodecs.qoi_decode),
    "WebP": _pillow("WEBP", lossless=True, method=6, quality=100, exact=True),
    "JPEG XL 7": _jxl(7),
    "JPEG XL 9": _jxl(9),
    "AVIF": (lambda image: bytes(imagecodecs.avif_encode(image, level=100, speed=6)), imagecodecs.avif_decode),
}
SHEETS = ("WebP", "JPEG XL 7")
STRIPS: dict[str, Callable[[bytes], bytes]] = {
    "xz, strip": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    "zstd, strip": lambda data: bytes(imagecodecs.zstd_encode(data, level=19)),
}
PACKINGS = ("fast", "block", "each", "solid")
"""The packings of smalti at its default effort; and `fast`, which is effort 1."""
TIMED = 8
"""The images by which times are measured; the whole of what codes them all, smalti's file, divided by their number."""
HEAD = "| | bytes an image | of the best rival | encode, ms | decode, ms |\n| --- | ---: | ---: | ---: | ---: |"
DRAWN = {"PNG": "C0", "WebP": "C1", "JPEG XL 7": "C2", "best sheet or strip": "C5", "smalti, block": "C3"}
"""What the plot shows, and its colours."""


def run(data: Path, output: Path, only: Sequence[str], most: int, *, times: bool) -> None:
    """Measure each set of `data`, or those of `only`, by at most `most` images each; write tables and a plot.

    times: whether times are measured as well, for which nothing else should run.
    """
    console = Console()
    output.mkdir(parents=True, exist_ok=True)
    sets: dict[str, Callable[[], Divided]] = {
        f"photographs, {side}": partial(read_photos, data, ((side,),)) for side in HELD_SIDES
    }
    sets |= {name: partial(read_strips, data, name) for name in GROUPS}
    cache = output / "colour-rivals.json"
    known: dict[str, dict[str, float]] = json.loads(cache.read_text()) if cache.exists() else {}
    tables, rows, found = list[str](), [("set", "coder", "bytes an image")], dict[str, dict[str, float]]()
    for name, read in sets.items():
        if only and name not in only and name.split(",")[0] not in only:
            continue
        images = read().held[:most]
        console.print(f"{name}: {len(images)} images")
        of_rivals = known.setdefault(f"{name}: {len(images)}", {})
        for what, measure in _rivals(images).items():
            if what not in of_rivals:
                of_rivals[what] = measure()
                cache.write_text(json.dumps(known))
        sizes = found[name] = of_rivals | {f"smalti, {packing}": _packed(images, packing)[0] for packing in PACKINGS}
        spent = _times(images[:TIMED]) if times else {}
        best = min(of_rivals.values())
        tables += ["", f"**{name}**: {len(images)} held-out images.", "", HEAD]
        for what, size in sizes.items():
            milliseconds = " | ".join(f"{t:.2f}" for t in spent[what]) if what in spent else "|"
            tables.append(f"| {what} | {size:.0f} | {size / best - 1:+.1%} | {milliseconds} |")
            rows.append((name, what, f"{size:.1f}"))
        (output / "colour.md").write_text("\n".join(tables).lstrip() + "\n")
    with (output / "colour.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    _plot(found, output / "colour.png")
    console.print("\n".join(tables))


def _rivals(images: Sequence[Pixels]) -> dict[str, Callable[[], float]]:
    """Return for each rival a function that measures the bytes of an image."""
    rivals: dict[str, Callable[[], float]] = {what: partial(_as_files, images, what) for what in FILES}
    if len({image.shape for image in images}) == 1:
        rivals |= {f"{what}, sheet": partial(_as_sheet, images, what) for what in SHEETS}
    return rivals | {what: partial(_as_strip, images, what) for what in STRIPS}


def _as_files(images: Sequence[Pixels], what: str) -> float:
    encode, decode = FILES[what]
    coded = [encode(image) for image in images]
    for image, file in zip(images, coded, strict=True):
        _compare(decode(file), image, what)
    return sum(map(len, coded)) / len(images)


def _as_sheet(images: Sequence[Pixels], what: str) -> float:
    (encode, decode), sheet = FILES[what], _sheet(images)
    coded = encode(sheet)
    _compare(decode(coded), sheet, what)
    return len(coded) / len(images)


def _as_strip(images: Sequence[Pixels], what: str) -> float:
    return len(STRIPS[what](b"".join(image.tobytes() for image in images))) / len(images)


def _packed(images: Sequence[Pixels], packing: str) -> tuple[float, float, float]:
    """Return bytes, and milliseconds to encode and to decode, of an image by smalti."""
    n = len(images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.smalti"
        start = time.perf_counter()
        if packing == "fast":
            smalti.pack(list(images), path, lossless=True, effort=1)
        else:
            smalti.pack(list(images), path, lossless=True, packing=packing)
        middle = time.perf_counter()
        with smalti.open(path) as archive:
            back = archive[list(range(n))]
        end = time.perf_counter()
        for image, again in zip(images, back, strict=True):
            _compare(again, image, packing)
        return path.stat().st_size / n, 1e3 * (middle - start) / n, 1e3 * (end - middle) / n


def _times(images: Sequence[Pixels]) -> dict[str, tuple[float, float]]:
    """Return milliseconds to encode and to decode an image, of files and of smalti; the best of two."""
    found = dict[str, tuple[float, float]]()
    for what, (encode, decode) in FILES.items():
        best = (math.inf, math.inf)
        for _ in range(2):
            start = time.perf_counter()
            coded = [encode(image) for image in images]
            middle = time.perf_counter()
            for file in coded:
                decode(file)
            best = min(best[0], middle - start), min(best[1], time.perf_counter() - middle)
        found[what] = (1e3 * best[0] / len(images), 1e3 * best[1] / len(images))
    for packing in PACKINGS:
        tried = [_packed(images, packing)[1:] for _ in range(2)]
        found[f"smalti, {packing}"] = min(t[0] for t in tried), min(t[1] for t in tried)
    return found


def _plot(found: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Draw, for each set, what coders take as a share of what PNG takes."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes, width = figure.subplots(), 0.8 / len(DRAWN)
    for i, (what, colour) in enumerate(DRAWN.items()):
        shares = []
        for sizes in found.values():
            together = [size for name, size in sizes.items() if "sheet" in name or "strip" in name]
            shares.append((min(together) if what not in sizes else sizes[what]) / sizes["PNG"])
        axes.bar(np.arange(len(found)) + (i - len(DRAWN) / 2 + 0.5) * width, shares, width, label=what, color=colour)
    axes.set_xticks(range(len(found)), [name.replace(", ", ",\n") for name in found])
    axes.set(ylabel="bytes, as a share of PNG", ylim=(0, 1.1))
    axes.grid(axis="y", alpha=0.3)
    figure.legend(fontsize=8, ncols=len(DRAWN), loc="outside upper center")
    figure.savefig(path, dpi=110)


def _sheet(images: Sequence[Pixels]) -> Pixels:
    """Return images of one size as one, in rows."""
    h, w, c = images[0].shape
    columns = math.isqrt(len(images) - 1) + 1
    rows = -(-len(images) // columns)
    cells = np.zeros((rows * columns, h, w, c), np.uint8)
    cells[: len(images)] = np.stack(images)
    return np.ascontiguousarray(cells.reshape(rows, columns, h, w, c).swapaxes(1, 2).reshape(rows * h, columns * w, c))


def _compare(back: Pixels, image: Pixels, what: str) -> None:
    if back.shape[-1] == 3 and image.shape[-1] == 4:  # WebP leaves alpha out where all is opaque
        back = np.concatenate([back, np.full((*back.shape[:-1], 1), 255, np.uint8)], -1)
    if not np.array_equal(np.asarray(back).reshape(image.shape), image):
        raise AssertionError(f"{what} gave other pixels")
