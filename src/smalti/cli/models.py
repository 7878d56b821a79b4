# SPDX-License-Identifier: MIT
"""The commands smalti models and smalti model info."""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smalti.cli.console import size

if TYPE_CHECKING:
    from smalti.model.model import Model

SHOWN_QUALITIES = (1, *range(10, 101, 10))
_WIDEST = 10_000  # columns: far more than the names of files need

model_app = typer.Typer(name="model", help="Look at a model.", no_args_is_help=True)


def models() -> None:
    """List the models that pack and unpack know by name.

    Examples:
    smalti models
    """
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    from smalti.errors import SmaltiError
    from smalti.model.bundle import load_model, model_paths
    from smalti.types import describe

    paths = model_paths()
    table = Table()
    table.add_column("name", no_wrap=True, min_width=max(len(path.stem) for path in paths))
    table.add_column("id", no_wrap=True, min_width=16)
    for title, least in (("images", 6), ("bundle", 6), ("bytes an image, dB (quality 1, 50, 100)", 14)):
        table.add_column(title, min_width=least)  # beside a long name, too, they stay columns
    for path in paths:
        try:
            model = load_model(path)
        except SmaltiError as exc:
            table.add_row(Text(path.stem), "", "", "", Text(str(exc)))
            continue
        some = (
            [model.operating_points.of_quality(quality) for quality in (1, 50, 100)]
            if model.operating_points.by_quality
            else []
        )
        reached = [f"{m.bytes:.1f} at {m.psnr:.1f}" for m in some]
        if (lossless := _lossless(model)) is not None:
            reached.append(f"{lossless:.1f} lossless")
        table.add_row(
            Text(path.stem),
            model.id.hex(),
            describe(model.image_shape) if not model.is_general else "any",
            size(path.stat().st_size),
            "; ".join(reached),
        )
    console = Console()
    console.width = max(
        console.width, Measurement.get(console, console.options.update(max_width=_WIDEST), table).minimum
    )
    console.print(table, crop=False)


