# SPDX-License-Identifier: MIT
"""Small transforms with random numbers, of the usual size or at the ends of what the proofs allow."""

import numpy as np

from smalti.model.transform.transform import (
    COEFFICIENTS,
    CONTEXT,
    CORRECTED_MAX,
    GROUPS,
    INPUT_MAX,
    LEVELS,
    OUTPUTS,
    STARTS,
    TAPS,
    UNIT_MAX,
    Layer,
    Network,
    Prior,
    Transform,
    check_transform,
    known_tables,
    step_of,
)

HIDDEN, SECOND, UNITS = 32, 16, 16


def random_transform(seed: int, *, extreme: bool = False) -> Transform:
    """Return a transform. extreme: its weights and biases are as large as the proofs allow."""
    rng = np.random.default_rng(seed)

    def layer(outputs: int, inputs: int, most: int, shift: int, groups: int = 1, share: float = 1.0) -> Layer:
        bias = 1 << 28 if extreme else 1 << 12
        each = min(32767, int(((1 << 31) - 1 - 3 * bias - 2) * share) // most // inputs) if extreme else 40
        weights = (
            rng.choice((-each, each), (outputs, inputs)) if extreme else rng.integers(-each, each, (outputs, inputs))
        )
        biases = rng.integers(-bias, bias, (3, outputs * groups), endpoint=True)
        return Layer(weights.astype(np.int16), biases.astype(np.int32), np.full(outputs, shift, np.uint8))

    def network() -> Network:
        return Network(
            layer(UNITS, TAPS * (COEFFICIENTS + 1), INPUT_MAX, 14),
            layer(UNITS, TAPS * UNITS, UNIT_MAX, 12),
            layer(COEFFICIENTS, UNITS, UNIT_MAX, 10),
        )

    own_share = 0.4 if extreme else 0.0
    context = layer(HIDDEN, CONTEXT, INPUT_MAX, 12, len(GROUPS), 1 - own_share)
    each = int(own_share * ((1 << 31) - 3 * (1 << 28) - 2)) // INPUT_MAX // COEFFICIENTS if extreme else 40
    own = rng.integers(-each, each, (HIDDEN, sum(STARTS)), endpoint=True).astype(np.int16)
    third = layer(COEFFICIENTS * OUTPUTS, SECOND, UNIT_MAX, 12)
    prior = Prior(context, own, layer(len(GROUPS) * SECOND, HIDDEN, UNIT_MAX, 11), third)
    if extreme:
        steps = rng.choice((1, 32767), (LEVELS, COEFFICIENTS)).astype(np.int32)
        places = rng.choice((-1024, 1024), (LEVELS, COEFFICIENTS)).astype(np.int32)
        inputs = rng.choice((1, 65535), COEFFICIENTS).astype(np.int32)
        most = ((1 << 31) - 1) // CORRECTED_MAX // COEFFICIENTS
        backward = rng.choice((-most, most), (COEFFICIENTS, COEFFICIENTS)).astype(np.int16)
    else:
        powers = step_of(0) + np.arange(LEVELS)[:, None] / 8 + np.zeros(COEFFICIENTS)
        steps = np.rint(16 * np.exp2(powers)).astype(np.int32)
        places = np.rint(16 * powers).astype(np.int32)
        inputs = np.full(COEFFICIENTS, 2000, np.int32)
        basis = np.linalg.qr(rng.normal(size=(COEFFICIENTS, COEFFICIENTS)))[0]
        backward = np.rint(8192 * basis).astype(np.int16)
    tables = known_tables(inputs, steps, places)
    transform = Transform(tables, backward, backward, network(), network(), prior)
    check_transform(transform)
    return transform
