# SPDX-License-Identifier: MIT
"""Train a model on images and write its bundle: what `smalti train` and users of Python call.

images -> for each part of the model: train -> export into the bundle -> bundle written -> report beside it

The module is not called `train`, because then the function `smalti.training.train` would be replaced by the module as
soon as somebody imports it. Nothing here imports torch before it is needed.
"""

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smalti.errors import MissingExtraError, TrainingError, UsageError
from smalti.exchange.sources import Images, as_source, joined, open_source
from smalti.model.bundle import SUFFIX, load_model, parse_bundle
from smalti.model.model import Model
from smalti.training.listener import Listener, Nobody
from smalti.training.training_plan import TrainingPlan
from smalti.types import Pixels
from smalti.util.atomic import as_path, atomic_write, refuse_existing

if TYPE_CHECKING:
    from smalti.training.loop import Trained
    from smalti.training.schedule import Chosen
    from smalti.training.tasks.task import Task


@dataclass(frozen=True)
class TrainedModel:
    """What `train` wrote."""

    path: Path  # of the bundle
    bytes: int  # of the bundle
    verdicts: Mapping[str, str]  # of each part, whether it would gain by more training
    report: Path  # Markdown: what the model does on images that it was not trained on, beside other codecs


def training_folder(output: Path) -> Path:
    """Return the folder that keeps checkpoints, logs, plots and the report of the bundle `output`."""
    return output.with_name(output.name + ".train")


def train(
    source: Images,
    output: Path | str,
    *,
    plan: TrainingPlan = TrainingPlan(),  # noqa: B008 - frozen
    progress: Listener | None = None,
    force: bool = False,
) -> TrainedModel:
    """Train a model on the images of `source` and write its bundle to `output`, whole or not at all.

    Checkpoints, logs, plots and a report are kept in the folder `OUTPUT.train` beside the bundle. An interrupted call
    (KeyboardInterrupt passes through) goes on from its checkpoint when it is made again. If the plan asks for several
    devices, the script is run once for each of them, and all of these processes but the first end in this function.

    Args:
        source: images of one size and colour, as `smalti.pack` takes them: an array (`n h w` or `n h w 3`, uint8), a
            list of arrays, an `ImageSet`, or paths; of any sizes and colours if the plan starts from a model that codes
            by mixing, such as `colour`.
        output: the path of the bundle, NAME.model; the model will be called NAME.
        plan: what is trained, and how.
        progress: a listener that is told how training, exporting and comparing go.
        force: whether a bundle at `output` may be replaced.

    Raises:
        UsageError: `output` does not end in .model or exists already, or the model to start from has no latents.
        MissingExtraError: torch or another package of the extra `train` is not installed.
        SourceError: the images cannot be read, or cannot be trained on: too small, too large, of several sizes.
        TrainingError: there are too few images, the checkpoint is of another plan, or training fails.
        OutputError: the bundle or its folder cannot be written.
    """
    output = as_path(output)
    if output.suffix != SUFFIX:
        raise UsageError(f"{output}: give the model a name that ends in {SUFFIX}")
    refuse_existing(output, force=force)
    start = plan.start if plan.start is None or isinstance(plan.start, Model) else load_model(plan.start)
    tunes = start is not None and start.mixer is not None
    if plan.lossy and not tunes:
        raise UsageError("--lossy goes with --from colour; leave it out")
    if start is not None and not plan.lossless and not tunes and not start.has_latents:
        raise UsageError(f"model {start.name} codes by pixels alone; to go on from it, give --lossless")
    if start is not None and tunes:
        from smalti.training.tune_bundle import tune_bundle

        return tune_bundle(source, output, plan, start, progress or Nobody(), force=force)
    pixels, files = _read(source)
    try:
        from smalti.training.compare import write_report
        from smalti.training.schedule import plan_of
        from smalti.training.tasks.choice import tasks
    except ModuleNotFoundError as exc:
        raise MissingExtraError(f"training (module {exc.name})", "train") from exc
    listener, folder = progress or Nobody(), training_folder(output)
    shape = (*pixels.shape[1:], 1)[:3]
    chosen = _chosen(folder, tasks(shape, len(pixels), plan, start), pixels, plan, start)
    parts = tasks(shape, len(pixels), plan, start, chosen.steps)
    if os.environ.get("LOCAL_RANK", "0") == "0":  # a process that only helps says nothing
        listener.plan(*plan_of(parts, chosen, plan, len(pixels)))
    made = _train_parts(parts, pixels, output, plan, start, files, listener)
    with atomic_write(output, force=force) as file:
        file.write(made.data)
    listener.stage("comparing", "")
    report = write_report(folder, output, made.held_out, listener.advance, share=made.share, verdicts=made.verdicts)
    return TrainedModel(output, len(made.data), made.verdicts, report)


