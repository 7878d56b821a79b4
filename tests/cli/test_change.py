"""The commands append, remove, replace and compact, as they are typed."""

import json

import numpy as np
import pytest
from helpers import fails, run
from PIL import Image

import smalti
from smalti.cli.console import size
from smalti.exchange.formats.image_files import png_bytes

rng = np.random.default_rng(8)
SCANS = rng.integers(0, 256, (9, 6, 5), dtype=np.uint8)


@pytest.fixture
def scans(tmp_path):
    """Six images in two folders, which are their labels."""
    folder = tmp_path / "scans"
    for i in range(6):
        _save(folder / ("letters" if i < 4 else "digits") / f"{i}.png", SCANS[i])
    target = tmp_path / "scans.smalti"
    done = run("pack", folder, "-o", target, "--lossless")
    assert done.returncode == 0, done.stderr
    assert names(target) == ("digits/4.png", "digits/5.png", *(f"letters/{i}.png" for i in range(4)))
    return target


def _save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(image))
    return path


def names(path):
    with smalti.open(path) as archive:
        return archive.names


def image(path, name):
    with smalti.open(path) as archive:
        return archive[archive.find(name)]


def done(*arguments):
    found = run(*arguments)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_a_file_grows_shrinks_and_is_written_anew(tmp_path, scans):
    _save(tmp_path / "more" / "letters" / "6.png", SCANS[6])
    assert "1 more image (6x5 gray)" in done("append", scans, tmp_path / "more", "--lossless")
    assert (image(scans, "letters/6.png") == SCANS[6]).all()

    shown = done("remove", scans, "letters/1.png", "0")
    assert f"5 images, {size(scans.stat().st_size)}; smalti compact makes it smaller" in shown
    left = ("digits/5.png", "letters/0.png", "letters/2.png", "letters/3.png", "letters/6.png")
    assert names(scans) == left

    better = _save(tmp_path / "better.png", SCANS[7])
    assert done("replace", scans, "letters/2.png", better, "--lossless") == f"{scans}: {size(scans.stat().st_size)}\n"
    assert names(scans) == left
    assert (image(scans, "letters/2.png") == SCANS[7]).all()

    before, told = scans.stat().st_size, json.loads(done("info", scans, "--json"))["compact_saves"]
    assert told > 0
    assert "5 images" in done("compact", scans)
    assert scans.stat().st_size <= before - 0.7 * told
    assert names(scans) == left
    assert (image(scans, "letters/2.png") == SCANS[7]).all()
    assert SCANS[1].tobytes() not in scans.read_bytes()
    assert json.loads(done("info", scans, "--json"))["compact_saves"] < told
    assert done("verify", scans, "--deep")


def test_a_number_that_is_a_name_is_a_name(tmp_path):
    images = smalti.ImageSet(SCANS[:4], ("3", "2", "1", "-1"))
    smalti.pack(images, tmp_path / "x.smalti", lossless=True)
    done("remove", tmp_path / "x.smalti", "3", "1")
    assert names(tmp_path / "x.smalti") == ("2", "-1")
    done("remove", tmp_path / "x.smalti", "--", "-1")
    assert names(tmp_path / "x.smalti") == ("2",)


@pytest.mark.parametrize("command", [("remove", "-1"), ("remove", "0", "-9"), ("remove", "--2"), ("replace", "-1")])
def test_a_number_below_0_changes_nothing(tmp_path, scans, command):
    before, new = scans.read_bytes(), [_save(tmp_path / "7.png", SCANS[7])] * (command[0] == "replace")
    fails(2, command[0], scans, "--", *command[1:], *new, words="is no number of an image")
    assert scans.read_bytes() == before


def test_a_replacement_is_as_it_would_be_if_it_was_packed(tmp_path):
    y, x = np.mgrid[:60, :40]
    alpha = np.clip(400 - ((x - 20) ** 2 + (y - 30) ** 2) / 2, 0, 255)
    soft = np.stack([3 * y, 4 * x, 90 + x + y, alpha], 2).astype(np.uint8)
    new = _save(tmp_path / "new.png", soft)
    for options in (
        ("--lossless", "--hidden-colours", "drop"),
        ("--lossless", "--resize", "30"),
        ("--quality", "60", "--alpha-quality", "20"),
    ):
        smalti.pack(SCANS[:2], tmp_path / "x.smalti", lossless=True, force=True)
        done("replace", tmp_path / "x.smalti", "1", new, *options)
        done("pack", new, "-o", tmp_path / "y.smalti", *options, "--force")
        with smalti.open(tmp_path / "x.smalti") as one, smalti.open(tmp_path / "y.smalti") as other:
            assert (one[1] == other[0]).all()
            assert one[1].shape != soft.shape or (one[1] != soft).any()


def test_a_replacement_is_of_the_quality_that_is_asked(tmp_path, digits):
    smalti.pack(digits[:3], tmp_path / "x.smalti", lossless=True)
    Image.fromarray(digits[5]).save(tmp_path / "5.png")
    done("replace", tmp_path / "x.smalti", "1", tmp_path / "5.png", "--max-error", "6")
    with smalti.open(tmp_path / "x.smalti") as archive:
        off = np.abs(archive[1].astype(int) - digits[5]).max()
        assert 0 < off <= 6
        assert (archive[0] == digits[0]).all()


def test_what_cannot_be_changed_is_one_line_and_the_file_stays(tmp_path, scans):
    better, before = _save(tmp_path / "better.png", SCANS[7]), scans.read_bytes()
    two = _save(tmp_path / "two" / "1.png", SCANS[7]).parent
    _save(two / "2.png", SCANS[8])
    fails(2, "remove", scans, "6", words="no image 6")
    fails(2, "remove", scans, "-1", words="No such option")
    fails(2, "remove", scans, "letters/9.png", words="no image named 'letters/9.png'")
    fails(2, "remove", scans, "0", "digits/4.png", words="given twice")
    fails(2, "remove", "https://example.org/x.smalti", "0", words="is a URL")
    fails(1, "remove", tmp_path / "none.smalti", "0", words="No such file")
    fails(2, "replace", scans, "6", better, words="no image 6")
    fails(1, "replace", scans, "0", tmp_path / "none.png", words="No such file")
    fails(1, "replace", scans, "0", two, words="more images were given than the 1")
    fails(2, "replace", scans, "0", better, "--lossless", "--quality", "9", words="quality")
    fails(1, "compact", tmp_path / "none.smalti", words="No such file")
    fails(1, "compact", better, words="not a smalti file")
    fails(2, "compact", "s3://bucket/x.smalti", words="is a URL")
    fails(1, "append", scans, tmp_path / "none.png", words="No such file")
    assert scans.read_bytes() == before


@pytest.mark.parametrize("command", [("remove", 0), ("compact",), ("replace", 0, "new"), ("append", "new")])
def test_a_file_that_another_process_writes_is_refused(tmp_path, scans, command):
    pytest.importorskip("fcntl", reason="needs the locks of Unix")
    from smalti.container.growing.append import grow

    words = [
        _save(tmp_path / "letters" / "new.png", SCANS[8]).parents[1] / "letters" if w == "new" else w for w in command
    ]
    with smalti.open(scans) as archive, grow(scans, archive.contents.reader):
        fails(1, words[0], scans, *words[1:], words="another process")
