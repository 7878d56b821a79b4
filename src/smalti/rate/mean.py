# SPDX-License-Identifier: MIT
"""Meet a mean over all images: blocks at two neighbouring levels of quality, in the right proportion.

A level gives each model an operating point. Where all blocks have one model, the levels are its points; where there are
several, a level is a multiplier at which one of the models moves to its next point. There is one scale of steps, on
which the squared error falls and the bytes rise: it starts with all blocks at the lowest level; a step moves the next
block one level higher; it ends with all blocks at the highest level. A sample of the images gives a first guess of the
step that is just enough. Then only those blocks are coded that the guesses need, and those that no model codes once.
"""

import bisect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from smalti.codec.batching import BLOCK, EACH, Batch
from smalti.codec.block import Block
from smalti.codec.block_codec import seal
from smalti.codec.rdo import Effort
from smalti.core.library import why_numpy
from smalti.errors import UsageError
from smalti.model.model import Model
from smalti.model.operating_points import OperatingPoint
from smalti.rate.metrics import squared_errors
from smalti.rate.target import MOST_ALPHA_ERROR, Sealed, Target, code_at, code_blocks, seal_block
from smalti.types import Pixels, Shape

SAMPLE_IMAGES, OPTIMISED_SAMPLE_IMAGES = 256, 64
"""The number of images in the sample that gives the first guess, without rate-distortion optimisation and with it."""
ENTRY_BYTES = 3.7
"""About the bytes that an image takes more in a stream of its own."""


def encode_batches(
    batches: Iterable[Batch],
    target: Target,
    effort: Effort,
    overhead: Callable[[Sequence[Batch]], int],
    packing: str = BLOCK,
) -> Iterator[Sealed]:
    """Yield an encoded block for each batch, to meet the target.

    Batches are taken as they are needed; for a mean, all at once.

    overhead: a function that returns the bytes of the file besides the payloads of its batches, for a target in bytes.
    packing: which images share a stream, one of PACKINGS.

    Raises:
        UsageError: the target cannot be met.
    """
    if not target.is_mean:
        return (seal_block(batch, block, packing) for batch, block in code_blocks(batches, target, effort, packing))
    every = list(batches)
    return _Mean(every, target, effort, overhead(every), packing).blocks() if every else iter(())


_Place = tuple[OperatingPoint | None, int]
"""An operating point, or None where images are kept exactly, and the number of a block that is coded at it."""


@dataclass(frozen=True, eq=False)
class _Coded:
    """A block at an operating point."""

    sealed: Sealed
    value: float  # the summand of the mean: the squared error of the images, or the bytes of the payload


