"""The engines that tests hold against each other, and random networks at the bounds of what is allowed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from helpers import toy_pixels

from smalti.core import library
from smalti.entropy.logistic_mixture import CDF_ONE, CDF_STEPS, INVERSE_BITS, WEIGHT_ONE, Logistics
from smalti.model.masked_mlp import EXACT
from smalti.model.pixel_prior import COLUMNS, MAX_ERROR, ROWS, SAMPLE_MAX, PixelPrior, Window

CORE, _ = library._load()
KERNELS = library.kernels(CORE) if CORE is not None else []
ENGINES = ["numpy", *KERNELS]


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Compute by numpy, or by a kernel of the core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMALTI_ENGINE", "numpy" if name == "numpy" else "core")
        if name != "numpy":
            patch.setenv("SMALTI_KERNEL", name)
        yield


def random_prior(rng: np.random.Generator) -> PixelPrior:
    """Return a random network of random sizes, whose sums reach as far as is allowed, or nearly so."""
    channels, above, reach, left = (int(rng.choice(sizes)) for sizes in ([1, 3], [1, 2, 5], [0, 1, 4, 8], [1, 3, 11]))
    window = Window(channels, above, reach, left)
    width, components, layers = (int(rng.choice(sizes)) for sizes in ([1, 16, 31, 64, 130], [1, 2, 5, 7], [2, 3, 8]))
    sizes = [window.samples] + [width] * (layers - 1) + [3 * components - 1]
    weights, biases, shifts = [], [], []
    places = [rng.integers(-(1 << 18), 1 << 18, (n, width)) for n in (ROWS, COLUMNS * channels, MAX_ERROR + 1)]
    for i in range(layers):
        inputs, outputs = sizes[i : i + 2]
        top, room = (SAMPLE_MAX, EXACT - 1 - 3 * (1 << 18)) if i == 0 else (1023, EXACT - 1)
        w = rng.normal(size=(outputs, inputs)) * (rng.random((outputs, inputs)) < rng.choice([0.1, 1]))
        b = rng.integers(-room // 2, room // 2, outputs)
        if rng.random() < 0.5:
            w, b = np.abs(w), np.abs(b) // 8
        most = (room - np.abs(b))[:, None]
        scale = most / np.maximum(np.abs(w).sum(1, keepdims=True), 1e-9) / top
        w = np.trunc(np.clip(w * scale, -32768, 32767)).astype(np.int16)
        weights.append(w)
        biases.append(b.astype(np.int32))
        low, high = [(0, 25), (10, 15), (24, 25), (0, 1)][rng.choice(4, p=[0.4, 0.4, 0.1, 0.1])]
        shifts.append(rng.integers(low, high, outputs).astype(np.uint8))
    rows, columns, errors = (array.astype(np.int32) for array in places)
    tables = random_logistics(rng) if rng.random() < 0.5 else toy_pixels(1).logistics
    return PixelPrior(window, tuple(weights), tuple(biases), tuple(shifts), rows, columns, errors, tables)


def random_logistics(rng: np.random.Generator) -> Logistics:
    """Return tables that no training gives: flat, steep, at their bounds."""
    known = toy_pixels(1).logistics
    cdf, weights = (
        np.sort(rng.choice(choices, len(table))).astype(np.int32)
        for table, choices in (
            (known.cdf, [[0, CDF_ONE], [0], [CDF_ONE], np.arange(CDF_ONE)][rng.integers(4)]),
            (known.weights, [[0, WEIGHT_ONE], [0], [WEIGHT_ONE], np.arange(WEIGHT_ONE)][rng.integers(4)]),
        )
    )
    inverse = rng.choice([1, 2, 1000, CDF_STEPS << INVERSE_BITS - 1], len(known.inverse)).astype(np.int32)
    return replace(known, cdf=cdf, weights=weights, inverse=inverse)
