# SPDX-License-Identifier: MIT
"""Rate control: how each image is coded, so that the file is what was asked for.

A quality is one rung of the model's ladder for all. A PSNR or a number of bytes is a mean over all images: two
neighbouring rungs, and as many images at the lower one as may be. A least PSNR holds for every image: each gets the
lowest rung that keeps it, or is coded without the model. A largest error holds for every pixel.
"""

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.codec.block import Block
from smalti.codec.block_codec import (
    MOST_LOAD,
    Shape,
    alike,
    code_parts,
    encode_block,
    load,
    pick,
    reconstruct,
    seal,
    shape_of,
    spare,
)
from smalti.codec.rdo import EFFORTS, Effort
from smalti.errors import UsageError
from smalti.model.model import Model
from smalti.model.operating_points import OperatingPoint, check_quality
from smalti.model.pixel_prior import MAX_ERROR
from smalti.rate.max_error import exact_blocks
from smalti.rate.min_psnr import block_of_least, squared_errors
from smalti.types import Pixels
from smalti.util.binary import hash64
from smalti.util.parallel import bundles, in_order

SAMPLE_IMAGES = 1024
SEARCHED_SAMPLE_IMAGES = 128
"""Images on which the rung for a mean PSNR or rate is first looked for, without search and with it."""
DEFAULT_QUALITY = 50
DEFAULT_EFFORT = 5


@dataclass(frozen=True)
class Target:
    """What is asked of a file: at most one of the five, quality 50 if none.

    Raises:
        UsageError: more than one is asked, or something out of range.
    """

    quality: int | None = None  # 1 (fewest bytes) to 100 (best)
    psnr: float | None = None  # dB, of the mean squared error over all images
    min_psnr: float | None = None  # dB, of every image
    bytes: float | None = None  # an image, all in but names
    max_error: int | None = None  # no pixel is off by more, of 255; 0 is lossless
    effort: int = DEFAULT_EFFORT  # 1 (fast) to 9 (fewest bytes); without meaning for a largest error

    def __post_init__(self) -> None:
        if sum(asked is not None for asked in (self.quality, self.psnr, self.min_psnr, self.bytes, self.max_error)) > 1:
            raise UsageError(
                "quality, psnr, min_psnr, bytes, lossless and max_error exclude each other; give one of them"
            )
        if self.max_error is not None:
            _check_error(self.max_error)
        if self.quality is not None:
            check_quality(self.quality)
        for decibel in (self.psnr, self.min_psnr):
            if decibel is not None and not 0 < _number(decibel, "a PSNR") <= 100:
                raise UsageError(f"a PSNR of {decibel:g} dB was asked; give more than 0 and at most 100")
        if self.bytes is not None and not _number(self.bytes, "a number of bytes") > 0:
            raise UsageError(f"{self.bytes:g} bytes an image were asked; give more than 0")
        if _number(self.effort, "an effort") not in EFFORTS:
            raise UsageError(f"effort is {self.effort}; give a number from 1 (fast) to 9 (fewest bytes)")


