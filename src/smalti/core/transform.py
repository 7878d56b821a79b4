# SPDX-License-Identifier: MIT
"""Transforms in the compiled core: analyse images, code their coefficients, synthesise images."""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from ctypes import c_int32, c_int64, c_uint32, c_void_p
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import Core
from smalti.core.memory import address
from smalti.errors import CorruptError

COEFFICIENTS, SIDE, GROUPS = 192, 8, 16
LEAST_ROOM = 64
"""The room in bytes that a stream has at first, besides a byte for each coefficient."""

Weights = tuple[NDArray[np.int16], NDArray[np.uint8] | None]
"""The weights of a layer (outputs inputs), and the shifts of its outputs."""


class _Layer(ctypes.Structure):
    _fields_ = (("pairs", c_int32), ("outputs", c_int32), ("weights", c_void_p), ("shifts", c_void_p))


class _Transform(ctypes.Structure):
    _fields_ = (
        *((name, c_int32) for name in ("kernel", "hidden", "second", "reserved")),
        ("forward", _Layer),
        ("backward", _Layer),
        ("analysis", _Layer * 3),
        ("synthesis", _Layer * 3),
        ("context", _Layer),
        ("own", _Layer * GROUPS),
        ("deep", _Layer * GROUPS),
        ("last", _Layer * GROUPS),
        ("last_biases", c_void_p * GROUPS),
        *((name, c_void_p) for name in ("inputs", "tails", "inverses", "shares", "widths", "costs")),
    )


class _Level(ctypes.Structure):
    _fields_ = (
        ("analysis", c_void_p * 3),
        ("synthesis", c_void_p * 3),
        *((name, c_void_p) for name in ("context", "deep", "steps", "places")),
    )


class _Image(ctypes.Structure):
    _fields_ = (
        *((name, c_int32) for name in ("height", "width", "channels", "reserved")),
        *((name, c_void_p) for name in ("level", "samples", "targets", "coded", "factors")),
        ("bits", c_int64),
    )


class _Coder(ctypes.Structure):
    _fields_ = (
        *((name, c_uint32) for name in ("low", "high", "value", "decodes")),
        *((name, c_int64) for name in ("at", "size")),
        ("bytes", c_void_p),
    )


