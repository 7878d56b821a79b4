"""Indexes that name earlier ones, places and edits: what is written is read, and what lies is refused."""

import dataclasses
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
from smalti.container.entries.blocks import Blocks, Placed, Table
from smalti.container.growing.listing_codec import pack_edits, pack_places, unpack_edits, unpack_places
from smalti.container.records import ArchiveWriter
from smalti.errors import CorruptError, TruncatedError
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
    first = idx.Segment((fmt.ModelEntry(ID, 0),), (GRAY,), *Blocks.of([block_at(file)]).tables)
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
def test_entries_of_blocks_come_back(entries):
    entries = [fmt.BlockEntry(*one) for one in entries]
    blocks = Blocks.of(entries)
    assert list(blocks) == [blocks[i] for i in range(len(entries))] == entries
    assert blocks.raw == b"".join(struct.pack("<QIHH", *one) for one in entries)


SOME = st.lists(
    st.tuples(st.integers(0, 90), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2)).map(
        lambda one: fmt.BlockEntry(*one)
    ),
    max_size=12,
)


@given(st.lists(SOME, max_size=4))
def test_sums_and_places_of_tables_are_those_of_all_entries(tables):
    entries = [one for table in tables for one in table]
    blocks = Blocks(*(Table(Blocks.of(table).raw) for table in tables))
    assert (list(blocks), len(blocks)) == (entries, len(entries))
    assert blocks.total == sum(one.images for one in entries)
    assert blocks.record_bytes == sum(one.size for one in entries)
    kinds = {one.kind for one in entries}
    assert blocks.of_kinds == {kind: sum(one.images for one in entries if one.kind == kind) for kind in kinds}
    firsts = [sum(o.images for o in entries[:i] if o.kind == one.kind) for i, one in enumerate(entries)]
    for _ in range(3):  # a table answers in another way when it was asked often
        assert [blocks.first(i) for i in range(len(entries))] == firsts
    for place in range(0, 100, 7):
        behind = [one.offset for one in entries if one.offset > place]
        assert blocks.next(place) == (min(behind) if behind else None)


@given(SOME, st.integers(0, 99), st.integers(1, 9))
def test_records_that_share_bytes_are_found(entries, start, size):
    entries = [one for one in entries if one.offset]
    placed = Placed.of([one.offset for one in entries], [one.size for one in entries])
    taken = [byte for one in entries for byte in range(one.offset, one.offset + one.size)]
    assert placed.twice == (len(set(taken)) < len(taken))
    assert placed.end == max(taken, default=-1) + 1
    if not placed.twice:
        assert placed.meets(start, start + size) == (not set(taken).isdisjoint(range(start, start + size)))


def test_two_tables_that_lie_among_each_other_are_checked_together(tmp_path):
    """The first and the third block are of one index, the second of another; only what overlaps is refused."""
    for move in (0, -1):
        file = io.BytesIO()
        file.write(fmt.pack_header(ID, version=2))
        entries = [block_at(file) for _ in range(3)]
        entries[1] = entries[1]._replace(offset=entries[1].offset + move)
        first = idx.Segment((fmt.ModelEntry(ID, 0),), (GRAY,), Table(Blocks.of([entries[0], entries[2]]).raw))
        at, body = file.tell(), idx.pack_index(idx.joined([first], None))[: -fmt.TRAILER.size]
        file.write(body)
        first = dataclasses.replace(first, place=idx.IndexEntry(at, len(body), hash64(body)))
        own = idx.Segment(blocks=Table(Blocks.of([entries[1]]).raw))
        file.write(idx.pack_index(idx.joined([first, own], None), own))
        if move:
            with pytest.raises(CorruptError, match="the same bytes"):
                ArchiveReader(Memory(file.getvalue()))
        else:
            assert len(ArchiveReader(Memory(file.getvalue())).index.blocks) == 3


def test_an_index_is_known_by_its_bytes_and_not_by_its_checksum_alone():
    """What the process keeps of an index is never taken for another one, nor is an index without its right checksum."""
    body = idx.pack_index(idx.joined([idx.Segment((fmt.ModelEntry(ID, 0),))], None))[: -fmt.TRAILER.size]
    check = hash64(body)
    first, again = (idx.unpack_segments(body, check, 1 << 20, lambda _at, _size: b"")[0][0] for _ in range(2))
    assert first.blocks is again.blocks  # it was kept
    other = body[:-1] + bytes([body[-1] ^ 1])
    for data, said in ((other, check), (body, hash64(other))):
        with pytest.raises(CorruptError, match="checksum of the index"):
            idx.unpack_segments(data, said, 1 << 20, lambda _at, _size: b"")


def test_the_process_keeps_few_bytes_of_indexes():
    for i in range(50):
        body = idx.pack_index(
            idx.joined([idx.Segment(blocks=Table(struct.pack("<QIHH", i + 1, 1, 1, 0) * 9000))], None)
        )
        idx.unpack_segments(body[: -fmt.TRAILER.size], hash64(body[: -fmt.TRAILER.size]), 1 << 20, lambda _a, _s: b"")
        assert idx._KEPT._bytes == sum(idx._KEPT.sizes) <= idx.KEPT_BYTES
    assert len(idx._KEPT.sizes) > 20


@pytest.mark.parametrize("behind", [b"a", b"abcd", bytes(5000), fmt.END_MAGIC * 7 + b"x"])
def test_bytes_behind_the_end_are_counted_in_the_error(behind):
    with pytest.raises(CorruptError, match=rf"^.*{len(behind)} bytes follow the end of the smalti file; cut them off"):
        ArchiveReader(Memory(archive_of() + behind))


@pytest.mark.parametrize("missing", [1, 4, 16, 30])
def test_a_file_that_was_cut_is_not_said_to_have_bytes_behind_its_end(missing):
    with pytest.raises((TruncatedError, CorruptError), match=r"end is missing|damaged"):
        ArchiveReader(Memory(archive_of()[:-missing]))
