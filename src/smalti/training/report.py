# SPDX-License-Identifier: MIT
"""What training leaves to look at: a CSV log and a plot of the loss."""

import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smalti.atomic import atomic_write

Row = dict[str, float]


def write_log(path: Path, rows: Sequence[Row]) -> None:
    """One line an epoch; MSE on pixels in [0, 1], seconds since the start of training."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path, force=True) as file:
        file.write(text.getvalue().encode())


def write_plot(path: Path, rows: Sequence[Row]) -> None:
    """MSE of training and validation against the epoch, log scale, as PNG."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    epochs = [row["epoch"] for row in rows]
    for name, colour in (("train_mse", "tab:orange"), ("validation_mse", "tab:blue")):
        axes.semilogy(epochs, [row[name] for row in rows], "o-", color=colour, label=name.replace("_mse", ""))
    for before, after in itertools.pairwise(rows):
        if before["phase"] != after["phase"]:
            axes.axvline((before["epoch"] + after["epoch"]) / 2, color="gray", ls=":", label="network grown")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="MSE (pixels in [0, 1])", title="Training of the autoencoder")
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    with atomic_write(path, force=True) as file:
        figure.savefig(file, format="png", dpi=120)
