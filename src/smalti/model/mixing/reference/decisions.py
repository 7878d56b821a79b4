# SPDX-License-Identifier: MIT
"""Decisions: the coder, lines of counters, and the mixers that join what they say; `core/mixing.inc` does the same."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.errors import CorruptError
from smalti.model.mixing.mixer import (
    BIASES,
    CHANNELS,
    COLOURS,
    MATCH_BITS,
    MATCHES,
    SLOTS,
    TERMS,
    WEIGHT_MAX,
    Layer,
    Mixer,
)

MASK = 0xFFFFFFFF
LEAST_P, MOST_LOGIT, PROBE = 16, 3071, 4
LAST = TERMS - 1
"""The term of a mixer that is a constant."""
FLAG_NODE = 511
Line = list[int]
"""A key, then fifteen counters: a probability of 22 bits, and how often it was used, in 10 bits."""


def mix_hash(a: int, b: int) -> int:
    """Return the hash (32 bits) of two numbers."""
    h = ((a * 0x9E3779B1) ^ ((b + 0x7F4A7C15) * 0x85EBCA6B)) & MASK
    h ^= h >> 15
    return (h * 0xC2B2AE35) & MASK


def limit(v: int, low: int, high: int) -> int:
    """Return the value nearest to `v` that is from `low` to `high`."""
    return low if v < low else high if v > high else v


def limited(values: list[int], most: int) -> list[int]:
    """Return the values, limited to `-most` to `most`; nearly always all of them are within."""
    if max(values) > most or min(values) < -most:
        return [limit(v, -most, most) for v in values]
    return values


Network = list[tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Weights (`outputs inputs`) and biases of each layer, those of hidden ones with 11 fractional bits.

As integers their sums are below 2^31, so float64 is exact.
"""


def _networks(networks: Sequence[Sequence[Layer]]) -> list[Network]:
    return [
        [
            (layer.weights.astype(float) / one, layer.biases.astype(float) / one)
            for layer, one in zip(some, (2048, 2048, 1), strict=True)
        ]
        for some in networks
    ]


class Known:
    """A mixer in Python's lists, which are faster to read one by one than arrays."""

    def __init__(self, mixer: Mixer) -> None:
        tables = mixer.tables
        self.squash: list[int] = tables.squash.tolist()
        self.logits: list[int] = _logits(tables.stretch).tolist()
        self.logistic: list[int] = tables.logistic.tolist()
        self.scales: list[int] = tables.scales.tolist()
        self.weights: list[int] = tables.weights.tolist()
        self.rates: list[int] = tables.rates.tolist()
        self.confidence: list[int] = tables.confidence.tolist()
        self.logs: list[int] = tables.logs.tolist()
        self.inverses: list[int] = tables.inverses.tolist()
        self.networks, self.drawn = _networks(mixer.networks), _networks(mixer.drawn)
        self.primed: dict[int, int] = {key: i for i, key in enumerate(mixer.lines[:, 0].tolist())}
        self.mixer = mixer


