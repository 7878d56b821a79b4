# SPDX-License-Identifier: MIT
"""Images are reduced to what, enlarged, comes closest to them; enlarging is that of the specification."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from smalti.model.transform import reduction as reduction_module
from smalti.model.transform.reduction import (
    EIGHTHS,
    FINER,
    LAST_LEVEL,
    PHASES,
    PIECE,
    TAP_BITS,
    TAPS,
    enlarged,
    possible_at,
    reduced,
    reduced_side,
)

RNG = np.random.default_rng(5)
REDUCTIONS = range(1, len(EIGHTHS))
SIZES = ((1, 1), (1, 9), (7, 2), (8, 8), (13, 31), (32, 24), (65, 5))


def noise(n: int, h: int, w: int, c: int) -> np.ndarray:
    return RNG.integers(0, 256, (n, h, w, c)).astype(np.uint8)


def small(n: int, h: int, w: int, c: int, reduction: int) -> np.ndarray:
    return noise(n, reduced_side(h, reduction), reduced_side(w, reduction), c)


def plainly_enlarged(x: np.ndarray, h: int, w: int, reduction: int) -> np.ndarray:
    """Return one plane (`h w`) enlarged, sample by sample, as `docs/format.md` tells it."""
    rows, columns = x.shape
    found = np.zeros((h, w), np.uint8)
    for i in range(h):
        for j in range(w):
            a, b = ((2 * k + 1) * EIGHTHS[reduction] - 8 for k in (i, j))
            total = 0
            for p in range(4):
                for q in range(4):
                    y, z = min(max(a // 16 - 1 + p, 0), rows - 1), min(max(b // 16 - 1 + q, 0), columns - 1)
                    total += int(TAPS[a % 16][p]) * int(TAPS[b % 16][q]) * int(x[y, z])
            found[i, j] = min(max((total + 2**13) >> 14, 0), 255)
    return found


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_images_are_enlarged_as_it_is_specified(reduction, size):
    x = small(2, *size, 3, reduction)
    found = enlarged(x, *size, reduction)
    expected = [[plainly_enlarged(image[..., k], *size, reduction) for k in range(3)] for image in x]
    np.testing.assert_array_equal(found, np.array(expected).transpose(0, 2, 3, 1))


def test_taps_are_those_of_cubic_convolution_and_of_the_specification():
    for phase in range(PHASES):
        t = Fraction(phase, PHASES)
        exact = [-(t**3) / 2 + t**2 - t / 2, 3 * t**3 / 2 - 5 * t**2 / 2 + 1]
        t = 1 - t
        exact += [3 * t**3 / 2 - 5 * t**2 / 2 + 1, -(t**3) / 2 + t**2 - t / 2]
        assert sum(TAPS[phase]) == 1 << TAP_BITS
        assert max(abs(tap - value * (1 << TAP_BITS)) for tap, value in zip(TAPS[phase], exact, strict=True)) < 0.6
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (-?\d+) \| (-?\d+) \| (-?\d+) \| (-?\d+) \|$", text, re.MULTILINE)
    assert [tuple(map(int, row)) for row in rows] == [(i, *taps) for i, taps in enumerate(TAPS.tolist())]


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_what_was_enlarged_is_reduced_to_itself(reduction):
    x = small(3, 40, 29, 3, reduction) // 2 + 64  # enlarging leaves nothing that would be clipped
    found = reduced(enlarged(x, 40, 29, reduction), reduction)
    assert np.abs(found - x).max() < 3


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_all_machines_reduce_alike_because_sums_are_exact(reduction):
    weights = reduction_module._closest(37, reduction) * (1 << reduction_module.WEIGHT_BITS)
    assert (weights == np.rint(weights)).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_no_other_smaller_image_comes_closer(reduction):
    x = noise(1, 24, 24, 1) // 2 + 64
    best = reduced(x, reduction)

    def error(some: np.ndarray) -> float:
        z = enlarged(np.rint(some).clip(0, 255).astype(np.uint8), 24, 24, reduction)
        return float(((z.astype(float) - x) ** 2).sum())

    assert best.shape[1:3] == (reduced_side(24, reduction),) * 2
    assert all(error(best) < error(best + RNG.normal(0, 6, best.shape)) for _ in range(20))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_long_side_is_reduced_in_pieces_that_do_not_show(reduction):
    side = 2 * PIECE + 77
    x = (np.cumsum(RNG.normal(0, 2, (1, side, 3, 1)), 1) % 200).astype(np.int64)
    found = reduced(x, reduction)
    assert found.shape[1] == reduced_side(side, reduction)
    start = PIECE - 80  # a part of the image that holds a seam, reduced by itself
    part = reduced(x[:, start : start + 160], reduction)
    first, few = reduced_side(start, reduction), reduced_side(48, reduction)
    middle = slice(few, part.shape[1] - few)
    np.testing.assert_allclose(found[:, first + few : first + part.shape[1] - few], part[:, middle], atol=0.05)


def test_the_levels_of_each_reduction_are_those_of_coefficients():
    every = np.arange(-2, LAST_LEVEL + 3)
    assert every[possible_at(every, 0)].tolist() == list(range(41))
    for reduction in REDUCTIONS:
        assert every[possible_at(every, reduction)].tolist() == [level + FINER[reduction] for level in range(41)]
    assert any(possible_at(np.array([LAST_LEVEL]), reduction)[0] for reduction in REDUCTIONS)
