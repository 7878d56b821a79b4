# SPDX-License-Identifier: MIT
"""Small things that several tests need."""

import contextlib
import io
import os
import struct
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
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


def in_threads(work: Callable, on: Iterable, at_once: int | None = None) -> list:
    """Return what `work` gives on each thing, all (or `at_once`) at the same time, each in a thread of its own."""
    each = list(on)
    with ThreadPoolExecutor(at_once or len(each)) as pool:
        return list(pool.map(work, each))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` fills once in a run of the tests: the other processes of pytest-xdist wait for it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    ready = folder.with_suffix(".ready")
    try:
        folder.mkdir()
    except FileExistsError:
        while not ready.exists():
            time.sleep(0.1)
        return folder
    try:
        make(folder)
    finally:
        ready.touch()
    return folder


FORCING_COLOUR = {"FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
"""Variables of the environment that would colour what the command prints."""


_HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""The warnings that Python does not show unless it is asked to."""


def run(*arguments, cwd=None, columns=100, stdin=os.devnull) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, which is much faster than in one of its own; its output looks the same."""
    from smalti.cli import main

    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="", write_through=True) for _ in range(2))
    words, code = ["smalti", *map(str, arguments)], 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {"COLUMNS": str(columns)}))
        for name in FORCING_COLOUR:
            os.environ.pop(name, None)
        stack.enter_context(mock.patch.object(sys, "argv", words))
        stack.enter_context(mock.patch.object(sys, "stdin", stack.enter_context(Path(stdin).open())))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(contextlib.chdir(cwd or Path.cwd()))
        stack.enter_context(warnings.catch_warnings())
        warnings.resetwarnings()
        for category in _HIDDEN:
            warnings.simplefilter("ignore", category)
        try:
            main()
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 0
        except Exception:  # noqa: BLE001 - as the interpreter does
            traceback.print_exc(file=err)
            code = 1
    shown = [stream.buffer.getvalue().decode("utf-8") for stream in (out, err)]
    return subprocess.CompletedProcess(words, code, *shown)


def run_process(*arguments, cwd=None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    plain = {name: value for name, value in os.environ.items() if name not in FORCING_COLOUR}
    return subprocess.run(
        [sys.executable, "-m", "smalti", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        env={**plain, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"},
    )


def fails(code: int, *arguments, words: str = "") -> None:
    """The command ends with that code and one line on stderr, which holds `words`."""
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("smalti: ")
    assert words in done.stderr