def _logits(stretch: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the logit of each probability of 65536, in 1/256."""
    ends = stretch[4096:]
    return np.concatenate([ends, stretch[2048 >> 4 : 65536 - 2048 >> 4].repeat(16), -ends[::-1]])


class Rows(dict[int, list[int]]):
    """The rows of an array as lists that may change: those that were asked for, which are few."""

    def __init__(self, start: NDArray[Any]) -> None:
        super().__init__()
        self._start = start

    def __missing__(self, i: int) -> list[int]:
        row: list[int] = self._start[i].tolist()
        self[i] = row
        return row

    def array(self) -> NDArray[Any]:
        """Return all rows as they are now."""
        found = self._start.copy()
        for i, row in self.items():
            found[i] = row
        return found


class Coder:
    """A binary arithmetic coder. It decodes `stream`, behind whose end are zeros; None: it encodes."""

    def __init__(self, stream: bytes | None) -> None:
        self.low, self.high, self.value, self.at = 0, MASK, 0, 0
        self.stream, self.written = stream, bytearray()
        if stream is not None:
            for _ in range(4):
                self._shift_in(stream)

    def _shift_in(self, stream: bytes) -> None:
        self.value = (self.value << 8 | (stream[self.at] if self.at < len(stream) else 0)) & MASK
        self.at += 1

    def code(self, bit: int, p: int) -> int:
        """Code a bit that is 1 with the probability `p`, of 65536."""
        size = self.high - self.low
        middle = self.low + (size >> 16) * p + ((size & 0xFFFF) * p >> 16)
        if self.stream is not None:
            bit = self.value <= middle
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while not (self.low ^ self.high) >> 24:
            if self.stream is not None:
                self._shift_in(self.stream)
            else:
                self.written.append(self.high >> 24)
            self.low, self.high = self.low << 8 & MASK, (self.high << 8 | 255) & MASK
        return int(bit)

    def finish(self) -> bytes:
        """End the stream, and return it.

        Raises:
            CorruptError: the stream that was decoded has another end.
        """
        if self.stream is not None:
            if len(self.stream) > self.at or self.stream[-1:] == b"\0":
                raise CorruptError("a stream by mixing has another end than its images; the file is damaged")
            return self.stream
        for n in range(1, 5):
            value = self.high & ~(MASK >> 8 * n if n < 4 else 0)
            if value >= self.low:
                self.written += value.to_bytes(4, "big")[:n]
                break
        return bytes(self.written).rstrip(b"\0")


class Coded:
    """Pixels that were coded, and the places of those that they follow, in a ring; see `core/follow.inc`."""

    def __init__(self, bits: int) -> None:
        self.mask = (1 << bits) - 1
        self.pixels: dict[int, int] = {}
        self.sources: dict[int, int] = {}

    def pixel(self, place: int) -> int:
        """Return the pixel at a place."""
        return self.pixels.get(place & self.mask, 0)

    def source(self, place: int) -> int:
        """Return the place of the pixel that the one at a place follows, or 0."""
        return self.sources.get(place & self.mask, 0)

    def agreement(self, a: int, b: int, stride: int) -> int:
        """Return how alike the pixels around two places are that are coded already."""
        weights = {
            1: 3, stride: 3,
            stride + 1: 2, stride - 1: 2, 2: 2, 2 * stride: 2,
            2 * stride - 1: 1, 2 * stride + 1: 1, stride - 2: 1, stride + 2: 1, 3: 1, 3 * stride: 1, stride - 3: 1,
        }  # fmt: skip
        return sum(weight for by, weight in weights.items() if self.pixel(a - by) == self.pixel(b - by))


class Decisions:
    """The state that the images of a stream share, and the decisions that it codes."""

    def __init__(self, known: Known, bits: int, coder: Coder) -> None:
        """bits: the logarithm of the lines of counters."""
        self.known, self.coder, self.bits, self.uses = known, coder, bits, known.mixer.uses
        start = known.mixer.start
        self.node_weights, self.set_weights = Rows(start.node_weights), Rows(start.set_weights)
        self.last_weights, self.curves = Rows(start.last_weights), [Rows(curves) for curves in start.curves]
        self.order0: list[int] = start.order0.tolist()
        self.corrections: list[list[list[int]]] = start.corrections.tolist()
        self.biases = [[0] * BIASES for _ in range(CHANNELS)]
        self.errors: list[list[list[int]]] = []  # of the networks of channels, in planes as samples are; 0 if not asked
        self.lines: dict[int, Line] = {}  # by their places
        self.match_shift = 32 - min(bits, MATCH_BITS)
        self.matches: list[dict[int, list[int]]] = [{} for _ in range(MATCHES)]  # the pixel that followed, and hits
        self.colours = [0] * COLOURS
        if (seen := known.mixer.seen) is not None:
            folded = seen.folded(min(bits, MATCH_BITS))
            self.matches = [
                {at: table[at].tolist() for at in np.flatnonzero(table.any(1)).tolist()} for table in folded
            ]
            self.colours = seen.colours.tolist()
        self.images, self.place = 0, 0  # how many were coded, and the place of the next one
        self.coded = Coded(bits)
        self.places: list[dict[int, int]] = [{} for _ in range(MATCHES)]  # by the keys of matches

    def line(self, context: int, number: int) -> Line:
        """Return the line of a context; a new one takes the place of the least used of four."""
        hashed = mix_hash(context, number)
        key, at = hashed | 1, hashed >> 32 - self.bits
        place, least = at, 1 << 62
        for i in range(PROBE):
            found = self.lines.get(at ^ i)
            if found is not None and found[0] == key:
                return found
            used = 1 + (found[1] & 1023) if found is not None else 0
            if used < least:
                least, place = used, at ^ i
        primed = self.known.primed.get(key)
        new = [key] + [0] * (SLOTS - 1) if primed is None else self.known.mixer.lines[primed].tolist()
        line = self.lines.setdefault(place, [])
        line[:] = new  # in place: whoever holds the line that was there holds the new one now
        return line

    def used_lines(self, contexts: Sequence[int], used: int, number: int, first: int = 1) -> list[tuple[int, Line]]:
        """Return the terms, from the first one on, and lines of the contexts whose bits of `used` are 1."""
        return [(first + i, self.line(context, number + i)) for i, context in enumerate(contexts) if used >> i & 1]

    def decide(
        self, bit: int, p: int, lines: Sequence[tuple[int, Line]], slot: int, node: int, set_: int, curve: int,
        rate: int,
    ) -> int:  # fmt: skip
        """Code one bit, and learn from it; the arguments are those of `decide` in `core/mixing.inc`."""
        known = self.known
        squash, logits, confidence, rates = known.squash, known.logits, known.confidence, known.rates
        if not p:
            p = limit(self.order0[node] >> 16, 8, 65528)
        expected = logits[p]
        terms = [(0, expected), (LAST, 256)]  # the others are 0: they add nothing, and their weights learn nothing
        for i, line in lines:
            counter = line[slot] = line[slot] or p << 16 & ~1023
            terms.append((i, (logits[counter >> 16] - expected) * confidence[counter & 255] >> 8))
        w0, w1, w2 = self.node_weights[node], self.set_weights[set_], self.last_weights[node]
        x0, x1 = _weigh(w0, w1, terms)
        mixed = limit(((w2[0] >> 4) * x0 + (w2[1] >> 4) * x1) >> 12, -MOST_LOGIT, MOST_LOGIT)
        p0, p1, p2 = squash[x0 + MOST_LOGIT + 1], squash[x1 + MOST_LOGIT + 1], squash[mixed + MOST_LOGIT + 1]
        at, part = (mixed + MOST_LOGIT + 1) >> 8, (mixed + MOST_LOGIT + 1) & 255
        c0, c1 = self.curves[0][set_], self.curves[1][curve]
        by0, by1 = (c0[at] * (256 - part) + c0[at + 1] * part) >> 8, (c1[at] * (256 - part) + c1[at + 1] * part) >> 8
        bit = self.coder.code(bit, limit((2 * p2 + by0 + by1 + 2) >> 2, LEAST_P, 65536 - LEAST_P))

        target = 65535 if bit else 0
        _learn(w0, terms, (target - p0) * rate >> 4)
        _learn(w1, terms, (target - p1) * rate >> 4)
        error = (target - p2) * 6
        for i, v in enumerate((x0, x1)):
            w2[i] = limit(w2[i] + ((v * error + (1 << 19)) >> 20), -WEIGHT_MAX, WEIGHT_MAX)
        at += part >> 7
        for c in (c0, c1):
            step = abs(target - c[at]) // 32
            c[at] += step if target > c[at] else -step
        goal = 0x3FFFFF if bit else 0
        for _, line in lines:
            now, uses = line[slot] >> 10, line[slot] & 255
            line[slot] = (now + ((goal - now) * rates[uses] >> 16)) << 10 | (uses + (uses < 255))
        self.order0[node] += ((bit << 32) - bit * 65536 - self.order0[node]) >> 6
        return bit

    def flag(self, bit: int) -> int:
        """Code whether an image is drawn."""
        bit = self.coder.code(bit, limit(self.order0[FLAG_NODE] >> 16, 512, 65024))
        self.order0[FLAG_NODE] += ((bit << 32) - bit * 65536 - self.order0[FLAG_NODE]) >> 3
        return bit


def _weigh(weights: Sequence[int], others: Sequence[int], terms: Sequence[tuple[int, int]]) -> tuple[int, int]:
    total = other = 0
    for i, v in terms:
        total += (weights[i] >> 5) * v
        other += (others[i] >> 5) * v
    return limit(total >> 11, -MOST_LOGIT, MOST_LOGIT), limit(other >> 11, -MOST_LOGIT, MOST_LOGIT)


def _learn(weights: list[int], terms: Sequence[tuple[int, int]], error: int) -> None:
    for i, v in terms:
        weights[i] = weight = weights[i] + ((v * error + (1 << 15)) >> 16)
        if not -WEIGHT_MAX <= weight <= WEIGHT_MAX:
            weights[i] = limit(weight, -WEIGHT_MAX, WEIGHT_MAX)
