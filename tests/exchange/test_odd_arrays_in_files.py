"""npy, npz and idx files as people have them: Fortran order, bools, one-hot labels, labels of 32 bits."""

import gzip
import struct

import numpy as np
import pytest
from sources import DIGITS, PNG, idx_of, parquet_of

from smalti.errors import SourceError
from smalti.exchange.sources import open_source, read_images

COLOURS = np.random.default_rng(1).integers(0, 256, (5, 4, 3, 3), np.uint8)


@pytest.mark.parametrize("x", [DIGITS, COLOURS, np.repeat(DIGITS, 40, axis=0)], ids=["gray", "RGB", "many"])
def test_arrays_in_fortran_order_come_back_as_they_were(tmp_path, x):
    np.save(tmp_path / "x.npy", np.asfortranarray(x))
    labels = np.asfortranarray(np.arange(2 * len(x)).reshape(len(x), 2))
    np.savez(tmp_path / "x.npz", images=np.asfortranarray(x), labels=labels)
    for name in ("x.npy", "x.npz"):
        assert (read_images(tmp_path / name).pixels == x).all()
    assert read_images(tmp_path / "x.npz").labels == tuple(map(tuple, labels.tolist()))


def test_bools_are_black_and_white(tmp_path):
    np.save(tmp_path / "x.npy", DIGITS > 99)
    assert (read_images(tmp_path / "x.npy").pixels == np.where(DIGITS > 99, 255, 0)).all()


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (np.eye(3)[[2, 0, 1]], (2, 0, 1)),
        (np.eye(3, dtype=">f4")[[2, 0, 1]], (2, 0, 1)),
        (np.array([2.0, -1, 7]), (2, -1, 7)),
        (np.array([True, False, True]), (1, 0, 1)),
        (np.array([[True, False]] * 3), ((1, 0),) * 3),
        (np.array([[1, 0], [0, 1], [1, 1]]), ((1, 0), (0, 1), (1, 1))),
        (np.asfortranarray(np.eye(3)[[2, 0, 1]]), (2, 0, 1)),
    ],
)
def test_labels_of_arrays_have_the_right_values(tmp_path, labels, wanted):
    np.savez(tmp_path / "x.npz", images=DIGITS[:3], labels=labels)
    np.save(tmp_path / "x.npy", DIGITS[:3])
    np.save(tmp_path / "l.npy", labels)
    assert read_images(tmp_path / "x.npz").labels == wanted
    source = open_source(tmp_path / "x.npy", labels=tmp_path / "l.npy")
    assert tuple(label for part in source.parts for label in part.labels) == wanted


@pytest.mark.parametrize(
    "labels", [np.array([0.5, 1, 2]), np.array([np.nan, 1, 2]), np.full((3, 2), 0.5), np.ones((3, 2))]
)
def test_other_floats_are_no_labels(tmp_path, labels):
    np.savez(tmp_path / "x.npz", images=DIGITS[:3], labels=labels)
    with pytest.raises(SourceError, match=r"whole numbers|one-hot"):
        read_images(tmp_path / "x.npz")
    assert read_images(tmp_path / "x.npz", labelled=False).labels is None


def idx_labels(code: int, labels: np.ndarray) -> bytes:
    return bytes([0, 0, code, labels.ndim]) + struct.pack(f">{labels.ndim}I", *labels.shape) + labels.tobytes()


@pytest.mark.parametrize(("code", "kind"), [(8, ">u1"), (9, ">i1"), (11, ">i2"), (12, ">i4")])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_labels_of_idx_files_may_be_ints_of_several_sizes(tmp_path, code, kind, pack):
    (tmp_path / "x").write_bytes(idx_of(DIGITS[:3]))
    for labels in (np.array([3, 1, 100], kind), np.array([[3, 1], [0, 9], [5, 100]], kind)):
        (tmp_path / "l").write_bytes(pack(idx_labels(code, labels)))
        source = open_source(tmp_path / "x", labels=tmp_path / "l")
        found = [label for part in source.parts for label in part.labels]
        assert found == (labels.tolist() if labels.ndim == 1 else list(map(tuple, labels.tolist())))


@pytest.mark.parametrize(
    "data",
    [
        idx_labels(13, np.zeros(3, ">f4")),
        idx_labels(12, np.zeros((3, 1, 1), ">i4")),
        idx_labels(12, np.zeros((3, 2), ">i4"))[:-1],
        idx_labels(12, np.zeros((3, 2), ">i4")) + b"\0",
        idx_labels(12, np.zeros((3, 0), ">i4")),
        bytes([0, 0, 12, 2]) + b"\xff" * 8,
        bytes([0, 0, 12, 2, 0]),
        b"",
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_damaged_idx_labels_are_refused(tmp_path, data, pack):
    (tmp_path / "x").write_bytes(idx_of(DIGITS[:3]))
    (tmp_path / "l").write_bytes(pack(data))
    with pytest.raises(SourceError, match="labels"):
        open_source(tmp_path / "x", labels=tmp_path / "l")


def test_messages_say_what_is_so(tmp_path):
    big = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.uint8, ((1 << 34) // 784 + 1000, 28, 28))
    del big  # the file has holes, and is whole and sound
    np.savez(tmp_path / "words.npz", images=DIGITS[:2], labels=np.array(["cat", "dog"], object))
    (tmp_path / "photo.JPEG").write_bytes(gzip.compress(b"\xff\xd8\xff"))
    parquet_of(tmp_path / "list.parquet", [[{"bytes": PNG, "path": "a"}]])
    for name, message in (
        ("big.npy", "more than the 17179869184 that a file may have; cut it"),
        ("words.npz", "save numbers as numpy.uint8 and words as numpy.str_"),
        ("photo.JPEG", "is a gzip file of something else"),
        ("list.parquet", "the column of images holds lists"),
    ):
        with pytest.raises(SourceError, match=message):
            open_source(tmp_path / name)
