import subprocess
import sys

import pytest
from helpers import ROOT

pytestmark = pytest.mark.slow


def test_the_benchmark_of_the_choice_runs_and_its_figures_are_sane(tmp_path, mnist):
    command = [sys.executable, ROOT / "scripts" / "bench", "choice", "--images", "100", "-o", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in (tmp_path / "choice.md").read_text().splitlines() if "|" in line]
    known = {cells[0]: cells[1:] for cells in rows}
    for kind, column, model in (("MNIST", 0, "mnist"), ("Fashion-MNIST", 1, "fashion"), ("drawn digits", 0, "mnist")):
        assert float(known[kind][column]) < 0.75 < float(known["noise"][column])
        assert known[kind][2] == f"{model} 100"
    assert known["noise"][2] == "colour 100"
    times = [cells for cells in rows if len(cells) == 4 and cells[0] in ("quality 50", "quality 25", "lossless")]
    assert all(0.5 < float(ratio) < 5 for cells in times for ratio in cells[1:3])
    mixed = [cells for cells in rows if len(cells) == 7 and cells[0] in ("quality 50", "quality 25", "lossless")]
    assert len(times) == len(mixed) == 3
    assert all(0.9 < float(cells[i]) < 1.1 for cells in mixed for i in (3, 5))
