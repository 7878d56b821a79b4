# SPDX-License-Identifier: MIT
"""Walk over the samples of images in the order of coding; compute their frequencies. Integers only."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from smalti.entropy.frequencies import TOTAL, Ints
from smalti.entropy.logistic_mixture import WHOLE, WHOLE_BITS, Logistics, Mixture, mixture_cdf, split_outputs
from smalti.model.pixel_prior import COLUMNS, LEVEL_UNITS, ROWS, PixelPrior, Samples, level_count, to_samples
from smalti.util.parallel import once

NIBBLE = 16
"""The number of levels that the second symbol of a sample does not tell apart."""
KIND = 16
"""The number that is added to a symbol for each symbol of its sample that comes before it."""
Coded = tuple[Ints, Ints, Ints, Ints, Ints]
"""Symbols: their samples, kinds, the distribution below each and up to each, and the largest value of both."""
Place = tuple[Ints, Ints, Ints]
"""The places of `k` samples: their images, rows and columns (`k` each)."""


class Wavefront:
    """A walk over the samples of images of any sizes; each step takes all samples whose causal windows are complete.

    `samples` (`n h m`) fills up as levels are taken; of an image that is smaller than others, only a part counts.
    """

    def __init__(self, prior: PixelPrior, sides: Ints, errors: Ints) -> None:
        """sides: the rows of each image and the samples of a row (`n 2`). errors: the largest of each image (`n`)."""
        self.prior, self.errors = prior, errors
        self._heights, self._widths = sides.T
        n, (h, m), window = len(sides), sides.max(0).tolist(), prior.window
        c, self._shape = window.channels, (n, h, m)
        self._side = max(window.reach, window.left) * c
        self.lag = window.reach * c + 1  # samples by which a row follows the one above it
        self._padded = np.zeros((n, window.above + h, m + 2 * self._side), np.uint8)
        row, column = np.minimum(np.arange(h), ROWS - 1), np.arange(m)
        self._rows, self._columns = row, np.minimum(column // c, COLUMNS - 1) * c + column % c
        kinds, self._kind = np.unique(errors, return_inverse=True)
        places = np.indices((self._rows[-1] + 1, self._columns.max() + 1))
        row, column = places.reshape(2, -1)
        nothing = np.zeros((len(row), window.samples), np.uint8)
        self._empty = np.stack(
            [prior.mixtures(nothing, row, column, kind).reshape(*places[0].shape, -1) for kind in kinds]
        )

    @property
    def samples(self) -> Samples:
        """The samples that were taken so far (`n h m`)."""
        _, _, m = self._shape
        return self._padded[:, self.prior.window.above :, self._side : self._side + m]

    def steps(self) -> Iterator[tuple[Place, Mixture]]:
        """Yield the places of the next samples, row after row and there image after image, and their mixtures.

        Each step must be followed by a call of `take`.
        """
        _, h, m = self._shape
        for at in range((h - 1) * self.lag + m):
            rows = np.arange(max(0, -(-(at - m + 1) // self.lag)), min(h - 1, at // self.lag) + 1)
            columns = at - rows * self.lag
            k, images = ((rows[:, None] < self._heights) & (columns[:, None] < self._widths)).nonzero()
            if len(k):
                place = images, rows[k], columns[k]
                yield place, split_outputs(self._outputs(place), self.prior.components)

    def _outputs(self, place: Place) -> Ints:
        images, rows, columns = place
        of_rows, of_columns = self._rows[rows], self._columns[columns]
        outputs: Ints = self._empty[self._kind[images], of_rows, of_columns]
        x = self._windows(place)
        full = np.flatnonzero(x.any(1))
        if len(full):
            outputs[full] = self.prior.mixtures(x[full], of_rows[full], of_columns[full], self.errors[images[full]])
        return outputs

    def _windows(self, place: Place) -> Samples:
        """Return the causal windows of those samples (`k window`)."""
        window, (images, rows, columns) = self.prior.window, place
        reach, left, wide = window.reach * window.channels, window.left * window.channels, window.above
        x = np.empty((len(images), window.samples), np.uint8)
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        for start, end in itertools.pairwise([*starts.tolist(), len(rows)]):
            r, j = int(rows[start]), int(columns[start]) + self._side
            mine = slice(None) if end - start == len(self._padded) else images[start:end]
            x[start:end, :-left] = self._padded[mine, r : r + wide, j - reach : j + reach + 1].reshape(end - start, -1)
            x[start:end, -left:] = self._padded[mine, r + wide, j - left : j]
        return x

    def take(self, place: Place, levels: Ints) -> None:
        """Set the levels of the samples at these places."""
        images, rows, columns = place
        above = self.prior.window.above
        self._padded[images, rows + above, columns + self._side] = to_samples(levels, self.errors[images])


class SampleTables:
    """The frequencies of the symbols of some samples, in the order of coding; later ones depend on the ones before."""

    def __init__(self, logistics: Logistics, mixture: Mixture, errors: Ints, least: int) -> None:
        """errors: those of each sample's image (`n`); least: the smallest that an image of the block may have."""
        self.errors = errors
        self._logistics, self._mixture, self._least = logistics, mixture, least

    @property
    def levels(self) -> Ints:
        """The number of levels of each sample (`n`)."""
        return level_count(self.errors)

    @once
    def _zero(self) -> Ints:
        return self.below(np.ones((len(self.errors), 1), np.int64))[:, 0]

    @property
    def _most(self) -> int:
        """The largest number of levels that a sample of the block may have."""
        return int(level_count(np.array(self._least)))

    def below(self, levels: Ints) -> Ints:
        """Return the cumulative distribution, up to 2^28, below levels (`n e`) of at least 1; 2^28 beyond the last."""
        errors = self.errors[:, None]
        edges = (2 * (levels * (2 * errors + 1) - errors) - 1) * LEVEL_UNITS
        below = mixture_cdf(self._logistics, self._mixture, edges).astype(np.int64)
        result: Ints = np.where(levels < level_count(errors), below, WHOLE)
        return result

    @staticmethod
    def join(tables: "Sequence[SampleTables]") -> "SampleTables":
        """Return the tables of the samples of several, which are of one model and block."""
        centres, widths, logits = (np.concatenate(some) for some in zip(*(one._mixture for one in tables), strict=True))
        errors = np.concatenate([one.errors for one in tables])
        return SampleTables(tables[0]._logistics, (centres, widths, logits), errors, tables[0]._least)

    def part(self, rows: Ints) -> "SampleTables":
        """Return the tables of the samples `rows`."""
        centres, widths, logits = self._mixture
        mixture = centres[rows], widths[rows], logits[rows]
        return SampleTables(self._logistics, mixture, self.errors[rows], self._least)

    def coded(self, levels: Ints) -> Iterator[Coded]:
        """Yield the symbols that code these levels (`n`): zero or not of all, then sixteen levels and level of others.

        An encoder needs no whole tables: the distribution at both ends of a symbol is enough.
        """
        every, zero = np.arange(len(levels)), self._zero
        other = levels > 0
        none = np.zeros_like(zero)
        yield every, other.astype(np.int64), np.where(other, zero, none), np.where(other, WHOLE, zero), none + WHOLE
        rest = np.flatnonzero(other)
        if not len(rest):
            return
        level, zero = levels[rest], zero[rest]
        nibble, last = level // NIBBLE, level % NIBBLE
        first = nibble * NIBBLE
        ends = self.part(rest).below(np.stack([first, first + NIBBLE, level, level + 1], 1).clip(1)).T
        low, high = np.where(nibble > 0, np.maximum(ends[0], zero), zero), np.maximum(ends[1], zero)
        yield rest, KIND + nibble, low - zero, high - zero, WHOLE - zero
        below = np.where(last > 0, ends[2].clip(low, high), low)
        yield rest, 2 * KIND + last, below - low, ends[3].clip(low, high) - low, high - low

    def of_zeros(self) -> Ints:
        """Return the frequencies of level 0 and of all others, for each sample (`n 2`)."""
        first = (self._zero * (TOTAL - 2) >> WHOLE_BITS) + 1
        return np.stack([first, TOTAL - first], 1)

    def of_nibbles(self) -> Ints:
        """Return the frequencies of each sixteen levels, for samples whose level is not 0 (`n k`)."""
        starts = np.arange(NIBBLE, self._most, NIBBLE)
        inner = self.below(np.tile(starts, (len(self._zero), 1)))
        ends = np.full((len(self._zero), 1), WHOLE, np.int64)
        self._bounds = np.concatenate([self._zero[:, None], np.maximum(inner, self._zero[:, None]), ends], 1)
        return _conditional(self._bounds)

    def of_rest(self, nibbles: Ints) -> Ints:
        """Return the frequencies of the levels among the sixteen that `of_nibbles` led to (`n k`)."""
        low, high = (np.take_along_axis(self._bounds, nibbles[:, None] + i, 1) for i in (0, 1))
        inner = self.below(nibbles[:, None] * NIBBLE + np.arange(1, min(NIBBLE, self._most)))
        return _conditional(np.concatenate([low, inner.clip(low, high), high], 1))


def table_sizes(least: int) -> tuple[int, int, int]:
    """Return how many entries the tables of each kind of symbol have; least: the smallest error of a block's images."""
    most = int(level_count(np.array(least)))
    return 2, len(range(NIBBLE, most, NIBBLE)) + 1, min(NIBBLE, most)


def _conditional(bounds: Ints) -> Ints:
    """Return the frequencies (`n k`) of each interval between neighbours of `bounds` (`n k+1`, rising)."""
    k = bounds.shape[1] - 1
    whole = np.maximum(bounds[:, -1:] - bounds[:, :1], 1)
    cumulative = (bounds - bounds[:, :1]) * (TOTAL - k) // whole
    cumulative[:, -1] = TOTAL - k
    frequencies: Ints = np.diff(cumulative, axis=1) + 1
    return frequencies