def _chosen(
    folder: Path, parts: "Mapping[str, Task]", pixels: Pixels, plan: TrainingPlan, start: Model | None
) -> "Chosen":
    """Return the steps of each part and how long one takes: as the training in `folder` has them, or by a few steps."""
    from smalti.training.plan import Hardware
    from smalti.training.schedule import Chosen, choose, keep_choice, options_of, saved_choice, seconds_a_step

    options = options_of(plan, "" if start is None else start.id.hex(), zlib.crc32(np.ascontiguousarray(pixels).data))
    if (found := saved_choice(folder, options)) is not None:
        return found
    for part, task in parts.items():
        least = 2 * task.plan.batch
        if task.held_out(len(pixels)) < 1 or len(pixels) - task.held_out(len(pixels)) < task.plan.batch:
            raise TrainingError(f"{len(pixels)} images are too few to train {part} on; give at least {least}")
    hardware = Hardware(plan.device, plan.devices, plan.precision)
    seconds = {part: seconds_a_step(task, pixels, hardware) for part, task in parts.items()}
    chosen = Chosen(choose(seconds, plan), seconds)
    keep_choice(folder, options, chosen)
    return chosen


@dataclass(frozen=True, eq=False)
class _Made:
    """A trained model."""

    data: bytes  # the bundle
    held_out: Pixels  # images that the last part was not trained on
    verdicts: dict[str, str]  # of each part
    share: float  # of the images that are usually measured


def _version() -> str:
    from smalti import __version__

    return __version__


def _read(source: Images) -> tuple[Pixels, list[str]]:
    """Read all images, without labels, and return them with the names of the files that they are from."""
    paths = [source] if isinstance(source, Path | str) else source
    if isinstance(paths, list | tuple) and paths and all(isinstance(path, Path | str) for path in paths):
        files = [Path(str(path)) for path in paths]
        return joined(open_source(*map(str, paths), labelled=False)).pixels, [file.name for file in files]
    return joined(as_source(source)).pixels, []


def _train_parts(
    parts: "Mapping[str, Task]",
    pixels: Pixels,
    output: Path,
    plan: TrainingPlan,
    start: Model | None,
    files: list[str],
    listener: Listener,
) -> "_Made":
    """Train and export part after part."""
    from smalti.training.loop import train_network
    from smalti.training.plan import Hardware
    from smalti.training.schedule import share_measured, verdict
    from smalti.training.tasks.choice import exporter

    folder, hardware = training_folder(output), Hardware(plan.device, plan.devices, plan.precision)
    model, made, verdicts = start, None, dict[str, str]()
    for part, task in parts.items():
        listener.stage("training", part)
        trained = train_network(pixels, folder / part, task, listener, hardware)
        if not trained.main:
            continue
        listener.stage("exporting", part)
        seen, held_out = pixels[trained.train_index], pixels[trained.validation_index]
        provenance = _provenance(trained, part, task, files, start)
        share = share_measured(part, len(trained.state.log) * (len(seen) // task.plan.batch))
        export = exporter(trained.model, model, share)
        data = export(trained.model, output.stem, seen, held_out, provenance, listener.advance)
        verdicts[part] = verdict(task.comparable(trained.state.log))
        model, made = parse_bundle(data), _Made(data, held_out, verdicts, share)
        listener.finished(f"{part}: best at epoch {trained.state.best_epoch}; log and plot in {folder / part}")
    if made is None:  # a process that only helps: the rest of its script would look for a bundle that is not there yet
        raise SystemExit(0)
    return made


def _provenance(trained: "Trained", part: str, task: "Task", files: list[str], start: Model | None) -> dict[str, Any]:
    """Return what the bundle records of how a part was made."""
    state = trained.state
    known: dict[str, Any] = {}
    if start is not None and getattr(task.plan, "start", None) is not None:  # it may have no weights for this part
        known["from"] = f"{start.name} {start.id.hex()}"
    return known | {
        "smalti": _version(),
        "date": datetime.now(UTC).date().isoformat(),
        "architecture": part,
        "sources": files,
        "images": len(trained.train_index),
        "validation_images": len(trained.validation_index),
        "seed": state.seed,
        "epochs": len(state.log),
        "best_epoch": state.best_epoch,
        "steps": len(state.log) * (len(trained.train_index) // task.plan.batch),
        "seconds": round(state.seconds),
    }
