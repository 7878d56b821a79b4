"""Targets that are refused, and what is left as it was."""

import os
import re
from pathlib import Path

import pytest
from sources import DIGITS, gray, names_of, write

from smalti.errors import (
    CorruptError,
    OutputExistsError,
    SmaltiError,
    SourceError,
    UsageError,
)
from smalti.exchange.names import portable_name, unsafe_name
from smalti.exchange.sources import open_source, read_images
from smalti.exchange.targets import check_target, write_images
from smalti.types import About, ImageSet

TARGETS = [
    "folder",
    "x.npz",
    "x.npy",
    "x-idx3-ubyte",
    "x-idx3-ubyte.gz",
    "x.idx",
    "x.tar",
    "x.tgz",
    "x.zip",
    "x.parquet",
]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_is_there_is_kept_unless_forced(tmp_path, target):
    pytest.importorskip("pyarrow")
    write(ImageSet(DIGITS), tmp_path / target)
    with pytest.raises(OutputExistsError, match="force=True"):
        check_target(tmp_path / target, gray(), force=False)
    with pytest.raises(OutputExistsError, match="force=True"):
        write(ImageSet(DIGITS[:2]), tmp_path / target)
    assert (read_images(tmp_path / target).pixels == DIGITS).all()
    write(ImageSet(DIGITS[::-1]), tmp_path / target, force=True)
    assert (read_images(tmp_path / target).pixels == DIGITS[::-1]).all()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_whole_or_not_there(tmp_path, target):
    pytest.importorskip("pyarrow")

    def broken():
        yield ImageSet(DIGITS[:3])
        raise SourceError("the source broke")

    with pytest.raises(SourceError, match="the source broke"):
        write_images(broken(), gray(6), tmp_path / target)
    for count in (2, 4):
        with pytest.raises(SourceError, match="announced"):
            write_images([ImageSet(DIGITS[:3])], gray(count), tmp_path / target)
    with pytest.raises(SourceError, match="announced"):
        write_images([ImageSet(DIGITS[:3, :2])], gray(3), tmp_path / target)
    assert not list(tmp_path.iterdir())


def test_names_become_paths_and_gain_png_where_it_is_missing(tmp_path):
    write(ImageSet(DIGITS[:3], ("a/1.png", "a/2.jpg", "3")), tmp_path / "out")
    written = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png"))
    assert written == ["3.png", "a/1.png", "a/2.jpg.png"]


@pytest.mark.parametrize("target", ["folder", "x.tar", "x.zip"])
def test_images_without_names_get_numbers_that_sort(tmp_path, target):
    write(ImageSet(DIGITS), tmp_path / target)
    assert names_of(open_source(tmp_path / target)) == [f"{i:02d}.png" for i in range(20)]


def test_force_adds_to_a_folder_and_leaves_other_files(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    write(ImageSet(DIGITS[:1], ("0.png",), (1,)), tmp_path / "out", force=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "metadata.jsonl", "mine.txt"]


CLIMBING = {
    "../x.png": "%2E%2E/x",
    "/x.png": "%2Fx",
    "//x": "%2F%2Fx",
    "a/../../x.png": "a/%2E%2E/%2E%2E/x",
    "./b.png": "%2E/b",
    "a//b.png": "a/%2Fb",
    "a/": "a%2F",
    "/": "%2F%2F",
    "..": "%2E%2E",
}


@pytest.mark.parametrize(("name", "wanted"), CLIMBING.items())
@pytest.mark.parametrize("target", ["out", "x.tar", "x.zip"])
def test_names_that_climb_out_or_mean_another_are_escaped(tmp_path, name, wanted, target):
    assert unsafe_name(name, strict=False)
    (tmp_path / "deep").mkdir()
    said = write(ImageSet(DIGITS[:2], ("b.png", name), (5, 6)), tmp_path / "deep" / target)
    assert (
        f"1 name is written otherwise, for no file can be called so on every system, or another is: {name!r} as" in said
    )
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]
    back = read_images(tmp_path / "deep" / target)
    assert dict(zip(back.names, back.labels, strict=True)) == {"b.png": 5, f"{wanted}.png": 6}


