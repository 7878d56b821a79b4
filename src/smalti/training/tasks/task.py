# SPDX-License-Identifier: MIT
"""What the training loop must be told of a network: how to build it, its loss, how to judge it."""

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

Row = dict[str, float]


class Plan(Protocol):
    """What every plan has; plans are frozen dataclasses."""

    @property
    def seed(self) -> int: ...
    @property
    def batch(self) -> int: ...


class Task(Protocol):
    """A kind of network to train. A phase is a stretch of training with one network."""

    @property
    def plan(self) -> Plan:
        """All that decides the weights; a checkpoint of another plan is refused."""

    def held_out(self, n: int) -> int:
        """How many of `n` images are for validation."""

    def epochs(self, steps: int) -> tuple[int, ...]:
        """Of each phase, with `steps` in each epoch."""

    def work(self, phase: int) -> float:
        """Cost of a step; for the time left."""

    def build(self, phase: int, before: nn.Module | None) -> nn.Module:
        """The network of a phase, from that of the phase before."""

    def optimizer(self, model: nn.Module, phase: int) -> torch.optim.Optimizer:
        """The optimiser of a phase."""

    def learning_rate(self, phase: int, step: int, steps: int) -> float:
        """Of step `step` of `steps` in the phase."""

    def loss(self, model: nn.Module, x: Tensor, done: float) -> Tensor:
        """Of images `x` (`b c h w` in [0, 1]), when a share `done` of the phase is behind us."""

    def sums(self, model: nn.Module, x: Tensor, done: float) -> Tensor:
        """What is measured on validation images `x`, summed over them (`k`)."""

    def row(self, means: list[float], done: float) -> Row:
        """The line of the log for the means of what `sums` gave."""

    def score(self, row: Row) -> float:
        """The lower, the better; infinite if these weights may not be the result."""

    def describe(self, row: Row) -> str:
        """A line of the log in words."""

    def plot(self, path: Path, rows: list[Row]) -> None:
        """Draw how training goes."""

    def dead(self, model: nn.Module, x: Tensor, phase: int, step: int) -> str:
        """Why the network can no longer learn, or ""."""
