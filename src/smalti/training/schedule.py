# SPDX-License-Identifier: MIT
"""What a whole training takes: its stages, the steps that fit into the time given, and what options changed since.

The steps are chosen once, before a training begins, and kept beside its checkpoints, so that it ends in the same
weights whether it is interrupted or not.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smalti.errors import TrainingError
from smalti.training.listener import Planned
from smalti.training.training_plan import CODEC_STEPS, MINUTES, PIXEL_STEPS, TrainingPlan
from smalti.types import Pixels
from smalti.util.atomic import atomic_write, output_error

if TYPE_CHECKING:
    from smalti.training.plan import Hardware
    from smalti.training.tasks.task import Task

CHOSEN = "plan.json"
"""The file in the folder of a training that keeps the options it was begun with, and the steps chosen for it."""
SHARES = {"latents": 0.6, "pixels": 0.4, "autoencoder": 1.0}
"""How the time for training is divided among the parts, before they are weighed so that they add up to 1."""
LEAST_STEPS = 300
"""With fewer steps of a part there is nothing to expect of it, so that so many are trained, however long they take."""
PROBED, PROBE_SECONDS = 6, 3.0
"""The steps that are timed, and the seconds after which timing ends earlier; the first step is not counted."""
EXPORTING, COMPARING = {"latents": 75.0, "pixels": 50.0, "autoencoder": 30.0}, 30.0
"""The seconds that exporting a part, and comparing the model, take on two cores after a training of the usual steps."""
LEAST_SECONDS = 3.0
"""What each of these takes at least."""
EXACT = 1.3
"""How much longer a step takes on average than at the start: later ones compute with the values of integers."""


@dataclass(frozen=True)
class Chosen:
    """What was chosen for a training."""

    steps: dict[str, int]  # of each part
    seconds: dict[str, float]  # of a step of each part


def options_of(plan: TrainingPlan, start_id: str, checksum: int) -> dict[str, Any]:
    """Return the options of a `TrainingPlan` that decide the weights, and a checksum of the images."""
    fields = ("architecture", "lossless", "minutes", "steps", "batch", "schedule", "epochs", "seed")
    return {name: getattr(plan, name) for name in fields} | {"start": start_id, "images": checksum}


def saved_choice(folder: Path, options: Mapping[str, Any]) -> Chosen | None:
    """Return what was chosen when the training in `folder` began; None if none was begun.

    Raises:
        TrainingError: it was begun with other options or images, or its file is damaged.
    """
    path = folder / CHOSEN
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        before, chosen = saved["options"], Chosen(dict(saved["steps"]), dict(saved["seconds"]))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise TrainingError(f"cannot read {path}; delete {folder} to start anew") from exc
    if before != dict(options):
        others = differences({"plan": before}, {"plan": dict(options)})
        raise TrainingError(f"{folder} has a training with {others}; give that again, or delete {folder} to begin anew")
    return chosen


def keep_choice(folder: Path, options: Mapping[str, Any], chosen: Chosen) -> None:
    """Write what was chosen to the folder of a training."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise output_error(folder, exc) from exc
    content = {"options": dict(options), "steps": chosen.steps, "seconds": chosen.seconds}
    with atomic_write(folder / CHOSEN, force=True) as file:
        file.write(json.dumps(content, indent=1).encode())


_OPTIONS = {"start": "--from", "phases": "--schedule and --epochs"}


def differences(before: Any, now: Mapping[str, Any]) -> str:
    """Return in words with which options or images a training was begun that are others now.

    >>> differences({"plan": {"steps": 6, "seed": 0}}, {"plan": {"steps": 8, "seed": 0}})
    '--steps 6, not 8'
    """
    if not isinstance(before, Mapping) or not isinstance(before.get("plan"), Mapping):
        return "other options"
    if before["plan"].get("images") != now["plan"].get("images"):
        return "other images"
    words = []
    for name in sorted(set(before["plan"]) | set(now["plan"])):
        old, new = before["plan"].get(name), now["plan"].get(name)
        if old != new:
            option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
            given, asked = (value is not None and value is not False and value != "" for value in (old, new))
            if given and asked:
                plain = isinstance(old, int | float | str)
                words.append(f"{option} {old}, not {new}" if plain else f"another {option}")
            elif given:
                words.append(option if old is True else f"{option} {old}")
            else:
                words.append(f"no {option}")
    images = before.get("images") != now.get("images")  # in training and for validation, which depends on the seed
    return " and ".join(words) or ("other images" if images else "other options")


