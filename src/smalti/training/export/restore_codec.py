# SPDX-License-Identifier: MIT
"""Restore a codec from a bundle for further training: the inverse of `export_codec.py`, but for rounding."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from smalti.errors import TrainingError
from smalti.model.latent_prior import COMPONENTS, LATENT_MAX
from smalti.model.masked_mlp import SUBSTEPS, MaskedMLP
from smalti.model.model import ANALYSIS, FEATURES, SPATIAL_ANALYSIS, SYNTHESIS, Model
from smalti.training.networks.codec_network import STEP_GAIN, Codec
from smalti.training.networks.integers import (
    ACTIVATION_ONE,
    LATENT_ONE,
    LOGIT_ONE,
    NARROWEST,
    PIXEL_ONE,
    WIDTHS_AN_OCTAVE,
)
from smalti.training.networks.priors import FloatMaskedMLP
from smalti.training.networks.transforms import SPATIAL_GAIN, Analysis, SpatialAnalysis, Synthesis, size_from

CEILING = math.log2(LATENT_MAX / LATENT_ONE) - 0.05
"""Log2 of the step from which on a step counts as the largest possible one."""
CROWDED, ROOM = 0.25, 2
"""If a share CROWDED of the spatial steps has reached CEILING, all are made ROOM octaves smaller."""
OCTAVES_AN_EMBEDDING = 0.7
"""Octaves between the steps of neighbouring quality embeddings, where nothing better is known."""

Arrays = Mapping[str, NDArray[Any]]


def restore(model: Model) -> Codec:
    """Return the network that `model` was exported from.

    Raises:
        TrainingError: the model is no codec, or of a release that wrote other bundles.
    """
    try:
        ends = float(model.multipliers[0]), float(model.multipliers[-1])
        known = dict(model.training["size"]) | {"multipliers": ends}
        size = size_from(known)
        codec = Codec(size)
        spatial = model.spatial
        assert spatial is not None
        with torch.no_grad():
            _analysis(codec.g_a, _constants(model.networks[ANALYSIS]))
            _float_convs(codec.spatial_g_a, _constants(model.networks[SPATIAL_ANALYSIS]))
            last = codec.spatial_g_a.convs[2].weight
            assert isinstance(last, Tensor)
            last /= SPATIAL_GAIN
            _synthesis(codec.g_s, {**_constants(model.networks[FEATURES]), **_constants(model.networks[SYNTHESIS])})
            kinds = np.repeat([LATENT_ONE, WIDTHS_AN_OCTAVE, LOGIT_ONE], [COMPONENTS, COMPONENTS, COMPONENTS - 1])
            offset = np.where(kinds == WIDTHS_AN_OCTAVE, NARROWEST * WIDTHS_AN_OCTAVE, 0)
            _prior(codec.prior, model.prior.mlp, kinds, offset, LATENT_ONE)
            _prior(codec.spatial_prior, spatial.mlp, kinds[[0, 3]], offset[[0, 3]], ACTIVATION_ONE)
            codec.log_steps.copy_(_tensor(np.log2(model.grid.steps[::SUBSTEPS] / LATENT_ONE)))
            codec.spatial_steps.copy_(_tensor(np.log2(spatial.steps[::SUBSTEPS] / LATENT_ONE) / STEP_GAIN))
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as exc:
        raise TrainingError(f"model {model.name} cannot be trained further: it is no codec of this release") from exc
    if float((codec.log_spatial_steps >= CEILING).float().mean()) > CROWDED:
        make_room(codec)
    return codec


@torch.no_grad()
def make_room(codec: Codec) -> None:
    """Make the spatial latents and their steps ROOM octaves smaller, so that steps can grow again; change nothing else.

    In training both tend to grow, until steps reach the largest latent, where they stay at every quality. Steps that
    had reached it are extrapolated from those that had not.
    """
    factor, c, features = 2.0**-ROOM, codec.size.spatial, codec.size.synthesis[1]
    last = codec.spatial_g_a.convs[2]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    for values in (last.weight, last.bias, codec.spatial_g_a.embeddings[2]):
        values *= factor
    details = codec.g_s.convs[1].weight
    assert isinstance(details, Tensor)
    details /= factor
    first, outputs = codec.spatial_prior.layers[0].weight, codec.spatial_prior.layers[2]
    assert isinstance(first, Tensor)
    assert isinstance(outputs, nn.Linear)
    first[:, features : features + 4 * c] /= factor
    first[:, features + 4 * c + 1 :] /= factor
    for centres in (
        outputs.weight.view(c, 2, -1),
        outputs.bias.view(c, 2),
        codec.spatial_prior.embeddings[2].view(-1, c, 2).mT,
    ):
        centres.select(1, 0).mul_(factor)
    outputs.bias.view(c, 2)[:, 1] -= ROOM
    steps = codec.log_spatial_steps - ROOM
    for a in range(len(steps) - 2, -1, -1):
        stuck = steps[a] >= CEILING - ROOM
        steps[a] = torch.where(stuck, (steps[a + 1] + OCTAVES_AN_EMBEDDING).clamp_max(CEILING), steps[a])
    codec.spatial_steps.copy_(steps / STEP_GAIN)


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _constants(network: bytes) -> Arrays:
    graph = onnx.load_model_from_string(network).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _float_convs(part: Analysis | SpatialAnalysis, arrays: Arrays) -> None:
    """Restore float convolutions; the biases of the quality embeddings already include the convolutions' own."""
    for i, (conv, embeddings) in enumerate(zip(part.convs, part.embeddings, strict=True)):
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        conv.weight.copy_(_tensor(arrays[f"convs.{i}.w"]))
        conv.bias.zero_()
        embeddings.copy_(_tensor(arrays[f"convs.{i}.q"] * SUBSTEPS))


