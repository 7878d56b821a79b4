# SPDX-License-Identifier: MIT
"""Images of few bytes are coded at fewer pixels where that costs less, and come back from blocks of every packing."""

import numpy as np
import pytest

from smalti.codec import transform_encoder
from smalti.codec.batching import BLOCK, EACH
from smalti.codec.block import Block, ByMixing, ByTransform
from smalti.codec.block_codec import decode_block, decode_to_block, encode_as, encode_block, seal
from smalti.codec.mixing_codec import encode_mixing
from smalti.codec.payload.head import RANGE, Head
from smalti.codec.transform_codec import decode_transform, encode_transform, transform_stream
from smalti.demo.samples import draw_digits
from smalti.errors import CorruptError
from smalti.model.bundle import load_model
from smalti.model.transform.reduction import FINER, LAST_LEVEL, enlarged, possible_at
from smalti.model.transform.transform import step_of
from smalti.types import shape_of

COLOUR = load_model("colour")
RNG = np.random.default_rng(8)
EVERY = [
    (level, reduction)
    for level in range(LAST_LEVEL + 1)
    for reduction in range(len(FINER))
    if possible_at(np.array([level]), reduction)[0]
]


def pictures(n: int, h: int, w: int, c: int, detail: float = 0) -> np.ndarray:
    """Return blurred images (`n h w c`, or `n h w` if c is 1), with a hole if they have alpha."""
    y, x = np.mgrid[:h, :w]
    phases = RNG.uniform(0, 6, (n, c, 2, 1, 1))
    waves = 128 + 100 * np.sin(x / 9 + phases[:, :, 0]) * np.cos(y / 11 + phases[:, :, 1])
    found = waves.transpose(0, 2, 3, 1) + RNG.normal(0, 1, (n, h, w, c)) * detail
    found = found.clip(0, 255).astype(np.uint8)
    if c in (2, 4):
        found[..., -1] = np.where((x - w / 2) ** 2 + (y - h / 2) ** 2 < (h / 2) ** 2, 255, 0)
    return found[..., 0] if c == 1 else found


def reductions_of(block: Block) -> list[int]:
    return [way.reduction for way in block.ways if isinstance(way, ByTransform)]


def comes_back(block: Block, x: np.ndarray) -> None:
    for packing in (BLOCK, EACH):
        payload = seal(block, x, COLOUR, packing)
        np.testing.assert_array_equal(decode_block(payload.data, len(x), shape_of(x), COLOUR), block.x_hat)
        again = decode_to_block(payload.data, len(x), shape_of(x), COLOUR)
        assert again.ways == block.ways
        assert encode_as(payload.data, again, COLOUR) == payload.data
        picked = again.pick(np.arange(len(x) - 1, 0, -2))
        data = encode_as(payload.data, picked, COLOUR)
        np.testing.assert_array_equal(
            decode_block(data, len(picked), shape_of(x), COLOUR), block.x_hat[::-1][: len(picked) * 2 : 2]
        )


@pytest.mark.parametrize("passes", [0, 2])
@pytest.mark.parametrize("shape", [(40, 30, 3), (33, 17, 1), (32, 32, 4), (21, 24, 2), (9, 2, 3)])
def test_images_of_all_modes_come_back(shape, passes):
    x = pictures(7, *shape)
    x[1] = pictures(1, *shape, 60)[0]
    block = encode_transform(x, np.array([30, 34, 40, 20, 44, 50, LAST_LEVEL]), COLOUR, passes)
    assert len(set(reductions_of(block))) > 1
    comes_back(block, x)
    if shape[2] in (2, 4):
        np.testing.assert_array_equal(block.x_hat[..., -1], x[..., -1])
        assert not block.x_hat[x[..., -1] == 0].any()


