# SPDX-License-Identifier: MIT
"""A smalti file as a sequence of images, decoded when asked for."""

import operator
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np

from smalti.archive import BlockReader
from smalti.bundle import find_model, load_model
from smalti.codec import Pixels, decode_blocks, describe_block, together
from smalti.control import Progress
from smalti.errors import CorruptError, ModelError, UnknownModelError
from smalti.images import describe
from smalti.model import Model
from smalti.threads import in_order

ModelName = Model | Path | str


class Archive:
    """The images of a smalti file, decoded when asked for, a block at a time; the last block is kept.

    It behaves as a sequence, but for slices: they give one array (`n h w` or `n h w 3`).
    """

    def __init__(self, blocks: BlockReader, model: ModelName | None = None) -> None:
        self._blocks = blocks
        header = blocks.header
        try:
            self._model = find_model(header.model_id) if model is None else as_model(model)
            if self._model.id != header.model_id:
                raise ModelError(
                    f"{blocks.where} was packed with model {header.model_id.hex()}, not with"
                    f" {self._model.name} ({self._model.id.hex()}); name the right bundle"
                )
            if self.image_shape != self._model.image_shape and self._model.pixels is None:
                raise CorruptError(f"{blocks.where}: the header does not fit its model; the file is damaged")
        except BaseException:
            blocks.close()
            raise
        self._last: tuple[int, Pixels] | None = None

    @property
    def names(self) -> tuple[str, ...] | None:
        """The images' names, if they have any."""
        return self._blocks.index.names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of each image: h w c."""
        header = self._blocks.header
        return header.height, header.width, header.channels

    def __len__(self) -> int:
        return self._blocks.index.count

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> Pixels: ...
    def __getitem__(self, index: int | slice) -> Pixels:
        """An image (`h w` or `h w 3`), or for a slice all of them in one array."""
        if isinstance(index, slice):
            wanted = range(*index.indices(len(self)))
            return np.stack([self[i] for i in wanted]) if wanted else self._nothing()
        i = operator.index(index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        block, offset = divmod(i % len(self), self._blocks.header.block_images)
        image: Pixels = self._block(block)[offset]
        return image.copy()

    def __iter__(self) -> Iterator[Pixels]:
        for block in range(len(self._blocks.index.blocks)):
            yield from self._block(block).copy()

    def decode_all(self, progress: Progress | None = None) -> Pixels:
        """All images in one array."""
        n, parts = len(self._blocks.index.blocks), list[Pixels]()
        step = min(together(self.image_shape), max(1, -(-n // (self._model.threads or os.cpu_count() or 1))))
        jobs = ([self._job(block) for block in range(i, min(i + step, n))] for i in range(0, n, step))
        for images in in_order(self._decode, jobs, self._model.threads):
            for pixels in images:
                parts.append(pixels)
                if progress:
                    progress(len(pixels), len(self))
        return np.concatenate(parts) if parts else self._nothing()

    def _block(self, block: int) -> Pixels:
        last = self._last  # another thread may put its own there meanwhile
        if last is None or last[0] != block:
            last = block, self._decode([self._job(block)])[0]
            self._last = last
        return last[1]

    def _job(self, block: int) -> tuple[bytes, int]:
        """A block's bytes and number of images."""
        return self._blocks.read(block), self._blocks.images_in(block)

    def _decode(self, jobs: list[tuple[bytes, int]]) -> list[Pixels]:
        return decode_blocks(jobs, self.image_shape, self._model)

    def _nothing(self) -> Pixels:
        h, w, c = self.image_shape
        return np.empty((0, h, w) if c == 1 else (0, h, w, c), np.uint8)

    def close(self) -> None:
        """Close the file."""
        self._blocks.close()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def as_model(model: ModelName) -> Model:
    """A model from its name, its path or itself."""
    return model if isinstance(model, Model) else load_model(model)


def describe_file(blocks: BlockReader) -> dict[str, Any]:
    """What can be said of a smalti file without decoding it; the model is None if it is not known here."""
    header, images = blocks.header, blocks.index.count
    try:
        model = find_model(header.model_id)
    except UnknownModelError:
        model = None
    return {
        "images": images,
        "size": describe((header.height, header.width, header.channels)),
        "bytes": blocks.size,
        "bytes_an_image": round(blocks.size / images, 3) if images else None,
        "payload_bytes": blocks.payload_size,
        "model": model.name if model else None,
        "model_id": header.model_id.hex(),
        "blocks": len(blocks.index.blocks),
        "images_a_block": header.block_images,
        "first_block": describe_block(blocks.read(0), blocks.images_in(0)) if images else None,
        "named": blocks.index.names is not None,
    }
