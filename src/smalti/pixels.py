# SPDX-License-Identifier: MIT
"""Lossless coding: how likely each sample of an image is, given those above it and to its left. Integers only.

A sample is a pixel, or a channel of one. A small network looks at a causal window and gives a mixture of logistics.
All images of a block go together, and within an image as many rows as can: a sample only waits for those in its
window, so row after row follows the one above it at a distance (a wavefront).

A sample's level is its value, or, where an error is allowed, its value in steps of twice that and one. It is coded in
up to three symbols: whether it is 0, which sixteen levels it is among, and which of those.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.masked import ACTIVATION_MAX, EXACT
from smalti.mixture import WHOLE_BITS, Logistics, Mixture, mixture_cdf, split_outputs
from smalti.tables import TOTAL, Ints

ROWS = COLUMNS = 64
"""Rows and columns (pixels) that have biases of their own; those beyond share the last."""
LEVEL_UNITS = 16
"""Units of the logistics from one level of a sample to the next."""
SAMPLE_MAX = 255
MAX_ERROR = 31
MAX_UNITS, MAX_COMPONENTS = 1 << 12, 32
"""Of a layer, and of the mixture of a sample."""
DTYPES = [np.dtype(np.int16), np.dtype(np.int32), np.dtype(np.uint8)]
"""Of weights, biases and shifts; the proof of the bound counts on them."""
NIBBLE = 16
"""Levels that the second symbol of a sample does not tell apart."""
WHOLE = 1 << WHOLE_BITS

Samples = NDArray[np.uint8]
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
    """The network. Layer i gives `(w x + b) >> s`; the first also adds a bias of the row and one of the column.

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
            worst = np.abs(w.astype(np.int64)).sum(1) * top + np.abs(b.astype(np.int64))
            if i == 0:
                for places, n in ((self.rows, ROWS), (self.columns, COLUMNS * self.window.channels)):
                    if places.shape != (n, outputs) or places.dtype != np.int32:
                        raise ValueError("pixels: the biases of rows and columns are not what they should be")
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

    @functools.cached_property
    def _layers(self) -> list[tuple[Floats, Floats]]:
        """Weights (`inputs outputs`) and biases, times 2^-shift in float32, which changes no digit."""
        layers = []
        for w, b, s in zip(self.weights, self.biases, self.shifts, strict=True):
            scale = np.exp2(-s.astype(np.float32))
            layers.append((np.ascontiguousarray(w.T.astype(np.float32) * scale), b.astype(np.float32) * scale))
        return layers

    @functools.cached_property
    def _places(self) -> tuple[Floats, Floats]:
        scale = np.exp2(-self.shifts[0].astype(np.float32))
        bias = self.biases[0].astype(np.float32) * scale
        return self.rows.astype(np.float32) * scale, self.columns.astype(np.float32) * scale + bias

    def mixtures(self, windows: Samples, rows: Ints, columns: Ints) -> Ints:
        """Windows (`n window`) at rows and columns (`n`, those of the biases) to outputs (`n outputs`)."""
        of_rows, of_columns = self._places
        (first, _), *rest = self._layers
        x = windows.astype(np.float32) @ first
        x += of_rows[rows]
        x += of_columns[columns]
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


def level_count(max_error: int) -> int:
    """How many levels a sample has if it may be off by `max_error`."""
    return (SAMPLE_MAX + max_error) // (2 * max_error + 1) + 1


def to_levels(samples: Samples, max_error: int) -> Ints:
    """Samples to levels."""
    levels: Ints = (samples.astype(np.int64) + max_error) // (2 * max_error + 1)
    return levels


def to_samples(levels: Ints, max_error: int) -> Samples:
    """Levels to samples."""
    return (levels * (2 * max_error + 1)).clip(0, SAMPLE_MAX).astype(np.uint8)


