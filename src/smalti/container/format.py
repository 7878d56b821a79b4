# SPDX-License-Identifier: MIT
"""The layout of a smalti file: fields, limits, packing and unpacking of records.

`docs/format.md` is the specification. Version 2 is version 1 with additions; a file says version 2 if it uses them.

    archive: header | record, record, ... | index | trailer        record: a model, a block, or a section
    single:  header | payload of a block                           one image in the fewest bytes

Standard library only. Everything is little-endian; nothing is allocated before its size is checked.
"""

import struct
from typing import NamedTuple

from smalti.errors import CorruptError, NotSmaltiError, TruncatedError, VersionError
from smalti.util.binary import HASH_BYTES, hash64

MAGIC, END_MAGIC = b"\x89SML", b"LMS\x89"
BLOCK_MARK, MODEL_MARK, SECTION_MARK, INDEX_MARK = b"\xb1SBK", b"\xb1SMO", b"\xb1SSE", b"\xb1SIX"
GROWN_MARK = b"\xb1SI2"
"""The mark of an index of version 2."""
VERSION, EXTENDED = 1, 2
"""The versions of the format: 1, and 2, which a file says that uses an addition."""
SINGLE_FLAG = 0x10
"""The bit of the form that marks a single file; see `single_image.py`."""
MODES = {1: "gray", 2: "gray with alpha", 3: "RGB", 4: "RGBA"}
"""The codes of colour modes, each the number of its channels; 2 is an addition of version 2."""
EMPTY_MODEL = bytes(8)
"""The id that stands for no model, where no image needs one; an addition of version 2."""
RAW, NEW_FLAGS = 255, 16 | 32 | 64 | 128
"""The first byte of a payload that is raw, and the flags in that of others which are additions of version 2."""
ORDER, NAMES, LABELS, METADATA, CARRIERS, SHAPES, PLACES, EDITS, PROFILES = 1, 2, 3, 4, 5, 6, 8, 9, 128
"""The codes of the sections; SHAPES, PLACES and EDITS are additions of version 2, PROFILES is one that readers of
version 1 ignore."""
SECTIONS = (ORDER, NAMES, LABELS, METADATA, CARRIERS, SHAPES, PLACES, EDITS, PROFILES)
FREE_SECTIONS = 128
"""The first of the codes that are reserved for later releases; a reader ignores the sections that it does not know."""

MAX_BLOCK_IMAGES = 4096
MAX_BLOCK_SAMPLES = 1 << 24
"""The most height * width * channels * images of a block: a reader may have to hold as many samples in memory."""
MAX_PAYLOAD = 1 << 25
"""The most bytes of the payload of a block: twice the most bytes of its raw pixels."""
MAX_MODELS, MAX_KINDS, MAX_SECTIONS = 1 << 8, (1 << 16) - 1, (1 << 16) - 1
MAX_MODEL_BYTES = 1 << 26
MAX_EARLIER = 64
"""The most earlier indexes that an index names; their sizes halve, so that few are enough."""
MAX_SECTION_IMAGES, MAX_SECTION_BYTES = 1 << 16, 1 << 24
"""The most images of a section, and the most bytes of its data before they are deflated, which also bound the bytes of
all its names."""
MAX_SECTION_NUMBERS = 1 << 20
"""The most numbers in all names of a section, and in all lists of a section of labels."""

HEADER = struct.Struct("<4sB6s2s8s")
BLOCK = struct.Struct("<4sIHIHBBHH8s8s")
MODEL = struct.Struct("<4sBI8s")
SECTION = struct.Struct("<4sBIII8s")
INDEX = struct.Struct("<4sQIHHH")
GROWN_INDEX = struct.Struct("<4sQHIHHI")
INDEX_ENTRY = struct.Struct("<QI8s")
MODEL_ENTRY = struct.Struct("<8sQ")
KIND_ENTRY = struct.Struct("<BBHH")
BLOCK_ENTRY = struct.Struct("<QIHH")
SECTION_ENTRY = struct.Struct("<BQII")
TRAILER = struct.Struct("<I8s4s")
START_BYTES = HEADER.size + 2
"""The first bytes of a file, from which `check_start` tells also which release a later version needs."""
SINGLE_BYTES = 12
"""The bytes of the header of a single file that do not depend on its form."""


