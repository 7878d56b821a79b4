# SPDX-License-Identifier: MIT
"""Images by transform come back from blocks of every packing, alone and beside images in other ways."""

from dataclasses import replace

import numpy as np
import pytest

from smalti.codec.batching import BLOCK, EACH
from smalti.codec.block import Block, ByTransform
from smalti.codec.block_codec import decode_block, decode_to_block, encode_as, encode_block, seal
from smalti.codec.mixing_codec import encode_mixing
from smalti.codec.payload.head import Head
from smalti.codec.transform_codec import encode_transform
from smalti.errors import CorruptError
from smalti.model.bundle import load_model
from smalti.types import shape_of

COLOUR = load_model("colour")


def images(n: int, h: int, w: int, c: int) -> np.ndarray:
    """Return smooth images (`n h w c`, or `n h w` if c is 1), with a hole if they have alpha."""
    rng, (y, x) = np.random.default_rng(3), np.mgrid[:h, :w]
    waves = [
        128 + 100 * np.sin(x / rng.uniform(3, 9) + rng.uniform(0, 6)) * np.cos(y / rng.uniform(3, 9))
        for _ in range(n * c)
    ]
    found = np.stack(waves).reshape(n, c, h, w).transpose(0, 2, 3, 1)
    found = np.clip(found + rng.normal(0, 4, found.shape), 0, 255).astype(np.uint8)
    if c in (2, 4):
        found[..., -1] = np.where((x - w / 2) ** 2 + (y - h / 2) ** 2 < (h / 2) ** 2, 255, 0)
    return found[..., 0] if c == 1 else found


def both_ways(block: Block, x: np.ndarray) -> None:
    for packing in (BLOCK, EACH):
        payload = seal(block, x, COLOUR, packing)
        np.testing.assert_array_equal(decode_block(payload.data, len(x), shape_of(x), COLOUR), payload.x_hat)
        if payload.raw:  # which took fewer bytes
            assert (payload.x_hat == x).all()
            continue
        np.testing.assert_array_equal(payload.x_hat, block.x_hat)
        again = decode_to_block(payload.data, len(x), shape_of(x), COLOUR)
        assert again.ways == block.ways
        assert encode_as(payload.data, again, COLOUR) == payload.data


@pytest.mark.parametrize("shape", [(20, 30, 3), (9, 7, 1), (16, 16, 4), (5, 12, 2), (1, 1, 3)])
def test_images_of_all_modes_come_back(shape):
    x = images(5, *shape)
    block = encode_transform(x, np.array([3, 20, 20, 31, 40]), COLOUR)
    both_ways(block, x)
    if shape[2] in (2, 4):
        np.testing.assert_array_equal(block.x_hat[..., -1], x[..., -1])
        assert not block.x_hat[x[..., -1] == 0].any()


def test_more_bytes_make_less_error():
    x = images(6, 32, 32, 3)
    blocks = [encode_transform(x, np.full(6, level), COLOUR) for level in (40, 30, 20, 10, 0)]
    errors = [float(((block.x_hat.astype(float) - x) ** 2).mean()) for block in blocks]
    assert errors == sorted(errors, reverse=True)
    rates = [block.bits.sum() for block in blocks]
    assert rates == sorted(rates)
    assert 8 < errors[-1] < 9.5  # by these seeds, whatever ran before; the noise alone is 16
    sizes = [8 * len(encode_block(block, COLOUR)) for block in blocks]
    assert all(abs(size - rate) < 100 for size, rate in zip(sizes, rates, strict=True))


def test_images_by_transform_stand_beside_others():
    x = images(6, 24, 24, 3)
    block = encode_transform(x, np.full(6, 15), COLOUR).replace(np.array([1, 4]), encode_mixing(x[[1, 4]], 0, COLOUR))
    block = block.replace(np.array([2]), encode_mixing(x[[2]], 3, COLOUR))
    both_ways(block, x)
    np.testing.assert_array_equal(block.x_hat[[1, 4]], x[[1, 4]])
    picked = block.pick(np.array([5, 2, 1, 0]))
    np.testing.assert_array_equal(picked.x_hat, block.x_hat[[5, 2, 1, 0]])
    both_ways(picked, x[[5, 2, 1, 0]])
    joined = Block.join([picked, block])
    both_ways(joined, np.concatenate([x[[5, 2, 1, 0]], x]))


def test_what_alpha_hides_costs_nothing():
    x = images(4, 32, 32, 4)
    noisy = x.copy()
    noisy[..., :3] = np.where(
        x[..., 3:] == 0, np.random.default_rng(4).integers(0, 256, noisy[..., :3].shape), noisy[..., :3]
    )
    plain, other = (encode_transform(some, np.full(4, 12), COLOUR) for some in (x, noisy))
    assert (plain.bits == other.bits).all()
    np.testing.assert_array_equal(plain.x_hat, other.x_hat)


def test_a_damaged_stream_gives_an_error_or_other_pixels():
    x = images(3, 16, 24, 4)
    block = encode_transform(x, np.full(3, 10), COLOUR)
    data = encode_block(block, COLOUR)
    for at in range(0, len(data), 5):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        try:
            found = decode_block(bytes(damaged), 3, (16, 24, 4), COLOUR)
        except CorruptError:
            continue
        assert (found != block.x_hat).any()
    for end in range(0, len(data), 7):
        try:
            found = decode_block(data[:end], 3, (16, 24, 4), COLOUR)
        except CorruptError:
            continue
        assert (found != block.x_hat).any()


def test_a_model_without_a_transform_refuses_its_images():
    x = images(2, 8, 8, 3)
    data = encode_block(encode_transform(x, np.array([3, 3]), COLOUR), COLOUR)
    with pytest.raises(CorruptError, match="by transform"):
        decode_block(data, 2, (8, 8, 3), replace(COLOUR, transform=None))


def test_an_impossible_level_is_refused():
    head = Head.of([ByTransform(40)])[1].pack(post_filtered=False)
    with pytest.raises(CorruptError, match="impossible"):
        Head.unpack(head[:-1] + bytes([41]), 1)