def test_what_is_blurred_is_coded_at_fewer_pixels_and_what_is_not_at_all_of_them():
    blurred = encode_transform(pictures(4, 48, 48, 3), np.full(4, 34), COLOUR)
    detailed = encode_transform(pictures(4, 48, 48, 3, 60), np.full(4, 26), COLOUR)
    assert all(reductions_of(blurred))
    assert reductions_of(detailed) == [0] * 4


def test_a_smaller_image_costs_less(monkeypatch):
    x = pictures(8, 64, 64, 3, 6)
    level = 38
    few = encode_transform(x, np.full(8, level), COLOUR, 2)
    monkeypatch.setattr(transform_encoder, "MOST_LOSS", -1)
    whole = encode_transform(x, np.full(8, level), COLOUR, 2)
    assert not any(reductions_of(whole))

    def cost(block: Block) -> float:
        error = ((block.x_hat.astype(float) - x) ** 2).sum()
        return float(block.bits.sum() + error / (transform_encoder.SIZE_KAPPA * 4 ** step_of(level)))

    assert any(reductions_of(few))
    assert cost(few) < 0.9 * cost(whole)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sizes_are_chosen_for_ssim_as_well(monkeypatch, channels):
    x = pictures(6, 48, 48, channels)
    block = encode_transform(x, np.array([26, 34, 38, 45, 50, LAST_LEVEL]), COLOUR, 1, similar=True)
    assert len(set(reductions_of(block))) > 1
    assert max(way.level for way in block.ways if isinstance(way, ByTransform)) > 40
    comes_back(block, x)
    monkeypatch.setattr(transform_encoder, "MOST_LOSS", -1)
    as_it_must = encode_transform(x, np.array([26, 34, 38, 45, 50, LAST_LEVEL]), COLOUR, 1, similar=True)
    assert reductions_of(as_it_must)[:2] == [0, 0]
    assert sum(block.bits) < sum(as_it_must.bits)
    comes_back(as_it_must, x)


def test_reduced_images_stand_beside_others():
    x = pictures(6, 24, 24, 3)
    block = encode_transform(x, np.full(6, 38), COLOUR).replace(np.array([1, 4]), encode_mixing(x[[1, 4]], 0, COLOUR))
    comes_back(block, x)
    other = encode_transform(x, np.full(6, 10), COLOUR)
    joined = Block.join([block, other])
    comes_back(joined, np.concatenate([x, x]))


def test_the_number_of_a_way_takes_two_bytes_where_there_are_many():
    x = pictures(6, 16, 16, 3)
    parts = [encode_transform(x[[i]], np.array([level]), COLOUR) for i, level in enumerate((0, 20, 30, 40, LAST_LEVEL))]
    block = Block.join([*parts, encode_mixing(x[[5]], 3, COLOUR)])
    _, head, _ = Head.of(block.ways)
    assert head.streamed_ways > 256
    assert head.choice_size == 2
    comes_back(block, x)


def test_a_large_image_is_reduced_in_no_time():
    x = pictures(1, 16, 5000, 3)
    block = encode_transform(x, np.array([45]), COLOUR)
    assert reductions_of(block) != [0]
    comes_back(Block.join([block, block]), np.concatenate([x, x]))


def test_impossible_reductions_and_levels_are_refused():
    x = draw_digits(2, seed=1)[:, :20, :24]
    block = encode_transform(x, np.array([38, 50]), COLOUR)
    data = encode_block(block, COLOUR)
    assert data[1] >= 128
    at = 1
    for byte in (128, 128 + 5, 128 + 8 * 4 + 1, 255):
        with pytest.raises(CorruptError, match="impossible field"):
            decode_block(data[:at] + bytes([byte]) + data[at + 1 :], 2, shape_of(x), COLOUR)
    levels = data[at + 1 : at + 1 + RANGE.size]
    with pytest.raises(CorruptError, match="impossible field"):
        decode_block(data[: at + 1] + bytes([levels[0], LAST_LEVEL + 1]) + data[at + 3 :], 2, shape_of(x), COLOUR)
    for level, reduction in ((41, 0), (3, 2), (LAST_LEVEL, 1)):
        head = Head(range(0), range(0), range(0), range(level, level + 1), None, None)
        ways = [ByTransform(level, reduction)] * 2
        if reduction:
            _, head, _ = Head.of(ways)
        with pytest.raises(CorruptError, match="impossible"):
            decode_block(head.pack(post_filtered=False) + b"\x01\x01", 2, shape_of(x), COLOUR)


