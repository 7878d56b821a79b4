# SPDX-License-Identifier: MIT
"""Benchmark of smalti beside other containers of small images; writes tables in markdown, and CSV.

`measure.py` defines what is measured, `containers.py` the containers.
"""

import csv
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from numpy.lib.format import write_array_header_1_0
from rich.console import Console
from rich.table import Table

from bench.containers import ALL, PART, Container, Ints, Pixels
from bench.data import labels, test_images, train_images
from bench.measure import BATCH, BATCHES, READS, SECONDS, STEPS, Measured, joined
from smalti.demo.samples import draw_digits
from smalti.errors import UsageError
from smalti.model.bundle import load_model

ROOT = Path(__file__).parents[1]
DRAWN = 1000
SHIFT = 1
"""The most pixels by which synthetic images are shifted in each direction."""
TITLES = {
    "bytes_an_image": "bytes an image",
    "psnr": "PSNR, dB",
    "pack": "pack, images/s",
    "unpack": "unpack, images/s",
    "cold_reads": "reads cold, images/s",
    "warm_reads": "reads warm, images/s",
    "cold_batch": f"batch of {BATCH} cold, images/s",
    "warm_batch": f"batches of {BATCH} warm, images/s",
    "open_ms": "open, ms",
    "pack_mb": "peak of packing, MB",
    "imports_mb": "of it imports, MB",
}
SMALLEST = ("bytes_an_image", "open_ms", "pack_mb")
"""The columns whose smallest value is the best."""
UNJUDGED = ("psnr", "imports_mb")
"""The columns without a best value."""
NO_ACCESS = ("cold_reads", "warm_reads", "cold_batch", "warm_batch", "open_ms")
"""The columns that have no value for a container that can only be read from its beginning."""
NOTE = f"""\
Every file holds the labels too; images are packed from a .npy file. Each step runs in a process of its own, with its
imports done. Cold: from opening on, with the file in the operating system's cache: the first {READS} reads at random,
and the first batch. Warm: the same {READS} reads, or {BATCHES} batches, again after all were read once; smalti keeps
64 MiB that it decoded last, so that other numbers are read as when cold where the set is larger. What takes more than
{{seconds:g}} seconds is cut off, and its rate is of what was done. Opening a tar reads all its heads, opening an npz
decompresses it. Effort 3 does not search, and matters to latents alone: quality 50 is coded by pixels, as at any
effort. Peak: of the whole process that packs. In bold: the best of a column, with loss or without. The model of smalti
is built in: {{size:,}} bytes, {{each:,.2f}} bytes an image more if it is counted.
"""


@dataclass(frozen=True)
class Plan:
    """What is measured, and how.

    Raises:
        UsageError: `only` names an unknown container.
    """

    images: int | None = None  # how many images of the data set, from the first on; 0: none; None: all
    synthetic: int = 0  # how many images are made from the whole data set for a second table
    only: Sequence[str] = ()  # names of containers; empty: all
    seconds: float = SECONDS  # the most seconds for random reads of each kind
    together: bool = False  # one process for all steps of a container: faster, and less fair

    def __post_init__(self) -> None:
        names = [container.name for container in ALL]
        unknown = [name for name in self.only if name not in names]
        if unknown:
            raise UsageError(f"there is no container named {unknown[0]!r}; there are: {', '.join(names)}")


