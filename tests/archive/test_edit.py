"""Append, merge, select: files from files, and nothing coded twice that need not be."""

import numpy as np
import pytest

import smalti
from smalti.archive.edit import matching
from smalti.archive.reader import parts_of
from smalti.container.growing.append import grow
from smalti.container.records import ArchiveWriter
from smalti.errors import OutputError, SourceError, UsageError

rng = np.random.default_rng(4)
RGB = rng.integers(0, 256, (3, 5, 6, 3), dtype=np.uint8)


def named(x, first=0, label=None):
    names = tuple(f"{i % 10}/{i:04d}.png" for i in range(first, first + len(x)))
    return smalti.ImageSet(x, names, tuple(i % 10 for i in range(first, first + len(x))) if label is None else label)


def records(path):
    """The records of blocks, as they lie in the file."""
    data = path.read_bytes()
    with smalti.open(path) as archive:
        return [data[b.offset : b.offset + b.size] for b in archive.contents.index.blocks]


def payloads(path):
    """The payloads of all parts of all blocks; only the numbers of models may change when a block is copied."""
    with smalti.open(path) as archive:
        blocks = [archive.contents.reader.block(i) for i in range(len(archive.contents.index.blocks))]
    return [(part.rows, part.kind.shape, part.payload) for block in blocks for part in parts_of(*block)]


def read(path):
    with smalti.open(path) as archive:
        return list(archive)


def same(x, y):
    return len(x) == len(y) and all(a.shape == b.shape and (a == b).all() for a, b in zip(x, y, strict=True))


@pytest.fixture(scope="module")
def twelve(tmp_path_factory, digits):
    path = tmp_path_factory.mktemp("twelve") / "x.smalti"
    smalti.pack(named(digits[:12]), path, max_error=0, packing=smalti.Packing(5, metadata={"a": 1}))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, twelve):
    """Twelve digits with names and labels, in blocks of five."""
    (tmp_path / "x.smalti").write_bytes(twelve)
    return tmp_path / "x.smalti"


def test_appending_leaves_what_was_there_where_it_was(path, digits):
    before = path.read_bytes()
    smalti.append(path, named(digits[12:], 12), max_error=0)
    after = path.read_bytes()
    assert after[21 : len(before)] == before[21:]
    with smalti.open(path) as archive:
        assert (archive[:] == digits).all()
        assert archive.names == named(digits).names
        assert archive.labels == named(digits).labels
        assert archive.metadata == {"a": 1}
    assert smalti.verify(path, deep=True) == []
    parts = [smalti.ImageSet(RGB, ("r", "s", "t"), (1, 2, 3))]
    smalti.append(
        path, smalti.Source(parts, 3, named=True, labelled=True), quality=90, packing=smalti.Packing(metadata={})
    )
    with smalti.open(path) as archive:
        assert archive.find("t") == 22
        assert archive[22].shape == (5, 6, 3)
        assert (np.stack(archive[:20]) == digits).all()
        assert archive.metadata == {}


def test_an_append_that_is_cut_off_at_any_byte_loses_nothing(path, digits):
    old = path.read_bytes()
    smalti.append(path, named(digits[12:14], 12), quality=10, effort=1)
    new = path.read_bytes()
    headers = {"old": old[:21], "said": None, "new": new[:21]}
    from smalti.container.format import pack_header

    headers["said"] = pack_header(old[13:21], len(old))
    for end in range(len(old), len(new)):
        path.write_bytes(headers["said"] + new[21:end])
        with smalti.open(path) as archive:
            assert len(archive) == 12
            assert archive.names == named(digits[:12]).names
    path.write_bytes(headers["said"] + new[21:])
    assert (smalti.load(path).pixels == digits[:12]).all()
    smalti.append(path, named(digits[12:14], 12), quality=10, effort=1)
    assert path.read_bytes() == new
    for end in range(len(old), len(new)):  # a copy that is cut off is another matter
        path.write_bytes(new[:end])
        with pytest.raises(smalti.SmaltiError, match=r"bytes of"):
            smalti.open(path)


