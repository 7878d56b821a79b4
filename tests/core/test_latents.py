"""The core codes latents of patches and spatial latents in the same integers as numpy, by each of its kernels."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from engines import ENGINES, KERNELS, engine, random_logistics
from helpers import toy_pixels

import smalti
from smalti.codec.block import PatchSymbols
from smalti.codec.latent_codec import _decode_patches, _decode_spatial, _spatial_symbols
from smalti.codec.rdo import LatentCode, patch_cdf
from smalti.core import latents as in_core
from smalti.entropy.frequencies import TOTAL
from smalti.entropy.rans import SeveralStreams, SymbolDecoder, encode_intervals
from smalti.model import latent_prior, spatial_prior
from smalti.model.latent_prior import LATENT_MAX, MAX_SYMBOLS, Grid, LatentPrior
from smalti.model.masked_mlp import ACTIVATION_MAX, EXACT, POINTS, QUALITY_EMBEDDINGS, SUBSTEPS, MaskedMLP
from smalti.model.spatial_prior import REACH, SHARES, WIDTHS, SpatialPrior, spatial_tables

pytestmark = pytest.mark.skipif(not KERNELS, reason="the core was not built; run scripts/core")


MOST_UNITS = 1500
"""Of a layer: numpy takes seconds for a network of more."""


def random_mlp(rng, latents: int, group: int, units: int, outputs: int, context: int, largest: int) -> MaskedMLP:
    """Return a random network whose sums reach as far as is allowed; units and outputs are those of a latent."""
    sizes, arrays = [context + latents, latents * units, latents * units, latents * outputs], {}
    for i, top in enumerate((largest, ACTIVATION_MAX, ACTIVATION_MAX), 1):
        n, inputs = sizes[i], sizes[i - 1]
        share = rng.choice([0.05, 0.4, 1])
        w = rng.integers(-127, 128, (n, inputs)) * (rng.random((n, inputs)) < share)
        if rng.random() < 0.3:
            w = np.abs(w)
        most = (EXACT - 1) // 2 // top
        w = np.trunc(w * np.minimum(1, most / np.maximum(np.abs(w).sum(1, keepdims=True), 1)))
        room = EXACT - 1 - np.abs(w).sum(1).astype(np.int64) * top
        part = room // 2
        q = rng.integers(-1, 2, (QUALITY_EMBEDDINGS, n)) * (part // SUBSTEPS) * (rng.random() < 0.5)
        b = rng.integers(-1, 2, n) * (room - part) if rng.random() < 0.5 else rng.integers(-4096, 4097, n)
        low, high = [(0, 25), (6, 14), (24, 25), (0, 2)][rng.choice(4, p=[0.3, 0.5, 0.1, 0.1])]
        arrays |= {f"w{i}": w.astype(np.int8), f"b{i}": b.astype(np.int32), f"q{i}": q.astype(np.int32)}
        arrays[f"s{i}"] = rng.integers(low, high, n).astype(np.uint8)
    return MaskedMLP(**arrays, latents=latents, largest=largest, group=group)


def random_size(rng) -> tuple[int, int, int]:
    """Return latents, those of a group, and units of a latent."""
    group = int(rng.choice([1, 2, 3, 4, 20]))
    latents = group * int(rng.choice([1, 2, 7, 24]))
    return latents, group, min(int(rng.choice([1, 3, 8, 17])), MOST_UNITS // latents)


def random_points(rng, n: int, alike: bool) -> np.ndarray:
    return np.full(n, rng.integers(POINTS)) if alike else rng.integers(0, POINTS, n)


def some_of_each(rng, symbols: int, streams: bool):
    """Return what a model with latents of patches has, and points and symbols in range."""
    latents, group, units = random_size(rng)
    most = int(rng.choice([0, 1, 20, MAX_SYMBOLS - 1]))
    if most > 20:  # numpy makes whole tables
        symbols, latents = min(symbols, 3), group * min(latents // group, 2)
    prior = LatentPrior(
        random_mlp(rng, latents, group, units, latent_prior.OUTPUTS, 0, LATENT_MAX),
        random_logistics(rng) if rng.random() < 0.3 else toy_pixels(1).logistics,
    )
    low = -rng.integers(0, most + 1, (POINTS, latents))
    grid = Grid(rng.choice([1, 9, 300, LATENT_MAX], (POINTS, latents)), low, low + most)
    patches = int(rng.choice([1, 3]))
    model = SimpleNamespace(prior=prior, grid=grid, patches=patches, latents=latents)
    points = random_points(rng, symbols, streams)
    rows = points.repeat(patches)
    near = rng.integers(-3, 4, (len(rows), latents)).clip(grid.low[rows], grid.high[rows])
    far = rng.integers(grid.low[rows], grid.high[rows] + 1)
    return model, points, np.where(rng.random(near.shape) < 0.7, near, far).reshape(symbols, patches, latents)


def check_patches(seed: int, names: list[str]) -> None:
    rng, streams = np.random.default_rng(seed), seed % 3 == 0
    model, points, symbols = some_of_each(rng, int(rng.choice([1, 2, 5, 20])), streams)
    rows = symbols.reshape(-1, model.latents)
    with engine("numpy"):
        expected = patch_cdf(rows, points.repeat(model.patches), model)
        code = PatchSymbols(points, symbols, expected.reshape(*symbols.shape, 2))
        if streams:
            alone = code.intervals_alone(model.grid).streams()
            data = [encode_intervals([stream]) for stream in alone]
        else:
            data = [encode_intervals([code.intervals(model.grid).stream()])]
    for name in names:
        with engine(name):
            assert np.array_equal(patch_cdf(rows, points.repeat(model.patches), model), expected), name
            decoders = [SymbolDecoder(some) for some in data]
            found = _decode_patches(SeveralStreams(decoders) if streams else decoders[0], points, model)
            assert np.array_equal(found, symbols), name
            for decoder in decoders:
                decoder.finish()


@pytest.mark.parametrize("seed", range(24))
def test_random_priors_at_the_bounds(seed):
    check_patches(seed, ENGINES)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(5))
def test_many_random_priors_at_the_bounds(hundred):
    for seed in range(100 * (hundred + 1), 100 * (hundred + 2)):
        check_patches(seed, ENGINES)


def random_spatial(rng) -> SpatialPrior:
    latents, group, units = random_size(rng)
    features = int(rng.choice([1, 2, 48]))
    mlp = random_mlp(rng, latents, group, units, spatial_prior.OUTPUTS, features + 4 * latents + 1, ACTIVATION_MAX)
    tables = rng.integers(1, 1 << int(rng.integers(1, 14)), (WIDTHS, SHARES, 2 * REACH + 1))
    tables[..., REACH] += TOTAL - tables.sum(2)
    steps = rng.choice([1, 10, 300, LATENT_MAX], (POINTS, latents))
    octaves, active = rng.integers(-1024, 1025, (POINTS, latents)), rng.random((POINTS, latents)) < rng.choice([0.4, 1])
    active[rng.random(POINTS) < 0.2] = False
    return SpatialPrior(mlp, tables.astype(np.int32), steps, octaves, active)


def check_spatial(seed: int, names: list[str]) -> None:
    rng, streams = np.random.default_rng(seed), seed % 3 == 0
    prior, n = random_spatial(rng), int(rng.choice([1, 2, 5]))
    h, w = rng.choice([1, 2, 3, 7], 2).tolist()
    points = random_points(rng, n, streams)
    features = rng.integers(0, ACTIVATION_MAX + 1, (n, prior.features, h, w)) * (rng.random((n, 1, h, w)) < 0.7)
    features = features.astype(np.float32)
    model = SimpleNamespace(spatial=prior, positions=(h, w))
    spread = rng.choice([0, 2, 448])
    symbols = rng.integers(-spread, spread + 1, (n, prior.mlp.latents, h, w)) * prior.active[points][:, :, None, None]
    code = LatentCode(points, np.zeros((n, 1, 1), np.int64), symbols)
    with engine("numpy"):
        expected = spatial_tables(prior, symbols, features, points)
        found, bits = _spatial_symbols(code, features, prior)
        data = [encode_intervals([stream]) for stream in (found.streams() if streams else [found.stream()])]
    for name in names:
        with engine(name):
            for one, other in zip(spatial_tables(prior, symbols, features, points), expected, strict=True):
                assert np.array_equal(one, other), name
            assert np.array_equal(_spatial_symbols(code, features, prior)[1], bits), name
            decoders = [SymbolDecoder(some) for some in data]
            back = _decode_spatial(SeveralStreams(decoders) if streams else decoders[0], points, features, model)
            assert np.array_equal(back, symbols), name
            for decoder in decoders:
                decoder.finish()


@pytest.mark.parametrize("seed", range(15))
def test_random_spatial_priors_at_the_bounds(seed):
    check_spatial(seed, ENGINES)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(5))
def test_many_random_spatial_priors_at_the_bounds(hundred):
    for seed in range(100 * (hundred + 1), 100 * (hundred + 2)):
        check_spatial(seed, ENGINES)


@pytest.mark.parametrize("seed", range(6))
def test_foreign_bytes_give_the_same_symbols(seed):
    rng = np.random.default_rng(seed)
    model, points, _ = some_of_each(rng, 6, False)
    prior, data = random_spatial(rng), rng.bytes(int(rng.integers(0, 400))) + b"\1"
    features = rng.integers(0, ACTIVATION_MAX + 1, (len(points), prior.features, 3, 4)).astype(np.float32)
    spatial, found = SimpleNamespace(spatial=prior, positions=(3, 4)), []
    for name in ENGINES:
        with engine(name):
            decoder = SymbolDecoder(data)
            patches = _decode_patches(decoder, points, model)
            found.append((patches.tolist(), _decode_spatial(decoder, points, features, spatial).tolist()))
    assert all(some == found[0] for some in found)


def test_more_rows_than_the_core_takes_at_a_time(toy):
    rng = np.random.default_rng(3)
    points = rng.integers(0, POINTS, 300)
    grid, latents = toy.grid, toy.latents
    rows = points.repeat(toy.patches)
    symbols = rng.integers(-2, 3, (len(rows), latents)).clip(grid.low[rows], grid.high[rows])
    found = []
    for name in ("numpy", KERNELS[-1]):
        with engine(name):
            found.append(patch_cdf(symbols, rows, toy))
    assert np.array_equal(found[0], found[1])


def test_a_network_that_is_too_large_runs_in_numpy(monkeypatch):
    model, points, symbols = some_of_each(np.random.default_rng(0), 3, False)
    assert model.prior.in_core() is not None
    monkeypatch.setattr(in_core, "MOST_BYTES", 100)
    other = LatentPrior(pickle.loads(pickle.dumps(model.prior.mlp)), model.prior.logistics)
    assert other.in_core() is None
    rows = points.repeat(model.patches), symbols.reshape(-1, model.latents)
    assert np.array_equal(other.cdf(model.grid, rows[1], rows[0]), model.prior.cdf(model.grid, rows[1], rows[0]))


def test_a_network_is_packed_once_for_each_kernel_and_pickled_without():
    mlp = smalti.load_model("mnist").prior.mlp
    for name in KERNELS:
        with engine(name):
            packed = mlp.packed()
            assert packed is mlp.packed()
            assert packed.struct.kernel == packed.core.kernel
    with engine("numpy"):
        assert mlp.packed() is None
    assert "_packed" not in pickle.loads(pickle.dumps(mlp)).__dict__
