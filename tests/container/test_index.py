"""Indexes that name earlier ones, places and edits: what is written is read, and what lies is refused."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import smalti
from smalti.container import format as fmt
from smalti.container import index as idx
from smalti.container.annotation_codec import deflate
from smalti.container.annotations import write_sections
from smalti.container.archive_reader import ArchiveReader
from smalti.container.growing.listing_codec import pack_edits, pack_places, unpack_edits, unpack_places
from smalti.container.records import ArchiveWriter
from smalti.errors import CorruptError
from smalti.util.binary import hash64, varint
from smalti.util.storage import Memory

ID = fmt.EMPTY_MODEL
GRAY = fmt.Kind(0, 1, 2, 3)


def block_at(file):
    payload = b"\xff" + bytes(range(6))
    record = fmt.pack_block(fmt.BlockHead(GRAY, 0, 1, 0, hash64(payload[1:])), payload)
    file.write(record)
    return fmt.BlockEntry(file.tell() - len(record), len(record), 1, 0)


def archive_of(change=lambda _: None, sections=(), shown=None):
    """An archive of one block in an earlier index, and of the sections in one of version 2; `change` spoils a field."""
    file = io.BytesIO()
    file.write(fmt.pack_header(ID, version=2))
    first = idx.Segment([fmt.ModelEntry(ID, 0)], [GRAY], idx.Blocks.of([block_at(file)]).raw)
    at, body = file.tell(), idx.pack_index(idx.joined([first], None))[: -fmt.TRAILER.size]
    file.write(body)
    entries = []
    for code, count, data in sections:
        record = fmt.pack_section(code, 0, count, data)
        entries.append(fmt.SectionEntry(code, file.tell(), len(record), count))
        file.write(record)
    told = {"earlier": [idx.IndexEntry(at, len(body), hash64(body))], "count": shown, "n": None, "own": entries}
    change(told)
    earlier, own = told["earlier"], idx.Segment(sections=told["own"])
    head = (1 if told["count"] is None else told["count"], len(earlier) if told["n"] is None else told["n"], 0, 0, 0)
    body = fmt.GROWN_INDEX.pack(fmt.GROWN_MARK, *head, len(own.sections))
    body += b"".join(fmt.INDEX_ENTRY.pack(*entry) for entry in earlier)
    body += b"".join(fmt.SECTION_ENTRY.pack(*entry) for entry in own.sections)
    file.write(body + fmt.TRAILER.pack(len(body), hash64(body), fmt.END_MAGIC))
    return file.getvalue()


def test_an_earlier_index_counts():
    with smalti.open(archive_of()) as archive:
        assert archive[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert smalti.verify(archive_of(), deep=True) == []


def spoil(name, value):
    def change(told):
        told[name] = value(told[name]) if callable(value) else value

    return change


def entry(**fields):
    return lambda some: [some[0]._replace(**{k: v(some[0]) if callable(v) else v for k, v in fields.items()})]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (spoil("earlier", lambda some: some * 2), "the same bytes|take the same"),
        (spoil("earlier", lambda some: some * 65), "65 earlier ones; 64"),
        (spoil("earlier", []), "does not fit"),
        (spoil("earlier", entry(offset=0)), "outside of the file"),
        (spoil("earlier", entry(offset=1 << 63)), "outside of the file"),
        (spoil("earlier", entry(size=1 << 31)), "outside of the file"),
        (spoil("earlier", entry(size=21)), "outside of the file"),
        (spoil("earlier", entry(size=lambda it: it.size - 1)), "checksum of the index"),
        (spoil("earlier", entry(offset=21, check=b"12345678")), "checksum of the index"),
        (spoil("earlier", entry(check=bytes(8))), "checksum of the index"),
        (spoil("n", 65535), "does not fit its"),
        (spoil("count", 2), "claims 2 images of 1"),
        (spoil("count", 1 << 63), "claims"),
        (spoil("count", 0), "claims 0 images of 1"),
    ],
)
def test_an_index_that_lies_about_earlier_ones_is_refused(change, words):
    with pytest.raises(CorruptError, match=words):
        ArchiveReader(Memory(archive_of(change)))


def test_an_index_that_names_itself_or_a_block_as_an_earlier_one_is_refused():
    data = archive_of()
    start = len(data) - fmt.TRAILER.size - fmt.GROWN_INDEX.size - fmt.INDEX_ENTRY.size
    for offset, size in ((start, 46), (start - 1, 46), (21, 50)):
        check = hash64(data[offset : offset + size])
        change = spoil("earlier", [idx.IndexEntry(offset, size, check)])
        with pytest.raises(CorruptError):
            ArchiveReader(Memory(archive_of(change)))


def test_what_an_earlier_index_names_itself_does_not_count():
    """So there are no chains and no cycles."""
    inner = fmt.GROWN_INDEX.pack(fmt.GROWN_MARK, 1 << 60, 1, 0, 0, 0, 0) + fmt.INDEX_ENTRY.pack(21, 1 << 31, bytes(8))
    segment, earlier, count = idx._unpack_segment(inner, hash64(inner))
    assert (segment.size, len(earlier), count) == (0, 1, 1 << 60)
    outer = fmt.GROWN_INDEX.pack(fmt.GROWN_MARK, 0, 1, 0, 0, 0, 0) + fmt.INDEX_ENTRY.pack(21, len(inner), hash64(inner))
    segments, _ = idx.unpack_segments(outer, hash64(outer), 1 << 20, lambda _at, _size: inner)
    assert len(segments) == 2


def places(*numbers, new=0):
    return (fmt.PLACES, len(numbers), pack_places(numbers, new))


def edits(*some):
    return (fmt.EDITS, 0, pack_edits(some))


def read_all(data):
    with smalti.open(data) as archive:
        list(archive)
        archive.contents.listing.check()


@pytest.mark.parametrize(
    ("sections", "shown", "words"),
    [
        ([places(0, 1)], 2, "where none is stored"),
        ([places(0, 1 << 31)], 2, "where none is stored"),
        ([(fmt.PLACES, 2, deflate(varint(0) + bytes([0, 6])))], 2, "unknown way"),
        ([(fmt.PLACES, 2, deflate(varint(0) + bytes([0, 5, 1])))], 2, "ends too soon"),
        ([(fmt.PLACES, 2, deflate(varint(0) + bytes([0, 2, 1, 1])))], 2, "more than its images"),
        ([(fmt.PLACES, 2, deflate(varint(1 << 62) + bytes(2)))], 2, "where none is stored"),
        ([edits((1, None))], 0, "not listed"),
        ([edits((-1, None))], 0, "not listed"),
        ([edits((0, 1))], 1, "the number 2 where 1"),
        ([edits((0, None))], 1, "0 images are shown, not 1"),
        ([edits((0, 0))], 1, "edited itself"),
        ([places(0, 0), edits((0, 1), (1, 0))], 1, "edited itself"),
        ([(fmt.EDITS, 0, deflate(varint(1 << 40)))], 0, "is the most"),
        ([(fmt.EDITS, 0, deflate(varint(5)))], 0, "does not end|too soon"),
    ],
)
def test_places_and_edits_that_lie_are_refused(sections, shown, words):
    data = archive_of(sections=sections, shown=shown)
    with pytest.raises(CorruptError, match=words):
        read_all(data)
    assert any(words.split("|")[0] in line or words.split("|")[-1] in line for line in smalti.verify(data))


def test_names_must_be_those_of_listed_images():
    data = archive_of(sections=[places(0, 0, 0), (fmt.NAMES, 1, deflate(b"\0a"))], shown=3)
    with pytest.raises(CorruptError, match="do not fit the 3 images"):
        smalti.open(data)


def test_an_index_of_version_1_has_no_edits():
    file = io.BytesIO()
    writer = ArchiveWriter.start(file, ID)
    writer.block(GRAY, 1, hash64(bytes(6)), b"\xff" + bytes(6))
    write_sections(writer, [0], None, None)
    writer.edit([(0, None)])
    writer.finish()
    data = file.getvalue()
    start = data.rfind(fmt.GROWN_MARK)
    _, count, _, blocks, models, kinds, sections = fmt.GROWN_INDEX.unpack_from(data, start)
    body = fmt.INDEX.pack(fmt.INDEX_MARK, count + 1, blocks, models, kinds, sections)
    body += data[start + fmt.GROWN_INDEX.size : -fmt.TRAILER.size]
    data = data[:start] + body + fmt.TRAILER.pack(len(body), hash64(body), fmt.END_MAGIC)
    with pytest.raises(CorruptError, match="version 1 names places or edits"):
        ArchiveReader(Memory(data))


@given(st.lists(st.integers(0, (1 << 32) - 1) | st.integers(0, 5), max_size=60), st.integers(0, 9))
def test_places_come_back(numbers, new):
    assert unpack_places(pack_places(numbers, new), len(numbers)) == (new, numbers)


@given(st.lists(st.tuples(st.integers(0, 99), st.none() | st.integers(0, 99)), max_size=40))
def test_edits_come_back(some):
    assert unpack_edits(pack_edits(some), 100) == some


@given(st.lists(st.tuples(*(st.integers(0, (1 << bits) - 1) for bits in (64, 32, 16, 16))), max_size=20))
def test_columns_of_blocks_are_those_of_their_entries(entries):
    entries = [fmt.BlockEntry(*one) for one in entries]
    blocks = idx.Blocks.of(entries)
    assert list(blocks) == [blocks[i] for i in range(len(entries))] == entries
    columns = (blocks.offsets, blocks.sizes, blocks.images, blocks.kinds)
    assert [tuple(column) for column in columns] == [
        tuple(column) for column in zip(*entries, strict=True)
    ] or not entries
    assert blocks.raw == b"".join(struct.pack("<QIHH", *one) for one in entries)
