# SPDX-License-Identifier: MIT
"""What the readers of all formats share: limits, exact reads, gathering images into parts."""

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
"""The most bytes of pixels that a source may claim; a header that claims more is taken for damaged."""
MAX_MEMBER_BYTES = 1 << 26
"""The most bytes that one image, or one file in an archive, may claim: far more than can be packed."""
MAX_PIXELS = 1 << 24
"""The most pixels of an image that is decoded at all; no smalti file holds a larger one."""
MAX_TEXT_BYTES = 1 << 30
"""The most bytes that the labels of all images in an archive may claim; they are read line by line."""
PART_IMAGES = 256
"""The most images of a part; 256 small ones take little memory and keep Python out of inner loops."""
PART_SAMPLES = 1 << 20
"""The most samples of a part, unless one image alone has more."""
GZIP = b"\x1f\x8b"
"""The first bytes of a gzip file."""
_PIECE = 1 << 20  # the most bytes asked for at once, so that a false claim of a size allocates little


class Single(NamedTuple):
    """One image that was read and is not yet in a part."""

    pixels: NDArray[np.uint8]  # h w, h w 2, h w 3 or h w 4
    name: str | None
    label: Label | None
    profile: bytes | None = None  # ICC


class Readable(Protocol):
    """What bytes are read from: a file, or a member of an archive."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of a source, read from its start each time that they are iterated over."""

    start: Callable[[], Iterator[ImageSet]]

    def __iter__(self) -> Iterator[ImageSet]:
        return self.start()


def part_length(shape: Shape) -> int:
    """Return how many images of that shape a part holds at most.

    >>> part_length((28, 28, 1)), part_length((64, 64, 3)), part_length((4000, 4000, 3))
    (256, 85, 1)
    """
    h, w, c = shape
    return max(1, min(PART_IMAGES, PART_SAMPLES // max(1, h * w * c)))


def grouped(singles: Iterable[Single]) -> Iterator[ImageSet]:
    """Yield single images as parts, with neighbours of one shape together."""
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
    profiles = tuple(single.profile for single in singles)
    with_profiles = profiles if any(profiles) else None
    return ImageSet(np.stack([single.pixels for single in singles]), names or None, labels or None, with_profiles)


def read_exactly(file: Readable, size: int) -> bytes:
    """Read `size` bytes, or fewer where the file ends, in pieces, so that a false size allocates little."""
    pieces = []
    while size > 0 and (piece := file.read(min(size, _PIECE))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


@contextlib.contextmanager
def damage(path: Path, what: str) -> Iterator[None]:
    """Turn every error of reading `path` as `what` (in words) into a SourceError that names the file.

    Raises:
        SourceError: the block raised an error that is none of smalti's.
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
