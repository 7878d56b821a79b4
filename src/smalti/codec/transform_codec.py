# SPDX-License-Identifier: MIT
"""Code images by transform, lossily and at any size: encode and decode side by side.

    encode:  images -> smaller images -> coefficients -> indices, each with a probability -> stream
    decode:  images <- smaller images <- coefficients <- indices                          <- stream

At few bytes an image is smaller while it is coded, if it loses little by that; at many bytes none is. Colours are coded
by transform. Alpha is a stream of its own, by mixing and exact, but that the encoder may have left it
few values. Colours that it hides cost nothing: the encoder fills them with what is around, and the decoder gives 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.codec.block import Block, ByTransform, SampleSymbols, Symbols, Transformed, Way
from smalti.codec.hidden_colours import filled
from smalti.codec.mixing_codec import decode_mixing, few_values, mixer_of, mixing_stream
from smalti.entropy.frequencies import Ints
from smalti.errors import CorruptError
from smalti.model.model import Model
from smalti.model.transform import engine
from smalti.model.transform.reduction import FINER, enlarged, possible_at, reduced, reduced_side
from smalti.model.transform.reference import of_gray
from smalti.model.transform.similarity import ONE, weighed
from smalti.model.transform.transform import (
    BASIS_BITS,
    COEFFICIENT_BITS,
    COEFFICIENT_MAX,
    COLOURS,
    SIDE,
    Transform,
    step_of,
)
from smalti.types import Pixels
from smalti.util.binary import read_varint, varint
from smalti.util.parallel import go_on

Floats = NDArray[np.float64]

KAPPA = round(0.1 * (1 << 16))
"""How many squared quantisation steps of error, in 2^-16, the encoder takes for one bit less."""
MOST_PASSES = 4
"""How often the encoder aims anew, at most."""
MOST_LOSS = 0.014
"""An image is tried at a reduction by which it loses no more than this, in squared quantisation steps of its level."""
COARSE_LEVEL = 28
"""From this level on, images are tried at reductions even where the encoder does not aim."""
STREAM_BITS = 24
"""About the bits that a stream takes besides those of its images: its length, and its end."""
DEARER = 0.15
"""How many squared steps of error the encoder takes for one bit less when it compares reductions.

This is more than for coefficients (KAPPA): less was found to choose sizes that are too large, at any level.
"""


@dataclass(frozen=True, eq=False)
class _Planes:
    """Images as they are coded: colours (`n h w c`, c 1 or 3), and alpha (`n h w`), if they have it."""

    colours: Pixels
    alpha: Pixels | None


def encode_transform(
    x: Pixels, levels: Ints, model: Model, passes: int = 0, *, similar: bool = False, alpha_error: int = 0
) -> Block:
    """Encode images (`n h w` or `n h w c`) as a block by transform, each at its level (`n`, 0 to LAST_LEVEL).

    Args:
        x: the images.
        levels: of the images.
        model: the model.
        passes: how often the encoder looks at what the decoder would give, and aims at what would bring that closer.
        similar: whether errors are weighed for multi-scale SSIM; then each image has a level near that of `levels`.
        alpha_error: the most that alpha may be off by.
    """
    transform, planes, n = transform_of(model), _planes(x), len(x)
    if planes.alpha is not None:
        planes = _Planes(filled(planes.colours, planes.alpha), planes.alpha)
    factors = None
    if similar:
        found = weighed(transform, planes.colours, levels, planes.alpha)
        levels, factors = found.levels, found.factors
    work = _Work(transform, planes, levels, factors)
    chosen = _at_best_sizes(work, _sizes_to_try(work, passes))
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


@dataclass(frozen=True, eq=False)
class _Work:
    """Images that are to be encoded."""

    transform: Transform
    planes: _Planes
    levels: Ints  # n
    factors: NDArray[np.uint16] | None  # n rows columns 192: how much more bits count, times 256, if not alike

    def pick(self, rows: Ints) -> "_Work":
        """Return some of the images."""
        alpha = None if self.planes.alpha is None else self.planes.alpha[rows]
        factors = None if self.factors is None else self.factors[rows]
        return _Work(self.transform, _Planes(self.planes.colours[rows], alpha), self.levels[rows], factors)

    def off(self, x_hat: Pixels) -> Ints:
        """Return what images are off by (`n h w c`), weighed by alpha."""
        off: Ints = self.planes.colours.astype(np.int64) - x_hat
        return off if self.planes.alpha is None else off * self.planes.alpha[..., None] // 255

    def errors(self, off: Ints) -> Floats:
        """Return the squared errors of images (`n`), in squared steps of their levels, of all three colours."""
        if self.factors is None:
            sums = (off.astype(np.float64) ** 2).sum((1, 2, 3)) * (COLOURS / off.shape[3])
        else:
            each = to_coefficients(self.transform, off) / (1 << COEFFICIENT_BITS)
            sums = (each**2 * (ONE / self.factors)).sum((1, 2, 3))
        errors: Floats = sums / np.array([4.0 ** step_of(level) for level in self.levels.tolist()])
        return errors


class _Coding:
    """Some images while they are encoded at one reduction."""

    def __init__(self, work: _Work, rows: Ints, reduction: int) -> None:
        """Analyse and encode the images `rows` of the work."""
        self.rows, self.reduction, self._work = rows, reduction, work.pick(rows)
        self.stream: bytes | None = None  # of all these images, if it is known
        planes, self._factors = self._work.planes, self._work.factors
        small = _smaller(planes.colours, reduction)
        self._shape = small.shape[1], small.shape[2], small.shape[3]
        if reduction and self._factors is not None:
            seen = None if planes.alpha is None else _smaller(planes.alpha[..., None], reduction)[..., 0]
            self._factors = weighed(work.transform, small, self._own, seen).factors
        self._targets = engine.analyse(work.transform, small, self._own.tolist())
        self.encode()

    @property
    def levels(self) -> Ints:
        """The levels of the images."""
        return self._work.levels

    @property
    def _own(self) -> Ints:
        """The levels of their coefficients."""
        return self._work.levels - FINER[self.reduction]

    def encode(self) -> None:
        """Encode the images by what they aim at."""
        own, (h, w), transform = self._own.tolist(), self._work.planes.colours.shape[1:3], self._work.transform
        self.stream, self.coded, self.bits = engine.encode(
            transform, self._targets, own, self._shape, KAPPA, self._factors
        )
        self.x_hat = enlarged(engine.synthesise(transform, self.coded, own, self._shape), h, w, self.reduction)

    def aim(self) -> None:
        """Aim at what would bring the images closer that the decoder gives."""
        off = self._work.off(self.x_hat)
        if self.reduction:
            off = np.rint(reduced(off, self.reduction)).astype(np.int64)
        aim: Ints = self.coded + to_coefficients(self._work.transform, off)
        self._targets = aim.clip(-COEFFICIENT_MAX, COEFFICIENT_MAX).astype(np.int16)

    def costs(self) -> Floats:
        """Return for each image what it costs, in squared steps: its error, and so much of its bits as they weigh."""
        return self._work.errors(self._work.off(self.x_hat)) + DEARER * self.bits

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Keep some of the images alone."""
        if not kept.all():
            self.rows, self.bits, self.stream = self.rows[kept], self.bits[kept], None
            self.coded, self.x_hat, self._targets = self.coded[kept], self.x_hat[kept], self._targets[kept]
            self._work = self._work.pick(np.flatnonzero(kept))
            self._factors = None if self._factors is None else self._factors[kept]


