# SPDX-License-Identifier: MIT
"""Hashes and integers of variable length, as bytes. Standard library only."""

import hashlib

from smalti.errors import CorruptError

HASH_BYTES = 8
"""The length of a checksum of the format, in bytes."""


def hash64(*parts: bytes | memoryview) -> bytes:
    """Return the checksum of `parts`, taken one after another: BLAKE2b (RFC 7693) with 8 bytes."""
    state = hashlib.blake2b(digest_size=HASH_BYTES)
    for part in parts:
        state.update(part)
    return state.digest()


def varint(value: int) -> bytes:
    """Return `value` (at least 0) with seven bits in each byte, the lowest first; all but the last have the eighth set.

    >>> varint(300).hex()
    'ac02'
    """
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that starts at byte `at`, and the place of the first byte behind it.

    Raises:
        CorruptError: no number of at most 63 bits starts there.
    """
    value = 0
    for i, byte in enumerate(data[at : at + 9]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    raise CorruptError("a number does not end; the file is damaged")
