# SPDX-License-Identifier: MIT
"""Tune the transform of a model to one's own collection: its networks are trained further, and what differs is kept.

Weights move in units of the steps in which they are stored, and each step of training pulls them back a little, so that
only those change that matter: the differences take some ten to a hundred kilobytes.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smalti.codec.transform_codec import encode_transform
from smalti.errors import TrainingError
from smalti.model.model import Model
from smalti.model.transform.hidden_colours import filled
from smalti.model.transform.transform import SIDE, Layer, Network, Transform, check_transform
from smalti.rate.fitting.fit_model import different
from smalti.rate.metrics import psnr, squared_errors
from smalti.training.listener import Listener, Planned
from smalti.training.mixers.sets import HELD, PARTS
from smalti.training.transforms.crops import Crop, Crops, Shelf
from smalti.training.transforms.export import export_transform
from smalti.training.transforms.fit import FitPlan, fit_transform
from smalti.training.transforms.network import Networks
from smalti.training.transforms.restore import networks_of
from smalti.types import Pixels

LEAST_IMAGES = 3 * PARTS
"""So many images, at least, are needed."""
RATE, PULL, AVERAGED = 7e-4, 0.3, 0.995
"""The learning rate, the pull (in learning rates), and how much of the average of the weights is kept in each step."""
BLOCKS, LARGEST = 2048, 96
"""About so many blocks are taken in a step, in crops of so many pixels a side at most."""
TOLD_STEPS, KEPT_SECONDS = 5, 60.0
"""Progress is told once in so many steps; a run is kept, and measured, after so many seconds."""
LEVELS, PASSES = (2, 8, 14, 20, 26), 2
"""The levels at which models are compared, and how often the encoder aims anew."""
MEASURED_SAMPLES = 1 << 20
"""Models are compared on images of about so many samples."""
LEAST_SAVED = 0.01
"""With a smaller share of bytes saved, a verdict advises to train longer."""
EXACTER = 3
"""Changes of the weights of outputs are multiples of 2^EXACTER."""
Curve = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TunedTransform:
    """A transform that was tuned, and what that did on images that it was not trained on."""

    transform: Transform
    images: tuple[int, int]  # that it was trained on, and that were held out
    saved: float  # the share of bytes less at equal PSNR, the model not counted
    before: Curve  # of LEVELS: bytes an image and PSNR, with the model at the start
    after: Curve  # likewise, with this one
    seconds: float  # of training

    def verdict(self, start: str, size: int) -> str:
        """Return in words what tuning did. start: the name of the model at the start; size: of the bundle, in bytes."""
        if self.saved < LEAST_SAVED:
            words = f"{max(self.saved, 0):.1%} fewer bytes at equal PSNR than {start}"
            return f"on {self.images[1]:,} images held out, {words}; train longer, or keep to {start}"
        pays = size / (self.saved * self.before[:, 0].mean())
        words = f"on {self.images[1]:,} images held out, {self.saved:.1%} fewer bytes at equal PSNR than {start}"
        return f"{words}; the model of {size:,} bytes pays from about {pays:,.0f} images on"


def tune_transform(
    images: Sequence[Pixels], start: Model, folder: Path, minutes: float, device: str, listener: Listener
) -> TunedTransform:
    """Tune the transform of a model to images (`h w` or `h w c`), from the checkpoint in `folder` if there is one.

    Raises:
        TrainingError: there are too few images.
        KeyboardInterrupt: the user interrupted it; the last checkpoint is at most KEPT_SECONDS old.
    """
    some = different(images)
    if len(some) < LEAST_IMAGES:
        raise TrainingError(f"{len(some)} different images are too few to train on; give at least {LEAST_IMAGES}")
    assert start.transform is not None
    kept, others = some[HELD::PARTS], [image for i, image in enumerate(some) if i % PARTS != HELD]
    measured = _spread(kept, MEASURED_SAMPLES)
    listener.stage("training", "transform")
    seconds = 60 * minutes
    crops = crops_of(others, device)
    checksum = zlib.crc32(repr((start.id, minutes, len(some))).encode())
    for image in some:
        checksum = zlib.crc32(image.tobytes(), zlib.crc32(repr(image.shape).encode(), checksum))
    done = [0.0]
    listener.start(seconds, 0.0)

    def told(_step: int, share: float, taken: float, weighed: float) -> None:
        listener.step(share * seconds - done[0], taken + weighed)
        done[0] = share * seconds

    def checked(step: int, networks: Networks) -> None:
        share = saved(before, curve(replace(start, transform=tuned_integers(networks, transform)), measured))
        row = {"epoch": float(step), "seconds": done[0], "saved": share}
        listener.epoch(row, f"{share:.1%} fewer bytes at equal PSNR on images held out, after {step:,} steps")

    transform, before = start.transform, curve(start, measured)
    plan = FitPlan(
        minutes,
        RATE,
        coarse_from=2,
        bases=0.0,
        pull=PULL,
        averaged=AVERAGED,
        told_steps=TOLD_STEPS,
        kept_seconds=KEPT_SECONDS,
    )
    networks = fit_transform(
        crops, plan, folder / f"transform-{checksum:08x}.pt", told, networks_of(transform), checked
    )
    listener.stage("exporting", "transform")
    made = tuned_integers(networks, transform)
    check_transform(made)
    after = curve(replace(start, transform=made), measured)
    less = saved(before, after)
    return TunedTransform(made if less > 0 else transform, (len(others), len(kept)), less, before, after, seconds)


def report_lines(start: str, tuned: TunedTransform) -> list[str]:
    """Return what a report says of a tuned transform, in Markdown. start: the name of the model at the start."""
    lines = [
        f"Lossily, on {tuned.images[1]:,} images that it was not trained on, it takes {tuned.saved:.1%} fewer bytes",
        f"at equal PSNR, the model not counted. The networks were trained for {tuned.seconds / 60:.1f} minutes.",
        "",
        f"| bytes an image, {start} | PSNR, dB | bytes an image, tuned | PSNR, dB |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for before, after in zip(tuned.before.tolist(), tuned.after.tolist(), strict=True):
        lines.append(f"| {before[0]:,.1f} | {before[1]:.2f} | {after[0]:,.1f} | {after[1]:.2f} |")
    return lines


def planned(minutes: float, images: int) -> tuple[Planned, ...]:
    """Return the stages of tuning a transform."""
    return (
        Planned("training", "transform", 60 * minutes, f"on {images:,} images"),
        Planned("exporting", "transform", 5, "both models are compared on images held out"),
    )


def crops_of(images: Sequence[Pixels], device: str) -> Crops:
    """Return crops of images (`h w` or `h w c`), as they are: not mirrored, and in their colours.

    Sides are made multiples of SIDE by repeating the last rows and columns. There are crops of the side that suits most
    images, and of that which suits the smallest.
    """
    import torch

    place = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    colours = [_padded(_colours(image)) for image in images]
    sides = sorted(min(min(image.shape[:2]), LARGEST) for image in colours)
    chosen = sorted({sides[0], sides[len(sides) // 2]})
    kinds = list[Crop]()
    for side in chosen:
        shelf = Shelf([image for image in colours if min(image.shape[:2]) >= side], 1.0, device=place)
        kinds.append(Crop([shelf], side, max(1, BLOCKS // (side // SIDE) ** 2)))
    return Crops(kinds, 1, place, varied=False)


def _colours(image: Pixels) -> Pixels:
    """Return the colours of an image (`h w 3`), as the encoder sees them."""
    if image.ndim == 3 and image.shape[2] in (2, 4):
        image = filled(image[None, ..., :-1], image[None, ..., -1])[0]
    gray = image if image.ndim == 3 else image[..., None]
    found: Pixels = np.repeat(gray, 3, 2) if gray.shape[2] == 1 else gray
    return found


def _padded(image: Pixels) -> Pixels:
    h, w = image.shape[:2]
    found: Pixels = np.pad(image, ((0, -h % SIDE), (0, -w % SIDE), (0, 0)), mode="edge")
    return found


def tuned_integers(networks: Networks, base: Transform) -> Transform:
    """Return networks in integers, of which all is that of a base but for large weights and coarse steps of others."""
    made = export_transform(networks)
    prior = made.prior
    outputs = base.prior.third.weights.astype(np.int32)
    off = (prior.third.weights - outputs + (1 << EXACTER >> 1)) >> EXACTER << EXACTER
    third = replace(prior.third, weights=(outputs + off).clip(-32768, 32767).astype(np.int16))
    near = replace(
        prior,
        context=_near(prior.context, base.prior.context),
        second=_near(prior.second, base.prior.second),
        third=_near(third, base.prior.third),
    )
    return Transform(
        base.tables,
        base.forward,
        base.backward,
        _network(made.analysis, base.analysis),
        _network(made.synthesis, base.synthesis),
        near,
    )


def _network(made: Network, base: Network) -> Network:
    return Network(_near(made.first, base.first), _near(made.second, base.second), _near(made.third, base.third))


def _near(made: Layer, base: Layer) -> Layer:
    """Return a layer whose biases are those of a base but for multiples of a quarter of what an output can tell."""
    shift = max(0, int(base.shift.min()) - 2)
    off = (made.biases.astype(np.int64) - base.biases + (1 << shift >> 1)) >> shift << shift
    return replace(made, biases=(base.biases + off).astype(np.int32))


def curve(model: Model, images: Sequence[Pixels]) -> Curve:
    """Return bytes an image and the PSNR of images (`h w` or `h w c`) at LEVELS (`n 2`)."""
    found = np.zeros((len(LEVELS), 2))
    samples = sum(image.size for image in images)
    of_shapes: dict[tuple[int, ...], list[Pixels]] = {}
    for image in images:
        of_shapes.setdefault(image.shape, []).append(image)
    for i, level in enumerate(LEVELS):
        taken = error = 0.0
        for shape, some in of_shapes.items():
            block = encode_transform(np.stack(some), np.full(len(some), level), model, PASSES)
            taken += float(block.bits.sum()) / 8
            error += float(squared_errors(np.stack(some), block.x_hat).sum()) * float(np.prod(shape))
        found[i] = taken / len(images), psnr(error / samples)
    return found


def saved(before: Curve, after: Curve) -> float:
    """Return the share of bytes that one curve takes less than another, on average over the PSNR that both reach."""
    low, high = max(before[:, 1].min(), after[:, 1].min()), min(before[:, 1].max(), after[:, 1].max())
    if low >= high:
        return 0.0
    at = np.linspace(low, high, 50)
    logs = [np.interp(at, c[::-1, 1], np.log(c[::-1, 0])) for c in (before, after)]
    return 1 - float(np.exp((logs[1] - logs[0]).mean()))


def _spread(images: Sequence[Pixels], samples: int) -> list[Pixels]:
    """Return images of about so many samples, spread over all."""
    total = sum(image.size for image in images)
    return list(images[:: max(1, round(total / samples))])
