# SPDX-License-Identifier: MIT
"""Networks in the compiled core: turn a graph into a program of its steps.

In a program, tensors of four axes have the channels last. An operator that changes each number by itself becomes a part
of the step before it, where nothing else needs that step's result.
"""

import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import Core
from smalti.core.operators import (
    ADD,
    CLIP,
    DIVIDE,
    FLOOR,
    INT16_MAX,
    MULTIPLY,
    SUBTRACT,
    Change,
    Program,
    Weights,
    Window,
)
from smalti.model.proof.exactness import SIZES, Range, prove, unit_of
from smalti.model.proof.onnx_reader import Graph, Node
from smalti.model.proof.shape_inference import CHANNEL_RANK, Constants, Shape, fold, infer

MOST_IMAGES = 64
"""A program runs on at most so many images at a time."""
MOST_PROGRAMS = 16
"""So many programs of a network are kept, for images of different sizes."""
BINARY = {"Add": ADD, "Sub": SUBTRACT, "Mul": MULTIPLY, "Div": DIVIDE}
UNARY = ("Floor", "Clip", "Relu")

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class CoreNetwork:
    """A network that the core runs. Programs for the sizes of images are built when they are first needed."""

    def __init__(self, core: Core, graph: Graph, *, exact: bool, patches: int) -> None:
        self._core, self._graph, self._exact, self._patches = core, graph, exact, patches
        self.inputs = tuple(self._graph.inputs)
        self._constants, nodes = fold(self._graph)
        self._nodes = tuple(nodes)
        self._ranges: Mapping[str, Range] = prove(self._graph, patches).ranges if exact else {}
        self._weights = dict[str, Weights]()
        self._programs = OrderedDict[tuple[int, ...], _Built]()
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, Floats], images: int) -> list[Floats]:
        """Return the results, as `Network.run` does."""
        sizes = self._sizes(inputs)
        with self._lock:
            built = self._programs.get(tuple(sizes.values())) or self._build(sizes)
            self._programs[tuple(sizes.values())] = built
            self._programs.move_to_end(tuple(sizes.values()))
            if len(self._programs) > MOST_PROGRAMS:
                self._programs.popitem(last=False)
        given = {}
        for name in self.inputs:
            rows, *shape = built.shapes[name]
            if inputs[name].shape != (images * rows, *shape):
                raise ValueError(f"input {name} is of shape {inputs[name].shape}, not {(images * rows, *shape)}")
            values = inputs[name].transpose(0, 2, 3, 1) if len(shape) == CHANNEL_RANK - 1 else inputs[name]
            given[built.tensors[name]] = np.ascontiguousarray(values, np.float32).reshape(images, -1)
        outputs = [built.tensors[name] for name in self._graph.outputs]
        found = built.program.run(given, outputs, images, MOST_IMAGES)
        return [
            _logical(values, built.shapes[name], images)
            for name, values in zip(self._graph.outputs, found, strict=True)
        ]

    def _sizes(self, inputs: Mapping[str, Floats]) -> dict[str, int]:
        """Return what the names of free dimensions stand for: the height and the width of the images."""
        sizes = {**SIZES}
        for name, dims in self._graph.inputs.items():
            if len(dims) != inputs[name].ndim:
                raise ValueError(f"input {name} is of shape {inputs[name].shape}, not {dims}")
            free = zip(dims[1:], inputs[name].shape[1:], strict=True)
            sizes |= {dim: length for dim, length in free if isinstance(dim, str)}
        return sizes

    def _build(self, sizes: Mapping[str, int]) -> "_Built":
        named = {"r": self._patches, **sizes}
        shapes = infer(self._graph, self._constants, self._nodes, named, exact=self._exact, limited=False)
        lowering = _Lowering(Program(self._core), self._constants, shapes, self._pack)
        for name in self.inputs:
            lowering.tensors[name] = lowering.program.tensor(int(np.prod(shapes[name])))
        inputs = set(lowering.tensors.values())
        for chain in _chains(self._nodes, self._graph.outputs, shapes):
            lowering.lower(chain)
        seen = set[int]()
        for name in self._graph.outputs:
            if lowering.tensors[name] in inputs | seen:  # a result has memory of its own
                lowering.tensors[name] = lowering.program.map(lowering.tensors[name], 1, ())
            seen.add(lowering.tensors[name])
        return _Built(lowering.program, lowering.tensors, shapes)

    def _pack(self, node: Node) -> Weights:
        """Return the weights of a convolution or a matrix product, which no size of images changes."""
        if node.outputs[0] not in self._weights:
            w = self._constants[node.inputs[1]]
            rows = w.T if node.kind == "MatMul" else w.transpose(0, 2, 3, 1).reshape(len(w), -1)
            self._weights[node.outputs[0]] = Weights(
                self._core, np.ascontiguousarray(rows, np.float32), *self._units(node, rows)
            )
        return self._weights[node.outputs[0]]

    def _units(self, node: Node, rows: NDArray[Any]) -> tuple[Floats | None, float]:
        """Return the units of weights and inputs, if both are proven to be integers of 16 bits in them; else None."""
        if not self._exact:
            return None, 1
        x, units = self._ranges[node.inputs[0]].whole(), unit_of(rows.astype(np.float64))
        fits = x.most[0] <= INT16_MAX * x.unit[0] and (np.abs(rows) <= INT16_MAX * units[:, None]).all()
        return (units.astype(np.float32), float(x.unit[0])) if fits else (None, 1)


