# SPDX-License-Identifier: MIT
"""Which kind of network to train, and how to export it."""

import functools
from dataclasses import dataclass, replace
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
from smalti.training.plan import FAST, FURTHER, REFERENCE, CodecPlan, Plan
from smalti.training.tasks.autoencoder_task import AutoencoderTask
from smalti.training.tasks.codec_task import CodecTask
from smalti.training.tasks.pixel_task import FURTHER as PIXELS_FURTHER
from smalti.training.tasks.pixel_task import PixelPlan, PixelTask
from smalti.training.tasks.task import Task
from smalti.types import Progress, describe

SIDES = (8, 128)
"""Least and largest height and width of images to train on, in pixels."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Asked:
    """What to train: latents and pixels, one of them, or the autoencoder alone. Pairs of steps and images a step."""

    seed: int
    latents: tuple[int, int] | None
    pixels: tuple[int, int]
    autoencoder: tuple[Literal["fast", "reference"], int | None] | None  # schedule, epochs of its first phase


def tasks(shape: Shape, n: int, asked: Asked, start: Model | None) -> dict[str, Task]:
    """What to train for `n` images of `shape` (h w c), in this order, by the names of the parts.

    Raises:
        SourceError, TrainingError: as the functions below.
    """
    if asked.autoencoder is not None:
        schedule, epochs = asked.autoencoder
        return {"autoencoder": autoencoder_task(shape, schedule=schedule, epochs=epochs, seed=asked.seed)}
    found: dict[str, Task] = {}
    if asked.latents is not None:
        steps, batch = asked.latents
        found["latents"] = codec_task(shape, n, steps=steps, batch=batch, seed=asked.seed, start=start)
    steps, batch = asked.pixels
    return found | {"pixels": pixel_task(shape, n, steps=steps, batch=batch, seed=asked.seed, start=start)}


def codec_task(shape: Shape, n: int, *, steps: int, batch: int, seed: int, start: Model | None = None) -> Task:
    """To train the codec for `n` images of `shape` (h w c), from scratch or from the weights of a model.

    Raises:
        SourceError: they are too small, too large or too few, or do not suit the model.
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
    """To train what codes `n` images of `shape` (h w c) by pixels; from the weights of a model, if it has some for c.

    batch: images of 28x28 pixels a step; of larger ones as many fewer.

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
    """To train the autoencoder for images of `shape` (h w c).

    Raises:
        SourceError: they are not gray, or their sides no multiples of 4.
    """
    h, w, c = shape
    if c != 1:
        raise SourceError(f"the images are {describe(shape)}; the autoencoder takes gray ones; convert them")
    if h % 4 or w % 4:
        raise SourceError(f"images are {h}x{w}; the autoencoder halves both sides twice: give multiples of 4")
    phases = FAST if schedule == "fast" else REFERENCE
    if epochs is not None:
        phases = (replace(phases[0], epochs=epochs), *phases[1:])
    return AutoencoderTask(Plan(phases=phases, seed=seed))


class Exporter(Protocol):
    """`export.export_bundle` or its like."""

    def __call__(
        self,
        model: Any,
        name: str,
        pixels: NDArray[np.uint8],
        held_out: NDArray[np.uint8],
        training: dict[str, Any],
        progress: Progress | None = None,
    ) -> bytes: ...


def exporter(model: nn.Module, base: Model | None = None) -> Exporter:
    """The function that writes such a model's bundle; base: a model whose other part it shall keep."""
    if isinstance(model, Autoencoder):
        return export_autoencoder
    return functools.partial(export_pixels if isinstance(model, PixelCodec) else export_bundle, base=base)
