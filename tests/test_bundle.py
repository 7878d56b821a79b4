import io
import json
import zipfile

import numpy as np
import pytest

import smalti
from smalti.bundle import MANIFEST, SYNTHESIS, TABLES, bundle_bytes, model_paths
from smalti.errors import ModelError, SourceError, UnknownModelError


@pytest.fixture
def members() -> dict[str, bytes]:
    with zipfile.ZipFile(model_paths()[0]) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


def write(path, members) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    path.write_bytes(file.getvalue())


def test_the_same_model_makes_the_same_bundle(model):
    parts = (model.name, model.image_shape, model.latent_shape, model.points, model.training, model.networks)
    assert bundle_bytes(*parts) == bundle_bytes(*parts)


def test_a_bundle_comes_back_whole(tmp_path, model, digits):
    path = tmp_path / "copy.model"
    path.write_bytes(
        bundle_bytes("x", model.image_shape, model.latent_shape, model.points, model.training, model.networks)
    )
    copy = smalti.load_model(path)
    assert copy.id == model.id
    assert copy.training == model.training
    assert [p.quality for p in copy.points] == [p.quality for p in model.points]
    assert (copy.analyse(digits) == model.analyse(digits)).all()


def test_the_id_changes_with_what_decoding_depends_on_and_with_nothing_else(tmp_path, members):
    ids = []
    for change in ({}, {"training": {"note": "other"}}, {"name": "other"}, {"step": 2.0}):
        manifest = json.loads(members[MANIFEST])
        if "step" in change:
            manifest["decoder"]["points"][0]["step"] = 2.0
        else:
            manifest |= change
        write(tmp_path / "x.model", members | {MANIFEST: json.dumps(manifest).encode()})
        (tmp_path / "x.model").rename(tmp_path / f"{len(ids)}.model")
        ids.append(smalti.load_model(tmp_path / f"{len(ids)}.model").id)
    assert ids[0] == ids[1] == ids[2] != ids[3]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m: m.pop(SYNTHESIS), "synthesis.onnx"),
        (lambda m: m.update({TABLES: m[TABLES][:-4]}), "checksum of tables"),
        (lambda m: m.update({SYNTHESIS: m[SYNTHESIS][:-1] + b"x"}), "checksum of synthesis"),
        (lambda m: m.update({MANIFEST: b"{}"}), "smalti_model"),
        (lambda m: m.update({MANIFEST: b"\xff"}), "not a model bundle"),
        (lambda m: m.update({MANIFEST: m[MANIFEST].replace(b'"smalti_model": 0', b'"smalti_model": 9')}), "version 9"),
    ],
)
def test_a_damaged_bundle_gets_a_named_error(tmp_path, members, damage, message):
    damage(members)
    write(tmp_path / "x.model", members)
    with pytest.raises(ModelError, match=message):
        smalti.load_model(tmp_path / "x.model")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"step": ', b'"step": NaN, "x": '),
        (b'"step": ', b'"step": -1, "x": '),
        (b'"step": ', b'"step": 1e999, "x": '),
        (b'"quality": ', b'"quality": 0, "x": '),
        (b'"quality": ', b'"quality": 50, "x": '),
        (b'"quality": ', b'"quality": 1e999, "x": '),
        (b'"latent_shape": ', b'"latent_shape": [-1, -7, 7], "x": '),
        (b'"latent_shape": ', b'"latent_shape": [], "x": '),
        (b'"image_shape": ', b'"image_shape": [28, 28, 2], "x": '),
        (b'"image_shape": ', b'"image_shape": [0, 28, 1], "x": '),
        (b'"points": ', b'"points": [], "x": '),
        (b'"decoder": ', b'"decoder": ' + b"[" * 100_000 + b', "x": '),
    ],
)
def test_a_hostile_manifest_is_refused(tmp_path, members, old, new):
    assert old in members[MANIFEST]
    write(tmp_path / "x.model", members | {MANIFEST: members[MANIFEST].replace(old, new)})
    with pytest.raises(ModelError, match="not a model bundle"):
        smalti.load_model(tmp_path / "x.model")


def test_flipped_bytes_of_a_bundle_are_noticed_or_harmless(tmp_path, members, model):
    del members["analysis.onnx"], members[SYNTHESIS]  # the large ones: damage there is the zip's checksum's
    write(tmp_path / "x.model", members)
    data = (tmp_path / "x.model").read_bytes()
    for at in range(0, len(data), max(1, len(data) // 150)):
        (tmp_path / f"{at}.model").write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        with pytest.raises(ModelError):
            smalti.load_model(tmp_path / f"{at}.model")


def test_a_damaged_bundle_on_the_search_path_hides_no_other(tmp_path, monkeypatch, packed):
    (tmp_path / "a.model").write_bytes(b"junk")
    (tmp_path / "b.model").mkdir()
    monkeypatch.setenv("SMALTI_MODEL_PATH", str(tmp_path))
    monkeypatch.setattr("smalti.bundle._BUILT_IN", tmp_path / "nothing")
    with pytest.raises(UnknownModelError, match="SMALTI_MODEL_PATH"):
        smalti.unpack(packed)


def test_files_that_are_no_bundles_are_refused(tmp_path):
    (tmp_path / "x.model").write_bytes(b"hello")
    with pytest.raises(ModelError, match="not a model bundle"):
        smalti.load_model(tmp_path / "x.model")
    with pytest.raises(SourceError, match="cannot open model"):
        smalti.load_model(tmp_path / "missing.model")


def test_networks_that_do_not_fit_are_a_model_error(tmp_path, model):
    networks = dict(model.networks) | {SYNTHESIS: model.networks["analysis.onnx"]}
    path = tmp_path / "x.model"
    path.write_bytes(bundle_bytes("x", model.image_shape, (1, 7, 7), model.points, {}, networks))
    with pytest.raises(ModelError, match=r"synthesis.onnx gives \(1, 1, 1\), not \(1, 28, 28\)"):
        smalti.load_model(path).synthesise(np.zeros((1, 49), np.float32))


def test_a_model_on_the_search_path_is_found_by_name_and_by_id(tmp_path, monkeypatch, model, digits, packed):
    folder = tmp_path / "models"
    folder.mkdir()
    points = model.points[:1]
    (folder / "mine.model").write_bytes(
        bundle_bytes("mine", model.image_shape, model.latent_shape, points, {}, model.networks)
    )
    smalti.pack(digits, tmp_path / "x.smalti", model=folder / "mine.model")
    with pytest.raises(UnknownModelError, match="SMALTI_MODEL_PATH"):
        smalti.unpack(tmp_path / "x.smalti")
    with pytest.raises(ModelError, match="was packed with model"):
        smalti.unpack(packed, model=folder / "mine.model")
    monkeypatch.setenv("SMALTI_MODEL_PATH", str(folder))
    assert smalti.load_model("mine").name == "mine"
    assert len(smalti.unpack(tmp_path / "x.smalti").pixels) == 20


def test_the_built_in_model_says_how_it_was_made(model):
    assert {"sources", "epochs", "best_epoch", "validation_mse", "seed"} <= set(model.training)
    assert model.image_shape == (28, 28, 1)
    assert model.latent_shape == (1, 7, 7)
    assert 1 <= min(p.quality for p in model.points) < max(p.quality for p in model.points) <= 100
