# SPDX-License-Identifier: MIT
"""Code images by latents: encode and decode side by side.

    encode:  images -> analyse (g_a)    -> quantise, optimise -> symbols -> block
    decode:  images <- synthesise (g_s) <- latents            <- symbols of the stream

First come the symbols of the patches, latent by latent for all images, then those of the spatial latents, whose
tables depend on the features that the synthesis makes of the patches.
"""

import numpy as np
from numpy.typing import NDArray

from smalti.codec.block import Block, ByLatents, PatchSymbols, SampleSymbols, Symbols, symbols_of
from smalti.codec.rdo import Effort, LatentCode, nearest, patch_bits, patch_cdf, refine
from smalti.entropy.frequencies import Ints
from smalti.entropy.rans import SeveralStreams, SymbolDecoder
from smalti.model.latent_prior import LatentWalk, to_latents
from smalti.model.model import Model
from smalti.model.spatial_prior import (
    REACH,
    SHARES,
    WIDTHS,
    SpatialPrior,
    SpatialWalk,
    odd_positions,
    spatial_latents,
    spatial_tables,
)
from smalti.types import Pixels

Floats = NDArray[np.float32]
Decoder = SymbolDecoder | SeveralStreams


def encode_latents(x: Pixels, points: Ints, model: Model, effort: Effort) -> Block:
    """Encode images (`n h w` or `n h w c`) at operating points of the latents (`n`)."""
    return block_of(analyse(x, points, model, effort), model)


def analyse(x: Pixels, points: Ints, model: Model, effort: Effort) -> LatentCode:
    """Choose the symbols of images (`n h w` or `n h w c`) at operating points (`n`)."""
    code, positions = nearest(x, points, model)
    return refine(x, code, positions, model, effort.passes)


def block_of(code: LatentCode, model: Model) -> Block:
    """Return the block of a code: the images that the decoder will return, their symbols and their bits."""
    n = len(code.points)
    features = _features(code.symbols, code.points, model)
    below = patch_cdf(code.symbols.reshape(-1, model.latents), code.points.repeat(model.patches), model)
    below = below.reshape(*code.symbols.shape, 2)
    bits, spatial = patch_bits(below, code, model), Symbols.none(n)
    if model.spatial is not None and model.spatial.active[code.points].any():
        spatial, more = _spatial_symbols(code, features, model.spatial)
        bits += more
    patches = PatchSymbols(code.points, code.symbols, below)
    ways = tuple(map(ByLatents, code.points.tolist()))
    x_hat = _pixels(code, features, model)
    return Block(ways, x_hat, bits, patches, spatial, SampleSymbols.none(n), post_filtered=False)


def decode_latents(decoder: Decoder, points: Ints, model: Model) -> tuple[LatentCode, Pixels]:
    """Decode images at operating points (`n`); return their code and their pixels.

    decoder: of the stream that all images share, or of a stream for each; then all points must be the same.
    """
    symbols = _decode_patches(decoder, points, model)
    features = _features(symbols, points, model)
    spatial = np.zeros((len(points), *model.spatial_shape), np.int64)
    if model.spatial is not None and model.spatial.active[points].any():
        spatial = _decode_spatial(decoder, points, features, model)
    code = LatentCode(points, symbols, spatial)
    return code, _pixels(code, features, model)


def _features(symbols: Ints, points: Ints, model: Model) -> Floats:
    """Return the features that the first half of g_s makes of the symbols (`n p l`)."""
    steps = model.grid.steps[points.repeat(model.patches)]
    return model.features(to_latents(symbols.reshape(-1, model.latents), steps), points)


def _pixels(code: LatentCode, features: Floats, model: Model) -> Pixels:
    """Return the images that the second half of g_s makes of the features and the spatial latents."""
    u = code.spatial if model.spatial is None else spatial_latents(model.spatial, code.spatial, code.points)
    return model.synthesise(features, u, code.points)


def _spatial_symbols(code: LatentCode, features: Floats, prior: SpatialPrior) -> tuple[Symbols, NDArray[np.float64]]:
    """Return the symbols of the spatial latents of images, and the bits that those of each image (`n`) take.

    Keys follow the order of coding: even positions before odd ones, latent by latent, table by table.
    """
    n, c, h, w = code.spatial.shape
    base, table = spatial_tables(prior, code.spatial, features, code.points)  # n*H*W c
    entry = code.spatial.transpose(0, 2, 3, 1).reshape(-1, c) - base + REACH
    odd = np.tile(odd_positions(h, w).ravel(), n)[:, None]
    keys = (odd * c + np.arange(c)) * (WIDTHS * SHARES) + table
    images = np.arange(n).repeat(h * w)[:, None] + np.zeros_like(keys)
    active = prior.active[code.points.repeat(h * w)]
    tables, starts = prior.tables.reshape(WIDTHS * SHARES, -1), prior.starts.reshape(WIDTHS * SHARES, -1)
    found = table[active], entry[active]
    costs = np.where(active, prior.costs.reshape(WIDTHS * SHARES, -1)[table, entry], 0.0)
    bits = costs.reshape(n, h, w, c).transpose(0, 3, 1, 2).sum((1, 2, 3))
    return symbols_of(images[active], keys[active], starts[found], tables[found], n), bits


def _decode_patches(decoder: Decoder, points: Ints, model: Model) -> Ints:
    """Decode the symbols (`n p l`) of the patches."""
    prior, rows = model.prior.in_core(), points.repeat(model.patches)
    if prior is not None and decoder.streams:
        taken = prior.take(decoder.streams, model.grid.rows(rows))
        return taken.reshape(len(points), model.patches, model.latents)
    walk = LatentWalk(model.prior, model.grid, rows)
    found = []
    for group in walk.groups():
        symbols = np.stack([decoder.take_column(column) for column in group], 1)
        walk.take(group, symbols)
        found.append(symbols)
    return np.concatenate(found, 1).reshape(len(points), model.patches, model.latents)


def _decode_spatial(decoder: Decoder, points: Ints, features: Floats, model: Model) -> Ints:
    """Decode the symbols (`n c H W`) of the spatial latents."""
    assert model.spatial is not None
    prior, streams = model.spatial.in_core(), decoder.streams
    if prior is not None and streams:
        of = np.arange(len(points)) if len(streams) > 1 else np.zeros(len(points), np.int64)
        return prior.take(streams, of, model.spatial.places(features, points), model.spatial.mlp.latents)
    tables = model.spatial.tables.reshape(WIDTHS * SHARES, -1)
    starts = model.spatial.starts.reshape(WIDTHS * SHARES, -1)
    walk, positions = SpatialWalk(model.spatial, features, points), model.positions[0] * model.positions[1]
    for column in walk.columns():
        entries = decoder.take_tables(column.rows // positions, column.table, tables, starts)
        walk.take(column, column.base - REACH + entries)
    spatial: Ints = walk.symbols.reshape(-1, len(points), *model.positions).transpose(1, 0, 2, 3)
    return spatial
