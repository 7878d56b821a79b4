# SPDX-License-Identifier: MIT
"""Errors of colours count as much as they are seen."""

import numpy as np
import pytest

from smalti.rate.metrics import mse, squared_errors


@pytest.mark.parametrize("colours", [1, 3])
def test_errors_count_as_much_as_a_pixel_is_opaque(colours):
    x, x_hat = np.full((2, 4, 4, colours), 100, np.uint8), np.full((2, 4, 4, colours), 151, np.uint8)
    plain = squared_errors(x if colours == 3 else x[..., 0], x_hat if colours == 3 else x_hat[..., 0])
    assert plain == pytest.approx([0.04, 0.04])
    alpha = np.full((2, 4, 4, 1), 255, np.uint8)
    pair = np.concatenate([x, alpha], -1), np.concatenate([x_hat, alpha], -1)
    assert squared_errors(*pair) == pytest.approx([0.04, 0.04])
    assert mse(*pair) == pytest.approx(0.04)
    alpha[:, :2], alpha[:, 2:] = 51, 255
    right = np.concatenate([x_hat[:, :2], x[:, 2:]], 1)  # only where little is seen, there is an error
    assert squared_errors(np.concatenate([x, alpha], -1), np.concatenate([right, alpha], -1)) == pytest.approx(
        [0.04 * 0.2 / 1.2] * 2
    )


def test_what_is_hidden_counts_for_nothing():
    x = np.random.default_rng(1).integers(0, 256, (2, 4, 4, 4), np.uint8)
    x[..., -1] = 0
    x[0, 0, 0, -1] = 255
    other = x.copy()
    other[..., :3] ^= 255
    other[0, 0, 0, :3] = x[0, 0, 0, :3]
    assert squared_errors(x, other).tolist() == [0, 0]


def test_errors_of_alpha_count_in_full():
    x, x_hat = np.zeros((1, 4, 4, 4), np.uint8), np.zeros((1, 4, 4, 4), np.uint8)
    x[..., -1] = 255
    x_hat[..., -1] = 204
    assert squared_errors(x, x_hat) == pytest.approx([0.04 / 3])
