# SPDX-License-Identifier: MIT
"""A transform: trained integer networks that code an image of any size, lossily, in blocks of 8x8 pixels.

The analysis turns each block into 192 coefficients; the synthesis turns coefficients back. Both begin (end) with a
linear map that started as the discrete cosine transform, and correct it by a small convolutional network that sees the
blocks around (Balle, Minnen, Singh, Hwang and Johnston 2018, "Variational Image Compression with a Scale Hyperprior",
is where the field starts). A causal prior predicts each coefficient from those before it: a mean, which is taken
off before the quantisation, and two scales with a weight, which say how likely each quantisation index is.

`docs/format.md`, "By transform", is the specification; `core/transform.c` and `reference.py` follow it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE, COLOURS = 8, 3
"""The side of a block in pixels, and the channels of a colour image."""
COEFFICIENTS = COLOURS * SIDE * SIDE
"""The coefficients of a block."""
GROUPS = (1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 18, 8, 13, 15, 42, 56)
"""How many coefficients are predicted at the same time: from the blocks before, and from the groups before."""
OF_GRAY = (True, False, True, True, False, True, True, False, True, True, False, True, True, True, False, False)
"""Which groups hold coefficients of brightness; a gray image has no others, and they are 0."""
STARTS = tuple(sum(GROUPS[:g]) for g in range(len(GROUPS)))
"""The first coefficient of each group."""
MEANS = COLOURS
"""The coefficients that stand for the mean of a block come first, one for each colour."""
LEVELS = 41
"""The levels: quantisation steps, each 2^(1/8) times the one before."""
FIRST_LEVEL = 2.75
"""The logarithm, to base 2, of the quantisation step at level 0, for coefficients of an orthonormal transform."""
NEAR, FAR, FAR_COEFFICIENTS = (
    ((0, -1), (-1, 0), (-1, -1), (-1, 1)),
    (
        (0, -2),
        (-2, 0),
        (-1, -2),
        (-1, 2),
        (-2, -1),
        (-2, 1),
    ),
    48,
)
"""Rows and columns to the blocks that the prior sees: all coefficients of the near ones, the first ones of the far."""
CONTEXT = len(NEAR) * (COEFFICIENTS + 1) + len(FAR) * (FAR_COEFFICIENTS + 1) + MEANS
"""The inputs of the prior from the blocks before."""
TAPS = 9
"""The blocks that a convolution sees, row by row: the one in the middle, and those around it."""
COEFFICIENT_BITS, SAMPLE_BITS, BASIS_BITS, CORRECTION_BITS = 4, 3, 13, 8
"""Fractional bits: of coefficients, of coefficients that are corrected, of the basis, of corrections (in steps)."""
COEFFICIENT_MAX, INPUT_MAX, UNIT_MAX, CORRECTED_MAX, CORRECTION_MAX = 32767, 4095, 4095, 16383, 32767
"""The largest values, positive or negative: of a coefficient, of an input and of a hidden unit of a network, of a
coefficient that is corrected (in 2^-SAMPLE_BITS), of a correction."""
INPUT_BITS, ONE = 12, 512
"""Fractional bits of the scales of inputs, and the input that stands for 1."""
HIDDEN_MAX = 320
"""The most units of a hidden layer."""
OUTPUTS = 4
"""What the prior says of a coefficient: mean, scale, share of the narrow logistic, width of the wide one."""
OCTAVE = 16
"""Scales are powers of 2^(1/OCTAVE)."""
SCALES, SCALE_ZERO = 256, 112
"""How many scales there are, and which one is that of a quantisation step."""
SHARES, WIDTHS, TAILS = 385, 257, 1025
"""The lengths of tables: shares by logit (in sixteenths), wide scales by width (likewise), tails by distance."""
TAIL_BITS, SHARE_BITS, INVERSE_BITS, TAIL_STEPS = 24, 12, 20, 64
"""Fractional bits of tails, shares and inverse scales, and the steps of the table of tails that stand for 1."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of a network: out = (weights * in + bias) >> shift. The bias depends on the level."""

    weights: NDArray[np.int16]  # outputs inputs
    biases: NDArray[np.int32]  # 3 outputs: constant, and the factors of the level's place and of its square
    shift: NDArray[np.uint8]  # outputs


@dataclass(frozen=True, eq=False)
class Network:
    """Two convolutions over 3x3 blocks, and a layer that gives a correction of each coefficient, in steps."""

    first: Layer  # inputs: TAPS * (COEFFICIENTS + 1)
    second: Layer
    third: Layer


@dataclass(frozen=True, eq=False)
class Prior:
    """How likely coefficients are: a hidden layer by blocks and groups before, one more, and the outputs."""

    context: Layer  # CONTEXT inputs; biases: of all groups, GROUPS * hidden units, one group after the other
    own: NDArray[np.int16]  # hidden units, then for each group the coefficients of this block before it
    second: Layer  # weights and biases of all groups, one after the other
    third: Layer  # OUTPUTS for each coefficient, one coefficient after the other


