# SPDX-License-Identifier: MIT
"""The entries of a payload whose images are read one by one: a table of places, and a check of each image.

Behind the head comes the table, and behind it the bytes of each image: a stream of its own, or a record without model
and its check. The check of a stream takes no bytes of its own: it is the number that is left when all symbols are
decoded. A coder that begins with 0 loses about 20 bits with its first symbols, so a check of 20 bits is nearly free.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smalti.codec.payload.head import Head
from smalti.errors import CorruptError
from smalti.types import Pixels, Shape
from smalti.util.binary import hash64, read_varint, varint

CODED, FALLBACK, WEBP, MIXED = 0, 1, 2, 3
"""How the bytes of an image are read: as symbols, as a record of the fallback or of WebP, or as a stream by mixing or
by transform."""
KIND_BITS = 2
SHORT_CHECK, LONG_CHECK = 20, 32
"""The bits of a check: few where they are nearly free, more where images have LONG_BYTES on average."""
LONG_BYTES = 256
LEAST_CHECK = 16
"""The fewest bits of a check that a reader takes."""
MOST_WIDTH = 25
"""The most bits of a length: no payload has 2^25 bytes."""


def check_of(image: Pixels, bits: int) -> int:
    """Return the check of the decoded pixels of an image: that many bits of their hash."""
    return int.from_bytes(hash64(image.tobytes())[:4], "little") & (1 << bits) - 1


def check_bytes(bits: int) -> int:
    """Return the bytes of a check behind a record."""
    return -(-bits // 8)


@dataclass(frozen=True, eq=False)
class Entries:
    """The table of a payload's entries, and the head before it."""

    head: Head
    bits: int  # of a check
    kinds: list[int]  # n: CODED, FALLBACK, WEBP or MIXED
    ends: list[int]  # n + 1: where the bytes of each image start in the payload, and where the last ones end


@dataclass(frozen=True, eq=False)
class Entry:
    """An image of a payload with entries: the bytes that are its own, and what is needed to read them."""

    head: Head
    bits: int  # of the check
    kind: int  # CODED, FALLBACK, WEBP or MIXED
    data: bytes
    shape: Shape  # h w c

    @staticmethod
    def all_of(payload: bytes, entries: Entries, shape: Shape) -> "list[Entry]":
        """Return all images of a payload, which are of one shape."""
        places = zip(entries.kinds, itertools.pairwise(entries.ends), strict=True)
        return [Entry(entries.head, entries.bits, kind, payload[start:end], shape) for kind, (start, end) in places]

    @property
    def record(self) -> tuple[bytes, int]:
        """The record of an image that is not in a stream of symbols, and its check.

        Raises:
            CorruptError: there is no room for a check.
        """
        size = check_bytes(self.bits)
        if len(self.data) < size:
            raise CorruptError("an image has no check; the file is damaged")
        return self.data[:-size], int.from_bytes(self.data[-size:], "little")


def room(n: int) -> int:
    """Return the most bytes that the head and the table of `n` images take together."""
    return 9 + 2 + 9 + -(-n * KIND_BITS // 8) + -(-n * MOST_WIDTH // 8)


def pack_entries(head: bytes, bits: int, kinds: Sequence[int] | None, images: Sequence[bytes]) -> bytes:
    """Return a payload: its head, the table, and the bytes of all images.

    kinds: CODED, FALLBACK, WEBP or MIXED of each image; None if the head offers one of these alone.
    """
    table = bytes([bits]) + (b"" if kinds is None else _packed(kinds, KIND_BITS))
    if len(images) > 1:
        sizes = [len(image) for image in images]
        least = min(sizes)
        width = (max(sizes) - least).bit_length()
        table += bytes([width]) + varint(least) + _packed([size - least for size in sizes], width)
    return b"".join([head, table, *images])


def unpack_entries(data: bytes, n: int, size: int) -> Entries:
    """Return the table of a payload of `n` images and `size` bytes. data: its first bytes, at least `room(n)` or all.

    Raises:
        CorruptError: it is damaged.
    """
    head = Head.unpack(data, n)
    at, kinds = head.size + 1, [_only_kind(head)] * n
    if at > len(data) or not LEAST_CHECK <= data[at - 1] <= LONG_CHECK:
        raise CorruptError("the checks of single images have an impossible size; the file is damaged")
    bits = data[at - 1]
    if several_kinds(head):
        numbers, at = _unpacked(data, at, n, KIND_BITS)
        kinds = numbers.tolist()
    if kinds.count(FALLBACK) != (head.fallbacks or 0) or kinds.count(WEBP) != (head.webps or 0):
        raise CorruptError("a block does not hold the images without model that it claims; the file is damaged")
    if (kinds.count(CODED) and not head.coded_ways) or (kinds.count(MIXED) and not head.streamed_ways):
        raise CorruptError("a block holds images by a model in no way; the file is damaged")
    if n == 1:
        return Entries(head, bits, kinds, [at, size])
    width = data[at] if at < len(data) else MOST_WIDTH + 1
    if width > MOST_WIDTH:
        raise CorruptError("the table of single images is impossible; the file is damaged")
    least, at = read_varint(data, at + 1)
    lengths, at = _unpacked(data, at, n, width)
    if least > size or at + n * least + int(lengths.sum()) != size:
        raise CorruptError("the bytes of single images do not fill their block; the file is damaged")
    ends = np.empty(n + 1, np.int64)
    ends[0], ends[1:] = at, at + np.cumsum(lengths + least)
    return Entries(head, bits, kinds, ends.tolist())


def repacked(entries: Sequence[Entry]) -> bytes:
    """Return a payload of some images of another payload, which are not coded anew."""
    head, kinds = entries[0].head, [entry.kind for entry in entries]
    few = replace(head, fallbacks=kinds.count(FALLBACK) or None, webps=kinds.count(WEBP) or None)
    start = few.pack(post_filtered=head.post_filtered, entries=True)
    images = [entry.data for entry in entries]
    return pack_entries(start, entries[0].bits, kinds if several_kinds(few) else None, images)


def several_kinds(head: Head) -> bool:
    """Return whether images of a block may be of more than one kind: CODED, FALLBACK, WEBP or MIXED."""
    without = (head.fallbacks is not None) + (head.webps is not None)
    return (head.coded_ways > 0) + (head.streamed_ways > 0) + without > 1


def _only_kind(head: Head) -> int:
    if head.coded_ways or head.streamed_ways:
        return CODED if head.coded_ways else MIXED
    return FALLBACK if head.fallbacks is not None else WEBP


def _packed(numbers: Sequence[int], width: int) -> bytes:
    """Return numbers in `width` bits each, the lowest bits first.

    >>> _packed([1, 2, 3], 2).hex()
    '39'
    """
    bits = np.array(numbers, np.int64)[:, None] >> np.arange(width) & 1
    return np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").tobytes()


def _unpacked(data: bytes, at: int, n: int, width: int) -> tuple[NDArray[np.int64], int]:
    """Return `n` numbers of `width` bits each from byte `at` on, and where they end; the reverse of `_packed`."""
    end = at + -(-n * width // 8)
    if end > len(data):
        raise CorruptError("a block ends within the table of its images; the file is damaged")
    bits = np.unpackbits(np.frombuffer(data, np.uint8, end - at, at), bitorder="little")
    if bits[n * width :].any():
        raise CorruptError("the table of single images is impossible; the file is damaged")
    return bits[: n * width].reshape(n, width) @ (1 << np.arange(width)), end
