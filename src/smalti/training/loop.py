# SPDX-License-Identifier: MIT
"""The training loop: phases, collapse and restart, checkpoints and resume, on one device or several.

plan -> split the images -> for each phase: build the network -> epochs -> the weights that did best on validation

A `task.Task` says what is trained, and on which loss.
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
from torch import Tensor, nn

from smalti.errors import TrainingError
from smalti.training.checkpoint import CHECKPOINT, State, load, save
from smalti.training.listener import Listener, Nobody
from smalti.training.plan import Hardware
from smalti.training.report import write_log
from smalti.training.tasks.task import Task
from smalti.util.atomic import output_error

CHECKPOINT_SECONDS = 120
"""Seconds between checkpoints within an epoch; each epoch ends with one, too."""
PLOT_SECONDS = 10
"""The fewest seconds between plots, for drawing one takes as long as some epochs; the last epoch is always drawn."""
MAX_SEEDS = 50
"""The most seeds that are tried. About one autoencoder in six survives its initialisation."""
PROBE = 256
"""The number of images that the check for a dead network looks at."""


@dataclass(frozen=True)
class Trained:
    """A network with its best weights, what they reached, and which images were trained on and held out."""

    main: bool  # whether this process speaks and writes; of several processes, the first one does
    model: nn.Module
    state: State
    train_index: NDArray[np.int64]
    validation_index: NDArray[np.int64]


def train_network(
    pixels: NDArray[np.uint8], folder: Path, task: Task, listener: Listener, hardware: Hardware | None = None
) -> Trained:
    """Train on `pixels` (uint8, `n h w` or `n h w c`), from the checkpoint in `folder` if there is one.

    Checkpoint, log and plot are kept in `folder`. The same images, plan and hardware give the same weights on one
    machine, whether training was interrupted or not.

    Raises:
        TrainingError: there are too few images, the checkpoint is of another plan, or the network dies with every seed.
        KeyboardInterrupt: the user interrupted it; a checkpoint has been saved.
    """
    n, plan = len(pixels), task.plan
    order = np.random.default_rng(plan.seed).permutation(n)
    held_out = task.held_out(n)
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
    channels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)  # b c h w
    x_train, x_validation = (
        torch.from_numpy(np.ascontiguousarray(channels[i])) for i in (train_index, validation_index)
    )
    training = _Training(fabric, task, listener, folder, x_train, x_validation)
    with training.interruptible():
        training.run()
    best = training.model
    best.load_state_dict(training.state.best_weights)
    return Trained(fabric.is_global_zero, best.to("cpu").eval(), training.state, train_index, validation_index)


class _Training:
    """A training loop and all it holds. It goes on from the checkpoint in `folder`, or begins anew if there is none.

    `x_train`, `x_validation`: `b c h w`, uint8; scaled to [0, 1] a batch at a time.
    """

    def __init__(
        self, fabric: Fabric, task: Task, listener: Listener, folder: Path, x_train: Tensor, x_validation: Tensor
    ) -> None:
        self.fabric, self.task, self.plan, self.folder = fabric, task, task.plan, folder
        self.listener = listener if fabric.is_global_zero else Nobody()
        self.x_train, self.x_validation = x_train, x_validation
        self.steps = len(x_train) // self.plan.batch
        self.epochs = task.epochs(self.steps)
        self.saved_at = self.plotted_at = time.monotonic()
        checksums = [zlib.crc32(x.numpy().data) for x in (x_train, x_validation)]
        self.images = [list(x_train.shape), *checksums]
        self.stop_asked = False  # by Ctrl-C: stop after the step
        self.consistent = True  # between steps, when weights and state belong together
        saved = load(folder, self._fingerprint())
        if saved is None:
            self._begin(self.plan.seed)
        else:
            self.state = State(**saved["state"])
            self._set_up(self._build(), saved)
            self.listener.say(f"going on from {folder / CHECKPOINT}")

    @property
    def done(self) -> float:
        """The share of the phase's steps that are done."""
        return (self.state.epoch * self.steps + self.state.step) / (self.epochs[self.state.phase] * self.steps)

    def run(self) -> None:
        works = [self.steps * epochs * self.task.work(phase) for phase, epochs in enumerate(self.epochs)]
        self.listener.start(sum(works), sum(works[: self.state.phase]) + self.done * works[self.state.phase])
        while True:
            while self.state.epoch < self.epochs[self.state.phase]:
                self._epoch()
            if self.state.phase + 1 == len(self.epochs):
                return
            self._next_phase()

    def _build(self) -> nn.Module:
        """Return the network of the present phase, from scratch."""
        before = None
        for phase in range(self.state.phase + 1):
            before = self.task.build(phase, before)
        assert before is not None
        return before

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
        self._set_up(self._build())

    def _next_phase(self) -> None:
        state, self.consistent = self.state, False
        state.phase, state.epoch, state.step, state.best_score = state.phase + 1, 0, 0, math.inf
        torch.manual_seed(state.seed)
        self._set_up(self.task.build(state.phase, self.model))
        self.consistent = True

    def _set_up(self, model: nn.Module, saved: dict[str, Any] | None = None) -> None:
        optimizer = self.task.optimizer(model, self.state.phase)
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
            step = state.epoch * self.steps + state.step
            if why := self.task.dead(self.model, self._scaled(self.x_train[:PROBE]), state.phase, step):
                self._restart(why)
                return
            loss = self._step(index)
            state.seconds = seconds_before + time.monotonic() - started
            self.listener.step(self.task.work(self.state.phase), loss)
            if self.stop_asked:
                raise KeyboardInterrupt
            if time.monotonic() - self.saved_at > CHECKPOINT_SECONDS:
                self.save()
        self._end_epoch()
        state.seconds = seconds_before + time.monotonic() - started
        self.save()

    def _batches(self) -> Iterator[Tensor]:
        """Yield this process's share (indices) of each batch that is left in the epoch.

        The order depends on the seed and the epoch only.
        """
        epoch = len(self.state.log)
        order = np.random.default_rng((self.state.seed, epoch)).permutation(len(self.x_train))
        for step in range(self.state.step, self.steps):
            batch = order[step * self.plan.batch : (step + 1) * self.plan.batch]
            yield torch.from_numpy(batch[self.fabric.global_rank :: self.fabric.world_size])

    def _step(self, index: Tensor) -> float:
        self.consistent = False
        state, x = self.state, self._scaled(self.x_train[index])
        step, steps = state.epoch * self.steps + state.step, self.epochs[state.phase] * self.steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.task.learning_rate(state.phase, step, steps)
        torch.manual_seed((state.seed * 1_000_003 + step) * 1_009 + self.fabric.global_rank)  # noise, also if resumed
        loss = self.task.loss(self.wrapped, x, self.done)
        self.optimizer.zero_grad()
        if not torch.isfinite(loss):
            raise TrainingError("the loss is no longer finite; train with a lower learning rate or another seed")
        self.fabric.backward(loss)
        self.optimizer.step()
        state.step += 1
        state.loss_sum += float(loss.detach())
        self.consistent = True
        return float(loss.detach())

    def _end_epoch(self) -> None:
        state, done = self.state, self.done
        measured = self.task.row(self._validate(), done)
        self.consistent = False
        row = {
            "epoch": len(state.log) + 1,
            "phase": state.phase + 1,
            "seed": state.seed,
            "train_loss": state.loss_sum / self.steps,
            **measured,
            "seconds": round(state.seconds, 1),
        }
        state.log.append(row)
        score = self.task.score(row)
        if score < state.best_score:
            state.best_score, state.best_epoch = score, len(state.log)
            state.best_weights = {name: p.detach().cpu().clone() for name, p in self.model.state_dict().items()}
        state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
        if self.fabric.is_global_zero:
            write_log(self.folder / "log.csv", state.log)
            ended = (state.phase + 1, state.epoch) == (len(self.epochs), self.epochs[-1])
            if ended or time.monotonic() - self.plotted_at > PLOT_SECONDS:
                self.task.plot(self.folder / "loss.png", state.log)
                self.plotted_at = time.monotonic()
        self.consistent = True
        minutes = f"{state.seconds / 60:.1f} min"
        self.listener.epoch(row, f"epoch {row['epoch']} of {sum(self.epochs)}, {minutes}: {self.task.describe(row)}")

    @torch.no_grad()
    def _validate(self) -> list[float]:
        """Return the means over all validation images of what the task measures."""
        total: Tensor = torch.zeros((), dtype=torch.float64)
        share = self.x_validation[self.fabric.global_rank :: self.fabric.world_size]
        torch.manual_seed(0)
        for x in map(self._scaled, torch.split(share, 4 * self.plan.batch)):
            if self.stop_asked:
                raise KeyboardInterrupt
            total = total + self.task.sums(self.model, x, self.done).cpu()
        whole = self.fabric.all_reduce(total, reduce_op="sum")
        assert isinstance(whole, Tensor)
        means: list[float] = (whole / len(self.x_validation)).tolist()
        return means

    def _restart(self, why: str) -> None:
        seed = self.state.seed + 1
        if seed >= self.plan.seed + MAX_SEEDS:
            raise TrainingError(f"every one of {MAX_SEEDS} seeds collapsed; are the images all alike?")
        self.listener.say(f"seed {self.state.seed} collapsed at step {self.state.step} ({why}); trying seed {seed}")
        self._begin(seed)

    def _scaled(self, x: Tensor) -> Tensor:
        return x.to(self.fabric.device).float() / 255

    def save(self) -> None:
        """Write the checkpoint; at any time, the folder holds a whole one."""
        self.saved_at = time.monotonic()
        if self.fabric.is_global_zero:
            save(self.folder, self._fingerprint(), self.state, self.model, self.optimizer)

    def _fingerprint(self) -> dict[str, Any]:
        plan: Any = self.plan  # a dataclass, which a protocol cannot say
        return {"plan": asdict(plan), "images": self.images}