def _analysis(g_a: Analysis, arrays: Arrays) -> None:
    _float_convs(g_a, arrays)
    for name in ("hidden", "out", "skip", "mend_hidden"):
        layer = getattr(g_a, name)
        layer.weight.copy_(_tensor((arrays[f"{name}.w"] * arrays.get(f"{name}.scale", 1.0)).T))
        layer.bias.zero_()
    g_a.mend_hidden.bias.copy_(_tensor(arrays["mend_hidden.b"]))
    g_a.hidden_embeddings.copy_(_tensor(arrays["hidden.q"] * SUBSTEPS))
    g_a.out_embeddings.copy_(_tensor(arrays["out.q"] * SUBSTEPS))
    groups, units = g_a.size.groups
    k = g_a.size.latents // groups
    for g in range(1, groups):
        own = slice(g * units, (g + 1) * units)
        g_a.mend_errors.weight[own, : g * k] = _tensor(arrays[f"mend_errors.{g}.w"].T)
        g_a.mend_out.weight[g * k : (g + 1) * k, own] = _tensor(arrays[f"mend_out.{g}.w"].T)


def _synthesis(g_s: Synthesis, arrays: Arrays) -> None:
    def layer(name: str, module: nn.Module, embeddings: Tensor | None, one_in: int, one_out: int) -> None:
        scale = arrays[f"{name}.scale"]
        assert isinstance(module.weight, Tensor)
        assert isinstance(module.bias, Tensor)
        module.weight.copy_(_tensor(arrays[f"{name}.w"] * scale * (one_in / one_out)))
        module.bias.copy_(_tensor((arrays[f"{name}.b"] - 0.5) / one_out))
        if embeddings is not None and f"{name}.q" in arrays:
            embeddings.copy_(_tensor(arrays[f"{name}.q"] * (SUBSTEPS / one_out)))

    one = ACTIVATION_ONE
    layer("hidden", g_s.hidden, g_s.hidden_embeddings, LATENT_ONE, one)
    layer("spread", g_s.spread, None, one, one)
    for i, (conv, embeddings) in enumerate(zip(g_s.convs, g_s.embeddings, strict=True)):
        layer(f"convs.{i}", conv, embeddings, LATENT_ONE if i == 1 else one, PIXEL_ONE if i == 4 else one)


def _prior(
    prior: FloatMaskedMLP, mlp: MaskedMLP, one: NDArray[np.int64], offset: NDArray[np.int64], one_in: int
) -> None:
    for i, (layer, embeddings) in enumerate(zip(prior.layers, prior.embeddings, strict=True)):
        w, b, q, s = (getattr(mlp, f"{part}{i + 1}").astype(np.float64) for part in "wbqs")
        scale = np.exp2(-s)
        ones = np.tile(one, mlp.latents) if i == 2 else np.full(len(b), ACTIVATION_ONE)
        add = np.tile(offset, mlp.latents) if i == 2 else np.zeros(len(b))
        assert isinstance(layer, nn.Linear)
        into = one_in if i == 0 else ACTIVATION_ONE
        layer.weight.copy_(_tensor(w * (scale * into / ones)[:, None]))
        layer.bias.copy_(_tensor((b * scale - 0.5 - add) / ones))
        embeddings.copy_(_tensor(q * scale * SUBSTEPS / ones))
