# SPDX-License-Identifier: MIT
"""The general model is tuned to a collection: fewer bytes on other images of its kind, resumable, of any sizes."""

import numpy as np
import pytest

pytest.importorskip("torch")

import smalti
from smalti.core.library import core
from smalti.errors import TrainingError, UsageError
from smalti.training import TrainingPlan
from smalti.training.listener import Nobody
from smalti.training.mixers import tune as tuning
from smalti.training.train_bundle import train, training_folder

pytestmark = pytest.mark.skipif(core() is None, reason="there is no compiled core")
PLAN = TrainingPlan(start="colour", minutes=0.2, lossless=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tuning, "BATCH", 512)
    monkeypatch.setattr(tuning, "LEAST_USED", (20,))
    monkeypatch.setattr(tuning, "MEASURED_EACH", 0.0)  # after each turn, however slow the machine is
    monkeypatch.setattr(tuning, "SAVED_EACH", 0.0)
    monkeypatch.setattr(tuning, "TURN", 4)


def scenes(n: int, seed: int = 0) -> list[np.ndarray]:
    """Return images of one kind and of several sizes and channels: ramps with stripes and a little noise."""
    rng, found = np.random.default_rng(seed), list[np.ndarray]()
    for i in range(n):
        h, w, c = 12 + i % 3, 14, (1, 3, 3, 4)[i % 4]
        ramp = rng.integers(0, 6, c) * np.arange(w)[:, None] + rng.integers(20, 60, c)
        image = ramp + 30 * (np.arange(h)[:, None, None] % 4 == 0) + rng.integers(0, 4, (h, w, 1))
        image = np.clip(image, 0, 255).astype(np.uint8)
        if c == 4:
            image[..., 3] = 255
        found.append(image[..., 0] if c == 1 else image)
    return found


class Ear(Nobody):
    def __init__(self, stop: bool = False) -> None:
        self.stop, self.done, self.rows, self.plans = stop, list[float](), list[dict[str, float]](), 0

    def plan(self, stages, words) -> None:
        self.plans += len(stages)

    def start(self, total: float, done: float) -> None:
        self.done.append(done)

    def epoch(self, row: dict[str, float], words: str) -> None:
        self.rows.append(row)
        if self.stop and len(self.rows) == 2:
            raise KeyboardInterrupt


def test_a_tuned_model_takes_fewer_bytes_on_other_images_and_goes_on_after_an_interruption(tmp_path):
    output = tmp_path / "mine.model"
    with pytest.raises(KeyboardInterrupt):
        train(scenes(150), output, plan=PLAN, progress=Ear(stop=True))
    assert not output.exists()
    made = train(scenes(150), output, plan=PLAN, progress=(ear := Ear()))
    assert 0 < ear.done[0] < 60 * PLAN.minutes
    assert ear.plans == 2
    assert "images held out" in made.verdicts["mixing"]
    report = made.report.read_text(encoding="utf-8")
    assert "| block |" in report
    assert "| each |" in report
    assert (training_folder(output) / "log.csv").exists()
    others = scenes(80, seed=1)
    sizes = {}
    for model in ("colour", output):
        packed = smalti.pack(others, tmp_path / "x.smalti", model=model, lossless=True, force=True)
        sizes[model] = packed.bytes
        with smalti.open(tmp_path / "x.smalti", model=model) as archive:
            assert all((a == b).all() for a, b in zip(archive, others, strict=True))
    assert sizes[output] < 0.94 * sizes["colour"]
    model = smalti.load_model(output)
    assert model.name == "mine"
    assert model.training["from"].startswith("colour ")
    assert model.training["images"] + model.training["validation_images"] <= 150


def test_a_checkpoint_of_other_images_and_few_images_are_refused(tmp_path):
    output = tmp_path / "mine.model"
    with pytest.raises(TrainingError, match="too few"):
        train(scenes(20), output, plan=PLAN)
    with pytest.raises(KeyboardInterrupt):
        train(scenes(60), output, plan=PLAN, progress=Ear(stop=True))
    with pytest.raises(TrainingError, match="other images"):
        train(scenes(61), output, plan=PLAN)
    (training_folder(output) / "checkpoint.pt").write_bytes(b"x")
    with pytest.raises(TrainingError, match="cannot read"):
        train(scenes(60), output, plan=PLAN)


@pytest.mark.parametrize("wrong", [{"steps": 5}, {"batch": 5, "minutes": 1}, {"devices": 2}])
def test_options_that_do_not_go_with_tuning_are_refused(tmp_path, wrong):
    with pytest.raises(UsageError, match="--minutes"):
        train(scenes(60), tmp_path / "x.model", plan=TrainingPlan(start="colour", **wrong))
