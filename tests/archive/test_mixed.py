# SPDX-License-Identifier: MIT
"""Files of images of all modes and sizes, some with ICC profiles: nothing is lost, whatever is done with them."""

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from independent_reader import read

import smalti
from smalti.container import format as fmt
from smalti.errors import CorruptError, FormatError

few = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def an_image(draw):
    h, w, c = draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    image = rng.integers(0, draw(st.sampled_from([1, 3, 256])), (h, w, c), dtype=np.uint8)
    return image[..., 0] if c == 1 else image


images = st.lists(an_image(), min_size=2, max_size=9)
profile = st.sampled_from([None, b"one", b"two" * 50])


@st.composite
def sources(draw):
    """Named and labelled images, with profiles or without."""
    drawn = draw(images)
    return [(image, f"{i}.png", i, draw(profile)) for i, image in enumerate(drawn)]


def as_source(rows, prefix=""):
    parts = [smalti.ImageSet(x[None], (prefix + name,), (label,), (icc,)) for x, name, label, icc in rows]
    return smalti.Source(parts, len(parts), named=True, labelled=True)


def contents(place):
    """All that a file says of its images."""
    with smalti.open(place) as archive:
        profiles = archive.profiles or [None] * len(archive)
        return list(zip(map(fixed, archive), archive.names, archive.labels, profiles, strict=True))


def fixed(x):
    """An image as something that can be compared."""
    return x.shape, x.tobytes()


def wanted(rows, prefix=""):
    return [(fixed(x), prefix + name, label, icc) for x, name, label, icc in rows]


@few
@given(sources())
def test_two_readers_agree(rows):
    file = io.BytesIO()
    smalti.pack(as_source(rows), file, max_error=0, model="none")
    if read(file.getvalue()).single is None:
        assert contents(file.getvalue()) == wanted(rows)
    said = read(file.getvalue())
    assert said.names == tuple(name for _, name, _, _ in rows)
    assert (*said.profiles, *[None] * (len(rows) - len(said.profiles))) == tuple(icc for *_, icc in rows)
    shapes = {(*x.shape, 1)[:3] for x, *_ in rows}
    assert {*said.shapes, *((h, w, mode) for _, mode, h, w in said.kinds if mode)} == shapes
    for block, kind in ((block, said.kinds[block.entry.kind]) for block in said.blocks):
        different = len({(x.shape, x.tobytes()) for x, *_ in rows}) == len(rows)  # no image is stored for two
        if not kind.mode and len(said.kinds) == 1 and len(said.blocks) == 1 and different:
            for part in block.parts:
                assert part.images in (None, [rows[i][0].tobytes() for i in part.rows])


@few
@given(an_image(), profile, st.booleans())
def test_two_readers_agree_on_a_single_file(image, icc, named):
    file = io.BytesIO()
    name = ("ü.png",) if named else None
    smalti.pack(smalti.ImageSet(image[None], name, None, (icc,)), file, max_error=0, model="none")
    with smalti.open(file.getvalue()) as archive:
        assert fixed(archive[0]) == fixed(image)
        assert (archive.profiles or (None,)) == (icc,)
    said = read(file.getvalue())
    assert (said.names, said.profiles or (None,)) == (name or (), (icc,))
    assert said.single.images in (None, [image.tobytes()])


@few
@given(sources(), sources(), st.data())
def test_append_select_merge_and_repair_lose_nothing(tmp_path, first, second, data):
    one, two, three = (tmp_path / f"{name}.smalti" for name in "123")
    smalti.pack(as_source(first), one, max_error=0, force=True, model="none")
    smalti.append(one, as_source(second, "b/"), max_error=0)
    every = wanted(first) + wanted(second, "b/")
    assert contents(one) == every
    assert read(one.read_bytes()).count == len(every)
    assert smalti.verify(one, deep=True) == []
    rows = data.draw(st.lists(st.integers(0, len(every) - 1), min_size=1, unique=True))
    smalti.select(one, two, rows, force=True)
    assert contents(two) == [every[i] for i in sorted(rows)]
    assert smalti.verify(two, deep=True) == []
    read(two.read_bytes())
    smalti.pack(as_source(second, "c/"), two, max_error=0, force=True, model="fashion")
    smalti.merge([one, two], three, force=True)
    assert contents(three) == every + wanted(second, "c/")
    assert smalti.verify(three, deep=True) == []
    read(three.read_bytes())
    one.write_bytes(three.read_bytes()[:-20])
    smalti.repair(one, two, force=True)
    assert sorted(contents(two), key=str) == sorted(contents(three), key=str)
    assert smalti.verify(two, deep=True) == []
    read(two.read_bytes())


