import importlib.util
import re
import subprocess
import sys

import pytest
from helpers import ROOT

pytest.importorskip("torch", reason='the benchmark needs torch: pip install "smalti[train]"')

pytestmark = pytest.mark.slow


def test_the_benchmark_of_loaders_runs_and_its_figures_are_sane(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "bench", "loader", "--data", "drawn", "--images", "130"]
    done = subprocess.run([*command, "-o", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [row for row in (tmp_path / "loader-drawn.md").read_text().splitlines() if row.startswith("| ")][2:]
    assert len(rows) == 8 + (importlib.util.find_spec("webdataset") is not None)
    for row in rows:
        _, name, size, reads, *times, _ = (cell.strip() for cell in row.split("|"))
        assert float(size) > 0
        assert (not reads) == ("tar" in name or "Web" in name)
        assert len(times) == 8
        assert all(re.fullmatch(r"\d+\.\d\d", cell) for cell in times)
        assert float(times[1]) <= float(times[2])
