from dataclasses import fields, replace

import numpy as np
import pytest

from smalti.codec.rdo import row_bits
from smalti.entropy.frequencies import TOTAL, bits
from smalti.entropy.logistic_mixture import CDF_ONE, WEIGHT_ONE, frequencies, mixture_cdf
from smalti.model.bundle import load_model
from smalti.model.latent_prior import LATENT_MAX, Grid, LatentWalk, to_latents
from smalti.model.masked_mlp import ACTIVATION_MAX, POINTS, SUBSTEPS, MaskedMLP, embedding_weights

rng = np.random.default_rng(3)


def some_symbols(model, points):
    """Random symbols (`n l`) that the tables know, mostly near 0."""
    low, high = model.grid.low[points], model.grid.high[points]
    return np.rint(rng.normal(0, 2, low.shape)).astype(np.int64).clip(low, high)


def walked(model, points, symbols):
    walk, columns = LatentWalk(model.prior, model.grid, points), []
    for group in walk.groups():
        at = len(columns)
        columns += group
        walk.take(group, symbols[:, at : at + len(group)])
    return columns


def int64_outputs(prior, v, points):
    """The masked MLP in int64, from the definition."""
    n, latents = v.shape
    embeddings = embedding_weights(points)
    units, outputs = len(prior.b1) // latents, len(prior.b3) // latents
    order = np.arange(latents) // prior.group
    of_unit, of_output = order.repeat(units), order.repeat(outputs)

    def layer(x, w, b, q, s):
        return (x @ w.T.astype(np.int64) + b + embeddings @ q.astype(np.int64)) >> s

    w1 = prior.w1 * (order < of_unit[:, None])
    w2, w3 = prior.w2 * (of_unit <= of_unit[:, None]), prior.w3 * (of_unit <= of_output[:, None])
    a1 = layer(v, w1, prior.b1, prior.q1, prior.s1).clip(0, ACTIVATION_MAX)
    a2 = (layer(a1, w2, prior.b2, prior.q2, prior.s2) + a1).clip(0, ACTIVATION_MAX)
    return layer(a2, w3, prior.b3, prior.q3, prior.s3).reshape(n, latents, outputs)


def test_the_outputs_are_those_of_plain_integers_at_all_extremes(model):
    v = np.concatenate([rng.integers(-LATENT_MAX, LATENT_MAX + 1, (30, model.latents)),
                        rng.choice([-LATENT_MAX, LATENT_MAX], (30, model.latents))])  # fmt: skip
    points = rng.integers(0, POINTS, 60)
    expected = int64_outputs(model.prior.mlp, v, points)
    centres, widths, logits = model.prior.outputs(v, points)
    assert (centres == expected[..., :3]).all()
    assert (widths == expected[..., 3:6].clip(0, 111)).all()
    assert (logits == expected[..., 6:].clip(-192, 192)).all()


@pytest.mark.parametrize("name", ["mnist", "mnist-autoencoder"])
def test_a_walk_costs_what_all_at_once_costs(name):
    """Group after group (the decoder's way) and all together (the search's way) are the same integers."""
    model = load_model(name)
    points = np.full(40, 37)
    symbols = some_symbols(model, points)
    columns = walked(model, points, symbols)
    total = sum(bits(c.frequencies, s - c.low) for c, s in zip(columns, symbols.T, strict=True))
    np.testing.assert_allclose(total, row_bits(symbols, points, model), atol=1e-5)  # its bits are integers


def test_what_an_image_may_be_does_not_depend_on_what_comes_later_or_beside_it(model):
    points = np.array([20, 20, 20])
    symbols = some_symbols(model, points)
    other = symbols.copy()
    middle = 12 * model.prior.mlp.group
    other[:, middle:] = some_symbols(model, points)[:, middle:]
    other[1:] = some_symbols(model, points)[1:]
    for i, (one, two) in enumerate(zip(walked(model, points, symbols), walked(model, points, other), strict=True)):
        if i < middle + model.prior.mlp.group:
            assert (one.frequencies[0] == two.frequencies[0]).all()


