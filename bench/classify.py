# SPDX-License-Identifier: MIT
"""Benchmark of a classifier that was trained on original digits and reads decoded ones; CSV and plot."""

import csv
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

import smalti
from smalti.demo.baselines import avif, cut, decode_gray, jpeg, mosaic, webp
from smalti.model.model import Model
from smalti.rate.metrics import mse, psnr
from smalti.types import Pixels

QUALITIES = (1, 8, 15, 22, 30, 40, 50, 65, 80)
RIVALS = {"AVIF": (avif, (1, 5, 10, 20)), "WebP": (webp, (1, 5, 10, 20)), "JPEG": (jpeg, (1, 3, 5, 10, 20))}
EPOCHS = 4
BATCH = 128


def classifier() -> nn.Sequential:
    """Return a small convolutional network with two convolutions and two dense layers."""
    return nn.Sequential(
        *[nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)],
        *[nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)],
        *[nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 10)],
    )


def train(x: Pixels, labels: NDArray[np.uint8], epochs: int = EPOCHS, seed: int = 0) -> nn.Sequential:
    """Train a classifier on originals (`n 28 28`) by Adam, at a rate of 1e-3 that decays to 0."""
    torch.manual_seed(seed)
    model, steps = classifier(), epochs * (len(x) // BATCH)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng, order = np.random.default_rng(seed), np.arange(len(x))
    for step in range(steps):
        at = step % (len(x) // BATCH)
        if not at:
            rng.shuffle(order)
        batch = order[at * BATCH : (at + 1) * BATCH]
        output = model(torch.from_numpy(x[batch, None]).float() / 255)
        loss = nn.functional.cross_entropy(output, torch.from_numpy(labels[batch]).long())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Sequential, x: Pixels, labels: NDArray[np.uint8]) -> float:
    """Return the share of images that the classifier reads rightly, in per cent."""
    parts = torch.split(torch.from_numpy(x[:, None].copy()), 1000)
    read = torch.cat([model(part.float() / 255).argmax(1) for part in parts]).numpy()
    return float(100 * (read == labels).mean())


def run(
    model: Model,
    data: tuple[Pixels, NDArray[np.uint8]],
    test: tuple[Pixels, NDArray[np.uint8]],
    efforts: list[int],
    output: Path,
) -> None:
    """Train on `data`, test on `test` and on what codecs make of it."""
    console, (x, labels) = Console(stderr=True), test
    reader = train(*data)
    rows: list[dict[str, str | float]] = []

    def add(codec: str, quality: float, rate: float, x_hat: Pixels) -> None:
        reached = accuracy(reader, x_hat, labels)
        decibel = round(psnr(mse(x, x_hat)), 2)
        rows.append({"codec": codec, "quality": quality, "bytes": round(rate, 2), "psnr": decibel, "accuracy": reached})
        console.print(f"{codec:20} {quality:5g} {rate:8.2f} bytes {decibel:6.2f} dB {reached:6.2f} %", highlight=False)

    add("original", 0, 784.0, x)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.smalti"
        for effort in efforts:
            for quality in QUALITIES:
                packed = smalti.pack(x, path, model=model, quality=quality, effort=effort, force=True)
                add(f"smalti, effort {effort}", quality, packed.rate, smalti.load(path, model=model).pixels)
    for name, (encode, qualities) in RIVALS.items():
        for quality in qualities:
            sheet = encode(mosaic(x), quality)
            add(f"{name}, one sheet", quality, len(sheet) / len(x), cut(decode_gray(sheet), *x.shape))
    output.mkdir(parents=True, exist_ok=True)
    with (output / "classify.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    _plot(rows, output / "classify.png")


def _plot(rows: list[dict[str, str | float]], path: Path) -> None:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    best = float(rows[0]["accuracy"])
    axes.axhline(best, color="gray", lw=0.8)
    axes.axhline(best - 1, color="gray", lw=0.8, ls=":")
    for codec in dict.fromkeys(row["codec"] for row in rows[1:]):
        points = [(row["bytes"], row["accuracy"]) for row in rows if row["codec"] == codec]
        axes.semilogx(
            *zip(*points, strict=True), "o-", lw=2.2 if "smalti" in str(codec) else 1.2, ms=4, label=str(codec)
        )
    ticks = [5, 10, 20, 30, 50, 100, 200]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set(
        xlabel="bytes an image, all in (log scale)",
        ylabel="accuracy on decoded images, %",
        title="A classifier trained on originals (lines: originals, and a point less)",
        ylim=(best - 8, best + 0.5),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=130)
