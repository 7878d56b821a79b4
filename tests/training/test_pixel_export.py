"""What training knows of pixels, held against what codes them."""

import functools

import helpers
import numpy as np
import pytest
from helpers import TINY_PIXELS, toy_pixels

torch = pytest.importorskip("torch")

from smalti.codec.pixel_codec import quantise, samples_bits
from smalti.model.pixel_prior import MAX_ERROR, to_levels, to_samples
from smalti.model.wavefront import Wavefront
from smalti.training.export.export_pixels import integer_pixels, plain_mixtures
from smalti.training.networks.pixel_network import PixelNet, PixelSize, Windows, level_bits

rng = np.random.default_rng(5)
some_images = functools.partial(helpers.some_images, rng=rng)


def test_the_network_is_that_of_plain_integers(lossless):
    prior = lossless.pixels
    windows = rng.integers(0, 256, (300, prior.window.samples), dtype=np.uint8)
    windows[:50] = rng.choice([0, 255], (50, windows.shape[1]))
    places = [rng.integers(0, n, 300) for n in (64, 64, MAX_ERROR + 1)]
    expected = plain_mixtures(prior, windows, *places)
    assert (prior.mixtures(windows, *places) == expected).all()
    alone = np.concatenate([prior.mixtures(windows[[i]], *(place[[i]] for place in places)) for i in range(20)])
    assert (alone == expected[:20]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_is_told_what_its_window_holds_and_nothing_else(channels):
    """The wavefront, sample after sample, against training's windows of whole images."""
    size = PixelSize(channels, **TINY_PIXELS)
    x = some_images(4, 9, 8, channels)
    planes = x.reshape(4, 9, 8 * channels)
    prior = toy_pixels(channels)
    errors = np.array([0, 5, 0, 40])
    coded = to_levels(planes, errors[:, None, None])
    wavefront = Wavefront(prior, np.tile(planes.shape[1:], (4, 1)), errors)
    found = np.empty((4, 9, 8 * channels, 11), np.int64)
    for place, mixture in wavefront.steps():
        found[place] = np.concatenate(mixture, 1)
        wavefront.take(place, coded[place])
    assert (wavefront.samples == to_samples(coded, errors[:, None, None])).all()
    tensor = torch.from_numpy(x.reshape(4, 9, 8, channels).transpose(0, 3, 1, 2).copy()).float() / 255
    windows = Windows(tensor, torch.from_numpy(errors), size)
    levels, window, *places = windows.pick(torch.ones_like(windows.empty).nonzero(as_tuple=True))
    assert (levels.numpy().reshape(coded.shape) == coded).all()
    expected = prior.mixtures(window.numpy().astype(np.uint8), *(p.numpy() for p in places)).reshape(found.shape)
    expected[..., 4:8] = expected[..., 4:8].clip(0, 111)
    expected[..., 8:] = expected[..., 8:].clip(-192, 192)
    assert (found == expected).all()


@pytest.mark.parametrize("max_error", [0, 4, 42])
def test_what_training_expects_is_what_a_block_takes(max_error):
    size = PixelSize(1, above=3, reach=2, left=3, width=16, layers=2, components=3)
    torch.manual_seed(0)
    net = PixelNet(size).eval()
    x = some_images(8, 12, 12, 1)
    errors = torch.full((8,), max_error)
    windows = Windows(torch.from_numpy(x[:, None].copy()).float() / 255, errors, size)
    levels, *rest = windows.pick(torch.ones_like(windows.empty).nonzero(as_tuple=True))
    with torch.no_grad():
        expected = level_bits(levels, rest[-1], net(*rest, exact=True)).sum()
    _, symbols = quantise([x], np.full(len(x), max_error), integer_pixels(net), 0)
    np.testing.assert_allclose(samples_bits(symbols, max_error).sum(), float(expected), rtol=5e-3)
