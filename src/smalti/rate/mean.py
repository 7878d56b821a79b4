# SPDX-License-Identifier: MIT
"""Meet a mean over all images: blocks at two neighbouring operating points, in the right proportion.

There is one scale of steps, on which the squared error falls and the bytes rise: it starts with all blocks at the
lowest point; a step moves the next block one point higher; it ends with all blocks at the highest point. A sample of
the images gives a first guess of the step that is just enough. Then only those blocks are coded that the guesses need.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from smalti.codec.batching import Batch
from smalti.codec.block import Block
from smalti.codec.block_codec import encode_block
from smalti.codec.rdo import Effort
from smalti.errors import UsageError
from smalti.rate.metrics import squared_errors
from smalti.rate.target import Sealed, Target, code_at, code_blocks, seal_block
from smalti.types import Pixels, Shape

SAMPLE_IMAGES, OPTIMISED_SAMPLE_IMAGES = 256, 64
"""The number of images in the sample that gives the first guess, without rate-distortion optimisation and with it."""


def encode_batches(
    batches: Iterable[Batch], target: Target, effort: Effort, overhead: Callable[[Sequence[Batch]], int]
) -> Iterator[Sealed]:
    """Yield an encoded block for each batch, to meet the target.

    Batches are taken as they are needed; for a mean, all at once.

    overhead: a function that returns the bytes of the file besides the payloads of its batches, for a target in bytes.

    Raises:
        UsageError: the target cannot be met.
    """
    if not target.is_mean:
        return (seal_block(batch, block) for batch, block in code_blocks(batches, target, effort))
    every = list(batches)
    return _Mean(every, target, effort, overhead(every)).blocks() if every else iter(())


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
    _known: dict[tuple[int, int], _Coded] = field(default_factory=dict)  # by operating point and block

    def __post_init__(self) -> None:
        self.model = self.parts[0].model
        self.n, self.points = sum(map(len, self.parts)), self.model.operating_points.all
        self._last = (len(self.points) - 1) * len(self.parts)

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

    def _places(self, step: int) -> list[tuple[int, int]]:
        """Return the operating point and the number of each block at a step of the scale."""
        point, higher = divmod(step, len(self.parts))
        return [(point + (block < higher), block) for block in range(len(self.parts))]

    def _total(self, step: int) -> float:
        return sum(self._value(self._places(step)))

    def _value(self, places: Sequence[tuple[int, int]]) -> list[float]:
        """Return the values of blocks at operating points; those that are not known yet are coded."""
        missing: dict[int, list[int]] = {}
        for point, block in places:
            if (point, block) not in self._known:
                missing.setdefault(point, []).append(block)
        for point, blocks in missing.items():
            for block, (batch, coded) in zip(blocks, self._at(point, [self.parts[i] for i in blocks]), strict=True):
                self._known[point, block] = self._coded(batch, coded)
        return [self._known[place].value for place in places]

    def _at(self, point: int, batches: Sequence[Batch]) -> Iterator[tuple[Batch, Block]]:
        """Yield batches as they are coded at an operating point, by its number."""
        return code_at(batches, lambda _: self.points[point], self.effort)

    def _coded(self, batch: Batch, block: Block) -> _Coded:
        sealed = seal_block(batch, block)
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
        point, higher = divmod(step, len(self.parts))
        down = self._enough(total, self.n)
        point = max(0, point - (down and higher == 0)) if down else min(point, len(self.points) - 2)
        known = [b for b in range(len(self.parts)) if {(point, b), (point + 1, b)} <= self._known.keys()]
        if not known:
            return step - 1 if down else step + 1
        gaps = [self._known[point + 1, b].value - self._known[point, b].value for b in known]
        each = sum(gaps) / len(gaps)
        if not each:
            return step - 1 if down else step + 1
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
        n, values = sum(map(len, sample)), dict[int, float]()

        def value(point: int) -> float:
            if point not in values:
                values[point] = sum(self._estimate(batch.x, block) for batch, block in self._at(point, sample))
            return values[point]

        low, high = 0, len(self.points) - 1
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
        by_shape: dict[Shape, list[Pixels]] = {}
        for part in self.parts:
            by_shape.setdefault(part.shape, []).append(part.x[::every])
        return [Batch(np.concatenate(some), self.model) for some in by_shape.values()]

    def _estimate(self, x: Pixels, block: Block) -> float:
        """Return an estimate of the value of a block of the sample; nothing is entropy-coded."""
        return float(block.rate.sum() if self.target.psnr is None else squared_errors(x, block.x_hat).sum())

    def _expected(self) -> int:
        """Return the index of the first operating point that is enough by the measurements in the model."""
        for i, point in enumerate(self.points):
            value = point.bytes if self.target.psnr is None else point.error
            if self._enough(value * self.n, self.n):
                return i
        return len(self.points) - 1

    def _split_at(self, step: int) -> Iterator[Sealed]:
        """Yield all blocks, where `step` is the first that is enough: the block that moves there is split."""
        places, before = self._places(step), self._places(step - 1)
        split = next(i for i, (now, then) in enumerate(zip(places, before, strict=True)) if now != then)
        others = sum(self._known[where].value for i, where in enumerate(places) if i != split)
        yield from (self._known[where].sealed for where in places[:split])
        yield self._between(places[split][0], split, others)
        yield from (self._known[where].sealed for where in places[split + 1 :])

    def _between(self, point: int, block: int, others: float) -> Sealed:
        """Return a block whose first images are at `point`, the others one lower: as many as meet the mean.

        others: the value of all other blocks.
        """
        batch, x, n = self.parts[block], self.parts[block].x, len(self.parts[block])
        both = Block.join([next(self._at(p, [batch]))[1] for p in (point, point - 1)])
        errors = squared_errors(np.concatenate([x, x]), both.x_hat)

        def mixed(first: int) -> Block:
            return both.pick(np.concatenate([np.arange(first), np.arange(n + first, 2 * n)]))

        low, high = 0, n  # `high` images at `point` are enough, `low` are not
        while high - low > 1:
            first = (low + high) // 2
            if self.target.psnr is not None:
                value = float(errors[:first].sum() + errors[n + first :].sum())
            else:
                value = float(len(encode_block(mixed(first), self.model)))
            if self._enough(others + value, self.n):
                high = first
            else:
                low = first
        if self.target.psnr is not None:
            return self._known[point, block].sealed if high == n else seal_block(batch, mixed(high))
        return self._known[point - 1, block].sealed if low == 0 else seal_block(batch, mixed(low))

    def _check_psnr(self) -> None:
        if self.target.psnr is not None:
            best = -10 * np.log10(self._total(self._last) / self.n)
            raise UsageError(
                f"model {self.model.name} reaches {best:.2f} dB on these images, not {self.target.psnr:g}; ask for"
                " less, for a largest error, or for min_psnr, which codes without the model where it must"
            )

    def _check_bytes(self) -> None:
        if self.target.bytes_an_image is not None:
            least = (self._total(0) + self.overhead) / self.n
            raise UsageError(f"these images take {least:.2f} bytes each at the lowest quality; allow that or more")
