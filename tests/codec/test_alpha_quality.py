# SPDX-License-Identifier: MIT
"""Alpha is exact unless its quality is asked for; then it is off by no more than was said, in fewer bytes."""

import io

import numpy as np
import pytest

import smalti
from smalti.codec.mixing_codec import few_values
from smalti.errors import UsageError


def soft(n: int, channels: int = 4) -> np.ndarray:
    """Return discs with soft edges (`n 48 48 channels`) on what is transparent, their alpha a little noisy."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:48, :48]
    alpha = np.stack([280 / (1 + np.exp(np.hypot(x - 24, y - 20 - i) - 14)) - 12 for i in range(n)])
    alpha = (alpha + (alpha > 0) * rng.normal(0, 3, alpha.shape)).round().clip(0, 255)
    colours = 120 + 80 * np.sin(x / 5 + np.arange(n)[:, None, None])[..., None] + np.arange(channels - 1) * 15
    return np.concatenate([colours, alpha[..., None]], -1).clip(0, 255).astype(np.uint8)


def packed(x: np.ndarray, **asked: object) -> tuple[int, np.ndarray]:
    file = io.BytesIO()
    smalti.pack(x, file, **asked)
    return file.tell(), smalti.load(file.getvalue()).pixels


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("quality", [20, 60, 100])
def test_alpha_is_off_by_no_more_than_was_asked_and_takes_fewer_bytes(channels, quality):
    x, sizes = soft(6, channels), []
    for alpha_quality, most in ((100, 0), (60, 10), (1, 24)):
        size, back = packed(x, quality=quality, alpha_quality=alpha_quality)
        sizes.append(size)
        off = np.abs(back[..., -1].astype(int) - x[..., -1])
        assert off.max() <= most
        for end in (0, 255):
            assert ((x[..., -1] == end) <= (back[..., -1] == end)).all()
        assert ((back[..., -1] == 0) <= (x[..., -1] == 0)).all()
    assert sizes[2] < sizes[1] < 0.95 * sizes[0]
    assert packed(x, quality=quality)[0] == sizes[0]


def test_where_a_size_cannot_be_reached_the_advice_is_a_lower_quality_of_alpha():
    x, least = soft(6), list[float]()
    for alpha_quality, words in ((100, "alpha_quality=50"), (50, "alpha_quality=1"), (1, "")):
        with pytest.raises(UsageError) as error:
            packed(x, bytes_an_image=5, alpha_quality=alpha_quality)
        assert str(error.value).endswith(f"or let alpha lose more: {words}" if words else "allow that or more")
        least.append(float(str(error.value).split()[3]))
    assert least[2] < least[1] < least[0]
    x[..., 3] = np.where(x[..., 3] < 128, 0, 255)  # where a lower quality changes nothing
    with pytest.raises(UsageError, match=r"allow that or more$"):
        packed(x, bytes_an_image=5)


def test_every_value_of_alpha_has_one_near_it():
    alpha = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    for most in range(1, 25):
        few = few_values(alpha, most)
        assert np.abs(few.astype(int) - alpha).max() <= most
        assert few[0, 0, 0] == 0
        assert few.ravel()[255] == 255
        assert few.ravel()[1:255].min() > 0
        assert len(np.unique(few)) <= 2 + -(-254 // (2 * most + 1))


def test_a_least_psnr_holds_with_coarse_alpha():
    x = soft(4)
    _, back = packed(x, min_psnr=30, alpha_quality=70)
    weights = x[..., 3:] / 255.0
    off = ((x.astype(float) - back) / 255) ** 2
    off[..., :3] *= weights
    each = off.sum((1, 2, 3)) / (3 * weights.sum((1, 2, 3)))
    assert -10 * np.log10(each.max()) >= 30


def test_images_without_alpha_do_not_change(tmp_path):
    x = soft(3)[..., :3]
    assert packed(x, alpha_quality=10)[0] == packed(x)[0]
    path = tmp_path / "x.smalti"
    smalti.pack(soft(3), path, alpha_quality=50)
    smalti.append(path, soft(2), alpha_quality=50)
    with smalti.open(path) as archive:
        assert len(archive) == 5


@pytest.mark.parametrize("asked", [{"alpha_quality": 0}, {"alpha_quality": 101}, {"alpha_quality": "high"}])
def test_a_quality_of_alpha_that_there_is_not_is_refused(asked):
    with pytest.raises(UsageError, match="quality of alpha"):
        packed(soft(1), **asked)


@pytest.mark.parametrize("exact", [{"lossless": True}, {"max_error": 3}])
def test_alpha_with_loss_is_refused_where_all_is_exact(exact):
    with pytest.raises(UsageError, match="quality of alpha is for lossy"):
        packed(soft(1), alpha_quality=50, **exact)
