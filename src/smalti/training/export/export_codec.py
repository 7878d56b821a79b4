# SPDX-License-Identifier: MIT
"""Export a trained codec as a model bundle.

The steps are: turn weights into integers, write ONNX graphs and prove their bounds, find the ranges of the symbols on
training images, compare the engines, measure the operating points on held-out images, and write the bundle.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smalti.codec.latent_codec import encode_latents
from smalti.codec.rdo import EFFORTS, LatentCode, nearest, total_cost
from smalti.entropy.frequencies import TOTAL
from smalti.entropy.logistic_mixture import (
    CDF_ONE,
    CDF_RANGE,
    CDF_STEPS,
    INVERSE_BITS,
    SCALES,
    WEIGHT_ONE,
    WEIGHT_RANGE,
    Logistics,
)
from smalti.errors import TrainingError
from smalti.model.bundle import bundle_bytes
from smalti.model.latent_prior import COMPONENTS, LATENT_MAX, Grid, LatentPrior
from smalti.model.masked_mlp import ACTIVATION_MAX, POINTS, SUBSTEPS, MaskedMLP, embedding_weights
from smalti.model.model import ANALYSIS, FEATURES, POST_FILTER, SPATIAL_ANALYSIS, SYNTHESIS, Model
from smalti.model.operating_points import OperatingPoint
from smalti.model.proof.networks import check_networks
from smalti.model.spatial_prior import LEAST_STEP, REACH, SHARES, WIDTHS, SpatialPrior
from smalti.rate.metrics import mse, psnr
from smalti.training.export.onnx_codec import analysis_onnx, features_onnx, spatial_analysis_onnx, synthesis_onnx
from smalti.training.export.onnx_graph import to_numpy, whole_layer
from smalti.training.export.reference_engine import run_numpy, run_torch
from smalti.training.networks.codec_network import Codec, lagrangian
from smalti.training.networks.integers import (
    ACTIVATION_ONE,
    LATENT_ONE,
    LOGIT_ONE,
    NARROWEST,
    WIDTHS_AN_OCTAVE,
    weight_shift,
)
from smalti.training.networks.priors import FloatLatentPrior, FloatMaskedMLP, FloatSpatialPrior
from smalti.training.networks.transforms import size_record
from smalti.types import Progress

RANGE_MAX = 2000
"""The largest absolute value of a symbol."""
RANGE_IMAGES = 4000
"""The ranges of the symbols are found on so many images."""
MEASURED_SAMPLES, LEAST_MEASURED = 200_000, 16
"""The model is measured on images of so many samples together, and on no fewer images."""
MEASURED_EFFORT = 5
"""The effort with which the model is measured; it is the default of packing."""
PAYING_IMAGES = 500
"""Spatial latents stay active only if they lower the cost of so many images."""
EVERY = range(0, POINTS, SUBSTEPS // 2)
"""The operating points at which ranges are found and the model is measured."""


def _integer_mlp(prior: FloatMaskedMLP, one: NDArray[np.int64], offset: NDArray[np.int64], one_in: int) -> MaskedMLP:
    """Return a masked MLP in integers.

    one, offset: for each output of a latent, the integer that stands for 1.0, and what is added.
    one_in: the integer that stands for 1.0 in an input.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for i, name in enumerate("123"):
        w, b, q = prior.weights(i), prior.layers[i].bias, prior.embeddings[i]
        assert isinstance(b, Tensor)
        most = prior.most if i == 0 else ACTIVATION_MAX
        k = weight_shift(w, most).long().numpy()
        last = i == 2
        whole = whole_layer(
            to_numpy(w),
            to_numpy(b),
            to_numpy(q),
            k,
            one_in=one_in if i == 0 else ACTIVATION_ONE,
            one_out=np.tile(one, prior.latents) if last else np.array(ACTIVATION_ONE),
            offset=np.tile(offset, prior.latents) if last else np.array(0),
        )
        arrays |= {f"{part}{name}": getattr(whole, part) for part in "wbqs"}
    return MaskedMLP(**arrays, latents=prior.latents, largest=prior.most, group=prior.group)


