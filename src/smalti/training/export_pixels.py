# SPDX-License-Identifier: MIT
"""A trained network for lossless coding in integers."""

import numpy as np
from torch import Tensor, nn

from smalti.masked import ACTIVATION_MAX, ANCHORS
from smalti.pixels import SAMPLE_MAX, PixelPrior, Window
from smalti.training.export import logistics
from smalti.training.graph import Whole, to_numpy, whole_layer
from smalti.training.integers import ACTIVATION_ONE, LATENT_ONE, LOGIT_ONE, NARROWEST, WIDTHS_AN_OCTAVE, weight_shift
from smalti.training.pixels import SAMPLE_ONE, PixelNet


def integer_pixels(net: PixelNet) -> PixelPrior:
    """The integers of `net`."""
    size, k = net.size, net.size.components
    kinds = np.repeat([0, 1, 2], [k, k, k - 1])  # centres, widths, logits
    of_outputs = np.array([LATENT_ONE, WIDTHS_AN_OCTAVE, LOGIT_ONE])[kinds]
    offset = np.array([0, NARROWEST * WIDTHS_AN_OCTAVE, 0])[kinds]
    rows, columns = to_numpy(net.rows), to_numpy(net.columns)
    places = np.abs(rows).max(0) + np.abs(columns).max(0)
    units = np.full(size.width, ACTIVATION_ONE)
    layers = []
    for i, layer in enumerate(net.layers):
        top, one = (SAMPLE_MAX, SAMPLE_ONE) if i == 0 else (ACTIVATION_MAX, ACTIVATION_ONE)
        layers.append(_whole(layer, top, one, units, room=places if i == 0 else None))
    layers.append(_whole(net.out, ACTIVATION_MAX, ACTIVATION_ONE, of_outputs, gains=net.gains, offset=offset))
    scale = np.exp2(layers[0].s.astype(np.float64)) * ACTIVATION_ONE  # as the first layer's bias
    return PixelPrior(
        Window(size.channels, size.above, size.reach, size.left),
        tuple(layer.w.astype(np.int8) for layer in layers),
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
        weight_shift(w, top).long().numpy(),
        one_in=one_in,
        one_out=one_out,
        offset=np.zeros(len(one_out), np.int64) if offset is None else offset,
    )
