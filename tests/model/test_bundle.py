import hashlib
import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

import smalti
from smalti.errors import ModelError, SourceError, UnknownModelError, UsageError
from smalti.model.bundle import (
    DECODER,
    MANIFEST,
    MEMBERS,
    SPATIAL,
    bundle_bytes,
    decoding_bytes,
    load_model,
    model_paths,
    parse_bundle,
)
from smalti.model.masked_mlp import ACTIVATION_MAX
from smalti.model.model import ANALYSIS, FEATURES, SYNTHESIS
from smalti.model.npz import read_npz, zip_bytes
from smalti.model.proof.networks import check_networks


@pytest.fixture
def members() -> dict[str, bytes]:
    with zipfile.ZipFile(next(p for p in model_paths() if p.stem == "mnist")) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


def write(path, members) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    path.write_bytes(file.getvalue())


def rearranged(members, arrays, member=DECODER) -> dict[str, bytes]:
    """The members with other arrays, and the right checksum."""
    with np.load(io.BytesIO(members[member])) as file:
        changed = {name: file[name] for name in file.files} | arrays
    data = io.BytesIO()
    np.savez(data, **changed)
    manifest = json.loads(members[MANIFEST])
    manifest["sha256"][member] = hashlib.sha256(data.getvalue()).hexdigest()
    return members | {member: data.getvalue(), MANIFEST: json.dumps(manifest).encode()}


def test_the_same_model_makes_the_same_bundle(model):
    assert bundle_bytes(model) == bundle_bytes(smalti.load_model())


def test_a_bundle_comes_back_whole(tmp_path, model, digits):
    path = tmp_path / "copy.model"
    path.write_bytes(bundle_bytes(model))
    copy = smalti.load_model(path)
    assert copy.training == model.training
    assert copy.measured == model.measured
    assert (copy.grid.steps == model.grid.steps).all()
    points = np.full(20, 30)
    assert copy.id == model.id
    for one, two in zip(copy.analyse(digits, points), model.analyse(digits, points), strict=True):
        assert (one == two).all()


def test_the_id_changes_with_what_decoding_depends_on_and_with_nothing_else(tmp_path, members):
    ids = []
    for change in ({}, {"training": {"note": "other"}}, {"name": "other"}, {"decoder": DECODER}):
        manifest, parts = json.loads(members[MANIFEST]), dict(members)
        if "decoder" in change:
            parts[DECODER] += b"\0"  # behind the end of a zip file it changes nothing but the hash
            manifest["sha256"][DECODER] = hashlib.sha256(parts[DECODER]).hexdigest()
        else:
            manifest |= change
        write(tmp_path / "x.model", parts | {MANIFEST: json.dumps(manifest).encode()})
        (tmp_path / "x.model").rename(tmp_path / f"{len(ids)}.model")
        ids.append(smalti.load_model(tmp_path / f"{len(ids)}.model").id)
    assert ids[0] == ids[1] == ids[2] != ids[3]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m: m.pop(SYNTHESIS), "synthesis.onnx"),
        (lambda m: m.update({DECODER: m[DECODER][:-4]}), "checksum of decoder"),
        (lambda m: m.update({SYNTHESIS: m[SYNTHESIS][:-1] + b"x"}), "checksum of synthesis"),
        (lambda m: m.update({MANIFEST: b"{}"}), "smalti_model"),
        (lambda m: m.update({MANIFEST: b"\xff"}), "not a model bundle"),
        (lambda m: m.update({MANIFEST: m[MANIFEST].replace(b'"smalti_model": 2', b'"smalti_model": 9')}), "version 9"),
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
        (b'"cells": ', b'"cells": 0, "x": '),
        (b'"cells": ', b'"cells": 257, "x": '),
        (b'"cells": ', b'"cells": 1e999, "x": '),
        (b'"multipliers": ', b'"multipliers": [], "x": '),
        (b'"multipliers": ', b'"multipliers": NaN, "x": '),
        (b'"measured": ', b'"measured": 7, "x": '),
        (b'"setting": ', b'"setting": 65, "x": '),
        (b'"bytes": ', b'"bytes": NaN, "x": '),
        (b'"psnr": ', b'"psnr": 1e999, "x": '),
        (b'"measured": ', b'"measured": [], "x": '),
        (b'"name": ', b'"name": "\\u001b[31m", "x": '),
        (b'"bytes_an_image": ', b'"bytes_an_image": "x", "y": '),
        (b'"image_shape": ', b'"image_shape": [28, 28, 2], "x": '),
        (b'"image_shape": ', b'"image_shape": [0, 28, 1], "x": '),
        (b'"decoder": ', b'"decoder": ' + b"[" * 100_000 + b', "x": '),
    ],
)
def test_a_hostile_manifest_is_refused(tmp_path, members, old, new):
    assert old in members[MANIFEST]
    write(tmp_path / "x.model", members | {MANIFEST: members[MANIFEST].replace(old, new)})
    with pytest.raises(ModelError, match="not a model bundle"):
        smalti.load_model(tmp_path / "x.model")


