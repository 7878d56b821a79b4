# SPDX-License-Identifier: MIT
"""Images coded pixel by pixel, exactly or up to an error: encode and decode side by side.

    encode:  images -> planes of samples -> wavefront, levels chosen, symbols of them -> columns of the block
    decode:  images <- planes of samples <- wavefront, levels of symbols              <- columns of the block

Choosing levels is the encoder's affair: the nearest ones keep the error, others may take fewer bits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.entropy.frequencies import Ints, bits, by_value
from smalti.entropy.logistic_mixture import WHOLE_BITS
from smalti.entropy.rans import SymbolDecoder
from smalti.errors import CorruptError
from smalti.model.pixel_prior import PixelPrior, to_levels, to_samples
from smalti.model.wavefront import NIBBLE, SampleTables, Wavefront
from smalti.types import Pixels

Shape = tuple[int, ...]
Column = tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint32]]
"""Of which images, symbols, frequencies."""


@dataclass(frozen=True, eq=False)
class Quantised:
    """Images as their levels say, and what those take."""

    samples: Pixels  # n h w or n h w c
    bits: NDArray[np.float64]  # n
    columns: list[Column]  # in the order of the stream

    def pick(self, rows: NDArray[np.bool_]) -> "Quantised":
        """Some of the images (`n`)."""
        place = np.cumsum(rows) - 1
        columns = [
            (place[image[mine]].astype(np.uint16), symbols[mine], frequencies[mine])
            for image, symbols, frequencies in self.columns
            for mine in [rows[image]]
        ]
        return Quantised(self.samples[rows], self.bits[rows], columns)


def quantise(x: Pixels, errors: Ints, prior: PixelPrior, lmbda: float) -> Quantised:
    """Images (`n h w` or `n h w c`), each up to an error of its own (`n`), to levels.

    dearness: what a bit is worth, as a squared error in squared steps between levels; 0 takes the nearest levels.
    """
    return quantise_together([x], errors, prior, lmbda)[0]


def quantise_together(parts: Sequence[Pixels], errors: Ints, prior: PixelPrior, lmbda: float) -> list[Quantised]:
    """Each of `parts`, which may differ in size, as if it had been quantised alone; errors: of all images of all parts.

    The smallest error of each part must be the same.
    """
    layout, n = _Layout([x.shape for x in parts], prior), len(errors)
    planes, of_plane = layout.stacked(parts), errors.repeat(layout.each)
    total, columns = np.zeros(n), list[Column]()
    wavefront, least = Wavefront(prior, layout.sides, of_plane), int(errors.min())
    for place, mixture in wavefront.steps():
        of, of_sample = place[0] // layout.each, of_plane[place[0]]
        values = planes[place]
        tables, mine = SampleTables(prior.logistics, mixture, of_sample, least), to_levels(values, of_sample)
        if lmbda:
            mine = _cheaper(tables, mine, values, lmbda)
        for part, symbols, frequencies in _symbols(tables, mine):
            total += np.bincount(of[part], bits(frequencies, symbols), minlength=n)
            small = of[part].astype(np.uint16), symbols.astype(np.uint8), frequencies.astype(np.uint32)
            columns.append(small)
        wavefront.take(place, mine)
    counts = [len(x) for x in parts]
    own = zip(
        layout.images(wavefront.samples), np.split(total, np.cumsum(counts)[:-1]), _split(columns, counts), strict=True
    )
    return [Quantised(*some) for some in own]


def _split(columns: Sequence[Column], counts: Sequence[int]) -> list[list[Column]]:
    """Columns of the first so many images, the next so many, and so on, each as if there were no others."""
    ends = np.cumsum(counts)
    starts, parts = ends - counts, [list[Column]() for _ in counts]
    for image, symbols, frequencies in columns:
        group = np.searchsorted(ends, image, side="right")
        for i, mine in by_value(group):
            own = (image[mine] - starts[i]).astype(np.uint16)
            parts[i].append((own, symbols[mine], frequencies[mine]))
    return parts


class _Layout:
    """Images of several sizes as planes in one array, which has room for the largest."""

    def __init__(self, shapes: Sequence[Shape], prior: PixelPrior) -> None:
        """shapes: of some images each, `n h w` or `n h w c`."""
        self._shapes, self._prior = shapes, prior
        self._planes = [_plane_shape(shape, prior) for shape in shapes]
        self.sides = np.concatenate([np.tile((h, m), (n, 1)) for n, h, m in self._planes])
        self.each = len(self.sides) // sum(n for n, *_ in shapes)  # planes of an image

    def stacked(self, parts: Sequence[Pixels]) -> Pixels:
        """Images of those shapes as planes, `n h m`."""
        if len(parts) == 1:
            return to_planes(parts[0], self._prior)
        planes, at = np.zeros((len(self.sides), *self.sides.max(0)), np.uint8), 0
        for part, (n, h, m) in zip(parts, self._planes, strict=True):
            planes[at : at + n, :h, :m] = to_planes(part, self._prior)
            at += n
        return planes

    def images(self, planes: Pixels) -> list[Pixels]:
        """The inverse."""
        found, at = [], 0
        for shape, (n, h, m) in zip(self._shapes, self._planes, strict=True):
            found.append(to_images(np.ascontiguousarray(planes[at : at + n, :h, :m]), shape, self._prior))
            at += n
        return found


def _cheaper(tables: SampleTables, nearest: Ints, values: Pixels, lmbda: float) -> Ints:
    """Levels that cost least in bits and error: the nearest, its neighbours or 0."""
    rows = np.flatnonzero(values)  # what is black stays so
    levels, some = nearest.copy(), tables.part(rows)
    near = nearest[rows]
    tried = np.stack([near, np.maximum(near - 1, 0), np.minimum(near + 1, some.levels - 1), np.zeros_like(near)], 1)
    below = np.where(tried > 0, some.below(np.maximum(tried, 1)), 0)
    rate = WHOLE_BITS - np.log2(np.maximum(some.below(tried + 1) - below, 1 << WHOLE_BITS - 23))
    off = (to_samples(tried, some.errors[:, None]).astype(np.float64) - values[rows, None]) / (
        2 * some.errors[:, None] + 1
    )
    best = (off**2 + lmbda * rate).argmin(1)
    levels[rows] = tried[np.arange(len(rows)), best]
    return levels


def _symbols(tables: SampleTables, levels: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Of samples with those levels: which samples, symbols, frequencies, thrice."""
    every = np.arange(len(levels))
    yield every, (levels > 0).astype(np.int64), tables.of_zeros()
    rest = np.flatnonzero(levels)
    if len(rest):
        some = tables.part(rest)
        nibbles, last = levels[rest] // NIBBLE, levels[rest] % NIBBLE
        yield rest, nibbles, some.of_nibbles()
        yield rest, last, some.of_rest(nibbles)


