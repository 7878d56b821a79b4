# SPDX-License-Identifier: MIT
"""Code images by transform, lossily and at any size: encode and decode side by side.

    encode:  images -> smaller images -> coefficients -> indices, each with a probability -> stream
    decode:  images <- smaller images <- coefficients <- indices                          <- stream

An image is smaller while it is coded, if that costs less (`transform_encoder.py`): many are at few bytes. Colours are
coded by transform. Alpha is a stream of its own, by mixing and exact, but that the encoder may have left it few values.
Colours that it hides cost nothing: the encoder fills them with what is around, and the decoder gives 0.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from smalti.codec.block import Block, ByTransform, SampleSymbols, Symbols, Transformed, Way
from smalti.codec.mixing_codec import decode_mixing, few_values, mixer_of, mixing_stream
from smalti.codec.transform_encoder import Planes, Work, at_best_sizes
from smalti.core.library import core
from smalti.entropy.frequencies import Ints
from smalti.errors import CorruptError
from smalti.model.model import Model
from smalti.model.transform import engine
from smalti.model.transform.hidden_colours import filled
from smalti.model.transform.reduction import FINER, enlarged, possible_at, reduced_side
from smalti.model.transform.similarity import weighed
from smalti.model.transform.transform import Transform
from smalti.types import Pixels
from smalti.util.binary import hash64, read_varint, varint
from smalti.util.kept import Kept
from smalti.util.parallel import go_on

Floats = NDArray[np.float64]

MOST_PASSES = 4
"""How often the encoder aims anew, at most."""
_AlphaStream = tuple[Pixels, bytes, Floats]
_ALPHA: Kept[_AlphaStream] = Kept(1 << 24)
"""Alpha that was coded lately: as it is kept, its stream, and the bits of each image."""


def encode_transform(
    x: Pixels,
    levels: Ints,
    model: Model,
    passes: int = 0,
    *,
    quick: bool = False,
    similar: bool = False,
    alpha_error: int = 0,
) -> Block:
    """Encode images (`n h w` or `n h w c`) as a block by transform, each at its level (`n`, 0 to LAST_LEVEL).

    Args:
        x: the images.
        levels: of the images.
        model: the model.
        passes: how often the encoder looks at what the decoder would give, and aims at what would bring that closer.
        quick: whether each image is tried at one size alone.
        similar: whether errors are weighed for multi-scale SSIM; then each image has a level near that of `levels`.
        alpha_error: the most that alpha may be off by.
    """
    transform, planes, n = transform_of(model), _planes(x), len(x)
    if planes.alpha is not None:
        planes = Planes(filled(planes.colours, planes.alpha), planes.alpha)
    factors = None
    if similar:
        found = weighed(transform, planes.colours, levels, planes.alpha)
        levels, factors = found.levels, found.factors
    work = Work(transform, planes, levels, factors)
    chosen = at_best_sizes(work, quick=quick)
    for coding in chosen:
        for _ in range(min(passes, MOST_PASSES)):
            go_on()
            coding.aim()
            coding.encode()
    order = np.argsort(np.concatenate([coding.rows for coding in chosen]))
    coded = [image for coding in chosen for image in coding.coded]
    ways = [ByTransform(level, coding.reduction) for coding in chosen for level in coding.levels.tolist()]
    bits = np.concatenate([coding.bits for coding in chosen])[order]
    streams = {coding.reduction: coding.stream for coding in chosen if coding.stream is not None}
    stream = _joined_streams(streams) if len(streams) == len(chosen) else None
    colours, alpha = np.concatenate([coding.x_hat for coding in chosen])[order], planes.alpha
    if alpha is not None:
        alpha, of_alpha, alpha_bits = _alpha_stream(alpha, alpha_error, model)
        bits = bits + alpha_bits
        stream = None if stream is None else varint(len(of_alpha)) + of_alpha + stream
    places = order.tolist()
    return Block(
        tuple(ways[i] for i in places),
        _joined(colours, alpha, x.shape),
        bits,
        None,
        Symbols.none(n),
        SampleSymbols.none(n),
        post_filtered=False,
        transformed=Transformed(tuple(coded[i] for i in places), stream),
    )


def _alpha_stream(alpha: Pixels, most: int, model: Model) -> _AlphaStream:
    """Return alpha (`n h w`) as it is kept, its stream, and the bits that it takes (`n`).

    It is off by at most `most`, where that takes fewer bytes than to keep it exactly. What was found is kept, because a
    search for a target asks for the same alpha at many levels.
    """
    data = alpha.tobytes()
    check = hash64(repr((alpha.shape, most, model.id, core())).encode() + data)
    found = _ALPHA.get(data, check)
    if found is None:
        found = _new_alpha_stream(alpha, most, model)
        _ALPHA.put(data, check, found)
    return found


def _new_alpha_stream(alpha: Pixels, most: int, model: Model) -> _AlphaStream:
    exactly, mixer = np.zeros(len(alpha), np.int64), mixer_of(model)
    kept, (stream, bits) = alpha, mixing_stream(alpha, exactly, mixer)
    if most:
        few = few_values(alpha, most)
        shorter, fewer = mixing_stream(few, exactly, mixer)
        if len(shorter) < len(stream):
            kept, stream, bits = few, shorter, fewer
    return kept, stream, bits


def transform_stream(x_hat: Pixels, transformed: Transformed, ways: Sequence[ByTransform], model: Model) -> bytes:
    """Return the stream of images (`n h w` or `n h w c`) that were decoded from these coefficients."""
    if transformed.stream is not None:
        return transformed.stream
    planes, streams = _planes(x_hat), dict[int, bytes]()
    h, w, c = planes.colours.shape[1:]
    for reduction in sorted({way.reduction for way in ways}):
        some = [i for i, way in enumerate(ways) if way.reduction == reduction]
        levels = [ways[i].level - FINER[reduction] for i in some]
        shape, coded = _reduced_shape(h, w, c, reduction), np.stack([transformed.coded[i] for i in some])
        streams[reduction], _, _ = engine.encode(transform_of(model), coded, levels, shape, 0)
    stream = _joined_streams(streams)
    if planes.alpha is not None:
        _, of_alpha, _ = _alpha_stream(planes.alpha, 0, model)
        stream = varint(len(of_alpha)) + of_alpha + stream
    return stream


def _reduced_shape(h: int, w: int, c: int, reduction: int) -> tuple[int, int, int]:
    return reduced_side(h, reduction), reduced_side(w, reduction), c


def _joined_streams(streams: Mapping[int, bytes]) -> bytes:
    """Return the streams of images by their reductions as one."""
    if len(streams) == 1:
        return next(iter(streams.values()))
    every = (streams.get(reduction, b"") for reduction in range(min(streams), max(streams) + 1))
    return b"".join(varint(len(stream)) + stream for stream in every)


def decode_transform(
    stream: bytes, shape: tuple[int, ...], ways: Sequence[ByTransform], reductions: range, model: Model
) -> tuple[Pixels, list[NDArray[np.int16]]]:
    """Decode the images (`n h w` or `n h w c`, which `shape` is) of a stream; return the coefficients of each, too.

    Args:
        stream: the stream.
        shape: of the images.
        ways: in which they are coded.
        reductions: those that the stream may hold.
        model: the model.

    Raises:
        CorruptError: the stream does not end with its last image, or the model codes nothing by transform.
    """
    transform, alpha = transform_of(model), None
    channels = shape[3] if len(shape) == 4 else 1
    if channels in (2, 4):
        of_alpha, at = _part(stream, 0)
        alpha = decode_mixing(of_alpha, shape[:3], np.zeros(shape[0], np.int64), mixer_of(model))
        stream = stream[at:]
    (h, w), c, at = shape[1:3], 1 if channels < 3 else 3, 0
    colours, coefficients = np.empty((*shape[:3], c), np.uint8), dict[int, NDArray[np.int16]]()
    for reduction in reductions:
        part, at = _part(stream, at) if len(reductions) > 1 else (stream, len(stream))
        some = [i for i, way in enumerate(ways) if way.reduction == reduction]
        levels = np.array([ways[i].level for i in some], np.int64)
        if not possible_at(levels, reduction).all() or (part and not some):
            raise CorruptError("a block holds images by transform in an impossible way; the file is damaged")
        if some:
            small, own = _reduced_shape(h, w, c, reduction), (levels - FINER[reduction]).tolist()
            coded = engine.decode(transform, part, own, small)
            colours[some] = enlarged(engine.synthesise(transform, coded, own, small), h, w, reduction)
            coefficients |= dict(zip(some, coded, strict=True))
    if at != len(stream):
        raise CorruptError("a block has a stream that holds no image; the file is damaged")
    return _joined(colours, alpha, shape), [coefficients[i] for i in range(shape[0])]


def _part(stream: bytes, at: int) -> tuple[bytes, int]:
    """Return the bytes at a place of a stream that begin with their number, and where they end.

    Raises:
        CorruptError: the stream ends sooner.
    """
    size, at = read_varint(stream, at)
    if at + size > len(stream):
        raise CorruptError("a block ends within images by transform; the file is damaged")
    return stream[at : at + size], at + size


def transformed_images(ways: Sequence[Way]) -> tuple[Ints, list[ByTransform]]:
    """Return the numbers of the images that are coded by transform, and their ways."""
    found = [(i, way) for i, way in enumerate(ways) if isinstance(way, ByTransform)]
    return np.array([i for i, _ in found], np.int64), [way for _, way in found]


def transform_of(model: Model) -> Transform:
    """Return the transform of a model.

    Raises:
        CorruptError: it has none.
    """
    if model.transform is None:
        raise CorruptError(
            f"a block holds images by transform, which model {model.name} cannot decode; the file is damaged"
        )
    return model.transform


def _planes(x: Pixels) -> Planes:
    if x.ndim == 3:
        return Planes(x[..., None], None)
    if x.shape[3] in (2, 4):
        return Planes(np.ascontiguousarray(x[..., :-1]), np.ascontiguousarray(x[..., -1]))
    return Planes(x, None)


def _joined(colours: Pixels, alpha: Pixels | None, shape: tuple[int, ...]) -> Pixels:
    """Return images of `shape` of their planes; colours that alpha hides are 0."""
    if alpha is None:
        return colours.reshape(shape)
    return np.concatenate([np.where(alpha[..., None] > 0, colours, 0), alpha[..., None]], -1).astype(np.uint8)
