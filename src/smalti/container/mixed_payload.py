# SPDX-License-Identifier: MIT
"""The payload of a mixed block: a table of its parts, then the payload of each part. Standard library only.

A part holds the images of one model and one shape; its payload is one of a block of that kind. So many shapes share a
block, and cost a few bytes each. `docs/format.md` is the specification.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from smalti.container.format import MAX_BLOCK_SAMPLES, MAX_MODELS, MODES, Kind
from smalti.errors import CorruptError
from smalti.util.binary import hash64, read_varint, varint

MAX_TABLE_BYTES = 1 << 18
"""The most bytes of an inflated table: 4096 parts and images take less."""


@dataclass(frozen=True)
class Part:
    """The images of a mixed block that have one model and one shape."""

    kind: Kind
    rows: tuple[int, ...]  # the places of its images in the block, rising
    payload: bytes


def pack_mixed(parts: Sequence[Part]) -> bytes:
    """Return the payload of a mixed block of these parts, which hold all of its images."""
    parts = sorted(parts, key=lambda part: part.rows[0])
    columns = ([part.kind[i] for part in parts] for i in range(4))
    numbers = [len(parts), *(n for column in columns for n in column), *(len(part.payload) for part in parts)]
    numbers += _ages({row: i for i, part in enumerate(parts) for row in part.rows})
    deflater = zlib.compressobj(9, wbits=-15)
    table = deflater.compress(b"".join(map(varint, numbers))) + deflater.flush()
    return varint(len(table)) + table + b"".join(part.payload for part in parts)


def _ages(part_of: dict[int, int]) -> list[int]:
    """Return for each image in order: 0 if its part is the next new one, else how many parts ago that was new, from 1.

    >>> _ages({0: 0, 1: 0, 2: 1, 3: 0})
    [0, 1, 0, 2]
    """
    ages, seen = [], 0
    for _, part in sorted(part_of.items()):
        ages.append(0 if part == seen else seen - part)
        seen = max(seen, part + 1)
    return ages


class PartPlace(NamedTuple):
    """The place of a part in the payload of a mixed block."""

    kind: Kind
    rows: Sequence[int]  # the places of its images in the block, rising
    start: int  # of its payload, in bytes
    end: int


def unpack_mixed(payload: bytes, n: int) -> list[Part]:
    """Return the parts of the payload of a mixed block of `n` images.

    Raises:
        CorruptError: the payload is damaged.
    """
    return [
        Part(kind, tuple(rows), payload[start:end])
        for kind, rows, start, end in unpack_places(payload, n, len(payload))
    ]


def table_end(payload: bytes) -> int:
    """Return where the table of a mixed block ends. payload: its first bytes, at least nine or all.

    Raises:
        CorruptError: it is damaged.
    """
    size, at = read_varint(payload, 0)
    return at + size


def unpack_places(payload: bytes, n: int, whole: int) -> list[PartPlace]:
    """Return the places of the parts of a mixed block of `n` images, whose payload has `whole` bytes.

    payload: the first bytes of the payload, at least up to `table_end`.

    Raises:
        CorruptError: the payload is damaged.
    """
    size, at = read_varint(payload, 0)
    inflater = zlib.decompressobj(-15)
    try:
        data = inflater.decompress(payload[at : at + size], MAX_TABLE_BYTES + 1)
    except zlib.error as exc:
        raise CorruptError("the table of a mixed block cannot be inflated; the file is damaged") from exc
    if len(data) > MAX_TABLE_BYTES or not inflater.eof or inflater.unused_data or at + size > len(payload):
        raise CorruptError("the table of a mixed block does not end where it should; the file is damaged")
    kinds, sizes, rows = _table(data, n)
    places, at = list[PartPlace](), at + size
    for kind, of_part, mine in zip(kinds, sizes, rows, strict=True):
        places.append(PartPlace(kind, tuple(mine), at, at + of_part))
        at += of_part
    if at != whole:
        raise CorruptError("the parts of a mixed block do not fill it; the file is damaged")
    return places


def _table(data: bytes, n: int) -> tuple[list[Kind], list[int], list[list[int]]]:
    """Return of each part: its kind, the bytes of its payload, and the places of its images."""
    numbers, at = list[int](), 0
    while at < len(data):
        number, at = read_varint(data, at)
        numbers.append(number)
    count = numbers[0] if numbers else 0
    if not 1 <= count <= n or len(numbers) != 1 + 5 * count + n:
        raise CorruptError("the table of a mixed block does not fit its images; the file is damaged")
    columns = [numbers[1 + i * count : 1 + (i + 1) * count] for i in range(5)]
    kinds = [Kind(*fields) for fields in zip(*columns[:4], strict=True)]
    rows: list[list[int]] = []
    for i, age in enumerate(numbers[1 + 5 * count :]):
        if age > len(rows) or (not age and len(rows) == count):
            raise CorruptError("the table of a mixed block names a part that does not exist; the file is damaged")
        if not age:
            rows.append([])
        rows[-age if age else -1].append(i)
    samples = sum(kind.height * kind.width * kind.mode * len(mine) for kind, mine in zip(kinds, rows, strict=False))
    possible = all(
        kind.model < MAX_MODELS and kind.mode in MODES and 0 < kind.height < 1 << 16 and 0 < kind.width < 1 << 16
        for kind in kinds
    )
    if len(rows) != count or not possible or samples > MAX_BLOCK_SAMPLES or len(set(kinds)) < count:
        raise CorruptError("a mixed block has an impossible image shape or number of parts; the file is damaged")
    return kinds, columns[4], rows


def with_models(payload: bytes, n: int, numbers: Mapping[int, int]) -> bytes:
    """Return the payload of a mixed block of `n` images with other numbers of models: `numbers` has the new ones.

    Raises:
        CorruptError: the payload is damaged, or names a model that has no new number.
    """
    parts = unpack_mixed(payload, n)
    if any(part.kind.model not in numbers for part in parts):
        raise CorruptError("a mixed block names a model that does not exist; the file is damaged")
    return pack_mixed([replace(part, kind=part.kind._replace(model=numbers[part.kind.model])) for part in parts])


def mixed_hash(hashes: Sequence[bytes]) -> bytes:
    """Return the hash of the pixels of a mixed block, from those of its parts (in order)."""
    return hash64(*hashes)