def _number(value: object, what: str) -> float:
    """`value`, if it is a number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise UsageError(f"{what} is a number, not {value!r}")
    return float(value)


def _check_error(max_error: int) -> None:
    try:
        possible = 0 <= operator.index(max_error) <= MAX_ERROR
    except TypeError:
        possible = False
    if not possible:
        raise UsageError(
            f"a largest error of {max_error} was asked; give a whole number from 0 (lossless) to {MAX_ERROR}"
        )


@dataclass(frozen=True, eq=False)
class Sealed:
    """Images that are coded."""

    shape: Shape  # of each: h w c
    images: int
    payload: bytes  # of their block
    pixels: bytes  # hash of what it decodes to


def encode_parts(
    parts: Iterable[Pixels], model: Model, target: Target, overhead: Callable[[Sequence[Pixels]], int]
) -> Iterator[Sealed]:
    """A block for each of `parts` (images, `n h w` or `n h w c`; shapes may change from part to part), as asked.

    They are taken as they are needed; for an aim at a mean, all at once.

    overhead: bytes of the file besides the payloads of such parts, for an aim in bytes.

    Raises:
        UsageError: what is asked cannot be had.
    """
    if target.psnr is None and target.bytes is None:
        for x, block in code_blocks(parts, model, target):
            yield sealed(block, x, model)
        return
    every = list(parts)
    yield from _to_a_mean(every, model, target, EFFORTS[target.effort], overhead(every))


def sealed(block: Block, x: Pixels, model: Model) -> Sealed:
    """A block of images `x`, coded."""
    payload, x_hat = seal(block, x, model)
    return Sealed(shape_of(x), len(x), payload, hash64(np.ascontiguousarray(x_hat).data))


def code_blocks(parts: Iterable[Pixels], model: Model, target: Target) -> Iterator[tuple[Pixels, Block]]:
    """Each of `parts` (images, `n h w` or `n h w c`) and its block, as asked; not for an aim at a mean."""
    effort = EFFORTS[target.effort]
    if target.max_error is not None:
        max_error = operator.index(target.max_error)
        return _several(lambda some: exact_blocks(some, max_error, model), parts, model)
    if target.min_psnr is not None:
        least = target.min_psnr
        return ((part, block_of_least(part, model, least, effort)) for part in parts)
    point = model.operating_points.of_quality(DEFAULT_QUALITY if target.quality is None else target.quality)
    return _coded(parts, point, model, effort)


def _coded(
    parts: Iterable[Pixels], point: OperatingPoint, model: Model, effort: Effort
) -> Iterator[tuple[Pixels, Block]]:
    """Each of `parts` and its block, all coded in that way, but for images that are better off plain or do not suit."""

    def work(some: Sequence[Pixels]) -> list[Block]:
        fitting = model.fitting(point, shape_of(some[0]))
        if fitting is None:
            return exact_blocks(some, 0, model)
        coded = code_parts(some, fitting, model, effort)
        return [spare(part, block, model) for part, block in zip(some, coded, strict=True)]

    if not point.pixels and effort.passes:  # the search has threads of its own
        return ((part, block) for part in parts for block in work([part]))
    return _several(work, parts, model)


def _several(
    work: Callable[[Sequence[Pixels]], list[Block]], parts: Iterable[Pixels], model: Model
) -> Iterator[tuple[Pixels, Block]]:
    """`work` of a few of `parts` at a time, on all cores."""

    def kind(x: Pixels) -> Shape:
        """Latents take images of one shape alone."""
        return model.image_shape if shape_of(x) == model.image_shape else alike(shape_of(x))

    some = bundles(parts, kind, lambda some: load([(shape_of(x), len(x)) for x in some]), MOST_LOAD, model.threads)
    done = in_order(lambda some: list(zip(some, work(some), strict=True)), some, model.threads)
    return itertools.chain.from_iterable(done)


def _to_a_mean(parts: list[Pixels], model: Model, target: Target, effort: Effort, overhead: int) -> Iterator[Sealed]:
    """Blocks at two neighbouring rungs: the first ones at the higher one, as many as it takes or as may be."""
    tried = _Tried(parts, model, target, effort, overhead)
    point = tried.first_enough()
    if point is None:
        if target.psnr is not None:
            best = -10 * np.log10(tried.value(tried.top).sum() / tried.n)
            raise UsageError(
                f"model {model.name} reaches {best:.2f} dB on these images, not {target.psnr:g}; ask for less,"
                " for a largest error, or for min_psnr, which codes without the model where it must"
            )
        yield from tried.sealed(tried.top)
        return
    if point == 0:
        if target.bytes is not None:
            least = (tried.value(0).sum() + overhead) / tried.n
            raise UsageError(f"these images take {least:.2f} bytes each at the lowest quality; allow that or more")
        yield from tried.sealed(0)
        return
    above, below = tried.value(point), tried.value(point - 1)
    mixed = np.concatenate([[0], above.cumsum()]) + np.concatenate([below[::-1].cumsum()[::-1], [0]])
    split = int(np.argmax([tried.enough(float(total), tried.n) for total in mixed])) - 1
    yield from tried.sealed(point)[:split]
    yield tried.between(point, split, float(mixed[split] - below[split]))
    yield from tried.sealed(point - 1)[split + 1 :]


class _Tried:
    """All blocks at any rung, coded when asked for; `value` is what the aim is about, a number a block."""

    def __init__(self, parts: list[Pixels], model: Model, target: Target, effort: Effort, overhead: int) -> None:
        self.parts, self.model, self.target, self.effort, self.overhead = parts, model, target, effort, overhead
        self.n, self.by_quality = sum(map(len, parts)), model.operating_points.all
        self.top = len(self.by_quality) - 1
        self._points_tried: dict[int, tuple[list[Sealed], NDArray[np.float64]]] = {}

    def sealed(self, point: int) -> list[Sealed]:
        """The blocks."""
        return self._point(point)[0]

    def value(self, point: int) -> NDArray[np.float64]:
        """Of each block, the squared error of its images or its bytes."""
        return self._point(point)[1]

    def enough(self, total: float, n: int) -> bool:
        """Whether a total over `n` images reaches the PSNR, or more than the bytes."""
        if self.target.psnr is not None:
            return bool(total / n <= 10 ** (-self.target.psnr / 10))
        assert self.target.bytes is not None
        return bool(total + self.overhead * n / self.n > self.target.bytes * n)

    def first_enough(self) -> int | None:
        """The lowest rung that is enough, looked for on a sample first."""
        every = max(1, -(-self.n // (SEARCHED_SAMPLE_IMAGES if self.effort.passes else SAMPLE_IMAGES)))
        by_shape: dict[Shape, list[Pixels]] = {}
        for part in self.parts:
            by_shape.setdefault(shape_of(part), []).append(part[::every])
        sample = [np.concatenate(some) for some in by_shape.values()]
        low, high, n = 0, self.top, sum(map(len, sample))
        while low < high:
            middle = (low + high) // 2
            if self.enough(float(self._code(sample, middle)[1].sum()), n):
                high = middle
            else:
                low = middle + 1
        while low < self.top and not self.enough(self.value(low).sum(), self.n):
            low += 1
        while low and self.enough(self.value(low - 1).sum(), self.n):
            low -= 1
        return low if self.enough(self.value(low).sum(), self.n) else None

    def between(self, point: int, block: int, others: float) -> Sealed:
        """A block whose first images are at the rung and whose others are below, as it takes or as may be.

        others: the value of all other blocks.
        """
        part = self.parts[block]
        ways = [next(_coded([part], self.by_quality[r], self.model, self.effort))[1] for r in (point, point - 1)]
        errors = [squared_errors(part, reconstruct(way, part.shape, self.model)) for way in ways]
        low, high, n = 0, len(part), len(part)  # with `high` of them it is enough, with `low` not
        best = self._point(point - 1 if self.target.psnr is None else point)[0][block]
        while high - low > 1:
            first = (low + high) // 2
            mixed = pick(ways, np.concatenate([np.arange(first), np.arange(n + first, 2 * n)]), self.model)
            value = float(errors[0][:first].sum() + errors[1][first:].sum())
            if self.target.psnr is None:
                value = len(encode_block(mixed, self.model))
            if self.enough(others + value, self.n):
                high = first
            else:
                low = first
            if (self.target.psnr is not None and high == first) or (self.target.psnr is None and low == first):
                best = sealed(mixed, part, self.model)
        return best

    def _point(self, point: int) -> tuple[list[Sealed], NDArray[np.float64]]:
        if point not in self._points_tried:
            self._points_tried[point] = self._code(self.parts, point)
        return self._points_tried[point]

    def _code(self, parts: list[Pixels], point: int) -> tuple[list[Sealed], NDArray[np.float64]]:
        found, values = [], []
        for part, block in _coded(parts, self.by_quality[point], self.model, self.effort):
            found.append(sealed(block, part, self.model))
            if self.target.psnr is None:
                values.append(float(len(found[-1].payload)))
            else:
                values.append(float(squared_errors(part, reconstruct(block, part.shape, self.model)).sum()))
        return found, np.array(values)


def check_model(model: Model, target: Target) -> None:
    """Refuse a model that cannot do what is asked.

    Raises:
        UsageError: it has no part for it.
    """
    if target.max_error is not None and model.pixels is None:
        raise UsageError(
            f"model {model.name} cannot code by pixels; take another, or train one: smalti train --lossless"
        )
