"""Names, labels and other things that are said of each image."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smalti.container.annotation_codec import (
    pack_labels,
    pack_names,
    pack_numbers,
    pack_text,
    unpack_labels,
    unpack_names,
    unpack_numbers,
    unpack_text,
)
from smalti.errors import CorruptError


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-15)
    return deflater.compress(data) + deflater.flush()


CLASSES = np.random.default_rng(0).integers(0, 10, 10_000).tolist()
PIECES = st.sampled_from(["a", "/", "0", "7", "007", "12", "99", ".png", "ü", " ", "images-", "123456789012345678901"])
NAMES = st.lists(st.text(min_size=1, max_size=20) | st.lists(PIECES, min_size=1, max_size=8).map("".join), max_size=40)
NUMBERS = st.integers(-(2**61) + 1, 2**61 - 1)


@pytest.mark.parametrize(
    ("names", "most"),
    [
        ([f"train/{c}/{i:05d}.png" for i, c in enumerate(CLASSES)], 1.0),
        (sorted(f"train/{c}/{i:05d}.png" for i, c in enumerate(CLASSES)), 1.0),
        ([f"{i}.png" for i in range(10_000)], 0.02),
        ([f"test/{i}" for i in range(10_000)], 0.02),
    ],
)
def test_names_that_count_take_next_to_nothing(names, most):
    data = pack_names(names)
    assert len(data) <= most * len(names)
    assert unpack_names(data, len(names)) == tuple(names)


@given(NAMES.map(lambda names: [name.replace("\0", "-") for name in names]).filter(bool))
def test_any_names_come_back(names):
    assert unpack_names(pack_names(names), len(names)) == tuple(names)


@given(
    st.lists(NUMBERS, min_size=1, max_size=50)
    | st.lists(st.text(max_size=9), min_size=1, max_size=50)
    | st.lists(st.lists(NUMBERS, max_size=4).map(tuple), min_size=1, max_size=50)
)
def test_any_labels_come_back(labels):
    assert unpack_labels(pack_labels(labels), len(labels)) == tuple(labels)


@given(st.lists(st.integers(0, 9), max_size=50), st.text(max_size=50))
def test_numbers_and_texts_come_back(numbers, text):
    assert list(unpack_numbers(pack_numbers(numbers), len(numbers), 9)) == numbers
    assert unpack_text(pack_text(text)) == text


def test_classes_take_about_their_entropy():
    assert len(pack_labels(CLASSES)) < 1.1 * 10_000 * np.log2(10) / 8


@pytest.mark.parametrize("unpack", [unpack_names, unpack_labels, lambda data, n: unpack_numbers(data, n, 9)])
@pytest.mark.parametrize("packed", [pack_names([f"a/{i}" for i in range(30)]), pack_labels(["x", "y"] * 15)])
def test_damage_is_our_error_or_as_many_entries(packed, unpack):
    damaged = [packed[:end] for end in range(len(packed))]
    damaged += [
        packed[:at] + bytes([packed[at] ^ 1 << bit]) + packed[at + 1 :] for at in range(len(packed)) for bit in range(8)
    ]
    refused = 0
    for data in damaged:
        try:
            assert len(unpack(data, 30)) == 30
        except CorruptError:
            refused += 1
    assert refused > len(damaged) / 2


def test_a_few_bytes_that_say_gigabytes_are_refused():
    bomb = deflated(b"0" * ((1 << 24) + 1))
    with pytest.raises(CorruptError, match="does not end"):
        unpack_names(bomb, 1)
    template = bytes([1, 1, 1, 0, 0]) + b"\x80\x20"  # one number of 4096 digits
    template += bytes(65_536) + bytes([1]) + bytes(65_536)
    with pytest.raises(CorruptError, match="more room"):
        unpack_names(deflated(template), 65_536)
    lists = bytes([2]) + b"\xff\xff\x7f" + bytes(2_097_151)
    with pytest.raises(CorruptError, match="is the most"):
        unpack_labels(deflated(lists), 1)


def test_sections_of_no_images_are_read_as_any():
    assert unpack_names(deflated(b"\0"), 0) == unpack_names(deflated(b"\1\0"), 0) == ()
    assert unpack_labels(deflated(b"\1"), 0) == ()
    for unpack, data in ((unpack_names, b"\2"), (unpack_names, b"\0x"), (unpack_labels, b"\x09")):
        with pytest.raises(CorruptError):
            unpack(deflated(data), 0)
