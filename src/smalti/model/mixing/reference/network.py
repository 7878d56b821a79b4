# SPDX-License-Identifier: MIT
"""What the networks see, and what they say: the inputs of a sample, and a mixture of logistics."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smalti.model.mixing.mixer import INPUT_MAX, INPUTS, UNIT_MAX
from smalti.model.mixing.reference.decisions import Known, Network, limit, limited

CHANNELS, OWN = 3, 25
Plane = list[list[int]]
"""Rows of samples with margins: the sample in row y and column x is at [y + TOP][x + MARGIN]."""
TOP, MARGIN = 3, 4


@dataclass(frozen=True)
class Base:
    """What a sample is compared with: its prediction, and the energy around it in eighths."""

    prediction: int
    energy: int


@dataclass(frozen=True)
class Mixture:
    """Logistics (means with 8, inverse scales with 16 fractional bits), their middle, and 16 log2 of their width.

    And the mean of all of them, and the inverse scale of the one that is likeliest.
    """

    means: tuple[int, ...]
    inverses: tuple[int, ...]
    weights: tuple[int, ...]
    middle: int
    width: int
    mean: int
    inverse: int


def med(w: int, n: int, nw: int) -> int:
    """Return the prediction MED of JPEG-LS."""
    low, high = min(w, n), max(w, n)
    return low if nw >= high else high if nw <= low else w + n - nw


def features(
    known: Known, planes: Sequence[Plane], x: int, y: int, k: int, before: Sequence[Base], *, colour: bool
) -> tuple[list[int], Base]:
    """Return the inputs of the network of channel `k` at a pixel, and its base. before: those of earlier channels."""
    x, y = x + MARGIN, y + TOP
    rows = planes[k][y - 3 : y + 1]
    third, second, first, here = rows
    west, north, nw, ne, ww, nn = here[x - 1], first[x], first[x - 1], first[x + 1], here[x - 2], second[x]
    if not k:
        prediction = med(west, north, nw)
        energy = 4 + 2 * (abs(west - nw) + abs(north - nw) + abs(north - ne)) + abs(west - ww) + abs(north - nn)
    else:
        g = planes[0]
        w, n, c = west - g[y][x - 1], north - g[y - 1][x], nw - g[y - 1][x - 1]
        e, w2, n2 = ne - g[y - 1][x + 1], ww - g[y][x - 2], nn - g[y - 2][x]
        total = 2 * (abs(w - c) + abs(n - c) + abs(n - e)) + abs(w - w2) + abs(n - n2)
        green = abs(g[y][x] - before[0].prediction)
        prediction = limit(med(w, n, c) + g[y][x], 0, 255)
        energy = 4 + (total * 3 >> 2) + green + (abs(planes[1][y][x] - before[1].prediction) if k == 2 else green)
    base = Base(prediction, limit(energy, 4, 2047))
    own = [*here[x - 4 : x][::-1], *first[x - 4 : x + 5], *second[x - 3 : x + 4], *third[x - 2 : x + 3]]
    d = [v - prediction for v in own]
    for m in range(k):
        p, q, r = planes[m][y], planes[m][y - 1], planes[m][y - 2]
        at = p[x]
        near = (p[x - 1], p[x - 2], q[x - 1], q[x], q[x + 1], r[x], r[x + 1], q[x + 2], q[x - 2], r[x - 1])
        d += [*(v - at for v in near), at - before[m].prediction, 0]
    for m in range(k + 1, CHANNELS):
        p, q, r = planes[m][y], planes[m][y - 1], planes[m][y - 2]
        at = med(p[x - 1], q[x], q[x - 1])
        d += [v - at for v in (p[x - 1], q[x], q[x - 1], q[x + 1], p[x - 2], r[x])]
    inverse = known.inverses[base.energy]
    inputs = limited([v * inverse >> 10 for v in d], INPUT_MAX)
    for m in range(k):
        inputs[OWN + 12 * m + 11] = known.logs[before[m].energy]
    if not colour:
        inputs[OWN:] = [0] * (len(inputs) - OWN)
    inputs += [known.logs[base.energy], (prediction >> 1) - 64]
    return inputs + [0] * (INPUTS[k] - len(inputs)), base


def run_network(known: Known, network: Network, inputs: Sequence[int], base: Base) -> Mixture:
    """Return the mixture that a network says."""
    *hidden, (weights, biases) = network
    x = np.array(inputs, float)
    for w, b in hidden:
        x = w @ x
        x += b
        np.floor(x, out=x)
        np.maximum(x, 0, out=x)
        np.minimum(x, UNIT_MAX, out=x)
    out = (weights @ x + biases).astype(int).tolist()
    most = max(out[:3])
    mix = tuple(known.weights[min((most - v) >> 11, 767)] for v in out[:3])
    means = tuple(limit((v * base.energy >> 12) + base.prediction * 256, -65536, 131072) for v in out[3:6])
    scales = (known.scales[limit((v >> 11) + 448, 0, 640)] for v in out[6:])
    inverses = tuple(max(64, v * known.inverses[base.energy] >> 16) for v in scales)
    total, weight = sum(v * w for v, w in zip(means, mix, strict=True)), sum(mix)
    mean = abs(total) // weight * (1 if total >= 0 else -1)  # towards zero
    inverse = inverses[mix.index(max(mix))]
    width = known.logs[limit(524288 // inverse, 1, 2047)]
    return Mixture(means, inverses, mix, limit((mean + 128) >> 8, 0, 255), width, mean, inverse)


def below(known: Known, mix: Mixture, t: int) -> int:
    """Return the weight of all values below `t`."""
    if t <= 0:
        return 0
    if t >= 256:
        return (256 << 20) + (sum(mix.weights) << 24)
    total = t << 20
    for mean, inverse, weight in zip(mix.means, mix.inverses, mix.weights, strict=True):
        z = (t * 256 - 128 - mean) * inverse >> 12
        part = 2 if z <= -65536 else (1 << 24) - 2
        if -65536 < z < 65536:
            i, rest = z + 65536 >> 5, z + 65536 & 31
            part = known.logistic[i] + ((known.logistic[i + 1] - known.logistic[i]) * rest >> 5)
        total += weight * part
    return total


def share(low: int, middle: int, high: int) -> int:
    """Return the probability, of 65536, that a value is at least the middle, by the weights below the ends and it."""
    return limit(((high - middle >> 12) << 16) // ((high - low >> 12) + 1), 8, 65528)
