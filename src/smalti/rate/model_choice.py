# SPDX-License-Identifier: MIT
"""Choose the model that codes each image: the best one for what is asked, or the general one where none suits.

A sample of the images is estimated with each model that may suit them. Where one model is best for nearly all of the
sample, it codes all images. Where several are, every image is estimated with those. What is compared is bits +
multiplier * squared error, with one multiplier for all models; where no image may be off, it is the bits alone.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from smalti.codec.batching import alike
from smalti.codec.rdo import Effort
from smalti.core.library import core
from smalti.entropy.frequencies import Ints
from smalti.model.bundle import DEFAULT_MODEL
from smalti.model.candidates import Candidate, candidates, general_model
from smalti.model.model import POST_FILTER, Model
from smalti.model.operating_points import QUALITIES, OperatingPoint
from smalti.rate.estimate import Floats, at_point, by_pixels, deflated
from smalti.rate.target import DEFAULT_QUALITY, Target
from smalti.types import Pixels, Shape, shape_of
from smalti.util.parallel import in_order

AUTO = "auto"
"""The name that asks for the best model for each image."""
SAMPLE_EACH, SAMPLE_LEAST = 64, 32
"""One of so many images is in the sample, and at least so many are."""
LOOKED_AT, MOST_EACH = 1 << 7, 8
"""About so many samples of a sample's images are looked at; but never fewer than one in MOST_EACH."""
EXACTLY = 0.85
"""The bytes of the best lossless coder without a model, as a share of those that `deflated` estimates."""
MIXED = 0.68
"""The same for coding by mixing: 0.3 for drawn images, 0.6 to 0.7 for photographs and digits, 0.7 for clothes."""
SUITED = 0.75
"""A model suits images if it would take at most this share of `deflated` to keep them exactly. It would take 0.5 to
0.65 for images of its own kind, 0.8 to 2.5 for others; 0017 of the design notes has the table."""
SAMPLE_STEADY, STEADY = 8, 2
"""At least so many images are in the sample after so many batches in a row that one model coded."""
FEW, SIGHT_EACH, PLAIN_TO_SEE = 4, 12, 0.65
"""So few images are coded by the first model that would keep each of them in at most this share of what deflate takes,
by one sample in so many."""
COMPANY = 3
"""How many images of the same choice count beside an image, when it is asked whether a model suits it."""
WORSE = 2
"""A model without a pixel prior suits images whose squared error is at most so many times what was measured."""
NAMED_EACH, NAMED_LEAST = 128, 2
"""One of so many images, and at least so many, are looked at to see whether a model that was named suits them."""
UNSUITED = 2
"""An image that a model does not suit costs at least so many times what it costs without one."""
GAIN = 0.01
"""A further model is used if it saves this share of the cost."""
MIXED_LESS = 1.1
"""Where a special model suits an image, the general one keeps it exactly if so many times as much is less: what it
takes is a guess, and it takes several times as long."""
TOGETHER = 512
"""The most images that a thread estimates together."""
OPENING_BYTES = 100
"""The bytes that a file takes for a further model, its kind of images and its last block."""
CLEARLY = 2.0
"""At a quality of latents, a model codes by pixels instead where latents cost so many times as much."""
SEARCHED = 32
"""The images with which the quality of a target is found."""
VAIN = 64
"""After so many images of a size that no model is made for, of which none was suited, no more are tried."""


@dataclass(frozen=True, eq=False)
class _Way:
    """A way to code images: a model, at an operating point or exactly, and the bytes that it adds to the file."""

    model: Model
    point: OperatingPoint | None  # None: up to the largest error that the target allows
    embedded: int  # bytes
    factor: float = 1.0  # by which costs are multiplied


Company = dict[bytes, float]
"""By the ids of models: how far the images for which each is best are from being unsuited; negative if they are not."""


