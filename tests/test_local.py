"""The local latents: integers, tables, and the order in which they are coded."""

from dataclasses import replace

import numpy as np
import pytest

from smalti.code import Code, by_latents
from smalti.codec import decode_block, encode_block
from smalti.latentcoder import synthesise
from smalti.local import (
    BASE_MAX,
    REACH,
    SHARES,
    SYMBOL_MAX,
    WIDTHS,
    LocalWalk,
    choose,
    inputs,
    local_bits,
    local_latents,
    nearest_local,
    neighbours,
    odd_sites,
)
from smalti.masked import ACTIVATION_MAX, POINTS, anchor_weights
from smalti.prior import LATENT_MAX
from smalti.tables import PRECISION, TOTAL

rng = np.random.default_rng(8)
HIGH = np.array([64, 60, 64])


@pytest.fixture
def local(toy):
    """The toy model's, with every latent active."""
    return replace(toy.local, active=np.ones_like(toy.local.active))


@pytest.fixture
def features(toy) -> np.ndarray:
    return rng.integers(0, ACTIVATION_MAX + 1, (3, toy.local.features, 7, 7)).astype(np.float32)


def some_symbols(local, spread=3.0) -> np.ndarray:
    shape = (3, local.mlp.latents, 7, 7)
    return np.rint(rng.normal(0, spread, shape)).astype(np.int64).clip(-SYMBOL_MAX, SYMBOL_MAX)


def walked(local, features, symbols, points=HIGH):
    """All columns of a walk that is told `symbols`, in order."""
    walk, columns = LocalWalk(local, features, points), []
    flat = symbols.transpose(1, 0, 2, 3).reshape(len(symbols[0]), -1)
    for column in walk.columns():
        columns.append(column)
        walk.take(column, flat[column.latent, column.rows])
    return columns, walk


def int64_outputs(mlp, x, points):
    """The masked MLP in int64, from the definition; x: `n k+c`."""
    n, k = mlp.latents, mlp.context
    units, outputs = len(mlp.b1) // n, len(mlp.b3) // n
    of_unit, of_output, latent = np.arange(n).repeat(units), np.arange(n).repeat(outputs), np.arange(n)
    anchors = anchor_weights(points)

    def layer(x, w, b, q, s):
        return (x @ w.T.astype(np.int64) + b + anchors @ q.astype(np.int64)) >> s

    w1 = mlp.w1 * (np.concatenate([np.full(k, -1), latent]) < of_unit[:, None])
    w2, w3 = mlp.w2 * (of_unit <= of_unit[:, None]), mlp.w3 * (of_unit <= of_output[:, None])
    a1 = layer(x, w1, mlp.b1, mlp.q1, mlp.s1).clip(0, ACTIVATION_MAX)
    a2 = (layer(a1, w2, mlp.b2, mlp.q2, mlp.s2) + a1).clip(0, ACTIVATION_MAX)
    return layer(a2, w3, mlp.b3, mlp.q3, mlp.s3).reshape(len(x), n, outputs)


def test_the_outputs_are_those_of_plain_integers_at_all_extremes(local):
    x = rng.choice([-ACTIVATION_MAX, 0, ACTIVATION_MAX, 77], (60, local.mlp.w1.shape[1]))
    points = rng.integers(0, POINTS, 60)
    expected = int64_outputs(local.mlp, x, points)
    got = local.mlp.outputs(x.T.astype(np.float32), anchor_weights(points).T.astype(np.float32))
    assert (got == expected).all()


def test_a_walk_costs_what_all_at_once_costs(local, features):
    symbols = some_symbols(local)
    columns, walk = walked(local, features, symbols)
    assert (walk.symbols == symbols.transpose(1, 0, 2, 3).reshape(walk.symbols.shape)).all()
    tables = local.tables.reshape(WIDTHS * SHARES, -1)
    total = 0.0
    for column in columns:
        off = walk.symbols[column.latent, column.rows] - column.base + REACH
        total += (PRECISION - np.log2(tables[column.table, off])).sum()
    np.testing.assert_allclose(total, local_bits(local, symbols, features, HIGH).sum(), rtol=1e-12)


def test_every_site_and_latent_is_coded_once_table_by_table(local, features):
    columns, _ = walked(local, features, some_symbols(local))
    assert len(columns) == 2 * local.mlp.latents
    odd = np.tile(odd_sites(7, 7).ravel(), 3)
    for i, column in enumerate(columns):
        assert column.latent == i % local.mlp.latents
        assert sorted(column.rows) == np.flatnonzero(odd == (i >= local.mlp.latents)).tolist()
        assert (np.diff(column.table) >= 0).all()
        assert sum(span.stop - span.start for span, _ in column.spans()) == len(column.rows)


