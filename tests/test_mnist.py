"""The bars that hold on MNIST itself; skipped, saying so, where the data set is not there."""

import numpy as np
import pytest

import smalti
from smalti.control import squared_errors
from smalti.images import read_images
from smalti.metrics import mse, psnr

IMAGES = 500
"""The first of the 10,000: on all of them the same figures come from `scripts/bench rd`, in an hour."""


@pytest.fixture(scope="module")
def test_set(mnist) -> np.ndarray:
    return read_images(mnist / "t10k-images-idx3-ubyte.gz").pixels[:IMAGES]


def rate_and_psnr(path, x, **asked) -> tuple[float, float]:
    packed = smalti.pack(x, path, force=True, **asked)
    return packed.rate, psnr(mse(x, smalti.unpack(path, model=asked.get("model")).pixels))


def test_the_defaults_take_16_bytes_at_27_db(tmp_path, test_set):
    rate, decibel = rate_and_psnr(tmp_path / "x.smalti", test_set[:256])
    assert rate <= 16
    assert decibel >= 27.3


def test_the_model_of_fashion_takes_15_bytes_at_22_db_and_36_at_26(tmp_path, fashion):
    """Less than half of what the AVIF sheet takes: 37 and 64 bytes."""
    for decibel, most in ((22.0, 15), (26.0, 36)):
        rate, reached = rate_and_psnr(tmp_path / "x.smalti", fashion, psnr=decibel, model="fashion", effort=3)
        assert rate <= most
        assert reached >= decibel


def test_the_autoencoder_takes_at_most_30_bytes_at_27_db(tmp_path, test_set):
    rate, decibel = rate_and_psnr(tmp_path / "x.smalti", test_set[:500], psnr=27.0, model="mnist-autoencoder", effort=3)
    assert rate <= 30
    assert decibel >= 27


def test_effort_saves_bytes(tmp_path, test_set):
    """At the PSNR of an encoder that does not search, the default takes 8 % fewer bytes at least."""
    x = test_set[:64]
    rate, decibel = rate_and_psnr(tmp_path / "x.smalti", x, quality=50, effort=3)
    found, _ = rate_and_psnr(tmp_path / "x.smalti", x, psnr=decibel)
    assert found <= 0.92 * rate


@pytest.fixture(scope="module")
def fashion(mnist) -> np.ndarray:
    folder = mnist.with_name("fashion-mnist")
    if not folder.is_dir():
        pytest.skip(f"Fashion-MNIST is not at {folder}")
    return read_images(folder / "t10k-images-idx3-ubyte.gz").pixels[:IMAGES]


@pytest.mark.parametrize("kind", ["digits", "fashion", "noise", "blank", "inverted"])
def test_a_least_psnr_of_30_db_holds_for_every_one_of_500_images(tmp_path, test_set, kind, request):
    if kind == "fashion":
        x = request.getfixturevalue("fashion")
    elif kind == "noise":
        x = np.random.default_rng(0).integers(0, 256, (500, 28, 28), dtype=np.uint8)
    else:
        x = {"digits": test_set[:500], "blank": np.zeros_like(test_set[:500]), "inverted": 255 - test_set[:500]}[kind]
    packed = smalti.pack(x, tmp_path / "x.smalti", min_psnr=30, effort=3)
    errors = squared_errors(x, smalti.unpack(tmp_path / "x.smalti").pixels)
    assert errors.max() <= 1e-3
    assert packed.rate < {"digits": 75, "fashion": 190, "noise": 420, "blank": 10, "inverted": 120}[kind]
