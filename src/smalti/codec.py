# SPDX-License-Identifier: MIT
"""The story: images to blocks and back. Read this file first.

    pack:    read -> batch -> analyse (g_a)    -> search the symbols -> entropy-code     -> block -> file
    unpack:  file -> block -> entropy-decode   -> to latents         -> synthesise (g_s)          -> write

The ends of it, reading and writing, are in `images.py`, `targets.py` and `archive.py`; `control.py` chooses the
operating points, `api.py` ties them together.

A block is a head (lowest and highest operating point, number of plain images), the plain images, and one entropy-coded
stream: which of the points each image has, then latent by latent the symbols of all images.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.bundle import Model
from smalti.entropy import SymbolDecoder, encode_symbols
from smalti.errors import CorruptError
from smalti.plain import decode_plain
from smalti.prior import POINTS, Walk, to_latents
from smalti.search import Effort, nearest, refine, row_bits
from smalti.tables import Ints, uniform

BLOCK_IMAGES = 256
"""Images that share a stream: enough to make the coder's few bytes vanish, few enough to read one image fast."""
HEAD = struct.Struct("<BBH")
PLAIN = -1
"""In the place of an operating point: the image is coded without the model."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Code:
    """What is coded of images: the choices of the encoder, exactly as the decoder will see them."""

    points: Ints  # n: operating points, or PLAIN
    symbols: Ints  # n*cells l; whatever, where an image is plain
    plain: dict[int, bytes]  # records of the plain images, by index

    def pick(self, rows: NDArray[Any], cells: int) -> "Code":
        """Some of the images, none of them plain."""
        whole = self.symbols.reshape(len(self.points), cells, -1)[rows]
        return Code(self.points[rows], whole.reshape(-1, self.symbols.shape[1]), {})


def analyse(x: Pixels, points: Ints, model: Model, effort: Effort) -> Code:
    """Images (`n h w` or `n h w c`) at operating points (`n`) to their code."""
    y = model.analyse(x, points)
    symbols = nearest(y, points.repeat(model.cells), model)
    return Code(points, refine(x, symbols, points, model, effort.passes), {})


def synthesise(code: Code, model: Model) -> Pixels:
    """The images of a code, none of them plain."""
    steps = model.grid.steps[code.points.repeat(model.cells)]
    return model.synthesise(to_latents(code.symbols, steps), code.points)


def encode_block(code: Code, model: Model) -> bytes:
    """A code to the bytes of a block."""
    modelled = code.points != PLAIN
    low, high = (int(f(code.points[modelled], initial=i)) for f, i in ((np.min, POINTS - 1), (np.max, 0)))
    low = min(low, high)
    head = HEAD.pack(low, high, len(code.plain)) + b"".join(code.plain[i] for i in sorted(code.plain))
    kinds = high - low + 1 + bool(code.plain)
    choices = np.where(modelled, code.points - low, kinds - 1)
    columns = [(choices, uniform(len(choices), kinds))]
    code = code.pick(modelled, model.cells)
    walk = Walk(model.prior, model.grid, code.points.repeat(model.cells))
    for symbols in code.symbols.T:
        column = walk.next()
        columns.append((symbols - column.low, column.frequencies))
        walk.take(column, symbols)
    return head + encode_symbols(columns)


def decode_block(payload: bytes, n: int, model: Model) -> Pixels:
    """The bytes of a block to its `n` images.

    Raises:
        CorruptError: they are no such block.
    """
    if len(payload) < HEAD.size:
        raise CorruptError("a block ends within its head; the file is damaged")
    low, high, plain = HEAD.unpack_from(payload)
    if not low <= high < POINTS or plain > n:
        raise CorruptError("the head of a block has an impossible field; the file is damaged")
    h, w, c = model.image_shape
    shape = (h, w) if c == 1 else (h, w, c)
    x_hat = np.empty((n, *shape), np.uint8)
    records, at = [], HEAD.size
    for _ in range(plain):
        image, at = decode_plain(payload, at, shape)
        records.append(image)
    decoder = SymbolDecoder(payload[at:])
    kinds = high - low + 1 + bool(plain)
    choices = decoder.take(uniform(n, kinds))
    modelled = np.full(n, fill_value=True) if not plain else choices < kinds - 1
    if n - modelled.sum() != plain:
        raise CorruptError("a block does not hold the plain images that it claims; the file is damaged")
    points = low + choices[modelled]
    walk = Walk(model.prior, model.grid, points.repeat(model.cells))
    symbols = np.empty((len(points) * model.cells, model.latents), np.int64)
    for i in range(model.latents):
        column = walk.next()
        symbols[:, i] = decoder.take(column.frequencies) + column.low
        walk.take(column, symbols[:, i])
    decoder.finish()
    x_hat[modelled] = synthesise(Code(points, symbols, {}), model)
    if plain:
        x_hat[~modelled] = records
    return x_hat


def payload_bytes(code: Code, model: Model) -> NDArray[np.float64]:
    """What each image takes of its block, in bytes: a fraction, since images share a stream. None is plain."""
    bits = row_bits(code.symbols, code.points.repeat(model.cells), model)
    total: NDArray[np.float64] = bits.reshape(len(code.points), -1).sum(1) / 8
    return total
