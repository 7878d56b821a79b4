# SPDX-License-Identifier: MIT
"""Export trained networks that code by pixels as a model bundle.

The steps are: turn weights into integers and prove their bounds, compare the engines, train the post-filter on what the
encoder really gives, measure the operating points on held-out images, and write the bundle.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smalti.codec.batching import block_images
from smalti.codec.block_codec import encode_images
from smalti.codec.rdo import EFFORTS, FAST_EFFORT
from smalti.errors import TrainingError
from smalti.model.empty_model import no_latents
from smalti.model.engines.network import engine, start
from smalti.model.masked_mlp import ACTIVATION_MAX, POINTS, QUALITY_EMBEDDINGS
from smalti.model.model import POST_FILTER, Model
from smalti.model.operating_points import OperatingPoint
from smalti.model.pixel_prior import MAX_ERROR, SAMPLE_MAX, PixelPrior, Window
from smalti.rate.metrics import mse, psnr
from smalti.training.export.export_codec import hold_engines, logistics, proven_bundle, some_images
from smalti.training.export.onnx_graph import GraphBuilder, Port, Whole, prove, to_numpy, whole_layer
from smalti.training.networks.integers import (
    ACTIVATION_ONE,
    LATENT_ONE,
    LOGIT_ONE,
    NARROWEST,
    WIDTHS_AN_OCTAVE,
    weight_shift,
)
from smalti.training.networks.pixel_network import UNIT_ONE, WEIGHT_MAX, PixelCodec, PixelNet, pixel_size_record
from smalti.training.networks.post_filter import SAMPLE_ONE, PostFilter, error_embeddings
from smalti.training.tasks.post_filter_task import settle
from smalti.types import Progress

MEASURED_IMAGES = 500
"""The model is measured on so many held-out images."""
ERRORS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15, 16, 18, 21, 23, 25, 28, 31, 32, 36, 42, 50, 63, 84, 126)
"""The largest errors at which it is measured; qualities choose among them."""
CHECKED = 2000
"""The engines are compared on so many random windows."""


def export_pixels(
    model: PixelCodec,
    name: str,
    pixels: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    training: Mapping[str, Any],
    progress: Progress | None = None,
    base: Model | None = None,
    share: float = 1.0,
) -> bytes:
    """Return the bundle of `model`, with the latents of `base`, if it has any.

    The arguments are those of `export_codec.export_bundle`.

    Raises:
        TrainingError: a network is not exact, or engines differ.
    """
    codec = model.eval().to("cpu")
    prior = integer_pixels(codec.net)
    check_integers(prior)
    tell, of_filter = progress or (lambda _, __: None), len(ERRORS)
    whole = of_filter + 1 + len(ERRORS)
    settle(codec.post_filter, prior, pixels, share=share, parts=of_filter, progress=lambda: tell(1, whole))
    network = post_filter_onnx(codec.post_filter)
    check_post_filter(network, codec.size.channels)
    draft = base or _only_pixels(name, pixels.shape)
    draft = replace(draft, name=name, pixels=prior, networks={**draft.networks, POST_FILTER: network})
    x = held_out[: some_images(MEASURED_IMAGES, pixels.shape[1:], share)]
    lossless = _measure(draft, x, 0).bytes
    tell(1, whole)
    by_quality = [point for point in draft.measured if not point.pixels]
    for error in ERRORS:
        by_quality.append(_measure(draft, x, error))
        tell(1, whole)
    own = {"bytes_an_image": round(lossless, 3), "size": pixel_size_record(codec.size), **training}
    return proven_bundle(replace(draft, measured=tuple(by_quality), training={**draft.training, "pixels": own}))


def _only_pixels(name: str, shape: tuple[int, ...]) -> Model:
    h, w, c = (*shape[1:], 1)[:3]
    return Model(name, bytes(8), (h, w, c), 1, *no_latents(), np.ones(POINTS), (), {}, {})


def _measure(model: Model, x: NDArray[np.uint8], error: int) -> OperatingPoint:
    """Return the operating point of coding by pixels up to `error`, with the payload and PSNR of images."""
    point, size, left = OperatingPoint(pixels=True, setting=error, bytes=0.0, psnr=0.0), 0.0, 0.0
    step = block_images((*x.shape[1:], 1)[:3])
    for part in (x[i : i + step] for i in range(0, len(x), step)):
        (block,) = encode_images([part], point, model, EFFORTS[FAST_EFFORT])
        size += float(block.rate.sum())
        left += mse(part, block.x_hat) * len(part)
    return replace(point, bytes=round(size / len(x), 3), psnr=round(psnr(max(left / len(x), 1e-9)), 3))


def post_filter_onnx(network: PostFilter) -> bytes:
    """Return the post-filter as an integer graph: 2x2 samples (`n 4c h w`) and largest errors (`n`) to corrections.

    Raises:
        TrainingError: a sum could leave what float32 holds exactly.
    """
    graph, ends = GraphBuilder(), network.convs[0].in_channels
    assert isinstance(ends, int)
    errors = graph.add("Cast", ["errors"], to=onnx.TensorProto.INT64)
    x, last = "x", len(network.convs) - 1
    for i, (conv, embeddings) in enumerate(zip(network.convs, network.embeddings, strict=True)):
        table = to_numpy(error_embeddings(torch.arange(MAX_ERROR + 1)) @ embeddings)
        top, one_in = (SAMPLE_MAX, SAMPLE_ONE) if i == 0 else (ACTIVATION_MAX, ACTIVATION_ONE)
        one_out = SAMPLE_ONE if i == last else ACTIVATION_ONE
        layer = _whole(conv, top, one_in, np.full(len(table[0]), one_out), room=np.abs(table).max(0), largest=127)
        whole = np.rint(table * np.exp2(layer.s.astype(np.float64)) * one_out)
        shifted = (whole * np.exp2(-layer.s.astype(np.float64))).astype(np.float32)
        plus = graph.add("Gather", [graph.constant(shifted, f"convs.{i}.errors"), errors], axis=0)
        plus = graph.reshape(plus, -1, len(layer.b), 1, 1)
        y = graph.linear(x, None, layer, f"convs.{i}", plus)
        if i < last:
            x = graph.clip(y if i == 0 else graph.add("Add", [y, x]), ACTIVATION_MAX)
    inputs: list[Port] = [("x", ["n", ends, "h", "w"]), ("errors", ["n"])]
    data = graph.bytes(inputs, (y, ["n", ends, "h", "w"]))
    prove(data)
    return data


def check_post_filter(network: bytes, channels: int) -> None:
    """Compare the engine that runs networks with int64 and torch, on random samples that include extreme ones.

    Raises:
        TrainingError: the results differ.
    """
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (8, 4 * channels, 7, 6))
    x[::2] = rng.choice([0, SAMPLE_MAX], x[::2].shape)
    inputs = {"x": x, "errors": rng.integers(0, MAX_ERROR + 1, len(x))}
    ready = start(network, engine(), exact=True, patches=1, threads=0)
    (got,) = ready.run({name: values.astype(np.float32) for name, values in inputs.items()}, len(x))
    hold_engines(network, inputs, got)


def check_integers(prior: PixelPrior) -> None:
    """Compare float32 with int64, on random windows that include extreme ones.

    Raises:
        TrainingError: the results differ.
    """
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 256, (CHECKED, prior.window.samples), dtype=np.uint8)
    windows[::2] = rng.choice([0, 255], windows[::2].shape)
    places = [rng.integers(0, len(table), CHECKED) for table in (prior.rows, prior.columns, prior.errors)]
    if (prior.mixtures(windows, *places) != plain_mixtures(prior, windows, *places)).any():
        raise TrainingError("float32 and plain integers give different results; report this, please")


def plain_mixtures(
    prior: PixelPrior,
    windows: NDArray[np.uint8],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    errors: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return what `PixelPrior.mixtures` must return, computed in int64 from the definition."""
    x, last = windows.astype(np.int64), len(prior.weights) - 1
    for i, (w, b, s) in enumerate(zip(prior.weights, prior.biases, prior.shifts, strict=True)):
        y = x @ w.T.astype(np.int64) + b
        if i == 0:
            y = y + prior.rows[rows] + prior.columns[columns] + prior.errors[errors]
        y >>= s.astype(np.int64)
        x = y if i == last else (y if i == 0 else x + y).clip(0, ACTIVATION_MAX)
    return x


