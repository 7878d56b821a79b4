"""Files that change: many appends, remove, replace, compact; copies of images; readers of the old state."""

import itertools
import multiprocessing
import os

import numpy as np
import pytest

import smalti
from smalti.archive.duplicates import Originals
from smalti.container.growing.append import grow
from smalti.errors import OutputError, SourceError, UsageError

rng = np.random.default_rng(6)
TINY = rng.integers(0, 256, (60, 5, 4), dtype=np.uint8)
needs_locks = pytest.mark.skipif(os.name == "nt", reason="a file that is open cannot be replaced there")


def named(x, first=0):
    several = range(first, first + len(x))
    return smalti.ImageSet(x, tuple(f"a/{i}.png" for i in several), tuple(i % 3 for i in several))


def content(path):
    with smalti.open(path) as archive:
        return [image.tobytes() for image in archive], archive.names, archive.labels


def expected(x, numbers, names=None):
    names = numbers if names is None else names
    return [x[i].tobytes() for i in numbers], tuple(f"a/{i}.png" for i in names), tuple(i % 3 for i in names)


@pytest.fixture
def grown(tmp_path):
    """Forty images with names and labels, of which all but three were appended one at a time."""
    path = tmp_path / "x.smalti"
    smalti.pack(named(TINY[:3]), path, max_error=0, model="none")
    for i in range(3, 40):
        smalti.append(path, named(TINY[i : i + 1], i), max_error=0, model="none")
    return path


def test_many_appends_leave_few_indexes_and_sections(grown):
    assert content(grown) == expected(TINY, range(40))
    with smalti.open(grown) as archive:
        reader = archive.contents.reader
        sizes = [segment.size for segment in reader.segments]
        assert 1 < len(sizes) < 7
        assert all(before > 2 * after for before, after in itertools.pairwise(sizes[:-1]))
        assert len(reader.index.sections) < 16
        assert archive[17].tobytes() == TINY[17].tobytes()
        assert archive.find("a/39.png") == 39
    assert smalti.verify(grown, deep=True) == []


@pytest.mark.parametrize("which", [[3, 5], ["a/3.png", "a/5.png"], [-37, "a/5.png"], np.array([5, 3])])
def test_removed_images_are_gone_and_the_others_move_up(grown, which):
    done = smalti.remove(grown, which)
    left = [i for i in range(40) if i not in (3, 5)]
    assert (done.images, done.bytes) == (38, grown.stat().st_size)
    assert content(grown) == expected(TINY, left)
    smalti.remove(grown, 3)
    smalti.append(grown, named(TINY[3:4], 3), max_error=0)  # its name is free
    assert content(grown) == expected(TINY, [*left[:3], *left[4:], 3])
    assert smalti.verify(grown, deep=True) == []


def test_all_images_can_be_removed(grown):
    smalti.remove(grown, range(40))
    assert content(grown) == ([], (), ())
    assert smalti.compact(grown).images == 0
    smalti.append(grown, TINY[:2], max_error=0)
    assert content(grown) == ([image.tobytes() for image in TINY[:2]], None, None)


def test_a_replaced_image_keeps_place_name_and_label(grown):
    smalti.replace(grown, "a/7.png", TINY[50:51], lossless=True)
    smalti.replace(grown, [7, 0, 39], TINY[51:54], max_error=0)
    numbers = [52, *range(1, 7), 51, *range(8, 39), 53]
    assert content(grown) == expected(TINY, numbers, range(40))
    smalti.remove(grown, [0, "a/7.png"])
    assert content(grown) == expected(TINY, [*numbers[1:7], *numbers[8:]], [*range(1, 7), *range(8, 40)])
    assert smalti.verify(grown, deep=True) == []


