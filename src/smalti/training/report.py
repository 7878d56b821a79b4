# SPDX-License-Identifier: MIT
"""The files that training leaves to look at: a CSV log, and plots."""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smalti.util.atomic import atomic_write

Row = dict[str, float]


def write_log(path: Path, rows: Sequence[Row]) -> None:
    """Write the log as CSV, one line an epoch. MSE is of pixels in [0, 1], seconds count from the start of training."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path, force=True) as file:
        file.write(text.getvalue().encode())


def plot_loss(path: Path, rows: Sequence[Row]) -> None:
    """Plot the MSE on training and validation images against the epoch, on a log scale, as PNG."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    epochs = [row["epoch"] for row in rows]
    for name, label, colour in (
        ("train_loss", "training", "tab:orange"),
        ("validation_mse", "validation", "tab:blue"),
    ):
        axes.semilogy(epochs, [row[name] for row in rows], "o-", color=colour, label=label)
    for before, after in itertools.pairwise(rows):
        if before["phase"] != after["phase"]:
            axes.axvline((before["epoch"] + after["epoch"]) / 2, color="gray", ls=":", label="network grown")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="MSE (pixels in [0, 1])", title="Training of the autoencoder")
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    _save(figure, path)


def plot_curves(path: Path, rows: Sequence[Row], qualities: int) -> None:
    """Plot the rate-distortion curve on validation images after some of the epochs, the later the darker, as PNG.

    qualities: the number of points that each row holds.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    some = sorted({round(i * (len(rows) - 1) / 7) for i in range(8)})
    for i in some:
        row, shade = rows[i], 0.25 + 0.75 * (i + 1) / len(rows)
        rates = [row[f"bytes_{k + 1}"] for k in range(qualities)]
        axes.plot(
            rates,
            [row[f"psnr_{k + 1}"] for k in range(qualities)],
            "o-" if row["final"] else "o:",
            color=(0.1, 0.3, 0.7, shade),
            label=f"epoch {row['epoch']:.0f}",
        )
    axes.set(xlabel="bytes an image (estimated)", ylabel="PSNR, dB", title="Training of the codec: validation images")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    _save(figure, path)


def plot_bits(path: Path, rows: Sequence[Row], errors: Sequence[int]) -> None:
    """Plot the bytes of a validation image coded by pixels against the epoch, for each largest error, as PNG."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for error in errors:
        label = f"largest error {error}" if error else "lossless"
        axes.semilogy([row["epoch"] for row in rows], [row[f"bytes_{error}"] for row in rows], "o-", label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="bytes an image (estimated)", title="Coding by pixels: validation images")
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path, force=True) as file:
        figure.savefig(file, format="png", dpi=120)


def plot_rivals(path: Path, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Plot the PSNR of several codecs against their rate (log scale), the first one in bold, as PNG."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for i, (name, points) in enumerate(curves.items()):
        axes.semilogx(*zip(*points, strict=True), "o-", lw=1.2 if i else 2.5, ms=4, label=name)
    axes.set(xlabel="bytes an image (log scale)", ylabel="PSNR, dB", title="Images that were not trained on")
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    _save(figure, path)
