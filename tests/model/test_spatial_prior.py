"""The local latents: integers, tables, and the order in which they are coded."""

from dataclasses import replace

import numpy as np
import pytest

from smalti.codec.block_codec import decode_block, encode_block
from smalti.codec.latent_codec import block_of
from smalti.codec.rdo import LatentCode
from smalti.entropy.frequencies import PRECISION, TOTAL
from smalti.model.latent_prior import LATENT_MAX
from smalti.model.masked_mlp import ACTIVATION_MAX, POINTS, embedding_weights
from smalti.model.spatial_prior import (
    BASE_MAX,
    REACH,
    SHARES,
    SYMBOL_MAX,
    WIDTHS,
    SpatialWalk,
    choose,
    inputs,
    nearest_spatial,
    neighbours,
    odd_positions,
    spatial_bits,
    spatial_latents,
)

rng = np.random.default_rng(8)
HIGH = np.array([64, 60, 64])


@pytest.fixture
def spatial(toy):
    """The toy model's, with every latent active."""
    return replace(toy.spatial, active=np.ones_like(toy.spatial.active))


@pytest.fixture
def features(toy) -> np.ndarray:
    return rng.integers(0, ACTIVATION_MAX + 1, (3, toy.spatial.features, 7, 7)).astype(np.float32)


def some_symbols(spatial, spread=3.0) -> np.ndarray:
    shape = (3, spatial.mlp.latents, 7, 7)
    return np.rint(rng.normal(0, spread, shape)).astype(np.int64).clip(-SYMBOL_MAX, SYMBOL_MAX)


def walked(spatial, features, symbols, points=HIGH):
    """All columns of a walk that is told `symbols`, in order."""
    walk, columns = SpatialWalk(spatial, features, points), []
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
    embeddings = embedding_weights(points)

    def layer(x, w, b, q, s):
        return (x @ w.T.astype(np.int64) + b + embeddings @ q.astype(np.int64)) >> s

    w1 = mlp.w1 * (np.concatenate([np.full(k, -1), latent]) < of_unit[:, None])
    w2, w3 = mlp.w2 * (of_unit <= of_unit[:, None]), mlp.w3 * (of_unit <= of_output[:, None])
    a1 = layer(x, w1, mlp.b1, mlp.q1, mlp.s1).clip(0, ACTIVATION_MAX)
    a2 = (layer(a1, w2, mlp.b2, mlp.q2, mlp.s2) + a1).clip(0, ACTIVATION_MAX)
    return layer(a2, w3, mlp.b3, mlp.q3, mlp.s3).reshape(len(x), n, outputs)


def test_the_outputs_are_those_of_plain_integers_at_all_extremes(spatial):
    x = rng.choice([-ACTIVATION_MAX, 0, ACTIVATION_MAX, 77], (60, spatial.mlp.w1.shape[1]))
    points = rng.integers(0, POINTS, 60)
    expected = int64_outputs(spatial.mlp, x, points)
    got = spatial.mlp.outputs(x.T.astype(np.float32), embedding_weights(points).T.astype(np.float32))
    assert (got == expected).all()


def test_a_walk_costs_what_all_at_once_costs(spatial, features):
    symbols = some_symbols(spatial)
    columns, walk = walked(spatial, features, symbols)
    assert (walk.symbols == symbols.transpose(1, 0, 2, 3).reshape(walk.symbols.shape)).all()
    tables = spatial.tables.reshape(WIDTHS * SHARES, -1)
    total = 0.0
    for column in columns:
        off = walk.symbols[column.latent, column.rows] - column.base + REACH
        total += (PRECISION - np.log2(tables[column.table, off])).sum()
    np.testing.assert_allclose(total, spatial_bits(spatial, symbols, features, HIGH).sum(), rtol=1e-12)


def test_every_site_and_latent_is_coded_once_table_by_table(spatial, features):
    columns, _ = walked(spatial, features, some_symbols(spatial))
    assert len(columns) == 2 * spatial.mlp.latents
    odd = np.tile(odd_positions(7, 7).ravel(), 3)
    for i, column in enumerate(columns):
        assert column.latent == i % spatial.mlp.latents
        assert sorted(column.rows) == np.flatnonzero(odd == (i >= spatial.mlp.latents)).tolist()
        assert (np.diff(column.table) >= 0).all()
        assert len(column.table) == len(column.base) == len(column.rows)


