# SPDX-License-Identifier: MIT
"""A smalti file of one image, in the fewest bytes: at most 16 around the payload of its block.

    header | payload

Standard library only. `docs/format.md` is the specification.
"""

import struct
from typing import NamedTuple

from smalti.container.format import (
    MAGIC,
    MAX_PAYLOAD,
    SINGLE_FLAG,
    VERSION,
    BlockEntry,
    BlockHead,
    Index,
    Kind,
    ModelEntry,
    check_kind,
)
from smalti.errors import CorruptError, TruncatedError, within
from smalti.limits import MAX_NAME_BYTES
from smalti.util.binary import hash64, read_varint, varint
from smalti.util.storage import Storage

SINGLE = struct.Struct("<4sB4s3s")
SIDES = struct.Struct("<HH")
MODE_SHIFT, NAMED_FLAG = 5, 0x80
"""In the form, above the version."""
MODEL_BYTES = 3
"""Of a model id."""
MAX_SINGLE_BYTES = MAX_PAYLOAD + (1 << 13)
"""Of a file: its payload, and as much as its header may have."""
SINGLE_MODES = (0, 1, 3, 4)
"""Modes by their two bits there; 0: mode and size are those of the model."""


class Single(NamedTuple):
    """The header of a single file."""

    check: bytes  # 4 bytes
    model: bytes  # first 3 bytes of the model id
    mode: int  # 0: as the model
    sides: tuple[int, int] | None  # height and width; None: as the model
    name: str | None
    size: int  # of the header, in bytes


def pack_single(
    model_id: bytes, mode: int, sides: tuple[int, int] | None, name: str | None, payload: bytes, pixels: bytes
) -> bytes:
    """A file of one image. sides: None and mode 0 if they are the model's; pixels: hash of the decoded ones."""
    form = VERSION | SINGLE_FLAG | SINGLE_MODES.index(mode) << MODE_SHIFT | (NAMED_FLAG if name is not None else 0)
    rest = model_id[:MODEL_BYTES] + (b"" if sides is None else SIDES.pack(*sides))
    if name is not None:
        encoded = name.encode()
        rest += varint(len(encoded)) + encoded
    start = MAGIC + bytes([form])
    return start + hash64(start, rest, payload, pixels)[:4] + rest + payload


def unpack_single(data: bytes) -> Single:
    """The header of a single file, from all of its bytes.

    Raises:
        TruncatedError, CorruptError: as their names say.
    """
    if len(data) < SINGLE.size:
        raise TruncatedError(f"the file ends after {len(data)} bytes, within its header; copy or download it again")
    _, form, check, model = SINGLE.unpack_from(data)
    mode, at = SINGLE_MODES[form >> MODE_SHIFT & 3], SINGLE.size
    sides, name = None, None
    if mode:
        if len(data) < at + SIDES.size:
            raise TruncatedError("the file ends within its header; copy or download it again")
        height, width = SIDES.unpack_from(data, at)
        sides, at = (height, width), at + SIDES.size
        check_kind(Kind(0, mode, height, width), 1)
    if form & NAMED_FLAG:
        size, at = read_varint(data, at)
        try:
            name, at = data[at : at + size].decode(), at + size
        except UnicodeDecodeError as exc:
            raise CorruptError("the image's name cannot be read; the file is damaged") from exc
        if at > len(data) or not 1 <= size <= MAX_NAME_BYTES:
            raise CorruptError("the image's name cannot be so long; the file is damaged")
        if "\0" in name:
            raise CorruptError("the image's name holds a zero byte; the file is damaged")
    return Single(check, model, mode, sides, name, at)


def single_check(data: bytes, pixels: bytes) -> bytes:
    """What the check of a single file must be, of these bytes, that decodes to pixels of that hash."""
    return hash64(data[:5], data[9:], pixels)[:4]


class SingleReader:
    """A single file, seen as an archive of one block.

    Raises:
        SourceError, FormatError: it cannot be read, or is none.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        with within(storage.where):
            if storage.size > MAX_SINGLE_BYTES:
                raise CorruptError(f"this is a file of a single image, but has {storage.size} bytes; it is damaged")
            self._data = storage.read(0, storage.size)
            self.head = unpack_single(self._data)
        self.count, self.end = 1, storage.size
        self.model_id, self.index = b"", Index((), (), (), ())

    def resolve(self, model_id: bytes, shape: tuple[int, int, int]) -> None:
        """Say which model it is of, and what images that is for: h w c."""
        mode, sides = self.head.mode, self.head.sides
        height, width, channels = (*sides, mode) if sides is not None else shape
        self.model_id, kind = model_id, Kind(0, channels, height, width)
        block = BlockEntry(self.head.size, len(self._data) - self.head.size, 1, 0)
        self.index = Index((ModelEntry(model_id, 0),), (kind,), (block,), ())

    def block(self, _block: int, _record: bytes | None = None) -> tuple[BlockHead, bytes]:
        """Head and payload of the block; its pixels are checked by `fits`."""
        return BlockHead(self.index.kinds[0], 0, 1, 0, b""), self._data[self.head.size :]

    def fits(self, pixels: bytes) -> bool:
        """Whether the file is whole, and decodes to pixels of that hash."""
        return single_check(self._data, pixels) == self.head.check

    def model(self, _number: int) -> bytes | None:
        """A single file holds none."""
        return None

    def sections(self, _code: int) -> list[tuple[int, bytes]]:
        """A single file has none."""
        return []

    def has(self, _code: int) -> bool:
        """As above."""
        return False

    def close(self) -> None:
        """Close what it reads from."""
        self.storage.close()
