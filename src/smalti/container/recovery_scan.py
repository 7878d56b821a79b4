# SPDX-License-Identifier: MIT
"""Find the records of a damaged archive without its index, by their marks and checksums."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from smalti.container.format import (
    BLOCK,
    BLOCK_MARK,
    CARRIERS,
    HEADER,
    MAX_MODEL_BYTES,
    MAX_PAYLOAD,
    MAX_SECTION_BYTES,
    METADATA,
    MODEL,
    MODEL_MARK,
    SECTION,
    SECTION_MARK,
    BlockHead,
    unpack_block,
    unpack_model,
    unpack_section,
)
from smalti.errors import CorruptError
from smalti.util.binary import hash64
from smalti.util.storage import Storage

WINDOW = 1 << 22
"""Bytes that are searched for marks together."""
WASTE = 16
"""How many times the size of a file is read, in all, for records whose checksums are wrong. It bounds the time that a
file full of marks takes."""
_LAYOUTS = {BLOCK_MARK: (BLOCK, 1, MAX_PAYLOAD), MODEL_MARK: (MODEL, 2, MAX_MODEL_BYTES)}
_LAYOUTS |= {SECTION_MARK: (SECTION, 4, 2 * MAX_SECTION_BYTES)}
"""For each mark: the layout of the head, the place of the size among its fields, and the largest size that may be."""
_MARK = re.compile(b"|".join(map(re.escape, _LAYOUTS)))


@dataclass
class Found:
    """The undamaged records of a file, in its order."""

    end: int = 0  # the end of the archive by the header, if that is undamaged; else the end of the file
    model_id: bytes | None = None  # the id in the header, if that is undamaged
    blocks: list[tuple[BlockHead, bytes]] = field(default_factory=list)  # with payloads
    models: dict[int, bytes] = field(default_factory=dict)  # bundles by the numbers of the models
    sections: list[tuple[int, int, int, bytes]] = field(default_factory=list)  # code, first, count, data
    metadata: dict[int, bytes] = field(default_factory=dict)  # data by the place of the record
    carriers: list[tuple[int, bytes]] = field(default_factory=list)  # number of blocks found before it, data

    @property
    def nothing(self) -> bool:
        """Whether there is no undamaged record."""
        return not (self.blocks or self.models or self.sections or self.metadata or self.carriers)


def scan(storage: Storage) -> Found:
    """Find all undamaged records of a file.

    Raises:
        SourceError: the file cannot be read.
    """
    found, head = Found(storage.size), storage.read(0, HEADER.size)
    if len(head) == HEADER.size:
        _, _, end, check, model_id = HEADER.unpack(head)
        if hash64(end)[:2] == check:  # the file may be shorter, or its form damaged: the records are searched anyhow
            found.model_id, found.end = model_id, min(int.from_bytes(end, "little") or storage.size, storage.size)
    for at, mark, record in _records(storage, found.end):
        if mark == BLOCK_MARK:
            found.blocks.append(unpack_block(record))
        elif mark == MODEL_MARK:
            number, bundle = unpack_model(record)
            found.models[number] = bundle
        else:
            code, first, count, data = unpack_section(record)
            if code == CARRIERS:
                found.carriers.append((len(found.blocks), data))
            elif code == METADATA:
                found.metadata[at] = data
            else:
                found.sections.append((code, first, count, data))
    return found


def has_block(storage: Storage) -> bool:
    """Return whether a file holds an undamaged block anywhere.

    Raises:
        SourceError: the file cannot be read.
    """
    return any(mark == BLOCK_MARK for _, mark, _ in _records(storage, storage.size))


def first_record(data: bytes) -> bytes:
    """Return the record of a block at the start of `data`, filled up with zero bytes if its end is missing."""
    size = int(BLOCK.unpack(data[: BLOCK.size].ljust(BLOCK.size, b"\0"))[1])
    return data[: BLOCK.size + size].ljust(BLOCK.size + size if size <= MAX_PAYLOAD else 0, b"\0")


def _records(storage: Storage, end: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield the place, the mark and the bytes of each undamaged record up to byte `end`."""
    at, room = 0, WASTE * end + WINDOW
    while at < end:
        window, done = storage.read(at, min(WINDOW, end - at)), 0
        for found in _MARK.finditer(window):
            if found.start() < done:
                continue
            mark = found.group()
            size, record = _record(storage, at + found.start(), mark, room)
            if record is None:
                room -= size
            else:
                yield at + found.start(), mark, record
                done = found.start() + size
        at += max(done, len(window) - len(BLOCK_MARK) + 1, 1)


def _record(storage: Storage, at: int, mark: bytes, most: int) -> tuple[int, bytes | None]:
    """Read the record at byte `at`; return the number of bytes read, and the record, or None if it is damaged.

    No more than `most` bytes are read as its payload.
    """
    layout, field_of_size, largest = _LAYOUTS[mark]
    head = storage.read(at, layout.size)
    if len(head) < layout.size:
        return 0, None
    size = int(layout.unpack(head)[field_of_size])
    if size > min(largest, most) or at + layout.size + size > storage.size:
        return 0, None
    record = storage.read(at, layout.size + size)
    try:
        {BLOCK_MARK: unpack_block, MODEL_MARK: unpack_model, SECTION_MARK: unpack_section}[mark](record)
    except CorruptError:
        return len(record), None
    return len(record), record
