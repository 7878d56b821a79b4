# SPDX-License-Identifier: MIT
"""The transform in numpy, step by step: what the compiled core is held against, and what runs where there is none."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from smalti.model.mixing.reference.decisions import Coder
from smalti.model.transform.transform import (
    BASIS_BITS,
    COEFFICIENT_BITS,
    COEFFICIENT_MAX,
    COEFFICIENTS,
    COLOURS,
    CONTEXT,
    CORRECTED_MAX,
    CORRECTION_BITS,
    CORRECTION_MAX,
    FAR,
    FAR_COEFFICIENTS,
    GROUPS,
    INPUT_BITS,
    INPUT_MAX,
    INVERSE_BITS,
    MEANS,
    NEAR,
    OCTAVE,
    OF_GRAY,
    ONE,
    OUTPUTS,
    SAMPLE_BITS,
    SCALE_ZERO,
    SCALES,
    SHARE_BITS,
    SHARES,
    SIDE,
    STARTS,
    TAIL_BITS,
    TAILS,
    TAPS,
    UNIT_MAX,
    WIDTHS,
    Network,
    Tables,
    Transform,
    biases_at,
)

Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]

RUN = 32
"""The blocks whose groups are coded in turn: one group of all of them, then the next."""
STEPS, MOST_BITS = 20, 15
"""A size is counted up in at most so many steps; what is above is written with at most so many bits."""
EVEN = 1 << 15
"""The probability of a bit that may as well be 0 as 1, of 65536."""
COSTS = np.rint(-256 * np.log2((np.arange(4096) + 0.5) / 4096)).astype(np.int64)
"""The bits, times 256, that a bit takes whose probability, of 4096, is this."""


class ReferenceTransform:
    """A transform that numpy runs."""

    def __init__(self, transform: Transform) -> None:
        self._transform, self._tables = transform, transform.tables

    def analyse(self, x: Pixels, level: int) -> NDArray[np.int16]:
        """Return the coefficients (`n rows columns COEFFICIENTS`) of images (`n h w c`, of 1 or 3 channels)."""
        n, h, w, c = x.shape
        rows, columns = -(-h // SIDE), -(-w // SIDE)
        padded = np.pad(x, ((0, 0), (0, rows * SIDE - h), (0, columns * SIDE - w), (0, 0)), mode="edge")
        samples = np.broadcast_to(padded, (*padded.shape[:3], COLOURS)).astype(np.int64) - 128
        blocks = samples.reshape(n, rows, SIDE, columns, SIDE, COLOURS).transpose(0, 1, 3, 5, 2, 4)
        shift = BASIS_BITS - COEFFICIENT_BITS
        y = _times(blocks.reshape(n, rows, columns, -1), self._transform.forward)
        y = (y + (1 << (shift - 1))) >> shift
        y += self._corrections(self._transform.analysis, y, level)
        if c == 1:
            y[..., ~of_gray()] = 0
        return y.clip(-COEFFICIENT_MAX, COEFFICIENT_MAX).astype(np.int16)

    def synthesise(self, y: NDArray[np.int16], level: int, shape: tuple[int, int, int]) -> Pixels:
        """Return the images (`n h w c`, `shape` is h w c) of coefficients (`n rows columns COEFFICIENTS`)."""
        (n, rows, columns, _), (h, w, c) = y.shape, shape
        wide = y.astype(np.int64)
        z = wide + self._corrections(self._transform.synthesis, wide, level)
        shift = COEFFICIENT_BITS - SAMPLE_BITS
        z = ((z + (1 << (shift - 1))) >> shift).clip(-CORRECTED_MAX, CORRECTED_MAX)
        sums = _times(z, self._transform.backward.T)
        blocks = sums.reshape(n, rows, columns, COLOURS, SIDE, SIDE).transpose(0, 1, 4, 2, 5, 3)
        x = blocks.reshape(n, rows * SIDE, columns * SIDE, COLOURS)[:, :h, :w]
        shift = SAMPLE_BITS + BASIS_BITS
        half, middle = 1 << (shift - 1), 128 << shift
        x = (x.sum(-1, keepdims=True) // COLOURS + half + middle) if c == 1 else x + half + middle
        return (x >> shift).clip(0, 255).astype(np.uint8)

    def code(
        self,
        coder: Coder,
        levels: Ints,
        shape: tuple[int, int, int],
        y: NDArray[np.int16] | None,
        kappa: int,
        factors: NDArray[np.uint16] | None = None,
    ) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
        """Code the coefficients of images of one shape, whose levels are given (`n`).

        Args:
            coder: it says whether they are encoded or decoded.
            levels: of the images.
            shape: rows and columns of blocks, and channels (1 or 3).
            y: the coefficients that are encoded (`n rows columns COEFFICIENTS`); None if they are decoded.
            kappa: how many bits, in 2^-16 of a squared step each, weigh against the error, if they are encoded.
            factors: how much more they do for each coefficient, times 256; None if it is 256 for all.

        Returns:
            The coefficients as the decoder knows them, and the bits that each image takes (`n`; 0 if they are decoded).
        """
        rows, columns, channels = shape
        coded = np.zeros((len(levels), rows, columns, COEFFICIENTS), np.int64)
        bits = np.zeros(len(levels), np.int64)
        for run in runs(len(levels), rows, columns):
            self._code_run(coder, run, levels, channels, coded, y, kappa, factors, bits)
        return coded.astype(np.int16), bits / 256

    def _code_run(
        self,
        coder: Coder,
        run: Ints,
        levels: Ints,
        channels: int,
        coded: Ints,
        y: NDArray[np.int16] | None,
        kappa: int,
        factors: NDArray[np.uint16] | None,
        bits: Ints,
    ) -> None:
        prior, tables, hidden = self._transform.prior, self._tables, self._transform.hidden
        around, means = self._around(coded, run)
        sums = _times(around, prior.context.weights)
        of_run = levels[run[:, 0]]
        biases = {level: self._biases(level) for level in np.unique(of_run).tolist()}
        own, at, second = np.zeros((len(run), COEFFICIENTS), np.int64), 0, len(prior.second.weights) // len(GROUPS)
        for g, (first, size) in enumerate(zip(STARTS, GROUPS, strict=True)):
            mine = prior.own[:, at : at + first]
            at += first
            if channels == 1 and not OF_GRAY[g]:
                continue
            one = np.stack([biases[level][0][g * hidden : (g + 1) * hidden] for level in of_run.tolist()])
            two = np.stack([biases[level][1][g * second : (g + 1) * second] for level in of_run.tolist()])
            units = _units(sums + _times(own[:, :first], mine) + one, prior.context.shift)
            part = slice(g * second, (g + 1) * second)
            units = _units(_times(units, prior.second.weights[part]) + two, prior.second.shift[part])
            of_group = slice(first * OUTPUTS, (first + size) * OUTPUTS)
            out = _times(units, prior.third.weights[of_group]) + prior.third.biases[0][of_group]
            out = (out >> prior.third.shift[of_group].astype(np.int64)).reshape(len(run), size, OUTPUTS)
            for i, (image, row, column) in enumerate(run.tolist()):
                place, level = coded[image, row, column], int(of_run[i])
                for j in range(size):
                    k = first + j
                    mean = int(out[i, j, 0]) + (int(means[i, k]) if k < MEANS else 0)
                    mean = _limit(mean, COEFFICIENT_MAX)
                    step = int(tables.steps[level, k])
                    chances = Chances(tables, out[i, j], int(tables.places[level, k]))
                    rest = None if y is None else int(y[image, row, column, k]) - mean
                    factor = 256 if factors is None else int(factors[image, row, column, k])
                    index, cost = chances.code(coder, rest, step, kappa * factor >> 8)
                    bits[image] += cost
                    place[k] = _limit(mean + index * step, COEFFICIENT_MAX)
            rest_of = coded[run[:, 0], run[:, 1], run[:, 2], first : first + size].copy()
            if first < MEANS:
                rest_of -= means[:, first : first + size]
            own[:, first : first + size] = self._inputs(rest_of, slice(first, first + size))

    def _biases(self, level: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return biases_at(self._transform.prior.context, level), biases_at(self._transform.prior.second, level)

    def _inputs(self, y: Ints, which: slice = slice(None)) -> Ints:
        """Return coefficients as inputs of a network."""
        half = 1 << (INPUT_BITS - 1)
        scaled: Ints = (y * self._tables.inputs[which].astype(np.int64) + half) >> INPUT_BITS
        clipped: Ints = scaled.clip(-INPUT_MAX, INPUT_MAX)
        return clipped

    def _around(self, coded: Ints, run: Ints) -> tuple[Ints, Ints]:
        """Return what the prior sees around the blocks of a run (`n CONTEXT`), and the means of those before them."""
        found, means = np.zeros((len(run), CONTEXT), np.int64), np.zeros((len(run), MEANS), np.int64)
        for i, (image, row, column) in enumerate(run.tolist()):
            beside = [
                coded[image, row + down, column + right, :MEANS]
                for down, right in NEAR[:2]
                if row + down >= 0 and column + right >= 0
            ]
            if beside:
                means[i] = sum(beside) >> (len(beside) - 1)
            at = 0
            for places, size in ((NEAR, COEFFICIENTS), (FAR, FAR_COEFFICIENTS)):
                for down, right in places:
                    r, c = row + down, column + right
                    if r >= 0 and 0 <= c < coded.shape[2]:
                        seen = coded[image, r, c, :size].copy()
                        seen[:MEANS] -= means[i]
                        found[i, at : at + size] = self._inputs(seen, slice(size))
                        found[i, at + size] = ONE
                    at += size + 1
            found[i, at:] = self._inputs(means[i], slice(MEANS))
        return found, means

    def _corrections(self, network: Network, y: Ints, level: int) -> Ints:
        """Return what a network adds to coefficients (`n rows columns COEFFICIENTS`)."""
        inside = np.full((*y.shape[:3], 1), ONE, np.int64)
        units = np.concatenate([self._inputs(y), inside], -1)
        for layer in (network.first, network.second):
            units = _units(_times(_neighbours(units), layer.weights) + biases_at(layer, level), layer.shift)
        found = (_times(units, network.third.weights) + biases_at(network.third, level)) >> network.third.shift
        steps = self._tables.steps[level].astype(np.int64)
        half = 1 << (CORRECTION_BITS - 1)
        added: Ints = (found.clip(-CORRECTION_MAX, CORRECTION_MAX) * steps + half) >> CORRECTION_BITS
        return added


class Chances:
    """How likely the quantisation indices of a coefficient are."""

    def __init__(self, tables: Tables, out: Ints, place: int) -> None:
        narrow = min(max(SCALE_ZERO + int(out[1]) - place, 0), SCALES - 1)
        share = min(max(int(out[2]) + SHARES // 2, 0), SHARES - 1)
        width = min(max(int(out[3]) + WIDTHS // 2, 0), WIDTHS - 1)
        wide = min(narrow + int(tables.widths[width]), SCALES - 1)
        self._tails = tables.tails
        self._inverses = int(tables.inverses[narrow]), int(tables.inverses[wide])
        self._share = int(tables.shares[share])
        self._shift = max(0, ((narrow - SCALE_ZERO) // OCTAVE) - 1)

    def tail(self, size: int) -> int:
        """Return how likely an index of this size or more is, of 2^TAIL_BITS; the size is at least 1."""
        narrow, wide = (
            int(self._tails[min((2 * size - 1) * inverse >> INVERSE_BITS, TAILS - 1)]) for inverse in self._inverses
        )
        return max(1, (self._share * narrow + ((1 << SHARE_BITS) - self._share) * wide) >> SHARE_BITS)

    def code(self, coder: Coder, rest: int | None, step: int, kappa: int) -> tuple[int, int]:
        """Code an index; return it, and 256 times the bits that it takes.

        rest: what it quantises by `step`, if it is encoded.
        """
        if rest is None:
            return self._decode(coder), 0
        size, negative = self._best(abs(rest), step, kappa), rest < 0
        self._encode(coder, size, negative=negative)
        return (-size if negative else size), self.cost(size)

    def _best(self, rest: int, step: int, kappa: int) -> int:
        nearest = (2 * rest + step) // (2 * step)
        best, least = 0, -1
        for size in (nearest, nearest - 1, 0):
            if size < 0 or (size == 0 and least >= 0 and nearest < 1):
                continue
            error = (abs(rest - size * step) << 8) // step
            cost = error * error + (kappa * self.cost(size) >> 8)
            if least < 0 or cost < least:
                best, least = size, cost
        return best

    def cost(self, size: int) -> int:
        """Return 256 times the bits that an index of this size takes."""
        return sum(int(COSTS[(p if bit else 65536 - p) >> 4]) for bit, p in self._decisions(size))

    def _encode(self, coder: Coder, size: int, *, negative: bool) -> None:
        for i, (bit, p) in enumerate(self._decisions(size)):
            coder.code(int(negative) if i == 1 else bit, p)

    def _decisions(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield the bits that say a size, each with the probability of a 1; the second one stands for the sign."""
        yield int(size > 0), _chance(self.tail(1) >> (TAIL_BITS - 16))
        if not size:
            return
        yield 1, EVEN
        steps, now = min((size - 1) >> self._shift, STEPS), self.tail(1)
        for i in range(steps + (steps < STEPS)):
            after = self.tail(1 + ((i + 1) << self._shift))
            yield int(i < steps), _chance((after << 16) // now)
            now = after
        rest, bits = size - 1 - (steps << self._shift), self._shift
        if steps == STEPS:
            bits = min((rest + 1).bit_length() - 1, MOST_BITS)
            for i in range(bits + (bits < MOST_BITS)):
                yield int(i < bits), EVEN
            rest = min(rest + 1 - (1 << bits), (1 << bits) - 1)
        for i in reversed(range(bits)):
            yield rest >> i & 1, EVEN

    def _decode(self, coder: Coder) -> int:
        now = self.tail(1)
        if not coder.code(0, _chance(now >> (TAIL_BITS - 16))):
            return 0
        negative, steps = coder.code(0, EVEN), 0
        while steps < STEPS:
            after = self.tail(1 + ((steps + 1) << self._shift))
            if not coder.code(0, _chance((after << 16) // now)):
                break
            now, steps = after, steps + 1
        bits, least = self._shift, 0
        if steps == STEPS:
            bits = 0
            while bits < MOST_BITS and coder.code(0, EVEN):
                bits += 1
            least = (1 << bits) - 1
        rest = 0
        for _ in range(bits):
            rest = rest << 1 | coder.code(0, EVEN)
        size = 1 + (steps << self._shift) + least + rest
        return -size if negative else size


def of_gray() -> NDArray[np.bool_]:
    """Return which coefficients stand for brightness."""
    return np.repeat(OF_GRAY, GROUPS)


def runs(n: int, rows: int, columns: int) -> Iterator[Ints]:
    """Yield the blocks of `n` images in the order in which they are coded: image, row and column, RUN at most.

    A block sees blocks up to two columns to the right, in the row above; so blocks of which `3 * row + column` is equal
    do not see each other.
    """
    for wave in range(3 * (rows - 1) + columns):
        first, last = max(0, -(-(wave - columns + 1) // 3)), min(rows - 1, wave // 3)
        places = [(row, wave - 3 * row) for row in range(first, last + 1)]
        if not places:
            continue
        every = np.array([(i, *place) for i in range(n) for place in places])
        for start in range(0, len(every), RUN):
            yield every[start : start + RUN]


def _times(x: Ints, weights: NDArray[np.int16]) -> Ints:
    """Return the products of rows and weights (`outputs inputs`); all sums are below 2^53, so this is exact."""
    return np.rint(x.astype(np.float64) @ weights.T.astype(np.float64)).astype(np.int64)


def _units(sums: Ints, shift: NDArray[np.uint8]) -> Ints:
    return (sums >> shift.astype(np.int64)).clip(0, UNIT_MAX)


def _neighbours(units: Ints) -> Ints:
    """Return what a convolution sees of each block: the units of the blocks around, 0 outside."""
    rows, columns = units.shape[1:3]
    wide = np.pad(units, ((0, 0), (1, 1), (1, 1), (0, 0)))
    side = range(int(TAPS**0.5))
    return np.concatenate([wide[:, i : i + rows, j : j + columns] for i in side for j in side], -1)


def _chance(p: int) -> int:
    return min(max(p, 1), 65535)


def _limit(value: int, most: int) -> int:
    return min(max(value, -most), most)
