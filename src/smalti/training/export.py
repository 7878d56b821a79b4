# SPDX-License-Identifier: MIT
"""A trained codec to a model bundle.

weights -> integers -> ONNX, bounds proven -> symbols of training images -> grid -> self-check -> measured -> bundle
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smalti.bundle import ANALYSIS, SYNTHESIS, Measured, Model, bundle_bytes
from smalti.codec import analyse, payload_bytes, synthesise
from smalti.control import DEFAULT_EFFORT
from smalti.errors import TrainingError
from smalti.metrics import mse, psnr
from smalti.prior import (
    ACTIVATION_MAX,
    ANCHORS,
    CDF_ONE,
    CDF_RANGE,
    CDF_STEPS,
    COMPONENTS,
    INVERSE_BITS,
    LATENT_MAX,
    POINTS,
    SCALES,
    SUBSTEPS,
    WEIGHT_ONE,
    WEIGHT_RANGE,
    Grid,
    anchor_weights,
)
from smalti.prior import Prior as IntegerPrior
from smalti.search import EFFORTS
from smalti.training.bounds import check_bounds
from smalti.training.graph import Graph, Whole, whole_layer
from smalti.training.network import (
    ACTIVATION_ONE,
    LATENT_ONE,
    LOGIT_ONE,
    NARROWEST,
    PIXEL_ONE,
    WIDTHS_AN_OCTAVE,
    Analysis,
    Codec,
    Prior,
    Synthesis,
    lagrangian,
    weight_shift,
)
from smalti.training.reference import run_numpy, run_torch

Arrays = dict[str, NDArray[Any]]
Progress = Callable[[int, int], None]

RANGE_MAX = 2000
"""No symbol is further from 0."""


def _numpy(x: Tensor) -> NDArray[np.float32]:
    return x.detach().cpu().float().numpy()


def _whole(layer: nn.Module, anchors: Tensor | None, most: int, one_in: int, one_out: int) -> Whole:
    w, b = layer.weight, layer.bias
    assert isinstance(w, Tensor)
    assert isinstance(b, Tensor)
    k = weight_shift(w, most).long().numpy()
    q = None if anchors is None else _numpy(anchors)
    return whole_layer(_numpy(w), _numpy(b), q, k, one_in=one_in, one_out=np.array(one_out), offset=np.array(0))


def synthesis_onnx(g_s: Synthesis) -> bytes:
    """g_s as an integer graph: latents `v` (`n*cells l`) and anchors (`n ANCHORS`) to pixels (`n c h w`).

    Raises:
        TrainingError: a sum could leave what float32 holds exactly.
    """
    one = ACTIVATION_ONE
    size, graph = g_s.size, Graph()
    (rows, columns), (ch, cw) = size.cells, (size.cell[0] // 4, size.cell[1] // 4)
    quarter, c = size.synthesis[1], size.image[2]
    cell_anchors = graph.a_cell_each("anchors", rows * columns)
    x = graph.linear("v", cell_anchors, _whole(g_s.hidden, g_s.hidden_anchors, LATENT_MAX, LATENT_ONE, one))
    x = graph.clip(x, ACTIVATION_MAX)
    x = graph.clip(graph.linear(x, None, _whole(g_s.spread, None, ACTIVATION_MAX, one, one)), ACTIVATION_MAX)
    if rows * columns > 1:
        x = graph.reshape(x, -1, rows, columns, quarter, ch, cw)
        x = graph.add("Transpose", [x], perm=[0, 3, 1, 4, 2, 5])
    x = graph.reshape(x, -1, quarter, rows * ch, columns * cw)
    for i, (conv, anchors) in enumerate(zip(g_s.convs, g_s.anchors, strict=True)):
        layer = _whole(conv, anchors, ACTIVATION_MAX, one, PIXEL_ONE if i == 3 else one)
        y = graph.linear(x, "anchors", layer)
        if i in (0, 2):
            y = graph.add("Add", [y, x])
        x = graph.clip(y, 255 if i == 3 else ACTIVATION_MAX)
        if i in (1, 3):
            x = graph.add("DepthToSpace", [x], blocksize=2, mode="CRD")
    h, w, _ = size.image
    if (h, w) != (4 * rows * ch, 4 * columns * cw):
        ends = [graph.constant(np.array(ends)) for ends in ([0, 0], [h, w], [2, 3])]
        x = graph.add("Slice", [x, *ends])
    data = graph.bytes([("v", ["r", size.latents]), ("anchors", ["n", ANCHORS])], x, ["n", c, h, w])
    check_bounds(data, {"v": LATENT_MAX, "anchors": SUBSTEPS})
    return data


def analysis_onnx(g_a: Analysis) -> bytes:
    """g_a as a float graph: `x` (`n c h w` in [0, 1]) and anchors (`n ANCHORS`) to latents (`n*cells l`)."""
    size, graph = g_a.size, Graph()
    (rows, columns), (ch, cw), (h, w, c) = size.cells, size.cell, size.image

    def bias(anchors: str, q: Tensor, b: Tensor | None = None) -> str:
        scaled = _numpy(q) / SUBSTEPS + (0 if b is None else _numpy(b) / SUBSTEPS)  # the weights add up to SUBSTEPS
        return graph.add("MatMul", [anchors, graph.constant(scaled.astype(np.float32))])

    def dense(x: str, layer: nn.Linear) -> str:
        return graph.add("MatMul", [x, graph.half(_numpy(layer.weight).T)])

    x = "x"
    if (h, w) != (rows * ch, columns * cw):
        pads = graph.constant(np.array([0, 0, 0, 0, 0, 0, rows * ch - h, columns * cw - w]))
        x = graph.add("Pad", [x, pads], mode="edge")
    x = graph.reshape(x, -1, c, rows * ch // 2, 2, columns * cw // 2, 2)
    x = graph.add("Transpose", [x], perm=[0, 1, 3, 5, 2, 4])
    x = graph.reshape(x, -1, 4 * c, rows * ch // 2, columns * cw // 2)
    for i, (conv, anchors) in enumerate(zip(g_a.convs, g_a.anchors, strict=True)):
        assert isinstance(conv, nn.Conv2d)
        pad, stride = int(conv.padding[0]), int(conv.stride[0])
        y = graph.add("Conv", [x, graph.half(_numpy(conv.weight))], pads=[pad] * 4, strides=[stride] * 2)
        y = graph.add("Add", [y, graph.reshape(bias("anchors", anchors, conv.bias), -1, conv.out_channels, 1, 1)])
        y = graph.add("Relu", [y])
        x = graph.add("Add", [x, y]) if i in (1, 3) else y
    features = size.analysis[0]
    if rows * columns > 1:
        x = graph.reshape(x, -1, features, rows, ch // 4, columns, cw // 4)
        x = graph.add("Transpose", [x], perm=[0, 2, 4, 1, 3, 5])
    x = graph.reshape(x, -1, features * (ch // 4) * (cw // 4))
    anchors = graph.a_cell_each("anchors", rows * columns)
    y = graph.add("Add", [dense(x, g_a.hidden), bias(anchors, g_a.hidden_anchors, g_a.hidden.bias)])
    y = graph.add("Add", [dense(graph.add("Relu", [y]), g_a.out), dense(x, g_a.skip)])
    y = graph.add("Add", [y, bias(anchors, g_a.out_anchors, g_a.out.bias + g_a.skip.bias)])
    y = graph.add("Mul", [y, graph.constant(np.float32(LATENT_ONE))])
    return graph.bytes([("x", ["n", c, h, w]), ("anchors", ["n", ANCHORS])], y, ["r", size.latents])


def prior_arrays(prior: Prior) -> Arrays:
    """The fields of `smalti.prior.Prior`."""
    kinds = np.repeat([0, 1, 2], [COMPONENTS, COMPONENTS, COMPONENTS - 1])  # centres, widths, logits of a latent
    one = np.array([LATENT_ONE, WIDTHS_AN_OCTAVE, LOGIT_ONE])[kinds]
    offset = np.array([0, NARROWEST * WIDTHS_AN_OCTAVE, 0])[kinds]
    arrays: Arrays = {}
    for i, name in enumerate("123"):
        most, one_in = (LATENT_MAX, LATENT_ONE) if i == 0 else (ACTIVATION_MAX, ACTIVATION_ONE)
        w, b, q = prior.weights(i), prior.layers[i].bias, prior.anchors[i]
        assert isinstance(b, Tensor)
        k = weight_shift(w, most).long().numpy()
        if i == 2:
            one_out, add = np.tile(one, prior.latents), np.tile(offset, prior.latents)
        else:
            one_out, add = np.array(ACTIVATION_ONE), np.array(0)
        whole = whole_layer(_numpy(w), _numpy(b), _numpy(q), k, one_in=one_in, one_out=one_out, offset=add)
        arrays |= {f"{part}{name}": getattr(whole, part) for part in "wbqs"}
    z = np.arange(-CDF_RANGE * CDF_STEPS, CDF_RANGE * CDF_STEPS + 1) / CDF_STEPS
    logits = np.arange(-WEIGHT_RANGE, WEIGHT_RANGE + 1) / LOGIT_ONE
    widths = np.exp2(np.arange(SCALES) / WIDTHS_AN_OCTAVE)
    arrays["cdf"] = np.rint(CDF_ONE / (1 + np.exp(-z))).astype(np.int32)
    arrays["weights"] = np.rint(WEIGHT_ONE / (1 + np.exp(-logits))).astype(np.int32)
    arrays["inverse"] = np.rint((CDF_STEPS << INVERSE_BITS) / (2 * widths)).astype(np.int32)
    return arrays


def step_array(log_steps: NDArray[np.float32]) -> NDArray[np.int64]:
    """Quantisation steps (`POINTS l`) from those of the anchors (log2, `ANCHORS l`)."""
    logs = anchor_weights(np.arange(POINTS)) @ log_steps / SUBSTEPS
    steps: NDArray[np.int64] = np.rint(np.exp2(logs) * LATENT_ONE).clip(1, LATENT_MAX).astype(np.int64)
    return steps


def export_bundle(
    model: Codec,
    name: str,
    pixels: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    training: Mapping[str, Any],
    progress: Progress | None = None,
) -> bytes:
    """The bundle of `model`.

    Args:
        model: trained, on the CPU.
        name: of the model.
        pixels: images it was trained on (`n h w` or `n h w c`), to find the ranges of the symbols.
        held_out: images it was not trained on, to measure it.
        training: provenance.
        progress: called with the number of operating points done, and of all.

    Raises:
        TrainingError: a network is not exact, or engines differ.
    """
    codec = model.eval().to("cpu")
    networks = {SYNTHESIS: synthesis_onnx(codec.g_s), ANALYSIS: analysis_onnx(codec.g_a)}
    multipliers = lagrangian(torch.arange(POINTS) / (POINTS - 1)).double().numpy()
    prior = prior_arrays(codec.prior)
    return assemble(
        Parts(
            name,
            codec.size.image,
            codec.size.cells[0] * codec.size.cells[1],
            multipliers,
            networks,
            prior,
            step_array(_numpy(codec.log_steps)),
            training,
        ),
        pixels,
        held_out,
        progress,
    )


@dataclass(frozen=True, eq=False)
class Parts:
    """What every kind of model is exported from."""

    name: str
    image_shape: tuple[int, int, int]
    cells: int
    multipliers: NDArray[np.float64]
    networks: Mapping[str, bytes]
    prior: Arrays
    steps: NDArray[np.int64]
    training: Mapping[str, Any]
    images: tuple[int, int] = (4000, 1000)  # to find the ranges of the symbols, to measure the model


def assemble(
    parts: Parts, pixels: NDArray[np.uint8], held_out: NDArray[np.uint8], progress: Progress | None = None
) -> bytes:
    """Find the ranges of the symbols, check the engines, measure, and write the bundle. As `export_bundle`."""
    low, high = np.zeros_like(parts.steps), np.zeros_like(parts.steps)
    draft, seen = _model(parts, low, high, ()), pixels[: parts.images[0]]
    every = range(0, POINTS, SUBSTEPS // 2)
    lows, highs = [], []
    for point in every:
        y = draft.analyse(seen, np.full(len(seen), point))
        symbols = np.rint(y / parts.steps[point])
        lows.append(symbols.min(0) - 1)
        highs.append(symbols.max(0) + 1)
        if progress:
            progress(1, 2 * len(every))
    for i in range(draft.latents):
        low[:, i] = np.floor(np.interp(np.arange(POINTS), every, [row[i] for row in lows])).clip(-RANGE_MAX, 0)
        high[:, i] = np.ceil(np.interp(np.arange(POINTS), every, [row[i] for row in highs])).clip(0, RANGE_MAX)
    model = _model(parts, low, high, ())
    check_engines(model)
    measured = []
    for point in every:
        measured.append(_measure(model, held_out[: parts.images[1]], point))
        if progress:
            progress(1, 2 * len(every))
    decoder = _decoder(parts, low, high)
    return bundle_bytes(
        parts.name,
        parts.image_shape,
        parts.cells,
        decoder,
        parts.multipliers,
        parts.networks,
        tuple(measured),
        parts.training,
    )


def _decoder(parts: Parts, low: NDArray[np.int64], high: NDArray[np.int64]) -> Arrays:
    grid = {"steps": parts.steps, "low": low, "high": high}
    return {name: array.astype(np.int16) for name, array in grid.items()} | parts.prior


def _model(parts: Parts, low: NDArray[np.int64], high: NDArray[np.int64], measured: tuple[Measured, ...]) -> Model:
    return Model(
        name=parts.name,
        id=bytes(8),
        image_shape=parts.image_shape,
        cells=parts.cells,
        grid=Grid(parts.steps, low, high),
        prior=IntegerPrior(**parts.prior),
        multipliers=parts.multipliers,
        measured=measured,
        training=parts.training,
        networks=parts.networks,
    )


def _measure(model: Model, x: NDArray[np.uint8], point: int) -> Measured:
    """Payload and PSNR of images at an operating point, at the default effort."""
    code = analyse(x, np.full(len(x), point), model, EFFORTS[DEFAULT_EFFORT])
    error = mse(x, synthesise(code, model))
    return Measured(point, round(float(payload_bytes(code, model).mean()), 3), round(psnr(max(error, 1e-9)), 3))


def check_engines(model: Model, rows: int = 8) -> None:
    """Hold onnxruntime against int64 and torch, on random latents that go to all extremes.

    Raises:
        TrainingError: they differ.
    """
    rng = np.random.default_rng(0)
    spread = rng.choice([1, 30, 300, LATENT_MAX], (rows * model.cells, 1))
    v = (rng.normal(size=(rows * model.cells, model.latents)) * spread).round().clip(-LATENT_MAX, LATENT_MAX)
    points = rng.integers(0, POINTS, rows)
    inputs = {"v": v, "anchors": anchor_weights(points)}
    expected = run_numpy(model.networks[SYNTHESIS], inputs)
    c = model.image_shape[2]
    got = model.synthesise(v.astype(np.int64), points)
    got = got[:, None] if c == 1 else got.transpose(0, 3, 1, 2)
    if (got != expected).any() or (run_torch(model.networks[SYNTHESIS], inputs) != expected).any():
        raise TrainingError("onnxruntime, torch and plain integers give different pixels; report this, please")
