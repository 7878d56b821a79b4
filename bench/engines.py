# SPDX-License-Identifier: MIT
"""Benchmark of the engines: processor time of numpy and of each kernel of the compiled core, to pack and to unpack.

Beside them stand the times of other codecs at their usual settings, which make a file of each image.

All engines run in one process, one after another, and numpy and the core write the same bytes. Where onnxruntime is
installed, numpy is also timed with networks that onnxruntime runs; these round otherwise. The time is that of all
threads together, so that a busy machine disturbs it little.
"""

import importlib.util
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
from PIL import Image
from rich.console import Console

import smalti
from smalti.core.library import core, kernels
from smalti.demo.baselines import decode_gray
from smalti.errors import UsageError
from smalti.types import Pixels

ASKED: dict[str, tuple[dict[str, Any], int]] = {
    "lossless": ({"max_error": 0}, 1),
    "quality 50": ({"quality": 50}, 1),
    "quality 20, effort 3": ({"quality": 20, "effort": 3}, 1),
    "quality 20": ({"quality": 20}, 16),
    "mnist-autoencoder": ({"model": "mnist-autoencoder"}, 128),
}
"""What is asked for, and which part of the images is taken, one in so many: numpy takes up to a second to search."""
MODELS = {"fashion-mnist": "fashion"}
"""The model of each data set, if it is not mnist. It is given, so that no time goes into the choice of a model."""
HEAD = ("| | engine | pack | times | unpack | times |", "| --- | --- | ---: | ---: | ---: | ---: |")
RUNS, LEAST, IMAGES = 3, 2, 512
"""How often each is run, the fewest images, and those that are taken if nobody says how many."""
OTHERS: dict[str, tuple[Callable[[Pixels], bytes], Callable[[bytes], Any]]] = {
    "JPEG, quality 50": (lambda x: _pillow(x, "JPEG", quality=50), decode_gray),
    "WebP, quality 50": (lambda x: _pillow(x, "WEBP", quality=50), decode_gray),
    "WebP, lossless": (lambda x: _pillow(x, "WEBP", lossless=True), decode_gray),
    "PNG": (lambda x: _pillow(x, "PNG"), decode_gray),
    "JPEG XL, lossless, effort 1": (lambda x: _jxl(x, 1), imagecodecs.jpegxl_decode),
    "JPEG XL, lossless, effort 7": (lambda x: _jxl(x, 7), imagecodecs.jpegxl_decode),
}
"""How other codecs encode an image, and decode it."""
OTHERS_HEAD = (
    "| | encode | images/s | decode | images/s |",
    "| --- | ---: | ---: | ---: | ---: |",
)
VARIABLES = ("SMALTI_ENGINE", "SMALTI_KERNEL", "SMALTI_NETWORKS")


def run(x: Pixels, output: Path, data: str, images: int | None = None, only: Sequence[str] = ()) -> None:
    """Pack and unpack the first images of `x` (`n h w`), IMAGES or as many as said; write `engines-DATA.md`.

    only: names of ASKED, or "others"; if it is empty, all are measured.

    Raises:
        UsageError: `only` has another name.
    """
    if unknown := set(only) - {*ASKED, "others"}:
        raise UsageError(f"there is no way {sorted(unknown)[0]!r}; there are: {', '.join((*ASKED, 'others'))}")
    x = x[: images or IMAGES]
    with _engine():
        found = core()
    engines: dict[str, tuple[str, ...]] = {"numpy": ("numpy",)}
    if importlib.util.find_spec("onnxruntime") is not None:
        engines["numpy, onnxruntime"] = ("numpy", "", "onnxruntime")
    engines |= {kernel: ("core", kernel) for kernel in (kernels(found.library)[1:] if found else [])}
    output.mkdir(parents=True, exist_ok=True)
    with (output / f"engines-{data}.md").open("w", encoding="utf-8") as file:
        for line in _lines(x, data, engines, only):
            print(line, file=file)
            Console().print(line, markup=False, soft_wrap=True)


def _lines(x: Pixels, data: str, engines: dict[str, tuple[str, ...]], only: Sequence[str]) -> Iterator[str]:
    """Yield the lines of both tables, each as soon as it was measured."""
    if not only or "others" in only:
        yield f"Other codecs, a file of each of {len(x):,} images of {data}, by one thread; medians of {RUNS}."
        yield from ("", *OTHERS_HEAD)
        for name, (encode, decode) in OTHERS.items():
            cells = [f"{time:.3f} | {1000 / time:,.0f}" for time in _other(x, encode, decode)]
            yield f"| {name} | {' | '.join(cells)} |"
    if set(only) == {"others"}:
        return
    yield from ("", f"smalti: milliseconds of processor an image, medians of {RUNS}.", "", *HEAD)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.smalti"
        for what, (options, part) in ASKED.items():
            if only and what not in only:
                continue
            some, asked = x[: max(len(x) // part, LEAST)], {"model": MODELS.get(data, "mnist"), **options}
            first, expected = (0.0, 0.0), b""
            for name, variables in engines.items():
                with _engine(*variables):
                    times = _times(some, path, asked)
                if name == "numpy":
                    first, expected = times, path.read_bytes()
                assert path.read_bytes() == expected or "onnxruntime" in variables
                cells = [f"{time:.3f} | {one / time:.1f}" for time, one in zip(times, first, strict=True)]
                yield f"| {what} ({len(some):,}) | {name} | {' | '.join(cells)} |"


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


def _other(x: Pixels, encode: Callable[[Pixels], bytes], decode: Callable[[bytes], Any]) -> tuple[float, float]:
    """Return how long another codec takes to encode and to decode, in milliseconds of processor an image."""
    encoded, decoded = [], []
    for _ in range(RUNS):
        start = time.process_time()
        files = [encode(image) for image in x]
        middle = time.process_time()
        for file in files:
            decode(file)
        encoded.append(middle - start)
        decoded.append(time.process_time() - middle)
    return statistics.median(encoded) / len(x) * 1000, statistics.median(decoded) / len(x) * 1000


def _pillow(image: Pixels, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def _jxl(image: Pixels, effort: int) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(image, lossless=True, effort=effort, usecontainer=False, numthreads=1))
