# SPDX-License-Identifier: MIT
"""The smalti file, version 0 (unstable): fields, limits, pack and unpack. `docs/format.md` is the specification.

    header | block, block, ... | index (with names) | trailer

Standard library only. Everything is little-endian; nothing is allocated before its size is checked.
"""

import struct
import zlib
from dataclasses import dataclass

from smalti.errors import CorruptError, NotSmaltiError, TruncatedError, VersionError

MAGIC = b"\x89SML"
END_MAGIC = b"LMS\x89"
VERSION = 0
MAX_BLOCK_IMAGES = 4096
MAX_NAME_BYTES = 4096
MAX_SIDE = (1 << 16) - 1
"""Of an image, in pixels."""
MAX_BLOCK_SAMPLES = 1 << 28
"""Height * width * channels * images of a block: what a reader may have to hold at once."""

HEADER = struct.Struct("<4sH8sBHHI")
INDEX = struct.Struct("<QII")
BLOCK = struct.Struct("<II")
TRAILER = struct.Struct("<QI4s")


@dataclass(frozen=True)
class Header:
    """What holds for every image of the file."""

    model_id: bytes  # 8 bytes
    height: int  # pixels, 1 to 65535
    width: int  # pixels, 1 to 65535
    channels: int  # 1 gray, 3 RGB
    block_images: int  # images a block, 1 to 4096; the last block may have fewer


@dataclass(frozen=True)
class Index:
    """What is known only when all images are written."""

    count: int  # images
    blocks: tuple[tuple[int, int], ...]  # of each block: bytes, CRC-32
    names: tuple[str, ...] | None  # of each image, or none at all


def pack_header(header: Header) -> bytes:
    """The first 23 bytes of the file."""
    return HEADER.pack(
        MAGIC,
        VERSION,
        header.model_id,
        header.channels,
        header.height,
        header.width,
        header.block_images,
    )


def unpack_header(data: bytes) -> Header:
    """Read the header from the first bytes of a file.

    Raises:
        NotSmaltiError, VersionError, TruncatedError, CorruptError: as their names say.
    """
    if not data.startswith(MAGIC[: max(1, len(data))]):
        raise NotSmaltiError("not a smalti file: it does not start with the bytes 89 53 4D 4C")
    if len(data) < HEADER.size:
        raise TruncatedError(f"the file ends after {len(data)} bytes, within its header")
    _, version, model_id, channels, height, width, block_images = HEADER.unpack_from(data)
    if version != VERSION:
        raise VersionError(f"format version {version}; this release reads version {VERSION}; install a newer smalti")
    possible = channels in (1, 3) and height and width and 1 <= block_images <= MAX_BLOCK_IMAGES
    if not possible or height * width * channels * block_images > MAX_BLOCK_SAMPLES:
        raise CorruptError("the header has an impossible image shape or block size; the file is damaged")
    return Header(model_id, height, width, channels, block_images)


def pack_index(header: Header, index: Index) -> bytes:
    """Index and trailer: all that follows the blocks."""
    names = b"" if index.names is None else zlib.compress("\0".join(index.names).encode(), 9)
    body = INDEX.pack(index.count, len(index.blocks), len(names))
    body += b"".join(BLOCK.pack(size, crc) for size, crc in index.blocks) + names
    return body + TRAILER.pack(len(body), zlib.crc32(pack_header(header) + body), END_MAGIC)


def unpack_trailer(data: bytes, file_size: int) -> tuple[int, int]:
    """The index's bytes and the CRC-32 of header and index, from the last 16 bytes of a file of `file_size` bytes.

    Raises:
        TruncatedError: the end of the file is not there.
    """
    room = file_size - HEADER.size - TRAILER.size
    if room < INDEX.size or not data.endswith(END_MAGIC):
        raise TruncatedError("the file's end is missing; copy or download it again")
    index_size, crc, _ = TRAILER.unpack(data)
    if not INDEX.size <= index_size <= room:
        raise CorruptError(f"the trailer claims an index of {index_size} bytes in a file of {file_size}")
    return index_size, crc


def unpack_index(header: Header, data: bytes, crc: int, file_size: int) -> Index:
    """Read the index (`data`, without the trailer) of a file of `file_size` bytes.

    Raises:
        CorruptError: a checksum, a count or a size does not fit.
    """
    if zlib.crc32(pack_header(header) + data) != crc:
        raise CorruptError("the checksum of header and index is wrong; the file is damaged")
    count, n_blocks, names_size = INDEX.unpack_from(data)
    if n_blocks != -(-count // header.block_images):
        raise CorruptError(f"{n_blocks} blocks of {header.block_images} cannot hold {count} images")
    if len(data) != INDEX.size + BLOCK.size * n_blocks + names_size:
        raise CorruptError(f"the index is {len(data)} bytes long, which does not fit its {n_blocks} blocks")
    at = INDEX.size + BLOCK.size * n_blocks
    blocks = tuple(BLOCK.iter_unpack(data[INDEX.size : at]))
    if HEADER.size + sum(size for size, _ in blocks) + len(data) + TRAILER.size != file_size:
        raise CorruptError(f"the blocks do not add up to the file's {file_size} bytes")
    return Index(count, blocks, _unpack_names(data[at:], count) if names_size else None)


def _unpack_names(data: bytes, count: int) -> tuple[str, ...]:
    if not count:
        raise CorruptError("the file has names, but no images; it is damaged")
    decompressor = zlib.decompressobj()
    try:
        text = decompressor.decompress(data, count * (MAX_NAME_BYTES + 1)).decode()
    except (zlib.error, UnicodeDecodeError) as exc:
        raise CorruptError("the names of the images cannot be read; the file is damaged") from exc
    names = tuple(text.split("\0")) if text.count("\0") == count - 1 else ()
    whole = decompressor.eof and not decompressor.unused_data and len(names) == count
    if not whole or len(set(names)) < count or not all(1 <= len(n.encode()) <= MAX_NAME_BYTES for n in names):
        raise CorruptError(f"the names do not fit the {count} images")
    return names
