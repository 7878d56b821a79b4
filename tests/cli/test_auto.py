"""What the commands say where the model is chosen, or named, and images are of another kind than it."""

import json

import numpy as np
import pytest
from helpers import DATA, write_idx
from PIL import Image
from typer.testing import CliRunner, Result

import smalti
from smalti.cli import app
from smalti.cli.summary import columns
from smalti.demo.samples import draw_digits
from smalti.rate.metrics import mse, psnr

DIGITS = draw_digits(12, seed=8)
NOISE = np.random.default_rng(8).integers(0, 256, (12, 28, 28), dtype=np.uint8)
BOTH = np.concatenate([DIGITS, NOISE[:4]])
IMAGES = {"digits": DIGITS, "noise": NOISE, "both": BOTH, "large": np.tile(NOISE[:3], (1, 3, 3))}


def run(*arguments, width=80) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": str(width)})


def said(tmp_path, kind, *options, width=80):
    """What pack says on stderr of images of a kind, as one line; no line that it prints is too long."""
    source = write_idx(tmp_path / "in-idx3-ubyte", IMAGES[kind])
    done = run("pack", source, "-o", tmp_path / "x.smalti", "-f", *options, width=width)
    assert done.exit_code == 0, done.stderr
    assert all(columns(line) <= max(80, width) for line in done.stderr.splitlines())
    return " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("digits", (), ""),
        ("noise", (), ""),
        ("both", (), ""),
        ("large", ("--min-psnr", "30"), ""),
        ("noise", ("--lossless",), ""),
        ("noise", ("--model", "none"), ""),
        ("digits", ("--model", "mnist"), ""),
        ("digits", ("--model", "mnist-autoencoder", "--effort", "3"), ""),
        ("noise", ("--model", "mnist"), "model mnist does not suit these images: "),
        ("noise", ("--model", "mnist", "--psnr", "15", "--effort", "3"), "model mnist does not suit these images: "),
        ("noise", ("--model", "fashion", "--quality", "10"), "model fashion does not suit these images: "),
        ("noise", ("--model", "mnist-autoencoder", "--effort", "3"), "does not suit these images: "),
        ("noise", ("--model", "mnist", "--lossless"), ""),
        ("noise", ("--model", "mnist", "--max-error", "3"), ""),
    ],
)
def test_lossy_packing_says_where_the_model_that_is_named_does_not_suit(tmp_path, kind, options, words):
    found = said(tmp_path, kind, *options)
    assert words in found
    assert bool(found) == bool(words)
    assert ("For fewer bytes, use the compiled core. Numpy computes here: SMALTI_ENGINE" in found) == bool(words)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("digits", (), ""),
        ("noise", (), "suits these images; they are kept exactly."),
        ("both", (), "suits 4 of 16 images; they are kept exactly."),
        ("noise", ("--quality", "20", "--unordered"), "suits these images; they are kept exactly."),
        ("large", ("--min-psnr", "30"), "suits these images; they are coded without one."),
        ("noise", ("--lossless",), ""),
    ],
)
def test_without_the_core_lossy_packing_says_where_no_model_suits(tmp_path, monkeypatch, kind, options, words):
    monkeypatch.setenv("SMALTI_ENGINE", "numpy")
    found = said(tmp_path, kind, *options)
    assert words in found
    assert ("For fewer bytes, use the compiled core. Numpy computes here: SMALTI_ENGINE" in found) == bool(words)


def test_a_wide_terminal_gets_a_warning_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("SMALTI_ENGINE", "numpy")
    source = write_idx(tmp_path / "in-idx3-ubyte", NOISE)
    done = run("pack", source, "-o", tmp_path / "x.smalti", width=300)
    assert done.stderr.count("\n") == 1


def test_a_named_model_may_suit_some_of_the_images_only(tmp_path):
    for i, x in enumerate((DIGITS[0], np.tile(NOISE[0], (3, 3)))):
        Image.fromarray(x).save(tmp_path / f"{i}.png")
    done = run("pack", tmp_path, "-o", tmp_path / "x.smalti", "--model", "mnist")
    assert "model mnist does not suit some of these images: " in " ".join(done.stderr.split())


def test_append_chooses_for_each_image_and_says_what_no_model_suits(tmp_path, monkeypatch):
    monkeypatch.setenv("SMALTI_ENGINE", "numpy")
    path = tmp_path / "x.smalti"
    run("pack", write_idx(tmp_path / "noise-idx3-ubyte", NOISE), "-o", path, "--lossless")
    more = write_idx(tmp_path / "more-idx3-ubyte", BOTH)
    done = run("append", path, more, "--quality", "60", "--json")
    facts = json.loads(done.stdout)
    assert facts["models"] == [{"name": "mnist", "images": 12}]
    assert facts["images_without_model"] == 4
    assert "no lossy model here suits 4 of 16 images; they are kept exactly." in " ".join(done.stderr.split())
    done = run("append", path, more, "--lossless")
    assert done.stderr == ""
    with smalti.open(path) as archive:
        found = archive[:]
        assert (found[:12] == NOISE).all()
        assert (found[24:28] == NOISE[:4]).all()
        assert 30 < psnr(mse(found[12:24], DIGITS)) < 60
        assert (found[28:] == BOTH).all()
    done = run("append", path, more, "--model", "mnist", "--quality", "10")
    assert "model mnist does not suit some of these images" not in done.stderr  # 2 of 16 are looked at
    assert facts["bytes"] < path.stat().st_size


def test_append_takes_the_model_of_the_file_where_it_is_best(tmp_path):
    path = tmp_path / "x.smalti"
    smalti.pack(DIGITS, path, model=DATA / "toy.model", quality=40, packing=smalti.Packing(embed=True))
    before = smalti.load(path).pixels
    added = smalti.append(path, DIGITS, quality=40)
    assert dict(added.models) == {"mnist": 12}
    with smalti.open(path) as archive:  # a file that holds its models still does
        assert all(entry.offset for entry in archive.contents.index.models)
        assert len(archive.contents.index.models) == 2
        assert (archive[:12] == before).all()


def test_figure_chooses_for_each_image(tmp_path):
    source = write_idx(tmp_path / "in-idx3-ubyte", BOTH)
    done = run("figure", source, "-o", tmp_path / "x.png", "--quality", "30", "--images", "16")
    assert done.exit_code == 0, done.stderr
    packed = smalti.pack(BOTH, tmp_path / "x.smalti", quality=30, effort=8)
    assert ": 16 images, " in done.stdout
    assert f"{packed.psnr:.2f} dB" in done.stdout
    assert (packed.models, packed.unsuited) == ({"colour": 4, "mnist": 12}, 0)
    named = run("figure", source, "-o", tmp_path / "y.png", "--quality", "30", "--images", "16", "--model", "mnist")
    assert f"{packed.psnr:.2f} dB" not in named.stdout
    with Image.open(tmp_path / "x.png") as picture, Image.open(tmp_path / "y.png") as other:
        assert picture.size == other.size
        assert picture.tobytes() != other.tobytes()
