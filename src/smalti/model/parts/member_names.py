# SPDX-License-Identifier: MIT
"""The names of the members of a bundle."""

from smalti.model.model import ANALYSIS, FEATURES, POST_FILTER, SPATIAL_ANALYSIS, SYNTHESIS

MANIFEST = "manifest.json"
DECODER, SPATIAL, PIXELS, MIXING, FIT, TRANSFORM, CHANGES = (
    "decoder.npz",
    "local.npz",
    "pixels.npz",
    "mixing.npz",
    "fit.npz",
    "transform.npz",
    "changes.npz",
)
DECODING = (SYNTHESIS, DECODER, FEATURES, SPATIAL, PIXELS, POST_FILTER, MIXING, FIT, TRANSFORM, CHANGES)
"""The members on which decoding depends; a bundle has some of them."""
ENCODING = (ANALYSIS, SPATIAL_ANALYSIS)
"""The members that only the encoder needs; a bundle may lack them."""
MEMBERS = (*DECODING, *ENCODING)