def test_an_append_that_fails_leaves_the_file_as_it_was(path, digits, monkeypatch):
    old = path.read_bytes()

    def parts():
        yield named(digits[12:14], 12)
        raise SourceError("the disk of the source is gone")

    with pytest.raises(SourceError, match="is gone"):
        smalti.append(path, smalti.Source(parts(), None, named=True, labelled=True), max_error=0)
    assert path.stat().st_size == len(old)
    assert (smalti.load(path).pixels == digits[:12]).all()
    for images, words in (
        (digits[12:], "have no names"),
        (smalti.ImageSet(digits[:1], ("x",)), "have no labels"),
        (named(digits[:1], 0), "two images are named"),
        (named(digits[:1], 99, label=("seven",)), "several kinds"),
    ):
        with pytest.raises(SourceError, match=words):
            smalti.append(path, images, max_error=0)
    assert path.read_bytes() == old


def test_what_is_appended_may_be_of_another_model(path, digits, toy):
    smalti.append(path, named(digits[12:14], 12), model=toy, quality=40)
    with smalti.open(path, model=toy) as archive:
        assert [model.id for model in archive.contents.index.models] == [smalti.load_model().id, toy.id]
        assert not any(model.offset for model in archive.contents.index.models)
        assert same(list(archive[:12]), list(digits[:12]))


@pytest.mark.parametrize("whole", [False, True])
def test_a_file_that_is_complete_by_itself_stays_so(path, digits, toy, whole):
    """Or what is appended is told to bring its model."""
    if whole:
        smalti.pack(named(digits[:12]), path, max_error=0, packing=smalti.Packing(embed=True), force=True)
    smalti.append(path, named(digits[12:14], 12), model=toy, quality=40, packing=smalti.Packing(embed=not whole))
    with smalti.open(path) as archive:
        assert [model.offset > 0 for model in archive.contents.index.models] == [whole, True]
        assert len(list(archive)) == 14


def test_two_cannot_append_at_once(path, digits):
    pytest.importorskip("fcntl", reason="needs the locks of Unix")
    wrong = pytest.raises(OutputError, match="another process")
    with smalti.open(path) as archive, grow(path, archive.contents.reader), wrong:
        smalti.append(path, named(digits[12:], 12), max_error=0)


def test_a_file_of_one_image_grows_too(tmp_path, digits):
    path = tmp_path / "one.smalti"
    assert smalti.pack(digits[:1], path, quality=20, effort=1).bytes < 60
    first = smalti.load(path).pixels
    smalti.append(path, digits[1:4], max_error=0)
    x = smalti.load(path).pixels
    assert (x[0] == first).all()
    assert (x[1:] == digits[1:4]).all()
    assert smalti.verify(path, deep=True) == []


def test_merging_copies_blocks(tmp_path, path, digits, toy):
    other, both = tmp_path / "y.smalti", tmp_path / "both.smalti"
    parts = [named(digits[12:], 12), smalti.ImageSet(RGB, ("r", "s", "t"), (1, 2, 3))]
    source = smalti.Source(parts, 11, named=True, labelled=True)
    smalti.pack(source, other, model=toy, quality=80, packing=smalti.Packing(8, embed=True, metadata={"a": 2, "b": 3}))
    expected = read(path) + read(other)
    smalti.merge([path, other], both)
    assert same(read(both), expected)
    assert payloads(both) == payloads(path) + payloads(other)
    with smalti.open(both) as archive:
        assert archive.metadata == {"a": 2, "b": 3}
        assert archive.find("s") == 21
        assert archive.labels[-1] == 3
    assert smalti.verify(both, deep=True) == []
    with pytest.raises(SourceError, match="two images are named"):
        smalti.merge([path, path], tmp_path / "z.smalti")
    smalti.pack(digits[:3], tmp_path / "bare.smalti")
    with pytest.raises(SourceError, match="have names and others not"):
        smalti.merge([path, tmp_path / "bare.smalti"], tmp_path / "z.smalti")
    smalti.merge([path, path], tmp_path / "w.smalti", names=False, labels=False)
    smalti.select(path, tmp_path / "v.smalti", [1], names=False)
    with smalti.open(tmp_path / "w.smalti") as twice, smalti.open(tmp_path / "v.smalti") as one:
        assert (len(twice), twice.names, twice.labels) == (24, None, None)
        assert (one.names, one.labels) == (None, (1,))
    with pytest.raises(UsageError, match="no file to merge"):
        smalti.merge([], tmp_path / "z.smalti")
    assert not (tmp_path / "z.smalti").exists()


def test_a_file_without_images_can_be_merged(tmp_path, path):
    empty, both = tmp_path / "empty.smalti", tmp_path / "both.smalti"
    with empty.open("wb") as file:
        ArchiveWriter.start(file, smalti.load_model().id).finish()
    assert smalti.merge([empty, path], both).images == 12
    assert same(read(both), read(path))


