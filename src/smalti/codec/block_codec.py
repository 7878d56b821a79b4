# SPDX-License-Identifier: MIT
"""The story: encode images to the payload of a block and decode it. Read this file first.

    pack:    read -> batch -> by latents, by pixels or by fallback -> block: symbols -> entropy-code -> payload -> file
    unpack:  file -> payload -> entropy-decode: symbols -> by latents, by pixels or by fallback      -> write

An image is coded in one of three ways. At few bytes an image, latents are best (`latent_codec.py`); at more bytes, the
pixels themselves (`pixel_codec.py`); images that no model suits are kept by the fallback (`fallback_codec.py`). A
`Block` (`block.py`) holds images of one shape as they are coded, whatever their ways.

A payload is a head (`head.py`), the records of the fallback, and one entropy-coded stream. The stream holds first the
choice of a way for each image, then the symbols of all images by latents, then those of all images by pixels.

Encoding has two steps: `encode_images` makes a block, and `encode_block` writes its payload. Decoding reverses them:
`_Part` reads the head, the records and the choices, then `_decode` reads the symbols and makes the images of them.

Other wings do the rest: `exchange/` reads and writes images, `archive/` makes batches and files, and `rate/` chooses
how each image is coded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    """Encode images (`n h w` or `n h w c`) by the fallback; the errors are those of `encode_fallback`."""
    records = [encode_fallback(image, max_error=max_error, largest_mse=largest_mse) for image in x]
    return fallback_block(records, x.shape[1:])


def fallback_block(records: Sequence[bytes], shape: tuple[int, ...]) -> Block:
    """Return the block of images of `shape` (`h w` or `h w c`) that have these fallback records."""
    n = len(records)
    x_hat = np.stack([decode_fallback(record, 0, shape)[0] for record in records])
    bits = np.array([8.0 * len(record) for record in records])
    ways = tuple(map(Fallback, records))
    return Block(ways, x_hat, bits, None, Symbols.none(n), SampleSymbols.none(n), post_filtered=False)


@dataclass(frozen=True, eq=False)
class Payload:
    """The bytes of a block and the images that they decode to."""

    data: bytes
    x_hat: Pixels  # n h w or n h w c


def encode_block(block: Block, model: Model) -> bytes:
    """Encode a block to its payload: head, records and stream."""
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
        CorruptError: the payload is damaged.
    """
    return decode_images([(payload, n, shape)], model)[0]


def decode_images(payloads: Sequence[tuple[bytes, int, Shape]], model: Model) -> list[Pixels]:
    """Decode payloads to images; each payload comes with its number of images and their shape (h w c).

    Images that are coded by pixels are decoded together, which takes less time.

    Raises:
        CorruptError: a payload is damaged.
    """
    parts = [_Part(*payload) for payload in payloads]
    _decode(parts, model)
    return [part.x_hat for part in parts]


def decode_to_block(payload: bytes, n: int, shape: Shape, model: Model) -> Block:
    """Decode a payload to a block, whose images can be selected and encoded again with the same pixels.

    Raises:
        CorruptError: the payload is damaged.
    """
    part = _Part(payload, n, shape)
    decoded_samples = _decode([part], model, record=True)
    bits = np.array([8.0 * len(record) for record in part.all_records])
    patches, spatial, samples = None, Symbols.none(n), SampleSymbols.none(n)
    if part.code is not None:
        coded = block_of(part.code, model)
        bits[part.by_latents], patches = coded.bits, coded.patches
        spatial = Symbols.join([coded.spatial, Symbols.none(1)]).pick(_places(part.by_latents))
    if decoded_samples is not None:
        bits[part.by_pixels] = samples_bits(decoded_samples, part.least)
        samples = SampleSymbols.join([decoded_samples, SampleSymbols.none(1)]).pick(_places(part.by_pixels))
    return Block(tuple(part.ways), part.x_hat, bits, patches, spatial, samples, part.post_filtered)


def _places(chosen: NDArray[np.bool_]) -> Ints:
    """Return the place of each image (`n`) among the chosen ones; -1, an empty last one, where it is not chosen."""
    return np.where(chosen, np.cumsum(chosen) - 1, -1)


def _decode(parts: "Sequence[_Part]", model: Model, *, record: bool = False) -> SampleSymbols | None:
    """Decode the images of all parts, those by pixels together.

    record: whether the symbols of the images by pixels are returned; then there is one part.
    """
    samples = None
    for part in parts:
        part.decode_latents(model)
    together: dict[tuple[int, int], list[_Part]] = {}
    for part in parts:
        if part.by_pixels.any():
            together.setdefault((part.least, part.shape[2]), []).append(part)
    for (least, _), group in together.items():
        errors = [part.errors[part.by_pixels] for part in group]
        shapes = [
            (len(errors_of_part), *part.x_hat.shape[1:]) for part, errors_of_part in zip(group, errors, strict=True)
        ]
        decoders = [part.decoder for part in group if part.decoder is not None]
        quantised, samples = decode_pixels(decoders, shapes, np.concatenate(errors), least, model, record=record)
        for part, x, errors_of_part in zip(group, quantised, errors, strict=True):
            part.x_hat[part.by_pixels] = model.post_filter(x, errors_of_part) if part.post_filtered else x
    for part in parts:
        if part.decoder is not None:
            part.decoder.finish()
    return samples


class _Part:
    """A block while it is decoded: what is known of its images so far."""

    def __init__(self, payload: bytes, n: int, shape: Shape) -> None:
        h, w, c = shape
        of_image = (h, w) if c == 1 else (h, w, c)
        self.shape = shape
        self.decoder: SymbolDecoder | None = None  # of the stream, if there is one
        self.code: LatentCode | None = None  # of the images by latents, once they are decoded
        self.post_filtered, self.least = False, 0  # least: the smallest largest error of images by pixels
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
        """Read the head, the fallback records and the choice of a way for each of `n` images; open the stream."""
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
            raise CorruptError(
                "a block holds images by latents, of a shape that its model does not take; the file is damaged"
            )
        assert self.decoder is not None
        points: Ints = np.array([way.point for way in self.ways if isinstance(way, ByLatents)])
        self.code, self.x_hat[self.by_latents] = decode_latents(self.decoder, points, model)
