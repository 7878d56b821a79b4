"""The names of classes go where a target has room for them, or it is said that they are left out."""

import json
import zipfile

import numpy as np
import pytest
from sources import DIGITS, npy_of

import smalti
from smalti.exchange.sources import open_source, read_images
from smalti.exchange.targets import write_images
from smalti.types import About, ImageSet

NAMES = ("cat", "dog", "Ärger")
LABELLED = ImageSet(DIGITS[:4], ("a.png", "b.png", "c.png", "d.png"), (2, 0, 1, 9))


def write(target):
    about = About(4, frozenset({LABELLED.shape}), named=True, labelled=True, label_names=NAMES)
    return write_images([LABELLED], about, target)


def test_npz_files_keep_the_names_of_classes_and_give_them_back(tmp_path):
    assert write(tmp_path / "x.npz") == ""
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["label_names"].tolist() == [*NAMES]
    source = open_source(tmp_path / "x.npz")
    assert source.label_names == NAMES
    assert [(part.names, part.labels) for part in source.parts] == [(LABELLED.names, LABELLED.labels)]
    assert open_source(tmp_path / "x.npz", labelled=False).label_names == ()


def test_they_go_through_a_smalti_file_from_npz_to_parquet_and_back(tmp_path):
    pytest.importorskip("pyarrow")
    write(tmp_path / "x.npz")
    smalti.pack(tmp_path / "x.npz", tmp_path / "x.smalti")
    for target in ("y.parquet", "y.npz"):
        smalti.unpack(tmp_path / "x.smalti", tmp_path / target)
        assert open_source(tmp_path / target).label_names == NAMES


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, 2]),
        np.array([["a", "b"]]),
        np.array([b"a", b"b"]),
        np.array(["a", "a"]),
        np.array("a"),
        np.array([{}], object),
    ],
)
def test_what_are_no_names_of_classes_in_an_npz_file_does_no_harm(array, tmp_path):
    np.savez(tmp_path / "x.npz", images=DIGITS[:2], labels=[0, 1], label_names=array)
    source = open_source(tmp_path / "x.npz")
    assert source.label_names == ()
    assert [part.labels for part in source.parts] == [(0, 1)]


def test_names_of_classes_that_lie_about_their_size_do_no_harm(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("images.npy", npy_of("(1, 2, 2)", bytes(4)))
        file.writestr("labels.npy", npy_of("(1,)", bytes(1)))
        file.writestr("label_names.npy", npy_of("(1000000000,)", b"", "<U9"))
    assert open_source(tmp_path / "x.npz").label_names == ()


def test_metadata_of_folders_and_zip_files_name_the_class_beside_the_label(tmp_path):
    assert write(tmp_path / "out") == ""
    assert write(tmp_path / "x.zip") == ""
    with zipfile.ZipFile(tmp_path / "x.zip") as file:
        texts = [file.read("metadata.jsonl").decode(), (tmp_path / "out" / "metadata.jsonl").read_text()]
    for text in texts:
        rows = [json.loads(line) for line in text.splitlines()]
        assert [row["label"] for row in rows] == [2, 0, 1, 9]
        assert [row.get("label_name") for row in rows] == ["Ärger", "cat", "dog", None]
    for target in ("out", "x.zip"):
        assert read_images(tmp_path / target).labels == LABELLED.labels


@pytest.mark.parametrize("target", ["x.tar", "x.tar.gz", "x-images-idx3-ubyte"])
def test_targets_without_room_say_that_the_names_are_left_out(target, tmp_path):
    kind = "tar" if ".tar" in target else "idx"
    assert write(tmp_path / target).endswith(f"the names of the classes are left out: {kind} files hold none")


def test_targets_without_labels_need_no_names_of_classes(tmp_path):
    assert write(tmp_path / "x.npy") == "names and labels are left out: npy files hold pixels alone"
