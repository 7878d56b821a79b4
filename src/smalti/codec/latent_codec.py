# SPDX-License-Identifier: MIT
"""Images coded by latents: encode and decode side by side.

    encode:  images -> analyse (g_a)    -> search the symbols -> columns of the block
    decode:  images <- synthesise (g_s) <- to latents         <- columns of the block

Latent by latent the symbols of all images, first those of the cells, then the local ones, whose tables depend on the
features that the synthesis makes of the former.
"""

import numpy as np
from numpy.typing import NDArray

from smalti.codec.block import Code
from smalti.codec.rdo import Effort, code_bits, nearest, refine
from smalti.entropy.frequencies import Ints
from smalti.entropy.rans import SymbolDecoder
from smalti.model.latent_prior import LatentWalk, to_latents
from smalti.model.model import Model
from smalti.model.spatial_prior import REACH, SHARES, WIDTHS, SpatialWalk, spatial_latents
from smalti.types import Pixels

Floats = NDArray[np.float32]


def analyse(x: Pixels, points: Ints, model: Model, effort: Effort) -> Code:
    """Images (`n h w` or `n h w c`) at operating points (`n`) to their code."""
    code, positions = nearest(x, points, model)
    return refine(x, code, positions, model, effort.passes)


def synthesise(code: Code, model: Model) -> Pixels:
    """The images of a code."""
    return _pixels(code, _features(code.symbols, code.points, model), model)


def _features(symbols: Ints, points: Ints, model: Model) -> Floats:
    """The first half of g_s, of symbols `n cells l`."""
    steps = model.grid.steps[points.repeat(model.patches)]
    return model.features(to_latents(symbols.reshape(-1, model.latents), steps), points)


def _pixels(code: Code, features: Floats, model: Model) -> Pixels:
    """The rest of g_s."""
    u = code.spatial if model.spatial is None else spatial_latents(model.spatial, code.spatial, code.points)
    return model.synthesise(features, u, code.points)


def columns(code: Code, model: Model) -> list[tuple[Ints, Ints]]:
    """Symbols and frequencies, in the order of the stream."""
    found = _patch_columns(code, model)
    if model.spatial is not None and model.spatial.active[code.points].any():
        found += _spatial_columns(code, model)
    return found


def _patch_columns(code: Code, model: Model) -> list[tuple[Ints, Ints]]:
    walk, columns = LatentWalk(model.prior, model.grid, code.points.repeat(model.patches)), []
    rows, first = code.symbols.reshape(-1, model.latents), 0
    for group in walk.groups():
        symbols = rows[:, first : first + len(group)]
        columns += [(symbols[:, j] - column.low, column.frequencies) for j, column in enumerate(group)]
        walk.take(group, symbols)
        first += len(group)
    return columns


def _spatial_columns(code: Code, model: Model) -> list[tuple[Ints, Ints]]:
    assert model.spatial is not None
    tables = model.spatial.tables.reshape(WIDTHS * SHARES, -1)
    walk, columns = SpatialWalk(model.spatial, _features(code.symbols, code.points, model), code.points), []
    of_all = code.spatial.transpose(1, 0, 2, 3).reshape(len(walk.symbols), -1)  # c n*H*W
    for column in walk.columns():
        symbols = of_all[column.latent, column.rows]
        columns += [((symbols - column.base)[span] + REACH, tables[table]) for span, table in column.spans()]
        walk.take(column, symbols)
    return columns


def decode_latents(decoder: SymbolDecoder, points: Ints, model: Model) -> tuple[Code, Pixels]:
    """The code at operating points (`n`), and its images."""
    symbols = _decode_patches(decoder, points, model)
    features = _features(symbols, points, model)
    spatial = np.zeros((len(points), *model.spatial_shape), np.int64)
    if model.spatial is not None and model.spatial.active[points].any():
        spatial = _decode_spatial(decoder, points, features, model)
    code = Code(points, symbols, spatial)
    return code, _pixels(code, features, model)


def _decode_patches(decoder: SymbolDecoder, points: Ints, model: Model) -> Ints:
    """Symbols `n cells l`."""
    walk = LatentWalk(model.prior, model.grid, points.repeat(model.patches))
    found = []
    for group in walk.groups():
        symbols = np.stack([decoder.take(column.frequencies) + column.low for column in group], 1)
        walk.take(group, symbols)
        found.append(symbols)
    return np.concatenate(found, 1).reshape(len(points), model.patches, model.latents)


def _decode_spatial(decoder: SymbolDecoder, points: Ints, features: Floats, model: Model) -> Ints:
    """Symbols `n c H W`."""
    assert model.spatial is not None
    tables = model.spatial.tables.reshape(WIDTHS * SHARES, -1)
    walk = SpatialWalk(model.spatial, features, points)
    for column in walk.columns():
        symbols = column.base - REACH
        for span, table in column.spans():
            symbols[span] += decoder.take_alike(span.stop - span.start, tables[table])
        walk.take(column, symbols)
    spatial: Ints = walk.symbols.reshape(-1, len(points), *model.positions).transpose(1, 0, 2, 3)
    return spatial


def payload_bytes(code: Code, model: Model) -> NDArray[np.float64]:
    """What each image takes of its block, in bytes: a fraction, since images share a stream."""
    return code_bits(code, model) / 8
