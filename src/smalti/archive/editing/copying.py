# SPDX-License-Identifier: MIT
"""Copy blocks of a file to another one as they are, or some of their images, or several small ones as one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from smalti.archive.archive import Archive
from smalti.archive.reader import Contents, parts_of
from smalti.archive.reading.opening import pixels_hash
from smalti.archive.reading.places import Places
from smalti.codec.batching import BLOCK_IMAGES, block_images
from smalti.codec.block import Block
from smalti.codec.block_codec import decode_block, encode_as
from smalti.container.format import BLOCK, BLOCK_ENTRY
from smalti.container.mixed_payload import Part, with_models
from smalti.container.records import ArchiveWriter
from smalti.entropy.frequencies import Ints, by_value
from smalti.errors import UnknownModelError
from smalti.types import Progress


def within_total(progress: Progress | None, total: int) -> Progress | None:
    """Return a function that reports progress as that of so many images in all."""
    return None if progress is None else lambda n, _: progress(n, total)


def copied(
    writer: ArchiveWriter, archive: Archive, rows: Sequence[int], *, join: bool = False, done: Progress | None = None
) -> tuple[list[int], list[int]]:
    """Write the blocks of shown images (rising numbers), each stored image once.

    Return the new number of the kind of each stored image, and which of these each shown image is.

    join: whether small blocks of one kind become one, where that takes fewer bytes.
    """
    contents, models = archive.contents, {}
    for number, entry in enumerate(contents.index.models):
        models[number] = writer.model(entry.id, contents.reader.model(number))
    shown = np.array(rows, np.int64)
    stored, places = np.unique(contents.listing.stored(shown), return_inverse=True)
    blocks, offsets = Places(contents.index, contents.order(), contents.listing).of_stored(stored)
    joiner, kinds = BlockJoiner(contents, writer, models), dict[int, int]()
    for block, mine in by_value(blocks):
        number = contents.index.blocks[block].kind
        kind = contents.index.kinds[number]
        kinds[number] = writer.kind(kind if kind.mixed else kind._replace(model=models[kind.model]))
        if join and not kind.mixed:
            joiner.add(block, np.sort(offsets[mine]))
        else:
            copy_block(contents, block, np.sort(offsets[mine]), writer, models)
        if done:
            done(len(mine), len(stored))
    joiner.finish()
    return [kinds[contents.index.blocks[block].kind] for block in blocks.tolist()], places.tolist()


def copy_block(contents: Contents, block: int, rows: Ints, writer: ArchiveWriter, models: Mapping[int, int]) -> None:
    """Write some images (rising numbers) of a block; a block of which all are wanted is copied as it is.

    models: the new number of each model of the file.
    """
    kind = contents.index.kinds[contents.index.blocks[block].kind]
    head, payload = contents.reader.block(block, contents.record(block))
    new_kind = kind if kind.mixed else kind._replace(model=models[kind.model])
    if len(rows) == head.images and head.pixels:
        payload = with_models(payload, head.images, models) if kind.mixed else payload
        writer.block(new_kind, len(rows), head.pixels, payload)
        writer.note_shapes(part.kind.shape for part in parts_of(head, payload) if kind.mixed)
    elif kind.mixed:
        writer.mixed_block(
            [
                (replace(part, kind=part.kind._replace(model=models[part.kind.model])), pixels)
                for part, pixels in _some(contents, block, rows)
            ]
        )
    else:
        ((part, pixels),) = _some(contents, block, rows)
        writer.block(new_kind, len(rows), pixels, part.payload)


def _some(contents: Contents, block: int, rows: Ints) -> list[tuple[Part, bytes]]:
    """Return some images of a block, as parts with the hashes of their pixels."""
    found = []
    for part, coded in contents.decode_to_blocks(block):
        places = np.array(part.rows)
        wanted = np.flatnonzero(np.isin(places, rows))
        if len(wanted):
            picked = coded.pick(wanted)
            whole = len(wanted) == len(places)
            payload = part.payload if whole else encode_as(part.payload, picked, contents.model(part.kind.model))
            now = tuple(np.searchsorted(rows, places[wanted]).tolist())
            found.append((Part(part.kind, now, payload), pixels_hash(picked.x_hat)))
    return found


class BlockJoiner:
    """Copies blocks that are not mixed, several small ones of a kind as one where that takes fewer bytes.

    No image is coded again: the symbols of several blocks go into one stream.
    """

    def __init__(self, contents: Contents, writer: ArchiveWriter, models: Mapping[int, int]) -> None:
        """models: the new number of each model of the file."""
        self._contents, self._writer, self._models = contents, writer, models
        self._waiting: dict[int, list[tuple[int, Ints]]] = {}  # small blocks and the wanted images there, by kind

    def add(self, block: int, rows: Ints) -> None:
        """Copy some images (rising numbers) of a block, now or later."""
        number = self._contents.index.blocks[block].kind
        most = block_images(self._contents.index.kinds[number].shape, BLOCK_IMAGES)
        waiting = self._waiting.setdefault(number, [])
        if sum(len(some) for _, some in waiting) + len(rows) > most:
            self._flush(number)
        if 2 * len(rows) > most:
            self._flush(number)
            copy_block(self._contents, block, rows, self._writer, self._models)
        else:
            self._waiting[number].append((block, rows))

    def finish(self) -> None:
        """Copy what waits."""
        for number in self._waiting:
            self._flush(number)

    def _flush(self, number: int) -> None:
        waiting, self._waiting[number] = self._waiting[number], []
        if len(waiting) > 1 and self._joined(number, waiting):
            return
        for block, rows in waiting:
            copy_block(self._contents, block, rows, self._writer, self._models)

    def _joined(self, number: int, waiting: Sequence[tuple[int, Ints]]) -> bool:
        """Write the images of several blocks as one; return False if that is not possible, or saves nothing."""
        contents, kind = self._contents, self._contents.index.kinds[number]
        entries, coded, first = [contents.index.blocks[block] for block, _ in waiting], list[Block](), b""
        try:
            model = contents.model(kind.model)
        except UnknownModelError:
            return False
        for block, rows in waiting:
            ((part, images),) = contents.decode_to_blocks(block)
            first = first or part.payload
            coded.append(images.pick(rows))
        together = Block.join(coded)
        payload = encode_as(first, together, model)
        each = BLOCK_ENTRY.size
        if BLOCK.size + len(payload) + each >= sum(entry.size + each for entry in entries):
            return False
        if not np.array_equal(decode_block(payload, len(together), kind.shape, model), together.x_hat):
            return False
        new_kind = kind._replace(model=self._models[kind.model])
        self._writer.block(new_kind, len(together), pixels_hash(together.x_hat), payload)
        return True
