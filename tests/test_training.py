import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import onnxruntime as ort
import pytest
import torch
from helpers import write_idx
from PIL import Image

import smalti
from smalti.errors import TrainingError
from smalti.samples import draw_digits
from smalti.training.export import export_bundle, onnx_bytes
from smalti.training.loop import collapse
from smalti.training.loop import train as train_anywhere
from smalti.training.network import Autoencoder
from smalti.training.plan import FAST, REFERENCE, Hardware, Phase, Plan

torch.set_num_threads(1)  # toys are faster so, and many times faster on a busy machine

TOY = Plan(phases=(Phase(2, 3e-3, wide=(8, 8, 8)), Phase(1, 1e-3, wide=(16, 8, 8))), batch=8, warm_up=4, seed=5)


def train(*arguments):
    return train_anywhere(*arguments, Hardware("cpu"))


class Listener:
    """Counts, and interrupts after so many steps."""

    def __init__(self, stop_after: int = -1) -> None:
        self.steps, self.stop_after, self.said, self.rows = 0, stop_after, [], []

    def start(self, total, done):
        self.total = total

    def step(self, work, loss):
        self.steps += 1
        if self.steps == self.stop_after:
            raise KeyboardInterrupt

    def epoch(self, row):
        self.rows.append(row)

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return draw_digits(130)[:, 4:24, 4:24].copy()


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """A toy model, trained without interruption, and the folder it left."""
    folder = tmp_path_factory.mktemp("toy")
    return train(images, folder, TOY, Listener()), folder


def weights(trained) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trained.model.parameters()])


def test_training_is_repeatable_from_its_seed(images, trained, tmp_path):
    again = train(images, tmp_path, TOY, Listener())
    assert torch.equal(weights(again), weights(trained[0]))


def test_interrupted_training_ends_in_the_same_weights(images, trained, tmp_path):
    for steps in (1, 5, 17, 4):
        with pytest.raises(KeyboardInterrupt):
            train(images, tmp_path, TOY, Listener(stop_after=steps))
    listener = Listener()
    again = train(images, tmp_path, TOY, listener)
    assert "going on from" in listener.said[0]
    assert torch.equal(weights(again), weights(trained[0]))
    assert [row["epoch"] for row in again.state.log] == [1, 2, 3]


def test_training_learns_and_leaves_a_log_and_a_plot(trained):
    result, folder = trained
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    assert [row["phase"] for row in rows] == ["1", "1", "2"]
    assert float(rows[-1]["train_mse"]) < float(rows[0]["train_mse"])
    assert result.state.best_mse == min(float(row["validation_mse"]) for row in rows if row["phase"] == "2")
    with Image.open(folder / "loss.png") as picture:
        assert picture.size[0] > 400
    assert not set(result.train_index) & set(result.validation_index)
    assert len(result.validation_index) == 26


def test_a_checkpoint_of_another_plan_or_other_images_is_refused(images, trained):
    for pixels, plan in ((images[::-1], Plan(TOY.phases, 8, seed=6)), (images[:100], TOY)):
        with pytest.raises(TrainingError, match="another plan"):
            train(pixels, trained[1], plan, Listener())


def test_a_damaged_checkpoint_is_named(images, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"junk")
    with pytest.raises(TrainingError, match="delete it"):
        train(images, tmp_path, TOY, Listener())


@pytest.mark.parametrize("shape", [(5, 20, 20), (100, 21, 20)])
def test_too_few_images_or_odd_sizes_are_refused(tmp_path, shape):
    with pytest.raises(TrainingError, match=r"too few|multiples of 4"):
        train(np.zeros(shape, np.uint8), tmp_path, TOY, Listener())


def test_a_dead_code_and_a_dead_synthesis_are_noticed():
    torch.manual_seed(0)
    model, x = Autoencoder((4, 4, 4)), torch.rand(8, 1, 28, 28)
    for p in model.parameters():
        p.data.abs_().mul_(0.1)
    assert collapse(model, x) == ""
    model.g_s.convs[0].weight.data.neg_()
    assert "layer 1 of the synthesis" in collapse(model, x)
    model.g_a.convs[-1].weight.data.neg_()
    assert "0% of the code" in collapse(model, x)


def test_training_restarts_with_the_next_seed_and_says_so(images, monkeypatch, tmp_path):
    checks = iter(["tested", "tested again"])
    monkeypatch.setattr("smalti.training.loop.collapse", lambda *_: next(checks, ""))
    listener = Listener()
    result = train(images, tmp_path, TOY, listener)
    assert listener.said == [
        "seed 5 collapsed at step 0 (tested); trying seed 6",
        "seed 6 collapsed at step 0 (tested again); trying seed 7",
    ]
    assert result.state.seed == 7


def test_images_all_alike_end_in_an_error(tmp_path):
    with pytest.raises(TrainingError, match="all alike"):
        train(np.zeros((64, 8, 8), np.uint8), tmp_path, TOY, Listener())


def test_the_reference_schedule_is_the_published_one():
    (phase,) = REFERENCE
    assert (phase.epochs, phase.learning_rate, phase.decay, phase.optimizer) == (20, 1e-3, False, "adam")
    assert phase.wide == FAST[-1].wide == (256, 128, 64)
    assert Plan().batch == 32
    assert Plan().validation == 0.2


def test_the_exported_networks_compute_what_torch_does(trained):
    model = trained[0].model
    half = Autoencoder(model.wide)
    half.load_state_dict({name: p.half().float() for name, p in model.state_dict().items()})
    x = torch.rand(5, 1, 20, 20)
    y = half.g_a(x)
    for transform, source, expected in ((half.g_a, x, y), (half.g_s, y.detach(), half.g_s(y))):
        session = ort.InferenceSession(onnx_bytes(transform, 1, "a", "b"), providers=["CPUExecutionProvider"])
        (result,) = session.run(None, {"a": source.numpy()})
        np.testing.assert_allclose(result, expected.detach().numpy(), atol=2e-5)


def test_an_exported_model_packs_images(trained, images, tmp_path):
    (tmp_path / "toy.model").write_bytes(export_bundle(trained[0].model, "toy", images, {"note": 1}))
    model = smalti.load_model(tmp_path / "toy.model")
    assert model.image_shape == (20, 20, 1)
    assert model.latent_shape == (1, 5, 5)
    smalti.pack(images, tmp_path / "x.smalti", model=model, quality=90)
    assert smalti.unpack(tmp_path / "x.smalti", model=model).pixels.shape == images.shape


def run(*arguments) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "smalti", *map(str, arguments)], capture_output=True, encoding="utf-8")


def test_the_command_survives_kill_9_and_makes_a_model(tmp_path):
    source = write_idx(tmp_path / "x-idx3-ubyte", draw_digits(64))
    command = ["train", source, "-o", tmp_path / "x.model", "--epochs", "1", "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-m", "smalti", *map(str, command)], stderr=subprocess.PIPE)
    checkpoint = tmp_path / "x.model.train" / "checkpoint.pt"
    for _ in range(600):
        if checkpoint.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    process.communicate()
    if os.name == "posix":
        assert process.returncode in (0, -signal.SIGKILL)
    done = run(*command, "--force")
    assert done.returncode == 0, done.stderr
    assert "going on from" in done.stderr
    assert "validation MSE" in done.stdout
    done = run("pack", source, "-o", tmp_path / "x.smalti", "--model", tmp_path / "x.model")
    assert done.returncode == 0, done.stderr
    done = run("unpack", tmp_path / "x.smalti", "-o", tmp_path / "out", "--model", tmp_path / "x.model")
    assert len(list((tmp_path / "out").iterdir())) == 64
