# SPDX-License-Identifier: MIT
"""The pixel prior: how likely each sample is, given the causal window above it and to its left.

It computes in integers only. A sample is a pixel, or a channel of one. Its level is its value divided by 2E + 1 and
rounded, where E is the largest error that its image may have (near-lossless quantisation, as JPEG-LS's NEAR); with
E = 0 the level is the value. A small network takes the causal window of values as the decoder knows them, and E, and
gives a discretised mixture of logistics for the next level (as in PixelCNN++, Salimans et al. 2017).
"""

from dataclasses import dataclass, fields
from hashlib import shake_128
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import core
from smalti.core.pairing import pair_units
from smalti.core.pixels import MOST_LAYERS, PackedPrior
from smalti.entropy.frequencies import Ints
from smalti.entropy.logistic_mixture import Logistics
from smalti.model.masked_mlp import ACTIVATION_MAX, EXACT, abs_sums
from smalti.util.parallel import once

ROWS = COLUMNS = 64
"""Rows and columns (pixels) that have biases of their own; those beyond share the last."""
LEVEL_UNITS = 16
"""The units of the logistics from one sample value to the next."""
SAMPLE_MAX = 255
MAX_ERROR = 126
MAX_UNITS, MAX_COMPONENTS = 1 << 12, 32
"""The most units of a layer, and the most logistics of a mixture."""
DTYPES = [np.dtype(np.int16), np.dtype(np.int32), np.dtype(np.uint8)]
"""The types of weights, biases and shifts; the proof that sums are exact counts on them."""

TRIALS, NON_ZERO = 512, 0.25
"""The random windows that tell which units are active together, and the share of their samples that are not zero."""

Samples = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """The size of the causal window: the part of an image that the network sees, in pixels and channels."""

    channels: int
    above: int  # rows
    reach: int  # to either side, in the rows above
    left: int  # in the row itself

    def __post_init__(self) -> None:
        if self.channels not in (1, 3) or not (
            1 <= self.above <= 64 and 0 <= self.reach <= 64 and 1 <= self.left <= 64
        ):
            raise ValueError(f"pixel prior: the window is impossible: {self}")

    @property
    def samples(self) -> int:
        """Return how many samples the window holds."""
        return self.above * (2 * self.reach * self.channels + 1) + self.left * self.channels


