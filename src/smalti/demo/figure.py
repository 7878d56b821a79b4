# SPDX-License-Identifier: MIT
"""Draw originals beside their reconstructions, with bytes and PSNR under each pair."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from smalti.rate.metrics import mse, psnr
from smalti.types import Pixels

PAIRS_A_ROW = 4
_MARGIN, _LINE = 12, 18  # pixels
_INK, _PAPER, _FAINT = (20, 20, 20), (255, 255, 255), (120, 120, 120)


def draw_pairs(x: Pixels, x_hat: Pixels, sizes: Sequence[float], title: str) -> Image.Image:
    """Draw `x` (left) and `x_hat` (right) pair by pair, enlarged.

    Args:
        x, x_hat: `n h w` or `n h w 3`.
        sizes: the bytes that each image is coded in.
        title: the first line of the figure.
    """
    n, h, w = x.shape[:3]
    enlarge = max(1, 112 // max(h, w))
    h, w = h * enlarge, w * enlarge
    columns = min(PAIRS_A_ROW, n)
    patch_w, patch_h = 2 * max(w, 84) + 6 + _MARGIN, h + _LINE + _MARGIN
    head = 2 * _LINE + _MARGIN
    font, small = ImageFont.load_default(14), ImageFont.load_default(11)
    width = max(columns * patch_w + _MARGIN, int(font.getlength(title)) + 2 * _MARGIN)
    sheet = Image.new("RGB", (width, -(-n // columns) * patch_h + head), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, 8), title, _INK, font)
    pen.text((_MARGIN, 8 + _LINE), "each pair: original (left), reconstruction (right)", _FAINT, small)
    raw = x[0].size
    for i in range(n):
        left = _MARGIN + i % columns * patch_w
        top = head + i // columns * patch_h
        right = left + max(w, 84) + 6
        below = f"{sizes[i]:.1f} B, {psnr(mse(x[i : i + 1], x_hat[i : i + 1])):.1f} dB"
        for at, image, text in ((left, x[i], f"{raw} B raw"), (right, x_hat[i], below)):
            sheet.paste(Image.fromarray(image).resize((w, h), Image.Resampling.NEAREST), (at, top))
            pen.text((at, top + h + 2), text, _INK, small)
    return sheet
