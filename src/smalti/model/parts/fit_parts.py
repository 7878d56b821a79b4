# SPDX-License-Identifier: MIT
"""The members of the bundle of a fitted model, which is another model, its base, but for its mixer."""

from dataclasses import replace

from smalti.model.mixing.fit import Fit, fit_arrays, fit_from, fitted_mixer
from smalti.model.model import Model
from smalti.model.npz import npz_bytes, read_npz


def fit_member(fit: Fit) -> bytes:
    """Return the member of a bundle that holds a fit."""
    return npz_bytes(fit_arrays(fit))


def fitted_model(base: Model, data: bytes, name: str, model_id: bytes, size: int) -> Model:
    """Return the model that comes of a base and the member that holds a fit of it.

    Args:
        base: the base.
        data: the member.
        name: of the fitted model.
        model_id: its id.
        size: of its bundle, in bytes.

    Raises:
        KeyError, ValueError, CorruptError: the member is damaged, or the base has no mixer.
    """
    if base.mixer is None:
        raise ValueError(f"the base {base.name} of a fitted model does not code by mixing")
    fit = fit_from(base.id, read_npz(data))
    return replace(base, name=name, id=model_id, mixer=fitted_mixer(base.mixer, fit), fit=fit, size=size)
