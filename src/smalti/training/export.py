# SPDX-License-Identifier: MIT
"""A trained network to a model bundle: ONNX graphs, quantisation steps, frequency tables.

weights -> ONNX -> latents of the training images -> for each quality: step, symbols, tables -> bundle
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from smalti.bundle import ANALYSIS, RUN_IMAGES, SYNTHESIS, Point, bundle_bytes
from smalti.errors import TrainingError
from smalti.tables import MAX_SYMBOLS, fit_table
from smalti.training.network import Autoencoder, Conv, Pool, Transform, Upsample

OPSET = 17
IR_VERSION = 8
"""Old enough for every onnxruntime that smalti's range admits."""

QUALITIES = (10, 25, 40, 50, 60, 75, 90)
"""Operating points; 20 more halve the step, which costs about a bit a latent."""
MIDDLE_STEP = 0.16
"""Step of quality 50, in standard deviations of the code (mean over its positions)."""
FIT_IMAGES = 20_000
"""Images that the tables are fitted on; more change nothing that can be measured."""


def export_bundle(
    model: Autoencoder,
    name: str,
    pixels: NDArray[np.uint8],
    training: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> bytes:
    """The bundle of `model`, its tables fitted on `pixels` (`n h w`, the images it was trained on).

    Raises:
        TrainingError: the code says nothing of the images.
    """
    _, h, w = pixels.shape
    networks = {ANALYSIS: onnx_bytes(model.g_a, 1, "x", "y"), SYNTHESIS: onnx_bytes(model.g_s, 1, "y_hat", "x_hat")}
    y = latents(networks[ANALYSIS], pixels[:FIT_IMAGES], progress)
    spread = float(y.std(0).mean())
    if not spread > 0:  # also if it is not a number
        raise TrainingError("the code is the same for all images: training collapsed; train with another --seed")
    steps = {quality: MIDDLE_STEP * spread * 2 ** ((50 - quality) / 20) for quality in QUALITIES}
    points = tuple(_point(quality, step, y) for quality, step in steps.items())
    return bundle_bytes(name, (h, w, 1), (1, h // 4, w // 4), points, training, networks)


def latents(
    analysis: bytes, pixels: NDArray[np.uint8], progress: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    """The code (`n p`) that the exported g_a gives `pixels` (`n h w`)."""
    session = ort.InferenceSession(analysis, providers=["CPUExecutionProvider"])
    parts = []
    for start in range(0, len(pixels), RUN_IMAGES):
        x = pixels[start : start + RUN_IMAGES, None].astype(np.float32) / 255  # n 1 h w
        parts.append(session.run(None, {"x": x})[0].reshape(len(x), -1))
        if progress:
            progress(len(x), len(pixels))
    return np.concatenate(parts)


def _point(quality: int, step: float, y: NDArray[np.float32]) -> Point:
    """An operating point: its tables count the symbols of the training images, a table a position."""
    symbols = np.rint(y / np.float32(step)).clip(0, MAX_SYMBOLS - 1).astype(np.int64)  # n p
    return Point(quality, step, tuple(fit_table(column) for column in symbols.T))


def onnx_bytes(transform: Transform, c_in: int, source: str, target: str) -> bytes:
    """A transform as an ONNX graph from `source` (`n c h w`, float32) to `target`.

    Weights are stored as float16, which halves the bundle, and computed with as float32.
    """
    nodes, weights = [], []
    convs = iter(transform.convs)
    at = source
    for i, layer in enumerate(transform.layers):
        after = f"h{i}"
        match layer:
            case Conv(k=k, activation=activation):
                conv = next(convs)
                for part in ("weight", "bias"):
                    values = getattr(conv, part).detach().cpu().numpy().astype(np.float16)
                    weights.append(numpy_helper.from_array(values, f"{part}{i}_half"))
                    nodes.append(helper.make_node("Cast", [f"{part}{i}_half"], [f"{part}{i}"], to=TensorProto.FLOAT))
                nodes.append(helper.make_node("Conv", [at, f"weight{i}", f"bias{i}"], [f"conv{i}"], pads=[k // 2] * 4))
                nodes.append(helper.make_node({"relu": "Relu", "tanh": "Tanh"}[activation], [f"conv{i}"], [after]))
            case Pool():
                nodes.append(helper.make_node("MaxPool", [at], [after], kernel_shape=[2, 2], strides=[2, 2]))
            case Upsample():
                weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), f"scales{i}"))
                nodes.append(
                    helper.make_node(
                        "Resize",
                        [at, "", f"scales{i}"],
                        [after],
                        mode="nearest",
                        nearest_mode="floor",
                        coordinate_transformation_mode="asymmetric",
                    )
                )
        at = after
    nodes.append(helper.make_node("Identity", [at], [target]))
    graph = helper.make_graph(
        nodes,
        "transform",
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, ["n", c_in, "h", "w"])],
        [helper.make_tensor_value_info(target, TensorProto.FLOAT, ["n", 1, "h2", "w2"])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
