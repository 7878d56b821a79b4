# SPDX-License-Identifier: MIT
"""Measure bytes, time and memory of one container: `python -m bench.measure STEPS NAME FOLDER SECONDS`.

Each step runs in a process of its own, so that nothing is left in memory from another one, except in the cache of the
operating system. "Cold" is a new process that opens a file which was just written; its clock starts after its
imports. "Warm" reads the same images again, after all were read once. A step is stopped after its seconds, and its rate
is that of the images read until then.
"""

import importlib
import json
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from bench.containers import ALL, Container, Images, Ints, Opened, Pixels

READS, BATCHES, BATCH = 200, 8, 256
OPENINGS = 5
SECONDS = 5.0
"""The seconds for random reads, and for batches, each cold and warm; a step is not stopped within one read."""
WARM = 1 / 20
"""The share of those seconds in which warm reads are repeated, because one round is too short to measure."""
SANE_PSNR = 12.0
"""The PSNR in dB below which a lossy image is taken for a wrong one."""


@dataclass(frozen=True)
class Measured:
    """The measurements of a container, or of one step; NaN is what was not measured or what is impossible."""

    bytes_an_image: float = math.nan  # all bytes of the file, with labels
    psnr: float = math.nan  # dB; inf if lossless
    pack: float = math.nan  # images a second
    unpack: float = math.nan
    cold_reads: float = math.nan  # images a second, one at a time
    warm_reads: float = math.nan
    cold_batch: float = math.nan  # images a second, 256 at random at a time
    warm_batch: float = math.nan
    open_ms: float = math.nan
    pack_mb: float = math.nan  # the peak memory of the process that packs
    imports_mb: float = math.nan  # the peak memory of it after its imports
    wall: float = math.nan  # seconds of all steps together


def peak_mb() -> float:
    """Return the peak memory of this process in MB; Linux's `ru_maxrss` would include that of its parent process."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def pack(container: Container, images: Images, _: float) -> Measured:
    """Write all images."""
    path, n, imports = images.folder / container.file, images.shape[0], peak_mb()
    seconds = _seconds(lambda: container.pack(images, path))
    return Measured(size_of(path) / n, pack=n / seconds, pack_mb=peak_mb(), imports_mb=imports)


def unpack(container: Container, images: Images, limit: float) -> Measured:
    """Open the file several times; decode all images into an array, and compare them with the originals."""
    path, times = images.folder / container.file, list[float]()
    while len(times) < OPENINGS and sum(times) < limit:
        start = time.perf_counter()
        opened = container.open(path)
        times.append(time.perf_counter() - start)
        opened.close()
    start, at = time.perf_counter(), 0
    opened, x_hat = container.open(path), np.empty(images.shape, np.uint8)
    for part in opened.every():
        x_hat[at : at + len(part)] = part
        at += len(part)
    seconds = time.perf_counter() - start
    opened.close()
    assert at == len(x_hat), f"{container.name} gave back {at} images of {len(x_hat)}"
    error = _error(x_hat, images.parts())
    _check(container, error)
    decibel = -10 * math.log10(error) if error else math.inf
    return Measured(psnr=decibel, unpack=len(x_hat) / seconds, open_ms=statistics.median(times) * 1000)


def reads(container: Container, images: Images, limit: float) -> Measured:
    """Read single images at random."""
    rows = np.random.default_rng(0).integers(images.shape[0], size=READS)

    def read(opened: Opened, i: int) -> Pixels:
        assert opened.read is not None
        return opened.read(i)

    cold, warm = _twice(container, images, rows.tolist(), read, limit, len(rows))
    return Measured(cold_reads=cold, warm_reads=warm)


def batches(container: Container, images: Images, limit: float) -> Measured:
    """Read batches of images at random."""
    n = images.shape[0]
    rows = np.random.default_rng(1).integers(n, size=(BATCHES, min(BATCH, n)))

    def read(opened: Opened, some: Ints) -> Pixels:
        assert opened.batch is not None
        return opened.batch(some)

    cold, warm = _twice(container, images, list(rows), read, limit, 1)
    return Measured(cold_batch=cold * rows.shape[1], warm_batch=warm * rows.shape[1])


def _twice(
    container: Container, images: Images, items: Sequence[Any], read: Callable[[Opened, Any], Pixels], limit: float,
    first: int,
) -> tuple[float, float]:  # fmt: skip
    """Return the items a second, cold and warm.

    Cold are the `first` items, with the opening of the file; warm are all items that there was time for, read again.
    """
    start = time.perf_counter()
    opened = container.open(images.folder / container.file)
    found = _within(lambda i: read(opened, i), items[:first], limit)
    spent = time.perf_counter() - start
    cold = len(found) / spent
    if len(found) < len(items) and spent < limit:
        found += _within(lambda i: read(opened, i), items[len(found) :], limit)
    items, count, start = items[: len(found)], 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < limit * WARM:
        count += len(_within(lambda i: read(opened, i), items, limit))
    opened.close()
    _check(container, max(_error(x_hat, [images.mapped()[i]]) for i, x_hat in zip(items, found, strict=True)))
    return cold, count / spent


def _within(work: Callable[[Any], Pixels], items: Sequence[Any], limit: float) -> list[Pixels]:
    """Return the results of `work` on as many of `items` as `limit` seconds allow, at least on one."""
    found, start = list[Pixels](), time.perf_counter()
    for item in items:
        found.append(work(item))
        if time.perf_counter() - start > limit:
            break
    return found


def _error(x_hat: Pixels, parts: Iterable[Pixels]) -> float:
    """Return the MSE on [0,1] pixels."""
    total, at = 0, 0
    for x in parts:
        wrong = np.subtract(x, x_hat[at : at + len(x)], dtype=np.int32)
        total, at = total + int((wrong * wrong).sum(dtype=np.int64)), at + len(x)
    return total / x_hat.size / 255**2


def _check(container: Container, error: float) -> None:
    if error > (0 if container.lossless else 10 ** (-SANE_PSNR / 10)):
        raise AssertionError(f"{container.name} gives back other images than were packed")


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


STEPS = {"pack": pack, "unpack": unpack, "reads": reads, "batches": batches}


def step(name: str, container: Container, folder: Path, limit: float) -> Measured:
    """Run a step in this process."""
    for module in container.modules:
        importlib.import_module(module)
    return STEPS[name](container, Images(folder), limit)


def joined(one: Measured, other: Measured) -> Measured:
    """Return what either of two measurements knows; the first one has precedence."""
    pairs = ((f.name, getattr(one, f.name), getattr(other, f.name)) for f in fields(Measured))
    return Measured(**{name: b if math.isnan(a) else a for name, a, b in pairs})


def main(names: str, container: str, folder: str, limit: str) -> None:
    """Run the steps `names`, separated by commas, and print the measurements as JSON in the last line."""
    (mine,) = (some for some in ALL if some.name == container)
    found = Measured()
    for name in names.split(","):
        found = joined(found, step(name, mine, Path(folder), float(limit)))
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main(*sys.argv[1:])
