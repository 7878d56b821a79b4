"""`smalti.training.train`, the function that trains a model from Python."""

import subprocess
import sys
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import numpy as np
import pytest

import smalti
from smalti.demo.samples import draw_digits
from smalti.errors import MissingExtraError, OutputExistsError, SourceError, TrainingError, UsageError
from smalti.training import TrainingPlan, train

TINY = TrainingPlan(lossless=True, steps=2, batch=4, device="cpu", seed=3)


class Heard:
    """A listener that keeps what it hears, and interrupts after so many steps."""

    def __init__(self, stop_after: int = -1) -> None:
        self.stages, self.said, self.steps, self.measured, self.stop_after = [], [], 0, 0, stop_after
        self.totals, self.planned, self.epochs = set(), [], []

    def plan(self, stages, words):
        self.planned, self.remark = stages, words

    def stage(self, name, part):
        self.stages.append((name, part))

    def start(self, total, done): ...

    def step(self, work, loss):
        self.steps += 1
        if self.steps == self.stop_after:
            raise KeyboardInterrupt

    def epoch(self, row, words):
        self.epochs.append(words)

    def say(self, text):
        self.said.append(text)

    def advance(self, done, total):
        self.measured += done
        self.totals.add((self.stages[-1], total))

    def finished(self, words):
        self.said.append(words)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return draw_digits(24)[:, 8:20, 8:20].copy()


@pytest.fixture
def quick(monkeypatch):
    """Measure and compare in few places."""
    pytest.importorskip("torch")
    monkeypatch.setattr("smalti.training.export.export_pixels.ERRORS", (2, 126))
    monkeypatch.setattr("smalti.training.compare.QUALITIES", (1, 100))
    monkeypatch.setattr("smalti.training.compare.RIVAL_QUALITIES", (1, 90))
    monkeypatch.setattr("smalti.training.tasks.post_filter_task.ROUNDS", 1)


def test_an_interrupted_training_goes_on_and_makes_a_model(images, tmp_path, quick):
    with pytest.raises(KeyboardInterrupt):
        train(images, tmp_path / "x.model", plan=TINY, progress=Heard(stop_after=1))
    assert not (tmp_path / "x.model").exists()
    heard = Heard()
    made = train(smalti.ImageSet(images), str(tmp_path / "x.model"), plan=TINY, progress=heard)
    assert heard.stages == [("training", "pixels"), ("exporting", "pixels"), ("comparing", "")]
    assert "going on from" in heard.said[0]
    assert heard.said[-1].startswith("pixels: best at epoch 1; log and plot in")
    assert heard.measured == sum(total for _, total in heard.totals)  # each stage counts all of its steps
    assert [(one.stage, one.part) for one in heard.planned] == heard.stages
    assert all(one.seconds > 0 for one in heard.planned)
    assert "5 steps of 4 images" in heard.planned[0].words  # a whole epoch
    assert made.verdicts == {"pixels": "too short to tell: train longer"}
    assert "- pixels: too short to tell: train longer." in made.report.read_text(encoding="utf-8")
    assert made.path == tmp_path / "x.model"
    assert made.bytes == made.path.stat().st_size
    assert made.report == tmp_path / "x.model.train" / "report.md"
    assert "the same, every pixel" in made.report.read_text(encoding="utf-8")
    known = smalti.load_model(made.path).training["pixels"]
    assert (known["images"], known["validation_images"], known["sources"]) == (23, 1, [])
    assert known["steps"] == known["epochs"] * (known["images"] // 4)
    assert abs((date.fromisoformat(known["date"]) - date.today()).days) <= 1
    smalti.pack(images, tmp_path / "x.smalti", model=made.path, max_error=0)
    assert (smalti.load(tmp_path / "x.smalti", model=made.path).pixels == images).all()
    with pytest.raises(OutputExistsError):
        train(images, made.path, plan=TINY)
    again = train(list(images), made.path, plan=TINY, force=True)  # its checkpoint is complete: nothing is trained
    assert again == made


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"architecture": "autoencoder", "lossless": True}, "--lossless"),
        ({"architecture": "autoencoder", "start": "mnist"}, "--from goes with the codec"),
        ({"architecture": "transformer"}, "'transformer' is unknown; choose one of: codec, autoencoder"),
        ({"epochs": 3}, "--epochs is for"),
        ({"steps": 0}, "steps is 0; give a whole number of at least 1"),
        ({"batch": 2.5}, "batch is 2.5"),
        ({"seed": -1}, "at least 0"),
        ({"devices": None}, "devices is None"),
        ({"device": "tpu"}, "auto, cpu, cuda"),
        ({"precision": 16}, "bf16-mixed"),
        ({"schedule": ["fast"]}, "fast, reference"),
        ({"minutes": 0}, "minutes is 0; give a number above 0"),
        ({"minutes": "20"}, "minutes is '20'"),
        ({"minutes": 5, "steps": 5}, "give it or --steps, not both"),
        ({"minutes": 5, "architecture": "autoencoder"}, "give --epochs"),
    ],
)
def test_a_bad_plan_is_refused_in_one_line(fields, words):
    with pytest.raises(UsageError) as refused:
        TrainingPlan(**fields)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_bad_call_is_refused_before_anything_is_written(images, tmp_path):
    with pytest.raises(UsageError, match=r"ends in \.model"):
        train(images, tmp_path / "x.onnx")
    with pytest.raises(UsageError, match="no model named"):
        train(images, tmp_path / "x.model", plan=TrainingPlan(start="nonsense"))
    with pytest.raises(SourceError, match="one size"):
        train([images[0], images[1, 2:]], tmp_path / "x.model")
    with pytest.raises(SourceError, match="no source of images"):
        train(3, tmp_path / "x.model")
    assert not list(tmp_path.iterdir())


