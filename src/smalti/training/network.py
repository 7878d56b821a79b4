# SPDX-License-Identifier: MIT
"""The codec's networks while training: analysis g_a, synthesis g_s, the prior, and the loss that ties them.

Everything on the decoder's side is built so that it can run on integers: ReLUs with a ceiling, activations in steps of
1/128, latents in steps of 1/256, weights in 8 bits with a power of two as the scale of each output. With `exact` the
forward pass computes with just those values (straight-through gradients, Bengio et al. 2013); `export.py` writes them.

One model serves all qualities: a quality is a point between ANCHORS learned sets of biases and quantisation steps
(gain units, Cui et al. 2021, with biases in the networks beside them).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from smalti.prior import ACTIVATION_MAX, ANCHORS, COMPONENTS, EXACT, LATENT_MAX

ACTIVATION_ONE = 128
LATENT_ONE = 256
WIDTHS_AN_OCTAVE = 8
NARROWEST = 8
"""A logistic is at least 2^-8 wide."""
LOGIT_ONE = 16
PIXEL_ONE = 256
"""The synthesis gives pixels as multiples of 1/256."""
WEIGHT_MAX = 127
SHIFTS = (1, 14)
"""Weights are multiples of 2^-k, k in this range."""
FLOOR = 2e-7
"""Probability that no symbol goes below in training; the integer prior's is 2^-24."""
LAGRANGIANS = (2.0, 800.0)
"""Bits that a squared error of 1 (summed over pixels in [0, 1]) is worth, at the lowest and the highest quality."""

Noise = Literal["noise", "mixed", "rounded"]


