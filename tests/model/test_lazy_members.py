# SPDX-License-Identifier: MIT
"""Built-in models are read part by part, and are the same as if they were read at once."""

import pickle
import zipfile
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest

import smalti
from smalti.errors import ModelError
from smalti.model import bundle
from smalti.model.bundle import BUILT_IN_IDS, bundle_bytes, load_model, parse_bundle
from smalti.model.mixing.mixer import mixer_arrays
from smalti.model.npz import npz_bytes, zip_bytes
from smalti.model.parts.lazy_members import LazyMembers
from smalti.model.parts.member_names import MANIFEST, MEMBERS
from smalti.model.parts.packed_member import packed, unpacked

built_in = pytest.mark.parametrize("name", BUILT_IN_IDS.values())


@pytest.fixture
def fresh():
    """No model was loaded before, and none stays loaded."""
    bundle._load_once.cache_clear()
    yield
    bundle._load_once.cache_clear()


def path_of(name):
    return bundle._BUILT_IN / f"{name}.model"


def plain(name):
    """Return the bundle of a built-in model as it was before its members were packed or shared."""
    members = LazyMembers(path_of(name).read_bytes(), (MANIFEST, *MEMBERS), lambda other: path_of(other).read_bytes())
    return zip_bytes(dict(members), zipfile.ZIP_STORED)


@built_in
def test_a_model_that_is_read_part_by_part_is_the_same(name, fresh, monkeypatch):
    lazy, whole = load_model(name), replace(parse_bundle(plain(name)), name=name)  # its manifest may have a former name
    assert lazy.name == name
    monkeypatch.setattr(bundle, "zip_bytes", partial(zip_bytes, method=zipfile.ZIP_STORED))  # quicker; the same members
    assert lazy.id == whole.id
    assert dict(lazy.networks) == whole.networks
    assert bundle_bytes(lazy) == bundle_bytes(whole)
    again = pickle.loads(pickle.dumps(load_model(name)))
    assert again.networks == whole.networks
    assert {field.name for field in fields(again)} <= again.__dict__.keys()
    assert replace(lazy, name="other").has_latents == whole.has_latents


@pytest.mark.parametrize("quickly", [True, False])
def test_a_packed_member_comes_back(quickly):
    rng = np.random.default_rng(1)
    arrays = {
        "keys": np.sort(rng.integers(0, 2**32, 999, dtype=np.uint32)),
        "weights": rng.normal(0, 5, (40, 30)).astype(np.int16),
        "table": rng.integers(0, 9, (15, 77)).astype(np.uint8),
        "none": np.zeros((0, 3), np.int32),
        "one": np.array([7], np.int64),
    }
    member = npz_bytes(arrays)
    data = packed(member, quickly=quickly)
    assert unpacked(data) == member
    assert len(data) < 0.8 * len(member)


def test_parts_that_built_in_models_share_are_stored_once():
    in_all = 0
    for name in ("colour", "colour-1", "colour-2", "colour-3", "colour-4", "colour-fast", "colour-fast-1"):
        in_all += path_of(name).stat().st_size
    assert in_all < 6e6
    assert load_model("colour").id != load_model("colour-2").id
    names = "colour", "colour-4", "colour-3", "colour-2"
    ours, fourth, third, second = (mixer_arrays(load_model(name).mixer) for name in names)
    assert ours.keys() - fourth.keys() == {"start_corrections"}
    for newer, older in ((ours, fourth), (fourth, third)):
        assert [key for key in older if not np.array_equal(newer[key], older[key])] == ["uses"]
    assert all((second[key] == third[key]).all() for key in third)


def test_lossless_images_need_the_pixel_prior_alone(fresh, digits, monkeypatch):
    data = smalti.encode(digits[0], model="mnist", lossless=True)
    bundle._load_once.cache_clear()
    read, found = [], LazyMembers.__getitem__
    monkeypatch.setattr(LazyMembers, "__getitem__", lambda self, name: read.append(name) or found(self, name))
    assert (smalti.decode(data) == digits[0]).all()
    assert read == ["manifest.json", "pixels.npz"]


def test_a_damaged_member_is_told_when_it_is_needed(fresh, digits, tmp_path, monkeypatch):
    data = bytearray(path_of("mnist").read_bytes())
    at = data.index(b"local.npz") + 5000
    data[at] ^= 1
    (tmp_path / "mnist.model").write_bytes(data)
    monkeypatch.setattr(bundle, "_BUILT_IN", tmp_path)
    model = load_model("mnist")
    assert model.pixels is not None
    with pytest.raises(ModelError, match="the bundle of model mnist is damaged"):
        _ = model.spatial
    with pytest.raises(AttributeError):
        _ = model.nothing


def test_an_attribute_of_a_class_is_no_part(toy):
    assert not hasattr(toy, "nothing")
    assert np.isscalar(toy.patches)