@pytest.mark.parametrize(
    "arrays",
    [
        {"steps": np.zeros((65, 96), np.int16)},
        {"steps": np.ones((65, 95), np.int16)},
        {"w2": np.full((768, 768), 127, np.int8)},
        {"w1": np.zeros((768, 96))},
        {"cdf": np.zeros(3, np.int32)},
        {"low": np.full((65, 96), -9000, np.int16)},
    ],
)
def test_hostile_arrays_are_refused(tmp_path, members, arrays):
    write(tmp_path / "x.model", rearranged(members, arrays))
    with pytest.raises(ModelError, match="not a model bundle"):
        smalti.load_model(tmp_path / "x.model")


@pytest.mark.parametrize(
    "arrays",
    [
        {"steps": np.zeros((65, 6), np.int64)},
        {"steps": np.ones((65, 5), np.int64)},
        {"octaves": np.full((65, 6), 5000, np.int64)},
        {"active": np.ones((64, 6), bool)},
        {"tables": np.ones((37, 8, 1025), np.int32)},
        {"tables": np.ones((37, 8, 3), np.int32)},
        {"w3": np.ones((6, 18), np.int8)},
        {"b2": np.full(18, 1 << 24, np.int32)},
    ],
)
def test_hostile_arrays_of_local_latents_are_refused(tmp_path, toy, arrays):
    (tmp_path / "x.model").write_bytes(bundle_bytes(toy))
    with zipfile.ZipFile(tmp_path / "x.model") as bundle:
        members = {name: bundle.read(name) for name in bundle.namelist()}
    write(tmp_path / "x.model", members)
    assert smalti.load_model(tmp_path / "x.model").id == toy.id
    write(tmp_path / "x.model", rearranged(members, arrays, SPATIAL))
    with pytest.raises(ModelError, match="not a model bundle"):
        smalti.load_model(tmp_path / "x.model")


def test_features_beyond_what_was_proven_do_not_reach_the_prior(toy):
    """A stranger's bundle may hold any network; one whose features may be more than the prior assumes never runs."""
    wild = replace(toy, networks=toy.networks | {FEATURES: wide_open(toy.networks[FEATURES])})
    v = np.full((3, toy.latents), 4095)
    with pytest.raises(ModelError, match="does not fit"):
        wild.features(v, np.zeros(3, np.int64))


def wide_open(data: bytes) -> bytes:
    """The graph with every ceiling of 1023 a million."""
    onnx = pytest.importorskip("onnx")
    numpy_helper = pytest.importorskip("onnx.numpy_helper")
    graph = onnx.load_model_from_string(data)
    for tensor in graph.graph.initializer:
        if numpy_helper.to_array(tensor).tolist() == ACTIVATION_MAX:
            tensor.CopyFrom(numpy_helper.from_array(np.float32(1e6), tensor.name))
    return graph.SerializeToString()


