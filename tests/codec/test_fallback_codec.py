import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smalti.codec.fallback_codec import decode_fallback, encode_fallback
from smalti.errors import CorruptError

images = st.sampled_from([(1, 1), (5, 7), (6, 4, 3)]).flatmap(lambda shape: arrays(np.uint8, shape))


@given(images)
def test_without_a_limit_every_pixel_comes_back(image):
    record = encode_fallback(image)
    back, end = decode_fallback(b"xx" + record + b"yy", 2, image.shape)
    assert (back == image).all()
    assert end == 2 + len(record)


@given(images, st.floats(18, 60))
def test_a_limit_holds(image, psnr):
    limit = 10 ** (-psnr / 10)
    back, _ = decode_fallback(encode_fallback(image, largest_mse=limit), 0, image.shape)
    assert ((back.astype(float) - image) ** 2).mean() / 255**2 <= limit


def test_a_limit_saves_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    assert len(encode_fallback(noise, largest_mse=1e-3)) < 0.6 * len(encode_fallback(noise))


@given(images, st.integers(0, 31))
def test_a_largest_error_holds(image, error):
    back, _ = decode_fallback(encode_fallback(image, max_error=error), 0, image.shape)
    assert np.abs(back.astype(int) - image).max() <= error


@given(images)
def test_no_image_takes_more_than_a_byte_over_raw(image):
    assert len(encode_fallback(image)) <= image.size + 1


def test_flat_images_take_next_to_nothing():
    assert len(encode_fallback(np.full((28, 28), 77, np.uint8))) < 25


def test_damage_is_our_error_or_an_image():
    image = np.random.default_rng(1).integers(0, 9, (9, 9), dtype=np.uint8)
    record = encode_fallback(image)
    for end in range(len(record)):
        with pytest.raises(CorruptError):
            decode_fallback(record[:end], 0, image.shape)
    for at in range(len(record)):
        for bit in range(8):
            data = bytearray(record)
            data[at] ^= 1 << bit
            try:
                back, _ = decode_fallback(bytes(data), 0, image.shape)
            except CorruptError:
                continue
            assert back.shape == image.shape
    with pytest.raises(CorruptError, match="number of pixels"):
        decode_fallback(record, 0, (9, 8))
    with pytest.raises(CorruptError, match="impossible"):
        decode_fallback(bytes([0, 3]) + b"ab", 0, (9, 9))
    with pytest.raises(CorruptError, match="does not end"):
        decode_fallback(bytes([0]) + b"\xff" * 9, 0, (9, 9))
