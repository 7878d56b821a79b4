# SPDX-License-Identifier: MIT
"""Code images by context mixing, losslessly or near-losslessly: encode and decode side by side.

    encode:  images -> levels -> bits, each with a probability -> stream
    decode:  images <- levels <- bits                          <- stream

The images of a stream teach each other: what follows in a context is counted, and the counters know it for the next
image. So images are coded in order, and a stream is decoded from its start.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smalti.codec.block import Block, ByMixing, SampleSymbols, Symbols, Way
from smalti.entropy.frequencies import Ints
from smalti.errors import CorruptError
from smalti.model.mixing.engine import mixing_decoder, mixing_encoder
from smalti.model.mixing.mixer import LEAST_BITS, Mixer
from smalti.model.model import Model
from smalti.types import Pixels
from smalti.util.parallel import go_on, in_order

MOST_BITS, LARGEST_BITS = 19, 21
"""A state has four lines of counters for each pixel, but 2^14 at least and 2^19 at most; for more pixels than these, it
has one line for each, but 2^21 at most. A line takes 64 bytes."""
TONE, DRAWN = 0.3, 0.6
"""An opaque image is of continuous tone if at most this share of its pixels is like one nearby, and drawn if more than
that is; what lies between is tried both ways."""
CUT_OUT = 0.2
"""An image that is transparent somewhere is drawn if more than this share is; else it is tried both ways."""
REPEATED = 0.6
"""An image is not surely of continuous tone if this share of its pixels has a colour that another one has."""
AT_SIGHT, CUT_OUT_AT_SIGHT = 0.22, 0.02
"""The same, where nothing is tried, for opaque images and for others."""
NEAR = ((1, 0), (0, 1), (1, 1), (1, -1), (2, 0), (0, 2))
"""Pixels nearby: rows above and columns to the left."""


def encode_mixing(x: Pixels, max_error: int, model: Model, *, alone: bool = False) -> Block:
    """Encode images (`n h w` or `n h w c`) as a block by mixing; no sample is off by more than `max_error`.

    Alpha is always kept exactly.

    alone: whether each image is coded by itself, or all of them share a stream.
    """
    n, errors = len(x), np.full(len(x), max_error)
    x_hat, mixer, stream = to_levels(x, max_error), mixer_of(model), None
    if alone:
        streams = list(in_order(lambda image: mixing_stream(image[None], errors[:1], mixer)[0], x_hat))
        ways: tuple[Way, ...] = tuple(ByMixing(max_error, own) for own in streams)
        bits = 8.0 * np.array([len(own) for own in streams])
    else:
        drawn = which_are_drawn(x_hat, errors, mixer)
        ways = tuple(ByMixing(max_error, drawn=flag) for flag in drawn)
        stream, bits = mixing_stream(x_hat, errors, mixer, drawn)
    return Block(ways, x_hat, bits, None, Symbols.none(n), SampleSymbols.none(n), post_filtered=False, mixed=stream)


def mixing_stream(
    x_hat: Pixels, errors: Ints, mixer: Mixer, drawn: Sequence[bool] | None = None
) -> tuple[bytes, NDArray[np.float64]]:
    """Return the stream of images that are levels already, and the bits that each takes (`n`).

    drawn: which of them are coded as drawn ones, where that is known already.
    """
    encoder, sizes = mixing_encoder(mixer, state_bits(x_hat.shape, mixer)), [0]
    flags = which_are_drawn(x_hat, errors, mixer) if drawn is None else drawn
    for image, error, flag in zip(x_hat, errors.tolist(), flags, strict=True):
        go_on()
        encoder.encode(_channels_last(image), 2 * error + 1, drawn=flag)
        sizes.append(encoder.size)
    stream = encoder.finish()
    sizes[-1] = max(len(stream), sizes[-1])
    return stream, np.diff(np.array(sizes, np.float64)) * 8


def which_are_drawn(x_hat: Pixels, errors: Ints, mixer: Mixer) -> list[bool]:
    """Say which images that are levels already take fewer bytes as drawn ones."""
    if mixer.uses.is_quick:
        found: list[bool] = drawn_at_sight(x_hat).tolist()
        return found
    return list(in_order(lambda one: is_drawn(one[0], mixer, 2 * one[1] + 1), zip(x_hat, errors.tolist(), strict=True)))


def decode_mixing(stream: bytes, shape: tuple[int, ...], errors: Ints, mixer: Mixer) -> Pixels:
    """Decode the images (`n h w` or `n h w c`, which `shape` is) of a stream.

    Raises:
        CorruptError: the stream does not end with its last image.
    """
    h, w = shape[1:3]
    decoder, x_hat = mixing_decoder(mixer, state_bits(shape, mixer), stream), np.empty(shape, np.uint8)
    for i, error in enumerate(errors.tolist()):
        go_on()
        x_hat[i] = decoder.decode((h, w, shape[3] if len(shape) == 4 else 1), 2 * error + 1).reshape(shape[1:])
    decoder.finish()
    return x_hat


def mixed_images(ways: Sequence[Way]) -> tuple[Ints, Ints]:
    """Return the numbers of the images that are coded by mixing, and their largest errors."""
    found = [(i, way.max_error) for i, way in enumerate(ways) if isinstance(way, ByMixing)]
    return np.array([i for i, _ in found], np.int64), np.array([error for _, error in found], np.int64)


def state_bits(shape: tuple[int, ...], mixer: Mixer) -> int:
    """Return the logarithm of the lines of a state for images of `shape` (n h w, or n h w c)."""
    pixels = int(np.prod(shape[:3]))
    log2 = (pixels - 1).bit_length()
    return min(max(log2 + 2, LEAST_BITS), max(MOST_BITS, min(log2, LARGEST_BITS)), mixer.uses.bits)


def is_drawn(image: Pixels, mixer: Mixer, step: int = 1) -> bool:
    """Say whether an image (`h w` or `h w c`) takes fewer bytes as a drawn one: with flat areas, edges, few colours."""
    if mixer.uses.is_quick:
        return bool(drawn_at_sight(image[None])[0])
    colours = np.ascontiguousarray(image.reshape(*image.shape[:2], -1))
    pixels = colours.astype(np.uint32) @ (np.uint32(1) << np.arange(0, 8 * colours.shape[2], 8, dtype=np.uint32))
    alpha = colours[..., -1] if colours.shape[2] in (2, 4) else np.full(pixels.shape, 255, np.uint8)
    seen = alpha > 0
    if not seen.any():
        return True
    near = _like_nearby(pixels)[seen].mean()
    opaque = bool((alpha == 255).all())
    repeated = 1 - len(np.unique(pixels[seen])) / seen.sum() if colours.shape[2] > 2 else 0.0
    if near > (DRAWN if opaque else CUT_OUT):
        return True
    if opaque and near <= TONE and repeated <= REPEATED:
        return False
    tried = []
    for drawn in (False, True):
        encoder = mixing_encoder(mixer, state_bits((1, *image.shape[:2]), mixer))
        encoder.encode(colours, step, drawn=drawn)
        tried.append(encoder.size)
    return tried[1] < tried[0]


def drawn_at_sight(x: Pixels) -> NDArray[np.bool_]:
    """Say at little cost which images (`n h w` or `n h w c`) are drawn: with many pixels like one nearby."""
    n, h, w = x.shape[:3]
    if not n:
        return np.zeros(0, bool)
    channels = x.reshape(n, h, w, -1)
    colours = np.zeros((n, h, w, 4), np.uint8)
    colours[..., : channels.shape[3]] = channels
    pixels, found = colours.view(np.uint32)[..., 0], np.zeros((n, h, w), bool)
    for up, left in NEAR:
        here, there = slice(max(left, 0), w + min(left, 0)), slice(max(-left, 0), w + min(-left, 0))
        found[:, up:, here] |= pixels[:, up:, here] == pixels[:, : h - up, there]
    if channels.shape[3] % 2:
        return np.asarray(found.reshape(n, -1).mean(1) > AT_SIGHT)
    seen = channels[..., -1] > 0
    near = (found & seen).reshape(n, -1).sum(1) / np.maximum(seen.reshape(n, -1).sum(1), 1)
    opaque = (channels[..., -1] == 255).reshape(n, -1).all(1)
    flags: NDArray[np.bool_] = (near > np.where(opaque, AT_SIGHT, CUT_OUT_AT_SIGHT)) | ~seen.reshape(n, -1).any(1)
    return flags


def _like_nearby(
    pixels: NDArray[np.uint32],
) -> NDArray[np.bool_]:
    """Return which pixels (`h w`) are like one nearby that is coded before."""
    h, w = pixels.shape
    wide = np.pad(pixels, ((2, 0), (2, 1)), mode="edge")
    found = np.zeros((h, w), bool)
    for up, left in NEAR:
        found |= wide[2 - up : 2 - up + h, 2 - left : 2 - left + w] == pixels
    return found


def to_levels(x: Pixels, max_error: int) -> Pixels:
    """Return images (`n h w` or `n h w c`) whose samples are the nearest levels; alpha stays as it is."""
    if not max_error:
        return x
    step = 2 * max_error + 1
    levels = np.minimum(x.astype(np.int64) // step * step + max_error, 255).astype(np.uint8)
    if x.ndim == 4 and x.shape[3] in (2, 4):
        levels[..., -1] = x[..., -1]
    return levels


def coarse_alpha(x: Pixels, most: int) -> Pixels:
    """Return images (`n h w` or `n h w c`) whose alpha, if they have it, has few values, off by at most `most`."""
    if not most or x.ndim == 3 or x.shape[3] not in (2, 4):
        return x
    return np.concatenate([x[..., :-1], few_values(x[..., -1], most)[..., None]], -1)


def few_values(alpha: Pixels, most: int) -> Pixels:
    """Return alpha (`n h w`) with few values, none off by more than `most`; 0 and 255 stay, and no other becomes 0."""
    step = 2 * most + 1
    inner = np.minimum((alpha.astype(np.int64) - 1) // step * step + 1 + most, 254)
    return np.where((alpha == 0) | (alpha == 255), alpha, inner).astype(np.uint8)


def mixer_of(model: Model) -> Mixer:
    """Return the mixer of a model.

    Raises:
        CorruptError: it has none.
    """
    if model.mixer is None:
        raise CorruptError(
            f"a block holds images by mixing, which model {model.name} cannot decode; the file is damaged"
        )
    return model.mixer


def _channels_last(image: Pixels) -> Pixels:
    return np.ascontiguousarray(image.reshape(*image.shape[:2], -1))
