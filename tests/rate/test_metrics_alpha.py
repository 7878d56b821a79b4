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
    for alpha, share in ((255, 1.0), (51, 0.2), (0, 0.0)):
        planes = np.full((2, 4, 4, 1), alpha, np.uint8)
        pair = np.concatenate([x, planes], -1), np.concatenate([x_hat, planes], -1)
        assert squared_errors(*pair) == pytest.approx([0.04 * share] * 2)
        assert mse(*pair) == pytest.approx(0.04 * share)


def test_errors_of_alpha_count_in_full():
    x, x_hat = np.zeros((1, 4, 4, 4), np.uint8), np.zeros((1, 4, 4, 4), np.uint8)
    x_hat[..., -1] = 51
    assert squared_errors(x, x_hat) == pytest.approx([0.04 / 3])