class Kind(NamedTuple):
    """What the images of a block have in common."""

    model: int  # number of a model of the file
    mode: int  # one of MODES; 0 if the block is mixed
    height: int  # pixels
    width: int  # pixels

    @property
    def mixed(self) -> bool:
        """Whether images of a block may differ in model and shape, as the payload says; see `mixed_payload.py`."""
        return not self.mode

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of an image: h w c."""
        return self.height, self.width, self.mode


MIXED = Kind(0, 0, 0, 0)
"""The kind of mixed blocks."""


class BlockEntry(NamedTuple):
    """An entry of the index: the place of a block."""

    offset: int  # of its record, in bytes; 0 if the order of images carries it
    size: int  # of its record, in bytes
    images: int
    kind: int  # number of its kind


class SectionEntry(NamedTuple):
    """An entry of the index: the place of a section."""

    code: int  # one of SECTIONS
    offset: int  # of its record, in bytes
    size: int  # of its record, in bytes
    images: int


class ModelEntry(NamedTuple):
    """An entry of the index: a model that decodes blocks of the file."""

    id: bytes  # 8 bytes
    offset: int  # of its record, in bytes; 0 if the file does not hold it


class BlockHead(NamedTuple):
    """The fields before the payload of a block."""

    kind: Kind
    number: int  # of the kind
    images: int
    first: int  # number of the first image of the block among all images of this kind
    pixels: bytes  # hash of the decoded pixels


def pack_header(model_id: bytes, end: int = 0, version: int = VERSION) -> bytes:
    """Return the header, the first 21 bytes of an archive.

    Args:
        model_id: the id of the first model, 8 bytes.
        end: the bytes of the archive, if other bytes may follow it; 0 if the archive is the whole file.
        version: VERSION, or EXTENDED if the archive uses an addition.
    """
    size = end.to_bytes(6, "little")
    return HEADER.pack(MAGIC, version, size, hash64(size)[:2], model_id)


def needs_extended(kind: Kind, payload: bytes) -> bool:
    """Return whether a block of that kind and payload uses an addition of version 2."""
    return kind.mode in (MIXED.mode, 2) or (payload[:1] != bytes([RAW]) and any(f & NEW_FLAGS for f in payload[:1]))


def check_start(data: bytes) -> int:
    """Return the form of a file (its version and flags) from its first bytes.

    Raises:
        NotSmaltiError, VersionError, TruncatedError: it is no smalti file, has another version, or ends too early.
    """
    if not data.startswith(MAGIC[: max(1, len(data))]):
        raise NotSmaltiError("not a smalti file: it does not start with the bytes 89 53 4D 4C")
    if len(data) <= len(MAGIC):
        raise TruncatedError(f"the file ends after {len(data)} bytes, within its header; copy or download it again")
    form = data[len(MAGIC)]
    if form & 0x0F == 0:
        raise VersionError("the file is of an early draft of smalti, which cannot be read any more")
    if form & 0x0F > EXTENDED:
        at = SINGLE_BYTES if form & SINGLE_FLAG else HEADER.size
        needed = "a newer smalti" if len(data) < at + 2 else f"smalti {data[at]}.{data[at + 1]} or newer"
        raise VersionError(
            f"the file is of format version {form & 0x0F}, and this release reads up to {EXTENDED}; install {needed}"
        )
    return form


def unpack_header(data: bytes, file_size: int) -> tuple[bytes, int]:
    """Return the id of an archive's first model, and the byte where the archive ends, from the first 21 bytes.

    Raises:
        TruncatedError: the header or the archive is cut off.
        CorruptError: a field of the header is wrong.
    """
    if len(data) < HEADER.size:
        raise TruncatedError(f"the file ends after {len(data)} bytes, within its header; copy or download it again")
    _, form, size, check, model_id = HEADER.unpack_from(data)
    end = int.from_bytes(size, "little")
    if form not in (VERSION, EXTENDED) or hash64(size)[:2] != check:
        raise CorruptError("the header has an impossible field; the file is damaged")
    if end > file_size:
        raise TruncatedError(f"the file has {file_size} bytes of {end}; copy or download it again")
    return model_id, end or file_size


def pack_block(head: BlockHead, payload: bytes) -> bytes:
    """Return the record of a block: the images of one entropy-coded stream."""
    fields = (len(payload), head.images, head.first, head.number, *head.kind, head.pixels)
    data = BLOCK.pack(BLOCK_MARK, *fields, bytes(HASH_BYTES))[:-HASH_BYTES]
    return data + hash64(data, payload) + payload


def unpack_block(record: bytes) -> tuple[BlockHead, bytes]:
    """Return the head and the payload of a block.

    Raises:
        CorruptError: the record is no block, or is damaged.
    """
    if len(record) < BLOCK.size or not record.startswith(BLOCK_MARK):
        raise CorruptError("a block does not start as one; the file is damaged")
    _, size, count, first, number, model, mode, height, width, pixels, check = BLOCK.unpack_from(record)
    if len(record) != BLOCK.size + size or hash64(record[: BLOCK.size - HASH_BYTES], record[BLOCK.size :]) != check:
        raise CorruptError("the checksum of a block is wrong; the file is damaged")
    kind = Kind(model, mode, height, width)
    check_kind(kind, count)
    return BlockHead(kind, number, count, first, pixels), record[BLOCK.size :]


def check_kind(kind: Kind, count: int) -> None:
    """Check that a block may hold `count` images of that kind.

    Raises:
        CorruptError: the images are too many, too large, or of an unknown mode.
    """
    possible = kind == MIXED or (kind.mode in MODES and kind.height and kind.width)
    possible = possible and 1 <= count <= MAX_BLOCK_IMAGES
    if not possible or kind.height * kind.width * kind.mode * count > MAX_BLOCK_SAMPLES:
        raise CorruptError("a block has an impossible image shape or number of images; the file is damaged")


def pack_model(number: int, bundle: bytes) -> bytes:
    """Return the record of a model that the file holds."""
    head = MODEL.pack(MODEL_MARK, number, len(bundle), bytes(HASH_BYTES))[:-HASH_BYTES]
    return head + hash64(head, bundle) + bundle


def unpack_model(record: bytes) -> tuple[int, bytes]:
    """Return the number and the bundle of a model.

    Raises:
        CorruptError: the record is no model, or is damaged.
    """
    if len(record) < MODEL.size or not record.startswith(MODEL_MARK):
        raise CorruptError("a model does not start as one; the file is damaged")
    _, number, size, check = MODEL.unpack_from(record)
    if len(record) != MODEL.size + size or hash64(record[: MODEL.size - HASH_BYTES], record[MODEL.size :]) != check:
        raise CorruptError("the checksum of a model is wrong; the file is damaged")
    return number, record[MODEL.size :]


def pack_section(code: int, first: int, count: int, data: bytes) -> bytes:
    """Return the record of a section about `count` images, from image `first` on."""
    head = SECTION.pack(SECTION_MARK, code, first, count, len(data), bytes(HASH_BYTES))[:-HASH_BYTES]
    return head + hash64(head, data) + data


def unpack_section(record: bytes) -> tuple[int, int, int, bytes]:
    """Return the code, the number of the first image, the number of images and the data of a section.

    Raises:
        CorruptError: the record is no section, or is damaged.
    """
    if len(record) < SECTION.size or not record.startswith(SECTION_MARK):
        raise CorruptError("a section does not start as one; the file is damaged")
    _, code, first, count, size, check = SECTION.unpack_from(record)
    data = record[SECTION.size :]
    if len(data) != size or hash64(record[: SECTION.size - HASH_BYTES], data) != check:
        raise CorruptError("the checksum of a section is wrong; the file is damaged")
    if count > MAX_SECTION_IMAGES:
        raise CorruptError(f"a section has {count} images, but {MAX_SECTION_IMAGES} are allowed; the file is damaged")
    return code, first, count, data


def unpack_trailer(data: bytes, end: int) -> tuple[int, bytes]:
    """Return the size of the index in bytes and its hash, from the last 16 bytes of an archive that ends at byte `end`.

    Raises:
        TruncatedError: the end of the archive is missing.
        CorruptError: the index cannot have that size.
    """
    room = end - HEADER.size - TRAILER.size
    if room < INDEX.size or not data.endswith(END_MAGIC):
        raise TruncatedError("the file's end is missing; copy or download it again, or try: smalti repair")
    index_size, check, _ = TRAILER.unpack(data)
    if not INDEX.size <= index_size <= room:
        raise CorruptError(f"the trailer claims an index of {index_size} bytes; the file is damaged")
    return index_size, check
