# SPDX-License-Identifier: MIT
"""Train the autoencoder: phases, collapse and restart, checkpoints and resume, on one device or several.

plan -> split the images -> for each phase: build or grow -> epochs -> the weights of the best validation loss
"""

import contextlib
import math
import signal
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from pytorch_optimizer import SOAP
from torch import Tensor

from smalti.atomic import output_error
from smalti.errors import TrainingError
from smalti.training.checkpoint import CHECKPOINT, State, load, save
from smalti.training.listener import Listener, Nobody
from smalti.training.network import FULL, Autoencoder, grow
from smalti.training.plan import Hardware, Phase, Plan
from smalti.training.report import write_log, write_plot

CHECKPOINT_SECONDS = 120
"""A checkpoint is written this often besides the end of each epoch."""
COLLAPSE_CHECKS = (0, 25, 50, 100, 200, 400)
"""Steps after which the code is looked at; a collapse at the start is common, a later one was never seen."""
MIN_ALIVE = 0.5
"""Share of the code's positions that must be above zero for some image of the probe."""
MAX_SEEDS = 50
"""Seeds to try before giving up. About one in six survives its initialisation."""
PROBE = 256
"""Images that the collapse check looks at."""


@dataclass(frozen=True)
class Trained:
    """The network with its best weights, what they reached, and which images were trained on and held out."""

    main: bool  # whether this process is the one that speaks and writes; with one device, it is
    model: Autoencoder
    state: State
    train_index: NDArray[np.int64]
    validation_index: NDArray[np.int64]


