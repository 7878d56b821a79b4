# SPDX-License-Identifier: MIT
"""Files with packing each: an image is read and checked without its neighbours, at few bytes."""

import io
import json

import numpy as np
import pytest
from helpers import fails, run
from independent_reader import read

import smalti
from smalti.archive.archive import MOST_ALONE, Archive
from smalti.archive.info import describe_file
from smalti.demo.samples import draw_digits
from smalti.errors import CorruptError, UsageError
from smalti.util.storage import Memory

EACH = smalti.Packing(streams="each")
TARGETS = [{"max_error": 0}, {"max_error": 3}, {"quality": 10}, {"quality": 70}, {"min_psnr": 30}]
ICONS = [np.random.default_rng(i).integers(0, 3, (9 + i, 30, i % 4 + 1), dtype=np.uint8) * 80 for i in range(9)]
ICONS = [icon[..., 0] if icon.shape[2] == 1 else icon for icon in ICONS]


class Counted(Memory):
    """Bytes in memory that tell which of them were read."""

    def __init__(self, data):
        super().__init__(data)
        self.ranges = []

    def read(self, at, size):
        self.ranges.append((at, at + size))
        return super().read(at, size)


@pytest.fixture(scope="module")
def digits():
    return draw_digits(64)


def packed(images, **options):
    """The bytes of a file of images."""
    file = io.BytesIO()
    smalti.pack(images, file, **{"packing": EACH, "effort": 1} | options)
    return file.getvalue()


def alone(data, i):
    """An image that is read from a file that nothing was read from."""
    with smalti.open(data) as archive:
        return archive[i]


@pytest.fixture(scope="module")
def each(digits):
    return packed(digits[:40], max_error=0)


@pytest.mark.parametrize("target", TARGETS)
def test_images_are_the_same_alone_and_together_and_with_packing_block(target, digits):
    x = digits[:20].copy()
    x[3] = np.random.default_rng(0).integers(0, 256, x[3].shape)
    blocks = smalti.load(packed(x, packing="block", **target)).pixels
    data = packed(x, **target)
    assert (smalti.load(data).pixels == blocks).all()
    assert smalti.verify(data, deep=True) == []
    for i in range(len(x)):
        assert (alone(data, i) == blocks[i]).all()
    read(data)


@pytest.mark.parametrize("target", [{"max_error": 0}, {"quality": 50}])
def test_images_of_many_shapes_are_read_alone_from_mixed_blocks(target):
    data = packed([*ICONS, *ICONS[:4]], **target)
    images = list(smalti.open(data))
    for i, image in enumerate(images):
        assert (alone(data, i) == image).all()
    read(data)


def test_noise_is_kept_as_it_is_and_read_alone():
    x = np.random.default_rng(1).integers(0, 256, (5, 4, 5), dtype=np.uint8)
    data = packed(x, quality=50)
    assert all((alone(data, i) == image).all() for i, image in enumerate(x))
    assert describe_file(data)["bytes_an_image"] < 60


def test_one_image_takes_the_table_of_its_block_and_its_own_bytes(each):
    storage = Counted(each)
    archive = Archive(storage)
    opened = len(storage.ranges)
    archive[7]
    first = storage.ranges[opened:]
    archive[30]
    assert sum(end - start for start, end in first) < 3000
    assert len(storage.ranges) - opened - len(first) == 1
    start, end = storage.ranges[-1]
    assert end - start < 250


def test_damage_elsewhere_in_a_block_does_not_hinder_an_image(each):
    whole = smalti.open(each)
    entry = whole.contents.index.blocks[0]
    storage = Counted(each)
    Archive(storage)[33]
    at, end = storage.ranges[-1]
    damaged = bytearray(each)
    for i in (at - 30, at - 1, end, end + 40, entry.offset + 35):
        damaged[i] ^= 0x55
    assert (alone(bytes(damaged), 33) == whole[33]).all()
    with pytest.raises(CorruptError, match="image 32 of block 0: an image decodes to other pixels"):
        alone(bytes(damaged), 32)
    with pytest.raises(CorruptError, match="checksum of a block"):
        smalti.load(bytes(damaged))
    with pytest.raises(CorruptError, match="image 32 of block 0"):
        _ = smalti.open(bytes(damaged))[[31, 32]]
    assert smalti.verify(bytes(damaged)) != []


