"""Random networks of the operators that bundles may use, whose sums reach the bounds of the proof, or nearly so."""

import math
from dataclasses import replace

import numpy as np

from smalti.model.masked_mlp import EXACT
from smalti.model.proof.exactness import LIMITS, SIGNED, prove
from smalti.model.proof.onnx_reader import Graph, Node
from smalti.model.proof.shape_inference import NEAREST, fold, infer

FREE = {"n": 1, "h": 5, "w": 3}


class Builder:
    """A graph that grows by one random operator at a time; operators that the proof refuses are left out."""

    def __init__(self, rng: np.random.Generator, *, exact: bool) -> None:
        self.rng, self.exact, self.patches = rng, exact, int(rng.choice([1, 1, 2, 4]))
        h, w, c = (int(rng.integers(1, most)) for most in (8, 8, 12))
        inputs = {"v": ("r", int(rng.integers(1, 40))), "anchors": ("n", 9), "features": ("n", c, h, w)}
        inputs |= {"x": ("n", int(rng.integers(1, 5)), 5, 3), "errors": ("n",), "u": ("r", c, h, w)}
        self.graph = Graph(inputs, ("v",), {}, ())
        self.images = int(rng.choice([1, 3, 70]))

    @property
    def sizes(self):
        return {**FREE, "r": self.patches}

    def shapes(self):
        return infer(self.graph, *fold(self.graph), self.sizes, exact=self.exact)

    def grow(self, steps: int) -> Graph:
        for _ in range(steps):
            shapes = self.shapes()
            ranges = prove(self.graph, self.patches, sizes=FREE).ranges if self.exact else None
            made = self.node(shapes, ranges)
            if made is None:
                continue
            (kind, names, attributes), constants = made
            node = Node(kind, tuple(names), (f"t{len(self.graph.nodes)}",), attributes)
            nodes = (*self.graph.nodes, node)
            if kind == "Gather":  # by integers
                index = f"i{len(nodes)}"
                nodes = (
                    *nodes[:-1],
                    Node("Cast", (names[1],), (index,), {"to": 7}),
                    replace(node, inputs=(names[0], index)),
                )
            grown = replace(self.graph, nodes=nodes, constants={**self.graph.constants, **constants})
            try:
                if self.exact:
                    prove(grown, self.patches, sizes=FREE)
                else:
                    infer(grown, *fold(grown), self.sizes, exact=False)
            except ValueError:
                continue
            if math.prod(infer(grown, *fold(grown), self.sizes, exact=self.exact)[node.outputs[0]]) < 20_000:
                self.graph = grown
        made = [node.outputs[0] for node in self.graph.nodes if node.kind != "Cast"]
        used = {name for node in self.graph.nodes for name in node.inputs}
        ends = [name for name in made if name not in used] or made[-1:]
        extra = [name for name in made if self.rng.random() < 0.1 and name not in ends]
        inputs = {name: dims for name, dims in self.graph.inputs.items() if name in used}
        self.graph = replace(self.graph, inputs=inputs, outputs=(*ends, *extra))
        return self.graph

    def constant(self, values):
        return f"c{len(self.graph.nodes)}.{self.rng.integers(1 << 40)}", np.asarray(values)

    def weights(self, shape, name, ranges):
        """Weights (`outputs ...`) that take a sum nearly as far as is allowed."""
        w = self.rng.normal(size=shape) * (self.rng.random(shape) < self.rng.choice([0.2, 1]))
        if not self.exact:
            return w.astype(np.float32)
        x = ranges[name].whole()
        room = (EXACT - 1) * x.unit[0] / max(x.most[0], x.unit[0])
        total = np.maximum(np.abs(w).reshape(shape[0], -1).sum(1), 1e-9).reshape(-1, *[1] * (len(shape) - 1))
        most = self.rng.choice([room, min(room, 30_000), min(room, 127)])
        return np.ldexp(np.trunc(w / total * most), -self.rng.integers(0, 20)).astype(np.float32)

    def node(self, shapes, ranges):
        rng, indices = self.rng, {name for node in self.graph.nodes if node.kind == "Cast" for name in node.outputs}
        name = str(rng.choice([name for name in shapes if name not in indices]))
        shape = shapes[name]
        kinds = ["Floor", "Clip", "Add", "Add", "AddConstant", "Identity", "Reshape", "Transpose", "Slice", "Tile"]
        kinds += ["Concat", "Gather"] + ["MatMul"] * 3 * (len(shape) == 2)
        kinds += (["Conv"] * 6 + ["DepthToSpace", "Resize", "AddImage"]) * (len(shape) == 4)
        kinds += (
            [] if self.exact else ["Relu", "Sub", "Mul", "Div", "MulConstant", "Pad"] + ["MaxPool"] * (len(shape) == 4)
        )
        kind = str(rng.choice(kinds))
        match kind:
            case "Floor" | "Identity" | "Relu":
                return (kind, [name], {}), {}
            case "Clip":
                low, high = self.constant(np.float32(0)), self.constant(np.float32(rng.choice([1, 255, 1023, 40_000])))
                return (kind, [name, low[0], high[0]], {}), dict([low, high])
            case "MatMul":
                w = self.constant(self.weights((int(rng.choice([1, 5, 16, 70, 130])), shape[1]), name, ranges).T)
                return (kind, [name, w[0]], {}), dict([w])
            case "Conv":
                k, stride = int(rng.choice([1, 3, 5, 7])), int(rng.choice([1, 1, 2]))
                w = self.weights((int(rng.choice([1, 4, 17, 33, 65])), shape[1], k, k), name, ranges)
                constants = [self.constant(w)]
                if rng.random() < 0.5:
                    constants.append(self.constant(np.ldexp(rng.integers(-99, 99, len(w)), -3).astype(np.float32)))
                attributes = {"pads": (k // 2,) * 4} | ({"strides": (stride, stride)} if rng.random() < 0.7 else {})
                return (kind, [name, *(constant for constant, _ in constants)], attributes), dict(constants)
            case "AddConstant" | "MulConstant":
                size = shape[1:] if len(shape) == 2 and rng.random() < 0.5 else ()
                w = self.constant(np.ldexp(rng.integers(-500, 500, size), -4).astype(np.float32))
                return (kind[:3], [name, w[0]], {}), dict([w])
            case "Add" | "Sub" | "Mul" | "Div":
                return (kind, [name, self.other(shapes, indices, shape)][:: rng.choice([-1, 1])], {}), {}
            case "AddImage":
                fitting = [
                    other for other, s in shapes.items() if s == (shape[0], shape[1], 1, 1) and other not in indices
                ]
                return (("Add", [name, str(rng.choice(fitting))], {}), {}) if fitting else None
        return self.moved(kind, name, shape, shapes, indices, ranges)

    def other(self, shapes, indices, shape):
        """Another tensor that can be added."""
        fits = [
            other
            for other, s in shapes.items()
            if other not in indices
            and len(s) == len(shape)
            and all(a == b or 1 in (a, b) for a, b in zip(s, shape, strict=True))
        ]
        return str(self.rng.choice(fits))

    def moved(self, kind, name, shape, shapes, indices, ranges):  # noqa: C901
        rng = self.rng
        match kind:
            case "Reshape":
                rest = math.prod(shape[1:])
                a = int(rng.choice([d for d in range(1, rest + 1) if rest % d == 0]))
                b = int(rng.choice([d for d in range(1, a + 1) if a % d == 0]))
                targets = [
                    [-1, rest],
                    [-1, rest, 1, 1],
                    [-1, rest // a, a],
                    [-1, rest // a, a // b, b],
                    [-1, b, 1, rest // b, 1],
                ]
                to = self.constant(np.array(targets[rng.integers(len(targets))]))
                return (kind, [name, to[0]], {}), dict([to])
            case "Transpose":
                return (kind, [name], {"perm": (0, *(1 + rng.permutation(len(shape) - 1)).tolist())}), {}
            case "DepthToSpace":
                return (kind, [name], {"blocksize": 2, "mode": "CRD"}), {}
            case "MaxPool":
                return (kind, [name], {"kernel_shape": (2, 2), "strides": (2, 2)}), {}
            case "Resize":
                factor = rng.integers(1, 4)
                to = self.constant(np.array([1, 1, factor, factor], np.float32))
                return (kind, [name, "", to[0]], NEAREST), dict([to])
            case "Tile":
                to = self.constant(np.array([1, *rng.integers(1, 3, len(shape) - 1)]))
                return (kind, [name, to[0]], {}), dict([to])
            case "Pad":
                to = self.constant(np.array([0] * (len(shape) + 1) + rng.integers(0, 3, len(shape) - 1).tolist()))
                return (kind, [name, to[0]], {"mode": "edge"}), dict([to])
            case "Concat":
                axis = int(rng.integers(1, len(shape))) if len(shape) > 1 else 1
                fits = [
                    other
                    for other, s in shapes.items()
                    if other not in indices
                    and len(s) == len(shape)
                    and (*s[:axis], *s[axis + 1 :]) == (*shape[:axis], *shape[axis + 1 :])
                ]
                more = [str(rng.choice(fits)) for _ in range(rng.integers(1, 4))]
                return (kind, [name, *more], {"axis": axis}), {}
            case "Slice":
                axes = [axis for axis in range(1, len(shape)) if rng.random() < 0.7]
                starts = [int(rng.integers(0, shape[axis])) for axis in axes]
                ends = [int(rng.integers(start + 1, shape[axis] + 1)) for start, axis in zip(starts, axes, strict=True)]
                if not axes:
                    return None
                told = [self.constant(np.array(values)) for values in (starts, ends, axes)]
                return (kind, [name, *(constant for constant, _ in told)], {}), dict(told)
        if ranges is None or ranges[name].signed:  # Gather
            return None
        entries = int(ranges[name].most.max()) + 1
        columns = (7,) if len(shape) == 1 and rng.random() < 0.7 else ()
        table = (
            self.constant(rng.integers(-300, 300, (entries, *columns)).astype(np.float32)) if entries < 2000 else None
        )
        return None if table is None else (("Gather", [table[0], name], {"axis": 0}), dict([table]))

    def inputs(self):
        """Inputs at their bounds, and anywhere within them."""
        given = {}
        for name, dims in self.graph.inputs.items():
            rows, *shape = (dim if isinstance(dim, int) else self.sizes[dim] for dim in dims)
            size = (self.images * rows, *shape)
            most, low = LIMITS[name], -LIMITS[name] if name in SIGNED else 0
            values = self.rng.integers(low, most + 1, size)
            ends = self.rng.choice([low, most, 0], size)
            values = np.where(self.rng.random((len(values), *[1] * len(shape))) < 0.5, ends, values)
            if name == "anchors":  # they sum to the limit
                values = np.zeros(size, int)
                values[np.arange(len(values)), self.rng.integers(0, 9, len(values))] = most
            given[name] = values.astype(np.float32)
        return given
