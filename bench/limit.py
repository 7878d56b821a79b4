# SPDX-License-Identifier: MIT
"""Benchmark of smalti beside upper bounds of the rate-distortion function; CSV, markdown and plot."""

import csv
import math
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress

import smalti
from bench.bound import Bound, curve, fit, gaussian_rate
from smalti.model.model import Model
from smalti.rate.metrics import mse, psnr
from smalti.training.export.restore_codec import restore
from smalti.types import Pixels

DECIBELS = tuple(range(20, 35, 2))
SMALTI_QUALITIES = (10, 25, 40, 55, 70, 85, 95)


def run(model: Model, x_train: Pixels, x: Pixels, steps: int, images: int, effort: int, output: Path) -> None:
    """Compute the bounds on `x` (`n h w`), and measure smalti on the first `images` of them, at `effort`."""
    console = Console(stderr=True)
    output.mkdir(parents=True, exist_ok=True)
    ours = []
    for quality in SMALTI_QUALITIES:
        ours.append(_smalti(model, x[:images], quality, effort))
        console.print(f"smalti, quality {quality}: {ours[-1][1]:.2f} bytes at {ours[-1][0]:.2f} dB", highlight=False)
    bound = Bound(restore(model), spatial=model.spatial is not None and bool(model.spatial.active.any()))
    with Progress(console=console) as progress:
        task = progress.add_task("training the bound", total=steps)
        fit(bound, x_train, steps, lambda n: progress.advance(task, n))
    variational = curve(bound, x)
    codec = np.array(sorted(ours))
    rows = [
        {
            "psnr": decibel,
            "gaussian": gaussian_rate(x, decibel) / 8,
            "variational": _at(variational, decibel) / 8,
            "smalti": _at(codec, decibel),
        }
        for decibel in DECIBELS
    ]
    with (output / "limit.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = _table(rows, effort, images)
    (output / "limit.md").write_text(text, encoding="utf-8")
    console.print(text, highlight=False)
    _plot(rows, variational, codec, output / "limit.png")


def _smalti(model: Model, x: Pixels, quality: int, effort: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.smalti"
        packed = smalti.pack(x, path, model=model, quality=quality, effort=effort)
        return psnr(mse(x, smalti.load(path, model=model).pixels)), packed.rate


def _at(points: np.ndarray, decibel: float) -> float:
    """Return the rate at a PSNR by interpolating its logarithm; NaN beyond the curve."""
    if not points[0, 0] <= decibel <= points[-1, 0]:
        return math.nan
    return float(np.exp(np.interp(decibel, points[:, 0], np.log(points[:, 1]))))


def _table(rows: list[dict[str, float]], effort: int, images: int) -> str:
    lines = [
        f"| PSNR, dB | Gaussian bound | variational bound | smalti, effort {effort}, {images:,} images | gap |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        gap = 100 * (row["smalti"] / row["variational"] - 1)
        cells = ["" if math.isnan(row[name]) else f"{row[name]:.1f}" for name in ("gaussian", "variational", "smalti")]
        lines.append(f"| {row['psnr']} | " + " | ".join(cells) + (" | |" if math.isnan(gap) else f" | {gap:.0f} % |"))
    return "\n".join(lines) + "\n"


def _plot(rows: list[dict[str, float]], variational: np.ndarray, codec: np.ndarray, path: Path) -> None:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    decibels = [row["psnr"] for row in rows]
    axes.semilogx([row["gaussian"] for row in rows], decibels, "s:", color="gray", label="Gaussian bound")
    axes.semilogx(variational[:, 1] / 8, variational[:, 0], "^--", color="tab:blue", label="variational bound")
    axes.semilogx(codec[:, 1], codec[:, 0], "o-", color="black", lw=2.5, label="smalti")
    axes.set(xlabel="bytes an image (log scale)", ylabel="PSNR, dB", title="Upper bounds of R(D) and the codec")
    ticks = [5, 10, 20, 30, 50, 100, 200]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=130)
