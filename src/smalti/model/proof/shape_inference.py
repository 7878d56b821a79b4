# SPDX-License-Identifier: MIT
"""Infer the shapes of a graph's tensors, and refuse unknown operators and too much work, before it runs.

The first axis of every tensor holds the images, each with a fixed number of rows, and no operator that is allowed here
mixes images. So an image comes out the same whatever other images run beside it. Operators are allowed only as smalti's
own networks use them.
"""

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.model.proof.onnx_reader import INT64, Attribute, Graph, Node

MAX_ELEMENTS = 1 << 24
"""The most elements of a tensor, for one image; the autoencoder for images of 128x128 needs 2^22."""
MAX_WORK = 1 << 34
"""The most multiplications, plus elements of tensors, for one image; the autoencoder for 128x128 needs 2^32.5."""
MAX_WEIGHTS = 1 << 24
"""The most elements of constants and of what is computed from them alone; training makes at most 2^22.6."""
MAX_KERNEL, MAX_SCALE = 7, 8
CHANNEL_RANK = 4
"""The number of axes of a tensor with channels, height and width."""

NEAREST = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest", "nearest_mode": "floor"}
"""The attributes of Resize: nearest-neighbour upsampling by whole factors."""

Shape = tuple[int, ...]
"""The shape of a tensor for one image; first the number of rows for an image."""
Constants = Mapping[str, NDArray[Any]]

Use = tuple[int, int, tuple[str, ...], tuple[str, ...]]
"""How an operator is used: fewest and most inputs, required attributes, optional attributes."""

OPERATORS: dict[str, Use] = {
    "Identity": (1, 1, (), ()),
    "Cast": (1, 1, ("to",), ()),
    "Reshape": (2, 2, (), ()),
    "Transpose": (1, 1, ("perm",), ()),
    "DepthToSpace": (1, 1, ("blocksize", "mode"), ()),
    "Slice": (4, 4, (), ()),
    "Tile": (2, 2, (), ()),
    "Resize": (3, 3, ("coordinate_transformation_mode", "mode", "nearest_mode"), ()),
    "Floor": (1, 1, (), ()),
    "Clip": (3, 3, (), ()),
    "Add": (2, 2, (), ()),
    "Concat": (2, 64, ("axis",), ()),
    "MatMul": (2, 2, (), ()),
    "Conv": (2, 3, ("pads",), ("strides",)),
    "Gather": (2, 2, (), ("axis",)),
}
"""The operators of networks that decode, all of which can be proven exact."""
FLOAT_OPERATORS = OPERATORS | {
    "Relu": (1, 1, (), ()),
    "Sub": (2, 2, (), ()),
    "Mul": (2, 2, (), ()),
    "Div": (2, 2, (), ()),
    "MaxPool": (1, 1, ("kernel_shape", "strides"), ()),
    "Pad": (2, 2, ("mode",), ()),
}
"""The operators of networks that only the encoder needs, which may round."""


def fold(graph: Graph) -> tuple[dict[str, NDArray[Any]], list[Node]]:
    """Compute the nodes that depend on constants alone: return all constants, and the nodes that are left.

    Raises:
        ValueError: the constants are too large or not finite, or an operator without a rule has constants alone.
    """
    constants, left = dict(graph.constants), []
    size = sum(values.size for values in constants.values())
    for node in graph.nodes:
        if size > MAX_WEIGHTS:
            break
        if not node.inputs or len(node.outputs) != 1 or not node.outputs[0]:
            raise ValueError(f"an operator {node.kind} has {len(node.inputs)} inputs and {len(node.outputs)} outputs")
        if not all(name in constants for name in node.inputs):
            left.append(node)
            continue
        if node.outputs[0] in constants:
            raise ValueError(f"tensor {node.outputs[0]!r} is defined twice")
        with np.errstate(all="ignore"):  # what is not finite is found below
            values = _constant(node, [constants[name] for name in node.inputs])
        constants[node.outputs[0]] = values
        size += values.size
    if size > MAX_WEIGHTS:
        raise ValueError(f"a network has more than {MAX_WEIGHTS} weights")
    if not all(np.isfinite(values).all() for values in constants.values()):
        raise ValueError("a network has weights that are not finite")
    return constants, left


def _constant(node: Node, values: list[NDArray[Any]]) -> NDArray[Any]:
    match node.kind, len(values), dict(node.attributes):
        case "Cast", 1, {"to": 1, **rest} if not rest:
            return values[0].astype(np.float32)
        case "Mul", 2, {**rest} if not rest:
            if np.broadcast_shapes(values[0].shape, values[1].shape) == values[0].shape:
                return np.asarray(np.multiply(values[0], values[1]))
        case "Transpose", 1, {"perm": (1, 0), **rest} if not rest and values[0].ndim == 2:
            return values[0].T
    raise ValueError(f"no rule to prove {node.kind} of constants exact")


