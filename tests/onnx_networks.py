# SPDX-License-Identifier: MIT
"""Small networks, written with the onnx package."""

import onnx
from onnx import TensorProto, helper

FEW = ("Floor", ["x"], ["y"])


def network(nodes=(FEW,), constants=(), *, x=("n", 4), **model) -> onnx.ModelProto:
    """A small network; nodes: kind, inputs, outputs, attributes."""
    made = [helper.make_node(kind, i, o, **dict(*attributes)) for kind, i, o, *attributes in nodes]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", x), ("y", ["n"]))]
    graph = helper.make_graph(made, "g", ends[:1], ends[1:], list(constants))
    return helper.make_model(graph, **{"opset_imports": [helper.make_opsetid("", 17)], "ir_version": 8} | model)


def write(model: onnx.ModelProto) -> bytes:
    for field in ("producer_name", "doc_string"):
        model.ClearField(field)
    data: bytes = model.SerializeToString()
    return data
