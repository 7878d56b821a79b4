# SPDX-License-Identifier: MIT
"""Draw curves of quality over bytes, and pictures of several codecs beside each other."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image, ImageDraw, ImageFont

from bench.plot import COLOURS
from bench.thumbnails.metrics import decibel
from bench.thumbnails.rivals import Point
from smalti.types import Pixels

STYLES = {"smalti": "o-", "files": "s-", "sheet": "^:"}
LOWEST, HIGHEST = 20, 40
"""The PSNRs that are drawn, in dB."""
MARGIN = 6
LINE = 38
SCALED = 192
"""Pictures are shown at about this side, each pixel as a square of whole pixels."""


def plot(found: Mapping[str, Sequence[Point]], metric: str, path: Path) -> None:
    """Draw a panel for each set: `metric` ("psnr" or "ms_ssim") over bytes an image, on a log scale, as PNG."""
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(5.2 * columns, 4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for empty in panels[len(found) :]:
        empty.axis("off")
    for axes, (name, points) in zip(panels, found.items(), strict=False):
        for codec, how, settings in dict.fromkeys((p.codec, p.how, p.settings) for p in points):
            mine = [p for p in points if (p.codec, p.how, p.settings) == (codec, how, settings)]
            curve = sorted(
                (p.bytes_an_image, p.psnr if metric == "psnr" else decibel(p.ms_ssim))
                for p in mine
                if LOWEST <= p.psnr <= HIGHEST
            )
            if not curve:
                continue
            label = codec if how == "smalti" else f"{codec}{', one sheet' if how == 'sheet' else ''}"
            same = [line for line in axes.get_lines() if line.get_label() == label]
            axes.semilogx(
                *zip(*curve, strict=True),
                STYLES[how],
                color=COLOURS[codec],
                lw=2.5 if codec == "smalti" else 1,
                ms=3,
                label="_" + label if same else label,
            )
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(title=name.replace("-", ", "), xlabel="bytes an image, all in")
        axes.set_ylabel("PSNR, dB" if metric == "psnr" else "MS-SSIM, dB")
        axes.grid(which="both", alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=80)


def contact_sheet(shown: Mapping[str, Sequence[Pixels]], path: Path) -> None:
    """Draw images of several codecs, a row for each with its name above it, as PNG; what is clear lies over white."""
    first = next(iter(shown.values()))
    scale = max(1, SCALED // max(max(image.shape[:2]) for image in first))
    side = scale * max(max(image.shape[:2]) for image in first)
    sheet = Image.new(
        "RGB", (MARGIN + len(first) * (side + MARGIN), len(shown) * (LINE + side + MARGIN) + MARGIN), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(28)
    for row, (name, images) in enumerate(shown.items()):
        top = MARGIN + row * (LINE + side + MARGIN)
        draw.text((MARGIN, top), name, fill="black", font=font)
        for column, image in enumerate(images):
            picture = Image.fromarray(np.asarray(image)).convert("RGBA")
            larger = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
            sheet.paste(larger, (MARGIN + column * (side + MARGIN), top + LINE), larger)
    sheet.save(path)
