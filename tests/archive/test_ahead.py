# SPDX-License-Identifier: MIT
"""All images of a file are the same whether their blocks are decoded ahead or asked for part by part."""

from pathlib import Path

import numpy as np
import pytest

import smalti
from smalti.archive.reading import ahead

GOLDEN = Path(__file__).parents[1] / "golden"
OUT_OF_ORDER = ("v1-merged", "v1-mixed-lists", "v1-mixed-numbers", "v2-changed", "v2-copies", "v2-joined")
"""Files whose images are not in the order of their blocks."""


@pytest.mark.parametrize("name", OUT_OF_ORDER)
@pytest.mark.parametrize(("most_open", "most_bytes"), [(16, 1), (16, 1 << 24), (0, 1 << 24)])
def test_images_come_in_their_order_whatever_is_decoded_ahead(name, most_open, most_bytes, monkeypatch):
    monkeypatch.setattr(ahead, "MOST_OPEN", most_open)
    monkeypatch.setattr(ahead, "CHUNK_BYTES", most_bytes)
    with smalti.open(GOLDEN / f"{name}.smalti") as archive:
        assert not archive._places.in_order
        found, one_by_one = list(archive), [archive[i] for i in range(len(archive))]
    assert len(found) == len(one_by_one) > 0
    assert all(np.array_equal(a, b) for a, b in zip(found, one_by_one, strict=True))


def test_blocks_are_not_decoded_ahead_if_too_many_are_open():
    assert ahead.in_turn(np.array([], np.int64)) == []
    assert ahead.in_turn(np.repeat(np.arange(100), 2)) is not None
    assert ahead.in_turn(np.tile(np.arange(16), 2)) is not None
    assert ahead.in_turn(np.tile(np.arange(17), 2)) is None


@pytest.mark.parametrize("name", ["v2-changed", "v2-each-ways", "v2-mixing-alpha"])
def test_an_image_that_is_kept_keeps_no_others(name):
    with smalti.open(GOLDEN / f"{name}.smalti") as archive:
        assert all(image.base is None for image in archive)