def test_a_replacement_may_bring_another_size_and_a_label(grown):
    other = rng.integers(0, 256, (1, 3, 7, 3), dtype=np.uint8)
    smalti.replace(grown, 4, smalti.ImageSet(other, labels=(9,)), max_error=0)
    with smalti.open(grown) as archive:
        assert (archive[4] == other[0]).all()
        assert (archive.labels[4], archive.labels[5], archive.names[4]) == (9, 2, "a/4.png")
        assert [image.shape for image in archive[3:6]] == [(5, 4), (3, 7, 3), (5, 4)]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda path: smalti.remove(path, 40), UsageError, "no image 40"),
        (lambda path: smalti.remove(path, -41), UsageError, "no image -41"),
        (lambda path: smalti.remove(path, [1, "a/1.png"]), UsageError, "given twice"),
        (lambda path: smalti.remove(path, "b"), UsageError, "no image named 'b'"),
        (lambda path: smalti.remove(path, [True]), UsageError, "no image True"),
        (lambda path: smalti.remove(f"file://{path}", 1), UsageError, "URL"),
        (lambda path: smalti.replace(path, [1, 2], TINY[:1], max_error=0), SourceError, "1 images were given for 2"),
        (lambda path: smalti.replace(path, 1, TINY[:2], max_error=0), SourceError, "more images"),
        (lambda path: smalti.replace(path, 1, TINY[:1], target=smalti.Target(psnr=30.0)), UsageError, "appended at"),
    ],
)
def test_a_change_that_cannot_be_leaves_the_file_as_it_was(grown, change, error, words):
    before = grown.read_bytes()
    with pytest.raises(error, match=words):
        change(grown)
    assert grown.read_bytes() == before


def test_a_file_of_one_image_has_nothing_to_remove(tmp_path):
    path = tmp_path / "x.smalti"
    smalti.pack(TINY[:1], path, max_error=0)
    for change in (lambda: smalti.remove(path, 0), lambda: smalti.replace(path, 0, TINY[1:2], max_error=0)):
        with pytest.raises(UsageError, match="file of one image"):
            change()
    assert smalti.compact(path).bytes == path.stat().st_size


@needs_locks
@pytest.mark.parametrize("lossy", [False, True])
def test_compacting_keeps_every_pixel_and_joins_small_blocks(tmp_path, digits, lossy):
    path = tmp_path / "x.smalti"
    how = {"quality": 30, "effort": 1} if lossy else {"max_error": 0}
    smalti.pack(named(digits[:2]), path, **how)
    for i in range(2, 12):
        smalti.append(path, named(digits[i : i + 1], i), **how)
    smalti.remove(path, [0, 4])
    smalti.replace(path, 1, digits[15:16], **how)
    before, size = content(path), path.stat().st_size
    with smalti.open(path) as old:
        done = smalti.compact(path)
        assert [image.tobytes() for image in old] == before[0]
    assert done.bytes == path.stat().st_size < size - 1000
    assert content(path) == before
    with smalti.open(path) as archive:
        assert len(archive.contents.index.blocks) <= 2
        assert archive.contents.index.stored == 10
    assert smalti.verify(path, deep=True) == []
    assert smalti.compact(path).bytes == done.bytes


def test_compacting_never_makes_a_file_larger(tmp_path):
    path = tmp_path / "x.smalti"
    small = rng.integers(0, 256, (200, 3, 3), dtype=np.uint8)
    smalti.pack(small, path, max_error=0, model="none", packing=smalti.Packing(20, unordered=True))
    before = path.read_bytes()
    for _ in range(2):
        assert smalti.compact(path).bytes == path.stat().st_size <= len(before)
    with smalti.open(before) as old, smalti.open(path) as new:
        assert (old[:] == new[:]).all()
    smalti.pack(TINY, path, max_error=0, model="none", force=True)
    before = path.read_bytes()
    assert smalti.compact(path).bytes == len(before)
    assert path.read_bytes() == before


def test_info_says_what_compacting_saves(grown):
    from smalti.archive.info import describe_file

    smalti.remove(grown, [1, 2])
    told, before = describe_file(grown)["compact_saves"], grown.stat().st_size
    saved = before - smalti.compact(grown).bytes
    assert 0.7 * told <= saved
    assert told > 1000
    assert describe_file(grown)["compact_saves"] < 100


