# SPDX-License-Identifier: MIT
"""The images of a block as they are coded: the way, symbols, bits and decoded pixels of each.

A block keeps all that its images need to be coded again with other neighbours, so that images can be selected,
mixed and put into another order without running a network.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import core
from smalti.core.symbols import Recorded, SampleStream
from smalti.entropy.frequencies import TOTAL, Ints
from smalti.entropy.logistic_mixture import WHOLE, scaled
from smalti.entropy.rans import Stream
from smalti.model.latent_prior import Grid
from smalti.types import Pixels


@dataclass(frozen=True)
class ByLatents:
    """The way of an image that is coded by latents."""

    point: int  # the operating point of the latents


@dataclass(frozen=True)
class ByPixels:
    """The way of an image that is coded pixel by pixel, with near-lossless quantisation."""

    max_error: int  # the largest error of a sample before the post-filter; 0 is lossless


@dataclass(frozen=True)
class Fallback:
    """The way of an image that is coded by the fallback, without a model."""

    record: bytes  # as `fallback_codec.py` writes it


@dataclass(frozen=True)
class ByWebP:
    """The way of an image that is kept as a WebP lossless bitstream, without a model."""

    record: bytes  # as `webp_codec.py` writes it


@dataclass(frozen=True)
class ByMixing:
    """The way of an image that is coded by context mixing, with near-lossless quantisation."""

    max_error: int  # the largest error of a sample; 0 is lossless
    alone: bytes | None = None  # the stream of this image by itself, if it is known already
    drawn: bool | None = field(default=None, compare=False)  # whether it is coded as a drawn one, likewise


@dataclass(frozen=True)
class ByTransform:
    """The way of an image that is coded by transform, lossily."""

    level: int  # of the image, 0 to 57: how much its bits weigh against its error
    reduction: int = 0  # of its sides, 0 (none) to 4


WithoutModel = Fallback | ByWebP
"""The way of an image that is coded without a model: one of two."""
Way = ByLatents | ByPixels | ByMixing | ByTransform | WithoutModel
"""The way in which an image is coded: one of six."""


@dataclass(frozen=True, eq=False)
class _OfImages:
    """Arrays that hold some entries of each of `n` images: image after image, each image's in the order of coding."""

    counts: Ints  # n: entries of each image

    def pick(self, rows: Ints) -> Self:
        """Return the entries of the images `rows`, in that order."""
        first, counts = np.cumsum(self.counts) - self.counts, self.counts[rows]
        if len(rows) and (np.diff(rows) == 1).all():  # neighbours, which need not be gathered
            start = int(first[rows[0]])
            some = slice(start, start + int(counts.sum()))
            return type(self)(counts, *(getattr(self, field.name)[some] for field in fields(self)[1:]))
        at = np.repeat(first[rows] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        return type(self)(counts, *(getattr(self, field.name)[at] for field in fields(self)[1:]))

    def spread(self, chosen: NDArray[np.bool_]) -> Self:
        """Return the entries of `n` images, of which only the chosen ones (`n`) have any: these, in order."""
        counts = np.zeros(len(chosen), np.int64)
        counts[chosen] = self.counts
        return type(self)(counts, *(getattr(self, field.name) for field in fields(self)[1:]))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Return the entries of the images of all parts."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


@dataclass(frozen=True, eq=False)
class Symbols(_OfImages):
    """Symbols as intervals of the entropy coder.

    In the stream of a block, symbols are sorted by their keys; those of equal keys keep the order of the images.
    """

    keys: NDArray[Any]  # unsigned; those of one key have tables of one size
    starts: NDArray[np.uint32]  # sum of the frequencies of all smaller symbols, of 2^24
    frequencies: NDArray[np.uint32]  # of 2^24

    @staticmethod
    def none(n: int) -> "Symbols":
        """Return the symbols of `n` images that have none."""
        nothing = np.zeros(0, np.uint32)
        return Symbols(np.zeros(n, np.int64), np.zeros(0, np.uint8), nothing, nothing)

    def stream(self) -> Stream:
        """Return keys, starts and frequencies in the order of a block's stream."""
        order = np.argsort(self.keys, kind="stable")
        return self.keys[order], self.starts[order].astype(np.int64), self.frequencies[order].astype(np.int64)

    def streams(self) -> list[Stream]:
        """Return for each image what `stream` returns for this image alone."""
        order = np.lexsort((self.keys, np.arange(len(self.counts)).repeat(self.counts)))
        keys, starts, frequencies = self.keys[order], self.starts[order], self.frequencies[order]
        first, second = starts.astype(np.int64), frequencies.astype(np.int64)
        ends = np.cumsum(self.counts).tolist()
        rows = [slice(start, end) for start, end in itertools.pairwise([0, *ends])]
        return [(keys[some], first[some], second[some]) for some in rows]


def symbols_of(images: Ints, keys: Ints, starts: Ints, frequencies: Ints, n: int) -> Symbols:
    """Return symbols, given in the order of a stream, sorted by their images (numbers below `n`)."""
    order = np.argsort(images.astype(np.uint16), kind="stable")
    small = (values.astype(np.uint32)[order] for values in (starts, frequencies))
    return Symbols(np.bincount(images, minlength=n), smallest_type(keys)[order], *small)


def smallest_type(values: Ints) -> NDArray[Any]:
    """Return numbers that are not negative in the smallest type that holds them; keys of a small type sort fastest."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


@dataclass(frozen=True, eq=False)
class SampleSymbols(_OfImages):
    """The symbols of the samples of images that are coded by pixels.

    Their intervals depend on the smallest largest error of a block, which decides how many levels a sample may have.
    """

    keys: NDArray[Any]  # as those of `Symbols`
    below: NDArray[np.uint32]  # cumulative distribution below the symbol, given what was coded before of the sample
    up_to: NDArray[np.uint32]  # the same, up to the symbol
    whole: NDArray[np.uint32]  # the largest value of both
    kinds: NDArray[np.uint8]  # kind of the symbol (zero or not, sixteen levels, one of them) * 16 + the symbol

    @staticmethod
    def none(n: int) -> "SampleSymbols":
        """Return the symbols of `n` images that have none."""
        nothing = np.zeros(0, np.uint32)
        return SampleSymbols(
            np.zeros(n, np.int64), np.zeros(0, np.uint8), nothing, nothing, nothing, np.zeros(0, np.uint8)
        )

    def stream(self, table_sizes: tuple[int, int, int]) -> Stream | SampleStream:
        """Return the symbols in the order of a block's stream, with tables of these sizes for each kind."""
        if core() is None:
            return self.intervals(table_sizes).stream()
        return SampleStream(self.recorded, table_sizes)

    @property
    def recorded(self) -> Recorded:
        """The symbols as the compiled core takes them."""
        return self.counts, self.keys, self.below, self.up_to, self.whole, self.kinds

    def intervals(self, table_sizes: tuple[int, int, int]) -> Symbols:
        """Return the symbols as intervals, with tables of these sizes for each kind."""
        symbols = (self.kinds & 15).astype(np.int64)
        k = np.array(table_sizes)[self.kinds >> 4]
        room, whole = TOTAL - k, self.whole.astype(np.int64)
        low, high = (values.astype(np.int64) * room // np.maximum(whole, 1) for values in (self.below, self.up_to))
        high = np.where((whole == 0) & (symbols == k - 1), room, high)
        starts, frequencies = (low + symbols).astype(np.uint32), (high - low + 1).astype(np.uint32)
        return Symbols(self.counts, self.keys, starts, frequencies)


@dataclass(frozen=True, eq=False)
class PatchSymbols:
    """The symbols of the latents of all patches of `n` images.

    Their intervals depend on the operating points of all images of a block, which decide the range of each symbol.
    """

    points: Ints  # n: operating points
    symbols: Ints  # n p l: of p patches with l latents each
    below: Ints  # n p l 2: cumulative distribution below the symbol and up to it, of 2^28, as if no range ended it

    def pick(self, rows: Ints) -> "PatchSymbols":
        """Return the symbols of the images `rows`, in that order."""
        return PatchSymbols(self.points[rows], self.symbols[rows], self.below[rows])

    @staticmethod
    def join(parts: "Sequence[PatchSymbols]") -> "PatchSymbols":
        """Return the symbols of the images of all parts."""
        names = ("points", "symbols", "below")
        return PatchSymbols(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def intervals_alone(self, grid: Grid) -> Symbols:
        """Return the symbols as intervals, where each image is alone in its stream."""
        every = np.arange(len(self.points))
        parts = [(every[self.points == point]) for point in np.unique(self.points)]
        joined = Symbols.join([self.pick(rows).intervals(grid) for rows in parts])
        return joined.pick(np.argsort(np.concatenate(parts)))

    def intervals(self, grid: Grid) -> Symbols:
        """Return the symbols as intervals, where these are all images of a block that are coded by latents."""
        present = np.unique(self.points)
        low, high = grid.low[present].min(0), grid.high[present].max(0)
        below = self.below.copy()
        below[..., 0][self.symbols == low] = 0
        below[..., 1][self.symbols == high] = WHOLE
        sums = scaled(below, (high - low + 1)[:, None])
        starts, frequencies = sums[..., 0] + self.symbols - low, sums[..., 1] - sums[..., 0] + 1
        n, patches, latents = self.symbols.shape
        keys = np.tile(np.arange(latents, dtype=np.uint16), n * patches)
        small = (values.astype(np.uint32).ravel() for values in (starts, frequencies))
        return Symbols(np.full(n, patches * latents), keys, *small)


@dataclass(frozen=True, eq=False)
class Transformed:
    """The images of a block that are coded by transform."""

    coded: tuple[NDArray[np.int16], ...]  # of each: its coefficients (rows columns 192), as the decoder knows them
    stream: bytes | None = None  # of all of them, if it is known already

    def pick(self, rows: Ints) -> "Transformed":
        """Return the images `rows` (numbers among those by transform), in that order."""
        return Transformed(tuple(self.coded[i] for i in rows.tolist()))

    @staticmethod
    def join(parts: "Sequence[Transformed]") -> "Transformed":
        """Return the images of all parts."""
        return parts[0] if len(parts) == 1 else Transformed(tuple(image for part in parts for image in part.coded))


@dataclass(frozen=True, eq=False)
class Block:
    """The code of `n` images, from which any of them can be selected and encoded to a payload.

    `patches` has a row for each image that is coded by latents, and for no other; so does `transformed` for those by
    transform. The two others have (perhaps no)
    symbols of each of the `n` images.
    """

    ways: tuple[Way, ...]  # n
    x_hat: Pixels  # n h w or n h w c: the images that the decoder returns
    bits: NDArray[np.float64]  # n: the bits that each image takes of an ideal coder
    patches: PatchSymbols | None  # of the images that are coded by latents, if there are any
    spatial: Symbols  # of the spatial latents of all images
    samples: SampleSymbols  # of the samples of all images
    post_filtered: bool  # whether the decoder post-filters what is coded by pixels
    mixed: bytes | None = None  # the stream of the images by mixing, if it is known already
    transformed: Transformed | None = None  # the images that are coded by transform, if there are any

    def __len__(self) -> int:
        return len(self.ways)

    @property
    def rate(self) -> NDArray[np.float64]:
        """The bytes that each image takes: a fraction, since images share a stream."""
        return self.bits / 8

    def pick(self, rows: Ints) -> "Block":
        """Return the block of the images `rows` alone, in that order; no network runs."""
        ways = tuple(self.ways[i] for i in rows.tolist())
        of_latents = np.cumsum([isinstance(way, ByLatents) for way in self.ways]) - 1
        latent_rows = of_latents[[i for i in rows.tolist() if isinstance(self.ways[i], ByLatents)]]
        patches = self.patches.pick(latent_rows) if self.patches is not None and len(latent_rows) else None
        symbols = self.spatial.pick(rows), self.samples.pick(rows)
        transformed = None
        if self.transformed is not None:
            of_transform = np.cumsum([isinstance(way, ByTransform) for way in self.ways]) - 1
            chosen = of_transform[[i for i in rows.tolist() if isinstance(self.ways[i], ByTransform)]]
            transformed = self.transformed.pick(chosen) if len(chosen) else None
        return Block(
            ways,
            self.x_hat[rows],
            self.bits[rows],
            patches,
            *symbols,
            self.post_filtered,
            transformed=transformed,
        )

    @staticmethod
    def join(blocks: "Sequence[Block]") -> "Block":
        """Return the images of several blocks as one.

        Their post-filters agree: a block that is not post-filtered holds no sample that a post-filter would change.
        """
        patches = [block.patches for block in blocks if block.patches is not None]
        transformed = [block.transformed for block in blocks if block.transformed is not None]
        return Block(
            tuple(way for block in blocks for way in block.ways),
            np.concatenate([block.x_hat for block in blocks]),
            np.concatenate([block.bits for block in blocks]),
            PatchSymbols.join(patches) if patches else None,
            Symbols.join([block.spatial for block in blocks]),
            SampleSymbols.join([block.samples for block in blocks]),
            any(block.post_filtered for block in blocks),
            transformed=Transformed.join(transformed) if transformed else None,
        )

    def replace(self, rows: Ints, other: "Block") -> "Block":
        """Return the block with the images `rows` (rising) as they are coded in `other`."""
        if not len(rows):
            return self
        order = np.arange(len(self))
        order[rows] = len(self) + np.arange(len(rows))
        return Block.join([self, other]).pick(order)


def choice_intervals(choices: Ints, ways: int) -> Symbols:
    """Return choices (`n`) among `ways` equally likely ways as symbols; the first way takes what is left over."""
    each = TOTAL // ways
    first = each + TOTAL % ways
    starts = np.where(choices == 0, 0, first + (choices - 1) * each)
    frequencies = np.where(choices == 0, first, each)
    return symbols_of(np.arange(len(choices)), np.zeros_like(choices), starts, frequencies, len(choices))
