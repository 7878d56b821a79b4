"""The report at the end of pack and append: a few lines that fit a terminal, or the same facts as JSON."""

import itertools
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import fails, run, write_idx
from PIL import Image

import smalti
from smalti.archive.writer import Packed
from smalti.cli.summary import columns, lines_of, shortened
from smalti.exchange.formats.image_files import png_bytes
from smalti.exchange.sources import open_source
from smalti.rate.metrics import mse, psnr
from smalti.types import PassedOver, Reason

REASONS = [
    Reason("file that is no image", "files that are no images"),
    Reason("hidden file", "hidden files"),
    Reason("image of a format that smalti does not read", "images of formats that smalti does not read"),
    Reason("link to a folder that is read anyway", "links to folders that are read anyway"),
]
rng = np.random.default_rng(3)


def tally(passed: int, converted: int, name: str) -> PassedOver:
    report = PassedOver()
    for i in range(passed):
        report.note(REASONS[i], name, 10**i)
    for i in range(converted):
        report.conversions.note(Reason("CMYK image to RGB", f"images of kind {i} to RGB"), name, 7**i)
    return report


@pytest.fixture
def icons(tmp_path):
    """A folder of icons of several sizes and colours, with labels, beside other files."""
    folder = tmp_path / "icons"
    folder.mkdir()
    for i, (side, channels) in enumerate([(16, 4), (16, 4), (16, 4), (16, 3), (24, 4), (32, 1), (20, 3), (21, 4)]):
        shape = (side, side) if channels == 1 else (side, side, channels)
        (folder / f"{i}.png").write_bytes(png_bytes(rng.integers(0, 256, shape, np.uint8)))
    for name in ("notes.txt", "more.txt", ".a.png"):
        (folder / name).write_text("hello")
    lines = [json.dumps({"file_name": f"{i}.png", "label": i % 3}) for i in range(8)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_a_folder_of_icons_is_plain_to_read(tmp_path, icons):
    done = run("pack", icons, "-o", "icons.smalti", "--lossless", cwd=tmp_path, columns=80)
    size = (tmp_path / "icons.smalti").stat().st_size
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "icons.smalti: 8 images (16x16 RGBA, 16x16 RGB, 20x20 RGB, 3 more sizes)",
        "names: kept; labels: 3 different, from metadata.jsonl",
        "passed over: 2 files that are no images (more.txt, ...), 1 hidden file (.a.png)",
        "model: none; every image is kept exactly, without a model",
        f"{size / 1000:.3g} kB, {size / 8:,.2f} bytes an image, exact",
    ]


def test_json_gives_the_same_facts_and_nothing_else_on_stdout(tmp_path, icons):
    done = run("pack", icons, "-o", tmp_path / "x.smalti", "--lossless", "--json")
    facts = json.loads(done.stdout)
    assert done.stderr == ""
    assert (facts["images"], facts["named"]) == (8, True)
    assert facts["sizes"][0] == {"size": "16x16 RGBA", "images": 3}
    assert sum(row["images"] for row in facts["sizes"]) == 8
    assert facts["labels"] == {"from": "metadata.jsonl", "different": 3}
    assert [(row["count"], row["example"]) for row in facts["passed_over"]] == [(1, ".a.png"), (2, "more.txt")]
    assert (facts["models"], facts["images_without_model"]) == ([], 8)
    assert (facts["exact"], facts["psnr"]) == (True, None)
    assert facts["bytes"] == (tmp_path / "x.smalti").stat().st_size == facts["bytes_an_image"] * 8
    fails(2, "pack", icons, "-o", "-", "--json", words="not both")


def test_the_report_names_the_least_psnr_of_an_image_where_something_was_lost(tmp_path, digits):
    x = np.stack([digits[0], digits[1], np.full_like(digits[0], 128)])
    packed = smalti.pack(x, tmp_path / "x.smalti", quality=20, model="mnist")
    back = smalti.load(tmp_path / "x.smalti")
    errors = ((x / 255.0 - np.asarray(back) / 255.0) ** 2).mean((1, 2))
    assert packed.least_psnr == pytest.approx(-10 * np.log10(errors.max()))
    assert f"{packed.psnr:.2f} dB (least {packed.least_psnr:.2f})" in lines_of("x", packed, 80)[-1]
    exact = smalti.pack(x, tmp_path / "x.smalti", lossless=True, force=True)
    assert exact.least_psnr == np.inf
    assert "least" not in " ".join(lines_of("x", exact, 80))


