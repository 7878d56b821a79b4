"""A part of what `scripts/same` does: all engines of this machine give the same bytes and pixels."""

import subprocess
import sys

import pytest
from engines import KERNELS
from helpers import ROOT


@pytest.mark.slow
@pytest.mark.skipif(not KERNELS, reason="the core was not built; run scripts/core")
def test_all_engines_give_the_same(mnist):
    sizes = ("--golden", "2", "--images", "3", "--networks", "20")
    command = [sys.executable, ROOT / "scripts" / "same", *sizes, "--data", mnist.parent]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": the same") == 12
