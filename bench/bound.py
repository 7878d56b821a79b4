# SPDX-License-Identifier: MIT
"""Compute upper bounds of the rate-distortion function R(D) of a set of images.

The Gaussian bound: among all sources with one covariance, the Gaussian needs most bits for a squared error, and its
R(D) is known: reverse water-filling over the eigenvalues (Cover and Thomas 2006, theorem 10.3.3 and after).

The variational bound: any encoder q(y | x), prior p(y) and decoder show that R(E[d]) <= E[KL(q || p)] (Balle et al.
2017, section 3; Yang and Mandt 2022). The codec's own networks serve as a family of beta-VAEs, one for all multipliers.
Logistic posteriors of learned width replace rounding, so that a latent without information can be distributed exactly
as the prior expects, and then costs nothing. The density of the autoregressive mixture, no narrower than such noise,
replaces probabilities, and floats replace integers. The networks are trained further for this, and evaluated on other
images.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from smalti.training.networks.codec_network import Codec, lagrangian
from smalti.training.networks.integers import NARROWEST, embedding_weights
from smalti.training.optimizer import soap
from smalti.training.tasks.codec_task import TYPICAL_RISE
from smalti.types import Pixels

LEARNING_RATE = 1e-3
BATCH = 192
ROUNDING = 0.5 * math.log2(3 / math.pi**2 / 12)
"""Log2 of the width of a logistic that has the variance of rounding to steps of 1."""
QUALITIES = tuple(float(q) for q in np.linspace(0, 1, 17))


def gaussian_rate(x: Pixels, psnr: float) -> float:
    """Return the bits of an image at `psnr` dB, for a Gaussian source with the covariance of `x` (`n h w`)."""
    pixels = x.reshape(len(x), -1) / 255
    variances = np.linalg.eigvalsh(np.cov(pixels, rowvar=False)).clip(1e-12)
    target, low, high = pixels.shape[1] * 10 ** (-psnr / 10), 0.0, float(variances.max())
    for _ in range(100):  # the water level
        level = (low + high) / 2
        low, high = (level, high) if np.minimum(variances, level).sum() < target else (low, level)
    return float(0.5 * np.log2(np.maximum(variances / high, 1)).sum())


class Bound(nn.Module):
    """The codec with logistic posteriors: its rate is a Kullback-Leibler divergence."""

    def __init__(self, codec: Codec, *, spatial: bool) -> None:
        """Build the bound of a codec; spatial: whether it codes spatial latents."""
        super().__init__()
        self.codec, self.spatial, size = codec, spatial, codec.size
        features = size.analysis[0] * (size.patch[0] // 4) * (size.patch[1] // 4)
        self.widths = nn.Linear(features, size.latents)
        self.spatial_widths = nn.Conv2d(size.analysis[1] + size.synthesis[1] + 16 * size.image[2], size.spatial, 1)
        for head in (self.widths, self.spatial_widths):
            nn.init.zeros_(head.weight)
            assert head.bias is not None
            nn.init.zeros_(head.bias)

    def forward(self, x: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Return rate (bits) and squared error of each image of `x` (`b c h w` in [0, 1]), for one posterior sample."""
        codec, embeddings = self.codec, embedding_weights(quality)
        of_patches = embeddings.repeat_interleave(codec.size.patches[0] * codec.size.patches[1], 0)
        positions, patches = codec.g_a.features(x, embeddings)
        least = of_patches @ codec.log_steps + ROUNDING
        log_width = self.widths(patches) + least

        def sample(y: Tensor, first: int) -> Tensor:
            return y + _logistic(y) * torch.exp2(log_width[:, first : first + y.shape[1]])

        y, v = codec.g_a.latents(patches, embeddings, sample)
        rate = _divergence(v, y, log_width, least, codec.prior(v, of_patches)).sum(1).view(len(x), -1).sum(1)
        features = codec.g_s.features(v, embeddings)
        if not self.spatial:
            u = features.new_zeros(len(x), codec.size.spatial, *codec.size.positions)
            return rate, self._error(codec.g_s.pixels(features, u, embeddings), x)
        y = codec.spatial_g_a(positions, features, embeddings)
        least = ((embeddings @ codec.log_spatial_steps) + ROUNDING)[..., None, None].expand_as(y)
        log_width = self.spatial_widths(torch.cat([positions, features], 1)) + least
        u = y + _logistic(y) * torch.exp2(log_width)
        spatial = codec.spatial_prior(u, features, embeddings)
        u_rows, y, log_width, least = (t.permute(0, 2, 3, 1).flatten(0, 2) for t in (u, y, log_width, least))
        rate = rate + _divergence(u_rows, y, log_width, least, spatial).view(len(x), -1).sum(1)
        return rate, self._error(codec.g_s.pixels(features, u, embeddings), x)

    def _error(self, pixels: Tensor, x: Tensor) -> Tensor:
        x_hat = pixels * (256 / 255)
        inside = x_hat.clamp(0, 1)
        if self.training:
            inside = inside + 0.05 * (x_hat - inside)
        return (inside - x).square().flatten(1).sum(1)


