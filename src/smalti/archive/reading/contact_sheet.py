# SPDX-License-Identifier: MIT
"""Draw the first images of a file with their names and labels, as a notebook shows them."""

import base64
import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smalti.types import Label, Pixels

SHOWN = 24
"""The most images of a contact sheet."""
COLUMNS = 8
_SIDE, _LINE, _MARGIN = 96, 14, 10  # pixels: of the square for an image, of a line of text, around all
_INK, _PAPER, _FAINT = (20, 20, 20), (255, 255, 255), (110, 110, 110)


@dataclass(frozen=True)
class Shown:
    """An image of a contact sheet."""

    pixels: Pixels  # h w or h w c
    name: str | None
    label: Label | None

    @property
    def lines(self) -> list[str]:
        """Return what stands below the image: its name without folders, and its label, as far as it has them."""
        name = [] if self.name is None else [_printable(self.name.rpartition("/")[2])]
        return name + ([] if self.label is None else [_printable(words(self.label))])


def words(label: Label) -> str:
    """Return a label as a text.

    >>> words((1, 2)), words("cat"), words(3)
    ('1 2', 'cat', '3')
    """
    return " ".join(map(str, label)) if isinstance(label, tuple) else str(label)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def sheet_png(images: Sequence[Shown], title: str) -> bytes:
    """Return a PNG file of images in rows, with a title above and names and labels below each of them."""
    from PIL import Image, ImageDraw

    font, small = _font(13), _font(11)
    lines = max((len(one.lines) for one in images), default=0)
    cell_h, head = _SIDE + 4 + lines * _LINE + _MARGIN, 2 * _MARGIN + _LINE
    columns, rows = max(1, min(COLUMNS, len(images))), -(-len(images) // COLUMNS)
    width = max(columns * (_SIDE + _MARGIN) + _MARGIN, int(font.getlength(title)) + 2 * _MARGIN)
    sheet = Image.new("RGB", (width, head + rows * cell_h), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN - 2), title, _INK, font)
    for i, one in enumerate(images):
        left, top = _MARGIN + i % COLUMNS * (_SIDE + _MARGIN), head + i // COLUMNS * cell_h
        picture = Image.fromarray(one.pixels).convert("RGBA")
        scale = _SIDE / max(picture.size)
        how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
        scale = max(1, int(scale)) if scale >= 1 else scale  # each pixel becomes a square of whole pixels
        w, h = (max(1, round(side * scale)) for side in picture.size)
        at = left, top + _SIDE - h
        board = Image.fromarray(_checkerboard(h, w)).convert("RGBA")
        sheet.paste(Image.alpha_composite(board, picture.resize((w, h), how)).convert("RGB"), at)
        for line, text in enumerate(one.lines):
            fitting = text
            while fitting and small.getlength(fitting + ("" if fitting == text else "...")) > _SIDE:
                fitting = fitting[:-1]
            fitting += "" if fitting == text else "..."
            pen.text((left, top + _SIDE + 4 + line * _LINE), fitting, _FAINT if line else _INK, small)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _font(size: int) -> Any:
    """Return a font of the system, which knows most letters, or Pillow's own, which knows those of ASCII."""
    from PIL import ImageFont

    for name in ("DejaVuSans.ttf", "arial.ttf", "Arial.ttf"):
        with contextlib.suppress(OSError, ImportError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def _checkerboard(h: int, w: int) -> Pixels:
    """Return the ground that shows through transparent pixels, `h w`."""
    rows, columns = np.indices((h, w)) // 8
    return np.where((rows + columns) % 2, 255, 220).astype(np.uint8)


def sheet_html(png: bytes, facts: Sequence[tuple[str, str]]) -> str:
    """Return a table of facts, each a word and what is to be said, with a contact sheet (a PNG file) below."""
    import html  # only notebooks need it

    rows = "".join(f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in facts)
    data = base64.b64encode(png).decode()
    return f'<table>{rows}</table><img alt="The first images of the file" src="data:image/png;base64,{data}">'
