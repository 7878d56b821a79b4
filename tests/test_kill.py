"""kill -9 in the middle of packing and appending, a few times; `scripts/torture kills` does it a hundred times."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import smalti
from smalti.demo.samples import draw_digits

HOW = ["--lossless", "--block-images", "8"]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="files that are open cannot be replaced there")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Digits that take about a second without loss."""
    path = tmp_path_factory.mktemp("kill") / "x.npy"
    np.save(path, draw_digits(96, seed=4))
    return path


def start(*arguments) -> subprocess.Popen:
    words = [sys.executable, "-m", "smalti", *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def seen(folder: Path) -> dict[str, bytes]:
    """What there is to see: files and how they start."""
    return {path.name: path.read_bytes()[:32] for path in folder.iterdir() if path.exists()}


def killed(target: Path, pause: float, *arguments) -> None:
    """The command is killed so many seconds after it has begun to write."""
    before, end = seen(target.parent), time.monotonic() + 60
    process = start(*arguments)
    while process.poll() is None and time.monotonic() < end and seen(target.parent) == before:
        time.sleep(0.005)
    time.sleep(pause)
    process.kill()
    process.wait()


def images(path: Path) -> np.ndarray:
    with smalti.open(path) as archive:
        return archive[:]


@pytest.mark.parametrize("pause", [0, 0.3])
def test_a_pack_that_is_killed_leaves_the_target_as_it_was(tmp_path, source, pause):
    target, right = tmp_path / "x.smalti", np.load(source)
    command = ["pack", source, "-o", target, "-f", *HOW]
    target.write_bytes(b"old")
    killed(target, pause, *command)
    assert target.read_bytes() == b"old" or (images(target) == right).all()
    assert start(*command).wait() == 0
    assert (images(target) == right).all()


@pytest.mark.parametrize("pause", [0, 0.3])
def test_an_append_that_is_killed_keeps_what_was_there(tmp_path, source, digits, pause):
    target, right = tmp_path / "x.smalti", np.load(source)
    smalti.pack(digits, target, max_error=0)
    killed(target, pause, "append", target, source, *HOW)
    found = images(target)
    assert (found[:20] == digits).all()
    if len(found) == 20:
        assert start("append", target, source, *HOW).wait() == 0
        found = images(target)
    assert (found == np.concatenate([digits, right])).all()
