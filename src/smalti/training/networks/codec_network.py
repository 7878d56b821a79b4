# SPDX-License-Identifier: MIT
"""The codec in torch: transforms and priors together, giving rate and distortion for the training loss."""

from typing import Literal

import torch
from torch import Tensor, nn

from smalti.model.latent_prior import LATENT_MAX
from smalti.model.masked_mlp import QUALITY_EMBEDDINGS
from smalti.model.spatial_prior import LEAST_STEP
from smalti.training.networks.integers import LATENT_ONE, PIXEL_ONE, embedding_weights, round_through
from smalti.training.networks.priors import FloatLatentPrior, FloatSpatialPrior, bits
from smalti.training.networks.transforms import Analysis, Size, SpatialAnalysis, Synthesis

STEP_GAIN = 8
"""The factor on the learned logarithms of the spatial steps: they change much, and the optimiser's steps are small."""

Noise = Literal["noise", "mixed", "rounded"]


def lagrangian(quality: Tensor, ends: tuple[float, float]) -> Tensor:
    """Return the Lagrange multipliers of qualities in [0, 1].

    A multiplier is the number of bits that a squared error of 1 is worth, summed over pixels in [0, 1]. It is
    interpolated on a log scale between those at the two ends.
    """
    low, high = ends
    return low * torch.pow(torch.tensor(high / low, device=quality.device), quality)


class Codec(nn.Module):
    """All networks of the codec, and the quantisation steps."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.g_a, self.spatial_g_a, self.g_s = Analysis(size), SpatialAnalysis(size), Synthesis(size)
        self.prior = FloatLatentPrior(size.latents, size.prior, size.group)
        self.spatial_prior = FloatSpatialPrior(size.spatial, size.spatial_prior, size.synthesis[1])
        self.log_steps = nn.Parameter(torch.linspace(0, -4, QUALITY_EMBEDDINGS)[:, None].repeat(1, size.latents))
        octaves = torch.linspace(0.5, -3.5, QUALITY_EMBEDDINGS)[:, None].repeat(1, size.spatial)
        self.spatial_steps = nn.Parameter(octaves / STEP_GAIN)

    @property
    def log_spatial_steps(self) -> Tensor:
        """Return log2 of the spatial latents' quantisation steps (`QUALITY_EMBEDDINGS spatial`)."""
        return STEP_GAIN * self.spatial_steps

    def learn(self, *, patches: bool, analysis: bool) -> None:
        """Let all parameters learn, except the excluded ones.

        patches: whether the parts that handle the latents of patches learn.
        analysis: whether the analysis learns.
        """
        for p in self.parameters():
            p.requires_grad_()
        if not patches:
            for part in (self.g_a, self.prior, self.g_s.hidden, self.g_s.spread, self.g_s.convs[0]):
                part.requires_grad_(requires_grad=False)
            for p in (self.log_steps, self.g_s.hidden_embeddings, self.g_s.embeddings[0]):
                p.requires_grad = False
        if not analysis:
            self.g_a.requires_grad_(requires_grad=False)
            self.spatial_g_a.requires_grad_(requires_grad=False)

    def forward(
        self, x: Tensor, quality: Tensor, noise: Noise, *, exact: bool, spatial: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Return the rate (bits) and the distortion (summed squared error) of each image of `x` (`b c h w` in [0, 1]).

        Args:
            x: images.
            quality: of each image (`b`), in [0, 1].
            noise: "noise" adds uniform noise in the place of rounding (Balle et al. 2017, section 3.1); "mixed" does
                so for the prior and rounds for the synthesis (Minnen and Singh 2020, section 3.2); "rounded" is what a
                decoder sees, and gives g_a no gradient.
            exact: whether to compute with the values of the decoder's integers.
            spatial: the weight of a bit of the spatial latents; with 0 there are none.
        """
        image_embeddings = embedding_weights(quality)
        patches = self.size.patches[0] * self.size.patches[1]
        embeddings = image_embeddings.repeat_interleave(patches, 0)
        steps = _steps(self.log_steps, embeddings, exact=exact)
        spatial_steps = _steps(self.log_spatial_steps, image_embeddings, exact=exact).clamp_min(LEAST_STEP / LATENT_ONE)
        spatial_steps = spatial_steps[:, :, None, None]
        if noise == "rounded":
            steps, spatial_steps = steps.detach(), spatial_steps.detach()

        def quantise(y: Tensor, first: int) -> Tensor:
            return _quantise(y, steps[:, first : first + y.shape[1]], noise, exact=exact)

        positions, of_patches = self.g_a.features(x, image_embeddings)
        y, v_hat = self.g_a.latents(of_patches, image_embeddings, quantise)
        features = self.g_s.features(v_hat, image_embeddings, exact=exact)
        v = _noisy(y, v_hat, steps, noise, exact=exact)
        rate = bits(v, steps / 2, self.prior(v, embeddings, exact=exact)).sum(1).view(len(x), -1).sum(1)
        if spatial:
            y_spatial = self.spatial_g_a(positions, features, image_embeddings)
            u_hat = _quantise(y_spatial, spatial_steps, noise, exact=exact)
            u = _noisy(y_spatial, u_hat, spatial_steps, noise, exact=exact)
            mixture = self.spatial_prior(u, features, image_embeddings, exact=exact)
            flat, half = (t.permute(0, 2, 3, 1).flatten(0, 2) for t in (u, spatial_steps.expand_as(u) / 2))
            rate = rate + spatial * bits(flat, half, mixture).view(len(x), -1).sum(1)
        else:
            u_hat = features.new_zeros(len(x), self.size.spatial, *self.size.positions)
        x_hat = self.g_s.pixels(features, u_hat, image_embeddings, exact=exact) * (PIXEL_ONE / 255)
        if not self.training:
            x_hat = torch.floor(x_hat.clamp(0, 1) * 255 + 0.5) / 255
        elif noise != "noise":
            inside = x_hat.clamp(0, 1)
            x_hat = inside + 0.05 * (x_hat - inside)  # beyond black and white nothing is lost, but stay near
        return rate, (x_hat - x).square().flatten(1).sum(1)


def _steps(logs: Tensor, embeddings: Tensor, *, exact: bool) -> Tensor:
    """Return the quantisation steps (`b l`), in units of the latents."""
    # a larger step would quantise even a clipped latent to 0
    steps = torch.exp2(embeddings @ logs).clamp_max(LATENT_MAX / LATENT_ONE)
    return round_through(steps * LATENT_ONE).clamp_min(1) / LATENT_ONE if exact else steps


def _quantise(y: Tensor, steps: Tensor, noise: Noise, *, exact: bool) -> Tensor:
    """Return what the synthesis sees of latents `y`."""
    if noise == "noise":
        y = y + (torch.rand_like(y) - 0.5) * steps
    else:
        whole = torch.floor(y / steps + 0.5) if noise == "rounded" else round_through(y / steps.detach())
        y = (whole.detach() if noise == "rounded" else whole) * steps
    return _within(y, exact=exact)


def _noisy(y: Tensor, y_hat: Tensor, steps: Tensor, noise: Noise, *, exact: bool) -> Tensor:
    """Return what the prior sees of latents `y`, of which the synthesis sees `y_hat`."""
    return _within(y + (torch.rand_like(y) - 0.5) * steps, exact=exact) if noise == "mixed" else y_hat


def _within(v: Tensor, *, exact: bool) -> Tensor:
    limit = LATENT_MAX / LATENT_ONE
    return v.clamp(-limit, limit) if exact else v
