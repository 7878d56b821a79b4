# SPDX-License-Identifier: MIT
"""What the network is off by: a linear predictor of its error, which learns; see `core/correct.inc`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from smalti.model.mixing.mixer import CORRECTION_MAX, CORRECTIONS
from smalti.model.mixing.reference.decisions import Decisions, limit, limited
from smalti.model.mixing.reference.network import MARGIN, TOP, Base, Mixture, Plane

BITS = 10
"""The fractional bits of errors in units of twice the scale of the likeliest logistic."""
MOST_TERM, MOST_ERROR, MOST_CORRECTION = 2 << BITS, 3 << BITS - 1, 4 << BITS
NEAR = (
    (0, -3), (0, -2), (0, -1),
    (1, -2), (1, -1), (1, 0), (1, 1), (1, 2),
    (2, -1), (2, 0), (2, 1),
    (3, 0),
)  # fmt: skip
"""The neighbours whose errors are seen: rows above, and columns from here."""
STEPS = 307, 1024, 3072


@dataclass(frozen=True)
class Correction:
    """A correction of a mixture, in units with BITS fractional bits, and what it was made of."""

    terms: list[int]
    weights: list[int]  # of the state
    biases: list[int]  # of the state
    contexts: tuple[int, int]  # which of the biases these are
    mean: int  # of the mixture
    by: int
    unit: int  # 1 / the unit of errors
    row: list[int]  # of errors of the network
    x: int  # where its error is kept in the row

    def moved(self, mix: Mixture) -> Mixture:
        """Return the mixture with its means moved by the correction."""
        size = abs(self.by) * 32768 // min(mix.inverse, 1 << 18)
        by = size if self.by >= 0 else -size
        means = tuple(limit(mean + by, -65536, 131072) for mean in mix.means)
        return replace(mix, means=means, middle=limit((mix.mean + by + 128) >> 8, 0, 255))

    def learn(self, value: int) -> None:
        """Learn from a value, and keep the error of the network, with 6 fractional bits."""
        error = (value * 256 - self.mean) >> 2
        of = error * self.unit >> 6
        missed = limit(of - self.by, -MOST_ERROR, MOST_ERROR)
        power = (1 << 2 * BITS) + sum([x * x for x in self.terms])
        rate = (abs(missed) << 19) // (power >> 8) * (1 if missed >= 0 else -1)
        moved = [w + ((rate * x + (1 << 12)) >> 13) for w, x in zip(self.weights, self.terms, strict=True)]
        self.weights[:] = limited(moved, CORRECTION_MAX)
        for at in self.contexts:
            self.biases[at] += ((limit(of, -MOST_ERROR, MOST_ERROR) << BITS) - self.biases[at]) >> 7
        self.row[self.x] = error


def correction(
    d: Decisions, planes: Sequence[Plane], place: tuple[int, int], k: int, base: Base, mix: Mixture, *, lossy: bool
) -> Correction | None:
    """Return the correction of the mixture of channel `k` at a place (x, y); None if the model has none."""
    if not d.uses.corrects:
        return None
    x, y, errors = place[0] + MARGIN, place[1] + TOP, d.errors
    near = [plane[y - row][x + column] for row, column in NEAR for plane in errors]
    near += [errors[i][y][x] if i < k else 0 for i in range(2)]
    near.append(limit((mix.mean - base.prediction * 256) >> 2, -32768, 32767))
    unit = limit(mix.inverse >> 7, 1, 2048)
    terms = [limit(error * unit >> 6, -MOST_TERM, MOST_TERM) for error in near]

    p, q, r = planes[k][y], planes[k][y - 1], planes[k][y - 2]
    w, n, nw, ne, ww, nn, m = p[x - 1], q[x], q[x - 1], q[x + 1], p[x - 2], r[x], mix.mean >> 8
    g, g1 = planes[0][y], planes[0][y - 1]
    by_west = w + g[x] - g[x - 1] if k else 2 * w - ww
    by_north = n + g[x] - g1[x] if k else 2 * n - nn
    above = sum((v > m) << i for i, v in enumerate((w, n, nw, ne, ww, nn, by_west, by_north)))
    slope = sum(_error_step(v - m, unit) * 7**i for i, v in enumerate((w, n, ne, nw)))
    biases, contexts = d.biases[k], (above, 256 + slope)
    terms += [limit(biases[at] >> 8, -MOST_TERM, MOST_TERM) for at in contexts]
    terms += [0] * (CORRECTIONS - len(terms))

    weights = d.corrections[lossy][k]
    total = sum([(weight >> 6) * term for weight, term in zip(weights, terms, strict=True)])
    by = limit(total >> 14, -MOST_CORRECTION, MOST_CORRECTION)
    return Correction(terms, weights, biases, contexts, mix.mean, by, unit, errors[k][y], x)


def _error_step(v: int, unit: int) -> int:
    of = v * 64 * unit >> 6
    size = sum(abs(of) >= step for step in STEPS)
    return 3 - size if of < 0 else 3 + size
