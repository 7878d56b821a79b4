# SPDX-License-Identifier: MIT
"""Export a trained autoencoder as a model bundle, with a prior fitted to its code.

Its decoder is exact, as in every bundle. Weights have 8 bits; those of the waist, where one weight moves the whole
image, have up to 16. Activations are calibrated on training images: those of each layer are scaled so that the largest
ones fit. A layer of many inputs takes activations of 8 bits, so that its sums stay exact without coarser weights; the
others take 10 bits.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from smalti.errors import TrainingError
from smalti.model.latent_prior import LATENT_MAX
from smalti.model.masked_mlp import POINTS, QUALITY_EMBEDDINGS
from smalti.model.model import ANALYSIS, SYNTHESIS
from smalti.training.export.export_codec import assemble, draft_model, integer_prior
from smalti.training.export.onnx_graph import GraphBuilder, prove, whole_layer
from smalti.training.export.prior_fit import fit_prior
from smalti.training.networks.autoencoder import Autoencoder, Conv, Pool, Transform, Upsample
from smalti.training.networks.codec_network import lagrangian
from smalti.training.networks.integers import weight_shift
from smalti.types import Progress

CALIBRATION_IMAGES = 256
FIT_IMAGES = 8000
"""The prior is fitted to the code of so many images."""
WIDE = 600
"""A layer with more inputs for an output than this takes activations of 8 bits."""
NARROW, NARROW_WEIGHT = 72, 32_000
"""A layer with at most so many inputs has integer weights up to NARROW_WEIGHT, as far as its sums allow."""
TANH_ONE = 256
TANH_MAX = 1023
"""The largest index of the table of tanh, where tanh has long reached white."""
MIDDLE_STEP = 0.16
"""The quantisation step of quality 50, in standard deviations of the code (their mean over its positions)."""

MULTIPLIERS = (2.0, 6400.0)
"""The Lagrange multipliers (bits that a squared error of 1 is worth) at both ends of quality."""


def export_autoencoder(
    model: Autoencoder,
    name: str,
    pixels: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    training: Mapping[str, Any],
    progress: Progress | None = None,
) -> bytes:
    """Return the bundle of `model`; the arguments are those of `export_codec.export_bundle`.

    Raises:
        TrainingError: the code is the same for all images, a network is not exact, or engines differ.
    """
    model = model.eval().to("cpu")
    _, h, w = pixels.shape
    y = _code(model, pixels[:FIT_IMAGES])
    if not y.std(0).mean() > 0:  # also if it is not a number
        raise TrainingError("the code is the same for all images: training collapsed; train with another --seed")
    one = 2.0 ** np.floor(np.log2(LATENT_MAX / y.max()))  # the integer that stands for 1.0
    networks = {
        ANALYSIS: _analysis_onnx(model.g_a, (h, w), one),
        SYNTHESIS: _synthesis_onnx(model.g_s, torch.from_numpy(y[:CALIBRATION_IMAGES]), (h, w), one),
    }
    quality = 1 + np.arange(POINTS) * 99 / (POINTS - 1)
    step = MIDDLE_STEP * float(y.std(0).mean()) * one * 2 ** ((50 - quality) / 20)
    steps = np.rint(step).clip(1, LATENT_MAX).astype(np.int64)[:, None].repeat(y.shape[1], 1)
    multipliers = lagrangian(torch.arange(POINTS) / (POINTS - 1), MULTIPLIERS).double().numpy()
    prior = integer_prior(fit_prior((y * one).astype(np.float32), steps))
    draft = draft_model(name, (h, w, 1), 1, multipliers, networks, prior, steps, training)
    return assemble(draft, pixels[:400], held_out[:250], progress)  # it is slow


@torch.no_grad()
def _code(model: Autoencoder, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the float code (`n l`) of images (`n h w`)."""
    parts = torch.split(torch.tensor(pixels[:, None]), 64)
    return np.concatenate([model.g_a(x.float() / 255).flatten(1).numpy() for x in parts])


def _analysis_onnx(g_a: Transform, side: tuple[int, int], one: float) -> bytes:
    """Return g_a as a float graph; it takes embedding weights as every analysis does, but does not use them."""
    graph, convs, x = GraphBuilder(), iter(g_a.convs), "x"
    for layer in g_a.layers:
        if isinstance(layer, Pool):
            x = graph.add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
            continue
        conv = next(convs)
        w, b = (graph.half(getattr(conv, part).detach().numpy()) for part in ("weight", "bias"))
        assert isinstance(layer, Conv)
        x = graph.add("Relu", [graph.add("Conv", [x, w, b], pads=[layer.k // 2] * 4)])
    h, w_ = side
    y = graph.add("Mul", [graph.reshape(x, -1, h * w_ // 16), graph.constant(np.float32(one))])
    return graph.bytes([("x", ["n", 1, h, w_]), ("anchors", ["n", QUALITY_EMBEDDINGS])], (y, ["r", h * w_ // 16]))


@torch.no_grad()
def _synthesis_onnx(g_s: Transform, y: torch.Tensor, side: tuple[int, int], one: float) -> bytes:
    """Return g_s as an integer graph, calibrated on the code `y` (`n l`)."""
    h, w = side
    graph, convs = GraphBuilder(), iter(g_s.convs)
    outputs = g_s.steps(y.view(-1, 1, h // 4, w // 4))
    x, one_in, most = graph.reshape("v", -1, 1, h // 4, w // 4), one, LATENT_MAX
    wide = [layer.c_in * layer.k**2 for layer in g_s.layers if isinstance(layer, Conv)]
    for layer, output in zip(g_s.layers, outputs, strict=True):
        if isinstance(layer, Upsample):
            scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
            modes = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
            x = graph.add("Resize", [x, "", scales], **modes)
            continue
        conv = next(convs)
        wide = wide[1:]
        if wide:
            ceiling = 255 if wide[0] > WIDE else 1023
            one_out = float(2.0 ** np.floor(np.log2(ceiling / float(output.max()))))
        else:
            ceiling, one_out = TANH_MAX, float(TANH_ONE)
        weights, bias = conv.weight, conv.bias
        assert isinstance(weights, torch.Tensor)
        assert isinstance(bias, torch.Tensor)
        largest = NARROW_WEIGHT if weights[0].numel() <= NARROW else 127
        k = weight_shift(weights, most, largest).long().numpy()
        k = np.minimum(k, 24 - int(np.log2(one_in) - np.log2(one_out)))  # shifts of 24 at most
        whole = whole_layer(
            weights.numpy(),
            bias.numpy(),
            None,
            k,
            one_in=one_in,
            one_out=np.array(one_out),
            offset=np.array(0),
            largest=largest,
        )
        x = graph.clip(graph.linear(x, None, whole), ceiling)
        one_in, most = one_out, ceiling
    table = np.rint(255 * np.tanh(np.arange(TANH_MAX + 1) / TANH_ONE)).astype(np.float32)
    x = graph.add("Gather", [graph.constant(table), graph.add("Cast", [x], to=7)])  # int64
    data = graph.bytes([("v", ["r", h * w // 16]), ("anchors", ["n", QUALITY_EMBEDDINGS])], (x, ["n", 1, h, w]))
    prove(data)
    return data
