# SPDX-License-Identifier: MIT
"""How images are told apart that are drawn, and those of continuous tone; and where their coding can be stopped."""

import numpy as np
import pytest

from smalti.codec import mixing_codec
from smalti.codec.block import ByWebP, Fallback
from smalti.codec.block_codec import decode_block, encode_block, way_at_sight
from smalti.codec.mixing_codec import decode_mixing, encode_mixing, is_drawn, mixing_stream, state_bits
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


def test_what_is_drawn_is_asked_once_although_a_block_is_coded_twice(monkeypatch):
    model, asked = load_model("colour"), []
    x = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    x[3:] = 7
    monkeypatch.setattr(mixing_codec, "is_drawn", lambda image, *_: bool(asked.append(1)) or bool((image == 7).all()))
    block = encode_mixing(x, 0, model).pick(np.array([1, 2, 4]))  # so that its stream is coded anew
    payload = encode_block(block, model)
    assert len(asked) == 6
    assert [way.drawn for way in block.ways] == [False, False, True]
    assert (decode_block(payload, 3, (8, 8, 3), model) == x[[1, 2, 4]]).all()


def test_little_work_finds_webp_for_flat_images_and_deflate_for_noise():
    flat, noise = np.full((40, 40, 3), 9, np.uint8), np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    assert isinstance(way_at_sight(flat, 100.0), ByWebP)
    assert way_at_sight(flat, 1000.0) is not None
    assert way_at_sight(noise, 2000.0) is None
    assert isinstance(way_at_sight(noise, 1.1 * noise.size), Fallback)
    assert isinstance(way_at_sight(noise[:2, :2], 30.0), Fallback)
