# SPDX-License-Identifier: MIT
"""Blocks of images whose pixels are kept, exactly or up to an error: encode and decode side by side.

    encode:  images -> planes of samples -> wavefront, symbols of known levels  -> entropy-code   -> block
    decode:  images <- planes of samples <- wavefront, levels of symbols        <- entropy-decode <- block

An image that this does not suit is plain. Where the model has no network for pixels, or one for other colours, all are.
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from smalti.bundle import Model
from smalti.entropy import SymbolDecoder, encode_symbols
from smalti.errors import CorruptError
from smalti.pixels import MAX_ERROR, NIBBLE, PixelPrior, SampleTables, Wavefront, to_levels
from smalti.plain import decode_plain, encode_plain
from smalti.tables import Ints, bits, uniform

KIND = 128
"""The first byte of such a block is this and the largest error."""
BLOCK_IMAGES, BLOCK_SAMPLES = 256, 1 << 20
"""At most, in a block: few enough to read one image fast, and not to fill the memory."""
RAW = 255
"""In its place: the images of the block follow as they are."""
HEAD = struct.Struct("<BH")

Pixels = NDArray[np.uint8]
Shape = tuple[int, ...]
Column = tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint32]]
"""Of which images, symbols, frequencies."""


def pixel_block_images(shape: tuple[int, int, int]) -> int:
    """Images a block of `shape` (h w c): as many as the encoder can well hold at once."""
    h, w, c = shape
    return max(1, min(BLOCK_IMAGES, BLOCK_SAMPLES // (h * w * c)))


def encode_pixel_block(x: Pixels, max_error: int, model: Model) -> bytes:
    """Images (`n h w` or `n h w c`) to the bytes of a block."""
    cost, parts = np.full(len(x), np.inf), list[Column]()
    prior = _prior(model, x.shape)
    if prior is not None:
        cost, parts = _columns(x, prior, max_error)
    plain = {}
    for i, image in enumerate(x):
        if _unlike(image, cost[i] / 8):
            record = encode_plain(image, max_error=max_error)
            if 8 * len(record) < cost[i]:
                plain[i] = record
    modelled = np.array([i not in plain for i in range(len(x))])
    columns = [(symbols[modelled[of]], frequencies[modelled[of]]) for of, symbols, frequencies in parts]
    head = HEAD.pack(KIND + max_error, len(plain)) + b"".join(plain[i] for i in sorted(plain))
    if 0 < len(plain) < len(x):
        choices = np.array([i in plain for i in range(len(x))], np.int64)
        columns.insert(0, (choices, uniform(len(x), 2)))
    return min(bytes([RAW]) + x.tobytes(), head + encode_symbols(columns), key=len)


def _unlike(image: Pixels, size: float) -> bool:
    """Whether an image that the model codes in `size` bytes may take fewer without it; a guess that costs little."""
    return size > image.size / 2 or len(zlib.compress(image.tobytes(), 1)) < 1.3 * size + 20


def _columns(x: Pixels, prior: PixelPrior, max_error: int) -> tuple[NDArray[np.float64], list[Column]]:
    """What each image costs (`n`, bits), and the columns: of which images, symbols, frequencies."""
    planes = _planes(x, prior)
    n = len(planes)
    cost, columns = np.zeros(len(x)), []
    image = np.arange(n) // (n // len(x))
    wavefront = Wavefront(prior, planes.shape, max_error)
    levels = to_levels(planes, max_error)
    for rows, places, mixture in wavefront.steps():
        mine = levels[:, rows, places].T.ravel()  # k*n
        of = np.tile(image, len(rows))
        for part, symbols, frequencies in _symbols(SampleTables(prior.logistics, mixture, max_error), mine):
            cost += np.bincount(of[part], bits(frequencies, symbols), minlength=len(x))
            small = of[part].astype(np.uint16), symbols.astype(np.uint8), frequencies.astype(np.uint32)
            columns.append(small)
        wavefront.take(rows, places, mine)
    return cost, columns


def _symbols(tables: SampleTables, levels: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Of samples with those levels: which samples, symbols, frequencies, thrice."""
    every = np.arange(len(levels))
    yield every, (levels > 0).astype(np.int64), tables.of_zeros()
    rest = np.flatnonzero(levels)
    if len(rest):
        tables.keep(rest)
        nibbles, last = levels[rest] // NIBBLE, levels[rest] % NIBBLE
        yield rest, nibbles, tables.of_nibbles()
        yield rest, last, tables.of_rest(nibbles)