def test_two_writers_at_once_are_refused(grown):
    pytest.importorskip("fcntl", reason="needs the locks of Unix")
    with smalti.open(grown) as archive, grow(grown, archive.contents.reader):
        for change in (
            lambda: smalti.remove(grown, 1),
            lambda: smalti.replace(grown, 1, TINY[:1], max_error=0),
            lambda: smalti.compact(grown),
            lambda: smalti.append(grown, named(TINY[:1], 99), max_error=0),
        ):
            with pytest.raises(OutputError, match="another process"):
                change()
    assert content(grown) == expected(TINY, range(40))


def _hold(path, ready):
    with smalti.open(path) as archive, grow(path, archive.contents.reader):
        ready.set()
        ready.wait(60)
        multiprocessing.Event().wait(60)


def test_a_writer_that_dies_leaves_no_lock(grown):
    pytest.importorskip("fcntl", reason="needs the locks of Unix")
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_hold, args=(grown, ready))
    process.start()
    assert ready.wait(60)
    with pytest.raises(OutputError, match="another process"):
        smalti.remove(grown, 1)
    process.kill()
    process.join()
    assert smalti.remove(grown, 1).images == 39


@needs_locks
def test_a_writer_does_not_write_to_a_file_that_was_replaced(grown):
    with smalti.open(grown) as archive:
        smalti.compact(grown)
        with pytest.raises(OutputError, match="has changed"), grow(grown, archive.contents.reader):
            pass


@pytest.mark.parametrize("what", ["remove", "replace"])
def test_a_change_that_is_cut_off_at_any_byte_loses_nothing(grown, what):
    old = grown.read_bytes()
    before = content(grown)
    smalti.remove(grown, 2) if what == "remove" else smalti.replace(grown, 2, TINY[50:51], max_error=0)
    new = grown.read_bytes()
    assert new[21 : len(old)] == old[21:]
    for end in range(len(old), len(new), 7):
        grown.write_bytes(old[:21] + new[21:end])
        assert content(grown) == before
        assert smalti.verify(grown) == []
    grown.write_bytes(old[:21] + new[21:])
    smalti.remove(grown, 2) if what == "remove" else smalti.replace(grown, 2, TINY[50:51], max_error=0)
    assert grown.read_bytes() == new


def test_what_is_removed_or_replaced_stays_so_in_other_files(grown, tmp_path):
    smalti.remove(grown, [0, 20])
    smalti.replace(grown, 5, TINY[50:51], max_error=0)
    right = content(grown)
    smalti.merge([grown], tmp_path / "m.smalti")
    assert content(tmp_path / "m.smalti") == right
    smalti.select(grown, tmp_path / "s.smalti", [4, 5, 30])
    assert content(tmp_path / "s.smalti") == tuple(type(part)(part[i] for i in (4, 5, 30)) for part in right)
    assert smalti.repair(grown, tmp_path / "r.smalti").complete
    assert content(tmp_path / "r.smalti") == right
    grown.write_bytes(grown.read_bytes()[:-20])
    smalti.repair(grown, tmp_path / "r.smalti", force=True)
    assert content(tmp_path / "r.smalti") == right


# Copies of images


def test_a_copy_takes_at_most_three_bytes(tmp_path):
    x = rng.integers(0, 256, (400, 4, 4), dtype=np.uint8)
    order = rng.permutation(np.r_[np.arange(400), rng.integers(0, 400, 400)])
    one, two = tmp_path / "one.smalti", tmp_path / "two.smalti"
    smalti.pack(x, one, max_error=0, model="none")
    done = smalti.pack(x[order], two, max_error=0, model="none")
    assert (done.images, done.copies, done.without_model) == (800, 400, 400)
    assert two.stat().st_size - one.stat().st_size <= 3 * 400
    with smalti.open(two) as archive:
        assert (archive[:] == x[order]).all()
        assert (archive[[7, 799, 7]] == x[order][[7, 799, 7]]).all()
        assert archive.contents.index.stored == 400
        assert sum(len(part) for part in archive.parts()) == 800
    assert smalti.verify(two, deep=True) == []


