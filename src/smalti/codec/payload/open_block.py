# SPDX-License-Identifier: MIT
"""Decode blocks: read what a payload says before its symbols, then the symbols, those of many images together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smalti.codec.batching import EACH, RAW, packing_of
from smalti.codec.block import ByLatents, ByMixing, ByPixels, ByTransform, ByWebP, Fallback, SampleSymbols, Way
from smalti.codec.fallback_codec import decode_fallback, raw_record
from smalti.codec.latent_codec import decode_latents
from smalti.codec.mixing_codec import decode_mixing, mixed_images, mixer_of
from smalti.codec.payload.entries import CODED, MIXED, WEBP, Entry, check_of, unpack_entries
from smalti.codec.payload.head import Head
from smalti.codec.pixel_codec import decode_pixels
from smalti.codec.rdo import LatentCode
from smalti.codec.transform_codec import decode_transform, transformed_images
from smalti.codec.webp_codec import decode_webp
from smalti.entropy.frequencies import Ints, uniform
from smalti.entropy.rans import SeveralStreams, SymbolDecoder
from smalti.errors import CorruptError
from smalti.model.model import Model
from smalti.types import Pixels, Shape
from smalti.util.binary import read_varint
from smalti.util.parallel import in_order


class OpenBlock:
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
        self.mixed = list[tuple[Ints, bytes]]()  # streams by mixing, each with the numbers of its images
        self.transformed = list[tuple[Ints, bytes]]()  # streams by transform, likewise
        self.reductions: range | None = None  # those of a stream by transform of all images
        self.coefficients: dict[int, NDArray[np.int16]] = {}  # of the images by transform, once they are decoded
        self._code: LatentCode | None = None  # of the images by latents, if they share a stream
        self._checks, self._bits = list[int | None](), 0

    @staticmethod
    def of_payload(payload: bytes, n: int, shape: Shape) -> "OpenBlock":
        """Open a payload of `n` images of `shape` (h w c).

        Raises:
            CorruptError: it is damaged.
        """
        block, first = OpenBlock(shape, n), payload[:1]
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
    def of_entry(entry: Entry) -> "OpenBlock":
        """Open one image.

        Raises:
            CorruptError: it is damaged.
        """
        block = OpenBlock(entry.shape, 1)
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
        self.post_filtered, self.least, self.reductions = head.post_filtered, head.errors.start, head.reductions
        records, images, at = list[bytes](), list[Pixels](), head.size
        decoders = [decode_fallback] * (head.fallbacks or 0) + [decode_webp] * (head.webps or 0)
        for decode in decoders:
            image, end = decode(payload, at, of_image)
            records.append(payload[at:end])
            images.append(image)
            at = end
        streams = list[bytes]()
        for offered in (head.mixing, head.transform):
            size, at = read_varint(payload, at) if offered else (0, at)
            streams.append(payload[at : at + size])
            at += size
            if at > len(payload):
                raise CorruptError("a block ends within a stream by mixing or by transform; the file is damaged")
        self.shared = SymbolDecoder(payload[at:])
        self.ways = head.ways_of(self.shared.take(uniform(n, head.ways)), records)
        for kind, some in ((Fallback, images[: head.fallbacks or 0]), (ByWebP, images[head.fallbacks or 0 :])):
            if some:
                self.x_hat[[isinstance(way, kind) for way in self.ways]] = some
        for stream, (rows, _), found in zip(
            streams,
            (mixed_images(self.ways), transformed_images(self.ways)),
            (self.mixed, self.transformed),
            strict=True,
        ):
            if len(rows):
                found.append((rows, stream))
            elif stream:
                raise CorruptError("a block has a stream that holds no image; the file is damaged")

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
            self.own.append(None)
            self._checks.append(check)
            if entry.kind == MIXED:
                self._open_mixed(i, record, head)
                continue
            decode = decode_webp if entry.kind == WEBP else decode_fallback
            self.x_hat[i], end = decode(record, 0, self.x_hat.shape[1:])
            if end != len(record):
                raise CorruptError("a record does not end where it should; the file is damaged")
            self.ways.append(ByWebP(record) if entry.kind == WEBP else Fallback(record))

    def _open_mixed(self, i: int, record: bytes, head: Head) -> None:
        """Open the stream by mixing or by transform of image `i` alone, behind the number of its way."""
        size = head.choice_size
        choice = int.from_bytes(record[:size], "little")
        if len(record) < size or choice >= head.streamed_ways:
            raise CorruptError("an image is coded in an impossible way; the file is damaged")
        way = head.streamed_way(choice)
        self.ways.append(way)
        of_kind = self.transformed if isinstance(way, ByTransform) else self.mixed
        of_kind.append((np.array([i]), record[size:]))

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

    def decode_streams(self, model: Model) -> None:
        """Decode the images that are coded by mixing and by transform.

        Raises:
            CorruptError: the model cannot do it, or a stream is damaged.
        """
        for rows, stream in self.transformed:
            ways = [way for way in (self.ways[i] for i in rows) if isinstance(way, ByTransform)]
            reductions = self.reductions or range(ways[0].reduction, ways[0].reduction + 1)
            shape = (len(rows), *self.x_hat.shape[1:])
            self.x_hat[rows], coded = decode_transform(stream, shape, ways, reductions, model)
            self.coefficients |= dict(zip(rows.tolist(), coded, strict=True))
        for rows, stream in self.mixed:
            errors = np.array([way.max_error for way in (self.ways[i] for i in rows) if isinstance(way, ByMixing)])
            shape = (len(rows), *self.x_hat.shape[1:])
            self.x_hat[rows] = decode_mixing(stream, shape, errors, mixer_of(model))

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


def decode_together(blocks: "Sequence[OpenBlock]", model: Model, *, record: bool = False) -> SampleSymbols | None:
    """Decode the images of all blocks, those by pixels together, and those that have streams of their own.

    record: whether the symbols of the images by pixels are returned; then there is one block.
    """
    samples = None
    for block in blocks:
        block.decode_shared_latents(model)
    for _ in in_order(
        lambda block: block.decode_streams(model), [block for block in blocks if block.mixed or block.transformed]
    ):
        pass
    _decode_own_latents(blocks, model)
    together: dict[tuple[int, int], list[OpenBlock]] = {}
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


def _decode_own_latents(blocks: "Sequence[OpenBlock]", model: Model) -> None:
    """Decode the images by latents that have streams of their own, those of one operating point together."""
    jobs: dict[int, list[tuple[OpenBlock, int, SymbolDecoder]]] = {}
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
