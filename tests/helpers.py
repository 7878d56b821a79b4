# SPDX-License-Identifier: MIT
"""Small things that several tests need."""

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from independent_reader import read

import smalti
from smalti.model.pixel_prior import PixelPrior

ROOT = Path(__file__).parents[1]
"""The folder of the whole project."""
DATA = ROOT / "tests" / "data"
"""Toy models, as `scripts/toy` wrote them."""
TINY_PIXELS = {"above": 3, "reach": 2, "left": 3, "width": 16, "layers": 3, "components": 4}
"""The sizes of the networks in `toy-gray.model` and `toy-rgb.model`."""


def toy_model() -> smalti.Model:
    """Return a small model with spatial latents for gray images of 28x28; nobody trained its random weights."""
    return smalti.load_model(DATA / "toy.model")


def toy_pixels(channels: int) -> PixelPrior:
    """Return a small random network for coding by pixels, which believes one thing here and another there."""
    pixels = smalti.load_model(DATA / f"toy-{'gray' if channels == 1 else 'rgb'}.model").pixels
    assert pixels is not None
    return pixels


def some_images(n: int, h: int, w: int, c: int, rng: np.random.Generator) -> np.ndarray:
    """Return images (`n h w c`, or `n h w` if gray): half of them noise, half mostly background."""
    shape = (n, h, w) if c == 1 else (n, h, w, c)
    x = rng.integers(0, 256, shape, dtype=np.uint8)
    x[n // 2 :] *= (rng.random(x[n // 2 :].shape) < 0.1).astype(np.uint8)
    return x


def payload_bytes(path: Path) -> int:
    """Return the bytes of all payloads in a file, as a reader finds them that knows the specification alone."""
    file = read(path.read_bytes())
    return len(file.single.payload) if file.single else sum(len(block.payload) for block in file.blocks)


def write_idx(path: Path, pixels: np.ndarray) -> Path:
    """Write `pixels` (`n h w`) as an idx file."""
    path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", *pixels.shape) + pixels.tobytes())
    return path


def in_threads(work: Callable, on: Iterable) -> list:
    """Return what `work` gives on each thing, all at the same time, each in a thread of its own."""
    each = list(on)
    with ThreadPoolExecutor(len(each)) as pool:
        return list(pool.map(work, each))


FORCING_COLOUR = {"FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
"""Variables of the environment that would colour what the command prints."""


def run(*arguments, cwd=None, columns=100) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if name not in FORCING_COLOUR}
    return subprocess.run(
        [sys.executable, "-m", "smalti", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        env={**plain, "COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8"},
    )


def fails(code: int, *arguments, words: str = "") -> None:
    """The command ends with that code and one line on stderr, which holds `words`."""
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("smalti: ")
    assert words in done.stderr
