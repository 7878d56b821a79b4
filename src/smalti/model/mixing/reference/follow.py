# SPDX-License-Identifier: MIT
"""The pixel that is followed: the one with surroundings that are most like those of this one; see `core/follow.inc`."""

from smalti.model.mixing.reference.around import Around, matches_agree
from smalti.model.mixing.reference.decisions import Decisions
from smalti.model.mixing.reference.network import MARGIN, TOP

MOST_AGREEMENT = 21


def follow(d: Decisions, a: Around, width: int, height: int) -> None:
    """Find the source of a pixel of an image, and let it be the second match."""
    stride, coded = width + 2 * MARGIN, d.coded
    image = stride * (height + TOP)
    place = d.place + (a.y + TOP) * stride + a.x + MARGIN
    looked_at = []
    for by in (1, stride, stride + 1, stride - 1):
        source = coded.source(place - by)
        looked_at.append(source + by if source else 0)
    by_keys = [table.get(key, 0) for table, key in zip(d.places, a.keys, strict=True)]
    looked_at += [by_keys[1], by_keys[0], max(place - image, 0), by_keys[2]]
    most, source = 0, 0
    for other in looked_at:
        if other and (alike := coded.agreement(place, other, stride)) > most:
            most, source = alike, other
    coded.sources[place & coded.mask] = source
    a.place, a.agreement = place, most
    if source:
        a.match[1], a.hits[1] = coded.pixel(source), most // 3
        a.east, a.south = coded.pixel(source + 1), coded.pixel(source + stride)
        a.agree = matches_agree(a.match)


def keep_place(d: Decisions, a: Around, colour: int) -> None:
    """Keep the pixel that was coded at its place."""
    d.coded.pixels[a.place & d.coded.mask] = colour
    for table, key in zip(d.places, a.keys, strict=True):
        table[key] = a.place