def output_units(components: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each output of the network, the integer that stands for 1.0, and what is added."""
    kinds = np.repeat([0, 1, 2], [components, components, components - 1])  # centres, widths, logits
    one = np.array([LATENT_ONE, WIDTHS_AN_OCTAVE, LOGIT_ONE])[kinds]
    return one, np.array([0, NARROWEST * WIDTHS_AN_OCTAVE, 0])[kinds]


def integer_pixels(net: PixelNet) -> PixelPrior:
    """Return the pixel prior of `net`, in integers."""
    size, k = net.size, net.size.components
    of_outputs, offset = output_units(k)
    tables = [to_numpy(table) for table in (net.rows, net.columns, net.of_errors())]
    places = sum(np.abs(table).max(0) for table in tables)
    units = np.full(size.width, UNIT_ONE)
    layers = []
    for i, layer in enumerate(net.layers):
        top, one = (SAMPLE_MAX, SAMPLE_ONE) if i == 0 else (ACTIVATION_MAX, UNIT_ONE)
        layers.append(_whole(layer, top, one, units, room=places if i == 0 else None))
    layers.append(_whole(net.out, ACTIVATION_MAX, UNIT_ONE, of_outputs, gains=net.gains, offset=offset))
    scale = np.exp2(layers[0].s.astype(np.float64)) * UNIT_ONE  # as the first layer's bias
    rows, columns, errors = (np.rint(table * scale).astype(np.int32) for table in tables)
    return PixelPrior(
        Window(size.channels, size.above, size.reach, size.left),
        tuple(layer.w.astype(np.int16) for layer in layers),
        tuple(layer.b for layer in layers),
        tuple(layer.s for layer in layers),
        rows,
        columns,
        errors,
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
    largest: int = WEIGHT_MAX,
) -> Whole:
    """Return a layer in integers; room: the most that is added to each output besides its bias."""
    w, b = layer.weight, layer.bias
    assert isinstance(w, Tensor)
    assert isinstance(b, Tensor)
    if gains is not None:
        w, b = w * gains[:, None], b * gains
    return whole_layer(
        to_numpy(w),
        to_numpy(b),
        None if room is None else np.tile(room, (QUALITY_EMBEDDINGS, 1)),
        weight_shift(w, top, largest).long().numpy(),
        one_in=one_in,
        one_out=one_out,
        offset=np.zeros(len(one_out), np.int64) if offset is None else offset,
        largest=largest,
    )
