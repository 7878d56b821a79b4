# SPDX-License-Identifier: MIT
"""Write the codec's networks as ONNX graphs: g_s in integers, proven exact; g_a in floats."""

import numpy as np
from torch import Tensor, nn

from smalti.model.latent_prior import LATENT_MAX
from smalti.model.masked_mlp import ACTIVATION_MAX, QUALITY_EMBEDDINGS, SUBSTEPS
from smalti.training.export.onnx_graph import GraphBuilder, Port, Whole, prove, to_numpy, whole_layer
from smalti.training.networks.integers import ACTIVATION_ONE, LATENT_ONE, PIXEL_ONE, weight_shift
from smalti.training.networks.transforms import (
    POSITION_PIXELS,
    SPATIAL_GAIN,
    Analysis,
    Size,
    SpatialAnalysis,
    Synthesis,
)


def _whole(layer: nn.Module, embeddings: Tensor | None, most: int, one_in: int, one_out: int) -> Whole:
    w, b = layer.weight, layer.bias
    assert isinstance(w, Tensor)
    assert isinstance(b, Tensor)
    k = weight_shift(w, most).long().numpy()
    q = None if embeddings is None else to_numpy(embeddings)
    return whole_layer(to_numpy(w), to_numpy(b), q, k, one_in=one_in, one_out=np.array(one_out), offset=np.array(0))


def _conv(graph: GraphBuilder, g_s: Synthesis, i: int, x: str) -> str:
    one = ACTIVATION_ONE
    most, one_in = (LATENT_MAX, LATENT_ONE) if i == 1 else (ACTIVATION_MAX, one)
    layer = _whole(g_s.convs[i], g_s.embeddings[i], most, one_in, PIXEL_ONE if i == 4 else one)
    return graph.linear(x, "anchors", layer, f"convs.{i}")


