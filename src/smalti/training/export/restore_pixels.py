# SPDX-License-Identifier: MIT
"""Restore the networks that code by pixels from a bundle, for further training."""

from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from smalti.errors import TrainingError
from smalti.model.model import POST_FILTER, Model
from smalti.model.pixel_prior import MAX_ERROR, PixelPrior
from smalti.training.export.export_pixels import output_units
from smalti.training.networks.integers import ACTIVATION_ONE
from smalti.training.networks.pixel_network import UNIT_ONE, PixelCodec, PixelNet, pixel_size_from
from smalti.training.networks.post_filter import SAMPLE_ONE, PostFilter, error_embeddings

Array = NDArray[Any]


@torch.no_grad()
def restore_pixels(model: Model) -> PixelCodec:
    """Return the networks from which the pixel prior and the post-filter of `model` were exported.

    Raises:
        TrainingError: the model does not code by pixels, or is of a release that wrote other bundles.
    """
    try:
        codec = PixelCodec(pixel_size_from(model.training["pixels"]["size"]))
        assert model.pixels is not None
        _net(codec.net, model.pixels)
        _post_filter(codec.post_filter, model.networks[POST_FILTER])
    except (AssertionError, KeyError, TypeError, ValueError, RuntimeError) as exc:
        raise TrainingError(f"model {model.name} cannot be trained further: it does not code by pixels") from exc
    return codec


def _net(net: PixelNet, prior: PixelPrior) -> None:
    one_out, offset = output_units(net.size.components)
    for i, layer in enumerate(net.layers):
        _layer(layer, prior, i, SAMPLE_ONE if i == 0 else UNIT_ONE, np.array(UNIT_ONE), np.array(0))
    last = len(net.layers)
    _layer(net.out, prior, last, UNIT_ONE, one_out, offset)
    gains = net.gains
    net.out.weight.div_(gains[:, None])
    net.out.bias.div_(gains)
    one = np.exp2(prior.shifts[0].astype(np.float64)) * UNIT_ONE
    net.rows.copy_(_tensor(prior.rows / one))
    net.columns.copy_(_tensor(prior.columns / one))
    net.errors.copy_(_of_embeddings(prior.errors / one))


def _layer(layer: nn.Module, prior: PixelPrior, i: int, one_in: int, one_out: Array, offset: Array) -> None:
    shift = prior.shifts[i].astype(np.float64)
    assert isinstance(layer, nn.Linear)
    layer.weight.copy_(_tensor(prior.weights[i] * (np.exp2(-shift) * one_in / one_out)[:, None]))
    bias = prior.biases[i] * np.exp2(-shift) - offset - 0.5
    layer.bias.copy_(_tensor(bias / one_out))


def _post_filter(network: PostFilter, data: bytes) -> None:
    arrays = {t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(data).graph.initializer}
    last = len(network.convs) - 1
    for i, (conv, embeddings) in enumerate(zip(network.convs, network.embeddings, strict=True)):
        one_in, one_out = SAMPLE_ONE if i == 0 else ACTIVATION_ONE, SAMPLE_ONE if i == last else ACTIVATION_ONE
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        conv.weight.copy_(_tensor(arrays[f"convs.{i}.w"] * arrays[f"convs.{i}.scale"] * (one_in / one_out)))
        conv.bias.copy_(_tensor((arrays[f"convs.{i}.b"] - 0.5) / one_out))
        embeddings.copy_(_of_embeddings(arrays[f"convs.{i}.errors"] / one_out))


def _of_embeddings(table: Array) -> Tensor:
    """Return the biases of the embeddings, by least squares from those of all largest errors."""
    weights = error_embeddings(torch.arange(MAX_ERROR + 1)).double().numpy()
    return _tensor(np.linalg.lstsq(weights, table.astype(np.float64), rcond=None)[0])


def _tensor(values: Array) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
