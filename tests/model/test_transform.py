# SPDX-License-Identifier: MIT
"""The compiled core and numpy code the same bytes by transform, and give the same pixels."""

import io
import itertools
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from random_transform import random_transform
from smalti.core.library import KERNELS, core
from smalti.errors import CorruptError, UsageError
from smalti.model.mixing.reference.decisions import Coder
from smalti.model.transform import engine
from smalti.model.transform.reference import Chances, ReferenceTransform
from smalti.model.transform.transform import (
    LEVELS,
    TAIL_BITS,
    Transform,
    biases_at,
    check_transform,
    level_place,
    transform_arrays,
    transform_from,
)

KAPPA = 8000
SHAPES = ((1, 1, 3), (8, 8, 1), (9, 17, 3), (31, 5, 1), (40, 33, 3))


def use(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """Let a kernel run, or skip if the processor does not run it."""
    monkeypatch.setenv("SMALTI_KERNEL", kernel)
    try:
        if core() is None:
            pytest.skip("there is no compiled core")
    except UsageError:
        pytest.skip(f"the processor does not run {kernel}")


@dataclass(frozen=True)
class Case:
    """A transform, images (`n h w c`), their levels, and what the reference engine makes of them."""

    transform: Transform
    x: np.ndarray
    levels: list[int]
    y: np.ndarray
    stream: bytes
    coded: np.ndarray
    bits: np.ndarray
    factors: np.ndarray
    by_factors: bytes
    x_hat: np.ndarray


def by_reference(transform: Transform, x: np.ndarray, levels: list[int]) -> Case:
    reference, shape = ReferenceTransform(transform), x.shape[1:]
    y = np.concatenate([reference.analyse(x[i : i + 1], level) for i, level in enumerate(levels)])
    size = (*y.shape[1:3], shape[2])
    coder = Coder(None)
    coded, bits = reference.code(coder, np.array(levels), size, y, KAPPA)
    stream = coder.finish()
    factors = np.random.default_rng(0).choice(np.array([1, 90, 256, 3000, 65535], np.uint16), y.shape)
    coder = Coder(None)
    reference.code(coder, np.array(levels), size, y, KAPPA, factors)
    by_factors = coder.finish()
    decoder = Coder(stream)
    again, _ = reference.code(decoder, np.array(levels), size, None, 0)
    decoder.finish()
    np.testing.assert_array_equal(again, coded)
    x_hat = np.concatenate([reference.synthesise(coded[i : i + 1], level, shape) for i, level in enumerate(levels)])
    return Case(transform, x, levels, y, stream, coded, bits, factors, by_factors, x_hat)


@cache
def of_shape(shape: tuple[int, int, int]) -> Case:
    x = np.random.default_rng(sum(shape)).integers(0, 256, (3, *shape), np.uint8)
    x[1] = np.linspace(0, 255, x[1].size).reshape(shape)
    return by_reference(random_transform(sum(shape)), x, [0, 17, LEVELS - 1])


@cache
def at_the_ends(seed: int) -> Case:
    x = np.random.default_rng(seed).choice(np.array([0, 255], np.uint8), (2, 11, 18, 3))
    return by_reference(random_transform(seed, extreme=True), x, [0, LEVELS - 1])


def hold(case: Case) -> None:
    """Hold what the core gives against the reference engine."""
    transform, levels, shape = case.transform, case.levels, case.x.shape[1:]
    y = engine.analyse(transform, case.x, levels)
    np.testing.assert_array_equal(y, case.y)
    stream, coded, bits = engine.encode(transform, y, levels, shape, KAPPA)
    assert stream == case.stream
    np.testing.assert_array_equal(coded, case.coded)
    np.testing.assert_array_equal(bits, case.bits)
    assert engine.encode(transform, y, levels, shape, KAPPA, case.factors)[0] == case.by_factors
    np.testing.assert_array_equal(engine.decode(transform, stream, levels, shape), coded)
    np.testing.assert_array_equal(engine.synthesise(transform, coded, levels, shape), case.x_hat)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_kernel_gives_what_numpy_gives(
    kernel: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, kernel)
    hold(of_shape(shape))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("seed", range(3))
def test_numbers_at_the_ends_of_their_ranges_give_what_numpy_gives(
    kernel: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, kernel)
    hold(at_the_ends(seed))


def test_what_is_decoded_is_encoded_again_to_the_same_bytes() -> None:
    transform, x = random_transform(1), np.random.default_rng(1).integers(0, 256, (2, 20, 20, 3), np.uint8)
    levels, shape = [9, 25], (20, 20, 3)
    stream, coded, _ = engine.encode(transform, engine.analyse(transform, x, levels), levels, shape, KAPPA)
    again, coded_again, _ = engine.encode(transform, coded, levels, shape, 0)
    np.testing.assert_array_equal(coded_again, coded)
    assert again == stream


@pytest.mark.parametrize("engine_name", ["core", "numpy"])
def test_a_stream_with_another_end_is_refused(engine_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transform, x = random_transform(2), np.random.default_rng(2).integers(0, 256, (1, 16, 16, 3), np.uint8)
    stream, _, _ = engine.encode(transform, engine.analyse(transform, x, [4]), [4], (16, 16, 3), KAPPA)
    if engine_name == "core" and core() is None:
        pytest.skip("there is no compiled core")
    monkeypatch.setenv("SMALTI_ENGINE", engine_name)
    for wrong in (stream + bytes(range(1, 7)), stream + b"\0"):
        with pytest.raises(CorruptError, match="another end"):
            engine.decode(transform, wrong, [4], (16, 16, 3))


def test_any_bytes_decode_or_are_refused() -> None:
    transform, rng = random_transform(3), np.random.default_rng(3)
    for _ in range(30):
        stream = rng.integers(0, 256, rng.integers(0, 200), np.uint8).tobytes()
        try:
            coded = engine.decode(transform, stream, [LEVELS - 1], (24, 24, 3))
        except CorruptError:
            continue
        assert np.abs(coded.astype(int)).max() <= 32767


def test_the_chances_of_all_sizes_fall_and_their_costs_are_those_of_the_coder() -> None:
    tables = random_transform(4).tables
    for out, place in (([0, -80, 0, 0], 0), ([0, 60, 40, -30], 10), ([0, 140, -200, 128], 0)):
        chances = Chances(tables, np.array(out), place)
        tails = [chances.tail(size) for size in range(1, 3000)]
        assert all(a >= b >= 1 for a, b in itertools.pairwise(tails))
        assert tails[0] <= 1 << TAIL_BITS
        for size in (0, 1, 2, 5, 40, 300, 20000):
            coder = Coder(None)
            for bit, p in chances._decisions(size):
                coder.code(bit, p)
            assert abs(8 * len(coder.finish()) - chances.cost(size) / 256) < 34


def test_bundles_keep_all_of_a_transform() -> None:
    transform, data = random_transform(5), io.BytesIO()
    np.savez(data, **transform_arrays(transform))
    data.seek(0)
    again = transform_from(np.load(data))
    check_transform(again)
    for name, array in transform_arrays(transform).items():
        np.testing.assert_array_equal(transform_arrays(again)[name], array)


def test_places_of_levels_reach_from_minus_one_to_one() -> None:
    assert [level_place(level)[0] for level in (0, (LEVELS - 1) // 2, LEVELS - 1)] == [-4096, 0, 4096]
    assert level_place(0)[1] == level_place(LEVELS - 1)[1] == 4096
    layer = random_transform(6).prior.second
    assert (biases_at(layer, (LEVELS - 1) // 2) == layer.biases[0]).all()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tables_steps", lambda array: np.zeros_like(array)),
        ("tables_inverses", lambda array: array[:-1]),
        ("tables_tails", lambda array: array[::-1].copy()),
        ("tables_widths", lambda array: array.astype(np.int16)),
        ("tables_places", lambda array: np.full_like(array, 5000)),
        ("tables_shares", lambda array: np.full_like(array, 5000)),
        ("backward", lambda array: np.full_like(array, 32767)),
        ("prior_own", lambda array: np.full_like(array, 32767)),
        ("prior_context_weights", lambda array: np.full_like(array, -32768)),
        ("prior_second_biases", lambda array: np.full_like(array, 1 << 30)),
        ("synthesis_first_weights", lambda array: np.full_like(array, 32767)),
        ("analysis_third_shift", lambda array: np.full_like(array, 32)),
        ("synthesis_second_weights", lambda array: array[:8]),
    ],
)
def test_what_may_overflow_or_leave_its_table_is_refused(name: str, change: object) -> None:
    arrays = transform_arrays(random_transform(7))
    assert callable(change)
    arrays[name] = change(arrays[name])
    with pytest.raises(ValueError, match="transform"):
        check_transform(transform_from(arrays))


def test_a_transform_without_tables_is_no_other() -> None:
    transform = random_transform(8)
    tables = replace(transform.tables, inputs=np.zeros(192, np.int32))
    with pytest.raises(ValueError, match="inputs"):
        check_transform(replace(transform, tables=tables))
