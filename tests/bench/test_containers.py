import csv
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, made_once

pytest.importorskip("imagecodecs", reason='benchmarks need imagecodecs: pip install "smalti[bench]"')

from bench.archive import jitter
from bench.containers import ALL
from smalti.demo.samples import draw_digits

pytestmark = pytest.mark.slow
RANDOM = ("cold_reads", "warm_reads", "cold_batch", "warm_batch", "open_ms")
ALWAYS = ("bytes_an_image", "psnr", "pack", "unpack", "pack_mb", "imports_mb")


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "bench"), "archive", "--data", "drawn", "-o", str(folder)]
    return subprocess.run([*command, "--seconds", "0.1", *arguments], capture_output=True, text=True)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The folder of a comparison of all containers on a few images, and what it said."""

    def make(folder):
        done = bench(folder, "--images", "300", "--synthetic", "0", "--together")
        assert done.returncode == 0, done.stderr
        (folder / "said").write_text(done.stderr)

    folder = made_once(tmp_path_factory, "archive", make)
    return folder, (folder / "said").read_text()


@pytest.mark.parametrize("container", ALL, ids=lambda container: container.name)
def test_a_container_is_in_the_comparison_and_its_figures_are_sane(container, compared):
    folder, said = compared
    if container.missing:
        assert f"{container.name} is left out: {container.missing} is not installed." in said
        pytest.skip(f"{container.missing} is not installed")
    rows = {row["container"]: row for row in csv.DictReader((folder / "archive-drawn.csv").read_text().splitlines())}
    assert container.name in rows, said
    found = rows[container.name]
    for column in ALWAYS + (() if container.sequential else RANDOM):
        assert float(found[column]) > 0, column
    assert (float(found["psnr"]) == float("inf")) is container.lossless
    assert float(found["imports_mb"]) <= float(found["pack_mb"])
    assert f"| {container.name} | " in (folder / "archive-drawn.md").read_text()


def test_the_best_of_a_column_is_bold(compared):
    lines = (compared[0] / "archive-drawn.md").read_text().splitlines()
    table = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    rates = [row[table[0].index("bytes an image")] for row in table[2:]]
    (best,) = (rate for rate in rates if rate.startswith("**"))
    assert float(best.strip("*")) == min(float(rate.strip("*").replace(",", "")) for rate in rates)


def test_synthetic_images_are_compared_in_a_table_of_their_own(tmp_path):
    done = bench(tmp_path, "--images", "0", "--synthetic", "50", "--only", "npz")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["archive-million.csv", "archive-million.md"]


def test_a_container_that_is_not_known_is_refused(tmp_path):
    done = bench(tmp_path, "--only", "floppy")
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "there is no container named 'floppy'; there are: smalti lossless, " in done.stderr


def test_a_container_without_its_library_is_left_out(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert next(container for container in ALL if container.name == "HDF5").missing == "h5py"


def test_synthetic_images_are_shifted_originals_and_the_same_for_the_same_seed():
    x, source = draw_digits(20), np.arange(5000) % 20
    parts = list(jitter(x, source))
    made = np.concatenate(parts)
    assert (len(parts), made.shape) == (2, (5000, 28, 28))
    np.testing.assert_array_equal(made, np.concatenate(list(jitter(x, source))))
    assert len(np.unique(made, axis=0)) > 4500
    light = made.sum((1, 2), dtype=np.int64) / x[source].sum((1, 2), dtype=np.int64)
    assert 0.9 < light.min() <= light.max() <= 1
