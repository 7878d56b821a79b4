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
from numpy.typing import NDArray

from smalti.model.latent_prior import LATENT_MAX
from smalti.model.masked_mlp import ACTIVATION_MAX, EXACT, SUBSTEPS
from smalti.model.pixel_prior import MAX_ERROR, SAMPLE_MAX
from smalti.model.proof.onnx_reader import Graph, Node
from smalti.model.proof.shape_inference import Constants, Shape, fold, infer

Array = NDArray[np.float64]
LIMITS = {"v": LATENT_MAX, "u": LATENT_MAX, "features": ACTIVATION_MAX, "anchors": SUBSTEPS}
LIMITS |= {"x": SAMPLE_MAX, "errors": MAX_ERROR}
"""The largest absolute value of each input of a network that decodes."""
SIGNED = ("v", "u")
"""Inputs that may be negative."""
EMBEDDINGS_INPUT = "anchors"
"""The input whose entries, none negative, sum to the largest that one of them may be."""
LEAST_UNIT = 2.0**-60
"""No digit of a value is worth less: float32 has its full precision far below."""
SIZES = {"n": 1, "h": 64, "w": 64}
"""Of one image, what the names of free dimensions stand for; `r` are its cells."""


@dataclass(frozen=True, eq=False)
class Range:
    """What a tensor may hold: of each channel (axis 1), or one entry for all."""

    most: Array  # largest absolute value
    unit: Array  # every value is a multiple of it
    signed: bool  # whether a value may be negative

    def whole(self) -> "Range":
        """The same for all channels together."""
        return Range(self.most.max(keepdims=True), self.unit.min(keepdims=True), self.signed)


@dataclass(frozen=True, eq=False)
class Tensor:
    """What an input or a result of a network may be."""

    shape: Shape  # rows an image first
    range: Range


def check_bounds(
    graph: Graph, patches: int = 1, limits: Mapping[str, int] = LIMITS, sizes: Mapping[str, int] = SIZES
) -> dict[str, Tensor]:
    """Prove that a graph is exact for integer inputs of at most these absolute values, and not too large.

    Returns:
        Inputs and results.

    Raises:
        ValueError: it could be inexact, or has an operator for which this proof knows no rule.
    """
    constants, nodes = fold(graph)
    shapes = infer(graph, constants, nodes, {"r": patches, **sizes}, exact=True)
    if not graph.inputs.keys() <= limits.keys():
        raise ValueError(f"inputs {', '.join(graph.inputs)}; known are {', '.join(limits)}")
    ranges = {name: Range(np.array([float(limits[name])]), np.ones(1), name in SIGNED) for name in graph.inputs}
    for node in nodes:
        out = node.outputs[0]
        if out == EMBEDDINGS_INPUT:
            raise ValueError(f"an operator gives {out!r}, the name of an input")
        result = _range(node, constants, ranges, shapes)
        worst = float((result.most / result.unit).max())
        if not worst < EXACT:
            raise ValueError(
                f"{node.kind} {out} could reach {worst:.0f} units, beyond the {EXACT} that float32 holds exactly"
            )
        if result.unit.min() < LEAST_UNIT:
            raise ValueError(f"{node.kind} {out} gives no integers times a power of two that could be exact")
        ranges[out] = result
    return {name: Tensor(shapes[name], ranges[name]) for name in (*graph.inputs, *graph.outputs)}


def _range(node: Node, constants: Constants, ranges: Mapping[str, Range], shapes: Mapping[str, Shape]) -> Range:
    names = node.inputs
    if node.kind == "Gather":  # from a table
        table, index = constants[names[0]].astype(np.float64), ranges[names[1]]
        if index.most.max() >= len(table) or index.signed:
            raise ValueError(f"Gather {node.outputs[0]} could look behind the end of its table")
        columns = table.T if table.ndim == len(shapes[names[1]]) + 1 == 2 else table.reshape(1, -1)
        return Range(np.abs(columns).max(1), _unit(columns), bool((table < 0).any()))
    x = ranges[names[0]]
    match node.kind:
        case "Floor":
            return Range(np.ceil(x.most), np.ones_like(x.unit), x.signed)
        case "Clip":
            low, high = (float(constants[name]) for name in names[1:])
            if low != 0 or high < 0 or high % 1:
                raise ValueError(f"Clip {node.outputs[0]} is not from 0 to an integer")
            return Range(np.minimum(x.most, high), x.unit, signed=False)
        case "Add":
            y = ranges[names[1]] if names[1] in ranges else _bias(constants[names[1]])
            return Range(x.most + y.most, np.minimum(x.unit, y.unit), x.signed or y.signed)
        case "Concat":
            parts = [ranges[name].whole() for name in names]
            most, unit = max(part.most[0] for part in parts), min(part.unit[0] for part in parts)
            return Range(np.array([most]), np.array([unit]), any(part.signed for part in parts))
        case "MatMul" | "Conv":
            w = constants[names[1]].astype(np.float64)
            rows = w.T if node.kind == "MatMul" else w.reshape(len(w), -1)
            bias = _bias(constants[names[2]]) if len(names) > 2 else None
            return _product(rows, x.whole(), bias, sums=names[0] != EMBEDDINGS_INPUT)
        case "Cast" if x.unit.min() < 1:
            raise ValueError(f"Cast {node.outputs[0]} makes integers of what is none")
    return x if _keeps_channels(node, shapes) else x.whole()  # all others compute nothing


def _product(rows: Array, x: Range, bias: Range | None, *, sums: bool) -> Range:
    """sums: whether all entries may be as large as one may be."""
    most = np.abs(rows).sum(1) if sums else np.abs(rows).max(1)
    result = Range(most * x.most, _unit(rows) * x.unit, x.signed or bool((rows < 0).any()))
    if bias is None:
        return result
    return Range(result.most + bias.most, np.minimum(result.unit, bias.unit), result.signed or bias.signed)


def _bias(values: NDArray[np.generic]) -> Range:
    """One for each channel, or one for all."""
    column = values.astype(np.float64).reshape(-1, 1)
    return Range(np.abs(column).ravel(), _unit(column), bool((column < 0).any()))


def _keeps_channels(node: Node, shapes: Mapping[str, Shape]) -> bool:
    """Whether a node only adds height and width of 1 behind the channels, or nothing."""
    before, after = shapes[node.inputs[0]], shapes[node.outputs[0]]
    return node.kind in ("Identity", "Cast") or (node.kind == "Reshape" and after == (*before, 1, 1))


def _unit(rows: Array) -> Array:
    """The largest power of two that divides every entry of a row; at most 1."""
    digits, exponents = np.frexp(np.abs(rows))
    whole = np.ldexp(digits, 53).astype(np.int64)
    units = np.ldexp((whole & -whole).astype(np.float64), exponents - 53)
    least: Array = np.where(whole == 0, 1, units).min(1).clip(max=1)
    return least