@pytest.mark.parametrize("name", ["a\0.png", "", "a/" * 100 + "b.png"])
@pytest.mark.parametrize("target", ["out", "x.tar", "x.zip"])
def test_names_that_cannot_be_escaped_are_refused(tmp_path, name, target):
    (tmp_path / "deep").mkdir()
    with pytest.raises(CorruptError, match="no safe path"):
        write(ImageSet(DIGITS[:2], ("b.png", name)), tmp_path / "deep" / target)
    assert [p.name for p in tmp_path.rglob("*")] == ["deep"]


WINDOWS = {
    "a\\b": "a%5Cb",
    "..\\b": "..%5Cb",
    "C:b": "C%3Ab",
    "C:/b": "C%3A/b",
    "con": "%63on",
    "d/NUL.png": "d/%4EUL",
    "com1.x.png": "%63om1.x",
    "LPT¹": "%4CPT¹",
    "aux .png": "%61ux ",
    "a.": "a%2E",
    "a ": "a%20",
    "a./b ": "a%2E/b%20",
    "a?": "a%3F",
    "a\n": "a%0A",
    "12:00.png": "12%3A00",
    ". ": ".%20",
}


@pytest.mark.parametrize(("name", "wanted"), WINDOWS.items())
def test_what_windows_makes_of_a_name_is_escaped_in_archives_everywhere(tmp_path, name, wanted):
    assert unsafe_name(name, strict=True)
    assert not unsafe_name(name, strict=False)
    assert not unsafe_name(portable_name(name), strict=True)
    for target in ("x.tar", "x.zip"):
        said = write(ImageSet(DIGITS[:2], (name, "b.png"), (5, 6)), tmp_path / target)
        assert "1 name is written otherwise" in said
        assert repr(wanted).strip("'") in said
        if name.startswith("."):  # such names are hidden, and not read
            continue
        back = read_images(tmp_path / target)
        assert (back.names, back.labels) == ((f"{wanted}.png", "b.png"), (5, 6))
    assert write(ImageSet(DIGITS[:1], ("%3A.png",)), tmp_path / "y.tar") == ""


@pytest.mark.parametrize("target", ["out", "x.tar", "x.zip"])
@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("a.jpg", "a.jpg.png"), ("a.jpg.png", "a.jpg-2.png")),
        (("a.jpg.png", "a.jpg"), ("a.jpg.png", "a.jpg-2.png")),
        (("a-2", "a.png", "a"), ("a-2.png", "a.png", "a-3.png")),
        (("../a.png", "%2E%2E/a.png"), ("%2E%2E/a.png", "%2E%2E/a-2.png")),
    ],
)
def test_each_image_has_a_file_of_its_own(tmp_path, target, names, files):
    n = len(names)
    assert "written otherwise" in write(ImageSet(DIGITS[:n], names, tuple(range(n))), tmp_path / target)
    back = read_images(tmp_path / target)
    found = {name: (label, image.tobytes()) for name, label, image in zip(*_columns(back), strict=True)}
    assert found == {name: (i, DIGITS[i].tobytes()) for i, name in enumerate(files)}


def _columns(images):
    return images.names, images.labels, images.pixels


@pytest.mark.parametrize("target", ["x.tar", "x.zip"])
def test_names_that_are_escaped_never_meet_others(tmp_path, target):
    said = write(ImageSet(DIGITS[:2], ("a%3Ab.png", "a:b.png")), tmp_path / target)
    assert "'a:b.png' as 'a%3Ab-2.png'" in said


@pytest.mark.parametrize("name", ["console.png", "a.con", "com10", "d.e/nul_.png", "a b.png", "ü", "..a", "a..b"])
def test_names_that_only_look_unsafe_are_kept(name):
    assert not unsafe_name(name, strict=True)


def test_a_folder_in_the_way_is_found_before_anything_is_moved(tmp_path):
    (tmp_path / "out" / "1.png").mkdir(parents=True)
    (tmp_path / "out" / "0.png").write_text("mine")
    with pytest.raises(OutputExistsError, match="should go"):
        write(ImageSet(DIGITS[:2], ("0.png", "1.png")), tmp_path / "out", force=True)
    assert (tmp_path / "out" / "0.png").read_text() == "mine"


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
@pytest.mark.parametrize("name", ["sub/1.png", "sub/deep/1.png"])
def test_a_link_within_a_folder_is_not_written_through(tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputExistsError, match="by a link"):
        write(ImageSet(DIGITS[:2], ("0.png", name)), tmp_path / "out", force=True)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["sub"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_the_target_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    write(ImageSet(DIGITS[:2], ("a/0.png", "1.png")), tmp_path / "out")
    assert read_images(tmp_path / "real").names == ("1.png", "a/0.png")


OTHERS = ["x.png", "x.smalti", "x.GZ", "x.jpg", "x.tar.xz", "x.tar.bz2", "x.h5", "x.csv", "x.jsonl", "x.7z", "x.tiff"]


@pytest.mark.parametrize("target", [*OTHERS, "x-labels-idx1-ubyte", "x-labels-idx1-ubyte.gz"])
def test_kinds_of_files_that_are_not_written_are_refused(tmp_path, target):
    with pytest.raises(UsageError, match="give a folder"):
        write(ImageSet(DIGITS), tmp_path / target)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["-", "memory://out", "s3://bucket/x.npz", "https://example.org/x"])
