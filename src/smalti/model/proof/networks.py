# SPDX-License-Identifier: MIT
"""Check the networks of a stranger's model before any of them runs.

A bundle may come from anybody, and its networks run on the user's machine. A network that decodes is proven to be
exact, so that it gives the same pixels everywhere, and to give integers in the range that the next step takes. A
network that only the encoder needs may round, but may use only known operators. All are proven to have the shapes that
the manifest states, and to need no more time and memory than fixed limits.
"""

from collections.abc import Mapping

from smalti.model.masked_mlp import ACTIVATION_MAX, EXACT, QUALITY_EMBEDDINGS
from smalti.model.model import ANALYSIS, FEATURES, POST_FILTER, SPATIAL_ANALYSIS, SYNTHESIS, Model
from smalti.model.pixel_prior import SAMPLE_MAX
from smalti.model.proof.exactness import SIZES, Tensor, check_bounds
from smalti.model.proof.onnx_reader import Graph, read_onnx
from smalti.model.proof.shape_inference import Shape, fold, infer

Shapes = dict[str, Shape]
"""The shapes of inputs by their names, for one image; first the number of rows for an image."""


def check_networks(model: Model) -> None:
    """Prove all networks of a model, and check them against its manifest and its arrays.

    Raises:
        ValueError: a network could be inexact, is too large, or has other shapes or operators than it should have.
    """
    h, w, c = model.image_shape
    embeddings, v = (1, QUALITY_EMBEDDINGS), (model.patches, model.latents)
    spatial, features = (1, *model.spatial_shape), (1, 0, 0, 0)
    needed: dict[str, tuple[Shapes, Shape, int]] = {
        SYNTHESIS: ({"v": v, "anchors": embeddings}, (1, c, h, w), SAMPLE_MAX)
    }
    if model.spatial is not None:
        features = (1, model.spatial.features, *model.positions)
        needed[FEATURES] = ({"v": v, "anchors": embeddings}, features, ACTIVATION_MAX)
        needed[SYNTHESIS] = ({"features": features, "u": spatial, "anchors": embeddings}, (1, c, h, w), SAMPLE_MAX)
    if model.has_latents:
        for network, (inputs, result, most) in needed.items():
            _decoding(network, model, inputs, result, most)
    if POST_FILTER in model.networks:
        if model.pixels is None:
            raise ValueError(f"{POST_FILTER} is there, but no pixel prior")
        for side in (SIZES["h"], 1):  # what holds for both holds for all
            quads = (1, 4 * model.pixels.window.channels, side, side)
            sides = {**SIZES, "h": side, "w": side}
            _decoding(POST_FILTER, model, {"x": quads, "errors": (1,)}, quads, None, sides)
    _encoding(model, {"x": (1, c, h, w), "anchors": embeddings, "steps": v}, v, features, spatial)


def _decoding(
    network: str,
    model: Model,
    inputs: Shapes,
    result: Shape,
    most: int | None,
    sizes: Mapping[str, int] = SIZES,
) -> None:
    """Prove a network that decodes.

    most: the largest result allowed, where results must not be negative; None where only their exactness matters.
    """
    graph = _graph(network, model)
    try:
        tensors = check_bounds(graph, model.patches, sizes=sizes)
    except ValueError as exc:
        raise ValueError(f"{network}: {exc}") from exc
    _same(network, {name: tensors[name].shape for name in graph.inputs}, inputs)
    _same(network, dict(enumerate(tensors[name].shape for name in graph.outputs)), {0: result})
    if not _whole(tensors[graph.outputs[0]], most):
        kind = "integers" if most is None else f"integers from 0 to {most}"
        raise ValueError(f"{network} could give other numbers than {kind}")


def _whole(result: Tensor, most: int | None) -> bool:
    largest = float(result.range.most.max())
    in_range = largest < EXACT if most is None else largest <= most and not result.range.signed
    return in_range and bool(result.range.unit.min() >= 1)


def _encoding(model: Model, inputs: Shapes, latents: Shape, features: Shape, spatial: Shape) -> None:
    """Check the networks that only the encoder needs, where the model has them."""
    if ANALYSIS not in model.networks:
        return
    graph = _graph(ANALYSIS, model)
    shapes = _shapes(ANALYSIS, graph, model.patches)
    found = {name: shapes[name] for name in graph.inputs}
    _same(ANALYSIS, found, {name: shape for name, shape in inputs.items() if name in found})
    results = [shapes[name] for name in graph.outputs]
    positions = results[1] if len(results) > 1 else ()
    _same(ANALYSIS, dict(enumerate(results)), {0: latents} if model.spatial is None else {0: latents, 1: positions})
    if model.spatial is not None and SPATIAL_ANALYSIS in model.networks:
        graph = _graph(SPATIAL_ANALYSIS, model)
        shapes = _shapes(SPATIAL_ANALYSIS, graph, model.patches)
        needed = {"sites": positions, "features": features, "anchors": inputs["anchors"]}
        _same(SPATIAL_ANALYSIS, {name: shapes[name] for name in graph.inputs}, needed)
        _same(SPATIAL_ANALYSIS, dict(enumerate(shapes[name] for name in graph.outputs)), {0: spatial})


def _shapes(network: str, graph: Graph, patches: int) -> Mapping[str, Shape]:
    try:
        return infer(graph, *fold(graph), {"r": patches, **SIZES}, exact=False)
    except ValueError as exc:
        raise ValueError(f"{network}: {exc}") from exc


def _graph(network: str, model: Model) -> Graph:
    try:
        return read_onnx(model.networks[network])
    except ValueError as exc:
        raise ValueError(f"{network}: {exc}") from exc


def _same(
    network: str, found: Mapping[str, Shape] | Mapping[int, Shape], expected: Mapping[str, Shape] | Mapping[int, Shape]
) -> None:
    if found != expected:
        raise ValueError(f"{network} takes or gives {found} for an image, not {expected}")
