# SPDX-License-Identifier: MIT
"""The empty model, which codes no image: files name it where no image needs a model."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.entropy.logistic_mixture import CDF_RANGE, CDF_STEPS, SCALES, WEIGHT_RANGE, Logistics
from smalti.model.latent_prior import LATENT_MAX, Grid, LatentPrior
from smalti.model.masked_mlp import POINTS, QUALITY_EMBEDDINGS, MaskedMLP
from smalti.model.model import Model

EMPTY_ID, EMPTY_NAME = bytes(8), "none"
"""The id and the name of the empty model."""


@functools.cache
def empty_model() -> Model:
    """Return the model that has no part and no operating point; images are coded without it."""
    grid, prior = no_latents()
    return Model(
        name=EMPTY_NAME,
        id=EMPTY_ID,
        image_shape=(0, 0, 0),
        patches=1,
        grid=grid,
        prior=prior,
        multipliers=np.ones(POINTS),
        measured=(),
        training={},
        networks={},
    )


def no_latents() -> tuple[Grid, LatentPrior]:
    """Return the grid and the prior of a model without latents: they have one latent, which is always 0."""
    outputs = {"1": 1, "2": 1, "3": 8}
    arrays: dict[str, NDArray[Any]] = {f"w{i}": np.zeros((n, 1), np.int8) for i, n in outputs.items()}
    arrays |= {f"b{i}": np.zeros(n, np.int32) for i, n in outputs.items()}
    arrays |= {f"s{i}": np.zeros(n, np.uint8) for i, n in outputs.items()}
    arrays |= {f"q{i}": np.zeros((QUALITY_EMBEDDINGS, n), np.int32) for i, n in outputs.items()}
    tables = Logistics(
        np.zeros(2 * CDF_RANGE * CDF_STEPS + 1, np.int32),
        np.zeros(2 * WEIGHT_RANGE + 1, np.int32),
        np.ones(SCALES, np.int32),
    )
    mlp = MaskedMLP(**arrays, latents=1, largest=LATENT_MAX, group=1)
    nothing = np.zeros((POINTS, 1), np.int64)
    return Grid(nothing + 1, nothing, nothing), LatentPrior(mlp, tables)
