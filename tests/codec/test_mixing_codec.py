# SPDX-License-Identifier: MIT
"""How images are told apart that are drawn, and those of continuous tone; and where their coding can be stopped."""

import numpy as np
import pytest

from smalti.codec.mixing_codec import decode_mixing, is_drawn, mixing_stream, state_bits
from smalti.core.library import core
from smalti.model.bundle import load_model
from smalti.model.mixing.engine import mixing_encoder


def cut_out(flat: float) -> np.ndarray:
    """Return soft waves with noise (`h w 4`), of which a share is flat, with a transparent rim."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:32, :32]
    waves = 128 + 60 * np.sin(x / 5) + 40 * np.cos(y / 7)
    image = np.stack([waves, waves * 0.8 + 20, 220 - waves, np.full((32, 32), 255)], 2)
    image[..., :3] += rng.integers(-6, 7, (32, 32, 3))
    image[: round(32 * flat)] = (40, 90, 160, 255)
    image[-1, :7] = 0
    return image.clip(0, 255).astype(np.uint8)


@pytest.mark.skipif(core() is None, reason="there is no compiled core")
@pytest.mark.parametrize("flat", [0.0, 0.06, 0.13])
def test_soft_pictures_with_a_transparent_rim_are_not_drawn(flat):
    mixer, image, sizes = load_model("colour").mixer, cut_out(flat), []
    for drawn in (False, True):
        encoder = mixing_encoder(mixer, state_bits((1, 32, 32), mixer))
        encoder.encode(image, 1, drawn=drawn)
        sizes.append(encoder.size)
    assert sizes[0] < sizes[1] < 1.1 * sizes[0]  # it is close, but not a matter of taste
    assert not is_drawn(image, mixer)


@pytest.mark.skipif(core() is None, reason="there is no compiled core")
def test_coding_looks_before_each_image_whether_it_should_go_on(monkeypatch):
    mixer, images, errors = load_model("colour").mixer, np.stack([cut_out(0.5)] * 3), np.zeros(3, np.int64)
    looked = []
    monkeypatch.setattr("smalti.codec.mixing_codec.go_on", lambda: looked.append(1))
    stream, _ = mixing_stream(images, errors, mixer)
    assert len(looked) == 3
    assert (decode_mixing(stream, images.shape, errors, mixer) == images).all()
    assert len(looked) == 6
