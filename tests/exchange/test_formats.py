"""What is written to any kind of target reads back: pixels, names, labels, order."""

import io
import json
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from smalti.errors import UsageError
from smalti.exchange.names import unsafe_name
from smalti.exchange.parts import PART_IMAGES, PART_SAMPLES
from smalti.exchange.recognise import is_hidden
from smalti.exchange.sources import open_source, read_images
from smalti.exchange.targets import png_bytes, write_images
from smalti.types import About, ImageSet, Label

Item = tuple[np.ndarray, str | None, Label | None]


def items_of(parts) -> list[Item]:
    return [
        (image, part.names[i] if part.names else None, part.labels[i] if part.labels else None)
        for part in parts
        for i, image in enumerate(part.pixels)
    ]


def parts_from(items: list[Item]) -> list[ImageSet]:
    return [
        ImageSet(x[None], None if name is None else (name,), None if label is None else (label,))
        for x, name, label in items
    ]


def about_of(items: list[Item]) -> About:
    shapes = frozenset((*x.shape, 1)[:3] for x, _, _ in items)
    return About(len(items), shapes, items[0][1] is not None, items[0][2] is not None)


def same(a: list[Item], b: list[Item]) -> None:
    assert [(name, label, x.shape) for x, name, label in a] == [(name, label, x.shape) for x, name, label in b]
    assert [type(label) for _, _, label in a] == [type(label) for _, _, label in b]
    assert all((x == y).all() for (x, _, _), (y, _, _) in zip(a, b, strict=True))


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda word: not word.endswith("\0"))
ints = st.integers(-(2**62), 2**62) | st.integers(0, 255)
safe = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6).map(
    lambda s: s.replace(".", "_.")
)
names = (
    st.lists(safe.filter(lambda part: not unsafe_name(part + ".png", strict=True)), min_size=1, max_size=3)
    .map(lambda parts: "/".join(parts) + ".png")
    .filter(lambda name: not unsafe_name(name, strict=True) and not unsafe_name(name[:-4], strict=True))
    .filter(lambda name: not is_hidden(name))  # readers pass hidden files over
)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3, 4]))


@st.composite
def collections(draw, *, mixed: bool, ragged: bool, named=None, labelled=None, gray=False) -> list[Item]:
    n = draw(st.integers(1, 6))
    one = draw(shapes)
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    given_names = draw(st.lists(names, min_size=n, max_size=n, unique_by=lambda s: s.casefold()))
    has_names = draw(st.booleans()) if named is None else named
    kind = draw(st.sampled_from(["int", "byte", "word", "several", "none"]))
    kind = {True: kind.replace("none", "int"), False: "none", None: kind}[labelled]
    k = draw(st.integers(1, 3))
    several = st.lists(ints, min_size=0 if ragged else k, max_size=4 if ragged else k).map(tuple)
    label = {"int": ints, "byte": st.integers(0, 255), "word": words, "several": several, "none": st.none()}[kind]
    found = []
    for name in given_names:
        h, w, c = draw(shapes) if mixed else one
        x = rng.integers(0, 256, (h, w) if c == 1 or gray else (h, w, c), np.uint8)
        found.append((x, name if has_names else None, draw(label)))
    return found


def round_trip(items: list[Item], name: str) -> list[Item]:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / name
        write_images(parts_from(items), about_of(items), target)
        source = open_source(target)
        assert (source.named, source.labelled) == (items[0][1] is not None, items[0][2] is not None)
        assert source.total in (None, len(items))
        same(items_of(source.parts), items_of(source.parts))  # it can be read again
        assert [p.name for p in Path(folder).iterdir()] == [name]
        return items_of(source.parts)


few = settings(max_examples=40, suppress_health_check=list(HealthCheck))


@few
@given(collections(mixed=True, ragged=True, named=True))
@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz", "x.zip"])
def test_archives_of_image_files_keep_everything(name, items):
    same(round_trip(items, name), items)


@few
@given(collections(mixed=True, ragged=True, named=True))
def test_a_folder_keeps_everything_in_the_order_of_the_names(items):
    items = [item for item in items if not any(part.startswith(".") for part in item[1].split("/"))]
    if items:
        same(round_trip(items, "folder"), sorted(items, key=lambda item: item[1]))


@few
@given(collections(mixed=True, ragged=True))
def test_a_parquet_file_keeps_everything(items):
    pytest.importorskip("pyarrow")
    same(round_trip(items, "x.parquet"), items)


@few
@given(collections(mixed=False, ragged=False))
def test_an_npz_file_keeps_everything(items):
    same(round_trip(items, "x.npz"), items)


@few
@given(collections(mixed=False, ragged=False, named=False, labelled=False))
def test_an_npy_file_keeps_pixels(items):
    same(round_trip(items, "x.npy"), items)