def test_what_a_site_may_be_does_not_depend_on_what_comes_later(spatial, features):
    """Even sites know nothing of odd ones, nor a latent of those behind it."""
    symbols = some_symbols(spatial)
    other = np.where(odd_positions(7, 7), some_symbols(spatial), symbols)
    half = spatial.mlp.latents
    for one, two in zip(*(walked(spatial, features, s)[0][:half] for s in (symbols, other)), strict=True):
        assert (one.rows == two.rows).all()
        assert (one.table == two.table).all()
    later = symbols.copy()
    later[:, 3:] = some_symbols(spatial)[:, 3:]
    for one, two in zip(*(walked(spatial, features, s)[0][:4] for s in (symbols, later)), strict=True):
        assert (one.table == two.table).all()


def test_odd_sites_do_look_at_their_neighbours(spatial, features):
    symbols = some_symbols(spatial)
    other = np.where(odd_positions(7, 7), symbols, some_symbols(spatial, spread=20.0))
    half = spatial.mlp.latents
    columns = [walked(spatial, features, s)[0][half:] for s in (symbols, other)]
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
    active = np.zeros_like(toy.spatial.active)
    active[64, 3] = True
    quiet = replace(toy, spatial=replace(toy.spatial, active=active))
    y = np.full((3, *toy.spatial_shape), 900.0, np.float32)
    symbols = nearest_spatial(quiet.spatial, y, np.array([64, 63, 64]))
    assert symbols[:, 3].any((1, 2)).tolist() == [True, False, True]
    assert not np.delete(symbols, 3, 1).any()
    patches = np.zeros((3, 1, toy.latents), np.int64)
    code = LatentCode(np.array([64, 63, 64]), patches, symbols)
    block = block_of(code, quiet)
    assert (decode_block(encode_block(block, quiet), 3, quiet.image_shape, quiet) == block.x_hat).all()


@pytest.mark.parametrize("spread", [0.3, 5.0, 1000.0])
def test_a_block_with_local_latents_comes_back(toy, spread):
    points = np.array([64, 40, 64, 64, 2, 63])
    shape = (6, *toy.spatial_shape)
    y = rng.normal(0, spread, shape) * toy.spatial.steps[points][:, :, None, None]
    spatial = nearest_spatial(toy.spatial, y.astype(np.float32), points)
    patches = np.rint(rng.normal(0, 2, (6, 1, toy.latents))).astype(np.int64)
    patches = patches.clip(toy.grid.low[points][:, None], toy.grid.high[points][:, None])
    code = LatentCode(points, patches, spatial)
    block = block_of(code, toy)
    assert (decode_block(encode_block(block, toy), 6, toy.image_shape, toy) == block.x_hat).all()


def test_any_output_chooses_a_table_and_a_symbol_within_reach(spatial):
    outputs = rng.choice([-(1 << 24), -4096, -7, 0, 9, 4096, 1 << 24], (500, 2)).astype(np.int64)
    points, latents = rng.integers(0, POINTS, 500), rng.integers(0, spatial.mlp.latents, 500)
    base, table = choose(spatial, outputs, points, latents)
    assert np.abs(base).max() <= BASE_MAX
    assert table.min() >= 0
    assert table.max() < WIDTHS * SHARES


def test_the_likeliest_symbol_is_the_one_at_the_centre(spatial):
    centres = np.arange(-600, 600, 7)
    outputs = np.stack([centres, np.full_like(centres, 60)], 1)
    points = np.full(len(centres), 40)
    base, table = choose(spatial, outputs, points, 2)
    frequencies = spatial.tables.reshape(WIDTHS * SHARES, -1)[table]
    assert (frequencies[:, REACH] >= 0.999 * frequencies.max(1)).all()  # half way, two are as likely
    off = centres / spatial.steps[40, 2] - base
    inside = np.abs(base) < BASE_MAX
    assert np.abs(off[inside]).max() < 0.57  # half a step, and half of a share
    outputs[:, 1] = spatial.octaves[40, 2] - 4  # a width of 2^-0.5 steps
    base, table = choose(spatial, outputs, points, 2)
    frequencies = spatial.tables.reshape(WIDTHS * SHARES, -1)[table]
    means = frequencies @ np.arange(-REACH, REACH + 1) / TOTAL
    assert np.abs(means - off)[inside].max() < 0.08  # half of a share, and a little


def test_tables_sum_to_the_whole_and_have_no_zero(spatial):
    assert (spatial.tables.sum(2, dtype=np.int64) == TOTAL).all()
    assert spatial.tables.min() >= 1


def test_latents_and_inputs_stay_within_what_the_networks_take(spatial):
    u = spatial_latents(spatial, np.full((1, spatial.mlp.latents, 7, 7), SYMBOL_MAX), np.array([0]))
    assert u.max() <= LATENT_MAX
    assert inputs(np.array([-LATENT_MAX, -3, 3, LATENT_MAX])).tolist() == [-ACTIVATION_MAX, -2, 1, ACTIVATION_MAX]
