"""`smalti train` as a user runs it."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from helpers import run, write_idx
from independent_reader import read
from PIL import Image

import smalti
from smalti.demo.samples import draw_digits
from smalti.rate.metrics import mse, psnr

pytest.importorskip("torch", reason='training needs torch: pip install "smalti[train]"')


@pytest.mark.parametrize(
    ("shape", "words", "options"),
    [((4, 28, 28), "too few", ()), ((1, 30, 28), "30x28", ("--architecture", "autoencoder"))],
)
def test_images_that_cannot_be_trained_on_get_one_line(tmp_path, shape, words, options):
    source = write_idx(tmp_path / "x-idx3-ubyte", np.zeros(shape, np.uint8))
    done = run("train", source, "-o", tmp_path / "x.model", *options)
    assert done.returncode == 1
    assert done.stderr.startswith("smalti: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert words in done.stderr


def test_the_command_survives_kill_9_and_makes_a_model(tmp_path):
    x = draw_digits(64)[:, 6:22, 6:22].copy()  # small, so that it takes seconds
    source = write_idx(tmp_path / "x-idx3-ubyte", x)
    command = ["train", source, "-o", tmp_path / "x.model", "--steps", "6", "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-m", "smalti", *map(str, command)], stderr=subprocess.PIPE)
    checkpoint = tmp_path / "x.model.train" / "latents" / "checkpoint.pt"
    for _ in range(600):
        if checkpoint.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    process.communicate()
    if os.name == "posix":
        assert process.returncode in (0, -signal.SIGKILL)
    done = run(*command, "--force", columns=80)
    assert done.returncode == 0, done.stderr
    assert "going on from" in done.stderr
    assert "plan: " in done.stderr
    for words in ("  train latents ", "  export pixels ", "  compare "):
        assert words in done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("going on from")]
    assert max(map(len, lines)) <= 80, lines
    assert "train longer" in done.stdout
    report = (tmp_path / "x.model.train" / "report.md").read_text()
    assert "| JPEG, one sheet: bytes there |" in report
    assert "the same, every pixel" in report
    assert "## Verdict" in report
    for picture in ("curves.png", "pairs.png", "latents/loss.png", "pixels/loss.png"):
        with Image.open(tmp_path / "x.model.train" / picture) as image:
            assert image.width > 300
    done = run("pack", source, "-o", tmp_path / "x.smalti", "--model", tmp_path / "x.model")
    assert done.returncode == 0, done.stderr
    done = run("unpack", tmp_path / "x.smalti", "-o", tmp_path / "out", "--model", tmp_path / "x.model")
    assert len(list((tmp_path / "out").iterdir())) == 64


@pytest.mark.slow
def test_a_lossless_part_joins_a_model(tmp_path):
    x = draw_digits(48)
    source = write_idx(tmp_path / "x-idx3-ubyte", x)
    command = ["train", source, "-o", tmp_path / "x.model", "--lossless", "--device", "cpu", "--steps", "3"]
    refused = run(*command, "--architecture", "autoencoder")
    assert refused.returncode == 2
    done = run(*command, "--from", "mnist-autoencoder")
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "x.model.train" / "report.md").read_text()
    assert "the same, every pixel" in report
    assert "| PNG, one sheet |" in report
    base, model = smalti.load_model("mnist-autoencoder"), smalti.load_model(tmp_path / "x.model")
    assert model.training["architecture"] == "autoencoder"
    assert model.training["pixels"]["architecture"] == "pixels"
    assert "from" not in model.training["pixels"]  # the autoencoder has no weights for this part
    assert base.networks.items() <= model.networks.items()
    assert model.id != base.id
    files = [tmp_path / "base.smalti", tmp_path / "latents.smalti"]
    for file, some in zip(files, (base, replace(model, pixels=None, measured=base.measured)), strict=True):
        smalti.pack(x, file, model=some, quality=15, effort=1)
    one, two = (read(file.read_bytes()).blocks for file in files)
    assert [block.payload for block in one] == [block.payload for block in two]
    assert (smalti.load(files[0], model=base).pixels == smalti.load(files[1], model=model).pixels).all()
    done = run("pack", source, "-o", tmp_path / "x.smalti", "--model", tmp_path / "x.model", "--lossless")
    assert done.returncode == 0, done.stderr
    assert (smalti.load(tmp_path / "x.smalti", model=model).pixels == x).all()


@pytest.mark.slow
def test_the_command_goes_on_from_a_model(tmp_path):
    source = write_idx(tmp_path / "x-idx3-ubyte", draw_digits(48))
    command = ["train", source, "-o", tmp_path / "x.model", "--from", "mnist", "--device", "cpu"]
    refused = run(*command, "--architecture", "autoencoder")
    assert refused.returncode == 2
    assert "--from goes with the codec" in refused.stderr
    done = run(*command, "--steps", "2")
    assert done.returncode == 0, done.stderr
    model = smalti.load_model(tmp_path / "x.model")
    assert model.training["pixels"]["from"] == f"mnist {smalti.load_model().id.hex()}"
    assert model.training["from"] == f"mnist {smalti.load_model().id.hex()}"
    assert psnr(mse(draw_digits(48), smalti.load(packed_with(model, tmp_path), model=model).pixels)) > 18


def packed_with(model, folder):
    smalti.pack(draw_digits(48), folder / "x.smalti", model=model, effort=1)
    return folder / "x.smalti"
