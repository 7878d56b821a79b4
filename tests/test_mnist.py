"""The bars that hold on MNIST itself; skipped, saying so, where the data set is not there."""

import numpy as np
import pytest
from helpers import payload_bytes

import smalti
from smalti.exchange.sources import read_images
from smalti.rate.metrics import mse, psnr, squared_errors

IMAGES = 500
"""The first of the 10,000: on all of them the same figures come from `scripts/bench rd`, in an hour."""


@pytest.fixture(scope="module")
def test_set(mnist) -> np.ndarray:
    return read_images(mnist / "t10k-images-idx3-ubyte.gz").pixels[:IMAGES]


def rate_and_psnr(path, x, **asked) -> tuple[float, float]:
    packed = smalti.pack(x, path, force=True, **asked)
    return packed.rate, psnr(mse(x, smalti.load(path, model=asked.get("model")).pixels))


@pytest.mark.slow
@pytest.mark.parametrize(("decibel", "most"), [(22.0, 8.0), (27.8, 16.5), (32.0, 24.0), (40.0, 40.0)])
def test_the_default_effort_takes_few_bytes_at_any_quality(tmp_path, test_set, decibel, most):
    rate, reached = rate_and_psnr(tmp_path / "x.smalti", test_set[:160], psnr=decibel)
    assert rate <= most
    assert reached >= decibel


def test_the_highest_quality_goes_beyond_50_db(tmp_path, test_set):
    rate, decibel = rate_and_psnr(tmp_path / "x.smalti", test_set, quality=100, effort=3)
    assert decibel >= 50
    assert rate <= 75


@pytest.mark.slow
def test_the_model_of_fashion_takes_15_bytes_at_22_db_36_at_26_and_56_at_30(tmp_path, fashion):
    """Without search; the AVIF sheet takes 37, 62 and 93 bytes."""
    for decibel, most in ((22.0, 15), (26.0, 36), (30.0, 56)):
        rate, reached = rate_and_psnr(tmp_path / "x.smalti", fashion, psnr=decibel, model="fashion", effort=3)
        assert rate <= most
        assert reached >= decibel


@pytest.mark.slow
def test_the_autoencoder_takes_at_most_30_bytes_at_27_db(tmp_path, test_set):
    rate, decibel = rate_and_psnr(tmp_path / "x.smalti", test_set[:500], psnr=27.0, model="mnist-autoencoder", effort=3)
    assert rate <= 30
    assert decibel >= 27


@pytest.mark.slow
def test_effort_saves_bytes(tmp_path, test_set):
    """At the PSNR of an encoder that does not search, the default takes 8 % fewer bytes at least."""
    x = test_set[:64]
    rate, decibel = rate_and_psnr(tmp_path / "x.smalti", x, quality=20, effort=3)
    found, _ = rate_and_psnr(tmp_path / "x.smalti", x, psnr=decibel)
    assert found <= 0.92 * rate


@pytest.fixture(scope="module")
def fashion(mnist) -> np.ndarray:
    folder = mnist.with_name("fashion-mnist")
    if not folder.is_dir():
        pytest.skip(f"Fashion-MNIST is not at {folder}")
    return read_images(folder / "t10k-images-idx3-ubyte.gz").pixels[:IMAGES]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["digits", "fashion", "noise", "blank", "inverted"])
def test_a_least_psnr_of_30_db_holds_for_every_one_of_500_images(tmp_path, test_set, kind, request):
    if kind == "fashion":
        x = request.getfixturevalue("fashion")
    elif kind == "noise":
        x = np.random.default_rng(0).integers(0, 256, (500, 28, 28), dtype=np.uint8)
    else:
        x = {"digits": test_set[:500], "blank": np.zeros_like(test_set[:500]), "inverted": 255 - test_set[:500]}[kind]
    packed = smalti.pack(x, tmp_path / "x.smalti", min_psnr=30, effort=3)
    errors = squared_errors(x, smalti.load(tmp_path / "x.smalti").pixels)
    assert errors.max() <= 1e-3
    assert packed.rate < {"digits": 75, "fashion": 190, "noise": 420, "blank": 10, "inverted": 120}[kind]


def of_any_size() -> dict[str, np.ndarray]:
    """Images that the model of digits was not made for."""
    rng = np.random.default_rng(3)
    some = {"constant": np.full((40, 28, 28), 97, np.uint8), "white": np.full((40, 28, 28), 255, np.uint8)}
    some["noise"] = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    for h, w in ((1, 1), (1, 9), (7, 3), (33, 20), (64, 64)):
        gradient = np.add.outer(np.arange(h), np.arange(w))
        some[f"{h}x{w} gray"] = (3 * gradient + rng.integers(0, 4, (5, h, w))).astype(np.uint8)
        some[f"{h}x{w} RGB"] = rng.integers(0, 256, (5, h, w, 3), dtype=np.uint8)
    return some


@pytest.mark.parametrize("kind", ["digits", "fashion", *of_any_size()])
@pytest.mark.parametrize("max_error", [0, 2])
def test_no_pixel_is_off_and_no_image_takes_more_than_raw_and_two_bytes(tmp_path, kind, max_error, request):
    if kind in ("digits", "fashion"):
        x = request.getfixturevalue("test_set" if kind == "digits" else "fashion")[:256]
    else:
        x = of_any_size()[kind]
    for images in (x, x[:1]):
        smalti.pack(images, tmp_path / "x.smalti", max_error=max_error, force=True)
        y = smalti.load(tmp_path / "x.smalti").pixels
        assert np.abs(y.astype(int) - images).max() <= max_error
        assert payload_bytes(tmp_path / "x.smalti") <= images.nbytes + 2 * len(images)


def test_lossless_digits_take_less_than_105_bytes_and_a_largest_error_saves_a_quarter(tmp_path, test_set):
    exact = smalti.pack(test_set, tmp_path / "x.smalti", max_error=0).rate
    assert (smalti.load(tmp_path / "x.smalti").pixels == test_set).all()
    near = smalti.pack(test_set, tmp_path / "x.smalti", max_error=2, force=True).rate
    assert exact <= 105
    assert near <= 0.75 * exact
