# SPDX-License-Identifier: MIT
"""The measured operating points of a model, as its manifest has them."""

import math
from collections.abc import Mapping
from typing import Any

from smalti.model.masked_mlp import POINTS
from smalti.model.model import SYNTHESIS
from smalti.model.operating_points import OperatingPoint
from smalti.model.parts.member_names import MANIFEST, MIXING, PIXELS, TRANSFORM
from smalti.model.pixel_prior import MAX_ERROR
from smalti.model.transform.reduction import LAST_LEVEL


def told_of(point: OperatingPoint) -> dict[str, Any]:
    """Return an operating point as a manifest has it; what was added later is there only where it is needed."""
    told = vars(point).copy()
    if not told["transform"]:
        del told["transform"]
    return told


def measured_points(known: list[Mapping[str, Any]], members: Mapping[str, bytes]) -> tuple[OperatingPoint, ...]:
    """Return the measured operating points.

    Points by pixels need the pixel prior; a model has points by latents if and only if it has latents.
    """
    by_quality = tuple(_point(point) for point in known)
    if not by_quality and set(members) - {MANIFEST, MIXING}:
        raise ValueError("the manifest names no operating point")
    by_transform = [point for point in by_quality if point.transform]
    if by_transform:
        if TRANSFORM not in members or MIXING not in members or SYNTHESIS in members:
            raise ValueError("the manifest names operating points by transform, but there is no transform")
        settings = [-point.setting if point.transform else 1 - point.setting / MAX_ERROR for point in by_quality]
        if (
            settings[-1] != 1
            or settings != sorted(set(settings))
            or any(not (point.transform or point.pixels) for point in by_quality)
        ):
            raise ValueError("the operating points by transform are not in their order")
        return by_quality
    if any(point.pixels for point in by_quality) and PIXELS not in members:
        raise ValueError("the manifest names operating points by pixels, but there is no pixel prior")
    if any(not point.pixels for point in by_quality) != (SYNTHESIS in members):
        raise ValueError("the manifest names no operating point by latents, or there are no latents")
    return by_quality


def _point(known: Mapping[str, Any]) -> OperatingPoint:
    numbers = int(known["setting"]), float(known["bytes"]), float(known["psnr"])
    point = OperatingPoint(bool(known["pixels"]), *numbers, transform=bool(known.get("transform", False)))
    most = LAST_LEVEL if point.transform else MAX_ERROR if point.pixels else POINTS - 1
    if not (0 <= point.setting <= most and 0 <= point.bytes < math.inf and 0 <= point.psnr <= 200):
        raise ValueError(f"an operating point is impossible: {point}")
    return point
