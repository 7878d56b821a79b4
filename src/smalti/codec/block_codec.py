# SPDX-License-Identifier: MIT
"""The story: images to blocks and back. Read this file first.

    pack:    read -> batch -> by latents or by pixels: symbols -> entropy-code -> block -> file
    unpack:  file -> block -> entropy-decode: symbols -> by latents or by pixels -> write

Few bytes are best spent on latents (`latentcoder.py`), more on the pixels themselves (`pixelcoder.py`); what no model
suits is plain (`plain.py`). The ends of it, reading and writing, are in `exchange/` and `archive.py`; `intake.py` makes
batches, `control.py` chooses for each image, `packing.py` and `sequence.py` tie them together.

A block is a head, the plain images, and one entropy-coded stream: how each image is coded, then those by latents, then
those by pixels.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.codec.block import ABSENT, Block, Code, by_latents, by_pixels
from smalti.codec.fallback_codec import decode_fallback, encode_fallback, raw_record
from smalti.codec.latent_codec import analyse, columns, decode_latents, payload_bytes, synthesise
from smalti.codec.pixel_codec import Quantised, decode_samples, quantise, quantise_together
from smalti.codec.rdo import Effort
from smalti.entropy.frequencies import Ints, uniform
from smalti.entropy.rans import SymbolDecoder, encode_symbols
from smalti.errors import CorruptError
from smalti.model.masked_mlp import POINTS
from smalti.model.model import Model
from smalti.model.operating_points import LMBDA, OperatingPoint
from smalti.model.pixel_prior import MAX_ERROR
from smalti.types import Pixels

BLOCK_IMAGES, BLOCK_SAMPLES = 256, 1 << 20
"""Of a block, at most: enough to make the coder's few bytes vanish, few enough to read one image fast."""
TOGETHER, MOST_LOAD = 4, 1 << 20
"""Whole blocks, at most, that are coded by pixels at the same time, and samples, with room for the largest image."""
LATENTS, PIXELS, POST_FILTERED, FALLBACK = 1, 2, 4, 8
"""Flags in the first byte of a block: what follows in its head, and whether pixels are dequantised."""
RAW = 255
"""In its place: the images of the block follow as they are."""
RANGE, COUNT = struct.Struct("<BB"), struct.Struct("<H")

Shape = tuple[int, int, int]


def shape_of(x: Pixels) -> Shape:
    """Of each of the images `x` (`n h w` or `n h w c`): h w c."""
    _, h, w, *c = x.shape
    return h, w, c[0] if c else 1


