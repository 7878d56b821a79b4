# SPDX-License-Identifier: MIT
"""Train further for benchmarks, to see what serving all qualities with one network costs."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from smalti.model.model import Model
from smalti.model.operating_points import multiplier_of
from smalti.training.export.restore_codec import restore
from smalti.training.export.restore_pixels import restore_pixels
from smalti.training.listener import Nobody
from smalti.training.loop import train_network
from smalti.training.networks.codec_network import Codec, lagrangian
from smalti.training.networks.pixel_network import PixelCodec
from smalti.training.plan import FURTHER, CodecPlan, Hardware
from smalti.training.tasks.codec_task import CodecTask
from smalti.training.tasks.pixel_task import FURTHER as PIXELS_FURTHER
from smalti.training.tasks.pixel_task import PixelPlan, PixelTask
from smalti.training.tasks.task import Task
from smalti.types import Pixels


@torch.no_grad()
def cost(codec: Codec, x: Pixels, quality: float) -> tuple[float, float, float]:
    """Return bytes of an image, MSE, bits + multiplier * squared error, for images (`n h w`) decoded in integers."""
    rates, errors = [], []
    for part in torch.split(torch.from_numpy(x[:, None].copy()), 500):
        rate, error = codec.eval()(part.float() / 255, torch.full((len(part),), quality), "rounded", exact=True)
        rates.append(rate)
        errors.append(error)
    rate, error = float(torch.cat(rates).mean()), float(torch.cat(errors).mean())
    weight = float(lagrangian(torch.tensor(quality), codec.size.multipliers))
    return rate / 8, error / x[0].size, rate + weight * error


HEAD = ("| trained on | bytes an image | PSNR, dB | bits + multiplier * error |", "| --- | ---: | ---: | ---: |")


def single(model: Model, x_train: Pixels, x_test: Pixels, quality: float, steps: int, output: Path) -> None:
    """Train the latents of `model` further, for all qualities and for one alone, and compare both at that quality."""
    codec = restore(model)
    plan = CodecPlan(codec.size, steps=steps, start=model.id.hex(), **FURTHER)
    _compare(
        {"not at all": None, "for all qualities": plan, "for this one": replace(plan, quality=quality)},
        lambda of: CodecTask(of, codec),
        codec,
        lambda trained: cost(trained, x_test, quality),
        x_train,
        output / "single.md",
    )


def single_pixels(model: Model, x_train: Pixels, x_test: Pixels, error: int, steps: int, output: Path) -> None:
    """Train coding by pixels further, for all largest errors and for one alone, and compare both at that error."""
    codec = restore_pixels(model)
    plan = PixelPlan(codec.size, steps=steps, start=model.id.hex(), **PIXELS_FURTHER)
    few = x_train[: steps * plan.batch + plan.most_validation]  # whole epochs are trained
    _compare(
        {"not at all": None, "for all errors": plan, "for this one": replace(plan, error=error)},
        lambda of: PixelTask(of, codec),
        codec,
        lambda trained: _pixel_cost(trained, x_test, error),
        few,
        output / "single-pixels.md",
    )


@torch.no_grad()
def _pixel_cost(codec: PixelCodec, x: Pixels, error: int) -> tuple[float, float, float]:
    """Return what `cost` returns, for coding by pixels with the nearest levels."""
    rates, left = [], []
    for part in torch.split(torch.from_numpy(x[:, None].copy()), 200):
        errors = torch.full((len(part),), error)
        rate, off = codec.eval()(part.float() / 255, errors, torch.zeros_like(errors), exact=True)
        rates.append(rate)
        left.append(off * (2 * error + 1) ** 2 / 255**2)
    rate, mse = float(torch.cat(rates).mean()), float(torch.cat(left).mean())
    return rate / 8, mse, rate + multiplier_of(error) * mse * x[0].size


def _compare(
    plans: Mapping[str, Any],
    task: Callable[[Any], Task],
    start: nn.Module,
    measure: Callable[[Any], tuple[float, float, float]],
    x_train: Pixels,
    path: Path,
) -> None:
    """Train by each of `plans` (None: not at all), measure the results, and write a table to `path`."""
    console, lines = Console(), list(HEAD)
    for name, plan in plans.items():
        trained = start
        if plan is not None:
            with tempfile.TemporaryDirectory() as folder:
                trained = train_network(x_train, Path(folder), task(plan), Nobody(), Hardware("cpu")).model
        rate, mse, total = measure(trained)
        lines.append(f"| {name} | {rate:.2f} | {-10 * np.log10(mse):.2f} | {total:.1f} |")
        console.print(lines[-1], highlight=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
