# SPDX-License-Identifier: MIT
"""Draw the rate-distortion plot."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = {
    "smalti": "black",
    "smalti, ssim": "tab:gray",
    "JPEG": "tab:red",
    "WebP": "tab:green",
    "AVIF": "tab:blue",
    "JPEG XL": "tab:purple",
    "JPEG 2000": "tab:orange",
}
STYLES = {"archive": "o-", "files": "s:", "sheet": "^-"}
SHOWN_LOSSLESS = ("smalti lossless", "PNG", "WebP lossless", "xz")


def plot(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw PSNR over rate (log scale): one line for each codec and way of storing, a vertical one if lossless."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    lossy = [row for row in rows if math.isfinite(row["psnr"])]
    for codec, colour in COLOURS.items():
        for how, style in STYLES.items():
            mine = [row for row in lossy if (row["codec"], row["how"]) == (codec, how)]
            for i, settings in enumerate(dict.fromkeys(row["settings"] for row in mine)):
                points = sorted((row["bytes_an_image"], row["psnr"]) for row in mine if row["settings"] == settings)
                bold = 2.5 if codec == "smalti" else 1.2
                label = (
                    settings if codec == "smalti" else f"{codec}, {'a file each' if how == 'files' else 'one sheet'}"
                )
                style = style if i == 0 else "o:"
                axes.semilogx(*zip(*points, strict=True), style, color=colour, lw=bold, ms=4, label=label)
    top = 45
    for row in rows:
        if math.isinf(row["psnr"]) and row["codec"] in SHOWN_LOSSLESS and row["how"] != "sheet":
            axes.axvline(row["bytes_an_image"], color="gray", lw=0.8, ls="--")
            axes.text(row["bytes_an_image"], top, f" {row['codec']}", rotation=90, va="top", ha="right", fontsize=8)
    axes.set(
        xlabel="bytes an image, all in (log scale)", ylabel="PSNR of the mean MSE, dB", title=title, ylim=(15, top)
    )
    ticks = [5, 10, 20, 30, 50, 100, 200, 300, 500, 784]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlim(4, 900)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")
    figure.savefig(path, dpi=130)
