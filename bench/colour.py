# SPDX-License-Identifier: MIT
"""Benchmark of lossless coding of small colour images: smalti in its three packings, and what people take instead.

The images are those that the built-in model was not trained on (`smalti/training/mixers/sets.py` holds them out). Every
result is decoded and compared. Rivals code images as files of their own, as one sheet, or deflate-like as one strip.
"""

import io
import lzma
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
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
}
SHEETS = ("WebP", "JPEG XL 7")
STRIPS: dict[str, Callable[[bytes], bytes]] = {
    "xz, strip": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    "zstd, strip": lambda data: bytes(imagecodecs.zstd_encode(data, level=19)),
}
PACKINGS = ("block", "each", "solid")
HEAD = "| | bytes an image | of the best rival | encode, ms | decode, ms |\n| --- | ---: | ---: | ---: | ---: |"


def run(data: Path, output: Path, only: Sequence[str], most: int) -> None:
    """Measure each set of `data`, or those of `only`, by at most `most` images each; write `colour.md` to `output`."""
    console = Console()
    output.mkdir(parents=True, exist_ok=True)
    sets: dict[str, Callable[[], Divided]] = {
        f"photographs, {side}": partial(read_photos, data, ((side,),)) for side in HELD_SIDES
    }
    sets |= {name: partial(read_strips, data, name) for name in GROUPS}
    lines = list[str]()
    for name, read in sets.items():
        if only and name.split(",")[0] not in only:
            continue
        images = read().held[:most]
        console.print(f"{name}: {len(images)} images")
        found = _measured(images)
        best = min(row[0] for what, row in found.items() if not what.startswith("smalti"))
        lines += ["", f"**{name}**: {len(images)} held-out images, one core for each rival.", "", HEAD]
        for what, (size, encode, decode) in found.items():
            times = " | ".join("" if math.isnan(t) else f"{t:.2f}" for t in (encode, decode))
            lines.append(f"| {what} | {size:.0f} | {size / best - 1:+.1%} | {times} |")
        (output / "colour.md").write_text("\n".join(lines).lstrip() + "\n")
    console.print("\n".join(lines))


def _measured(images: Sequence[Pixels]) -> dict[str, tuple[float, float, float]]:
    """Return bytes, and milliseconds to encode and to decode, of an image in each way."""
    found, n = {}, len(images)
    for what, (encode, decode) in FILES.items():
        start = time.perf_counter()
        coded = [encode(image) for image in images]
        middle = time.perf_counter()
        for image, file in zip(images, coded, strict=True):
            _compare(decode(file), image, what)
        end = time.perf_counter()
        found[what] = sum(map(len, coded)) / n, 1e3 * (middle - start) / n, 1e3 * (end - middle) / n
    if len({image.shape for image in images}) == 1:
        sheet = _sheet(images)
        for what in SHEETS:
            encode, decode = FILES[what]
            coded_sheet = encode(sheet)
            _compare(decode(coded_sheet), sheet, what)
            found[f"{what}, sheet"] = len(coded_sheet) / n, math.nan, math.nan
    strip = b"".join(image.tobytes() for image in images)
    for what, compress in STRIPS.items():
        found[what] = len(compress(strip)) / n, math.nan, math.nan
    with tempfile.TemporaryDirectory() as folder:
        for packing in PACKINGS:
            path = Path(folder) / f"{packing}.smalti"
            start = time.perf_counter()
            smalti.pack(list(images), path, lossless=True, packing=packing)
            middle = time.perf_counter()
            with smalti.open(path) as archive:
                back = archive[list(range(n))]
            end = time.perf_counter()
            for image, again in zip(images, back, strict=True):
                _compare(again, image, packing)
            size = path.stat().st_size / n
            found[f"smalti, {packing}"] = size, 1e3 * (middle - start) / n, 1e3 * (end - middle) / n
    return found


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
