# SPDX-License-Identifier: MIT
"""The codec's transforms in torch: analysis g_a (images to latents) and synthesis g_s (latents to images).

A patch's latents come from a dense bottleneck and say what is drawn; the spatial latents, a few for each position of
4x4 pixels, add what those leave out. The analysis computes latents in an order, and corrects later ones for the
rounding errors of earlier ones: first the latents of a patch, group by group, then the spatial latents, from the
features that the decoder computes from the patch latents.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from smalti.model.latent_prior import LATENT_MAX
from smalti.model.masked_mlp import ACTIVATION_MAX
from smalti.training.networks.integers import activate, embedding_biases, whole_weights

POSITION_PIXELS = 4
"""The side, in pixels, of the square that a position stands for."""

SPATIAL_GAIN = 16
"""The factor on the weights that give spatial latents, so that these exceed their quantisation steps from the start."""

Quantise = Callable[[Tensor, int], Tensor]
"""A function of latents `y` (`b k`) and the index of their first, that returns what the decoder will see of them."""


@dataclass(frozen=True)
class Size:
    """The sizes of the networks."""

    image: tuple[int, int, int]  # h w c
    patch: tuple[int, int]  # h w of a patch in pixels, multiples of 4; patches cover the image
    latents: int = 96  # of a patch
    spatial: int = 16  # latents of a position
    analysis: tuple[int, int, int] = (32, 64, 256)  # channels at half and quarter size, units of the hidden layer
    groups: tuple[int, int] = (8, 64)  # groups of latents that the analysis decides one after another, units of each
    synthesis: tuple[int, int, int] = (256, 48, 24)  # units of the hidden layer, channels at quarter and half size
    details: int = 32  # channels that the synthesis computes from the spatial latents, at quarter size
    group: int = 4  # latents of a patch that are decoded together
    prior: int = 8  # hidden units for each latent, in each of two layers
    spatial_prior: int = 6  # the same for spatial latents
    multipliers: tuple[float, float] = (2.0, 1600.0)  # Lagrange multipliers at both ends of quality

    @property
    def patches(self) -> tuple[int, int]:
        """Return the rows and columns of patches in an image."""
        return -(-self.image[0] // self.patch[0]), -(-self.image[1] // self.patch[1])

    @property
    def positions(self) -> tuple[int, int]:
        """Return the rows and columns of positions in an image."""
        (rows, columns), (h, w) = self.patches, self.patch
        return rows * h // POSITION_PIXELS, columns * w // POSITION_PIXELS


RECORDED = {"patch": "cell", "spatial": "local", "spatial_prior": "local_prior"}
"""The fields of `Size` that the provenance of a bundle calls by other names."""


def size_record(size: Size) -> dict[str, Any]:
    """Return a size as the provenance of a bundle records it."""
    return {RECORDED.get(name, name): value for name, value in asdict(size).items()}


def size_from(record: Mapping[str, Any]) -> Size:
    """Return the size that `size_record` recorded."""
    names = {recorded: name for name, recorded in RECORDED.items()}
    fields: dict[str, Any] = {names.get(k, k): tuple(v) if isinstance(v, list) else v for k, v in record.items()}
    return Size(**fields)


def size_for(image: tuple[int, int, int]) -> Size:
    """Return a sensible size for images of `h w c`: patches of about 28 pixels a side, more latents for more samples.

    >>> size_for((28, 28, 1)).patch, size_for((128, 96, 3)).patches
    ((28, 28), (4, 3))
    """
    h, w, c = image
    rows, columns = max(1, round(h / 30)), max(1, round(w / 30))
    patch = (4 * math.ceil(h / rows / 4), 4 * math.ceil(w / columns / 4))
    latents = 96 * math.sqrt(patch[0] * patch[1] / 784) * (1.5 if c == 3 else 1.0)
    return Size(image, patch, min(192, max(16, 8 * round(latents / 8))))


def channels_last(x: Tensor) -> Tensor:
    """Return the same tensor in the memory layout in which convolutions are fastest."""
    return x.contiguous(memory_format=torch.channels_last)


class Analysis(nn.Module):
    """The first part of g_a, from images to latents of patches; only the encoder runs it, in floats."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        (h, w), c = size.patch, size.image[2]
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
        self.embeddings = nn.ParameterList([embedding_biases(conv.out_channels) for conv in self.convs])  # type: ignore[arg-type]  # torch types attributes of modules as Tensor or Module
        features = half * (h // 4) * (w // 4)
        self.hidden, self.hidden_embeddings = nn.Linear(features, hidden), embedding_biases(hidden)
        self.out, self.out_embeddings = nn.Linear(hidden, size.latents), embedding_biases(size.latents)
        self.skip = nn.Linear(features, size.latents)
        groups, units = size.groups
        self.mend_hidden = nn.Linear(hidden, groups * units)
        self.mend_errors = nn.Linear(size.latents, groups * units, bias=False)
        self.mend_out = nn.Linear(groups * units, size.latents, bias=False)
        nn.init.zeros_(self.mend_out.weight)

    def features(self, x: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Return features of positions and of patches, for images `x` (`b c h w` in [0, 1]).

        The features of positions (`b k H W`), which include the pixels, are for `SpatialAnalysis`; those of patches
        (`b*patches k`) are for `latents`. embeddings: embedding weights (`b QUALITY_EMBEDDINGS`).
        """
        (rows, columns), (ch, cw) = self.size.patches, self.size.patch
        pixels = F.pad(x, (0, columns * cw - x.shape[3], 0, rows * ch - x.shape[2]), mode="replicate")
        x = channels_last(F.pixel_unshuffle(pixels, 2))
        for i, (conv, bias) in enumerate(zip(self.convs, self.embeddings, strict=True)):
            y = F.relu(conv(x) + (embeddings @ bias)[:, :, None, None])
            if i == 4:
                break
            x = x + y if i in (1, 3) else y
        b, c = y.shape[:2]
        patches = (
            y.view(b, c, rows, ch // 4, columns, cw // 4).permute(0, 2, 4, 1, 3, 5).reshape(b * rows * columns, -1)
        )
        return torch.cat([x, F.pixel_unshuffle(pixels, POSITION_PIXELS)], 1), patches

    def latents(self, patches: Tensor, embeddings: Tensor, quantise: Quantise) -> tuple[Tensor, Tensor]:
        """Return latents before and after `quantise` (`b*patches l`), computed group by group.

        patches: features of patches (`b*patches k`).
        """
        embeddings = embeddings.repeat_interleave(self.size.patches[0] * self.size.patches[1], 0)
        h = F.relu(self.hidden(patches) + embeddings @ self.hidden_embeddings)
        base = self.skip(patches) + self.out(h) + embeddings @ self.out_embeddings
        context = self.mend_hidden(h)
        groups, units = self.size.groups
        k = self.size.latents // groups
        ys, seens, errors = [], [], base.new_zeros(len(base), 0)
        for g in range(groups):
            mine, own = slice(g * k, (g + 1) * k), slice(g * units, (g + 1) * units)
            y = base[:, mine]
            if g:
                hidden = F.relu(context[:, own] + F.linear(errors, self.mend_errors.weight[own, : g * k]))
                y = y + F.linear(hidden, self.mend_out.weight[mine, own])
            seen = quantise(y, g * k)
            ys.append(y)
            seens.append(seen)
            errors = torch.cat([errors, seen - y], 1)
        return torch.cat(ys, 1), torch.cat(seens, 1)


class SpatialAnalysis(nn.Module):
    """The rest of g_a, from features to spatial latents, which add what the latents of patches leave out."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        _, width, _ = size.analysis
        inputs = width + POSITION_PIXELS**2 * size.image[2] + size.synthesis[1]
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(inputs, width, 1),
                nn.Conv2d(width, width, 3, padding=1),
                nn.Conv2d(width, size.spatial, 3, padding=1),
            ]
        )
        self.embeddings = nn.ParameterList([embedding_biases(conv.out_channels) for conv in self.convs])  # type: ignore[arg-type]  # torch types attributes of modules as Tensor or Module

    def forward(self, positions: Tensor, features: Tensor, embeddings: Tensor) -> Tensor:
        """Return spatial latents (`b spatial H W`) for features of the analysis and the synthesis (`b k H W` each)."""
        x = channels_last(torch.cat([positions, features], 1))
        for i, (conv, bias) in enumerate(zip(self.convs, self.embeddings, strict=True)):
            assert isinstance(conv, nn.Conv2d)
            w = SPATIAL_GAIN * conv.weight if i == 2 else conv.weight
            y = F.conv2d(x, w, conv.bias, padding=conv.padding) + (embeddings @ bias)[:, :, None, None]
            if i == 2:
                break
            x = F.relu(y) if i == 0 else x + F.relu(y)
        latents: Tensor = y
        return latents


