# SPDX-License-Identifier: MIT
"""Write and read a smalti file of one image: a few bytes, its name and its ICC profile before the payload.

    header | payload

Standard library only. `docs/format.md` is the specification.
"""

import struct
import zlib
from typing import NamedTuple

from smalti.container.annotation_codec import pack_names, pack_profiles
from smalti.container.format import (
    EMPTY_MODEL,
    EXTENDED,
    MAGIC,
    MAX_PAYLOAD,
    NAMES,
    PROFILES,
    SINGLE_FLAG,
    VERSION,
    BlockEntry,
    BlockHead,
    Kind,
    ModelEntry,
    check_kind,
    needs_extended,
)
from smalti.container.index import Index
from smalti.errors import CorruptError, TruncatedError, within
from smalti.limits import MAX_NAME_BYTES, MAX_PROFILE_BYTES, MAX_SIDE
from smalti.util.binary import hash64, read_varint, varint
from smalti.util.storage import Storage

SINGLE = struct.Struct("<4sB4s3s")
SIDES = struct.Struct("<HH")
MODE_SHIFT, NAMED_FLAG = 5, 0x80
"""The place of the mode in the form byte of version 1, above the version; and the flag that the image has a name."""
SHAPE_FLAG, PROFILE_FLAG = 0x20, 0x40
"""The flags in the form byte of version 2 that mode and sides follow, and an ICC profile."""
MODEL_BYTES = 3
"""The number of bytes of a model id that a single file holds."""
MAX_SINGLE_BYTES = MAX_PAYLOAD + (1 << 13) + (1 << 21)
"""The most bytes of a single file: its payload and its header."""
SINGLE_MODES = (0, 1, 3, 4)
"""The modes by their two bits in the form byte; 0: mode and size are those of the model."""


class Single(NamedTuple):
    """The header of a single file."""

    check: bytes  # 4 bytes
    model: bytes  # first 3 bytes of the model id
    mode: int  # 0: as the model
    sides: tuple[int, int] | None  # height and width; None: as the model
    name: str | None
    size: int  # of the header, in bytes
    profile: bytes | None = None  # ICC


def pack_single(
    model_id: bytes,
    mode: int,
    sides: tuple[int, int] | None,
    name: str | None,
    payload: bytes,
    pixels: bytes,
    profile: bytes | None = None,
) -> bytes:
    """Return the bytes of a file of one image.

    mode, sides: 0 and None if they are those of the model. pixels: the hash of the decoded pixels.
    """
    kind = Kind(0, mode or 1, *(sides or (1, 1)))
    rest = model_id[:MODEL_BYTES]
    form = SINGLE_FLAG | (NAMED_FLAG if name is not None else 0)
    if profile is not None or model_id == EMPTY_MODEL or needs_extended(kind, payload):
        form |= EXTENDED
        if sides is not None:
            form |= SHAPE_FLAG
            rest += bytes([mode]) + varint(sides[0]) + varint(sides[1])
        if profile is not None:
            form |= PROFILE_FLAG
            deflated = zlib.compress(profile, 9, -15)
            rest += varint(len(deflated)) + deflated
    else:
        form |= VERSION | SINGLE_MODES.index(mode) << MODE_SHIFT
        rest += b"" if sides is None else SIDES.pack(*sides)
    if name is not None:
        encoded = name.encode()
        rest += varint(len(encoded)) + encoded
    start = MAGIC + bytes([form])
    return start + hash64(start, rest, payload, pixels)[:4] + rest + payload


def most_single_bytes(model_id: bytes, shape: tuple[int, int, int] | None) -> int:
    """Return the most bytes of the header of a single file without a name and an ICC profile.

    shape: h w c of the image; None if it is that of the model.
    """
    if shape is None:
        return SINGLE.size
    extended = 1 + len(varint(shape[0])) + len(varint(shape[1]))
    return SINGLE.size + (
        extended if model_id == EMPTY_MODEL or shape[2] not in SINGLE_MODES else max(SIDES.size, extended)
    )


def unpack_single(data: bytes) -> Single:
    """Return the header of a single file, from all of its bytes.

    Raises:
        TruncatedError: the file ends within its header.
        CorruptError: the header has an impossible field.
    """
    if len(data) < SINGLE.size:
        raise TruncatedError(f"the file ends after {len(data)} bytes, within its header; copy or download it again")
    _, form, check, model = SINGLE.unpack_from(data)
    mode, sides, name, profile, at = 0, None, None, None, SINGLE.size
    if form & 0x0F == EXTENDED:
        if form & SHAPE_FLAG:
            mode, at = data[at] if at < len(data) else 0, at + 1
            height, at = read_varint(data, at)
            width, at = read_varint(data, at)
            sides = height, width
        if form & PROFILE_FLAG:
            profile, at = _unpack_profile(data, at)
    elif form >> MODE_SHIFT & 3:
        mode = SINGLE_MODES[form >> MODE_SHIFT & 3]
        if len(data) < at + SIDES.size:
            raise TruncatedError("the file ends within its header; copy or download it again")
        height, width = SIDES.unpack_from(data, at)
        sides, at = (height, width), at + SIDES.size
    if sides is not None:
        if not mode or max(sides) > MAX_SIDE:
            raise CorruptError("a single file has an impossible image shape; the file is damaged")
        check_kind(Kind(0, mode, *sides), 1)
    if form & NAMED_FLAG:
        name, at = _unpack_name(data, at)
    return Single(check, model, mode, sides, name, at, profile)