def block_images(shape: Shape, most: int = BLOCK_IMAGES) -> int:
    """Images a block of `shape` (h w c), at most `most`."""
    h, w, c = shape
    return max(1, min(most, BLOCK_SAMPLES // (h * w * c)))


def alike(shape: Shape) -> Shape:
    """The same for shapes (h w c) whose images are best coded by pixels at the same time: neither is twice the other.

    >>> alike((28, 28, 1)), alike((17, 32, 1)), alike((33, 1, 3))
    ((32, 32, 1), (32, 32, 1), (64, 1, 3))
    """
    h, w, c = shape
    return 1 << (h - 1).bit_length(), 1 << (w - 1).bit_length(), c


def load(blocks: Sequence[tuple[Shape, int]]) -> int:
    """Samples, or what takes as much, of blocks that are coded by pixels at the same time; best is MOST_LOAD at most.

    blocks: of each, the shape (h w c) of its images and their number.
    """
    h, w, c = (max(shape[side] for shape, _ in blocks) for side in range(3))
    return sum(n for _, n in blocks) * max(h * w * c, MOST_LOAD // (TOGETHER * BLOCK_IMAGES))


def code_images(x: Pixels, point: OperatingPoint, model: Model, effort: Effort) -> Block:
    """Images (`n h w` or `n h w c`), all coded in that way."""
    return code_parts([x], point, model, effort)[0]


def code_parts(parts: Sequence[Pixels], point: OperatingPoint, model: Model, effort: Effort) -> list[Block]:
    """A block of each of `parts` (images, `n h w` or `n h w c`), all coded in that way."""
    settings = [np.full(len(x), point.setting) for x in parts]
    if not point.pixels:
        return [by_latents(analyse(x, s, model, effort)) for x, s in zip(parts, settings, strict=True)]
    quantised = quantise_parts(parts, point.setting, LMBDA, model)
    return [by_pixels(s, q, post_filtered=True) for s, q in zip(settings, quantised, strict=True)]


def quantise_parts(parts: Sequence[Pixels], error: int, lmbda: float, model: Model) -> list[Quantised]:
    """Each of `parts` quantised, which may differ in size. As `pixelcoder.quantise`."""
    prior = model.pixels_for(shape_of(parts[0])[2])
    assert prior is not None
    return quantise_together(parts, np.full(sum(map(len, parts)), error), prior, lmbda)


def spare(x: Pixels, block: Block, model: Model) -> Block:
    """`block`, but images (`n h w` or `n h w c`) that take fewer bytes exactly as they are are kept so.

    They become plain, or are coded by pixels without an error where latents had been tried.
    """
    found = sizes(block, model)
    rows = np.flatnonzero([unlike(image, size) for image, size in zip(x, found, strict=True)])
    if not len(rows):
        return block
    exact = None
    if block.quantised is None and model.pixels_for(shape_of(x)[2]) is not None:
        exact = quantise_parts([x[rows]], 0, 0, model)[0]
    bits = np.full(len(rows), np.inf) if exact is None else exact.bits
    records = [encode_fallback(x[i]) for i in rows]
    best = np.minimum([len(record) for record in records], bits / 8) < found[rows]
    plain = {int(i): r for i, r, b, good in zip(rows, records, bits, best, strict=True) if good and 8 * len(r) <= b}
    by_pixels = best & ~np.isin(rows, list(plain))
    if plain:
        block = block.without(plain)
    return block if exact is None or not by_pixels.any() else block.exactly(rows[by_pixels], exact.pick(by_pixels))


def unlike(image: Pixels, size: float) -> bool:
    """Whether an image that the model codes in `size` bytes may take fewer without it; a guess that costs little."""
    return size > image.size / 2 or len(zlib.compress(image.tobytes(), 1)) < 1.3 * size + 20


def pick(blocks: Sequence[Block], rows: Ints, model: Model) -> Block:
    """A block of some images of `blocks`, numbered as if they were one, in the order of `rows`."""
    points = np.concatenate([block.points for block in blocks])
    errors = np.concatenate([block.errors for block in blocks])
    starts = np.cumsum([0, *(len(block.points) for block in blocks)])
    plain = {int(starts[b]) + i: record for b, block in enumerate(blocks) for i, record in block.plain.items()}
    code = quantised = None
    if (mine := points[rows] != ABSENT).any():
        places = np.cumsum(points != ABSENT) - 1
        code = Code.join([block.code for block in blocks if block.code is not None]).pick(places[rows[mine]])
    if (mine := errors[rows] != ABSENT).any():
        places = np.cumsum(errors != ABSENT) - 1
        x = np.concatenate([block.quantised.samples for block in blocks if block.quantised is not None])
        x = x[places[rows[mine]]]
        prior = model.pixels_for(shape_of(x)[2])
        assert prior is not None
        quantised = quantise(x, errors[rows[mine]], prior, 0)
    records = {i: plain[row] for i, row in enumerate(rows.tolist()) if row in plain}
    return Block(points[rows], errors[rows], code, quantised, records, any(block.post_filtered for block in blocks))


def reconstruct(block: Block, shape: tuple[int, ...], model: Model) -> Pixels:
    """What the decoder will make of images of `shape` (`n h w` or `n h w c`)."""
    x_hat = np.empty(shape, np.uint8)
    if block.code is not None:
        x_hat[block.points != ABSENT] = synthesise(block.code, model)
    if block.quantised is not None:
        mine = block.errors != ABSENT
        samples = block.quantised.samples
        x_hat[mine] = model.post_filter(samples, block.errors[mine]) if block.post_filtered else samples
    for i, record in block.plain.items():
        x_hat[i], _ = decode_fallback(record, 0, shape[1:])
    return x_hat


def sizes(block: Block, model: Model) -> NDArray[np.float64]:
    """What each image takes, in bytes: a fraction, since images share a stream."""
    found = np.empty(len(block.points))
    if block.code is not None:
        found[block.points != ABSENT] = payload_bytes(block.code, model)
    if block.quantised is not None:
        found[block.errors != ABSENT] = block.quantised.bits / 8
    for i, record in block.plain.items():
        found[i] = len(record)
    return found


def encode_block(block: Block, model: Model) -> bytes:
    """To the bytes of a block."""
    n, flags, head, ways = len(block.points), 0, b"", 0
    choices = np.zeros(n, np.int64)
    for flag, settings in ((LATENTS, block.points), (PIXELS, block.errors)):
        mine = settings != ABSENT
        if mine.any():
            low, high = int(settings[mine].min()), int(settings[mine].max())
            choices[mine] = ways + settings[mine] - low
            flags, head, ways = flags | flag, head + RANGE.pack(low, high), ways + high - low + 1
    if block.plain:
        choices[list(block.plain)] = ways
        flags, head, ways = flags | FALLBACK, head + COUNT.pack(len(block.plain)), ways + 1
    flags |= POST_FILTERED * (block.post_filtered and bool(flags & PIXELS))
    symbols: list[tuple[NDArray[Any], NDArray[Any]]] = [(choices, uniform(n, ways))]
    if block.code is not None:
        symbols += columns(block.code, model)
    if block.quantised is not None:
        symbols += [(of_image, frequencies) for _, of_image, frequencies in block.quantised.columns]
    records = b"".join(block.plain[i] for i in sorted(block.plain))
    return bytes([flags]) + head + records + encode_symbols(symbols)


def seal(block: Block, x: Pixels, model: Model) -> tuple[bytes, Pixels]:
    """The payload of a block of images `x`, and what it decodes to; as they are where that takes fewer bytes."""
    payload = encode_block(block, model)
    if len(payload) > x.size:
        return bytes([RAW]) + x.tobytes(), x
    return payload, reconstruct(block, x.shape, model)


def decode_block(payload: bytes, n: int, shape: Shape, model: Model) -> Pixels:
    """The bytes of a block to its `n` images of `shape` (h w c).

    Raises:
        CorruptError: they are no such block.
    """
    return decode_blocks([(payload, n, shape)], model)[0]


def decode_blocks(blocks: Sequence[tuple[bytes, int, Shape]], model: Model) -> list[Pixels]:
    """The bytes of blocks, their numbers of images and the shapes of those (h w c) to the images.

    Images that are coded by pixels are decoded together, which takes less time.

    Raises:
        CorruptError: one is no such block.
    """
    return [part.images for part in _decoded(blocks, model)]


def decode_code(payload: bytes, n: int, shape: Shape, model: Model) -> Block:
    """The bytes of a block to what `pick` needs to code some of its `n` images once more, bit for bit as they are.

    Raises:
        CorruptError: they are no such block.
    """
    (part,) = _decoded([(payload, n, shape)], model)
    quantised = None if part.samples is None else Quantised(part.samples, np.zeros(len(part.samples)), [])
    plain = dict(zip(np.flatnonzero(part.plain).tolist(), part.records, strict=True))
    return Block(part.points, part.errors, part.code, quantised, plain, part.post_filtered)


def _decoded(blocks: Sequence[tuple[bytes, int, Shape]], model: Model) -> "list[_Part]":
    parts = [_Part(payload, n, shape) for payload, n, shape in blocks]
    for part in parts:
        part.decode_latents(model)
    several: dict[tuple[int, int], list[_Part]] = {}
    for part in parts:
        if part.by_pixels.any():
            several.setdefault((part.least, part.shape[2]), []).append(part)
    for (least, channels), mine in several.items():
        _decode_pixels(mine, least, channels, model)
    for part in parts:
        part.finish()
    return parts


def _decode_pixels(parts: "Sequence[_Part]", least: int, channels: int, model: Model) -> None:
    prior = model.pixels_for(channels)
    if prior is None:
        raise CorruptError("a block is coded by pixels, which its model cannot; the file is damaged")
    errors = [part.errors[part.by_pixels] for part in parts]
    decoders = [part.decoder for part in parts if part.decoder is not None]
    shapes = [(len(some), *part.images.shape[1:]) for part, some in zip(parts, errors, strict=True)]
    samples = decode_samples(decoders, shapes, np.concatenate(errors), least, prior)
    for part, found, some in zip(parts, samples, errors, strict=True):
        part.samples = found
        part.images[part.by_pixels] = model.post_filter(found, some) if part.post_filtered else found


def describe_block(payload: bytes, n: int) -> str:
    """How the images of a block are coded, in words.

    Raises:
        CorruptError: it is no block.
    """
    if payload[:1] == bytes([RAW]):
        return "as they are"
    head, words = _Head(payload, n), []
    if head.points:
        words.append(f"by latents, operating points {head.points.start} to {head.points.stop - 1} of {POINTS - 1}")
    if head.errors:
        low, high = head.errors.start, head.errors.stop - 1
        steps = f"{2 * low + 1}" if low == high else f"{2 * low + 1} to {2 * high + 1}"
        exact = "without loss" if high == 0 else f"no pixel off by more than {high}"
        words.append(f"by pixels, in steps of {steps}" if head.flags & POST_FILTERED else f"by pixels, {exact}")
    return "; ".join([*words, *(["plain"] if head.plain else [])])


class _Part:
    """A block while it is decoded."""

    def __init__(self, payload: bytes, n: int, shape: Shape) -> None:
        h, w, c = shape
        of_image = (h, w) if c == 1 else (h, w, c)
        self.shape, self.decoder = shape, None
        self.errors = self.points = np.full(n, ABSENT)
        self.post_filtered, self.least = False, 0
        self.code: Code | None = None
        self.samples: Pixels | None = None  # of those by pixels, as their levels say
        if payload[:1] == bytes([RAW]) and len(payload) == 1 + n * h * w * c:
            self.images = np.frombuffer(payload[1:], np.uint8).reshape(n, *of_image)
            self.records = [raw_record(image) for image in self.images]
            return
        head = _Head(payload, n)
        self.post_filtered, self.least = bool(head.flags & POST_FILTERED), head.errors.start
        self.images = np.empty((n, *of_image), np.uint8)
        self.records, images, at = list[bytes](), [], head.end
        for _ in range(head.plain):
            image, end = decode_fallback(payload, at, of_image)
            self.records.append(payload[at:end])
            images.append(image)
            at = end
        self.decoder = SymbolDecoder(payload[at:])
        self.points, self.errors = head.split(self.decoder.take(uniform(n, head.ways)))
        if self.plain.sum() != head.plain:
            raise CorruptError("a block does not hold the plain images that it claims; the file is damaged")
        if head.plain:
            self.images[self.plain] = images

    @property
    def plain(self) -> NDArray[np.bool_]:
        """Which images are coded so (`n`)."""
        result: NDArray[np.bool_] = (self.points == ABSENT) & (self.errors == ABSENT)
        return result

    @property
    def by_pixels(self) -> NDArray[np.bool_]:
        """Which images are coded so (`n`)."""
        result: NDArray[np.bool_] = self.errors != ABSENT
        return result

    def decode_latents(self, model: Model) -> None:
        """The images that are coded so."""
        mine = self.points != ABSENT
        if not mine.any():
            return
        if self.shape != model.image_shape or not model.has_latents:
            raise CorruptError("a block is of images that its model does not take; the file is damaged")
        assert self.decoder is not None
        self.code, self.images[mine] = decode_latents(self.decoder, self.points[mine], model)

    def finish(self) -> None:
        """Say that all images are there."""
        if self.decoder is not None:
            self.decoder.finish()


class _Head:
    """The head of a block, checked."""

    def __init__(self, payload: bytes, n: int) -> None:
        try:
            self.flags, self.end = payload[0], 1
            self.points = self._range(payload, LATENTS)
            self.errors = self._range(payload, PIXELS)
            self.plain = self._count(payload)
        except (IndexError, struct.error) as exc:
            raise CorruptError("a block ends within its head; the file is damaged") from exc
        known = LATENTS | PIXELS | POST_FILTERED | FALLBACK
        possible = self.flags & ~known == 0 and self.points.stop <= POINTS and self.errors.stop <= MAX_ERROR + 1
        if not possible or self.plain > n or not self.ways or (self.flags & POST_FILTERED and not self.errors):
            raise CorruptError("the head of a block has an impossible field; the file is damaged")

    @property
    def ways(self) -> int:
        """In which an image may be coded."""
        return len(self.points) + len(self.errors) + bool(self.flags & FALLBACK)

    def _range(self, payload: bytes, flag: int) -> range:
        if not self.flags & flag:
            return range(0)
        low, high = RANGE.unpack_from(payload, self.end)
        self.end += RANGE.size
        if low > high:
            raise CorruptError("the head of a block has an empty range; the file is damaged")
        return range(low, high + 1)

    def _count(self, payload: bytes) -> int:
        if not self.flags & FALLBACK:
            return 0
        (count,) = COUNT.unpack_from(payload, self.end)
        self.end += COUNT.size
        return int(count)

    def split(self, choices: Ints) -> tuple[Ints, Ints]:
        """Choices (`n`) to operating points and errors, each ABSENT where another way is chosen."""
        settings = []
        for known in (self.points, self.errors):
            mine = (choices >= 0) & (choices < len(known))
            settings.append(np.where(mine, known.start + choices, ABSENT))
            choices = choices - len(known)
        return settings[0], settings[1]
