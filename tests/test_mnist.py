"""The bars that hold on MNIST itself; skipped, saying so, where the data set is not there."""

import numpy as np
import pytest

import smalti
from smalti.images import read_images
from smalti.metrics import mse, psnr

IMAGES = 2000
"""The first of the 10,000: on all of them the same figures come from `scripts/bench rd`, in minutes."""


@pytest.fixture(scope="module")
def test_set(mnist) -> np.ndarray:
    return read_images(mnist / "t10k-images-idx3-ubyte.gz").pixels[:IMAGES]


def rate_and_psnr(path, x, **asked) -> tuple[float, float]:
    packed = smalti.pack(x, path, force=True, **asked)
    return packed.rate, psnr(mse(x, smalti.unpack(path, model=asked.get("model")).pixels))


def test_the_default_quality_takes_14_bytes_at_25_db(tmp_path, test_set):
    rate, decibel = rate_and_psnr(tmp_path / "x.smalti", test_set)
    assert rate <= 14
    assert decibel >= 25.2


def test_the_autoencoder_takes_at_most_30_bytes_at_27_db(tmp_path, test_set):
    rate, decibel = rate_and_psnr(tmp_path / "x.smalti", test_set[:500], psnr=27.0, model="mnist-autoencoder")
    assert rate <= 30
    assert decibel >= 27


def test_effort_saves_a_tenth(tmp_path, test_set):
    """At the PSNR of the default effort, two passes of search take 8 % fewer bytes at least."""
    x = test_set[:64]
    rate, decibel = rate_and_psnr(tmp_path / "x.smalti", x, quality=50)
    found, _ = rate_and_psnr(tmp_path / "x.smalti", x, psnr=decibel, effort=7)
    assert found <= 0.92 * rate
