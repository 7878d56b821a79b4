# SPDX-License-Identifier: MIT
"""The priors in torch: masked MLPs that say how likely each latent is, given what is decoded before it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from smalti.model.latent_prior import COMPONENTS, LATENT_MAX, OUTPUTS
from smalti.model.masked_mlp import ACTIVATION_MAX
from smalti.training.networks.integers import (
    ACTIVATION_ONE,
    LATENT_ONE,
    LOGIT_ONE,
    NARROWEST,
    WIDTHS_AN_OCTAVE,
    activate,
    embedding_biases,
    round_through,
    whole_weights,
)

FLOOR = 2e-7
"""The least probability of a symbol in training; for the integer priors it is 2^-24."""


class FloatMaskedMLP(nn.Module):
    """A masked MLP of three layers (MADE, Germain et al. 2015), whose units belong to latents in an order.

    Latents come in groups. A unit sees the latents of earlier groups, the units of its own and of earlier groups, and
    the context. The inputs are `context` numbers, then the latents.
    """

    def __init__(self, latents: int, hidden: int, outputs: int, context: int, most: int, group: int) -> None:
        super().__init__()
        units = latents * hidden
        self.latents, self.most, self.group = latents, most, group
        self.layers = nn.ModuleList(
            [nn.Linear(context + latents, units), nn.Linear(units, units), nn.Linear(units, latents * outputs)]
        )
        self.embeddings = nn.ParameterList(
            [embedding_biases(units), embedding_biases(units), embedding_biases(latents * outputs)]
        )
        order = torch.arange(latents) // group
        unit, output = order.repeat_interleave(hidden), order.repeat_interleave(outputs)
        first = torch.cat([torch.ones(units, context, dtype=torch.bool), order < unit[:, None]], 1)
        masks = (first, unit <= unit[:, None], unit <= output[:, None])
        gains = (1.4, 1.4, 0.2)
        for i, (mask, gain, layer) in enumerate(zip(masks, gains, self.layers, strict=True)):
            self.register_buffer(f"mask{i}", mask.float(), persistent=False)
            fan_in = mask.sum(1, keepdim=True).clamp_min(1)
            layer.weight.data = torch.randn(mask.shape) * mask * gain / fan_in.sqrt()
        nn.init.zeros_(self.layers[2].bias)  # type: ignore[arg-type]  # torch types attributes of modules as Tensor or Module

    def weights(self, i: int) -> Tensor:
        """Return the weights of layer `i`, with the masked ones at 0."""
        w: Tensor = self.layers[i].weight * getattr(self, f"mask{i}")
        return w

    def outputs(self, x: Tensor, embeddings: Tensor, *, exact: bool) -> Tensor:
        """Return outputs (`n l outputs`) for inputs (`n context+l`) and embedding weights (`n QUALITY_EMBEDDINGS`)."""

        def layer(i: int, x: Tensor, most: int) -> Tensor:
            w = whole_weights(self.weights(i), most) if exact else self.weights(i)
            y: Tensor = F.linear(x, w, self.layers[i].bias) + embeddings @ self.embeddings[i]  # type: ignore[arg-type]  # torch types attributes of modules as Tensor or Module
            return y

        a1 = activate(layer(0, x, self.most), exact=exact)
        a2 = activate(layer(1, a1, ACTIVATION_MAX) + a1, exact=exact)
        return layer(2, a2, ACTIVATION_MAX).view(len(x), self.latents, -1)


class FloatLatentPrior(FloatMaskedMLP):
    """The prior of a patch's latents, a logistic mixture for each: `smalti.model.latent_prior` in floats."""

    def __init__(self, latents: int, hidden: int, group: int) -> None:
        super().__init__(latents, hidden, OUTPUTS, 0, LATENT_MAX, group)
        with torch.no_grad():
            bias = self.layers[2].bias.view(latents, -1)  # type: ignore[operator]  # torch types attributes of modules as Tensor or Module
            bias[:, :COMPONENTS] = torch.linspace(-1, 1, COMPONENTS)

    def forward(self, v: Tensor, embeddings: Tensor, *, exact: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return centres, log2 widths (`b l COMPONENTS`) and logits (`b l COMPONENTS-1`) for latents (`b l`)."""
        o = self.outputs(v, embeddings, exact=exact)
        centres, widths, logits = torch.split(o, [COMPONENTS, COMPONENTS, COMPONENTS - 1], dim=-1)
        if exact:
            logits = round_through(logits * LOGIT_ONE) / LOGIT_ONE
        return _fixed(centres, LATENT_ONE, exact), _fixed(widths, WIDTHS_AN_OCTAVE, exact), logits


class FloatSpatialPrior(FloatMaskedMLP):
    """The prior of a position's spatial latents, a logistic for each: `smalti.model.spatial_prior` in floats.

    It sees the synthesis' features of the position and the latents before it there. At every other position, as on a
    checkerboard (He et al. 2021), it also sees all latents of the four neighbours.
    """

    def __init__(self, spatial: int, hidden: int, features: int) -> None:
        super().__init__(spatial, hidden, 2, features + 4 * spatial + 1, ACTIVATION_MAX, group=1)
        with torch.no_grad():
            self.layers[2].bias.view(spatial, 2)[:, 1] = 1.0  # type: ignore[operator]  # torch types attributes of modules as Tensor or Module

    def forward(
        self, u: Tensor, features: Tensor, embeddings: Tensor, *, exact: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return centres and log2 widths (`b*H*W spatial 1`), and no logits, for spatial latents (`b spatial H W`).

        features: of the synthesis (`b k H W`).
        """
        b, _, h, w = u.shape
        u = u.clamp(-ACTIVATION_MAX / ACTIVATION_ONE, ACTIVATION_MAX / ACTIVATION_ONE)
        if exact:
            u = u + (torch.floor(u * ACTIVATION_ONE) / ACTIVATION_ONE - u).detach()
        odd = ((torch.arange(h, device=u.device)[:, None] + torch.arange(w, device=u.device)) % 2).to(u.dtype)
        p = F.pad(u, (1, 1, 1, 1))
        around = torch.cat([p[:, :, :-2, 1:-1], p[:, :, 2:, 1:-1], p[:, :, 1:-1, :-2], p[:, :, 1:-1, 2:]], 1) * odd
        x = torch.cat([features, around, odd.expand(b, 1, h, w), u], 1).permute(0, 2, 3, 1).reshape(b * h * w, -1)
        o = self.outputs(x, embeddings.repeat_interleave(h * w, 0), exact=exact)
        centres, widths = _fixed(o[..., :1], LATENT_ONE, exact), _fixed(o[..., 1:], WIDTHS_AN_OCTAVE, exact)
        return centres, widths, o[..., :0]


def _fixed(x: Tensor, one: int, exact: bool) -> Tensor:  # noqa: FBT001 - as in the callers' signatures
    return round_through(x * one) / one if exact else x


def bits(v: Tensor, half: Tensor, mixture: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the bits (`b l`) that latents `v` (`b l`) cost under mixtures, in bins from `v - half` to `v + half`."""
    return interval_bits(v - half, v + half, mixture)


def interval_bits(low: Tensor, up: Tensor, mixture: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the bits that the interval from `low` to `up` (`...`) costs under mixtures (`... k`)."""
    centres, widths, logits = mixture
    inverse = torch.exp2(-widths.clamp(-NARROWEST, 6))
    left = torch.ones_like(low)
    up, low = up[..., None] - centres, low[..., None] - centres
    sign = torch.where(up + low > 0, -1.0, 1.0)  # on the left of the centre, where sigmoids do not saturate
    p = (torch.sigmoid(sign * up * inverse) - torch.sigmoid(sign * low * inverse)).abs()
    share, total = torch.sigmoid(logits), torch.zeros_like(left)
    for k in range(logits.shape[-1]):
        total = total + left * share[..., k] * p[..., k]
        left = left * (1 - share[..., k])
    return -torch.log2((total + left * p[..., -1]).clamp_min(FLOOR))
