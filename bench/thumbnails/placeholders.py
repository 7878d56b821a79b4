# SPDX-License-Identifier: MIT
"""Placeholders of some 24 bytes: thumbhash and blurhash, written here after their published descriptions.

thumbhash: Evan Wallace, https://evanw.github.io/thumbhash/; blurhash: Wolt, https://github.com/woltapp/blurhash
(Algorithm.md). Both keep the lowest terms of a cosine transform; what is here takes images without alpha.
"""

import math

import numpy as np
from numpy.typing import NDArray

from smalti.types import Pixels

Floats = NDArray[np.float64]

BLURHASH_BYTES = 28
"""The characters of a blurhash of 4x3 terms: one for their number, one for the largest, four for the mean colour, and
two for each further term."""


def thumbhash_coded(image: Pixels) -> tuple[int, Pixels]:
    """Return the bytes of the thumbhash of an image (`h w 3`, at most 100 pixels a side), and what it decodes to."""
    h, w, _ = image.shape
    x = image.astype(np.float64) / 255
    light = x.mean(2)
    planes = {"l": light, "p": (x[..., 0] + x[..., 1]) / 2 - x[..., 2], "q": x[..., 0] - x[..., 1]}
    most = 7
    lx, ly = max(1, round(most * w / max(w, h))), max(1, round(most * h / max(w, h)))
    terms = {"l": (max(3, lx), max(3, ly)), "p": (3, 3), "q": (3, 3)}
    levels = {"l": (63, 31), "p": (63, 63), "q": (63, 63)}  # of the constant term and of the scale
    decoded, nibbles = {}, 0
    for name, plane in planes.items():
        nx, ny = terms[name]
        constant, others = _triangle(plane, nx, ny)
        scale = max((abs(value) for _, value in others), default=0.0)
        nibbles += len(others)
        of_constant, of_scale = levels[name]
        if name == "l":
            constant = round(of_constant * constant) / of_constant
        else:
            constant = (round(31.5 + 31.5 * constant) - 31.5) / 31.5
        kept = round(of_scale * scale) / of_scale
        back = [
            (at, (round(15 * (0.5 + 0.5 * value / scale)) / 7.5 - 1) * kept if scale else 0.0) for at, value in others
        ]
        gain = 1.0 if name == "l" else 1.25  # the decoder makes colours more vivid
        decoded[name] = _back(constant, [(at, gain * value) for at, value in back], h, w)
    light, p, q = decoded["l"], decoded["p"], decoded["q"]
    blue = light - 2 / 3 * p
    red = (3 * light - blue + q) / 2
    x_hat = np.stack([red, red - q, blue], -1)
    return 5 + math.ceil(nibbles / 2), _pixels(x_hat)


def _triangle(plane: Floats, nx: int, ny: int) -> tuple[float, list[tuple[tuple[int, int], float]]]:
    """Return the constant of a plane, and its terms (cx, cy) below the diagonal of `nx` by `ny` terms."""
    h, w = plane.shape
    found = []
    for cy in range(ny):
        cx = 0
        while cx * ny < nx * (ny - cy):
            wave = np.outer(
                np.cos(math.pi / h * cy * (np.arange(h) + 0.5)), np.cos(math.pi / w * cx * (np.arange(w) + 0.5))
            )
            found.append(((cx, cy), float((plane * wave).mean())))
            cx += 1
    return found[0][1], found[1:]


def _back(constant: float, terms: list[tuple[tuple[int, int], float]], h: int, w: int) -> Floats:
    plane = np.full((h, w), constant)
    for (cx, cy), value in terms:
        gain = (2 if cx else 1) * (2 if cy else 1)
        plane += (
            gain
            * value
            * np.outer(np.cos(math.pi / h * cy * (np.arange(h) + 0.5)), np.cos(math.pi / w * cx * (np.arange(w) + 0.5)))
        )
    return plane


def blurhash_coded(image: Pixels) -> tuple[int, Pixels]:
    """Return the bytes of the blurhash of an image (`h w 3`) with 4x3 terms, and what it decodes to."""
    h, w, _ = image.shape
    linear = _to_linear(image / 255)
    rows = np.cos(math.pi * np.outer(np.arange(3), np.arange(h)) / h)
    columns = np.cos(math.pi * np.outer(np.arange(4), np.arange(w)) / w)
    terms = np.einsum("yh,xw,hwc->yxc", rows, columns, linear) / (h * w)
    gains = np.full((3, 4, 1), 2.0)
    gains[0, 0] = 1
    terms *= gains
    mean = _to_linear(np.rint(_to_srgb(terms[0, 0]) * 255) / 255)
    rest = terms.copy()
    rest[0, 0] = 0
    most = (min(82, max(0, math.floor(abs(rest).max() * 166 - 0.5))) + 1) / 166
    levels = np.floor(np.sign(rest) * np.abs(rest / most) ** 0.5 * 9 + 9.5).clip(0, 18)
    back = np.sign(levels - 9) * ((levels - 9) / 9) ** 2 * most
    back[0, 0] = mean
    return BLURHASH_BYTES, _pixels(_to_srgb(np.einsum("yh,xw,yxc->hwc", rows, columns, back)))


def _to_linear(x: Floats) -> Floats:
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _to_srgb(x: Floats) -> Floats:
    x = x.clip(0, 1)
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)


def _pixels(x: Floats) -> Pixels:
    pixels: Pixels = np.rint(x.clip(0, 1) * 255).astype(np.uint8)
    return pixels
