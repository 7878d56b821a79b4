import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

import smalti
from smalti import codec
from smalti import format as fmt
from smalti.archive import BlockReader, BlockWriter
from smalti.errors import CorruptError, FormatError, NotSmaltiError, TruncatedError, VersionError

HEADER = fmt.Header(bytes(range(8)), 28, 28, 1, 2)


def small_file(names=("a", "b/ü", "c")) -> bytes:
    file = io.BytesIO()
    writer = BlockWriter(file, HEADER)
    writer.add(b"first block")
    writer.add(b"second")
    writer.finish(3, names)
    return file.getvalue()


def test_what_was_written_is_read():
    reader = BlockReader(small_file())
    assert reader.header == HEADER
    assert reader.index.names == ("a", "b/ü", "c")
    assert [reader.read(i) for i in (1, 0)] == [b"second", b"first block"]
    assert [reader.images_in(i) for i in (0, 1)] == [2, 1]
    assert reader.payload_size == 17


def test_no_names_cost_no_bytes():
    assert len(small_file(None)) == 23 + 17 + 16 + 2 * 8 + 16
    assert BlockReader(small_file(None)).index.names is None


def test_every_prefix_is_refused():
    data = small_file()
    for end in range(len(data)):
        with pytest.raises((TruncatedError, NotSmaltiError)):
            BlockReader(data[:end])


def test_every_flipped_bit_is_noticed():
    data = small_file()
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            with pytest.raises(FormatError):  # noqa: PT012 - either may be the one
                reader = BlockReader(bytes(flipped))
                for block in range(2):
                    reader.read(block)


def test_a_damaged_block_costs_that_block_alone():
    data = bytearray(small_file())
    data[fmt.HEADER.size] ^= 1
    reader = BlockReader(bytes(data))
    assert reader.read(1) == b"second"
    with pytest.raises(CorruptError, match="block 0"):
        reader.read(0)


def test_appended_bytes_are_noticed():
    with pytest.raises(FormatError):
        BlockReader(small_file() + b"x")


def sealed(header: bytes, body: bytes) -> bytes:
    """A file of no blocks whose checksum is right, whatever it says."""
    return header + body + fmt.TRAILER.pack(len(body), zlib.crc32(header + body), fmt.END_MAGIC)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (fmt.INDEX.pack(2**63, 0, 0), "cannot hold"),
        (fmt.INDEX.pack(2**63, 2**31, 0), "cannot hold"),
        (fmt.INDEX.pack(3, 2, 0), "does not fit its 2 blocks"),
        (fmt.INDEX.pack(3, 2, 0) + fmt.BLOCK.pack(2**32 - 1, 0) * 2, "do not add up"),
        (fmt.INDEX.pack(0, 0, 5) + b"names", "names"),
        (fmt.INDEX.pack(0, 0, 12) + zlib.compress(b"abcd"), "names"),
    ],
)
def test_lying_counts_and_sizes_are_refused_before_they_cost_memory(body, message):
    with pytest.raises(CorruptError, match=message):
        BlockReader(sealed(fmt.pack_header(HEADER), body))


def test_names_that_inflate_without_end_are_refused():
    names = zlib.compress(bytes(50_000_000), 9)
    body = fmt.INDEX.pack(1, 1, len(names)) + fmt.BLOCK.pack(0, 0) + names
    with pytest.raises(CorruptError, match="names"):
        BlockReader(sealed(fmt.pack_header(HEADER), body))


@pytest.mark.parametrize("change", [{"channels": 2}, {"height": 0}, {"width": 0}, {"block_images": 5000}])
def test_impossible_headers_are_refused(change):
    header = fmt.pack_header(fmt.Header(**{**vars(HEADER), **change}))
    with pytest.raises(CorruptError, match="impossible"):
        BlockReader(sealed(header, fmt.INDEX.pack(0, 0, 0)))


def test_other_files_and_versions_are_told_apart():
    with pytest.raises(NotSmaltiError):
        BlockReader(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(NotSmaltiError):
        BlockReader(b"")
    data = bytearray(small_file())
    data[4:6] = struct.pack("<H", 7)
    with pytest.raises(VersionError, match="version 7"):
        BlockReader(bytes(data))


LAYOUTS = (
    *(("Header", fmt.HEADER), ("Range", codec.RANGE), ("Count", codec.COUNT)),
    *(("Index", fmt.INDEX), ("Block", fmt.BLOCK), ("Trailer", fmt.TRAILER)),
)


def test_the_specification_has_the_fields_of_the_code():
    """Offsets and sizes in the tables of docs/format.md are those of the structs in format.py."""
    text = (Path(__file__).parents[1] / "docs" / "format.md").read_text(encoding="utf-8")
    for name, layout in LAYOUTS:
        section = re.search(rf"^#+ {name}$.*?(?=^#|\Z)", text, re.M | re.S)[0]
        fields = [(int(at), int(size)) for at, size in re.findall(r"^\| (\d+) \| (\d+) \|", section, re.M)]
        codes = re.findall(r"\d*s|[A-Z]", layout.format)
        sizes = [struct.calcsize("<" + code) for code in codes]
        assert fields == list(zip(np.cumsum([0, *sizes[:-1]]).tolist(), sizes, strict=True)), name


def test_a_whole_file_survives_no_flip(packed: Path):
    """As above, on a real file and through the whole decoder: our error or the right pixels."""
    data = packed.read_bytes()
    right = smalti.unpack(packed).pixels
    for at in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[at] ^= 0x55
        packed.write_bytes(flipped)
        try:
            pixels = smalti.unpack(packed).pixels
        except smalti.SmaltiError:
            continue
        assert (pixels == right).all()
