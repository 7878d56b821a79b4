# SPDX-License-Identifier: MIT
"""Gather the images to pack into batches of one size and model, and keep their names, labels and profiles.

Images of one shape that fill a block, or a quarter of one, become a block of their own. What is left of all shapes goes
into mixed blocks, in the order of the images.
"""

import itertools
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from smalti.archive.duplicates import Originals
from smalti.archive.reading.annotations import TakenNames
from smalti.codec.batching import BLOCK_SAMPLES, Batch, alike, block_images
from smalti.container.annotations import MOST_WEIGHT, check_label, weight, write_sections
from smalti.container.format import GROWN_INDEX, INDEX, MAX_SECTION_IMAGES, SECTION, SECTION_ENTRY
from smalti.container.growing.listing_codec import PLACES_IMAGES, pack_places
from smalti.container.records import ArchiveWriter
from smalti.entropy.frequencies import Ints
from smalti.errors import SourceError
from smalti.exchange.names import portable_name, unsafe_name
from smalti.model.model import Model
from smalti.rate.model_choice import ModelChoice, suits
from smalti.rate.target import Sealed
from smalti.types import ImageSet, Label, Pixels, Shape, Source, check_name, check_size, shape_of

PENDING_SAMPLES = 1 << 24
"""The most samples of images that wait for others of their size."""
PIECE_IMAGES = 4096
"""The most images of a part of the source that are taken at a time."""
OWN_BLOCK = 4
"""Images that are left over get a block of their own if they fill at least one part in OWN_BLOCK of it."""
UNKNOWN, COPY = -1, -2
"""The values in the place of a kind that is not known yet, and in that of an image that is stored already."""

Key = tuple[Shape, Model]
"""What images of a block have in common, unless it is a mixed one: shape and model."""
Waiting = dict[Key, list[tuple[Pixels, list[int]]]]
"""Images that wait for others of their shape and model, with their places in the source."""
Single = tuple[int, Pixels, Model]
"""One image, with its place in the source and its model."""


@dataclass(eq=False)
class Coded:
    """What is known of the images of a source that were coded up to now, for the report in the end."""

    shapes: Counter[Shape] = field(default_factory=Counter)
    labels: set[Label] = field(default_factory=set)
    models: Counter[str] = field(default_factory=Counter)  # the images that each model codes, by its name, in order
    unsuited: int = 0  # the images for which no model was chosen, or which the one that was named does not suit
    unsafe: int = 0  # the names of which no file can be made
    unsafe_name: str = ""  # the first of them
    copies: int = 0  # the images that are equal to another one, and not stored once more
    squared_error: float = 0.0  # of all images together: the sum of their MSEs on pixels in [0, 1]
    largest_error: float = 0.0  # the largest MSE of an image, likewise

    def add(self, block: Sealed) -> None:
        """Count the images of a block that is written."""
        self.shapes[block.shape] += block.images
        self.squared_error += block.squared_error
        self.largest_error = max(self.largest_error, block.largest_error)
        if block.by_model:
            self.models[block.model.name] += block.by_model
        if (
            not block.model.measured
        ):  # the choice, of a model without qualities; one that is named is looked at in `Intake`
            self.unsuited += block.images

    def add_name(self, name: str) -> None:
        """Count a name of which no file can be made."""
        if unsafe_name(portable_name(name), strict=False):
            self.unsafe += 1
            self.unsafe_name = self.unsafe_name or name


