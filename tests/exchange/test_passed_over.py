"""What of a folder or an archive is taken for images, alike in all of them, and what is passed over and said."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import DIGITS, PNG, image_file, names_of, tar_of, zip_of

import smalti
from smalti.errors import SourceError, UsageError
from smalti.exchange.recognise import starts_as_image
from smalti.exchange.sources import open_source, read_images
from smalti.types import PassedOver, Reason

KINDS = ["folder", "x.zip", "x.tar", "x.tar.gz"]


def packed(folder: Path, files: dict[str, bytes], kind: str) -> Path:
    """The files as a folder or an archive of that kind."""
    if kind == "folder":
        for name, data in files.items():
            path = folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder / kind
    data = (zip_of if "zip" in kind else tar_of)([*files.items()])
    if kind.endswith(".gz"):
        import gzip

        data = gzip.compress(data)
    (folder / kind).write_bytes(data)
    return folder / kind


IMAGES = {
    "a.jfif": ("L", "JPEG"),
    "b.jpe": ("L", "JPEG"),
    "c.pbm": ("1", "PPM"),
    "d.tga": ("RGBA", "TGA"),
    "e.dib": ("RGB", "DIB"),
    "f.apng": ("L", "PNG"),
    "g.j2k": ("L", "JPEG2000"),
    "h.JPG": ("L", "JPEG"),
    "i": ("RGB", "PNG"),
    "j.1": ("L", "JPEG"),
    "k.jpg_large": ("L", "JPEG"),
    "l": ("L", "GIF"),
    "m": ("RGB", "BMP"),
    "n": ("L", "TIFF"),
    "o": ("RGB", "WEBP"),
    "p": ("RGB", "AVIF"),
    "q": ("L", "JPEG2000"),
    "r": ("L", "PPM"),
    "s": ("RGBA", "ICO"),
    "d.ir/t": ("L", "PNG"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_pillow_opens_are_taken_whatever_their_names(tmp_path, kind):
    files = {name: image_file(mode, (16, 16), saved) for name, (mode, saved) in IMAGES.items()}
    source = open_source(packed(tmp_path, files, kind))
    assert sorted(names_of(source)) == sorted(files)
    assert str(source.passed_over) == ""


OTHERS = {
    "a.png": PNG,
    ".b.png": PNG,
    ".ipynb_checkpoints/a-checkpoint.png": PNG,
    "__MACOSX/._a.png": b"\0\5\x16\7" + bytes(60),
    "d/._a.png": b"\0\5\x16\7" + bytes(60),
    "d/Thumbs.db": b"\xd0\xcf\x11\xe0",
    "notes.txt": b"P1 is the first of our problems",
    "README": b"BM is no bitmap",
    "empty": b"",
    "f.heic": b"\0\0\0\x18ftypheic",
    "g.svg": b"<svg/>",
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_image_or_hidden_is_passed_over_alike_and_counted(tmp_path, kind):
    source = open_source(packed(tmp_path, OTHERS, kind))
    for _ in range(2):  # taken twice, counted once
        assert names_of(source) == ["a.png"]
        counts = {reason.one: n for reason, n in source.passed_over.total().counts.items()}
        hidden = counts.pop("hidden file") + counts.pop("hidden folder", 0)
        assert counts == {"file that is no image": 3, "image of a format that smalti does not read": 2}
        assert hidden == 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_without_images_says_what_was_passed_over(tmp_path, kind):
    path = packed(tmp_path, {"f.heic": b"x", ".a.png": PNG}, kind)
    with pytest.raises(SourceError, match=r"holds no images.*passed over: .*does not read \(f\.heic\)"):
        open_source(path)


def test_what_was_passed_over_is_returned_by_pack_and_told_of_all_sources(tmp_path):
    one = packed(tmp_path, OTHERS, "folder")
    two = packed(tmp_path, {"b.png" if name == "a.png" else name: data for name, data in OTHERS.items()}, "x.tar")
    done = smalti.pack([one, two], tmp_path / "x.smalti")
    assert done.images == 2
    assert "6 files that are no images" in str(done.passed_over)
    assert "4 images of formats that smalti does not read" in str(done.passed_over)
    assert str(smalti.pack(DIGITS, tmp_path / "y.smalti").passed_over) == ""


def test_metadata_files_are_not_passed_over(tmp_path):
    files = {"a.png": PNG, "metadata.jsonl": b'{"file_name": "a.png", "label": 1}'}
    for kind in ("folder", "x.zip"):
        assert str(open_source(packed(tmp_path, files, kind)).passed_over) == ""


def test_a_file_that_may_not_be_read_is_passed_over_and_said(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", PNG)
        archive.writestr("b", PNG)
    data = (tmp_path / "x.zip").read_bytes()
    at = data.rindex(b"PK\x01\x02") + 8
    (tmp_path / "x.zip").write_bytes(data[:at] + b"\x01" + data[at + 1 :])  # encrypted
    source = open_source(tmp_path / "x.zip")
    assert str(source.passed_over) == "1 file that cannot be read (b)"


@pytest.mark.parametrize(
    ("head", "image"),
    [
        (b"P5 3 4\n", True),
        (b"P4\n# made by hand", True),
        (b"P1 is a road", False),
        (b"BM" + bytes(12) + b"\x28\0\0\0", True),
        (b"BMW" + bytes(30), False),
        (b"\0\0\1\0\1\0\x20\x20\0\0\1\0\x20\0", True),
        (b"\0\0\1\0" + bytes(28), False),
        (b"RIFF\0\0\0\0WAVE", False),
        (b"\0\0\0\x1cftypmp42", False),
        (b"\0\0\x08\x03" + bytes(28), False),
        (b"", False),
    ],
)
def test_an_image_is_told_by_its_first_bytes(head, image):
    assert starts_as_image(head) is image


def link(path: Path, target: Path) -> None:
    try:
        path.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("links need a privilege here")


def image_in(folder: Path, name: str = "1.png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(PNG)


def test_linked_folders_are_followed(tmp_path):
    image_in(tmp_path / "s" / "cat")
    image_in(tmp_path / "elsewhere" / "deep")
    link(tmp_path / "s" / "dog", tmp_path / "elsewhere")
    source = open_source(tmp_path / "s")
    assert names_of(source) == ["cat/1.png", "dog/deep/1.png"]
    assert str(source.passed_over) == ""


def test_each_real_folder_is_read_once_under_its_own_name(tmp_path):
    image_in(tmp_path / "s" / "real")
    image_in(tmp_path / "other")
    for name in ("a", "z"):
        link(tmp_path / "s" / name, tmp_path / "s" / "real")
    link(tmp_path / "s" / "real" / "up", tmp_path / "s")
    link(tmp_path / "s" / "x", tmp_path / "other")
    link(tmp_path / "s" / "y", tmp_path / "other")
    link(tmp_path / "other" / "round", tmp_path)
    source = open_source(tmp_path / "s")
    assert names_of(source) == ["real/1.png", "x/1.png"]
    assert "6 links to folders that are read anyway" in str(source.passed_over)


def test_a_link_that_leads_nowhere_is_said(tmp_path):
    image_in(tmp_path / "s")
    link(tmp_path / "s" / "gone", tmp_path / "missing")
    link(tmp_path / "s" / "gone.png", tmp_path / "missing")
    with pytest.raises(SourceError, match=r"gone\.png"):
        read_images(tmp_path / "s")
    (tmp_path / "s" / "gone.png").unlink()
    source = open_source(tmp_path / "s")
    assert names_of(source) == ["1.png"]
    assert str(source.passed_over) == "1 file that cannot be read (gone)"


def test_two_zip_files_in_one_are_refused(tmp_path):
    first, second = zip_of([("a.png", PNG)]), zip_of([("b.png", PNG)])
    (tmp_path / "x.zip").write_bytes(first + second)
    with pytest.raises(SourceError, match=r"x\.zip starts with files that its directory does not list"):
        open_source(tmp_path / "x.zip")
    (tmp_path / "x.zip").write_bytes(b"#!/bin/sh\n" + second)  # one that unpacks itself
    assert read_images(tmp_path / "x.zip").names == ("b.png",)


@pytest.mark.parametrize("target", ["b.png", "b.JPG", "b.webp", "b.tiff"])
def test_a_target_that_is_called_like_an_image_is_a_mistake(tmp_path, target):
    with pytest.raises(UsageError, match="called like an image"):
        smalti.pack(DIGITS, tmp_path / target)
    assert not (tmp_path / target).exists()


@pytest.mark.parametrize("paths", [("",), ("", "."), (".", "")])
def test_an_empty_path_is_a_mistake(tmp_path, monkeypatch, paths):
    monkeypatch.chdir(tmp_path)
    image_in(tmp_path)
    with pytest.raises(UsageError, match="empty path"):
        open_source(*paths)
    with pytest.raises(UsageError, match="empty path"):
        smalti.pack([*paths], tmp_path / "x.smalti")


def test_a_report_is_one_short_line():
    report = PassedOver((PassedOver(), PassedOver()))
    reason = Reason("hidden file", "hidden files")
    report.parts[0].note(reason, "d/" * 60 + "a\n.png", 2)
    report.parts[1].note(reason, "b", 3)
    assert str(report).startswith("5 hidden files (...")
    assert "\n" not in str(report)
    assert len(str(report)) < 70


def test_names_of_icons_unpack_as_they_are(tmp_path):
    Image.fromarray(np.zeros((32, 32, 4), np.uint8)).save(tmp_path / "a.ico", sizes=[(16, 16), (32, 32)])
    smalti.pack(tmp_path / "a.ico", tmp_path / "a.smalti", max_error=0, convert=True)
    smalti.unpack(tmp_path / "a.smalti", tmp_path / "out")
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")) == [
        "a.ico/16x16.png",
        "a.ico/32x32.png",
    ]


@pytest.mark.skipif(os.name == "nt", reason="there are no named pipes in folders there")
def test_a_pipe_without_suffix_is_not_waited_for(tmp_path):
    image_in(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert names_of(open_source(tmp_path)) == ["1.png"]


def test_links_in_archives_are_said_or_bad_images(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_of([("dog", "elsewhere"), ("a.png", PNG)]))
    link_in_zip, file_in_zip = zipfile.ZipInfo("dog"), zipfile.ZipInfo("b.png")
    for member in (link_in_zip, file_in_zip):
        member.create_system, member.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link_in_zip, b"elsewhere")
        archive.writestr("a.png", PNG)
    for name in ("x.tar", "x.zip"):
        source = open_source(tmp_path / name)
        assert names_of(source) == ["a.png"]
        assert str(source.passed_over) == "1 link in an archive that is not followed (dog)"
    with zipfile.ZipFile(tmp_path / "x.zip", "a") as archive:
        archive.writestr(file_in_zip, b"a.png")
    with pytest.raises(SourceError, match=r"b\.png is a link"):
        read_images(tmp_path / "x.zip")


def test_an_image_with_too_long_a_side_is_named_and_can_be_skipped(tmp_path):
    (tmp_path / "wide.png").write_bytes(image_file("L", (65_536, 2)))
    (tmp_path / "zone.png").write_bytes(PNG)
    with pytest.raises(SourceError, match=r"wide.png is 2x65536 gray, and no side may exceed 65535 pixels"):
        read_images(tmp_path)
    errors = []
    skipping = open_source(tmp_path, on_bad=errors.append)
    assert [name for part in skipping.parts for name in part.names or ()] == ["zone.png"]
    assert len(errors) == 1
