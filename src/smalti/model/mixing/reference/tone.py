# SPDX-License-Identifier: MIT
"""Samples of continuous tone: is a level above the middle that the network says, how far, and where there."""

from collections.abc import Sequence

from smalti.model.mixing.reference.decisions import Decisions, limit, mix_hash
from smalti.model.mixing.reference.network import MARGIN, TOP, Base, Mixture, Plane, below, share

NODES, SETS, STATES, RATE, NUMBER = 64, 40, 16, 16, 77


def centre(level: int, step: int) -> int:
    """Return the value that a level stands for."""
    return min(level * step + step // 2, 255)


def code_tone(
    d: Decisions, value: int, step: int, k: int, planes: Sequence[Plane], place: tuple[int, int],
    before: Sequence[Base], mix: Mixture,
) -> int:  # fmt: skip
    """Code the sample of channel `k` at a place (x, y), and return it."""
    if not d.uses.tone:
        return centre(code_plainly(d, value // step, step, mix), step)
    x, y = place[0] + MARGIN, place[1] + TOP
    p, q, r = planes[k][y], planes[k][y - 1], planes[k][y - 2]
    w, n, nw, ne, ww, nn, middle = p[x - 1], q[x], q[x - 1], q[x + 1], p[x - 2], r[x], mix.middle
    g, g1 = planes[0][y], planes[0][y - 1]
    green = g[x] - before[0].prediction if k else w - n
    red = planes[1][y][x] - before[1].prediction if k == 2 else 0
    by_west = w + g[x] - g[x - 1] if k else 2 * w - ww
    by_north = n + g[x] - g1[x] if k else 2 * n - nn
    width, state = mix.width >> 4, limit(mix.width >> 3, 0, STATES - 1)
    texture = sum((v > middle) << i for i, v in enumerate((w, n, nw, ne, ww, nn, by_west, by_north)))
    of = k << 28 | (step > 1) << 27
    known = (g[x] | (planes[1][y][x] << 8 if k == 2 else 0)) if k else w
    contexts = (
        mix_hash(of | texture, width),
        mix_hash(of | (by_west - middle + 512), width),
        mix_hash(of | (by_north - middle + 512), width),
        mix_hash(of | (middle - before[k].prediction + 512), mix.width >> 2),
        mix_hash(of | known, 0 if k == 2 else middle),
        mix_hash(of | (_steps(w - middle) * 11 + _steps(n - middle)), _steps(green) * 11 + _steps(red)),
    )
    return centre(_code_level(d, value // step, step, k, mix, contexts, state, texture & 15), step)


def _code_level(
    d: Decisions, level: int, step: int, k: int, mix: Mixture, contexts: Sequence[int], state: int, texture: int
) -> int:
    known, lines = d.known, d.used_lines(contexts, d.uses.tone, NUMBER)
    low, high, middle, above = 0, (255 + step) // step, mix.middle // step, 1
    below_low, below_high = 0, below(known, mix, 256)
    node, set_, curve = k * NODES, (k * STATES + state) * SETS, (k * 16 + texture) * SETS
    if middle > 0:
        at = below(known, mix, middle * step)
        above = d.decide(level >= middle, share(below_low, at, below_high), lines, 1, node, set_, curve, RATE)
        if above:
            low, below_low = middle, at
        else:
            high, below_high = middle, at
    i = 0
    while high - low > (size := 1 if i < 2 else 1 << i - 1):
        t, which = low + size if above else high - size, 1 + min(i, 8) + (0 if above else 9)
        at = below(known, mix, t * step)
        p = share(below_low, at, below_high)
        is_beyond, slot = level >= t if above else level < t, 2 + (0 if above else 6) + min(i, 5)
        p = p if above else 65536 - p
        beyond = d.decide(is_beyond, p, lines, slot, node + which, set_ + which, curve + which, RATE)
        if above == beyond:
            low, below_low = t, at
        else:
            high, below_high = t, at
        if not beyond:
            break
        i += 1
    first = True
    while high - low > 1:
        t, which = low + high >> 1, 24 + min(i, 6) * 2 + above
        at = below(known, mix, t * step)
        p = share(below_low, at, below_high)
        if first:
            bit = d.decide(level >= t, p, lines, 14, node + which, set_ + which, curve + which, RATE)
        else:
            bit = d.coder.code(level >= t, p)
        first = False
        if bit:
            low, below_low = t, at
        else:
            high, below_high = t, at
    return low


def code_plainly(d: Decisions, level: int, step: int, mix: Mixture) -> int:
    """Code a level by the network alone: each bit has the probability that it says, and nothing learns."""
    known = d.known
    low, high, middle, above = 0, (255 + step) // step, mix.middle // step, 1
    below_low, below_high = 0, below(known, mix, 256)

    def is_at_least(t: int) -> int:
        nonlocal low, high, below_low, below_high
        at = below(known, mix, t * step)
        bit = d.coder.code(level >= t, share(below_low, at, below_high))
        if bit:
            low, below_low = t, at
        else:
            high, below_high = t, at
        return bit

    if middle > 0:
        above = is_at_least(middle)
    i = 0
    while high - low > (size := 1 if i < 2 else 1 << i - 1):
        if is_at_least(low + size if above else high - size) != above:
            break
        i += 1
    while high - low > 1:
        is_at_least(low + high >> 1)
    return low


def _steps(v: int) -> int:
    a = abs(v)
    s = 0 if a < 1 else 1 if a < 3 else 2 if a < 6 else 3 if a < 12 else 4 if a < 24 else 5
    return 5 - s if v < 0 else 5 + s
