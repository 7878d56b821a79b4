# SPDX-License-Identifier: MIT
"""Rate control: which operating point each image gets, so that the file is what was asked for.

A quality is one point for all. A PSNR or a number of bytes is a mean over all images: two neighbouring points, and as
many blocks at the lower one as may be. A least PSNR holds for every image: each gets the lowest point that keeps it, or
is coded without the model.
"""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.bundle import Model, point_of
from smalti.code import PLAIN, Code
from smalti.codec import Pixels, analyse, encode_block, payload_bytes, synthesise
from smalti.errors import UsageError
from smalti.lossless import encode_pixel_block
from smalti.masked import POINTS
from smalti.pixels import MAX_ERROR
from smalti.plain import encode_plain
from smalti.search import EFFORTS, FAST_EFFORT, Effort
from smalti.tables import Ints

SAMPLE_IMAGES = 1024
SEARCHED_SAMPLE_IMAGES = 128
"""Images on which the operating point for a mean PSNR or rate is first looked for, without search and with it."""
SEARCH_GAIN = 14
"""Operating points by which a search may get an image lower at the same PSNR."""
DEFAULT_QUALITY = 50
DEFAULT_EFFORT = 5

Progress = Callable[[int, int], None]
"""Called with the number of images just done, and of all."""


@dataclass(frozen=True)
class Aim:
    """What is asked of a file: at most one of the five, quality 50 if none.

    Raises:
        UsageError: more than one is asked, or something out of range.
    """

    quality: int | None = None  # 1 (fewest bytes) to 100 (best)
    psnr: float | None = None  # dB, of the mean squared error over all images
    min_psnr: float | None = None  # dB, of every image
    bytes: float | None = None  # an image, all in but names
    max_error: int | None = None  # no pixel is off by more, of 255; 0 is lossless
    effort: int = DEFAULT_EFFORT  # 1 (fast) to 9 (fewest bytes); without meaning for a largest error

    def __post_init__(self) -> None:
        if sum(asked is not None for asked in (self.quality, self.psnr, self.min_psnr, self.bytes, self.max_error)) > 1:
            raise UsageError(
                "quality, psnr, min_psnr, bytes, lossless and max_error exclude each other; give one of them"
            )
        if self.max_error is not None:
            _check_error(self.max_error)
        if self.quality is not None:
            point_of(self.quality)
        for decibel in (self.psnr, self.min_psnr):
            if decibel is not None and not 0 < decibel <= 100:
                raise UsageError(f"a PSNR of {decibel:g} dB was asked; give one from 1 to 100")
        if self.bytes is not None and not self.bytes > 0:
            raise UsageError(f"{self.bytes:g} bytes an image were asked; give more than 0")
        if self.effort not in EFFORTS:
            raise UsageError(f"effort is {self.effort}; give a number from 1 (fast) to 9 (fewest bytes)")


def _check_error(max_error: int) -> None:
    try:
        possible = 0 <= operator.index(max_error) <= MAX_ERROR
    except TypeError:
        possible = False
    if not possible:
        raise UsageError(
            f"a largest error of {max_error} was asked; give a whole number from 0 (lossless) to {MAX_ERROR}"
        )


def encode_blocks(parts: list[Pixels], model: Model, aim: Aim, overhead: int) -> Iterator[bytes]:
    """A block for each of `parts` (images, `n h w` or `n h w c`), as asked.

    overhead: bytes of the file besides the blocks, for an aim in bytes.

    Raises:
        UsageError: what is asked cannot be had.
    """
    effort = EFFORTS[aim.effort]
    if aim.max_error is not None:
        max_error = operator.index(aim.max_error)
        for part in parts:
            yield encode_pixel_block(part, max_error, model)
    elif aim.min_psnr is not None:
        for part in parts:
            yield encode_block(at_least(part, model, aim.min_psnr, effort), model)
    elif aim.psnr is not None or aim.bytes is not None:
        yield from _to_a_mean(parts, model, aim, effort, overhead)
    else:
        point = point_of(DEFAULT_QUALITY if aim.quality is None else aim.quality)
        for part in parts:
            yield encode_block(analyse(part, np.full(len(part), point), model, effort), model)


def at_least(x: Pixels, model: Model, psnr: float, effort: Effort) -> Code:
    """The code of images in which each has `psnr` dB or more: at the lowest operating point that bisection finds.

    An image that no point suits, or that takes fewer bytes so, is coded without the model. An effort that searches
    does so near the point that is found without.
    """
    n, limit = len(x), 10 ** (-psnr / 10)
    found = _Found(x, model, limit)
    found.bisect(np.zeros(n, np.int64), np.full(n, POINTS - 1), EFFORTS[FAST_EFFORT])
    if effort.passes:
        highest = np.where(found.code.points == PLAIN, POINTS - 1, found.code.points)
        found.bisect((highest - SEARCH_GAIN).clip(0), highest, effort)
    records = {i: encode_plain(x[i], largest_mse=limit) for i in range(n)}
    plain = {i: record for i, record in records.items() if len(record) < found.sizes[i]}
    found.code.points[list(plain)] = PLAIN
    return Code(found.code.points, found.code.symbols, found.code.local, plain)


