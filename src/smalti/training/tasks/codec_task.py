# SPDX-License-Identifier: MIT
"""How the codec is trained: a rate-distortion loss over all qualities at once, ever closer to the integer decoder.

Uniform noise first; then rounding for the synthesis; then everything in the decoder's integers; at last the decoder
alone, on exactly the symbols it will see.
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
"""Judged on these."""
TYPICAL_BITS, TYPICAL_RISE = 45.0, 0.407
"""Where a squared error of 1 is worth one bit, and the power with which they rise; the loss is divided by them, for
each quality to weigh as much in per cent."""


class CodecTask:
    """See `task.Task`."""

    def __init__(self, plan: CodecPlan, start: Codec | None = None) -> None:
        """start: a trained network to begin with, of the plan's size."""
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
        if done < self.plan.mixed:
            return "noise"
        return "mixed" if done < self.plan.rounded else "rounded"

    def spatial(self, done: float) -> float:
        """What a bit of the local latents counts: little at first, for else they would fall silent.

        While they learn to speak, what deals with the latents of cells rests: for else it would fall silent.
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
        # rounded up to the end: before, the figures are of another, kinder game
        return row | {"cost": math.exp(score), "final": float(done >= self.plan.rounded)}

    def score(self, row: Row) -> float:
        return row["cost"] if row["final"] else math.inf

    def describe(self, row: Row) -> str:
        pairs = (f"{row[f'bytes_{i + 1}']:.1f} bytes at {row[f'psnr_{i + 1}']:.1f} dB" for i in range(len(QUALITIES)))
        return ", ".join(pairs)

    def plot(self, path: Path, rows: list[Row]) -> None:
        plot_curves(path, rows, len(QUALITIES))

    def dead(self, model: nn.Module, x: Tensor, phase: int, step: int) -> str:  # noqa: ARG002 - the protocol's
        return ""
