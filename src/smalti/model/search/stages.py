# SPDX-License-Identifier: MIT
"""Lay out the networks of a decoder as stages of sums, which the compiled core computes again only where inputs change.

A stage is a matrix product or a convolution with what follows it: biases, a shift, perhaps units that are added, and
clipping. Operators that only move numbers (Reshape, Transpose, DepthToSpace, Resize, Concat) become part of the tables
that say which units each position reads. Networks that do not consist of such parts have no stages; the encoder then
runs them as they are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.core.search import MULTIPLE, StageArrays
from smalti.model.masked_mlp import EXACT, QUALITY_EMBEDDINGS, SUBSTEPS
from smalti.model.proof.onnx_reader import Graph, Node
from smalti.model.proof.shape_inference import fold

MOST_TAPS = 64
"""The most rows that a position may read: SMALTI_TAPS of `core/search.h`."""
MOST_BYTES, MOST_UNITS = 1 << 30, 1 << 22
"""The most bytes of the weights of a stage, and the most units of an image: more would take too much memory."""
MOST_UNIT, MOST_WEIGHT, MOST_SHIFT = 8191, 32767, 24
"""The largest value of a unit, so that a change of it fits in 16 bits, of a weight, and the widest shift."""

Ints = NDArray[np.int64]


class Unsuited(Exception):  # noqa: N818 - it is no error: the caller runs the networks another way
    """The networks have a part that is no stage."""


@dataclass(eq=False)
class Units:
    """The units of an input or a stage. The first stage that reads them decides in which rows they stand."""

    positions: Ints  # of each unit, as the network numbers them
    numbers: Ints  # of each unit: which one it is at its position
    order: Ints | None = None  # rows channels: the numbers of the units of a position, as they stand
    first: int = 0  # where they begin among all units
    first_row: int = 0  # and their rows among all rows

    def placed(self) -> Ints:
        """Return the order in which the units of a position stand (`rows channels`)."""
        if self.order is None:
            self.order = np.arange(int(self.numbers.max()) + 1)[None]
        return self.order

    @property
    def rows(self) -> tuple[int, int]:
        """Return how many rows there are, and how many units a row has."""
        rows, channels = self.placed().shape
        return (int(self.positions.max()) + 1) * rows, channels

    def places(self, units: Ints) -> Ints:
        """Return where units stand among all units of all networks."""
        order = self.placed()
        found: Ints = self.first + self.positions[units] * order.size + np.argsort(order.ravel())[self.numbers[units]]
        return found

    def rows_of(self, reads: Ints) -> Ints:
        """Return the rows, from 0 on (`n`), that consist of these units (`n channels`).

        Raises:
            Unsuited: they are no rows.
        """
        positions, numbers = self.positions[reads], self.numbers[reads]
        if self.order is None:
            _, kinds = np.unique(numbers[:, 0], return_index=True)
            self.order = numbers[kinds]
        place = np.full(int(self.numbers.max()) + 1, -1)
        place[self.order[:, 0]] = np.arange(len(self.order))
        found = place[numbers[:, 0]]
        if (
            np.sort(self.order.ravel()).tolist() != list(range(len(place)))
            or (positions != positions[:, :1]).any()
            or self.order.shape[1] != reads.shape[1]
            or (found < 0).any()
            or (self.order[found] != numbers).any()
        ):
            raise Unsuited
        result: Ints = positions[:, 0] * len(self.order) + found
        return result


@dataclass(eq=False)
class Stage:
    """A stage while it is laid out: what each position sums up, and what becomes of the sums."""

    units: Units
    reads: list[tuple[Units, Ints, NDArray[np.float64]]]  # rows (positions taps, -1: none), weights (taps in outputs)
    biases: NDArray[np.float64]  # outputs
    embeddings: NDArray[np.float64]  # QUALITY_EMBEDDINGS outputs
    more: tuple[Units, Ints] | None = None  # the units that are added (n)
    high: int = 0

    def arrays(self) -> StageArrays:
        """Return the stage as the core takes it.

        Raises:
            Unsuited: its numbers do not fit.
        """
        outputs, order, parts, where, pairs = len(self.biases), self.units.placed().ravel(), [], [], 0
        for units, rows, weights in self.reads:
            sets, table = _folded(rows)
            each = -(-weights.shape[1] // 2)
            for taps in sets:
                summed = np.pad(weights[list(taps)].sum(0), ((0, -weights.shape[1] % 2), (0, 0)))
                parts.append(summed.reshape(each, 2, outputs).transpose(0, 2, 1)[:, order])
            row, number = np.moveaxis(table, 2, 0)
            where.append(
                np.stack([np.where(row < 0, -1, row + units.first_row), np.where(row < 0, 0, pairs + number * each)], 2)
            )
            pairs += each * len(sets)
        whole, biases, embeddings = np.concatenate(parts), self.biases[order], self.embeddings[:, order]
        scale = _scale([whole.transpose(1, 0, 2).reshape(outputs, -1), biases[:, None], embeddings.T])
        whole, biases, embeddings = whole * scale[:, None], biases * scale, embeddings * scale
        largest = np.abs(biases).max() + SUBSTEPS * np.abs(embeddings).max()
        size = len(whole) * max(MULTIPLE, outputs) * 4
        if (
            size > MOST_BYTES
            or np.abs(whole).max() > MOST_WEIGHT
            or largest >= EXACT
            or sum(w.shape[1] for w in where) > MOST_TAPS
        ):
            raise Unsuited
        return StageArrays(
            len(self.units.placed()),
            np.concatenate(where, 1).astype(np.int32),
            self._more(),
            whole.astype(np.int16),
            biases.astype(np.int64)[None],
            embeddings.astype(np.int64)[:, None],
            np.log2(scale).astype(np.int64)[None],
            self.high,
        )

    def _more(self) -> NDArray[np.int32] | None:
        """Return where the units are that each position adds, or None."""
        if self.more is None:
            return None
        units, at = self.more
        place = np.empty((int(self.units.positions.max()) + 1, len(self.biases)), np.int64)
        place[self.units.positions, np.argsort(self.units.placed().ravel())[self.units.numbers]] = units.places(at)
        if (place != place[:, :1] + np.arange(len(self.biases))).any():
            raise Unsuited
        return place[:, 0].astype(np.int32)


@dataclass(frozen=True, eq=False)
class Moved:
    """A tensor: for each of its elements, the unit that it is, counted through all `parts`."""

    parts: tuple[Units, ...]
    starts: tuple[int, ...]
    at: Ints  # of the shape of the tensor for one image

    def of_one(self) -> Units:
        """Return the only part.

        Raises:
            Unsuited: there are several.
        """
        if len(self.parts) != 1:
            raise Unsuited
        return self.parts[0]


class Layout:
    """The networks of a decoder as inputs and stages."""

    def __init__(self, inputs: Mapping[str, tuple[int, ...]]) -> None:
        """inputs: the shape of each for an image. Their units stand one after another, before those of the stages."""
        self.stages, self.table = list[Stage](), np.arange(256, dtype=np.uint8)
        self.inputs = dict[str, Moved]()
        for name, shape in inputs.items():
            nothing = np.arange(int(np.prod(shape)))
            self.inputs[name] = Moved((Units(nothing * 0, nothing),), (0,), nothing.reshape(shape))

    def add(self, graph: Graph, given: Mapping[str, Moved]) -> Moved:
        """Add a network whose inputs are given, but for the quality embeddings, and return its result.

        Raises:
            Unsuited: the network has a part that is no stage.
        """
        constants, nodes = fold(graph)
        values: dict[str, Any] = {"anchors": None, **given}
        for node in nodes:
            inputs = [values[name] if name in values else constants.get(name) for name in node.inputs]
            values[node.outputs[0]] = self._node(node, *inputs)
        result = values[graph.outputs[0]]
        if not isinstance(result, Moved):
            raise Unsuited
        return result

    def number(self) -> None:
        """Number all units and rows, when all networks were added.

        Raises:
            Unsuited: there are too many.
        """
        units = rows = 0
        for some in [*(x.of_one() for x in self.inputs.values()), *(stage.units for stage in self.stages)]:
            some.first, some.first_row = units, rows
            units, rows = units + len(some.numbers), rows + some.rows[0]
        if units > MOST_UNITS:
            raise Unsuited

    def _node(self, node: Node, x: Any, *rest: Any) -> Any:
        if x is None or isinstance(x, _Embedded):
            return _embedded(node, x, *rest)
        if isinstance(x, _Draft):
            return x.followed_by(node, *rest)
        match node.kind:
            case "Identity" | "Cast":
                return x
            case "Gather" if isinstance(rest[0], Moved) and x.ndim == 1:
                self.table = x.astype(np.uint8)
                return rest[0]
            case "MatMul":
                return self._product(x, x.at[:, None], rest[0][None], ())
            case "Conv":
                draft = self._convolution(node, x, rest[0])
                return draft.add(rest[1]) if len(rest) > 1 else draft
            case "Concat" if node.attributes["axis"] == 1 and all(isinstance(y, Moved) for y in rest):
                starts, at = [0], [x.at]
                for before, y in zip((x, *rest), rest, strict=False):
                    starts.append(starts[-1] + len(before.of_one().numbers))
                    at.append(y.at + starts[-1])
                return Moved(tuple(y.of_one() for y in (x, *rest)), tuple(starts), np.concatenate(at, 1))
        return Moved(x.parts, x.starts, _moved(node, x.at, rest))

    def _convolution(self, node: Node, x: Moved, weights: NDArray[Any]) -> "_Draft":
        (outputs, _, height, width), (_, _, h, w) = weights.shape, x.at.shape
        if node.attributes.get("strides", (1, 1)) != (1, 1):
            raise Unsuited
        around = np.pad(x.at[0], ((0, 0), (height // 2,) * 2, (width // 2,) * 2), constant_values=-1)
        taps = [around[:, i : i + h, j : j + w] for i in range(height) for j in range(width)]
        reads = np.stack(taps).reshape(height * width, -1, h * w).transpose(2, 0, 1)
        return self._product(x, reads, weights.transpose(2, 3, 1, 0).reshape(height * width, -1, outputs), (h, w))

    def _product(self, x: Moved, reads: Ints, weights: NDArray[Any], grid: tuple[int, ...]) -> "_Draft":
        """Begin a stage.

        reads: the units that are read (`positions taps inputs`), -1 for none. weights: `taps inputs outputs`.
        grid: the height and width of the positions, if they have any.
        """
        n, outputs, found = len(reads), weights.shape[2], []
        for units, start in zip(x.parts, x.starts, strict=True):
            mine = (reads >= start) & (reads < start + len(units.numbers))
            some = np.flatnonzero(mine.any((0, 1)))
            there = mine[..., some].all(2)
            if not (there | (reads[..., some] < 0).all(2)).all():
                raise Unsuited
            rows = np.full(there.shape, -1)
            rows[there] = units.rows_of(reads[..., some][there] - start)
            found.append((units, rows, weights[:, some].astype(np.float64)))
        every, shape = np.arange(n * outputs), (1, outputs, *grid) if grid else (n, outputs)
        units = Units(every % n, every // n) if grid else Units(every // outputs, every % outputs)
        self.stages.append(Stage(units, found, np.zeros(outputs), np.zeros((QUALITY_EMBEDDINGS, outputs))))
        return _Draft(self.stages[-1], shape)


@dataclass(frozen=True, eq=False)
class _Embedded:
    """What the weights of the quality embeddings are multiplied with."""

    weights: NDArray[np.float64]  # QUALITY_EMBEDDINGS outputs


def _embedded(node: Node, x: _Embedded | None, *rest: Any) -> _Embedded | None:
    """Follow the weights of the quality embeddings (None), which are the same for all patches, through a network."""
    if node.kind == "MatMul" and x is None:
        return _Embedded(rest[0].astype(np.float64))
    if node.kind not in ("Identity", "Reshape", "Tile"):
        raise Unsuited
    return x


@dataclass(eq=False)
class _Draft:
    """A sum that is not yet clipped."""

    stage: Stage
    shape: tuple[int, ...]
    is_whole: bool = False  # after Floor

    def followed_by(self, node: Node, *rest: Any) -> Any:
        """Return what an operator makes of the sum."""
        match node.kind:
            case "Add":
                return self.add(rest[0])
            case "Floor":
                self.is_whole = True
                return self
            case "Clip" if self.is_whole and 0 <= float(rest[1]) <= MOST_UNIT:
                self.stage.high = int(rest[1])
                return Moved((self.stage.units,), (0,), np.arange(math.prod(self.shape)).reshape(self.shape))
        raise Unsuited

    def add(self, other: Any) -> "_Draft":
        """Add biases or, to whole numbers, units."""
        stage = self.stage
        if isinstance(other, Moved):
            if not self.is_whole or stage.more is not None or other.at.shape != self.shape:
                raise Unsuited
            stage.more = other.of_one(), other.at.ravel()
        elif self.is_whole:
            raise Unsuited
        elif isinstance(other, _Embedded):
            stage.embeddings = stage.embeddings + other.weights
        else:
            stage.biases = stage.biases + np.asarray(other, np.float64)
        return self


def _moved(node: Node, at: Ints, rest: Sequence[Any]) -> Ints:
    """Return what an operator makes of numbers that it only moves."""
    match node.kind:
        case "Reshape":
            return at.reshape([int(d) for d in rest[0]])
        case "Transpose":
            return at.transpose(node.attributes["perm"])  # type: ignore[arg-type]  # the proof has seen it
        case "Slice":
            starts, ends, axes = (values.tolist() for values in rest)
            cut = [slice(None)] * at.ndim
            for start, end, axis in zip(starts, ends, axes, strict=True):
                cut[axis] = slice(start, end)
            return at[tuple(cut)]
        case "DepthToSpace":
            n, c, h, w = at.shape
            return at.reshape(n, c // 4, 2, 2, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)
        case "Resize":
            _, _, up, across = (int(scale) for scale in rest[-1])
            return at.repeat(up, 2).repeat(across, 3)
    raise Unsuited


def _folded(rows: Ints) -> tuple[list[tuple[int, ...]], Ints]:
    """Fold the taps of a position that read one row.

    rows: what each tap reads (`positions taps`).

    Returns:
        The sets of taps that are folded somewhere, and for each position rows and numbers of sets (`positions t 2`).
    """
    sets, found = dict[tuple[int, ...], int](), []
    for taps in rows.tolist():
        of_rows: dict[int, list[int]] = {}
        for tap, row in enumerate(taps):
            if row >= 0:
                of_rows.setdefault(row, []).append(tap)
        found.append([(row, sets.setdefault(tuple(some), len(sets))) for row, some in of_rows.items()])
    table = np.full((len(found), max(map(len, found)), 2), -1)
    for at, pairs in zip(table, found, strict=True):
        at[: len(pairs)] = pairs
    return list(sets), table


def _scale(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the power of two for each output that makes integers of all its numbers (`outputs ...`).

    Raises:
        Unsuited: there is none up to 2^24.
    """
    whole = [column * 2.0**MOST_SHIFT for column in columns]
    if any((column != np.rint(column)).any() for column in whole):
        raise Unsuited
    bits = np.bitwise_or.reduce(np.concatenate([np.abs(column).astype(np.int64) for column in whole], 1), 1)
    lowest = np.where(bits == 0, 1 << MOST_SHIFT, bits & -bits).clip(max=1 << MOST_SHIFT)
    scale: NDArray[np.float64] = (1 << MOST_SHIFT) / lowest
    return scale
