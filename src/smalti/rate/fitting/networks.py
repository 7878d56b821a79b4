# SPDX-License-Identifier: MIT
"""Train the networks of a mixer a little further in numpy, and round what changes to differences of 8 bits.

The loss is that of `training/mixers/fit.py`: the bits of a sample under a mixture of logistics. Here are its gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.model.mixing.mixer import UNIT_MAX, Layer
from smalti.rate.fitting.rows import TOLD, Rows

Floats = NDArray[np.floating[Any]]
"""float32; float64 where gradients are checked."""
LOGISTICS = 3
FRACTION, INPUT_FRACTION = 11, 6
"""Fractional bits of weights, and of inputs and units."""
CLIP = UNIT_MAX / (1 << INPUT_FRACTION)
BATCH, WARM = 4096, 50
"""Rows of a step, and the steps in which the learning rate rises."""
RATE, LAST_SHARE = 3e-3, 0.01
"""The largest learning rate of Adam, and the share of it that is left in the end; it falls linearly."""
BETAS = 0.9, 0.98
MOST_BITS = 14.0
"""A sample that takes more bits than this is not learned from."""
LEAST = 1e-6
FINER = 2
"""Differences of the weights of the last layer are rounded to steps that are finer by so many bits."""

Told = Callable[[], None]
"""What is called after each step."""


@dataclass(eq=False)
class Network:
    """A network in floats: the weights and then the biases of its three layers."""

    arrays: list[Floats]

    @classmethod
    def of(cls, layers: tuple[Layer, ...]) -> "Network":
        """Return a network with the weights of layers in integers."""
        weights: list[Floats] = [layer.weights.astype(np.float32) / (1 << FRACTION) for layer in layers]
        return cls(weights + [layer.biases.astype(np.float32) / (1 << FRACTION + INPUT_FRACTION) for layer in layers])

    def forward(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the units of both hidden layers and the outputs (`n units`) for inputs (`n inputs`)."""
        w1, w2, w3, b1, b2, b3 = self.arrays
        one = np.clip(x @ w1.T + b1, 0, CLIP)
        two = np.clip(one @ w2.T + b2, 0, CLIP)
        return one, two, two @ w3.T + b3

    def gradients(self, rows: Rows, inputs: int) -> list[Floats]:
        """Return the gradients of the mean bits of `rows` (`n inputs+3`) by each of `arrays`."""
        _, w2, w3, *_ = self.arrays
        x = rows[:, :inputs].astype(np.float32) / (1 << INPUT_FRACTION)
        one, two, out = self.forward(x)
        g3 = bits_and_gradient(out, rows[:, inputs:])[1]
        g2 = (g3 @ w3) * ((two > 0) & (two < CLIP))
        g1 = (g2 @ w2) * ((one > 0) & (one < CLIP))
        return [g1.T @ x, g2.T @ one, g3.T @ two, g1.sum(0), g2.sum(0), g3.sum(0)]


def bits_and_gradient(out: Floats, told: Rows) -> tuple[Floats, Floats]:
    """Return the bits (`n`) of samples under the mixtures that outputs (`n 9`) say, and the gradient of their mean.

    told: `n 3`: values, predictions, and energies in eighths.
    """
    value, prediction, eighths = (told[:, i : i + 1].astype(np.float32) for i in range(3))
    energy, away = eighths / 8, value - prediction
    logits = out[:, :LOGISTICS]
    weights = np.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    scales = out[:, 2 * LOGISTICS :]
    inverse = np.exp(-np.clip(scales, -7, 3)) / energy
    off = away - out[:, LOGISTICS : 2 * LOGISTICS] * energy
    high, low = (off + 0.5) * inverse, (off - 0.5) * inverse
    above = np.where(value >= 255, np.float32(1), _sigmoid(high))
    below = np.where(value <= 0, np.float32(0), _sigmoid(low))
    shares = above - below
    p = (weights * shares).sum(1, keepdims=True)
    bits = -np.log2(p + LEAST)
    slope_above, slope_below = above * (1 - above), below * (1 - below)
    by_scale = weights * (slope_below * low - slope_above * high) * ((scales > -7) & (scales < 3))
    by_mean = weights * (slope_below - slope_above) * inverse * energy
    gradient = np.concatenate([weights * (shares - p), by_mean, by_scale], 1)
    gradient *= np.where(bits > MOST_BITS, 0, -1 / ((p + LEAST) * np.float32(np.log(2) * len(out))))
    return bits[:, 0], gradient.astype(out.dtype)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * np.tanh(0.5 * x) + 0.5)


def train_further(
    number: int, rows: Rows, layers: tuple[Layer, ...], steps: int, shrink: float, told: Told
) -> list[Floats]:
    """Train a network by Adam, and return by how much each of its arrays changes.

    Args:
        number: of the network; it is the seed.
        rows: `n inputs+3`.
        layers: its layers, where training begins.
        steps: of training.
        shrink: by how much a change shrinks in a step, as a share of the learning rate, so that few changes are left.
        told: is called after each step.
    """
    network, rng = Network.of(layers), np.random.default_rng(number)
    first = [array.copy() for array in network.arrays]
    moments = [(np.zeros_like(array), np.zeros_like(array)) for array in first]
    for step in range(1, steps + 1):
        rate = RATE * (min(1.0, step / WARM) * (1 - step / steps) + LAST_SHARE)
        gradients = network.gradients(rows[rng.integers(0, len(rows), BATCH)], rows.shape[1] - TOLD)
        corrections = [1 - beta**step for beta in BETAS]
        for array, start, gradient, (mean, square) in zip(network.arrays, first, gradients, moments, strict=True):
            mean += (gradient - mean) * np.float32(1 - BETAS[0])
            square += (gradient * gradient - square) * np.float32(1 - BETAS[1])
            array -= np.float32(rate / corrections[0]) * mean / (np.sqrt(square / np.float32(corrections[1])) + 1e-8)
            if shrink:
                change = array - start
                array[:] = start + np.sign(change) * np.maximum(np.abs(change) - np.float32(rate * shrink), 0)
        told()
    return [array - start for array, start in zip(network.arrays, first, strict=True)]


def rounded_changes(changes: list[Floats], shift: int) -> tuple[NDArray[np.int8], list[tuple[int, int]]]:
    """Return changes of a network as differences of 8 bits, and by how many bits those of each layer are shifted.

    Args:
        changes: of the weights and then the biases of three layers.
        shift: of the weights of all layers but the last.
    """
    parts, shifts = list[NDArray[np.int8]](), list[tuple[int, int]]()
    for i, (weights, biases) in enumerate(zip(changes[:3], changes[3:], strict=True)):
        mine = shift - FINER if i == 2 else shift
        for change, fraction, by in (
            (weights, FRACTION, mine),
            (biases, FRACTION + INPUT_FRACTION, mine + INPUT_FRACTION),
        ):
            units = np.rint(change.astype(np.float64) * (1 << fraction) / (1 << by))
            parts.append(units.clip(-127, 127).astype(np.int8).ravel())
        shifts.append((mine, mine + INPUT_FRACTION))
    return np.concatenate(parts), shifts
