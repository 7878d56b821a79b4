# SPDX-License-Identifier: MIT
"""The code of images: what an encoder chooses, exactly as the decoder will see it."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from smalti.tables import Ints

PLAIN = -1
"""In the place of an operating point: the image is coded without the model."""


@dataclass(frozen=True, eq=False)
class Code:
    """Symbols of `n` images, and the records of those that are coded without the model."""

    points: Ints  # n: operating points, or PLAIN
    symbols: Ints  # n cells l; whatever, where an image is plain
    local: Ints  # n c H W: of the local latents; c is 0 if the model has none
    plain: dict[int, bytes]  # records of the plain images, by index

    def pick(self, rows: NDArray[Any]) -> "Code":
        """Some of the images, none of them plain."""
        return Code(self.points[rows], self.symbols[rows], self.local[rows], {})

    def put(self, rows: NDArray[Any], other: "Code") -> None:
        """Replace some of the images, none of them plain."""
        self.points[rows], self.symbols[rows], self.local[rows] = other.points, other.symbols, other.local
