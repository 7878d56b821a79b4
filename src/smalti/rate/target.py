# SPDX-License-Identifier: MIT
"""The target of rate and quality that a caller asks for, and the blocks that meet it.

A quality is one operating point of the model for all images. A PSNR or a number of bytes is a mean over all images
(`mean.py`). A least PSNR holds for every image (`min_psnr.py`), a largest error for every sample (`max_error.py`).
"""

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from smalti.codec.batching import MOST_LOAD, alike, load
from smalti.codec.block import Block
from smalti.codec.block_codec import encode_images, seal
from smalti.codec.rdo import EFFORTS, Effort
from smalti.errors import UsageError
from smalti.model.model import Model
from smalti.model.operating_points import OperatingPoint, check_quality
from smalti.model.pixel_prior import MAX_ERROR
from smalti.rate.max_error import exactly_where_cheaper, near_lossless
from smalti.rate.min_psnr import block_of_least_psnr
from smalti.types import Pixels, Shape, shape_of
from smalti.util.binary import hash64
from smalti.util.parallel import bundles, in_order

DEFAULT_QUALITY = 50
"""The quality, 1 to 100, if no target is given."""
DEFAULT_EFFORT = 5
"""The effort, 1 to 9, if none is given."""


@dataclass(frozen=True)
class Target:
    """The target of rate and quality of a file: at most one of five fields; quality 50 if none is given.

    Raises:
        UsageError: more than one field is given, or a value is out of range.
    """

    quality: int | None = None  # 1 (fewest bytes) to 100 (best)
    psnr: float | None = None  # dB, of the mean squared error over all images
    min_psnr: float | None = None  # dB, of every image
    bytes_an_image: float | None = None  # the most bytes of the file for each image, without names and labels
    max_error: int | None = None  # of every sample, of 255; 0 is lossless

    def __post_init__(self) -> None:
        asked = (self.quality, self.psnr, self.min_psnr, self.bytes_an_image, self.max_error)
        if sum(value is not None for value in asked) > 1:
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
        if self.bytes_an_image is not None and not _number(self.bytes_an_image, "a number of bytes") > 0:
            raise UsageError(f"{self.bytes_an_image:g} bytes an image were asked; give more than 0")

    @property
    def is_mean(self) -> bool:
        """Whether the target is a mean over all images, so that all of them are needed at once."""
        return self.psnr is not None or self.bytes_an_image is not None


def as_target(target: Target | None, short: Target) -> Target:
    """Return the target: `target`, or the one that the short form of arguments gives.

    Raises:
        UsageError: the target is given in both ways.
    """
    if target is None:
        return short
    if not isinstance(target, Target):
        raise UsageError(f"a target is a smalti.Target, not {target!r}")
    if short != Target():
        raise UsageError("a target was given, and a quality, PSNR, size or largest error beside it; give one of them")
    return target


def effort_of(effort: int) -> Effort:
    """Return the work that an effort stands for.

    Raises:
        UsageError: the effort is not from 1 to 9.
    """
    if _number(effort, "an effort") not in EFFORTS:
        raise UsageError(f"effort is {effort}; give a number from 1 (fast) to 9 (fewest bytes)")
    return EFFORTS[effort]


def _number(value: object, what: str) -> float:
    """Return `value` if it is a number; `what` names it in the error."""
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


def check_model(model: Model, target: Target) -> None:
    """Refuse a model that cannot meet the target.

    Raises:
        UsageError: the model has no part for it.
    """
    if target.max_error is not None and model.pixels is None:
        raise UsageError(
            f"model {model.name} cannot code by pixels; take another, or train one: smalti train --lossless"
        )


@dataclass(frozen=True, eq=False)
class Sealed:
    """An encoded block, as it is written to a file."""

    shape: Shape  # h w c of each image
    images: int
    payload: bytes
    pixels: bytes  # hash of the decoded pixels


def seal_block(x: Pixels, block: Block, model: Model) -> Sealed:
    """Encode a block of images `x` to its payload, with the hash of its decoded pixels."""
    payload = seal(block, x, model)
    return Sealed(shape_of(x), len(x), payload.data, hash64(np.ascontiguousarray(payload.x_hat).data))


def code_blocks(
    parts: Iterable[Pixels], model: Model, target: Target, effort: Effort
) -> Iterator[tuple[Pixels, Block]]:
    """Yield each of `parts` (images, `n h w` or `n h w c`) and the block that meets the target, which is no mean."""
    if target.max_error is not None:
        max_error = operator.index(target.max_error)
        return _several(lambda some: near_lossless(some, max_error, model), parts, model)
    if target.min_psnr is not None:
        least = target.min_psnr
        return ((part, block_of_least_psnr(part, model, least, effort)) for part in parts)
    quality = DEFAULT_QUALITY if target.quality is None else target.quality
    return code_at(parts, model.operating_points.of_quality(quality), model, effort)


def code_at(
    parts: Iterable[Pixels], point: OperatingPoint, model: Model, effort: Effort
) -> Iterator[tuple[Pixels, Block]]:
    """Yield each of `parts` and its block at an operating point; images that are smaller so are lossless."""

    def work(some: Sequence[Pixels]) -> list[Block]:
        fitting = model.fitting(point, shape_of(some[0]))
        if fitting is None:
            return near_lossless(some, 0, model)
        coded = encode_images(some, fitting, model, effort)
        return [exactly_where_cheaper(part, block, model) for part, block in zip(some, coded, strict=True)]

    if not point.pixels and effort.passes:  # rate-distortion optimisation has threads of its own
        return ((part, block) for part in parts for block in work([part]))
    return _several(work, parts, model)


def _several(
    work: Callable[[Sequence[Pixels]], list[Block]], parts: Iterable[Pixels], model: Model
) -> Iterator[tuple[Pixels, Block]]:
    """Do `work` for a few of `parts` at a time, on all cores."""

    def kind(x: Pixels) -> Shape:
        """Return a key of images that are coded together; latents take images of one shape alone."""
        return model.image_shape if shape_of(x) == model.image_shape else alike(shape_of(x))

    some = bundles(parts, kind, lambda some: load([(shape_of(x), len(x)) for x in some]), MOST_LOAD, model.threads)
    done = in_order(lambda some: list(zip(some, work(some), strict=True)), some, model.threads)
    return itertools.chain.from_iterable(done)