def test_targets_that_are_no_local_files_are_refused(tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="give a folder"):
        write(ImageSet(DIGITS), Path(target))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["v1.2", "run.2024", "scans.png.d", "x.train", "..a"])
def test_folders_may_have_dots_in_their_names(tmp_path, target):
    write(ImageSet(DIGITS[:1]), tmp_path / target)
    assert (tmp_path / target / "0.png").is_file()


def test_what_a_kind_of_file_cannot_hold_is_refused_before_any_work(tmp_path):
    two = About(2, frozenset({(6, 5, 1), (6, 6, 1)}), named=False, labelled=False)
    for name in ("x-idx3-ubyte", "x.npz", "x.npy"):
        with pytest.raises(UsageError, match="give a folder, tar, zip or parquet"):
            check_target(tmp_path / name, two, force=False)
    colour = About(1, frozenset({(2, 2, 3)}), named=False, labelled=False)
    with pytest.raises(UsageError, match="gray"):
        check_target(tmp_path / "x-idx3-ubyte", colour, force=False)
    (tmp_path / "x-labels-idx1-ubyte").write_text("mine")
    labelled = About(1, frozenset({(6, 5, 1)}), named=False, labelled=True)
    with pytest.raises(OutputExistsError, match="labels-idx1"):
        check_target(tmp_path / "x-images-idx3-ubyte", labelled, force=False)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputExistsError, match="is a file"):
        check_target(tmp_path / "file", gray(), force=False)


@pytest.mark.parametrize(
    ("target", "named", "labelled", "note"),
    [
        ("x.idx", True, True, "names and labels are left out: idx files hold pixels alone"),
        ("x.npy", False, True, "labels are left out: npy files hold pixels alone"),
        ("x-images-idx3-ubyte", True, False, "names are left out: idx files hold pixels alone"),
        ("x.npy", False, False, ""),
        ("x.npz", True, True, ""),
        ("folder", True, True, ""),
    ],
)
def test_what_is_left_out_is_said(tmp_path, target, named, labelled, note):
    images = ImageSet(DIGITS[:1], ("a",) if named else None, (3,) if labelled else None)
    assert write(images, tmp_path / target) == note


@pytest.mark.parametrize(
    ("label", "note"), [(255, "labels are in x-labels-idx1-ubyte"), (256, "labels are left out: not all are 0 to 255")]
)
def test_what_became_of_the_labels_of_idx_images_is_said(tmp_path, label, note):
    said = write(ImageSet(DIGITS[:1], ("a",), (label,)), tmp_path / "x-images-idx3-ubyte")
    assert said.startswith(f"names are left out: idx files hold pixels alone; {note}")


def test_every_refusal_is_one_of_our_errors(tmp_path):
    for target in (tmp_path / "missing" / "x.npz", tmp_path / "missing" / "x.zip", tmp_path / "zero\0"):
        with pytest.raises(SmaltiError, match="cannot write"):
            write(ImageSet(DIGITS), target)


@pytest.mark.parametrize(("shapes", "words"), [([(3, 4, 3)], r"\.npz"), ([(3, 4, 3), (3, 5, 1)], r"\.parquet")])
def test_idx_names_targets_that_can_hold_what_it_cannot(tmp_path, shapes, words):
    about = About(len(shapes), frozenset(shapes), named=False, labelled=False)
    with pytest.raises(UsageError, match=f"gray images only; unpack to a folder, .*{words}") as refused:
        check_target(tmp_path / "x-idx3-ubyte", about, force=False)
    for name in re.findall(r"\.[a-z]+", str(refused.value).partition("unpack to ")[2]):
        check_target(tmp_path / f"x{name}", about, force=False)