@few
@given(collections(mixed=False, ragged=False, named=False, labelled=False, gray=True))
@pytest.mark.parametrize("name", ["x-idx3-ubyte", "x.idx", "x-idx3-ubyte.gz", "x.idx.gz"])
def test_an_idx_file_keeps_pixels(name, items):
    same(round_trip(items, name), items)


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_images_have_their_labels_beside_them(tmp_path, end):
    items = [(np.full((2, 3), i, np.uint8), None, i * 85) for i in range(4)]
    target = tmp_path / f"t10k-images-idx3-ubyte{end}"
    assert write_images(parts_from(items), about_of(items), target) == f"labels are in t10k-labels-idx1-ubyte{end}"
    assert sorted(p.name for p in tmp_path.iterdir()) == [target.name, f"t10k-labels-idx1-ubyte{end}"]
    source = open_source(target, labels=tmp_path / f"t10k-labels-idx1-ubyte{end}")
    assert source.labelled
    same(items_of(source.parts), items)


@pytest.mark.parametrize("label", ["cat", 256, -1, (1,)])
def test_labels_that_are_no_bytes_are_left_out_of_idx_files(tmp_path, label):
    items = [(np.zeros((2, 3), np.uint8), None, label)]
    write_images(parts_from(items), about_of(items), tmp_path / "x-images-idx3-ubyte")
    assert [p.name for p in tmp_path.iterdir()] == ["x-images-idx3-ubyte"]


def medmnist(path: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 300), ("val", 1), ("test", 2)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 5, 4, 3), np.uint8)
        arrays[f"{split}_labels"] = rng.integers(0, 9, (n, 2), np.uint8)
    np.savez(path, **arrays)
    return arrays


def test_a_medmnist_file_comes_back_with_equal_arrays(tmp_path):
    arrays = medmnist(tmp_path / "x.npz")
    source = open_source(tmp_path / "x.npz")
    items = items_of(source.parts)
    assert [name for _, name, _ in items][:300:299] == ["train/0", "train/299"]
    assert [name for _, name, _ in items][300:] == ["val/0", "test/0", "test/1"]
    write_images(source.parts, about_of(items), tmp_path / "y.npz")
    with np.load(tmp_path / "y.npz") as read:
        assert sorted(read) == sorted(arrays)
        for key, array in arrays.items():
            assert (read[key] == array).all()
            assert (read[key].shape, read[key].dtype) == (array.shape, array.dtype)
    one = open_source(f"{tmp_path / 'x.npz'}#test_images")
    assert (one.named, one.labelled, one.total) == (False, True, 2)


@pytest.mark.parametrize(
    "order", [("train/1", "train/0"), ("val/0", "train/0"), ("train/00", "train/1"), ("a", "train/0")]
)
def test_names_that_only_look_like_splits_are_kept_as_names(tmp_path, order):
    items = [(np.zeros((2, 2), np.uint8), name, 3) for name in order]
    write_images(parts_from(items), about_of(items), tmp_path / "x.npz")
    same(items_of(open_source(tmp_path / "x.npz").parts), items)


def test_parts_are_small_and_neighbours_of_one_shape_go_together(tmp_path):
    small, large = np.zeros((600, 2, 2), np.uint8), np.zeros((5, 700, 500), np.uint8)
    np.savez(tmp_path / "small.npz", images=small)
    np.save(tmp_path / "large.npy", large)
    assert [len(part) for part in open_source(tmp_path / "small.npz").parts] == [PART_IMAGES, PART_IMAGES, 88]
    assert [len(part) for part in open_source(tmp_path / "large.npy").parts] == [2, 2, 1]
    for name in ("x.tar", "x.zip", "folder"):
        source = open_source(tmp_path / "small.npz", tmp_path / "large.npy")
        about = About(605, frozenset({(2, 2, 1), (700, 500, 1)}), named=False, labelled=False)
        write_images(source.parts, about, tmp_path / name)
        parts = list(open_source(tmp_path / name).parts)
        assert [len(part) for part in parts] == [PART_IMAGES, PART_IMAGES, 88, 2, 2, 1]
        assert max(part.pixels.size for part in parts) <= PART_SAMPLES


@pytest.mark.parametrize("name", ["x.npz", "x.npy", "x.tar", "x.tar.gz", "x.zip"])
def test_equal_images_make_equal_files(tmp_path, name):
    items = [(np.full((2, 2), i, np.uint8), f"ü{i}.png", i) for i in range(3)]
    (tmp_path / "a").mkdir()
    for folder in (tmp_path, tmp_path / "a"):
        write_images(parts_from(items), about_of(items), folder / name)
    assert (tmp_path / name).read_bytes() == (tmp_path / "a" / name).read_bytes()