class SeveralDecoders:
    """The decoders of blocks that are decoded together: more images a step, and the same few steps."""

    def __init__(self, decoders: Sequence[SymbolDecoder], counts: Sequence[int], planes: int) -> None:
        """counts: images of each that are coded by pixels; planes: of an image."""
        self._decoders, self._of_plane = decoders, np.repeat(np.arange(len(decoders)), np.array(counts) * planes)

    def take(self, frequencies: Ints, plane: Ints) -> Ints:
        """The next column: symbols (`n`) of samples of those planes (`n`)."""
        if len(self._decoders) == 1:
            return self._decoders[0].take(frequencies)
        symbols = np.empty(len(plane), np.int64)
        for i, mine in by_value(self._of_plane[plane]):
            symbols[mine] = self._decoders[i].take(frequencies[mine])
        return symbols


def decode_samples(
    decoders: Sequence[SymbolDecoder], shapes: Sequence[Shape], errors: Ints, least: int, prior: PixelPrior
) -> list[Pixels]:
    """The images of blocks as their levels say: of each block those of its shape (`n h w` or `n h w c`).

    errors: the largest of each image (`n`); least: the smallest that an image of those blocks may have.

    Raises:
        CorruptError: a level that there is not.
    """
    layout = _Layout(shapes, prior)
    of_plane, several = errors.repeat(layout.each), SeveralDecoders(decoders, [n for n, *_ in shapes], layout.each)
    wavefront = Wavefront(prior, layout.sides, of_plane)
    for place, mixture in wavefront.steps():
        of = place[0]
        tables = SampleTables(prior.logistics, mixture, of_plane[of], least)
        levels = several.take(tables.of_zeros(), of)
        rest = np.flatnonzero(levels)
        if len(rest):
            some, of_rest = tables.part(rest), of[rest]
            nibbles = several.take(some.of_nibbles(), of_rest)
            found = nibbles * NIBBLE + several.take(some.of_rest(nibbles), of_rest)
            if (found >= some.levels).any() or not found.all():
                raise CorruptError("a sample has a level that there is not; the file is damaged")
            levels[rest] = found
        wavefront.take(place, levels)
    return layout.images(wavefront.samples)


def _plane_shape(shape: Shape, prior: PixelPrior) -> tuple[int, int, int]:
    """Of images of a shape as `to_planes` has them."""
    n, h, w, c = (*shape, 1)[:4]
    return (n, h, w * c) if prior.window.channels == c else (n * c, h, w)


def to_planes(x: Pixels, prior: PixelPrior) -> Pixels:
    """Images to samples in rows, `n h m`: channels of a pixel side by side, or as images of their own."""
    if x.ndim == 3:
        return x
    n, h, w, c = x.shape
    return x.reshape(n, h, w * c) if prior.window.channels == c else x.transpose(0, 3, 1, 2).reshape(n * c, h, w)


def to_images(planes: Pixels, shape: Shape, prior: PixelPrior) -> Pixels:
    """The inverse of `to_planes`."""
    if len(shape) == 3 or prior.window.channels == shape[3]:
        return planes.reshape(shape)
    n, h, w, c = shape
    return planes.reshape(n, c, h, w).transpose(0, 2, 3, 1)
