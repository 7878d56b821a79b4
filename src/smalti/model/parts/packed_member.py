# SPDX-License-Identifier: MIT
"""Pack the npz members of built-in bundles: each array is arranged and compressed by itself; all bytes come back.

A bundle that is built in may hold a member in one of these forms besides its plain one; its SHA-256 in the manifest,
and so the id of the model, are those of the plain member:

NAME.packed    the member, packed as below
NAME.of        the name of another built-in model, whose member it is
NAME.changed   the name of another built-in model, a line feed, and an npz file: its arrays stand in the place of those
               that the member of that model has by the same names

A packed member begins with the length of its head (4 bytes, little endian), and the head, which is compressed by
deflate: a line of JSON with the parts, and then all bytes of the member that are in no part. The compressed parts
follow. A part is the bytes of an array: [its start in the member, its length, columns, whether differences are kept,
filter, compressed length]. Bytes of rows of `columns` bytes were kept column by column, so that bytes of a kind stand
together; of differences, integers of 32 bits were replaced by what they are more than the one before. A filter is null
for deflate, or the parameters lc, lp and pb of LZMA.
"""

import io
import json
import lzma
import math
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.model.npz import npz_bytes, read_npz

PACKED, SHARED, CHANGED = ".packed", ".of", ".changed"
"""What the names of members end with that are packed, that are those of another model, and that are so in part."""
FORMS = PACKED, SHARED, CHANGED
FILTERS = [3, 1, 1], [0, 0, 0], [3, 0, 0]
"""The parameters of LZMA that are tried."""
_LENGTH = 4
Filter = list[int] | None


def packed(member: bytes, *, quickly: bool) -> bytes:
    """Return an npz file in fewer bytes. quickly: it is packed by deflate alone, whose bytes are quicker to unpack."""
    parts, blobs, rest, at = list[tuple[int, int, int, bool, Filter, int]](), list[bytes](), list[bytes](), 0
    for start, shape, width in _arrays(member):
        size = math.prod(shape) * width
        if size:
            ways = {(1, False), (width, False), (size // shape[0], False), *([(4, True)] if width == 4 else [])}
            filters = [None] if quickly else [None, *FILTERS]
            found = {
                way: [
                    _compressed(_arranged(member[start : start + size], way[0], differences=way[1]), some)
                    for some in filters
                ]
                for way in ways
            }
            columns, differences = min(sorted(ways), key=lambda way: min(map(len, found[way])))
            chosen = min(range(len(filters)), key=lambda i: len(found[columns, differences][i]))
            blobs.append(found[columns, differences][chosen])
            parts.append((start, size, columns, differences, filters[chosen], len(blobs[-1])))
            rest.append(member[at:start])
            at = start + size
    head = zlib.compress(json.dumps(parts).encode() + b"\n" + b"".join([*rest, member[at:]]), 9)
    return len(head).to_bytes(_LENGTH, "little") + head + b"".join(blobs)


def unpacked(data: bytes) -> bytes:
    """Return the npz file that was packed. The data came with smalti: nothing else may be given."""
    at = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    told, rest = zlib.decompress(data[_LENGTH:at]).split(b"\n", 1)
    found, used, written = list[bytes](), 0, 0
    for start, size, columns, differences, filter_, length in json.loads(told):
        between = start - written
        arranged = _decompressed(data[at : at + length], filter_)
        found += [rest[used : used + between], _restored(arranged, columns, differences=differences)]
        at, used, written = at + length, used + between, start + size
    return b"".join([*found, rest[used:]])


def changed_member(member: bytes, arrays: bytes) -> bytes:
    """Return an npz file with other arrays, which are given as an npz file, in the place of those of their names."""
    return npz_bytes(read_npz(member) | read_npz(arrays))


def changes_of(member: bytes, wanted: bytes) -> bytes | None:
    """Return the arrays, as an npz file, by which `changed_member` makes the one that is wanted; None if none do."""
    there, ours = read_npz(member), read_npz(wanted)
    arrays = npz_bytes({name: array for name, array in ours.items() if not _same(there.get(name), array)})
    return arrays if changed_member(member, arrays) == wanted else None


def _same(a: NDArray[Any] | None, b: NDArray[Any]) -> bool:
    return a is not None and a.dtype == b.dtype and np.array_equal(a, b)


def _compressed(data: bytes, filter_: Filter) -> bytes:
    return zlib.compress(data, 9) if filter_ is None else lzma.compress(data, lzma.FORMAT_RAW, filters=_chain(filter_))


def _decompressed(data: bytes, filter_: Filter) -> bytes:
    return zlib.decompress(data) if filter_ is None else lzma.decompress(data, lzma.FORMAT_RAW, filters=_chain(filter_))


def _arrays(member: bytes) -> Iterator[tuple[int, tuple[int, ...], int]]:
    """Yield where the numbers of each array begin in an npz file that is not compressed, its shape, and bytes each."""
    with zipfile.ZipFile(io.BytesIO(member)) as file:
        for info in file.infolist():
            with file.open(info) as array:
                np.lib.format.read_magic(array)
                shape, _, dtype = np.lib.format.read_array_header_1_0(array)
                ends = info.header_offset + 30 + len(info.filename.encode()) + info.file_size
                yield ends - math.prod(shape) * dtype.itemsize, shape, dtype.itemsize


def _arranged(data: bytes, columns: int, *, differences: bool) -> bytes:
    if differences:
        data = np.diff(np.frombuffer(data, "<u4"), prepend=np.uint32(0)).tobytes()
    return np.frombuffer(data, np.uint8).reshape(-1, columns).T.tobytes()


def _restored(data: bytes, columns: int, *, differences: bool) -> bytes:
    found = np.frombuffer(data, np.uint8).reshape(columns, -1).T.tobytes()
    return np.frombuffer(found, "<u4").cumsum(dtype=np.uint32).tobytes() if differences else found


def _chain(parameters: list[int]) -> list[dict[str, int]]:
    lc, lp, pb = parameters
    preset = 9 | lzma.PRESET_EXTREME
    return [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": 1 << 22, "lc": lc, "lp": lp, "pb": pb}]
