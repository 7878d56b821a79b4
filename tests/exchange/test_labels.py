"""Labels of images, and tables of them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from sources import DIGITS, IDX, PNG, TAR, bad_sources, gray, idx_of, npy_of, parquet_of, tar_of, write, zip_of

import smalti
from smalti.errors import (
    MissingExtraError,
    SourceError,
    UsageError,
)
from smalti.exchange.labels import label_of, label_text, parse_label
from smalti.exchange.sources import open_source, read_images
from smalti.exchange.targets import check_target, png_bytes
from smalti.types import ImageSet

LINES = '{"file_name": "a.png", "label": 3}\n{"file_name": "b.png", "label": 4}\n'


@pytest.mark.parametrize(
    ("kind", "text", "labels"),
    [
        ("metadata.jsonl", LINES, (3, 4)),
        ("metadata.jsonl", LINES.replace("4", '"x"').replace("3", "[1, 2]"), ((1, 2), "x")),
        ("metadata.csv", "\ufefffile_name,label\na.png,3\nb.png,4\n", (3, 4)),
        ("metadata.csv", "x,label,file_name\n0,7,a.png\n0,07,b.png\n", ("7", "07")),
        ("metadata.csv", "file_name,text\na.png,3\nb.png,4\n", None),
        ("metadata.jsonl", '{"file_name": "a.png"}\n', None),
    ],
)
def test_labels_of_a_folder_come_from_its_metadata(tmp_path, kind, text, labels):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / kind).write_text(text, encoding="utf-8")
    assert read_images(tmp_path).labels == labels


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("metadata.jsonl", LINES.splitlines()[0], "but not 'b.png'"),
        ("metadata.jsonl", LINES + LINES.replace("3", "5"), "two labels"),
        ("metadata.jsonl", "{", "cannot take labels"),
        ("metadata.jsonl", "[" * 100000, "cannot take labels"),
        ("metadata.jsonl", "[1]", "line 1"),
        ("metadata.jsonl", LINES.replace("4", "0.5"), "neither an int"),
        ("metadata.jsonl", LINES.replace("4", "true"), "neither an int"),
        ("metadata.csv", "name,label\na.png,1\n", "no column"),
        ("metadata.csv", "file_name,label\na.png,1\n", "but not 'b.png'"),
    ],
)
def test_bad_metadata_is_refused(tmp_path, kind, text, message):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / kind).write_text(text)
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path)


def test_labels_of_their_own_file_go_with_one_source(tmp_path):
    images = tmp_path / "x-idx3-ubyte"
    images.write_bytes(idx_of(DIGITS))
    labels = tmp_path / "x-idx1-ubyte"
    labels.write_bytes(b"\0\0\x08\x01\0\0\0\x14" + bytes(range(20)))
    np.save(tmp_path / "labels.npy", np.arange(20, dtype=">i4"))
    np.savez(tmp_path / "own.npz", images=DIGITS, labels=np.arange(20))
    for file in (labels, tmp_path / "labels.npy"):
        source = open_source(images, labels=file)
        assert source.labelled
        assert [label for part in source.parts for label in part.labels] == list(range(20))
    with pytest.raises(SourceError, match="can label one source, not 2"):
        open_source(images, images, labels=labels)
    with pytest.raises(SourceError, match="labels of its own"):
        open_source(tmp_path / "own.npz", labels=labels)
    (tmp_path / "a.tar").write_bytes(TAR)
    (tmp_path / "a.png").write_bytes(PNG)
    with pytest.raises(SourceError, match=r"20 labels, .* 1 images"):
        open_source(tmp_path / "a.png", labels=labels)
    with pytest.raises(SourceError, match=r"20 labels, .* 2 images"):
        list(open_source(tmp_path / "a.tar", labels=labels).parts)
    np.save(tmp_path / "one.npy", np.arange(1))
    with pytest.raises(SourceError, match=r"1 labels, .* 2 images"):
        list(open_source(tmp_path / "a.tar", labels=tmp_path / "one.npy").parts)


def test_no_image_is_left_out_under_labels_of_their_own_file(tmp_path):
    path = bad_sources(tmp_path)["folder"]
    np.save(tmp_path / "labels.npy", np.arange(3))
    with pytest.raises(UsageError, match="none can be skipped"):
        open_source(path, labels=tmp_path / "labels.npy", on_bad=lambda _: None)
    with pytest.raises(SourceError, match=r"b\.png"):
        list(open_source(path, labels=tmp_path / "labels.npy").parts)


@pytest.mark.parametrize("kind", ["folder", "x.zip", "x.tar", "x.parquet"])
def test_labels_stay_with_their_images_when_one_is_left_out(tmp_path, kind):
    pytest.importorskip("pyarrow")
    target = tmp_path / kind
    write(ImageSet(DIGITS[:3], ("a.png", "b.png", "c.png"), (1, 2, 3)), target)
    if target.is_dir():
        (target / "b.png").write_text("broken")
    else:
        data = target.read_bytes()
        assert data.count(png_bytes(DIGITS[1])) == 1 or kind == "x.parquet"
        if kind == "x.parquet":
            rows = [{"bytes": x, "path": n} for x, n in ((PNG, "a.png"), (b"broken", "b.png"), (PNG, "c.png"))]
            parquet_of(target, rows, [1, 2, 3])
        else:
            bad = data.replace(png_bytes(DIGITS[1]), bytes(len(png_bytes(DIGITS[1]))))
            target.write_bytes(bad)
    parts = list(open_source(target, on_bad=lambda _: None).parts)
    assert [(n, label) for p in parts for n, label in zip(p.names, p.labels, strict=True)] == [
        ("a.png", 1),
        ("c.png", 3),
    ]


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08\x01\0\0\0\x02\x01", b"\0\0\x08\x01\0\0\0\x01\x01\x02", IDX + bytes(8)]
)
def test_bad_files_of_labels_are_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(SourceError, match="labels"):
        open_source(tmp_path / "a.png", labels=tmp_path / "labels")
    with pytest.raises(SourceError, match="No such file"):
        open_source(tmp_path / "a.png", labels=tmp_path / "missing")


@pytest.mark.parametrize("kind", ["<c8", "<U0", "|O"])
def test_labels_of_other_types_are_refused(tmp_path, kind):
    (tmp_path / "a.png").write_bytes(PNG)
    size = {"<c8": 8, "<U0": 0, "|O": 8}[kind]
    (tmp_path / "labels.npy").write_bytes(npy_of("(1,)", bytes(size), kind))
    with pytest.raises(SourceError, match=r"labels"):
        open_source(tmp_path / "a.png", labels=tmp_path / "labels.npy")


def test_labels_as_text_come_back_as_they_were():
    for label in (
        0,
        -5,
        2**63,
        "cat",
        "07",
        "7",
        "1,2",
        "1,",
        ",",
        "",
        " ",
        "a b",
        '"',
        '"q"',
        "a\n",
        "ü",
        "\udc80",
        (),
        (1,),
    ):
        text = label_text(label)
        assert parse_label(text) == label
        assert text.encode().decode().splitlines() == [text]
    with pytest.raises(UsageError, match="beyond"):
        label_text(10**30)
    with pytest.raises(SourceError, match="neither"):
        label_of(None)


def test_a_plain_column_of_images_and_other_names_of_columns_are_read(tmp_path):
    parquet_of(tmp_path / "x.parquet", [PNG, PNG], [["1"], ["2"]][0] * 2, column="img")
    read = read_images(tmp_path / "x.parquet")
    assert (len(read), read.names, read.labels) == (2, None, ("1", "1"))


@pytest.mark.parametrize(
    ("images", "labels", "column", "message"),
    [
        ([PNG], None, "picture", "has the columns picture"),
        (["text"], None, "image", "must be bytes"),
        ([None, PNG], None, "image", "row 0 has no bytes"),
        ([[PNG]], None, "image", "holds lists where there must be bytes"),
        ([PNG], [0.5], "image", "row 0: the label '0.5'"),
        ([PNG], [None], "image", "row 0: the label 'None'"),
    ],
)
def test_bad_tables_are_refused(tmp_path, images, labels, column, message):
    parquet_of(tmp_path / "x.parquet", images, labels, column)
    with pytest.raises(SourceError, match=message):
        read_images(tmp_path / "x.parquet")


@pytest.mark.parametrize("empty", ["", None])
@pytest.mark.parametrize("bare", [0, 1, 70, 299])
def test_a_row_without_a_path_takes_no_name_from_the_others(tmp_path, empty, bare):
    rows = [{"bytes": PNG, "path": empty if i == bare else f"{i}.png"} for i in range(300)]
    source = open_source(parquet_of(tmp_path / "x.parquet", rows))
    names = [name for part in source.parts for name in part.names]
    assert names == [f"x-{i:05d}.png" if i == bare else f"{i}.png" for i in range(300)]
    (note,) = source.passed_over.total().notes
    assert f"1 of 300 images have no path; they are named like x-{bare:05d}.png" in note


def test_a_table_without_paths_has_no_names(tmp_path):
    parquet_of(tmp_path / "x.parquet", [{"bytes": PNG, "path": None}, {"bytes": PNG, "path": ""}])
    assert read_images(tmp_path / "x.parquet").names is None


def test_a_table_without_rows_is_refused(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet_of(tmp_path / "x.parquet", [], kind=arrow.binary())
    with pytest.raises(SourceError, match="no rows"):
        open_source(tmp_path / "x.parquet")


def test_without_pyarrow_parquet_files_say_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"smalti\[parquet\]"):
        open_source(tmp_path / "x.parquet")
    with pytest.raises(MissingExtraError, match=r"smalti\[parquet\]"):
        check_target(tmp_path / "y.parquet", gray(), force=False)


N = np.arange(20)
WORDS = np.array([f"{i:02d}.png" for i in N])


@pytest.mark.parametrize(
    ("key", "arrays", "names", "labels"),
    [
        ("", {"x": DIGITS, "labels": N}, None, N),
        ("", {"x": DIGITS, "y": N}, None, N),
        ("", {"data": DIGITS, "target": N}, None, N),
        ("", {"images": DIGITS, "label": N}, None, N),
        ("", {"images": DIGITS, "Labels": N}, None, N),
        ("", {"images": DIGITS, "mylabels": N}, None, N),
        ("", {"images": DIGITS, "fine_labels": N}, None, N),
        ("", {"images": DIGITS, "labels": N, "y": N + 1, "fine_labels": N + 2}, None, N),
        ("", {"images": DIGITS, "labels": N, "label_names": WORDS[:3], "classes": WORDS[:3]}, None, N),
        ("", {"images": DIGITS, "filenames": WORDS}, WORDS, None),
        ("", {"images": DIGITS, "file_names": WORDS, "y": N}, WORDS, N),
        ("", {"images": DIGITS, "names": WORDS, "paths": WORDS[::-1]}, WORDS, None),
        ("", {"y": DIGITS}, None, None),
        ("", {"train_images": DIGITS, "train_names": WORDS, "train_labels": N}, WORDS, N),
        ("#x_train", {"x_train": DIGITS, "y_train": N, "x_test": DIGITS[:3], "y_test": N[:3]}, None, N),
        ("#masks", {"images": DIGITS[:3], "masks": DIGITS, "labels": N[:3]}, None, None),
        ("#images", {"images": DIGITS, "y": N[:3]}, None, None),
    ],
)
def test_arrays_called_like_names_and_labels_go_with_the_images_of_an_npz_file(tmp_path, key, arrays, names, labels):
    np.savez(tmp_path / "x.npz", **arrays)
    read = read_images(f"{tmp_path / 'x.npz'}{key}")
    assert (read.pixels == DIGITS).all()
    assert (read.names, read.labels) == tuple(None if c is None else tuple(c.tolist()) for c in (names, labels))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": DIGITS, "y": N, "target": N}, "labels of x in y, target; save those to take as 'labels'"),
        ({"images": DIGITS, "fine_labels": N, "coarse_labels": N}, "labels of images in fine_labels, coarse_labels"),
        ({"images": DIGITS, "files": WORDS, "paths": WORDS}, "names of images in files, paths"),
        ({"x_train": DIGITS, "y_train": N, "x_test": DIGITS, "y_test": N}, "pick one: .*#KEY"),
        ({"images": DIGITS, "y": N[:3]}, "3 y for 20 images"),
    ],
)
def test_an_npz_file_that_leaves_open_what_its_labels_are_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path / "x.npz")


def with_bad_labels(path: Path) -> None:
    members = [("a.png", PNG), ("b.png", PNG)]
    match path.name:
        case "x.parquet":
            parquet_of(path, [PNG, PNG], [0.5, 1.5])
        case "folder":
            path.mkdir()
            for name, data in [*members, ("metadata.jsonl", LINES.replace("4", "1.5").encode())]:
                (path / name).write_bytes(data)
        case "x.zip":
            path.write_bytes(zip_of([*members, ("metadata.jsonl", LINES.splitlines()[0].encode())]))
        case "x.npz":
            np.savez(path, images=DIGITS[:2], labels=np.array([0.5, 1]))
        case "two.npz":
            np.savez(path, images=DIGITS[:2], fine_labels=N[:2], coarse_labels=N[:2])
        case "splits.npz":
            np.savez(path, train_images=DIGITS[:1], test_images=DIGITS[:1], test_labels=N[:1])
        case "some.tar":
            path.write_bytes(tar_of([members[0], ("a.cls", b"1"), members[1]]))
        case "apart.tar":
            path.write_bytes(tar_of([*members, ("a.cls", b"1"), ("b.cls", b"\xff")]))


@pytest.mark.parametrize(
    "name", ["x.parquet", "folder", "x.zip", "x.npz", "two.npz", "splits.npz", "some.tar", "apart.tar"]
)
def test_labels_that_are_not_wanted_are_not_looked_at(tmp_path, name):
    with_bad_labels(tmp_path / name)
    with pytest.raises(SourceError, match="label"):
        read_images(tmp_path / name)
    read = read_images(tmp_path / name, labelled=False)
    assert (len(read), read.labels) == (2, None)


def class_table(path: Path, names: object, labels=(1, 0)) -> Path:
    arrow = pytest.importorskip("pyarrow")
    images = [{"bytes": PNG, "path": f"{i}.png"} for i in range(len(labels))]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    about = json.dumps({"info": {"features": features}}).encode()
    table = arrow.table({"image": images, "label": list(labels)}).replace_schema_metadata({b"huggingface": about})
    pytest.importorskip("pyarrow.parquet").write_table(table, path)
    return path


def test_names_of_classes_come_back(tmp_path):
    names = ("cat", "dog", "eel")
    smalti.pack(
        class_table(tmp_path / "x.parquet", names), tmp_path / "x.smalti", packing=smalti.Packing(metadata={"a": 1})
    )
    with smalti.open(tmp_path / "x.smalti") as archive:
        assert archive.metadata == {"a": 1, "label_names": list(names)}
        assert archive.labels == (1, 0)
    smalti.unpack(tmp_path / "x.smalti", tmp_path / "y.parquet")
    again = open_source(tmp_path / "y.parquet")
    assert again.label_names == names
    assert [label for part in again.parts for label in part.labels] == [1, 0]


@pytest.mark.parametrize("names", [7, [1, 2], ["a", "a"], None, {"a": 1}])
def test_names_of_classes_that_are_none_are_left_out(tmp_path, names):
    assert open_source(class_table(tmp_path / "x.parquet", names)).label_names == ()


def test_classes_of_several_names_are_not_mixed(tmp_path):
    x, y = (class_table(tmp_path / f"{n}.parquet", names) for n, names in (("x", ["a", "b"]), ("y", ["b", "a"])))
    with pytest.raises(SourceError, match="other names"):
        open_source(x, y)
    assert open_source(x, y, labelled=False).label_names == ()
    assert open_source(x, x).label_names == ("a", "b")