@dataclass
class _Mean:
    """The search for the step of the scale that is just enough, and the blocks that it has coded so far."""

    parts: list[Batch]
    target: Target
    effort: Effort
    overhead: int  # bytes
    packing: str  # one of PACKINGS
    _known: dict[_Place, _Coded] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.n = sum(map(len, self.parts))
        models = dict.fromkeys(part.model for part in self.parts)
        moves = sorted({start for model in models for start in model.operating_points.from_multiplier[1:]})
        starts = {model: model.operating_points.from_multiplier[1:] for model in models}
        self._points = {model: [bisect.bisect_right(starts[model], move) for move in [0.0, *moves]] for model in models}
        self._levels = len(moves) + 1
        self._last = (self._levels - 1) * len(self.parts)

    def blocks(self) -> Iterator[Sealed]:
        """Yield all blocks, such that the mean is met."""
        step = self._first_enough()
        if step is None:
            self._check_psnr()
            step = self._last
        elif step == 0:
            self._check_bytes()
        else:
            yield from self._split_at(step)
            return
        yield from (self._known[where].sealed for where in self._places(step))

    def _enough(self, total: float, n: int) -> bool:
        """Return whether a total over `n` images reaches the PSNR, or is more than the bytes."""
        if self.target.psnr is not None:
            return bool(total / n <= 10 ** (-self.target.psnr / 10))
        assert self.target.bytes_an_image is not None
        return bool(total + self.overhead * n / self.n > self.target.bytes_an_image * n)

    def _point(self, level: int, model: Model, shape: Shape) -> OperatingPoint | None:
        """Return the operating point of images of a shape at a level; None if they are kept exactly."""
        points = model.operating_points.all
        return model.fitting(points[self._points[model][level]], shape) if points else None

    def _place(self, level: int, block: int) -> _Place:
        return self._point(level, self.parts[block].model, self.parts[block].shape), block

    def _places(self, step: int) -> list[_Place]:
        """Return the operating point and the number of each block at a step of the scale."""
        level, higher = divmod(step, len(self.parts))
        return [self._place(level + (block < higher), block) for block in range(len(self.parts))]

    def _total(self, step: int) -> float:
        return sum(self._value(self._places(step)))

    def _value(self, places: Sequence[_Place]) -> list[float]:
        """Return the values of blocks at operating points; those that are not known yet are coded."""
        missing: dict[OperatingPoint | None, list[int]] = {}
        for point, block in places:
            if (point, block) not in self._known:
                missing.setdefault(point, []).append(block)
        for point, blocks in missing.items():
            for block, (batch, coded) in zip(blocks, self._at(point, [self.parts[i] for i in blocks]), strict=True):
                self._known[point, block] = self._coded(batch, coded)
        return [self._known[place].value for place in places]

    def _at(self, point: OperatingPoint | None, batches: Sequence[Batch]) -> Iterator[tuple[Batch, Block]]:
        """Yield batches as they are coded at an operating point; None keeps them exactly."""
        return code_at(batches, lambda model: point or model.operating_points.all[0], self.effort, self.packing)

    def _coded(self, batch: Batch, block: Block) -> _Coded:
        sealed = seal_block(batch, block, self.packing)
        value = len(sealed.payload) if self.target.psnr is None else squared_errors(batch.x, block.x_hat).sum()
        return _Coded(sealed, float(value))

    def _first_enough(self) -> int | None:
        """Return the first step of the scale that is enough; None if there is none.

        Each guess moves by as many blocks as the last one was off, until two neighbours are found, of which only the
        second is enough.
        """
        step = self._guess()
        low, high = -1, self._last + 1  # the largest step known not to be enough, the smallest known to be
        while high - low > 1:
            if step <= low or step >= high:
                step = (low + high) // 2 if high - low < len(self.parts) else (low + 1 if step <= low else high - 1)
            total = self._total(step)
            if self._enough(total, self.n):
                high = step
            else:
                low = step
            step = self._next(step, total)
        return high if high <= self._last else None

    def _next(self, step: int, total: float) -> int:
        """Return the step that is likely to be just enough, by the values of the blocks at the points around `step`."""
        limit = self._limit()
        level, higher = divmod(step, len(self.parts))
        down = self._enough(total, self.n)
        level = max(0, level - (down and higher == 0)) if down else max(0, min(level, self._levels - 2))
        ends = [
            (self._place(level, b), self._place(min(level + 1, self._levels - 1), b)) for b in range(len(self.parts))
        ]
        known = [(low, high) for low, high in ends if {low, high} <= self._known.keys()]
        if not known:
            return step - 1 if down else step + 1
        gaps = [self._known[high].value - self._known[low].value for low, high in known]
        each = sum(gaps) / len(gaps)
        if not each:  # all these blocks are coded alike at both levels
            return step - len(self.parts) if down else step + len(self.parts)
        moved = round((limit - total) / each)
        return min(step - 1, step + moved) if down else max(step + 1, step + moved)

    def _limit(self) -> float:
        """Return the total that is just enough."""
        if self.target.psnr is not None:
            return float(10 ** (-self.target.psnr / 10) * self.n)
        assert self.target.bytes_an_image is not None
        return float(self.target.bytes_an_image * self.n - self.overhead)

    def _guess(self) -> int:
        """Return the step of the scale that is just enough on a sample."""
        sample = self._sample()
        n, values, parts = sum(map(len, sample)), dict[int, float](), dict[tuple[OperatingPoint | None, int], float]()

        def value(level: int) -> float:
            if level not in values:
                values[level] = sum(map(of_part, sample, [level] * len(sample)))
            return values[level]

        def of_part(batch: Batch, level: int) -> float:
            key = self._point(level, batch.model, batch.shape), id(batch)
            if key not in parts:
                ((_, block),) = self._at(key[0], [batch])
                parts[key] = self._estimate(batch.x, block)
            return parts[key]

        low, high = 0, self._levels - 1
        point, width = max(0, min(self._expected(), high - 1)), 1
        while low < high:  # steps from the expected point, each twice as long, then a bisection
            if self._enough(value(point), n):
                high = point
                point = max(low, high - width)
            else:
                low = point + 1
                point = min(high - 1, low - 1 + width)
            width *= 2
            if low < high and not low <= point < high:
                point = (low + high) // 2
        if not low:
            return 0
        above, below = value(low), value(low - 1)
        share = (self._limit() * n / self.n - below) / (above - below) if above != below else 1.0
        return (low - 1) * len(self.parts) + round(min(1.0, max(0.0, share)) * len(self.parts))

    def _sample(self) -> list[Batch]:
        most = OPTIMISED_SAMPLE_IMAGES if self.effort.passes else SAMPLE_IMAGES
        every = max(1, -(-self.n // most))
        by_kind: dict[tuple[Shape, Model], list[Pixels]] = {}
        for part in self.parts:
            by_kind.setdefault((part.shape, part.model), []).append(part.x[::every])
        return [Batch(np.concatenate(some), model) for (_, model), some in by_kind.items()]

    def _estimate(self, x: Pixels, block: Block) -> float:
        """Return an estimate of the value of a block of the sample; nothing is entropy-coded."""
        if self.target.psnr is not None:
            return float(squared_errors(x, block.x_hat).sum())
        return float(block.rate.sum() + ENTRY_BYTES * len(block) * (self.packing == EACH))

    def _expected(self) -> int:
        """Return the first level that is enough by the measurements in the models."""
        parts = [part for part in self.parts if part.model.measured]
        n = max(1, sum(map(len, parts)))
        for level in range(self._levels):
            value = 0.0
            for part in parts:
                point = part.model.operating_points.all[self._points[part.model][level]]
                of_image = point.bytes * _relative_size(part) if self.target.psnr is None else point.error
                value += len(part) * of_image
            if self._enough(value * self.n / n, self.n):
                return level
        return self._levels - 1

    def _split_at(self, step: int) -> Iterator[Sealed]:
        """Yield all blocks, where `step` is the first that is enough: the block that moves there is split."""
        places, before = self._places(step), self._places(step - 1)
        split = next(i for i, (now, then) in enumerate(zip(places, before, strict=True)) if now != then)
        others = sum(self._known[where].value for i, where in enumerate(places) if i != split)
        yield from (self._known[where].sealed for where in places[:split])
        yield self._between(places[split], before[split], others)
        yield from (self._known[where].sealed for where in places[split + 1 :])

    def _between(self, higher: _Place, lower: _Place, others: float) -> Sealed:
        """Return a block whose first images are as in `higher`, the others as in `lower`: as many as meet the mean.

        others: the value of all other blocks.
        """
        batch = self.parts[higher[1]]
        x, n = batch.x, len(batch)
        both = Block.join([next(self._at(point, [batch]))[1] for point, _ in (higher, lower)])
        errors = squared_errors(np.concatenate([x, x]), both.x_hat)

        def mixed(first: int) -> Block:
            return both.pick(np.concatenate([np.arange(first), np.arange(n + first, 2 * n)]))

        low, high = 0, n  # `high` images at the higher point are enough, `low` are not
        while high - low > 1:
            first = (low + high) // 2
            if self.target.psnr is not None:
                value = float(errors[:first].sum() + errors[n + first :].sum())
            else:
                value = float(len(seal(mixed(first), x, batch.model, self.packing).data))
            if self._enough(others + value, self.n):
                high = first
            else:
                low = first
        if self.target.psnr is not None:
            whole = self._known[higher].sealed
            divided = whole if high == n else seal_block(batch, mixed(high), self.packing)
            return min(whole, divided, key=lambda some: len(some.payload))
        return self._known[lower].sealed if low == 0 else seal_block(batch, mixed(low), self.packing)

    def _check_psnr(self) -> None:
        if self.target.psnr is not None:
            best = -10 * np.log10(self._total(self._last) / self.n)
            names = " and ".join(sorted({model.name for model in self._points}))
            instead = "for a largest error, or for min_psnr, which codes without the model where it must"
            if self.effort.alpha_error and any(map(_has_soft_alpha, self.parts)):
                instead = "or for a higher alpha_quality"
            raise UsageError(
                f"model {names} reaches {best:.2f} dB on these images, not {self.target.psnr:g};"
                f" ask for less, {instead}"
            )

    def _check_bytes(self) -> None:
        if self.target.bytes_an_image is not None:
            least = (self._total(0) + self.overhead) / self.n
            words = f"these images take {least:.2f} bytes each at the lowest quality; allow that or more"
            off = self.effort.alpha_error
            if off < MOST_ALPHA_ERROR and any(map(_has_soft_alpha, self.parts)):
                words += f", or let alpha lose more: alpha_quality={1 if off else 50}"
            if (why := why_numpy()) is not None:
                words += f". The compiled core may take fewer, but numpy computes here: {why}"
            raise UsageError(words)


def _relative_size(batch: Batch) -> float:
    """Return how many times the samples of what its model was measured on an image has, if they may be of any size."""
    return math.prod(batch.shape) / math.prod(batch.model.image_shape) if batch.model.is_general else 1.0


def _has_soft_alpha(batch: Batch) -> bool:
    """Return whether a lower quality of alpha may save bytes: the general model codes alphas that are not 0 or 255."""
    x = batch.x
    return batch.model.is_general and x.ndim == 4 and x.shape[3] in (2, 4) and bool(((x[..., -1] + 1) > 1).any())