@dataclass(frozen=True, eq=False)
class Tables:
    """The functions that coding needs, as tables."""

    inputs: NDArray[np.int32]  # COEFFICIENTS: the scales of the inputs
    steps: NDArray[np.int32]  # LEVELS COEFFICIENTS: quantisation steps
    places: NDArray[np.int32]  # LEVELS COEFFICIENTS: OCTAVE * log2 of the steps
    tails: NDArray[np.uint32]  # TAILS: 2 / (1 + exp(z)), of 2^TAIL_BITS, at z = i / TAIL_STEPS
    inverses: NDArray[np.uint32]  # SCALES: 2^INVERSE_BITS * TAIL_STEPS / (2 * scale)
    shares: NDArray[np.uint16]  # SHARES: logistic function of (i - 192) / 16, of 2^SHARE_BITS
    widths: NDArray[np.uint8]  # WIDTHS: by how much a wide scale is above the narrow one


@dataclass(frozen=True, eq=False)
class Transform:
    """The networks, bases and tables of a model that codes by transform."""

    tables: Tables
    forward: NDArray[np.int16]  # COEFFICIENTS, and for each the samples of a block: the basis of the analysis
    backward: NDArray[np.int16]  # likewise, of the synthesis
    analysis: Network
    synthesis: Network
    prior: Prior

    @property
    def hidden(self) -> int:
        """The hidden units of the prior."""
        return len(self.prior.own)


def step_of(level: int) -> float:
    """Return the logarithm, to base 2, of the quantisation step at a level."""
    return FIRST_LEVEL + level / 8


def level_place(level: int) -> tuple[int, int]:
    """Return the place of a level, by which biases depend on it, and the square: both with 12 fractional bits."""
    place = ((2 * level - (LEVELS - 1)) << 12) // (LEVELS - 1)
    return place, place * place >> 12


def biases_at(layer: Layer, level: int) -> NDArray[np.int32]:
    """Return the biases of a layer at a level."""
    constant, first, second = layer.biases.astype(np.int64)
    place, square = level_place(level)
    found: NDArray[np.int32] = (constant + (first * place >> 12) + (second * square >> 12)).astype(np.int32)
    return found


