# SPDX-License-Identifier: MIT
"""The command smalti train."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smalti.cli.console import Advance, progress, size
from smalti.cli.options import Force
from smalti.training.training_plan import (
    CODEC_BATCH,
    CODEC_STEPS,
    MINUTES,
    PIXEL_BATCH,
    PIXEL_STEPS,
    Architecture,
    Device,
    Precision,
    Schedule,
)

if TYPE_CHECKING:
    from smalti.training.listener import Stage


def train(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC", help="Images of one size and colour (of any with --from colour): folders, idx or npz files."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The bundle to write, NAME.model.")],
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Train only the part that codes by pixels, for images of any size.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Training steps of each part: the one that codes by latents, and by pixels.",
            show_default=f"{CODEC_STEPS} and {PIXEL_STEPS}",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Images in a training step.", show_default=f"{CODEC_BATCH} and {PIXEL_BATCH}"),
    ] = None,
    architecture: Annotated[
        Architecture, typer.Option(help="What is trained; the autoencoder is the baseline, for gray images.")
    ] = "codec",
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Begin with this model's weights; a part that is not trained stays as it is.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="How long a model that codes by mixing is trained, with --from colour, in all.",
            show_default=f"{MINUTES:g}",
        ),
    ] = None,
    schedule: Annotated[
        Schedule,
        typer.Option(help="Way to train the autoencoder. fast: narrow network first; reference: 20 epochs of Adam."),
    ] = "fast",
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of the autoencoder's first phase.", show_default="10 fast, 20 reference"),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, help="Seed of the split, the first weights and the order of images."),
    ] = 0,
    device: Annotated[Device, typer.Option(help="The device to train on.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="How many processes or GPUs to train on.")] = 1,
    precision: Annotated[
        Precision, typer.Option(help="The precision of the arithmetic, as Lightning Fabric names it.")
    ] = "32-true",
    force: Force = False,
) -> None:
    """Train a model on your own images. If you interrupt it, the same command goes on.

    First the part that codes by latents is trained, for few bytes, then the part that codes by pixels, for high
    qualities and without loss. Checkpoints, logs, plots and a report that compares the model with other codecs are kept
    in a folder beside the model, MODEL.train.

    Examples:
    smalti train train-images-idx3-ubyte.gz -o digits.model

    smalti train scans/ -o scans.model --steps 20000

    smalti train my-digits/ -o my.model --from mnist --steps 1000

    smalti train icons/ -o icons.model --lossless

    smalti train icons/ -o icons.model --from colour --minutes 15
    """
    from smalti.training import TrainingPlan
    from smalti.training.train_bundle import train as train_bundle
    from smalti.training.train_bundle import training_folder

    plan = TrainingPlan(
        architecture=architecture,
        lossless=lossless,
        steps=steps,
        batch=batch,
        start=start,
        minutes=minutes,
        schedule=schedule,
        epochs=epochs,
        seed=seed,
        device=device,
        devices=devices,
        precision=precision,
    )
    bar = _Bar()
    try:
        with bar:
            made = train_bundle(list(sources), output, plan=plan, progress=bar, force=force)
    except KeyboardInterrupt:
        rest = f"the same command goes on from {training_folder(output)}"
        if bar.comparing:
            rest = f"{output} is complete, but its report is not; with --force, {rest}"
        typer.echo(f"smalti: interrupted; {rest}", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{made.path}: {size(made.bytes)}")
    typer.echo(f"{made.report}: what it does on images it was not trained on")


class _Bar:
    """A `Listener` that shows a bar on stderr if that is a terminal, and a line for each epoch and each part."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._shown = contextlib.ExitStack()  # the bar of the present stage
        self.comparing = False

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def stage(self, name: "Stage", part: str) -> None:
        self._shown.close()
        self.comparing = name == "comparing"
        if name == "training":
            self._show_training(part)
        else:
            self._advance: Advance = self._shown.enter_context(progress(name))

    def _show_training(self, part: str) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn(f"training {part}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("loss {task.fields[loss]:.5f}"),
            TextColumn("time left"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        console = self._console
        bar = Progress(
            *columns, console=console, disable=not console.is_terminal, speed_estimate_period=300, transient=True
        )
        self._bar = self._shown.enter_context(bar)
        self._task = bar.add_task("training", total=None, loss=0.0)
        self._loss = 0.0

    def start(self, total: float, done: float) -> None:
        self._bar.update(self._task, total=total, completed=done)

    def step(self, work: float, loss: float) -> None:
        self._loss = loss if not self._loss else 0.98 * self._loss + 0.02 * loss
        self._bar.update(self._task, advance=work, loss=self._loss)

    def epoch(self, row: dict[str, float], words: str) -> None:
        self.say(f"epoch {row['epoch']:.0f}: {words}, {row['seconds'] / 60:.1f} minutes")

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def advance(self, done: int, total: int | None) -> None:
        self._advance(done, total)

    def finished(self, words: str) -> None:
        self._shown.close()
        typer.echo(words)
