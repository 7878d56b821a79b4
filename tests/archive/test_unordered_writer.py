"""Images in no order, whose order carries blocks."""

import dataclasses
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import smalti
from smalti.container.annotation_codec import pack_numbers, unpack_numbers
from smalti.container.archive_reader import ArchiveReader
from smalti.container.format import CARRIERS
from smalti.container.permutation_code import capacity, decode_permutation, encode_permutation
from smalti.container.records import ArchiveWriter
from smalti.demo.samples import draw_digits
from smalti.errors import CorruptError, SourceError, UsageError
from smalti.util.storage import Memory

KEYS = st.lists(st.binary(max_size=2), max_size=60)


@given(KEYS, st.binary(max_size=20))
def test_what_an_order_says_is_heard(keys, message):
    order = encode_permutation(keys, message)
    if order is None:
        assert 8 * len(message) > capacity(keys)
        return
    assert sorted(order) == list(range(len(keys)))
    assert decode_permutation([keys[i] for i in order], len(message)) == message


def test_an_order_says_log2_of_n_factorial_bits():
    keys = [i.to_bytes(2, "big") for i in range(1000)]
    assert capacity(keys) == pytest.approx(math.log2(math.factorial(1000)))
    assert encode_permutation(keys, b"\xff" * int(capacity(keys) // 8)) is not None
    assert encode_permutation(keys, b"\xff" * (int(capacity(keys) // 8) + 2)) is None


@pytest.fixture(scope="module")
def many():
    return draw_digits(500, seed=3)


@pytest.mark.parametrize(
    "asked",
    [{"quality": 8, "effort": 1}, {"quality": 40, "effort": 2}, pytest.param({"max_error": 0}, marks=pytest.mark.slow)],
)
def test_unordered_images_are_all_there_and_take_less(tmp_path, many, asked):
    x = many.copy()
    x[40:50] = x[30]  # some are the same
    images = smalti.ImageSet(x, None, tuple(range(500)))
    packing = smalti.Packing(100, unordered=True)
    ordered = smalti.pack(images, tmp_path / "o.smalti", packing=smalti.Packing(100), **asked)
    packed = smalti.pack(images, tmp_path / "u.smalti", packing=packing, **asked)
    assert ordered.bytes - packed.bytes > 0.75 * math.lgamma(400) / math.log(2) / 8
    expected = smalti.load(tmp_path / "o.smalti").pixels
    with smalti.open(tmp_path / "u.smalti") as archive:
        assert any(not block.offset for block in archive.contents.index.blocks)
        assert (archive[499] == expected[archive.labels[499]]).all()  # carried, and asked for first
        assert sorted(archive.labels) == list(range(500))
        assert (archive[:] == expected[list(archive.labels)]).all()
    assert smalti.verify(tmp_path / "u.smalti", deep=True) == []


def test_a_damaged_set_costs_what_it_carries_and_no_more(tmp_path, many):
    path = tmp_path / "u.smalti"
    smalti.pack(many, path, quality=8, effort=1, packing=smalti.Packing(100, unordered=True))
    with smalti.open(path) as archive:
        blocks = archive.contents.index.blocks
    carried = sum(block.images for block in blocks if not block.offset)
    data = bytearray(path.read_bytes())
    (tmp_path / "no-index.smalti").write_bytes(data[:-20])
    assert smalti.repair(tmp_path / "no-index.smalti", tmp_path / "r.smalti").images == 500
    data[blocks[0].offset + 50] ^= 1
    path.write_bytes(data)
    with smalti.open(path) as archive:
        archive[150]
        with pytest.raises(CorruptError, match="block 0"):
            archive[499]
    assert smalti.repair(path, tmp_path / "s.smalti").images == 500 - 100 - carried


def test_small_sets_and_appended_ones_are_as_good(tmp_path, many):
    path = tmp_path / "u.smalti"
    smalti.pack(many[:3], path, quality=8, effort=1, packing=smalti.Packing(unordered=True))
    smalti.append(path, many[3:400], quality=8, effort=1, packing=smalti.Packing(100, unordered=True))
    smalti.append(path, many[400:], quality=8, effort=1)
    assert len(smalti.load(path).pixels) == 500
    smalti.merge([path, path], tmp_path / "m.smalti")
    smalti.select(path, tmp_path / "s.smalti", range(390, 410))
    whole = smalti.load(path).pixels
    assert (smalti.load(tmp_path / "m.smalti").pixels == np.concatenate([whole, whole])).all()
    assert (smalti.load(tmp_path / "s.smalti").pixels == whole[390:410]).all()


def test_names_and_means_do_not_go_with_no_order(tmp_path, many):
    unordered = smalti.Packing(unordered=True)
    with pytest.raises(UsageError, match="not a mean"):
        smalti.pack(many, tmp_path / "x.smalti", psnr=20, packing=unordered)
    with pytest.raises(UsageError, match="names"):
        smalti.pack(smalti.ImageSet(many[:2], ("a", "b")), tmp_path / "x.smalti", packing=unordered)
    with pytest.raises(SourceError):
        smalti.pack(smalti.Source([], 0, named=False, labelled=False), tmp_path / "x.smalti", packing=unordered)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", ["twice", "none carried", "none open"])
def test_a_set_carries_something_and_no_block_is_in_two(tmp_path, many, change):
    path = tmp_path / "u.smalti"
    smalti.pack(many, path, quality=8, effort=1, packing=smalti.Packing(100, unordered=True))
    data = path.read_bytes()
    reader = ArchiveReader(Memory(data))
    ((first, opened, carried),) = (unpack_numbers(told, 3, 99) for _, told in reader.sections(CARRIERS))
    (segment,) = reader.segments
    if change != "twice":
        others = tuple(entry for entry in segment.sections if entry.code != CARRIERS)
        reader.segments = [dataclasses.replace(segment, sections=others)]
    place = (first, opened, carried) if change == "twice" else (0, 1, 0) if change == "none carried" else (opened, 0, 1)
    file = io.BytesIO(data)
    file.seek(0, io.SEEK_END)
    writer = ArchiveWriter.resume(file, reader)
    writer.section(CARRIERS, 0, pack_numbers(place))
    writer.finish()
    path.write_bytes(file.getvalue())
    assert any("set" in line for line in smalti.verify(path))
