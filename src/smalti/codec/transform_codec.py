# SPDX-License-Identifier: MIT
"""Code images by transform, lossily and at any size: encode and decode side by side.

    encode:  images -> coefficients -> indices, each with a probability -> stream
    decode:  images <- coefficients <- indices                          <- stream

Colours are coded by transform. Alpha is a stream of its own, by mixing and exact, but that the encoder may have left it
few values. Colours that it hides cost nothing: the encoder fills them with what is around, and the decoder gives 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.codec.block import Block, ByTransform, SampleSymbols, Symbols, Transformed, Way
from smalti.codec.mixing_codec import decode_mixing, few_values, mixer_of, mixing_stream
from smalti.entropy.frequencies import Ints
from smalti.errors import CorruptError
from smalti.model.model import Model
from smalti.model.transform import engine
from smalti.model.transform.reference import of_gray
from smalti.model.transform.similarity import weighed
from smalti.model.transform.transform import (
    BASIS_BITS,
    COEFFICIENT_BITS,
    COEFFICIENT_MAX,
    COLOURS,
    SIDE,
    Transform,
)
from smalti.types import Pixels
from smalti.util.binary import read_varint, varint
from smalti.util.parallel import go_on

KAPPA = round(0.1 * (1 << 16))
"""How many squared quantisation steps of error, in 2^-16, the encoder takes for one bit less."""
MOST_PASSES = 4
"""How often the encoder aims anew, at most."""


@dataclass(frozen=True, eq=False)
class _Planes:
    """Images as they are coded: colours (`n h w c`, c 1 or 3), and alpha (`n h w`), if they have it."""

    colours: Pixels
    alpha: Pixels | None


def encode_transform(
    x: Pixels, levels: Ints, model: Model, passes: int = 0, *, similar: bool = False, alpha_error: int = 0
) -> Block:
    """Encode images (`n h w` or `n h w c`) as a block by transform, each at its level (`n`).

    Args:
        x: the images.
        levels: of the images.
        model: the model.
        passes: how often the encoder looks at what the decoder would give, and aims at what would bring that closer.
        similar: whether errors are weighed for multi-scale SSIM; then each image has a level near that of `levels`.
        alpha_error: the most that alpha may be off by.
    """
    transform, planes, n = transform_of(model), _planes(x), len(x)
    colours = planes.colours if planes.alpha is None else _filled(planes.colours, planes.alpha)
    shape, factors = (colours.shape[1], colours.shape[2], colours.shape[3]), None
    if similar:
        found = weighed(transform, colours, levels, planes.alpha)
        levels, factors = found.levels, found.factors
    targets = engine.analyse(transform, colours, levels.tolist())
    for i in range(min(passes, MOST_PASSES) + 1):
        go_on()
        stream, coded, bits = engine.encode(transform, targets, levels.tolist(), shape, KAPPA, factors)
        x_hat = engine.synthesise(transform, coded, levels.tolist(), shape)
        if i < min(passes, MOST_PASSES):
            off: Ints = colours.astype(np.int64) - x_hat
            if planes.alpha is not None:
                off = off * planes.alpha[..., None] // 255
            aim: Ints = coded + to_coefficients(transform, off)
            targets = aim.clip(-COEFFICIENT_MAX, COEFFICIENT_MAX).astype(np.int16)
    alpha = planes.alpha
    if alpha is not None:
        alpha, of_alpha, alpha_bits = _alpha_stream(alpha, alpha_error, model)
        stream, bits = varint(len(of_alpha)) + of_alpha + stream, bits + alpha_bits
    ways = tuple(ByTransform(level) for level in levels.tolist())
    x_hat = _joined(x_hat, alpha, x.shape)
    transformed = Transformed(coded, stream)
    return Block(
        ways, x_hat, bits, None, Symbols.none(n), SampleSymbols.none(n), post_filtered=False, transformed=transformed
    )


def _alpha_stream(alpha: Pixels, most: int, model: Model) -> tuple[Pixels, bytes, NDArray[np.float64]]:
    """Return alpha (`n h w`) as it is kept, its stream, and the bits that it takes (`n`).

    It is off by at most `most`, where that takes fewer bytes than to keep it exactly.
    """
    exactly, mixer = np.zeros(len(alpha), np.int64), mixer_of(model)
    kept, (stream, bits) = alpha, mixing_stream(alpha, exactly, mixer)
    if most:
        few = few_values(alpha, most)
        shorter, fewer = mixing_stream(few, exactly, mixer)
        if len(shorter) < len(stream):
            kept, stream, bits = few, shorter, fewer
    return kept, stream, bits


def to_coefficients(transform: Transform, x: Ints) -> Ints:
    """Return what images (`n h w c`, of 1 or 3 channels) are as coefficients, by the linear part of the analysis."""
    n, h, w, c = x.shape
    rows, columns = -(-h // SIDE), -(-w // SIDE)
    padded = np.zeros((n, rows * SIDE, columns * SIDE, COLOURS), np.float64)
    padded[:, :h, :w] = x
    blocks = padded.reshape(n, rows, SIDE, columns, SIDE, COLOURS).transpose(0, 1, 3, 5, 2, 4)
    sums = np.rint(blocks.reshape(n, rows, columns, -1) @ transform.forward.T.astype(np.float64)).astype(np.int64)
    y: Ints = sums >> (BASIS_BITS - COEFFICIENT_BITS)
    if c == 1:
        y[..., ~of_gray()] = 0
    return y


def transform_stream(x_hat: Pixels, transformed: Transformed, levels: Ints, model: Model) -> bytes:
    """Return the stream of images (`n h w` or `n h w c`) that were decoded from these coefficients."""
    if transformed.stream is not None:
        return transformed.stream
    planes = _planes(x_hat)
    shape = planes.colours.shape[1], planes.colours.shape[2], planes.colours.shape[3]
    stream, _, _ = engine.encode(transform_of(model), transformed.coded, levels.tolist(), shape, 0)
    if planes.alpha is not None:
        of_alpha, _ = mixing_stream(planes.alpha, np.zeros(len(x_hat), np.int64), mixer_of(model))
        stream = varint(len(of_alpha)) + of_alpha + stream
    return stream


def decode_transform(
    stream: bytes, shape: tuple[int, ...], levels: Ints, model: Model
) -> tuple[Pixels, NDArray[np.int16]]:
    """Decode the images (`n h w` or `n h w c`, which `shape` is) of a stream; return their coefficients, too.

    Raises:
        CorruptError: the stream does not end with its last image, or the model codes nothing by transform.
    """
    transform, alpha = transform_of(model), None
    channels = shape[3] if len(shape) == 4 else 1
    if channels in (2, 4):
        size, at = read_varint(stream, 0)
        if at + size > len(stream):
            raise CorruptError("a block ends within the alpha of its images; the file is damaged")
        alpha = decode_mixing(stream[at : at + size], shape[:3], np.zeros(shape[0], np.int64), mixer_of(model))
        stream = stream[at + size :]
    of_colours = shape[1], shape[2], 1 if channels < 3 else 3
    coded = engine.decode(transform, stream, levels.tolist(), of_colours)
    return _joined(engine.synthesise(transform, coded, levels.tolist(), of_colours), alpha, shape), coded


def transformed_images(ways: Sequence[Way]) -> tuple[Ints, Ints]:
    """Return the numbers of the images that are coded by transform, and their levels."""
    found = [(i, way.level) for i, way in enumerate(ways) if isinstance(way, ByTransform)]
    return np.array([i for i, _ in found], np.int64), np.array([level for _, level in found], np.int64)


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


def filled_colours(x: Pixels) -> Pixels:
    """Return the colours of images with alpha (`n h w 2` or `n h w 4`) as they are coded: hidden ones are filled."""
    return _filled(x[..., :-1], x[..., -1])


def _planes(x: Pixels) -> _Planes:
    if x.ndim == 3:
        return _Planes(x[..., None], None)
    if x.shape[3] in (2, 4):
        return _Planes(np.ascontiguousarray(x[..., :-1]), np.ascontiguousarray(x[..., -1]))
    return _Planes(x, None)


def _joined(colours: Pixels, alpha: Pixels | None, shape: tuple[int, ...]) -> Pixels:
    """Return images of `shape` of their planes; colours that alpha hides are 0."""
    if alpha is None:
        return colours.reshape(shape)
    return np.concatenate([np.where(alpha[..., None] > 0, colours, 0), alpha[..., None]], -1).astype(np.uint8)


def _filled(colours: Pixels, alpha: Pixels) -> Pixels:
    """Return colours (`n h w c`) of which those that alpha (`n h w`) hides are like what is around them.

    Means of ever larger squares, weighed by alpha, are taken; each hidden sample gets that of the smallest square that
    shows anything.
    """
    hidden = alpha == 0
    if not hidden.any():
        return colours
    weights = [alpha.astype(np.float64)[..., None]]
    sums = [colours * weights[0]]
    while max(sums[-1].shape[1:3]) > 1:
        sums.append(_halved(sums[-1]))
        weights.append(_halved(weights[-1]))
    means = np.zeros_like(sums[-1])
    for total, weight in zip(reversed(sums), reversed(weights), strict=True):  # the largest square comes first
        means = means.repeat(2, 1).repeat(2, 2)[:, : total.shape[1], : total.shape[2]]
        means = np.where(weight > 0, total / np.maximum(weight, 1), means)
    return np.where(hidden[..., None], np.rint(means), colours).clip(0, 255).astype(np.uint8)


def _halved(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of squares of 2x2 (`n h w c`)."""
    n, h, w, c = x.shape
    even = np.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
    summed: NDArray[np.float64] = even.reshape(n, (h + 1) // 2, 2, (w + 1) // 2, 2, c).sum((2, 4))
    return summed