def seconds_a_step(task: "Task", pixels: Pixels, hardware: "Hardware") -> float:
    """Return how long a training step takes, by a few steps on images (`n h w` or `n h w c`) that are thrown away."""
    import torch

    accelerator = hardware.accelerator
    on = "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    batch = max(1, task.plan.batch // hardware.devices)
    some = pixels[np.arange(batch) % len(pixels)]
    channels = some[:, None] if some.ndim == 3 else some.transpose(0, 3, 1, 2)
    x = torch.from_numpy(np.ascontiguousarray(channels)).to(on).float() / 255
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = task.build(0, None).to(on)
        optimizer = task.optimizer(model, 0)
        times, begun = list[float](), time.perf_counter()
        while len(times) <= PROBED and (len(times) < 2 or time.perf_counter() - begun < PROBE_SECONDS):
            started = time.perf_counter()
            loss = task.loss(model, x, 0.0)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            float(loss.detach())  # waits for a GPU
            times.append(time.perf_counter() - started)
    return EXACT * float(np.median(times[1:]))


def choose(seconds: Mapping[str, float], plan: TrainingPlan) -> dict[str, int]:
    """Return the steps of each part, of which one takes `seconds`: as the plan says, or as many as its time allows.

    >>> choose({"latents": 0.2, "pixels": 1.0}, TrainingPlan(minutes=20))
    {'latents': 3135, 'pixels': 418}
    """
    if plan.steps is not None or plan.architecture == "autoencoder":
        return dict.fromkeys(seconds, plan.steps or 0)
    budget = 60 * (plan.minutes or MINUTES) - sum(EXPORTING[part] for part in seconds) - COMPARING
    whole = sum(SHARES[part] for part in seconds)
    return {
        part: max(LEAST_STEPS, int(budget * SHARES[part] / whole / max(of_one, 1e-6)))
        for part, of_one in seconds.items()
    }


def share_measured(part: str, steps: int) -> float:
    """Return of how many of the usual images a part is measured after so many steps, so that this dwarfs no training.

    >>> share_measured("latents", 2000), share_measured("pixels", 20)
    (1.0, 0.0625)
    """
    return min(1.0, max(1 / 16, steps / {"latents": CODEC_STEPS}.get(part, PIXEL_STEPS)))


def verdict(scores: list[float]) -> str:
    """Say whether a part would gain by more training, from its scores on validation images, the lower the better.

    scores: one for each epoch, infinite where they are not comparable. Those of the last 60 % count.
    """
    late = [i for i, score in enumerate(scores) if np.isfinite(score) and i >= 0.4 * (len(scores) - 1)]
    if len(late) < 3:
        return "too short to tell: train longer"
    first, last = late[0], late[-1]
    best = min(late, key=lambda i: scores[i])
    if best < first + 0.7 * (last - first) and scores[last] > 1.01 * scores[best]:
        return f"worse since epoch {best + 1}: more images would help, longer training would not"
    fall = 1 - (scores[last] / scores[first]) ** (len(scores) / (10 * (last - first)))  # in a tenth of the training
    if fall > 0.01:
        return f"still falling, by {fall:.1%} in a tenth of the training: train longer"
    if fall > 0.003:
        return f"falling slowly, by {fall:.1%} in a tenth of the training: longer would gain a little"
    return "level: longer training would gain next to nothing"


def words_of(seconds: float) -> str:
    """Return a time in words.

    >>> words_of(2), words_of(38), words_of(160), words_of(7300)
    ('5 seconds', '40 seconds', '3 minutes', '2.0 hours')
    """
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def plan_of(parts: "Mapping[str, Task]", chosen: Chosen, plan: TrainingPlan, n: int) -> tuple[list[Planned], str]:
    """Return all stages of a training on `n` images, with the time that each is likely to take, and a remark or ""."""
    stages, share = list[Planned](), 0.0
    for part, task in parts.items():
        an_epoch = max(1, (n - task.held_out(n)) // task.plan.batch)
        epochs = task.epochs(an_epoch)
        steps = sum(epochs) * an_epoch
        work = sum(count * task.work(phase) for phase, count in enumerate(epochs)) / task.work(0)
        words = f"{steps:,} steps of {task.plan.batch} image{'s' * (task.plan.batch > 1)}"
        stages.append(Planned("training", part, work * an_epoch * chosen.seconds[part], words))
        share = share_measured(part, steps)
        stages.append(
            Planned(
                "exporting",
                part,
                max(LEAST_SECONDS, EXPORTING[part] * share),
                "measure it, and write it into the model",
            )
        )
    stages.append(
        Planned("comparing", "", max(LEAST_SECONDS, COMPARING * share), "with JPEG, WebP and AVIF, for the report")
    )
    whole, asked = sum(stage.seconds for stage in stages), 60 * (plan.minutes or MINUTES)
    fitted = plan.steps is None and plan.architecture != "autoencoder"
    if fitted and whole > 1.25 * asked:
        return stages, (
            f"{words_of(asked)} are too few for such images: the fewest steps that make sense take {words_of(whole)};"
            " give --steps for fewer"
        )
    return stages, ""
