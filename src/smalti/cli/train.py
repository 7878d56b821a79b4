# SPDX-License-Identifier: MIT
"""smalti train and models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from smalti.cli.console import progress, size
from smalti.cli.options import Force

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smalti.model.model import Model
    from smalti.training.loop import Trained
    from smalti.training.plan import Hardware
    from smalti.training.tasks.task import Task
    from smalti.types import Pixels


CODEC_STEPS, PIXEL_STEPS = 2000, 1500
CODEC_BATCH, PIXEL_BATCH = 192, 32
SHOWN_QUALITIES = (1, *range(10, 101, 10))

model_app = typer.Typer(name="model", help="Look at a model.", no_args_is_help=True)


def models() -> None:
    """List the models that pack and unpack know by name.

    Examples:
    smalti models
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from smalti.errors import SmaltiError
    from smalti.model.bundle import load_model, model_paths
    from smalti.types import describe

    table = Table("name", "id", "images", "bundle", "bytes an image, dB (quality 1, 50, 100)")
    for path in model_paths():
        try:
            model = load_model(path)
        except SmaltiError as exc:
            table.add_row(escape(path.stem), "", "", "", escape(str(exc)))
            continue
        some = (
            [model.operating_points.of_quality(quality) for quality in (1, 50, 100)]
            if model.operating_points.by_quality
            else []
        )
        reached = "; ".join(f"{m.bytes:.1f} at {m.psnr:.1f}" for m in some)
        if "pixels" in model.training:
            reached += f"; {model.training['pixels']['bytes_an_image']:.1f} lossless"
        table.add_row(
            escape(path.stem), model.id.hex(), describe(model.image_shape), size(path.stat().st_size), reached
        )
    Console().print(table)


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

    from rich.console import Console
    from rich.table import Table

    from smalti.model.bundle import load_model
    from smalti.types import describe

    loaded = load_model(model)
    facts = {
        "name": loaded.name,
        "id": loaded.id.hex(),
        "images": describe(loaded.image_shape) + (" (coded by pixels: of any size)" if loaded.pixels else ""),
        "bundle_bytes": loaded.size,
        "latents": loaded.latents,
        "cells": loaded.patches,
        "by_latents": loaded.has_latents,
        "by_pixels": loaded.pixels is not None,
        "training": dict(loaded.training),
        "qualities": [{"quality": q} | asdict(loaded.operating_points.of_quality(q)) for q in SHOWN_QUALITIES],
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    keys = ["name", "id", "images", "bundle_bytes", *(["latents", "cells"] if loaded.has_latents else [])]
    for key in keys:
        typer.echo(f"{key.replace('_', ' '):13} {facts[key]}")
    of_pixels = loaded.training.get("pixels", {})
    for title, known in (("training", loaded.training), ("by pixels", of_pixels)):
        words = [f"{key.replace('_', ' ')} {value}" for key, value in known.items() if not isinstance(value, dict)]
        if words:
            typer.echo(f"{title:13} " + ", ".join(words))
    if not loaded.operating_points.by_quality:
        return
    table = Table("quality", "coded by", title="On images it was not trained on, with effort 5")
    for column in ("bytes an image (payload)", "PSNR, dB"):
        table.add_column(column, justify="right")
    for quality in SHOWN_QUALITIES:
        point = loaded.operating_points.of_quality(quality)
        way = f"pixels, in steps of {2 * point.setting + 1}" if point.pixels else f"latents, point {point.setting}"
        table.add_row(str(quality), way, f"{point.bytes:.2f}", f"{point.psnr:.2f}")
    Console().print(table)


def train(
    sources: Annotated[
        list[str], typer.Argument(metavar="SRC", help="Images of one size and colour: folders, idx or npz files.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The bundle to write, NAME.model.")],
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Train only what codes by pixels: images of any size.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of training, for each part: what codes by latents, and by pixels.",
            show_default=f"{CODEC_STEPS} and {PIXEL_STEPS}",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Images a step.", show_default=f"{CODEC_BATCH} and {PIXEL_BATCH}"),
    ] = None,
    architecture: Annotated[
        Literal["codec", "autoencoder"], typer.Option(help="autoencoder: the baseline, for gray images.")
    ] = "codec",
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Go on from a model's weights; what is not trained of it stays as it is.",
        ),
    ] = None,
    schedule: Annotated[
        Literal["fast", "reference"],
        typer.Option(help="Of the autoencoder; fast: narrow network first; reference: 20 epochs of Adam."),
    ] = "fast",
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Of the autoencoder's first phase.", show_default="10 fast, 20 reference"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the first weights and the order.")] = 0,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="What to train on.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="How many of them: processes or GPUs.")] = 1,
    precision: Annotated[
        Literal["32-true", "bf16-mixed", "16-mixed"], typer.Option(help="Of the arithmetic, as Fabric names it.")
    ] = "32-true",
    force: Force = False,
) -> None:
    """Train a model on your own images; interrupt it, and the same command goes on.

    First what codes by latents, for few bytes, then what codes by pixels, for high qualities and without loss.
    Checkpoints, logs, plots and a report of what the model does beside other codecs are kept in a folder beside the
    model, MODEL.train.

    Examples:
    smalti train train-images-idx3-ubyte.gz -o digits.model

    smalti train scans/ -o scans.model --steps 20000

    smalti train my-digits/ -o my.model --from mnist --steps 1000

    smalti train icons/ -o icons.model --lossless
    """
    from smalti.errors import MissingExtraError, UsageError
    from smalti.exchange.sources import read_images
    from smalti.model.bundle import SUFFIX, load_model
    from smalti.util.atomic import atomic_write, refuse_existing

    if output.suffix != SUFFIX:
        raise UsageError(f"{output}: give the model a name that ends in {SUFFIX}")
    if architecture == "autoencoder" and (start is not None or lossless):
        raise UsageError("--from goes with the codec, and so does --lossless; the autoencoder is trained from scratch")
    if epochs is not None and architecture != "autoencoder":
        raise UsageError("--epochs is for --architecture autoencoder; give --steps")
    refuse_existing(output, force=force)
    first = None if start is None else load_model(start)
    if first is not None and not lossless and not first.has_latents:
        raise UsageError(f"model {first.name} codes by pixels alone; to go on from it, give --lossless")
    images = read_images(*sources, labelled=False)
    try:
        from smalti.training.compare import write_report
        from smalti.training.plan import Hardware
        from smalti.training.tasks.choice import Asked, tasks
    except ModuleNotFoundError as exc:
        raise MissingExtraError(f"training (module {exc.name})", "train") from exc
    asked = Asked(
        seed,
        latents=None if lossless else (steps or CODEC_STEPS, batch or CODEC_BATCH),
        pixels=(steps or PIXEL_STEPS, batch or PIXEL_BATCH),
        autoencoder=(schedule, epochs) if architecture == "autoencoder" else None,
    )
    parts = tasks(images.shape, len(images.pixels), asked, first)
    folder = output.with_name(output.name + ".train")
    made = _train(parts, images.pixels, folder, Hardware(device, devices, precision), sources, output.stem, first)
    if made is None:
        return
    data, held_out = made
    with atomic_write(output, force=force) as file:
        file.write(data)
    typer.echo(f"{output}: {size(len(data))}")
    with progress("comparing") as advance:
        report = write_report(folder, output, held_out, advance)
    typer.echo(f"{report}: what it does on images it was not trained on")