def _sizes_to_try(work: _Work, passes: int) -> NDArray[np.bool_]:
    """Return at which reductions images are tried (`reductions n`): as few as their levels allow, at least.

    An image is also tried at a reduction by which it loses little, if it does so at those before; without aiming, none
    of a low level is, where little is saved.
    """
    levels, (h, w) = work.levels, work.planes.colours.shape[1:3]
    allowed = np.array([possible_at(levels, reduction) for reduction in range(len(FINER))])
    tried: NDArray[np.bool_] = allowed & (np.cumsum(allowed, 0) == 1)
    some = np.flatnonzero(levels >= (0 if passes else COARSE_LEVEL))
    for reduction in range(1, len(FINER)):
        if not len(some):
            break
        part = work.pick(some)
        off = part.off(enlarged(_smaller(part.planes.colours, reduction), h, w, reduction))
        some = some[part.errors(off) <= MOST_LOSS * COLOURS * h * w]
        tried[reduction, some] |= allowed[reduction, some]
    return tried


def _at_best_sizes(work: _Work, tried: NDArray[np.bool_]) -> list[_Coding]:
    """Return images as they are encoded without aiming, each at the reduction where it costs least of those tried."""
    costs, codings = np.full(tried.shape, np.inf), list[_Coding]()
    for reduction in np.flatnonzero(tried.any(1)).tolist():
        rows = np.flatnonzero(tried[reduction])
        codings.append(_Coding(work, rows, reduction))
        costs[reduction, rows] = codings[-1].costs() if tried.sum() > len(work.levels) else 0
    few = _few_reductions(costs)
    best = costs[few].argmin(0) + few.start
    for coding in codings:
        coding.keep(best[coding.rows] == coding.reduction)
    return [coding for coding in codings if len(coding.rows)]


def _few_reductions(costs: Floats) -> slice:
    """Return the reductions among which images choose, by what each image costs at each (`reductions n`).

    To have several of them costs bits as well: a choice for each image, and a stream for each reduction.
    """
    every, totals = range(len(costs)), dict[tuple[int, int], float]()
    for first, last in ((a, b) for a in every for b in every[a:]):
        several = last - first
        bits = costs.shape[1] * math.log2(several + 1) + several * STREAM_BITS
        totals[first, last] = float(costs[first : last + 1].min(0).sum()) + DEARER * bits
    first, last = min(totals, key=lambda ends: totals[ends])
    return slice(first, last + 1)


def _smaller(x: Pixels, reduction: int) -> Pixels:
    """Return images (`n h w c`) that are reduced, in whole samples."""
    return np.rint(reduced(x, reduction)).clip(0, 255).astype(np.uint8) if reduction else x


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
        of_alpha, _ = mixing_stream(planes.alpha, np.zeros(len(x_hat), np.int64), mixer_of(model))
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
