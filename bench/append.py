# SPDX-License-Identifier: MIT
"""Benchmark of a file that grows: images are appended one at a time, and an image is read after each; a table."""

import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console

import smalti
from smalti.types import Pixels

PARTS = 10
"""The number of parts of the run that the table compares."""
HEAD = (
    "| images | append, ms | read, ms | both, ms | both, ms of processor | bytes an image |",
    "| ---: | ---: | ---: | ---: | ---: | ---: |",
)
Cost = tuple[float, float, float]
"""The seconds of an append and of a read, and the seconds of the processor that both took."""


def run(x: Pixels, appends: int, *, named: bool) -> None:
    """Append images of `x` one at a time to a new file, and print what an append and a read behind it cost."""
    console, rng = Console(width=200), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path, costs = Path(folder) / "x.smalti", list[Cost]()
        smalti.pack(_image(x, 0, named=named), path)
        for line in HEAD:
            console.print(line)
        for i in range(1, appends + 1):
            costs.append(_cost(path, _image(x, i, named=named), int(rng.integers(i))))
            if i % (appends // PARTS) == 0:
                append, read, work = (1000 * median(column) for column in zip(*costs[-appends // PARTS :], strict=True))
                both = 1000 * median(cost[0] + cost[1] for cost in costs[-appends // PARTS :])
                size = path.stat().st_size / (i + 1)
                console.print(f"| {i:,} | {append:.1f} | {read:.1f} | {both:.1f} | {work:.1f} | {size:.0f} |")
        first, last = costs[: appends // PARTS], costs[-appends // PARTS :]
        wall = median(c[0] + c[1] for c in last) / median(c[0] + c[1] for c in first)
        work = median(c[2] for c in last) / median(c[2] for c in first)
        console.print(f"the last tenth costs {wall:.2f} times the first by the clock, {work:.2f} by the processor")
        before, start = path.stat().st_size, time.perf_counter()
        done = smalti.compact(path)
        console.print(f"compact: {before:,} bytes become {done.bytes:,} in {time.perf_counter() - start:.0f} s")


def _image(x: Pixels, i: int, *, named: bool) -> smalti.ImageSet:
    some = x[i % len(x)][None]
    return smalti.ImageSet(some, (f"{i % 10}/{i:06d}.png",), (i % 10,)) if named else smalti.ImageSet(some)


def _cost(path: Path, image: smalti.ImageSet, wanted: int) -> Cost:
    start, work = time.perf_counter(), time.process_time()
    smalti.append(path, image)
    middle = time.perf_counter()
    with smalti.open(path) as archive:
        _ = archive[wanted]
    return middle - start, time.perf_counter() - middle, time.process_time() - work
