# SPDX-License-Identifier: MIT
"""Networks in numpy: the reference for the other engines, and what runs where there is no core.

Sums of networks that decode are exact in any order, so that numpy's matrix product gives them. Networks that only the
encoder needs may round; their sums run over the inputs in the order rows, columns, channels of a window, one after
another, as the core's do.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.model.proof.exactness import prove
from smalti.model.proof.onnx_reader import INT64, Graph, Node
from smalti.model.proof.shape_inference import fold

PIECE = 1 << 14
"""The sums that run side by side where their order counts; more would leave the processor's caches."""
MOST_WINDOWS = 1 << 22
"""The most numbers of the windows of a convolution that are laid out at a time."""

EACH: dict[str, Callable[..., Any]] = {
    "Identity": np.asarray,
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Floor": np.floor,
    "Clip": np.clip,
    "Relu": lambda x: np.maximum(x, 0),
    "Gather": lambda table, places: table[places],
}
"""The operators that need no attributes."""

Array = NDArray[Any]
Floats = NDArray[np.float32]


class NumpyNetwork:
    """A network that numpy runs, node by node."""

    def __init__(self, graph: Graph, *, exact: bool, patches: int) -> None:
        self._graph = graph
        self.inputs = tuple(self._graph.inputs)
        if exact:
            prove(self._graph, patches)
        self._constants, self._nodes = fold(self._graph)
        self._product: Callable[[Array, Array], Array] = np.matmul if exact else sum_in_order

    def run(self, inputs: Mapping[str, Floats], images: int) -> list[Floats]:  # noqa: ARG002 - it sees the rows
        """Return the results, as `Network.run` does."""
        values = dict(self._constants) | {name: inputs[name] for name in self.inputs}
        with np.errstate(all="ignore"):
            for node in self._nodes:
                given = [values[name] for name in node.inputs if name]
                values[node.outputs[0]] = self._node(node, given)
        return [values[name] for name in self._graph.outputs]

    def _node(self, node: Node, given: list[Array]) -> Array:
        x, rest = given[0], given[1:]
        if node.kind in EACH:
            return np.asarray(EACH[node.kind](*given))
        match node.kind:
            case "Cast":
                return x.astype(np.int64 if node.attributes["to"] == INT64 else np.float32)
            case "MatMul":
                return self._product(x, rest[0])
            case "Conv":
                strides = node.attributes.get("strides", (1, 1))
                assert isinstance(strides, tuple)
                return self._conv(x, rest[0], rest[1] if len(rest) > 1 else None, strides[0])
            case "Concat":
                axis = node.attributes["axis"]
                assert isinstance(axis, int)
                return np.concatenate(given, axis)
        return _moved(node, x, rest)

    def _conv(self, x: Array, w: Array, bias: Array | None, stride: int) -> Array:
        k, pad = w.shape[2], w.shape[2] // 2
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), (2, 3))[:, :, ::stride, ::stride]
        windows = windows.transpose(0, 2, 3, 4, 5, 1)  # n h w k k c
        n, h, width = windows.shape[:3]
        rows, weights = h * width, np.ascontiguousarray(w.transpose(2, 3, 1, 0).reshape(-1, len(w)))
        each = max(1, MOST_WINDOWS // (rows * len(weights)))
        parts = [
            self._product(windows[i : i + each].reshape(-1, len(weights)), weights) for i in range(0, max(n, 1), each)
        ]
        sums = np.concatenate(parts).reshape(n, h, width, -1)
        return (sums if bias is None else sums + bias).transpose(0, 3, 1, 2)


def sum_in_order(x: Array, weights: Array) -> Array:
    """Return the matrix product of `x` (`rows inputs`) and weights (`inputs outputs`), summed input by input."""
    rows, outputs = len(x), weights.shape[1]
    sums = np.zeros((rows, outputs), np.float32)
    each = max(1, PIECE // outputs)
    for i in range(0, rows, each):
        columns, part = np.ascontiguousarray(x[i : i + each].T), sums[i : i + each]
        products = np.empty_like(part)
        for column, row in zip(columns, weights, strict=True):
            np.multiply(column[:, None], row, out=products)
            part += products
    return sums


def _moved(node: Node, x: Array, rest: list[Array]) -> Array:
    """Return the result of a node that only moves numbers."""
    match node.kind:
        case "Reshape":
            return x.reshape(rest[0])
        case "Transpose":
            perm = node.attributes["perm"]
            assert isinstance(perm, tuple)
            return x.transpose(perm)
        case "Tile":
            return np.tile(x, rest[0])
        case "Resize":
            factor = int(rest[0][2])
            return x.repeat(factor, 2).repeat(factor, 3)
        case "Slice":
            cuts = {axis: slice(start, end) for start, end, axis in zip(*(part.tolist() for part in rest), strict=True)}
            return x[tuple(cuts.get(axis, slice(None)) for axis in range(x.ndim))]
        case "Pad":
            ends = rest[0][x.ndim :]
            return np.pad(x, [(0, int(more)) for more in ends], mode="edge")
        case "MaxPool":
            even = x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
            rows = np.maximum(even[:, :, ::2], even[:, :, 1::2])
            return np.maximum(rows[..., ::2], rows[..., 1::2])
    n, c, h, w = x.shape  # DepthToSpace
    return x.reshape(n, c // 4, 2, 2, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)
