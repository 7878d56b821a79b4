import numpy as np
import pytest

import smalti
from smalti.archive.writer import Overhead
from smalti.codec.block_codec import code_images, decode_block, encode_block, spare
from smalti.codec.fallback_codec import encode_fallback
from smalti.codec.rdo import EFFORTS
from smalti.demo.samples import draw_digits
from smalti.errors import UsageError
from smalti.model.operating_points import OperatingPoint, OperatingPoints, multiplier_of
from smalti.rate.metrics import mse, psnr
from smalti.rate.min_psnr import block_of_least, squared_errors
from smalti.rate.target import Target


@pytest.fixture(scope="module")
def many() -> np.ndarray:
    return draw_digits(40, seed=4)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr("smalti.codec.block_codec.BLOCK_IMAGES", 8)


@pytest.mark.parametrize(("target", "effort"), [(19.5, 3), (22.0, 3), (22.0, 4), (24.0, 3)])
def test_a_psnr_is_reached_and_hardly_passed(tmp_path, many, target, effort):
    smalti.pack(many, tmp_path / "x.smalti", psnr=target, effort=effort)
    reached = psnr(mse(many, smalti.load(tmp_path / "x.smalti").pixels))
    assert target <= reached < target + 0.1


def test_a_low_psnr_is_the_lowest_quality(tmp_path, many):
    low = smalti.pack(many, tmp_path / "x.smalti", psnr=3.0, effort=1)
    assert low.bytes == smalti.pack(many, tmp_path / "y.smalti", quality=1, effort=1).bytes


@pytest.mark.parametrize("target", [18.0, 30.0])
def test_bytes_are_kept_and_nearly_used(tmp_path, many, target):
    packed = smalti.pack(many, tmp_path / "x.smalti", bytes_an_image=target, effort=1)
    assert 0.97 * target < packed.rate <= target
    assert len(smalti.load(tmp_path / "x.smalti").pixels) == len(many)


def test_more_bytes_than_needed_are_lossless(tmp_path, many):
    high = smalti.pack(many, tmp_path / "x.smalti", bytes_an_image=2000, effort=1)
    assert high.bytes > smalti.pack(many, tmp_path / "y.smalti", quality=100, effort=1).bytes
    assert (smalti.load(tmp_path / "x.smalti").pixels == many).all()


def kinds(digits) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "digits": digits,
        "noise": rng.integers(0, 256, digits.shape, dtype=np.uint8),
        "blank": np.zeros_like(digits),
        "inverted": 255 - digits,
        "white": np.full_like(digits, 255),
        "ramps": np.broadcast_to(np.arange(28, dtype=np.uint8) * 9, digits.shape).copy(),
    }


@pytest.mark.parametrize("kind", ["digits", "noise", "blank", "inverted", "white", "ramps"])
@pytest.mark.parametrize("least", [21.0, 30.0, 60.0])
def test_a_least_psnr_holds_for_every_image_of_any_kind(model, digits, kind, least):
    x = kinds(digits)[kind][:8]
    block = block_of_least(x, model, least, EFFORTS[1])
    payload = encode_block(block, model)
    errors = squared_errors(x, decode_block(payload, len(x), model.image_shape, model))
    assert (errors <= 10 ** (-least / 10)).all()
    if kind in ("noise", "inverted"):
        assert block.code is None
    if least == 60 and kind == "noise":
        assert len(block.plain) == len(x)
    assert len(payload) < 800 * len(x)


def test_a_least_psnr_costs_little_where_the_model_fits(model, digits):
    block = block_of_least(digits, model, 20.0, EFFORTS[1])
    assert len(encode_block(block, model)) / 20 < 50


@pytest.mark.parametrize("asked", [{"quality": 100}, {"quality": 15}, {"psnr": 30.0}, {"bytes_an_image": 60.0}])
@pytest.mark.parametrize("kind", ["white", "noise", "ramps", "blank"])
def test_what_no_model_suits_takes_hardly_more_than_it_would_plain(tmp_path, digits, model, kind, asked):
    x = kinds(digits)[kind][:8]
    if kind == "noise" and "bytes_an_image" in asked:
        asked = {"bytes_an_image": 400.0}
    packed = smalti.pack(x, tmp_path / "x.smalti", effort=1, **asked)
    plain = sum(min(len(encode_fallback(image)), image.size + 2) for image in x)
    assert packed.bytes <= plain + Overhead(model.image_shape)([x]) + 8
    assert smalti.load(tmp_path / "x.smalti").pixels.shape == x.shape


def test_a_mean_may_be_met_with_some_images_plain(tmp_path, many):
    x = many.copy()
    x[::5] = 255
    smalti.pack(x, tmp_path / "x.smalti", psnr=26.0, effort=1)
    reached = psnr(mse(x, smalti.load(tmp_path / "x.smalti").pixels))
    assert 26.0 <= reached < 26.3


