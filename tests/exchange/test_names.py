"""Names of images: as they are in sources, and where a target cannot hold them."""

import os
import subprocess

import numpy as np
import pytest
from helpers import fails, run
from sources import DIGITS, PNG, names_of, tar_of, write, zip_of

import smalti
from smalti.errors import CorruptError, OutputError, SourceError, UsageError
from smalti.exchange.sources import open_source, read_images
from smalti.types import ImageSet


@pytest.mark.parametrize("kind", ["x.tar", "x.zip"])
def test_archives_of_a_folder_called_dot_are_read_as_the_folder(tmp_path, kind):
    lines = b'{"file_name": "a.png", "label": 3}\n{"file_name": "./d/b.png", "label": 4}\n'
    members = [("./a.png", PNG), ("./a.cls", b"3"), ("././d/b.png", PNG), ("./d/b.cls", b"4")]
    archive = {"x.tar": tar_of, "x.zip": zip_of}[kind]
    (tmp_path / kind).write_bytes(archive([*members, ("./metadata.jsonl", lines)]))
    read = read_images(tmp_path / kind)
    assert (read.names, read.labels) == (("a.png", "d/b.png"), (3, 4))


def test_what_tar_makes_of_a_folder_is_read_as_the_folder(tmp_path):
    write(ImageSet(DIGITS[:3], ("a.png", "b.png", "c/d.png"), None), tmp_path / "d")
    subprocess.run(["tar", "cf", tmp_path / "dot.tar", "-C", tmp_path / "d", "."], check=True)
    assert sorted(read_images(tmp_path / "dot.tar").names) == ["a.png", "b.png", "c/d.png"]


@pytest.mark.parametrize("kind", ["metadata.jsonl", "metadata.csv"])
def test_metadata_may_name_files_from_dot(tmp_path, kind):
    text = {"metadata.jsonl": '{"file_name": "./a.png", "label": 3}', "metadata.csv": "file_name,label\n./a.png,3"}
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / kind).write_text(text[kind])
    assert read_images(tmp_path).labels == (3,)


@pytest.mark.parametrize("name", ["a:b.png", "a?.png", "C:a.png", "d/nul.png", "a|b .png"])
def test_names_that_only_windows_has_no_files_of_are_read(tmp_path, name):
    (tmp_path / "x.zip").write_bytes(zip_of([(name, PNG)]))
    (tmp_path / "x.tar").write_bytes(tar_of([(name, PNG)]))
    for path in (tmp_path / "x.zip", tmp_path / "x.tar"):
        assert open_source(path).named
        assert read_images(path).names == (name,)


def test_names_that_are_made_for_images_are_of_one_image_each(tmp_path):
    for folder in ("aa", "bb"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "x.npy", DIGITS[:2])
    np.savez(tmp_path / "x.npz", a=DIGITS[:1], b=DIGITS[:1])
    (tmp_path / "t.png").write_bytes(PNG)
    paths = ["aa/x.npy", "bb/x.npy", "x.npz#a", "x.npz#b", "t.png"]
    expected = ["x-00000.png", "x-00001.png", "x-2-00000.png", "x-2-00001.png", "x-3-00000.png", "x-4-00000.png"]
    assert names_of(open_source(*(f"{tmp_path}/{path}" for path in paths))) == [*expected, "t.png"]


