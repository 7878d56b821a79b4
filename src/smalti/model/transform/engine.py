# SPDX-License-Identifier: MIT
"""Choose what runs a transform: the compiled core where there is one, or else numpy."""

import os
import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smalti.core import transform as compiled
from smalti.core.library import core
from smalti.model.mixing.reference.decisions import Coder
from smalti.model.transform.reference import COSTS, ReferenceTransform
from smalti.model.transform.transform import (
    COEFFICIENTS,
    GROUPS,
    LEVELS,
    OUTPUTS,
    SIDE,
    STARTS,
    Layer,
    Network,
    Transform,
    biases_at,
)
from smalti.util.parallel import in_order

Pixels = NDArray[np.uint8]
Coefficients = NDArray[np.int16]
PARTS = 4
"""The parts in which each thread gets the images that it transforms."""


def analyse(transform: Transform, x: Pixels, levels: Sequence[int]) -> Coefficients:
    """Return the coefficients (`n rows columns COEFFICIENTS`) of images (`n h w c`, c 1 or 3), one level each."""
    packed = _packed(transform)
    if packed is None:
        run = ReferenceTransform(transform)
        return np.concatenate([run.analyse(x[i : i + 1], level) for i, level in enumerate(levels)])
    model, of_level = packed
    own = [of_level[level] for level in levels]
    return np.concatenate(list(in_order(lambda some: compiled.analyse(model, x[some], own[some]), _parts(len(own)))))


def synthesise(transform: Transform, coded: Coefficients, levels: Sequence[int], shape: tuple[int, int, int]) -> Pixels:
    """Return the images (`n h w c`, `shape` is h w c) of coefficients, one level each."""
    packed = _packed(transform)
    if packed is None:
        run = ReferenceTransform(transform)
        return np.concatenate([run.synthesise(coded[i : i + 1], level, shape) for i, level in enumerate(levels)])
    model, of_level = packed
    own = [of_level[level] for level in levels]

    def images_of(some: slice) -> Pixels:
        return compiled.synthesise(model, coded[some], own[some], shape)

    return np.concatenate(list(in_order(images_of, _parts(len(own)))))


def _parts(n: int) -> list[slice]:
    """Return `n` images in parts for threads: few, because each takes time to hand out, and several for each thread."""
    size = -(-n // (PARTS * (os.cpu_count() or 1)))
    return [slice(i, i + size) for i in range(0, n, size)]


def encode(
    transform: Transform,
    targets: Coefficients,
    levels: Sequence[int],
    shape: tuple[int, int, int],
    kappa: int,
    factors: NDArray[np.uint16] | None = None,
) -> tuple[bytes, Coefficients, NDArray[np.float64]]:
    """Encode the coefficients of images of `shape` (h w c), one level each.

    Args:
        transform: the model.
        targets: the coefficients (`n rows columns COEFFICIENTS`).
        levels: of the images.
        shape: of each image.
        kappa: how many bits, in 2^-16 of a squared step each, weigh against the error.
        factors: how much more they do for each coefficient, times 256; None if it is 256 for all.

    Returns:
        The stream, the coefficients as the decoder knows them, and the bits that each image takes (`n`).
    """
    packed = _packed(transform)
    if packed is None:
        coder, blocks = Coder(None), (*targets.shape[1:3], shape[2])
        coded, bits = ReferenceTransform(transform).code(coder, np.array(levels), blocks, targets, kappa, factors)
        return coder.finish(), coded, bits
    return compiled.encode(packed[0], targets, [packed[1][level] for level in levels], shape, kappa, factors)


def decode(transform: Transform, stream: bytes, levels: Sequence[int], shape: tuple[int, int, int]) -> Coefficients:
    """Decode the coefficients (`n rows columns COEFFICIENTS`) of images of `shape` (h w c), one level each.

    Raises:
        CorruptError: the stream has another end than its images.
    """
    packed = _packed(transform)
    if packed is None:
        coder, (h, w, c) = Coder(stream), shape
        blocks = -(-h // SIDE), -(-w // SIDE), c
        coded, _ = ReferenceTransform(transform).code(coder, np.array(levels), blocks, None, 0)
        coder.finish()
        return coded
    return compiled.decode(packed[0], stream, [packed[1][level] for level in levels], shape)


class _Levels:
    """What depends on the levels of a transform, as the core takes it; each is made when it is first asked for."""

    def __init__(self, transform: Transform) -> None:
        self._transform = weakref.ref(transform)
        self._known = dict[int, compiled.PackedLevel]()

    def __getitem__(self, level: int) -> compiled.PackedLevel:
        found = self._known.get(level)
        if found is None:
            found = self._known[level] = self._made(level)
        return found

    def _made(self, level: int) -> compiled.PackedLevel:
        transform = self._transform()
        assert transform is not None
        assert 0 <= level < LEVELS

        def biases(network: Network) -> list[NDArray[np.int32]]:
            return [biases_at(layer, level) for layer in (network.first, network.second, network.third)]

        tables, prior = transform.tables, transform.prior
        return compiled.pack_level(
            {"analysis": biases(transform.analysis), "synthesis": biases(transform.synthesis)},
            {
                "context": biases_at(prior.context, level),
                "deep": biases_at(prior.second, level),
                "steps": tables.steps[level],
                "places": tables.places[level],
            },
        )


_KNOWN: weakref.WeakKeyDictionary[Transform, tuple[compiled.PackedTransform, _Levels]] = weakref.WeakKeyDictionary()
"""Transforms as the core takes them."""


def _packed(transform: Transform) -> tuple[compiled.PackedTransform, _Levels] | None:
    """Return a transform and its levels as the core takes them; None if there is no core."""
    library = core()
    if library is None:
        return None
    found = _KNOWN.get(transform)
    if found is None or found[0].core != library:
        found = _KNOWN[transform] = _pack(transform), _Levels(transform)
    return found


def _pack(transform: Transform) -> compiled.PackedTransform:
    library, prior, tables = core(), transform.prior, transform.tables
    assert library is not None

    def both(layer: Layer, rows: slice = slice(None)) -> compiled.Weights:
        return layer.weights[rows], layer.shift[rows]

    def network(of: Network) -> list[compiled.Weights]:
        return [both(of.first), both(of.second), both(of.third)]

    second = len(prior.second.weights) // len(GROUPS)
    places = [slice(sum(STARTS[:g]), sum(STARTS[: g + 1])) for g in range(len(GROUPS))]
    outputs = [slice(OUTPUTS * first, OUTPUTS * (first + n)) for first, n in zip(STARTS, GROUPS, strict=True)]
    layers: dict[str, list[compiled.Weights]] = {
        "forward": [(transform.forward, None)],
        "backward": [(np.ascontiguousarray(transform.backward.T), None)],
        "analysis": network(transform.analysis),
        "synthesis": network(transform.synthesis),
        "context": [both(prior.context)],
        "own": [(prior.own[:, place], None) for place in places],
        "deep": [both(prior.second, slice(g * second, (g + 1) * second)) for g in range(len(GROUPS))],
        "last": [both(prior.third, rows) for rows in outputs],
    }
    names = ("inputs", "tails", "inverses", "shares", "widths")
    of_tables = {name: getattr(tables, name) for name in names} | {"costs": COSTS.astype(np.int32)}
    assert prior.third.weights.shape[0] == OUTPUTS * COEFFICIENTS
    return compiled.pack_transform(library, layers, [prior.third.biases[0][rows] for rows in outputs], of_tables)
