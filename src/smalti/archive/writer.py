# SPDX-License-Identifier: MIT
"""Write an archive: code batches of images to meet a target, write blocks and annotations."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from smalti.archive.batches import Coded, Intake
from smalti.archive.unordered_writer import write_sets
from smalti.codec.batching import BLOCK as SHARED
from smalti.codec.batching import BLOCK_IMAGES, BLOCK_SAMPLES, EACH, PACKINGS, SOLID, SOLID_IMAGES, SOLID_SAMPLES, Batch
from smalti.codec.rdo import Effort
from smalti.container.annotation_codec import MAX_SHAPES, pack_numbers, pack_shapes
from smalti.container.annotations import metadata_bytes, write_metadata
from smalti.container.format import (
    BLOCK,
    BLOCK_ENTRY,
    EMPTY_MODEL,
    HEADER,
    INDEX,
    KIND_ENTRY,
    MAX_BLOCK_IMAGES,
    MAX_SECTION_IMAGES,
    MIXED,
    MODEL_ENTRY,
    SECTION,
    SECTION_ENTRY,
    TRAILER,
    Kind,
)
from smalti.container.mixed_payload import Part
from smalti.container.single_image import most_single_bytes
from smalti.errors import UsageError
from smalti.model.bundle import decoding_bytes, is_known
from smalti.model.model import Model
from smalti.rate.mean import encode_batches
from smalti.rate.metrics import psnr
from smalti.rate.model_choice import ModelChoice
from smalti.rate.target import DEFAULT_QUALITY, Sealed, Target
from smalti.types import PassedOver, Progress, Shape, Source
from smalti.util.binary import varint

if TYPE_CHECKING:
    from smalti.rate.fitting.fit_model import Fitted

MIXED_TABLE, MIXED_PART = 10, 2
"""The most bytes that the table of a mixed block takes besides its parts and images, and for the model of a part."""
SPLIT_BYTES = 256
"""More bytes than it takes to divide the kinds of images between two sections, besides one for each kind."""


@dataclass(frozen=True)
class Packing:
    """Everything about how a file is made but the target and the effort.

    Raises:
        UsageError: a value is out of range.
    """

    block_images: int = BLOCK_IMAGES  # the most images of a block; small blocks are read sooner, and take more bytes
    embed: bool = False  # whether the file holds its model
    unordered: bool = False  # whether the order may be lost, which saves bytes where thousands have one size
    metadata: Mapping[str, Any] | None = None  # of the file: a JSON object
    streams: str | None = None  # which images share a stream: "each", "block" (the default of new files), or "solid"

    @property
    def block_size(self) -> tuple[int, int]:
        """The most images and the most samples of a block."""
        return (SOLID_IMAGES, SOLID_SAMPLES) if self.streams == SOLID else (self.block_images, BLOCK_SAMPLES)

    def __post_init__(self) -> None:
        if not isinstance(self.block_images, int | np.integer) or not 1 <= self.block_images <= MAX_BLOCK_IMAGES:
            raise UsageError(
                f"{self.block_images!r} images a block were asked; give a whole number from 1 to {MAX_BLOCK_IMAGES}"
            )
        if self.streams not in (None, *PACKINGS):
            raise UsageError(f"the packing {self.streams!r} was asked; give one of: {', '.join(PACKINGS)}")
        if self.unordered and self.streams == EACH:
            raise UsageError("unordered images cannot be read one by one; leave out unordered, or take packing block")
        metadata_bytes(self.metadata)


def as_packing(packing: Packing | str) -> Packing:
    """Return a packing that is given as a whole, or by which images share a stream."""
    return Packing(streams=packing) if isinstance(packing, str) else packing


@dataclass(frozen=True)
class Packed:
    """The result of `pack`, and of the functions that edit files: what was taken, and what it takes.

    What comes after `passed_over` is of `pack` and `append` alone, and of the images that these took.
    """

    images: int
    bytes: int  # of the whole file
    passed_over: PassedOver = field(default_factory=PassedOver, compare=False)  # what was not taken, and why
    shapes: tuple[tuple[Shape, int], ...] = ()  # h w c, with the number of images; the most frequent first
    named: bool = False  # whether names are kept
    labels: int = 0  # how many different labels the images have; 0 if they have none
    labels_from: str = ""  # where labels come from, in words that follow "from"; "" if there are none
    models: Mapping[str, int] = field(default_factory=dict)  # how many images each codes, by name, in order
    unsuited: int = 0  # images that no model suits, or (by a sample, at lossy targets) not the one that was named
    psnr: float | None = None  # dB, of the squared error averaged over all images but copies; infinite if it is 0
    before: int = 0  # the bytes of the file before images were appended
    copies: int = 0  # images that are equal to another one that was packed with them, and are stored once with it
    least_psnr: float | None = None  # dB, of the image with the largest error; infinite if every image is exact
    fitted: "Fitted | None" = None  # what came of fitting the general model to the images, if that was asked

    @property
    def rate(self) -> float:
        """The bytes that the file has, or has more than before, for each image."""
        return (self.bytes - self.before) / self.images

    @property
    def without_model(self) -> int:
        """The number of images that no model codes, without copies."""
        return self.images - self.copies - sum(self.models.values())


def packed(source: Source, coded: Coded, size: int, before: int = 0) -> Packed:
    """Return the report on a file of `size` bytes, to which all images of `source` are written."""
    n, passed = coded.shapes.total(), source.passed_over
    if coded.unsafe:
        many = f"s of {coded.unsafe} names, such as" if coded.unsafe > 1 else " of the name"
        note = f"unpack makes no file{many} {coded.unsafe_name!r:.60}; unpack to parquet, or npz if all have one size"
        passed = PassedOver((passed,), notes=[note])
    return Packed(
        n,
        size,
        passed,
        tuple(sorted(coded.shapes.items(), key=lambda pair: (-pair[1], pair[0]))),
        source.named,
        len(coded.labels),
        (source.labels_from or "the source") if source.labelled else "",
        dict(coded.models),
        coded.unsuited,
        psnr(coded.squared_error / max(n - coded.copies, 1)),
        before,
        coded.copies,
        psnr(coded.largest_error),
    )


def write_packed(intake: Intake, target: Target, effort: Effort, packing: Packing, progress: Progress | None) -> None:
    """Code and write all images of `intake`, their annotations and the metadata; the caller finishes the archive.

    Raises:
        SourceError, UsageError: the images cannot be read, or the target cannot be met.
    """
    if target.max_error is None:
        intake.quality = DEFAULT_QUALITY if target.quality is None else target.quality
    if packing.unordered:
        write_sets(intake, target, effort, _numbers(intake, packing), progress)
    else:
        blocks = encode_batches(
            intake.batches(),
            target,
            effort,
            lambda every: overhead(every, intake.shared, intake.places, intake.copies_bytes()),
            packing.streams or SHARED,
        )
        _write_blocks(intake, blocks, _numbers(intake, packing), progress)
    intake.flush(end=True)
    write_metadata(intake.writer, packing.metadata)


def _numbers(intake: Intake, packing: Packing) -> Callable[[Model], int]:
    """Return a function that gives the number of a model in the file, and that writes its bundle if that is asked.

    A model that was chosen from the search path, or fitted to the images, is written too: others may not have it.
    """
    known: dict[bytes, int] = {}

    def number(model: Model) -> int:
        if model.id not in known:
            there = isinstance(intake.model, ModelChoice) and intake.model.has(model)
            ours = isinstance(intake.model, ModelChoice) or model.fit is not None
            chosen = ours and not is_known(model.id) and not there
            embedded = (packing.embed or chosen) and model.id != EMPTY_MODEL
            known[model.id] = intake.writer.model(model.id, decoding_bytes(model) if embedded else None)
        return known[model.id]

    return number


def _write_blocks(
    intake: Intake, blocks: Iterable[Sealed], number: Callable[[Model], int], progress: Progress | None
) -> None:
    waiting: list[tuple[Sealed, list[int]]] = []  # the parts of a mixed block, up to now
    for block in blocks:
        intake.coded.add(block)
        places, h, w, c = intake.places.popleft(), *block.shape
        kind = Kind(number(block.model), c, h, w)
        if left := intake.shared.popleft():
            waiting.append((block, places))
            if left == 1:
                _write_mixed(intake, waiting, number)
                waiting = []
        else:
            intake.writer.block(kind, block.images, block.pixels, block.payload)
            intake.note(places, intake.writer.kind(kind))
        intake.flush()
        if progress:
            progress(block.images, intake.source.total)


def _write_mixed(intake: Intake, blocks: Sequence[tuple[Sealed, list[int]]], number: Callable[[Model], int]) -> None:
    every = sorted(place for _, places in blocks for place in places)
    row = {place: i for i, place in enumerate(every)}
    parts = list[tuple[Part, bytes]]()
    for block, places in blocks:
        h, w, c = block.shape
        rows = tuple(row[place] for place in places)
        parts.append((Part(Kind(number(block.model), c, h, w), rows, block.payload), block.pixels))
    intake.writer.mixed_block(parts)
    intake.note(every, intake.writer.kind(MIXED))


def overhead(batches: Sequence[Batch], shared: Iterable[int], places: Iterable[Sequence[int]], copies: int = 0) -> int:
    """Return the most bytes of a file of these batches, besides payloads, annotations, metadata and models.

    Args:
        batches: all images, without copies.
        shared, places: as in `Intake`.
        copies: the bytes that it takes to say which images are copies; 0 if none is.
    """
    (first, *more), left = batches, list(shared)
    if not more and len(first) == 1 and not copies:
        if not is_known(first.model.id):  # the header may be that of an image without a model
            return most_single_bytes(EMPTY_MODEL, first.shape)
        return most_single_bytes(first.model.id, None if first.shape == first.model.image_shape else first.shape)
    own = [batch for batch, parts in zip(batches, left, strict=True) if not parts]
    kinds = len({(batch.shape, batch.model.id) for batch in own})
    models = len({batch.model.id for batch in batches})
    fixed = HEADER.size + INDEX.size + TRAILER.size + models * MODEL_ENTRY.size + copies
    total = fixed + kinds * KIND_ENTRY.size + (len(own) + left.count(1)) * (BLOCK.size + BLOCK_ENTRY.size)
    if kinds + (len(own) < len(batches)) > 1:  # there is an order
        total += _order_bytes(_order(batches, left, places))
    if len(own) == len(batches):
        return total
    shapes = list(dict.fromkeys(batch.shape for batch, parts in zip(batches, left, strict=True) if parts))
    for start in range(0, len(shapes), MAX_SHAPES):
        total += SECTION.size + SECTION_ENTRY.size + len(pack_shapes(shapes[start : start + MAX_SHAPES]))
    return total + KIND_ENTRY.size + _tables(batches, left)


def _order(batches: Sequence[Batch], shared: Sequence[int], places: Iterable[Sequence[int]]) -> list[int]:
    """Return the kind of each image as the file will number it."""
    kinds = dict[tuple[Shape, bytes] | None, int]()
    order = dict[int, int]()  # by places in the source, where copies leave gaps
    for batch, parts, mine in zip(batches, shared, places, strict=True):
        key = None if parts else (batch.shape, batch.model.id)
        kind = kinds.setdefault(key, len(kinds))
        for place in mine:
            order[place] = kind
    return [order[place] for place in sorted(order)]


def _order_bytes(order: Sequence[int]) -> int:
    """Return the most bytes that the kinds of all images take."""
    parts = [order[i : i + MAX_SECTION_IMAGES] for i in range(0, len(order), MAX_SECTION_IMAGES)]
    heads = len(parts) * (SECTION.size + SECTION_ENTRY.size)
    if len(parts) > 1:  # they may be divided elsewhere, and once more
        heads += SECTION.size + SECTION_ENTRY.size + len(parts) * (SPLIT_BYTES + max(order))
    return heads + sum(len(pack_numbers(part)) for part in parts)


def _tables(batches: Sequence[Batch], shared: Sequence[int]) -> int:
    """Return the most bytes that the tables of mixed blocks take."""
    total, first = 0, 0
    for i, left in enumerate(shared):
        if left == 1:
            parts = batches[first : i + 1]
            total += MIXED_TABLE + sum(map(len, parts)) * len(varint(len(parts)))
            total += sum(MIXED_PART + sum(len(varint(n)) for n in (*part.shape, part.x.size + 1)) for part in parts)
        if left <= 1:
            first = i + 1
    return total
