# SPDX-License-Identifier: MIT
"""The target of rate and quality that a caller asks for, and the blocks that meet it.

A quality is one operating point of the model for all images. A PSNR or a number of bytes is a mean over all images
(`mean.py`). A least PSNR holds for every image (`min_psnr.py`), a largest error for every sample (`max_error.py`).
"""

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from smalti.codec.batching import BLOCK, MOST_LOAD, Batch, alike, load
from smalti.codec.block import Block, WithoutModel
from smalti.codec.block_codec import encode_images, seal
from smalti.codec.rdo import EFFORTS, Effort
from smalti.errors import UsageError
from smalti.model.model import Model
from smalti.model.operating_points import OperatingPoint, check_quality
from smalti.model.pixel_prior import MAX_ERROR
from smalti.rate.max_error import exactly_where_cheaper, near_lossless
from smalti.rate.metrics import squared_errors
from smalti.rate.min_psnr import block_of_least_psnr
from smalti.types import Pixels, Shape, shape_of
from smalti.util.binary import hash64
from smalti.util.parallel import bundles, in_order

DEFAULT_QUALITY = 50
"""The quality, 1 to 100, if no target is given."""
DEFAULT_EFFORT = 5
"""The effort, 1 to 9, if none is given."""
EXACT_ALPHA, ALPHA_STEP = 100, 4
"""The quality at which alpha is exact; so many steps of quality below it let alpha be off by one more."""
MOST_ALPHA_ERROR = (EXACT_ALPHA - 1) // ALPHA_STEP
"""The most that alpha may be off by, which its quality 1 means."""
METRICS = ("psnr", "ssim")
"""What the encoder may work for, where images are coded by transform: a small squared error, or a large MS-SSIM."""


@dataclass(frozen=True)
class Target:
    """The target of rate and quality of a file: at most one of five fields; quality 50 if none is given.

    Raises:
        UsageError: more than one field is given, or a value is out of range.
    """

    quality: int | None = None  # 1 (fewest bytes) to 100 (best)
    psnr: float | None = None  # dB, of the mean squared error over all images
    min_psnr: float | None = None  # dB, of every image
    bytes_an_image: float | None = None  # the most bytes of the file for each image; see `pack`
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


def largest_error(max_error: int | None, *, lossless: bool) -> int | None:
    """Return the largest error that is asked for, which is 0 where images shall be lossless; None if none is.

    Raises:
        UsageError: both are given.
    """
    if lossless and max_error is not None:
        raise UsageError("lossless=True means max_error=0; give one of the two")
    return 0 if lossless else max_error


