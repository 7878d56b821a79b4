# SPDX-License-Identifier: MIT
"""A masked MLP in integers (MADE, Germain et al. 2015): outputs for each latent, from those before it.

Latents are in an order and in groups. The latents of a group do not see each other, so that a group takes one matrix
product for each layer. Each latent has the same number of units in both hidden layers, and the same number of outputs;
they see only units of its own group and of earlier groups. There may also be a context, which all units see.

Matrix products run in float32, on integers whose every sum stays below 2^24. So no sum is ever rounded, and any order
of summation gives the same result; `MaskedMLP.__post_init__` proves the bound from the weights.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.core import latents as in_core
from smalti.core.latents import PackedMlp
from smalti.core.library import core
from smalti.entropy.frequencies import Ints
from smalti.util.parallel import once

QUALITY_EMBEDDINGS = 9
"""The number of quality embeddings: sets of biases, learned at as many qualities and interpolated in between."""
SUBSTEPS = 8
"""The number of operating points from one quality embedding to the next."""
POINTS = (QUALITY_EMBEDDINGS - 1) * SUBSTEPS + 1
ACTIVATION_MAX = 1023
"""The largest value of a hidden unit; 128 stands for 1.0 of training."""
EXACT = 1 << 24
"""Every integer whose absolute value is below this is a float32 number."""

DTYPES = {"w": np.int8, "b": np.int32, "q": np.int32, "s": np.uint8}
"""The types of the arrays, by the first letters of their names; the proof that sums are exact counts on them."""

Floats = NDArray[np.float32]


def abs_sums(weights: NDArray[np.int8] | NDArray[np.int16]) -> Ints:
    """Return the sum of the absolute values of each row."""
    step = max(1, (1 << 20) // max(1, weights.shape[1]))  # a stranger's weights may fit in memory only once
    parts = (weights[i : i + step].astype(np.int64) for i in range(0, len(weights), step))
    return np.concatenate([np.abs(part).sum(1) for part in parts])


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer in float32, its shift already applied."""

    weights: Floats  # out in
    embeddings: Floats  # out QUALITY_EMBEDDINGS
    bias: Floats  # out 1

    def part(self, inputs: slice, outputs: slice) -> "Layer":
        """Return the layer that has only these inputs and these outputs."""
        return Layer(self.weights[outputs, inputs], self.embeddings[outputs], self.bias[outputs])

    def sums(self, x: Floats, embeddings: Floats) -> Floats:
        """Return the sums (`out n`) for inputs (`in n`) and embedding weights (`QUALITY_EMBEDDINGS n`).

        They are exact, since all terms are multiples of one power of two.
        """
        total: Floats = self.weights @ x
        total += self.embeddings @ embeddings
        total += self.bias
        return total


