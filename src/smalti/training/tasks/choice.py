# SPDX-License-Identifier: MIT
"""Choose the networks that a training plan asks for, and the functions that export them."""

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from smalti.errors import SourceError
from smalti.model.model import Model
from smalti.training.export.export_autoencoder import export_autoencoder
from smalti.training.export.export_codec import export_bundle
from smalti.training.export.export_pixels import export_pixels
from smalti.training.export.restore_codec import restore
from smalti.training.export.restore_pixels import restore_pixels
from smalti.training.networks.autoencoder import Autoencoder
from smalti.training.networks.pixel_network import PixelCodec, PixelSize
from smalti.training.networks.transforms import size_for
from smalti.training.plan import FAST, FURTHER, REFERENCE, AutoencoderPlan, CodecPlan
from smalti.training.tasks.autoencoder_task import AutoencoderTask
from smalti.training.tasks.codec_task import CodecTask
from smalti.training.tasks.pixel_task import FURTHER as PIXELS_FURTHER
from smalti.training.tasks.pixel_task import PixelPlan, PixelTask
from smalti.training.tasks.task import Task
from smalti.training.training_plan import CODEC_BATCH, CODEC_STEPS, PIXEL_BATCH, PIXEL_STEPS, TrainingPlan
from smalti.types import Progress, describe

SIDES = (8, 128)
"""The least and the largest height and width of images that latents are trained on, in pixels."""

Shape = tuple[int, int, int]


def tasks(
    shape: Shape, n: int, plan: TrainingPlan, start: Model | None, steps: Mapping[str, int] | None = None
) -> dict[str, Task]:
    """Return what to train for `n` images of `shape` (h w c): a task for each part, in this order, by its name.

    start: the model whose weights are the first ones, loaded.
    steps: of each part, about; if the plan does not say.

    Raises:
        SourceError, TrainingError: as the functions below raise them.
    """
    seed, batch, chosen = plan.seed, plan.batch, steps or {}
    if plan.architecture == "autoencoder":
        return {"autoencoder": autoencoder_task(shape, schedule=plan.schedule, epochs=plan.epochs, seed=seed)}
    found: dict[str, Task] = {}
    if not plan.lossless:
        found["latents"] = codec_task(
            shape,
            n,
            steps=plan.steps or chosen.get("latents", CODEC_STEPS),
            batch=batch or latents_batch(shape),
            seed=seed,
            start=start,
        )
    found["pixels"] = pixel_task(
        shape,
        n,
        steps=plan.steps or chosen.get("pixels", PIXEL_STEPS),
        batch=batch or PIXEL_BATCH,
        seed=seed,
        start=start,
    )
    return found


def latents_batch(shape: Shape) -> int:
    """Return the images of a step by default: of large images fewer, so that there is time for enough steps.

    >>> latents_batch((28, 28, 1)), latents_batch((32, 32, 3)), latents_batch((128, 128, 3))
    (192, 49, 16)
    """
    return max(16, min(CODEC_BATCH, CODEC_BATCH * 784 // math.prod(shape)))


def codec_task(shape: Shape, n: int, *, steps: int, batch: int, seed: int, start: Model | None = None) -> Task:
    """Return the task to train the codec for `n` images of `shape` (h w c), from scratch or from a model's weights.

    steps: of training, about; batch: images a step, at most a quarter of all.

    Raises:
        SourceError: the images are too small or too large, or of another size or colour than those of the model.
        TrainingError: that model cannot be trained further.
    """
    h, w, _ = shape
    if not (SIDES[0] <= min(h, w) and max(h, w) <= SIDES[1]):
        raise SourceError(f"the images are {describe(shape)}; sides of {SIDES[0]} to {SIDES[1]} pixels can be trained")
    batch = min(batch, max(1, n // 4))
    if start is None:
        return CodecTask(CodecPlan(size_for(shape), steps=steps, batch=batch, seed=seed))
    if start.image_shape != shape:
        raise SourceError(
            f"the images are {describe(shape)}, model {start.name} is for {describe(start.image_shape)};"
            " train from scratch"
        )
    codec = restore(start)
    return CodecTask(CodecPlan(codec.size, steps=steps, batch=batch, seed=seed, start=start.id.hex(), **FURTHER), codec)


def pixel_task(shape: Shape, n: int, *, steps: int, batch: int, seed: int, start: Model | None = None) -> Task:
    """Return the task to train what codes `n` images of `shape` (h w c) by pixels.

    It begins with the weights of `start`, if that model codes images of `c` channels by pixels.

    steps: of training, about; batch: images of 28x28 pixels a step, and of larger images as many fewer.

    Raises:
        TrainingError: that model cannot be trained further.
    """
    h, w, c = shape
    batch = max(1, min(batch, batch * 784 // (h * w * c), n // 4))
    if start is None or start.pixels is None or start.pixels.window.channels != c:
        return PixelTask(PixelPlan(PixelSize(c), steps=steps, batch=batch, seed=seed))
    codec = restore_pixels(start)
    plan = PixelPlan(codec.size, steps=steps, batch=batch, seed=seed, start=start.id.hex(), **PIXELS_FURTHER)
    return PixelTask(plan, codec)


def autoencoder_task(shape: Shape, *, schedule: Literal["fast", "reference"], epochs: int | None, seed: int) -> Task:
    """Return the task to train the autoencoder for images of `shape` (h w c).

    Raises:
        SourceError: the images are not gray, or their sides are no multiples of 4.
    """
    h, w, c = shape
    if c != 1:
        raise SourceError(f"the images are {describe(shape)}; the autoencoder takes gray ones; convert them")
    if h % 4 or w % 4:
        raise SourceError(f"images are {h}x{w}; the autoencoder halves both sides twice: give multiples of 4")
    phases = FAST if schedule == "fast" else REFERENCE
    if epochs is not None:
        phases = (replace(phases[0], epochs=epochs), *phases[1:])
    return AutoencoderTask(AutoencoderPlan(phases=phases, seed=seed))


class Exporter(Protocol):
    """A function that measures a trained network and returns its bundle; see `export_codec.export_bundle`."""

    def __call__(
        self,
        model: Any,
        name: str,
        pixels: NDArray[np.uint8],
        held_out: NDArray[np.uint8],
        training: dict[str, Any],
        progress: Progress | None = None,
    ) -> bytes: ...


def exporter(model: nn.Module, base: Model | None = None, share: float = 1.0) -> Exporter:
    """Return the function that exports a network like `model`; the bundle keeps the other part of the model `base`.

    share: of the images that a thorough export measures.
    """
    if isinstance(model, Autoencoder):
        return export_autoencoder
    export = export_pixels if isinstance(model, PixelCodec) else export_bundle
    return functools.partial(export, base=base, share=share)
