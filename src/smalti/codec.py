# SPDX-License-Identifier: MIT
"""The story: images to blocks and back. Read this file first.

    pack:    read -> batch -> analyse (g_a)    -> search the symbols -> entropy-code     -> block -> file
    unpack:  file -> block -> entropy-decode   -> to latents         -> synthesise (g_s)          -> write

The ends of it, reading and writing, are in `images.py`, `targets.py` and `archive.py`; `control.py` chooses the
operating points, `api.py` ties them together.

Lossless blocks are told in `lossless.py`. Any other is a head (lowest and highest operating point, number of plain
images), the plain images, and one entropy-coded stream: which of the points each image has, then latent by latent the
symbols of all images, first those of the cells, then the local ones, whose tables depend on the features that the
synthesis makes of the former.
"""

import struct

import numpy as np
from numpy.typing import NDArray

from smalti.bundle import Model
from smalti.code import PLAIN, Code
from smalti.entropy import SymbolDecoder, encode_symbols
from smalti.errors import CorruptError
from smalti.local import REACH, SHARES, WIDTHS, LocalWalk, local_latents
from smalti.lossless import KIND, decode_pixel_block
from smalti.masked import POINTS
from smalti.plain import decode_plain
from smalti.prior import Walk, to_latents
from smalti.search import Effort, code_bits, nearest, refine
from smalti.tables import Ints, uniform

BLOCK_IMAGES = 256
"""Images that share a stream: enough to make the coder's few bytes vanish, few enough to read one image fast."""
HEAD = struct.Struct("<BBH")

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def analyse(x: Pixels, points: Ints, model: Model, effort: Effort) -> Code:
    """Images (`n h w` or `n h w c`) at operating points (`n`) to their code."""
    code, sites = nearest(x, points, model)
    return refine(x, code, sites, model, effort.passes)


def synthesise(code: Code, model: Model) -> Pixels:
    """The images of a code, none of them plain."""
    return _pixels(code, _features(code.symbols, code.points, model), model)


def _features(symbols: Ints, points: Ints, model: Model) -> Floats:
    """The first half of g_s, of symbols `n cells l`."""
    steps = model.grid.steps[points.repeat(model.cells)]
    return model.features(to_latents(symbols.reshape(-1, model.latents), steps), points)


def _pixels(code: Code, features: Floats, model: Model) -> Pixels:
    """The rest of g_s."""
    u = code.local if model.local is None else local_latents(model.local, code.local, code.points)
    return model.synthesise(features, u, code.points)


def encode_block(code: Code, model: Model) -> bytes:
    """A code to the bytes of a block."""
    modelled = code.points != PLAIN
    low, high = (int(f(code.points[modelled], initial=i)) for f, i in ((np.min, POINTS - 1), (np.max, 0)))
    low = min(low, high)
    head = HEAD.pack(low, high, len(code.plain)) + b"".join(code.plain[i] for i in sorted(code.plain))
    kinds = high - low + 1 + bool(code.plain)
    choices = np.where(modelled, code.points - low, kinds - 1)
    columns = [(choices, uniform(len(choices), kinds))]
    code = code.pick(modelled)
    columns += _cell_columns(code, model)
    if model.local is not None and model.local.active[code.points].any():
        columns += _local_columns(code, model)
    return head + encode_symbols(columns)


def _cell_columns(code: Code, model: Model) -> list[tuple[Ints, Ints]]:
    walk, columns = Walk(model.prior, model.grid, code.points.repeat(model.cells)), []
    rows, first = code.symbols.reshape(-1, model.latents), 0
    for group in walk.groups():
        symbols = rows[:, first : first + len(group)]
        columns += [(symbols[:, j] - column.low, column.frequencies) for j, column in enumerate(group)]
        walk.take(group, symbols)
        first += len(group)
    return columns


def _local_columns(code: Code, model: Model) -> list[tuple[Ints, Ints]]:
    assert model.local is not None
    tables = model.local.tables.reshape(WIDTHS * SHARES, -1)
    walk, columns = LocalWalk(model.local, _features(code.symbols, code.points, model), code.points), []
    of_all = code.local.transpose(1, 0, 2, 3).reshape(len(walk.symbols), -1)  # c n*H*W
    for column in walk.columns():
        symbols = of_all[column.latent, column.rows]
        columns += [((symbols - column.base)[span] + REACH, tables[table]) for span, table in column.spans()]
        walk.take(column, symbols)
    return columns


def decode_block(payload: bytes, n: int, shape: tuple[int, int, int], model: Model) -> Pixels:
    """The bytes of a block to its `n` images of `shape` (h w c).

    Raises:
        CorruptError: they are no such block.
    """
    if payload and payload[0] >= KIND:
        return decode_pixel_block(payload, n, shape, model)
    if len(payload) < HEAD.size:
        raise CorruptError("a block ends within its head; the file is damaged")
    if shape != model.image_shape or not model.lossy:
        raise CorruptError("a block is of images that its model does not take; the file is damaged")
    low, high, plain = HEAD.unpack_from(payload)
    if not low <= high < POINTS or plain > n:
        raise CorruptError("the head of a block has an impossible field; the file is damaged")
    h, w, c = shape
    of_image = (h, w) if c == 1 else (h, w, c)
    x_hat = np.empty((n, *of_image), np.uint8)
    records, at = [], HEAD.size
    for _ in range(plain):
        image, at = decode_plain(payload, at, of_image)
        records.append(image)
    decoder = SymbolDecoder(payload[at:])
    kinds = high - low + 1 + bool(plain)
    choices = decoder.take(uniform(n, kinds))
    modelled = np.full(n, fill_value=True) if not plain else choices < kinds - 1
    if n - modelled.sum() != plain:
        raise CorruptError("a block does not hold the plain images that it claims; the file is damaged")
    points = low + choices[modelled]
    symbols = _decode_cells(decoder, points, model)
    features = _features(symbols, points, model)
    local = np.zeros((len(points), *model.local_shape), np.int64)
    if model.local is not None and model.local.active[points].any():
        local = _decode_local(decoder, points, features, model)
    decoder.finish()
    x_hat[modelled] = _pixels(Code(points, symbols, local, {}), features, model)
    if plain:
        x_hat[~modelled] = records
    return x_hat


def _decode_cells(decoder: SymbolDecoder, points: Ints, model: Model) -> Ints:
    """Symbols `n cells l`."""
    walk = Walk(model.prior, model.grid, points.repeat(model.cells))
    found = []
    for group in walk.groups():
        symbols = np.stack([decoder.take(column.frequencies) + column.low for column in group], 1)
        walk.take(group, symbols)
        found.append(symbols)
    return np.concatenate(found, 1).reshape(len(points), model.cells, model.latents)


def _decode_local(decoder: SymbolDecoder, points: Ints, features: Floats, model: Model) -> Ints:
    """Symbols `n c H W`."""
    assert model.local is not None
    tables = model.local.tables.reshape(WIDTHS * SHARES, -1)
    walk = LocalWalk(model.local, features, points)
    for column in walk.columns():
        symbols = column.base - REACH
        for span, table in column.spans():
            symbols[span] += decoder.take_alike(span.stop - span.start, tables[table])
        walk.take(column, symbols)
    local: Ints = walk.symbols.reshape(-1, len(points), *model.sites).transpose(1, 0, 2, 3)
    return local


def payload_bytes(code: Code, model: Model) -> NDArray[np.float64]:
    """What each image takes of its block, in bytes: a fraction, since images share a stream. None is plain."""
    return code_bits(code, model) / 8