def test_bytes_that_hold_no_image_are_refused():
    x = pictures(3, 24, 24, 3)
    block, ways = encode_transform(x, np.full(3, LAST_LEVEL), COLOUR), [ByTransform(LAST_LEVEL, 4)] * 3
    assert block.ways == tuple(ways)
    assert block.transformed is not None
    stream = transform_stream(block.x_hat, block.transformed, ways, COLOUR)
    part = bytes([len(stream)]) + stream
    found, _ = decode_transform(b"\0" + part, x.shape, ways, range(3, 5), COLOUR)
    np.testing.assert_array_equal(found, block.x_hat)
    for damaged, words in (
        (b"\0" + part + b"\1", "holds no image"),
        (b"\1\1" + part, "impossible way"),
        (b"\0" + bytes([len(stream) + 1]) + stream, "ends within"),
    ):
        with pytest.raises(CorruptError, match=words):
            decode_transform(damaged, x.shape, ways, range(3, 5), COLOUR)


@pytest.mark.parametrize(("levels", "mixing", "size"), [(1, 0, 1), (43, 127, 1), (43, 126, 1), (44, 125, 2), (1, 1, 1)])
def test_the_number_of_a_way_takes_two_bytes_from_257_ways_on(levels, mixing, size):
    nothing = range(0)
    head = Head(nothing, nothing, range(mixing), range(levels), None, None, reductions=range(1, 4))
    assert (head.streamed_ways, head.choice_size) == (mixing + 3 * levels, size)


def test_gray_images_have_the_sizes_of_the_same_in_three_colours():
    gray = pictures(9, 40, 40, 1, 5)
    levels = np.array([8, 20, 26, 30, 34, 38, 41, 44, 50])
    alone = encode_transform(gray, levels, COLOUR)
    coloured = encode_transform(np.repeat(gray[..., None], 3, 3), levels, COLOUR)
    alike = [a == b for a, b in zip(reductions_of(alone), reductions_of(coloured), strict=True)]
    assert sum(alike) > 6


def test_an_image_that_was_enlarged_is_coded_small_at_the_finest_level():
    x = enlarged(pictures(3, 12, 12, 3, 25), 48, 48, 3)
    block = encode_transform(x, np.zeros(3, np.int64), COLOUR)
    assert all(reductions_of(block))
    assert all(way.level == FINER[way.reduction] for way in block.ways if isinstance(way, ByTransform))
    comes_back(block, x)
    assert reductions_of(encode_transform(x, np.full(3, 24), COLOUR, quick=True)) == [3] * 3


def test_every_way_is_known_by_its_number():
    ways = [ByTransform(*pair) for pair in EVERY] + [ByMixing(error) for error in (0, 126)]
    choices, head, _ = Head.of(ways)
    assert [head.streamed_way(choice) for choice in choices.tolist()] == ways
    assert len(set(choices.tolist())) == len(ways)


def test_damage_is_seen_or_gives_images():
    x = pictures(4, 32, 24, 4)
    block, seen = encode_transform(x, np.array([30, 36, 42, 48]), COLOUR), 0
    for packing in (BLOCK, EACH):
        data = seal(block, x, COLOUR, packing).data
        for at in range(len(data)):
            damaged = bytearray(data)
            damaged[at] ^= 1 << at % 8
            try:
                assert decode_block(bytes(damaged), 4, (32, 24, 4), COLOUR).shape == x.shape
            except CorruptError:
                seen += 1
    assert seen > 20