class ModelChoice:
    """The choice of models for the images of one file; what was learned is kept from batch to batch."""

    def __init__(
        self,
        target: Target,
        total: int | None = None,
        there: Sequence[Model] = (),
        general: Model | None = None,
        effort: Effort | None = None,
    ) -> None:
        """Begin to choose.

        Args:
            target: what is asked.
            total: the number of all images, if it is known.
            there: models of the file so far.
            general: the model for images that no special one suits; None: one of the file that was fitted to such
                images, or else the built-in one.
            effort: the work that the encoder spends; it may ask for the built-in model for speed.
        """
        self._quick = effort is not None and effort.quick and target.max_error is not None
        self._target, self._total = target, total
        self._general = general or next((model for model in there if model.fit is not None), None)
        self._there = [model for model in there if model.can_encode and not model.is_general]
        self._before = tuple(there)
        self._used = {model.id for model in there}  # ids of models that the file holds or names
        self._exactly = EXACTLY if core() is None else MIXED
        self._steady = Counter[Shape]()  # batches in a row of which one model coded all images
        self._seen, self._vain = Counter[Shape](), Counter[Shape]()
        self._models: dict[Candidate, Model | None] = {}
        self._pixels_alone: dict[bytes, Model] = {}
        self._quality = DEFAULT_QUALITY if target.quality is None else target.quality
        self._searched = target.is_mean or target.min_psnr is not None  # whether the quality is still to be found
        self._promised = self._searched or target.max_error is not None  # whether the target itself bounds what is lost

    def groups(self, x: Pixels) -> list[tuple[Model, Ints]]:
        """Divide images `x` (`n h w` or `n h w c`) by their models; the general one codes what no other suits.

        Returns:
            Models, and for each the numbers of its images, rising. A model may come twice: the second time without its
            latents, for images that it codes by pixels although the quality asks for latents.
        """
        shape, n = shape_of(x), len(x)
        self._seen[shape] += n
        models = self._suitable(shape)
        own = any(shape == model.image_shape for model, _ in models)
        if not models or (not own and self._vain[alike(shape)] >= VAIN):
            return [(self._general or general_model(quick=self._quick), np.arange(n))]
        if n <= FEW and (model := self._at_first_sight(x, models)) is not None:
            self._used.add(model.id)
            return [(model, np.arange(n))]
        sample = x[_spread(n, least=SAMPLE_STEADY if self._steady[shape] >= STEADY else SAMPLE_LEAST)]
        if self._searched:
            self._find_quality(sample[_spread(len(sample), least=SEARCHED)], models)
        ways, multiplier = self._ways(models, shape), self._multiplier(models)
        costs, company = self._costs(sample, ways, multiplier, {})
        used = self._worth_using(costs, ways, shape)
        if len(used) > 1:
            without = len(ways) in used
            ways = [way for i, way in enumerate(ways) if i in used]
            parts = [x[i : i + TOGETHER] for i in range(0, n, TOGETHER)]
            found = in_order(lambda some: self._costs(some, ways, multiplier, company)[0], parts)
            costs = np.concatenate(list(found))
            best = costs[:, : len(ways) + without].argmin(1)
        else:
            best = np.full(n, used[0])
        groups = [(way.model, np.flatnonzero(best == i)) for i, way in enumerate(ways) if (best == i).any()]
        if len(rest := np.flatnonzero(best == len(ways))):
            groups.append((self._general or general_model(quick=self._quick), rest))
        self._used |= {model.id for model, _ in groups}
        self._steady[shape] = self._steady[shape] + 1 if len(groups) == 1 else 0
        vain = all(model.is_general for model, _ in groups)
        self._vain[alike(shape)] = self._vain[alike(shape)] + n if vain else 0
        return groups

    @staticmethod
    def _at_first_sight(x: Pixels, models: Sequence[tuple[Model, int]]) -> Model | None:
        """Return the first model that suits all of a few images beyond doubt, if there is one.

        `mnist` comes first: it hardly ever suits pictures of clothes, while `fashion` suits one digit in six.
        """
        plain = deflated(x)
        for model, embedded in sorted(models, key=lambda pair: pair[0].name != DEFAULT_MODEL):
            own = model.image_shape == shape_of(x) and _has_pixels(model, shape_of(x)) and not embedded
            if own and (by_pixels(x, 0, model, SIGHT_EACH) <= PLAIN_TO_SEE * plain).all():
                return model
        return None

    def has(self, model: Model) -> bool:
        """Return whether a model was in the file before."""
        return any(model.id == known.id for known in self._before)

    def _suitable(self, shape: Shape) -> list[tuple[Model, int]]:
        """Return the models that may suit images of a shape, and the bytes that each adds to the file."""
        found = {model.id: (model, 0) for model in self._there}
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

    def _ways(self, models: Sequence[tuple[Model, int]], shape: Shape) -> list[_Way]:
        ways = list[_Way]()
        for model, embedded in models:
            if self._target.max_error is not None:
                ways.append(_Way(model, None, embedded))
                continue
            point = model.fitting(model.operating_points.of_quality(self._quality), shape)
            if point is not None:
                ways.append(_Way(model, point, embedded))
            first = model.operating_points.first_by_pixels
            latents = point is not None and not point.pixels
            if latents and first is not None and _has_pixels(model, shape) and not self._promised:
                by_pixels_alone = self._without_latents(model)
                ways.append(_Way(by_pixels_alone, model.operating_points.all[first], embedded, CLEARLY))
        return ways

    def _without_latents(self, model: Model) -> Model:
        """Return the same model, with the same id, such that it codes by pixels at every quality."""
        if model.id not in self._pixels_alone:
            kept = {name: data for name, data in model.networks.items() if name == POST_FILTER}
            self._pixels_alone[model.id] = replace(model, networks=kept)
        return self._pixels_alone[model.id]

    def _costs(self, x: Pixels, ways: Sequence[_Way], multiplier: float, company: Company) -> tuple[Floats, Company]:
        """Return what each of the images `x` costs in each way (`n ways`), and in the last column without a model.

        company: that of a sample; if it is empty, that of the images themselves is taken, and returned.
        """
        each = max(1, min(MOST_EACH, x.size // LOOKED_AT))
        plain = deflated(x).astype(np.float64)
        if (most := self._target.max_error) is not None:
            coded = [by_pixels(x, int(most), way.model, each) for way in ways]
            least = np.minimum(plain, deflated(x, int(most))) if int(most) else plain
            share = self._exactly * (MIXED_LESS if self._exactly == MIXED else 1)
            return np.stack([*coded, share * least], 1), {}
        taken = [at_point(x, way.point, way.model, each) for way in ways if way.point is not None]
        costs = np.stack([way.factor * (b + multiplier * e) for way, (b, e) in zip(ways, taken, strict=True)], 1)
        without = self._exactly * plain
        if not company or max(company.values()) > -math.inf:
            excess = self._excess(x, ways, [error for _, error in taken], plain, each)
            company = company or _company(ways, costs, excess)
            unsuited = excess + [company.get(way.model.id, 0.0) for way in ways] > 0
            costs = np.where(unsuited, np.maximum(costs, UNSUITED * without[:, None]), costs)
            if not unsuited[np.arange(len(x)), costs.argmin(1)].any() and (excess.max(1) <= 0).all():
                company = dict.fromkeys(company, -math.inf)
        return np.concatenate([costs, without[:, None]], 1), company

    @staticmethod
    def _excess(x: Pixels, ways: Sequence[_Way], errors: Sequence[Floats], plain: Floats, each: int) -> Floats:
        """Return by how much images `x` are beyond what is suited in each way (`n ways`); negative where they suit."""
        found, known = list[Floats](), dict[bytes, Floats]()
        for way, error in zip(ways, errors, strict=True):
            if _has_pixels(way.model, shape_of(x)):
                if way.model.id not in known:
                    known[way.model.id] = by_pixels(x, 0, way.model, each) - SUITED * plain
                found.append(known[way.model.id])
            else:
                assert way.point is not None
                found.append(error - WORSE * way.point.error * x[0].size)
        return np.stack(found, 1)

    def _worth_using(self, costs: Floats, ways: Sequence[_Way], shape: Shape) -> list[int]:
        """Return the columns of `costs` that are worth using: the best, and others that save enough beside it."""
        scale = self._expected(shape) / len(costs)
        embedded = 8 * np.array([*(way.embedded for way in ways), 0])
        used = [int((costs.sum(0) * scale + embedded).argmin())]
        new = [way.model.id not in self._used for way in ways]
        opening = embedded + 8 * OPENING_BYTES * np.array([*new, True])
        while len(used) <= len(ways):
            now = costs[:, used].min(1)
            saved = now.sum() - np.minimum(now[:, None], costs).sum(0)
            worth = np.where(saved >= GAIN * now.sum(), saved * scale - opening, -np.inf)
            worth[used] = -np.inf
            if self._target.max_error is not None and core() is None:  # a block takes images without its model
                worth[-1] = -np.inf
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
        without = self._exactly * deflated(x).astype(np.float64)
        while high - low > 1:
            self._quality = (low + high) // 2
            ways, multiplier = self._ways(models, shape_of(x)), self._multiplier(models)
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
        return bool(error <= 10 ** (-decibel / 10))


def suits(model: Model, x: Pixels, quality: int) -> bool:
    """Return whether a model that was named suits images `x` (`n h w` or `n h w c`), by a few of them.

    It does not if it would take more bytes than deflate to keep them exactly. Whoever trained a model for images that
    are hard to code shall not be told that it suits them little, so the bound is not SUITED. A model that does not code
    by pixels suits images if their squared error at `quality` is not far above what was measured.
    """
    if model.is_general:
        return True
    few = x[_spread(len(x), NAMED_LEAST, NAMED_EACH)]
    if model.pixels is not None:
        return bool(by_pixels(few, 0, model, MOST_EACH).sum() <= deflated(few).sum())
    point = model.fitting(model.operating_points.of_quality(quality), shape_of(x))
    if point is None:
        return False
    _, errors = at_point(few, point, model, MOST_EACH)
    return bool(errors.mean() <= WORSE * point.error * x[0].size)


def _company(ways: Sequence[_Way], costs: Floats, excess: Floats) -> Company:
    """Return the company of a sample with these costs and this excess (`n ways` each)."""
    ids = [way.model.id for way in ways]
    best = np.array([ids.index(i) for i in ids])[costs.argmin(1)]  # the first way of the best model
    company = dict[bytes, float]()
    for i, model in enumerate(ids):
        mine = best == ids.index(model)
        company.setdefault(model, COMPANY * float(np.median(excess[mine, i])) if mine.any() else 0.0)
    return company


def _has_pixels(model: Model, shape: Shape) -> bool:
    """Return whether a model codes all channels of images of a shape together by pixels."""
    return model.pixels is not None and model.pixels.window.channels == shape[2]


def _spread(n: int, least: int = SAMPLE_LEAST, each: int = SAMPLE_EACH) -> Ints:
    """Return the numbers of the images in the sample of `n` images: one of `each`, and at least so many."""
    k = min(n, max(least, -(-n // each)))
    found: Ints = np.arange(k) * n // k
    return found
