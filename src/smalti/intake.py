# SPDX-License-Identifier: MIT
"""What comes in to be packed: gathered into blocks of one size, and what is said of each image remembered."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from smalti.archive import ArchiveWriter
from smalti.codec import Pixels, block_images
from smalti.columns import pack_labels, pack_names
from smalti.errors import SourceError
from smalti.format import (
    LABELS,
    MAX_BLOCK_SAMPLES,
    MAX_SECTION_IMAGES,
    MAX_SIDE,
    NAMES,
    Kind,
)
from smalti.images import ImageSet, Label, Shape, Source, check_name, describe

PENDING_SAMPLES = 1 << 24
"""Of images that wait for others of their size."""
PIECE_IMAGES = 4096
"""Of a part, taken at a time."""
SECTION_TOLD = 1 << 19
"""After so many bytes of names and numbers of labels, sections are written."""
MOST_TOLD = 1 << 20
"""Of these, in one section: names and labels are far shorter."""
MAX_LABEL, MAX_LABEL_NUMBERS = 1 << 61, 1 << 10
"""Size of a number, and how many a label may have."""


@dataclass
class Intake:
    """Takes images as they come, gives them in blocks of one size, and remembers what is said of each.

    Raises (while parts are taken):
        SourceError: a name is there twice, labels are of several kinds, or an image is too large.
    """

    source: Source
    model: int  # number in the file
    most: int  # images a block
    writer: ArchiveWriter
    seen: set[str] = field(default_factory=set)  # names of images that are there already
    label_kind: type | None = None
    names: list[str] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    told: int = 0  # bytes of names, and numbers of labels, that wait to be written
    count: int = 0
    places: deque[list[int]] = field(default_factory=deque)  # of the images of each part given, in the source

    def parts(self) -> Iterator[Pixels]:
        """All images, in blocks."""
        pending: dict[tuple[int, int, int], list[tuple[Pixels, list[int]]]] = {}
        waiting = 0
        for some in self._pieces():
            kind = Kind(self.model, some.shape[2], *some.shape[:2])
            self._take(some, kind)
            block = block_images(some.shape, self.most)
            mine = pending.setdefault(some.shape, [])
            mine.append((some.pixels, list(range(self.count - len(some), self.count))))
            waiting += some.pixels.size
            if sum(len(x) for x, _ in mine) >= block or waiting > PENDING_SAMPLES:
                full = pending if waiting > PENDING_SAMPLES else {some.shape: mine}
                all_of_it = waiting > PENDING_SAMPLES
                for shape in list(full):
                    (x, places), block = self._joined(pending.pop(shape)), block_images(shape, self.most)
                    whole = len(x) if all_of_it else len(x) // block * block
                    waiting -= x[:whole].size
                    yield from self._blocks(x[:whole], places[:whole], block)
                    if whole < len(x):
                        pending[shape] = [(x[whole:], places[whole:])]
        for shape, rest in pending.items():
            yield from self._blocks(*self._joined(rest), block_images(shape, self.most))

    def _pieces(self) -> Iterator[ImageSet]:
        """Parts that are not too large."""
        for part in self.source.parts:
            for i in range(0, len(part), PIECE_IMAGES):
                yield part[i : i + PIECE_IMAGES]

    @staticmethod
    def _joined(some: Sequence[tuple[Pixels, list[int]]]) -> tuple[Pixels, list[int]]:
        if len(some) == 1:
            return some[0]
        return np.concatenate([x for x, _ in some]), [place for _, places in some for place in places]

    def _blocks(self, x: Pixels, places: list[int], block: int) -> Iterator[Pixels]:
        for i in range(0, len(x), block):
            self.places.append(places[i : i + block])
            yield x[i : i + block]

    def _take(self, some: ImageSet, kind: Kind) -> None:
        check_size(some.shape)
        self.count += len(some)
        self.kinds += [self.writer.kind(kind)] * len(some)
        if self.source.named:
            for name in some.names or ():
                if name in self.seen:
                    raise SourceError(
                        f"two images are named {name!r}; give each its own name, or pack their common folder"
                    )
                check_name(name)
                self.seen.add(name)
                self.told += len(name.encode())
            self.names += some.names or ()
        if self.source.labelled:
            for label in some.labels or ():
                self.label_kind = self.label_kind or type(label)
                self.told += _check_label(label, self.label_kind)
            self.labels += some.labels or ()

    def flush(self, *, end: bool = False) -> None:
        """Write what is said of images, if that is enough for sections, or if it is the end."""
        while len(self.kinds) >= MAX_SECTION_IMAGES or self.told >= SECTION_TOLD or (end and self.kinds):
            n = self._fitting(min(MAX_SECTION_IMAGES, len(self.kinds)))
            self.writer.order(self.kinds[:n])
            if self.names:
                self.writer.section(NAMES, n, pack_names(self.names[:n]))
                del self.names[:n]
            if self.labels:
                self.writer.section(LABELS, n, pack_labels(self.labels[:n]))
                del self.labels[:n]
            del self.kinds[:n]
            self.told = self._size(len(self.kinds))

    def _fitting(self, n: int) -> int:
        """At most `n` images, so few that a section can say all of them."""
        while self._size(n) > MOST_TOLD:
            n = (n + 1) // 2
        return n

    def _size(self, n: int) -> int:
        """What sections must say of the first `n` images that wait."""
        names = sum(len(name.encode()) for name in self.names[:n])
        return names + sum(len(label) for label in self.labels[:n] if isinstance(label, tuple))


def check_size(shape: Shape) -> None:
    """Refuse images of a shape (h w c) that no file can hold.

    Raises:
        SourceError: they are too large.
    """
    h, w, c = shape
    if max(h, w) > MAX_SIDE or h * w * c > MAX_BLOCK_SAMPLES:
        raise SourceError(f"an image is {describe(shape)}, more than a file can hold; cut it into tiles")


def _check_label(label: object, kind: type) -> int:
    """How many numbers there are in a label."""
    numbers = label if isinstance(label, tuple) else (label,) if isinstance(label, int) else ()
    if type(label) is not kind or kind not in (int, str, tuple):
        raise SourceError(
            f"the labels are of several kinds, {label!r} is one; give whole numbers, texts or lists of them"
        )
    if any(type(n) is not int or not -MAX_LABEL < n < MAX_LABEL for n in numbers) or len(numbers) > MAX_LABEL_NUMBERS:
        raise SourceError(f"{label!r} is no label that a file can hold; give whole numbers, texts or lists of numbers")
    return len(numbers) if kind is tuple else 0