def test_no_damage_to_the_bytes_of_an_image_gives_other_pixels(each):
    storage = Counted(each)
    Archive(storage)[33]
    at, end = storage.ranges[-1]
    for i in range(at, end):
        damaged = bytearray(each)
        damaged[i] ^= 0x21
        with pytest.raises(CorruptError):
            alone(bytes(damaged), 33)


def test_several_images_are_read_alone_if_they_are_few_of_their_block(each, digits):
    archive = smalti.open(each)
    assert (archive[[5, 1, 5]] == digits[[5, 1, 5]]).all()
    assert [image.tobytes() for image in archive.__getitems__([3])] == [digits[3].tobytes()]
    assert not archive._cache._kept
    assert (archive[10:30] == digits[10:30]).all()
    assert archive._cache._kept


def test_a_block_is_decoded_once_when_many_of_its_images_were_asked_for(each, digits):
    archive = smalti.open(each)
    for i in range(40):
        assert (archive[i] == digits[i]).all()
        assert bool(archive._cache._kept) == (i > 40 // MOST_ALONE)


def test_append_merge_and_select_keep_the_packing(each, digits, tmp_path):
    path, other, third = tmp_path / "1.smalti", tmp_path / "2.smalti", tmp_path / "3.smalti"
    path.write_bytes(each)
    smalti.append(path, digits[40:44], max_error=0)
    smalti.append(path, digits[44:48], max_error=0, packing=smalti.Packing(streams="block"))
    smalti.merge([path, path], other)
    smalti.select(other, third, [1, 40, 41, 45, 50])
    x = np.concatenate([digits[:48], digits[:48]])
    assert (smalti.load(other).pixels == x).all()
    for i, row in enumerate([1, 40, 41, 45, 50]):
        assert (alone(third, i) == x[row]).all()
    with smalti.open(third) as archive:
        heads = [archive.contents.payload(block)[0] & 32 for block in range(len(archive.contents.index.blocks))]
    assert heads == [32, 32, 0, 32]
    assert smalti.verify(third, deep=True) == []


def test_a_size_that_is_asked_is_kept(digits):
    data = packed(digits, bytes_an_image=24)
    assert 20 < len(data) / 64 <= 24


def test_info_says_the_packing(each, digits):
    assert describe_file(each)["packing"] == "each"
    assert "each image by itself" in describe_file(each)["first_block"]
    assert describe_file(packed(digits, quality=50, packing="block"))["packing"] == "block"


def test_the_command_line_packs_each(digits, tmp_path):
    np.save(tmp_path / "x.npy", digits[:9])
    run("pack", tmp_path / "x.npy", "-o", tmp_path / "x.smalti", "--packing", "each", "--lossless", "--effort", 1)
    assert json.loads(run("info", tmp_path / "x.smalti", "--json").stdout)["packing"] == "each"
    fails(
        2,
        "pack",
        tmp_path / "x.npy",
        "-o",
        tmp_path / "y.smalti",
        "--packing",
        "each",
        "--unordered",
        words="one by one",
    )


def test_a_packing_that_there_is_not_is_refused(digits, tmp_path):
    with pytest.raises(UsageError, match="the packing 'some' was asked; give one of: block, each"):
        smalti.pack(digits[:2], tmp_path / "x.smalti", packing="some")


def test_repair_saves_all_images_of_a_damaged_block_but_the_damaged_ones(digits, tmp_path):
    path, saved = tmp_path / "x.smalti", tmp_path / "y.smalti"
    named = smalti.ImageSet(digits[:40], tuple(f"{i}.png" for i in range(40)))
    data = bytearray(packed(named, max_error=0, packing=smalti.Packing(20, streams="each")))
    for i in (7, 8, 33):
        storage = Counted(bytes(data))
        with Archive(storage) as archive:
            archive[0 if i < 20 else 20]  # so that the table of the block is known
            archive[i]
        data[storage.ranges[-1][0] + 2] ^= 4
    path.write_bytes(data)
    done = smalti.repair(path, saved)
    left = [i for i in range(40) if i not in (7, 8, 33)]
    assert done.images == 37
    assert "37 of 40 images are saved; 3 are lost" in done.notes
    assert any(note.startswith("37 of the saved images are of damaged blocks") for note in done.notes)
    with smalti.open(saved) as archive:
        assert archive.names == tuple(f"{i}.png" for i in left)
        assert (archive[:] == digits[left]).all()
    assert smalti.verify(saved, deep=True) == []