@dataclass
class Intake:
    """The images of a source on their way into a file, in batches; their annotations wait here.

    Raises (while batches are taken):
        SourceError: a name is there twice, labels are of several kinds, or an image is too large.
    """

    source: Source
    model: Model | ModelChoice  # of all images, or the choice of one for each
    most: int  # the most images of a block
    writer: ArchiveWriter
    quality: int | None = None  # at which it is looked whether a model suits; None: that is not looked at
    samples: int = BLOCK_SAMPLES  # the most samples of a block
    once: bool = True  # whether copies of images are stored once; not if a mean over all images is asked
    mixed: bool = True  # whether images of several shapes may share a block
    seen: TakenNames = field(default_factory=TakenNames)  # names of images that are there already
    label_kind: type | None = None
    names: list[str] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    profiles: list[bytes | None] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)  # of all images whose annotations wait, or UNKNOWN or COPY
    stored: list[int] = field(default_factory=list)  # of these, the numbers among all stored images of the file
    coded: Coded = field(default_factory=Coded)
    weight: int = 0  # of names, labels and profiles that wait to be written
    count: int = 0
    places: deque[list[int]] = field(
        default_factory=deque
    )  # of each batch that `batches` gave: the places of its images in the source
    shared: deque[int] = field(
        default_factory=deque
    )  # of each such batch: the batches of its mixed block from it on; 0: it is a block of its own

    def __post_init__(self) -> None:
        self._originals = Originals(self.writer.ordered)

    def batches(self) -> Iterator[Batch]:
        """Yield all images in batches: each is a block, or a part of a mixed one. Copies of images are left out."""
        pending: Waiting = {}
        waiting = 0  # samples
        for piece in self._pieces():
            where, new = self._take(piece)
            if not len(where):
                continue
            some = piece if new.all() else ImageSet(piece.pixels[new])
            waiting += some.pixels.size
            keys = [self._wait(pending, x, places, model) for x, places, model in self._by_model(some, where)]
            if waiting > max(PENDING_SAMPLES, 2 * self.samples):  # small blocks are better than all images in memory
                yield from self._rest(pending)
                pending, waiting = {}, 0
                continue
            for key in keys:
                if sum(len(x) for x, _ in pending[key]) >= (block := block_images(some.shape, self.most, self.samples)):
                    x, places = self._joined(pending.pop(key))
                    whole = len(x) // block * block
                    waiting -= x[:whole].size
                    yield from self._cut([(x[:whole], places[:whole])], key)
                    if whole < len(x):
                        pending[key] = [(x[whole:], places[whole:])]
        yield from self._rest(pending)

    def _by_model(self, some: ImageSet, where: Ints) -> Iterator[tuple[Pixels, list[int], Model]]:
        """Yield images of one shape, whose places in the source are given, by their models, with these places."""
        x = some.pixels
        if isinstance(self.model, Model):
            if self.quality is not None and self.model.measured and not suits(self.model, x, self.quality):
                self.coded.unsuited += len(x)
            yield x, where.tolist(), self.model
            return
        for model, rows in self.model.groups(x):
            yield x if len(rows) == len(x) else x[rows], where[rows].tolist(), model

    @staticmethod
    def _wait(pending: Waiting, x: Pixels, places: list[int], model: Model) -> Key:
        key = shape_of(x), model
        pending.setdefault(key, []).append((x, places))
        return key

    def _rest(self, pending: Waiting) -> Iterator[Batch]:
        """Yield all that waits; batches that can be coded at the same time follow each other."""
        counts = {key: sum(len(x) for x, _ in some) for key, some in pending.items()}
        kinds = Counter((shape, model.id) for shape, model in pending)  # a mixed block has one part of a kind
        few = [
            (shape, model)
            for (shape, model), n in counts.items()
            if OWN_BLOCK * n < block_images(shape, self.most, self.samples) and kinds[shape, model.id] == 1
        ]
        if len({shape for shape, _ in few}) < 2 or not self.mixed:
            few = []
        for key in sorted(pending.keys() - set(few), key=lambda key: (alike(key[0]), key[1].id, pending[key][0][1])):
            yield from self._cut(pending.pop(key), key)
        left = [
            (place, x, key[1])
            for key in few
            for some, places in pending[key]
            for place, x in zip(places, some, strict=True)
        ]
        for block in self._blocks(sorted(left, key=lambda single: single[0])):
            yield from self._parts(block)

    def _blocks(self, singles: Sequence[Single]) -> Iterator[list[Single]]:
        """Yield single images in the lists that mixed blocks hold."""
        block, samples = list[Single](), 0
        for place, x, model in singles:
            if block and (len(block) == self.most or samples + x.size > self.samples):
                yield block
                block, samples = [], 0
            block.append((place, x, model))
            samples += x.size
        if block:
            yield block

    def _parts(self, block: Sequence[Single]) -> Iterator[Batch]:
        """Yield the parts of a mixed block."""
        by_key: dict[Key, list[tuple[int, Pixels]]] = {}
        for place, x, model in block:
            by_key.setdefault(((*x.shape, 1)[:3], model), []).append((place, x))
        for i, key in enumerate(sorted(by_key, key=lambda key: (alike(key[0]), key[1].id))):
            self.places.append([place for place, _ in by_key[key]])
            self.shared.append(len(by_key) - i)
            yield Batch(np.stack([x for _, x in by_key[key]]), key[1])

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

    def _cut(self, some: Sequence[tuple[Pixels, list[int]]], key: Key) -> Iterator[Batch]:
        """Yield images of one shape and model in batches."""
        (shape, model), (x, places) = key, self._joined(some)
        block = block_images(shape, self.most, self.samples)
        for i in range(0, len(x), block):
            self.places.append(places[i : i + block])
            self.shared.append(0)
            yield Batch(x[i : i + block], model)

    def _take(self, some: ImageSet) -> tuple[Ints, NDArray[np.bool_]]:
        """Note what is said of images; return the places in the source of those that are new, and a mask of them."""
        check_size(some.shape)
        if self.once:
            numbers, new = self._originals.take(some.pixels)
        else:
            numbers, new = self._originals.count + np.arange(len(some)), np.ones(len(some), np.bool_)
            self._originals.count += len(some)
        where = np.arange(self.count, self.count + len(some))[new]
        self.count += len(some)
        self.kinds += np.where(new, UNKNOWN, COPY).tolist()
        self.stored += numbers.tolist()
        copies = len(some) - len(where)
        self.coded.copies += copies
        self.coded.shapes[some.shape] += copies
        self.profiles += some.profiles or [None] * len(some)
        self.weight += sum(len(profile) for profile, _ in itertools.groupby(some.profiles or ()) if profile)
        if self.source.named:
            for name in some.names or ():
                if name in self.seen:
                    raise SourceError(
                        f"two images are named {name!r}; give each its own name, or pack their common folder"
                    )
                check_name(name)
                self.coded.add_name(name)
                self.seen.add(name)
                self.weight += weight(name, None)
            self.names += some.names or ()
        if self.source.labelled:
            for label in some.labels or ():
                self.label_kind = self.label_kind or type(label)
                check_label(label, self.label_kind)
                self.weight += weight(None, label)
            self.labels += some.labels or ()
            self.coded.labels |= set(some.labels or ())
        return where, new

    def reorder(self, order: Sequence[int]) -> None:
        """Put all images of the source (by their places there) into another order; no copy comes before all others."""
        new = [self.stored[i] for i in order if self.kinds[i] != COPY]
        number = {old: min(new) + i for i, old in enumerate(new)}
        self.stored = [number[self.stored[i]] for i in order]
        self.kinds = [self.kinds[i] for i in order]
        self.labels = [self.labels[i] for i in order] if self.labels else []
        self.profiles = [self.profiles[i] for i in order]

    def copies_bytes(self) -> int:
        """Return the bytes that it takes to say which images are copies."""
        if not self.coded.copies:
            return 0
        parts = [self.stored[i : i + PLACES_IMAGES] for i in range(0, len(self.stored), PLACES_IMAGES)]
        heads = len(parts) * (SECTION.size + SECTION_ENTRY.size) + GROWN_INDEX.size - INDEX.size
        return heads + sum(len(pack_places(part, part[0])) for part in parts)

    def note(self, places: Sequence[int], kind: int) -> None:
        """Note the kind (by its number) of the block in which the images at some places of the source are."""
        written = self.count - len(self.kinds)
        for place in places:
            self.kinds[place - written] = kind

    def flush(self, *, end: bool = False) -> None:
        """Write the annotations that wait, if they fill sections, or if it is the end."""
        if not end and len(self.kinds) < MAX_SECTION_IMAGES and self.weight < MOST_WEIGHT // 2:
            return
        ready = next((i for i, kind in enumerate(self.kinds) if kind == UNKNOWN), len(self.kinds))
        if ready and (end or ready >= len(self.kinds) // 2):
            names, labels = self.names[:ready] or None, self.labels[:ready] or None
            kinds = [kind for kind in self.kinds[:ready] if kind != COPY]
            write_sections(self.writer, kinds, names, labels, self.profiles[:ready], self.stored[:ready])
            del self.kinds[:ready], self.names[:ready], self.labels[:ready], self.profiles[:ready], self.stored[:ready]
            self.weight = self.weight if self.kinds else 0