class _Built(NamedTuple):
    program: Program
    tensors: Mapping[str, int]
    shapes: Mapping[str, Shape]


def _logical(values: Floats, shape: Shape, images: int) -> Floats:
    """Return a result as ONNX orders it."""
    rows, *rest = shape
    if len(shape) != CHANNEL_RANK:
        return values.reshape(images * rows, *rest)
    c, h, w = rest
    return values.reshape(images * rows, h, w, c).transpose(0, 3, 1, 2)


def _chains(nodes: Iterable[Node], outputs: Sequence[str], shapes: Mapping[str, Shape]) -> list[list[Node]]:
    """Return the nodes in chains: behind the first one come nodes that only change each number of what it gives.

    The chains are in the order of their last nodes, so that all that a chain needs is there.
    """
    uses = Counter([*outputs, *(name for node in nodes for name in node.inputs)])
    chains, open_chains = list[list[Node]](), dict[str, list[Node]]()
    for node in nodes:
        chain = None
        if node.kind in BINARY or node.kind in UNARY:
            sides = node.inputs[:2] if node.kind in ("Add", "Mul") else node.inputs[:1]
            fits = [name for name in sides if name in open_chains and shapes[name] == shapes[node.outputs[0]]]
            chain = open_chains.pop(fits[0]) if fits else None
        if chain is None:
            chain = []
        else:
            chains.remove(chain)
        chain.append(node)
        chains.append(chain)
        extends = node.kind in BINARY or node.kind in UNARY or node.kind in ("Conv", "MatMul", "MaxPool", "Gather")
        if extends and uses[node.outputs[0]] == 1 and node.outputs[0] not in outputs:
            open_chains[node.outputs[0]] = chain
    return chains