def test_names_that_are_given_twice_are_wrong_usage(tmp_path):
    """Whatever files hold: what is wrong in them is no wrong usage."""
    for folder in ("d", "e"):
        write(ImageSet(DIGITS[:2], ("a.png", "b.png")), tmp_path / folder)
    one, other = tmp_path / "d" / "a.png", tmp_path / "e" / "a.png"
    target = tmp_path / "x.smalti"
    for pack in (smalti.pack, lambda x, path, **how: smalti.append(path, x, **how)):
        with pytest.raises(UsageError, match="the name 'a' is given to two images"):
            pack(DIGITS[:3], target, names=["a", "b", "a"], lossless=True)
        with pytest.raises(UsageError, match=r"would have one name, a\.png; pack their common folder"):
            pack([one, other], target, lossless=True)
        with pytest.raises(SourceError, match=r"two images are named 'a\.png'"):
            pack([tmp_path / "d", tmp_path / "e"], target, lossless=True)
        if pack is smalti.pack:
            assert not target.exists()
            pack(DIGITS[:2], target, names=["x", "y"], lossless=True)
    fails(2, "pack", one, other, "-o", tmp_path / "y.smalti", words="would have one name")
    fails(1, "pack", tmp_path / "d", tmp_path / "e", "-o", tmp_path / "y.smalti", words="two images are named")
    assert run("pack", one, other, "--no-names", "-o", tmp_path / "y.smalti").returncode == 0
    assert run("pack", tmp_path / "d", "-o", tmp_path / "z.smalti").returncode == 0
    fails(1, "append", tmp_path / "z.smalti", other, words="two images are named 'a.png'")
    smalti.replace(tmp_path / "z.smalti", [1, 0], [one, other], lossless=True)  # which keep the names that are there
    with smalti.open(tmp_path / "z.smalti") as archive:
        assert archive.names == ("a.png", "b.png")


LONG, DEEP = "x" * 300, "a/" * 100 + "b.png"


@pytest.mark.parametrize(
    ("target", "names", "error", "other"),
    [
        ("x.tar", (DEEP, "c.png"), CorruptError, "x.parquet"),
        ("x.zip", (DEEP, "c.png"), CorruptError, "x.parquet"),
        ("out", (DEEP, "c.png"), CorruptError, "x.parquet"),
        ("out", ("a.png", "a.png/b.png"), OutputError, "x.parquet"),
        ("out", ("a.png/b.png", "a.png"), OutputError, "x.npz"),
        ("out", (LONG, "a.png"), OutputError, "x.parquet"),
        ("out", (f"{LONG}/a.png", "a.png"), OutputError, "x.npz"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="names have other limits there")
def test_where_a_name_cannot_be_a_file_the_message_says_what_can_hold_it(tmp_path, target, names, error, other):
    pytest.importorskip("pyarrow")
    images = ImageSet(DIGITS[:2], names)
    with pytest.raises(error, match=f"unpack to .*{other.removeprefix('x.')}"):
        write(images, tmp_path / target)
    assert not list(tmp_path.iterdir())
    write(images, tmp_path / other)
    assert read_images(tmp_path / other).names == names


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.png", "b/c.png", "b/c.jpg", "b/c.PNG", "d.png.png"], ""),
        ([DEEP, "b.png"], "no file of the name 'a/a/a/"),
        (["b.png", DEEP, f"c/{DEEP}"], "no files of 2 names, such as 'a/a/a/"),
        (["../a.png", "b.png", "/a.png", "x//y", "z/../y"], ""),  # written otherwise
        (["a", "a.png"], ""),  # one of them with a number
        (["a.jpg.png", "a.jpg"], ""),
        (["a.png", "a.png.png"], ""),
        (["12:00.png"], ""),  # likewise, where that is needed
    ],
)
@pytest.mark.parametrize("target", ["out", "out.tar", "out.zip"])
def test_names_of_which_no_files_can_be_made_are_said_when_they_are_packed(tmp_path, names, words, target):
    x = np.zeros((len(names), 3, 4), np.uint8)
    packed = smalti.pack(smalti.ImageSet(x, tuple(names)), tmp_path / "x.smalti", lossless=True)
    notes = packed.passed_over.total().notes
    assert len(notes) == bool(words)
    assert all(words in note for note in notes)
    if words:
        with pytest.raises((CorruptError, OutputError)):
            smalti.unpack(tmp_path / "x.smalti", tmp_path / target)
        smalti.unpack(tmp_path / "x.smalti", tmp_path / "x.npz")
    else:
        smalti.unpack(tmp_path / "x.smalti", tmp_path / target)
