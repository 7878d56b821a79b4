# SPDX-License-Identifier: MIT
"""Write an archive: code batches of images to meet a target, write blocks and annotations."""

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
    """Everything about how a file is made but the target and the effort.

    Raises:
        UsageError: a value is out of range.
    """

    block_images: int = BLOCK_IMAGES  # the most images of a block; small blocks are read sooner, and take more bytes
    embed: bool = False  # whether the file holds its model
    unordered: bool = False  # whether the order of the images may be lost, which saves bytes
    metadata: Mapping[str, Any] | None = None  # of the file: a JSON object

    def __post_init__(self) -> None:
        if not isinstance(self.block_images, int | np.integer) or not 1 <= self.block_images <= MAX_BLOCK_IMAGES:
            raise UsageError(
                f"{self.block_images!r} images a block were asked; give a whole number from 1 to {MAX_BLOCK_IMAGES}"
            )
        metadata_bytes(self.metadata)


@dataclass(frozen=True)
class Packed:
    """The result of `pack`."""

    images: int
    bytes: int  # of the whole file
    passed_over: PassedOver = field(default_factory=PassedOver, compare=False)  # what was not taken, and why

    @property
    def rate(self) -> float:
        """The bytes of the file for each image."""
        return self.bytes / self.images


def write_packed(
    intake: Intake, model: Model, target: Target, effort: Effort, packing: Packing, progress: Progress | None
) -> None:
    """Code and write all images of `intake`, their annotations and the metadata; the caller finishes the archive.

    Raises:
        SourceError, UsageError: the images cannot be read, or the target cannot be met.
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
    """Write an encoded block."""
    h, w, c = block.shape
    intake.writer.block(Kind(intake.model, c, h, w), block.images, block.pixels, block.payload)


@dataclass(frozen=True)
class Overhead:
    """A function that returns the bytes of a file besides its payloads, names and labels."""

    single: tuple[int, int, int]  # the shape (h w c) of images whose single file holds no size

    def __call__(self, parts: Sequence[Pixels]) -> int:
        """Return the overhead, in bytes, of a file of these batches."""
        if len(parts) == 1 and len(parts[0]) == 1:
            return SINGLE.size + (0 if shape_of(parts[0]) == self.single else SIDES.size)
        kinds = len({shape_of(part) for part in parts})
        fixed = HEADER.size + INDEX.size + TRAILER.size + MODEL_ENTRY.size
        return fixed + kinds * KIND_ENTRY.size + len(parts) * (BLOCK.size + BLOCK_ENTRY.size)
