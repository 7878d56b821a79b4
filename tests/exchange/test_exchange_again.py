"""A target that is there already: no image ever has the label of another, whatever is added, replaced or cut short."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from sources import DIGITS, write

from smalti.errors import OutputError, OutputExistsError, SourceError
from smalti.exchange.sources import open_source, read_images
from smalti.types import ImageSet

A, B, C = ("a.png", "b.png"), ("b.png", "c.png"), ("c.png", "d.png")


def pairs(source) -> dict[str, tuple]:
    """Of each name: which digit it is, and its label."""
    found = {}
    for part in source.parts:
        for i, image in enumerate(part.pixels):
            (row,) = np.flatnonzero((image == DIGITS).all((1, 2)))
            found[part.names[i]] = (int(row), None if part.labels is None else part.labels[i])
    return found


def put(folder: Path, rows: slice, names: tuple[str, ...], labels: tuple | None = None) -> None:
    write(ImageSet(DIGITS[rows], names, labels), folder, force=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (C, (3, "x"), {"a.png": (0, 7), "b.png": (1, 8), "c.png": (2, 3), "d.png": (3, "x")}),
        (B, (3, 4), {"a.png": (0, 7), "b.png": (2, 3), "c.png": (3, 4)}),
        (A, (3, 4), {"a.png": (2, 3), "b.png": (3, 4)}),
        (A, None, {"a.png": (2, None), "b.png": (3, None)}),
    ],
)
def test_what_is_added_to_a_folder_brings_its_labels_and_what_stays_keeps_them(tmp_path, names, labels, expected):
    put(tmp_path / "d", slice(2), A, (7, 8))
    put(tmp_path / "d", slice(2, 4), names, labels)
    assert pairs(open_source(tmp_path / "d")) == expected


@pytest.mark.parametrize(
    ("old", "names", "new", "message"),
    [
        ((7, 8), C, None, r"a\.png has a label, the images to add have none"),
        ((7, 8), B, None, r"a\.png has a label, the images to add have none"),
        (None, C, (3, 4), r"a\.png has no label, the images to add have some"),
        (None, B, (3, 4), r"a\.png has no label, the images to add have some"),
    ],
)
def test_a_folder_that_would_be_labelled_in_part_is_left_as_it_was(tmp_path, old, names, new, message):
    put(tmp_path / "d", slice(2), A, old)
    before = contents(tmp_path / "d")
    with pytest.raises(OutputExistsError, match=message):
        put(tmp_path / "d", slice(2, 4), names, new)
    assert contents(tmp_path / "d") == before


def test_other_columns_of_metadata_stay_with_their_images(tmp_path):
    put(tmp_path, slice(2), A)
    rows = [{"file_name": name, "text": f"of {name}"} for name in A]
    (tmp_path / "metadata.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    put(tmp_path, slice(2, 4), B)
    assert (tmp_path / "metadata.jsonl").read_text() == json.dumps(rows[0]) + "\n"


@pytest.mark.parametrize("labels", [None, (3, 4)])
def test_labels_in_a_csv_file_are_not_added_to(tmp_path, labels):
    put(tmp_path, slice(2), A)
    (tmp_path / "metadata.csv").write_text("file_name,label\na.png,7\nb.png,8\n")
    before = contents(tmp_path)
    with pytest.raises(OutputExistsError, match=r"labels in metadata\.csv"):
        put(tmp_path, slice(2, 4), A, labels)
    assert contents(tmp_path) == before


def test_damaged_metadata_is_found_before_anything_is_moved(tmp_path):
    put(tmp_path, slice(2), A, (7, 8))
    (tmp_path / "metadata.jsonl").write_text("{")
    before = contents(tmp_path)
    with pytest.raises(SourceError, match="damaged"):
        put(tmp_path, slice(2, 4), A, (3, 4))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("labels", [None, (3, 4)])
@pytest.mark.parametrize("names", [A, B])
@pytest.mark.parametrize("step", range(5))
def test_adding_to_a_folder_that_is_cut_short_leaves_no_wrong_label(tmp_path, monkeypatch, names, labels, step):
    folder = tmp_path / "d"
    put(folder, slice(2), A, (7, 8))
    cut_after(monkeypatch, step)
    with contextlib.suppress(OutputError, OutputExistsError):
        put(folder, slice(2, 4), names, labels)
    monkeypatch.undo()
    with contextlib.suppress(SourceError):
        right = {0: 7, 1: 8, 2: 3, 3: 4}
        assert all(label in (None, right[row]) for row, label in pairs(open_source(folder)).values())


def put_idx(target: Path, rows: slice, labels: tuple | None = None, *, force: bool = False) -> None:
    write(ImageSet(DIGITS[rows], None, labels), target, force=force)


def labels_beside(target: Path) -> Path:
    return target.with_name(target.name.replace("images-idx3", "labels-idx1"))


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("labels", [None, ("cat", "dog"), (3, 400), (3, 4)])
def test_idx_images_that_are_replaced_take_their_labels_with_them(tmp_path, labels, end):
    target = tmp_path / f"t-images-idx3-ubyte{end}"
    put_idx(target, slice(2), (7, 8))
    put_idx(target, slice(2, 4), labels, force=True)
    assert (read_images(target).pixels == DIGITS[2:4]).all()
    assert labels_beside(target).exists() == (labels == (3, 4))
    if labels == (3, 4):
        assert [part.labels for part in open_source(target, labels=labels_beside(target)).parts] == [labels]


def test_labels_of_other_images_are_not_left_beside_unless_forced(tmp_path):
    target = tmp_path / "t-images-idx3-ubyte"
    put_idx(target, slice(2), (7, 8))
    target.unlink()
    with pytest.raises(OutputExistsError, match="t-labels-idx1-ubyte exists"):
        put_idx(target, slice(2, 4))
    put_idx(target, slice(2, 4), force=True)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_what_links_to_labels_stays_a_link(tmp_path):
    target = tmp_path / "t-images-idx3-ubyte"
    put_idx(target, slice(2), (7, 8))
    labels_beside(target).rename(tmp_path / "labels")
    labels_beside(target).symlink_to(tmp_path / "labels")
    put_idx(target, slice(2, 4), (3, 4), force=True)
    assert labels_beside(target).is_symlink()
    assert open_source(target, labels=tmp_path / "labels").labelled


@pytest.mark.parametrize("labels", [None, (3, 4)])
@pytest.mark.parametrize("step", range(4))
def test_replacing_idx_images_that_is_cut_short_leaves_no_wrong_label(tmp_path, monkeypatch, labels, step):
    target = tmp_path / "t-images-idx3-ubyte"
    put_idx(target, slice(2), (7, 8))
    cut_after(monkeypatch, step)
    with contextlib.suppress(OutputError, OSError):
        put_idx(target, slice(2, 4), labels, force=True)
    monkeypatch.undo()
    if labels_beside(target).exists():
        (part,) = open_source(target, labels=labels_beside(target)).parts
        first = int((part.pixels[0] != DIGITS[0]).any())
        assert part.labels == ((7, 8), (3, 4))[first]


def cut_after(monkeypatch, steps: int) -> None:
    """Of all that takes files away or puts them in place, only so many steps are done, as if the process was killed."""
    left = [steps]

    def limited(method):
        def run(self, *args, **kwargs):
            if left[0] <= 0:
                raise OSError("killed")
            left[0] -= 1
            return method(self, *args, **kwargs)

        return run

    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, limited(getattr(Path, name)))
