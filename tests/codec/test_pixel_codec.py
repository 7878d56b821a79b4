"""Lossless blocks: every pixel back, or none off by more than asked; whatever the images are."""

import functools
from dataclasses import replace

import helpers
import numpy as np
import pytest
from helpers import toy_pixels
from hypothesis import given
from hypothesis import strategies as st

import smalti
from smalti.codec.batching import MOST_LOAD, load
from smalti.codec.block_codec import decode_block, decode_images, encode_block, seal
from smalti.codec.payload.head import FALLBACK, PIXELS, RAW
from smalti.codec.pixel_codec import quantise, samples_bits
from smalti.entropy.frequencies import TOTAL
from smalti.errors import CorruptError, SourceError, UsageError
from smalti.model.bundle import bundle_bytes
from smalti.model.pixel_prior import LEVEL_UNITS, MAX_ERROR, SAMPLE_MAX, Window, level_count, to_levels, to_samples
from smalti.model.wavefront import SampleTables
from smalti.rate.max_error import near_lossless

rng = np.random.default_rng(5)


some_images = functools.partial(helpers.some_images, rng=rng)


def shape_of(x):
    return (*x.shape[1:], 1)[:3]


def back(x, max_error, model):
    payload = seal(near_lossless([x], max_error, model)[0], x, model).data
    return decode_block(payload, len(x), shape_of(x), model), payload


def costs(x, prior, max_error=0):
    """Bits of each image."""
    return samples_bits(quantise([x], np.full(len(x), max_error), prior, 0)[1], max_error)


