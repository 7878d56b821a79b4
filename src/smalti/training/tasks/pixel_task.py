# SPDX-License-Identifier: MIT
"""Train the networks that code by pixels: bits and error, with a largest error for each image."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smalti.model.pixel_prior import MAX_ERROR, SAMPLE_MAX
from smalti.training.networks.pixel_network import MOST_SAMPLES, PixelCodec, PixelSize
from smalti.training.optimizer import soap
from smalti.training.report import plot_bits
from smalti.training.tasks.task import Row

EMPTY_SHARE = 0.05
"""The share of the samples with an empty window that are trained on."""
EXACT_SHARE = 0.5
"""The share of the images that are coded without loss; the steps of the others are drawn evenly on a log scale."""
DEAD_ZONE = 0.3
"""Samples are lowered by up to this share of their largest error, as the encoder prefers lower, cheaper levels."""
RATE_POWER = 1 / 3
"""Bits fall about with this power of the step; the loss is multiplied by it, so that each step weighs the same."""
LEFT_WEIGHT = 10.0
"""The weight of the squared error that the post-filter leaves, in squared steps."""
JUDGED = (0, 5, 20, 42)
"""The largest errors at which validation judges the networks."""


@dataclass(frozen=True)
class PixelPlan:
    """How the networks that code by pixels are trained."""

    size: PixelSize
    steps: int = 12000  # rounded up to whole epochs
    batch: int = 32  # images of a step, over all processes
    seed: int = 0
    validation: float = 0.05  # share of the images held out, but no more than `most_validation`
    most_validation: int = 500
    learning_rate: float = 3e-3  # cosine to 0 after a warm-up
    warm_up: int = 100  # steps
    exact: float = 0.7  # share of training after which everything is computed with the values of integers
    start: str | None = None  # id of the model whose weights are the first ones
    error: int | None = None  # train for this largest error alone, to measure what serving all of them costs


FURTHER: dict[str, Any] = {"learning_rate": 2e-3, "exact": 0.5}
"""The fields of a `PixelPlan` that differ when training starts from a trained model."""


def draw_errors(n: int) -> Tensor:
    """Return random largest errors for `n` images."""
    widest = math.log2(2 * MAX_ERROR + 2)
    errors = (torch.exp2(torch.rand(n) * (widest - 1) + 1) - 1) / 2
    return torch.where(torch.rand(n) < EXACT_SHARE, 0, errors.round()).long().clamp_max(MAX_ERROR)


class PixelTask:
    """The task of the networks that code by pixels; `task.Task` describes its methods."""

    def __init__(self, plan: PixelPlan, start: PixelCodec | None = None) -> None:
        """Take a plan, and trained networks of the plan's size to start from, if there are any."""
        self.plan, self.start = plan, start

    def held_out(self, n: int) -> int:
        return min(self.plan.most_validation, max(1, round(n * self.plan.validation)))

    def epochs(self, steps: int) -> tuple[int, ...]:
        return (max(1, math.ceil(self.plan.steps / steps)),)

    def work(self, phase: int) -> float:  # noqa: ARG002 - there is one phase
        return 1.0

    def build(self, phase: int, before: nn.Module | None) -> nn.Module:  # noqa: ARG002 - the protocol's
        codec = PixelCodec(self.plan.size)
        if self.start is not None:
            codec.load_state_dict(self.start.state_dict())
        return codec

    def optimizer(self, model: nn.Module, phase: int) -> torch.optim.Optimizer:  # noqa: ARG002 - the protocol's
        return soap(model.parameters(), self.plan.learning_rate, 256)

    def learning_rate(self, phase: int, step: int, steps: int) -> float:  # noqa: ARG002 - the protocol's
        rise = min(1.0, (step + 1) / self.plan.warm_up)
        return max(1e-6, self.plan.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / steps)))

    def loss(self, model: nn.Module, x: Tensor, done: float) -> Tensor:
        errors, lowered = draw_errors(len(x)).to(x.device), DEAD_ZONE * torch.rand(len(x), device=x.device)
        if self.plan.error is not None:
            errors = torch.full_like(errors, self.plan.error)
        bits, left = model(x, errors, lowered, exact=done >= self.plan.exact, empty=EMPTY_SHARE)
        weighed = bits * (2 * errors + 1) ** RATE_POWER / x[0].numel()
        total: Tensor = weighed.mean() + LEFT_WEIGHT * (left * (errors > 0)).mean()
        return total

    def sums(self, model: nn.Module, x: Tensor, done: float) -> Tensor:
        sums = torch.zeros(2, len(JUDGED), dtype=torch.float64, device=x.device)
        model.eval()
        for part in torch.split(x, max(1, MOST_SAMPLES // x[0].numel())):
            for i, judged in enumerate(JUDGED):
                errors = torch.full((len(part),), judged, device=x.device)
                bits, left = model(part, errors, torch.zeros_like(errors), exact=done >= self.plan.exact)
                sums[0, i] += bits.double().sum() / 8
                sums[1, i] += left.double().sum() * (2 * judged + 1) ** 2 / SAMPLE_MAX**2
        model.train()
        return sums.flatten()

    def row(self, means: list[float], done: float) -> Row:
        rates, left = means[: len(JUDGED)], means[len(JUDGED) :]
        row = {f"bytes_{judged}": rate for judged, rate in zip(JUDGED, rates, strict=True)}
        row |= {f"psnr_{e}": -10 * math.log10(max(m, 1e-12)) for e, m in zip(JUDGED[1:], left[1:], strict=True)}
        score = math.exp(sum(math.log(max(rate, 1e-9)) for rate in rates) / len(rates))
        return {"bytes": rates[0], **row, "mean": score, "final": float(done >= self.plan.exact)}

    def score(self, row: Row) -> float:
        return row["mean"] if row["final"] else math.inf

    def comparable(self, rows: list[Row]) -> list[float]:
        return [row["mean"] for row in rows]

    def describe(self, row: Row) -> str:
        least = JUDGED[-1]
        lossy = f"{row[f'bytes_{least}']:.4g} bytes at {row[f'psnr_{least}']:.1f} dB"
        return f"{lossy}, lossless {row['bytes']:.5g} bytes"

    def plot(self, path: Path, rows: list[Row]) -> None:
        plot_bits(path, rows, JUDGED)

    def dead(self, model: nn.Module, x: Tensor, phase: int, step: int) -> str:  # noqa: ARG002 - the protocol's
        return ""
