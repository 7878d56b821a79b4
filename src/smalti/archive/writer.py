# SPDX-License-Identifier: MIT
"""Images to an archive: gathered into blocks of one kind, coded as asked, written with what is said of each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smalti.archive.batches import Intake
from smalti.archive.unordered_writer import write_sets
from smalti.codec.batching import BLOCK_IMAGES
from smalti.codec.rdo import Effort
from smalti.container.annotations import metadata_bytes, write_metadata
from smalti.container.format import (
    BLOCK,
    BLOCK_ENTRY,
    HEADER,
    INDEX,
    KIND_ENTRY,
    MAX_BLOCK_IMAGES,
    MODEL_ENTRY,
    TRAILER,
    Kind,
)
from smalti.container.single_image import SIDES, SINGLE
from smalti.errors import UsageError
from smalti.model.model import Model
from smalti.rate.mean import encode_parts
from smalti.rate.target import Sealed, Target
from smalti.types import PassedOver, Pixels, Progress, shape_of


@dataclass(frozen=True)
class Packing:
    """How a file is made, the images apart.

    Raises:
        UsageError: something out of range.
    """

    block_images: int = BLOCK_IMAGES  # at most, in a block: fewer are read sooner, and take more bytes
    embed: bool = False  # whether the file brings its model along
    unordered: bool = False  # whether the order of the images may be lost, to save what it takes
    metadata: Mapping[str, Any] | None = None  # of the file, JSON

    def __post_init__(self) -> None:
        if not isinstance(self.block_images, int | np.integer) or not 1 <= self.block_images <= MAX_BLOCK_IMAGES:
            raise UsageError(
                f"{self.block_images!r} images a block were asked; give a whole number from 1 to {MAX_BLOCK_IMAGES}"
            )
        metadata_bytes(self.metadata)


@dataclass(frozen=True)
class Packed:
    """What `pack` wrote."""

    images: int
    bytes: int  # of the whole file
    passed_over: PassedOver = field(default_factory=PassedOver, compare=False)  # what was not taken, and why

    @property
    def rate(self) -> float:
        """Bytes an image, all in."""
        return self.bytes / self.images


def write_packed(
    intake: Intake, model: Model, target: Target, effort: Effort, packing: Packing, progress: Progress | None
) -> None:
    """Code all images that `intake` takes, and write them, to be followed by the end of the archive.

    Raises:
        SourceError, UsageError: the images cannot be read, or what is asked cannot be had.
    """
    if packing.unordered:
        write_sets(intake, model, target, effort, progress)
    else:
        blocks = encode_parts(intake.parts(), model, target, effort, Overhead(model.image_shape))
        _write_blocks(intake, blocks, progress)
    intake.flush(end=True)
    write_metadata(intake.writer, packing.metadata)


def _write_blocks(intake: Intake, blocks: Iterable[Sealed], progress: Progress | None) -> None:
    for block in blocks:
        write_sealed(intake, block)
        intake.places.popleft()
        intake.flush()
        if progress:
            progress(block.images, intake.source.total)


def write_sealed(intake: Intake, block: Sealed) -> None:
    """Write a block."""
    h, w, c = block.shape
    intake.writer.block(Kind(intake.model, c, h, w), block.images, block.pixels, block.payload)


@dataclass(frozen=True)
class Overhead:
    """Of a file of blocks."""

    single: tuple[int, int, int]  # shape whose file of one image says no size

    def __call__(self, parts: Sequence[Pixels]) -> int:
        """In bytes, of a file of those blocks."""
        if len(parts) == 1 and len(parts[0]) == 1:
            return SINGLE.size + (0 if shape_of(parts[0]) == self.single else SIDES.size)
        kinds = len({shape_of(part) for part in parts})
        fixed = HEADER.size + INDEX.size + TRAILER.size + MODEL_ENTRY.size
        return fixed + kinds * KIND_ENTRY.size + len(parts) * (BLOCK.size + BLOCK_ENTRY.size)