def train(
    pixels: NDArray[np.uint8], folder: Path, plan: Plan, listener: Listener, hardware: Hardware | None = None
) -> Trained:
    """Train on `pixels` (`n h w`, gray), keeping checkpoint, log and plot in `folder`; resume if it holds a checkpoint.

    The same images, plan and hardware give the same weights on one machine, interrupted or not.

    Raises:
        TrainingError: too few images, a size that is no multiple of 4, a checkpoint of another plan, or no seed lives.
        KeyboardInterrupt: after saving a checkpoint.
    """
    n, h, w = pixels.shape
    if h % 4 or w % 4:
        raise TrainingError(f"images are {h}x{w}; the autoencoder halves both sides twice: give multiples of 4")
    order = np.random.default_rng(plan.seed).permutation(n)
    held_out = round(n * plan.validation)
    if held_out < 1 or n - held_out < plan.batch:
        raise TrainingError(f"{n} images are too few to train on; give at least {2 * plan.batch}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise output_error(folder, exc) from exc
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    hardware = hardware or Hardware()
    accelerator = hardware.accelerator
    if accelerator == "auto":  # not Apple's MPS, which has neither float64 nor the eigenvectors that SOAP needs
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        fabric = Fabric(accelerator=accelerator, devices=hardware.devices, precision=hardware.precision)
        fabric.launch()
    except Exception as exc:
        raise TrainingError(f"cannot train on {hardware}: {exc}") from exc
    train_index, validation_index = order[held_out:], order[:held_out]
    x_train, x_validation = (torch.from_numpy(pixels[i]).unsqueeze(1) for i in (train_index, validation_index))
    training = _Training(fabric, plan, listener, folder, x_train, x_validation)
    with training.interruptible():
        training.run()
    best = Autoencoder(plan.phases[-1].wide)
    best.load_state_dict(training.state.best_weights)
    return Trained(fabric.is_global_zero, best.eval(), training.state, train_index, validation_index)


class _Training:
    """The loop and all it holds; a fresh one begins, or goes on from the checkpoint in `folder`.

    `x_train`, `x_validation`: `b 1 h w`, uint8; scaled to [0, 1] a batch at a time.
    """

    def __init__(
        self, fabric: Fabric, plan: Plan, listener: Listener, folder: Path, x_train: Tensor, x_validation: Tensor
    ) -> None:
        self.fabric, self.plan, self.folder = fabric, plan, folder
        self.listener = listener if fabric.is_global_zero else Nobody()
        self.x_train, self.x_validation = x_train, x_validation
        self.steps = len(x_train) // plan.batch
        self.saved_at = time.monotonic()
        checksums = [zlib.crc32(x.numpy().data) for x in (x_train, x_validation)]
        self.images = [list(x_train.shape), *checksums]
        self.stop_asked = False  # by Ctrl-C: stop after the step
        self.consistent = True  # between steps, when weights and state belong together
        saved = load(folder, self._fingerprint())
        if saved is None:
            self._begin(plan.seed)
        else:
            self.state = State(**saved["state"])
            self._set_up(Autoencoder(self.phase.wide), saved)
            self.listener.say(f"going on from {folder / CHECKPOINT}")

    @property
    def phase(self) -> Phase:
        return self.plan.phases[self.state.phase]

    def run(self) -> None:
        works = [self.steps * phase.epochs * _work(phase) for phase in self.plan.phases]
        epoch_done = self.state.epoch + self.state.step / self.steps
        self.listener.start(sum(works), sum(works[: self.state.phase]) + self.steps * epoch_done * _work(self.phase))
        while True:
            while self.state.epoch < self.phase.epochs:
                self._epoch()
            if self.state.phase + 1 == len(self.plan.phases):
                return
            self._next_phase()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Make Ctrl-C wait for the end of the step and save a checkpoint; a second one does not wait."""
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, self._ask_to_stop) if main else None
        try:
            yield
        except KeyboardInterrupt:
            if self.consistent:
                self.save()
            raise
        finally:
            if main:
                signal.signal(signal.SIGINT, before)

    def _ask_to_stop(self, *_: object) -> None:
        if self.stop_asked:
            raise KeyboardInterrupt
        self.stop_asked = True
        self.listener.say("stopping after this step; Ctrl-C again to stop at once")

    def _begin(self, seed: int) -> None:
        self.state = State(seed)
        torch.manual_seed(seed)
        self._set_up(Autoencoder(self.phase.wide))

    def _next_phase(self) -> None:
        state, self.consistent = self.state, False
        state.phase, state.epoch, state.step, state.best_mse = state.phase + 1, 0, 0, math.inf
        torch.manual_seed(state.seed)
        self._set_up(grow(self.model, self.phase.wide))
        self.consistent = True

    def _set_up(self, model: Autoencoder, saved: dict[str, Any] | None = None) -> None:
        optimizer = _optimizer(model, self.phase)
        if saved is not None:
            model.load_state_dict(saved["model"])
        self.model = model  # the same weights as `wrapped`, without its averaging of gradients over processes
        self.wrapped, self.optimizer = self.fabric.setup(model, optimizer)
        if saved is not None:
            self.optimizer.load_state_dict(saved["optimizer"])

    def _epoch(self) -> None:
        state, started = self.state, time.monotonic()
        seconds_before = state.seconds
        for index in self._batches():
            if why := self._collapse():
                self._restart(why)
                return
            mse = self._step(index)
            state.seconds = seconds_before + time.monotonic() - started
            self.listener.step(_work(self.phase), mse)
            if self.stop_asked:
                raise KeyboardInterrupt
            if time.monotonic() - self.saved_at > CHECKPOINT_SECONDS:
                self.save()
        self._end_epoch()
        state.seconds = seconds_before + time.monotonic() - started
        self.save()

    def _batches(self) -> Iterator[Tensor]:
        """Of each batch still to come in the epoch, this process's share; the order depends on seed and epoch only."""
        epoch = len(self.state.log)
        order = np.random.default_rng((self.state.seed, epoch)).permutation(len(self.x_train))
        for step in range(self.state.step, self.steps):
            batch = order[step * self.plan.batch : (step + 1) * self.plan.batch]
            yield torch.from_numpy(batch[self.fabric.global_rank :: self.fabric.world_size])

    def _step(self, index: Tensor) -> float:
        self.consistent = False
        x = self._scaled(self.x_train[index])
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        mse = (x - self.wrapped(x)).square().mean()
        self.optimizer.zero_grad()
        if not torch.isfinite(mse):
            raise TrainingError("the loss is no longer finite; train with a lower learning rate or another seed")
        self.fabric.backward(mse)
        self.optimizer.step()
        self.state.step += 1
        self.state.mse_sum += float(mse.detach())
        self.consistent = True
        return float(mse.detach())

    def _learning_rate(self) -> float:
        phase = self.phase
        if not phase.decay:
            return phase.learning_rate
        step = self.state.epoch * self.steps + self.state.step
        rise = min(1.0, (step + 1) / self.plan.warm_up)
        return phase.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / (phase.epochs * self.steps)))

    def _end_epoch(self) -> None:
        state = self.state
        mse = self._validation_mse()
        self.consistent = False
        row = {
            "epoch": len(state.log) + 1,
            "phase": state.phase + 1,
            "seed": state.seed,
            "channels": self.phase.wide[0],
            "learning_rate": self._learning_rate(),
            "train_mse": state.mse_sum / self.steps,
            "validation_mse": mse,
            "seconds": round(state.seconds, 1),
        }
        state.log.append(row)
        if mse < state.best_mse:
            state.best_mse, state.best_epoch = mse, len(state.log)
            state.best_weights = {name: p.detach().cpu().clone() for name, p in self.model.state_dict().items()}
        state.epoch, state.step, state.mse_sum = state.epoch + 1, 0, 0.0
        if self.fabric.is_global_zero:
            write_log(self.folder / "log.csv", state.log)
            write_plot(self.folder / "loss.png", state.log)
        self.consistent = True
        self.listener.epoch(row)

    @torch.no_grad()
    def _validation_mse(self) -> float:
        """MSE through the float code, over all validation images."""
        total = torch.zeros((), dtype=torch.float64)
        share = self.x_validation[self.fabric.global_rank :: self.fabric.world_size]
        for x in map(self._scaled, torch.split(share, 4 * self.plan.batch)):
            if self.stop_asked:
                raise KeyboardInterrupt
            total += (x - self.model(x)).square().mean((1, 2, 3)).sum().cpu()
        whole = self.fabric.all_reduce(total, reduce_op="sum")
        assert isinstance(whole, Tensor)
        return float(whole) / len(self.x_validation)

    def _collapse(self) -> str:
        due = self.state.phase == 0 and self.state.epoch * self.steps + self.state.step in COLLAPSE_CHECKS
        return collapse(self.model, self._scaled(self.x_train[:PROBE])) if due else ""

    def _restart(self, why: str) -> None:
        seed = self.state.seed + 1
        if seed >= self.plan.seed + MAX_SEEDS:
            raise TrainingError(f"every one of {MAX_SEEDS} seeds collapsed; are the images all alike?")
        self.listener.say(f"seed {self.state.seed} collapsed at step {self.state.step} ({why}); trying seed {seed}")
        self._begin(seed)

    def _scaled(self, x: Tensor) -> Tensor:
        return x.to(self.fabric.device).float() / 255

    def save(self) -> None:
        """Write the checkpoint; a whole one is there at any time."""
        self.saved_at = time.monotonic()
        if self.fabric.is_global_zero:
            save(self.folder, self._fingerprint(), self.state, self.model, self.optimizer)

    def _fingerprint(self) -> dict[str, Any]:
        return {"plan": asdict(self.plan), "images": self.images}


