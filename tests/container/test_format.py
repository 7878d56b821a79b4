"""The file's fields, from the specification's tables to the last flipped byte."""

import io
import re
import struct

import numpy as np
import pytest
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st

from smalti.codec import head
from smalti.container import format as fmt
from smalti.container import index as idx
from smalti.container import single_image as single
from smalti.container.archive_reader import ArchiveReader
from smalti.container.records import ArchiveWriter
from smalti.errors import CorruptError, FormatError, NotSmaltiError, TruncatedError, VersionError
from smalti.util import binary
from smalti.util.storage import Memory

SPECIFICATION = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
ID = bytes(range(8))
GRAY, RGB = fmt.Kind(0, 1, 28, 28), fmt.Kind(0, 3, 5, 6)
PIXELS = b"hash of."


def write(*, rgb: bool = True, metadata: bytes | None = b"") -> bytes:
    """An archive whose payloads are no images."""
    file = io.BytesIO()
    writer = ArchiveWriter.start(file, ID)
    writer.block(GRAY, 2, PIXELS, b"first block")
    if rgb:
        writer.block(RGB, 1, PIXELS, b"second")
    writer.block(GRAY, 1, PIXELS, b"third")
    writer.order([0, 1, 0, 0] if rgb else [0, 0, 0])
    if metadata is not None:
        writer.section(fmt.METADATA, 0, b"\x03\x00")
    writer.finish()
    return file.getvalue()


def read(data: bytes) -> ArchiveReader:
    reader = ArchiveReader(Memory(data))
    for block in range(len(reader.index.blocks)):
        reader.block(block)
    for code in fmt.SECTIONS:
        reader.sections(code)
    return reader


def test_what_was_written_is_read():
    reader = read(write())
    assert (reader.model_id, reader.count) == (ID, 4)
    assert reader.index.kinds == (GRAY, RGB)
    assert [reader.block(i)[1] for i in (2, 0, 1)] == [b"third", b"first block", b"second"]
    assert [reader.block(i)[0].first for i in range(3)] == [0, 0, 2]


def test_what_has_nothing_to_say_costs_nothing():
    fixed = fmt.HEADER.size + fmt.INDEX.size + fmt.MODEL_ENTRY.size + fmt.KIND_ENTRY.size + fmt.TRAILER.size
    each = fmt.BLOCK.size + fmt.BLOCK_ENTRY.size
    assert len(write(rgb=False, metadata=None)) == fixed + 2 * each + len(b"first block" + b"third")


def test_every_prefix_is_refused():
    data = write()
    for end in range(len(data)):
        with pytest.raises((TruncatedError, NotSmaltiError)):
            read(data[:end])


def test_every_flipped_bit_is_noticed():
    data = write()
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            with pytest.raises(FormatError):
                read(bytes(flipped))


def resealed(change) -> bytes:
    """An archive with a changed index whose checksums are right."""
    reader = read(write())
    data = write()[: reader.end - fmt.TRAILER.size]
    records = data[: data.rindex(fmt.INDEX_MARK)]
    index = idx.Index(**{**vars(reader.index), **change(reader.index)})
    return records + idx.pack_index(index)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: {"models": ()}, "does not fit the header"),
        (lambda i: {"models": (fmt.ModelEntry(bytes(8), 0),)}, "does not fit the header"),
        (lambda i: {"models": (*i.models, *i.models)}, "are the same"),
        (lambda i: {"models": (fmt.ModelEntry(ID, 1 << 62),)}, "outside of the file"),
        (lambda i: {"kinds": (i.kinds[0], i.kinds[0])}, "are the same"),
        (lambda i: {"kinds": (i.kinds[0], i.kinds[1]._replace(model=7))}, "a model that does not exist"),
        (lambda i: {"kinds": (i.kinds[0], i.kinds[1]._replace(mode=5))}, "impossible image shape"),
        (lambda i: {"kinds": (i.kinds[0]._replace(height=65535, width=65535), i.kinds[1])}, "impossible image shape"),
        (lambda i: {"kinds": i.kinds[:1]}, "a kind that does not exist"),
        (lambda i: {"blocks": (i.blocks[0]._replace(images=0), *i.blocks[1:])}, "number of images"),
        (lambda i: {"blocks": (i.blocks[0]._replace(images=4097), *i.blocks[1:])}, "number of images"),
        (lambda i: {"blocks": (i.blocks[0]._replace(offset=5), *i.blocks[1:])}, "outside of the file"),
        (lambda i: {"blocks": (i.blocks[0]._replace(size=2**32 - 1), *i.blocks[1:])}, "outside of the file"),
        (lambda i: {"blocks": (i.blocks[0], i.blocks[0], i.blocks[2])}, "a kind|same bytes"),
        (lambda i: {"sections": i.sections[1:]}, "have no order"),
        (lambda i: {"sections": (i.sections[0]._replace(images=9), *i.sections[1:])}, "do not fit"),
        (lambda i: {"sections": (i.sections[0]._replace(code=77), *i.sections[1:])}, "unknown code"),
        (lambda i: {"sections": (i.sections[0], i.sections[1]._replace(images=4))}, "do not fit"),
    ],
)
def test_an_index_that_lies_is_refused(change, words):
    with pytest.raises(CorruptError, match=words):
        read(resealed(change))