def integer_prior(prior: FloatLatentPrior) -> LatentPrior:
    """Return the prior in integers, with its tables."""
    kinds = np.repeat([0, 1, 2], [COMPONENTS, COMPONENTS, COMPONENTS - 1])  # centres, widths, logits of a latent
    one = np.array([LATENT_ONE, WIDTHS_AN_OCTAVE, LOGIT_ONE])[kinds]
    offset = np.array([0, NARROWEST * WIDTHS_AN_OCTAVE, 0])[kinds]
    return LatentPrior(_integer_mlp(prior, one, offset, LATENT_ONE), logistics())


def logistics() -> Logistics:
    """Return the tables from which all logistic mixtures are computed."""
    z = np.arange(-CDF_RANGE * CDF_STEPS, CDF_RANGE * CDF_STEPS + 1) / CDF_STEPS
    logits = np.arange(-WEIGHT_RANGE, WEIGHT_RANGE + 1) / LOGIT_ONE
    widths = np.exp2(np.arange(SCALES) / WIDTHS_AN_OCTAVE)
    return Logistics(
        np.rint(CDF_ONE / (1 + np.exp(-z))).astype(np.int32),
        np.rint(WEIGHT_ONE / (1 + np.exp(-logits))).astype(np.int32),
        np.rint((CDF_STEPS << INVERSE_BITS) / (2 * widths)).astype(np.int32),
    )


def integer_spatial_prior(prior: FloatSpatialPrior, log_steps: NDArray[np.float32]) -> SpatialPrior:
    """Return the prior of the spatial latents in integers, with its tables, all latents active.

    log_steps: log2 of the steps at the quality embeddings (`QUALITY_EMBEDDINGS c`).
    """
    one, offset = np.array([LATENT_ONE, WIDTHS_AN_OCTAVE]), np.array([0, NARROWEST * WIDTHS_AN_OCTAVE])
    steps = step_array(log_steps).clip(LEAST_STEP)
    octaves = np.rint(WIDTHS_AN_OCTAVE * np.log2(steps)).astype(np.int64)
    mlp = _integer_mlp(prior, one, offset, ACTIVATION_ONE)
    return SpatialPrior(mlp, logistic_tables(), steps, octaves, np.ones(steps.shape, bool))


