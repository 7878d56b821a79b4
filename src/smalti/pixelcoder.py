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

from smalti.entropy import SymbolDecoder
from smalti.errors import CorruptError
from smalti.mixture import WHOLE_BITS
from smalti.pixels import NIBBLE, PixelPrior, SampleTables, Wavefront, to_levels, to_samples
from smalti.tables import Ints, bits

Pixels = NDArray[np.uint8]
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

    def split(self, counts: Sequence[int]) -> list["Quantised"]:
        """The first so many images, the next so many, and so on, each as if they had been quantised alone."""
        ends = np.cumsum(counts)
        starts = ends - counts
        parts: list[list[Column]] = [[] for _ in counts]
        for image, symbols, frequencies in self.columns:
            group = np.searchsorted(ends, image, side="right")
            order = np.argsort(group, kind="stable")
            cuts = np.searchsorted(group[order], np.arange(1, len(counts)))
            for i, mine in enumerate(np.split(order, cuts)):
                if len(mine):
                    own = (image[mine] - starts[i]).astype(np.uint16)
                    parts[i].append((own, symbols[mine], frequencies[mine]))
        return [
            Quantised(self.samples[start:end], self.bits[start:end], columns)
            for start, end, columns in zip(starts, ends, parts, strict=True)
        ]


def quantise(x: Pixels, errors: Ints, prior: PixelPrior, dearness: float) -> Quantised:
    """Images (`n h w` or `n h w c`), each up to an error of its own (`n`), to levels.

    dearness: what a bit is worth, as a squared error in squared steps between levels; 0 takes the nearest levels.
    """
    planes = to_planes(x, prior)
    each = len(planes) // len(x)  # planes of an image
    of_plane, image = errors.repeat(each), np.arange(len(planes)) // each
    total, columns = np.zeros(len(x)), list[Column]()
    wavefront, least = Wavefront(prior, planes.shape, of_plane), int(errors.min())
    nearest = to_levels(planes, of_plane[:, None, None])
    for rows, places, mixture in wavefront.steps():
        mine, of = nearest[:, rows, places].T.ravel(), np.tile(image, len(rows))  # k*n
        tables = SampleTables(prior.logistics, mixture, np.tile(of_plane, len(rows)), least)
        if dearness:
            mine = _cheaper(tables, mine, planes[:, rows, places].T.ravel(), dearness)
        for part, symbols, frequencies in _symbols(tables, mine):
            total += np.bincount(of[part], bits(frequencies, symbols), minlength=len(x))
            small = of[part].astype(np.uint16), symbols.astype(np.uint8), frequencies.astype(np.uint32)
            columns.append(small)
        wavefront.take(rows, places, mine)
    return Quantised(to_images(wavefront.samples, x.shape, prior), total, columns)


def _cheaper(tables: SampleTables, nearest: Ints, values: Pixels, dearness: float) -> Ints:
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
    best = (off**2 + dearness * rate).argmin(1)
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
        symbols, of = np.empty(len(plane), np.int64), self._of_plane[plane]
        for i, decoder in enumerate(self._decoders):
            mine = np.flatnonzero(of == i)
            symbols[mine] = decoder.take(frequencies[mine])
        return symbols


def decode_samples(
    decoders: Sequence[SymbolDecoder], counts: Sequence[int], shape: Shape, errors: Ints, least: int, prior: PixelPrior
) -> Pixels:
    """Images of blocks, as many of each as `counts` says: all of `shape` (`n h w` or `n h w c`) as their levels say.

    errors: the largest of each image (`n`); least: the smallest that an image of those blocks may have.

    Raises:
        CorruptError: a level that there is not.
    """
    planes = to_planes(np.empty(shape, np.uint8), prior).shape
    each = planes[0] // shape[0]
    of_plane, plane = errors.repeat(each), np.arange(planes[0])
    wavefront, several = Wavefront(prior, planes, of_plane), SeveralDecoders(decoders, counts, each)
    for rows, places, mixture in wavefront.steps():
        of = np.tile(plane, len(rows))
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
        wavefront.take(rows, places, levels)
    return to_images(wavefront.samples, shape, prior)


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