@few
@given(sources(), st.data())
def test_what_repair_saves_of_a_damaged_file_is_right(tmp_path, rows, data):
    one, two = tmp_path / "1.smalti", tmp_path / "2.smalti"
    smalti.pack(as_source(rows), one, max_error=0, force=True, model="none")
    whole = one.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    one.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << data.draw(st.integers(0, 7))]) + whole[at + 1 :])
    try:
        smalti.repair(one, two, force=True)
    except FormatError:
        return
    assert smalti.verify(two, deep=True) == []
    there = wanted(rows)
    for found in contents(two):
        pixels, name, label, icc = found
        assert any(pixels == there[i][0] for i in range(len(rows)))
        if not name.startswith("lost-"):
            mine = next(row for row in there if row[1] == name)
            assert pixels == mine[0]
            assert label in (mine[2], -1)
            assert icc in (mine[3], None)


def test_a_file_of_version_1_stays_one_until_an_addition_is_used(tmp_path, digits):
    path = tmp_path / "x.smalti"
    smalti.pack(digits[:3], path, quality=20, effort=1)
    smalti.append(path, digits[3:5], quality=20)
    assert path.read_bytes()[4] == fmt.VERSION
    smalti.append(path, np.zeros((2, 5, 4, 2), np.uint8), max_error=0)
    assert path.read_bytes()[4] == fmt.EXTENDED
    assert read(path.read_bytes()).count == 7
    assert smalti.verify(path, deep=True) == []


def test_an_interrupted_append_leaves_the_version_as_it_was(tmp_path, digits):
    path = tmp_path / "x.smalti"
    smalti.pack(digits[:3], path, quality=20, effort=1)
    before = path.read_bytes()

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        smalti.append(path, np.zeros((2, 5, 4, 2), np.uint8), max_error=0, progress=fail)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("at", "start"), [(21, b"\x89SML\x03"), (12, b"\x89SML\x14")])
def test_a_later_version_says_which_release_it_needs(tmp_path, at, start):
    data = start + bytes(at - 5) + bytes([4, 7])
    with pytest.raises(smalti.errors.VersionError, match=r"install smalti 4\.7 or newer"):
        smalti.open(data + bytes(9))
    with pytest.raises(smalti.errors.VersionError, match="install a newer smalti"):
        smalti.open(data[:-1])


def test_an_image_without_a_model_needs_its_sides():
    from smalti.container.single_image import pack_single

    data = bytearray(pack_single(fmt.EMPTY_MODEL, 0, None, None, b"\xff\0", bytes(8)))
    with pytest.raises(CorruptError, match="no size"):
        smalti.open(bytes(data))


def pieces(count, first=0):
    """Images of as many sizes as there are images, in gray and in colour."""
    rng = np.random.default_rng(first)
    sides = range(first, first + count)
    return [rng.integers(0, 256, (3 + i, 4, *[(), (3,)][i % 2]), dtype=np.uint8) for i in sides]


def test_the_shapes_of_mixed_blocks_are_known_whatever_is_done_with_the_file(tmp_path):
    one, two, output = tmp_path / "one.smalti", tmp_path / "two.smalti", tmp_path / "y.smalti"
    smalti.pack(pieces(5), one, lossless=True)
    smalti.pack(pieces(4, first=7), two, lossless=True)

    def check(path, wanted):
        with smalti.open(path) as archive:
            assert any(kind.mixed for kind in archive.contents.index.kinds)
            assert archive.contents.shapes() == {(*x.shape, 1)[:3] for x in wanted}
            assert [x.tobytes() for x in archive] == [x.tobytes() for x in wanted]

    check(one, pieces(5))
    smalti.merge([one, two], output)
    check(output, pieces(5) + pieces(4, first=7))
    smalti.select(output, tmp_path / "whole.smalti", range(9))  # blocks are copied
    check(tmp_path / "whole.smalti", pieces(5) + pieces(4, first=7))
    smalti.select(output, tmp_path / "some.smalti", [1, 2, 6, 7])
    check(tmp_path / "some.smalti", pieces(5)[1:3] + pieces(4, first=7)[1:3])
    (tmp_path / "torn.smalti").write_bytes(output.read_bytes()[:-20])
    smalti.repair(tmp_path / "torn.smalti", tmp_path / "saved.smalti")
    check(tmp_path / "saved.smalti", pieces(5) + pieces(4, first=7))
    smalti.append(one, pieces(3, first=12), max_error=0)
    check(one, pieces(5) + pieces(3, first=12))
