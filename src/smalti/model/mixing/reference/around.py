# SPDX-License-Identifier: MIT
"""What is around a pixel of a drawn image, and what the networks for drawn images see of it; see `core/drawn.inc`."""

from collections.abc import Sequence
from dataclasses import dataclass

from smalti.model.mixing.mixer import INPUT_MAX
from smalti.model.mixing.reference.decisions import Decisions, Known, limit, mix_hash
from smalti.model.mixing.reference.network import MARGIN, TOP, Base, Plane, med

ALPHA_NETWORK = 3
ORDER = (1, 0, 2)
"""The channels (0: red) in the order of coding."""


@dataclass
class Around:
    """What is around a pixel: colours as red | green << 8 | blue << 16 | alpha << 24."""

    w: int
    n: int
    nw: int
    ne: int
    ww: int
    nn: int
    nne: int
    nee: int
    mirror: int
    mirror2: int
    keys: list[int]
    match: list[int]
    hits: list[int]
    agree: int
    x: int
    y: int
    right: int
    place: int = 0  # of the pixel among those that were coded
    agreement: int = 0  # with the pixel that is followed
    east: int = 0  # of that pixel
    south: int = 0


def channel(colour: int, k: int) -> int:
    """Return channel `k` of a colour."""
    return colour >> 8 * k & 255


def look_around(d: Decisions, pixels: Plane, x: int, y: int, width: int) -> Around:
    """Return what is around the pixel in column `x` and row `y` of an image."""
    c, (second, first, row) = x + MARGIN, pixels[y + TOP - 2 : y + TOP + 1]
    w, n, nw, ne, ww, nn = row[c - 1], first[c], first[c - 1], first[c + 1], row[c - 2], second[c]
    nne, nee, nww, right = second[c + 1], first[c + 2], first[c - 2], int(2 * x >= width)
    mirror = row[width - 1 - x + MARGIN] if right else n
    mirror2 = row[width - 2 - x + MARGIN] if right and x < width - 1 else ne
    six = mix_hash(mix_hash(mix_hash(w, n), mix_hash(nw, ne)), mix_hash(ww, nn))
    wide = mix_hash(six, mix_hash(mix_hash(nee, nne), mix_hash(nww, row[c - 3])))
    keys = [key >> d.match_shift for key in (six, wide, mix_hash(w, mix_hash(n, ne)))]
    entries = [d.matches[i].get(key, [0, 0]) for i, key in enumerate(keys)]
    match, hits = [entry[0] for entry in entries], [min(entry[1], 7) for entry in entries]
    agree = matches_agree(match)
    return Around(w, n, nw, ne, ww, nn, nne, nee, mirror, mirror2, keys, match, hits, agree, x, y, right)


def matches_agree(match: Sequence[int]) -> int:
    """Return two bits: whether the second match is the first, and whether the third one is."""
    return (match[1] == match[0]) | (match[0] == match[2]) << 1


def on_line(p: int, others: Sequence[int], c: int, green: int) -> int:
    """Return channel `c` of a colour on the line from `p` to the first of four others of another green, at `green`."""
    start = channel(p, 1)
    other = next((v for v in others[:3] if channel(v, 1) != start), others[3])
    away, by = channel(other, 1) - start, green - start
    product = (channel(other, c) - channel(p, c)) * by
    if away:
        quotient = abs(product) // abs(away)  # towards zero
        by = quotient if (product < 0) == (away < 0) else -quotient
    return limit(channel(p, c) + by, 0, 255)


def colour_inputs(
    known: Known, last: Sequence[int], a: Around, alpha: int, k: int, value: Sequence[int], base: Base
) -> list[int]:
    """Return what follows the inputs of the network of channel `k`; value: the channels before, last: last colours."""
    c, near = ORDER[k], (a.w, a.n, a.nw, a.ne, a.mirror, *a.match)
    found = [(v >> 1) - 64 for v in (alpha, a.w >> 24, a.n >> 24, a.nw >> 24, a.ne >> 24)]
    found += [_in_units(known, channel(v, c), base) for v in (a.mirror, a.mirror2, *a.match)]
    found.append(a.hits[0] * 8 + a.right * 64)
    if not k:
        return [*found, *(_in_units(known, channel(v, c), base) for v in last[:4]), 0]
    found.append(_in_units(known, on_line(a.w, (a.n, a.nw, a.ne, a.ww), c, value[0]), base))
    found.append(_in_units(known, on_line(a.n, (a.ne, a.nw, a.nn, a.nne), c, value[0]), base))
    least, nearest = 1023, base.prediction
    for v in (*near, *last):
        away = abs(channel(v, 1) - value[0]) + (abs(channel(v, 0) - value[1]) if k == 2 else 0)
        if away < least:
            least, nearest = away, channel(v, c)
    return [*found, _in_units(known, nearest, base), min(4 * least, INPUT_MAX), 0]


def flat_alpha(a: Around) -> bool:
    """Say whether alpha is that of a flat area, for all that is known."""
    return a.w >> 24 in (0, 255) and all(v >> 24 == a.w >> 24 for v in (a.n, a.nw, a.ne))


def alpha_inputs(known: Known, a: Around, pixels: Plane, width: int) -> tuple[list[int], Base]:
    """Return the inputs of the network of alpha at a pixel of an image of `width`, and its base."""
    x, y = a.x + MARGIN, a.y + TOP
    third, second, first, here = ([v >> 24 for v in row] for row in pixels[y - 3 : y + 1])
    w, n, nw, ne = here[x - 1], first[x], first[x - 1], first[x + 1]
    energy = 4 + 2 * (abs(w - nw) + abs(n - nw) + abs(n - ne)) + abs(w - here[x - 2]) + abs(n - second[x])
    base = Base(med(w, n, nw), limit(energy, 4, 2047))
    m = width - 1 - a.x + MARGIN
    seen = [*here[x - 4 : x][::-1], *first[x - 4 : x + 5], *second[x - 3 : x + 4], *third[x - 2 : x + 3]]
    seen += [a.mirror >> 24, a.mirror2 >> 24, (here[m + 1 if m < x - 1 else m] if a.right else w)]
    seen += [first[m], first[m - 1], first[m + 1]] if a.right and a.y else [n, ne, nw]
    seen += [v >> 24 for v in a.match]
    inputs = [_in_units(known, v, base) for v in seen] + [v * 8 for v in a.hits]
    return [*inputs, a.right * 64, a.agree * 16, known.logs[base.energy], (base.prediction >> 1) - 64, 0], base


def _in_units(known: Known, v: int, base: Base) -> int:
    return limit((v - base.prediction) * known.inverses[base.energy] >> 10, -INPUT_MAX, INPUT_MAX)
