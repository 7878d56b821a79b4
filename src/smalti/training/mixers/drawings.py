# SPDX-License-Identifier: MIT
"""Drawings that a program makes, so that networks for drawn images see more than the sets show: shapes, lines and text.

They are drawn large and reduced by several filters, as icons and emoji are, with alpha.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smalti.types import Pixels

FILTERS = (Image.Resampling.BOX, Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)
Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]


def drawing(rng: np.random.Generator, side: int) -> Pixels:
    """Return a drawing (`side side 4`)."""
    scale = int(rng.choice((4, 6, 8)))
    n, colours = side * scale, _palette(rng)
    ground = (0, 0, 0, 0) if rng.random() < 0.8 else (*colours[0], 255)
    image = Image.new("RGBA", (n, n), ground)
    for _ in range(int(rng.integers(2, 12))):
        layer = _shape(rng, n, scale, colours)
        image = Image.alpha_composite(image, _shaded(rng, layer, colours) if rng.random() < 0.35 else layer)
    if rng.random() < 0.25:
        image.paste(image.crop((0, 0, n // 2, n)).transpose(Image.Transpose.FLIP_LEFT_RIGHT), (n - n // 2, 0))
    kind = FILTERS[int(rng.integers(len(FILTERS)))]
    if rng.random() < 0.5:  # reduced twice, as what is found on the web often is
        between = int(side * rng.uniform(1.05, 2.5))
        image = image.resize((between, between), kind)
    pixels = np.array(image.resize((side, side), kind))
    if rng.random() < 0.5:
        pixels[pixels[..., 3] == 0] = 0
    if rng.random() < 0.2:  # the colours were multiplied by alpha on the way
        alpha = pixels[..., 3:].astype(np.int64)
        times = (pixels[..., :3] * alpha + 127) // 255
        pixels[..., :3] = np.where(alpha, np.minimum(255, (255 * times + alpha // 2) // np.maximum(alpha, 1)), 0)
    return pixels


def varied(rng: np.random.Generator, image: Pixels) -> Pixels:
    """Return an image (`h w 3` or `h w 4`) in a mirror, in other colours, or smaller, as chance has it."""
    some = image[:, ::-1] if rng.random() < 0.5 else image
    if rng.random() < 0.5:
        some = np.concatenate([some[..., rng.permutation(3)], some[..., 3:]], 2)
    if rng.random() < 0.2:
        some = np.concatenate([255 - some[..., :3], some[..., 3:]], 2)
    if rng.random() < 0.35 and min(some.shape[:2]) > 32:
        side = int(rng.integers(min(some.shape[:2]) // 2, min(some.shape[:2])))
        filter_ = FILTERS[int(rng.integers(len(FILTERS)))]
        some = np.asarray(Image.fromarray(np.ascontiguousarray(some)).resize((side, side), filter_))
    return np.ascontiguousarray(some)


def _palette(rng: np.random.Generator) -> list[Colour]:
    """Return two to eight colours, of which half the time all are like one."""
    colours = rng.integers(0, 256, (int(rng.integers(2, 9)), 3))
    if rng.random() < 0.5:
        colours = np.clip(colours[:1] + rng.normal(0, 60, colours.shape), 0, 255).astype(np.int64)
    if rng.random() < 0.3:
        colours[0] = int(rng.integers(0, 60))
    return [(int(r), int(g), int(b)) for r, g, b in colours]


def _shape(rng: np.random.Generator, n: int, scale: int, colours: Sequence[Colour]) -> Image.Image:
    """Return a layer (`n n`) with one shape; a pixel of the drawing has `scale` pixels here."""
    layer = Image.new("RGBA", (n, n), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    colour = (*colours[int(rng.integers(len(colours)))], 255 if rng.random() < 0.85 else int(rng.integers(60, 255)))
    (x, y), (w, h) = rng.integers(0, n, 2).tolist(), rng.integers(n // 12, n * 4 // 5, 2).tolist()
    box = (x - w // 2, y - h // 2, x + w // 2, y + h // 2)
    kind = int(rng.choice(6, p=(0.3, 0.15, 0.2, 0.15, 0.1, 0.1)))
    if kind == 0:
        line = (*colours[0], 255) if rng.random() < 0.4 else None
        draw.ellipse(box, fill=colour, outline=line, width=int(scale * rng.uniform(0.5, 2.5)))
    elif kind == 1:
        draw.rounded_rectangle(box, radius=int(rng.integers(0, n // 6)), fill=colour)
    elif kind == 2:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        radii = rng.uniform(0.3, 1, len(angles)) / 2
        corners = np.stack([x + w * radii * np.cos(angles), y + h * radii * np.sin(angles)], 1)
        draw.polygon([(float(u), float(v)) for u, v in corners], fill=colour)
    elif kind == 3:
        places = [(int(u), int(v)) for u, v in rng.integers(0, n, (int(rng.integers(2, 5)), 2))]
        draw.line(places, fill=colour, width=int(scale * rng.uniform(1, 6)), joint="curve")
    elif kind == 4:
        begin = int(rng.integers(0, 360))
        draw.arc(box, begin, begin + int(rng.integers(30, 360)), fill=colour, width=int(scale * rng.uniform(1, 5)))
    else:
        text = "".join(chr(int(code)) for code in rng.integers(48, 123, int(rng.integers(1, 4))))
        draw.text(
            (x // 2, y // 2), text, fill=colour, font=ImageFont.load_default(size=int(rng.integers(n // 8, n // 2)))
        )
    return layer


def _shaded(rng: np.random.Generator, layer: Image.Image, colours: Sequence[Colour]) -> Image.Image:
    """Return a layer whose colours change into another one, downwards or to the right."""
    pixels = np.array(layer).astype(np.float32)
    share = np.linspace(0, 1, len(pixels), dtype=np.float32)
    share = share[:, None, None] if rng.random() < 0.6 else share[None, :, None]
    to = np.array(colours[int(rng.integers(len(colours)))], np.float32)
    shaded = pixels[..., :3] * (1 - share) + to * share
    pixels[..., :3] = np.where(pixels[..., 3:] > 0, shaded, pixels[..., :3])
    return Image.fromarray(np.rint(pixels).astype(np.uint8))
