# SPDX-License-Identifier: MIT
"""Convert samples of other types than uint8 to 8 bits, by one rule for each type."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.errors import SourceError
from smalti.types import Reason

CONVERT = "to convert it to 8-bit sRGB or gray, pack it with convert=True"
"""The advice at the end of messages about images that are taken only when they are converted."""
EACH = "to take each as an image of its own, pack it with convert=True"
"""The advice at the end of messages about files of several images."""


def depth(bits: int) -> Reason:
    """Return the reason of a conversion from so many bits a sample to 8."""
    return Reason(f"image of {bits} bits a sample to 8 bits", f"images of {bits} bits a sample to 8 bits")


def reason_of(kind: np.dtype[Any]) -> Reason | None:
    """Return why samples of a type need a conversion; None if they need none, or there is none.

    >>> reason_of(np.dtype("uint8")), reason_of(np.dtype("uint16")).one
    (None, 'image of 16 bits a sample to 8 bits')
    """
    if _is_deep(kind):
        return depth(16)
    if kind.kind in "iuf" and kind != np.uint8:
        return Reason(f"image of {kind.name} to 8 bits", f"images of {kind.name} to 8 bits")
    return None


def _is_deep(kind: np.dtype[Any]) -> bool:
    return kind.kind == "u" and kind.itemsize == 2


def scaled(x: NDArray[Any], where: str, bits: int = 16) -> NDArray[np.uint8]:
    """Return images as uint8.

    Samples of uint16 lose their lower bits (`v >> 8`), floats from 0 to 1 become `round(255 v)`, bools become 0 and
    255, and other ints, which must be 0 to 255, stay what they are.

    Args:
        x: the images, `n h w` or `n h w c`.
        where: the images, in words, for messages.
        bits: how many bits the samples of uint16 use.

    Raises:
        SourceError: the samples do not lie in the range of their type, or their type has no rule.
    """
    if x.dtype == np.uint8:
        return x
    if x.dtype == np.bool_:
        return np.where(x.view(np.uint8) != 0, np.uint8(255), np.uint8(0))
    if _is_deep(x.dtype):
        most = x.reshape(len(x), -1).max(1)
        if ((most > 0) & (most < 256)).any():
            raise SourceError(
                f"{where}: an image of 16 bits a sample uses none above 255, so that nothing would be left of it in 8"
                ' bits; if its samples are 0 to 255, save them as 8 bits: x.astype("uint8")'
            )
        return np.asarray(x >> (bits - 8)).astype(np.uint8)
    if x.dtype.kind not in "iuf":
        raise SourceError(f"{where}: samples of {x.dtype} are no images; save them as uint8")
    low, high, top = x.min(), x.max(), 1 if x.dtype.kind == "f" else 255
    if not (low >= 0 and high <= top):  # which is so of NaN as well
        mend = "x / x.max(), if 0 is black" if x.dtype.kind == "f" else 'x.astype("uint16"), if they have 16 bits'
        raise SourceError(
            f"{where}: samples of {x.dtype.name} must be 0 to {top}, and are {low:g} to {high:g}; save {mend}"
        )
    return np.rint(x.astype(np.float64) * 255).astype(np.uint8) if x.dtype.kind == "f" else x.astype(np.uint8)