@model_app.command("info")
def model_info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model, or the path of a bundle.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a model takes, what it does on images it was not trained on, and how it was made.

    Examples:
    smalti model info mnist

    smalti model info my.model --json
    """
    import json
    from dataclasses import asdict

    from smalti.model.bundle import load_model
    from smalti.types import describe

    loaded = load_model(model)
    if as_json:
        facts = {
            "name": loaded.name,
            "id": loaded.id.hex(),
            "images": ("any" if loaded.mixer else describe(loaded.image_shape))
            + (" (coded by pixels: of any size)" if loaded.pixels else ""),
            "bundle_bytes": loaded.size,
            "latents": loaded.latents,
            "cells": loaded.patches,
            "by_latents": loaded.has_latents,
            "by_pixels": loaded.pixels is not None,
            "training": dict(loaded.training),
            "qualities": [{"quality": q} | asdict(loaded.operating_points.of_quality(q)) for q in SHOWN_QUALITIES],
        }
        typer.echo(json.dumps(facts))
        return
    _print_facts(loaded)
    if loaded.operating_points.by_quality:
        _print_qualities(loaded)


def _print_facts(model: "Model") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from smalti.types import COLOURS, describe

    facts = {"name": model.name, "id": model.id.hex(), "bundle": size(model.size)}
    images = [f"{describe(model.image_shape)}, coded by latents"] if model.has_latents else []
    if model.pixels is not None:
        images.append(f"{COLOURS[model.pixels.window.channels]} of any size, coded by pixels")
    if model.mixer is not None:
        ways = "by mixing" if model.transform is None else "by mixing and by transform"
        images.append(f"any size, in gray or colour, with alpha or without, coded {ways}")
    facts["images"] = "; ".join(images)
    if "from" in model.training and model.mixer is not None:
        facts["tuned"] = f"from {model.training['from']}, on {model.training.get('images', 'some')} images"
    if model.has_latents:
        patches = "" if model.patches == 1 else f" in each of {model.patches} patches"
        facts["latents"] = f"An image has {model.latents} latents{patches}. {made_how(model.training)}"
    if model.pixels is not None:
        lossless = _lossless(model)
        reached = "" if lossless is None else f"Lossless, an image takes {lossless:.2f} bytes. "
        facts["pixels"] = reached + made_how(model.training.get("pixels"))
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for title, words in facts.items():
        table.add_row(title, Text(words.rstrip()))
    Console().print(table)


def _lossless(model: "Model") -> float | None:
    """Return the bytes of an image without loss, if the model codes by pixels and its bundle says so."""
    pixels = model.training.get("pixels")
    found = pixels.get("bytes_an_image") if isinstance(pixels, Mapping) else None
    return found if isinstance(found, int | float) else None


def _print_qualities(model: "Model") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("quality", "coded by", title="On images it was not trained on, with effort 5")
    for column in ("bytes an image (payload)", "PSNR, dB"):
        table.add_column(column, justify="right")
    for quality in SHOWN_QUALITIES:
        point = model.operating_points.of_quality(quality)
        if point.pixels:
            way = f"{'mixing' if model.mixer is not None else 'pixels'}, in steps of {2 * point.setting + 1}"
        else:
            way = f"transform, level {point.setting}" if point.transform else f"latents, point {point.setting}"
        table.add_row(str(quality), way, f"{point.bytes:.2f}", f"{point.psnr:.2f}")
    Console().print(table)


def made_how(known: Any) -> str:
    """Return the provenance of a part of a model in words, as far as a bundle records it.

    known: what the bundle records, JSON from whoever made it.

    >>> made_how({"images": 1200, "sources": ["a.zip"], "epochs": 7, "steps": 84, "seconds": 131, "smalti": "0.1.0"})
    'This part was trained on 1,200 images from a.zip: 7 epochs, 84 steps, 2 minutes. smalti 0.1.0 made it.'
    """
    if not isinstance(known, Mapping):
        return ""
    number = {key: value for key, value in known.items() if type(value) in (int, float) and math.isfinite(value)}
    effort = [_counted(number[f"{unit}s"], unit) for unit in ("epoch", "step") if f"{unit}s" in number]
    if "seconds" in number:
        seconds = number["seconds"]
        effort.append(_counted(round(seconds), "second") if seconds < 60 else _counted(round(seconds / 60), "minute"))
    files = known.get("sources")
    files = [str(file) for file in files] if isinstance(files, list) else []
    more = f" and {_counted(len(files) - 3, 'more source')}" if len(files) > 3 else ""
    origin = f" from {', '.join(files[:3])}{more}" if files else ""
    took = f": {', '.join(effort)}" if effort else ""
    sentences = []
    if "images" in number:
        sentences.append(f"This part was trained on {_counted(number['images'], 'image')}{origin}{took}.")
    if "from" in known:
        start = re.fullmatch(r"(\S+) ([0-9a-f]{16})", str(known["from"]))
        weights = f"of model {start[1]} ({start[2]})" if start else "of an earlier model"
        sentences.append(f"It began with the weights {weights}.")
    if "validation_images" in number:
        best = f"; on them, it was best after epoch {number['best_epoch']}" if "best_epoch" in number else ""
        held_out = number["validation_images"]
        were = "was" if held_out == 1 else "were"
        sentences.append(f"{_counted(held_out, 'other image')} {were} held out{best}.")
    if "smalti" in known:
        day = f" on {known['date']}" if "date" in known else ""
        sentences.append(f"smalti {known['smalti']} made it{day}.")
    return " ".join(sentences)


def _counted(n: float, unit: str) -> str:
    """Return a number with its unit in words.

    >>> _counted(1, "epoch"), _counted(2114, "step")
    ('1 epoch', '2,114 steps')
    """
    return f"{n:,} {unit}" + ("s" if n != 1 else "")
