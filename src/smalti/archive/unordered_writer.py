# SPDX-License-Identifier: MIT
"""Write images whose order may be lost: by permutation coding, it carries some of their blocks."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from smalti.archive.batches import COPY, Intake
from smalti.codec.batching import Batch, block_images
from smalti.codec.block import Block
from smalti.codec.rdo import Effort
from smalti.container.annotation_codec import pack_numbers
from smalti.container.format import BLOCK, CARRIERS, Kind
from smalti.container.permutation_code import capacity, encode_permutation
from smalti.errors import UsageError
from smalti.model.model import Model
from smalti.rate.target import Sealed, Target, code_blocks, seal_block
from smalti.types import Pixels, Progress, Shape, shape_of

SET_IMAGES = 1 << 14
"""The most images whose order carries blocks: to read a carried one, all the others must be decoded."""
SET_SAMPLES = 1 << 24
"""The most samples of such images, which are held, with their symbols, until all of them are there."""
STREAM_BYTES = 8
"""The bytes that a block takes besides its images, about: its head, and what the coder leaves over."""


def write_sets(
    intake: Intake, target: Target, effort: Effort, number: Callable[[Model], int], progress: Progress | None
) -> None:
    """Encode and write all images that `intake` takes; labels go with their images.

    number: a function that returns the number of a model in the file.

    Raises:
        UsageError: the target is a mean, or the images have names.
    """
    if target.is_mean:
        raise UsageError(
            "unordered goes with a quality, a least PSNR or a largest error; give one of those, not a mean"
        )
    if intake.source.named:
        raise UsageError("names would cost more than the order of unordered images saves; leave out one of them")
    intake.mixed = False
    waiting: dict[tuple[bytes, Shape], _Set] = {}
    order: list[int] = []
    for batch, block in code_blocks(intake.batches(), target, effort):
        key = batch.model.id, batch.shape
        mine = waiting.setdefault(key, _Set(intake, batch.model, number(batch.model)))
        mine.add(batch.x, block, intake.places.popleft())
        if len(mine.places) >= min(SET_IMAGES, SET_SAMPLES // batch.x[0].size):
            order += waiting.pop(key).write()
        if progress:
            progress(len(batch), intake.source.total)
    for mine in waiting.values():
        order += mine.write()
    intake.reorder([*order, *(i for i, kind in enumerate(intake.kinds) if kind == COPY)])


class _Set:
    """Images of one size, some of whose blocks the order of the others will carry."""

    def __init__(self, intake: Intake, model: Model, number: int) -> None:
        """number: that of the model in the file."""
        self._intake, self._model, self._number = intake, model, number
        self._blocks: list[Block] = []
        self._x: list[Pixels] = []
        self.places: list[int] = []  # of the images in the source

    def add(self, x: Pixels, block: Block, places: list[int]) -> None:
        """Add images `x` (`n h w` or `n h w c`) as they are coded in a block."""
        self._blocks.append(block)
        self._x.append(x)
        self.places += places

    def write(self) -> list[int]:
        """Write all images; return their places in the source, in the order in which they are now."""
        x, coded, n = np.concatenate(self._x), Block.join(self._blocks), len(self.places)
        self._x, self._blocks = [], []
        h, w, c = shape_of(x)
        kind, writer = Kind(self._number, c, h, w), self._intake.writer
        self._intake.note(self.places, writer.kind(kind))
        each = block_images((h, w, c), self._intake.most, self._intake.samples)
        keys = [image.tobytes() for image in coded.x_hat]

        def sealed(rows: Sequence[int]) -> Sealed:
            places = np.array(rows)
            return seal_block(Batch(x[places], self._model), coded.pick(places))

        def blocks_from(first: int) -> list[tuple[range, Sealed]]:
            """Return the blocks of all images from that one on, with the numbers of their images."""
            parts = [range(i, min(i + each, n)) for i in range(first, n, each)]
            return [(part, sealed(part)) for part in parts]

        first, order, carried = self._first_carried(coded, each), None, list[bytes]()
        blocks = list[tuple[range, Sealed]]()
        while first < n and order is None:
            blocks = blocks_from(first)
            carried = [writer.block_record(kind, len(p), s.pixels, s.payload, after=p.start) for p, s in blocks]
            message, room = b"".join(carried), capacity(keys[:first])
            order = encode_permutation(keys[:first], message) if 8 * len(message) <= room else None
            if order is None:
                over = max(0.0, 1 - room / (8 * len(message)))
                first = min(n, first + max(1, round(over * (n - first))))
        if order is None:
            first, order, carried, blocks = n, list(range(n)), [], []
        start = writer.first_block + len(writer.blocks)
        for i in range(0, first, each):
            block = sealed(order[i : i + each])
            writer.block(kind, block.images, block.pixels, block.payload)
            self._intake.coded.add(block)
        opened = writer.first_block + len(writer.blocks) - start
        for _, block in blocks:
            self._intake.coded.add(block)
        for i, record in enumerate(carried):
            writer.carried(kind, min(each, n - first - i * each), len(record))
        if carried:
            writer.section(CARRIERS, 0, pack_numbers([start, opened, len(carried)]))
        return [self.places[i] for i in [*order, *range(first, n)]]

    @staticmethod
    def _first_carried(coded: Block, each: int) -> int:
        """Return the first image that the order of those before it is likely to have room for, with all behind it."""
        behind = (coded.bits + 8 * (BLOCK.size + STREAM_BYTES) / each)[::-1].cumsum()[::-1]
        n = len(coded)
        return next((k for k in range(1, n) if behind[k] <= math.lgamma(k + 1) / math.log(2)), n)
