import json
import shutil

import pytest
from helpers import DATA, fails, run

import smalti
from smalti.cli.models import made_how


def test_models_are_listed():
    done = run("models")
    assert "mnist-autoencoder" in done.stdout
    assert smalti.load_model().id.hex() in done.stdout


@pytest.mark.parametrize("columns", [40, 80])
def test_names_and_ids_of_models_are_not_cut_on_a_narrow_terminal(tmp_path, monkeypatch, columns):
    name = "a-model-that-somebody-gave-a-rather-long-name"
    shutil.copy(DATA / "toy.model", tmp_path / f"{name}.model")
    monkeypatch.setenv("SMALTI_MODEL_PATH", str(tmp_path))
    for names in (["mnist-autoencoder", name], ["mnist-autoencoder"]):
        listed = run("models", columns=columns).stdout
        for shown in names:
            assert f" {shown} " in listed
            assert f" {smalti.load_model(shown).id.hex()} " in listed
        assert all(f" {title} " in listed for title in ("images", "bundle"))
        monkeypatch.delenv("SMALTI_MODEL_PATH", raising=False)


def test_a_model_says_in_words_how_it_was_made():
    words = " ".join(run("model", "info", "mnist", columns=80).stdout.split())
    assert "trained on 58,000 images from train-images-idx3-ubyte.gz: 7 epochs, 2,114 steps, 59 minutes" in words
    assert "2,000 other images were held out" in words
    assert "{" not in words
    assert "[" not in words


def test_provenance_is_told_as_far_as_a_bundle_records_it():
    assert made_how({}) == made_how(None) == ""
    everything = {
        "images": 1,
        "sources": list("abcde"),
        "epochs": 1,
        "seconds": 3,
        "smalti": "1.0",
        "date": "2026-11-26",
    }
    assert made_how(everything | {"from": f"mnist {'0f' * 8}"}) == (
        "This part was trained on 1 image from a, b, c and 2 more sources: 1 epoch, 3 seconds."
        " It began with the weights of model mnist (0f0f0f0f0f0f0f0f). smalti 1.0 made it on 2026-11-26."
    )
    odd = {"images": "many", "sources": 3, "epochs": None, "validation_images": 2, "best_epoch": []}
    assert made_how(odd) == "2 other images were held out."


def test_a_model_says_what_it_does():
    done = run("model", "info", "mnist")
    assert "28x28 gray" in done.stdout
    facts = json.loads(run("model", "info", "mnist", "--json").stdout)
    assert facts["id"] == smalti.load_model().id.hex()
    rates = [m["bytes"] for m in facts["qualities"]]
    assert rates == sorted(rates)
    assert [m["pixels"] for m in facts["qualities"]] == sorted(m["pixels"] for m in facts["qualities"])
    assert facts["qualities"][-1]["psnr"] > facts["qualities"][0]["psnr"] + 20
    fails(2, "model", "info", "nonsense", words="no model named")
