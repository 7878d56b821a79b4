# SPDX-License-Identifier: MIT
"""What the readers share: limits, reading to the byte, single images gathered to parts."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from smalti.errors import SmaltiError, SourceError
from smalti.types import ImageSet, Label, Shape

MAX_BYTES = 1 << 34
"""Bytes of pixels a source may claim; far above need, low enough to refuse a lying header."""
MAX_MEMBER_BYTES = 1 << 26
"""Bytes one image, or one file in an archive, may claim: far more than the largest that can be packed."""
MAX_PIXELS = 1 << 24
"""Of an image that is decoded at all; no smalti file holds a larger one."""
MAX_TEXT_BYTES = 1 << 30
"""Bytes the labels of all images in an archive may claim; they are read line by line."""
PART_IMAGES = 256
"""Images a part holds at most; many small ones cost little memory and keep Python out of inner loops."""
PART_SAMPLES = 1 << 20
"""Samples a part holds at most, unless one image alone has more."""
GZIP = b"\x1f\x8b"
_PIECE = 1 << 20  # bytes asked for at once, so that a claim allocates nothing


class Single(NamedTuple):
    """An image on its way into a part."""

    pixels: NDArray[np.uint8]  # h w, h w 3 or h w 4
    name: str | None
    label: Label | None


class Readable(Protocol):
    """A file, a member of an archive."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts that are read anew each time they are gone through."""

    start: Callable[[], Iterator[ImageSet]]

    def __iter__(self) -> Iterator[ImageSet]:
        return self.start()


def part_length(shape: Shape) -> int:
    """How many images of that shape a part holds.

    >>> part_length((28, 28, 1)), part_length((64, 64, 3)), part_length((4000, 4000, 3))
    (256, 85, 1)
    """
    h, w, c = shape
    return max(1, min(PART_IMAGES, PART_SAMPLES // max(1, h * w * c)))


def grouped(singles: Iterable[Single]) -> Iterator[ImageSet]:
    """Single images as parts: neighbours of one shape go together."""
    waiting: list[Single] = []
    for single in singles:
        if waiting and (single.pixels.shape != waiting[0].pixels.shape or _full(waiting)):
            yield _part(waiting)
            waiting = []
        waiting.append(single)
    if waiting:
        yield _part(waiting)


def _full(waiting: list[Single]) -> bool:
    return len(waiting) >= PART_IMAGES or (len(waiting) + 1) * waiting[0].pixels.size > PART_SAMPLES


def _part(singles: list[Single]) -> ImageSet:
    names = tuple(single.name for single in singles if single.name is not None)
    labels = tuple(single.label for single in singles if single.label is not None)
    return ImageSet(np.stack([single.pixels for single in singles]), names or None, labels or None)


def read_exactly(file: Readable, size: int) -> bytes:
    """`size` bytes, or fewer where the file ends; never asks for more than it gets."""
    pieces = []
    while size > 0 and (piece := file.read(min(size, _PIECE))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


@contextlib.contextmanager
def damage(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a reader of `what` (in words) raises into one error that names the file.

    Raises:
        SourceError: something was raised.
    """
    try:
        yield
    except SmaltiError:
        raise
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno and exc.strerror:
            raise SourceError(f"cannot read {path}: {exc.strerror}; check the path") from exc
        reason = " ".join(str(exc).split())[:200] or type(exc).__name__
        raise SourceError(f"{path} is not {what}, or a damaged one ({reason}); copy or save it again") from exc