class _Lowering:
    """Turn chains of nodes into steps of a program."""

    def __init__(
        self, program: Program, constants: Constants, shapes: Mapping[str, Shape], pack: Callable[[Node], Weights]
    ) -> None:
        self.program, self.tensors = program, dict[str, int]()
        self._constants, self._shapes, self._pack = constants, shapes, pack

    def lower(self, chain: Sequence[Node]) -> None:
        """Add the steps of a chain."""
        head, out = chain[0], chain[0].outputs[0]
        if head.kind in BINARY or head.kind in UNARY:
            result = self._changed(chain)
        elif head.kind in ("Conv", "MatMul"):
            result = self._linear(head, self._changes(out, chain[1:]))
        elif head.kind == "MaxPool":
            window, changes = self._window(head.inputs[0], 1, 1), self._changes(out, chain[1:])
            result = self.program.pool(self.tensors[head.inputs[0]], window, changes)
        elif head.kind == "Gather":
            table = self._constants[head.inputs[0]].astype(np.float32)
            changes = self._changes(out, chain[1:])
            result = self.program.gather(self.tensors[head.inputs[1]], table.reshape(len(table), -1), changes)
        elif head.kind in ("Identity", "Cast"):
            result = self.tensors[head.inputs[0]]
        else:
            result = self._moved(head)
        self.tensors[chain[-1].outputs[0]] = result

    def _changed(self, chain: Sequence[Node]) -> int:
        """Add a chain that begins with a node that changes each number."""
        head, shape = chain[0], self._shapes[chain[0].outputs[0]]
        source = head.inputs[0]
        if self._shapes[source] != shape and head.kind in ("Add", "Mul"):
            source = next((name for name in head.inputs if self._shapes.get(name) == shape), source)
        changes = self._changes(source, chain)
        return self.program.map(self._spread(source, shape), shape[1 if len(shape) == CHANNEL_RANK else -1], changes)

    def _linear(self, node: Node, changes: list[Change]) -> int:
        source, weights = node.inputs[0], self._pack(node)
        if node.kind == "MatMul":
            rows, inputs = self._shapes[source]
            return self.program.linear(self.tensors[source], Window(rows, 1, 1, inputs), weights, changes)
        stride = node.attributes.get("strides", (1, 1))
        assert isinstance(stride, tuple)
        window = self._window(source, self._constants[node.inputs[1]].shape[2], stride[0])
        if len(node.inputs) > 2:  # the third one is a bias
            changes = [Change(ADD, values=self._constants[node.inputs[2]].astype(np.float32)), *changes]
        return self.program.linear(self.tensors[source], window, weights, changes)

    def _window(self, source: str, k: int, stride: int) -> Window:
        parts, c, h, w = self._shapes[source]
        return Window(parts, h, w, c, k, stride)

    def _changes(self, name: str, nodes: Sequence[Node]) -> list[Change]:
        """Return what nodes do, one after another, to the numbers of the tensor `name`."""
        changes = []
        for node in nodes:
            changes.append(self._change(name, node))
            name = node.outputs[0]
        return changes

    def _change(self, name: str, node: Node) -> Change:
        if node.kind == "Floor":
            return Change(FLOOR)
        if node.kind == "Relu":
            return Change(CLIP, high=math.inf)
        if node.kind == "Clip":
            low, high = (float(self._constants[bound]) for bound in node.inputs[1:])
            return Change(CLIP, low=low, high=high)
        kind, (first, second) = BINARY[node.kind], node.inputs
        other = second if name == first else first
        if other in self._constants:
            values = self._constants[other].astype(np.float32)
            return Change(kind, values=values) if values.ndim else Change(kind, low=float(values))
        shape, whole = self._shapes[other], self._shapes[node.outputs[0]]
        if len(shape) == CHANNEL_RANK and shape[1:] == (whole[1], 1, 1):
            return Change(kind, self.tensors[other], whole[2] * whole[3])
        return Change(kind, self._spread(other, whole))

    def _spread(self, name: str, shape: Shape) -> int:
        """Return a tensor whose axes of length 1 are repeated to fill a shape."""
        own = self._shapes[name]
        if own == shape:
            return self.tensors[name]
        steps = _steps(own)
        return self._copied(
            name, shape, [np.arange(n) * (n == m) * step for n, m, step in zip(shape, own, steps, strict=True)]
        )

    def _moved(self, node: Node) -> int:
        """Add a node that only moves numbers."""
        source, shape = node.inputs[0], self._shapes[node.outputs[0]]
        if node.kind == "Reshape":
            return self._reshaped(source, shape)
        if node.kind == "Concat":
            return self._joined(node, shape)
        own = self._shapes[source]
        steps = _steps(own)
        places: list[Ints] = [np.arange(n) for n in shape]
        match node.kind:
            case "Transpose":
                perm = node.attributes["perm"]
                assert isinstance(perm, tuple)
                return self._copied(source, shape, [np.arange(own[axis]) * steps[axis] for axis in perm])
            case "DepthToSpace":
                rows, columns = places[2], places[3]
                sources = [places[0] * steps[0], 4 * places[1] * steps[1]]
                sources += [
                    rows // 2 * steps[2] + rows % 2 * 2 * steps[1],
                    columns // 2 * steps[3] + columns % 2 * steps[1],
                ]
                return self._copied(source, shape, sources)
            case "Slice":
                starts, _, axes = (self._constants[name].tolist() for name in node.inputs[1:])
                for start, axis in zip(starts, axes, strict=True):
                    places[axis] = places[axis] + start
            case "Resize":
                factor = shape[2] // own[2]
                places[2:] = [place // factor for place in places[2:]]
            case "Tile":
                places = [place % n for place, n in zip(places, own, strict=True)]
            case "Pad":
                places = [np.minimum(place, n - 1) for place, n in zip(places, own, strict=True)]
            case _:
                raise AssertionError(node.kind)  # the proof knows no other
        return self._copied(source, shape, [place * step for place, step in zip(places, steps, strict=True)])

    def _reshaped(self, name: str, shape: Shape) -> int:
        """Return a tensor of the same numbers in another shape; ONNX counts them with the channels first."""
        own, tensor = self._shapes[name], self.tensors[name]
        if own == shape:
            return tensor
        if _has_channels(own):
            flat = self.program.tensor(math.prod(own))
            self._copy(
                tensor, flat, own, [np.arange(n) * step for n, step in zip(own, _steps(own), strict=True)], _rows(own)
            )
            tensor = flat
        if _has_channels(shape):
            made = self.program.tensor(math.prod(shape))
            sources = [np.arange(n) * step for n, step in zip(shape, _rows(shape), strict=True)]
            self._copy(tensor, made, shape, sources, _steps(shape))
            tensor = made
        return tensor

    def _joined(self, node: Node, shape: Shape) -> int:
        axis = node.attributes["axis"]
        assert isinstance(axis, int)
        made, at, steps = self.program.tensor(math.prod(shape)), 0, _steps(shape)
        for name in node.inputs:
            own = self._shapes[name]
            sources = [np.arange(n) * step for n, step in zip(own, _steps(own), strict=True)]
            self._copy(self.tensors[name], made, own, sources, steps, {axis: at})
            at += own[axis]
        return made

    def _copied(self, name: str, shape: Shape, sources: Sequence[Ints]) -> int:
        made = self.program.tensor(math.prod(shape))
        self._copy(self.tensors[name], made, shape, sources, _steps(shape))
        return made

    def _copy(
        self,
        source: int,
        target: int,
        shape: Shape,
        sources: Sequence[Ints],
        steps: Sequence[int],
        starts: Mapping[int, int] | None = None,
    ) -> None:
        """Move the numbers of a shape: `sources` are their places on each axis; in the target, an axis has a step."""
        targets = [
            (np.arange(n) + (starts or {}).get(i, 0)) * step
            for i, (n, step) in enumerate(zip(shape, steps, strict=True))
        ]
        order = sorted(range(len(shape)), key=lambda axis: -steps[axis])
        axes = [(sources[axis].astype(np.int32), targets[axis].astype(np.int32)) for axis in order]
        self.program.copy(source, target, axes)


def _has_channels(shape: Shape) -> bool:
    """Say whether a tensor has its channels last in a program, and somewhere else in ONNX."""
    return len(shape) == CHANNEL_RANK and shape[2:] != (1, 1)


def _rows(shape: Shape) -> list[int]:
    """Return by how much a step on each axis moves in a tensor as ONNX orders it."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _steps(shape: Shape) -> list[int]:
    """Return by how much a step on each axis moves in a tensor of a program."""
    if len(shape) != CHANNEL_RANK:
        return _rows(shape)
    _, c, h, w = shape
    return [c * h * w, 1, w * c, c]
