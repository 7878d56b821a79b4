# SPDX-License-Identifier: MIT
"""Make networks in floats, which can be trained further, of a transform in integers: the reverse of `export.py`."""

import numpy as np
import torch
from numpy.typing import NDArray

from smalti.model.transform.transform import (
    BASIS_BITS,
    COEFFICIENT_BITS,
    CORRECTION_BITS,
    GROUPS,
    INPUT_BITS,
    LEVELS,
    ONE,
    OUTPUTS,
    STARTS,
    Layer,
    Network,
    Transform,
    step_of,
)
from smalti.training.transforms.export import LOGIT_STEPS, OCTAVE_NATS, UNIT_BITS
from smalti.training.transforms.network import CENTRE, WIDTH, Corrections, Networks

Floats = NDArray[np.float64]


def networks_of(transform: Transform) -> Networks:
    """Return the networks of a transform, in floats; weights have the fractional bits that they have there."""
    deviations = ONE / 2**COEFFICIENT_BITS * (1 << INPUT_BITS) / transform.tables.inputs
    prior = transform.prior
    hidden, second = transform.hidden, len(prior.second.weights) // len(GROUPS)
    networks = Networks(
        deviations.astype(np.float32),
        hidden,
        second,
        (len(transform.analysis.first.weights), len(transform.synthesis.first.weights)),
    )
    q = (np.array([step_of(level) for level in range(LEVELS)]) - CENTRE) / WIDTH
    octaves = np.log2(transform.tables.steps / 2.0**COEFFICIENT_BITS) - (CENTRE + WIDTH * q)[:, None]
    found: dict[str, Floats] = {
        "forward_basis": transform.forward / 2.0**BASIS_BITS,
        "backward_basis": transform.backward / 2.0**BASIS_BITS,
        "gains": np.linalg.lstsq(np.stack([q**0, q, q * q], 1), octaves, rcond=None)[0].astype(np.float64),
    }
    for name, network in (("analysis", transform.analysis), ("synthesis", transform.synthesis)):
        corrections = getattr(networks, name)
        found |= {f"{name}.{key}": value for key, value in _corrections(network, corrections).items()}
    weights, biases = _floats(prior.context, ONE.bit_length() - 1, UNIT_BITS)
    bits = _bits(prior.context, ONE.bit_length() - 1, UNIT_BITS)
    own = np.zeros((len(GROUPS), *networks.own.shape[1:]))
    at = 0
    for g, size in enumerate(STARTS):
        own[g, :size] = prior.own[:, at : at + size].T / 2.0**bits
        at += size
    found |= {"context.weight": weights, "context.bias": np.zeros(hidden), "own": own}
    found["first_biases"] = biases.reshape(3, len(GROUPS), 1, hidden)
    weights, biases = _floats(prior.second, UNIT_BITS, UNIT_BITS)
    found["second"] = weights.reshape(len(GROUPS), second, hidden).transpose(0, 2, 1)
    found["second_biases"] = biases.reshape(3, len(GROUPS), 1, second)
    spreads = networks.spreads.numpy().astype(np.float64)
    units = np.ones((len(spreads), OUTPUTS)) * LOGIT_STEPS
    units[:, 0], units[:, 1] = spreads * 2**COEFFICIENT_BITS, OCTAVE_NATS
    weights, biases = _floats(prior.third, UNIT_BITS, 0)
    weights = weights.reshape(*units.shape, second) / units[..., None]
    found["third_biases"] = biases[0].reshape(units.shape) / units
    found["third_biases"][:, 1] -= np.log(spreads)
    for g, (start, size) in enumerate(zip(STARTS, GROUPS, strict=True)):
        found[f"third.{g}"] = weights[start : start + size].reshape(size * OUTPUTS, second).T
    state = networks.state_dict()
    state |= {name: torch.tensor(value, dtype=torch.float32) for name, value in found.items()}
    networks.load_state_dict(state)
    networks.fractions = [
        *(_bits(layer, *scale) for of in (transform.analysis, transform.synthesis) for layer, scale in _scaled(of)),
        _bits(prior.context, ONE.bit_length() - 1, UNIT_BITS),
        _bits(prior.second, UNIT_BITS, UNIT_BITS),
    ]
    networks.output_bits = (prior.third.shift.astype(int) - UNIT_BITS).tolist()
    return networks


def _corrections(network: Network, corrections: Corrections) -> dict[str, Floats]:
    found, by_place = dict[str, Floats](), list[Floats]()
    (first, second, third) = _scaled(network)
    for name, (layer, scale) in (("first", first), ("second", second)):
        weights, biases = _floats(layer, *scale)
        shape = getattr(corrections, name).weight.shape  # outputs inputs 3 3
        found[f"{name}.weight"] = weights.reshape(shape[0], *shape[2:], shape[1]).transpose(0, 3, 1, 2)
        found[f"{name}.bias"] = np.zeros(shape[0])
        by_place.append(biases)
    weights, biases = _floats(third[0], *third[1])
    return found | {
        "third.weight": weights[:, :, None, None],
        "third.bias": biases[0],
        "by_place": np.stack(by_place),
    }


def _scaled(network: Network) -> list[tuple[Layer, tuple[int, int]]]:
    """Return the layers of a network with the fractional bits of their inputs and outputs."""
    scales = (ONE.bit_length() - 1, UNIT_BITS), (UNIT_BITS, UNIT_BITS), (UNIT_BITS, CORRECTION_BITS)
    return list(zip((network.first, network.second, network.third), scales, strict=True))


def _bits(layer: Layer, inputs: int, outputs: int) -> int:
    """Return the fractional bits of the weights of a layer all of whose outputs have the same."""
    return int(layer.shift[0]) + outputs - inputs


def _floats(layer: Layer, inputs: int, outputs: int) -> tuple[Floats, Floats]:
    """Return the weights of a layer, and its biases as factors of 1, q and q^2."""
    shift = layer.shift.astype(np.float64)
    bits = shift + outputs - inputs  # fractional bits of the weights
    groups = layer.biases.shape[1] // len(shift)
    biases = layer.biases.astype(np.float64)
    biases[0] -= np.tile(2.0 ** (shift - 1), groups)
    return layer.weights / 2.0 ** bits[:, None], _in_q(biases / np.tile(2.0 ** (inputs + bits), groups))


def _in_q(by_place: Floats) -> Floats:
    """Return factors of 1, q and q^2 (`3 n`) for those of 1, t and t^2; t is the place of a level, from -1 to 1."""
    middle = (step_of(0) + step_of(LEVELS - 1)) / 2
    a, b = (middle - CENTRE) / WIDTH, (step_of(LEVELS - 1) - middle) / WIDTH
    constant, first, second = by_place
    return np.stack(
        [constant - first * a / b + second * (a / b) ** 2, first / b - 2 * second * a / b**2, second / b**2]
    )
