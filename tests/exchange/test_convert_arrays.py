"""Arrays of other numbers than uint8 are refused with the way out, or converted by the rules of images, and said."""

import struct

import numpy as np
import pytest
from sources import npy_of, npz_of

from smalti.errors import SourceError
from smalti.exchange.sources import as_source, joined, open_source
from smalti.types import Source

rng = np.random.default_rng(5)
DEEP = rng.integers(0, 1 << 16, (3, 6, 5), np.uint16)
FLOATS = rng.random((3, 6, 5))


def taken(source: Source) -> np.ndarray:
    return joined(source).pixels


def idx_of_numbers(x: np.ndarray) -> bytes:
    code = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}[x.dtype.str[1:]]
    return bytes([0, 0, code, 3]) + struct.pack(">3I", *x.shape) + x.astype(x.dtype.newbyteorder(">")).tobytes()


SMALL = DEEP >> 8
ARRAYS = [
    (DEEP, SMALL, "16 bits a sample"),
    (DEEP.astype(">u2"), SMALL, "16 bits a sample"),
    (FLOATS, np.rint(255 * FLOATS), "float64"),
    (FLOATS.astype(np.float16), np.rint(255 * FLOATS.astype(np.float16).astype(float)), "float16"),
    (SMALL.astype(np.int64), SMALL, "int64"),
    (SMALL.astype(np.uint32), SMALL, "uint32"),
    ((SMALL // 2).astype(np.int8), SMALL // 2, "int8"),
]


@pytest.mark.parametrize(("x", "expected", "what"), ARRAYS, ids=[what for _, _, what in ARRAYS])
def test_arrays_of_other_numbers_are_converted_by_the_rules_of_images(x, expected, what, tmp_path):
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", images=x, labels=np.arange(3))
    (tmp_path / "x.idx").write_bytes(idx_of_numbers(x) if x.dtype.str[1:] in ("i1", "i2", "i4", "f4", "f8") else b"")
    sources = ["x.npy", "x.npz", *["x.idx"] * ((tmp_path / "x.idx").stat().st_size > 0)]
    for name in sources:
        with pytest.raises(
            SourceError, match=r"not .*; to convert it to 8-bit sRGB or gray, pack it with convert=True"
        ):
            open_source(tmp_path / name)
        source = open_source(tmp_path / name, convert=True)
        for _ in range(2):
            assert (taken(source) == expected).all()
            assert source.passed_over.converted.startswith(f"3 images of {what} to 8 bits (")
    for held in (x, list(x)):
        with pytest.raises(SourceError, match="must be uint8"):
            taken(as_source(held))
        source = as_source(held, convert=True)
        assert (taken(source) == expected).all()
        assert source.passed_over.converted.startswith(f"3 images of {what} to 8 bits (")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (FLOATS * 255, r"float64 must be 0 to 1, and are .* save x / x\.max\(\)"),
        (DEEP.astype(np.int32), "int32 must be 0 to 255"),
        (-SMALL.astype(np.int16), "int16 must be 0 to 255"),
        (SMALL.astype(np.uint16), r'uses none above 255.*x\.astype\("uint8"\)'),
    ],
)
def test_arrays_outside_of_the_range_of_their_type_are_refused(x, message, tmp_path):
    np.save(tmp_path / "x.npy", x)
    for source in (tmp_path / "x.npy", x, list(x)):
        with pytest.raises(SourceError, match=message):
            taken(as_source(source, convert=True))


@pytest.mark.parametrize("x", [DEEP.astype("M8[s]"), DEEP.astype(complex), DEEP.astype("S5"), DEEP[:, :, 0]])
def test_what_no_rule_is_for_is_refused_though_converted(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    for source in (tmp_path / "x.npy", x):
        with pytest.raises(SourceError, match="images must be uint8 of shape n h w"):
            taken(as_source(source, convert=True))


def test_an_npz_file_with_a_header_that_lies_about_numbers_is_our_error(tmp_path):
    (tmp_path / "x.npz").write_bytes(npz_of(images=npy_of("(9, 9, 9)", bytes(9), "<f4")))
    with pytest.raises(SourceError, match="does not hold the array"):
        open_source(tmp_path / "x.npz", convert=True)
