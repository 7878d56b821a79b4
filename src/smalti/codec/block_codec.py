# SPDX-License-Identifier: MIT
"""The story: encode images to the payload of a block and decode it. Read this file first.

    pack:    read -> batch -> each image in one of six ways -> block: symbols -> entropy-code -> payload -> file
    unpack:  file -> payload -> entropy-decode: symbols -> each image in its way           -> write

A model of one kind of image codes by latents (`latent_codec.py`), which are best at few bytes an image, or by pixels
(`pixel_codec.py`), at more bytes. Images that no special model suits are coded by transform (`transform_codec.py`) if
they may lose something, and else by mixing (`mixing_codec.py`). Images are kept as WebP bitstreams (`webp_codec.py`) or
by the fallback (`fallback_codec.py`) where that takes fewer bytes. A `Block` (`block.py`) holds images of one shape as
they are coded, whatever their ways.

A payload is a head (`payload/head.py`), the records of images without model, the stream of images by mixing, that of
images by transform, and one more entropy-coded stream. That holds first the choice of a way for each image, then the
symbols of all images by latents (those of patches, then the spatial latents), then those of all images by pixels.

Encoding has two steps: `encode_images` makes a block, and `encode_block` writes its payload. Decoding reverses them:
`OpenBlock` (`payload/open_block.py`) reads the head, the records and the choices, then `decode_together` reads the
symbols and makes the images of them. Where images are packed each by itself, a payload holds a table and a stream for
each image (`payload/entries.py`), and `decode_entries` decodes any of them.

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
    ByMixing,
    ByTransform,
    ByWebP,
    Fallback,
    SampleSymbols,
    Symbols,
    Transformed,
    WithoutModel,
    choice_intervals,
)
from smalti.codec.fallback_codec import decode_fallback, encode_fallback, raw_record
from smalti.codec.latent_codec import block_of, encode_latents
from smalti.codec.mixing_codec import coarse_alpha, encode_mixing, mixed_images, mixer_of, mixing_stream
from smalti.codec.payload.entries import (
    CODED,
    FALLBACK,
    LONG_BYTES,
    LONG_CHECK,
    MIXED,
    SHORT_CHECK,
    WEBP,
    Entry,
    check_bytes,
    check_of,
    pack_entries,
    room,
    several_kinds,
)
from smalti.codec.payload.head import Head
from smalti.codec.payload.open_block import OpenBlock, decode_together
from smalti.codec.pixel_codec import encode_pixels, samples_bits
from smalti.codec.rdo import Effort
from smalti.codec.transform_codec import encode_transform, transform_stream, transformed_images
from smalti.codec.webp_codec import LIGHT, decode_webp, encode_webp
from smalti.core.symbols import SampleStream
from smalti.entropy.frequencies import Ints
from smalti.entropy.rans import Stream, encode_intervals
from smalti.model.model import Model
from smalti.model.operating_points import LMBDA, OperatingPoint
from smalti.model.wavefront import table_sizes
from smalti.types import Pixels, Shape
from smalti.util.binary import varint
from smalti.util.parallel import in_order

LEAST_WEBP = 12
"""The bytes of a fallback record up to which an image is not tried as WebP, whose smallest record takes as much."""
MOST_AT_SIGHT = 0.9
"""An image that takes this share of its samples in bytes with a model is noise."""


def encode_images(parts: Sequence[Pixels], point: OperatingPoint, model: Model, effort: Effort) -> list[Block]:
    """Encode each of `parts` (images, `n h w` or `n h w c`) as a block, all at an operating point of the model."""
    if point.transform:
        levels = [np.full(len(x), point.setting) for x in parts]
        work = zip(parts, levels, strict=True)
        how = functools.partial(encode_transform, quick=effort.quick, similar=effort.similar)
        return [how(x, some, model, effort.passes, alpha_error=effort.alpha_error) for x, some in work]
    if point.pixels and model.mixer is not None:
        return [encode_mixing(coarse_alpha(x, effort.alpha_error), point.setting, model) for x in parts]
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


def way_without_model(
    image: Pixels, effort: Effort, *, max_error: int = 0, largest_mse: float = 0.0, rival: float | None = None
) -> WithoutModel:
    """Return the way without model in which an image (`h w` or `h w c`) takes the fewest bytes.

    No sample is off by more than `max_error`, or the mean squared error (on pixels in [0, 1]) is at most `largest_mse`.
    An image with alpha is kept exactly.

    rival: the bytes that the image takes with a model, if that is known; then slow ways are tried where they may help.
    """
    if image.ndim == 3 and image.shape[2] in (2, 4):
        max_error, largest_mse = 0, 0.0
    record = encode_fallback(image, max_error=max_error, largest_mse=largest_mse)
    ways: list[WithoutModel] = [Fallback(record)]
    tried = [decode_fallback(record, 0, image.shape)[0]]
    if (tried[0] != image).any():  # it may take fewer bytes to keep it exactly
        ways.append(Fallback(encode_fallback(image)))
        tried.append(image)
    if min(len(way.record) for way in ways) > LEAST_WEBP:
        found = (encode_webp(some, thorough=effort.thorough, rival=rival) for some in tried)
        ways += [ByWebP(bitstream) for bitstream in found if bitstream is not None]
    return min(ways, key=lambda way: len(way.record))


def way_at_sight(image: Pixels, rival: float) -> WithoutModel | None:
    """Return a way without model in which an image (`h w` or `h w c`) takes fewer bytes, if little work finds one.

    rival: the bytes that the image takes with a model. Only noise and what is tiny is tried otherwise than as WebP.
    """
    bitstream, ways = encode_webp(image, settings=LIGHT), list[WithoutModel]()
    if bitstream is not None:
        ways.append(ByWebP(bitstream))
    if bitstream is None or not LEAST_WEBP < rival < MOST_AT_SIGHT * image.size:
        ways.append(Fallback(encode_fallback(image)))
    best = min(ways, key=lambda way: len(way.record))
    return best if len(best.record) < rival else None


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
    streams: list[Stream | SampleStream] = [choice_intervals(choices, head.ways).stream()]
    if block.patches is not None:
        streams += [block.patches.intervals(model.grid).stream(), block.spatial.stream()]
    if head.errors:
        streams.append(block.samples.stream(table_sizes(head.errors.start)))
    start = head.pack(post_filtered=block.post_filtered) + b"".join(records)
    if head.mixing:
        mixed = block.mixed
        if mixed is None:
            rows, errors = mixed_images(block.ways)
            flags = [way.drawn for way in block.ways if isinstance(way, ByMixing)]
            known = [flag for flag in flags if flag is not None]
            drawn = known if len(known) == len(rows) else None
            mixed, _ = mixing_stream(block.x_hat[rows], errors, mixer_of(model), drawn)
        start += varint(len(mixed)) + mixed
    if block.transformed is not None:
        rows, ways = transformed_images(block.ways)
        stream = transform_stream(block.x_hat[rows], block.transformed, ways, model)
        start += varint(len(stream)) + stream
    return start + encode_intervals(streams)


def encode_each(block: Block, model: Model) -> bytes:
    """Encode a block to a payload in which each image has a stream or a record of its own, and a check."""
    choices, head, _ = Head.of(block.ways)
    bits = LONG_CHECK if block.bits.mean() >= 8 * LONG_BYTES else SHORT_CHECK
    streams, kinds, images = _streams_of_images(block, head, choices, model), list[int](), list[bytes]()
    by_transform = 0
    for i, (way, image) in enumerate(zip(block.ways, block.x_hat, strict=True)):
        check = check_of(image, bits)
        if isinstance(way, WithoutModel):
            kinds.append(FALLBACK if isinstance(way, Fallback) else WEBP)
            images.append(way.record + check.to_bytes(check_bytes(bits), "little"))
        elif isinstance(way, ByMixing | ByTransform):
            kinds.append(MIXED)
            which = head.streamed_choice(way).to_bytes(head.choice_size, "little")
            if isinstance(way, ByTransform):
                assert block.transformed is not None
                mine, by_transform = block.transformed.pick(np.array([by_transform])), by_transform + 1
                own = transform_stream(image[None], mine, [way], model)
            elif way.alone is not None:
                own = way.alone
            else:
                own, _ = mixing_stream(image[None], np.array([way.max_error]), mixer_of(model))
            images.append(which + own + check.to_bytes(check_bytes(bits), "little"))
        else:
            kinds.append(CODED)
            images.append(encode_intervals([part[i] for part in streams], check))
    start = head.pack(post_filtered=block.post_filtered, entries=True)
    return pack_entries(start, bits, kinds if several_kinds(head) else None, images)


def _streams_of_images(block: Block, head: Head, choices: Ints, model: Model) -> list[list[Stream]]:
    """Return the symbols of each image (`n`) as it is coded alone: those of its choice, by latents, and by pixels."""
    coded = np.array([not isinstance(way, WithoutModel | ByMixing | ByTransform) for way in block.ways])
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
    blocks = [OpenBlock.of_payload(*payload) for payload in payloads]
    decode_together(blocks, model)
    return [block.x_hat for block in blocks]


def decode_entries(entries: Sequence[Entry], model: Model) -> list[Pixels]:
    """Decode single images (`h w` or `h w c` each) of payloads whose images have entries; each is checked.

    Raises:
        CorruptError: an image is damaged.
    """
    blocks = [OpenBlock.of_entry(entry) for entry in entries]
    decode_together(blocks, model)
    return [block.x_hat[0] for block in blocks]


def decode_to_block(payload: bytes, n: int, shape: Shape, model: Model) -> Block:
    """Decode a payload to a block, whose images can be selected and encoded again with the same pixels.

    Raises:
        CorruptError: the payload is damaged.
    """
    block = OpenBlock.of_payload(payload, n, shape)
    decoded_samples = decode_together([block], model, record=True)
    bits = np.array([8.0 * len(record) for record in block.all_records])
    patches, spatial, samples = None, Symbols.none(n), SampleSymbols.none(n)
    if (code := block.code) is not None:
        coded = block_of(code, model)
        bits[block.by_latents], patches = coded.bits, coded.patches
        spatial = coded.spatial.spread(block.by_latents)
    if decoded_samples is not None:
        bits[block.by_pixels] = samples_bits(decoded_samples, block.least)
        samples = decoded_samples.spread(block.by_pixels)
    for rows, stream in block.mixed:
        bits[rows] = 8 * len(stream) / len(rows)
    for rows, stream in block.transformed:
        bits[rows] = 8 * len(stream) / len(rows)
    coefficients = tuple(block.coefficients[i] for i in sorted(block.coefficients))
    transformed = Transformed(coefficients) if coefficients else None
    ways = tuple(block.ways)
    return Block(ways, block.x_hat, bits, patches, spatial, samples, block.post_filtered, transformed=transformed)
