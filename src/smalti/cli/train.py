# SPDX-License-Identifier: MIT
"""smalti train and models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from smalti.cli.console import progress, size
from smalti.cli.files import Force

if TYPE_CHECKING:
    from smalti.training.loop import Trained


def models() -> None:
    """List the models that pack and unpack know by name.

    Examples:
    smalti models
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from smalti.bundle import load_model, model_paths
    from smalti.errors import SmaltiError
    from smalti.images import describe

    table = Table("name", "id", "images", "bundle", "best PSNR")
    for path in model_paths():
        try:
            model = load_model(path)
        except SmaltiError as exc:
            table.add_row(escape(path.stem), "", "", "", escape(str(exc)))
            continue
        reached = model.training.get("validation_psnr")
        reached = f"{reached:.2f} dB" if isinstance(reached, float) else ""
        table.add_row(
            escape(path.stem), model.id.hex(), describe(model.image_shape), size(path.stat().st_size), reached
        )
    Console().print(table)


def train(
    sources: Annotated[
        list[str], typer.Argument(metavar="SRC", help="Gray images of one size: folders, idx or npz files.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The bundle to write, NAME.model.")],
    schedule: Annotated[
        Literal["fast", "reference"],
        typer.Option(help="fast: SOAP, narrow network first; reference: 20 epochs of Adam, as published."),
    ] = "fast",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of the first phase.", show_default="10 fast, 20 reference")
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

    Checkpoint, log and plot are kept in a folder beside the model, MODEL.train.

    Examples:
    smalti train train-images-idx3-ubyte.gz -o digits.model

    smalti train scans/ -o scans.model --epochs 5
    """
    from smalti.atomic import atomic_write, refuse_existing
    from smalti.bundle import SUFFIX
    from smalti.errors import MissingExtraError, SourceError, UsageError
    from smalti.images import describe, read_images

    if output.suffix != SUFFIX:
        raise UsageError(f"{output}: give the model a name that ends in {SUFFIX}")
    refuse_existing(output, force=force)
    images = read_images(*sources)
    if images.shape[2] != 1:
        raise SourceError(f"the images are {describe(images.shape)}; the autoencoder takes gray ones; convert them")
    try:
        from smalti.training.export import export_bundle
        from smalti.training.loop import train as train_model
        from smalti.training.plan import FAST, REFERENCE, Hardware, Plan
    except ModuleNotFoundError as exc:
        raise MissingExtraError(f"training (module {exc.name})", "train") from exc
    from dataclasses import replace

    phases = FAST if schedule == "fast" else REFERENCE
    if epochs is not None:
        phases = (replace(phases[0], epochs=epochs), *phases[1:])
    plan = Plan(phases=phases, seed=seed)
    folder = output.with_name(output.name + ".train")
    with _Bar() as listener:
        try:
            trained = train_model(images.pixels, folder, plan, listener, Hardware(device, devices, precision))
        except KeyboardInterrupt:
            typer.echo(f"smalti: interrupted; the same command goes on from {folder}", err=True)
            raise typer.Exit(130) from None
    if not trained.main:
        return
    pixels = images.pixels[trained.train_index]
    with progress("fitting tables") as advance:
        data = export_bundle(trained.model, output.stem, pixels, _provenance(trained, schedule, sources), advance)
    with atomic_write(output, force=force) as file:
        file.write(data)
    state = trained.state
    typer.echo(
        f"{output}: {size(len(data))}, validation MSE {state.best_mse:.6f} at epoch {state.best_epoch};"
        f" log and plot in {folder}"
    )


def _provenance(trained: "Trained", schedule: str, sources: list[str]) -> dict[str, Any]:
    from smalti.metrics import psnr

    state = trained.state
    return {
        "sources": [Path(source).name for source in sources],
        "images": len(trained.train_index),
        "validation_images": len(trained.validation_index),
        "schedule": schedule,
        "seed": state.seed,
        "epochs": len(state.log),
        "best_epoch": state.best_epoch,
        "validation_mse": state.best_mse,
        "validation_psnr": psnr(state.best_mse),
        "seconds": round(state.seconds),
    }


class _Bar:
    """A `Listener` that shows training on stderr: a bar with loss and time left on a terminal, a line an epoch."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (
            TextColumn("training"),
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

    def epoch(self, row: dict[str, float]) -> None:
        self.say(
            f"epoch {row['epoch']:.0f}: training MSE {row['train_mse']:.5f},"
            f" validation MSE {row['validation_mse']:.5f}, {row['seconds'] / 60:.1f} minutes"
        )

    def say(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
