# SPDX-License-Identifier: MIT
"""Train the autoencoder: mean squared error, a narrow network first."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from smalti.training.networks.autoencoder import FULL, Autoencoder, grow
from smalti.training.optimizer import soap
from smalti.training.plan import AutoencoderPlan
from smalti.training.report import plot_loss
from smalti.training.tasks.task import Row

COLLAPSE_CHECKS = (0, 25, 50, 100, 200, 400)
"""The steps after which the code is checked; a collapse at the start is common, a later one was never seen."""
MIN_ALIVE = 0.5
"""The least share of the code's positions that must be above zero for some image of the probe."""


class AutoencoderTask:
    """The task of the autoencoder; `task.Task` describes its methods."""

    def __init__(self, plan: AutoencoderPlan) -> None:
        self.plan = plan

    def held_out(self, n: int) -> int:
        return round(n * self.plan.validation)

    def epochs(self, steps: int) -> tuple[int, ...]:  # noqa: ARG002 - given by the plan
        return tuple(phase.epochs for phase in self.plan.phases)

    def work(self, phase: int) -> float:
        return 1.0 if self.plan.phases[phase].wide == FULL else 0.11

    def build(self, phase: int, before: nn.Module | None) -> nn.Module:
        wide = self.plan.phases[phase].wide
        return grow(before, wide) if isinstance(before, Autoencoder) else Autoencoder(wide)

    def optimizer(self, model: nn.Module, phase: int) -> torch.optim.Optimizer:
        """Return Adam with the settings of Keras, or SOAP, which copes with the bad conditioning of a narrow waist."""
        if self.plan.phases[phase].optimizer == "adam":
            return torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-7)
        return soap(model.parameters(), 1e-3, 10_000)

    def learning_rate(self, phase: int, step: int, steps: int) -> float:
        rate = self.plan.phases[phase].learning_rate
        if not self.plan.phases[phase].decay:
            return rate
        rise = min(1.0, (step + 1) / self.plan.warm_up)
        return rate * rise * 0.5 * (1 + math.cos(math.pi * step / steps))

    def loss(self, model: nn.Module, x: Tensor, done: float) -> Tensor:  # noqa: ARG002 - the protocol's
        error: Tensor = (x - model(x)).square().mean()
        return error

    def sums(self, model: nn.Module, x: Tensor, done: float) -> Tensor:  # noqa: ARG002 - the protocol's
        error: Tensor = (x - model(x)).square().mean((1, 2, 3)).sum().double().view(1)
        return error

    def row(self, means: list[float], done: float) -> Row:  # noqa: ARG002 - the protocol's
        return {"validation_mse": means[0]}

    def score(self, row: Row) -> float:
        return row["validation_mse"]

    def comparable(self, rows: list[Row]) -> list[float]:
        return [row["validation_mse"] if row["phase"] == rows[-1]["phase"] else math.inf for row in rows]

    def describe(self, row: Row) -> str:
        return f"training MSE {row['train_loss']:.5f}, validation MSE {row['validation_mse']:.5f}"

    def plot(self, path: Path, rows: list[Row]) -> None:
        plot_loss(path, rows)

    def dead(self, model: nn.Module, x: Tensor, phase: int, step: int) -> str:
        assert isinstance(model, Autoencoder)
        return collapse(model, x) if phase == 0 and step in COLLAPSE_CHECKS else ""


@torch.no_grad()
def collapse(model: Autoencoder, x: Tensor) -> str:
    """Return why `model` can no longer learn, or "".

    It cannot if its code or a layer of its synthesis is the same for all of `x` (`b 1 h w`). ReLUs stand in front of
    the one-channel code and behind the two channels that follow it; where all inputs of a layer's ReLUs are below zero
    for every image, no gradient passes, and the rest of the training is lost.
    """
    y = model.g_a(x)  # b 1 h/4 w/4
    alive = float((y > 0).any(0).float().mean())
    if alive < MIN_ALIVE:
        return f"{alive:.0%} of the code is alive"
    for step, h in enumerate(model.g_s.steps(y), start=1):
        if bool((h == h[:1]).all()):
            return f"layer {step} of the synthesis is the same for all images"
    return ""
