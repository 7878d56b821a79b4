# SPDX-License-Identifier: MIT
"""Export a mixer as a model bundle."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from smalti.model.bundle import bundle_bytes
from smalti.model.empty_model import no_latents
from smalti.model.masked_mlp import POINTS
from smalti.model.mixing.mixer import Mixer, check_mixer
from smalti.model.model import Model
from smalti.types import Shape


def mixer_bundle(name: str, mixer: Mixer, image_shape: Shape, training: Mapping[str, Any]) -> bytes:
    """Return the bundle of a model that codes by mixing and in no other way.

    Args:
        name: of the model.
        mixer: the mixer; it is proven not to overflow.
        image_shape: h w c of images for which a single file need not say its shape.
        training: provenance, as in `Model`.
    """
    check_mixer(mixer)
    grid, prior = no_latents()
    model = Model(
        name=name,
        id=b"",
        image_shape=image_shape,
        patches=1,
        grid=grid,
        prior=prior,
        multipliers=np.ones(POINTS),
        measured=(),
        training=training,
        networks={},
        mixer=mixer,
    )
    return bundle_bytes(model)
