# SPDX-License-Identifier: MIT
"""The bytes that a file takes besides its payloads, as they are known before anything is coded."""

import numpy as np
import pytest

import smalti
from smalti.archive import writer
from smalti.rate.mean import encode_batches

RNG = np.random.default_rng(0)


def spare_bytes(images, path, monkeypatch, **asked) -> int:
    """Return by how many bytes a file of these images is smaller than it was said to be at most."""
    most, payloads = list[int](), list[int]()

    def spied(batches, target, effort, overhead, *packing):
        every = list(batches)
        most.append(overhead(every))
        for block in encode_batches(every, target, effort, overhead, *packing):
            payloads.append(len(block.payload))
            yield block

    monkeypatch.setattr(writer, "encode_batches", spied)
    monkeypatch.setattr("smalti.api.encode_batches", spied)
    packed = smalti.pack(images, path, effort=1, force=True, **{"model": "none", **asked})
    return most[0] + sum(payloads) - packed.bytes


def tiny(shapes) -> list[np.ndarray]:
    return [RNG.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


def drawn_shapes(n, rows, columns):
    return list(zip(RNG.integers(*rows, n).tolist(), RNG.integers(*columns, n).tolist(), strict=True))


@pytest.mark.parametrize("shape", [(5, 7), (127, 2), (128, 2), (300, 200), (2, 16384), (20000, 1, 4), (60, 60, 2)])
def test_the_header_of_a_single_file_is_known(tmp_path, monkeypatch, shape):
    for sort in (RNG.integers(0, 256, shape, dtype=np.uint8), np.zeros(shape, np.uint8)):
        assert spare_bytes(sort[None], tmp_path / "x.smalti", monkeypatch) == 0
        if len(shape) == 2 or shape[2] == 3:
            asked = {"model": "mnist", "lossless": True}
            assert 0 <= spare_bytes(sort[None], tmp_path / "x.smalti", monkeypatch, **asked) <= 3


@pytest.mark.parametrize("kinds", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("n", [30, 1000])
def test_the_order_of_kinds_that_have_blocks_of_their_own_is_known(tmp_path, monkeypatch, kinds, n):
    shapes = [(1, 1 + int(k)) for k in RNG.integers(0, kinds, n)]
    packing = smalti.Packing(block_images=min(n, 4))
    assert spare_bytes(tiny(shapes), tmp_path / "x.smalti", monkeypatch, packing=packing) == 0


@pytest.mark.parametrize(
    ("rows", "columns", "n"), [((1, 4), (1, 4), 200), ((1, 30), (1, 30), 200), ((1, 3), (16384, 16484), 40)]
)
@pytest.mark.parametrize("most", [2, 50, 4096])
def test_mixed_blocks_take_at_most_what_is_said(tmp_path, monkeypatch, rows, columns, n, most):
    images = tiny(drawn_shapes(n, rows, columns))
    spare = spare_bytes(images, tmp_path / "x.smalti", monkeypatch, packing=smalti.Packing(block_images=most))
    assert 0 <= spare <= 6 * n + 12 * (1 + n // most)


def test_the_order_of_more_images_than_a_section_holds_takes_at_most_what_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "MAX_SECTION_IMAGES", 500)
    monkeypatch.setattr("smalti.archive.batches.MAX_SECTION_IMAGES", 500)
    monkeypatch.setattr("smalti.container.annotations.MAX_SECTION_IMAGES", 500)
    shapes = [(1, 1 + int(k)) for k in RNG.integers(0, 30, 1600)]
    packing = smalti.Packing(block_images=4)
    assert 0 <= spare_bytes(tiny(shapes), tmp_path / "x.smalti", monkeypatch, packing=packing) <= 2000


@pytest.mark.parametrize("asked", [60, 80, 100])
def test_bytes_that_are_asked_of_several_kinds_are_kept_and_nearly_used(tmp_path, asked):
    digits = smalti.demo.samples.draw_digits(40, seed=4)
    images = [x[: 20 + 8 * int(k)] for x, k in zip(digits, RNG.integers(0, 2, 40), strict=True)]
    packing = smalti.Packing(block_images=4)
    packed = smalti.pack(images, tmp_path / "x.smalti", bytes_an_image=asked, effort=1, packing=packing)
    assert 0.95 * asked < packed.rate <= asked