@dataclass(frozen=True, eq=False)
class MaskedMLP:
    """A masked MLP. `l`: latents, `u`: hidden units of all latents, `o`: outputs of all latents, `k`: context.

    A layer is `(w @ inputs + b + embedding_weights @ q) >> s`, where the embedding weights add up to SUBSTEPS.

    Raises:
        ValueError: shapes do not fit, or a sum could leave what float32 holds exactly.
    """

    w1: NDArray[np.int8]  # u k+l
    w2: NDArray[np.int8]  # u u
    w3: NDArray[np.int8]  # o u
    b1: NDArray[np.int32]  # u
    b2: NDArray[np.int32]  # u
    b3: NDArray[np.int32]  # o
    q1: NDArray[np.int32]  # QUALITY_EMBEDDINGS u
    q2: NDArray[np.int32]  # QUALITY_EMBEDDINGS u
    q3: NDArray[np.int32]  # QUALITY_EMBEDDINGS o
    s1: NDArray[np.uint8]  # u
    s2: NDArray[np.uint8]  # u
    s3: NDArray[np.uint8]  # o
    latents: int
    largest: int  # the largest absolute value of an input
    group: int = 1  # latents of a group

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
                raise ValueError(f"prior: {field.name} holds {array.dtype}, no integers of the right kind")
        for layer, top in (("1", self.largest), ("2", ACTIVATION_MAX), ("3", ACTIVATION_MAX)):
            w, b, q, s = (getattr(self, name + layer) for name in "wbqs")
            worst = abs_sums(w) * top + np.abs(b.astype(np.int64))
            worst += SUBSTEPS * np.abs(q.astype(np.int64)).max(0)
            if s.max() > 24:
                raise ValueError(f"prior: layer {layer} has a shift of {s.max()}; allowed are 0 to 24")
            if worst.max() >= EXACT:
                raise ValueError(f"prior: a sum of layer {layer} could reach {worst.max()}, beyond the {EXACT} allowed")

    @property
    def context(self) -> int:
        """Return how many numbers the context has."""
        return int(self.w1.shape[1]) - self.latents

    def outputs(self, x: Floats, embeddings: Floats) -> Ints:
        """Return the outputs of all latents (`n l outputs`) at once.

        x: context and latents (`k+l n`); embeddings: their weights (`QUALITY_EMBEDDINGS n`). The outputs are the same
        integers as `Steps` computes one group after another.
        """
        one, two, three = self.layers
        a1 = np.floor(one.sums(x, embeddings)).clip(0, ACTIVATION_MAX)
        a2 = (np.floor(two.sums(a1, embeddings)) + a1).clip(0, ACTIVATION_MAX)
        return np.floor(three.sums(a2, embeddings)).T.reshape(x.shape[1], self.latents, -1).astype(np.int64)

    def packed(self) -> PackedMlp | None:
        """Return the network as the compiled core takes it, or None if numpy computes."""
        found = core()
        if found is None:
            return None
        packed: dict[int, PackedMlp | None] = self.__dict__.setdefault("_packed", {})
        if found.kernel not in packed:
            layers = [in_core.Layer(*(getattr(self, name + i) for name in "wbqs")) for i in "123"]
            fits = PackedMlp.fits(layers, self.latents, self.group)
            packed[found.kernel] = PackedMlp(found, layers, self.latents, self.group) if fits else None
        return packed[found.kernel]

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the fields, without cached values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @once
    def layers(self) -> tuple[Layer, Layer, Layer]:
        """Return the layers times 2^-shift in float32, which is exact; the masked weights are 0."""
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
    """The outputs for one group of latents after another: `next` returns them, `take` is told the latents' values."""

    def __init__(self, mlp: MaskedMLP, context: Floats, embeddings: Floats) -> None:
        """Begin with a context (`k n`) and embedding weights (`QUALITY_EMBEDDINGS n`)."""
        self._mlp, self._embeddings, self.at = mlp, embeddings, 0
        k, n, u = mlp.context, context.shape[1], len(mlp.b1)
        one = mlp.layers[0]
        self._known = one.part(slice(0, k), slice(None)).sums(context, embeddings) if k else None
        self._latents = np.zeros((mlp.latents, n), np.float32)
        self._a1, self._a2 = np.zeros((u, n), np.float32), np.zeros((u, n), np.float32)

    def next(self) -> Ints:
        """Return the outputs (`n group outputs`) for the next group, which begins at latent `at`."""
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
        """Set the latents of the group (`n group`), and go on to the next group."""
        end = self.at + self._mlp.group
        self._latents[self.at : end] = latents.T
        self.at = end


def embedding_weights(points: Ints) -> Ints:
    """Return the weights of the quality embeddings (`n QUALITY_EMBEDDINGS`) at operating points (`n`).

    They interpolate linearly between two neighbours, and add up to SUBSTEPS.

    >>> embedding_weights(np.array([0, 11]))[:, :4].tolist()
    [[8, 0, 0, 0], [0, 5, 3, 0]]
    """
    distance: Ints = np.abs(points[:, None] - SUBSTEPS * np.arange(QUALITY_EMBEDDINGS))
    return (SUBSTEPS - distance).clip(0)


def embedding_columns(points: Ints) -> Floats:
    """Return the transposed `embedding_weights` as float32 (`QUALITY_EMBEDDINGS n`)."""
    return np.ascontiguousarray(embedding_weights(points).T, np.float32)
