# SPDX-License-Identifier: MIT
"""Choose the model that codes each image: the best one for what is asked, or none where no model suits.

A sample of the images is estimated with each model that may suit them. Where one model is best for nearly all of the
sample, it codes all images. Where several are, every image is estimated with those. What is compared is bits +
multiplier * squared error, with one multiplier for all models; where no image may be off, it is the bits alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from smalti.codec.batching import alike
from smalti.entropy.frequencies import Ints
from smalti.model.candidates import Candidate, candidates
from smalti.model.model import POST_FILTER, Model
from smalti.model.operating_points import QUALITIES, OperatingPoint
from smalti.rate.estimate import Floats, at_point, by_pixels, deflated
from smalti.rate.target import DEFAULT_QUALITY, Target
from smalti.types import Pixels, Shape, shape_of

SAMPLE_EACH, SAMPLE_LEAST = 16, 8
"""One of so many images is in the sample, and at least so many are."""
LOOKED_AT, MOST_EACH = 1 << 12, 8
"""About so many samples of a sample's images are looked at; but never fewer than one in MOST_EACH."""
EXACTLY = 0.85
"""The bytes of the best lossless coder without a model, as a share of those that `deflated` estimates."""
SUITED = 0.75
"""A model suits images if it would take at most this share of `deflated` to keep them exactly. It would take 0.5 to
0.65 for images of its own kind, 0.8 to 2.5 for others; 0012 of the design notes has the table."""
COMPANY = 3
"""How many images of the same choice count beside an image, when it is asked whether a model suits it."""
WORSE = 2
"""A model without a pixel prior suits images whose squared error is at most so many times what was measured."""
UNSUITED = 2
"""An image that a model does not suit costs at least so many times what it costs without one."""
GAIN = 0.01
"""A further model is used if it saves this share of the cost."""
OPENING_BYTES = 100
"""The bytes that a file takes for a further model, its kind of images and its last block."""
VAIN = 64
"""After so many images of a size that no model is made for, of which none was suited, no more are tried."""


@dataclass(frozen=True, eq=False)
class _Way:
    """A way to code images: a model, at an operating point or exactly, and the bytes that it adds to the file."""

    model: Model
    point: OperatingPoint | None  # None: up to the largest error that the target allows
    opening: float  # bytes