@pytest.mark.parametrize(
    ("coded", "without", "copies", "words"),
    [
        ({}, 9, 0, "model: none; every image is kept exactly, without a model"),
        ({}, 7, 2, "model: none (7 images), copies (2)"),
        ({}, 1, 2, "model: none (1 image), copies (2)"),
        ({"colour": 9}, 0, 0, "model: colour"),
        ({"colour": 5}, 0, 4, "model: colour (5 images), copies (4)"),
        ({"colour": 1}, 7, 1, "model: colour (1 image), none (7), copies (1)"),
        ({"mnist": 1300, "colour": 2}, 0, 7, "models: mnist (1,300 images), colour (2), copies (7)"),
    ],
)
def test_the_counts_of_the_models_are_those_of_all_images(coded, without, copies, words):
    n = sum(coded.values()) + without + copies
    shapes = (((8, 8, 3), n),)
    report = Packed(n, 999, PassedOver(), shapes, models=coded, psnr=math.inf, copies=copies)
    assert lines_of("x.smalti", report, 80)[2] == words


def test_copies_are_said(tmp_path, icons):
    for i in range(3):
        (icons / f"copy-{i}.png").write_bytes((icons / "5.png").read_bytes())
    (icons / "metadata.jsonl").unlink()
    facts = json.loads(run("pack", icons, "-o", tmp_path / "x.smalti", "--lossless", "--json").stdout)
    assert facts["copies"] == 3
    assert sum(row["images"] for row in facts["models"]) + facts["images_without_model"] + 3 == facts["images"] == 11
    assert "model: none (8 images), copies (3)" in run(
        "pack", icons, "-o", tmp_path / "x.smalti", "--lossless", "--force"
    ).stdout.replace("\n  ", " ")


def test_append_says_what_was_added(tmp_path, icons):
    target = tmp_path / "x.smalti"
    run("pack", icons, "-o", target, "--lossless", "--no-names")
    before = target.stat().st_size
    facts = json.loads(run("append", target, icons, "--no-names", "--lossless", "--json").stdout)
    assert (facts["images"], facts["bytes_before"], facts["bytes"]) == (8, before, target.stat().st_size)
    assert facts["bytes_an_image"] == (target.stat().st_size - before) / 8
    lines = run("append", target, icons, "--no-names", "--lossless", columns=80).stdout.splitlines()
    assert "8 more images" in lines[0]
    assert " in all; " in lines[-1]
    assert " bytes an image more, exact" in lines[-1]


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_a_file_on_standard_output_leaves_the_report_to_stderr(tmp_path, digits):
    done = run("pack", write_idx(tmp_path / "x-idx3-ubyte", digits), "-o", tmp_path / "x.smalti", "--no-names")
    assert done.stderr == ""
    command = f"'{sys.executable}' -m smalti pack '{tmp_path}/x-idx3-ubyte' -o - > '{tmp_path}/y.smalti'"
    shell = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert shell.stderr.startswith("standard output: 20 images (28x28 gray)\n")
    assert (tmp_path / "y.smalti").read_bytes() == (tmp_path / "x.smalti").read_bytes()


@pytest.mark.parametrize("unordered", [False, True])
@pytest.mark.parametrize("target", [{"quality": 50}, {"max_error": 3}, {"min_psnr": 30}, {"max_error": 0}])
def test_the_psnr_is_that_of_what_comes_back(tmp_path, digits, lossless, target, unordered):
    x = np.repeat(digits, 3, 0)
    packing = smalti.Packing(block_images=7, unordered=unordered)
    done = smalti.pack(x, tmp_path / "x.smalti", model=lossless, effort=1, packing=packing, **target)
    x_hat = smalti.load(tmp_path / "x.smalti", model=lossless).pixels
    same_order = [np.sort(some.reshape(len(some), -1).sum(1)) for some in (x, x_hat)]
    if unordered:
        assert done.psnr == math.inf or done.psnr > 0
        assert target != {"max_error": 0} or (same_order[0] == same_order[1]).all()
    else:
        assert done.psnr == pytest.approx(psnr(mse(x, x_hat)), abs=1e-4)
    assert (done.psnr == math.inf) == (target == {"max_error": 0})
    assert done.shapes == (((28, 28, 1), 60),)
    assert sum(done.models.values()) + done.without_model + done.copies == 60


def test_a_mean_psnr_is_reported_as_asked(tmp_path, digits):
    done = smalti.pack(digits, tmp_path / "x.smalti", psnr=30, effort=1)
    assert done.psnr == pytest.approx(psnr(mse(digits, smalti.load(tmp_path / "x.smalti").pixels)), abs=1e-4)
    assert done.psnr >= 30
    assert done.models == {"mnist": 20}