def _train(
    parts: "Mapping[str, Task]",
    pixels: "Pixels",
    folder: Path,
    hardware: "Hardware",
    sources: list[str],
    name: str,
    first: "Model | None",
) -> "tuple[bytes, Pixels] | None":
    """Train part after part; the bundle, and images that none was trained on; None in processes that only help."""
    from smalti.model.bundle import parse_bundle
    from smalti.training.loop import train as train_model
    from smalti.training.tasks.choice import exporter

    made, model = None, first
    for part, task in parts.items():
        with _Bar(part) as listener:
            try:
                trained = train_model(pixels, folder / part, task, listener, hardware)
            except KeyboardInterrupt:
                typer.echo(f"smalti: interrupted; the same command goes on from {folder}", err=True)
                raise typer.Exit(130) from None
        if not trained.main:
            continue
        seen, held_out = pixels[trained.train_index], pixels[trained.validation_index]
        with progress("exporting") as advance:
            provenance = _provenance(trained, part, sources, first)
            data = exporter(trained.model, model)(trained.model, name, seen, held_out, provenance, advance)
        model, made = parse_bundle(data), (data, held_out)
        typer.echo(f"{part}: best at epoch {trained.state.best_epoch}; log and plot in {folder / part}")
    return made


def _provenance(trained: "Trained", architecture: str, sources: list[str], start: "Model | None") -> dict[str, Any]:
    from smalti import __version__

    state = trained.state
    known: dict[str, Any] = {} if start is None else {"from": f"{start.name} {start.id.hex()}"}
    return known | {
        "smalti": __version__,
        "architecture": architecture,
        "sources": [Path(source).name for source in sources],
        "images": len(trained.train_index),
        "validation_images": len(trained.validation_index),
        "seed": state.seed,
        "epochs": len(state.log),
        "best_epoch": state.best_epoch,
        "seconds": round(state.seconds),
    }


class _Bar:
    """A `Listener` that shows training on stderr: a bar with loss and time left on a terminal, a line an epoch."""

    def __init__(self, part: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (
            TextColumn(f"training {part}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("loss {task.fields[loss]:.5f}"),
            TextColumn("time left"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self._bar = Progress(
            *columns, console=console, disable=not console.is_terminal, speed_estimate_period=300, transient=True
        )
        self._task = self._bar.add_task("training", total=None, loss=0.0)
        self._loss = 0.0

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, total: float, done: float) -> None:
        self._bar.update(self._task, total=total, completed=done)

    def step(self, work: float, loss: float) -> None:
        self._loss = loss if not self._loss else 0.98 * self._loss + 0.02 * loss
        self._bar.update(self._task, advance=work, loss=self._loss)

    def epoch(self, row: dict[str, float], words: str) -> None:
        self.say(f"epoch {row['epoch']:.0f}: {words}, {row['seconds'] / 60:.1f} minutes")

    def say(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
