# SPDX-License-Identifier: MIT
"""A fit changes the mixer of its base in the same way on all engines, and a hostile one is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

import smalti
from model.test_mixing import coded, drawn_image, random_mixer, tone_image
from smalti.core.library import core
from smalti.errors import CorruptError, ModelError
from smalti.model.bundle import FIT, MANIFEST, bundle_bytes, parse_bundle
from smalti.model.mixing.engine import mixing_encoder
from smalti.model.mixing.fit import (
    MAX_PRIMER_BYTES,
    MAX_SHIFT,
    PRIMER_BITS,
    Fit,
    changed_networks,
    fit_arrays,
    fit_from,
    fitted_mixer,
)
from smalti.model.mixing.mixer import Mixer, Seen, check_mixer
from smalti.model.npz import npz_bytes, unzip, zip_bytes

BASE = b"12345678"


def differences(mixer: Mixer, seed: int = 0) -> np.ndarray:
    """Return differences of all weights and biases of a mixer, most of them 0."""
    sizes = sum(a.size for network in mixer.networks for layer in network for a in (layer.weights, layer.biases))
    rng = np.random.default_rng(seed)
    return (rng.integers(-3, 4, sizes) * (rng.random(sizes) < 0.2)).astype(np.int8)


def fit_of(mixer: Mixer, images, changes: np.ndarray, base: bytes = BASE) -> Fit:
    """Return a fit with a primer of images (`h w c`)."""
    shifts = np.full((3, 3, 2), 4, np.uint8)
    encoder = mixing_encoder(changed_networks(mixer, changes, shifts), PRIMER_BITS)
    for i, image in enumerate(images):
        encoder.encode(image, 1, drawn=i % 2 == 0)
    stream = np.frombuffer(encoder.finish() if images else b"", np.uint8)
    return Fit(base, changes, shifts, np.array([x.shape for x in images], np.uint16).reshape(-1, 3), stream, 2)


def some_images() -> list[np.ndarray]:
    return [drawn_image(7, 9, 4), tone_image(6, 5, 3), drawn_image(5, 8, 1), tone_image(4, 7, 2)]


@pytest.mark.skipif(core() is None, reason="there is no compiled core")
@pytest.mark.parametrize("images", [[], some_images()], ids=["no primer", "primer"])
@pytest.mark.parametrize("changed", [False, True])
def test_the_core_and_the_reference_engine_make_the_same_of_a_fit(monkeypatch, images, changed):
    mixer = random_mixer()
    found = []
    for engine in ("numpy", "core"):
        monkeypatch.setenv("SMALTI_ENGINE", engine)
        again = replace(mixer)
        fit = fit_of(again, images, differences(again) if changed else np.zeros(0, np.int8))
        fitted = fitted_mixer(again, fit)
        check_mixer(fitted)
        found.append((fit.primer.tobytes(), fitted, coded(fitted, FIXED, 1, [True, False])))
    (one, of_one, stream), (other, of_other, stream2) = found
    assert one == other
    assert stream == stream2
    assert (stream != coded(mixer, FIXED, 1, [True, False])) == bool(images or changed)
    for name in vars(of_one.start):
        assert (getattr(of_one.start, name) == getattr(of_other.start, name)).all(), name
    if images:
        assert (of_one.seen.matches == of_other.seen.matches).all()
        assert (of_one.seen.colours == of_other.seen.colours).all()
        assert of_one.seen.colours.any()
    lines = [fitted.lines[np.argsort(fitted.lines[:, 0])] for fitted in (of_one, of_other)]
    assert (lines[0] == lines[1]).all()
    assert len(lines[0]) > len(mixer.lines) or not images


FIXED = [drawn_image(6, 7, 3), tone_image(5, 9, 3)]


def test_matches_that_come_together_leave_the_first_of_the_surest():
    matches = np.zeros((3, 1 << 16, 2), np.uint32)
    matches[1, 8:16] = [(0, 0), (5, 0), (6, 2), (7, 2), (8, 1), (0, 2), (0, 0), (9, 2)]
    matches[1, 16:20, 0] = 0, 3, 4, 0
    matches[2, -1] = 11, 255
    seen = Seen(matches, np.zeros(15, np.uint32))
    folded = seen.folded(14)
    assert folded.shape == (3, 1 << 14, 2)
    assert folded[1, 2:5].tolist() == [[6, 2], [9, 2], [3, 0]]
    assert folded[2, -1].tolist() == [11, 255]
    assert not folded[0].any()
    assert (seen.folded(16) == matches).all()
    assert seen.folded(13)[1, 1].tolist() == [6, 2]


def test_a_fit_adds_shifted_differences_and_clips_weights():
    mixer = random_mixer(largest=400)
    changes = np.zeros(len(differences(mixer)), np.int8)
    shifts = np.zeros((3, 3, 2), np.uint8)
    first = mixer.networks[0][0]
    changes[[0, 1]] = 127, -128
    shifts[0, 0, 0] = 12
    changes[first.weights.size + 3] = -5
    shifts[0, 0, 1] = 7
    got = changed_networks(mixer, changes, shifts).networks
    assert got[0][0].weights.ravel()[:2].tolist() == [32767, -32768]
    assert (got[0][0].weights.ravel()[2:] == first.weights.ravel()[2:]).all()
    assert got[0][0].biases[3] == first.biases[3] - (5 << 7)
    assert all(
        (a.weights == b.weights).all() and (a.biases == b.biases).all()
        for one, other in zip(got[1:], mixer.networks[1:], strict=True)
        for a, b in zip(one, other, strict=True)
    )
    last = np.zeros_like(changes)
    last[-1] = 1
    assert changed_networks(mixer, last, shifts).networks[2][2].biases[-1] == mixer.networks[2][2].biases[-1] + 1


def test_networks_of_a_fit_that_could_overflow_are_refused():
    mixer = random_mixer((256, 8), largest=20)
    changes = np.full(len(differences(mixer)), 127, np.int8)
    with pytest.raises(ValueError, match="32 bits"):
        fitted_mixer(mixer, Fit(BASE, changes, np.full((3, 3, 2), 16, np.uint8), *nothing()))


def nothing() -> tuple[np.ndarray, np.ndarray, int]:
    return np.zeros((0, 3), np.uint16), np.zeros(0, np.uint8), 1


def test_a_fit_comes_back_from_its_arrays_and_hostile_ones_are_refused():
    mixer = random_mixer()
    arrays = fit_arrays(fit_of(mixer, some_images(), differences(mixer)))
    again = fit_arrays(fit_from(BASE, arrays))
    assert all((again[name] == arrays[name]).all() for name in arrays)
    shapes = arrays["shapes"]
    for name, wrong in (
        ("differences", arrays["differences"].astype(np.int16)),
        ("differences", arrays["differences"][None]),
        ("shifts", arrays["shifts"][:, :, :1]),
        ("shifts", arrays["shifts"].astype(np.int64)),
        ("shifts", np.full((3, 3, 2), MAX_SHIFT + 1, np.uint8)),
        ("shapes", shapes.astype(np.uint32)),
        ("shapes", shapes[:, :2]),
        ("shapes", shapes * np.array([1, 0, 1], np.uint16)),
        ("shapes", shapes + np.array([0, 0, 4], np.uint16)),
        ("shapes", np.full((1, 3), (65535, 65535, 4), np.uint16)),
        ("shapes", np.ones((1025, 3), np.uint16)),
        ("primer", arrays["primer"].astype(np.int8)),
        ("primer", np.zeros(MAX_PRIMER_BYTES + 1, np.uint8)),
        ("least", np.zeros(1, np.uint8)),
        ("least", np.ones(2, np.uint8)),
        ("least", np.ones(1, np.int64)),
    ):
        with pytest.raises(ValueError, match=r"fit|primer"):
            fit_from(BASE, arrays | {name: wrong})
    for name in arrays:
        with pytest.raises(KeyError):
            fit_from(BASE, {key: array for key, array in arrays.items() if key != name})
    with pytest.raises(ValueError, match="differences"):
        fitted_mixer(mixer, replace(fit_from(BASE, arrays), differences=arrays["differences"][:-1]))


def test_a_primer_with_another_end_is_refused_and_other_bytes_are_harmless():
    mixer = random_mixer()
    fit = fit_of(mixer, some_images(), differences(mixer))
    with pytest.raises(CorruptError, match="end"):
        fitted_mixer(mixer, replace(fit, primer=np.append(fit.primer, np.full(9, 7, np.uint8))))
    rng, refused = np.random.default_rng(3), 0
    for _ in range(10):
        try:
            check_mixer(
                fitted_mixer(mixer, replace(fit, primer=rng.integers(1, 256, 300, dtype=np.uint8)[: len(fit.primer)]))
            )
        except CorruptError:
            refused += 1
    assert refused < 10


@pytest.fixture(scope="module")
def members() -> dict[str, bytes]:
    base = smalti.load_model("colour")
    fit = fit_of(base.mixer, some_images(), np.zeros(0, np.int8), base.id)
    return unzip(bundle_bytes(replace(base, name="colour, fitted", fit=fit)))


def test_the_bundle_of_a_fitted_model_is_small_and_comes_back(members):
    model = parse_bundle(zip_bytes(members), trusted=False)
    base = smalti.load_model("colour")
    assert (model.name, model.fit.base) == ("colour, fitted", base.id)
    assert model.id != base.id
    assert unzip(bundle_bytes(model)) == members
    assert len(zip_bytes(members)) < 3000
    assert model.mixer.networks == base.mixer.networks
    assert len(model.mixer.lines) > len(base.mixer.lines)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("0123456789abcdef", "not built in"),
        ("e8fc90d26a234f18", "does not code by mixing"),
        ("0000000000000000", "does not code by mixing"),
        ("x", "damaged"),
        (7, "damaged"),
        (None, "damaged"),
    ],
)
def test_a_base_that_is_not_built_in_or_cannot_mix_is_refused(members, base, message):
    manifest = json.loads(members[MANIFEST])
    manifest["decoder"]["base"] = base
    with pytest.raises(ModelError, match=message):
        parse_bundle(zip_bytes(members | {MANIFEST: json.dumps(manifest).encode()}), trusted=False)


def test_a_base_that_is_a_fit_is_refused(members):
    manifest = json.loads(members[MANIFEST])
    manifest["decoder"]["base"] = parse_bundle(zip_bytes(members)).id.hex()
    with pytest.raises(ModelError, match="not built in"):
        parse_bundle(zip_bytes(members | {MANIFEST: json.dumps(manifest).encode()}), trusted=False)


def test_damaged_members_of_a_fit_are_refused(members):
    wrong = npz_bytes({"differences": np.zeros(3, np.int8)})
    with pytest.raises(ModelError, match="checksum"):
        parse_bundle(zip_bytes(members | {FIT: wrong}), trusted=False)
    with pytest.raises(ModelError, match="lacks manifest"):
        parse_bundle(zip_bytes({FIT: members[FIT]}), trusted=False)
    with pytest.raises(ModelError):
        parse_bundle(zip_bytes({MANIFEST: members[MANIFEST]}), trusted=False)


def test_a_fitted_model_is_loaded_from_a_path_too(tmp_path, members):
    path = tmp_path / "x.model"
    path.write_bytes(zip_bytes(members))
    assert smalti.load_model(path).fit is not None