def test_counts_beyond_all_measure_are_refused_before_they_cost_memory():
    body = fmt.INDEX.pack(fmt.INDEX_MARK, 2**63, 2**32 - 1, 1, 1, 0)
    data = fmt.pack_header(ID) + body + fmt.TRAILER.pack(len(body), binary.hash64(body), fmt.END_MAGIC)
    with pytest.raises(CorruptError, match="does not fit its 4294967295 blocks"):
        read(data)
    with pytest.raises(CorruptError, match="claims an index of"):
        read(data[:-16] + fmt.TRAILER.pack(2**32 - 1, bytes(8), fmt.END_MAGIC))


def test_a_block_that_is_another_than_the_index_says_is_refused():
    blocks = read(write()).index.blocks
    first, last = blocks[0]._replace(images=1), blocks[2]._replace(images=2)
    swapped = resealed(lambda i: {"blocks": (last, i.blocks[1], first)})
    with pytest.raises(CorruptError, match="not the one that the index says"):
        read(swapped)


def test_what_lies_behind_the_end_counts_for_nothing():
    data = write()
    ended = fmt.pack_header(ID, len(data)) + data[fmt.HEADER.size :]
    assert read(ended + b"an append that was interrupted" * 9).count == 4
    with pytest.raises(TruncatedError, match="bytes of"):
        read(ended[:-1])
    with pytest.raises(CorruptError, match="header"):
        read(ended[:5] + bytes([ended[5] ^ 1]) + ended[6:])


