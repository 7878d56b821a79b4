# SPDX-License-Identifier: MIT
"""One stream by mixing, image after image: the walk over the pixels, and the margins around them."""

import numpy as np
from numpy.typing import NDArray

from smalti.model.mixing.mixer import MATCH_BITS, MATCHES, SLOTS, Seen, Start
from smalti.model.mixing.reference.around import ORDER, look_around
from smalti.model.mixing.reference.correct import correction
from smalti.model.mixing.reference.decisions import Coder, Decisions, Known
from smalti.model.mixing.reference.drawn import code_alpha, code_drawn
from smalti.model.mixing.reference.follow import follow, keep_place
from smalti.model.mixing.reference.network import MARGIN, TOP, Base, Plane, features, run_network
from smalti.model.mixing.reference.tone import code_tone

Pixels = NDArray[np.uint8]


class ReferenceMixing:
    """One stream by mixing, with the state that its images share; the interface of `CoreMixing`."""

    def __init__(self, known: Known, bits: int, stream: bytes | None) -> None:
        """bits: the logarithm of the lines of the state. stream: what is decoded; None if images are encoded."""
        self._coder = Coder(stream)
        self._decisions = Decisions(known, bits, self._coder)

    @property
    def size(self) -> int:
        """The bytes that are coded up to now."""
        return len(self._coder.written) if self._coder.stream is None else self._coder.at

    def encode(self, image: Pixels, step: int, *, drawn: bool) -> None:
        """Encode an image (`h w c`) whose samples are levels of `step`."""
        self._code(image.copy(), step, drawn=drawn)

    def decode(self, shape: tuple[int, int, int], step: int) -> Pixels:
        """Decode an image of `shape` (h w c)."""
        image = np.zeros(shape, np.uint8)
        self._code(image, step, drawn=False)
        return image

    def finish(self) -> bytes:
        """End the stream, and return it.

        Raises:
            CorruptError: the stream that was decoded has another end.
        """
        return self._coder.finish()

    def learned(self) -> tuple[Start, NDArray[np.uint32], Seen]:
        """Return what mixers, lines of counters (`n SLOTS`) and the rest of the state learned from images up to now."""
        d = self._decisions
        start = Start(
            d.node_weights.array(),
            d.set_weights.array(),
            d.last_weights.array(),
            np.stack([curves.array() for curves in d.curves]),
            np.array(d.order0, np.uint32),
            np.array(d.corrections, np.int32),
        )
        matches = np.zeros((MATCHES, 1 << MATCH_BITS, 2), np.uint32)
        for i, table in enumerate(d.matches):
            for at, entry in table.items():
                matches[i, at] = entry
        lines = np.array(list(d.lines.values()), np.uint32).reshape(-1, SLOTS)
        return start, lines, Seen(matches, np.array(d.colours, np.uint32))

    def _code(self, image: Pixels, step: int, *, drawn: bool) -> None:
        d, (height, width, channels) = self._decisions, image.shape
        colour_planes, alpha_there = channels > 2, channels % 2 == 0
        d.images += 1
        drawn = bool(d.flag(drawn))
        follows = (drawn or alpha_there) and d.uses.follows
        planes = [_plane(height, width, 128) for _ in range(3)]
        pixels, picked = _plane(height, width, 0), _plane(height, width, 0)
        d.errors = [_plane(height, width, 0) for _ in range(3)]
        for y in range(height):
            for x in range(width):
                for plane in planes:
                    _fill_margins(plane, x, y, width, 128)
                _fill_margins(pixels, x, y, width, 0)
                values, alpha = image[y, x].tolist(), 255
                if drawn or alpha_there:
                    around = look_around(d, pixels, x, y, width)
                if follows:
                    follow(d, around, width, height)
                if alpha_there:
                    alpha = code_alpha(d, around, values[-1], pixels, width)
                colours = values[:3] if colour_planes else values[:1] * 3
                colour = colours[0] | colours[1] << 8 | colours[2] << 16
                if drawn:
                    colour = code_drawn(
                        d, around, planes, picked, colour | alpha << 24, alpha, step, in_colour=colour_planes
                    )
                else:
                    colour = self._code_tone(planes, x, y, colour, step, in_colour=colour_planes) | alpha << 24
                pixels[y + TOP][x + MARGIN] = colour
                if follows:
                    keep_place(d, around, colour)
                decoded = [colour >> 8 * c & 255 for c in range(4)]
                for plane, c in zip(planes, ORDER, strict=True):
                    plane[y + TOP][x + MARGIN] = decoded[c]
                image[y, x] = (decoded[:3] if colour_planes else decoded[:1]) + decoded[3:] * alpha_there
        d.place += (width + 2 * MARGIN) * (height + TOP) * follows

    def _code_tone(self, planes: list[Plane], x: int, y: int, colour: int, step: int, *, in_colour: bool) -> int:
        d, before, got = self._decisions, list[Base](), 0
        for k in range(3 if in_colour else 1):
            c = ORDER[k] if in_colour else 0
            inputs, base = features(d.known, planes, x, y, k, before, colour=in_colour)
            before.append(base)
            mix = run_network(d.known, d.known.networks[k], inputs, base)
            by = correction(d, planes, (x, y), k, base, mix, lossy=step > 1)
            mix = by.moved(mix) if by else mix
            value = code_tone(d, colour >> 8 * c & 255, step, k, planes, (x, y), before, mix)
            if by:
                by.learn(value)
            planes[k][y + TOP][x + MARGIN] = value
            got |= value << 8 * c
        return got if in_colour else got * 0x10101


def _plane(height: int, width: int, value: int) -> Plane:
    return [[value] * (width + 2 * MARGIN) for _ in range(height + TOP)]


def _fill_margins(plane: Plane, x: int, y: int, width: int, start: int) -> None:
    """Fill the margins that pixel (x, y) sees; see FILL_MARGINS in `core/mixing.inc`."""
    row = plane[y + TOP]
    if not y:
        for above in plane[:TOP]:
            if x:
                last = min(x + MARGIN, width + MARGIN - 1)
                above[x : last + MARGIN + 1] = [row[x - 1 + MARGIN]] * (last + MARGIN + 1 - x)
            else:
                above[:] = [start] * len(above)
    elif not x:
        above = plane[y + TOP - 1]
        row[:MARGIN] = [above[MARGIN]] * MARGIN
        above[width + MARGIN :] = [above[width + MARGIN - 1]] * MARGIN
        if y == 1:
            above[:MARGIN] = [above[MARGIN]] * MARGIN
            plane[:TOP] = [list(above) for _ in range(TOP)]
