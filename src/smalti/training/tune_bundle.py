# SPDX-License-Identifier: MIT
"""Tune a general model, which codes by mixing and by transform, to one's own images, and write its bundle.

images -> mixer tuned (lossless half) -> transform tuned (lossy half) -> bundle written, report beside it
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from smalti import __version__
from smalti.errors import MissingExtraError, UsageError
from smalti.exchange.sources import Images, as_source, open_source
from smalti.model.bundle import bundle_bytes, is_known
from smalti.model.model import Model
from smalti.training.listener import Listener
from smalti.training.train_bundle import TrainedModel, training_folder
from smalti.training.training_plan import MINUTES, TrainingPlan
from smalti.types import Pixels
from smalti.util.atomic import atomic_write, output_error

if TYPE_CHECKING:
    from smalti.training.mixers.tune import Tuned
    from smalti.training.transforms.tune import TunedTransform


def tune_bundle(
    source: Images, output: Path, plan: TrainingPlan, start: Model, listener: Listener, *, force: bool
) -> TrainedModel:
    """Tune both halves of a model, or the one that the plan asks for, and write its bundle.

    The arguments and the errors are those of `train`; `start` is the model from which the plan starts.
    """
    halves = _halves(plan, start)
    images, files = _read_all(source)
    folder, minutes = training_folder(output), MINUTES if plan.minutes is None else plan.minutes
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise output_error(folder, exc) from exc
    mixing, lossy = _tuned(images, start, folder, halves, replace(plan, minutes=minutes / len(halves)), listener)
    used = next(half.images for half in (mixing, lossy) if half is not None)
    provenance = {
        "from": f"{start.name} {start.id.hex()}",
        "smalti": __version__,
        "date": datetime.now(UTC).date().isoformat(),
        "sources": files,
        "images": used[0],
        "validation_images": used[1],
        "minutes": minutes,
        "halves": halves,
    }
    base = start.id if start.base is None and start.transform is not None and is_known(start.id) else start.base
    model = replace(start, name=output.stem, training=provenance, base=base)
    model = model if mixing is None else replace(model, mixer=mixing.mixer)
    data = bundle_bytes(model if lossy is None else replace(model, transform=lossy.transform))
    with atomic_write(output, force=force) as file:
        file.write(data)
    return _reported(output, start.name, mixing, lossy, len(data))


def _halves(plan: TrainingPlan, start: Model) -> list[str]:
    """Return which halves are tuned: "mixing", "transform"."""
    if plan.steps is not None or plan.batch is not None or plan.devices != 1:
        raise UsageError(f"model {start.name} is trained for a time, on one device; give --minutes alone")
    if start.fit is not None:
        raise UsageError(f"model {start.name} is fitted to a collection; go on from colour")
    if plan.lossy and start.transform is None:
        raise UsageError(f"model {start.name} codes nothing lossily; leave out --lossy, or go on from colour")
    lossy = start.transform is not None and not plan.lossless
    return [half for half, asked in (("mixing", not plan.lossy), ("transform", lossy)) if asked]


def _tuned(
    images: list[Pixels], start: Model, folder: Path, halves: list[str], plan: TrainingPlan, listener: Listener
) -> "tuple[Tuned | None, TunedTransform | None]":
    """Tune halves of a model, each for the minutes of the plan."""
    try:
        from smalti.training.mixers import tune as mixers
        from smalti.training.transforms import tune as transforms
    except ModuleNotFoundError as exc:
        raise MissingExtraError(f"training (module {exc.name})", "train") from exc
    mixer, minutes, mixing, lossy = start.mixer, plan.minutes, None, None
    assert mixer is not None
    assert minutes is not None
    stages = {
        "mixing": mixers.planned(minutes, len(mixer.networks + mixer.drawn), len(images)),
        "transform": transforms.planned(minutes, len(images)),
    }
    listener.plan([stage for half in halves for stage in stages[half]], "")
    if "mixing" in halves:
        mixing = mixers.tune(images, mixer, start.id, folder, minutes, plan.device, listener)
    if "transform" in halves:
        lossy = transforms.tune_transform(images, start, folder, minutes, plan.device, listener)
    return mixing, lossy


def _reported(
    output: Path, start: str, mixing: "Tuned | None", lossy: "TunedTransform | None", size: int
) -> TrainedModel:
    """Write the logs and the report of what was tuned. size: of the bundle, in bytes."""
    from smalti.training.mixers import tune as mixers
    from smalti.training.report import write_log
    from smalti.training.transforms import tune as transforms

    folder, verdicts = training_folder(output), dict[str, str]()
    lines = [f"# {output.stem}", "", f"Tuned from {start}; the bundle takes {size:,} bytes.", ""]
    if mixing is not None:
        verdicts["mixing"] = mixing.verdict(start)
        lines += [*mixers.report_lines(start, mixing), ""]
        if mixing.log:
            write_log(folder / "log.csv", mixing.log)
    if lossy is not None:
        verdicts["transform"] = lossy.verdict(start, size)
        lines += [*transforms.report_lines(start, lossy), ""]
    report = folder / "report.md"
    with atomic_write(report, force=True) as file:
        file.write("\n".join(lines).encode())
    return TrainedModel(output, size, verdicts, report)


def _read_all(source: Images) -> tuple[list[Pixels], list[str]]:
    """Return all images, which may have several sizes and colours, and the names of the files that they are from."""
    paths = [source] if isinstance(source, Path | str) else source
    if isinstance(paths, list | tuple) and paths and all(isinstance(path, Path | str) for path in paths):
        files = [Path(str(path)) for path in paths]
        parts = open_source(*map(str, paths), labelled=False).parts
        return [image for part in parts for image in part.pixels], [file.name for file in files]
    return [image for part in as_source(source).parts for image in part.pixels], []
