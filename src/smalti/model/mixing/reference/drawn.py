# SPDX-License-Identifier: MIT
"""Pixels of drawn images: alpha, then which candidate a pixel is, then its samples if it is none."""

from collections.abc import Sequence

from smalti.model.mixing.mixer import COLOURS, MATCHES
from smalti.model.mixing.reference.around import (
    ALPHA_NETWORK,
    ORDER,
    Around,
    alpha_inputs,
    channel,
    colour_inputs,
    flat_alpha,
    on_line,
)
from smalti.model.mixing.reference.correct import correction
from smalti.model.mixing.reference.decisions import Decisions, limit, mix_hash
from smalti.model.mixing.reference.network import MARGIN, TOP, Base, Mixture, Plane, below, features, run_network, share
from smalti.model.mixing.reference.tone import centre, code_plainly

RATE = 28
NEAR = 12
"""Candidates that are nearby."""
NO_PICK = 15
"""The pick of a pixel that is no candidate."""
ALPHA_NODE, TREE_NODE, PICK_NODE, VALUE_NODE = 192, 256, 288, 480


def _set(a: int, b: int) -> int:
    return 2000 + a * 32 + b


def _code_byte(
    d: Decisions, value: int, mix: Mixture | None, step: int, ends: tuple[int, int], contexts: Sequence[int], used: int,
    kind: int, nodes: tuple[int, int, int], *, tree: bool,
) -> int:  # fmt: skip
    """Code a byte by eight decisions, the first one about its highest bit, and return it.

    Args:
        d: the decisions of the stream.
        value: the byte, 0 to 255; what is given is not looked at while a stream is decoded.
        mix: what the network says of the sample; None if none was asked.
        step: of the samples that levels stand for: byte `t` begins at the sample `t * step`.
        ends: the first sample that is possible, and the first one behind the last that is.
        contexts: the contexts of the lines of counters.
        used: the contexts that the model uses, as bits.
        kind: a number that tells these contexts from those of other kinds of bytes.
        nodes: the first node, the first set and the first curve of the eight decisions.
        tree: whether each place in each half has a node of its own; else each bit has one.
    """
    node, set_, curve = nodes
    every, low, high, at = 1, 0, 256, 0
    below_low, below_high = (below(d.known, mix, end) if mix else 0 for end in ends)
    for half in range(2):
        salt = every + kind + 1 if half else kind
        lines = d.used_lines([mix_hash(context, salt) for context in contexts], used, 177)
        slot = 1
        for i in range(4):
            t, place, p = low + high >> 1, half * 4 + i, 0
            if mix:
                at = below(d.known, mix, t * step)
                p = share(below_low, at, below_high)
            which = node + (half * 16 + slot if tree else place)
            bit = d.decide(value >= t, p, lines, slot, which, set_ + place, curve + place, RATE)
            if bit:
                low, below_low = t, at
            else:
                high, below_high = t, at
            slot, every = slot * 2 + bit, every * 2 + bit
    return low


def code_alpha(d: Decisions, a: Around, alpha: int, pixels: Plane, width: int) -> int:
    """Code the alpha of a pixel of an image of `width`, and return it."""
    w, n, nw, ne, first = a.w >> 24, a.n >> 24, a.nw >> 24, a.ne >> 24, a.match[0] >> 24
    near = w | n << 8 | nw << 16 | ne << 24
    far = a.ww >> 24 | a.nn >> 24 << 8 | a.nne >> 24 << 16 | a.nee >> 24 << 24
    contexts = (
        mix_hash(near, 1),
        mix_hash(mix_hash(near, 2), mix_hash(far, 0)),
        mix_hash(first | a.match[1] >> 24 << 8 | a.mirror >> 24 << 16, 3 + a.right * 64 + a.hits[0] * 256),
        mix_hash(mix_hash(a.mirror >> 24 | a.mirror2 >> 24 << 8, w | n << 8), 4 + a.right),
        mix_hash(mix_hash(a.w, a.n), 6),
        mix_hash(mix_hash(w, a.x * 256 + a.y), 7),
        mix_hash(mix_hash(a.keys[1], a.match[1]), 8),
    )
    lines = d.used_lines(contexts, d.uses.alpha, 277)
    node = ALPHA_NODE + sum(times * ((v > 0) + (v > 254)) for times, v in zip((1, 3, 9), (w, n, first), strict=True))
    hits, agree = a.hits[0], a.agree * 8 + a.hits[1]
    mix, opaque, clear = None, 0, 0
    if d.known.drawn and not flat_alpha(a):
        mix = run_network(d.known, d.known.drawn[ALPHA_NETWORK], *alpha_inputs(d.known, a, pixels, width))
        below_1, below_255, below_all = (below(d.known, mix, end) for end in (1, 255, 256))
        opaque, clear = share(0, below_255, below_all), 65536 - share(0, below_1, below_255)
    if d.decide(alpha == 255, opaque, lines, 1, node, _set(12, hits), _set(13, agree), RATE):
        return 255
    if d.decide(alpha == 0, clear, lines, 2, node + 32, _set(14, hits), _set(15, agree), RATE):
        return 0
    return _code_byte(
        d, alpha, mix, 1, (1, 255), contexts, d.uses.alpha, 999, (TREE_NODE, _set(0, 0), _set(1, 0)), tree=True
    )