@dataclass(frozen=True, eq=False)
class PackedTransform:
    """A transform as the core takes it; the arrays live as long as it."""

    core: Core
    struct: _Transform
    arrays: list[NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class PackedLevel:
    """What depends on the level, as the core takes it."""

    struct: _Level
    arrays: list[NDArray[np.generic]]


def pack_transform(
    core: Core,
    layers: Mapping[str, Sequence[Weights]],
    last_biases: Sequence[NDArray[np.int32]],
    tables: Mapping[str, NDArray[np.generic]],
) -> PackedTransform:
    """Return a transform as the core takes it.

    Args:
        core: the core.
        layers: by the names of `smalti_transform` in `core/transform.h`.
        last_biases: of the layers `last`.
        tables: by these names, too.
    """
    arrays: list[NDArray[np.generic]] = []
    hidden, second = len(layers["context"][0][0]), len(layers["deep"][0][0])
    struct = _Transform(kernel=core.kernel, hidden=hidden, second=second)

    def keep(array: NDArray[np.generic]) -> int:
        arrays.append(np.ascontiguousarray(array))
        return int(arrays[-1].ctypes.data)

    def layer(weights: NDArray[np.int16], shifts: NDArray[np.uint8] | None) -> _Layer:
        outputs, pairs = -(-len(weights) // 16) * 16, -(-weights.shape[1] // 2)
        padded, more = np.zeros((outputs, 2 * pairs), np.int16), np.zeros(outputs, np.uint8)
        padded[: len(weights), : weights.shape[1]] = weights
        blocks = padded.reshape(outputs // 16, 16, pairs, 2).transpose(0, 2, 1, 3)
        if shifts is None:
            return _Layer(pairs, outputs, keep(blocks), None)
        more[: len(shifts)] = shifts
        return _Layer(pairs, outputs, keep(blocks), keep(more))

    for name, some in layers.items():
        packed = [layer(*one) for one in some]
        if name in ("forward", "backward", "context"):
            setattr(struct, name, packed[0])
        else:
            for i, one in enumerate(packed):
                getattr(struct, name)[i] = one
    for g, biases in enumerate(last_biases):
        padded = np.zeros(-(-len(biases) // 16) * 16, np.int32)
        padded[: len(biases)] = biases
        struct.last_biases[g] = keep(padded)
    for name, table in tables.items():
        setattr(struct, name, keep(table))
    return PackedTransform(core, struct, arrays)


def pack_level(
    networks: Mapping[str, Sequence[NDArray[np.int32]]], arrays: Mapping[str, NDArray[np.int32]]
) -> PackedLevel:
    """Return what depends on a level as the core takes it, by the names of `smalti_tf_level`."""
    kept: list[NDArray[np.generic]] = []
    struct = _Level()
    for name, biases in networks.items():
        for i, array in enumerate(biases):
            kept.append(np.ascontiguousarray(array))
            getattr(struct, name)[i] = address(kept[-1], np.int32)
    for name, array in arrays.items():
        kept.append(np.ascontiguousarray(array))
        setattr(struct, name, address(kept[-1], np.int32))
    return PackedLevel(struct, kept)


def analyse(packed: PackedTransform, x: NDArray[np.uint8], levels: Sequence[PackedLevel]) -> NDArray[np.int16]:
    """Return the coefficients (`n rows columns 192`) of images (`n h w c`), one level each."""
    x = np.ascontiguousarray(x)
    n, h, w, c = x.shape
    targets = np.empty((n, -(-h // SIDE), -(-w // SIDE), COEFFICIENTS), np.int16)
    _each(packed, packed.core.library.smalti_tf_analyse, (h, w, c), levels, samples=x, targets=targets)
    return targets


def synthesise(
    packed: PackedTransform, coded: NDArray[np.int16], levels: Sequence[PackedLevel], shape: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Return the images (`n h w c`, of which `shape` is h w c) of coefficients (`n rows columns 192`)."""
    x = np.empty((len(coded), *shape), np.uint8)
    coded = np.ascontiguousarray(coded, np.int16)
    _each(packed, packed.core.library.smalti_tf_synthesise, shape, levels, samples=x, coded=coded)
    return x


def _each(
    packed: PackedTransform,
    work_on: Callable[[object, object, int], object],
    shape: tuple[int, int, int],
    levels: Sequence[PackedLevel],
    **arrays: NDArray[np.generic],
) -> None:
    """Call a function of the core for one image of `shape` after the other; `arrays` begin with the axis of images."""
    model, work, image = ctypes.byref(packed.struct), _work(packed, 1, shape), _Image(*shape)
    own, memory = ctypes.byref(image), work.ctypes.data
    starts = [(name, array.ctypes.data, array.strides[0]) for name, array in arrays.items()]
    for i, level in enumerate(levels):
        image.level = ctypes.addressof(level.struct)
        for name, start, stride in starts:
            setattr(image, name, start + i * stride)
        work_on(model, own, memory)


def encode(
    packed: PackedTransform,
    targets: NDArray[np.int16],
    levels: Sequence[PackedLevel],
    shape: tuple[int, int, int],
    kappa: int,
    factors: NDArray[np.uint16] | None = None,
) -> tuple[bytes, NDArray[np.int16], NDArray[np.float64]]:
    """Encode coefficients (`n rows columns 192`) of images of `shape` (h w c), one level each.

    factors: how much more than kappa bits weigh for each coefficient, times 256; None if it is 256 for all.

    Returns:
        The stream, the coefficients as the decoder knows them, and the bits that each image takes (`n`).
    """
    room = LEAST_ROOM + targets.size
    while True:
        buffer = np.zeros(room, np.uint8)
        coder = _Coder(decodes=0, size=room, bytes=buffer.ctypes.data)
        status, coded, bits = _code(packed, targets, levels, shape, kappa, coder, factors)
        if not status and not packed.core.library.smalti_coder_end(ctypes.byref(coder)):
            return buffer[: coder.at].tobytes(), coded, bits
        room *= 4


def decode(
    packed: PackedTransform, stream: bytes, levels: Sequence[PackedLevel], shape: tuple[int, int, int]
) -> NDArray[np.int16]:
    """Decode the coefficients (`n rows columns 192`) of images of `shape` (h w c), one level each.

    Raises:
        CorruptError: the stream has another end than its images.
    """
    buffer = np.frombuffer(stream or b"\0", np.uint8)
    coder = _Coder(decodes=1, size=len(stream), bytes=buffer.ctypes.data)
    h, w, _ = shape
    targets = np.zeros((len(levels), -(-h // SIDE), -(-w // SIDE), COEFFICIENTS), np.int16)
    _, coded, _ = _code(packed, targets, levels, shape, 0, coder)
    if len(stream) > coder.at or stream[-1:] == b"\0":
        raise CorruptError("a stream by transform has another end than its images; the file is damaged")
    return coded


def _code(
    packed: PackedTransform,
    targets: NDArray[np.int16],
    levels: Sequence[PackedLevel],
    shape: tuple[int, int, int],
    kappa: int,
    coder: _Coder,
    factors: NDArray[np.uint16] | None = None,
) -> tuple[int, NDArray[np.int16], NDArray[np.float64]]:
    library, n = packed.core.library, len(levels)
    coded = np.zeros_like(targets)
    images = (_Image * n)()
    for i, level in enumerate(levels):
        of_image = None if factors is None else address(factors[i], np.uint16)
        places = targets[i].ctypes.data, coded[i].ctypes.data, of_image
        images[i] = _Image(*shape, 0, ctypes.addressof(level.struct), None, *places, 0)
    library.smalti_coder_start(ctypes.byref(coder))
    work = _work(packed, n, shape)
    status = library.smalti_tf_code(
        ctypes.byref(packed.struct), images, n, kappa, ctypes.byref(coder), work.ctypes.data
    )
    return status, coded, np.array([image.bits / 256 for image in images])


def _work(packed: PackedTransform, n: int, shape: Sequence[int]) -> NDArray[np.uint8]:
    size = packed.core.library.smalti_tf_work(ctypes.byref(packed.struct), n, shape[0], shape[1])
    return np.empty(size, np.uint8)
