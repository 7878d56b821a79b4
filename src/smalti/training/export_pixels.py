# SPDX-License-Identifier: MIT
"""A trained network for lossless coding in integers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from smalti.bundle import Model, bundle_bytes, no_latents
from smalti.errors import TrainingError
from smalti.lossless import encode_pixel_block, pixel_block_images
from smalti.masked import ACTIVATION_MAX, ANCHORS, POINTS
from smalti.pixels import SAMPLE_MAX, PixelPrior, Window
from smalti.training.export import Progress, logistics
from smalti.training.graph import Whole, to_numpy, whole_layer
from smalti.training.integers import LATENT_ONE, LOGIT_ONE, NARROWEST, WIDTHS_AN_OCTAVE, weight_shift
from smalti.training.pixels import SAMPLE_ONE, UNIT_ONE, WEIGHT_MAX, PixelNet

MEASURED_IMAGES = 500
"""Held-out images that the model is measured on."""
CHECKED = 2000
"""Random windows on which engines are compared."""


def export_pixels(
    model: PixelNet,
    name: str,
    pixels: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    training: Mapping[str, Any],
    progress: Progress | None = None,
    base: Model | None = None,
) -> bytes:
    """The bundle of `model`, with the lossy part of `base` if there is one. Arguments as for `export.export_bundle`.

    Raises:
        TrainingError: engines differ.
    """
    net = model.eval().to("cpu")
    prior = integer_pixels(net)
    check_integers(prior)
    x = held_out[:MEASURED_IMAGES]
    draft = replace(base or _lossless_only(name, pixels.shape), name=name, pixels=prior)
    block = pixel_block_images((*x.shape[1:], 1)[:3])
    parts = [x[i : i + block] for i in range(0, len(x), block)]
    payload = 0
    for part in parts:
        payload += len(encode_pixel_block(part, 0, draft))
        if progress:
            progress(1, len(parts))
    own = {"bytes_an_image": round(payload / len(x), 3), "size": vars(net.size), **training}
    return bundle_bytes(replace(draft, training={**draft.training, "lossless": own}))


def _lossless_only(name: str, shape: tuple[int, ...]) -> Model:
    h, w, c = (*shape[1:], 1)[:3]
    return Model(name, bytes(8), (h, w, c), 1, *no_latents(), np.ones(POINTS), (), {}, {})


def check_integers(prior: PixelPrior) -> None:
    """Hold float32 against int64, on random windows that go to all extremes.

    Raises:
        TrainingError: they differ.
    """
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 256, (CHECKED, prior.window.samples), dtype=np.uint8)
    windows[::2] = rng.choice([0, 255], windows[::2].shape)
    places = rng.integers(0, len(prior.rows), CHECKED), rng.integers(0, len(prior.columns), CHECKED)
    if (prior.mixtures(windows, *places) != plain_mixtures(prior, windows, *places)).any():
        raise TrainingError("float32 and plain integers give different results; report this, please")


def plain_mixtures(
    prior: PixelPrior, windows: NDArray[np.uint8], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.int64]:
    """`PixelPrior.mixtures` in int64, from the definition."""
    x, last = windows.astype(np.int64), len(prior.weights) - 1
    for i, (w, b, s) in enumerate(zip(prior.weights, prior.biases, prior.shifts, strict=True)):
        y = x @ w.T.astype(np.int64) + b
        if i == 0:
            y = y + prior.rows[rows] + prior.columns[columns]
        y >>= s.astype(np.int64)
        x = y if i == last else (y if i == 0 else x + y).clip(0, ACTIVATION_MAX)
    return x


def integer_pixels(net: PixelNet) -> PixelPrior:
    """The integers of `net`."""
    size, k = net.size, net.size.components
    kinds = np.repeat([0, 1, 2], [k, k, k - 1])  # centres, widths, logits
    of_outputs = np.array([LATENT_ONE, WIDTHS_AN_OCTAVE, LOGIT_ONE])[kinds]
    offset = np.array([0, NARROWEST * WIDTHS_AN_OCTAVE, 0])[kinds]
    rows, columns = to_numpy(net.rows), to_numpy(net.columns)
    places = np.abs(rows).max(0) + np.abs(columns).max(0)
    units = np.full(size.width, UNIT_ONE)
    layers = []
    for i, layer in enumerate(net.layers):
        top, one = (SAMPLE_MAX, SAMPLE_ONE) if i == 0 else (ACTIVATION_MAX, UNIT_ONE)
        layers.append(_whole(layer, top, one, units, room=places if i == 0 else None))
    layers.append(_whole(net.out, ACTIVATION_MAX, UNIT_ONE, of_outputs, gains=net.gains, offset=offset))
    scale = np.exp2(layers[0].s.astype(np.float64)) * UNIT_ONE  # as the first layer's bias
    return PixelPrior(
        Window(size.channels, size.above, size.reach, size.left),
        tuple(layer.w.astype(np.int16) for layer in layers),
        tuple(layer.b for layer in layers),
        tuple(layer.s for layer in layers),
        np.rint(rows * scale).astype(np.int32),
        np.rint(columns * scale).astype(np.int32),
        logistics(),
    )


def _whole(
    layer: nn.Module,
    top: int,
    one_in: int,
    one_out: np.ndarray,
    *,
    gains: Tensor | None = None,
    offset: np.ndarray | None = None,
    room: np.ndarray | None = None,
) -> Whole:
    """room: what else is added to each output, at most."""
    w, b = layer.weight, layer.bias
    assert isinstance(w, Tensor)
    assert isinstance(b, Tensor)
    if gains is not None:
        w, b = w * gains[:, None], b * gains
    return whole_layer(
        to_numpy(w),
        to_numpy(b),
        None if room is None else np.tile(room, (ANCHORS, 1)),
        weight_shift(w, top, WEIGHT_MAX).long().numpy(),
        one_in=one_in,
        one_out=one_out,
        offset=np.zeros(len(one_out), np.int64) if offset is None else offset,
        largest=WEIGHT_MAX,
    )