class _Found:
    """The smallest code of each image that keeps the limit, as far as it was looked for; sizes in bytes."""

    def __init__(self, x: Pixels, model: Model, limit: float) -> None:
        n, cells = len(x), (model.cells, model.latents)
        self.x, self.model, self.limit = x, model, limit
        symbols, local = np.zeros((n, *cells), np.int64), np.zeros((n, *model.local_shape), np.int64)
        self.code, self.sizes = Code(np.full(n, PLAIN), symbols, local, {}), np.full(n, np.inf)

    def bisect(self, low: Ints, high: Ints, effort: Effort) -> None:
        """Look from `low` to `high` (`n` each) for the lowest point at which an image keeps the limit."""
        rows = np.arange(len(self.x))
        while len(rows):
            tried = (low[rows] + high[rows]) // 2
            code = analyse(self.x[rows], tried, self.model, effort)
            kept = squared_errors(self.x[rows], synthesise(code, self.model)) <= self.limit
            sizes = payload_bytes(code, self.model)
            better = kept & (sizes < self.sizes[rows])
            self.code.put(rows[better], code.pick(better))
            self.sizes[rows[better]] = sizes[better]
            high[rows[kept]], low[rows[~kept]] = tried[kept] - 1, tried[~kept] + 1
            rows = rows[low[rows] <= high[rows]]


def squared_errors(x: Pixels, x_hat: Pixels) -> NDArray[np.float64]:
    """MSE of each image (`n`), on pixels in [0, 1]."""
    off = (x.astype(np.float64) - x_hat).reshape(len(x), -1) / 255
    errors: NDArray[np.float64] = (off**2).mean(1)
    return errors


def _to_a_mean(parts: list[Pixels], model: Model, aim: Aim, effort: Effort, overhead: int) -> Iterator[bytes]:
    """Blocks at two neighbouring points: the first ones at the higher point, as many as it takes or as may be."""
    ladder = _Ladder(parts, model, aim, effort, overhead)
    point = ladder.first_enough()
    if point is None:
        if aim.psnr is not None:
            best = -10 * np.log10(ladder.value(POINTS - 1).sum() / ladder.n)
            raise UsageError(
                f"model {model.name} reaches {best:.2f} dB on these images, not {aim.psnr:g}; ask for less,"
                " or for min_psnr, which codes without the model where it must"
            )
        yield from ladder.payloads(POINTS - 1)
        return
    if point == 0:
        if aim.bytes is not None:
            least = (ladder.value(0).sum() + overhead) / ladder.n
            raise UsageError(f"these images take {least:.2f} bytes each at the lowest quality; allow that or more")
        yield from ladder.payloads(0)
        return
    above, below = ladder.value(point), ladder.value(point - 1)
    mixed = np.concatenate([[0], above.cumsum()]) + np.concatenate([below[::-1].cumsum()[::-1], [0]])
    higher = int(np.argmax([ladder.enough(float(total), ladder.n) for total in mixed]))
    if aim.bytes is not None:  # enough bytes are too many
        higher -= 1
    yield from ladder.payloads(point)[:higher]
    yield from ladder.payloads(point - 1)[higher:]


class _Ladder:
    """All blocks at any operating point, coded when asked for; `value` is what the aim is about, a number a block."""

    def __init__(self, parts: list[Pixels], model: Model, aim: Aim, effort: Effort, overhead: int) -> None:
        self.parts, self.model, self.aim, self.effort, self.overhead = parts, model, aim, effort, overhead
        self.n = sum(map(len, parts))
        self._rungs: dict[int, tuple[list[bytes], NDArray[np.float64]]] = {}

    def payloads(self, point: int) -> list[bytes]:
        """The blocks."""
        return self._rung(point)[0]

    def value(self, point: int) -> NDArray[np.float64]:
        """Of each block, the squared error of its images or its bytes."""
        return self._rung(point)[1]

    def enough(self, total: float, n: int) -> bool:
        """Whether a total over `n` images reaches the PSNR, or more than the bytes."""
        if self.aim.psnr is not None:
            return bool(total / n <= 10 ** (-self.aim.psnr / 10))
        assert self.aim.bytes is not None
        return bool(total + self.overhead * n / self.n > self.aim.bytes * n)

    def first_enough(self) -> int | None:
        """The lowest point that is enough, looked for on a sample first."""
        every = max(1, -(-self.n // (SEARCHED_SAMPLE_IMAGES if self.effort.passes else SAMPLE_IMAGES)))
        sample = np.concatenate([part[::every] for part in self.parts])
        low, high = 0, POINTS - 1
        while low < high:
            middle = (low + high) // 2
            if self.enough(float(self._code([sample], middle)[1].sum()), len(sample)):
                high = middle
            else:
                low = middle + 1
        while low < POINTS - 1 and not self.enough(self.value(low).sum(), self.n):
            low += 1
        while low and self.enough(self.value(low - 1).sum(), self.n):
            low -= 1
        return low if self.enough(self.value(low).sum(), self.n) else None

    def _rung(self, point: int) -> tuple[list[bytes], NDArray[np.float64]]:
        if point not in self._rungs:
            self._rungs[point] = self._code(self.parts, point)
        return self._rungs[point]

    def _code(self, parts: list[Pixels], point: int) -> tuple[list[bytes], NDArray[np.float64]]:
        payloads, values = [], []
        for part in parts:
            code = analyse(part, np.full(len(part), point), self.model, self.effort)
            payloads.append(encode_block(code, self.model))
            if self.aim.psnr is None:
                values.append(float(len(payloads[-1])))
            else:
                values.append(float(squared_errors(part, synthesise(code, self.model)).sum()))
        return payloads, np.array(values)
