# SPDX-License-Identifier: MIT
"""The command smalti train."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smalti.cli.console import size
from smalti.cli.options import Force
from smalti.training.training_plan import (
    CODEC_BATCH,
    MINUTES,
    PIXEL_BATCH,
    Architecture,
    Device,
    Precision,
    Schedule,
)

if TYPE_CHECKING:
    from smalti.training.listener import Planned, Stage


def train(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC", help="Images of one size and colour (of any with --from colour): folders, idx or npz files."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The bundle to write, NAME.model.")],
    lossless: Annotated[
        bool,
        typer.Option("--lossless", help="Train only the part that keeps images exactly, or nearly so."),
    ] = False,
    lossy: Annotated[
        bool, typer.Option("--lossy", help="With --from colour, tune only the part that keeps images with loss.")
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="How long all of it takes, about; the steps are fitted to that.",
            show_default=f"{MINUTES:g}",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Instead of --minutes: training steps of each part, the one that codes by latents, and by pixels.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images in a training step.",
            show_default=f"{CODEC_BATCH} and {PIXEL_BATCH}, fewer of large images",
        ),
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
    """Train a model on your own images, in 20 minutes. If you interrupt it, the same command goes on.

    First the part that codes by latents is trained, for few bytes, then the part that codes by pixels, for high
    qualities and without loss. Before that, a plan says what is done and how long it takes. Checkpoints, logs, plots
    and a report that compares the model with other codecs are kept in a folder beside the model, MODEL.train.

    With --from colour, the general model is tuned to images of any sizes and colours: its part that keeps them exactly,
    then the one that keeps them with loss. The bundle holds what differs from colour: 1.3 MB, or 0.2 MB with --lossy.

    Examples:
    smalti train train-images-idx3-ubyte.gz -o digits.model

    smalti train scans/ -o scans.model --minutes 120

    smalti train my-digits/ -o my.model --from mnist --steps 1000

    smalti train icons/ -o icons.model --lossless

    smalti train icons/ -o icons.model --from colour

    smalti train avatars/ -o avatars.model --from colour --lossy
    """
    from smalti.training import TrainingPlan
    from smalti.training.train_bundle import train as train_bundle
    from smalti.training.train_bundle import training_folder

    plan = TrainingPlan(
        architecture=architecture,
        lossless=lossless,
        lossy=lossy,
        minutes=minutes,
        steps=steps,
        batch=batch,
        start=start,
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
    for part, words in made.verdicts.items():
        typer.echo(f"{part}: {words}")
    typer.echo(f"{made.report}: what it does on images it was not trained on")


class _Bar:
    """A `Listener` that prints the plan, a line for each epoch and each part, and shows a bar if stderr is a terminal.

    The bar is of the present stage; the time left is of all stages.
    """

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._shown = contextlib.ExitStack()  # the bar of the present stage
        self._left: list[Planned] = []  # the present stage and those after it
        self.comparing = False

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def plan(self, stages: "Sequence[Planned]", words: str) -> None:
        from smalti.training.schedule import words_of

        self._left = list(stages)
        self.say(f"plan: {words_of(sum(stage.seconds for stage in stages))} in all")
        for stage in stages:
            what = f"{_DONE[stage.stage]} {stage.part}".rstrip()
            self.say(f"  {what:18} {words_of(stage.seconds):15} {stage.words}")
        if words:
            self.say(f"smalti: {words}")

    def stage(self, name: "Stage", part: str) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._shown.close()
        self.comparing = name == "comparing"
        while self._left and (self._left[0].stage, self._left[0].part) != (name, part):
            self._left.pop(0)
        self._begun = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[loss]}"),
            TextColumn("{task.fields[left]}"),
        )
        bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal, transient=True)
        self._bar = self._shown.enter_context(bar)
        self._task = bar.add_task(f"{name} {part}".rstrip(), total=None, loss="", left="")
        self._loss, self._done, self._whole, self._at_first = 0.0, 0.0, 0.0, 0.0

    def start(self, total: float, done: float) -> None:
        self._done, self._whole, self._at_first = done, total, done
        self._bar.update(self._task, total=total, completed=done)

    def step(self, work: float, loss: float) -> None:
        self._loss = loss if not self._loss else 0.98 * self._loss + 0.02 * loss
        self._move(work, self._whole, f"loss {self._loss:.4f}")

    def _move(self, done: float, total: float | None, loss: str = "") -> None:
        self._done, self._whole = self._done + done, total or 0.0
        left = self._time_left()
        self._bar.update(self._task, total=total, completed=self._done, loss=loss, left=left)

    def _time_left(self) -> str:
        """Return how long all that is left takes, in words; "" if nobody knows."""
        from smalti.training.schedule import words_of

        if not self._left or not self._whole:
            return ""
        rest = 1 - self._done / self._whole
        mine = self._left[0].seconds * rest
        spent, made = time.monotonic() - self._begun, (self._done - self._at_first) / self._whole
        if made > _KNOWN:
            mine = spent / made * rest
        return f"{words_of(mine + sum(stage.seconds for stage in self._left[1:]))} left in all"

    def epoch(self, row: dict[str, float], words: str) -> None:  # noqa: ARG002 - the protocol's
        self.say(words)

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def advance(self, done: int, total: int | None) -> None:
        self._move(done, total)

    def finished(self, words: str) -> None:
        self._shown.close()
        typer.echo(words)


_DONE = {"training": "train", "exporting": "export", "comparing": "compare"}
"""What the plan calls stages."""
_KNOWN = 0.03
"""The share of a stage after which its own speed says how long the rest of it takes, in the place of the plan."""