def _logistic(like: Tensor) -> Tensor:
    """Return samples of the logistic of width 1, in the shape of `like`."""
    return torch.logit(torch.rand_like(like), eps=1e-6)


def _log_density(z: Tensor, log_width: Tensor) -> Tensor:
    """Return log2 of the logistic's density, `z` widths from its centre."""
    return -(F.softplus(z) + F.softplus(-z)) / math.log(2) - log_width


def _divergence(
    v: Tensor, mean: Tensor, log_width: Tensor, least: Tensor, mixture: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """Return log2 q(v) - log2 p(v) of each latent (`b l`), a sample of the divergence; least: of p's log2 widths."""
    log_q = _log_density((v - mean) * torch.exp2(-log_width), log_width)
    centres, widths, logits = mixture
    widths = torch.logaddexp2(widths.clamp(-NARROWEST, 6), least[..., None])
    log_p = _log_density((v[..., None] - centres) * torch.exp2(-widths), widths)
    log_weights = torch.zeros_like(log_p)
    if logits.shape[-1]:
        share, rest = F.logsigmoid(logits), F.logsigmoid(-logits).cumsum(-1)
        log_weights = torch.cat([share[..., :1], share[..., 1:] + rest[..., :-1], rest[..., -1:]], -1)
    return log_q - torch.logsumexp(log_p * math.log(2) + log_weights, -1) / math.log(2)


def fit(bound: Bound, x: Pixels, steps: int, progress: Callable[[int], None], seed: int = 0) -> None:
    """Train the bound on images (`n h w`) for `steps` steps."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    optimizer = soap(bound.parameters(), LEARNING_RATE, 512)
    bound.train()
    for step in range(steps):
        rate = LEARNING_RATE * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = torch.from_numpy(x[rng.integers(0, len(x), BATCH), None]).float() / 255
        quality = torch.rand(BATCH)
        bits, error = bound(batch, quality)
        worth = lagrangian(quality, bound.codec.size.multipliers)
        loss = ((bits + worth * error) / worth**TYPICAL_RISE).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        progress(1)


@torch.no_grad()
def curve(bound: Bound, x: Pixels, seed: int = 1) -> NDArray[np.float64]:
    """Return PSNR (dB) and mean bits of images (`n h w`) at each of QUALITIES: `k 2`, by rising PSNR."""
    torch.manual_seed(seed)
    bound.eval()
    points = []
    for quality in QUALITIES:
        sums = np.zeros(2)
        for part in torch.split(torch.from_numpy(x[:, None].copy()), 500):
            bits, error = bound(part.float() / 255, torch.full((len(part),), quality))
            sums += [float(error.double().sum()), float(bits.double().sum())]
        error, bits = sums / len(x)
        points.append((-10 * math.log10(error / x[0].size), bits))
    return np.array(sorted(points))