SHAPES = [(1, 1, 1), (1, 7, 1), (9, 1, 1), (13, 10, 1), (64, 64, 1), (70, 66, 1), (1, 1, 3), (6, 5, 3), (20, 17, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_pixel_comes_back(lossless, shape, channels):
    """Also with a model for other colours."""
    model = replace(lossless, pixels=toy_pixels(channels))
    x = some_images(6, *shape)
    y, payload = back(x, 0, model)
    assert (y == x).all()
    assert y.dtype == np.uint8
    assert len(payload) <= x.nbytes + 1


@pytest.mark.parametrize("max_error", [1, 2, 7, MAX_ERROR])
def test_no_pixel_is_off_by_more_than_asked(lossless, max_error):
    x = some_images(6, 11, 9, 1)
    x[0, :2] = [[0], [255]]
    y, payload = back(x, max_error, lossless)
    assert np.abs(y.astype(int) - x).max() <= max_error
    assert len(payload) < len(back(x, 0, lossless)[1])


@given(st.integers(0, MAX_ERROR), st.integers(0, SAMPLE_MAX))
def test_levels_are_near_samples_and_few(max_error, sample):
    max_error = np.array(max_error)
    level = to_levels(np.array([sample], np.uint8), max_error)
    assert 0 <= level[0] < level_count(max_error)
    assert abs(int(to_samples(level, max_error)[0]) - sample) <= max_error


@pytest.mark.parametrize("max_error", [0, 2, 9, MAX_ERROR])
def test_frequencies_are_at_least_1_and_sum_to_the_whole(lossless, max_error):
    n, k = 40, 4
    mixture = (rng.integers(-100, 256 * LEVEL_UNITS, (n, k)), rng.integers(0, 112, (n, k)),
               rng.integers(-192, 193, (n, k - 1)))  # fmt: skip
    errors = rng.integers(max_error, MAX_ERROR + 1, n)
    symbols = SampleTables(lossless.pixels.logistics, mixture, errors, max_error)
    tables = [symbols.of_zeros(), symbols.of_nibbles()]
    tables += [symbols.of_rest(np.full(n, i)) for i in range(tables[1].shape[1])]
    for table in tables:
        assert table.min() >= 1
        assert (table.sum(1) == TOTAL).all()


def test_an_image_costs_the_same_whatever_is_beside_it(lossless):
    x = some_images(6, 12, 9, 1)
    together = costs(x, lossless.pixels)
    for i in range(6):
        np.testing.assert_allclose(costs(x[i : i + 1], lossless.pixels), together[i], rtol=1e-12)


@pytest.mark.parametrize("max_error", [0, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sizes", [[(9, 7)] * 4, [(9, 7), (3, 30), (1, 1), (70, 2)]], ids=["alike", "several"])
def test_blocks_coded_together_are_those_coded_alone(lossless, max_error, channels, sizes):
    """Some of their images are plain, in one block all. With a model for gray images and with one for RGB."""
    shapes = [(*size, channels) for size in sizes]
    parts = [some_images(n, *shape) for n, shape in zip((5, 1, 4, 3), shapes, strict=True)]
    parts[0][1] = np.resize(np.arange(63, dtype=np.uint8), parts[0][1].shape)
    parts[3] = rng.integers(0, 256, parts[3].shape, dtype=np.uint8)
    for model in (lossless, replace(lossless, pixels=toy_pixels(3))):
        if model.pixels_for(channels) is None:
            continue
        together = [encode_block(block, model) for block in near_lossless(parts, max_error, model)]
        assert together == [encode_block(near_lossless([part], max_error, model)[0], model) for part in parts]
        images = decode_images(list(zip(together, map(len, parts), shapes, strict=True)), model)
        for x, y, payload, shape in zip(parts, images, together, shapes, strict=True):
            assert np.abs(y.astype(int) - x).max() <= max_error
            assert (decode_block(payload, len(x), shape, model) == y).all()
        assert any(payload[0] & FALLBACK and payload[0] != RAW for payload in together)


def test_what_is_best_coded_together_is_not_too_much():
    """Images beside a large one take its room; small ones count for something; whole blocks are at most four."""
    assert load([((28, 28, 1), 4 * 256)]) == MOST_LOAD
    assert load([((28, 28, 1), 4 * 256), ((28, 28, 1), 1)]) > MOST_LOAD
    assert load([((1, 1, 1), 1), ((64, 32, 3), 1)]) == 2 * 64 * 32 * 3
    assert load([((1, 64, 1), 1), ((64, 1, 1), 1)]) == 2 * 64 * 64


def test_noise_is_stored_as_it_is(lossless):
    x = rng.integers(0, 256, (3, 30, 30), dtype=np.uint8)
    y, payload = back(x, 0, lossless)
    assert payload[0] == RAW
    assert (y == x).all()


def test_damage_is_our_error_or_images(lossless):
    x = some_images(4, 5, 5, 1) // 30
    payload = encode_block(near_lossless([x], 0, lossless)[0], lossless)
    assert payload[0] & PIXELS
    damaged = [payload[:end] for end in range(len(payload))]
    damaged += [
        payload[:at] + bytes([payload[at] ^ 1 << bit]) + payload[at + 1 :]
        for at in range(len(payload))
        for bit in range(8)
    ]
    refused = 0
    for data in damaged:
        try:
            y = decode_block(data, 4, (5, 5, 1), lossless)
        except CorruptError:
            refused += 1
            continue
        assert y.shape == x.shape
    assert refused > len(damaged) / 2


def test_a_file_keeps_images_that_are_not_the_models(tmp_path, lossless):
    path = tmp_path / "any.model"
    path.write_bytes(bundle_bytes(lossless))
    model = smalti.load_model(path)
    for x in (some_images(300, 5, 4, 1), some_images(3, 8, 9, 3)):
        file = tmp_path / "any.smalti"
        smalti.pack(x, file, model=path, max_error=0, force=True)
        assert (smalti.load(file, model=path).pixels == x).all()
        with smalti.open(file, model=path) as images:
            assert images.image_shape == shape_of(x)
            assert (images[2] == x[2]).all()
        assert (smalti.decode(smalti.encode(x[0], model=path, max_error=0), model=path) == x[0]).all()
    smalti.pack(some_images(3, 5, 4, 1), file, model=model, quality=20, force=True)
    with smalti.open(file, model=path) as images:
        assert images[:].shape == (3, 5, 4)


def test_what_cannot_be_is_refused(tmp_path, lossless, digits):
    with pytest.raises(UsageError, match="largest error"):
        smalti.pack(digits, tmp_path / "x.smalti", max_error=MAX_ERROR + 1)
    for odd in (2.0, "2", -1):
        with pytest.raises(UsageError, match="whole number"):
            smalti.pack(digits, tmp_path / "x.smalti", max_error=odd)
    assert (
        smalti.decode(smalti.encode(digits[0], model=lossless, max_error=np.uint8(0)), model=lossless) == digits[0]
    ).all()
    with pytest.raises(SourceError, match="no side may exceed"):
        smalti.encode(np.zeros((70_000, 1), np.uint8), max_error=0)
    rgb = replace(lossless, pixels=toy_pixels(3))
    assert (smalti.decode(smalti.encode(digits[0], model=rgb, max_error=0), model=rgb) == digits[0]).all()  # plain
    with pytest.raises(UsageError, match="exclude"):
        smalti.pack(digits, tmp_path / "x.smalti", max_error=0, quality=50)
    with pytest.raises(UsageError, match="by pixels"):
        smalti.pack(digits, tmp_path / "x.smalti", model="mnist-autoencoder", max_error=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: {"biases": (p.biases[0] + (1 << 24), *p.biases[1:])}, "could reach"),
        (lambda p: {"rows": p.rows + (1 << 24)}, "could reach"),
        (lambda p: {"errors": p.errors + (1 << 24)}, "could reach"),
        (lambda p: {"errors": p.errors[:-1]}, "rows, columns and errors"),
        (lambda p: {"columns": p.columns[:-1]}, "rows, columns and errors"),
        (lambda p: {"rows": np.full(p.rows.shape, np.iinfo(np.int64).min)}, "rows, columns and errors"),
        (lambda p: {"shifts": (p.shifts[0] * 0 + 25, *p.shifts[1:])}, "shift of 25"),
        (lambda p: {"shifts": ((p.shifts[0] * 0).astype(np.int8) - 30, *p.shifts[1:])}, "not what"),
        (lambda p: {"biases": (np.full(16, np.iinfo(np.int64).min), *p.biases[1:])}, "not what"),
        (lambda p: {"weights": (*p.weights[:-1], np.zeros((200, 16), np.int16))}, "too large|not what"),
        (lambda p: {"weights": p.weights[:1], "biases": p.biases[:1], "shifts": p.shifts[:1]}, "all of their parts"),
        (lambda p: {"weights": (p.weights[0].astype(float), *p.weights[1:])}, "not what"),
        (lambda p: {"window": Window(3, 3, 2, 3)}, "not what"),
    ],
)
def test_a_doctored_network_is_refused(lossless, change, words):
    with pytest.raises(ValueError, match=words):
        replace(lossless.pixels, **change(lossless.pixels))


def test_a_window_must_be_possible():
    with pytest.raises(ValueError, match="window"):
        Window(2, 3, 2, 3)
