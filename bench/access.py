# SPDX-License-Identifier: MIT
"""Benchmark of single images: what packing and block size cost in bytes, and what one image costs in time."""

import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import smalti
from smalti.archive.archive import Archive
from smalti.archive.writer import Packing
from smalti.codec.batching import BLOCK_IMAGES, block_images
from smalti.container.format import Kind
from smalti.container.records import ArchiveWriter
from smalti.types import Pixels, shape_of

SIZES = (1, 4, 16, 64, 256, 1024)
"""The images of a block that are tried with packing block; packing each has 256."""
READS, LEAST_READS, ROUNDS = 100, 5, 7
"""The single reads of which the median is taken, at most and at least, and the cold processes of which it is."""
RANDOM_READS = 1000
READING = 2.0
"""The seconds after which no further image is read."""
MILLION, PHOTOS, SIDES = 10**6, 16, (48, 192)
"""The images of the largest file, the photographs, and the sides of the parts of each that are taken."""
COLD = """
import time
start = time.perf_counter()
import smalti
imported, work = time.perf_counter(), time.process_time()
archive = smalti.open({path!r})
opened = time.perf_counter()
archive[len(archive) // 3]
end = time.perf_counter()
print(opened - imported, end - imported, time.process_time() - work, imported - start)
"""
"""What a cold process does: it imports smalti and nothing else, opens a file, and reads one image."""
NUMPY = """
import time
start = time.perf_counter()
import numpy
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Collection:
    """Images, and how they are packed."""

    name: str
    images: Pixels  # n h w or n h w c
    options: dict[str, Any]


def collections(mnist: Pixels, photos: Path | None) -> list[Collection]:
    """Return the collections that are measured; photos: a folder of photographs, if there is one."""
    found = [
        Collection("MNIST, lossless", mnist, {"lossless": True, "model": "mnist"}),
        Collection("MNIST, quality 50", mnist, {"quality": 50, "model": "mnist"}),
        Collection("MNIST, quality 40", mnist, {"quality": 40, "model": "mnist"}),
    ]
    if photos is not None:
        parts = [(f"photographs, {side}x{side}, lossless", crops(photos, side)) for side in SIDES]
        found += [Collection(name, x, {"lossless": True}) for name, x in parts]
    return found


def crops(folder: Path, side: int) -> Pixels:
    """Return the middle of the first photographs of a folder (`n h w 3`), of `side` rows and columns."""
    from PIL import Image

    found = []
    for path in sorted(folder.iterdir())[:PHOTOS]:
        with Image.open(path) as image:
            x = np.asarray(image.convert("RGB"))
        top, left = (x.shape[0] - side) // 2, (x.shape[1] - side) // 2
        if min(top, left) >= 0:
            found.append(x[top : top + side, left : left + side])
    return np.stack(found)


def run(mnist: Pixels, photos: Path | None, output: Path, many: int, files: Path | None) -> None:
    """Measure, print and write `access.md`.

    Args:
        mnist: the images of the curve (`n h w`).
        photos: a folder of photographs, if there is one.
        output: the folder for the tables.
        many: the images of MNIST, taken again and again, in the file that cold processes open.
        files: the folder where these files are kept and found again; None: they are written anew and removed.
    """
    console, lines = Console(), [f"{os.cpu_count()} cores; medians of up to {READS} single reads in random order", ""]
    lines += ["| images | packing | bytes an image | more | one image, ms |", "| --- | --- | ---: | ---: | ---: |"]
    for collection in collections(mnist, photos):
        lines += _show(console, _curve(collection))
    lines += ["", f"Medians of {ROUNDS} cold processes; the first image comes after opening.", ""]
    numpy = 1e3 * statistics.median(_output(NUMPY)[0] for _ in range(ROUNDS))
    lines[-2] += f" `import smalti` comes before and imports numpy, which takes {numpy:.0f} ms of it."
    lines += [
        "| file | bytes an image | open, ms | open and first image, ms | of it processor, ms | import smalti, ms"
        " | reads a second |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    _show(console, [lines[-4]])
    with tempfile.TemporaryDirectory() as folder:
        for name, path in _files(mnist, many, files or Path(folder)):
            lines += _show(console, [_cold(name, path)])
    output.mkdir(parents=True, exist_ok=True)
    (output / "access.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


def _show(console: Console, rows: Sequence[str]) -> list[str]:
    for row in rows:
        console.print(row, highlight=False, soft_wrap=True)
    return list(rows)


def _curve(collection: Collection) -> list[str]:
    """Return rows of the table of packings."""
    n, most = len(collection.images), block_images(shape_of(collection.images), max(SIZES))
    sizes = sorted({min(size, most, n) for size in SIZES})
    measured = []
    for packing in [Packing(streams="each"), *(Packing(size, streams="block") for size in sizes)]:
        file = io.BytesIO()
        smalti.pack(collection.images, file, packing=packing, **collection.options)
        each = len(file.getvalue()) / n
        name = "each" if packing.streams == "each" else f"block of {packing.block_images}"
        measured.append((name, each, reads(file.getvalue())))
    usual = next((size for name, size, _ in measured if name == f"block of {min(BLOCK_IMAGES, most)}"), measured[-1][1])
    return [
        f"| {collection.name} | {name} | {size:,.2f} | {100 * (size / usual - 1):+.1f} % | {ms:.2f} |"
        for name, size, ms in measured
    ]


def reads(data: bytes) -> float:
    """Return the milliseconds that one image takes, where no image of its block was read before."""
    times, rng = list[float](), np.random.default_rng(0)
    with Archive(data) as archive:
        archive[0]  # so that the model is loaded
    for i in rng.integers(0, 1 << 30, READS).tolist():
        with Archive(data) as archive:
            number = i % len(archive)
            start = time.perf_counter()
            archive[number]
            times.append(time.perf_counter() - start)
        if sum(times) > READING and len(times) >= LEAST_READS:
            break
    return 1e3 * statistics.median(times)


def _files(mnist: Pixels, many: int, folder: Path) -> list[tuple[str, Path]]:
    """Write the files that cold processes open."""
    found, x = list[tuple[str, Path]](), mnist[np.arange(many) % len(mnist)]
    asked: dict[str, dict[str, Any]] = {"lossless": {"lossless": True}, "quality 50": {"quality": 50}}
    for what, options in asked.items():
        for packing in ("each", "block"):
            path = folder / f"{what}-{packing}.smalti"
            if not path.exists():
                smalti.pack(x, path, packing=packing, model="mnist", **options)
            found.append((f"{many:,} images of MNIST, {what}, {packing}", path))
    path = folder / "million.smalti"
    _repeat(mnist, path)
    return [*found, (f"{MILLION:,} images of MNIST, quality 50, each", path)]


def _repeat(mnist: Pixels, path: Path) -> None:
    """Write a file of a million images: one block, again and again."""
    one = io.BytesIO()
    smalti.pack(mnist[:256], one, packing="each", model="mnist", quality=50)
    with Archive(one.getvalue()) as archive, path.open("wb") as file:
        reader = archive.contents.reader
        head, payload = reader.block(0)
        writer = ArchiveWriter.start(file, reader.index.models[0].id)
        for _ in range(MILLION // head.images):
            writer.block(Kind(*head.kind), head.images, head.pixels, payload)
        writer.finish()


def _cold(name: str, path: Path) -> str:
    """Return a row of the table of cold processes."""
    times = [_output(COLD.format(path=str(path))) for _ in range(ROUNDS)]
    opened, first, work, imports = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    with Archive(path) as archive:
        each = path.stat().st_size / len(archive)
    return f"| {name} | {each:.2f} | {opened:.1f} | {first:.1f} | {work:.1f} | {imports:.0f} | {rate(path):,.0f} |"


def rate(path: Path) -> float:
    """Return how many images a second are read from one open file, one by one in random order, after a first one."""
    with Archive(path) as archive:
        first, *rows = np.random.default_rng(0).integers(0, len(archive), 1 + RANDOM_READS).tolist()
        archive[first]
        start, count = time.perf_counter(), 0
        for row in rows:
            archive[row]
            count += 1
            if time.perf_counter() - start > READING:
                break
        return count / (time.perf_counter() - start)


def _output(program: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return list(map(float, done.stdout.split()))
