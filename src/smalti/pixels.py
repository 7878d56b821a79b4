# SPDX-License-Identifier: MIT
"""Coding pixels themselves: how likely each sample is, given those above it and to its left. Integers only.

A sample is a pixel, or a channel of one. Its level is its value in steps of 2E + 1, where E is the largest error that
its image is meant to have; with E = 0 that is the value. A small network looks at a causal window of values as the
decoder knows them, is told E, and gives a mixture of logistics for the next one.

All images of a block go together, those of several blocks too, and within an image as many rows as can: a sample only
waits for those in its window, so row after row follows the one above it at a distance (a wavefront). A level is coded
in up to three symbols: whether it is 0, which sixteen levels it is among, and which of those.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.masked import ACTIVATION_MAX, EXACT, abs_sums
from smalti.mixture import WHOLE_BITS, Logistics, Mixture, mixture_cdf, split_outputs
from smalti.tables import TOTAL, Ints
from smalti.threads import once

ROWS = COLUMNS = 64
"""Rows and columns (pixels) that have biases of their own; those beyond share the last."""
LEVEL_UNITS = 16
"""Units of the logistics from one level of a sample to the next."""
SAMPLE_MAX = 255
MAX_ERROR = 126
MAX_UNITS, MAX_COMPONENTS = 1 << 12, 32
"""Of a layer, and of the mixture of a sample."""
DTYPES = [np.dtype(np.int16), np.dtype(np.int32), np.dtype(np.uint8)]
"""Of weights, biases and shifts; the proof of the bound counts on them."""
NIBBLE = 16
"""Levels that the second symbol of a sample does not tell apart."""
WHOLE = 1 << WHOLE_BITS

Samples = NDArray[np.uint8]
Place = tuple[Ints, Ints, Ints]
"""Of samples: their images, rows and columns, each `k`."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """What the network sees of an image, in pixels and channels."""

    channels: int
    above: int  # rows
    reach: int  # to either side, in the rows above
    left: int  # in the row itself

    def __post_init__(self) -> None:
        if self.channels not in (1, 3) or not (
            1 <= self.above <= 64 and 0 <= self.reach <= 64 and 1 <= self.left <= 64
        ):
            raise ValueError(f"pixels: a window that cannot be: {self}")

    @property
    def samples(self) -> int:
        """How many samples that is."""
        return self.above * (2 * self.reach * self.channels + 1) + self.left * self.channels


@dataclass(frozen=True, eq=False)
class PixelPrior:
    """The network. Layer i gives `(w x + b) >> s`; the first also adds biases of the row, the column, the error.

    All but the last are clipped to 0 .. ACTIVATION_MAX, and from the second on their input is added before that.

    Raises:
        ValueError: shapes do not fit, or a sum could leave what float32 holds exactly.
    """

    window: Window
    weights: tuple[NDArray[np.int16], ...]  # outputs inputs
    biases: tuple[NDArray[np.int32], ...]
    shifts: tuple[NDArray[np.uint8], ...]
    rows: NDArray[np.int32]  # ROWS outputs, of the first layer
    columns: NDArray[np.int32]  # COLUMNS*channels outputs, of the first layer
    errors: NDArray[np.int32]  # MAX_ERROR+1 outputs, of the first layer
    logistics: Logistics

    def __post_init__(self) -> None:
        inputs, top = self.window.samples, SAMPLE_MAX
        if not 2 <= len(self.weights) == len(self.biases) == len(self.shifts):
            raise ValueError("pixels: layers without all of their parts")
        width = len(self.weights[0])
        if self.outputs % 3 != 2 or self.components > MAX_COMPONENTS or width > MAX_UNITS:
            raise ValueError(f"pixels: layers of {width} units, {self.outputs} outputs: no mixture, or too large")
        for i, (w, b, s) in enumerate(zip(self.weights, self.biases, self.shifts, strict=True)):
            outputs = width if i + 1 < len(self.weights) else len(w)
            shapes = w.shape == (outputs, inputs) and b.shape == s.shape == (outputs,)
            if not shapes or [w.dtype, b.dtype, s.dtype] != DTYPES:
                raise ValueError(f"pixels: layer {i + 1} is not what it should be")
            worst = abs_sums(w) * top + np.abs(b.astype(np.int64))
            if i == 0:
                lengths = ROWS, COLUMNS * self.window.channels, MAX_ERROR + 1
                for places, n in zip((self.rows, self.columns, self.errors), lengths, strict=True):
                    if places.shape != (n, outputs) or places.dtype != np.int32:
                        raise ValueError("pixels: the biases of rows, columns and errors are not what they should be")
                    worst += np.abs(places.astype(np.int64)).max(0)
            if s.max() > 24:
                raise ValueError(f"pixels: a shift of {s.max()} in layer {i + 1}; allowed are 0 to 24")
            if worst.max() >= EXACT:
                raise ValueError(
                    f"pixels: a sum of layer {i + 1} could reach {worst.max()}, beyond the {EXACT} allowed"
                )
            inputs, top = outputs, ACTIVATION_MAX

    @property
    def outputs(self) -> int:
        """Of the network, for a sample."""
        return len(self.weights[-1])

    @property
    def components(self) -> int:
        """Logistics of a sample."""
        return (self.outputs + 1) // 3

    @once
    def _layers(self) -> list[tuple[Floats, Floats]]:
        """Weights (`inputs outputs`) and biases, times 2^-shift in float32, which changes no digit."""
        layers = []
        for w, b, s in zip(self.weights, self.biases, self.shifts, strict=True):
            scale = _power(s)
            layers.append((np.ascontiguousarray(w.T.astype(np.float32) * scale), b.astype(np.float32) * scale))
        return layers

    @once
    def _places(self) -> tuple[Floats, Floats, Floats]:
        scale = _power(self.shifts[0])
        bias = self.biases[0].astype(np.float32) * scale
        rows, columns, errors = (array.astype(np.float32) * scale for array in (self.rows, self.columns, self.errors))
        return rows, columns + bias, errors

    def mixtures(self, windows: Samples, rows: Ints, columns: Ints, errors: Ints) -> Ints:
        """Windows (`n window`) at rows and columns (`n`, those of the biases) of images to outputs (`n outputs`).

        errors: the largest of each image (`n`), or one for all.
        """
        of_rows, of_columns, of_errors = self._places
        (first, _), *rest = self._layers
        x = windows.astype(np.float32) @ first
        x += of_rows[rows]
        x += of_columns[columns]
        x += of_errors[errors]
        np.floor(x, out=x)
        np.clip(x, 0, ACTIVATION_MAX, out=x)
        for weights, bias in rest[:-1]:
            y = x @ weights
            y += bias
            np.floor(y, out=y)
            y += x
            x = np.clip(y, 0, ACTIVATION_MAX, out=y)
        weights, bias = rest[-1]
        y = x @ weights
        y += bias
        return np.floor(y, out=y).astype(np.int64)


def _power(shifts: NDArray[np.uint8]) -> Floats:
    """2^-shift, exactly."""
    power: Floats = np.ldexp(np.float32(1), -shifts.astype(np.int32))
    return power


def level_count(errors: Ints) -> Ints:
    """How many levels samples have in images of those largest errors."""
    return (SAMPLE_MAX + errors) // (2 * errors + 1) + 1


def to_levels(samples: Samples, errors: Ints) -> Ints:
    """Samples to levels; errors: one for all, or an array that goes with them."""
    levels: Ints = (samples.astype(np.int64) + errors) // (2 * errors + 1)
    return levels


def to_samples(levels: Ints, errors: Ints) -> Samples:
    """Levels to samples."""
    return (levels * (2 * errors + 1)).clip(0, SAMPLE_MAX).astype(np.uint8)


class Wavefront:
    """A walk over the samples of images, those that wait for nothing at a time. Images may be of several sizes.

    `samples` (`n h m`) fills up as levels are taken; of an image that is smaller than others, only a part counts.
    """

    def __init__(self, prior: PixelPrior, sides: Ints, errors: Ints) -> None:
        """sides: of each image, its rows and the samples of a row (`n 2`). errors: the largest of each image (`n`)."""
        self.prior, self.errors = prior, errors
        self._heights, self._widths = sides.T
        n, (h, m), window = len(sides), sides.max(0).tolist(), prior.window
        c, self._shape = window.channels, (n, h, m)
        self._side = max(window.reach, window.left) * c
        self._lag = window.reach * c + 1
        self._padded = np.zeros((n, window.above + h, m + 2 * self._side), np.uint8)
        row, column = np.minimum(np.arange(h), ROWS - 1), np.arange(m)
        self._rows, self._columns = row, np.minimum(column // c, COLUMNS - 1) * c + column % c
        kinds, self._kind = np.unique(errors, return_inverse=True)
        places = np.indices((self._rows[-1] + 1, self._columns.max() + 1))
        row, column = places.reshape(2, -1)
        nothing = np.zeros((len(row), window.samples), np.uint8)
        self._empty = np.stack(
            [prior.mixtures(nothing, row, column, kind).reshape(*places[0].shape, -1) for kind in kinds]
        )

    @property
    def samples(self) -> Samples:
        """Those of the images, `n h m`."""
        _, _, m = self._shape
        return self._padded[:, self.prior.window.above :, self._side : self._side + m]

    def steps(self) -> Iterator[tuple[Place, Mixture]]:
        """Where the next samples are, row after row and there image after image, and their mixtures.

        Each wants a call of `take`.
        """
        _, h, m = self._shape
        for at in range((h - 1) * self._lag + m):
            rows = np.arange(max(0, -(-(at - m + 1) // self._lag)), min(h - 1, at // self._lag) + 1)
            columns = at - rows * self._lag
            k, images = ((rows[:, None] < self._heights) & (columns[:, None] < self._widths)).nonzero()
            if len(k):
                place = images, rows[k], columns[k]
                yield place, split_outputs(self._outputs(place), self.prior.components)

    def _outputs(self, place: Place) -> Ints:
        images, rows, columns = place
        of_rows, of_columns = self._rows[rows], self._columns[columns]
        outputs: Ints = self._empty[self._kind[images], of_rows, of_columns]
        x = self._windows(place)
        full = np.flatnonzero(x.any(1))
        if len(full):
            outputs[full] = self.prior.mixtures(x[full], of_rows[full], of_columns[full], self.errors[images[full]])
        return outputs

    def _windows(self, place: Place) -> Samples:
        """What the network sees of those samples (`k window`)."""
        window, (images, rows, columns) = self.prior.window, place
        reach, left, wide = window.reach * window.channels, window.left * window.channels, window.above
        x = np.empty((len(images), window.samples), np.uint8)
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        for start, end in itertools.pairwise([*starts.tolist(), len(rows)]):
            r, j = int(rows[start]), int(columns[start]) + self._side
            mine = slice(None) if end - start == len(self._padded) else images[start:end]
            x[start:end, :-left] = self._padded[mine, r : r + wide, j - reach : j + reach + 1].reshape(end - start, -1)
            x[start:end, -left:] = self._padded[mine, r + wide, j - left : j]
        return x

    def take(self, place: Place, levels: Ints) -> None:
        """The samples there have these levels."""
        images, rows, columns = place
        above = self.prior.window.above
        self._padded[images, rows + above, columns + self._side] = to_samples(levels, self.errors[images])


class SampleTables:
    """The frequencies of the symbols of some samples, in the order of coding; later ones are told the ones before."""

    def __init__(self, logistics: Logistics, mixture: Mixture, errors: Ints, least: int) -> None:
        """errors: of each sample's image (`n`); least: the smallest that an image of the block may have."""
        self.errors = errors
        self._logistics, self._mixture, self._least = logistics, mixture, least

    @property
    def levels(self) -> Ints:
        """How many levels the samples have (`n`)."""
        return level_count(self.errors)

    @once
    def _zero(self) -> Ints:
        return self.below(np.ones((len(self.errors), 1), np.int64))[:, 0]

    @property
    def _most(self) -> int:
        """Levels that a sample can have."""
        return int(level_count(np.array(self._least)))

    def below(self, levels: Ints) -> Ints:
        """The cumulative distribution, up to 2^28, below levels (`n e`) of at least 1; beyond the last it is all."""
        errors = self.errors[:, None]
        edges = (2 * (levels * (2 * errors + 1) - errors) - 1) * LEVEL_UNITS
        below = mixture_cdf(self._logistics, self._mixture, edges).astype(np.int64)
        result: Ints = np.where(levels < level_count(errors), below, WHOLE)
        return result

    def part(self, rows: Ints) -> "SampleTables":
        """The tables of some of the samples."""
        centres, widths, logits = self._mixture
        mixture = centres[rows], widths[rows], logits[rows]
        return SampleTables(self._logistics, mixture, self.errors[rows], self._least)

    def of_zeros(self) -> Ints:
        """For each sample: level 0, or another."""
        first = (self._zero * (TOTAL - 2) >> WHOLE_BITS) + 1
        return np.stack([first, TOTAL - first], 1)

    def of_nibbles(self) -> Ints:
        """Which sixteen levels those that are not 0 are among."""
        starts = np.arange(NIBBLE, self._most, NIBBLE)
        inner = self.below(np.tile(starts, (len(self._zero), 1)))
        ends = np.full((len(self._zero), 1), WHOLE, np.int64)
        self._bounds = np.concatenate([self._zero[:, None], np.maximum(inner, self._zero[:, None]), ends], 1)
        return _conditional(self._bounds)

    def of_rest(self, nibbles: Ints) -> Ints:
        """Which of those."""
        low, high = (np.take_along_axis(self._bounds, nibbles[:, None] + i, 1) for i in (0, 1))
        inner = self.below(nibbles[:, None] * NIBBLE + np.arange(1, min(NIBBLE, self._most)))
        return _conditional(np.concatenate([low, inner.clip(low, high), high], 1))


def _conditional(bounds: Ints) -> Ints:
    """Frequencies (`n k`) of being between one of `bounds` (`n k+1`, rising) and the next, given that it is one."""
    k = bounds.shape[1] - 1
    whole = np.maximum(bounds[:, -1:] - bounds[:, :1], 1)
    cumulative = (bounds - bounds[:, :1]) * (TOTAL - k) // whole
    cumulative[:, -1] = TOTAL - k
    frequencies: Ints = np.diff(cumulative, axis=1) + 1
    return frequencies
