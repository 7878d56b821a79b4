# SPDX-License-Identifier: MIT
"""Measure the levels of a model that codes by transform, and write its bundle."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from smalti.codec.mixing_codec import encode_mixing
from smalti.codec.transform_codec import encode_transform
from smalti.model.bundle import bundle_bytes
from smalti.model.model import Model
from smalti.model.operating_points import OperatingPoint
from smalti.model.transform.reduction import LAST_LEVEL
from smalti.rate.metrics import psnr, squared_errors
from smalti.types import Pixels

ERRORS = (2, 1, 0)
"""The largest errors of what is finer than the finest level; it is coded by mixing."""
MOST_PSNR = 100.0
"""The PSNR that stands for no error at all."""


def measured_levels(model: Model, images: Sequence[Pixels]) -> tuple[OperatingPoint, ...]:
    """Return the operating points of a model, measured on images (`h w 3` each), from the fewest bytes to lossless.

    Bytes are those of a mean image of the model's shape, by the samples of the images that were measured.
    """
    samples, size = sum(image.size for image in images), int(np.prod(model.image_shape))
    points = list[OperatingPoint]()
    for setting in (*range(LAST_LEVEL, -1, -1), *ERRORS):
        by_transform = len(points) <= LAST_LEVEL
        bits = error = 0.0
        for image in images:
            if by_transform:
                block = encode_transform(image[None], np.array([setting]), model)
            else:
                block = encode_mixing(image[None], setting, model)
            bits += float(block.bits.sum())
            error += float(squared_errors(image[None], block.x_hat)[0]) * image.size
        decibel = min(psnr(error / samples), MOST_PSNR)
        points.append(
            OperatingPoint(not by_transform, setting, bits / 8 * size / samples, decibel, transform=by_transform)
        )
    return tuple(points)


def transform_bundle(model: Model, measured: Sequence[OperatingPoint]) -> bytes:
    """Return the bundle of a model that codes by transform and by mixing, with its measured operating points."""
    return bundle_bytes(replace(model, measured=tuple(measured)))
