# SPDX-License-Identifier: MIT
"""Coding by transform may weigh errors as multi-scale SSIM does: less where an image varies."""

import io

import numpy as np
import pytest

import smalti
from smalti.codec.transform_codec import encode_transform
from smalti.core.library import core
from smalti.errors import UsageError
from smalti.model.bundle import load_model
from smalti.model.transform import engine
from smalti.model.transform.similarity import MOST_LEVELS, ONE, weighed

COLOUR = load_model("colour")


def ramp(n: int, h: int, w: int, noise: float, seed: int = 0) -> np.ndarray:
    """Return slow ramps (`n h w 3`) with so much noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:h, :w]
    found = 60 + 2.0 * x[None, ..., None] + y[None, ..., None] + rng.normal(0, 1, (n, h, w, 3)) * noise
    return found.round().clip(0, 255).astype(np.uint8)


def half_busy(n: int) -> np.ndarray:
    """Return images whose left half varies much more than the right one."""
    x = ramp(n, 32, 64, 3)
    x[:, :, :32] = ramp(n, 32, 32, 40, seed=1)
    return x


def errors(x: np.ndarray, x_hat: np.ndarray) -> tuple[float, float]:
    off = (x.astype(float) - x_hat) ** 2
    return float(off[:, :, :32].mean()), float(off[:, :, 32:].mean())


def test_error_moves_to_where_the_image_varies():
    x = half_busy(4)
    alike = encode_transform(x, np.full(4, 20), COLOUR, 1)
    found = min(
        (encode_transform(x, np.full(4, level), COLOUR, 1, similar=True) for level in range(4, 36, 2)),
        key=lambda block: abs(block.bits.sum() - alike.bits.sum()),
    )
    assert found.bits.sum() == pytest.approx(alike.bits.sum(), rel=0.15)
    (busy, calm), (busy_alike, calm_alike) = errors(x, found.x_hat), errors(x, alike.x_hat)
    assert calm < 0.9 * calm_alike
    assert busy > 1.15 * busy_alike


def test_calm_images_get_finer_levels_than_busy_ones_and_all_stay_near_what_was_asked():
    x = np.concatenate([ramp(2, 32, 32, 0), ramp(2, 32, 32, 50)])
    found = weighed(COLOUR.transform, x, np.full(4, 20))
    assert found.levels[:2].max() < 20 < found.levels[2:].min()
    assert np.abs(found.levels - 20).max() <= MOST_LEVELS
    assert found.factors.shape == (4, 4, 4, 192)
    assert found.factors[2, :, :, 0].mean() < found.factors[2, :, :, 190].mean()  # what vanishes from coarser scales


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 40, 1), (11, 11, 3), (45, 90, 1), (180, 200, 3)])
def test_images_of_any_size_are_weighed(shape):
    x = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    found = weighed(COLOUR.transform, x, np.array([0, 40]))
    assert found.factors.shape == (2, -(-shape[0] // 8), -(-shape[1] // 8), 192)
    assert found.factors.min() >= 1
    alone = weighed(COLOUR.transform, x[1:], np.array([40]))
    np.testing.assert_array_equal(alone.factors, found.factors[1:])


def test_a_gray_image_is_weighed_like_the_same_image_in_colour():
    gray = ramp(1, 24, 32, 5)[..., :1]
    one, three = (weighed(COLOUR.transform, x, np.array([15])) for x in (gray, gray.repeat(3, -1)))
    np.testing.assert_array_equal(one.levels, three.levels)
    assert np.abs(one.factors.astype(int) - three.factors).max() <= 1


def test_what_alpha_hides_weighs_little_and_changes_no_level():
    x, alpha = ramp(1, 32, 64, 20), np.full((1, 32, 64), 255, np.uint8)
    seen = weighed(COLOUR.transform, x[:, :, :32], np.array([20]))
    alpha[:, :, 32:] = 0
    x[:, :, 32:] = 100
    found = weighed(COLOUR.transform, x, np.array([20]), alpha)
    assert abs(int(found.levels[0]) - int(seen.levels[0])) <= 1
    assert found.factors[:, :, 4:].mean() > 2 * found.factors[:, :, :4].mean()
    hidden = weighed(COLOUR.transform, x, np.array([20]), np.zeros_like(alpha))
    assert hidden.levels.tolist() == [20]


def test_factors_of_one_change_nothing():
    x = half_busy(2)
    y = engine.analyse(COLOUR.transform, x, [12, 30])
    plain, with_factors = (
        engine.encode(COLOUR.transform, y, [12, 30], x.shape[1:], 9000, factors)
        for factors in (None, np.full(y.shape, ONE, np.uint16))
    )
    assert plain[0] == with_factors[0]


def test_numpy_chooses_what_the_core_chooses(monkeypatch):
    if core() is None:
        pytest.skip("there is no compiled core")
    x = half_busy(1)[:, :16, 24:48]
    of_core = encode_transform(x, np.array([18]), COLOUR, 1, similar=True)
    monkeypatch.setenv("SMALTI_ENGINE", "numpy")
    of_numpy = encode_transform(x, np.array([18]), COLOUR, 1, similar=True)
    assert of_core.transformed.stream == of_numpy.transformed.stream
    np.testing.assert_array_equal(of_core.x_hat, of_numpy.x_hat)


def test_files_say_nothing_of_the_metric_and_targets_are_met(tmp_path):
    x, path = half_busy(12), tmp_path / "x.smalti"
    for asked in ({"quality": 40}, {"psnr": 28}, {"min_psnr": 29}, {"bytes_an_image": 400}):
        packed = smalti.pack(x, path, model="colour", metric="ssim", force=True, **asked)
        back = smalti.load(path).pixels
        each = -10 * np.log10(((x / 255.0 - back / 255.0) ** 2).mean((1, 2, 3)))
        assert (back != x).any()
        if "min_psnr" in asked:
            assert each.min() >= 29
        if "psnr" in asked:
            assert -10 * np.log10(((x / 255.0 - back / 255.0) ** 2).mean()) >= 28
        if "bytes_an_image" in asked:
            assert packed.bytes <= 12 * 400
    plain, other = (io.BytesIO() for _ in range(2))
    smalti.pack(x, plain, model="colour")
    smalti.pack(x, other, model="colour", metric="psnr")
    assert plain.getvalue() == other.getvalue()
    smalti.append(path, x[:2], metric="ssim")
    smalti.replace(path, 0, x[3:4], metric="ssim")
    with smalti.open(path) as archive:
        assert len(archive) == 14


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"metric": "vmaf"}, "psnr and ssim"), ({"metric": "ssim", "lossless": True}, "lossy"), ({"metric": 3}, "metric")],
)
def test_a_metric_that_means_nothing_is_refused(tmp_path, asked, words):
    with pytest.raises(UsageError, match=words):
        smalti.pack(half_busy(1), tmp_path / "x.smalti", **asked)
