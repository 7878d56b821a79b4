# SPDX-License-Identifier: MIT
"""Benchmark of networks of several sizes for coding by pixels: lossless bytes and speed; CSV and plot."""

import csv
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from smalti.codec.block_codec import decode_images, encode_block
from smalti.model.model import Model
from smalti.rate.max_error import near_lossless
from smalti.training.export.export_pixels import integer_pixels
from smalti.training.listener import Nobody
from smalti.training.loop import train_network
from smalti.training.networks.pixel_network import PixelCodec, PixelSize
from smalti.training.plan import Hardware
from smalti.training.tasks.pixel_task import PixelPlan, PixelTask
from smalti.types import Pixels, shape_of

SIZES = {"tiny": (24, 2), "small": (48, 2), "medium": (80, 3), "large": (128, 3)}
"""The units of a layer and the number of layers of each size."""
BLOCK = 256


def run(model: Model, x_train: Pixels, x: Pixels, steps: int, output: Path) -> None:
    """Train each size for `steps` steps on `x_train`, and code `x` with a copy of `model` that has this network."""
    console = Console(stderr=True)
    rows: list[dict[str, Any]] = []
    for name, (width, layers) in SIZES.items():
        size = PixelSize(width=width, layers=layers)
        with tempfile.TemporaryDirectory() as folder:
            task = PixelTask(PixelPlan(size, steps=steps))
            few = x_train[: steps * task.plan.batch + task.plan.most_validation]  # whole epochs are trained
            codec = train_network(few, Path(folder), task, Nobody(), Hardware("cpu")).model
        assert isinstance(codec, PixelCodec)
        prior = integer_pixels(codec.net)
        of = replace(model, pixels=prior)
        products = sum(w.size for w in prior.weights)
        parts = [x[i : i + BLOCK] for i in range(0, len(x), BLOCK)]
        start = time.perf_counter()
        payloads = [encode_block(block, of) for block in near_lossless(parts, 0, of)]
        middle = time.perf_counter()
        blocks = [(payload, len(part), shape_of(part)) for payload, part in zip(payloads, parts, strict=True)]
        back = decode_images(blocks, of)
        end = time.perf_counter()
        if (np.concatenate(back) != x).any():
            raise AssertionError("not lossless")
        row = {
            "size": name,
            "units": width,
            "layers": layers,
            "products_a_sample": products,
            "bytes_an_image": round(sum(map(len, payloads)) / len(x), 2),
            "encode": round(len(x) / (middle - start)),
            "decode": round(len(x) / (end - middle)),
        }
        rows.append(row)
        console.print(row, highlight=False)
        _write(rows, steps, output)  # so far


def _write(rows: list[dict[str, Any]], steps: int, output: Path) -> None:
    """Write `sizes.csv` and `sizes.png`."""
    output.mkdir(parents=True, exist_ok=True)
    with (output / "sizes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogx([r["products_a_sample"] for r in rows], [r["bytes_an_image"] for r in rows], "o-", color="black")
    for row in rows:
        place = row["products_a_sample"], row["bytes_an_image"]
        axes.annotate(f" {row['size']}: {row['decode']:,} images/s", place, va="bottom", fontsize=9)
    ticks = [row["products_a_sample"] for row in rows]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set(
        xlabel="weights (products a sample, log scale)",
        ylabel="bytes an image, payload",
        title=f"Lossless coding: {steps:,} steps of training each",
    )
    axes.grid(alpha=0.3)
    axes.margins(x=0.25)
    figure.savefig(output / "sizes.png", dpi=130)
