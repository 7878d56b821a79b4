# SPDX-License-Identifier: MIT
"""Packing images in no order: the order in which they are stored carries some of their own blocks (`unordered.py`)."""

import math
from collections.abc import Sequence

import numpy as np

from smalti.archive.batches import Intake
from smalti.codec.block import Block
from smalti.codec.block_codec import block_images, pick, reconstruct, seal, shape_of, sizes
from smalti.container.annotation_codec import pack_numbers
from smalti.container.format import BLOCK, CARRIERS, Kind
from smalti.container.permutation_code import capacity, encode_permutation
from smalti.errors import UsageError
from smalti.model.model import Model
from smalti.rate.target import Target, code_blocks
from smalti.types import Pixels, Progress
from smalti.util.binary import hash64

SET_IMAGES = 1 << 14
"""Whose order may carry blocks: to read a carried one, all the others must be decoded."""
SET_SAMPLES = 1 << 26
"""Of such images, which are held decoded until all of them are there."""
STREAM_BYTES = 8
"""Of a block, about, besides what its images take: its head, and what the coder leaves over."""


def write_sets(intake: Intake, model: Model, target: Target, progress: Progress | None) -> None:
    """Code all images that `intake` takes, and write them; labels go with their images.

    Raises:
        UsageError: a mean is aimed at, or the images have names.
    """
    if target.psnr is not None or target.bytes is not None:
        raise UsageError(
            "unordered goes with a quality, a least PSNR or a largest error; give one of those, not a mean"
        )
    if intake.source.named:
        raise UsageError("names would cost more than the order of unordered images saves; leave out one of them")
    waiting: dict[tuple[int, int, int], _Set] = {}
    order: list[int] = []
    for x, block in code_blocks(intake.parts(), model, target):
        mine = waiting.setdefault(shape_of(x), _Set(intake, model))
        mine.add(block, x.shape, intake.places.popleft())
        if len(mine.places) >= min(SET_IMAGES, SET_SAMPLES // x[0].size):
            order += waiting.pop(shape_of(x)).write()
        if progress:
            progress(len(x), intake.source.total)
    for mine in waiting.values():
        order += mine.write()
    intake.kinds = [intake.kinds[i] for i in order]
    intake.labels = [intake.labels[i] for i in order] if intake.labels else []


class _Set:
    """Images of one size, some of whose blocks the order of the others will carry."""

    def __init__(self, intake: Intake, model: Model) -> None:
        self._intake, self._model = intake, model
        self._blocks: list[Block] = []
        self._decoded: list[Pixels] = []
        self.places: list[int] = []  # of the images in the source

    def add(self, block: Block, shape: tuple[int, ...], places: list[int]) -> None:
        """More images, of `shape` (`n h w` or `n h w c`)."""
        self._blocks.append(block)
        self._decoded.append(reconstruct(block, shape, self._model))
        self.places += places

    def write(self) -> list[int]:
        """Write them; their places in the source, in the order in which they are now."""
        x, n = np.concatenate(self._decoded), len(self.places)
        h, w, c = shape_of(x)
        kind, writer = Kind(self._intake.model, c, h, w), self._intake.writer
        each = block_images((h, w, c), self._intake.most)
        keys = [image.tobytes() for image in x]

        def sealed(rows: Sequence[int]) -> tuple[bytes, bytes]:
            """Hash of the pixels, and payload, of a block of these images."""
            payload, pixels = seal(pick(self._blocks, np.array(rows), self._model), x[list(rows)], self._model)
            return hash64(np.ascontiguousarray(pixels).data), payload

        def records(first: int) -> list[bytes]:
            """The blocks of all images from that one on."""
            parts = (range(i, min(i + each, n)) for i in range(first, n, each))
            return [writer.block_record(kind, len(part), *sealed(part), after=part.start) for part in parts]

        first, order, carried = self._first_carried(each), None, list[bytes]()
        while first < n and order is None:
            carried = records(first)
            message, room = b"".join(carried), capacity(keys[:first])
            order = encode_permutation(keys[:first], message) if 8 * len(message) <= room else None
            if order is None:
                over = max(0.0, 1 - room / (8 * len(message)))
                first = min(n, first + max(1, round(over * (n - first))))
        if order is None:
            first, order, carried = n, list(range(n)), []
        start = len(writer.blocks)
        for i in range(0, first, each):
            rows = order[i : i + each]
            writer.block(kind, len(rows), *sealed(rows))
        opened = len(writer.blocks) - start
        for i, record in enumerate(carried):
            writer.carried(kind, min(each, n - first - i * each), len(record))
        if carried:
            writer.section(CARRIERS, 0, pack_numbers([start, opened, len(carried)]))
        return [self.places[i] for i in [*order, *range(first, n)]]

    def _first_carried(self, each: int) -> int:
        """The first image that the order of those before it is likely to have room for, with all behind it."""
        bits = 8 * np.concatenate([sizes(block, self._model) for block in self._blocks])
        behind = (bits + 8 * (BLOCK.size + STREAM_BYTES) / each)[::-1].cumsum()[::-1]
        n = len(bits)
        return next((k for k in range(1, n) if behind[k] <= math.lgamma(k + 1) / math.log(2)), n)
