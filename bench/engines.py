# SPDX-License-Identifier: MIT
"""Benchmark of the engines: processor time of numpy and of each kernel of the compiled core, to pack and to unpack.

All engines run in one process, one after another, and numpy and the core write the same bytes. Where onnxruntime is
installed, numpy is also timed with networks that onnxruntime runs; these round otherwise. The time is that of all
threads together, so that a busy machine disturbs it little.
"""

import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

import smalti
from smalti.core.library import core, kernels
from smalti.types import Pixels

ASKED: dict[str, tuple[dict[str, Any], int]] = {
    "lossless": ({"max_error": 0}, 1),
    "quality 50": ({"quality": 50}, 1),
    "quality 20, effort 3": ({"quality": 20, "effort": 3}, 1),
    "quality 20": ({"quality": 20}, 10),
    "mnist-autoencoder": ({"model": "mnist-autoencoder"}, 50),
}
"""What is asked for, and which part of the images is taken, one in so many: numpy takes up to a second to search."""
MODELS = {"fashion-mnist": "fashion"}
"""The model of each data set, if it is not mnist. It is given, so that no time goes into the choice of a model."""
HEAD = ("| | engine | pack | times | unpack | times |", "| --- | --- | ---: | ---: | ---: | ---: |")
RUNS, LEAST = 3, 16
"""How often each is run, and the fewest images."""
VARIABLES = ("SMALTI_ENGINE", "SMALTI_KERNEL", "SMALTI_NETWORKS")


def run(x: Pixels, output: Path, data: str) -> None:
    """Pack and unpack `x` (`n h w`) by each engine; write `engines-DATA.md`."""
    with _engine():
        found = core()
    engines: dict[str, tuple[str, ...]] = {"numpy": ("numpy",)}
    if importlib.util.find_spec("onnxruntime") is not None:
        engines["numpy, onnxruntime"] = ("numpy", "", "onnxruntime")
    engines |= {kernel: ("core", kernel) for kernel in (kernels(found.library)[1:] if found else [])}
    lines = [f"Test images of {data}; milliseconds of processor an image, medians of {RUNS}.", "", *HEAD]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.smalti"
        for what, (options, part) in ASKED.items():
            some, asked = x[: max(len(x) // part, LEAST)], {"model": MODELS.get(data, "mnist"), **options}
            first, expected = (0.0, 0.0), b""
            for name, variables in engines.items():
                with _engine(*variables):
                    times = _times(some, path, asked)
                if name == "numpy":
                    first, expected = times, path.read_bytes()
                assert path.read_bytes() == expected or "onnxruntime" in variables
                cells = [f"{time:.3f} | {one / time:.1f}" for time, one in zip(times, first, strict=True)]
                lines.append(f"| {what} ({len(some):,}) | {name} | {' | '.join(cells)} |")
    output.mkdir(parents=True, exist_ok=True)
    target = output / f"engines-{data}.md"
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    Console().print(target.read_text(encoding="utf-8"), markup=False, soft_wrap=True)


@contextmanager
def _engine(*values: str) -> Iterator[None]:
    """Let the environment ask for an engine, a kernel and what runs networks; an empty text asks for nothing."""
    before = {name: os.environ.pop(name, None) for name in VARIABLES}
    os.environ.update({name: value for name, value in zip(VARIABLES, values, strict=False) if value})
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


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
