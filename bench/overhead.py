# SPDX-License-Identifier: MIT
"""Benchmark of the bytes that a file takes beside its payloads, and of the order; a table in markdown."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import smalti
from smalti.archive.info import describe_file
from smalti.model.model import Model
from smalti.types import Pixels

ASKED: dict[str, dict[str, Any]] = {
    "quality 15": {"quality": 15, "effort": 3},
    "quality 30": {"quality": 30, "effort": 3},
    "quality 50": {"quality": 50},
    "lossless": {"max_error": 0},
}
HEAD = (
    "| | all in | payload | more, % | with names | with labels | in no order | saved, bits |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
)


def run(x: Pixels, labels: Sequence[int], name: str, output: Path, data: str) -> None:
    """Pack `x` (`n h w`) bare, with names, with labels, and without an order; write `overhead-DATA.md`."""
    console, model, n = Console(), smalti.load_model(name), len(x)
    order = math.lgamma(n + 1) / math.log(2) / n
    lines = [
        f"{n:,} test images of {data}, model {model.name}; bytes an image. An order takes {order:.2f} bits of each.",
        "",
        *HEAD,
    ]
    names = tuple(f"test/{label}/{i:05d}.png" for i, label in enumerate(labels))
    for what, asked in ASKED.items():
        bare, payload = _pack(smalti.ImageSet(x), model, asked)
        named, _ = _pack(smalti.ImageSet(x, names), model, asked)
        labelled, _ = _pack(smalti.ImageSet(x, None, tuple(labels)), model, asked)
        free, _ = _pack(smalti.ImageSet(x), model, asked, smalti.Packing(unordered=True))
        cells = (bare, payload, 100 * (bare / payload - 1), named, labelled, free, 8 * (bare - free))
        lines.append(f"| {what} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
        console.print(lines[-1], highlight=False)
    output.mkdir(parents=True, exist_ok=True)
    (output / f"overhead-{data}.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


def _pack(
    images: smalti.ImageSet, model: Model, asked: Mapping[str, Any], packing: smalti.Packing | None = None
) -> tuple[float, float]:
    """Pack images, and return the bytes an image of the file and of its payloads."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.smalti"
        smalti.pack(images, path, model=model, packing=packing or smalti.Packing(), **asked)
        facts = describe_file(path)
        with smalti.open(path, model=model) as archive:
            if sum(map(len, archive.parts())) != len(images):
                raise AssertionError("images are missing")
    return facts["bytes"] / len(images), facts["payload_bytes"] / len(images)
