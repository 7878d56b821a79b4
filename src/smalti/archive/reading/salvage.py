# SPDX-License-Identifier: MIT
"""Save the images of damaged blocks that have entries: each of them is whole or lost by itself."""

import contextlib
from collections.abc import Iterator

import numpy as np

from smalti.archive.reader import Contents
from smalti.archive.reading.opening import pixels_hash
from smalti.codec.payload.entries import Entry, repacked
from smalti.container.format import BlockHead, Kind
from smalti.errors import SmaltiError
from smalti.types import Pixels


def saved_singly(contents: Contents, whole: set[tuple[int, int]]) -> Iterator[tuple[BlockHead, bytes]]:
    """Yield blocks, with their payloads, of those images of damaged blocks that are whole.

    Images of mixed blocks, and of blocks whose first bytes are damaged, are not looked for.

    whole: the blocks that are not damaged: for each, the number of its kind, and of its first image in that kind.
    """
    index, stored = contents.index, dict[int, int]()
    for block, listed in enumerate(index.blocks):
        kind, first = index.kinds[listed.kind], stored.get(listed.kind, 0)
        stored[listed.kind] = first + listed.images
        if kind.mixed or not listed.offset or (listed.kind, first) in whole:
            continue
        run = list[tuple[Entry, Pixels]]()
        for row in range(listed.images + 1):
            found = _whole(contents, block, row) if row < listed.images else None
            if found is not None:
                run.append(found)
            elif run:
                yield _block_of(run, kind, listed.kind, first + row - len(run))
                run = []


def _whole(contents: Contents, block: int, row: int) -> tuple[Entry, Pixels] | None:
    with contextlib.suppress(SmaltiError):
        entry = contents.entry(block, row)
        image = contents.decode_single([(block, row)])[0]
        return (entry, image) if entry is not None and image is not None else None
    return None


def _block_of(run: list[tuple[Entry, Pixels]], kind: Kind, number: int, first: int) -> tuple[BlockHead, bytes]:
    pixels = pixels_hash(np.stack([image for _, image in run]))
    return BlockHead(kind, number, len(run), first, pixels), repacked([entry for entry, _ in run])
