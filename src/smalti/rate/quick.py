# SPDX-License-Identifier: MIT
"""Say at little cost of which images WebP lossless surely takes more bytes, so that they need not be tried as WebP."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.codec.webp_codec import LIGHT, encode_webp
from smalti.types import Pixels

DISTINCT = 0.5
"""At least this share of the pixels differ from their left neighbours in a way that no other pixel does, if an image is
surely not one for WebP: then neither repetitions nor lists of colours help, and WebP can only predict samples."""
RUN, DISTINCT_RUNS = 4, 0.9
"""And at least this share of the runs of so many pixels: else a part of the image may be a copy of another."""
MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)
"""Odd numbers, by which a run of pixels is hashed."""
OF_ENTROPY = 0.93
"""Such an image takes at most this share of the entropy of its differences. WebP takes 0.8 to 1.1 of it on photographs,
where coding by mixing takes 0.7 to 0.9; images of which WebP takes less than mixing are above 1."""

OF_LIGHT, OF_LIGHT_TONE = 0.75, 0.83
"""WebP at its best takes at least this share of what it takes with little work: of any images (0.76 of drawn ones and
0.9 of others were seen), and of those that hardly repeat themselves."""
LISTED = 256
"""So many colours, at most, WebP keeps as a list."""


def may_be_webp(image: Pixels, rate: float) -> bool:
    """Return whether an image (`h w` or `h w c`) may take fewer than `rate` bytes as WebP, by trying it lightly."""
    record = encode_webp(image, settings=LIGHT)
    return rate > image.size or (record is not None and OF_LIGHT * len(record) < rate + LIGHT_BYTES)


def has_few_colours(image: Pixels) -> bool:
    """Return whether WebP can keep the colours of an image (`h w` or `h w c`) as a list."""
    return colours_of(image) <= LISTED


def colours_of(image: Pixels) -> int:
    """Return how many colours the pixels of an image (`h w` or `h w c`) have."""
    pixels = image.reshape(image.shape[0] * image.shape[1], -1)
    numbers = pixels.astype(np.uint32) @ (np.uint32(1) << np.arange(0, 8 * pixels.shape[1], 8, dtype=np.uint32))
    numbers.sort()
    return int(np.count_nonzero(numbers[1:] != numbers[:-1])) + 1


LIGHT_BYTES = 10
"""Records of few bytes are tried whatever their share."""


def is_beyond_webp(image: Pixels, rate: float) -> bool:
    """Return whether an image (`h w c`) of `surely_not_webp` also takes far more than `rate` bytes when it is tried.

    Little work is spent. An image that WebP could keep as a list of colours does not, and so none in gray.
    """
    if has_few_colours(image):
        return False
    record = encode_webp(image, settings=LIGHT)
    return record is None or rate < OF_LIGHT_TONE * len(record)


def surely_not_webp(x: Pixels, rates: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which images of continuous tone without alpha (`n h w` or `n h w c`) take more bytes as WebP for sure.

    rates: the bytes that each image takes by mixing (`n`).
    """
    n = len(x)
    planes = np.moveaxis(x.reshape(*x.shape[:3], -1), 3, 0)
    if len(planes) not in (1, 3):
        return np.zeros(n, bool)
    across = [_across(plane) for plane in planes]
    if len(planes) == 3:
        red, green, blue = across
        less_green = red - green, blue - green
        keys = less_green[0] | green.astype(np.uint32) << 8 | less_green[1].astype(np.uint32) << 16
        tried = [(red, less_green[0]), (green,), (blue, less_green[1])]
    else:
        keys = across[0].astype(np.uint32)
        keys[:, :, 1:] |= keys[:, :, :-1] << 8 & 0xFFFF00
        tried = [(across[0],)]
    pixels = keys.reshape(n, -1)
    if pixels.shape[1] < RUN:
        return np.zeros(n, bool)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, RUN, 1).astype(np.uint64)
    is_distinct = (_distinct(pixels) >= DISTINCT) & (_distinct(windows @ MULTIPLIERS) >= DISTINCT_RUNS)
    entropy = np.sum([np.min([_entropy(plane) for plane in some], 0) for some in tried], 0)
    found: NDArray[np.bool_] = is_distinct & (rates < OF_ENTROPY * entropy)
    return found


def _distinct(keys: NDArray[Any]) -> NDArray[np.float64]:
    """Return how many keys of each row are different, as a share of all."""
    ordered = np.sort(keys, 1)
    found: NDArray[np.float64] = ((ordered[:, 1:] != ordered[:, :-1]).sum(1) + 1) / keys.shape[1]
    return found


def _across(plane: Pixels) -> Pixels:
    """Return samples (`n h w`) less those to their left; in the first column, less those above."""
    found = np.ascontiguousarray(plane)
    above, found = found[:, :, 0], np.diff(found, axis=2, prepend=np.uint8(0))
    found[:, 1:, 0] = above[:, 1:] - above[:, :-1]
    return found


def _entropy(plane: Pixels) -> NDArray[np.float64]:
    """Return the entropy of the values of each image (`n h w`), in bytes of all of its samples."""
    n, size = len(plane), plane[0].size
    at = plane.reshape(n, -1) + 256 * np.arange(n)[:, None]
    counts = np.bincount(at.ravel(), minlength=256 * n).reshape(n, 256)
    found: NDArray[np.float64] = (size * np.log2(size) - (counts * np.log2(np.maximum(counts, 1))).sum(1)) / 8
    return found