class Wavefront:
    """A walk over the samples of images, those that wait for nothing at a time.

    `samples` (`n h m`) fills up as levels are taken.
    """

    def __init__(self, prior: PixelPrior, shape: tuple[int, int, int], max_error: int) -> None:
        """shape: `n h m`, m samples a row."""
        self.prior, self.max_error, self._shape = prior, max_error, shape
        window, (n, h, m) = prior.window, shape
        c = window.channels
        self._side = max(window.reach, window.left) * c
        self._lag = window.reach * c + 1
        self._padded = np.zeros((n, window.above + h, m + 2 * self._side), np.uint8)
        row, column = np.minimum(np.arange(h), ROWS - 1), np.arange(m)
        self._rows, self._columns = row, np.minimum(column // c, COLUMNS - 1) * c + column % c
        places = np.indices((self._rows[-1] + 1, self._columns.max() + 1)).reshape(2, -1)
        nothing = np.zeros((places.shape[1], window.samples), np.uint8)
        self._empty = prior.mixtures(nothing, *places).reshape(self._rows[-1] + 1, -1, prior.outputs)

    @property
    def samples(self) -> Samples:
        """Those of the images, `n h m`."""
        _, _, m = self._shape
        return self._padded[:, self.prior.window.above :, self._side : self._side + m]

    def steps(self) -> Iterator[tuple[Ints, Ints, Mixture]]:
        """Rows and columns (`k` each) of the next samples, and mixtures (`k*n ...`); each wants a call of `take`."""
        _, h, m = self._shape
        for at in range((h - 1) * self._lag + m):
            rows = np.arange(max(0, -(-(at - m + 1) // self._lag)), min(h - 1, at // self._lag) + 1)
            columns = at - rows * self._lag
            if len(rows):
                yield rows, columns, split_outputs(self._outputs(rows, columns), self.prior.components)

    def _outputs(self, rows: Ints, columns: Ints) -> Ints:
        window, (n, _, _) = self.prior.window, self._shape
        reach, left, wide = window.reach * window.channels, window.left * window.channels, window.above
        several = np.empty((len(rows), n, window.samples), np.uint8)
        for k, (r, j) in enumerate(zip(rows.tolist(), (columns + self._side).tolist(), strict=True)):
            several[k, :, :-left] = self._padded[:, r : r + wide, j - reach : j + reach + 1].reshape(n, -1)
            several[k, :, -left:] = self._padded[:, r + wide, j - left : j]
        of_rows, of_columns = self._rows[rows], self._columns[columns]
        outputs = np.repeat(self._empty[of_rows, of_columns], n, axis=0)  # where the window is empty
        x = several.reshape(len(outputs), -1)
        full = np.flatnonzero(x.any(1))
        if len(full):
            of = full // n
            outputs[full] = self.prior.mixtures(x[full], of_rows[of], of_columns[of])
        return outputs

    def take(self, rows: Ints, columns: Ints, levels: Ints) -> None:
        """The samples at `rows` and `columns` have these levels (`k*n`)."""
        n = self._shape[0]
        samples = to_samples(levels, self.max_error).reshape(-1, n)
        self._padded[:, rows + self.prior.window.above, columns + self._side] = samples.T


class SampleTables:
    """The frequencies of the symbols of some samples, in the order of coding; later ones are told the ones before."""

    def __init__(self, logistics: Logistics, mixture: Mixture, max_error: int) -> None:
        self._logistics, self._mixture = logistics, mixture
        self._step, self.levels = 2 * max_error + 1, level_count(max_error)
        self._max_error = max_error
        self._zero = self._below(np.ones((len(mixture[0]), 1), np.int64))[:, 0]  # of 2^28

    def _below(self, levels: Ints) -> Ints:
        """The cumulative distribution below levels (`n e`); from the number of levels on it is all."""
        edges = (2 * (levels * self._step - self._max_error) - 1) * LEVEL_UNITS
        below = mixture_cdf(self._logistics, self._mixture, edges).astype(np.int64)
        return np.where(levels < self.levels, below, WHOLE)

    def of_zeros(self) -> Ints:
        """For each sample: level 0, or another."""
        first = (self._zero * (TOTAL - 2) >> WHOLE_BITS) + 1
        return np.stack([first, TOTAL - first], 1)

    def keep(self, rows: Ints) -> None:
        """From now on, only some of the samples: those that are not 0."""
        centres, widths, logits = self._mixture
        self._mixture, self._zero = (centres[rows], widths[rows], logits[rows]), self._zero[rows]

    def of_nibbles(self) -> Ints:
        """Which sixteen levels it is among."""
        starts = np.arange(NIBBLE, self.levels, NIBBLE)
        inner = self._below(np.tile(starts, (len(self._zero), 1)))
        ends = np.full((len(self._zero), 1), WHOLE, np.int64)
        self._bounds = np.concatenate([self._zero[:, None], np.maximum(inner, self._zero[:, None]), ends], 1)
        return _conditional(self._bounds)

    def of_rest(self, nibbles: Ints) -> Ints:
        """Which of those."""
        low, high = (np.take_along_axis(self._bounds, nibbles[:, None] + i, 1) for i in (0, 1))
        inner = self._below(nibbles[:, None] * NIBBLE + np.arange(1, NIBBLE))
        return _conditional(np.concatenate([low, inner.clip(low, high), high], 1))


def _conditional(bounds: Ints) -> Ints:
    """Frequencies (`n k`) of being between one of `bounds` (`n k+1`, rising) and the next, given that it is one."""
    k = bounds.shape[1] - 1
    whole = np.maximum(bounds[:, -1:] - bounds[:, :1], 1)
    cumulative = (bounds - bounds[:, :1]) * (TOTAL - k) // whole
    cumulative[:, -1] = TOTAL - k
    frequencies: Ints = np.diff(cumulative, axis=1) + 1
    return frequencies