def infer(
    graph: Graph,
    constants: Constants,
    nodes: Sequence[Node],
    sizes: Mapping[str, int],
    *,
    exact: bool,
    limited: bool = True,
) -> dict[str, Shape]:
    """Return the shapes of all tensors for one image.

    Args:
        graph: the network.
        constants, nodes: what `fold` returned for it.
        sizes: what the names of free dimensions stand for.
        exact: whether only operators that can be proven exact are allowed.
        limited: whether the network must not be too large; not if it was proven for smaller images.

    Raises:
        ValueError: an operator is not used as smalti's own networks use it, or the network is too large.
    """
    most, most_work = (MAX_ELEMENTS, MAX_WORK) if limited else (math.inf, math.inf)
    shapes = {name: _input(name, dims, sizes, most) for name, dims in graph.inputs.items()}
    if not shapes.keys().isdisjoint(constants):
        raise ValueError("an input is defined twice")
    indices: set[str] = set()
    work = sum(math.prod(shape) for shape in shapes.values())
    for node in nodes:
        out = node.outputs[0]
        if out in shapes or out in constants:
            raise ValueError(f"tensor {out!r} is defined twice")
        _check_use(node, OPERATORS if exact else FLOAT_OPERATORS, indices)
        names = [name for i, name in enumerate(node.inputs) if (node.kind, i, name) != ("Resize", 1, "")]
        inputs = [_known(name, shapes, constants) for name in names]
        shape = _shape(node, inputs, constants)
        if shape is None or min(shape) < 1:
            raise ValueError(f"{node.kind} {out} is not used as smalti's own networks use it")
        each = math.prod(inputs[1][1:]) if node.kind == "Conv" else inputs[1][0] if node.kind == "MatMul" else 1
        work += math.prod(shape) * each
        if math.prod(shape) > most or work > most_work:
            raise ValueError(f"{node.kind} {out} gives {shape} an image; the network is too large")
        shapes[out] = shape
        if node.kind == "Cast":
            indices.add(out)
    if not graph.outputs or any(name not in shapes or name in indices for name in graph.outputs):
        raise ValueError("a network has no results, or results that no operator gives")
    return shapes


def _check_use(node: Node, operators: Mapping[str, Use], indices: Container[str]) -> None:
    """Refuse an unknown operator, and one with inputs or attributes that smalti never gives it."""
    if node.kind not in operators:
        raise ValueError(f"no rule to prove {node.kind} {'exact' if operators is OPERATORS else 'harmless'}")
    fewest, most, needed, possible = operators[node.kind]
    there = set(node.attributes)
    if not fewest <= len(node.inputs) <= most or not set(needed) <= there <= {*needed, *possible}:
        raise ValueError(f"{node.kind} {node.outputs[0]} has {len(node.inputs)} inputs, attributes {sorted(there)}")
    if any((name in indices) != (node.kind == "Gather" and i == 1) for i, name in enumerate(node.inputs)):
        raise ValueError(f"{node.kind} {node.outputs[0]} takes integers for numbers, or numbers for integers")


def _input(name: str, dims: tuple[int | str, ...], sizes: Mapping[str, int], most: float) -> Shape:
    if not dims or not isinstance(dims[0], str) or not all(isinstance(d, int) or d in sizes for d in dims):
        raise ValueError(f"input {name!r} has unknown dimensions")
    shape = tuple(dim if isinstance(dim, int) else sizes[dim] for dim in dims)
    if min(shape) < 1 or math.prod(shape) > most:
        raise ValueError(f"input {name!r} is of shape {shape}")
    return shape


def _known(name: str, shapes: Mapping[str, Shape], constants: Constants) -> Shape:
    if name in shapes:
        return shapes[name]
    if name in constants:
        return constants[name].shape
    raise ValueError(f"tensor {name!r} is used before it is defined")


def _shape(node: Node, inputs: list[Shape], constants: Constants) -> Shape | None:
    """Return the shape of a node's result; None if the operator is used in another way than smalti uses it."""
    x, fixed = inputs[0], [name in constants for name in node.inputs]
    if fixed[0] != (node.kind == "Gather"):  # which has its table first
        return None
    match node.kind:
        case "Identity" | "Floor" | "Relu":
            return x
        case "Cast":
            return x if node.attributes["to"] == INT64 else None
        case "Clip":
            return x if all(fixed[1:]) and inputs[1:] == [(), ()] else None
        case "Add" | "Sub" | "Mul" | "Div":
            return _together(x, inputs[1], constant=fixed[1])
        case "Concat":
            return None if any(fixed) else _concat(inputs, node.attributes["axis"])
        case "MatMul":
            w = inputs[1]
            return (x[0], w[1]) if fixed[1] and len(x) == len(w) == 2 and x[1] == w[0] else None
        case "Conv":
            return _conv(x, inputs[1:], node.attributes) if all(fixed[1:]) else None
        case "Gather":
            fits = node.attributes.get("axis", 0) == 0 and (len(x) == 1 or (len(x) == 2 and len(inputs[1]) == 1))
            return inputs[1] + x[1:] if fits else None
    return _moved(node.kind, x, [constants.get(name) for name in node.inputs[1:] if name], node.attributes)


