# SPDX-License-Identifier: MIT
"""Layers that train in floats and decode in integers: scales, and straight-through rounding.

Everything on the decoder's side is built so that it can run on integers: ReLUs with a ceiling, activations in steps of
1/128, latents in steps of 1/256, weights in 8 bits with a power of two as the scale of each output. With `exact` the
forward pass computes with exactly those values (straight-through gradients, Bengio et al. 2013); `export/` writes them.

One model serves all qualities: a quality is a point between QUALITY_EMBEDDINGS learned sets of biases and quantisation
steps (gain units, Cui et al. 2021, with biases in the networks beside them).
"""

import torch
from torch import Tensor, nn

from smalti.model.masked_mlp import ACTIVATION_MAX, EXACT, QUALITY_EMBEDDINGS

ACTIVATION_ONE = 128
LATENT_ONE = 256
WIDTHS_AN_OCTAVE = 8
NARROWEST = 8
"""The width of a logistic is at least 2^-8."""
LOGIT_ONE = 16
PIXEL_ONE = 256
"""The synthesis gives pixels as multiples of 1/256."""
WEIGHT_MAX = 127
SHIFTS = (1, 14)
"""Weights are multiples of 2^-k, k in this range."""


def embedding_weights(quality: Tensor) -> Tensor:
    """Return the weights of the quality embeddings (`b QUALITY_EMBEDDINGS`) for qualities (`b`) in [0, 1]."""
    at = quality[:, None] * (QUALITY_EMBEDDINGS - 1)
    return (1 - (at - torch.arange(QUALITY_EMBEDDINGS, device=quality.device)).abs()).clamp_min(0)


def round_through(x: Tensor) -> Tensor:
    """Return `x` rounded half up, with the gradient of `x`."""
    return x + (torch.floor(x + 0.5) - x).detach()


def weight_shift(w: Tensor, most: int, largest: int = WEIGHT_MAX) -> Tensor:
    """Return the k of each output (first axis of `w`): its weights become multiples of 2^-k.

    It is the largest k for which no integer weight exceeds `largest`, and for which sums over inputs of up to `most`
    stay below 9/10 of 2^24; the remaining tenth is for biases.
    """
    flat = w.detach().flatten(1)
    by_size = torch.log2(largest / flat.abs().amax(1).clamp_min(1e-8))
    by_sum = torch.log2(0.9 * EXACT / most / flat.abs().sum(1).clamp_min(1e-8))
    return torch.floor(torch.minimum(by_size, by_sum)).clamp(*SHIFTS)


def whole_weights(w: Tensor, most: int, largest: int = WEIGHT_MAX) -> Tensor:
    """Return `w` rounded to the decoder's integers times their scale, with the gradient of `w`."""
    scale = torch.exp2(weight_shift(w, most, largest)).view(-1, *[1] * (w.dim() - 1))
    return w + (torch.round(w * scale).clamp(-largest, largest) / scale - w).detach()


def activate(x: Tensor, *, exact: bool) -> Tensor:
    """Return the ReLU of `x` with a ceiling; if `exact`, rounded to the decoder's activations."""
    x = x.clamp(0, ACTIVATION_MAX / ACTIVATION_ONE)
    return round_through(x * ACTIVATION_ONE) / ACTIVATION_ONE if exact else x


def embedding_biases(n: int) -> nn.Parameter:
    """Return biases of `n` channels for each quality embedding, 0 at first."""
    return nn.Parameter(torch.zeros(QUALITY_EMBEDDINGS, n))
