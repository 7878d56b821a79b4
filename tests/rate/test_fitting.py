# SPDX-License-Identifier: MIT
"""A fit to a collection saves bytes, is in the file, and is left out where it does not pay."""

import numpy as np
import pytest

import smalti
from smalti.codec.batching import BLOCK, EACH
from smalti.core.library import core
from smalti.errors import UsageError
from smalti.model.bundle import bundle_bytes, load_model
from smalti.model.mixing.mixer import INPUTS
from smalti.rate.fitting import fit_model as fitting
from smalti.rate.fitting.fit_model import fit_model
from smalti.rate.fitting.networks import Network, bits_and_gradient, rounded_changes, train_further
from smalti.rate.fitting.rows import RowStore

pytestmark = pytest.mark.skipif(core() is None, reason="there is no compiled core")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Train for a few small steps, and try few fits."""
    monkeypatch.setattr(fitting, "STEPS", 40)
    monkeypatch.setattr("smalti.rate.fitting.networks.BATCH", 256)
    monkeypatch.setattr(fitting, "SHIFTS", (7,))
    monkeypatch.setattr(fitting, "PRIMERS", (12, 24))


def sprites(n: int, c: int = 3, seed: int = 0) -> np.ndarray:
    """Return drawn images (`n 16 16 c`) of one kind: of the same few parts in the same few colours."""
    rng, parts = np.random.default_rng(seed), np.random.default_rng(99)
    colours = parts.integers(0, 256, (12, c), dtype=np.uint8)
    if c in (2, 4):
        colours[:, -1] = 255
    shapes = parts.integers(0, 12, (20, 8, 8))
    rows = rng.integers(0, 20, (n, 2, 2))
    whole = np.concatenate([np.concatenate(list(shapes[rows[:, y]].transpose(1, 0, 2, 3)), 2) for y in range(2)], 1)
    return colours[whole]


def noisy(n: int, seed: int = 0) -> np.ndarray:
    """Return images (`n 16 16 3`) of steep ramps, all with the same noise of a kind that is in no photograph."""
    rng = np.random.default_rng(seed)
    ramp = rng.integers(0, 9, (n, 1, 1, 3)) * np.arange(16)[:, None, None] + rng.integers(0, 5, (n, 1, 1, 3)) * 20
    return np.clip(ramp + 40 * rng.integers(0, 2, (n, 16, 16, 1)) + rng.integers(0, 3, (n, 16, 16, 3)), 0, 255).astype(
        np.uint8
    )


def test_the_gradients_of_the_loss_are_those_of_its_differences():
    mixer = load_model("colour").mixer
    store = RowStore(mixer)
    store.add(list(noisy(3)) + list(sprites(2)), 1.0)
    for channel in range(3):
        rows, inputs = store.rows(channel)[:300], INPUTS[channel]
        network = Network([array.astype(np.float64) for array in Network.of(mixer.networks[channel]).arrays])
        gradients = network.gradients(rows, inputs)
        x = rows[:, :inputs].astype(np.float64) / 64
        for array, gradient in zip(network.arrays, gradients, strict=True):
            at = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
            kept, found = array[at], []
            for by in (1e-5, -1e-5):
                array[at] = kept + by
                bits = bits_and_gradient(network.forward(x)[2], rows[:, inputs:])[0]
                found.append(bits[bits <= 14].sum() / len(bits))
            array[at] = kept
            assert gradient[at] == pytest.approx((found[0] - found[1]) / 2e-5, rel=0.1, abs=1e-4)


def test_changes_are_rounded_to_differences_and_clipped():
    changes = [np.zeros((2, 2), np.float32) for _ in range(3)] + [np.zeros(2, np.float32) for _ in range(3)]
    changes[0][0] = 1 / 16, -100
    changes[2][1, 1] = 1 / 64
    changes[3][1] = -3 / 16
    rounded, shifts = rounded_changes(changes, 7)
    assert shifts == [(7, 13), (7, 13), (5, 11)]
    assert rounded.tolist() == [1, -127, 0, 0, 0, -3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]


def test_training_further_lowers_the_loss_and_is_the_same_each_time():
    mixer = load_model("colour").mixer
    store = RowStore(mixer)
    store.add(list(noisy(40)), 1.0)
    rows, layers = store.rows(0), mixer.networks[0]
    inputs, told = INPUTS[0], []

    def bits(network: Network) -> float:
        out = network.forward(rows[:, :inputs].astype(np.float32) / 64)[2]
        return float(bits_and_gradient(out, rows[:, inputs:])[0].mean())

    changes = [train_further(0, rows, layers, 40, 0.2, lambda: told.append(1)) for _ in range(2)]
    assert all((a == b).all() for a, b in zip(*changes, strict=True))
    assert len(told) == 80
    network = Network.of(layers)
    changed = Network([a + b for a, b in zip(network.arrays, changes[0], strict=True)])
    assert bits(changed) < 0.97 * bits(network)


@pytest.mark.parametrize(("make", "streams"), [(sprites, EACH), (noisy, BLOCK)])
def test_a_fit_saves_what_is_measured_on_images_held_out(make, streams):
    base, told = load_model("colour"), list[float]()
    found = fit_model(list(make(100)), base, 4000, streams, told=told.append)
    assert found.model is not None
    assert found.size == len(bundle_bytes(found.model)) <= 64000
    assert 4000 * found.fitted + found.size < 0.97 * 4000 * found.general
    assert told == sorted(told)
    assert told[-1] == 1
    again = fit_model(list(make(100)), base, 4000, streams)
    assert bundle_bytes(again.model) == bundle_bytes(found.model)


def test_a_fit_that_takes_more_than_it_saves_is_left_out():
    base = load_model("colour")
    noise = np.random.default_rng(0).integers(0, 256, (60, 12, 12, 3), dtype=np.uint8)
    assert fit_model(list(noise), base, 60, BLOCK).model is None
    few = fit_model(list(sprites(30)), base, 10**6, BLOCK)
    assert (few.model, few.general) == (None, 0)
    assert fit_model([sprites(1)[0]] * 500, base, 500, BLOCK).model is None  # copies are one image


def test_pack_writes_the_fit_into_the_file_and_everything_comes_back(tmp_path):
    x, sizes = sprites(130, 4), list[int]()
    for fit in (False, True):
        path = tmp_path / f"{fit}.smalti"
        packed = smalti.pack(x, path, lossless=True, packing="each", fit=fit)
        sizes.append(packed.bytes)
        with smalti.open(path) as archive:
            assert all((a == b).all() for a, b in zip(archive, x, strict=True))
        assert (packed.fitted is not None) == fit
    assert packed.fitted.model is not None
    assert sizes[1] < 0.97 * sizes[0]
    assert smalti.verify(path, deep=True) == []
    more = tmp_path / "more.smalti"
    smalti.append(path, sprites(40, 4, seed=5))
    with smalti.open(path) as archive:
        assert len(archive.contents.index.models) == 1  # images that are appended are coded with the same fit
        assert (archive[140] == sprites(40, 4, seed=5)[10]).all()
    smalti.select(path, more, [3, 129, 140])
    with smalti.open(more) as archive:
        assert (archive[1] == x[129]).all()


@pytest.mark.parametrize("n", [50, 90])
def test_a_file_with_a_fit_is_no_larger_than_one_without(tmp_path, n):
    sizes = [
        smalti.pack(sprites(n, 1), tmp_path / f"{fit}.smalti", lossless=True, fit=fit, model="colour").bytes
        for fit in (False, True)
    ]
    assert sizes[1] <= sizes[0]


def test_a_fit_keeps_the_largest_error_and_mixed_sizes(tmp_path):
    images = [x[: 9 + i % 3] for i, x in enumerate(sprites(100))]
    packed = smalti.pack(images, tmp_path / "x.smalti", max_error=2, fit=True)
    assert packed.fitted.general > 0
    with smalti.open(tmp_path / "x.smalti") as archive:
        for a, b in zip(archive, images, strict=True):
            assert np.abs(a.astype(int) - b).max() <= 2


def test_models_that_cannot_be_fitted_are_refused_before_any_image_is_read(tmp_path):
    for model in ("mnist", "none"):
        with pytest.raises(UsageError, match="cannot be fitted"):
            smalti.pack(tmp_path / "nothing", tmp_path / "x.smalti", lossless=True, fit=True, model=model)


def test_few_images_and_digits_are_packed_without_a_fit(tmp_path):
    for x in (sprites(1), sprites(3)):
        packed = smalti.pack(x, tmp_path / "x.smalti", lossless=True, fit=True, force=True)
        assert packed.fitted is None or packed.fitted.model is None
