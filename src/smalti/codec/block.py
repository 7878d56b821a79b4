# SPDX-License-Identifier: MIT
"""The code of images: what an encoder chooses, exactly as the decoder will see it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.codec.pixel_codec import Quantised
from smalti.entropy.frequencies import Ints

ABSENT = -1
"""In the place of an operating point or an error: the image is coded in another way."""


@dataclass(frozen=True, eq=False)
class Code:
    """Symbols of `n` images that are coded by latents."""

    points: Ints  # n: operating points
    symbols: Ints  # n cells l
    spatial: Ints  # n c H W: of the local latents; c is 0 if the model has none

    def pick(self, rows: NDArray[Any]) -> "Code":
        """Some of the images."""
        return Code(self.points[rows], self.symbols[rows], self.spatial[rows])

    @staticmethod
    def join(codes: "Sequence[Code]") -> "Code":
        """The images of several codes."""
        return Code(
            *(np.concatenate([getattr(code, name) for code in codes]) for name in ("points", "symbols", "spatial"))
        )

    def put(self, rows: NDArray[Any], other: "Code") -> None:
        """Replace some of the images."""
        self.points[rows], self.symbols[rows], self.spatial[rows] = other.points, other.symbols, other.spatial


@dataclass(frozen=True, eq=False)
class Block:
    """The images of a block, each coded in one of three ways: by latents, pixel by pixel, or without the model."""

    points: Ints  # n: operating points of those by latents, else ABSENT
    errors: Ints  # n: largest errors of those by pixels, else ABSENT
    code: Code | None = None  # of those by latents
    quantised: Quantised | None = None  # of those by pixels
    plain: dict[int, bytes] = field(default_factory=dict)  # records of all others, by index
    post_filtered: bool = False  # whether the decoder dequantises what is coded by pixels

    def without(self, plain: dict[int, bytes]) -> "Block":
        """The same, but for images that become plain, none of which was; their records by index."""
        modelled = np.array([i not in plain for i in range(len(self.points))])
        points, errors = (np.where(modelled, settings, ABSENT) for settings in (self.points, self.errors))
        code, quantised = self.code, self.quantised
        if code is not None:
            code = code.pick(modelled[self.points != ABSENT]) if (points != ABSENT).any() else None
        if quantised is not None:
            quantised = quantised.pick(modelled[self.errors != ABSENT]) if (errors != ABSENT).any() else None
        return Block(points, errors, code, quantised, self.plain | plain, self.post_filtered)

    def exactly(self, rows: Ints, quantised: Quantised) -> "Block":
        """The same, but for images that were coded by latents, as all others, and are now coded by pixels, exactly."""
        assert self.code is not None
        assert self.quantised is None
        left = self.points != ABSENT
        points, errors = self.points.copy(), self.errors.copy()
        points[rows], errors[rows] = ABSENT, 0
        code = self.code.pick((points != ABSENT)[left]) if (points != ABSENT).any() else None
        return Block(points, errors, code, quantised, self.plain, self.post_filtered)


def by_latents(code: Code) -> Block:
    """A block of images all coded so."""
    return Block(code.points, np.full(len(code.points), ABSENT), code)


def by_pixels(errors: Ints, quantised: Quantised, *, post_filtered: bool) -> Block:
    """A block of images all coded so."""
    return Block(np.full(len(errors), ABSENT), errors, quantised=quantised, post_filtered=post_filtered)