def test_copies_have_names_labels_and_profiles_of_their_own(tmp_path):
    path = tmp_path / "x.smalti"
    x = TINY[[0, 1, 0, 2, 1, 1]]
    names, profiles = tuple("abcdef"), (None, b"one", b"two", None, b"one", None)
    smalti.pack(smalti.ImageSet(x, names, tuple(range(6)), profiles), path, max_error=0)
    smalti.append(path, smalti.ImageSet(TINY[[0, 5, 5]], ("g", "h", "i"), (6, 7, 8)), max_error=0)
    with smalti.open(path) as archive:
        assert (archive[:] == TINY[[0, 1, 0, 2, 1, 1, 0, 5, 5]]).all()
        assert archive.names == (*names, "g", "h", "i")
        assert archive.labels == tuple(range(9))
        assert archive.profiles == (*profiles, None, None, None)
        assert archive.contents.index.stored == 5
    smalti.select(path, tmp_path / "y.smalti", [1, 4, 7, 8])
    with smalti.open(tmp_path / "y.smalti") as archive:
        assert (archive[:] == TINY[[1, 1, 5, 5]]).all()
        assert (archive.names, archive.contents.index.stored) == (("b", "e", "h", "i"), 2)


@pytest.mark.parametrize("target", [{"quality": 40}, {"psnr": 25.0}, {"bytes_an_image": 30}, {"min_psnr": 30.0}])
def test_copies_decode_as_their_originals_at_every_target(tmp_path, digits, target):
    x = digits[[0, 1, 2, 1, 0, 3, 4, 5, 6, 7, 8, 8]]
    smalti.pack(x, tmp_path / "x.smalti", effort=1, **target)
    with smalti.open(tmp_path / "x.smalti") as archive:
        found = archive[:]
        mean = "psnr" in target or "bytes_an_image" in target  # of all images, so that none may be left out
        assert archive.contents.index.stored == (12 if mean else 9)
        assert mean or (found[[3, 4, 11]] == found[[1, 0, 10]]).all()
    if "bytes_an_image" in target:
        assert (tmp_path / "x.smalti").stat().st_size <= 30 * 12


def test_unordered_images_are_stored_once_too(tmp_path):
    small = rng.integers(0, 256, (300, 3, 3), dtype=np.uint8)
    x, labels = np.concatenate([small, small[:100]]), tuple(range(400))
    path = tmp_path / "x.smalti"
    smalti.pack(smalti.ImageSet(x, labels=labels), path, max_error=0, packing=smalti.Packing(40, unordered=True))
    with smalti.open(path) as archive:
        assert archive.contents.index.stored == 300
        pairs = {(label, image.tobytes()) for label, image in zip(archive.labels, archive, strict=True)}
    assert pairs == {(label, image.tobytes()) for label, image in zip(labels, x, strict=True)}


def test_images_of_one_pixel_pattern_but_other_shapes_are_no_copies(tmp_path):
    parts = [smalti.ImageSet(np.zeros((1, *shape), np.uint8)) for shape in [(2, 6), (6, 2), (2, 2, 3), (2, 6), (3, 4)]]
    smalti.pack(smalti.Source(parts, 5, named=False, labelled=False), tmp_path / "x.smalti", max_error=0)
    with smalti.open(tmp_path / "x.smalti") as archive:
        assert [image.shape for image in archive] == [(2, 6), (6, 2), (2, 2, 3), (2, 6), (3, 4)]
        assert archive.contents.index.stored == 4


def test_originals_are_found_whatever_the_parts():
    x = rng.integers(0, 3, (5000, 2, 2), dtype=np.uint8)
    first: dict[bytes, int] = {}
    right = [first.setdefault(image.tobytes(), len(first)) for image in x]
    for step in (1, 7, 640, 5000):
        some = x[: 500 * step]
        originals, numbers, fresh = Originals(), list[int](), 0
        for i in range(0, len(some), step):
            found, new = originals.take(some[i : i + step])
            numbers += found.tolist()
            fresh += int(new.sum())
        assert numbers == right[: len(some)]
        assert fresh == originals.count == len(set(numbers))