@dataclass(frozen=True)
class Size:
    """The widths of the networks; what a model costs and can do."""

    image: tuple[int, int, int]  # h w c
    cell: tuple[int, int]  # pixels of a cell, h w, multiples of 4; cells cover the image
    latents: int = 96  # a cell
    analysis: tuple[int, int, int] = (32, 64, 256)  # channels at half and quarter size, units of the hidden layer
    synthesis: tuple[int, int, int] = (256, 48, 24)  # units of the hidden layer, channels at quarter and half size
    prior: int = 8  # hidden units a latent, in each of two layers

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return -(-self.image[0] // self.cell[0]), -(-self.image[1] // self.cell[1])


def size_for(image: tuple[int, int, int]) -> Size:
    """A sensible size for images of `h w c`: cells of about 28 pixels a side, more latents where there is more to say.

    >>> size_for((28, 28, 1)).cell, size_for((128, 96, 3)).cells
    ((28, 28), (4, 3))
    """
    h, w, c = image
    rows, columns = max(1, round(h / 30)), max(1, round(w / 30))
    cell = (4 * math.ceil(h / rows / 4), 4 * math.ceil(w / columns / 4))
    latents = 96 * math.sqrt(cell[0] * cell[1] / 784) * (1.5 if c == 3 else 1.0)
    return Size(image, cell, min(192, max(16, 8 * round(latents / 8))))


def anchor_weights(quality: Tensor) -> Tensor:
    """Weights of the anchors (`b ANCHORS`) for qualities (`b`) in [0, 1]."""
    at = quality[:, None] * (ANCHORS - 1)
    return (1 - (at - torch.arange(ANCHORS, device=quality.device)).abs()).clamp_min(0)


def lagrangian(quality: Tensor) -> Tensor:
    """Bits that a squared error of 1 is worth, for qualities in [0, 1]; even steps on a log scale."""
    low, high = LAGRANGIANS
    return low * torch.pow(torch.tensor(high / low, device=quality.device), quality)


def round_through(x: Tensor) -> Tensor:
    """`x` rounded half up, with the gradient of `x`."""
    return x + (torch.floor(x + 0.5) - x).detach()


def weight_shift(w: Tensor, most: int, largest: int = WEIGHT_MAX) -> Tensor:
    """The k of each output: its weights (first axis: outputs) become multiples of 2^-k, at most `largest` of them.

    As fine as that allows and as keeps the sum below 9/10 of 2^24 for inputs of up to `most`; the rest is for biases.
    """
    flat = w.detach().flatten(1)
    by_size = torch.log2(largest / flat.abs().amax(1).clamp_min(1e-8))
    by_sum = torch.log2(0.9 * EXACT / most / flat.abs().sum(1).clamp_min(1e-8))
    return torch.floor(torch.minimum(by_size, by_sum)).clamp(*SHIFTS)


def whole_weights(w: Tensor, most: int) -> Tensor:
    """`w` in the integers that the decoder will have, times their scale, with the gradient of `w`."""
    scale = torch.exp2(weight_shift(w, most)).view(-1, *[1] * (w.dim() - 1))
    return w + (torch.round(w * scale).clamp(-WEIGHT_MAX, WEIGHT_MAX) / scale - w).detach()


def _activate(x: Tensor, *, exact: bool) -> Tensor:
    x = x.clamp(0, ACTIVATION_MAX / ACTIVATION_ONE)
    return round_through(x * ACTIVATION_ONE) / ACTIVATION_ONE if exact else x


def _anchors(n: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(ANCHORS, n))


class Analysis(nn.Module):
    """g_a: images to latents. Runs in floats, at the encoder alone."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        (h, w), c = size.cell, size.image[2]
        half, quarter, hidden = size.analysis
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(4 * c, half, 3, padding=1),
                nn.Conv2d(half, half, 3, padding=1),
                nn.Conv2d(half, quarter, 3, padding=1, stride=2),
                nn.Conv2d(quarter, quarter, 3, padding=1),
                nn.Conv2d(quarter, half, 1),
            ]
        )
        self.anchors = nn.ParameterList([_anchors(conv.out_channels) for conv in self.convs])  # type: ignore[arg-type]
        features = half * (h // 4) * (w // 4)
        self.hidden, self.hidden_anchors = nn.Linear(features, hidden), _anchors(hidden)
        self.out, self.out_anchors = nn.Linear(hidden, size.latents), _anchors(size.latents)
        self.skip = nn.Linear(features, size.latents)

    def forward(self, x: Tensor, anchors: Tensor) -> Tensor:
        """`x` (`b c h w` in [0, 1]) and anchor weights (`b ANCHORS`) to latents (`b*cells l`)."""
        (rows, columns), (ch, cw) = self.size.cells, self.size.cell
        x = F.pad(x, (0, columns * cw - x.shape[3], 0, rows * ch - x.shape[2]), mode="replicate")
        x = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        for i, (conv, bias) in enumerate(zip(self.convs, self.anchors, strict=True)):
            y = F.relu(conv(x) + (anchors @ bias)[:, :, None, None])
            x = x + y if i in (1, 3) else y
        b, c = x.shape[:2]
        x = x.view(b, c, rows, ch // 4, columns, cw // 4).permute(0, 2, 4, 1, 3, 5).reshape(b * rows * columns, -1)
        anchors = anchors.repeat_interleave(rows * columns, 0)
        y = F.relu(self.hidden(x) + anchors @ self.hidden_anchors)
        latents: Tensor = self.skip(x) + self.out(y) + anchors @ self.out_anchors
        return latents


class Synthesis(nn.Module):
    """g_s: latents to images."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        (h, w), c = size.cell, size.image[2]
        hidden, quarter, half = size.synthesis
        self.hidden, self.hidden_anchors = nn.Linear(size.latents, hidden), _anchors(hidden)
        self.spread = nn.Linear(hidden, quarter * (h // 4) * (w // 4))
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(quarter, quarter, 3, padding=1),
                nn.Conv2d(quarter, 4 * half, 3, padding=1),
                nn.Conv2d(half, half, 3, padding=1),
                nn.Conv2d(half, 4 * c, 3, padding=1),
            ]
        )
        self.anchors = nn.ParameterList([_anchors(conv.out_channels) for conv in self.convs])  # type: ignore[arg-type]
        nn.init.constant_(self.convs[3].bias, 0.1)  # type: ignore[arg-type]

    def forward(self, v: Tensor, anchors: Tensor, *, exact: bool = False) -> Tensor:
        """Latents (`b*cells l`) and anchor weights (`b ANCHORS`) to pixels over 256 (`b c h w`), not clipped."""

        def weights(module: nn.Module, most: int) -> Tensor:
            w = module.weight
            assert isinstance(w, Tensor)
            return whole_weights(w, most) if exact else w

        (rows, columns), (ch, cw) = self.size.cells, (self.size.cell[0] // 4, self.size.cell[1] // 4)
        b = len(v) // (rows * columns)
        x = F.linear(v, weights(self.hidden, LATENT_MAX), self.hidden.bias)
        x = _activate(x + anchors.repeat_interleave(rows * columns, 0) @ self.hidden_anchors, exact=exact)
        x = _activate(F.linear(x, weights(self.spread, ACTIVATION_MAX), self.spread.bias), exact=exact)
        x = x.view(b, rows, columns, -1, ch, cw).permute(0, 3, 1, 4, 2, 5).reshape(b, -1, rows * ch, columns * cw)
        x = x.contiguous(memory_format=torch.channels_last)
        for i, (conv, bias) in enumerate(zip(self.convs, self.anchors, strict=True)):
            y = F.conv2d(x, weights(conv, ACTIVATION_MAX), conv.bias, padding=1)  # type: ignore[arg-type]
            y = y + (anchors @ bias)[:, :, None, None]
            if i == 3:
                break
            y = F.pixel_shuffle(y, 2) if i == 1 else y + x
            x = _activate(y, exact=exact).contiguous(memory_format=torch.channels_last)
        h, w, _ = self.size.image
        return F.pixel_shuffle(y, 2)[:, :, :h, :w]


class Prior(nn.Module):
    """The masked MLP of `smalti.prior`, in floats: a mixture of logistics for each latent, given those before it."""

    masks: tuple[Tensor, Tensor, Tensor]

    def __init__(self, latents: int, hidden: int) -> None:
        super().__init__()
        outputs = 3 * COMPONENTS - 1
        units = latents * hidden
        self.latents = latents
        self.layers = nn.ModuleList(
            [nn.Linear(latents, units), nn.Linear(units, units), nn.Linear(units, latents * outputs)]
        )
        self.anchors = nn.ParameterList([_anchors(units), _anchors(units), _anchors(latents * outputs)])
        order = torch.arange(latents)
        unit, output = order.repeat_interleave(hidden), order.repeat_interleave(outputs)
        masks = (order < unit[:, None], unit <= unit[:, None], unit <= output[:, None])
        gains = (1.4, 1.4, 0.2)
        for i, (mask, gain, layer) in enumerate(zip(masks, gains, self.layers, strict=True)):
            self.register_buffer(f"mask{i}", mask.float(), persistent=False)
            fan_in = mask.sum(1, keepdim=True).clamp_min(1)
            layer.weight.data = torch.randn(mask.shape) * mask * gain / fan_in.sqrt()
        with torch.no_grad():
            bias = self.layers[2].bias.view(latents, outputs)  # type: ignore[operator]
            bias.zero_()
            bias[:, :COMPONENTS] = torch.linspace(-1, 1, COMPONENTS)

    def weights(self, i: int) -> Tensor:
        """Of layer `i`, with those that would look ahead at zero."""
        w: Tensor = self.layers[i].weight * getattr(self, f"mask{i}")
        return w

    def forward(self, v: Tensor, anchors: Tensor, *, exact: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (`b l`) to centres, log2 widths (`b l COMPONENTS`) and logits (`b l COMPONENTS-1`)."""

        def layer(i: int, x: Tensor, most: int) -> Tensor:
            w = whole_weights(self.weights(i), most) if exact else self.weights(i)
            y: Tensor = F.linear(x, w, self.layers[i].bias) + anchors @ self.anchors[i]  # type: ignore[arg-type]
            return y

        a1 = _activate(layer(0, v, LATENT_MAX), exact=exact)
        a2 = _activate(layer(1, a1, ACTIVATION_MAX) + a1, exact=exact)
        o = layer(2, a2, ACTIVATION_MAX).view(len(v), self.latents, -1)
        centres, widths, logits = torch.split(o, [COMPONENTS, COMPONENTS, COMPONENTS - 1], dim=-1)
        if exact:
            centres = round_through(centres * LATENT_ONE) / LATENT_ONE
            widths = round_through(widths * WIDTHS_AN_OCTAVE) / WIDTHS_AN_OCTAVE
            logits = round_through(logits * LOGIT_ONE) / LOGIT_ONE
        return centres, widths, logits


def bits(v: Tensor, half: Tensor, mixture: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """What latents `v` (`b l`), in bins of `v` plus or minus `half`, cost each under the mixtures: `b l`."""
    centres, widths, logits = mixture
    inverse = torch.exp2(-widths.clamp(-NARROWEST, 6))
    up, low = (v + half)[..., None] - centres, (v - half)[..., None] - centres
    sign = torch.where(up + low > 0, -1.0, 1.0)  # on the left of the centre, where sigmoids do not saturate
    p = (torch.sigmoid(sign * up * inverse) - torch.sigmoid(sign * low * inverse)).abs()
    share, left = torch.sigmoid(logits), torch.ones_like(logits[..., 0])
    total = torch.zeros_like(left)
    for k in range(COMPONENTS - 1):
        total = total + left * share[..., k] * p[..., k]
        left = left * (1 - share[..., k])
    return -torch.log2((total + left * p[..., -1]).clamp_min(FLOOR))


class Codec(nn.Module):
    """All networks together, and the quantisation steps."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.g_a, self.g_s = Analysis(size), Synthesis(size)
        self.prior = Prior(size.latents, size.prior)
        self.log_steps = nn.Parameter(torch.linspace(0, -4, ANCHORS)[:, None].repeat(1, size.latents))

    def steps(self, anchors: Tensor, *, exact: bool = False) -> Tensor:
        """Quantisation steps (`b l`), in units of the latents."""
        steps = torch.exp2(anchors @ self.log_steps)
        return round_through(steps * LATENT_ONE).clamp_min(1) / LATENT_ONE if exact else steps

    def forward(self, x: Tensor, quality: Tensor, noise: Noise, *, exact: bool) -> tuple[Tensor, Tensor]:
        """Rate (bits) and distortion (squared error, summed) of each image of `x` (`b c h w` in [0, 1]).

        noise: "noise" adds uniform noise in the place of rounding (Balle et al. 2017, section 3.1); "mixed" does so
        for the prior and rounds for the synthesis (Minnen and Singh 2020, section 3.2); "rounded" is what a decoder
        sees, and gives g_a no gradient.
        """
        image_anchors = anchor_weights(quality)
        cells = self.size.cells[0] * self.size.cells[1]
        anchors = image_anchors.repeat_interleave(cells, 0)
        y, steps = self.g_a(x, image_anchors), self.steps(anchors, exact=exact)
        if noise == "rounded":
            steps = steps.detach()
            v = seen = torch.floor(y / steps + 0.5).detach() * steps
        else:
            v = seen = y + (torch.rand_like(y) - 0.5) * steps
            if noise == "mixed":
                seen = round_through(y / steps.detach()) * steps
        if exact:
            limit = LATENT_MAX / LATENT_ONE
            v, seen = v.clamp(-limit, limit), seen.clamp(-limit, limit)
        rate = bits(v, steps / 2, self.prior(v, anchors, exact=exact)).sum(1).view(len(x), -1).sum(1)
        x_hat = self.g_s(seen, image_anchors, exact=exact) * (PIXEL_ONE / 255)
        if not self.training:
            x_hat = torch.floor(x_hat.clamp(0, 1) * 255 + 0.5) / 255
        elif noise != "noise":
            inside = x_hat.clamp(0, 1)
            x_hat = inside + 0.05 * (x_hat - inside)  # beyond black and white nothing is lost, but stay near
        return rate, (x_hat - x).square().flatten(1).sum(1)