def test_weights_that_would_look_ahead_count_as_zero(model):
    prior = model.prior.mlp
    n, u = model.latents, len(prior.b1)
    unit, last = np.arange(n).repeat(u // n), n - prior.group
    w1, w2 = prior.w1.copy(), prior.w2.copy()
    w1[:, n - 1] = 20  # every unit sees the last latent,
    w2[unit < last, u - 1] = 1  # and every unit of the second layer the last one of the first
    nosy = replace(model, prior=replace(model.prior, mlp=replace(prior, w1=w1, w2=w2)))
    points = np.full(30, 40)
    symbols = some_symbols(model, points)
    for one, two in zip(prior.layers, nosy.prior.mlp.layers, strict=True):
        assert (one.weights == two.weights).all()
    for one, two in zip(walked(model, points, symbols), walked(nosy, points, symbols), strict=True):
        assert (one.frequencies == two.frequencies).all()


@pytest.mark.parametrize("point", [0, 13, 64])
def test_frequencies_are_at_least_1_and_sum_to_the_whole(model, point):
    points = np.full(20, point)
    for column in walked(model, points, some_symbols(model, points)):
        assert column.frequencies.min() >= 1
        assert (column.frequencies.sum(1) == TOTAL).all()


def test_a_mixture_rises_from_nothing_to_the_whole(model):
    n = 50
    mixture = (rng.integers(-LATENT_MAX, LATENT_MAX, (n, 3)), rng.integers(0, 112, (n, 3)),
               rng.integers(-192, 193, (n, 2)))  # fmt: skip
    edges = np.tile(np.arange(-20_000, 20_001, 7), (n, 1))
    cumulative = mixture_cdf(model.prior.logistics, mixture, edges)
    assert (np.diff(cumulative, axis=1) >= 0).all()
    assert cumulative.min() >= 0
    assert cumulative.max() <= CDF_ONE * WEIGHT_ONE
    assert frequencies(model.prior.logistics, mixture, edges).min() >= 1


def test_points_between_anchors_are_interpolated():
    weights = embedding_weights(np.arange(POINTS))
    assert (weights.sum(1) == SUBSTEPS).all()
    assert ((weights > 0).sum(1) <= 2).all()
    assert (weights[::SUBSTEPS] == SUBSTEPS * np.eye(9, dtype=int)).all()


def test_latents_stay_within_what_the_networks_take():
    assert to_latents(np.array([-3, 5, 9000]), np.array([100, 1, 2])).tolist() == [-300, 5, LATENT_MAX]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: {"w2": np.full_like(p.w2, 127)}, "could reach"),
        (lambda p: {"b3": np.full_like(p.b3, 1 << 24)}, "could reach"),
        (lambda p: {"q1": np.full_like(p.q1, -(1 << 21))}, "could reach"),
        (lambda p: {"s1": np.full_like(p.s1, 25)}, "shift of 25"),
        (lambda p: {"s1": np.full(p.s1.shape, -30, np.int8)}, "right kind"),
        (lambda p: {"b1": np.full(p.b1.shape, np.iinfo(np.int64).min)}, "right kind"),
        (lambda p: {"w2": p.w2[:-1]}, "shape"),
        (lambda p: {"w1": p.w1.astype(float)}, "no integers"),
        (lambda p: {"latents": p.latents + 1}, "hidden units"),
        (lambda p: {"latents": 10 * p.latents}, "hidden units"),
        (lambda p: {"group": 7}, "groups of 7"),
        (lambda p: {"group": 0}, "groups of 0"),
        (lambda p: {"largest": 100 * p.largest}, "could reach"),
    ],
)
def test_a_doctored_network_is_refused(model, change, words):
    with pytest.raises(ValueError, match=words):
        replace(model.prior.mlp, **change(model.prior.mlp))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: {"cdf": p.cdf[::-1]}, "rise"),
        (lambda p: {"cdf": p.cdf[::-1].astype(np.uint32)}, "32 bits"),
        (lambda p: {"cdf": p.cdf[:-1]}, "integers"),
        (lambda p: {"weights": p.weights + 1}, "rise"),
        (lambda p: {"weights": p.weights.astype(float)}, "integers"),
        (lambda p: {"inverse": p.inverse * 2}, "out of range"),
    ],
)
def test_doctored_tables_are_refused(model, change, words):
    with pytest.raises(ValueError, match=words):
        replace(model.prior.logistics, **change(model.prior.logistics))


def test_a_prior_wants_a_network_for_its_latents(model):
    with pytest.raises(ValueError, match="another kind"):
        replace(model.prior, mlp=replace(model.prior.mlp, largest=7))


@pytest.mark.parametrize("field", ["steps", "low", "high"])
def test_a_doctored_grid_is_refused(model, field):
    arrays = {f.name: getattr(model.grid, f.name).copy() for f in fields(Grid)}
    arrays[field][3, 3] = {"steps": 0, "low": 1, "high": 9000}[field]
    with pytest.raises(ValueError, match="grid"):
        Grid(**arrays)


def test_networks_are_made_of_integer_arrays_alone(model):
    arrays = [getattr(model.prior.mlp, f.name) for f in fields(MaskedMLP)][:12]
    assert all(array.dtype.kind in "iu" for array in arrays)