def test_flipped_bytes_of_a_bundle_are_noticed_or_harmless(tmp_path, members, model):
    for name in set(MEMBERS) & set(members):
        del members[name]  # the large ones: damage there is the zip's checksum's
    write(tmp_path / "x.model", members)
    data = (tmp_path / "x.model").read_bytes()
    for at in range(0, len(data), max(1, len(data) // 100)):
        (tmp_path / f"{at}.model").write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        with pytest.raises(ModelError):
            smalti.load_model(tmp_path / f"{at}.model")


def test_a_damaged_bundle_on_the_search_path_hides_no_other(tmp_path, monkeypatch, packed):
    (tmp_path / "a.model").write_bytes(b"junk")
    (tmp_path / "b.model").mkdir()
    monkeypatch.setenv("SMALTI_MODEL_PATH", str(tmp_path))
    monkeypatch.setattr("smalti.model.bundle._BUILT_IN", tmp_path / "nothing")
    monkeypatch.setattr("smalti.model.bundle.BUILT_IN_IDS", {})
    with pytest.raises(UnknownModelError, match="SMALTI_MODEL_PATH"):
        smalti.load(packed)


def test_files_that_are_no_bundles_are_refused(tmp_path):
    (tmp_path / "x.model").write_bytes(b"hello")
    with pytest.raises(ModelError, match="not a model bundle"):
        smalti.load_model(tmp_path / "x.model")
    with pytest.raises(SourceError, match="cannot open model"):
        smalti.load_model(tmp_path / "missing.model")


def test_networks_that_do_not_fit_are_a_model_error(tmp_path, toy):
    features, points = np.zeros((1, 16, 7, 7), np.float32), np.zeros(1, np.int64)
    spatial = np.zeros((1, *toy.spatial_shape), np.int64)
    swapped = replace(toy, networks=toy.networks | {SYNTHESIS: toy.networks[ANALYSIS]})
    narrow = replace(toy, image_shape=(28, 14, 1))
    for wrong, message in ((swapped, "no rule to prove Relu exact"), (narrow, r"takes or gives .*\(1, 1, 28, 28\)")):
        (tmp_path / "x.model").write_bytes(bundle_bytes(wrong))
        with pytest.raises(ModelError, match=f"synthesis.onnx:? {message}"):
            smalti.load_model(tmp_path / "x.model")
    with pytest.raises(ModelError, match=r"synthesis.onnx does not fit its manifest"):  # as one that nobody checked
        parse_bundle(bundle_bytes(swapped)).synthesise(features, spatial, points)
    with pytest.raises(ModelError, match=r"synthesis.onnx gives \(1, 1, 28, 28\), not \(1, 1, 28, 14\)"):
        parse_bundle(bundle_bytes(narrow)).synthesise(features, spatial, points)


@pytest.mark.parametrize("name", ["mnist", "mnist-autoencoder"])
def test_a_model_without_what_the_encoder_needs_decodes_the_same(tmp_path, name, digits):
    model = load_model(name)
    data = decoding_bytes(model)
    (tmp_path / "x.model").write_bytes(data)
    half = load_model(tmp_path / "x.model")
    assert len(data) < 0.8 * model.size
    assert half.id == model.id
    assert model.can_encode
    assert not half.can_encode
    assert decoding_bytes(half) == data
    packed = smalti.encode(digits[0], model=model, quality=10)
    assert (smalti.decode(packed, model=half) == smalti.decode(packed, model=model)).all()
    with pytest.raises(UsageError, match=f"model {name} can only decode: .* analysis.onnx"):
        smalti.encode(digits[0], model=half, quality=10)


def test_a_model_that_is_not_what_its_id_says_is_not_halved(toy):
    with pytest.raises(ModelError, match="not what its id says"):
        decoding_bytes(replace(toy, patches=2))


def test_a_hostile_zip_file_is_refused(members):
    def refuse(message: str, change, method: int = zipfile.ZIP_DEFLATED) -> None:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as bundle:
            given = {MANIFEST: members[MANIFEST]}
            for name, data in given.items():
                bundle.writestr(name, data)
            change(bundle)
        with pytest.raises(ModelError, match=message):
            parse_bundle(file.getvalue(), trusted=False)

    many, empty = [f"{i}" for i in range(300)], b""
    refuse("more than 64 members", lambda bundle: [bundle.writestr(name, empty) for name in many[:100]])
    refuse("too many members", lambda bundle: [bundle.writestr(name, empty) for name in many])
    refuse("neither stored nor deflated", lambda _: None, zipfile.ZIP_LZMA)
    refuse("members of", lambda bundle: bundle.writestr(SPATIAL, bytes(65 << 20)))
    with pytest.warns(UserWarning, match="Duplicate name"):
        refuse("two of one name", lambda bundle: bundle.writestr(MANIFEST, empty))
    for data in (b"", b"PK", bytes(100)):
        with pytest.raises(ModelError, match="damaged"):
            parse_bundle(data, trusted=False)


def test_arrays_that_claim_more_than_there_is_are_refused():
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    with pytest.raises(ValueError, match="claims to be of shape"):
        read_npz(zip_bytes({"w.npy": file.getvalue()}))


def test_members_of_other_names_are_not_read(tmp_path, members, model):
    write(tmp_path / "x.model", members | {"notes": bytes(65 << 20)})
    assert smalti.load_model(tmp_path / "x.model").id == model.id


def test_a_model_on_the_search_path_is_found_by_name_and_by_id(tmp_path, monkeypatch, model, digits, packed):
    folder = tmp_path / "models"
    folder.mkdir()
    grid = replace(model.grid, steps=(model.grid.steps - 1).clip(1))
    (folder / "mine.model").write_bytes(bundle_bytes(replace(model, name="mine", grid=grid)))
    smalti.pack(digits, tmp_path / "x.smalti", model=folder / "mine.model")
    with pytest.raises(UnknownModelError, match="SMALTI_MODEL_PATH"):
        smalti.load(tmp_path / "x.smalti")
    with pytest.raises(ModelError, match="was packed with model"):
        smalti.load(packed, model=folder / "mine.model")
    monkeypatch.setenv("SMALTI_MODEL_PATH", str(folder))
    assert smalti.load_model("mine").name == "mine"
    assert len(smalti.load(tmp_path / "x.smalti").pixels) == 20


@pytest.mark.parametrize("name", ["mnist", "fashion", "mnist-autoencoder"])
def test_a_built_in_model_says_what_it_does_and_how_it_was_made(name):
    model = load_model(name)
    assert {"sources", "seed", "architecture", "seconds"} <= set(model.training)
    assert model.image_shape == (28, 28, 1)
    assert model.size < 3_000_000
    assert len(model.measured) == len({(m.pixels, m.setting) for m in model.measured}) >= 17
    by_quality = model.operating_points.by_quality
    assert [m.psnr for m in by_quality] == sorted(m.psnr for m in by_quality)
    assert any(m.pixels for m in by_quality) == (model.pixels is not None)


@pytest.mark.parametrize("name", ["mnist", "fashion", "mnist-autoencoder"])
def test_all_built_in_models_are_proven(name):
    """They are not when they are loaded."""
    check_networks(smalti.load_model(name))