@pytest.mark.parametrize("name", ["x.npz", "x.parquet"])
def test_labels_of_several_kinds_are_refused_where_one_column_holds_them(tmp_path, name):
    pytest.importorskip("pyarrow")
    for labels in ((1, "a"), ("a", 1), (1, (1,)), (2**70, 1)):
        items = [(np.zeros((2, 2), np.uint8), None, label) for label in labels]
        with pytest.raises(UsageError, match="give a folder"):
            write_images(parts_from(items), about_of(items), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_npz_file_of_labels_of_several_lengths_is_refused(tmp_path):
    items = [(np.zeros((2, 2), np.uint8), None, label) for label in ((1,), (1, 2))]
    with pytest.raises(UsageError, match="several kinds"):
        write_images(parts_from(items), about_of(items), tmp_path / "x.npz")


def test_what_other_programs_read_is_there(tmp_path):
    """The arrays are read through NumPy, files through tarfile and zipfile."""
    items = [(np.full((2, 2, 3), i, np.uint8), f"a/{i}.jpg", i) for i in range(3)]
    for name in ("x.npz", "x.npy", "x.tar", "x.zip"):
        write_images(parts_from(items), about_of(items), tmp_path / name)
    with np.load(tmp_path / "x.npz") as read:
        assert read["names"].tolist() == ["a/0.jpg", "a/1.jpg", "a/2.jpg"]
        assert (read["labels"].tolist(), read["labels"].dtype) == ([0, 1, 2], np.uint8)
    assert (np.load(tmp_path / "x.npy") == np.stack([x for x, _, _ in items])).all()
    with tarfile.open(tmp_path / "x.tar") as tar:
        assert tar.getnames()[:2] == ["a/0.jpg.cls", "a/0.jpg.png"]
        assert tar.extractfile("a/2.jpg.cls").read() == b"2"
    with zipfile.ZipFile(tmp_path / "x.zip") as zipped:
        assert zipped.testzip() is None
        assert json.loads(zipped.read("metadata.jsonl").splitlines()[1]) == {"file_name": "a/1.jpg.png", "label": 1}


def test_what_other_programs_read_of_a_table_is_there(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    items = [(np.full((2, 2, 3), i, np.uint8), f"a/{i}.jpg", i) for i in range(3)]
    write_images(parts_from(items), about_of(items), tmp_path / "x.parquet")
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table["image"][0].as_py() == {"bytes": png_bytes(items[0][0]), "path": "a/0.jpg"}
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}, "label": {"dtype": "int64", "_type": "Value"}}


def tar_of(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


PNG = png_bytes(np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("first", ["label", "image"])
def test_a_webdataset_with_several_files_a_sample_is_read(tmp_path, first):
    members = []
    for i in range(3):
        sample = [
            (f"d/{i}.json", b"{}"),
            (f"d/{i}.cls", b"%d\n" % i),
            (f"d/{i}.left.png", PNG),
            (f"d/{i}.right.png", PNG),
        ]
        members += sample if first == "label" else sample[::-1]
    items = items_of(open_source(tar_of(tmp_path / "x.tar", members)).parts)
    assert [label for _, _, label in items] == [0, 0, 1, 1, 2, 2]
    assert len({name for _, name, _ in items}) == 6


def test_a_label_of_the_whole_name_wins_over_that_of_the_sample(tmp_path):
    members = [("a.x.png", PNG), ("a.cls", b"1"), ("a.png", PNG), ("a.x.cls", b"2")]
    items = items_of(open_source(tar_of(tmp_path / "x.tar", members)).parts)
    assert [(name, label) for _, name, label in items] == [("a.x.png", 2), ("a.png", 1)]


def test_one_image_and_one_word_are_read_from_a_gzipped_tar_of_any_name(tmp_path):
    path = tar_of(tmp_path / "x.gz", [("a.png", PNG), ("a.cls", b"cat")])
    assert read_images(path).labels == ("cat",)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, lambda x: x),
        (2, np.fliplr),
        (3, lambda x: np.rot90(x, 2)),
        (4, np.flipud),
        (5, lambda x: np.rot90(x, 3)[:, ::-1]),
        (6, lambda x: np.rot90(x, 3)),
        (7, lambda x: np.rot90(x)[:, ::-1]),
        (8, np.rot90),
    ],
)
def test_images_are_turned_as_their_exif_data_says(tmp_path, kind, orientation, seen):
    stored = np.kron(np.array([[0, 60, 120], [180, 210, 255]], np.uint8), np.ones((16, 16), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).convert("RGB").save(tmp_path / "a", kind, exif=exif, quality=95)
    (read,) = read_images(tmp_path / "a").pixels
    assert read.shape == (*seen(stored).shape, 3)
    assert np.abs(read.astype(int) - seen(stored)[..., None]).max() < 30


def test_exif_data_that_is_damaged_is_passed_over(tmp_path):
    Image.new("RGB", (4, 5)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\xff" * 9)
    assert read_images(tmp_path / "a.jpg").shape == (5, 4, 3)
