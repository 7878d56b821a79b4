# SPDX-License-Identifier: MIT
"""Code images pixel by pixel, losslessly or near-losslessly: encode and decode side by side.

    encode:  images -> planes of samples -> wavefront: levels, their symbols -> block
    decode:  images <- planes of samples <- wavefront: levels                <- symbols of the stream

The encoder chooses the levels: the nearest ones keep the largest error, others may take fewer bits.

The compiled core does all of this at once where there is one; what stands here in numpy gives the same integers.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smalti.codec.block import Block, ByPixels, SampleSymbols, Symbols, smallest_type
from smalti.core.library import core
from smalti.core.pixels import PixelWalk
from smalti.core.symbols import sum_bits
from smalti.entropy.frequencies import FRACTION_BITS, LOG2, MASS_BITS, PRECISION, Ints, by_value, mass_bits
from smalti.entropy.rans import SymbolDecoder
from smalti.errors import CorruptError
from smalti.model.model import Model
from smalti.model.pixel_prior import PixelPrior, to_levels, to_samples
from smalti.model.wavefront import KIND, NIBBLE, Place, SampleTables, Wavefront, table_sizes
from smalti.types import Pixels

Shape = tuple[int, ...]
NO_SUCH_LEVEL = "a sample has a level that does not exist; the file is damaged"


def encode_pixels(
    parts: Sequence[Pixels], errors: Ints, lmbda: float, model: Model, *, post_filter: bool
) -> list[Block]:
    """Encode each of `parts` (images, `n h w` or `n h w c`), which may differ in size, as if it were encoded alone.

    errors: the largest error of each image of all parts. The smallest one of each part must be the same.
    lmbda: the squared error, in squared steps between levels, that is worth a bit; 0 takes the nearest levels.
    post_filter: whether the decoder post-filters the images.
    """
    found, symbols = quantise(parts, errors, pixel_prior(parts[0].shape, model), lmbda)
    bits, at, blocks = samples_bits(symbols, int(errors.min())), 0, []
    for samples in found:
        n, rows = len(samples), np.arange(at, at + len(samples))
        x_hat = model.post_filter(samples, errors[rows]) if post_filter else samples
        ways = tuple(map(ByPixels, errors[rows].tolist()))
        blocks.append(Block(ways, x_hat, bits[rows], None, Symbols.none(n), symbols.pick(rows), post_filter))
        at += n
    return blocks


def quantise(
    parts: Sequence[Pixels], errors: Ints, prior: PixelPrior, lmbda: float
) -> tuple[list[Pixels], SampleSymbols]:
    """Quantise images near-losslessly; return them and the symbols of all. The arguments are as in `encode_pixels`."""
    layout = _Layout([x.shape for x in parts], prior)
    planes, of_plane, least = layout.stacked(parts), errors.repeat(layout.each), int(errors.min())
    if (packed := prior.packed()) is not None:
        walk = PixelWalk(packed, layout.sides, of_plane, layout.each, least)
        symbols = SampleSymbols(*walk.quantise(planes, lmbda, LOG2))
        return layout.images(walk.samples), symbols
    wavefront = Wavefront(prior, layout.sides, of_plane)
    recorder = _Recorder(len(errors), layout, wavefront.lag)
    for place, mixture in wavefront.steps():
        values, of_sample = planes[place], of_plane[place[0]]
        tables, levels = SampleTables(prior.logistics, mixture, of_sample, least), to_levels(values, of_sample)
        if lmbda:
            levels = _cheaper(tables, levels, values, lmbda)
        recorder.add(place, tables, levels)
        wavefront.take(place, levels)
    return layout.images(wavefront.samples), recorder.symbols()


def decode_pixels(
    decoders: Sequence[SymbolDecoder],
    shapes: Sequence[Shape],
    errors: Ints,
    least: int,
    model: Model,
    *,
    counts: Sequence[int] | None = None,
    record: bool = False,
) -> tuple[list[Pixels], SampleSymbols | None]:
    """Decode the images by pixels of several blocks (`n h w` or `n h w c` each), not yet post-filtered.

    decoders: of the streams of all blocks, in order. shapes: one of each block.
    errors: the largest error of each image of all blocks.
    least: the smallest largest error that an image of those blocks may have.
    counts: the images of each stream; None if each block has one stream.
    record: whether the symbols are returned, too, so that the images can be encoded again.

    Raises:
        CorruptError: a sample has a level that does not exist.
    """
    prior = pixel_prior(shapes[0], model)
    layout = _Layout(shapes, prior)
    of_plane = errors.repeat(layout.each)
    several = SeveralDecoders(decoders, [n for n, *_ in shapes] if counts is None else counts, layout.each)
    packed, streams = prior.packed(), [decoder.in_core for decoder in decoders if decoder.in_core is not None]
    if packed is not None and len(streams) == len(decoders):
        walk = PixelWalk(packed, layout.sides, of_plane, layout.each, least)
        good, symbols = walk.decode(streams, several.of_plane, record=record)
        if not good:
            raise CorruptError(NO_SUCH_LEVEL)
        return layout.images(walk.samples), SampleSymbols(*symbols) if symbols else None
    wavefront = Wavefront(prior, layout.sides, of_plane)
    recorder = _Recorder(len(errors), layout, wavefront.lag)
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
                raise CorruptError(NO_SUCH_LEVEL)
            levels[rest] = found
        if record:
            recorder.add(place, tables, levels)
        wavefront.take(place, levels)
    return layout.images(wavefront.samples), recorder.symbols() if record else None


def pixel_prior(shape: Shape, model: Model) -> PixelPrior:
    """Return the part of the model that codes images of a shape (`n h w` or `n h w c`) by pixels.

    Raises:
        CorruptError: the model has none for such images.
    """
    prior = model.pixels_for(shape[3] if len(shape) == 4 else 1)
    if prior is None:
        raise CorruptError("a block is coded by pixels, which its model cannot decode; the file is damaged")
    return prior


def samples_bits(symbols: SampleSymbols, least: int) -> NDArray[np.float64]:
    """Return the bits that the samples of each image (`n`) take of an ideal coder; `least` is as in `decode_pixels`."""
    if (found := core()) is not None:
        sums = sum_bits(found, symbols.recorded, table_sizes(least), LOG2)
    else:
        frequencies = symbols.intervals(table_sizes(least)).frequencies.astype(np.int64)
        costs = mass_bits(frequencies) - (MASS_BITS - PRECISION << FRACTION_BITS)
        ends = np.cumsum(symbols.counts)
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(costs)])
        sums = before[ends] - before[ends - symbols.counts]
    return sums / (1 << FRACTION_BITS)


LEAST_MASS = 1 << MASS_BITS - 23
"""The encoder takes no level for less likely than this, of 2^28."""
AT_ONCE = 1 << 15
"""The symbols of so many samples, or a few more, are found together."""


class _Recorder:
    """A record of the symbols of images, in the order of coding: step of the wavefront, kind of symbol, row."""

    def __init__(self, n: int, layout: "_Layout", lag: int) -> None:
        """n: the images. lag: the samples by which a row of the wavefront follows the one above it."""
        self._n, self._layout, self._lag = n, layout, lag
        self._steps, self._samples = list[tuple[Place, SampleTables, Ints]](), 0
        self._found = list[tuple[NDArray[np.generic], ...]]()

    def add(self, place: Place, tables: SampleTables, levels: Ints) -> None:
        """Add the symbols of samples at these places, whose levels are known."""
        self._steps.append((place, tables, levels))
        self._samples += len(levels)
        if self._samples >= AT_ONCE:
            self._find()

    def _find(self) -> None:
        """Find the symbols of the samples of several steps at once, which is much faster."""
        places, tables, levels = zip(*self._steps, strict=True)
        planes, rows, columns = (np.concatenate(some) for some in zip(*places, strict=True))
        steps, h = columns + rows * self._lag, self._layout.sides[planes, 0]
        for samples, kinds, below, up_to, whole in SampleTables.join(tables).coded(np.concatenate(levels)):
            keys = (steps[samples] * 3 + kinds // KIND) * h[samples] + rows[samples]
            small = (values.astype(np.uint32) for values in (below, up_to, whole))
            images = (planes[samples] // self._layout.each).astype(np.uint16)
            self._found.append((images, keys, *small, kinds.astype(np.uint8)))
        self._steps, self._samples = [], 0

    def symbols(self) -> SampleSymbols:
        """Return all symbols that were added."""
        if self._steps:
            self._find()
        images, keys, *rest = (np.concatenate(parts) for parts in zip(*self._found, strict=True))
        order = np.lexsort((keys, images))
        counts = np.bincount(images, minlength=self._n)
        return SampleSymbols(counts, smallest_type(keys)[order], *(values[order] for values in rest))


class _Layout:
    """Images of several sizes as planes in one array, which has room for the largest."""

    def __init__(self, shapes: Sequence[Shape], prior: PixelPrior) -> None:
        """shapes: those of the arrays of images, `n h w` or `n h w c` each."""
        self._shapes, self._prior = shapes, prior
        self._planes = [_plane_shape(shape, prior) for shape in shapes]
        self.sides = np.concatenate([np.tile((h, m), (n, 1)) for n, h, m in self._planes])
        self.each = len(self.sides) // sum(n for n, *_ in shapes)  # planes of an image

    def stacked(self, parts: Sequence[Pixels]) -> Pixels:
        """Return images of those shapes as planes (`n h m`)."""
        if len(parts) == 1:
            return to_planes(parts[0], self._prior)
        planes, at = np.zeros((len(self.sides), *self.sides.max(0)), np.uint8), 0
        for part, (n, h, m) in zip(parts, self._planes, strict=True):
            planes[at : at + n, :h, :m] = to_planes(part, self._prior)
            at += n
        return planes

    def images(self, planes: Pixels) -> list[Pixels]:
        """Return planes (`n h m`) as images; the reverse of `stacked`."""
        found, at = [], 0
        for shape, (n, h, m) in zip(self._shapes, self._planes, strict=True):
            found.append(to_images(np.ascontiguousarray(planes[at : at + n, :h, :m]), shape, self._prior))
            at += n
        return found


def _cheaper(tables: SampleTables, nearest: Ints, values: Pixels, lmbda: float) -> Ints:
    """Return the levels that cost least in bits and error: the nearest ones, their neighbours or 0."""
    rows = np.flatnonzero(values)  # black samples stay black
    levels, some = nearest.copy(), tables.part(rows)
    near = nearest[rows]
    tried = np.stack([near, np.maximum(near - 1, 0), np.minimum(near + 1, some.levels - 1), np.zeros_like(near)], 1)
    below = np.where(tried > 0, some.below(np.maximum(tried, 1)), 0)
    rate = mass_bits(np.maximum(some.below(tried + 1) - below, LEAST_MASS)) / (1 << FRACTION_BITS)
    off = (to_samples(tried, some.errors[:, None]).astype(np.float64) - values[rows, None]) / (
        2 * some.errors[:, None] + 1
    )
    best = (off**2 + lmbda * rate).argmin(1)
    levels[rows] = tried[np.arange(len(rows)), best]
    return levels


class SeveralDecoders:
    """The decoders of streams that are decoded together, so that each step of the wavefront decodes more samples."""

    def __init__(self, decoders: Sequence[SymbolDecoder], counts: Sequence[int], planes: int) -> None:
        """counts: the images by pixels of each stream; planes: the planes of an image."""
        self._decoders, self.of_plane = decoders, np.repeat(np.arange(len(decoders)), np.array(counts) * planes)

    def take(self, frequencies: Ints, plane: Ints) -> Ints:
        """Decode the next column: the symbols (`n`) of samples of these planes (`n`), by their frequencies (`n k`)."""
        if len(self._decoders) == 1:
            return self._decoders[0].take(frequencies)
        symbols = np.empty(len(plane), np.int64)
        for i, mine in by_value(self.of_plane[plane]):
            symbols[mine] = self._decoders[i].take(frequencies[mine])
        return symbols


def _plane_shape(shape: Shape, prior: PixelPrior) -> tuple[int, int, int]:
    """Return the shape (n h m) of the planes that `to_planes` makes of images of a shape."""
    n, h, w, c = (*shape, 1)[:4]
    return (n, h, w * c) if prior.window.channels == c else (n * c, h, w)


def to_planes(x: Pixels, prior: PixelPrior) -> Pixels:
    """Return images as planes of samples (`n h m`): channels of a pixel side by side, or each in a plane of its own."""
    if x.ndim == 3:
        return x
    n, h, w, c = x.shape
    return x.reshape(n, h, w * c) if prior.window.channels == c else x.transpose(0, 3, 1, 2).reshape(n * c, h, w)


def to_images(planes: Pixels, shape: Shape, prior: PixelPrior) -> Pixels:
    """Return planes as images of a shape; the reverse of `to_planes`."""
    if len(shape) == 3 or prior.window.channels == shape[3]:
        return planes.reshape(shape)
    n, h, w, c = shape
    return planes.reshape(n, c, h, w).transpose(0, 2, 3, 1)