@pytest.mark.parametrize(
    "asked", [{"max_error": 0}, {"quality": 10, "effort": 1}, {"quality": 60}, {"min_psnr": 26, "effort": 1}]
)
def test_what_is_selected_keeps_its_pixels(tmp_path, digits, asked):
    x = digits.copy()
    x[7] = rng.integers(0, 256, (28, 28))
    smalti.pack(named(x), tmp_path / "x.smalti", packing=smalti.Packing(5), **asked)
    whole, rows = read(tmp_path / "x.smalti"), [0, 1, 2, 3, 4, 7, 9, 19]
    smalti.select(tmp_path / "x.smalti", tmp_path / "some.smalti", rows[::-1])
    with smalti.open(tmp_path / "some.smalti") as some:
        assert same(list(some), [whole[i] for i in rows])
        assert some.names == tuple(named(x).names[i] for i in rows)
        assert some.labels == tuple(i % 10 for i in rows)
    assert records(tmp_path / "some.smalti")[0][38:] == records(tmp_path / "x.smalti")[0][38:]
    assert smalti.verify(tmp_path / "some.smalti", deep=True) == []


def test_images_are_found_by_range_name_and_label(path, tmp_path, digits):
    with smalti.open(path) as archive:
        assert matching(archive, start=-3) == [9, 10, 11]
        assert matching(archive, name="[01]/*") == [0, 1, 10, 11]
        assert matching(archive, start=2, stop=11, name="[01]/*", label="0") == [10]
    lists = smalti.ImageSet(digits[:2], None, ((1,), (1, 2)))
    smalti.pack(lists, tmp_path / "lists.smalti", quality=90)
    with smalti.open(tmp_path / "lists.smalti") as archive:
        assert [matching(archive, label=label) for label in ("1", "1,", "1,2", "2")] == [[0], [0], [1], []]
    smalti.pack(digits, tmp_path / "bare.smalti", quality=90)
    with smalti.open(tmp_path / "bare.smalti") as archive, pytest.raises(UsageError, match="no labels"):
        matching(archive, label="1")
    with pytest.raises(UsageError, match="is wanted"):
        smalti.select(path, tmp_path / "z.smalti", [])
    for rows in ([20], [0.5], "a"):
        with pytest.raises((IndexError, TypeError)):
            smalti.select(path, tmp_path / "z.smalti", rows)
    mask = [i in (3, 11) for i in range(12)]
    smalti.select(path, tmp_path / "z.smalti", mask)
    assert same(read(tmp_path / "z.smalti"), [read(path)[i] for i in (3, 11)])


def test_long_labels_are_cut_into_sections(tmp_path):
    x = np.zeros((300, 2, 2), np.uint8)
    for labels in (tuple(f"{i}" * 9000 for i in range(300)), tuple((i,) * 1000 for i in range(300))):
        images, path = smalti.ImageSet(x, None, labels), tmp_path / "x.smalti"
        smalti.pack(images, path, max_error=0, force=True)
        smalti.merge([path], tmp_path / "y.smalti", force=True)
        for file in (path, tmp_path / "y.smalti"):
            assert smalti.load(file).labels == labels
    with pytest.raises(SourceError, match="are allowed"):
        smalti.pack(smalti.ImageSet(x[:2], None, ("a" * 70_000, "b")), tmp_path / "z.smalti")
    with pytest.raises(SourceError, match="not Unicode"):
        smalti.pack(smalti.ImageSet(x[:2], None, ("\ud800", "b")), tmp_path / "z.smalti")
    with pytest.raises(UsageError, match="longer than"):
        smalti.pack(x, tmp_path / "z.smalti", packing=smalti.Packing(metadata={"a": "b" * (1 << 24)}))


@pytest.mark.parametrize(
    ("labels", "words"), [((1.5, 2.5), "1.5 is no label"), ((True, False), "no label"), ((1, "a"), "several kinds")]
)
def test_what_is_no_label_is_refused(tmp_path, digits, labels, words):
    with pytest.raises(SourceError, match=words):
        smalti.pack(smalti.ImageSet(digits[:2], None, labels), tmp_path / "x.smalti")


def test_names_and_labels_may_be_arrays(tmp_path, digits):
    images = smalti.ImageSet(digits, np.array([f"{i}" for i in range(20)]), np.arange(20))
    smalti.pack(images, tmp_path / "x.smalti", quality=20, effort=1)
    assert smalti.load(tmp_path / "x.smalti").labels == tuple(range(20))


