# SPDX-License-Identifier: MIT
"""Trainings that benchmarks need: what serving all qualities costs, and a variational bound."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from smalti.bundle import Model
from smalti.codec import Pixels
from smalti.training.codec import CodecTask
from smalti.training.listener import Nobody
from smalti.training.loop import train
from smalti.training.network import Codec, lagrangian
from smalti.training.plan import FURTHER, CodecPlan, Hardware
from smalti.training.restore import restore


@torch.no_grad()
def cost(codec: Codec, x: Pixels, quality: float) -> tuple[float, float, float]:
    """Bytes an image, MSE, bits + multiplier * squared error of what the integer decoder makes of `x` (`n h w`)."""
    rates, errors = [], []
    for part in torch.split(torch.from_numpy(x[:, None].copy()), 500):
        rate, error = codec.eval()(part.float() / 255, torch.full((len(part),), quality), "rounded", exact=True)
        rates.append(rate)
        errors.append(error)
    rate, error = float(torch.cat(rates).mean()), float(torch.cat(errors).mean())
    weight = float(lagrangian(torch.tensor(quality)))
    return rate / 8, error / x[0].size, rate + weight * error


def single(model: Model, x_train: Pixels, x_test: Pixels, quality: float, steps: int, output: Path) -> None:
    """Train `model` on for all qualities and for one alone, as long, and compare the two at that one."""
    console = Console()
    codec = restore(model)
    plan = CodecPlan(codec.size, steps=steps, start=model.id.hex(), **FURTHER)
    lines = ["| trained on | bytes an image | PSNR, dB | bits + multiplier * error |", "| --- | ---: | ---: | ---: |"]
    for name, of in (
        ("not at all", None),
        ("for all qualities", plan),
        ("for this one", replace(plan, quality=quality)),
    ):
        if of is None:
            trained = codec
        else:
            with tempfile.TemporaryDirectory() as folder:
                task = CodecTask(of, codec)
                result = train(x_train, Path(folder), task, Nobody(), Hardware("cpu")).model
                assert isinstance(result, Codec)
                trained = result
        rate, mse, total = cost(trained, x_test, quality)
        lines.append(f"| {name} | {rate:.2f} | {-10 * np.log10(mse):.2f} | {total:.1f} |")
        console.print(lines[-1], highlight=False)
    output.mkdir(parents=True, exist_ok=True)
    (output / "single.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