def effort_of(
    effort: int, target: Target = Target(), metric: str = METRICS[0], alpha_quality: int = EXACT_ALPHA
) -> Effort:
    """Return the work that an effort stands for.

    metric: one of METRICS, for which the encoder works.
    alpha_quality: 1 to 100 (exact).

    Raises:
        UsageError: the effort is not from 1 to 9, there is no such metric or quality, or the target leaves no choice.
    """
    if _number(effort, "an effort") not in EFFORTS:
        raise UsageError(f"effort is {effort}; give a number from 1 (fastest) to 9 (longest search)")
    if metric not in METRICS:
        raise UsageError(f"the metric is {metric!r}; give one of {' and '.join(METRICS)}")
    if not 1 <= _number(alpha_quality, "a quality of alpha") <= EXACT_ALPHA:
        raise UsageError(f"the quality of alpha is {alpha_quality}; give a number from 1 (fewest bytes) to 100 (exact)")
    if target.max_error is not None and (metric != METRICS[0] or alpha_quality != EXACT_ALPHA):
        what = "the quality of alpha" if metric == METRICS[0] else f"the metric {metric}"
        raise UsageError(f"{what} is for lossy coding; leave it out beside lossless or a largest error")
    alpha_error = int((EXACT_ALPHA - alpha_quality) // ALPHA_STEP)
    return replace(EFFORTS[effort], similar=metric == "ssim", alpha_error=alpha_error)


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
    if target.max_error is not None and model.pixels is None and not model.is_general:
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
    model: Model
    squared_error: float  # of all images together: the sum of their MSEs on pixels in [0, 1]
    largest_error: float  # the largest MSE of an image, likewise
    by_model: int  # the images that the model codes


def seal_block(batch: Batch, block: Block, packing: str = BLOCK) -> Sealed:
    """Encode the block of a batch to its payload, with the hash of its decoded pixels. packing: one of PACKINGS."""
    payload = seal(block, batch.x, batch.model, packing)
    errors = squared_errors(batch.x, payload.x_hat)
    pixels = hash64(np.ascontiguousarray(payload.x_hat).data)
    by_model = 0 if payload.raw else sum(not isinstance(way, WithoutModel) for way in block.ways)
    both = float(errors.sum()), float(errors.max())
    return Sealed(batch.shape, len(batch), payload.data, pixels, batch.model, *both, by_model)


def code_blocks(
    batches: Iterable[Batch], target: Target, effort: Effort, packing: str = BLOCK
) -> Iterator[tuple[Batch, Block]]:
    """Yield each batch and the block that meets the target, which is no mean. packing: one of PACKINGS."""
    if target.max_error is not None:
        max_error = operator.index(target.max_error)
        return _several(lambda some, model: near_lossless(some, max_error, model, effort, packing), batches)
    if target.min_psnr is not None:
        least = target.min_psnr
        return ((batch, block_of_least_psnr(batch.x, batch.model, least, effort)) for batch in batches)
    quality = DEFAULT_QUALITY if target.quality is None else target.quality
    return code_at(batches, lambda model: model.operating_points.of_quality(quality), effort, packing)


def code_at(
    batches: Iterable[Batch], point_of: Callable[[Model], OperatingPoint], effort: Effort, packing: str = BLOCK
) -> Iterator[tuple[Batch, Block]]:
    """Yield each batch and its block at an operating point of its model; images that are smaller so are lossless.

    packing: one of PACKINGS.
    """

    def work(some: Sequence[Pixels], model: Model) -> list[Block]:
        fitting = model.fitting(point_of(model), shape_of(some[0])) if model.measured else None
        if fitting is None:
            return near_lossless(some, 0, model, effort, packing)
        coded = encode_images(some, fitting, model, effort)
        return [exactly_where_cheaper(part, block, model, effort) for part, block in zip(some, coded, strict=True)]

    def optimised(batch: Batch) -> bool:
        """Return whether a batch takes rate-distortion optimisation, which has threads of its own."""
        return bool(
            effort.passes and batch.model.measured and batch.model.has_latents and not point_of(batch.model).pixels
        )

    for alone, some in itertools.groupby(batches, optimised):
        if alone:
            yield from ((batch, block) for batch in some for block in work([batch.x], batch.model))
        else:
            yield from _several(work, some)


def _several(
    work: Callable[[Sequence[Pixels], Model], list[Block]], batches: Iterable[Batch]
) -> Iterator[tuple[Batch, Block]]:
    """Do `work` for a few batches of one model at a time, on all cores or as many as the first model is loaded for."""

    def kind(batch: Batch) -> tuple[bytes, bool, Shape]:
        """Return a key of images that are coded together; latents take images of one shape alone."""
        fits = batch.shape == batch.model.image_shape
        return batch.model.id, batch.model.has_latents, batch.shape if fits else alike(batch.shape)

    def size(some: Sequence[Batch]) -> int:
        return load([(batch.shape, len(batch)) for batch in some])

    def both(some: Sequence[Batch]) -> list[tuple[Batch, Block]]:
        return list(zip(some, work([batch.x for batch in some], some[0].model), strict=True))

    every = iter(batches)
    first = list(itertools.islice(every, 1))
    threads = first[0].model.threads if first else 0
    some = bundles(itertools.chain(first, every), kind, size, MOST_LOAD, threads)
    return itertools.chain.from_iterable(in_order(both, some, threads))
