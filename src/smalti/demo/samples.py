# SPDX-License-Identifier: MIT
"""Draw digits that look handwritten, 28x28 gray: images for the demo and the tests.

Strokes are bent and slanted at random and drawn large; the digit is then shrunk so that its longer side has 20 pixels,
and centred by mass, as the digits of MNIST are (LeCun et al. 1998, section III.A).
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_CANVAS = 160  # the side of the canvas, in pixels
_SIDE, _BOX = 28, 20  # the sides of the image and of the box that the digit fits, in pixels

# Strokes of each digit as points "x,y" in hundredths of the unit square (x right, y down); curves go through them.
_DIGITS = (
    ("55,0 20,15 5,50 20,88 50,100 82,80 92,45 80,12 50,0",),
    ("55,0 52,35 48,70 45,100",),
    ("10,22 40,0 75,12 75,40 45,72 8,97", "8,97 50,90 95,95"),
    ("12,8 50,0 80,18 70,40 40,48", "40,48 75,55 85,78 55,100 10,92"),
    ("25,0 15,30 12,55 45,55 90,50", "78,10 72,50 66,100"),
    ("85,2 50,2 25,5", "25,5 18,42 50,38 82,60 70,90 40,100 8,90"),
    ("70,0 35,25 12,62 25,95 60,98 78,75 60,55 30,62 16,80",),
    ("8,10 45,6 90,3", "90,3 66,40 48,70 40,100"),
    ("75,10 40,0 20,20 45,45 75,70 60,97 30,95 20,72 50,45 80,25 72,6",),
    ("80,15 50,0 18,15 20,42 50,48 78,30 82,10", "82,10 76,50 62,100"),
)


def draw_digits(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return `n` drawn digits (`n 28 28`), 0 to 9 in turn; one seed gives the same digits with one version of Pillow.

    >>> draw_digits(3).shape
    (3, 28, 28)
    """
    rng = np.random.default_rng(seed)
    return np.stack([_draw(i % 10, rng) for i in range(n)]) if n else np.empty((0, _SIDE, _SIDE), np.uint8)


def _draw(digit: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one digit: `h w`."""
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    pen = ImageDraw.Draw(canvas)
    width = rng.uniform(0.075, 0.15) * _CANVAS
    stretch = rng.uniform(0.75, 1.05)
    angle, slant = rng.normal(0, 0.1), rng.normal(0.15, 0.15)
    cos, sin = np.cos(angle), np.sin(angle)
    bend = np.array([[cos, -sin], [sin, cos]]) @ np.array([[stretch, -slant], [0, 1]])
    for stroke in _DIGITS[digit]:
        points = np.array([point.split(",") for point in stroke.split()], np.float64) / 100 - 0.5  # k 2
        points[1:-1] += rng.normal(0, 0.025, points[1:-1].shape)  # ends stay, so that strokes meet
        line = (_curve(points) @ bend.T * 0.62 + 0.5) * _CANVAS
        for x, y in line:
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return _centre(canvas)


def _curve(points: NDArray[np.float64], steps: int = 40) -> NDArray[np.float64]:
    """Return points on the Catmull-Rom curve through `points` (`k 2`)."""
    p = np.concatenate([[2 * points[0] - points[1]], points, [2 * points[-1] - points[-2]]])
    t = np.linspace(0, 1, steps)[:, None]
    parts = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
        parts.append(b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))))
    return np.concatenate(parts)


def _centre(canvas: Image.Image) -> NDArray[np.uint8]:
    """Crop to the ink, shrink it into a box of 20x20, and put its centre of mass in the middle of 28x28."""
    ink = canvas.crop(canvas.getbbox())
    scale = _BOX / max(ink.size)
    small = ink.resize((max(1, round(ink.width * scale)), max(1, round(ink.height * scale))), Image.Resampling.BOX)
    pixels = np.asarray(small, np.float64)
    h, w = pixels.shape
    y = round(_SIDE / 2 - (pixels.sum(1) @ (np.arange(h) + 0.5)) / pixels.sum())
    x = round(_SIDE / 2 - (pixels.sum(0) @ (np.arange(w) + 0.5)) / pixels.sum())
    y, x = min(max(y, 0), _SIDE - h), min(max(x, 0), _SIDE - w)
    image = np.zeros((_SIDE, _SIDE), np.uint8)
    image[y : y + h, x : x + w] = pixels
    return image