def _unpack_name(data: bytes, at: int) -> tuple[str, int]:
    """Return the name at byte `at`, and where it ends."""
    size, at = read_varint(data, at)
    try:
        name, at = data[at : at + size].decode(), at + size
    except UnicodeDecodeError as exc:
        raise CorruptError("the image's name cannot be read; the file is damaged") from exc
    if at > len(data) or not 1 <= size <= MAX_NAME_BYTES:
        raise CorruptError("the image's name cannot be so long; the file is damaged")
    if "\0" in name:
        raise CorruptError("the image's name holds a zero byte; the file is damaged")
    return name, at


def _unpack_profile(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the ICC profile at byte `at`, and where it ends."""
    size, at = read_varint(data, at)
    inflater = zlib.decompressobj(-15)
    try:
        profile = inflater.decompress(data[at : at + size], MAX_PROFILE_BYTES + 1)
    except zlib.error as exc:
        raise CorruptError("the image's ICC profile cannot be inflated; the file is damaged") from exc
    whole = inflater.eof and not inflater.unused_data and at + size <= len(data)
    if not whole or not 1 <= len(profile) <= MAX_PROFILE_BYTES:
        raise CorruptError("the image's ICC profile does not end where it should; the file is damaged")
    return profile, at + size


def single_check(data: bytes, pixels: bytes) -> bytes:
    """Return the check (4 bytes) of a single file of these bytes that decodes to pixels of that hash."""
    return hash64(data[:5], data[9:], pixels)[:4]


def read_single(storage: Storage) -> tuple[Single, bytes]:
    """Return the header of a single file, and all of its bytes.

    Raises:
        SourceError, FormatError: it cannot be read, or is no single file.
    """
    with within(storage.where):
        if storage.size > MAX_SINGLE_BYTES:
            raise CorruptError(f"this is a file of a single image, but has {storage.size} bytes; it is damaged")
        data = storage.read(0, storage.size)
        return unpack_single(data), data


class SingleReader:
    """A single file, seen as an archive of one block. It implements `Reader`."""

    count = 1
    stored_checksums = False

    def __init__(
        self, storage: Storage, head: Single, data: bytes, model_id: bytes, model_shape: tuple[int, int, int]
    ) -> None:
        """head, data: as `read_single` returns them. model_shape: the shape (h w c) of the images of the model."""
        self.storage, self.head, self.model_id, self._data = storage, head, model_id, data
        self.end, self.extended = storage.size, data[len(MAGIC)] & 0x0F == EXTENDED
        height, width, channels = model_shape if head.sides is None else (*head.sides, head.mode)
        block = BlockEntry(head.size, len(data) - head.size, 1, 0)
        self.index = Index((ModelEntry(model_id, 0),), (Kind(0, channels, height, width),), (block,), ())

    def block(self, _block: int, _record: bytes | None = None) -> tuple[BlockHead, bytes]:
        """Return head and payload of the block; only its pixels show whether it is whole."""
        return BlockHead(self.index.kinds[0], 0, 1, 0, b""), self._data[self.head.size :]

    def decodes_to(self, _head: BlockHead, pixels: bytes) -> bool:
        """Return whether the file is whole, where it decodes to pixels of that hash."""
        return single_check(self._data, pixels) == self.head.check

    def payload_bytes(self) -> int:
        """Return the bytes of the payload."""
        return len(self._data) - self.head.size

    def model(self, _number: int) -> bytes | None:
        """Return nothing: a single file holds no model."""
        return None

    def sections(self, code: int) -> list[tuple[int, bytes]]:
        """Return the name or the ICC profile of the image as a section; a single file has no others."""
        if code == NAMES and self.head.name is not None:
            return [(1, pack_names([self.head.name]))]
        return [(1, pack_profiles([self.head.profile]))] if code == PROFILES and self.head.profile else []

    def section(self, code: int, number: int) -> tuple[int, bytes]:
        """Return the same of one of these sections."""
        return self.sections(code)[number]

    def firsts(self, code: int) -> list[int]:
        """Return the number of the first image of each such section."""
        return [0] * len(self.sections(code))

    def has(self, code: int) -> bool:
        """Return whether there is such a section."""
        return bool(self.sections(code))

    def close(self) -> None:
        """Close the storage."""
        self.storage.close()
