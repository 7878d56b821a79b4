# SPDX-License-Identifier: MIT
"""Images with streams of their own: each comes back, checked, and none needs another."""

import numpy as np
import pytest
from engines import KERNELS, engine
from hypothesis import given
from hypothesis import strategies as st

from smalti.codec.block import Block
from smalti.codec.block_codec import (
    decode_block,
    decode_entries,
    decode_to_block,
    encode_block,
    encode_each,
    encode_exactly,
    encode_without_model,
)
from smalti.codec.latent_codec import encode_latents
from smalti.codec.payload.entries import CODED, FALLBACK, WEBP, Entry, check_of, pack_entries, room, unpack_entries
from smalti.codec.payload.head import Head
from smalti.entropy.rans import encode_intervals
from smalti.errors import CorruptError
from smalti.rate.target import effort_of

SHAPE = (28, 28, 1)


@pytest.fixture(scope="module")
def block(digits, lossless) -> Block:
    """Twelve images in all ways: by latents of two operating points, by pixels of two errors, and without a model."""
    few, exactly = digits[:2], [encode_exactly([digits[i : i + 2]], i // 2, lossless)[0] for i in (0, 2)]
    latents = [encode_latents(few, np.full(2, point), lossless, effort_of(1)) for point in (10, 40)]
    striped = np.tile(np.arange(28, dtype=np.uint8) % 7 * 36, (4, 28, 1)) + np.arange(4, dtype=np.uint8)[:, None, None]
    return Block.join([*exactly, *latents, encode_without_model(striped, effort_of(5))])


def entries_of(payload: bytes, n: int) -> list[Entry]:
    return Entry.all_of(payload, unpack_entries(payload, n, len(payload)), SHAPE)


@pytest.mark.parametrize("name", ["numpy", *KERNELS[-1:]])
def test_each_image_comes_back_alone_and_with_all_others(name, block, lossless):
    with engine(name):
        payload = encode_each(block, lossless)
        assert (decode_block(payload, len(block), SHAPE, lossless) == block.x_hat).all()
        for entry, image in zip(entries_of(payload, len(block)), block.x_hat, strict=True):
            (alone,) = decode_entries([entry], lossless)
            assert (alone == image).all()


def test_engines_write_the_same_bytes(block, lossless):
    payloads = []
    for name in ("numpy", *KERNELS):
        with engine(name):
            payloads.append(encode_each(block, lossless))
    assert len(set(payloads)) == 1


def test_any_images_are_decoded_together(block, lossless):
    entries = entries_of(encode_each(block, lossless), len(block))
    rows = np.random.default_rng(0).permutation(len(block))[:7].tolist()
    for row, image in zip(rows, decode_entries([entries[row] for row in rows], lossless), strict=True):
        assert (image == block.x_hat[row]).all()


def test_images_go_from_one_packing_to_the_other_and_back(block, lossless):
    each, shared = encode_each(block, lossless), encode_block(block, lossless)
    for payload in (each, shared):
        again = decode_to_block(payload, len(block), SHAPE, lossless)
        assert encode_each(again, lossless) == each
        assert encode_block(again, lossless) == shared
        np.testing.assert_allclose(again.bits, block.bits)


def test_an_image_is_coded_as_if_no_other_were_there(block, lossless):
    """Tables depend on the head alone, so that an image has the same bytes among few and among many."""
    rows = np.array([0, 2, 4, 6, 8])
    few = block.pick(rows)
    assert Head.of(few.ways)[1].points == Head.of(block.ways)[1].points
    every, some = entries_of(encode_each(block, lossless), len(block)), entries_of(encode_each(few, lossless), len(few))
    assert [every[row].data for row in rows] == [entry.data for entry in some]


def test_every_flipped_bit_of_an_image_is_noticed_or_changes_nothing(block, lossless):
    for entry, image in list(zip(entries_of(encode_each(block, lossless), len(block)), block.x_hat, strict=True))[::3]:
        for bit in range(0, 8 * len(entry.data), 3):
            flipped = bytearray(entry.data)
            flipped[bit // 8] ^= 1 << bit % 8
            other = Entry(entry.head, entry.bits, entry.kind, bytes(flipped), SHAPE)
            try:
                (found,) = decode_entries([other], lossless)
            except CorruptError:
                continue
            assert (found == image).all()


def test_a_check_of_20_bits_takes_nearly_no_bytes(digits, lossless):
    block = encode_exactly([digits], 0, lossless)[0]
    streams = block.samples.intervals((2, 16, 16)).streams()
    sizes = [
        sum(
            len(encode_intervals([one], check_of(x, bits) if bits else 0))
            for one, x in zip(streams, digits, strict=True)
        )
        for bits in (0, 20, 32)
    ]
    assert sizes[1] - sizes[0] < 0.25 * len(digits)
    assert sizes[2] - sizes[0] > 1.2 * len(digits)  # so it is not free at any size


@given(st.lists(st.tuples(st.sampled_from([CODED, FALLBACK, WEBP]), st.binary(max_size=300)), min_size=1, max_size=40),
       st.integers(16, 32))  # fmt: skip
def test_the_table_comes_back(images, bits):
    kinds = [kind for kind, _ in images]
    head = Head(range(3), range(0), range(0), range(0), kinds.count(FALLBACK), kinds.count(WEBP)).pack(
        post_filtered=False, entries=True
    )
    payload = pack_entries(head, bits, kinds, [data for _, data in images])
    found = unpack_entries(payload[: room(len(images))], len(images), len(payload))
    assert (found.bits, found.kinds) == (bits, kinds)
    assert [payload[a:b] for a, b in zip(found.ends, found.ends[1:], strict=False)] == [data for _, data in images]


@given(st.binary(max_size=60), st.integers(1, 9))
def test_any_bytes_are_a_table_or_refused(data, n):
    payload = b"\x28" + n.to_bytes(2, "little") + data
    try:
        found = unpack_entries(payload, n, len(payload))
    except CorruptError:
        return
    assert 0 < found.ends[0] <= found.ends[-1] == len(payload)
    assert found.ends == sorted(found.ends)
