# SPDX-License-Identifier: MIT
"""The arrays of priors as they are in a bundle: written from the parts of a model, and read back and checked."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.entropy.logistic_mixture import Logistics
from smalti.model.latent_prior import LATENT_MAX, Grid, LatentPrior
from smalti.model.masked_mlp import ACTIVATION_MAX, POINTS, MaskedMLP
from smalti.model.pixel_prior import PixelPrior, Window
from smalti.model.spatial_prior import SpatialPrior

MAX_LATENTS = 1 << 10
MAX_GRID = POINTS * MAX_LATENTS
GRID, TABLES = ("steps", "low", "high"), ("cdf", "weights", "inverse")
MLP = tuple(f"{part}{layer}" for layer in "123" for part in "wbqs")
SPATIAL_ARRAYS = ("tables", "steps", "octaves", "active")
"""The names of arrays, as they are in `Grid`, `Logistics`, `MaskedMLP` and `SpatialPrior`."""
GROUP = "group"
"""The name of the group size of a `MaskedMLP`; where it is missing, the group size is 1."""
WINDOW = ("channels", "above", "reach", "left")
MAX_LAYERS = 8
"""The most layers of the pixel prior."""


def mlp_arrays(mlp: MaskedMLP) -> dict[str, NDArray[Any]]:
    """Return the arrays of a masked MLP by their names."""
    arrays = {name: getattr(mlp, name) for name in MLP}
    return arrays if mlp.group == 1 else arrays | {GROUP: np.array(mlp.group, np.int16)}


def pixel_arrays(prior: PixelPrior) -> dict[str, NDArray[Any]]:
    """Return the arrays of a pixel prior by their names."""
    arrays: dict[str, NDArray[Any]] = {"window": np.array([getattr(prior.window, name) for name in WINDOW], np.int16)}
    for i in range(len(prior.weights)):
        arrays |= {f"w{i + 1}": prior.weights[i], f"b{i + 1}": prior.biases[i], f"s{i + 1}": prior.shifts[i]}
    arrays |= {"rows": prior.rows, "columns": prior.columns, "errors": prior.errors}
    return arrays | {name: getattr(prior.logistics, name) for name in TABLES}


def latents_from(arrays: Mapping[str, NDArray[Any]]) -> tuple[Grid, LatentPrior]:
    """Return the grid and the prior of the arrays of `decoder.npz`.

    Raises:
        KeyError, ValueError: they are not what they should be.
    """
    if (latents := arrays["steps"].shape[1]) > MAX_LATENTS or any(arrays[name].size > MAX_GRID for name in GRID):
        raise ValueError(f"a patch has {latents} latents; {MAX_LATENTS} are allowed")
    grid = Grid(**{name: arrays[name].astype(np.int64) for name in GRID})
    return grid, LatentPrior(
        _mlp_from(arrays, latents, LATENT_MAX), Logistics(**{name: arrays[name] for name in TABLES})
    )


def _mlp_from(arrays: Mapping[str, NDArray[Any]], latents: int, largest: int) -> MaskedMLP:
    group = int(arrays[GROUP]) if GROUP in arrays else 1
    return MaskedMLP(**{name: arrays[name] for name in MLP}, latents=latents, largest=largest, group=group)


def spatial_from(arrays: Mapping[str, NDArray[Any]]) -> SpatialPrior:
    """Return the prior of the arrays of `local.npz`; the errors are those of `latents_from`."""
    latents = arrays["steps"].shape[1]
    if latents > MAX_LATENTS:
        raise ValueError(f"a position has {latents} spatial latents; {MAX_LATENTS} are allowed")
    return SpatialPrior(
        _mlp_from(arrays, latents, ACTIVATION_MAX),
        arrays["tables"],
        arrays["steps"].astype(np.int64),
        arrays["octaves"].astype(np.int64),
        arrays["active"].astype(bool),
    )


def pixels_from(arrays: Mapping[str, NDArray[Any]]) -> PixelPrior:
    """Return the prior of the arrays of `pixels.npz`; the errors are those of `latents_from`."""
    layers = range(1, 1 + sum(f"w{i}" in arrays for i in range(1, MAX_LAYERS + 1)))
    weights, biases, shifts = (tuple(arrays[f"{part}{i}"] for i in layers) for part in "wbs")
    if arrays["window"].dtype != np.int16 or arrays["window"].shape != (len(WINDOW),):
        raise ValueError("pixel prior: the window is not four integers of 16 bits")
    window = Window(**dict(zip(WINDOW, map(int, arrays["window"]), strict=True)))
    tables = Logistics(**{name: arrays[name] for name in TABLES})
    rows, columns, errors = (arrays[name] for name in ("rows", "columns", "errors"))
    return PixelPrior(window, weights, biases, shifts, rows, columns, errors, tables)
