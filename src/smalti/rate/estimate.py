# SPDX-License-Identifier: MIT
"""Estimate at little cost what images take: with a model, and without one.

An encoder knows all samples of an image, so the pixel prior can say of any of them how many bits it takes without
walking there sample by sample. A part of the samples, spread evenly, is enough to compare models. All engines estimate
the same, so that all choose the same model; numpy takes less time for a part than the compiled core for all samples.
"""

import zlib

import numpy as np
from numpy.typing import NDArray

from smalti.codec.block_codec import encode_images
from smalti.codec.pixel_codec import to_planes
from smalti.codec.rdo import EFFORTS, FAST_EFFORT
from smalti.entropy.frequencies import FRACTION_BITS, Ints, mass_bits
from smalti.entropy.logistic_mixture import WHOLE_BITS, split_outputs
from smalti.model.model import Model
from smalti.model.operating_points import LMBDA, OperatingPoint
from smalti.model.pixel_prior import COLUMNS, ROWS, PixelPrior, Samples, level_count, to_levels, to_samples
from smalti.model.wavefront import SampleTables
from smalti.rate.metrics import squared_errors
from smalti.types import Pixels, shape_of
from smalti.util.parallel import ALONE

Floats = NDArray[np.float64]

LEAST_PROBABILITY = 1 << WHOLE_BITS - 23
"""The least probability that a level is given, of 2^28; the entropy coder keeps about as much for each."""


def at_point(x: Pixels, point: OperatingPoint, model: Model, each: int) -> tuple[Floats, Floats]:
    """Estimate what images `x` (`n h w` or `n h w c`) take at an operating point of a model, without optimisation.

    each: of so many samples, one is looked at to estimate the bits of an image by pixels.

    Returns:
        Bits, and the squared error summed over the samples on [0, 1], of each image (`n`).
    """
    size = x[0].size
    if not point.pixels:
        (block,) = encode_images([x], point, model, EFFORTS[FAST_EFFORT])
        return block.bits, squared_errors(x, block.x_hat) * size
    quantised = to_samples(to_levels(x, np.array(point.setting)), np.array(point.setting))
    x_hat = model.post_filter(quantised, np.full(len(x), point.setting))
    return by_pixels(x, point.setting, model, each, LMBDA), squared_errors(x, x_hat) * size


def by_pixels(x: Pixels, error: int, model: Model, each: int, lmbda: float = 0.0) -> Floats:
    """Estimate the bits (`n`) of images `x` (`n h w` or `n h w c`) that are coded by pixels up to a largest error.

    The estimate is exact, but for rounding, if all samples are looked at and `lmbda` is 0.

    each: one of so many samples is looked at; which ones differs from image to image.
    lmbda: as in `encode_pixels`.
    """
    prior = model.pixels_for(shape_of(x)[2])
    assert prior is not None
    planes = to_planes(x, prior)
    image, row, column = _spread(planes.shape, each)
    bits = np.zeros(len(planes))
    with ALONE:  # else numpy's threads would take a core for longer than the products take
        for mine in np.array_split(np.arange(len(image)), -(-len(image) // _SAMPLES)):
            place = image[mine], row[mine], column[mine]
            found = _bits(planes[place], _windows(planes, place, error, prior), place, error, prior, lmbda)
            bits += np.bincount(image[mine], found, len(planes))
    bits *= planes[0].size / np.maximum(np.bincount(image, minlength=len(planes)), 1)
    of_images: Floats = bits.reshape(len(x), -1).sum(1)
    return of_images


_SAMPLES = 1 << 14
"""The most samples that are looked at together; more would only cost memory."""


def _spread(shape: tuple[int, ...], each: int) -> tuple[Ints, Ints, Ints]:
    """Return planes, rows and columns (`k` each) of one in `each` samples of planes (`n h m`), on a slanted grid."""
    n, h, m = shape
    phase = np.add.outer(np.arange(n), np.add.outer(3 * np.arange(h), np.arange(m)))
    image, row, column = (phase % min(each, h * m) == 0).nonzero()
    return image, row, column


def _windows(planes: Samples, place: tuple[Ints, Ints, Ints], error: int, prior: PixelPrior) -> Samples:
    """Return the causal windows of samples at these places (`k window`), as they are if all takes its nearest level."""
    window, (n, h, m) = prior.window, planes.shape
    reach, left, above = window.reach * window.channels, window.left * window.channels, window.above
    side = max(reach, left)
    padded = np.zeros((n, above + h, m + 2 * side), np.uint8)
    known = to_samples(to_levels(planes, np.array(error)), np.array(error)) if error else planes
    padded[:, above:, side : side + m] = known
    rows = np.concatenate([np.arange(above).repeat(2 * reach + 1), np.full(left, above)])
    columns = np.concatenate([np.tile(np.arange(-reach, reach + 1), above), np.arange(-left, 0)]) + side
    image, row, column = place
    first = (image * (above + h) + row) * (m + 2 * side) + column
    found: Samples = padded.ravel()[first[:, None] + (rows * (m + 2 * side) + columns)]
    return found


def _bits(
    values: Samples, windows: Samples, place: tuple[Ints, Ints, Ints], error: int, prior: PixelPrior, lmbda: float
) -> Floats:
    """Return the bits of samples of these values at these places (`k`)."""
    (_, row, column), c = place, prior.window.channels
    of_rows, of_columns = np.minimum(row, ROWS - 1), np.minimum(column // c, COLUMNS - 1) * c + column % c
    outputs = prior.mixtures(windows, of_rows, of_columns, np.array(error))
    errors = np.full(len(values), error)
    tables = SampleTables(prior.logistics, split_outputs(outputs, prior.components), errors, error)
    tried = to_levels(values, errors)[:, None]  # k choices
    if lmbda:
        last = level_count(errors)[:, None] - 1
        tried = np.concatenate([tried, np.maximum(tried - 1, 0), np.minimum(tried + 1, last), tried * 0], 1)
    below = np.where(tried > 0, tables.below(np.maximum(tried, 1)), 0)
    masses = np.maximum(tables.below(tried + 1) - below, LEAST_PROBABILITY)
    bits: Floats = mass_bits(masses) / (1 << FRACTION_BITS)  # as exact on all machines, unlike log2
    if not lmbda:
        return bits[:, 0]
    off = (to_samples(tried, errors[:, None]).astype(np.float64) - values[:, None]) / (2 * error + 1)
    best = (off**2 + lmbda * bits).argmin(1)
    return np.take_along_axis(bits, best[:, None], 1)[:, 0]


def deflated(x: Pixels, error: int = 0) -> Ints:
    """Return the bits (`n`) of images `x` (`n h w` or `n h w c`) behind the best of three filters and deflate.

    error: the largest error of a sample; levels are deflated, the nearest ones.
    """
    levels = to_levels(x, np.array(error)).astype(np.uint8)
    if not error and shape_of(x)[2] >= 3:  # colours are alike, as lossless coders of colour images know
        levels[..., 0] -= levels[..., 1]
        levels[..., 2] -= levels[..., 1]
    return np.array([8 * min(len(zlib.compress(some.tobytes())) for some in _filtered(image)) for image in levels])


def _filtered(image: Pixels) -> list[Pixels]:
    none = np.uint8(0)
    return [image, np.diff(image, axis=0, prepend=none), np.diff(image, axis=1, prepend=none)]
