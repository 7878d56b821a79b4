import numpy as np
import pytest

import smalti
from smalti.code import PLAIN
from smalti.codec import decode_block, encode_block
from smalti.control import Aim, at_least, squared_errors
from smalti.errors import UsageError
from smalti.metrics import mse, psnr
from smalti.samples import draw_digits
from smalti.search import EFFORTS


@pytest.fixture(scope="module")
def many() -> np.ndarray:
    return draw_digits(40, seed=4)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr("smalti.api.BLOCK_IMAGES", 8)


@pytest.mark.parametrize(("target", "effort"), [(19.5, 3), (22.0, 3), (22.0, 4), (24.0, 3)])
def test_a_psnr_is_reached_and_hardly_passed(tmp_path, many, target, effort):
    smalti.pack(many, tmp_path / "x.smalti", psnr=target, effort=effort)
    reached = psnr(mse(many, smalti.unpack(tmp_path / "x.smalti").pixels))
    assert target <= reached < target + 0.6


def test_a_low_psnr_is_the_lowest_quality(tmp_path, many):
    low = smalti.pack(many, tmp_path / "x.smalti", psnr=3.0, effort=1)
    assert low.bytes == smalti.pack(many, tmp_path / "y.smalti", quality=1, effort=1).bytes


@pytest.mark.parametrize("target", [18.0, 30.0])
def test_bytes_are_kept_and_nearly_used(tmp_path, many, target):
    packed = smalti.pack(many, tmp_path / "x.smalti", bytes_an_image=target, effort=1)
    assert 0.9 * target < packed.rate <= target
    assert len(smalti.unpack(tmp_path / "x.smalti").pixels) == len(many)


def test_more_bytes_than_needed_are_the_highest_quality(tmp_path, many):
    high = smalti.pack(many, tmp_path / "x.smalti", bytes_an_image=2000, effort=1)
    assert high.bytes == smalti.pack(many, tmp_path / "y.smalti", quality=100, effort=1).bytes


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
    code = at_least(x, model, least, EFFORTS[1])
    payload = encode_block(code, model)
    errors = squared_errors(x, decode_block(payload, len(x), model.image_shape, model))
    assert (errors <= 10 ** (-least / 10)).all()
    if kind in ("noise", "inverted"):
        assert (code.points == PLAIN).all()
    assert len(payload) < 800 * len(x)


def test_a_least_psnr_costs_little_where_the_model_fits(model, digits):
    code = at_least(digits, model, 20.0, EFFORTS[1])
    assert len(encode_block(code, model)) / 20 < 50


def test_a_search_keeps_a_least_psnr_in_fewer_bytes(model, digits):
    x = digits[:8]
    codes = [at_least(x, model, 22.0, EFFORTS[effort]) for effort in (1, 4)]
    sizes = [len(encode_block(code, model)) for code in codes]
    assert sizes[1] < 0.95 * sizes[0]
    errors = squared_errors(x, decode_block(encode_block(codes[1], model), len(x), model.image_shape, model))
    assert (errors <= 10 ** (-22.0 / 10)).all()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"quality": 50, "psnr": 20.0}, "exclude"),
        ({"quality": 101}, "1 "),
        ({"psnr": 0.0}, "from 1 to 100"),
        ({"min_psnr": 101.0}, "from 1 to 100"),
        ({"psnr": float("nan")}, "from 1 to 100"),
        ({"bytes": -1.0}, "more than 0"),
        ({"effort": 0}, "effort is 0"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked, words):
    with pytest.raises(UsageError, match=words):
        Aim(**asked)


def test_what_cannot_be_had_is_said(tmp_path, many):
    with pytest.raises(UsageError, match=r"reaches .* dB on these images, not 70"):
        smalti.pack(many, tmp_path / "x.smalti", psnr=70, effort=1)
    with pytest.raises(UsageError, match="at the lowest quality"):
        smalti.pack(many, tmp_path / "x.smalti", bytes_an_image=1, effort=1)
    assert not list(tmp_path.iterdir())
