import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smalti.codec.block import ByWebP, Fallback
from smalti.codec.block_codec import block_without_model, decode_block, encode_block, way_without_model
from smalti.codec.rdo import EFFORTS
from smalti.codec.webp_codec import MAX_WEBP_SIDE, decode_webp, encode_webp
from smalti.errors import CorruptError
from smalti.model.bundle import load_model

RNG = np.random.default_rng(0)


def drawn(h: int, w: int, c: int) -> np.ndarray:
    """A drawing of few colours, gray if c is 1."""
    colours = RNG.integers(0, 256, (5, c), np.uint8)
    image = colours[(np.arange(h)[:, None] // 3 + np.arange(w) // 4) % 5]
    return image[..., 0] if c == 1 else image


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 3, 4])),
    kind=st.sampled_from(["noise", "drawn", "clear"]),
    thorough=st.booleans(),
)
def test_what_was_encoded_comes_back(shape, kind, thorough):
    h, w, c = shape
    image = drawn(h, w, c) if kind == "drawn" else RNG.integers(0, 256, (h, w) if c == 1 else shape, np.uint8)
    if kind == "clear" and c in (2, 4):
        image[..., -1] = 0  # the colours under it are kept
    record = encode_webp(image, thorough=thorough)
    back, end = decode_webp(b"before" + record + b"behind", 6, image.shape)
    assert end == 6 + len(record)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, image)


def test_slow_settings_never_take_more():
    image = drawn(90, 90, 4)
    image[::7, ::5] = RNG.integers(0, 256, 4, np.uint8)
    assert len(encode_webp(image, thorough=True)) <= len(encode_webp(image))


def test_a_side_that_webp_does_not_know_is_left_to_the_fallback():
    line = np.tile(np.arange(256, dtype=np.uint8), 80)[None, : MAX_WEBP_SIDE + 1]
    assert encode_webp(line) is None
    assert isinstance(way_without_model(line, EFFORTS[5]), Fallback)
    assert encode_webp(line[:, :MAX_WEBP_SIDE]) is not None


@pytest.mark.parametrize("c", [1, 2, 3, 4])
def test_damaged_records_are_refused(c):
    image = RNG.integers(0, 256, (9, 8) if c == 1 else (9, 8, c), np.uint8)
    record = encode_webp(image)
    for cut in (0, 1, 2, len(record) // 2, len(record) - 1):
        with pytest.raises(CorruptError):
            decode_webp(record[:cut], 0, image.shape)
    for shape in ((90, 80), (MAX_WEBP_SIDE + 1, 8)):
        with pytest.raises(CorruptError):
            decode_webp(record, 0, (*shape, *image.shape[2:]))
    for _ in range(200):  # they are refused, or give other pixels, which the block's hash refuses
        damaged = bytearray(record)
        damaged[RNG.integers(2, len(record))] ^= 1 << RNG.integers(8)
        try:
            back, _ = decode_webp(bytes(damaged), 0, image.shape)
        except CorruptError:
            continue
        assert back.shape == image.shape


def test_a_block_mixes_bitstreams_and_the_fallback_in_any_order():
    model = load_model("none")
    drawing = drawn(30, 31, 4)
    images = [drawing, RNG.integers(0, 256, (30, 31, 4), np.uint8), np.zeros((30, 31, 4), np.uint8)]
    ways = [way_without_model(image, EFFORTS[5]) for image in images]
    assert {type(way) for way in ways} == {ByWebP, Fallback}
    block = block_without_model(ways, (30, 31, 4))
    for rows in ([0, 1, 2], [2, 0, 1], [0], [1, 2], [1]):
        picked = block.pick(np.array(rows))
        back = decode_block(encode_block(picked, model), len(rows), (30, 31, 4), model)
        np.testing.assert_array_equal(back, np.stack([images[i] for i in rows]))


def test_a_least_psnr_takes_no_more_than_to_keep_the_image():
    ramp = np.add.outer(np.arange(40), np.arange(50))[..., None].repeat(3, -1).astype(np.uint8)
    for image in (ramp, drawn(30, 30, 3), RNG.integers(0, 256, (20, 20, 3), np.uint8)):
        exact = way_without_model(image, EFFORTS[5])
        for psnr in (20, 30, 40):
            way = way_without_model(image, EFFORTS[5], largest_mse=10 ** (-psnr / 10))
            assert len(way.record) <= len(exact.record)
            x_hat = block_without_model([way], image.shape).x_hat[0]
            assert (((x_hat / 255.0 - image / 255.0) ** 2).mean()) <= 10 ** (-psnr / 10)
