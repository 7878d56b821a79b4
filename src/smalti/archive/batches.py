# SPDX-License-Identifier: MIT
"""Gather the images to pack into batches of one size, and keep their names and labels."""

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
"""The most samples of images that wait for others of their size."""
PIECE_IMAGES = 4096
"""The most images of a part of the source that are taken at a time."""


@dataclass
class Intake:
    """The images of a source on their way into a file, in batches of one size; their annotations wait here.

    Raises (while parts are taken):
        SourceError: a name is there twice, labels are of several kinds, or an image is too large.
    """

    source: Source
    model: int  # number of the model in the file
    most: int  # the most images of a block
    writer: ArchiveWriter
    seen: set[str] = field(default_factory=set)  # names of images that are there already
    label_kind: type | None = None
    names: list[str] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    weight: int = 0  # of names and labels that wait to be written
    count: int = 0
    places: deque[list[int]] = field(
        default_factory=deque
    )  # of each batch that `parts` gave: the places of its images in the source

    def parts(self) -> Iterator[Pixels]:
        """Yield all images in batches, one for each block."""
        pending: dict[Shape, list[tuple[Pixels, list[int]]]] = {}
        waiting = 0  # samples
        for some in self._pieces():
            self._take(some, Kind(self.model, some.shape[2], *some.shape[:2]))
            alike_in_shape = pending.setdefault(some.shape, [])
            alike_in_shape.append((some.pixels, list(range(self.count - len(some), self.count))))
            waiting += some.pixels.size
            if waiting > PENDING_SAMPLES:  # small blocks are better than all images in memory
                yield from self._rest(pending)
                pending, waiting = {}, 0
            elif sum(len(x) for x, _ in alike_in_shape) >= (block := block_images(some.shape, self.most)):
                x, places = self._joined(pending.pop(some.shape))
                whole = len(x) // block * block
                waiting -= x[:whole].size
                yield from self._cut([(x[:whole], places[:whole])], some.shape)
                if whole < len(x):
                    pending[some.shape] = [(x[whole:], places[whole:])]
        yield from self._rest(pending)

    def _rest(self, pending: dict[Shape, list[tuple[Pixels, list[int]]]]) -> Iterator[Pixels]:
        """Yield all that waits; batches that can be coded at the same time follow each other."""
        for shape in sorted(pending, key=alike):
            yield from self._cut(pending.pop(shape), shape)

    def _pieces(self) -> Iterator[ImageSet]:
        """Yield the parts of the source, large ones in pieces."""
        for part in self.source.parts:
            for i in range(0, len(part), PIECE_IMAGES):
                yield part[i : i + PIECE_IMAGES]

    @staticmethod
    def _joined(some: Sequence[tuple[Pixels, list[int]]]) -> tuple[Pixels, list[int]]:
        if len(some) == 1:
            return some[0]
        return np.concatenate([x for x, _ in some]), [place for _, places in some for place in places]

    def _cut(self, some: Sequence[tuple[Pixels, list[int]]], shape: Shape) -> Iterator[Pixels]:
        """Yield images of one shape in batches."""
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
        """Write the annotations that wait, if they fill sections, or if it is the end."""
        if self.kinds and (end or len(self.kinds) >= MAX_SECTION_IMAGES or self.weight >= MOST_WEIGHT // 2):
            names, labels = (self.names or None), (self.labels or None)
            write_sections(self.writer, self.kinds, names, labels)
            self.kinds, self.names, self.labels, self.weight = [], [], [], 0


def check_size(shape: Shape) -> None:
    """Refuse images of a shape (h w c) that no file can hold.

    Raises:
        SourceError: such images are too large.
    """
    h, w, c = shape
    if max(h, w) > MAX_SIDE or h * w * c > MAX_BLOCK_SAMPLES:
        raise SourceError(f"an image is {describe(shape)}, more than a file can hold; cut it into tiles")