def known_tables(inputs: NDArray[np.int32], steps: NDArray[np.int32], places: NDArray[np.int32]) -> Tables:
    """Return the tables that training writes into models, beside those that it has found."""
    z = np.arange(TAILS) / TAIL_STEPS
    scales = np.exp2((np.arange(SCALES) - SCALE_ZERO) / OCTAVE)
    logits = (np.arange(SHARES) - SHARES // 2) / 16
    widths = np.log1p(np.exp((np.arange(WIDTHS) - WIDTHS // 2) / 16))
    return Tables(
        inputs,
        steps,
        places,
        np.rint((1 << TAIL_BITS) * 2 / (1 + np.exp(z))).astype(np.uint32),
        np.rint((1 << INVERSE_BITS) * TAIL_STEPS / (2 * scales)).clip(max=2**32 - 1).astype(np.uint32),
        np.rint((1 << SHARE_BITS) / (1 + np.exp(-logits))).astype(np.uint16),
        np.rint(OCTAVE / np.log(2) * (1.2 * widths + 0.2)).astype(np.uint8),
    )


def check_transform(transform: Transform) -> None:
    """Prove that no sum of a transform can overflow 32 bits, and that no index leaves its table.

    Raises:
        ValueError: an array has another type or shape, or a value or a sum may be out of range.
    """
    _check_tables(transform.tables)
    for basis in (transform.forward, transform.backward):
        _check(basis, "basis", np.int16, (COEFFICIENTS, COEFFICIENTS), -(1 << 15), (1 << 15) - 1)
    _check_sums(np.abs(transform.backward.astype(np.int64)).sum(0) * CORRECTED_MAX, "synthesis")
    _check_sums(np.abs(transform.forward.astype(np.int64)).sum(1) * 255, "analysis")
    for network in (transform.analysis, transform.synthesis):
        hidden = len(network.first.weights), len(network.second.weights)
        if any(n % 16 or not 16 <= n <= HIDDEN_MAX for n in hidden):
            raise ValueError(f"a network of a transform has {hidden} hidden units")
        _check_layer(network.first, hidden[0], TAPS * (COEFFICIENTS + 1), INPUT_MAX)
        _check_layer(network.second, hidden[1], TAPS * hidden[0], UNIT_MAX)
        _check_layer(network.third, COEFFICIENTS, hidden[1], UNIT_MAX)
    _check_prior(transform.prior)


def _check_prior(prior: Prior) -> None:
    hidden, groups = len(prior.own), len(GROUPS)
    if hidden % 16 or not 16 <= hidden <= HIDDEN_MAX or len(prior.second.weights) % groups:
        raise ValueError(f"the prior of a transform has {hidden} hidden units")
    _check(prior.own, "own", np.int16, (hidden, sum(STARTS)), -(1 << 15), (1 << 15) - 1)
    _check_layer(prior.context, hidden, CONTEXT, INPUT_MAX, groups)
    second = len(prior.second.weights) // groups
    if second % 16 or not 16 <= second <= HIDDEN_MAX:
        raise ValueError(f"the prior of a transform has {second} hidden units in its second layer")
    _check_layer(prior.second, groups * second, hidden, UNIT_MAX)
    _check_layer(prior.third, COEFFICIENTS * OUTPUTS, second, UNIT_MAX)
    around = np.abs(prior.context.weights.astype(np.int64)).sum(1) * INPUT_MAX
    of_levels = _largest_biases(prior.context).reshape(groups, hidden)
    at = 0
    for g, size in enumerate(STARTS):
        own = np.abs(prior.own[:, at : at + size].astype(np.int64)).sum(1) * INPUT_MAX
        _check_sums(around + own + of_levels[g], "prior")
        at += size


def _check_layer(layer: Layer, outputs: int, inputs: int, most: int, groups: int = 1) -> None:
    _check(layer.weights, "weights", np.int16, (outputs, inputs), -(1 << 15), (1 << 15) - 1)
    _check(layer.biases, "biases", np.int32, (3, outputs * groups), -(1 << 30), 1 << 30)
    _check(layer.shift, "shift", np.uint8, (outputs,), 0, 31)
    sums = np.abs(layer.weights.astype(np.int64)).sum(1) * most
    _check_sums(np.tile(sums, groups) + _largest_biases(layer), "layer")


def _largest_biases(layer: Layer) -> NDArray[np.int64]:
    """Return a bound of the biases at all levels: places and their squares are at most 1."""
    found: NDArray[np.int64] = np.abs(layer.biases.astype(np.int64)).sum(0) + 2
    return found


def _check_sums(sums: NDArray[np.int64], what: str) -> None:
    if int(sums.max(initial=0)) >= 1 << 31:
        raise ValueError(f"a sum of the {what} of a transform may need more than 32 bits")


def _check_tables(tables: Tables) -> None:
    _check(tables.inputs, "inputs", np.int32, (COEFFICIENTS,), 1, 65535)
    _check(tables.steps, "steps", np.int32, (LEVELS, COEFFICIENTS), 1, 32767)
    _check(tables.places, "places", np.int32, (LEVELS, COEFFICIENTS), -1024, 1024)
    _check(tables.tails, "tails", np.uint32, (TAILS,), 1, 1 << TAIL_BITS)
    _check(tables.inverses, "inverses", np.uint32, (SCALES,), 1, 2**32 - 1)
    _check(tables.shares, "shares", np.uint16, (SHARES,), 0, 1 << SHARE_BITS)
    _check(tables.widths, "widths", np.uint8, (WIDTHS,), 0, 255)
    if (np.diff(tables.tails.astype(np.int64)) > 0).any():
        raise ValueError("the tails of a transform rise")


def _check(
    array: NDArray[Any], name: str, dtype: type[np.generic], shape: tuple[int, ...], low: int, high: int
) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(
            f"the array {name} of a transform is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}"
        )
    if array.size and (int(array.min()) < low or int(array.max()) > high):
        raise ValueError(f"the array {name} of a transform has values that are not from {low} to {high}")


def transform_arrays(transform: Transform) -> dict[str, NDArray[Any]]:
    """Return a transform as named arrays, as a bundle keeps it."""
    return dict(_arrays(transform, ""))


def _arrays(part: Any, name: str) -> Iterator[tuple[str, NDArray[Any]]]:
    for field in fields(part):
        value = getattr(part, field.name)
        if is_dataclass(value):
            yield from _arrays(value, f"{name}{field.name}_")
        else:
            yield name + field.name, value


def transform_from(arrays: Mapping[str, NDArray[Any]]) -> Transform:
    """Return the transform of named arrays; the reverse of `transform_arrays`.

    Raises:
        KeyError: an array is missing. `check_transform` looks at types, shapes and values.
    """

    def layer(name: str) -> Layer:
        return Layer(*(arrays[f"{name}_{field.name}"] for field in fields(Layer)))

    def network(name: str) -> Network:
        return Network(*(layer(f"{name}_{field.name}") for field in fields(Network)))

    prior = Prior(layer("prior_context"), arrays["prior_own"], layer("prior_second"), layer("prior_third"))
    tables = Tables(*(arrays[f"tables_{field.name}"] for field in fields(Tables)))
    bases = arrays["forward"], arrays["backward"]
    return Transform(tables, *bases, network("analysis"), network("synthesis"), prior)
