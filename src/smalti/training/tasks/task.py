# SPDX-License-Identifier: MIT
"""The protocol of tasks: what the training loop must know of a kind of network."""

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

Row = dict[str, float]


class Plan(Protocol):
    """The fields that every plan has; plans are frozen dataclasses."""

    @property
    def seed(self) -> int: ...
    @property
    def batch(self) -> int: ...


class Task(Protocol):
    """A kind of network to train; a phase is a stretch of training with one network."""

    @property
    def plan(self) -> Plan:
        """Return all settings that decide the weights; a checkpoint of another plan is refused."""

    def held_out(self, n: int) -> int:
        """Return how many of `n` images are for validation."""

    def epochs(self, steps: int) -> tuple[int, ...]:
        """Return the number of epochs of each phase, when an epoch has `steps` steps."""

    def work(self, phase: int) -> float:
        """Return the relative cost of a step, from which the remaining time is estimated."""

    def build(self, phase: int, before: nn.Module | None) -> nn.Module:
        """Return the network of a phase, made from that of the phase before."""

    def optimizer(self, model: nn.Module, phase: int) -> torch.optim.Optimizer:
        """Return the optimiser of a phase."""

    def learning_rate(self, phase: int, step: int, steps: int) -> float:
        """Return the learning rate of step `step` of the `steps` steps of a phase."""

    def loss(self, model: nn.Module, x: Tensor, done: float) -> Tensor:
        """Return the loss of images `x` (`b c h w` in [0, 1]), when a share `done` of the phase is over."""

    def sums(self, model: nn.Module, x: Tensor, done: float) -> Tensor:
        """Return what is measured on validation images `x`, summed over them (`k`)."""

    def row(self, means: list[float], done: float) -> Row:
        """Return the row of the log, from the means of what `sums` gave."""

    def score(self, row: Row) -> float:
        """Return the score of a row: lower is better; it is infinite if these weights may not be the result."""

    def comparable(self, rows: list[Row]) -> list[float]:
        """Return for each row of the log a score that tells how training goes on; infinite if it cannot be compared."""

    def describe(self, row: Row) -> str:
        """Return a row of the log in words."""

    def plot(self, path: Path, rows: list[Row]) -> None:
        """Draw the rows of the log as curves into the file `path`."""

    def dead(self, model: nn.Module, x: Tensor, phase: int, step: int) -> str:
        """Return why the network can no longer learn, or ""."""