def test_a_least_psnr_beyond_the_ladder_is_lossless_by_pixels(model, digits):
    block = block_of_least(digits, model, 75.0, EFFORTS[1])
    assert (block.errors == 0).all()
    x_hat = decode_block(encode_block(block, model), 20, model.image_shape, model)
    assert (x_hat == digits).all()


def test_a_least_psnr_mixes_latents_and_pixels_in_a_block(model, digits):
    """Blank images are easy, digits are not, and noise is beyond latents."""
    x = digits[:9].copy()
    x[3:6] = 0
    x[6:] = np.random.default_rng(2).integers(0, 256, x[6:].shape)
    block = block_of_least(x, model, 25.0, EFFORTS[1])
    assert block.code is not None
    assert block.quantised is not None
    x_hat = decode_block(encode_block(block, model), len(x), model.image_shape, model)
    assert (squared_errors(x, x_hat) <= 10**-2.5).all()


def test_a_search_keeps_a_least_psnr_in_fewer_bytes(model, digits):
    x = digits[:8]
    codes = [block_of_least(x, model, 22.0, EFFORTS[effort]) for effort in (1, 4)]
    sizes = [len(encode_block(code, model)) for code in codes]
    assert sizes[1] < 0.95 * sizes[0]
    errors = squared_errors(x, decode_block(encode_block(codes[1], model), len(x), model.image_shape, model))
    assert (errors <= 10 ** (-22.0 / 10)).all()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"quality": 50, "psnr": 20.0}, "exclude"),
        ({"quality": 101}, "1 "),
        ({"psnr": 0.0}, "at most 100"),
        ({"min_psnr": 101.0}, "at most 100"),
        ({"psnr": float("nan")}, "at most 100"),
        ({"bytes": -1.0}, "more than 0"),
        ({"effort": 0}, "effort is 0"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked, words):
    with pytest.raises(UsageError, match=words):
        Target(**asked)


def test_what_cannot_be_had_is_said(tmp_path, many):
    with pytest.raises(UsageError, match=r"reaches .* dB on these images, not 70"):
        smalti.pack(many, tmp_path / "x.smalti", psnr=70, effort=1, model="mnist-autoencoder")
    with pytest.raises(UsageError, match="at the lowest quality"):
        smalti.pack(many, tmp_path / "x.smalti", bytes_an_image=1, effort=1)
    assert not list(tmp_path.iterdir())


def test_a_ladder_keeps_what_pays_and_a_quality_finds_it():
    """Latents are cheap, pixels good; one way of each pays nowhere."""
    latents = [OperatingPoint(False, point, 5.0 + point / 4, 20.0 + point / 8) for point in (0, 32, 64)]
    pixels = [
        OperatingPoint(True, 63, 10.0, 26.0),
        OperatingPoint(True, 31, 60.0, 27.0),
        OperatingPoint(True, 10, 30.0, 38.0),
    ]
    operating_points = OperatingPoints([*latents, *pixels], np.geomspace(2, 6400, 65), 784)
    assert pixels[1] not in operating_points.by_quality
    assert operating_points.of_quality(1) == latents[0]
    assert operating_points.of_quality(100) == pixels[2]
    for name in ("bytes", "psnr"):
        values = [getattr(point, name) for point in operating_points.by_quality]
        assert values == sorted(values)
    qualities = [operating_points.of_quality(quality) for quality in range(1, 101)]
    assert [point.psnr for point in qualities] == sorted(point.psnr for point in qualities)
    assert set(qualities) <= set(operating_points.by_quality)


def test_without_pixels_a_quality_is_an_operating_point():
    operating_points = OperatingPoints(
        [OperatingPoint(False, p, 1.0 + p, 20.0 + p / 9) for p in (0, 64)], np.geomspace(2, 6400, 65), 784
    )
    assert [operating_points.of_quality(quality).setting for quality in (1, 50, 100)] == [0, 32, 64]


def test_a_finer_step_is_worth_more_bits():
    assert multiplier_of(1) > multiplier_of(2) > multiplier_of(60)


def test_blank_images_among_digits_by_latents_are_coded_by_pixels(model, digits):
    x = digits.copy()
    x[3:12] = 0
    few = code_images(x, OperatingPoint(pixels=False, setting=16, bytes=0, psnr=0), model, EFFORTS[1])
    block = spare(x, few, model)
    assert (block.errors[3:12] == 0).all()
    assert (block.points[12:] == 16).all()
    assert (decode_block(encode_block(block, model), 20, model.image_shape, model)[3:12] == 0).all()
    assert len(encode_block(block, model)) < len(encode_block(few, model)) - 20