def _code_pick(
    d: Decisions, a: Around, alpha: int, colour: int, candidates: Sequence[int], sources: Sequence[int], picked: Plane
) -> int:
    """Code which candidate a pixel is; -1 if it is none. picked: which ones the pixels before were."""
    w, n, first, opaque = a.w, a.n, a.match[0], 2 if alpha == 255 else 1 if alpha else 0
    pairs = (
        (w, n), (n, a.nw), (n, a.ne), (w, a.ww), (n, a.nn), (w, a.nw), (w, a.ne), (w, first), (n, first),
        (w, a.mirror), (n, a.mirror), (a.mirror, first), (a.match[1], first),
    )  # fmt: skip
    equal = sum((v == u) << i for i, (v, u) in enumerate(pairs)) | a.right << 13
    of, both = opaque * 16 + 100, mix_hash(w, n)
    four = mix_hash(both, mix_hash(a.nw, a.ne))
    contexts = (
        mix_hash(both, of),
        mix_hash(equal, of + 1000),
        mix_hash(four, of + 2000),
        mix_hash(mix_hash(four, mix_hash(a.ww, a.nn)), of + 3000),
        mix_hash(mix_hash(a.hits[0] * 8 + a.hits[1], a.agree | sources[0] << 8), of + 4000),
        mix_hash(mix_hash(a.mirror, a.mirror2), mix_hash(w, of + 5000 + a.right)),
        mix_hash(mix_hash(n, a.ne), of + 6000),
        mix_hash((equal & 127) | a.x >> 3 << 8 | a.y >> 3 << 16, of + 7000),
        mix_hash(mix_hash(alpha, equal & 63), of + 8000),
    )
    source = a.match[1]
    alike = (source == w, source == n, source == a.east, source == a.south, source == first)
    x, (second, above, row) = a.x + MARGIN, picked[a.y + TOP - 2 : a.y + TOP + 1]
    of_picks = (  # how the pixels nearby were coded
        mix_hash(row[x - 1] | above[x] << 4 | above[x + 1] << 8 | above[x - 1] << 12, of + 11000),
        mix_hash(mix_hash(row[x - 1] | row[x - 2] << 4 | above[x] << 8 | second[x] << 12, equal & 127), of + 12000),
        mix_hash(a.agreement | sum(is_so << 6 + i for i, is_so in enumerate(alike)), of + 13000),
    )
    lines = d.used_lines(contexts, d.uses.pick, 377)
    by_picks = d.used_lines(of_picks, d.uses.pick >> 11, 479, first=12)
    for j, (candidate, source) in enumerate(zip(candidates, sources, strict=True)):
        of_candidate = (
            mix_hash(mix_hash(candidate, source), of + 9000),
            mix_hash(mix_hash(candidate, w), source * 16 + j + 10000),
        )
        own = d.used_lines(of_candidate, d.uses.pick >> 9, 477, first=10)
        node = PICK_NODE + opaque * 64 + min(source, NEAR) * 4 + min(j, 3)
        sets = _set(16 + min(j, 5), equal & 31), _set(22 + opaque, a.hits[0] + 8 * a.agree)
        if d.decide(colour == candidate, 0, [*lines, *own, *by_picks], j + 1, node, *sets, RATE):
            return j
    return -1


