# SPDX-License-Identifier: MIT
"""What a mixer begins with when it corrects its networks is learned from images."""

from dataclasses import replace

import numpy as np
import pytest

from smalti.codec.mixing_codec import to_levels
from smalti.core.library import core
from smalti.errors import UsageError
from smalti.model.bundle import load_model
from smalti.model.mixing.engine import mixing_encoder
from smalti.model.mixing.mixer import check_mixer
from smalti.training.mixers.prime import with_corrections


def enlarged(seed: int, n: int) -> list[np.ndarray]:
    """Return images (`h w 3`) of soft waves that were enlarged, so that each pixel is near its neighbours."""
    rng = np.random.default_rng(seed)
    small = np.cumsum(rng.normal(0, 12, (n, 12, 12, 3)), 2).clip(-120, 120) + 128
    large = small.repeat(2, 1).repeat(2, 2)
    soft = (large + np.roll(large, 1, 1) + np.roll(large, 1, 2) + np.roll(large, (1, 1), (1, 2))) / 4
    return list((soft + rng.normal(0, 2, soft.shape)).clip(0, 255).astype(np.uint8))


@pytest.mark.skipif(core() is None, reason="there is no compiled core")
def test_corrections_that_were_learned_save_bytes_from_the_first_image_on():
    start = load_model("colour-fast").mixer
    told = []
    learned = with_corrections(start, enlarged(1, 30), told.append)
    check_mixer(learned)
    assert told == list(range(1, 61))
    unlearned = replace(learned, start=replace(learned.start, corrections=np.zeros_like(start.start.corrections)))
    for error in (0, 2):
        sizes = []
        for mixer in (unlearned, learned):
            size = 0
            for image in enlarged(2, 8):  # each by itself
                encoder = mixing_encoder(mixer, 16)
                encoder.encode(to_levels(image[None], error)[0], 2 * error + 1, drawn=False)
                size += len(encoder.finish())
            sizes.append(size)
        assert sizes[1] < 0.99 * sizes[0], sizes


@pytest.mark.skipif(core() is None, reason="there is no compiled core")
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_images_teach_what_they_can_and_what_was_known_is_forgotten(n):
    start, images = load_model("colour").mixer, [image[:7, :9] for image in enlarged(3, n)]
    weights = with_corrections(start, images).start.corrections
    assert 0 < np.abs(weights).max() < 1 << 18
    blank = replace(start, start=replace(start.start, corrections=np.zeros_like(weights)))
    assert (with_corrections(blank, images).start.corrections == weights).all()


def test_corrections_need_the_core(monkeypatch):
    monkeypatch.setenv("SMALTI_ENGINE", "numpy")
    with pytest.raises(UsageError, match="priming a mixer"):
        with_corrections(load_model("colour-fast").mixer, enlarged(1, 2))
