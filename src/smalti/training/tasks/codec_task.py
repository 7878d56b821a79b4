# SPDX-License-Identifier: MIT
"""Train the codec: a rate-distortion loss over all qualities at once, ever closer to the integer decoder.

At first, uniform noise stands in the place of rounding; then latents are rounded for the synthesis; then everything is
computed with the values of the decoder's integers; at last only the decoder learns, on exactly the symbols it will see.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smalti.training.networks.codec_network import Codec, Noise, lagrangian
from smalti.training.optimizer import soap
from smalti.training.plan import CodecPlan
from smalti.training.report import plot_curves
from smalti.training.tasks.task import Row

QUALITIES = (0.2, 0.4, 0.6, 0.85)
"""The qualities at which validation judges the codec, from 0 to 1."""
TYPICAL_BITS, TYPICAL_RISE = 45.0, 0.407
"""The typical cost at multiplier 1, in bits, and the power of the multiplier with which it rises. The loss is divided
by the typical cost, so that a per cent weighs the same at each quality."""


class CodecTask:
    """The task of the codec; `task.Task` describes its methods."""

    def __init__(self, plan: CodecPlan, start: Codec | None = None) -> None:
        """Take a plan, and a trained network of the plan's size to start from, if there is one."""
        self.plan, self.start = plan, start
        h, w, c = plan.size.image
        self.pixels = h * w * c

    def held_out(self, n: int) -> int:
        return min(self.plan.most_validation, round(n * self.plan.validation))

    def epochs(self, steps: int) -> tuple[int, ...]:
        return (max(1, math.ceil(self.plan.steps / steps)),)

    def work(self, phase: int) -> float:  # noqa: ARG002 - there is one phase
        return 1.0

    def build(self, phase: int, before: nn.Module | None) -> nn.Module:  # noqa: ARG002 - the protocol's
        codec = Codec(self.plan.size)
        if self.start is not None:
            codec.load_state_dict(self.start.state_dict())
        return codec

    def optimizer(self, model: nn.Module, phase: int) -> torch.optim.Optimizer:  # noqa: ARG002 - the protocol's
        return soap(model.parameters(), self.plan.learning_rate, 512)

    def learning_rate(self, phase: int, step: int, steps: int) -> float:  # noqa: ARG002 - the protocol's
        woken = math.ceil(self.plan.spatial[1] * steps)  # what has rested until then is as sensitive as at the start
        rise = min(1.0, (step + 1 - (woken if step >= woken else 0)) / self.plan.warm_up)
        return max(1e-6, self.plan.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / steps)))

    def noise(self, done: float) -> Noise:
        """Return the stand-in for rounding, when a share `done` of training is over."""
        if done < self.plan.mixed:
            return "noise"
        return "mixed" if done < self.plan.rounded else "rounded"

    def spatial(self, done: float) -> float:
        """Return the weight of a bit of the spatial latents, when a share `done` of training is over.

        It is small at first, for they would otherwise stay 0. While it rises, the parts that handle the latents of
        patches do not learn, for those latents would otherwise become 0.
        """
        start, full = self.plan.spatial
        if done >= full:
            return 1.0
        return 0.0 if done < start else max(0.1, (done - start) / (full - start)) ** 2

    def loss(self, model: nn.Module, x: Tensor, done: float) -> Tensor:
        quality = torch.rand(len(x), device=x.device)
        if self.plan.quality is not None:
            quality = torch.full_like(quality, self.plan.quality)
        noise = self.noise(done)
        learn: Any = model.learn  # of a Codec, perhaps wrapped for several devices
        learn(patches=not 0 < self.spatial(done) < 1, analysis=noise != "rounded")
        rate, distortion = model(x, quality, noise, exact=done >= self.plan.exact, spatial=self.spatial(done))
        worth = lagrangian(quality, self.plan.size.multipliers)
        scale = self.pixels / 784 * TYPICAL_BITS * worth**TYPICAL_RISE
        loss: Tensor = ((rate + worth * distortion) / scale).mean()
        return loss

    def sums(self, model: nn.Module, x: Tensor, done: float) -> Tensor:
        noise: Noise = "noise" if self.noise(done) == "noise" else "rounded"
        model.eval()
        sums = []
        for q in QUALITIES:
            quality = torch.full((len(x),), q, device=x.device)
            spatial = 1.0 if self.spatial(done) else 0.0
            rate, distortion = model(x, quality, noise, exact=done >= self.plan.exact, spatial=spatial)
            sums += [rate.sum() / 8, distortion.sum() / self.pixels]
        model.train()
        return torch.stack(sums).double()

    def row(self, means: list[float], done: float) -> Row:
        row, score = {}, 0.0
        for i, q in enumerate(QUALITIES):
            rate, error = means[2 * i], max(means[2 * i + 1], 1e-12)
            row[f"bytes_{i + 1}"], row[f"psnr_{i + 1}"] = rate, -10 * math.log10(error)
            cost = 8 * rate + float(lagrangian(torch.tensor(q), self.plan.size.multipliers)) * error * self.pixels
            score += math.log(cost) / len(QUALITIES)
        # only figures with rounded latents are comparable; those with noise are too good
        return row | {"cost": math.exp(score), "final": float(done >= self.plan.rounded)}

    def score(self, row: Row) -> float:
        return row["cost"] if row["final"] else math.inf

    def comparable(self, rows: list[Row]) -> list[float]:
        return [row["cost"] if i > self.plan.mixed * len(rows) else math.inf for i, row in enumerate(rows)]

    def describe(self, row: Row) -> str:
        first, last = (f"{row[f'bytes_{i}']:.4g} bytes at {row[f'psnr_{i}']:.1f} dB" for i in (1, len(QUALITIES)))
        return f"{first} to {last}"

    def plot(self, path: Path, rows: list[Row]) -> None:
        plot_curves(path, rows, len(QUALITIES))

    def dead(self, model: nn.Module, x: Tensor, phase: int, step: int) -> str:  # noqa: ARG002 - the protocol's
        return ""
