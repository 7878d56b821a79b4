# SPDX-License-Identifier: MIT
"""What is tried for images that have to be near what they were."""

import zlib

import numpy as np
import pytest

from smalti.rate.max_error import DRAWN_OF_DEFLATE, TONE_OF_DEFLATE, _may_pay


@pytest.mark.parametrize("upper", [0, 60])
@pytest.mark.parametrize("lower", [0, 60])
def test_the_upper_half_does_not_change_the_guess_of_what_an_image_takes_exactly(upper, lower):
    rng = np.random.default_rng(3)
    image = np.full((40, 40, 3), 100, np.uint8)
    for rows, noise in ((slice(20), upper), (slice(20, 40), lower)):
        image[rows] += rng.integers(0, noise + 1, (20, 40, 3), dtype=np.uint8)
    share = TONE_OF_DEFLATE if upper or lower else DRAWN_OF_DEFLATE
    guess = share * len(zlib.compress(image.tobytes(), 1))
    assert not _may_pay(image, guess)
    assert _may_pay(image, 1.01 * guess)
