import csv
import subprocess
import sys

import pytest
from helpers import ROOT

pytest.importorskip("imagecodecs", reason='benchmarks need imagecodecs: pip install "smalti[bench]"')


pytestmark = pytest.mark.slow


def test_the_rate_distortion_benchmark_runs_and_its_figures_are_sane(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "bench", "rd", "--data", "drawn", "--images", "16", "-o", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "rd-drawn.csv").read_text().splitlines()))
    best = {}
    for row in rows:
        best.setdefault(row["codec"], []).append((float(row["bytes_an_image"]), float(row["psnr"])))
    assert {"smalti", "JPEG", "WebP", "AVIF", "JPEG XL", "JPEG 2000", "PNG", "JPEG-LS", "xz"} <= set(best)
    assert all(psnr == float("inf") for psnr in (p for _, p in best["PNG"] + best["xz"]))
    assert [p for _, p in best["smalti"]] == sorted(p for _, p in best["smalti"])
    assert "| **smalti** | archive |" in (tmp_path / "rd-drawn.md").read_text()
    assert (tmp_path / "rd-drawn.png").stat().st_size > 10_000