def test_what_a_site_may_be_does_not_depend_on_what_comes_later(local, features):
    """Even sites know nothing of odd ones, nor a latent of those behind it."""
    symbols = some_symbols(local)
    other = np.where(odd_sites(7, 7), some_symbols(local), symbols)
    half = local.mlp.latents
    for one, two in zip(*(walked(local, features, s)[0][:half] for s in (symbols, other)), strict=True):
        assert (one.rows == two.rows).all()
        assert (one.table == two.table).all()
    later = symbols.copy()
    later[:, 3:] = some_symbols(local)[:, 3:]
    for one, two in zip(*(walked(local, features, s)[0][:4] for s in (symbols, later)), strict=True):
        assert (one.table == two.table).all()


def test_odd_sites_do_look_at_their_neighbours(local, features):
    symbols = some_symbols(local)
    other = np.where(odd_sites(7, 7), symbols, some_symbols(local, spread=20.0))
    half = local.mlp.latents
    columns = [walked(local, features, s)[0][half:] for s in (symbols, other)]
    assert any((one.rows != two.rows).any() or (one.base != two.base).any() for one, two in zip(*columns, strict=True))


def test_neighbours_are_above_below_left_and_right():
    u = np.arange(6).reshape(1, 1, 2, 3) + 1
    assert neighbours(u)[:, 0].tolist() == [
        [[0, 0, 0], [1, 2, 3]],
        [[4, 5, 6], [0, 0, 0]],
        [[0, 1, 2], [0, 4, 5]],
        [[2, 3, 0], [5, 6, 0]],
    ]


def test_latents_that_are_not_active_are_zero_and_cost_nothing(toy):
    active = np.zeros_like(toy.local.active)
    active[64, 3] = True
    quiet = replace(toy, local=replace(toy.local, active=active))
    y = np.full((3, *toy.local_shape), 900.0, np.float32)
    symbols = nearest_local(quiet.local, y, np.array([64, 63, 64]))
    assert symbols[:, 3].any((1, 2)).tolist() == [True, False, True]
    assert not np.delete(symbols, 3, 1).any()
    cells = np.zeros((3, 1, toy.latents), np.int64)
    code = Code(np.array([64, 63, 64]), cells, symbols)
    payload = encode_block(by_latents(code), quiet)
    assert (decode_block(payload, 3, quiet.image_shape, quiet) == synthesise(code, quiet)).all()


@pytest.mark.parametrize("spread", [0.3, 5.0, 1000.0])
def test_a_block_with_local_latents_comes_back(toy, spread):
    points = np.array([64, 40, 64, 64, 2, 63])
    shape = (6, *toy.local_shape)
    y = rng.normal(0, spread, shape) * toy.local.steps[points][:, :, None, None]
    local = nearest_local(toy.local, y.astype(np.float32), points)
    cells = np.rint(rng.normal(0, 2, (6, 1, toy.latents))).astype(np.int64)
    cells = cells.clip(toy.grid.low[points][:, None], toy.grid.high[points][:, None])
    code = Code(points, cells, local)
    assert (decode_block(encode_block(by_latents(code), toy), 6, toy.image_shape, toy) == synthesise(code, toy)).all()


def test_any_output_chooses_a_table_and_a_symbol_within_reach(local):
    outputs = rng.choice([-(1 << 24), -4096, -7, 0, 9, 4096, 1 << 24], (500, 2)).astype(np.int64)
    points, latents = rng.integers(0, POINTS, 500), rng.integers(0, local.mlp.latents, 500)
    base, table = choose(local, outputs, points, latents)
    assert np.abs(base).max() <= BASE_MAX
    assert table.min() >= 0
    assert table.max() < WIDTHS * SHARES


def test_the_likeliest_symbol_is_the_one_at_the_centre(local):
    centres = np.arange(-600, 600, 7)
    outputs = np.stack([centres, np.full_like(centres, 60)], 1)
    points = np.full(len(centres), 40)
    base, table = choose(local, outputs, points, 2)
    frequencies = local.tables.reshape(WIDTHS * SHARES, -1)[table]
    assert (frequencies[:, REACH] >= 0.999 * frequencies.max(1)).all()  # half way, two are as likely
    off = centres / local.steps[40, 2] - base
    inside = np.abs(base) < BASE_MAX
    assert np.abs(off[inside]).max() < 0.57  # half a step, and half of a share
    outputs[:, 1] = local.octaves[40, 2] - 4  # a width of 2^-0.5 steps
    base, table = choose(local, outputs, points, 2)
    frequencies = local.tables.reshape(WIDTHS * SHARES, -1)[table]
    means = frequencies @ np.arange(-REACH, REACH + 1) / TOTAL
    assert np.abs(means - off)[inside].max() < 0.08  # half of a share, and a little


def test_tables_sum_to_the_whole_and_have_no_zero(local):
    assert (local.tables.sum(2, dtype=np.int64) == TOTAL).all()
    assert local.tables.min() >= 1


def test_latents_and_inputs_stay_within_what_the_networks_take(local):
    u = local_latents(local, np.full((1, local.mlp.latents, 7, 7), SYMBOL_MAX), np.array([0]))
    assert u.max() <= LATENT_MAX
    assert inputs(np.array([-LATENT_MAX, -3, 3, LATENT_MAX])).tolist() == [-ACTIVATION_MAX, -2, 1, ACTIVATION_MAX]
