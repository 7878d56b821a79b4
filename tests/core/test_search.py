"""The core chooses the same latents as numpy, by each of its kernels."""

from dataclasses import replace

import numpy as np
import pytest
from engines import KERNELS, engine, random_logistics
from helpers import some_images, toy_model

import smalti
from smalti.codec.rdo import LatentCode, _cost, _refine_patches, nearest, refine
from smalti.demo.samples import draw_digits
from smalti.exchange.sources import read_images
from smalti.model.latent_prior import Grid, LatentPrior
from smalti.model.masked_mlp import ACTIVATION_MAX, EXACT, POINTS, QUALITY_EMBEDDINGS, SUBSTEPS, abs_sums
from smalti.model.search.model_search import model_search

pytestmark = pytest.mark.skipif(not KERNELS, reason="the core was not built; run scripts/core")


def check(x, code, model, passes=2, kernels=KERNELS):
    """All engines choose the same symbols; return them."""
    with engine("numpy"):
        expected = _refine_patches(x, code, model, passes)
    for name in kernels:
        with engine(name):
            assert model_search(model) is not None
            assert (_refine_patches(x, code, model, passes) == expected).all(), name
    return expected


@pytest.mark.parametrize(
    ("name", "points"), [("mnist", [0, 17, 17, 40, 64]), ("fashion", [8, 50]), ("mnist-autoencoder", [20])]
)
def test_built_in_models(name, points):
    model, x, points = smalti.load_model(name), draw_digits(len(points)), np.array(points)
    code, _ = nearest(x, points, model)
    found = check(x, code, model, kernels=KERNELS[-2:])
    assert (found != code.symbols).any()
    better = LatentCode(points, found, code.spatial)
    assert (_cost(x, better, model) <= _cost(x, code, model)).all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "point", "n"), [("mnist", 17, 8), ("mnist", 45, 8), ("mnist-autoencoder", 48, 2)])
def test_some_digits_of_the_test_set(mnist, name, point, n):
    model, x = smalti.load_model(name), read_images(mnist / "t10k-images-idx3-ubyte.gz").pixels[: 2 * n]
    code, _ = nearest(x, np.full(2 * n, point), model)
    for i in (0, n):
        rows = np.arange(i, i + n)
        check(x[rows], code.pick(rows), model, kernels=KERNELS[1:])


@pytest.mark.parametrize("passes", [1, 5])
def test_any_image_at_any_point(toy, passes):
    """Noise, black and white images, from symbols that are the nearest, all lowest or all highest."""
    rng = np.random.default_rng(passes)
    x, points = some_images(6, 28, 28, 1, rng), rng.integers(0, POINTS, 6)
    x[0], x[1] = 0, 255
    code, _ = nearest(x, points, toy)
    for symbols in (code.symbols, toy.grid.low[points][:, None], toy.grid.high[points][:, None]):
        check(x, LatentCode(points, symbols, code.spatial), toy, passes)


def random_prior(model, rng) -> LatentPrior:
    """Return a prior of random weights, whose sums reach as far as is allowed, or nearly so."""
    mlp, arrays = model.prior.mlp, {}
    for layer, top in (("1", mlp.largest), ("2", ACTIVATION_MAX), ("3", ACTIVATION_MAX)):
        shape = getattr(mlp, "w" + layer).shape
        w = rng.integers(-128, 128, shape) * (rng.random(shape) < rng.choice([0.02, 0.3, 1]))
        if rng.random() < 0.5:
            w = np.abs(w)
        w = np.trunc(w * np.minimum(1, (EXACT - 1) / 2 / top / np.maximum(abs_sums(w.astype(np.int16)), 1))[:, None])
        room = EXACT - 1 - abs_sums(w.astype(np.int16)) * top
        arrays["w" + layer] = w.clip(-128, 127).astype(np.int8)
        arrays["b" + layer] = rng.integers(-room // 2, room // 2 + 1).astype(np.int32)
        arrays["q" + layer] = (rng.uniform(-1, 1, (QUALITY_EMBEDDINGS, len(w))) * (room // 2 // SUBSTEPS)).astype(
            np.int32
        )
        arrays["s" + layer] = rng.integers(*[(0, 25), (10, 15), (24, 25), (0, 1)][rng.integers(4)], len(w)).astype(
            np.uint8
        )
    logistics = random_logistics(rng) if rng.random() < 0.5 else model.prior.logistics
    return LatentPrior(replace(mlp, **arrays), logistics)


@pytest.mark.parametrize("seed", range(12))
def test_random_priors_at_the_bounds(toy, seed):
    rng = np.random.default_rng(seed)
    widest = rng.integers(0, 2000, toy.grid.low.shape) * (rng.random(toy.grid.low.shape) < 0.8)
    grid = Grid(rng.integers(1, 4096, widest.shape), -widest, rng.permutation(widest.ravel()).reshape(widest.shape))
    model = replace(toy_model(), prior=random_prior(toy, rng), grid=grid)
    x, points = some_images(3, 28, 28, 1, rng), rng.integers(0, POINTS, 3)
    symbols = rng.integers(grid.low[points], grid.high[points] + 1)[:, None]
    spatial = rng.integers(-3, 4, (3, *model.spatial_shape))
    check(x, LatentCode(points, symbols, spatial), model, kernels=[KERNELS[0], KERNELS[-1]])


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 3), (33, 21, 3), (64, 45, 1), (70, 50, 3)])
def test_any_size_and_colour(tmp_path, shape):
    torch = pytest.importorskip("torch")
    from smalti.training.export.export_codec import export_bundle
    from smalti.training.networks.codec_network import Codec
    from smalti.training.networks.transforms import size_for

    torch.set_num_threads(1)
    torch.manual_seed(1)
    tiny = {
        "analysis": (4, 4, 8),
        "groups": (2, 4),
        "synthesis": (8, 4, 4),
        "details": 4,
        "prior": 2,
        "spatial_prior": 2,
    }
    network = Codec(replace(size_for(shape), latents=12, spatial=3, **tiny)).eval()
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    x = some_images(6, *shape, np.random.default_rng(0))
    (tmp_path / "x.model").write_bytes(export_bundle(network, "x", x, x[:4], {}))
    model, points = smalti.load_model(tmp_path / "x.model"), np.array([0, 13, 30, 31, 50, 64])
    code, _ = nearest(x, points, model)
    check(x, code, model)


def test_refined_images_are_the_same_with_threads(digits, model):
    points = np.full(20, 45)
    code, positions = nearest(digits[:20], points, model)
    found = []
    for name in ("numpy", KERNELS[-1]):
        with engine(name):
            found.append(refine(digits[:20], code, positions, model, 1))
    assert (found[0].symbols == found[1].symbols).all()
    assert (found[0].spatial == found[1].spatial).all()
