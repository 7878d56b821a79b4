# SPDX-License-Identifier: MIT
"""Fit a prior to given latents, for the autoencoder, which is trained without a rate."""

import numpy as np
import torch
from numpy.typing import NDArray

from smalti.model.masked_mlp import POINTS
from smalti.training.networks.integers import LATENT_ONE, NARROWEST, embedding_weights
from smalti.training.networks.priors import FloatLatentPrior, bits
from smalti.training.optimizer import soap

STEPS = 1500
BATCH = 256
HIDDEN = 8
LEARNING_RATE = 5e-3


def fit_prior(y: NDArray[np.float32], steps: NDArray[np.int64], seed: int = 0) -> FloatLatentPrior:
    """Return a prior for latents `y` (`n l`, in units of the latents), quantised with `steps` (`POINTS l`).

    It is fitted to rounded latents at all operating points; in the second half of its steps it computes with the values
    of the decoder's integers.
    """
    torch.manual_seed(seed)
    prior = FloatLatentPrior(y.shape[1], HIDDEN, group=1)
    with torch.no_grad():  # start from where the latents are
        bias = prior.layers[2].bias.view(y.shape[1], -1)  # type: ignore[operator]  # a module's attributes are Tensor or Module
        mean, spread = (torch.from_numpy(f(y, axis=0) / LATENT_ONE).float() for f in (np.mean, np.std))
        bias[:, :3] = mean[:, None] + spread[:, None] * torch.tensor([-1.0, 0.0, 1.0])
        bias[:, 3:6] = torch.log2(spread.clamp_min(2.0**-NARROWEST))[:, None]
    latents, widths = torch.from_numpy(y).float() / LATENT_ONE, torch.from_numpy(steps).float() / LATENT_ONE
    optimizer = soap(prior.parameters(), LEARNING_RATE, 512)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 100) * 0.5 * (1 + np.cos(np.pi * step / STEPS))
        rows, points = torch.randint(len(latents), (BATCH,)), torch.randint(POINTS, (BATCH,))
        width = widths[points]
        v = torch.floor(latents[rows] / width + 0.5) * width
        rate = bits(v, width / 2, prior(v, embedding_weights(points / (POINTS - 1)), exact=step > STEPS // 2))
        optimizer.zero_grad()
        torch.autograd.backward(rate.sum(1).mean())
        optimizer.step()
    return prior.eval()
