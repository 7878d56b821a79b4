# SPDX-License-Identifier: MIT
"""What comes in to be packed: gathered into blocks of one size, and what is said of each image remembered."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from smalti.codec.batching import alike, block_images
from smalti.container.annotations import MOST_WEIGHT, check_label, weight, write_sections
from smalti.container.format import MAX_BLOCK_SAMPLES, MAX_SECTION_IMAGES, Kind
from smalti.container.records import ArchiveWriter
from smalti.errors import SourceError
from smalti.limits import MAX_SIDE
from smalti.types import ImageSet, Label, Pixels, Shape, Source, check_name, describe

PENDING_SAMPLES = 1 << 24
"""Of images that wait for others of their size."""
PIECE_IMAGES = 4096
"""Of a part, taken at a time."""


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
    weight: int = 0  # of names and labels that wait to be written
    count: int = 0
    places: deque[list[int]] = field(default_factory=deque)  # of the images of each part given, in the source

    def parts(self) -> Iterator[Pixels]:
        """All images, in blocks."""
        pending: dict[Shape, list[tuple[Pixels, list[int]]]] = {}
        waiting = 0  # samples
        for some in self._pieces():
            self._take(some, Kind(self.model, some.shape[2], *some.shape[:2]))
            mine = pending.setdefault(some.shape, [])
            mine.append((some.pixels, list(range(self.count - len(some), self.count))))
            waiting += some.pixels.size
            if waiting > PENDING_SAMPLES:  # rather small blocks than all in memory
                yield from self._rest(pending)
                pending, waiting = {}, 0
            elif sum(len(x) for x, _ in mine) >= (block := block_images(some.shape, self.most)):
                x, places = self._joined(pending.pop(some.shape))
                whole = len(x) // block * block
                waiting -= x[:whole].size
                yield from self._cut([(x[:whole], places[:whole])], some.shape)
                if whole < len(x):
                    pending[some.shape] = [(x[whole:], places[whole:])]
        yield from self._rest(pending)

    def _rest(self, pending: dict[Shape, list[tuple[Pixels, list[int]]]]) -> Iterator[Pixels]:
        """All that waits, those next to each other that can be coded at the same time."""
        for shape in sorted(pending, key=alike):
            yield from self._cut(pending.pop(shape), shape)

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

    def _cut(self, some: Sequence[tuple[Pixels, list[int]]], shape: Shape) -> Iterator[Pixels]:
        """Images of one shape as blocks."""
        (x, places), block = self._joined(some), block_images(shape, self.most)
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
                self.weight += weight(name, None)
            self.names += some.names or ()
        if self.source.labelled:
            for label in some.labels or ():
                self.label_kind = self.label_kind or type(label)
                check_label(label, self.label_kind)
                self.weight += weight(None, label)
            self.labels += some.labels or ()

    def flush(self, *, end: bool = False) -> None:
        """Write what is said of images, if that is enough for sections, or if it is the end."""
        if self.kinds and (end or len(self.kinds) >= MAX_SECTION_IMAGES or self.weight >= MOST_WEIGHT // 2):
            names, labels = (self.names or None), (self.labels or None)
            write_sections(self.writer, self.kinds, names, labels)
            self.kinds, self.names, self.labels, self.weight = [], [], [], 0


def check_size(shape: Shape) -> None:
    """Refuse images of a shape (h w c) that no file can hold.

    Raises:
        SourceError: they are too large.
    """
    h, w, c = shape
    if max(h, w) > MAX_SIDE or h * w * c > MAX_BLOCK_SAMPLES:
        raise SourceError(f"an image is {describe(shape)}, more than a file can hold; cut it into tiles")
