# SPDX-License-Identifier: MIT
"""The story: encode images to the payload of a block and decode it. Read this file first.

    pack:    read -> batch -> by latents, by pixels, without model -> block: symbols -> entropy-code -> payload -> file
    unpack:  file -> payload -> entropy-decode: symbols -> by latents, by pixels, without model      -> write

An image is coded in one of four ways. At few bytes an image, latents are best (`latent_codec.py`); at more bytes, the
pixels themselves (`pixel_codec.py`). Images that no model suits are kept as WebP lossless bitstreams (`webp_codec.py`)
or by the fallback (`fallback_codec.py`), whichever takes fewer bytes. A `Block` (`block.py`) holds images of one shape
as they are coded, whatever their ways.

A payload is a head (`head.py`), the records of images without model, and one entropy-coded stream. The stream holds
first the choice of a way for each image, then the symbols of all images by latents (those of patches, then the spatial
latents), then those of all images by pixels.

Encoding has two steps: `encode_images` makes a block, and `encode_block` writes its payload. Decoding reverses them:
`_OpenBlock` reads the head, the records and the choices, then `_decode` reads the symbols and makes the images of them.

Other wings do the rest: `exchange/` reads and writes images, `archive/` makes batches and files, and `rate/` chooses
how each image is coded.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smalti.codec.batching import BLOCK, EACH, RAW, packing_of
from smalti.codec.block import (
    Block,
    ByLatents,
    ByPixels,
    ByWebP,
    Fallback,
    SampleSymbols,
    Symbols,
    Way,
    WithoutModel,
    choice_intervals,
)
from smalti.codec.entries import (
    CODED,
    FALLBACK,
    LONG_BYTES,
    LONG_CHECK,
    SHORT_CHECK,
    WEBP,
    Entry,
    check_bytes,
    check_of,
    pack_entries,
    room,
    several_kinds,
    unpack_entries,
)
from smalti.codec.fallback_codec import decode_fallback, encode_fallback, raw_record
from smalti.codec.head import Head
from smalti.codec.latent_codec import block_of, decode_latents, encode_latents
from smalti.codec.pixel_codec import decode_pixels, encode_pixels, samples_bits
from smalti.codec.rdo import Effort, LatentCode
from smalti.codec.webp_codec import decode_webp, encode_webp
from smalti.entropy.frequencies import Ints, uniform
from smalti.entropy.rans import SeveralStreams, Stream, SymbolDecoder, encode_intervals
from smalti.errors import CorruptError
from smalti.model.model import Model
from smalti.model.operating_points import LMBDA, OperatingPoint
from smalti.model.wavefront import table_sizes
from smalti.types import Pixels, Shape
from smalti.util.parallel import in_order

LEAST_WEBP = 12
"""The bytes of a fallback record up to which an image is not tried as WebP, whose smallest record takes as much."""


def encode_images(parts: Sequence[Pixels], point: OperatingPoint, model: Model, effort: Effort) -> list[Block]:
    """Encode each of `parts` (images, `n h w` or `n h w c`) as a block, all at an operating point of the model."""
    if point.pixels:
        errors = np.full(sum(map(len, parts)), point.setting)
        return encode_pixels(parts, errors, LMBDA, model, post_filter=True)
    return [encode_latents(x, np.full(len(x), point.setting), model, effort) for x in parts]


def encode_exactly(parts: Sequence[Pixels], max_error: int, model: Model) -> list[Block]:
    """Encode each of `parts` as a block by pixels, near-losslessly: no sample is off by more than `max_error`."""
    return encode_pixels(parts, np.full(sum(map(len, parts)), max_error), 0, model, post_filter=False)


def encode_without_model(x: Pixels, effort: Effort, *, max_error: int = 0, largest_mse: float = 0.0) -> Block:
    """Encode images (`n h w` or `n h w c`) without a model; the errors are those of `way_without_model`."""
    work = functools.partial(way_without_model, effort=effort, max_error=max_error, largest_mse=largest_mse)
    return block_without_model(list(in_order(work, x)), x.shape[1:])


def way_without_model(image: Pixels, effort: Effort, *, max_error: int = 0, largest_mse: float = 0.0) -> WithoutModel:
    """Return the way without model in which an image (`h w` or `h w c`) takes the fewest bytes.

    No sample is off by more than `max_error`, or the mean squared error (on pixels in [0, 1]) is at most `largest_mse`.
    """
    record = encode_fallback(image, max_error=max_error, largest_mse=largest_mse)
    ways: list[WithoutModel] = [Fallback(record)]
    tried = [decode_fallback(record, 0, image.shape)[0]]
    if (tried[0] != image).any():  # it may take fewer bytes to keep it exactly
        ways.append(Fallback(encode_fallback(image)))
        tried.append(image)
    if min(len(way.record) for way in ways) > LEAST_WEBP:
        found = (encode_webp(some, thorough=effort.thorough) for some in tried)
        ways += [ByWebP(bitstream) for bitstream in found if bitstream is not None]
    return min(ways, key=lambda way: len(way.record))


def block_without_model(ways: Sequence[WithoutModel], shape: tuple[int, ...]) -> Block:
    """Return the block of images of `shape` (`h w` or `h w c`) that are kept in these ways."""
    n = len(ways)
    x_hat = np.stack([_decode_record(way, shape) for way in ways])
    bits = np.array([8.0 * len(way.record) for way in ways])
    return Block(tuple(ways), x_hat, bits, None, Symbols.none(n), SampleSymbols.none(n), post_filtered=False)


def _decode_record(way: WithoutModel, shape: tuple[int, ...]) -> Pixels:
    decode = decode_fallback if isinstance(way, Fallback) else decode_webp
    return decode(way.record, 0, shape)[0]


@dataclass(frozen=True, eq=False)
class Payload:
    """The bytes of a block and the images that they decode to."""

    data: bytes
    x_hat: Pixels  # n h w or n h w c
    raw: bool = False  # whether the images are kept as they are


def encode_block(block: Block, model: Model) -> bytes:
    """Encode a block to its payload: head, records and stream."""
    choices, head, records = Head.of(block.ways)
    streams = [choice_intervals(choices, head.ways).stream()]
    if block.patches is not None:
        streams += [block.patches.intervals(model.grid).stream(), block.spatial.stream()]
    if head.errors:
        streams.append(block.samples.intervals(table_sizes(head.errors.start)).stream())
    return head.pack(post_filtered=block.post_filtered) + b"".join(records) + encode_intervals(streams)


def encode_each(block: Block, model: Model) -> bytes:
    """Encode a block to a payload in which each image has a stream or a record of its own, and a check."""
    choices, head, _ = Head.of(block.ways)
    bits = LONG_CHECK if block.bits.mean() >= 8 * LONG_BYTES else SHORT_CHECK
    streams, kinds, images = _streams_of_images(block, head, choices, model), list[int](), list[bytes]()
    for i, (way, image) in enumerate(zip(block.ways, block.x_hat, strict=True)):
        check = check_of(image, bits)
        if isinstance(way, WithoutModel):
            kinds.append(FALLBACK if isinstance(way, Fallback) else WEBP)
            images.append(way.record + check.to_bytes(check_bytes(bits), "little"))
        else:
            kinds.append(CODED)
            images.append(encode_intervals([part[i] for part in streams], check))
    start = head.pack(post_filtered=block.post_filtered, entries=True)
    return pack_entries(start, bits, kinds if several_kinds(head) else None, images)


def _streams_of_images(block: Block, head: Head, choices: Ints, model: Model) -> list[list[Stream]]:
    """Return the symbols of each image (`n`) as it is coded alone: those of its choice, by latents, and by pixels."""
    coded = np.array([not isinstance(way, WithoutModel) for way in block.ways])
    parts = list[Symbols]()
    if head.coded_ways > 1:
        parts.append(choice_intervals(choices[coded], head.coded_ways).spread(coded))
    if block.patches is not None:
        by_latents = np.array([isinstance(way, ByLatents) for way in block.ways])
        parts += [block.patches.intervals_alone(model.grid).spread(by_latents), block.spatial]
    if head.errors:
        parts.append(block.samples.intervals(table_sizes(head.errors.start)))
    return [part.streams() for part in parts]


def seal(block: Block, x: Pixels, model: Model, packing: str = BLOCK) -> Payload:
    """Encode a block of images `x` to its payload, or keep them as they are where that takes fewer bytes.

    packing: one of PACKINGS.
    """
    if packing == EACH:
        data, raw = encode_each(block, model), [Fallback(raw_record(image)) for image in x]
        if len(data) > sum(len(way.record) for way in raw) + room(len(x)):
            return Payload(encode_each(block_without_model(raw, x.shape[1:]), model), x, raw=True)
        return Payload(data, block.x_hat)
    data = encode_block(block, model)
    if len(data) > x.size:
        return Payload(bytes([RAW]) + x.tobytes(), x, raw=True)
    return Payload(data, block.x_hat)


def encode_as(payload: bytes, block: Block, model: Model) -> bytes:
    """Encode a block as the images of `payload` are packed: in one stream, or each by itself."""
    return encode_each(block, model) if packing_of(payload) == EACH else encode_block(block, model)


def decode_block(payload: bytes, n: int, shape: Shape, model: Model) -> Pixels:
    """Decode a payload to its `n` images of `shape` (h w c).

    Raises:
        CorruptError: the payload is damaged.
    """
    return decode_images([(payload, n, shape)], model)[0]


def decode_images(payloads: Sequence[tuple[bytes, int, Shape]], model: Model) -> list[Pixels]:
    """Decode payloads to images; each payload comes with its number of images and their shape (h w c).

    Images that are coded by pixels are decoded together, which takes less time.

    Raises:
        CorruptError: a payload is damaged.
    """
    blocks = [_OpenBlock.of_payload(*payload) for payload in payloads]
    _decode(blocks, model)
    return [block.x_hat for block in blocks]


def decode_entries(entries: Sequence[Entry], model: Model) -> list[Pixels]:
    """Decode single images (`h w` or `h w c` each) of payloads whose images have entries; each is checked.

    Raises:
        CorruptError: an image is damaged.
    """
    blocks = [_OpenBlock.of_entry(entry) for entry in entries]
    _decode(blocks, model)
    return [block.x_hat[0] for block in blocks]


def decode_to_block(payload: bytes, n: int, shape: Shape, model: Model) -> Block:
    """Decode a payload to a block, whose images can be selected and encoded again with the same pixels.

    Raises:
        CorruptError: the payload is damaged.
    """
    block = _OpenBlock.of_payload(payload, n, shape)
    decoded_samples = _decode([block], model, record=True)
    bits = np.array([8.0 * len(record) for record in block.all_records])
    patches, spatial, samples = None, Symbols.none(n), SampleSymbols.none(n)
    if (code := block.code) is not None:
        coded = block_of(code, model)
        bits[block.by_latents], patches = coded.bits, coded.patches
        spatial = coded.spatial.spread(block.by_latents)
    if decoded_samples is not None:
        bits[block.by_pixels] = samples_bits(decoded_samples, block.least)
        samples = decoded_samples.spread(block.by_pixels)
    return Block(tuple(block.ways), block.x_hat, bits, patches, spatial, samples, block.post_filtered)


def _decode(blocks: "Sequence[_OpenBlock]", model: Model, *, record: bool = False) -> SampleSymbols | None:
    """Decode the images of all blocks, those by pixels together, and those that have streams of their own.

    record: whether the symbols of the images by pixels are returned; then there is one block.
    """
    samples = None
    for block in blocks:
        block.decode_shared_latents(model)
    _decode_own_latents(blocks, model)
    together: dict[tuple[int, int], list[_OpenBlock]] = {}
    for block in blocks:
        if block.by_pixels.any():
            together.setdefault((block.least, block.shape[2]), []).append(block)
    for (least, _), group in together.items():
        errors = [block.errors[block.by_pixels] for block in group]
        shapes = [(len(largest), *block.x_hat.shape[1:]) for block, largest in zip(group, errors, strict=True)]
        streams, counts = zip(*(stream for block in group for stream in block.pixel_streams()), strict=True)
        of_all = np.concatenate(errors)
        quantised, samples = decode_pixels(streams, shapes, of_all, least, model, counts=counts, record=record)
        for block, x, largest in zip(group, quantised, errors, strict=True):
            block.x_hat[block.by_pixels] = model.post_filter(x, largest) if block.post_filtered else x
    for block in blocks:
        block.finish()
    return samples


def _decode_own_latents(blocks: "Sequence[_OpenBlock]", model: Model) -> None:
    """Decode the images by latents that have streams of their own, those of one operating point together."""
    jobs: dict[int, list[tuple[_OpenBlock, int, SymbolDecoder]]] = {}
    for block in blocks:
        for i, decoder in enumerate(block.own):
            way = block.ways[i]
            if decoder is not None and isinstance(way, ByLatents):
                block.check_latents(model)
                jobs.setdefault(way.point, []).append((block, i, decoder))
    for point, some in jobs.items():
        decoders = SeveralStreams([decoder for *_, decoder in some])
        code, pixels = decode_latents(decoders, np.full(len(some), point), model)
        for row, (block, i, _) in enumerate(some):
            block.x_hat[i] = pixels[row]
            block.codes[i] = code.symbols[row], code.spatial[row]


class _OpenBlock:
    """A block while it is decoded: what is known of its images so far."""

    def __init__(self, shape: Shape, n: int) -> None:
        h, w, c = shape
        self.shape = shape
        self.shared: SymbolDecoder | None = None  # of the stream of all images, if there is one
        self.own = list[SymbolDecoder | None]()  # of the stream of each image (n), if images have such
        self.codes: dict[int, tuple[Ints, Ints]] = {}  # of images by latents with streams of their own, by row
        self.post_filtered, self.least = False, 0  # least: the smallest largest error of images by pixels
        self.x_hat: Pixels = np.empty((n, h, w) if c == 1 else (n, h, w, c), np.uint8)
        self.ways: list[Way] = []
        self._code: LatentCode | None = None  # of the images by latents, if they share a stream
        self._checks, self._bits = list[int | None](), 0

    @staticmethod
    def of_payload(payload: bytes, n: int, shape: Shape) -> "_OpenBlock":
        """Open a payload of `n` images of `shape` (h w c).

        Raises:
            CorruptError: it is damaged.
        """
        block, first = _OpenBlock(shape, n), payload[:1]
        if first == bytes([RAW]) and len(payload) == 1 + block.x_hat.size:
            block.x_hat = np.frombuffer(payload[1:], np.uint8).reshape(block.x_hat.shape)
            block.ways = [Fallback(raw_record(image)) for image in block.x_hat]
        elif packing_of(first) == EACH:
            entries = unpack_entries(payload, n, len(payload))
            block._open_entries(Entry.all_of(payload, entries, shape))
        else:
            block._open(payload, n)
        block._sort()
        return block

    @staticmethod
    def of_entry(entry: Entry) -> "_OpenBlock":
        """Open one image.

        Raises:
            CorruptError: it is damaged.
        """
        block = _OpenBlock(entry.shape, 1)
        block._open_entries([entry])
        block._sort()
        return block

    def _sort(self) -> None:
        self.by_latents = np.array([isinstance(way, ByLatents) for way in self.ways])
        self.by_pixels = np.array([isinstance(way, ByPixels) for way in self.ways])
        self.errors = np.array([way.max_error if isinstance(way, ByPixels) else 0 for way in self.ways])

    def _open(self, payload: bytes, n: int) -> None:
        """Read the head, the fallback records and the choice of a way for each of `n` images; open the stream."""
        head, of_image = Head.unpack(payload, n), self.x_hat.shape[1:]
        self.post_filtered, self.least = head.post_filtered, head.errors.start
        records, images, at = list[bytes](), list[Pixels](), head.size
        decoders = [decode_fallback] * (head.fallbacks or 0) + [decode_webp] * (head.webps or 0)
        for decode in decoders:
            image, end = decode(payload, at, of_image)
            records.append(payload[at:end])
            images.append(image)
            at = end
        self.shared = SymbolDecoder(payload[at:])
        self.ways = head.ways_of(self.shared.take(uniform(n, head.ways)), records)
        for kind, some in ((Fallback, images[: head.fallbacks or 0]), (ByWebP, images[head.fallbacks or 0 :])):
            if some:
                self.x_hat[[isinstance(way, kind) for way in self.ways]] = some

    def _open_entries(self, entries: Sequence[Entry]) -> None:
        """Open the stream of each image, or decode its record."""
        head, self._bits = entries[0].head, entries[0].bits
        self.post_filtered, self.least = head.post_filtered, head.errors.start
        for i, entry in enumerate(entries):
            if entry.kind == CODED:
                decoder = SymbolDecoder(entry.data)
                choice = 0 if head.coded_ways == 1 else int(decoder.take(uniform(1, head.coded_ways))[0])
                self.ways.append(head.coded_way(choice))
                self.own.append(decoder)
                self._checks.append(None)
                continue
            record, check = entry.record
            decode = decode_webp if entry.kind == WEBP else decode_fallback
            self.x_hat[i], end = decode(record, 0, self.x_hat.shape[1:])
            if end != len(record):
                raise CorruptError("a record does not end where it should; the file is damaged")
            self.ways.append(ByWebP(record) if entry.kind == WEBP else Fallback(record))
            self.own.append(None)
            self._checks.append(check)

    @property
    def all_records(self) -> list[bytes]:
        """The record of each image: empty where it has none."""
        return [way.record if isinstance(way, Fallback | ByWebP) else b"" for way in self.ways]

    @property
    def code(self) -> LatentCode | None:
        """The code of all images by latents, once they are decoded."""
        if not self.codes:
            return self._code
        points = np.array([way.point for way in self.ways if isinstance(way, ByLatents)])
        symbols, spatial = zip(*(self.codes[i] for i in sorted(self.codes)), strict=True)
        return LatentCode(points, np.stack(symbols), np.stack(spatial))

    def pixel_streams(self) -> list[tuple[SymbolDecoder, int]]:
        """Return the streams that hold the images by pixels, each with the number of these images."""
        if self.shared is not None:
            return [(self.shared, int(self.by_pixels.sum()))]
        return [(decoder, 1) for decoder, mine in zip(self.own, self.by_pixels, strict=True) if mine and decoder]

    def check_latents(self, model: Model) -> None:
        """Refuse images by latents that the model cannot decode.

        Raises:
            CorruptError: they are of another shape, or it has no latents.
        """
        if self.shape != model.image_shape or not model.has_latents:
            raise CorruptError(
                "a block holds images by latents, of a shape that its model does not take; the file is damaged"
            )

    def decode_shared_latents(self, model: Model) -> None:
        """Decode the images that are coded by latents in the stream of all images."""
        if self.shared is None or not self.by_latents.any():
            return
        self.check_latents(model)
        points: Ints = np.array([way.point for way in self.ways if isinstance(way, ByLatents)])
        self._code, self.x_hat[self.by_latents] = decode_latents(self.shared, points, model)

    def finish(self) -> None:
        """Check that the streams are used up, and that images with checks of their own are those that were packed.

        Raises:
            CorruptError: they are not.
        """
        if self.shared is not None:
            self.shared.finish()
        for image, decoder, check in zip(self.x_hat, self.own, self._checks, strict=False):
            if check_of(image, self._bits) != (check if decoder is None else decoder.rest):
                raise CorruptError("an image decodes to other pixels than were packed; it is damaged")
