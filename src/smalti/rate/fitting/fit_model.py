# SPDX-License-Identifier: MIT
"""Fit the mixer of a model to a collection: train its networks a little further, choose a primer, and see if it pays.

One image in eight is held out. What a fit saves is measured on these, with the packing that is asked for, and what the
fit takes in the file is held against it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smalti.codec.batching import EACH, SOLID, SOLID_IMAGES, block_images
from smalti.codec.mixing_codec import is_drawn, mixer_of, state_bits
from smalti.core.library import need_core
from smalti.model.bundle import bundle_bytes, parse_bundle
from smalti.model.mixing.engine import learned, mixing_encoder
from smalti.model.mixing.fit import (
    MAX_KEPT,
    MAX_PRIMER_BYTES,
    MAX_PRIMER_IMAGES,
    MAX_PRIMER_SAMPLES,
    PRIMER_BITS,
    Fit,
    changed_networks,
    fitted_mixer,
    most_used,
)
from smalti.model.mixing.mixer import LAYERS, Mixer, check_layers
from smalti.model.model import Model
from smalti.rate.fitting.networks import BATCH, rounded_changes, train_further
from smalti.rate.fitting.rows import RowStore
from smalti.types import Pixels, Shape
from smalti.util.parallel import in_order

PARTS = 8
"""One image in so many is held out."""
LEAST_IMAGES = 48
"""A fit is not tried for fewer images."""
MOST_BYTES = 64000
"""The most bytes that a fit may take in the file."""
MEASURED_SAMPLES = 1 << 20
"""About so many samples of the images that are held out are coded to measure a fit."""
CHECKED_SAMPLES = 1 << 22
"""If all images have at most so many samples, all are coded to see if the best fit pays."""
STEPS, SEEN = 2500, 24
"""The most training steps of a network, and how often a row may be seen in them on average."""
ROWS, LEAST_ROWS = 1 << 18, 2048
"""About so many rows are taken for each network; with fewer than the least, it is not trained."""
SHRINK = 0.2
SHIFTS = (7, 6, 5, 4)
"""By how many bits differences are shifted; each is tried."""
PRIMERS = (12, 24, 48, 96, 192)
"""How many images a primer may have; more and more are tried until that pays no longer."""
EACH_BYTES = 5
"""What an image takes besides its stream where each is packed by itself."""
GAIN = 0.005
"""A fit is used if it saves this share of the bytes that the images take, everything counted."""

Told = Callable[[float], None]
"""What is called with the share of the work that is done."""


@dataclass(frozen=True)
class Fitted:
    """What came of fitting a model."""

    model: Model | None  # None if a fit does not pay
    general: float  # bytes an image with the model as it was, as measured on some of the images
    fitted: float  # bytes an image with the best fit, as measured on the same images, without the fit itself
    size: int  # of the fit in the file, in bytes


@dataclass(frozen=True, eq=False)
class Held:
    """Images (`h w c`) that are held out, and how they are packed."""

    images: list[Pixels]
    drawn: list[bool]
    step: int
    streams: str

    def bytes_an_image(self, mixer: Mixer) -> float:
        """Return what they take on average."""
        by_shape = dict[Shape, list[int]]()
        for i, image in enumerate(self.images):
            by_shape.setdefault((image.shape[0], image.shape[1], image.shape[2]), []).append(i)
        pieces = list[list[int]]()
        for shape, rows in by_shape.items():
            most = 1 if self.streams == EACH else SOLID_IMAGES if self.streams == SOLID else block_images(shape)
            pieces += [rows[i : i + most] for i in range(0, len(rows), most)]
        total = sum(in_order(lambda rows: self._coded(mixer, rows), pieces))
        return (total + (EACH_BYTES * len(self.images) if self.streams == EACH else 0)) / len(self.images)

    def _coded(self, mixer: Mixer, rows: Sequence[int]) -> int:
        encoder = mixing_encoder(mixer, state_bits((len(rows), *self.images[rows[0]].shape), mixer))
        for i in rows:
            encoder.encode(self.images[i], self.step, drawn=self.drawn[i])
        return len(encoder.finish())


def fit_model(
    images: Sequence[Pixels], base: Model, total: int, streams: str, max_error: int = 0, told: Told = lambda _: None
) -> Fitted:
    """Fit the mixer of a model to images.

    Args:
        images: levels, as `to_levels` gives them: `h w` or `h w c` each; all of the collection, or many of them.
        base: a built-in model that codes by mixing.
        total: how many images will be packed.
        streams: which of them share a stream: `EACH`, `BLOCK` or `SOLID`.
        max_error: the most that a sample may be off by.
        told: is called now and then.

    Raises:
        UsageError: numpy computes, not the compiled core.
    """
    need_core("a fit")
    assert base.mixer is not None
    some = different(images)
    if len(some) < LEAST_IMAGES:
        return Fitted(None, 0.0, 0.0, 0)
    kept, others = some[PARTS // 2 :: PARTS], [image for i, image in enumerate(some) if i % PARTS != PARTS // 2]
    held = held_out(kept, base.mixer, 2 * max_error + 1, streams, MEASURED_SAMPLES)
    general = held.bytes_an_image(base.mixer)
    told(0.05)
    empty = Fit(
        base.id,
        np.zeros(0, np.int8),
        np.zeros((len(base.mixer.networks + base.mixer.drawn), LAYERS, 2), np.uint8),
        np.zeros((0, 3), np.uint16),
        np.zeros(0, np.uint8),
        1,
    )
    best = _Trial(empty, general, 0, 0, 0.0)
    for fit in _with_networks(others, base.mixer, empty, told):
        best = min(best, _trial(base, fit, held), key=lambda trial: trial.total(total))
    told(0.85)
    for i, count in enumerate(PRIMERS):
        if count > len(others):
            break
        chosen = [others[i * len(others) // count] for i in range(count)]
        primed = _with_primer(chosen, base.mixer, best.fit)
        if primed is None or (trial := _trial(base, primed, held, chosen)).total(total) >= best.total(total):
            break
        best = trial
        told(0.85 + 0.15 * (i + 1) / len(PRIMERS))
    told(1.0)
    model, rate = parse_bundle(_bundle(base, best.fit)), best.total(total) - best.size
    if sum(image.size for image in some) <= CHECKED_SAMPLES:  # few images: what is held out is less than a block
        every = held_out(some, base.mixer, 2 * max_error + 1, streams, CHECKED_SAMPLES)
        general = every.bytes_an_image(base.mixer)
        rate = total * every.bytes_an_image(mixer_of(model))
    pays = best.fit is not empty and rate + best.size <= (1 - GAIN) * total * general
    return Fitted(model if pays else None, general, rate / total, best.size)


@dataclass(frozen=True, eq=False)
class _Trial:
    """A fit that was tried."""

    fit: Fit
    rate: float  # bytes an image
    size: int  # of the fit in the file, in bytes
    primed: int  # images of the primer, which are coded once more with the others
    primed_rate: float  # bytes an image of these

    def total(self, images: int) -> float:
        """Return what so many images and the fit take."""
        coded = (images - self.primed) * self.rate + self.primed * self.primed_rate
        return coded + self.size if self.size <= MOST_BYTES else math.inf


def _trial(base: Model, fit: Fit, held: Held, primer: Sequence[Pixels] = ()) -> _Trial:
    assert base.mixer is not None
    mixer = fitted_mixer(base.mixer, fit)
    again = replace(held, images=list(primer), drawn=[is_drawn(image, base.mixer) for image in primer])
    known = again.bytes_an_image(mixer) if primer else 0.0
    return _Trial(fit, held.bytes_an_image(mixer), len(_bundle(base, fit)), len(primer), known)


def _bundle(base: Model, fit: Fit) -> bytes:
    return bundle_bytes(replace(base, name=f"{base.name}, fitted", fit=fit))


def held_out(images: Sequence[Pixels], mixer: Mixer, step: int, streams: str, samples: int) -> Held:
    """Return images (`h w c`) on which mixers are measured.

    Args:
        images: the images, levels of `step`.
        mixer: the mixer that says which are coded as drawn ones.
        step: 2 * the largest error + 1.
        streams: which of them share a stream.
        samples: about so many are coded; of more, only some images are.
    """
    kept = list(images[:: max(1, round(sum(image.size for image in images) / samples))])
    return Held(kept, [is_drawn(image, mixer, step) for image in kept], step, streams)


def different(images: Iterable[Pixels]) -> list[Pixels]:
    """Return images as `h w c`, without copies."""
    seen, found = set[tuple[tuple[int, ...], bytes]](), list[Pixels]()
    for image in images:
        whole = np.ascontiguousarray(image.reshape(*image.shape[:2], -1))
        if (key := (whole.shape, whole.tobytes())) not in seen:
            seen.add(key)
            found.append(whole)
    return found


def _with_networks(images: Sequence[Pixels], mixer: Mixer, empty: Fit, told: Told) -> Iterable[Fit]:
    """Yield fits whose networks were trained further on images, with differences of several sizes."""
    store = RowStore(mixer)
    pixels = sum(image.shape[0] * image.shape[1] for image in images)
    each = max(1, pixels // (4 * ROWS))  # of very many images, one in so many is looked at
    store.add(images[::each], min(1.0, ROWS * each / pixels))
    rows, networks = store.all_rows(), mixer.networks + mixer.drawn
    steps = [0 if len(some) < LEAST_ROWS else min(STEPS, 1 + SEEN * len(some) // BATCH) for some in rows]
    if not any(steps):
        return
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        told(0.1 + 0.75 * done / sum(steps))

    def train(number: int) -> list[NDArray[np.float32]]:
        layers = networks[number]
        if steps[number]:
            return train_further(number, rows[number], layers, steps[number], SHRINK, step)
        arrays = [layer.weights for layer in layers] + [layer.biases for layer in layers]
        return [np.zeros(array.shape, np.float32) for array in arrays]

    changes = list(in_order(train, range(len(networks))))
    for shift in SHIFTS:
        parts, shifts = zip(*(rounded_changes(some, shift) for some in changes), strict=True)
        fit = replace(empty, differences=np.concatenate(parts), shifts=np.array(shifts, np.uint8))
        try:
            check_layers(changed_networks(mixer, fit.differences, fit.shifts))
        except ValueError:  # a sum could overflow; that is so rare that a fit without differences is good enough
            continue
        yield fit


def _with_primer(chosen: Sequence[Pixels], mixer: Mixer, fit: Fit) -> Fit | None:
    """Return a fit with a primer of these images; None if it would be too large."""
    if len(chosen) > MAX_PRIMER_IMAGES or sum(image.size for image in chosen) > MAX_PRIMER_SAMPLES:
        return None
    encoder = mixing_encoder(changed_networks(mixer, fit.differences, fit.shifts), PRIMER_BITS)
    for image in chosen:
        encoder.encode(image, 1, drawn=is_drawn(image, mixer))
        if encoder.size > MAX_PRIMER_BYTES:
            return None
    used = np.sort(most_used(learned(encoder)[1]))[::-1]
    least = max(1, int(used[MAX_KEPT]) + 1) if len(used) > MAX_KEPT else 1
    stream, shapes = encoder.finish(), np.array([image.shape for image in chosen], np.uint16)
    return replace(fit, shapes=shapes, primer=np.frombuffer(stream, np.uint8), least=min(least, 255))