def test_what_is_appended_to_must_be_what_was_opened(tmp_path, path, digits):
    with smalti.open(path) as archive:
        smalti.pack(named(digits), path, max_error=0, force=True)
        with pytest.raises(OutputError, match="has changed"), grow(path, archive.contents.reader):
            pass
    assert len(smalti.load(path)) == 20


def test_more_kinds_and_sections_than_an_index_holds_are_refused(path, monkeypatch):
    import smalti.container.records

    monkeypatch.setattr(smalti.container.records, "MAX_SECTIONS", 3)
    with pytest.raises(SourceError, match="smalti compact"):
        smalti.append(path, named(RGB[..., 0], 50), max_error=0)
    assert len(smalti.load(path)) == 12


def test_what_was_there_is_read_while_an_append_is_under_way(path, digits):
    """As a reader finds it who comes, or is left by a kill, at any moment of it."""
    seen = []

    def look(*_):
        seen.append(path.read_bytes())

    noise = rng.integers(0, 256, (40, 30, 30), dtype=np.uint8)
    smalti.append(path, named(noise, 12), max_error=0, packing=smalti.Packing(5), progress=look)
    assert len(seen[-1]) > len(seen[0])
    for data in seen:
        with smalti.open(data) as archive:
            assert (archive[:] == digits[:12]).all()
    assert len(smalti.open(path.read_bytes())) == 52


def test_append_takes_names_labels_and_lossless_as_pack_does(tmp_path, digits):
    path, labels = tmp_path / "x.smalti", tmp_path / "labels.npy"
    smalti.pack(digits[:3], path, lossless=True, names=["a", "b", "c"], labels=[1, 2, 3])
    smalti.append(path, digits[3:5], lossless=True, names=["d", "e"], labels=[4, 5])
    np.save(labels, np.array([6, 7]))
    smalti.append(path, list(digits[5:7]), lossless=True, names=("f", "g"), labels=labels)
    with smalti.open(path) as archive:
        assert (archive[:] == digits[:7]).all()
        assert archive.names == tuple("abcdefg")
        assert archive.labels == (1, 2, 3, 4, 5, 6, 7)
    before = path.read_bytes()
    for wrong, words in (
        ({"names": ["h"], "labels": [1, 2]}, "1 names for 2 images|2 labels for 1"),
        ({"names": ["a", "h"], "labels": [1, 2]}, "two images are named 'a'"),
        ({"names": ["h", "i"]}, "no labels"),
        ({"names": ["h", "i"], "labels": ["x", "y"]}, "of several kinds"),
        ({"max_error": 0, "names": ["h", "i"], "labels": [1, 2]}, "lossless=True means max_error=0"),
    ):
        with pytest.raises((SourceError, UsageError), match=words):
            smalti.append(path, digits[7:9], lossless=True, **wrong)
        assert path.read_bytes() == before


def test_names_that_were_given_away_in_many_appends_stay_taken(tmp_path, digits):
    """Names are kept by the process from append to append, so that each change of them must be seen."""
    path = tmp_path / "x.smalti"
    smalti.pack(named(digits[:1]), path, lossless=True)
    for i in range(1, 30):
        smalti.append(path, named(digits[i % 5 : i % 5 + 1], i), lossless=True)
        with smalti.open(path) as archive:
            taken = archive.names[i // 2]
        with pytest.raises(SourceError, match="two images are named"):
            smalti.append(path, smalti.ImageSet(digits[i % 5 : i % 5 + 1], (taken,), (0,)), lossless=True)
    with smalti.open(path) as archive:
        first = archive.names[0]
    smalti.remove(path, 0)
    smalti.append(path, smalti.ImageSet(digits[:1], (first,), (0,)), lossless=True)  # a removed image's name is free
    with pytest.raises(SourceError, match="two images are named"):
        smalti.append(path, smalti.ImageSet(digits[:1], (first,), (0,)), lossless=True)
    assert smalti.verify(path, deep=True) == []


def test_append_leaves_labels_out_where_that_is_asked(tmp_path, digits):
    path = tmp_path / "x.smalti"
    smalti.pack(digits[:3], path, lossless=True)
    smalti.append(path, smalti.ImageSet(digits[3:5], None, (4, 5)), lossless=True, labels=False)
    with smalti.open(path) as archive:
        assert (archive[:] == digits[:5]).all()
        assert archive.labels is None