def _code_sample(
    d: Decisions, a: Around, level: int, step: int, k: int, base: Base, mix: Mixture, alpha: int, got: int, green: int
) -> int:
    """Code the level of channel `k` of a pixel that is no candidate; got: what is known of it, green: its green."""
    c = ORDER[k]
    west, between = channel(a.w, c), on_line(a.w, (a.n, a.nw, a.ne, a.ww), c, green) if k else 0
    of, energy = k * 65537 + 31, (base.energy > 64) + (base.energy > 256)
    contexts = (
        mix_hash(mix_hash(got, alpha), of),
        mix_hash(mix_hash(got, d.images), of + 1),
        mix_hash(mix_hash(between, k * 8 + energy), of + 2),
        mix_hash(mix_hash(a.w, green if k else a.n), of + 3),
        mix_hash(mix_hash(west, channel(a.n, c)), of + 4),
        mix_hash(mix_hash(channel(a.mirror, c), a.right), of + 5 + ((got & 255) << 8)),
        mix_hash(mix_hash(channel(a.match[2], c), west), of + 6),
        mix_hash(base.prediction, of + 7),
        mix_hash(mix.middle, of + 8 + (mix.width >> 4 << 8)),
        mix_hash(mix_hash(got, a.w), of + 9),
    )
    nodes = VALUE_NODE + k * 8, _set(4 + k, limit(mix.width >> 5, 0, 3) * 8), _set(8 + k, 0)
    return _code_byte(d, level, mix, step, (0, 256), contexts, d.uses.samples, 1999, nodes, tree=False)


def _code_colour(
    d: Decisions, a: Around, planes: Sequence[Plane], alpha: int, colour: int, step: int, *, in_colour: bool
) -> int:
    """Code the samples of a pixel that is no candidate."""
    before, value, got = list[Base](), [0, 0, 0], 0
    for k in range(3 if in_colour else 1):
        inputs, base = features(d.known, planes, a.x, a.y, k, before, colour=in_colour)
        before.append(base)
        if d.known.drawn:
            inputs += colour_inputs(d.known, d.colours, a, alpha, k, value, base)
        mix = run_network(d.known, (d.known.drawn or d.known.networks)[k], inputs, base)
        by = correction(d, planes, (a.x, a.y), k, base, mix, lossy=step > 1)
        mix = by.moved(mix) if by else mix
        level = channel(colour, ORDER[k]) // step
        if d.uses.samples:
            level = _code_sample(d, a, level, step, k, base, mix, alpha, got, value[0])
        else:
            level = code_plainly(d, level, step, mix)
        value[k] = centre(level, step)
        if by:
            by.learn(value[k])
        planes[k][a.y + TOP][a.x + MARGIN] = value[k]
        got = (got * 257 + value[k] + 1) & 0xFFFFFFFF
    if not in_colour:
        return value[0] * 0x10101 | alpha << 24
    return value[1] | value[0] << 8 | value[2] << 16 | alpha << 24


def code_drawn(
    d: Decisions,
    a: Around,
    planes: Sequence[Plane],
    picked: Plane,
    colour: int,
    alpha: int,
    step: int,
    *,
    in_colour: bool,
) -> int:
    """Code a pixel of a drawn image, whose alpha is known, and return it."""
    near = (a.match[1], a.match[0], a.w, a.n, a.match[2], a.mirror, a.nw, a.ne, a.ww, a.nn, a.nne, a.nee)
    candidates, sources = list[int](), list[int]()
    for i, some in enumerate((*near, *d.colours)):
        candidate = some & 0xFFFFFF | alpha << 24 if d.known.drawn else some  # a colour may come with another alpha
        if len(candidates) == d.uses.candidates:
            break
        if candidate >> 24 == alpha and candidate not in candidates:
            candidates.append(candidate)
            sources.append(i)
    hit = _code_pick(d, a, alpha, colour, candidates, sources, picked) if candidates else -1
    picked[a.y + TOP][a.x + MARGIN] = NO_PICK if hit < 0 else hit
    coded = candidates[hit] if hit >= 0 else None
    colour = _code_colour(d, a, planes, alpha, colour, step, in_colour=in_colour) if coded is None else coded
    for i in range(MATCHES):
        entry = d.matches[i].setdefault(a.keys[i], [0, 0])
        if entry[0] == colour:
            entry[1] += 1
        elif entry[1] > 3 and i < 2:
            entry[1] >>= 2
        else:
            entry[:] = [colour, 0]
    if colour not in (a.w, a.n):
        j = d.colours.index(colour) if colour in d.colours[: COLOURS - 1] else COLOURS - 1
        d.colours[1 : j + 1] = d.colours[:j]
        d.colours[0] = colour
    return colour
