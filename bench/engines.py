# SPDX-License-Identifier: MIT
"""Benchmark of the engines: processor time of numpy and of each kernel of the compiled core, to pack and to unpack.

All engines run in one process, one after another, and write the same bytes. The time is that of all threads together,
so that a busy machine disturbs it little.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

import smalti
from smalti.core.library import core, kernels
from smalti.types import Pixels

ASKED: dict[str, dict[str, Any]] = {
    "lossless": {"max_error": 0},
    "quality 50": {"quality": 50},
    "quality 20, effort 3": {"quality": 20, "effort": 3},
}
HEAD = ("| | engine | pack | times | unpack | times |", "| --- | --- | ---: | ---: | ---: | ---: |")
RUNS = 3


def run(x: Pixels, output: Path, data: str) -> None:
    """Pack and unpack `x` (`n h w`) by each engine; write `engines-DATA.md`."""
    os.environ.pop("SMALTI_ENGINE", None)
    os.environ.pop("SMALTI_KERNEL", None)
    found = core()
    engines = [("numpy", ""), *(("core", kernel) for kernel in (kernels(found.library)[1:] if found else []))]
    lines = [f"{len(x):,} test images of {data}; milliseconds of processor an image, medians of {RUNS}.", "", *HEAD]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.smalti"
        for what, asked in ASKED.items():
            first, expected = (0.0, 0.0), b""
            for engine, kernel in engines:
                os.environ["SMALTI_ENGINE"] = engine
                if kernel:
                    os.environ["SMALTI_KERNEL"] = kernel
                times = _times(x, path, asked)
                os.environ.pop("SMALTI_KERNEL", None)
                first, expected = (first if expected else times), (expected or path.read_bytes())
                assert path.read_bytes() == expected
                cells = [f"{time:.3f} | {one / time:.1f}" for time, one in zip(times, first, strict=True)]
                lines.append(f"| {what} | {kernel or engine} | {' | '.join(cells)} |")
    os.environ.pop("SMALTI_ENGINE", None)
    output.mkdir(parents=True, exist_ok=True)
    target = output / f"engines-{data}.md"
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    Console().print(target.read_text(encoding="utf-8"), markup=False, soft_wrap=True)


def _times(x: Pixels, path: Path, asked: dict[str, Any]) -> tuple[float, float]:
    """Return how long packing and unpacking take, in milliseconds of processor an image."""
    packed, unpacked = [], []
    for _ in range(RUNS):
        start = time.process_time()
        smalti.pack(x, path, force=True, **asked)
        middle = time.process_time()
        smalti.load(path)
        packed.append(middle - start)
        unpacked.append(time.process_time() - middle)
    return statistics.median(packed) / len(x) * 1000, statistics.median(unpacked) / len(x) * 1000
