"""Labels of metadata files, wherever these are: taken, refused or said, and never lost in silence."""

import json
import zipfile
from pathlib import Path

import pytest
from sources import DIGITS, PNG, tar_of, write, zip_of

from smalti.errors import OutputExistsError, SourceError
from smalti.exchange.sources import open_source
from smalti.types import ImageSet


def jsonl(**labels) -> bytes:
    rows = ({"file_name": f"{name}.png", "label": label} for name, label in labels.items())
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def source_of(tmp_path: Path, kind: str, members: dict[str, bytes]) -> Path:
    if kind == "zip":
        (tmp_path / "x.zip").write_bytes(zip_of(list(members.items())))
        return tmp_path / "x.zip"
    for name, data in members.items():
        path = tmp_path / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "x"


def labels_of(path, **options) -> dict:
    source = open_source(path, **options)
    found = {}
    for part in source.parts:
        found |= dict(zip(part.names, part.labels or [None] * len(part), strict=True))
    return found


KINDS = pytest.mark.parametrize("kind", ["folder", "zip"])


@KINDS
@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        ({"s/a.png": PNG, "s/metadata.jsonl": jsonl(a=3)}, {"s/a.png": 3}),
        ({"s/a.png": PNG, "s/metadata.csv": b"file_name,label\na.png,cat\n"}, {"s/a.png": "cat"}),
        (
            {"t/a.png": PNG, "v/a.png": PNG, "t/metadata.jsonl": jsonl(a=1), "v/metadata.jsonl": jsonl(a=2)},
            {"t/a.png": 1, "v/a.png": 2},
        ),
        ({"t/u/a.png": PNG, "t/metadata.jsonl": jsonl(**{"u/a": 5})}, {"t/u/a.png": 5}),
        ({"t/u/a.png": PNG, "metadata.csv": b"file_name,label\r\nt\\u\\a.png,5\r\n"}, {"t/u/a.png": 5}),
        (
            {
                "a.png": PNG,
                "t/b.png": PNG,
                "metadata.jsonl": jsonl(a="x"),
                "t/metadata.csv": b"file_name,label\nb.png,7",
            },
            {"a.png": "x", "t/b.png": 7},
        ),
        ({"a.png": PNG, "metadata.jsonl": jsonl(a=1), "metadata.csv": b"file_name,label\na.png,2"}, {"a.png": 1}),
    ],
)
def test_metadata_label_the_images_beside_and_below(tmp_path, kind, members, wanted):
    path = source_of(tmp_path, kind, members)
    assert labels_of(path) == wanted
    assert set(labels_of(path, labelled=False).values()) == {None}


@KINDS
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.png": PNG, "metadata.jsonl": jsonl(b=1, c=2)}, "label 2 files, none of which is an image here .'b.png'"),
        ({"a.png": PNG, "metadata.jsonl": jsonl(**{"x/a": 1})}, "none of which is an image here"),
        ({"a.png": PNG, "t/a.png": PNG, "t/metadata.jsonl": jsonl(a=1)}, "not 'a.png'"),
        ({"t/a.png": PNG, "meta/metadata.jsonl": jsonl(a=1)}, "none of which is an image here"),
        (
            {"a.png": PNG, "metadata.csv": b"filename,label\na.png,1"},
            "columns filename, label, but no column .file_name",
        ),
        ({"t/a.png": PNG, "metadata.jsonl": jsonl(**{"t/a": 1}), "t/metadata.jsonl": jsonl(a=2)}, "two labels"),
        ({"t/a.png": PNG, "t/metadata.jsonl": b"{"}, "cannot take labels from .*metadata.jsonl: "),
        ({"t/a.png": PNG, "t/metadata.csv": b"\xff"}, "cannot take labels from .*metadata.csv: "),
    ],
)
def test_metadata_that_do_not_fit_are_refused(tmp_path, kind, members, message):
    path = source_of(tmp_path, kind, members)
    with pytest.raises(SourceError, match=message):
        open_source(path)
    assert set(labels_of(path, labelled=False).values()) == {None}


@KINDS
@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (jsonl(a=1, b=2), "label 1 files that are not here .'b.png'"),
        (b'{"file_name": "a.png", "text": "a caption"}\n', "holds no labels"),
        (b"", "holds no labels"),
    ],
)
def test_what_metadata_hold_besides_is_said(tmp_path, kind, metadata, message):
    source = open_source(source_of(tmp_path, kind, {"a.png": PNG, "metadata.jsonl": metadata}))
    list(source.parts)
    (note,) = source.passed_over.total().notes
    assert message.replace(" .", " (") in note


def test_backslashes_in_names_of_zip_files_are_folders(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (
            ("t\\", b""),
            ("t\\a.png", PNG),
            (".\\t\\b.png", PNG),
            ("t\\metadata.jsonl", jsonl(a=1, b=2)),
        ):
            member = zipfile.ZipInfo("x")
            member.filename = name
            archive.writestr(member, data)
    assert labels_of(path) == {"t/a.png": 1, "t/b.png": 2}


def test_labels_of_subfolders_never_go_to_other_images(tmp_path):
    folder = source_of(tmp_path, "folder", {"t/0.png": PNG, "t/metadata.jsonl": b'{"file_name": "0.png", "label": 7}'})
    for labels in (None, (1,)):
        with pytest.raises(OutputExistsError, match=r"has labels in t/metadata\.jsonl"):
            write(ImageSet(DIGITS[:1], ("t/0.png",), labels), folder, force=True)
    assert labels_of(folder) == {"t/0.png": 7}


def test_metadata_in_a_tar_file_are_said_to_be_passed_over(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_of([("metadata.jsonl", jsonl(a=1)), ("a.png", PNG)]))
    source = open_source(tmp_path / "x.tar")
    assert [part.labels for part in source.parts] == [None]
    assert "1 metadata file, which is read in folders and zip files only (metadata.jsonl)" in str(source.passed_over)
