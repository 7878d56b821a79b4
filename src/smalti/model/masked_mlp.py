# SPDX-License-Identifier: MIT
"""A masked MLP in integers (MADE, Germain et al. 2015): outputs for latents in an order, each from those before it.

Latents come in groups, which do not see each other: a group takes one matrix product a layer. Each latent has as many
units as any other in each of two layers, which see the units of its own and of earlier groups only, and so many
outputs. Besides the latents there may be a context, which all units see.

Matrix products run on float32, on integers whose every sum stays below 2^24, so that no rounding ever happens and
any order of summation gives the same result; `MaskedMLP.__post_init__` proves the bound from the weights.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from smalti.entropy.frequencies import Ints
from smalti.util.parallel import once

QUALITY_EMBEDDINGS = 9
"""Qualities at which biases are learned; those in between are interpolated."""
SUBSTEPS = 8
"""Operating points from one anchor to the next."""
POINTS = (QUALITY_EMBEDDINGS - 1) * SUBSTEPS + 1
ACTIVATION_MAX = 1023
"""Of a hidden unit; 128 is the 1.0 of training."""
EXACT = 1 << 24
"""Below this every integer is a float32."""

DTYPES = {"w": np.int8, "b": np.int32, "q": np.int32, "s": np.uint8}
"""Of the arrays, by the first letters of their names; the proof of the bound counts on them."""

Floats = NDArray[np.float32]


def abs_sums(weights: NDArray[np.int8] | NDArray[np.int16]) -> Ints:
    """Of each row, the sum of its absolute values; a stranger's weights may be as many as fit in memory once."""
    step = max(1, (1 << 20) // max(1, weights.shape[1]))
    parts = (weights[i : i + step].astype(np.int64) for i in range(0, len(weights), step))
    return np.concatenate([np.abs(part).sum(1) for part in parts])


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer with its shift done."""

    weights: Floats  # out in
    embeddings: Floats  # out ANCHORS
    bias: Floats  # out 1

    def part(self, inputs: slice, outputs: slice) -> "Layer":
        """Some inputs, some outputs."""
        return Layer(self.weights[outputs, inputs], self.embeddings[outputs], self.bias[outputs])

    def sums(self, x: Floats, embeddings: Floats) -> Floats:
        """`x` (`in n`) and anchors (`ANCHORS n`) to `out n`. Multiples of a power of two: exact."""
        total: Floats = self.weights @ x
        total += self.embeddings @ embeddings
        total += self.bias
        return total


@dataclass(frozen=True, eq=False)
class MaskedMLP:
    """The integers. `l`: latents, `u`: hidden units of all latents, `o`: outputs of all latents, `k`: context.

    A layer is `(weights @ inputs + bias + anchors @ biases_of_anchors) >> shift`; the anchors' weights add up to 8.

    Raises:
        ValueError: shapes do not fit, or a sum could leave what float32 holds exactly.
    """

    w1: NDArray[np.int8]  # u k+l
    w2: NDArray[np.int8]  # u u
    w3: NDArray[np.int8]  # o u
    b1: NDArray[np.int32]  # u
    b2: NDArray[np.int32]  # u
    b3: NDArray[np.int32]  # o
    q1: NDArray[np.int32]  # anchors u
    q2: NDArray[np.int32]  # anchors u
    q3: NDArray[np.int32]  # anchors o
    s1: NDArray[np.uint8]  # u
    s2: NDArray[np.uint8]  # u
    s3: NDArray[np.uint8]  # o
    latents: int
    largest: int  # absolute value of an input
    group: int = 1  # latents that come at once

    def __post_init__(self) -> None:
        n, u, inputs, o = self.latents, *self.w1.shape, len(self.w3)
        if n < 1 or u % n or o % n or inputs < n or self.group < 1 or n % self.group:
            raise ValueError(f"prior: {u} hidden units and {o} outputs for {n} latents in groups of {self.group}")
        shapes: dict[str, tuple[int, ...]] = {"w1": (u, inputs), "w2": (u, u), "w3": (o, u)}
        for i, outputs in (("1", u), ("2", u), ("3", o)):
            shapes |= {f"b{i}": (outputs,), f"q{i}": (QUALITY_EMBEDDINGS, outputs), f"s{i}": (outputs,)}
        for field in fields(self)[:12]:
            array = getattr(self, field.name)
            if array.shape != shapes[field.name]:
                raise ValueError(f"prior: {field.name} is of shape {array.shape}")
            if array.dtype != DTYPES[field.name[0]]:
                raise ValueError(f"prior: {field.name} holds no integers of the right kind, but {array.dtype}")
        for layer, top in (("1", self.largest), ("2", ACTIVATION_MAX), ("3", ACTIVATION_MAX)):
            w, b, q, s = (getattr(self, name + layer) for name in "wbqs")
            worst = abs_sums(w) * top + np.abs(b.astype(np.int64))
            worst += SUBSTEPS * np.abs(q.astype(np.int64)).max(0)
            if s.max() > 24:
                raise ValueError(f"prior: a shift of {s.max()} in layer {layer}; allowed are 0 to 24")
            if worst.max() >= EXACT:
                raise ValueError(f"prior: a sum of layer {layer} could reach {worst.max()}, beyond the {EXACT} allowed")

    @property
    def context(self) -> int:
        """How many numbers of context there are."""
        return int(self.w1.shape[1]) - self.latents

    def outputs(self, x: Floats, embeddings: Floats) -> Ints:
        """Context and latents (`k+l n`) and anchors (`ANCHORS n`) to outputs (`n l outputs`), all at once.

        The same integers as `Steps` finds one group after another.
        """
        one, two, three = self.layers
        a1 = np.floor(one.sums(x, embeddings)).clip(0, ACTIVATION_MAX)
        a2 = (np.floor(two.sums(a1, embeddings)) + a1).clip(0, ACTIVATION_MAX)
        return np.floor(three.sums(a2, embeddings)).T.reshape(x.shape[1], self.latents, -1).astype(np.int64)

    @once
    def layers(self) -> tuple[Layer, Layer, Layer]:
        """The layers times 2^-shift in float32, which changes no digit, with the weights that look ahead at zero."""
        n, k = self.latents, self.context
        latent = np.arange(n) // self.group
        unit, output = latent.repeat(self.w1.shape[0] // n), latent.repeat(self.w3.shape[0] // n)
        sees = np.concatenate([np.full(k, -1), latent])
        masks = sees < unit[:, None], unit <= unit[:, None], unit <= output[:, None]
        layers = []
        for mask, i in zip(masks, "123", strict=True):
            w, b, q, s = (getattr(self, name + i) for name in "wbqs")
            scale = np.ldexp(np.float32(1), -s.astype(np.int32))
            weights = (w * mask).astype(np.float32) * scale[:, None]
            layers.append(Layer(weights, (q * scale).T.astype(np.float32), (b * scale)[:, None].astype(np.float32)))
        return layers[0], layers[1], layers[2]


class Steps:
    """The outputs for one group of latents after another: `next` gives them, `take` wants the values of the latents."""

    def __init__(self, mlp: MaskedMLP, context: Floats, embeddings: Floats) -> None:
        """context: `k n`; anchors: `ANCHORS n`."""
        self._mlp, self._embeddings, self.at = mlp, embeddings, 0
        k, n, u = mlp.context, context.shape[1], len(mlp.b1)
        one = mlp.layers[0]
        self._known = one.part(slice(0, k), slice(None)).sums(context, embeddings) if k else None
        self._latents = np.zeros((mlp.latents, n), np.float32)
        self._a1, self._a2 = np.zeros((u, n), np.float32), np.zeros((u, n), np.float32)

    def next(self) -> Ints:
        """Outputs (`n group outputs`) for the next group, that begins at latent `at`."""
        mlp, i, k = self._mlp, self.at, self._mlp.context
        u, o, end = len(mlp.b1) // mlp.latents, len(mlp.b3) // mlp.latents, i + mlp.group
        mine, seen, out = slice(i * u, end * u), slice(0, end * u), slice(i * o, end * o)
        one, two, three = mlp.layers
        if self._known is None:
            a1 = one.part(slice(0, i), mine).sums(self._latents[:i], self._embeddings)
        else:
            a1 = self._known[mine] + one.weights[mine, k : k + i] @ self._latents[:i]
        a1 = np.floor(a1, out=a1).clip(0, ACTIVATION_MAX, out=a1)
        self._a1[mine] = a1
        a2 = two.part(seen, mine).sums(self._a1[seen], self._embeddings)
        a2 = np.floor(a2, out=a2)
        a2 += a1
        self._a2[mine] = a2.clip(0, ACTIVATION_MAX, out=a2)
        outputs = np.floor(three.part(seen, out).sums(self._a2[seen], self._embeddings))
        return outputs.T.reshape(outputs.shape[1], mlp.group, o).astype(np.int64)

    def take(self, latents: Ints) -> None:
        """The latents of the group are these (`n group`); go on to the one behind it."""
        end = self.at + self._mlp.group
        self._latents[self.at : end] = latents.T
        self.at = end


def embedding_weights(points: Ints) -> Ints:
    """Weights of the anchors (`n ANCHORS`) for operating points (`n`): linear between two neighbours, in SUBSTEPS.

    >>> embedding_weights(np.array([0, 11]))[:, :4].tolist()
    [[8, 0, 0, 0], [0, 5, 3, 0]]
    """
    distance: Ints = np.abs(points[:, None] - SUBSTEPS * np.arange(QUALITY_EMBEDDINGS))
    return (SUBSTEPS - distance).clip(0)


def embedding_columns(points: Ints) -> Floats:
    """The same as float32, `ANCHORS n`."""
    return np.ascontiguousarray(embedding_weights(points).T, np.float32)
