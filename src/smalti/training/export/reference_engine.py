# SPDX-License-Identifier: MIT
"""Run integer graphs in numpy's int64 and in torch, as references for the engines that run networks.

In int64, values are fixed-point numbers: multiples of 2^-24. Weights are multiples of 2^-24 too, so that only Floor
rounds.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

POINT = 24
"""The number of bits behind the binary point."""


def run_numpy(data: bytes, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return the result of the graph `data` for integer `inputs`, computed in int64 from end to end."""
    fixed = {name: values.astype(np.int64) << POINT for name, values in inputs.items()}
    result: NDArray[np.int64] = _run(data, fixed, _fixed_constant, _numpy_linear)
    return result >> POINT


def run_torch(data: bytes, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return the result of the graph `data` for integer `inputs`; torch computes its products in float32."""
    floats = {name: values.astype(np.float32) for name, values in inputs.items()}
    result: NDArray[Any] = _run(data, floats, lambda values: values, _torch_linear)
    return result.astype(np.int64)


def _fixed_constant(values: NDArray[Any]) -> NDArray[Any]:
    """Return weights as fixed-point numbers; shapes and indices stay as they are."""
    if values.dtype != np.float32:
        return values
    fixed = values.astype(np.float64) * 2.0**POINT
    whole = fixed.astype(np.int64)
    if (whole != fixed).any():
        raise ValueError(f"a weight is no multiple of 2^-{POINT}")
    return whole


Linear = Callable[[str, NDArray[Any], NDArray[Any], NDArray[Any] | None], NDArray[Any]]


def _run(
    data: bytes, values: dict[str, NDArray[Any]], constant: Callable[[NDArray[Any]], NDArray[Any]], linear: Linear
) -> NDArray[Any]:
    graph = onnx.load_model_from_string(data).graph
    plain = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values = dict(values)
    for node in graph.node:
        names, out = [name for name in node.input if name], node.output[0]
        if all(name in plain for name in names):  # weights and their scales
            plain[out] = _constant(node, [plain[name] for name in names])
            continue
        inputs = [values[name] if name in values else constant(plain[name]) for name in names]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        values[out] = _node(node.op_type, inputs, attributes, linear)
    return values[graph.output[0].name]


def _node(kind: str, inputs: list[NDArray[Any]], attributes: dict[str, Any], linear: Linear) -> NDArray[Any]:
    """Return the result of a node for its inputs: tensors first, then shapes and the like."""
    x, *rest = inputs
    match kind:
        case "Identity" | "Cast":
            return x
        case "MatMul" | "Conv":
            return linear(kind, x, rest[0], rest[1] if len(rest) > 1 else None)
        case "Add":
            total: NDArray[Any] = x + rest[0]
            return total
        case "Concat":
            return np.concatenate(inputs, 1)
        case "Floor":
            return x >> POINT << POINT if x.dtype == np.int64 else np.floor(x)
        case "Clip":
            return x.clip(rest[0], rest[1])
        case "Gather":  # from a table, by integers
            picked: NDArray[Any] = x[rest[0] >> POINT if x.dtype == np.int64 else rest[0].astype(np.int64)]
            return picked
    return _moved(kind, x, rest, attributes)


def _moved(kind: str, x: NDArray[Any], rest: list[NDArray[Any]], attributes: dict[str, Any]) -> NDArray[Any]:
    """Return the result of a node that only moves numbers."""
    match kind:
        case "Reshape":
            return x.reshape(rest[0])
        case "Transpose":
            return x.transpose(attributes["perm"])
        case "Tile":
            return np.tile(x, rest[0])
        case "Resize":  # nearest neighbour, twice the size
            return x.repeat(2, 2).repeat(2, 3)
        case "Slice":
            cuts = {axis: slice(start, end) for start, end, axis in zip(*rest, strict=True)}
            return x[tuple(cuts.get(axis, slice(None)) for axis in range(x.ndim))]
        case "DepthToSpace":
            n, c, h, w = x.shape
            b = attributes["blocksize"]
            parts = x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
            return parts.reshape(n, c // b**2, h * b, w * b)
    raise ValueError(f"no rule for {kind}")


def _constant(node: onnx.NodeProto, values: list[NDArray[Any]]) -> NDArray[Any]:
    match node.op_type:
        case "Cast":
            return values[0].astype(np.float32)
        case "Mul":
            product: NDArray[Any] = values[0] * values[1]
            return product
        case "Transpose":
            return values[0].T
    raise ValueError(f"no rule for {node.op_type} of constants")


def _numpy_linear(kind: str, x: NDArray[Any], w: NDArray[Any], b: NDArray[Any] | None) -> NDArray[np.int64]:
    x = x >> POINT
    if kind == "MatMul":
        product: NDArray[np.int64] = x @ w
        return product
    k = w.shape[2]
    h, width = x.shape[2:]
    x = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    y = np.zeros((len(x), len(w), h, width), np.int64)
    for i in range(k):
        for j in range(k):
            y += np.tensordot(x[:, :, i : i + h, j : j + width], w[:, :, i, j], (1, 1)).transpose(0, 3, 1, 2)
    return y if b is None else y + b[:, None, None]


def _torch_linear(kind: str, x: NDArray[Any], w: NDArray[Any], b: NDArray[Any] | None) -> NDArray[Any]:
    left, right = torch.tensor(x), torch.tensor(w)
    if kind == "MatMul":
        product: NDArray[Any] = (left @ right).numpy()
        return product
    bias = None if b is None else torch.tensor(b)
    y: NDArray[Any] = torch.nn.functional.conv2d(left, right, bias, padding=int(w.shape[2] // 2)).numpy()
    return y
