# SPDX-License-Identifier: MIT
"""The post-filter in torch: from decoded levels to likelier pixels, after near-lossless quantisation.

It is a few small convolutions on blocks of 2x2 pixels, and takes the largest error as an input. In the decoder it runs
in integers. It does not run where a largest error is promised, for its result may exceed it.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from smalti.model.masked_mlp import ACTIVATION_MAX, QUALITY_EMBEDDINGS
from smalti.model.pixel_prior import SAMPLE_MAX
from smalti.training.networks.integers import activate, embedding_biases, round_through, whole_weights

SAMPLE_ONE = 256
"""The integer that stands for 1.0 in a sample."""


def error_embeddings(errors: Tensor) -> Tensor:
    """Return embedding weights (`b QUALITY_EMBEDDINGS`) for largest errors (`b`).

    The embeddings stand at steps between levels of 1, 2, 4, ... 256; errors in between are interpolated.
    """
    at = torch.log2(2.0 * errors + 1)
    return (1 - (at[:, None] - torch.arange(QUALITY_EMBEDDINGS, device=at.device)).abs()).clamp_min(0)


class PostFilter(nn.Module):
    """The network from decoded samples to likelier samples."""

    def __init__(self, channels: int, width: int, layers: int) -> None:
        super().__init__()
        ends = 4 * channels
        sizes = [ends, *[width] * layers, ends]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(sizes))
        self.embeddings = nn.ParameterList(embedding_biases(b) for b in sizes[1:])
        nn.init.zeros_(self.convs[-1].weight)  # type: ignore[arg-type]  # torch types attributes of modules as Tensor or Module
        nn.init.zeros_(self.convs[-1].bias)  # type: ignore[arg-type]  # torch types attributes of modules as Tensor or Module

    def forward(self, samples: Tensor, errors: Tensor, *, exact: bool = False) -> Tensor:
        """Return filtered samples (`b c h w`) of decoded ones (0 to 255) with largest errors (`b`).

        They are rounded only if `exact`.
        """
        embeddings = error_embeddings(errors)
        h, w = samples.shape[2:]
        x = before = F.pixel_unshuffle(F.pad(samples, (0, w % 2, 0, h % 2), mode="replicate"), 2) / SAMPLE_ONE
        last = len(self.convs) - 1
        for i, (conv, biases) in enumerate(zip(self.convs, self.embeddings, strict=True)):
            assert isinstance(conv.weight, Tensor)
            weights = whole_weights(conv.weight, SAMPLE_MAX if i == 0 else ACTIVATION_MAX) if exact else conv.weight
            y = F.conv2d(x, weights, conv.bias, padding=1) + (embeddings @ biases)[:, :, None, None]  # type: ignore[arg-type]  # torch types attributes of modules as Tensor or Module
            if i < last:
                x = activate(y if i == 0 else x + y, exact=exact)
        if exact:
            y = round_through(y * SAMPLE_ONE) / SAMPLE_ONE
        y = y * ((2 * errors + 1) / SAMPLE_ONE).view(-1, 1, 1, 1)
        if exact:
            y = round_through(y * SAMPLE_ONE) / SAMPLE_ONE
        y = F.pixel_shuffle(before + y, 2)[:, :, :h, :w] * SAMPLE_ONE
        return y if self.training else y.clamp(0, SAMPLE_MAX)