@torch.no_grad()
def collapse(model: Autoencoder, x: Tensor) -> str:
    """Why `model` can no longer learn, or "": a code or a synthesis that is the same for all of `x` (`b 1 h w`).

    ReLUs stand in front of the one-channel code and behind the two channels that follow it; where all of a layer's
    are below zero for every image, no gradient passes, and the rest of the training is lost.
    """
    y = model.g_a(x)  # b 1 h/4 w/4
    alive = float((y > 0).any(0).float().mean())
    if alive < MIN_ALIVE:
        return f"{alive:.0%} of the code is alive"
    for step, h in enumerate(model.g_s.steps(y), start=1):
        if bool((h == h[:1]).all()):
            return f"layer {step} of the synthesis is the same for all images"
    return ""


def _optimizer(model: Autoencoder, phase: Phase) -> torch.optim.Optimizer:
    """Adam as Keras sets it, or SOAP (Vyas et al. 2024): Adam in the eigenbasis of Shampoo's preconditioner.

    The narrow waist of the network makes the problem badly conditioned, which SOAP mends at little cost.
    """
    if phase.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=phase.learning_rate, betas=(0.9, 0.999), eps=1e-7)
    return SOAP(model.parameters(), lr=phase.learning_rate, betas=(0.95, 0.95), weight_decay=0.0)


def _work(phase: Phase) -> float:
    """Cost of a step in the phase's network, relative to the full one; for the time left."""
    return 1.0 if phase.wide == FULL else 0.11