def _together(x: Shape, y: Shape, *, constant: bool) -> Shape | None:
    """Return the shape of the sum, product, ... of two tensors; None if smalti never combines such shapes.

    A constant is one number, or one for each column of a matrix; one of two tensors may have axes of length 1.
    """
    if constant:
        return x if not y or (len(x) == 2 and y == x[1:]) else None
    if len(x) != len(y) or x[0] != y[0] or any(a != b and 1 not in (a, b) for a, b in zip(x, y, strict=True)):
        return None
    return tuple(map(max, x, y))


def _conv(x: Shape, weights: list[Shape], attributes: Mapping[str, Attribute]) -> Shape | None:
    w, *bias = weights
    stride = attributes.get("strides", (1, 1))
    if len(x) != CHANNEL_RANK or len(w) != CHANNEL_RANK or w[1] != x[1] or stride not in ((1, 1), (2, 2)):
        return None
    k, step = w[2], 1 if stride == (1, 1) else 2
    if k != w[3] or not k % 2 or k > MAX_KERNEL or attributes["pads"] != (k // 2,) * 4 or bias not in ([], [w[:1]]):
        return None
    return x[0], w[0], (x[2] - 1) // step + 1, (x[3] - 1) // step + 1


def _concat(inputs: list[Shape], axis: Attribute) -> Shape | None:
    x = inputs[0]
    if not isinstance(axis, int) or not 1 <= axis < len(x):
        return None
    if len({(len(shape), shape[:axis], shape[axis + 1 :]) for shape in inputs}) > 1:
        return None
    return *x[:axis], sum(shape[axis] for shape in inputs), *x[axis + 1 :]


def _moved(kind: str, x: Shape, rest: list[NDArray[Any] | None], attributes: Mapping[str, Attribute]) -> Shape | None:
    """Return the shape of an operator that only moves numbers, as its constants and attributes say."""
    told: list[list[Any]] = []
    for values in rest:
        if values is None or values.ndim != 1 or values.dtype != (np.float32 if kind == "Resize" else np.int64):
            return None
        told.append(values.tolist())
    match kind, told:
        case "Reshape", [[-1, *shape]] if all(n > 0 for n in shape) and math.prod(x) % math.prod(shape) == 0:
            return math.prod(x) // math.prod(shape), *shape
        case "Transpose", []:
            perm = attributes["perm"]
            fits = isinstance(perm, tuple) and sorted(perm) == list(range(len(x))) and perm[0] == 0
            return tuple(x[axis] for axis in perm) if isinstance(perm, tuple) and fits else None
        case "Slice", [starts, ends, axes]:
            return _slice(x, starts, ends, axes)
        case "Tile", [[1, *times]] if len(times) + 1 == len(x):
            return x[0], *(n * by for n, by in zip(x[1:], times, strict=True))
        case "Pad", [ends] if attributes["mode"] == "edge" and len(ends) == 2 * len(x) and min(ends) == 0:
            more = ends[len(x) :]
            return None if any(ends[: len(x) + 1]) else tuple(n + m for n, m in zip(x, more, strict=True))
    return _scaled(kind, x, told, attributes) if len(x) == CHANNEL_RANK else None


def _slice(x: Shape, starts: list[int], ends: list[int], axes: list[int]) -> Shape | None:
    if not len(starts) == len(ends) == len(axes) == len(set(axes)):
        return None
    cut = list(x)
    for start, end, axis in zip(starts, ends, axes, strict=True):
        if not 1 <= axis < len(x) or not 0 <= start < end <= x[axis]:
            return None
        cut[axis] = end - start
    return tuple(cut)


def _scaled(kind: str, x: Shape, told: list[list[Any]], attributes: Mapping[str, Attribute]) -> Shape | None:
    """Return the shape of an operator that changes height and width."""
    rows, c, h, w = x
    match kind, told:
        case "DepthToSpace", [] if attributes == {"blocksize": 2, "mode": "CRD"} and c % 4 == 0:
            return rows, c // 4, 2 * h, 2 * w
        case "MaxPool", [] if attributes["kernel_shape"] == attributes["strides"] == (2, 2):
            return rows, c, h // 2, w // 2
        case "Resize", [[1, 1, a, b]] if attributes == NEAREST and a == b and a in range(1, MAX_SCALE + 1):
            return rows, c, h * int(a), w * int(a)
    return None
