# SPDX-License-Identifier: MIT
"""Drawings to train on have flat areas, soft edges and alpha, and come in all variants."""

import numpy as np
import pytest

pytest.importorskip("torch")
from smalti.training.mixers.drawings import drawing, varied


def test_drawings_are_drawn_with_soft_edges_and_follow_the_seed():
    images = [drawing(np.random.default_rng(seed), 32) for seed in range(12)]
    assert all(image.shape == (32, 32, 4) and image.dtype == np.uint8 for image in images)
    assert (images[3] == drawing(np.random.default_rng(3), 32)).all()
    alpha = np.stack(images)[..., 3]
    assert 0.2 < (alpha == 0).mean() < 0.9
    assert 0.005 < ((alpha > 0) & (alpha < 255)).mean() < 0.3
    west = np.stack([(image[:, 1:] == image[:, :-1]).all(2).mean() for image in images])
    assert np.median(west) > 0.4


def test_variants_keep_alpha_and_the_order_of_rows():
    rng = np.random.default_rng(1)
    image = next(x for x in (drawing(rng, 48) for _ in range(99)) if (x[..., 3] != x[:, ::-1, 3]).any())
    found = [varied(rng, image) for _ in range(40)]
    assert {some.shape[2] for some in found} == {4}
    whole = [some for some in found if some.shape == image.shape]
    assert 10 < len(whole) < 40
    rows = np.sort(image[..., 3], 1)
    assert all((np.sort(some[..., 3], 1) == rows).all() for some in whole)
    assert any((some[..., 3] != image[..., 3]).any() for some in whole)
    assert any((some[..., :3] != image[..., :3]).any() for some in whole)
