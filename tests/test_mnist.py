"""The bars that hold on MNIST itself; skipped, saying so, where the data set is not there."""

import numpy as np
import pytest

import smalti
from smalti.codec import encode_block
from smalti.images import read_images
from smalti.metrics import mse, psnr

IMAGES = 2000
"""The first of the 10,000: on all of them the same figures come from `scripts/bench rd`, in minutes."""


@pytest.fixture(scope="module")
def test_set(mnist) -> np.ndarray:
    return read_images(mnist / "t10k-images-idx3-ubyte.gz").pixels[:IMAGES]


def test_the_float_code_reaches_the_published_distortion(model, test_set):
    assert mse(test_set, model.synthesise(model.analyse(test_set))) <= 0.0017


def test_the_default_quality_takes_at_most_30_bytes_at_27_db(tmp_path, test_set):
    packed = smalti.pack(test_set, tmp_path / "x.smalti")
    x_hat = smalti.unpack(tmp_path / "x.smalti").pixels
    assert packed.rate <= 30
    assert psnr(mse(test_set, x_hat)) >= 27


def test_tables_fitted_on_the_training_set_suit_the_test_set(model, test_set):
    """The tables cost at most 3 % more than ones made for these very images would."""
    from smalti.codec import payload_bytes, quantise
    from smalti.tables import fit_table

    point = model.points[model.point(50)]
    symbols = quantise(model.analyse(test_set), point)
    own = sum(fit_table(column).bits(column).sum() for column in symbols.T.astype(np.int64)) / 8
    assert payload_bytes(symbols, point).sum() <= 1.03 * own
    assert len(encode_block(test_set[:256], model, point)) / 256 < 30
