# SPDX-License-Identifier: MIT
"""Export the networks of a transform to integers: weights get as many fractional bits as their sums allow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.model.transform.transform import (
    BASIS_BITS,
    COEFFICIENT_BITS,
    COEFFICIENTS,
    CORRECTION_BITS,
    FAR,
    FAR_COEFFICIENTS,
    GROUPS,
    INPUT_BITS,
    INPUT_MAX,
    LEVELS,
    MEANS,
    NEAR,
    OCTAVE,
    ONE,
    OUTPUTS,
    STARTS,
    UNIT_MAX,
    Layer,
    Network,
    Prior,
    Transform,
    check_transform,
    known_tables,
    step_of,
)
from smalti.training.transforms.network import CENTRE, EXACT, WIDTH, Corrections, Networks

Floats = NDArray[np.float64]
UNIT_BITS, LOGIT_STEPS, OCTAVE_NATS = 6, 16, OCTAVE / math.log(2)
"""Fractional bits of hidden units; the steps of logits and widths that stand for 1, and those of scales for e."""
MOST_BITS, MOST_SHIFT, ROOM = EXACT, 24, 0.9
"""The most fractional bits of weights, the largest shift of an output of the prior, and the share of 32 bits that sums
may use, so that rounding leaves them in their range."""
COARSE_BASIS, COARSE_OUTPUT = 2, 1 << 10
"""Where weights are coarse: the bits by which bases are coarser, and the largest weight of an output of the prior."""


@dataclass(frozen=True)
class _Scale:
    """How the numbers of a layer are scaled: the largest input, and fractional bits of inputs and outputs."""

    most: int
    inputs: int
    outputs: int


FROM_INPUTS = _Scale(INPUT_MAX, ONE.bit_length() - 1, UNIT_BITS)
FROM_UNITS = _Scale(UNIT_MAX, UNIT_BITS, UNIT_BITS)
TO_CORRECTIONS = _Scale(UNIT_MAX, UNIT_BITS, CORRECTION_BITS)


def export_transform(networks: Networks) -> Transform:
    """Return a transform in integers, proven not to overflow."""
    deviations = _array(networks.deviations)
    scales = np.rint(ONE / 2**COEFFICIENT_BITS * (1 << INPUT_BITS) / np.maximum(deviations, 2.01)).astype(np.int32)
    ratios = ONE / 2**COEFFICIENT_BITS * (1 << INPUT_BITS) / scales / deviations
    log2_steps = np.array([step_of(level) for level in range(LEVELS)])[:, None]
    q, gains = (log2_steps - CENTRE) / WIDTH, _array(networks.gains)
    places = log2_steps + gains[0] + gains[1] * q + gains[2] * q * q
    steps = np.maximum(np.rint(2.0**COEFFICIENT_BITS * np.exp2(places)), 1).astype(np.int32)
    coarse = COARSE_BASIS if networks.coarse else 0
    bases = [
        (np.rint(_array(base) * (1 << BASIS_BITS >> coarse)).astype(np.int64) << coarse).astype(np.int16)
        for base in (networks.forward_basis, networks.backward_basis)
    ]
    tables = known_tables(scales, steps, np.rint(OCTAVE * places).astype(np.int32))
    most = networks.fractions
    corrections = _corrections(networks.analysis, ratios, most[:3]), _corrections(networks.synthesis, ratios, most[3:6])
    transform = Transform(tables, bases[0], bases[1], *corrections, _prior(networks, ratios, most[6:]))
    check_transform(transform)
    return transform


def _corrections(of: Corrections, ratios: Floats, most: Sequence[int]) -> Network:
    by_place, layers = _array(of.by_place), list[Layer]()
    for i, (conv, scale) in enumerate(((of.first, FROM_INPUTS), (of.second, FROM_UNITS))):
        weights = _array(conv.weight).transpose(0, 2, 3, 1)  # outputs 3 3 inputs
        weights = weights * np.append(ratios, 1) if not i else weights
        biases = _in_places(by_place[i])
        biases[0] += _array(conv.bias)
        layers.append(_layer(weights.reshape(len(weights), -1), biases, scale, most[i]))
    constant = np.zeros((3, COEFFICIENTS))
    constant[0] = _array(of.third.bias)
    layers.append(_layer(_array(of.third.weight)[:, :, 0, 0], constant, TO_CORRECTIONS, most[2]))
    return Network(*layers)


def _prior(networks: Networks, ratios: Floats, top: Sequence[int]) -> Prior:
    around, at = _array(networks.context.weight).copy(), 0
    for size in (*[COEFFICIENTS] * len(NEAR), *[FAR_COEFFICIENTS] * len(FAR)):
        around[:, at : at + size] *= ratios[:size]
        at += size + 1
    around[:, at:] *= ratios[:MEANS]
    of_groups = [
        (rows[:first] * ratios[:first, None]).T for rows, first in zip(_array(networks.own), STARTS, strict=True)
    ]
    most = max((np.abs(around).sum(1) + np.abs(own).sum(1)).max() for own in of_groups)
    bits = _bits(np.concatenate([around, *of_groups], 1), 0, top[0])
    while most * 2.0**bits * INPUT_MAX > ROOM * 2**31:
        bits -= 1
    first = _in_places(_array(networks.first_biases).reshape(3, -1))
    first[0] += np.tile(_array(networks.context.bias), len(GROUPS))
    context = _rounded(around, first, FROM_INPUTS, bits)
    own = np.rint(np.concatenate(of_groups, 1) * 2.0**bits).astype(np.int16)
    deep = _array(networks.second).transpose(0, 2, 1)
    biases = _in_places(_array(networks.second_biases).reshape(3, -1))
    second = _layer(deep.reshape(-1, deep.shape[2]), biases, FROM_UNITS, top[1])
    return Prior(context, own, second, _outputs(networks))


def _outputs(networks: Networks) -> Layer:
    """Return the last layer of the prior, each of whose outputs has fractional bits of its own."""
    spreads, hidden = _array(networks.spreads), networks.third[0].shape[0]
    weights = np.concatenate([_array(some).T.reshape(-1, OUTPUTS, hidden) for some in networks.third])
    biases = _array(networks.third_biases).copy()
    biases[:, 1] += np.log(spreads)
    units = np.ones((COEFFICIENTS, OUTPUTS)) * LOGIT_STEPS
    units[:, 0], units[:, 1] = spreads * 2**COEFFICIENT_BITS, OCTAVE_NATS
    rows = list[Layer]()
    asked = networks.output_bits or [MOST_SHIFT - UNIT_BITS] * weights.shape[0] * OUTPUTS
    of_rows = zip((weights * units[..., None]).reshape(-1, hidden), (biases * units).ravel(), asked, strict=True)
    for row, bias, most in of_rows:
        bits = min(_bits(row[None], UNIT_MAX, MOST_BITS), most)
        while networks.coarse and not networks.output_bits and np.abs(row).max() * 2.0**bits > COARSE_OUTPUT:
            bits -= 1
        while abs(bias) * 2.0 ** (UNIT_BITS + bits) > 2**29:
            bits -= 1
        rows.append(_rounded(row[None], np.array([[bias], [0], [0]]), _Scale(UNIT_MAX, UNIT_BITS, 0), bits))
    return Layer(
        np.concatenate([row.weights for row in rows]),
        np.concatenate([row.biases for row in rows], 1),
        np.concatenate([row.shift for row in rows]),
    )


def _layer(weights: Floats, biases: Floats, scale: _Scale, top: int) -> Layer:
    """Return a layer with as many fractional bits as its sums allow, `top` at most; biases may be of several groups."""
    bits = _bits(weights, scale.most, top)
    while True:
        layer = _rounded(weights, biases, scale, bits)
        sums = np.abs(layer.weights.astype(np.int64)).sum(1) * scale.most
        added = np.abs(layer.biases.astype(np.int64)).sum(0) + 2
        if (np.tile(sums, added.size // sums.size) + added).max() < 1 << 31 and added.max() <= 1 << 30:
            return layer
        bits -= 1


def _rounded(weights: Floats, biases: Floats, scale: _Scale, bits: int) -> Layer:
    shift = scale.inputs + bits - scale.outputs
    if not 1 <= shift <= 31:
        raise ValueError(f"a layer of a transform would need a shift of {shift}; train it with smaller weights")
    rounded = np.rint(biases * 2.0 ** (scale.inputs + bits))
    rounded[0] += 1 << (shift - 1)
    return Layer(
        np.rint(weights * 2.0**bits).astype(np.int16),
        rounded.astype(np.int32),
        np.full(len(weights), shift, np.uint8),
    )


def _bits(weights: Floats, most: int, top: int) -> int:
    """Return how many fractional bits weights may have, `top` at most, such that they and their sums fit."""
    bits = top
    while np.abs(weights).max() * 2.0**bits > 32766 or np.abs(weights).sum(1).max() * 2.0**bits * most > ROOM * 2**31:
        bits -= 1
    return bits


def _in_places(by_place: Floats) -> Floats:
    """Return factors of 1, t and t^2 (`3 n`) for those of 1, q and q^2; t is the place of a level, from -1 to 1."""
    middle = (step_of(0) + step_of(LEVELS - 1)) / 2
    a, b = (middle - CENTRE) / WIDTH, (step_of(LEVELS - 1) - middle) / WIDTH
    constant, first, second = by_place
    return np.stack([constant + first * a + second * a * a, first * b + 2 * second * a * b, second * b * b])


def _array(tensor: object) -> Floats:
    import torch

    assert isinstance(tensor, torch.Tensor)
    return tensor.detach().cpu().double().numpy()
