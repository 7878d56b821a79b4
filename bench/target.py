# SPDX-License-Identifier: MIT
"""Benchmark of the bytes and seconds that a requested mean PSNR takes; a table in markdown."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

import smalti
from smalti.rate.metrics import mse, psnr
from smalti.types import Pixels


def run(x: Pixels, name: str, decibels: Sequence[float], efforts: Sequence[int], output: Path, data: str) -> None:
    """Pack `x` (`n h w`) at each PSNR of `decibels` with each of `efforts`; write `target-DATA.md`."""
    console, model = Console(), smalti.load_model(name)
    lines = [
        f"{len(x):,} test images of {data}, model {model.name}. With the bundle ({model.size:,} bytes) counted:"
        f" {model.size / len(x):.1f} bytes more.",
        "",
        "| PSNR asked, dB | effort | bytes an image | PSNR, dB | pack, seconds | unpack, seconds |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.smalti"
        for decibel in decibels:
            for effort in efforts:
                start = time.perf_counter()
                rate = smalti.pack(x, path, model=model, psnr=decibel, effort=effort, force=True).rate
                middle = time.perf_counter()
                reached = psnr(mse(x, smalti.load(path, model=model).pixels))
                seconds = middle - start, time.perf_counter() - middle
                line = f"| {decibel:g} | {effort} | {rate:.2f} | {reached:.2f} | {seconds[0]:.0f} | {seconds[1]:.1f} |"
                lines.append(line)
                console.print(line, highlight=False)
    output.mkdir(parents=True, exist_ok=True)
    (output / f"target-{data}.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