@dataclass(frozen=True, eq=False)
class PixelPrior:
    """The network that codes pixels: a residual MLP in integers.

    A layer gives `(w x + b) >> s`. The first also adds biases of the row, the column and the largest error. All but
    the last are clipped to 0 .. ACTIVATION_MAX; from the second on they add their input before that.

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
            raise ValueError("pixel prior: there are too few layers, or layers without all of their parts")
        width = len(self.weights[0])
        if self.outputs % 3 != 2 or self.components > MAX_COMPONENTS or width > MAX_UNITS:
            raise ValueError(f"pixel prior: {width} units, {self.outputs} outputs: they are no mixture, or too large")
        for i, (w, b, s) in enumerate(zip(self.weights, self.biases, self.shifts, strict=True)):
            outputs = width if i + 1 < len(self.weights) else len(w)
            shapes = w.shape == (outputs, inputs) and b.shape == s.shape == (outputs,)
            if not shapes or [w.dtype, b.dtype, s.dtype] != DTYPES:
                raise ValueError(f"pixel prior: layer {i + 1} is not what it should be")
            worst = abs_sums(w) * top + np.abs(b.astype(np.int64))
            if i == 0:
                lengths = ROWS, COLUMNS * self.window.channels, MAX_ERROR + 1
                for places, n in zip((self.rows, self.columns, self.errors), lengths, strict=True):
                    if places.shape != (n, outputs) or places.dtype != np.int32:
                        raise ValueError("pixel prior: biases of rows, columns and errors are not of the right shapes")
                    worst += np.abs(places.astype(np.int64)).max(0)
            if s.max() > 24:
                raise ValueError(f"pixel prior: layer {i + 1} has a shift of {s.max()}; allowed are 0 to 24")
            if worst.max() >= EXACT:
                raise ValueError(
                    f"pixel prior: a sum of layer {i + 1} could reach {worst.max()}, beyond the {EXACT} allowed"
                )
            inputs, top = outputs, ACTIVATION_MAX

    @property
    def outputs(self) -> int:
        """Return how many outputs the network has for a sample."""
        return len(self.weights[-1])

    @property
    def components(self) -> int:
        """Return how many logistics the mixture of a sample has."""
        return (self.outputs + 1) // 3

    @once
    def _layers(self) -> list[tuple[Floats, Floats]]:
        """Return weights (`inputs outputs`) and biases, times 2^-shift in float32, which is exact."""
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

    def packed(self) -> PackedPrior | None:
        """Return the prior as the compiled core takes it, or None if numpy computes."""
        found = core()
        if found is None or len(self.weights) > MOST_LAYERS:
            return None
        packed: dict[int, PackedPrior] = self.__dict__.setdefault("_packed", {})
        if found.kernel not in packed:
            size = self.window
            window = size.channels, size.above, size.reach, size.left
            order, every = self._pairs(), slice(None)
            outputs = [order] * (len(self.weights) - 1) + [every]
            layers = [
                (w[rows][:, columns], b[rows], s[rows])
                for w, b, s, rows, columns in zip(
                    self.weights, self.biases, self.shifts, outputs, [every, *outputs[:-1]], strict=True
                )
            ]
            places = self.rows[:, order], self.columns[:, order], self.errors[:, order]
            cdf, inverse, limit = self.logistics.lookup
            packed[found.kernel] = PackedPrior(
                found, window, layers, places, (cdf, self.logistics.weights, inverse, limit)
            )
        return packed[found.kernel]

    def _pairs(self) -> Ints:
        """Return the order of the hidden units in which the core takes them in pairs.

        Any order gives the same integers. Random windows tell as well as images do which units are active together.
        """
        shape = TRIALS, self.window.samples
        data = shake_128().digest(2 * TRIALS * (1 + self.window.samples))  # numpy.random takes milliseconds to import
        places = np.frombuffer(data, np.uint8, 2 * TRIALS)
        values, chances = np.frombuffer(data, np.uint8, offset=2 * TRIALS).reshape(2, *shape)
        windows = np.maximum(values, 1) * (chances < 256 * NON_ZERO)
        rows, columns = places.reshape(2, TRIALS) % np.array([[ROWS // 2], [COLUMNS // 2]])
        x, active = self._first(windows, rows, columns, np.array(0)), list[NDArray[np.bool_]]()
        for weights, bias in self._layers[1:-1]:
            active.append(x > 0)
            x = _next_units(x, weights, bias)
        return pair_units(np.concatenate([*active, x > 0]))

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the fields, without cached values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def mixtures(self, windows: Samples, rows: Ints, columns: Ints, errors: Ints) -> Ints:
        """Return the outputs of the network (`n outputs`) for causal windows (`n window`).

        rows, columns: indices of the biases of each sample's row and column (`n`).
        errors: the largest error of each sample's image (`n`), or one for all.
        """
        x = self._first(windows, rows, columns, errors)
        for weights, bias in self._layers[1:-1]:
            x = _next_units(x, weights, bias)
        weights, bias = self._layers[-1]
        y = x @ weights
        y += bias
        outputs: Ints = np.floor(y, out=y).astype(np.int64)
        return outputs

    def _first(self, windows: Samples, rows: Ints, columns: Ints, errors: Ints) -> Floats:
        """Return the units of the first hidden layer (`n outputs`)."""
        of_rows, of_columns, of_errors = self._places
        first, _ = self._layers[0]
        x = windows.astype(np.float32) @ first
        x += of_rows[rows]
        x += of_columns[columns]
        x += of_errors[errors]
        np.floor(x, out=x)
        units: Floats = np.clip(x, 0, ACTIVATION_MAX, out=x)
        return units


def _next_units(x: Floats, weights: Floats, bias: Floats) -> Floats:
    """Return the units of the next hidden layer."""
    y = x @ weights
    y += bias
    np.floor(y, out=y)
    y += x
    units: Floats = np.clip(y, 0, ACTIVATION_MAX, out=y)
    return units


def _power(shifts: NDArray[np.uint8]) -> Floats:
    """Return 2^-shift, exactly."""
    power: Floats = np.ldexp(np.float32(1), -shifts.astype(np.int32))
    return power


def level_count(errors: Ints) -> Ints:
    """Return how many levels the samples of an image can have, for each of the largest errors."""
    return (SAMPLE_MAX + errors) // (2 * errors + 1) + 1


def to_levels(samples: Samples, errors: Ints) -> Ints:
    """Return the levels of samples; errors: one for all samples, or an array that broadcasts with them."""
    levels: Ints = (samples.astype(np.int64) + errors) // (2 * errors + 1)
    return levels


def to_samples(levels: Ints, errors: Ints) -> Samples:
    """Return the samples that levels stand for."""
    return (levels * (2 * errors + 1)).clip(0, SAMPLE_MAX).astype(np.uint8)
