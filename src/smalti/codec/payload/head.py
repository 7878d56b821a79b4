# SPDX-License-Identifier: MIT
"""The head of a payload: the ways in which the images of a block are coded (see `docs/format.md`)."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from smalti.codec.batching import ENTRIES, RAW
from smalti.codec.block import ByLatents, ByMixing, ByPixels, ByTransform, ByWebP, Fallback, Way
from smalti.entropy.frequencies import Ints
from smalti.errors import CorruptError
from smalti.model.masked_mlp import POINTS
from smalti.model.pixel_prior import MAX_ERROR
from smalti.model.transform.reduction import EIGHTHS, FINER, LAST_LEVEL
from smalti.model.transform.transform import LEVELS

LATENTS, PIXELS, POST_FILTERED, FALLBACK, WEBP, MIXING, TRANSFORM = 1, 2, 4, 8, 16, 64, 128
"""Flags in the first byte: what follows in the head, and whether images by pixels are post-filtered."""
RANGE, COUNT = struct.Struct("<BB"), struct.Struct("<H")
REDUCED, REDUCTIONS_SHIFT = 128, 3
"""The bit of a byte that names reductions, which stands before the range of levels; where their number begins in it."""
ONE_BYTE = 256
"""The most ways by mixing and by transform whose number takes one byte in an entry; that of more takes two."""


@dataclass(frozen=True)
class Head:
    """The ways that a block offers: by latents, by pixels, by mixing, by transform, the fallback, and WebP."""

    points: range  # operating points of the latents
    errors: range  # largest errors of images by pixels
    mixing: range  # largest errors of images by mixing
    transform: range  # levels of images by transform
    fallbacks: int | None  # number of images that are coded by the fallback; None: it is not offered
    webps: int | None  # number of images that are kept as WebP bitstreams, likewise
    post_filtered: bool = False  # whether images by pixels are post-filtered
    entries: bool = False  # whether each image has a stream or a record of its own
    size: int = 0  # of the head, in bytes; known if it was unpacked
    reductions: range = range(1)  # of images by transform

    @property
    def ways(self) -> int:
        """The number of ways in which an image may be coded."""
        return self.coded_ways + self.streamed_ways + (self.fallbacks is not None) + (self.webps is not None)

    @property
    def coded_ways(self) -> int:
        """The number of ways in which an image may be coded by latents or by pixels; they come first."""
        return len(self.points) + len(self.errors)

    @property
    def streamed_ways(self) -> int:
        """The number of ways in which an image may be coded by mixing or by transform; they come next."""
        return len(self.mixing) + len(self.transform) * len(self.reductions)

    @property
    def choice_size(self) -> int:
        """The bytes of the number of a way by mixing or by transform, before the stream of an image alone."""
        return (self.streamed_ways > 1) + (self.streamed_ways > ONE_BYTE)

    def streamed_way(self, choice: int) -> ByMixing | ByTransform:
        """Return the way, by mixing or by transform, of that choice."""
        mixing = len(self.mixing)
        if choice < mixing:
            return ByMixing(self.mixing[choice])
        level, reduction = divmod(choice - mixing, len(self.reductions))
        return ByTransform(self.transform[level], self.reductions[reduction])

    def streamed_choice(self, way: ByMixing | ByTransform) -> int:
        """Return the choice of a way by mixing or by transform; the reverse of `streamed_way`."""
        if isinstance(way, ByMixing):
            return way.max_error - self.mixing.start
        of_level = (way.level - self.transform.start) * len(self.reductions)
        return len(self.mixing) + of_level + way.reduction - self.reductions.start

    def coded_way(self, choice: int) -> Way:
        """Return the way, by latents or by pixels, of that choice."""
        latents = len(self.points)
        return ByLatents(self.points[choice]) if choice < latents else ByPixels(self.errors[choice - latents])

    @staticmethod
    def of(ways: Sequence[Way]) -> "tuple[Ints, Head, list[bytes]]":
        """Return the choices of images (`n`) among the ways that a head offers, that head, and all records."""
        points = [way.point for way in ways if isinstance(way, ByLatents)]
        errors = [way.max_error for way in ways if isinstance(way, ByPixels)]
        mixing = [way.max_error for way in ways if isinstance(way, ByMixing)]
        levels = [way.level for way in ways if isinstance(way, ByTransform)]
        reductions = [way.reduction for way in ways if isinstance(way, ByTransform)]
        fallbacks = [way.record for way in ways if isinstance(way, Fallback)]
        webps = [way.record for way in ways if isinstance(way, ByWebP)]
        spans = (_span(points), _span(errors), _span(mixing), _span(levels))
        head = Head(*spans, len(fallbacks) or None, len(webps) or None, reductions=_span(reductions or [0]))
        choices = np.empty(len(ways), np.int64)
        for i, way in enumerate(ways):
            match way:
                case ByLatents(point):
                    choices[i] = point - head.points.start
                case ByPixels(max_error):
                    choices[i] = len(head.points) + max_error - head.errors.start
                case ByMixing() | ByTransform():
                    choices[i] = head.coded_ways + head.streamed_choice(way)
                case Fallback():
                    choices[i] = head.coded_ways + head.streamed_ways
                case ByWebP():
                    choices[i] = head.ways - 1
        return choices, head, fallbacks + webps

    def ways_of(self, choices: Ints, records: Sequence[bytes]) -> list[Way]:
        """Return the ways of images (`n`) by their choices; the reverse of `of`.

        Raises:
            CorruptError: the images do not take as many records as there are.
        """
        offered = [self.coded_way(choice) for choice in range(self.coded_ways)]
        offered += [self.streamed_way(choice) for choice in range(self.streamed_ways)]
        n = self.fallbacks or 0
        of_fallback, of_webp = iter(records[:n]), iter(records[n:])
        without_model: list[tuple[type[Fallback | ByWebP], Iterator[bytes]]]
        without_model = [(Fallback, of_fallback)] if self.fallbacks is not None else []
        without_model += [(ByWebP, of_webp)] if self.webps is not None else []
        found = list[Way]()
        for choice in choices.tolist():
            if choice < len(offered):
                found.append(offered[choice])
            else:
                kind, of_kind = without_model[choice - len(offered)]
                found.append(kind(next(of_kind, b"")))
        counts = sum(isinstance(way, Fallback) for way in found), sum(isinstance(way, ByWebP) for way in found)
        if counts != (n, self.webps or 0) or len(records) != sum(counts):
            raise CorruptError("a block does not hold the images without model that it claims; the file is damaged")
        return found

    def pack(self, *, post_filtered: bool, entries: bool = False) -> bytes:
        """Return the bytes of the head.

        Args:
            post_filtered: whether images by pixels are post-filtered.
            entries: whether each image has a stream or a record of its own.
        """
        flags = ENTRIES * entries | LATENTS * bool(self.points) | PIXELS * bool(self.errors)
        flags |= FALLBACK * (self.fallbacks is not None) | WEBP * (self.webps is not None)
        flags |= POST_FILTERED * (post_filtered and bool(self.errors)) | MIXING * bool(self.mixing)
        flags |= TRANSFORM * bool(self.transform)
        spans = (self.points, self.errors, self.mixing)
        ranges = b"".join(RANGE.pack(some.start, some.stop - 1) for some in spans if some)
        if self.transform:
            if self.reductions != range(1):
                more = len(self.reductions) - 1
                ranges += bytes([REDUCED | (more << REDUCTIONS_SHIFT) | self.reductions.start])
            ranges += RANGE.pack(self.transform.start, self.transform.stop - 1)
        return bytes([flags]) + ranges + b"".join(COUNT.pack(n) for n in (self.fallbacks, self.webps) if n is not None)

    @staticmethod
    def unpack(payload: bytes, n: int) -> "Head":
        """Return the head of the payload of a block of `n` images; the reverse of `pack`.

        Raises:
            CorruptError: it ends too soon, or has an impossible field.
        """
        known = LATENTS | PIXELS | POST_FILTERED | FALLBACK | WEBP | ENTRIES | MIXING | TRANSFORM
        if any(flags & ~known for flags in payload[:1]):
            raise CorruptError("the head of a block has an impossible field; the file is damaged")
        try:
            flags, at, spans = payload[0], 1, list[range]()
            counts: list[int | None] = []
            reductions, are_named = range(1), False
            for flag in (LATENTS, PIXELS, MIXING, TRANSFORM):
                if flag == TRANSFORM and flags & TRANSFORM:
                    are_named = payload[at] >= REDUCED
                    if are_named:
                        more, first = divmod(payload[at] - REDUCED, 1 << REDUCTIONS_SHIFT)
                        reductions = range(first, first + 1 + more)
                        at += 1
                low, high = RANGE.unpack_from(payload, at) if flags & flag else (0, -1)
                at += RANGE.size * bool(flags & flag)
                if flags & flag and low > high:
                    raise CorruptError("the head of a block has an empty range; the file is damaged")
                spans.append(range(low, high + 1))
            for flag in (FALLBACK, WEBP):
                counts.append(COUNT.unpack_from(payload, at)[0] if flags & flag else None)
                at += COUNT.size * bool(flags & flag)
        except (IndexError, struct.error) as exc:
            raise CorruptError("a block ends within its head; the file is damaged") from exc
        how = bool(flags & POST_FILTERED), bool(flags & ENTRIES)
        head = Head(spans[0], spans[1], spans[2], spans[3], counts[0], counts[1], *how, at, reductions)
        most = max(head.errors.stop, head.mixing.stop)
        possible = sum(filter(None, counts)) <= n and head.points.stop <= POINTS and most <= MAX_ERROR + 1
        possible = possible and head.transform.stop <= (LAST_LEVEL + 1 if are_named else LEVELS) and flags != RAW
        possible = possible and reductions.stop <= len(FINER) and are_named == (reductions.stop > 1)
        if not possible or not head.ways or (head.post_filtered and not head.errors):
            raise CorruptError("the head of a block has an impossible field; the file is damaged")
        return head


def needs_model(payload: bytes, n: int) -> bool:
    """Return whether some of the `n` images of a payload are coded by a model.

    Raises:
        CorruptError: the payload is damaged.
    """
    if payload[:1] == bytes([RAW]):
        return False
    head = Head.unpack(payload, n)
    return head.coded_ways + head.streamed_ways > 0


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
    if head.mixing:
        most = head.mixing.stop - 1
        words.append("by mixing, without loss" if not most else f"by mixing, no pixel off by more than {most}")
    if head.transform:
        low, high, few = head.transform.start, head.transform.stop - 1, head.reductions
        words.append(f"by transform, level{f' {low}' if low == high else f's {low} to {high}'} of {LAST_LEVEL}")
        if few.stop > 1:
            sides = [f"{EIGHTHS[i]}/8" for i in (few.stop - 1, few.start)]
            words[-1] += f", at {' to '.join(sides[: len(few)])} of their sides"
    words += ["by the fallback"] if head.fallbacks is not None else []
    words += ["as WebP lossless bitstreams"] if head.webps is not None else []
    words += ["each image by itself"] if head.entries else []
    return "; ".join(words)


def _span(values: Sequence[int]) -> range:
    return range(min(values), max(values) + 1) if values else range(0)
