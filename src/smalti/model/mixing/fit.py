# SPDX-License-Identifier: MIT
"""A fit: what a file adds to the mixer of a known model, so that it codes one collection in fewer bytes.

It has two parts. Differences change the weights of the networks. The primer is a stream of a few images of the
collection: whoever reads the file decodes them, and each stream of the file begins with what counters and mixers
learned from them. So what a primer teaches takes no more bytes than its images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.model.mixing.engine import learned, mixing_decoder
from smalti.model.mixing.mixer import CHANNELS, COUNTED, DRAWN_INPUTS, LAYERS, Layer, Mixer, check_layers

PRIMER_BITS = 19
"""The logarithm of the lines of the state in which a primer is coded."""
MAX_KEPT = 1 << 18
"""The most lines that are kept of this state."""
MAX_PRIMER_BYTES, MAX_PRIMER_IMAGES, MAX_PRIMER_SAMPLES = 1 << 16, 1 << 10, 1 << 20
"""The most bytes, images and samples of a primer. They bound the time that it takes to open a file."""
MAX_SHIFT = 16
"""The most bits by which differences are shifted: those of weights (11 fractional bits) and of biases (17)."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A fit of the mixer of a model to a collection."""

    base: bytes  # the id of that model
    differences: NDArray[np.int8]  # of all weights and biases, network after network, layer after layer; or none
    shifts: NDArray[np.uint8]  # n LAYERS 2: by how many bits those of weights and of biases of n networks are shifted
    shapes: NDArray[np.uint16]  # n 3: height, width and channels of the images of the primer
    primer: NDArray[np.uint8]  # the bytes of its stream
    least: int  # a line of the primer's state is kept if one of its counters was used so often, at least


def fit_arrays(fit: Fit) -> dict[str, NDArray[Any]]:
    """Return a fit as named arrays, as a bundle keeps it."""
    arrays = {name: getattr(fit, name) for name in ("differences", "shifts", "shapes", "primer")}
    return arrays | {"least": np.array([fit.least], np.uint8)}


def fit_from(base: bytes, arrays: Mapping[str, NDArray[Any]]) -> Fit:
    """Return the fit of named arrays; the reverse of `fit_arrays`.

    Raises:
        KeyError, ValueError: an array is missing, of another type or shape, or there is more than a fit may hold.
    """
    least = arrays["least"]
    if least.dtype != np.uint8 or least.shape != (1,) or not least[0]:
        raise ValueError("a fit does not say which lines are kept")
    fit = Fit(base, arrays["differences"], arrays["shifts"], arrays["shapes"], arrays["primer"], int(least[0]))
    shapes = fit.shapes
    if (
        fit.differences.dtype != np.int8
        or fit.differences.ndim != 1
        or fit.shifts.dtype != np.uint8
        or fit.shifts.shape not in ((n, LAYERS, 2) for n in (CHANNELS, CHANNELS + len(DRAWN_INPUTS)))
        or shapes.dtype != np.uint16
        or shapes.ndim != 2
        or shapes.shape[1] != 3
        or fit.primer.dtype != np.uint8
        or fit.primer.ndim != 1
    ):
        raise ValueError("the arrays of a fit are of other types or shapes")
    if (fit.shifts > MAX_SHIFT).any():
        raise ValueError(f"differences of a fit are shifted by more than {MAX_SHIFT} bits")
    if (shapes < 1).any() or (shapes[:, 2] > 4).any():
        raise ValueError("a primer has an image without pixels, or of more than 4 channels")
    samples = sum(h * w * c for h, w, c in shapes.tolist())
    if len(shapes) > MAX_PRIMER_IMAGES or samples > MAX_PRIMER_SAMPLES or len(fit.primer) > MAX_PRIMER_BYTES:
        raise ValueError(f"a primer has {len(shapes)} images of {samples} samples in {len(fit.primer)} bytes")
    return fit


def fitted_mixer(mixer: Mixer, fit: Fit) -> Mixer:
    """Return the mixer of the base of a fit, as the fit changes it; its networks are proven not to overflow.

    What mixers and counters learn from a primer stays in their ranges, as what they learn from any stream.

    Raises:
        ValueError: the networks that come of it could overflow, or it has too many lines.
        CorruptError: the primer does not end with its last image.
    """
    changed = changed_networks(mixer, fit.differences, fit.shifts)
    check_layers(changed)
    if not len(fit.shapes):
        return changed
    decoder = mixing_decoder(changed, PRIMER_BITS, fit.primer.tobytes())
    for h, w, c in fit.shapes.tolist():
        decoder.decode((h, w, c), 1)
    decoder.finish()
    start, lines, seen = learned(decoder)
    lines = lines[most_used(lines) >= fit.least]
    if len(lines) > MAX_KEPT:
        raise ValueError(f"a fit keeps {len(lines)} lines; {MAX_KEPT} are allowed")
    others = changed.lines[~np.isin(changed.lines[:, 0], lines[:, 0])]
    return replace(changed, start=start, lines=np.concatenate([lines, others]), seen=seen)


def most_used(lines: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return how often the counter was used that was used most, for each of `lines` (`n SLOTS`)."""
    used: NDArray[np.uint32] = (lines[:, 1:] & COUNTED).max(1, initial=0)
    return used


def changed_networks(mixer: Mixer, differences: NDArray[np.int8], shifts: NDArray[np.uint8]) -> Mixer:
    """Return a mixer with differences added to its networks; none if there are no differences.

    Raises:
        ValueError: the number of differences is not that of weights and biases, or a bias may need more than 32 bits.
    """
    if not len(differences):
        return mixer
    before = mixer.networks + mixer.drawn
    sizes = [array.size for network in before for layer in network for array in (layer.weights, layer.biases)]
    if sum(sizes) != len(differences):
        raise ValueError(f"a fit has {len(differences)} differences, but its base has {sum(sizes)} weights and biases")
    parts = iter(np.split(differences.astype(np.int64), np.cumsum(sizes)[:-1]))
    networks = list[tuple[Layer, Layer, Layer]]()
    for network, of_network in zip(before, shifts.tolist(), strict=True):
        layers = list[Layer]()
        for layer, (by_weights, by_biases) in zip(network, of_network, strict=True):
            weights = layer.weights + (next(parts).reshape(layer.weights.shape) << by_weights)
            biases = layer.biases + (next(parts) << by_biases)
            if np.abs(biases).max(initial=0) >= 1 << 31:
                raise ValueError("a bias of a fitted network may need more than 32 bits")
            layers.append(Layer(weights.clip(-32768, 32767).astype(np.int16), biases.astype(np.int32)))
        networks.append((layers[0], layers[1], layers[2]))
    return replace(mixer, networks=tuple(networks[:CHANNELS]), drawn=tuple(networks[CHANNELS:]))
