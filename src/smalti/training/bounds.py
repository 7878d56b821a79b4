# SPDX-License-Identifier: MIT
"""Prove that an integer graph is exact in float32: no sum, in any order, can need more than 24 bits.

Every tensor is followed as the largest absolute value and the unit (a power of two that divides every value) of each
channel. Values that are multiples of a unit and less than 2^24 of it are float32 numbers, and so are the results of
adding and multiplying them; a matrix product is bounded by the sum of the absolute values of its terms, which no
partial sum exceeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from smalti.errors import TrainingError
from smalti.masked import EXACT

Array = NDArray[np.float64]
ANCHORS_INPUT = "anchors"
"""The input whose entries, none negative, sum to the largest that one of them may be."""
MOVING = ("Identity", "Cast", "Reshape", "Transpose", "DepthToSpace", "Slice", "Tile", "Resize")
"""Operators that compute nothing."""


@dataclass(frozen=True, eq=False)
class Range:
    """What a tensor may hold: of each channel (axis 1), or one entry for all."""

    most: Array  # largest absolute value
    unit: Array  # every value is a multiple of it

    def whole(self) -> "Range":
        """The same for all channels together."""
        return Range(self.most.max(keepdims=True), self.unit.min(keepdims=True))


def check_bounds(data: bytes, inputs: Mapping[str, int]) -> None:
    """Prove that the graph `data` (ONNX) is exact for integer inputs of at most these absolute values.

    Raises:
        TrainingError: it could be inexact, or has an operator for which this proof knows no rule.
    """
    graph = onnx.load_model_from_string(data).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    ranges = {name: Range(np.array([float(most)]), np.ones(1)) for name, most in inputs.items()}
    for node in graph.node:
        if all(name in constants for name in node.input):  # weights and their scales
            constants[node.output[0]] = _constant(node, [constants[name] for name in node.input])
            continue
        result = _range(node, constants, ranges)
        worst = float((result.most / result.unit).max())
        if worst >= EXACT:
            raise TrainingError(
                f"{node.op_type} {node.output[0]} could reach {worst:.0f} units, beyond the {EXACT} that float32 holds"
                " exactly; train with smaller weights"
            )
        ranges[node.output[0]] = result


def _constant(node: onnx.NodeProto, values: list[NDArray[np.generic]]) -> NDArray[np.generic]:
    match node.op_type:
        case "Cast":
            return values[0].astype(np.float32)
        case "Mul":
            product: NDArray[np.generic] = np.multiply(values[0], values[1])
            return product
        case "Transpose":
            return values[0].T
    raise TrainingError(f"no rule to prove {node.op_type} of constants exact")


def _range(node: onnx.NodeProto, constants: Mapping[str, NDArray[np.generic]], ranges: Mapping[str, Range]) -> Range:
    def get(i: int) -> Range:
        name = node.input[i]
        if name in ranges:
            return ranges[name]
        values = constants[name].astype(np.float64)
        return Range(np.abs(values).ravel(), _unit(values.reshape(-1, 1)))

    if node.op_type == "Gather":  # from a table of integers
        table = constants[node.input[0]].astype(np.float64)
        columns = table.T if table.ndim == 2 else table.reshape(1, -1)
        return Range(np.abs(columns).max(1), _unit(columns))
    x = get(0)
    match node.op_type:
        case "Floor":
            return Range(np.ceil(x.most), np.ones_like(x.unit))
        case "Clip":
            low, high = (float(constants[name]) for name in node.input[1:3])
            return Range(np.minimum(x.most, max(abs(low), abs(high))), x.unit)
        case "Add":
            y = get(1)
            return Range(x.most + y.most, np.minimum(x.unit, y.unit))
        case "Concat":
            y = get(1)
            return Range(np.maximum(x.most.max(), y.most.max())[None], np.minimum(x.unit.min(), y.unit.min())[None])
        case "MatMul" | "Conv":
            w = constants[node.input[1]].astype(np.float64)
            rows = w.T if node.op_type == "MatMul" else w.reshape(len(w), -1)
            bias = get(2) if len(node.input) == 3 else None
            return _product(rows, x.whole(), bias, sums=node.input[0] != ANCHORS_INPUT)
    if node.op_type in MOVING:
        return x if _keeps_channels(node, constants) else x.whole()
    raise TrainingError(f"no rule to prove {node.op_type} exact")


def _product(rows: Array, x: Range, bias: Range | None, *, sums: bool) -> Range:
    """sums: whether all entries may be as large as one may be."""
    most = np.abs(rows).sum(1) if sums else np.abs(rows).max(1)
    result = Range(most * x.most, _unit(rows) * x.unit)
    return result if bias is None else Range(result.most + bias.most, np.minimum(result.unit, bias.unit))


def _keeps_channels(node: onnx.NodeProto, constants: Mapping[str, NDArray[np.generic]]) -> bool:
    """Whether a Reshape only adds height and width of 1 behind the channels."""
    return node.op_type == "Reshape" and constants[node.input[1]].tolist()[2:] == [1, 1]


def _unit(rows: Array) -> Array:
    """The largest power of two that divides every entry of a row; at most 1."""
    units = np.ones(len(rows))
    for i, row in enumerate(rows):
        values = np.abs(row[row != 0])
        while len(values) and (values / units[i] % 1).any():
            units[i] /= 2
            if units[i] < 2.0**-60:
                raise TrainingError("a weight is no integer times a power of two; it cannot be exact")
    return units
