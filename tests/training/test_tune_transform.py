"""The lossy half of the general model is tuned to a collection, and the bundle holds what differs."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import smalti
from smalti.core.library import core
from smalti.demo.samples import draw_digits
from smalti.errors import ModelError, TrainingError, UsageError
from smalti.model.bundle import bundle_bytes, load_model, parse_bundle
from smalti.model.npz import npz_bytes, read_npz, unzip, zip_bytes
from smalti.model.parts.changes import SHIFTS, changed_transform, changes_member
from smalti.model.transform.transform import transform_arrays
from smalti.training import TrainingPlan
from smalti.training.listener import Nobody
from smalti.training.train_bundle import train, training_folder
from smalti.training.transforms import tune as tuning

pytestmark = pytest.mark.skipif(core() is None, reason="there is no compiled core")
PLAN = TrainingPlan(start="colour", minutes=0.1, lossy=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tuning, "BLOCKS", 64)
    monkeypatch.setattr(tuning, "TOLD_STEPS", 1)
    monkeypatch.setattr(tuning, "KEPT_SECONDS", 1.0)
    monkeypatch.setattr(tuning, "RATE", 2e-3)


def badges(n: int, seed: int = 0) -> list[np.ndarray]:
    """Return pictures of one kind: digits in one colour on a ground of another, some with alpha, some in gray."""
    rng, found = np.random.default_rng(seed), list[np.ndarray]()
    for i, digit in enumerate(draw_digits(n, seed=seed)):
        a, b = rng.integers(0, 256, 3), rng.integers(0, 256, 3)
        x = np.rint(a + (b - a) * (digit[..., None] / 255.0)).astype(np.uint8)
        alpha = np.full((*x.shape[:2], 1), 255, np.uint8)
        alpha[:3] = 0
        found.append((x, x, np.concatenate([x, alpha], 2), x[..., 0])[i % 4])
    return found


class Ear(Nobody):
    def __init__(self, stop: bool = False) -> None:
        self.stop, self.rows, self.planned = stop, list[dict[str, float]](), list[str]()

    def plan(self, stages, words) -> None:
        self.planned = [stage.part for stage in stages]

    def epoch(self, row: dict[str, float], words: str) -> None:
        assert "on images held out" in words
        self.rows.append(row)
        if self.stop:
            raise KeyboardInterrupt


def test_a_tuned_model_takes_fewer_bytes_on_other_images_and_goes_on_after_an_interruption(tmp_path):
    output = tmp_path / "mine.model"
    with pytest.raises(KeyboardInterrupt):
        train(badges(80), output, plan=PLAN, progress=(first := Ear(stop=True)))
    assert not output.exists()
    made = train(badges(80), output, plan=PLAN, progress=(ear := Ear()))
    assert ear.rows[0]["epoch"] > first.rows[0]["epoch"]
    assert set(ear.planned) == {"transform"}
    assert "fewer bytes at equal PSNR" in made.verdicts["transform"]
    assert "| bytes an image, colour |" in made.report.read_text(encoding="utf-8")
    assert made.bytes < 400_000
    model = load_model(output)
    assert model.base == load_model("colour").id
    assert model.name == "mine"
    assert model.training["halves"] == ["transform"]
    assert parse_bundle(bundle_bytes(model)).id == model.id
    others = badges(40, seed=1)
    found = {}
    for which in ("colour", output):
        for quality in (20, 40, 60):
            packed = smalti.pack(
                others,
                tmp_path / "x.smalti",
                model=which,
                quality=quality,
                force=True,
                packing=smalti.Packing(embed=True),
            )
            with smalti.open(tmp_path / "x.smalti") as archive:
                error = sum(float(((a.astype(float) - b) ** 2).mean()) for a, b in zip(archive, others, strict=True))
            found[which, quality] = packed.bytes, error
    sizes = {which: sum(found[which, quality][0] for quality in (20, 40, 60)) for which in ("colour", output)}
    errors = {which: sum(found[which, quality][1] for quality in (20, 40, 60)) for which in ("colour", output)}
    assert sizes[output] - 3 * made.bytes < 0.98 * (sizes["colour"] - 3 * 4096)
    assert errors[output] < 1.05 * errors["colour"]


def test_both_halves_are_tuned_unless_one_is_asked_for(tmp_path, monkeypatch):
    from smalti.training.mixers import tune as mixers

    monkeypatch.setattr(mixers, "BATCH", 512)
    monkeypatch.setattr(mixers, "LEAST_USED", (20,))
    made = train(
        badges(60), tmp_path / "x.model", plan=TrainingPlan(start="colour", minutes=0.1), progress=(ear := Ear())
    )
    assert ear.planned == ["mixing", "mixing", "transform", "transform"]
    assert made.verdicts.keys() == {"mixing", "transform"}
    with pytest.raises(UsageError, match="exclude each other"):
        TrainingPlan(start="colour", lossless=True, lossy=True)
    with pytest.raises(UsageError, match="--from colour"):
        train(badges(60), tmp_path / "y.model", plan=TrainingPlan(lossy=True))
    with pytest.raises(UsageError, match="codes nothing lossily"):
        train(badges(60), tmp_path / "y.model", plan=TrainingPlan(start="colour-1", lossy=True))
    with pytest.raises(TrainingError, match="too few"):
        train(badges(20), tmp_path / "y.model", plan=PLAN)
    assert training_folder(tmp_path / "x.model").exists()


def test_changes_are_added_to_the_transform_of_the_base_and_damage_is_refused(tmp_path):
    base = load_model("colour").transform
    arrays = transform_arrays(base)
    ones = np.ones_like(arrays["prior_own"], np.int8)
    tuned = changed_transform(base, npz_bytes({"prior_own": ones, SHIFTS: np.array([3], np.uint8)}))
    assert (tuned.prior.own == arrays["prior_own"] + 8).all()
    again = read_npz(changes_member(base, tuned))
    assert again.keys() == {"prior_own", SHIFTS}
    assert again["prior_own"].dtype == np.int8
    for wrong in (
        {"prior_own": np.ones((2, 2), np.int8), SHIFTS: np.array([3], np.uint8)},
        {"prior_own": ones, SHIFTS: np.array([31], np.uint8)},
        {"prior_own": ones, SHIFTS: np.array([15], np.uint8)},
        {"prior_own": ones.astype(np.int64), SHIFTS: np.array([3], np.uint8)},
        {"nothing": np.ones(1, np.int8), SHIFTS: np.array([3], np.uint8)},
    ):
        with pytest.raises((KeyError, ValueError)):
            changed_transform(base, npz_bytes(wrong))


def test_a_tuned_bundle_that_could_overflow_or_has_no_known_base_is_refused(tmp_path):
    import hashlib
    import json

    base = load_model("colour")
    large = {"backward": np.full_like(base.transform.backward, 20000), SHIFTS: np.array([0], np.uint8)}

    def bundle(changes: dict, about: str) -> bytes:
        member = npz_bytes(changes)
        manifest = {"smalti_model": 2, "name": "x", "decoder": {"base": about}, "training": {}}
        manifest["sha256"] = {"changes.npz": hashlib.sha256(member).hexdigest()}
        return zip_bytes({"manifest.json": json.dumps(manifest).encode(), "changes.npz": member})

    with pytest.raises(ModelError, match="more than 32 bits"):
        parse_bundle(bundle(large, base.id.hex()), trusted=False)
    fine = {SHIFTS: np.zeros(0, np.uint8)}
    assert parse_bundle(bundle(fine, base.id.hex()), trusted=False).base == base.id
    for about in ("0123456789abcdef", load_model("mnist").id.hex(), load_model("colour-fast").id.hex()):
        with pytest.raises(ModelError):
            parse_bundle(bundle(fine, about), trusted=False)
    assert "changes.npz" in unzip(bundle(fine, base.id.hex()))