@dataclass
class _Results:
    """The measurements so far, and notes about what was not measured."""

    title: str
    rows: list[tuple[Container, Measured]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run(output: Path, data: str, plan: Plan) -> None:
    """Measure, and write `archive-DATA.md` and `.csv`, `archive-million.md` and `.csv` to `output`."""
    x, of_x = _base(data, plan.images)
    chosen = [container for container in ALL if not plan.only or container.name in plan.only]
    if plan.images != 0:
        mine = slice(plan.images)
        results = _Results(f"{len(x[mine]):,} images of {data}")
        _compare(
            chosen, results, plan, lambda folder: _write(folder, [x[mine]], of_x[mine]), output / f"archive-{data}"
        )
    if plan.synthetic:
        source = np.random.default_rng(0).integers(len(x), size=plan.synthetic)
        results = _Results(f"{plan.synthetic:,} images: {len(x):,} of {data}, shifted by a pixel or parts of one")
        _compare(
            chosen, results, plan, lambda f: _write(f, jitter(x, source), of_x[source]), output / "archive-million"
        )


def _base(data: str, images: int | None) -> tuple[Pixels, Pixels]:
    """Return the images (`n h w`) and labels (`n`) of a data set."""
    if data == "drawn":
        n = images or DRAWN
        return draw_digits(n), (np.arange(n) % 10).astype(np.uint8)
    return (
        np.concatenate([train_images(data), test_images(data)]),
        np.concatenate([labels(data, "train"), labels(data, "t10k")]),
    )


def jitter(x: Pixels, source: Ints, seed: int = 0) -> Iterator[Pixels]:
    """Yield the images of `x` (`n h w`) that `source` numbers, in parts, each image shifted at random.

    The shift is by whole pixels in each direction, and by a fraction of a pixel to the left, as a blend with the next.
    """
    rng = np.random.default_rng(seed)
    _, h, w = x.shape
    wide = np.pad(x, ((0, 0), (SHIFT, SHIFT + 1), (SHIFT, SHIFT + 1)))
    rows, columns = np.arange(h)[:, None], np.arange(w)
    for start in range(0, len(source), PART):
        mine = source[start : start + PART][:, None, None]
        down, right = rng.integers(2 * SHIFT + 1, size=(2, len(mine), 1, 1))
        blend = rng.integers(256, size=(len(mine), 1, 1), dtype=np.uint16)
        here, next_ = (wide[mine, rows + down, columns + right + step].astype(np.uint16) for step in (0, 1))
        yield ((here * (256 - blend) + next_ * blend) >> 8).astype(np.uint8)


def _write(folder: Path, parts: Iterable[Pixels], of_x: Pixels) -> None:
    """Write `images.npy`, part by part, and `labels.npy`."""
    np.save(folder / "labels.npy", of_x)
    with (folder / "images.npy").open("wb") as file:
        for i, part in enumerate(parts):
            if i == 0:
                shape = (len(of_x), *part.shape[1:])
                write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            file.write(part.tobytes())


def _compare(
    containers: Sequence[Container], results: _Results, plan: Plan, write: Callable[[Path], None], path: Path
) -> None:
    """Measure `containers` on the images that `write` puts into a folder; write `path`.md and .csv after each one."""
    console = Console(stderr=True)
    if plan.together:
        results.notes.append("Quick: all steps of a container ran in one process.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="smalti-bench-") as folder:
        write(Path(folder))
        n = len(np.load(Path(folder) / "labels.npy", mmap_mode="r"))
        for container in containers:
            _add(results, container, Path(folder), plan, console)
            path.with_suffix(".md").write_text(_markdown(results, n, plan.seconds), encoding="utf-8")
            _write_csv(results, path.with_suffix(".csv"))
    Console(stderr=True, width=max(console.width, 200)).print(_shown(results))  # a narrower table could not be read
    console.print(*results.notes, f"wrote {path}.md and .csv", sep="\n", markup=False)


def _add(results: _Results, container: Container, folder: Path, plan: Plan, console: Console) -> None:
    """Measure a container, or note why it cannot be measured."""
    if container.missing:
        results.notes.append(f"{container.name} is left out: {container.missing} is not installed.")
        return
    start, found = time.perf_counter(), Measured()
    try:
        steps = [name for name in STEPS if not container.sequential or name not in ("reads", "batches")]
        for names in [",".join(steps)] if plan.together else steps:
            found = joined(found, _step(names, container, folder, plan.seconds))
    except subprocess.CalledProcessError as exc:
        console.print(exc.stderr, markup=False, highlight=False)
        results.notes.append(f"{container.name} failed: {(exc.stderr or str(exc)).strip().splitlines()[-1]}")
        return
    finally:
        made = folder / container.file
        if made.is_dir():
            shutil.rmtree(made)
        made.unlink(missing_ok=True)
    found = replace(found, wall=time.perf_counter() - start)
    results.rows.append((container, found))
    shown = ", ".join(f"{title} {_number(getattr(found, key))}" for key, title in TITLES.items())
    console.print(f"{container.name}: {shown} ({found.wall:.1f} s)", highlight=False, soft_wrap=True)


def _step(names: str, container: Container, folder: Path, seconds: float) -> Measured:
    """Run the steps `names`, separated by commas, in a process of their own."""
    command = [sys.executable, "-m", "bench.measure", names, container.name, str(folder), str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def _cells(results: _Results) -> list[list[tuple[str, bool]]]:
    """Return a line for each container: the text of each column, and whether it is the best of the column."""
    best = {}
    for key in set(TITLES) - set(UNJUDGED):
        column = [getattr(found, key) for made, found in results.rows if not (made.sequential and key in NO_ACCESS)]
        best[key] = (min if key in SMALLEST else max)((v for v in column if not math.isnan(v)), default=math.nan)
    lines = []
    for container, found in results.rows:
        line = [(container.name, False), (container.settings, False)]
        for key in TITLES:
            value = getattr(found, key)
            none = container.sequential and key in NO_ACCESS
            line.append(("none", False) if none else (_number(value), value == best.get(key)))
        lines.append(line)
    return lines


def _number(value: float) -> str:
    """Return a number with about three digits.

    >>> _number(12345.6), _number(12.345), _number(0.01234), _number(math.inf)
    ('12,346', '12.3', '0.012', 'lossless')
    """
    if math.isinf(value):
        return "lossless"
    digits = sum(value < limit for limit in (100, 10, 1))
    return "" if math.isnan(value) else f"{value:,.{digits}f}"


def _markdown(results: _Results, n: int, seconds: float) -> str:
    lines = [f"{results.title}.", "", "| container | how | " + " | ".join(TITLES.values()) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(TITLES))
    for cells in _cells(results):
        line = " | ".join(f"**{text}**" if bold else text for text, bold in cells)
        lines += [f"| {line} |"]
    size = load_model().size
    note = NOTE.format(seconds=seconds, size=size, each=size / n)
    return "\n".join([*lines, "", *(f"{note}\n" for note in results.notes), note])


def _shown(results: _Results) -> Table:
    table = Table(title=results.title)
    table.add_column("container")
    table.add_column("how")
    for title in TITLES.values():
        table.add_column(title, justify="right")
    for cells in _cells(results):
        table.add_row(*(f"[bold]{text}[/]" if bold else text for text, bold in cells))
    return table


def _write_csv(results: _Results, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["container", "settings", *(f.name for f in fields(Measured))])
        writer.writerows([made.name, made.settings, *asdict(found).values()] for made, found in results.rows)