class Synthesis(nn.Module):
    """The synthesis g_s: latents of patches to features of positions, then these and spatial latents to images."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        (h, w), c = size.patch, size.image[2]
        hidden, quarter, half = size.synthesis
        self.hidden, self.hidden_embeddings = nn.Linear(size.latents, hidden), embedding_biases(hidden)
        self.spread = nn.Linear(hidden, quarter * (h // 4) * (w // 4))
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(quarter, quarter, 3, padding=1),
                nn.Conv2d(size.spatial, size.details, 3, padding=1),
                nn.Conv2d(quarter + size.details, 4 * half, 3, padding=1),
                nn.Conv2d(half, half, 3, padding=1),
                nn.Conv2d(half, 4 * c, 3, padding=1),
            ]
        )
        self.embeddings = nn.ParameterList([embedding_biases(conv.out_channels) for conv in self.convs])  # type: ignore[arg-type]  # torch types attributes of modules as Tensor or Module
        nn.init.constant_(self.convs[4].bias, 0.1)  # type: ignore[arg-type]  # torch types attributes of modules as Tensor or Module

    def features(self, v: Tensor, embeddings: Tensor, *, exact: bool = False) -> Tensor:
        """Return features of positions (`b k H W`) for latents (`b*patches l`)."""
        (rows, columns), (ch, cw) = (
            self.size.patches,
            (self.size.patch[0] // POSITION_PIXELS, self.size.patch[1] // POSITION_PIXELS),
        )
        b = len(v) // (rows * columns)
        x = F.linear(v, _weights(self.hidden, LATENT_MAX, exact=exact), self.hidden.bias)
        x = activate(x + embeddings.repeat_interleave(rows * columns, 0) @ self.hidden_embeddings, exact=exact)
        x = activate(F.linear(x, _weights(self.spread, ACTIVATION_MAX, exact=exact), self.spread.bias), exact=exact)
        x = x.view(b, rows, columns, -1, ch, cw).permute(0, 3, 1, 4, 2, 5).reshape(b, -1, rows * ch, columns * cw)
        x = channels_last(x)
        return channels_last(activate(x + self._conv(0, x, embeddings, exact=exact), exact=exact))

    def pixels(self, features: Tensor, u: Tensor, embeddings: Tensor, *, exact: bool = False) -> Tensor:
        """Return pixels over 256 (`b c h w`), not clipped, for features and spatial latents (`b spatial H W`)."""
        details = activate(self._conv(1, u, embeddings, exact=exact), exact=exact)
        x = channels_last(torch.cat([features, details], 1))
        x = F.pixel_shuffle(self._conv(2, x, embeddings, exact=exact), 2)
        x = channels_last(activate(x, exact=exact))
        x = channels_last(activate(x + self._conv(3, x, embeddings, exact=exact), exact=exact))
        h, w, _ = self.size.image
        return F.pixel_shuffle(self._conv(4, x, embeddings, exact=exact), 2)[:, :, :h, :w]

    def _conv(self, i: int, x: Tensor, embeddings: Tensor, *, exact: bool) -> Tensor:
        conv = self.convs[i]
        weights = _weights(conv, LATENT_MAX if i == 1 else ACTIVATION_MAX, exact=exact)
        y: Tensor = F.conv2d(x, weights, conv.bias, padding=1)  # type: ignore[arg-type]  # torch types attributes of modules as Tensor or Module
        y = y + (embeddings @ self.embeddings[i])[:, :, None, None]
        return y


def _weights(module: nn.Module, most: int, *, exact: bool) -> Tensor:
    w = module.weight
    assert isinstance(w, Tensor)
    return whole_weights(w, most) if exact else w