def test_a_changed_option_is_named_with_what_to_do(images, tmp_path, quick):
    with pytest.raises(KeyboardInterrupt):
        train(images, tmp_path / "x.model", plan=TINY, progress=Heard(stop_after=1))
    for fields, words in (
        ({"steps": 3}, "--steps 2, not 3"),
        ({"seed": 4}, "--seed 3, not 4"),
        ({"batch": None}, "--batch 4"),
        ({"lossless": False}, "--lossless"),
        ({"steps": None, "minutes": 1.0}, "no --minutes and --steps 2"),
    ):
        with pytest.raises(TrainingError) as refused:
            train(images, tmp_path / "x.model", plan=replace(TINY, **fields))
        assert f"with {words}; give that again, or delete" in str(refused.value)
        assert str(tmp_path / "x.model.train") in str(refused.value)
    with pytest.raises(TrainingError, match="with other images;"):
        train(images[::-1], tmp_path / "x.model", plan=TINY)
    (tmp_path / "x.model.train" / "plan.json").write_text("{")
    with pytest.raises(TrainingError, match="to start anew"):
        train(images, tmp_path / "x.model", plan=TINY)


def test_steps_are_fitted_to_the_time_and_kept(images, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr("smalti.training.schedule.seconds_a_step", lambda *_: 0.5)
    plan = TrainingPlan(lossless=True, batch=4, minutes=10, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(images, tmp_path / "x.model", plan=plan, progress=(heard := Heard(stop_after=1)))
    training = heard.planned[0]
    assert training.words == "1,040 steps of 4 images"  # 600 seconds less 80 for the rest
    assert sum(one.seconds for one in heard.planned) == pytest.approx(600, rel=0.1)
    assert heard.remark == ""
    monkeypatch.setattr("smalti.training.schedule.seconds_a_step", lambda *_: 1 / 0)
    with pytest.raises(KeyboardInterrupt):  # nothing is timed again
        train(images, tmp_path / "x.model", plan=plan, progress=(again := Heard(stop_after=1)))
    assert again.planned == heard.planned


def test_a_time_that_is_too_short_is_told_before_the_start(images, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr("smalti.training.schedule.seconds_a_step", lambda *_: 6.0)
    with pytest.raises(KeyboardInterrupt):
        train(images, tmp_path / "x.model", plan=TrainingPlan(lossless=True), progress=(heard := Heard(stop_after=1)))
    assert heard.remark.startswith("20 minutes are too few for such images: the fewest steps that make sense take 3")
    assert sum(one.seconds for one in heard.planned) > 1200


def test_images_that_cannot_be_trained_on_are_refused(images, tmp_path):
    pytest.importorskip("torch")
    with pytest.raises(TrainingError, match="too few"):
        train(images[:1], tmp_path / "x.model", plan=TINY)
    with pytest.raises(SourceError, match="8 to 128"):
        train(images[:, :7], tmp_path / "x.model")


def test_a_process_that_only_helps_ends_there(images, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr("smalti.training.loop.train_network", lambda *_: SimpleNamespace(main=False))
    with pytest.raises(SystemExit) as left:
        train(images, tmp_path / "x.model", plan=TINY)
    assert left.value.code == 0
    assert not (tmp_path / "x.model").exists()


def test_without_torch_training_is_imported_and_says_what_to_install():
    program = """
import sys
sys.modules["torch"] = None
import smalti.training
from smalti.training import TrainingPlan, train
import numpy
try:
    train(numpy.zeros((9, 8, 8), "u1"), "x.model", plan=TrainingPlan(steps=1))
except smalti.errors.MissingExtraError as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 'pip install "smalti[train]"' in done.stdout
    assert issubclass(MissingExtraError, UsageError)


def test_importing_training_does_not_import_torch():
    program = "import sys, smalti.training as t; t.train, t.TrainingPlan; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        smalti.training.nonsense  # noqa: B018 - looking it up is the test
