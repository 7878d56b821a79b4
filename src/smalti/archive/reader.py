# SPDX-License-Identifier: MIT
"""Open a smalti file: decode and check its blocks, find its models, read its annotations."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smalti.archive.reading.annotations import Annotations
from smalti.archive.reading.listing import Listing
from smalti.archive.reading.opening import embedded_model, open_reader, pixels_hash
from smalti.archive.reading.single_images import SingleImages
from smalti.codec.batching import BLOCK as SHARED
from smalti.codec.batching import MOST_LOAD, alike, load, packing_of
from smalti.codec.block_codec import decode_images, decode_to_block
from smalti.container.annotation_codec import (
    unpack_numbers,
)
from smalti.container.archive_reader import ArchiveReader
from smalti.container.entries.blocks import Blocks
from smalti.container.format import (
    CARRIERS,
    EMPTY_MODEL,
    ORDER,
    BlockHead,
    Kind,
)
from smalti.container.mixed_payload import Part, mixed_hash, unpack_mixed
from smalti.container.permutation_code import decode_permutation
from smalti.entropy.frequencies import Ints
from smalti.errors import CorruptError, ModelError, UnknownModelError, within
from smalti.model.bundle import find_model, is_known, load_model
from smalti.model.model import Model
from smalti.types import Pixels, Shape
from smalti.util.parallel import bundles, by_key, in_order, once
from smalti.util.storage import Openable, Storage, storage_of

if TYPE_CHECKING:
    from smalti.codec.block import Block
    from smalti.codec.payload.entries import Entry

Place = Path | str | bytes | bytearray | memoryview | Storage | Openable
"""The place of a file: a path, a URL, its bytes, or an open file (also of fsspec)."""
ModelName = Model | Path | str
"""A model: loaded, by the path of its bundle, or by its name."""
Images = Pixels | list[Pixels]
"""The images of a block: an array, or a list if the block is mixed."""
MAX_SET_IMAGES, BYTES_SPOKEN = 1 << 16, 2
"""The most images in the open blocks of a set, and the most bytes that the place of each can carry."""


def as_model(model: ModelName) -> Model:
    """Return the model of a name or a path; a loaded model is returned as it is."""
    return model if isinstance(model, Model) else load_model(model)


def parts_of(head: BlockHead, payload: bytes) -> list[Part]:
    """Return the parts of a block; a block that is not mixed is a part.

    Raises:
        CorruptError: the payload of a mixed block is damaged.
    """
    return (
        unpack_mixed(payload, head.images) if head.kind.mixed else [Part(head.kind, tuple(range(head.images)), payload)]
    )


class Contents(Annotations):
    """An open smalti file: its blocks, models and annotations.

    Raises:
        SourceError, FormatError: it cannot be read, is damaged or no smalti file.
        UnknownModelError, ModelError: its model is not known, or not the one that is given.
    """

    def __init__(self, place: Place, model: ModelName | None = None, *, models: bool = True) -> None:
        """models: whether a file whose models are not known is refused at once."""
        self._given = None if model is None else as_model(model)
        self.storage = storage_of(place)
        try:
            self.reader = open_reader(self.storage, self._given)
            if models:
                self._check_models()
        except BaseException:
            self.storage.close()
            raise
        self.index = self.reader.index
        self._models: dict[int, Model] = {}
        self._carried: dict[int, bytes] = {}
        self._sets: list[tuple[int, int, int]] | None = None
        self.listing = Listing(self.reader)
        self._singles = SingleImages(self.reader, self.model) if isinstance(self.reader, ArchiveReader) else None

    def _check_models(self) -> None:
        """Refuse a file whose models are not known."""
        index = self.reader.index
        mixed = any(kind.mixed for kind in index.kinds)
        for number in range(len(index.models)) if mixed else {kind.model for kind in index.kinds}:
            entry = index.models[number]
            if entry.id == EMPTY_MODEL:  # no image needs the model that is given
                continue
            if self._given is not None and len(self.reader.index.models) == 1 and self._given.id != entry.id:
                raise ModelError(
                    f"{self.storage.where} was packed with model {entry.id.hex()}, not with"
                    f" {self._given.name} ({self._given.id.hex()}); name the right bundle"
                )
            if not entry.offset and not is_known(entry.id) and (self._given is None or self._given.id != entry.id):
                find_model(entry.id)

    def model(self, number: int) -> Model:
        """Return a model of the file: the one that was given, one that is known here, or the one that the file holds.

        Raises:
            UnknownModelError: it is none of these.
            ModelError, CorruptError: the model that the file holds is damaged or another one.
        """
        if number >= len(self.index.models):
            raise CorruptError(f"{self.storage.where}: a block names a model that does not exist; the file is damaged")
        if number not in self._models:
            if number >= len(self.index.models):
                raise CorruptError(
                    f"{self.storage.where}: a part names a model that does not exist; the file is damaged"
                )
            self._models[number] = self._find(number)
        return self._models[number]

    def _find(self, number: int) -> Model:
        model_id = self.index.models[number].id
        if self._given is not None and self._given.id == model_id:
            return self._given
        try:
            return find_model(model_id)
        except UnknownModelError:
            bundle = self.reader.model(number)
            if bundle is None:
                raise
        model = embedded_model(bundle)
        if model.id != model_id:
            raise CorruptError(f"{self.storage.where}: the model that it brings is another one; the file is damaged")
        return model

    def packing(self) -> str:
        """Return which images of the first block share a stream: "block" or "each".

        Raises:
            CorruptError: the block is damaged.
        """
        if not self.index.blocks:
            return SHARED
        head, payload = self.reader.block(0, self.record(0))
        with within(f"{self.storage.where}: block 0"):
            return packing_of(parts_of(head, payload)[0].payload)

    def payload(self, block: int) -> bytes:
        """Return the payload of a block.

        Raises:
            CorruptError: the block is damaged.
        """
        return self.reader.block(block, self.record(block))[1]

    def record(self, block: int) -> bytes | None:
        """Return the record of a block that the order of images carries; None if the block lies in the file."""
        if self.index.blocks[block].offset:
            return None
        if block not in self._carried:
            for first, opened, carried in self.sets():
                if first + opened <= block < first + opened + carried:
                    self._carried |= self._spoken(first, opened, carried)
        if block not in self._carried:
            raise CorruptError(f"{self.storage.where}: nothing carries block {block}; the file is damaged")
        return self._carried[block]

    def sets(self) -> list[tuple[int, int, int]]:
        """Return each set of permutation coding: its first block, how many are open, how many are carried.

        Raises:
            CorruptError: the sets are impossible.
        """
        if self._sets is None:
            with within(self.storage.where):
                self._sets = self._find_sets()
        return self._sets

    def _find_sets(self) -> list[tuple[int, int, int]]:
        found, blocks, taken = list[tuple[int, int, int]](), self.index.blocks, set[int]()
        for _, data in self.reader.sections(CARRIERS):
            first, opened, carried = unpack_numbers(data, 3, len(blocks))
            members = blocks[first : first + opened + carried]
            possible = opened and carried and len(members) == opened + carried
            possible = possible and len({block.kind for block in members}) == 1
            possible = possible and not self.index.kinds[members[0].kind].mixed
            if not possible or not all(bool(block.offset) == (i < opened) for i, block in enumerate(members)):
                raise CorruptError("a set of blocks is impossible; the file is damaged")
            images = sum(block.images for block in members[:opened])
            if images > MAX_SET_IMAGES or sum(block.size for block in members[opened:]) > BYTES_SPOKEN * images:
                raise CorruptError("a set of blocks is too large; the file is damaged")
            numbers = range(first + opened, first + opened + carried)
            if not taken.isdisjoint(numbers):
                raise CorruptError("two sets carry one block; the file is damaged")
            taken.update(numbers)
            found.append((first, opened, carried))
        return found

    def _spoken(self, first: int, opened: int, carried: int) -> dict[int, bytes]:
        """Decode the records of the carried blocks of a set; return them by the numbers of the blocks."""
        keys = [image.tobytes() for _, pixels in self.decode(range(first, first + opened)) for image in pixels]
        numbers = range(first + opened, first + opened + carried)
        sizes = [self.index.blocks[block].size for block in numbers]
        with within(self.storage.where):
            message = decode_permutation(keys, sum(sizes))
        ends = list(itertools.accumulate(sizes))
        return {n: message[end - size : end] for n, size, end in zip(numbers, sizes, ends, strict=True)}

    def decode(self, blocks: Iterable[int]) -> Iterator[tuple[int, Images]]:
        """Yield the number and the images of each of these blocks, in that order; several are decoded at a time.

        Those of a mixed block are a list, which may hold images of several shapes.

        Raises:
            CorruptError: a block is damaged, or decodes to other pixels than it should.
        """
        jobs = bundles(blocks, self._alike, self._load, MOST_LOAD)
        yield from itertools.chain.from_iterable(in_order(self._decode, jobs))

    def decode_single(self, places: Sequence[tuple[int, int]]) -> list[Pixels | None]:
        """Return images (`h w` or `h w c` each) that are read without their neighbours, each with its own check.

        places: the block of each image, and its place there. An image that has no entry of its own is None.

        Raises:
            CorruptError: an image is damaged.
        """
        return [None] * len(places) if self._singles is None else self._singles.decode(places)

    @once
    def reads_singly(self) -> bool:
        """Whether images are read without their neighbours, as far as the first one tells."""
        return self._singles is not None and self._singles.are_likely()

    def single_shapes(self, block: int) -> list[Shape] | None:
        """Return the shape (h w c) of each image of a block whose images are read singly; None if it is not known.

        Raises:
            CorruptError: the table of the block is damaged.
        """
        return None if self._singles is None else self._singles.shapes(block)

    def entry(self, block: int, row: int) -> "Entry | None":
        """Return an image of a block as it is coded by itself; None if it has no entry of its own.

        Raises:
            CorruptError: the table of the block is damaged.
        """
        found = None if self._singles is None else self._singles.entry(block, row)
        return None if found is None else found[1]

    def decode_to_blocks(self, block: int) -> list[tuple[Part, "Block"]]:
        """Decode a block so that its images can be selected and encoded again: its parts, which are one if not mixed.

        Raises:
            CorruptError: the block is damaged, or decodes to other pixels than it should.
        """
        head, payload = self.reader.block(block, self.record(block))
        with within(f"{self.storage.where}: block {block}"):
            parts = parts_of(head, payload)
            found = [
                (part, decode_to_block(part.payload, len(part.rows), part.kind.shape, self.model(part.kind.model)))
                for part in parts
            ]
        self._check_pixels(block, head, [one.x_hat for _, one in found])
        return found

    def _check_pixels(self, block: int, head: BlockHead, parts: Sequence[Pixels]) -> None:
        """Check that a block decodes to the pixels (of each of its parts) that were packed."""
        hashes = [pixels_hash(pixels) for pixels in parts]
        if not self.reader.decodes_to(head, mixed_hash(hashes) if head.kind.mixed else hashes[0]):
            raise CorruptError(
                f"{self.storage.where}: block {block} decodes to other pixels than were packed; it is damaged"
            )

    def _kind(self, block: int) -> Kind:
        return self.index.kinds[self.index.blocks[block].kind]

    def _alike(self, block: int) -> tuple[int, Shape]:
        """Return a key of blocks that are decoded together; a mixed one is decoded alone."""
        kind = self._kind(block)
        return (-1 - block, (0, 0, 0)) if kind.mixed else (kind.model, alike(kind.shape))

    def _load(self, blocks: Sequence[int]) -> int:
        return load([(self._kind(block).shape, self.index.blocks[block].images) for block in blocks])

    def _decode(self, blocks: Sequence[int]) -> list[tuple[int, Images]]:
        if self._kind(blocks[0]).mixed:
            return [(block, self._decode_mixed(block)) for block in blocks]
        found = [self.reader.block(block, self.record(block)) for block in blocks]
        which = f"block {blocks[0]}" if len(blocks) == 1 else f"one of the blocks {blocks[0]} to {blocks[-1]}"
        model = self.model(self._kind(blocks[0]).model)
        with within(f"{self.storage.where}: {which}"):
            decoded = decode_images([(payload, head.images, head.kind.shape) for head, payload in found], model)
        for block, (head, _), pixels in zip(blocks, found, decoded, strict=True):
            self._check_pixels(block, head, [pixels])
        return list(zip(blocks, decoded, strict=True))

    def _decode_mixed(self, block: int) -> list[Pixels]:
        """Return the images of a mixed block; parts that can be are decoded together."""
        head, payload = self.reader.block(block, self.record(block))
        with within(f"{self.storage.where}: block {block}"):
            parts = parts_of(head, payload)
            decoded: dict[Kind, Pixels] = {}
            for (number, _), several in by_key(parts, lambda part: (part.kind.model, alike(part.kind.shape))):
                jobs = [(part.payload, len(part.rows), part.kind.shape) for part in several]
                found = decode_images(jobs, self.model(number))
                decoded |= {part.kind: pixels for part, pixels in zip(several, found, strict=True)}
        self._check_pixels(block, head, [decoded[part.kind] for part in parts])
        images = [np.empty(0, np.uint8)] * head.images
        for part in parts:
            for row, image in zip(part.rows, decoded[part.kind], strict=True):
                images[row] = image
        return images

    def order(self) -> Ints | None:
        """Return the kind of each image; None if there is only one kind.

        Raises:
            CorruptError: the order does not fit the blocks.
        """
        parts = self.reader.sections(ORDER)
        if not parts:
            return None
        most = len(self.index.kinds) - 1
        with within(self.storage.where):
            told = [unpack_numbers(data, count, most) for count, data in parts]
        found = np.concatenate([np.frombuffer(some, np.uint8) if isinstance(some, bytes) else some for some in told])
        counts, of_kinds = np.bincount(found, minlength=most + 1), Blocks.of(self.index.blocks).of_kinds
        if counts.tolist() != [of_kinds.get(kind, 0) for kind in range(most + 1)]:
            raise CorruptError(f"{self.storage.where}: the order does not fit the images; the file is damaged")
        return found
