# SPDX-License-Identifier: MIT
"""Build ONNX graphs: float ones for the encoder, integer ones for the decoder.

An integer layer computes `floor(w x + b + q e)`, where e are the embedding weights, and w, b and q are integers times a
power of two for each output. Multiplying by a power of two is exact, so float32 is as exact here as on the integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from smalti.errors import TrainingError
from smalti.model.masked_mlp import EXACT, QUALITY_EMBEDDINGS, SUBSTEPS
from smalti.model.proof.exactness import check_bounds
from smalti.model.proof.onnx_reader import IR_VERSION, OPSET, read_onnx

BIAS_SHARE = 0.07
"""The share of 2^24 that the biases of an output may take; the weights leave a tenth."""

Floats = NDArray[np.float32]
Port = tuple[str, Sequence[str | int]]
"""The name and the shape of an input or a result."""


@dataclass(frozen=True, eq=False)
class Whole:
    """A layer in integers: weights (outputs first), bias, biases of the quality embeddings, shift of each output.

    Its result is `(w x + b + q e) >> s`, rounded down; `b` already includes half of 2^s, so it rounds half up.
    """

    w: NDArray[np.int8] | NDArray[np.int16]
    b: NDArray[np.int32]
    q: NDArray[np.int32]  # QUALITY_EMBEDDINGS outputs
    s: NDArray[np.uint8]


def to_numpy(x: Tensor) -> Floats:
    """Return a trained tensor as an array."""
    array: Floats = x.detach().cpu().float().numpy()
    return array


def whole_layer(
    w: Floats,
    b: Floats,
    q: Floats | None,
    k: NDArray[np.int64],
    *,
    one_in: float,
    one_out: NDArray[np.int64],
    offset: NDArray[np.int64],
    largest: int = 127,
) -> Whole:
    """Return a trained layer in integers; the counterpart of `integers.whole_weights`.

    Args:
        w: weights, outputs first.
        b: bias of each output.
        q: biases of the quality embeddings (`QUALITY_EMBEDDINGS outputs`), if there are any.
        k: for each output; its weights become multiples of 2^-k, or of a larger power if its biases need the room.
        one_in, one_out: the integer that stands for 1.0 in the inputs and in each output; powers of two.
        offset: added to each output, after the shift.
        largest: the largest integer weight, as for `integers.weight_shift`.

    Raises:
        TrainingError: a shift is out of range, which no trained layer needs.
    """
    large = np.abs(b) + (0 if q is None else np.abs(q).max(0)) + offset / one_out
    room = np.floor(np.log2(BIAS_SHARE * EXACT / one_in / np.maximum(large, 1e-8))).astype(np.int64)
    k = np.minimum(k, room).clip(1)
    shift = k + int(np.log2(one_in)) - np.log2(one_out).astype(np.int64)
    if shift.min() < 0 or shift.max() > 24:
        raise TrainingError(f"a layer needs shifts from {shift.min()} to {shift.max()}; allowed are 0 to 24")
    scale = np.exp2(k.astype(np.float64)).reshape(-1, *[1] * (w.ndim - 1))
    whole = np.rint(w * scale)
    whole = whole.clip(-127, 127).astype(np.int8) if largest == 127 else whole.clip(-largest, largest).astype(np.int16)
    one = np.exp2(k) * one_in
    bias = np.rint(b * one) + offset * np.exp2(shift) + np.floor(np.exp2(shift - 1.0))
    embeddings = np.zeros((QUALITY_EMBEDDINGS, len(b))) if q is None else np.rint(q * one / SUBSTEPS)
    return Whole(whole, bias.astype(np.int32), embeddings.astype(np.int32), shift.astype(np.uint8))


def prove(data: bytes, patches: int = 1) -> None:
    """Prove that a network that decodes is exact, for images of so many patches.

    Raises:
        TrainingError: a sum could leave what float32 holds exactly.
    """
    try:
        check_bounds(read_onnx(data), patches)
    except ValueError as exc:
        raise TrainingError(f"{exc}; train with smaller weights") from exc


class GraphBuilder:
    """A collector of nodes; its methods add one or a few, and return the name of their result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._n = 0

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node of one output."""
        self._n += 1
        name = f"{kind.lower()}{self._n}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: NDArray[Any] | np.generic, name: str = "") -> str:
        """Add a constant tensor; a name makes it possible to find it again in the file."""
        self._n += 1
        name = name or f"constant{self._n}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def half(self, values: Floats, name: str = "") -> str:
        """Add a constant that is stored as float16 and used as float32."""
        return self.add("Cast", [self.constant(values.astype(np.float16), name)], to=TensorProto.FLOAT)

    def byte(self, values: Floats, name: str) -> str:
        """Add a constant matrix (`in out`) that is stored as int8, with a scale for each column."""
        scale = np.maximum(np.abs(values).max(0), 1e-12) / 127
        whole = self.constant(np.rint(values / scale).astype(np.int8), f"{name}.w")
        cast = self.add("Cast", [whole], to=TensorProto.FLOAT)
        return self.add("Mul", [cast, self.constant(scale.astype(np.float32), f"{name}.scale")])

    def reshape(self, x: str, *shape: int) -> str:
        """Add a change of the shape of `x`; -1 stands for what is left."""
        return self.add("Reshape", [x, self.constant(np.array(shape, np.int64))])

    def clip(self, x: str, high: int) -> str:
        """Add the clipping of `x` to 0 .. `high`."""
        return self.add("Clip", [x, self.constant(np.float32(0)), self.constant(np.float32(high))])

    def linear(self, x: str, embeddings: str | None, layer: Whole, name: str = "", plus: str | None = None) -> str:
        """Add an integer layer, dense (weights `out in`) or a convolution (`out in k k`), without its clipping.

        embeddings: the tensor of embedding weights, if the layer uses them.
        name: the name with which the names of its constants begin.
        plus: a tensor that is added before rounding down, already shifted.
        """

        def named(part: str) -> str:
            return name and f"{name}.{part}"

        scale = np.ldexp(np.float32(1), -layer.s.astype(np.int32))
        weights = self.add("Cast", [self.constant(layer.w, named("w"))], to=TensorProto.FLOAT)
        weights = self.add(
            "Mul", [weights, self.constant(scale.reshape(-1, *[1] * (layer.w.ndim - 1)), named("scale"))]
        )
        bias = self.constant(layer.b.astype(np.float32) * scale, named("b"))
        if layer.w.ndim == 4:
            pad = layer.w.shape[2] // 2
            y = self.add("Conv", [x, weights, bias], pads=[pad] * 4)
        else:
            y = self.add("Add", [self.add("MatMul", [x, self.add("Transpose", [weights], perm=[1, 0])]), bias])
        if embeddings is not None and layer.q.any():
            q = self.add("MatMul", [embeddings, self.constant(layer.q.astype(np.float32) * scale, named("q"))])
            y = self.add("Add", [y, self.reshape(q, -1, len(layer.b), 1, 1) if layer.w.ndim == 4 else q])
        if plus is not None:
            y = self.add("Add", [y, plus])
        return self.add("Floor", [y])

    def a_patch_each(self, embeddings: str, patches: int) -> str:
        """Repeat embedding weights for each patch: `n QUALITY_EMBEDDINGS` to `n*patches QUALITY_EMBEDDINGS`."""
        if patches == 1:
            return embeddings
        tiled = self.add(
            "Tile", [self.reshape(embeddings, -1, 1, QUALITY_EMBEDDINGS), self.constant(np.array([1, patches, 1]))]
        )
        return self.reshape(tiled, -1, QUALITY_EMBEDDINGS)

    def bytes(self, inputs: Sequence[Port], *outputs: Port) -> bytes:
        """Return the ONNX file of the graph from `inputs` to `outputs`: names of results, and their shapes."""
        results = [f"result{i + 1}" for i in range(len(outputs))]
        ends = [helper.make_node("Identity", [x], [result]) for (x, _), result in zip(outputs, results, strict=True)]
        nodes = [*self.nodes, *ends]
        graph = helper.make_graph(
            nodes,
            "transform",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims)) for name, dims in inputs],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims))
                for name, (_, dims) in zip(results, outputs, strict=True)
            ],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString(deterministic=True)
        return data