def test_images_that_no_model_codes_are_not_said_to_be_coded_by_one(tmp_path, digits):
    mixed = [*digits[:5], *rng.integers(0, 256, (3, 28, 28), np.uint8)]
    done = smalti.pack(mixed, tmp_path / "x.smalti", max_error=0)
    assert (done.models, done.without_model) == ({"mnist": 5}, 3)
    noise = smalti.pack(rng.integers(0, 256, (4, 9, 9), np.uint8), tmp_path / "y.smalti", max_error=0)
    assert (noise.models, noise.without_model, noise.unsuited, noise.psnr) == ({}, 4, 0, math.inf)
    single = smalti.pack(digits[:1], tmp_path / "z.smalti", quality=50)
    assert (single.images, single.models, single.shapes) == (1, {"mnist": 1}, (((28, 28, 1), 1),))


def test_labels_are_said_to_come_from_where_they_are(tmp_path, icons, digits):
    run("pack", icons, "-o", tmp_path / "x.smalti", "--lossless")
    for target, origin in (
        ("y.tar", ".cls files"),
        ("y.zip", "metadata.jsonl"),
        ("y.parquet", "the column label"),
        ("y", "metadata.jsonl"),
    ):
        assert run("unpack", tmp_path / "x.smalti", "-o", tmp_path / target).returncode == 0
        assert open_source(tmp_path / target).labels_from == origin
        assert open_source(tmp_path / target, labelled=False).labels_from == ""
    both = open_source(tmp_path / "y.tar", tmp_path / "y.zip")
    assert both.labels_from == ".cls files, metadata.jsonl"
    np.savez(tmp_path / "y.npz", x_train=digits, y_train=np.arange(20))
    assert open_source(tmp_path / "y.npz").labels_from == "the array y_train"
    np.save(tmp_path / "labels.npy", np.arange(20))
    source = write_idx(tmp_path / "x-idx3-ubyte", digits)
    assert open_source(source, labels=tmp_path / "labels.npy").labels_from == "labels.npy"
    assert open_source(source).labels_from == ""
    for given, origin, n in (
        ({"labels": [1, 2] * 10}, "the argument labels", 2),
        ({"labels": tmp_path / "labels.npy"}, "labels.npy", 20),
        ({}, "", 0),
    ):
        done = smalti.pack(digits, tmp_path / "z.smalti", force=True, **given)
        assert (done.labels_from, done.labels) == (origin, n)
    done = smalti.pack(smalti.ImageSet(digits, labels=np.arange(20)), tmp_path / "z.smalti", force=True)
    assert done.labels_from == "the ImageSet"


@pytest.mark.parametrize("name", ["a.png", "d/" * 60 + "a\n.png", "絵" * 50], ids=["short", "long", "wide"])
@pytest.mark.parametrize("models", [0, 1, 2, 9])
def test_no_report_has_a_sixth_line_or_a_long_one(name, models):
    sizes = tuple(((1000 - i, 1000, 4), 10000 - i) for i in range(40))
    n = sum(count for _, count in sizes)
    coded = {f"{name[:60]}-{i}": n // 10 for i in range(models)}
    for width, before, passed, converted in itertools.product((80, 100, 200), (0, 12345), range(5), range(4)):
        over = tally(passed, converted, name)
        report = Packed(n, 987654321, over, sizes, True, 9, name, coded, 0, 28.314, before)
        lines = lines_of(name, report, width)
        assert len(lines) <= 5
        assert max(map(columns, lines)) <= width
        assert not any("\n" in line for line in lines)
        text = " ".join(lines)
        assert f"{n:,}" in lines[0]
        assert "28.31 dB" in text
        assert ("passed over" in text, "converted" in text) == (passed > 0, converted > 0)
        counts = {"passed over": sum(10**i for i in range(passed)), "converted": sum(7**i for i in range(converted))}
        for what, count in counts.items():
            said = [line for line in re.split(r"\n(?! )", "\n".join(lines)) if line.startswith(what)]
            found = re.findall(r"(?:: |, |\n  )([\d,]+) ", said[0].replace(",\n  ", ", ")) if said else []
            assert sum(int(number.replace(",", "")) for number in found) == count


def test_a_text_is_cut_where_it_matters_least():
    assert shortened("a.png", 5) == "a.png"
    assert columns(shortened("絵" * 9, 10)) <= 10
    assert shortened("a/b/c.smalti", 11) == "...c.smalti"


@pytest.mark.parametrize("what", ["8000x8000.png", "8000x8000.npy"])
def test_an_image_that_is_too_large_is_refused_by_the_limit(tmp_path, what):
    x = np.zeros((8000, 8000), np.uint8)
    if what.endswith(".png"):
        Image.fromarray(x).save(tmp_path / what)
    else:
        np.save(tmp_path / what, x[None])
    fails(1, "pack", tmp_path / what, "-o", tmp_path / "x.smalti", words="8000x8000")
    fails(1, "pack", tmp_path / what, "-o", tmp_path / "x.smalti", words="16777216 samples")
