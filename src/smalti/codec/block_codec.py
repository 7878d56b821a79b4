# SPDX-License-Identifier: MIT
"""The story: images to the payload of a block and back. Read this file first.

    pack:    read -> batch -> by latents, by pixels or by fallback -> block: symbols -> entropy-code -> payload -> file
    unpack:  file -> payload -> entropy-decode: symbols -> by latents, by pixels or by fallback      -> write

A few bytes are best spent on latents (`latent_codec.py`), more of them on the pixels themselves (`pixel_codec.py`);
images that no model suits are kept by the fallback (`fallback_codec.py`). `block.py` holds what is coded. The ends of
the way are elsewhere: `exchange/` reads and writes images, `archive/` makes batches and files, `rate/` chooses how
each image is coded.

A payload is a head, the records of the fallback, and one entropy-coded stream: how each image is coded, then the
symbols of all images by latents, then those of all images by pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smalti.codec.block import (
    Block,
    ByLatents,
    ByPixels,
    Fallback,
    SampleSymbols,
    Symbols,
    Way,
    choice_intervals,
)
from smalti.codec.fallback_codec import decode_fallback, encode_fallback, raw_record
from smalti.codec.head import RAW, Head
from smalti.codec.latent_codec import block_of, decode_latents, encode_latents
from smalti.codec.pixel_codec import decode_pixels, encode_pixels, samples_bits
from smalti.codec.rdo import Effort, LatentCode
from smalti.entropy.frequencies import Ints, uniform
from smalti.entropy.rans import SymbolDecoder, encode_intervals
from smalti.errors import CorruptError
from smalti.model.model import Model
from smalti.model.operating_points import LMBDA, OperatingPoint
from smalti.model.wavefront import table_sizes
from smalti.types import Pixels, Shape


def encode_images(parts: Sequence[Pixels], point: OperatingPoint, model: Model, effort: Effort) -> list[Block]:
    """Encode each of `parts` (images, `n h w` or `n h w c`) as a block, all at an operating point of the model."""
    if point.pixels:
        errors = np.full(sum(map(len, parts)), point.setting)
        return encode_pixels(parts, errors, LMBDA, model, post_filter=True)
    return [encode_latents(x, np.full(len(x), point.setting), model, effort) for x in parts]


def encode_exactly(parts: Sequence[Pixels], max_error: int, model: Model) -> list[Block]:
    """Encode each of `parts` as a block by pixels, near-losslessly: no sample is off by more than `max_error`."""
    return encode_pixels(parts, np.full(sum(map(len, parts)), max_error), 0, model, post_filter=False)


def encode_without_model(x: Pixels, *, max_error: int = 0, largest_mse: float = 0.0) -> Block:
    """Encode images (`n h w` or `n h w c`) by the fallback, each up to an error. As `encode_fallback`."""
    records = [encode_fallback(image, max_error=max_error, largest_mse=largest_mse) for image in x]
    return fallback_block(records, x.shape[1:])


def fallback_block(records: Sequence[bytes], shape: tuple[int, ...]) -> Block:
    """Return a block of images of `shape` (`h w` or `h w c`) by their records."""
    n = len(records)
    x_hat = np.stack([decode_fallback(record, 0, shape)[0] for record in records])
    bits = np.array([8.0 * len(record) for record in records])
    ways = tuple(map(Fallback, records))
    return Block(ways, x_hat, bits, None, Symbols.none(n), SampleSymbols.none(n), post_filtered=False)


@dataclass(frozen=True, eq=False)
class Payload:
    """The bytes of a block, and the images that they decode to."""

    data: bytes
    x_hat: Pixels  # n h w or n h w c


def encode_block(block: Block, model: Model) -> bytes:
    """Encode a block to its payload."""
    choices, head, records = Head.of(block.ways)
    streams = [choice_intervals(choices, head.ways).stream()]
    if block.patches is not None:
        streams += [block.patches.intervals(model.grid).stream(), block.spatial.stream()]
    if head.errors:
        streams.append(block.samples.intervals(table_sizes(head.errors.start)).stream())
    return head.pack(post_filtered=block.post_filtered) + b"".join(records) + encode_intervals(streams)


def seal(block: Block, x: Pixels, model: Model) -> Payload:
    """Encode a block of images `x` to its payload, or keep them as they are where that takes fewer bytes."""
    data = encode_block(block, model)
    if len(data) > x.size:
        return Payload(bytes([RAW]) + x.tobytes(), x)
    return Payload(data, block.x_hat)


def decode_block(payload: bytes, n: int, shape: Shape, model: Model) -> Pixels:
    """Decode a payload to its `n` images of `shape` (h w c).

    Raises:
        CorruptError: it is no such payload.
    """
    return decode_images([(payload, n, shape)], model)[0]


def decode_images(payloads: Sequence[tuple[bytes, int, Shape]], model: Model) -> list[Pixels]:
    """Decode payloads, given with their numbers of images and the shapes of those (h w c), to the images.

    Images that are coded by pixels are decoded together, which takes less time.

    Raises:
        CorruptError: one is no such payload.
    """
    parts = [_Part(*payload) for payload in payloads]
    _decode(parts, model)
    return [part.x_hat for part in parts]


def decode_to_block(payload: bytes, n: int, shape: Shape, model: Model) -> Block:
    """Decode a payload to a block, whose images can be selected and encoded again with the same pixels.

    Raises:
        CorruptError: it is no such payload.
    """
    part = _Part(payload, n, shape)
    samples = _decode([part], model, record=True)
    of_pixels, bits = np.flatnonzero(part.by_pixels), np.array([8.0 * len(record) for record in part.all_records])
    spatial, patches, every = Symbols.none(n), None, SampleSymbols.none(n)
    places = np.full(n, -1)
    if part.code is not None:
        of_latents = np.flatnonzero(part.by_latents)
        coded = block_of(part.code, model)
        bits[of_latents], patches = coded.bits, coded.patches
        places[of_latents] = np.arange(len(of_latents))
        spatial = Symbols.join([coded.spatial, Symbols.none(1)]).pick(places)
    if samples is not None:
        bits[of_pixels] = samples_bits(samples, part.least)
        places = np.full(n, -1)
        places[of_pixels] = np.arange(len(of_pixels))
        every = SampleSymbols.join([samples, SampleSymbols.none(1)]).pick(places)
    return Block(tuple(part.ways), part.x_hat, bits, patches, spatial, every, part.post_filtered)


def _decode(parts: "Sequence[_Part]", model: Model, *, record: bool = False) -> SampleSymbols | None:
    """Decode the images of all parts; the symbols of those by pixels are returned if there is one part."""
    samples = None
    for part in parts:
        part.decode_latents(model)
    together: dict[tuple[int, int], list[_Part]] = {}
    for part in parts:
        if part.by_pixels.any():
            together.setdefault((part.least, part.shape[2]), []).append(part)
    for (least, _), mine in together.items():
        errors = [part.errors[part.by_pixels] for part in mine]
        shapes = [(len(some), *part.x_hat.shape[1:]) for part, some in zip(mine, errors, strict=True)]
        decoders = [part.decoder for part in mine if part.decoder is not None]
        found, samples = decode_pixels(decoders, shapes, np.concatenate(errors), least, model, record=record)
        for part, some, of_image in zip(mine, found, errors, strict=True):
            part.x_hat[part.by_pixels] = model.post_filter(some, of_image) if part.post_filtered else some
    for part in parts:
        if part.decoder is not None:
            part.decoder.finish()
    return samples


class _Part:
    """A block while it is decoded."""

    def __init__(self, payload: bytes, n: int, shape: Shape) -> None:
        h, w, c = shape
        of_image = (h, w) if c == 1 else (h, w, c)
        self.shape = shape
        self.decoder: SymbolDecoder | None = None  # of the stream, if there is one
        self.code: LatentCode | None = None  # of the images by latents, once they are decoded
        self.post_filtered, self.least = False, 0
        self.ways: list[Way]
        if payload[:1] == bytes([RAW]) and len(payload) == 1 + n * h * w * c:
            self.x_hat = np.frombuffer(payload[1:], np.uint8).reshape(n, *of_image)
            self.ways = [Fallback(raw_record(image)) for image in self.x_hat]
        else:
            self._open(payload, n, of_image)
        self.by_latents = np.array([isinstance(way, ByLatents) for way in self.ways])
        self.by_pixels = np.array([isinstance(way, ByPixels) for way in self.ways])
        self.errors = np.array([way.max_error if isinstance(way, ByPixels) else 0 for way in self.ways])

    def _open(self, payload: bytes, n: int, of_image: tuple[int, ...]) -> None:
        head = Head.unpack(payload, n)
        self.post_filtered, self.least = head.post_filtered, head.errors.start
        self.x_hat = np.empty((n, *of_image), np.uint8)
        records, images, at = list[bytes](), list[Pixels](), head.size
        for _ in range(head.fallbacks):
            image, end = decode_fallback(payload, at, of_image)
            records.append(payload[at:end])
            images.append(image)
            at = end
        self.decoder = SymbolDecoder(payload[at:])
        self.ways = head.ways_of(self.decoder.take(uniform(n, head.ways)), records)
        if images:
            self.x_hat[[isinstance(way, Fallback) for way in self.ways]] = images

    @property
    def all_records(self) -> list[bytes]:
        """The record of each image: empty where it has none."""
        return [way.record if isinstance(way, Fallback) else b"" for way in self.ways]

    def decode_latents(self, model: Model) -> None:
        """Decode the images that are coded by latents."""
        if not self.by_latents.any():
            return
        if self.shape != model.image_shape or not model.has_latents:
            raise CorruptError("a block is of images that its model does not take; the file is damaged")
        assert self.decoder is not None
        points: Ints = np.array([way.point for way in self.ways if isinstance(way, ByLatents)])
        self.code, self.x_hat[self.by_latents] = decode_latents(self.decoder, points, model)
