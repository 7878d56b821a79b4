# SPDX-License-Identifier: MIT
"""The head of a payload: the ways in which the images of a block are coded (see `docs/format.md`)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smalti.codec.block import ByLatents, ByPixels, Fallback, Way
from smalti.entropy.frequencies import Ints
from smalti.errors import CorruptError
from smalti.model.masked_mlp import POINTS
from smalti.model.pixel_prior import MAX_ERROR

LATENTS, PIXELS, POST_FILTERED, FALLBACK = 1, 2, 4, 8
"""Flags in the first byte: what follows in the head, and whether images by pixels are post-filtered."""
RAW = 255
"""The first byte of a payload that has no head: the images of the block follow as they are."""
RANGE, COUNT = struct.Struct("<BB"), struct.Struct("<H")


@dataclass(frozen=True)
class Head:
    """The ways that a block offers: operating points of latents, largest errors of pixels, and the fallback."""

    points: range  # operating points of the latents
    errors: range  # largest errors of images by pixels
    fallback: bool  # whether the fallback is offered
    fallbacks: int  # number of images that are coded by it
    post_filtered: bool = False  # whether images by pixels are post-filtered
    size: int = 0  # of the head, in bytes; known if it was unpacked

    @property
    def ways(self) -> int:
        """The number of ways in which an image may be coded."""
        return len(self.points) + len(self.errors) + self.fallback

    @staticmethod
    def of(ways: Sequence[Way]) -> "tuple[Ints, Head, list[bytes]]":
        """Return the choices of images (`n`) among the ways that a head offers, that head, and fallback records."""
        points = [way.point for way in ways if isinstance(way, ByLatents)]
        errors = [way.max_error for way in ways if isinstance(way, ByPixels)]
        records = [way.record for way in ways if isinstance(way, Fallback)]
        head = Head(_span(points), _span(errors), bool(records), len(records))
        choices = np.empty(len(ways), np.int64)
        for i, way in enumerate(ways):
            match way:
                case ByLatents(point):
                    choices[i] = point - head.points.start
                case ByPixels(max_error):
                    choices[i] = len(head.points) + max_error - head.errors.start
                case Fallback():
                    choices[i] = head.ways - 1
        return choices, head, records

    def ways_of(self, choices: Ints, records: Sequence[bytes]) -> list[Way]:
        """Return the ways of images (`n`) by their choices; the reverse of `of`.

        Raises:
            CorruptError: the images do not take as many records as there are.
        """
        offered: list[Way] = [*map(ByLatents, self.points), *map(ByPixels, self.errors)]
        left = iter(records)
        found = [offered[choice] if choice < len(offered) else Fallback(next(left, b"")) for choice in choices.tolist()]
        if sum(isinstance(way, Fallback) for way in found) != len(records):
            raise CorruptError("a block does not hold the fallback images that it claims; the file is damaged")
        return found

    def pack(self, *, post_filtered: bool) -> bytes:
        """Return the bytes of the head. post_filtered: whether images by pixels are post-filtered."""
        flags = LATENTS * bool(self.points) | PIXELS * bool(self.errors) | FALLBACK * self.fallback
        flags |= POST_FILTERED * (post_filtered and bool(self.errors))
        ranges = b"".join(RANGE.pack(some.start, some.stop - 1) for some in (self.points, self.errors) if some)
        return bytes([flags]) + ranges + (COUNT.pack(self.fallbacks) if self.fallback else b"")

    @staticmethod
    def unpack(payload: bytes, n: int) -> "Head":
        """Return the head of the payload of a block of `n` images; the reverse of `pack`.

        Raises:
            CorruptError: it ends too soon, or has an impossible field.
        """
        try:
            flags, at, spans = payload[0], 1, []
            for flag in (LATENTS, PIXELS):
                low, high = RANGE.unpack_from(payload, at) if flags & flag else (0, -1)
                at += RANGE.size * bool(flags & flag)
                if flags & flag and low > high:
                    raise CorruptError("the head of a block has an empty range; the file is damaged")
                spans.append(range(low, high + 1))
            count = COUNT.unpack_from(payload, at)[0] if flags & FALLBACK else 0
        except (IndexError, struct.error) as exc:
            raise CorruptError("a block ends within its head; the file is damaged") from exc
        fallback = bool(flags & FALLBACK)
        head = Head(spans[0], spans[1], fallback, count, bool(flags & POST_FILTERED), at + COUNT.size * fallback)
        possible = not flags & ~(LATENTS | PIXELS | POST_FILTERED | FALLBACK)
        possible = possible and head.points.stop <= POINTS and head.errors.stop <= MAX_ERROR + 1 and count <= n
        if not possible or not head.ways or (head.post_filtered and not head.errors):
            raise CorruptError("the head of a block has an impossible field; the file is damaged")
        return head


def describe_payload(payload: bytes, n: int) -> str:
    """Say in words how the `n` images of a payload are coded.

    Raises:
        CorruptError: the payload is damaged.
    """
    if payload[:1] == bytes([RAW]):
        return "as they are"
    head, words = Head.unpack(payload, n), []
    if head.points:
        words.append(f"by latents, operating points {head.points.start} to {head.points.stop - 1} of {POINTS - 1}")
    if head.errors:
        low, high = head.errors.start, head.errors.stop - 1
        steps = f"{2 * low + 1}" if low == high else f"{2 * low + 1} to {2 * high + 1}"
        exact = "without loss" if high == 0 else f"no pixel off by more than {high}"
        words.append(f"by pixels, in steps of {steps}" if head.post_filtered else f"by pixels, {exact}")
    return "; ".join([*words, *(["by the fallback"] if head.fallback else [])])


def _span(values: Sequence[int]) -> range:
    return range(min(values), max(values) + 1) if values else range(0)
