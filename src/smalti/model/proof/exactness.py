# SPDX-License-Identifier: MIT
"""Prove that an integer graph is exact in float32: no sum, in any order, needs more than 24 bits.

Why: a decoder must compute the same numbers on every machine, but engines add in different orders, and rounded sums
then differ. Where no sum is ever rounded, the order does not matter.

How: for each channel of every tensor the proof follows the largest absolute value and the unit, a power of two that
divides every value. Multiples of a unit that are less than 2^24 units are float32 numbers. A matrix product is bounded
by the sum of the absolute values of its terms, which no partial sum exceeds; if that bound is below 2^24 units, every
partial sum is a float32 number.
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
"""The input with the embedding weights; they are not negative, and sum to the limit of a single one."""
LEAST_UNIT = 2.0**-60
"""The smallest unit allowed; float32 has its full precision far below it."""
SIZES = {"n": 1, "h": 64, "w": 64}
"""The sizes that the names of free dimensions stand for, for one image; the dimension `r` counts its patches."""


@dataclass(frozen=True, eq=False)
class Range:
    """The values that a tensor may hold: bounds for each channel (axis 1), or one entry for all channels."""

    most: Array  # largest absolute value
    unit: Array  # every value is a multiple of it
    signed: bool  # whether a value may be negative

    def whole(self) -> "Range":
        """Return the range that covers all channels together."""
        return Range(self.most.max(keepdims=True), self.unit.min(keepdims=True), self.signed)


@dataclass(frozen=True, eq=False)
class Tensor:
    """The shape and the range of an input or a result of a network."""

    shape: Shape  # for one image; first the number of rows for an image
    range: Range


@dataclass(frozen=True, eq=False)
class Proof:
    """A network that was proven exact: what its constants come to, the nodes left, and all shapes and ranges."""

    constants: Constants
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]  # for one image; first the number of rows for an image
    ranges: Mapping[str, Range]


def check_bounds(
    graph: Graph, patches: int = 1, limits: Mapping[str, int] = LIMITS, sizes: Mapping[str, int] = SIZES
) -> dict[str, Tensor]:
    """Prove that a graph is exact for integer inputs within `limits`, and not too large.

    Args:
        graph: a network that decodes.
        patches: of an image.
        limits: the largest absolute value of each input.
        sizes: what the names of free dimensions stand for.

    Returns:
        The shapes and ranges of inputs and results, by their names.

    Raises:
        ValueError: the graph could be inexact, or has an operator for which this proof knows no rule.
    """
    proof = prove(graph, patches, limits, sizes)
    return {name: Tensor(proof.shapes[name], proof.ranges[name]) for name in (*graph.inputs, *graph.outputs)}


def prove(
    graph: Graph, patches: int = 1, limits: Mapping[str, int] = LIMITS, sizes: Mapping[str, int] = SIZES
) -> Proof:
    """Return the proof that a graph is exact; arguments and errors are those of `check_bounds`."""
    constants, nodes = fold(graph)
    shapes = infer(graph, constants, nodes, {"r": patches, **sizes}, exact=True)
    if not graph.inputs.keys() <= limits.keys():
        raise ValueError(f"the inputs are {', '.join(graph.inputs)}; known are {', '.join(limits)}")
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
            raise ValueError(f"{node.kind} {out} gives multiples of less than 2^-60, which could be inexact")
        ranges[out] = result
    return Proof(constants, tuple(nodes), shapes, ranges)


def _range(node: Node, constants: Constants, ranges: Mapping[str, Range], shapes: Mapping[str, Shape]) -> Range:
    names = node.inputs
    if node.kind == "Gather":  # from a table
        table, index = constants[names[0]].astype(np.float64), ranges[names[1]]
        if index.most.max() >= len(table) or index.signed:
            raise ValueError(f"Gather {node.outputs[0]} could look behind the end of its table")
        columns = table.T if table.ndim == len(shapes[names[1]]) + 1 == 2 else table.reshape(1, -1)
        return Range(np.abs(columns).max(1), unit_of(columns), bool((table < 0).any()))
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
    """Return the range of a matrix product.

    sums: whether all entries of `x` may be at their limit together; if not, their absolute values sum to that limit.
    """
    most = np.abs(rows).sum(1) if sums else np.abs(rows).max(1)
    result = Range(most * x.most, unit_of(rows) * x.unit, x.signed or bool((rows < 0).any()))
    if bias is None:
        return result
    return Range(result.most + bias.most, np.minimum(result.unit, bias.unit), result.signed or bias.signed)


def _bias(values: NDArray[np.generic]) -> Range:
    """Return the range of a constant that is added: one entry for each channel, or one for all."""
    column = values.astype(np.float64).reshape(-1, 1)
    return Range(np.abs(column).ravel(), unit_of(column), bool((column < 0).any()))


def _keeps_channels(node: Node, shapes: Mapping[str, Shape]) -> bool:
    """Say whether a node changes nothing, or only adds a height and a width of 1 behind the channels."""
    before, after = shapes[node.inputs[0]], shapes[node.outputs[0]]
    return node.kind in ("Identity", "Cast") or (node.kind == "Reshape" and after == (*before, 1, 1))


def unit_of(rows: Array) -> Array:
    """Return the largest power of two, at most 1, that divides every entry of a row."""
    digits, exponents = np.frexp(np.abs(rows))
    whole = np.ldexp(digits, 53).astype(np.int64)
    units = np.ldexp((whole & -whole).astype(np.float64), exponents - 53)
    least: Array = np.where(whole == 0, 1, units).min(1).clip(max=1)
    return least