def features_onnx(g_s: Synthesis) -> bytes:
    """Return the first half of g_s: latents `v` (`n*patches l`) and embedding weights to features (`n k H W`).

    Raises:
        TrainingError: a sum could leave what float32 holds exactly.
    """
    one = ACTIVATION_ONE
    size, graph = g_s.size, GraphBuilder()
    (rows, columns), (ch, cw) = size.patches, (size.patch[0] // POSITION_PIXELS, size.patch[1] // POSITION_PIXELS)
    quarter = size.synthesis[1]
    patch_embeddings = graph.a_patch_each("anchors", rows * columns)
    hidden = _whole(g_s.hidden, g_s.hidden_embeddings, LATENT_MAX, LATENT_ONE, one)
    spread = _whole(g_s.spread, None, ACTIVATION_MAX, one, one)
    x = graph.clip(graph.linear("v", patch_embeddings, hidden, "hidden"), ACTIVATION_MAX)
    x = graph.clip(graph.linear(x, None, spread, "spread"), ACTIVATION_MAX)
    if rows * columns > 1:
        x = graph.reshape(x, -1, rows, columns, quarter, ch, cw)
        x = graph.add("Transpose", [x], perm=[0, 3, 1, 4, 2, 5])
    x = graph.reshape(x, -1, quarter, rows * ch, columns * cw)
    x = graph.clip(graph.add("Add", [_conv(graph, g_s, 0, x), x]), ACTIVATION_MAX)
    inputs: list[Port] = [("v", ["r", size.latents]), ("anchors", ["n", QUALITY_EMBEDDINGS])]
    data = graph.bytes(inputs, (x, ["n", quarter, *size.positions]))
    prove(data, rows * columns)
    return data


def synthesis_onnx(g_s: Synthesis) -> bytes:
    """Return the rest of g_s: features, spatial latents `u` (`n c H W`) and embedding weights to pixels (`n c h w`).

    Raises:
        TrainingError: a sum could leave what float32 holds exactly.
    """
    size, graph = g_s.size, GraphBuilder()
    details = graph.clip(_conv(graph, g_s, 1, "u"), ACTIVATION_MAX)
    x = _conv(graph, g_s, 2, graph.add("Concat", ["features", details], axis=1))
    x = graph.add("DepthToSpace", [graph.clip(x, ACTIVATION_MAX)], blocksize=2, mode="CRD")
    x = graph.clip(graph.add("Add", [_conv(graph, g_s, 3, x), x]), ACTIVATION_MAX)
    x = graph.add("DepthToSpace", [graph.clip(_conv(graph, g_s, 4, x), 255)], blocksize=2, mode="CRD")
    h, w, c = size.image
    rows, columns = size.positions
    if (h, w) != (POSITION_PIXELS * rows, POSITION_PIXELS * columns):
        ends = [graph.constant(np.array(ends)) for ends in ([0, 0], [h, w], [2, 3])]
        x = graph.add("Slice", [x, *ends])
    inputs: list[Port] = [
        ("features", ["n", size.synthesis[1], rows, columns]),
        ("u", ["n", size.spatial, rows, columns]),
        ("anchors", ["n", QUALITY_EMBEDDINGS]),
    ]
    data = graph.bytes(inputs, (x, ["n", c, h, w]))
    prove(data)
    return data


def _bias(graph: GraphBuilder, name: str, embeddings: str, q: Tensor, b: Tensor | None) -> str:
    scaled = to_numpy(q) / SUBSTEPS + (0 if b is None else to_numpy(b) / SUBSTEPS)  # the weights add up to SUBSTEPS
    return graph.add("MatMul", [embeddings, graph.constant(scaled.astype(np.float32), f"{name}.q")])


def _float_conv(graph: GraphBuilder, i: int, conv: nn.Module, embeddings: Tensor, x: str, gain: int = 1) -> str:
    assert isinstance(conv, nn.Conv2d)
    pad, stride = int(conv.padding[0]), int(conv.stride[0])
    w = graph.half(gain * to_numpy(conv.weight), f"convs.{i}.w")
    y = graph.add("Conv", [x, w], pads=[pad] * 4, strides=[stride] * 2)
    bias = _bias(graph, f"convs.{i}", "anchors", embeddings, conv.bias)
    return graph.add("Add", [y, graph.reshape(bias, -1, conv.out_channels, 1, 1)])


def _unshuffle(graph: GraphBuilder, x: str, shape: tuple[int, int, int], by: int) -> str:
    """Add torch's pixel_unshuffle by a factor `by`; shape: c h w of `x`."""
    c, h, w = shape
    x = graph.reshape(x, -1, c, h // by, by, w // by, by)
    x = graph.add("Transpose", [x], perm=[0, 1, 3, 5, 2, 4])
    return graph.reshape(x, -1, by * by * c, h // by, w // by)


def analysis_onnx(g_a: Analysis) -> bytes:
    """Return g_a as a float graph.

    It takes `x` (`n c h w` in [0, 1]), embedding weights (`n QUALITY_EMBEDDINGS`) and steps (`n*patches l`), and gives
    rounded latents (`n*patches l`) and features of positions (`n j H W`).
    """
    size, graph = g_a.size, GraphBuilder()
    (rows, columns), (ch, cw), (h, w, c) = size.patches, size.patch, size.image
    half, quarter, _ = size.analysis
    height, width = rows * ch, columns * cw
    pixels = "x"
    if (h, w) != (height, width):
        pads = graph.constant(np.array([0, 0, 0, 0, 0, 0, height - h, width - w]))
        pixels = graph.add("Pad", [pixels, pads], mode="edge")
    x = _unshuffle(graph, pixels, (c, height, width), 2)
    for i, (conv, embeddings) in enumerate(zip(g_a.convs, g_a.embeddings, strict=True)):
        y = graph.add("Relu", [_float_conv(graph, i, conv, embeddings, x)])
        if i == 4:
            break
        x = graph.add("Add", [x, y]) if i in (1, 3) else y
    positions = graph.add("Concat", [x, _unshuffle(graph, pixels, (c, height, width), POSITION_PIXELS)], axis=1)
    if rows * columns > 1:
        y = graph.reshape(y, -1, half, rows, ch // POSITION_PIXELS, columns, cw // POSITION_PIXELS)
        y = graph.add("Transpose", [y], perm=[0, 2, 4, 1, 3, 5])
    patches = graph.reshape(y, -1, half * (ch // POSITION_PIXELS) * (cw // POSITION_PIXELS))
    latents = _latents(graph, g_a, patches)
    inputs: list[Port] = [("x", ["n", c, h, w]), ("anchors", ["n", QUALITY_EMBEDDINGS]), ("steps", ["r", size.latents])]
    of_positions: list[str | int] = ["n", quarter + POSITION_PIXELS**2 * c, *size.positions]
    return graph.bytes(inputs, (latents, ["r", size.latents]), (positions, of_positions))


def _latents(graph: GraphBuilder, g_a: Analysis, patches: str) -> str:
    """Add what `Analysis.latents` computes, in the units of integer latents."""
    size = g_a.size
    embeddings = graph.a_patch_each("anchors", size.patches[0] * size.patches[1])

    def dense(x: str, weights: Tensor, name: str) -> str:
        return graph.add("MatMul", [x, graph.half(to_numpy(weights).T, f"{name}.w")])

    def large(x: str, weights: Tensor, name: str) -> str:
        return graph.add("MatMul", [x, graph.byte(to_numpy(weights).T, name)])

    def part(x: str, start: int, end: int) -> str:
        ends = [graph.constant(np.array([at])) for at in (start, end, 1)]
        return graph.add("Slice", [x, *ends])

    bias = _bias(graph, "hidden", embeddings, g_a.hidden_embeddings, g_a.hidden.bias)
    h = graph.add("Relu", [graph.add("Add", [large(patches, g_a.hidden.weight, "hidden"), bias])])
    y = graph.add("Add", [dense(h, g_a.out.weight, "out"), large(patches, g_a.skip.weight, "skip")])
    base = graph.add("Add", [y, _bias(graph, "out", embeddings, g_a.out_embeddings, g_a.out.bias + g_a.skip.bias)])
    context = dense(h, g_a.mend_hidden.weight, "mend_hidden")
    context = graph.add("Add", [context, graph.constant(to_numpy(g_a.mend_hidden.bias), "mend_hidden.b")])
    groups, units = size.groups
    k = size.latents // groups
    one = graph.constant(np.float32(LATENT_ONE))
    rounded: list[str] = []
    errors: list[str] = []
    for g in range(groups):
        mine, own = slice(g * k, (g + 1) * k), slice(g * units, (g + 1) * units)
        y = part(base, mine.start, mine.stop)
        if g:
            seen = errors[0] if g == 1 else graph.add("Concat", errors, axis=1)
            hidden = dense(seen, g_a.mend_errors.weight[own, : g * k], f"mend_errors.{g}")
            hidden = graph.add("Relu", [graph.add("Add", [part(context, own.start, own.stop), hidden])])
            y = graph.add("Add", [y, dense(hidden, g_a.mend_out.weight[mine, own], f"mend_out.{g}")])
        y = graph.add("Mul", [y, one])
        steps = part("steps", mine.start, mine.stop)
        half = graph.constant(np.float32(0.5))
        whole = graph.add("Floor", [graph.add("Add", [graph.add("Div", [y, steps]), half])])
        rounded.append(graph.add("Mul", [whole, steps]))
        errors.append(graph.add("Div", [graph.add("Sub", [rounded[-1], y]), one]))
    return graph.add("Concat", rounded, axis=1)


def spatial_analysis_onnx(g_a: SpatialAnalysis, size: Size) -> bytes:
    """Return the rest of g_a as a float graph.

    It takes features of positions (`n j H W`), features of g_s (`n k H W`, integers) and embedding weights, and gives
    spatial latents (`n c H W`).
    """
    graph, one = GraphBuilder(), np.float32(1 / ACTIVATION_ONE)
    features = graph.add("Mul", ["features", graph.constant(one)])
    x = graph.add("Concat", ["sites", features], axis=1)
    for i, (conv, embeddings) in enumerate(zip(g_a.convs, g_a.embeddings, strict=True)):
        y = _float_conv(graph, i, conv, embeddings, x, SPATIAL_GAIN if i == 2 else 1)
        if i == 2:
            break
        y = graph.add("Relu", [y])
        x = y if i == 0 else graph.add("Add", [x, y])
    y = graph.add("Mul", [y, graph.constant(np.float32(LATENT_ONE))])
    found = size.analysis[1] + POSITION_PIXELS**2 * size.image[2]
    inputs: list[Port] = [
        ("sites", ["n", found, *size.positions]),
        ("features", ["n", size.synthesis[1], *size.positions]),
        ("anchors", ["n", QUALITY_EMBEDDINGS]),
    ]
    return graph.bytes(inputs, (y, ["n", size.spatial, *size.positions]))