def logistic_tables() -> NDArray[np.int32]:
    """Return the frequencies of the symbols around a logistic's centre: `WIDTHS SHARES 2*REACH+1`."""
    width = np.exp2((np.arange(WIDTHS) - 20) / 4)[:, None, None]
    centre = (np.arange(SHARES) - SHARES // 2)[:, None] / SHARES
    z = (np.arange(-REACH, REACH) + 0.5 - centre) / width
    below = np.exp(-np.logaddexp(0, -z))
    ends = np.zeros((WIDTHS, SHARES, 1))
    p = np.diff(np.concatenate([ends, below, ends + 1], 2))
    tables = 1 + np.floor(p * (TOTAL - p.shape[2])).astype(np.int64)
    largest = tables.argmax(2)[..., None]
    rest = TOTAL - tables.sum(2, keepdims=True)
    np.put_along_axis(tables, largest, np.take_along_axis(tables, largest, 2) + rest, 2)
    result: NDArray[np.int32] = tables.astype(np.int32)
    return result


def step_array(log_steps: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the quantisation steps (`POINTS l`), from log2 of those of the embeddings (`QUALITY_EMBEDDINGS l`)."""
    logs = embedding_weights(np.arange(POINTS)) @ log_steps / SUBSTEPS
    steps: NDArray[np.int64] = np.rint(np.exp2(logs) * LATENT_ONE).clip(1, LATENT_MAX).astype(np.int64)
    return steps


def export_bundle(
    model: Codec,
    name: str,
    pixels: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    training: Mapping[str, Any],
    progress: Progress | None = None,
    base: Model | None = None,
    share: float = 1.0,
) -> bytes:
    """Return the bundle of `model`.

    Args:
        model: a trained codec.
        name: the name of the model.
        pixels: images it was trained on (`n h w` or `n h w c`), on which the ranges of the symbols are found.
        held_out: images it was not trained on, on which it is measured.
        training: the provenance that the bundle records.
        progress: is called with the number of steps just done, and of all.
        base: a model whose pixel prior and post-filter, if it has them, are copied into the bundle.
        share: how many of the images are taken for that, as a share, so that exporting does not dwarf a short training.

    Raises:
        TrainingError: a network is not exact, or engines differ.
    """
    codec = model.eval().to("cpu")
    size = codec.size
    networks = {
        FEATURES: features_onnx(codec.g_s),
        SYNTHESIS: synthesis_onnx(codec.g_s),
        ANALYSIS: analysis_onnx(codec.g_a),
        SPATIAL_ANALYSIS: spatial_analysis_onnx(codec.spatial_g_a, size),
    }
    draft = draft_model(
        name,
        size.image,
        size.patches[0] * size.patches[1],
        lagrangian(torch.arange(POINTS) / (POINTS - 1), size.multipliers).double().numpy(),
        networks,
        integer_prior(codec.prior),
        step_array(to_numpy(codec.log_steps)),
        training,
    )
    spatial = integer_spatial_prior(codec.spatial_prior, to_numpy(codec.log_spatial_steps))
    draft = replace(
        draft, spatial=spatial, positions=size.positions, training=dict(training) | {"size": size_record(size)}
    )
    if base is not None and base.pixels is not None:
        kept = {name: base.networks[name] for name in (POST_FILTER,) if name in base.networks}
        draft = replace(
            draft,
            pixels=base.pixels,
            networks={**draft.networks, **kept},
            measured=tuple(point for point in base.measured if point.pixels),
            training={**draft.training, "pixels": base.training["pixels"]},
        )
    return assemble(draft, pixels[: some_images(RANGE_IMAGES, size.image, share)], held_out, progress, share)


def some_images(most: int, shape: tuple[int, ...], share: float) -> int:
    """Return how many images of `shape` are measured where `most` of 28x28 samples would be, but for a share.

    >>> some_images(4000, (28, 28), 1), some_images(4000, (32, 32, 3), 0.5)
    (4000, 510)
    """
    return max(LEAST_MEASURED, round(share * most * min(1.0, 784 / math.prod(shape))))


def draft_model(
    name: str,
    image_shape: tuple[int, int, int],
    patches: int,
    multipliers: NDArray[np.float64],
    networks: Mapping[str, bytes],
    prior: LatentPrior,
    steps: NDArray[np.int64],
    training: Mapping[str, Any],
) -> Model:
    """Return a model with the widest ranges of symbols, and without measured operating points."""
    most = np.full_like(steps, RANGE_MAX)
    grid = Grid(steps, -most, most)
    return Model(name, bytes(8), image_shape, patches, grid, prior, multipliers, (), training, networks)


def assemble(
    draft: Model,
    pixels: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    progress: Progress | None = None,
    share: float = 1.0,
) -> bytes:
    """Find the ranges of the symbols on `pixels`, check the engines, measure on `held_out`, and write the bundle.

    share: see `export_bundle`.
    """
    paying = some_images(PAYING_IMAGES, pixels[0].shape, share)
    lows, highs, used = [], [], []
    for point in EVERY:
        code, _ = nearest(pixels, np.full(len(pixels), point), draft)
        lowest, highest = code.symbols.min((0, 1)), code.symbols.max((0, 1))
        coded = (
            lowest < highest
        )  # a latent that is always the same then has one symbol, which costs no bits and no time
        lows.append(lowest - coded)
        highs.append(highest + coded)
        used.append((code.spatial != 0).any((0, 2, 3)) & _spatial_pays(pixels[:paying], code, draft))
        if progress:
            progress(1, 2 * len(EVERY))
    low, high = np.zeros_like(draft.grid.steps), np.zeros_like(draft.grid.steps)
    for i in range(draft.latents):
        low[:, i] = np.floor(np.interp(range(POINTS), EVERY, [row[i] for row in lows])).clip(-RANGE_MAX, 0)
        high[:, i] = np.ceil(np.interp(range(POINTS), EVERY, [row[i] for row in highs])).clip(0, RANGE_MAX)
    model = replace(draft, grid=Grid(draft.grid.steps, low, high))
    if model.spatial is not None:
        after = np.minimum(np.arange(POINTS) // EVERY.step + 1, len(EVERY) - 1)
        active = np.stack(used)[np.arange(POINTS) // EVERY.step] | np.stack(used)[after]
        model = replace(model, spatial=replace(model.spatial, active=model.spatial.active & active))
    check_engines(model)
    some = held_out[: max(LEAST_MEASURED, round(share * MEASURED_SAMPLES / held_out[0].size))]
    measured = []
    for point in EVERY:
        measured.append(_measure(model, some, point))
        if progress:
            progress(1, 2 * len(EVERY))
    return proven_bundle(replace(model, measured=(*measured, *model.measured)))


def proven_bundle(model: Model) -> bytes:
    """Return the bundle of a model, after the checks with which `load_model` could refuse it.

    Raises:
        TrainingError: a network is not exact, or too large.
    """
    try:
        check_networks(model)
    except ValueError as exc:
        raise TrainingError(f"{exc}; train with other sizes") from exc
    return bundle_bytes(model)


def _spatial_pays(x: NDArray[np.uint8], code: LatentCode, model: Model) -> bool:
    """Say whether spatial latents lower the rate-distortion cost of images `x`, the first that `code` codes."""
    some = code.pick(np.arange(len(x)))
    if model.spatial is None:
        return False
    quiet = replace(model, spatial=replace(model.spatial, active=np.zeros_like(model.spatial.active)))
    without = LatentCode(some.points, some.symbols, np.zeros_like(some.spatial))
    return bool(total_cost(x, some, model).sum() < total_cost(x, without, quiet).sum())


def _measure(model: Model, x: NDArray[np.uint8], point: int) -> OperatingPoint:
    """Return an operating point with the payload and PSNR of images, measured with rate-distortion optimisation."""
    block = encode_latents(x, np.full(len(x), point), model, EFFORTS[MEASURED_EFFORT])
    error, size = mse(x, block.x_hat), float(block.rate.mean())
    return OperatingPoint(pixels=False, setting=point, bytes=round(size, 3), psnr=round(psnr(max(error, 1e-9)), 3))


def check_engines(model: Model, rows: int = 8) -> None:
    """Compare the engine that runs networks with int64 and torch, on random latents that include extreme ones.

    Raises:
        TrainingError: the results differ.
    """
    rng = np.random.default_rng(0)
    points = rng.integers(0, POINTS, rows)
    embeddings = embedding_weights(points)
    v = _extremes(rng, rows * model.patches, model.latents)
    u = _extremes(rng, rows, int(np.prod(model.spatial_shape))).reshape(rows, *model.spatial_shape)
    features = model.features(v, points)
    inputs: dict[str, NDArray[Any]] = {"v": v, "anchors": embeddings}
    if model.spatial is not None:
        hold_engines(model.networks[FEATURES], inputs, features)
        inputs = {"features": features, "u": u, "anchors": embeddings}
    pixels = model.synthesise(features, u, points)
    hold_engines(
        model.networks[SYNTHESIS], inputs, pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    )


def _extremes(rng: np.random.Generator, n: int, k: int) -> NDArray[np.int64]:
    spread = rng.choice([1, 30, 300, LATENT_MAX], (n, 1))
    v: NDArray[np.int64] = (rng.normal(size=(n, k)) * spread).round().clip(-LATENT_MAX, LATENT_MAX).astype(np.int64)
    return v


def hold_engines(network: bytes, inputs: Mapping[str, NDArray[Any]], got: NDArray[Any]) -> None:
    """Compare the result of the engine that runs networks, `got`, with those of int64 and torch.

    Raises:
        TrainingError: the results differ.
    """
    expected = run_numpy(network, inputs)
    if (got != expected).any() or (run_torch(network, inputs) != expected).any():
        raise TrainingError(
            "the engines of networks, torch and plain integers give different results; report this, please"
        )