class ModelChoice:
    """The choice of models for the images of one file; what was learned is kept from batch to batch."""

    def __init__(self, target: Target, total: int | None = None, there: Sequence[Model] = ()) -> None:
        """target: what is asked. total: the number of all images, if it is known. there: models of the file so far."""
        self._target, self._total = target, total
        self._there = {model.id: model for model in there}
        self._used = set(self._there)  # ids of models that the file holds or names
        self._seen, self._vain = Counter[Shape](), Counter[Shape]()
        self._models: dict[Candidate, Model | None] = {}
        self._pixels_alone: dict[bytes, Model] = {}
        self._quality = DEFAULT_QUALITY if target.quality is None else target.quality
        self._searched = target.is_mean or target.min_psnr is not None  # whether the quality is still to be found

    def groups(self, x: Pixels) -> list[tuple[Model | None, Ints]]:
        """Divide images `x` (`n h w` or `n h w c`) by the models that code them; None stands for no model.

        Returns:
            Models, and for each the numbers of its images, rising. A model may come twice: the second time without its
            latents, for images that it codes by pixels although the quality asks for latents.
        """
        shape, every = shape_of(x), np.arange(len(x))
        self._seen[shape] += len(x)
        models = self._suitable(shape)
        own = any(shape == model.image_shape for model, _ in models)
        if not models or (not own and self._vain[alike(shape)] >= VAIN):
            return [(None, every)]
        sample = _spread(len(x))
        if self._searched:
            self._find_quality(x[sample], models)
        ways, multiplier = self._ways(models, shape, self._quality), self._multiplier(models)
        costs = self._costs(x[sample], ways, multiplier)
        used = self._worth_using(costs, ways, shape)
        if len(used) > 1 and len(sample) < len(x):
            ways, used = [ways[i] for i in used if i < len(ways)], [i for i in used if i == len(ways)]
            costs = self._costs(x, ways, multiplier)
            used = [*range(len(ways)), *([len(ways)] if used else [])]
        elif len(used) == 1:
            costs = np.zeros((len(x), len(ways) + 1))
        best = np.array(used)[costs[:, used].argmin(1)]
        found = [(i, np.flatnonzero(best == i)) for i in sorted(used)]
        groups = [(ways[i].model if i < len(ways) else None, rows) for i, rows in found if len(rows)]
        self._remember([model for model, _ in groups], shape, len(x))
        return groups

    def _remember(self, models: Sequence[Model | None], shape: Shape, n: int) -> None:
        self._used |= {model.id for model in models if model is not None}
        self._vain[alike(shape)] = self._vain[alike(shape)] + n if models == [None] else 0

    def _suitable(self, shape: Shape) -> list[tuple[Model, int]]:
        """Return the models that may suit images of a shape, and the bytes that each adds to the file."""
        found = {model.id: (model, 0) for model in self._there.values()}
        for candidate in candidates(shape):
            if candidate not in self._models:
                self._models[candidate] = candidate.load()
            model = self._models[candidate]
            if model is not None and model.id not in found:
                found[model.id] = model, 0 if model.id in self._used else candidate.embedded
        return [(model, embedded) for model, embedded in found.values() if self._can(model, shape)]

    def _can(self, model: Model, shape: Shape) -> bool:
        """Return whether a model can do what is asked with images of a shape; one for gray is not tried on colours."""
        by_latents = model.has_latents and shape == model.image_shape and self._target.max_error is None
        return by_latents or _has_pixels(model, shape)

    def _multiplier(self, models: Sequence[tuple[Model, int]]) -> float:
        """Return the multiplier by which all models are compared: the largest that the quality means to one of them.

        No image gets worse by a model that takes the same quality to mean less.
        """
        return max(model.operating_points.multiplier(self._quality) for model, _ in models)

    def _ways(self, models: Sequence[tuple[Model, int]], shape: Shape, quality: int) -> list[_Way]:
        ways = list[_Way]()
        for model, embedded in models:
            opening = float(embedded + OPENING_BYTES * (model.id not in self._used))
            if self._target.max_error is not None:
                ways.append(_Way(model, None, opening))
                continue
            asked = model.operating_points.of_quality(quality)
            point = model.fitting(asked, shape)
            if point is not None:
                ways.append(_Way(model, point, opening))
            first = model.operating_points.first_by_pixels
            if point is not None and not point.pixels and first is not None and _has_pixels(model, shape):
                ways.append(_Way(self._without_latents(model), model.operating_points.all[first], opening))
        return ways

    def _without_latents(self, model: Model) -> Model:
        """Return the same model, with the same id, such that it codes by pixels at every quality."""
        if model.id not in self._pixels_alone:
            kept = {name: data for name, data in model.networks.items() if name == POST_FILTER}
            self._pixels_alone[model.id] = replace(model, networks=kept)
        return self._pixels_alone[model.id]

    def _costs(self, x: Pixels, ways: Sequence[_Way], multiplier: float) -> Floats:
        """Return what each of the images `x` costs in each way (`n ways`), and in the last column without a model."""
        each = max(1, min(MOST_EACH, x.size // LOOKED_AT))
        plain = deflated(x).astype(np.float64)
        if (most := self._target.max_error) is not None:
            coded = [by_pixels(x, int(most), way.model, each) for way in ways]
            without = np.minimum(plain, deflated(x, int(most)))
            return np.stack([*coded, EXACTLY * without], 1)
        taken = [at_point(x, way.point, way.model, each) for way in ways if way.point is not None]
        costs = np.stack([bits + multiplier * error for bits, error in taken], 1)
        without = EXACTLY * plain
        if self._target.quality is not None or self._target == Target():
            errors = np.stack([error for _, error in taken], 1)
            unsuited = self._unsuited(x, ways, costs, errors, plain, each)
            costs = np.where(unsuited, np.maximum(costs, UNSUITED * without[:, None]), costs)
        return np.concatenate([costs, without[:, None]], 1)

    def _unsuited(
        self, x: Pixels, ways: Sequence[_Way], costs: Floats, errors: Floats, plain: Floats, each: int
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Return which of the images `x` each way does not suit (`n ways`).

        Images for which the same model is the best are judged with each other, since single ones vary.
        """
        ids = [way.model.id for way in ways]
        best = np.array([ids.index(i) for i in ids])[costs.argmin(1)]  # the first way of the best model
        unsuited = np.zeros(costs.shape, bool)
        exactly = dict[bytes, Floats]()
        for i, way in enumerate(ways):
            mine = best == ids.index(way.model.id)
            if _has_pixels(way.model, shape_of(x)):
                if way.model.id not in exactly:
                    exactly[way.model.id] = by_pixels(x, 0, way.model, each)
                taken, allowed = exactly[way.model.id], SUITED * plain
            else:
                assert way.point is not None
                taken, allowed = errors[:, i], np.full(len(x), WORSE * way.point.error * x[0].size)
            company = COMPANY * (taken - allowed)[mine].mean() if mine.any() else 0.0
            unsuited[:, i] = taken - allowed + company > 0
        return unsuited

    def _worth_using(self, costs: Floats, ways: Sequence[_Way], shape: Shape) -> list[int]:
        """Return the columns of `costs` that are worth using: the best, and others that save enough beside it."""
        opening = 8 * np.array([*(way.opening for way in ways), 0.0])
        scale = self._expected(shape) / len(costs)
        used = [int((costs.sum(0) * scale + opening).argmin())]
        if used[0] < len(ways):
            opening[-1] = 8 * OPENING_BYTES
        while len(used) <= len(ways):
            now = costs[:, used].min(1)
            saved = now.sum() - np.minimum(now[:, None], costs).sum(0)
            worth = np.where(saved >= GAIN * now.sum(), saved * scale - opening, -np.inf)
            worth[used] = -np.inf
            if worth.max() <= 0:
                break
            used.append(int(worth.argmax()))
        return used

    def _expected(self, shape: Shape) -> float:
        """Return how many images of a shape the file is likely to hold, by its share so far."""
        seen = self._seen[shape]
        return seen if self._total is None else max(seen, self._total * seen / self._seen.total())

    def _find_quality(self, x: Pixels, models: Sequence[tuple[Model, int]]) -> None:
        """Find the quality at which the sample `x` meets the target, if each image is coded in its cheapest way."""
        self._searched = False
        low, high = QUALITIES[0] - 1, QUALITIES[1]
        each = max(1, min(MOST_EACH, x.size // LOOKED_AT))
        without = EXACTLY * deflated(x).astype(np.float64)
        while high - low > 1:
            self._quality = (low + high) // 2
            ways, multiplier = self._ways(models, shape_of(x), self._quality), self._multiplier(models)
            taken = [at_point(x, way.point, way.model, each) for way in ways if way.point is not None]
            bits = np.stack([*(bits for bits, _ in taken), without], 1)
            errors = np.stack([*(error for _, error in taken), np.zeros(len(x))], 1)
            rows, best = np.arange(len(x)), (bits + multiplier * errors).argmin(1)
            if self._is_enough(bits[rows, best].mean(), errors[rows, best].mean() / x[0].size):
                high = self._quality
            else:
                low = self._quality
        self._quality = high

    def _is_enough(self, bits: float, error: float) -> bool:
        """Return whether a mean of bits and of squared errors reaches the PSNR, or the bytes, that the target asks."""
        if self._target.bytes_an_image is not None:
            return bits >= 8 * self._target.bytes_an_image
        decibel = self._target.psnr if self._target.psnr is not None else self._target.min_psnr
        assert decibel is not None
        return error <= 10 ** (-decibel / 10)


def _has_pixels(model: Model, shape: Shape) -> bool:
    """Return whether a model codes all channels of images of a shape together by pixels."""
    return model.pixels is not None and model.pixels.window.channels == shape[2]


def _spread(n: int) -> Ints:
    """Return the numbers of the images in the sample of `n` images."""
    k = min(n, max(SAMPLE_LEAST, -(-n // SAMPLE_EACH)))
    return np.arange(k) * n // k