def test_other_files_and_versions_are_told_apart():
    with pytest.raises(NotSmaltiError):
        read(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(NotSmaltiError):
        read(b"")
    data = bytearray(write())
    data[4] = 7
    with pytest.raises(VersionError, match="version 7"):
        read(bytes(data))
    data[4] = 0
    with pytest.raises(VersionError, match="early draft"):
        read(bytes(data))


LAYOUTS = (
    *(("Header", fmt.HEADER), ("Block", fmt.BLOCK), ("Model record", fmt.MODEL), ("Section", fmt.SECTION)),
    *(
        ("Index", fmt.INDEX),
        ("Grown index", fmt.GROWN_INDEX),
        ("Index entry", fmt.INDEX_ENTRY),
        ("Model entry", fmt.MODEL_ENTRY),
        ("Kind entry", fmt.KIND_ENTRY),
    ),
    *(("Block entry", fmt.BLOCK_ENTRY), ("Section entry", fmt.SECTION_ENTRY), ("Trailer", fmt.TRAILER)),
    *(("Single file", single.SINGLE), ("Sides", single.SIDES), ("Range", head.RANGE), ("Count", head.COUNT)),
)


def section(name: str) -> str:
    """The part of the specification under that heading."""
    return re.search(rf"^#+ {name}$.*?(?=^#|\Z)", SPECIFICATION, re.M | re.S)[0]


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_the_specification_has_the_fields_of_the_code(name, layout):
    """Offsets and sizes in the tables of docs/format.md are those of the structs in format.py."""
    fields = [(int(at), int(size)) for at, size in re.findall(r"^\| (\d+) \| (\d+) \|", section(name), re.M)]
    sizes = [struct.calcsize("<" + code) for code in re.findall(r"\d*s|[A-Z]", layout.format)]
    assert fields == list(zip(np.cumsum([0, *sizes[:-1]]).tolist(), sizes, strict=True))


def test_the_specification_has_the_marks_and_codes_of_the_code():
    marks = {"Block": fmt.BLOCK_MARK, "Model record": fmt.MODEL_MARK, "Section": fmt.SECTION_MARK}
    for name, mark in (
        marks | {"Index": fmt.INDEX_MARK, "Grown index": fmt.GROWN_MARK, "Header": fmt.MAGIC, "Trailer": fmt.END_MAGIC}
    ).items():
        assert f"`{mark.hex(' ').upper()}`" in section(name), name
    codes = dict(re.findall(r"^\| (\d+) \| (\w+) \|", section("Sections"), re.M))
    assert codes == {
        str(getattr(fmt, name.upper())): name
        for name in ("order", "names", "labels", "metadata", "carriers", "shapes", "places", "edits", "profiles")
    }
    assert f"| 4 | 1 | form | {fmt.VERSION}:" in section("Header")
    for name, limit in (
        ("Block", fmt.MAX_BLOCK_IMAGES),
        ("Section", fmt.MAX_SECTION_IMAGES),
        ("Index", fmt.MAX_MODELS),
    ):
        assert f" {limit}" in section(name), name


@given(st.integers(0, 2**63 - 1), st.binary(max_size=5))
def test_a_varint_comes_back(value, rest):
    data = binary.varint(value)
    assert binary.read_varint(b"x" + data + rest, 1) == (value, 1 + len(data))


@given(
    mode=st.sampled_from([0, 1, 2, 3, 4]),
    sides=st.tuples(st.integers(1, 4096), st.integers(1, 1024)),
    name=st.none() | st.text(min_size=1, max_size=50).filter(lambda text: "\0" not in text),
    payload=st.binary(max_size=50),
    profile=st.none() | st.binary(min_size=1, max_size=50),
)
def test_a_single_file_says_what_it_must_in_16_bytes(mode, sides, name, payload, profile):
    """Or in two more where a file of version 1 cannot say it."""
    data = single.pack_single(ID, mode, sides if mode else None, name, payload, PIXELS, profile)
    new = payload[:1] != b"\xff" and any(flags & 240 for flags in payload[:1])
    extended = profile is not None or mode == 2 or new
    assert data[4] & 15 == 1 + extended
    told = single.unpack_single(data)
    assert (told.model, told.mode, told.sides, told.name) == (ID[:3], mode, sides if mode else None, name)
    assert data[told.size :] == payload
    assert single.single_check(data, PIXELS) == told.check
    assert single.single_check(data, b"others..") != told.check
    assert told.profile == profile
    if name is None and profile is None:
        assert len(data) - len(payload) <= 16 + extended


def test_sections_of_codes_that_nobody_knows_have_limits_too():
    def written(**change):
        return resealed(lambda i: {"sections": (i.sections[0], i.sections[1]._replace(code=200, **change))})

    assert read(written(images=65_536)).count == 4
    with pytest.raises(CorruptError, match="too large"):
        read(written(images=65_537))


def test_kinds_without_a_block_are_refused():
    file = io.BytesIO()
    writer = ArchiveWriter.start(file, ID)
    writer.kind(GRAY)
    writer.finish()
    with pytest.raises(CorruptError, match="no blocks"):
        read(file.getvalue())


def test_a_model_must_not_lie_over_a_block():
    """Its 17 bytes are in the index's room, its bundle is not."""
    file = io.BytesIO()
    writer = ArchiveWriter.start(file, ID)
    block = fmt.pack_block(fmt.BlockHead(GRAY, 0, 1, 0, PIXELS), b"payload")
    record = fmt.pack_model(0, block + b"rest of a bundle")
    file.write(record)
    writer.models[0] = fmt.ModelEntry(ID, writer.at)
    writer.blocks.append(fmt.BlockEntry(writer.at + fmt.MODEL.size, len(block), 1, writer.kind(GRAY)))
    writer.at += len(record)
    writer.finish()
    reader = read(file.getvalue())
    with pytest.raises(CorruptError, match="a model"):
        reader.model(0)


def test_a_name_of_a_single_file_has_no_zero_byte():
    data = single.pack_single(ID, 1, (4, 5), "a\0b", b"payload", PIXELS)
    with pytest.raises(CorruptError, match="zero byte"):
        single.unpack_single(data)