def decode_pixel_block(payload: bytes, n: int, shape: tuple[int, int, int], model: Model) -> Pixels:
    """The bytes of a block to its `n` images of `shape` (h w c).

    Raises:
        CorruptError: they are no such block.
    """
    h, w, c = shape
    of_image: Shape = (h, w) if c == 1 else (h, w, c)
    if payload[:1] == bytes([RAW]) and len(payload) == 1 + n * h * w * c:
        return np.frombuffer(payload[1:], np.uint8).reshape(n, *of_image)
    if len(payload) < HEAD.size:
        raise CorruptError("a block ends within its head; the file is damaged")
    kind, plain = HEAD.unpack_from(payload)
    if not KIND <= kind <= KIND + MAX_ERROR or plain > n:
        raise CorruptError("the head of a block has an impossible field; the file is damaged")
    records, at = [], HEAD.size
    for _ in range(plain):
        image, at = decode_plain(payload, at, of_image)
        records.append(image)
    decoder = SymbolDecoder(payload[at:])
    is_plain = np.full(n, plain == n)
    if 0 < plain < n:
        is_plain = decoder.take(uniform(n, 2)) == 1
    if is_plain.sum() != plain:
        raise CorruptError("a block does not hold the plain images that it claims; the file is damaged")
    x = np.empty((n, *of_image), np.uint8)
    if plain < n:
        prior = _prior(model, x.shape)
        if prior is None:
            raise CorruptError("a block needs a lossless model that its bundle does not have; the file is damaged")
        x[~is_plain] = _decode(decoder, (n - plain, *of_image), prior, kind - KIND)
    if plain:
        x[is_plain] = records
    decoder.finish()
    return x


def _decode(decoder: SymbolDecoder, shape: Shape, prior: PixelPrior, max_error: int) -> Pixels:
    planes = _planes(np.empty(shape, np.uint8), prior).shape
    wavefront = Wavefront(prior, planes, max_error)
    for rows, places, mixture in wavefront.steps():
        tables = SampleTables(prior.logistics, mixture, max_error)
        levels = decoder.take(tables.of_zeros())
        rest = np.flatnonzero(levels)
        if len(rest):
            tables.keep(rest)
            nibbles = decoder.take(tables.of_nibbles())
            found = nibbles * NIBBLE + decoder.take(tables.of_rest(nibbles))
            if found.max() >= tables.levels or not found.all():
                raise CorruptError("a sample has a level that there is not; the file is damaged")
            levels[rest] = found
        wavefront.take(rows, places, levels)
    return _images(wavefront.samples, shape, prior)


def _prior(model: Model, shape: Shape) -> PixelPrior | None:
    """The network for images (`n h w` or `n h w c`), if there is one: one for gray ones takes channel by channel."""
    channels = shape[3] if len(shape) == 4 else 1
    prior = model.pixels
    return prior if prior is not None and prior.window.channels in (1, channels) else None


def _planes(x: Pixels, prior: PixelPrior) -> Pixels:
    """Images to samples in rows, `n h m`: channels of a pixel side by side, or as images of their own."""
    if x.ndim == 3:
        return x
    n, h, w, c = x.shape
    return x.reshape(n, h, w * c) if prior.window.channels == c else x.transpose(0, 3, 1, 2).reshape(n * c, h, w)


def _images(planes: Pixels, shape: Shape, prior: PixelPrior) -> Pixels:
    """The inverse of `_planes`."""
    if len(shape) == 3 or prior.window.channels == shape[3]:
        return planes.reshape(shape)
    n, h, w, c = shape
    return planes.reshape(n, c, h, w).transpose(0, 2, 3, 1)
