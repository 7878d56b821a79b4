# SPDX-License-Identifier: MIT
"""The 7x7 autoencoder: analysis g_a (28x28x1 to a code of 7x7x1) and synthesis g_s (back).

The layers are given once, as data (`analysis_layers`, `synthesis_layers`); torch modules are built from them here, and
ONNX graphs in `export/export_autoencoder.py`. Every convolution keeps height and width, has stride 1 and a bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["relu", "tanh"]
Wide = tuple[int, int, int]
"""The channels of the three outermost convolutions, from the outside in; the synthesis mirrors them."""

FULL: Wide = (256, 128, 64)
"""The shipped network: 394,921 + 396,009 parameters."""
NARROW: Wide = (32, 32, 64)
"""A stand-in for the early epochs, an eleventh of the multiply-adds; `grow` turns it into the full network."""


@dataclass(frozen=True)
class Conv:
    """A convolution `k x k` of stride 1 that keeps height and width, and its activation."""

    k: int
    c_in: int
    c_out: int
    activation: Activation = "relu"


@dataclass(frozen=True)
class Pool:
    """Max-pooling over 2x2: halves height and width."""


@dataclass(frozen=True)
class Upsample:
    """Nearest-neighbour upsampling: doubles height and width."""


Layer = Conv | Pool | Upsample


def analysis_layers(wide: Wide = FULL) -> tuple[Layer, ...]:
    """Return the layers of g_a: `b 1 h w` to `b 1 h/4 w/4`; the code is never negative (ReLU)."""
    a, b, c = wide
    return (
        *(Conv(3, 1, a), Conv(3, a, b), Conv(3, b, c), Pool()),
        *(Conv(3, c, 32), Conv(3, 32, 16), Conv(1, 16, 8), Pool()),
        *(Conv(3, 8, 4), Conv(1, 4, 2), Conv(1, 2, 1)),
    )


def synthesis_layers(wide: Wide = FULL) -> tuple[Layer, ...]:
    """Return the layers of g_s: `b 1 h/4 w/4` to `b 1 h w` in (-1, 1)."""
    a, b, c = wide
    return (
        *(Conv(1, 1, 2), Conv(3, 2, 4), Conv(3, 4, 8), Upsample()),
        *(Conv(3, 8, 16), Conv(3, 16, 32), Conv(3, 32, c), Upsample()),
        *(Conv(3, c, b), Conv(3, b, a), Conv(3, a, 1, "tanh")),
    )


class Transform(nn.Module):
    """A chain of layers, initialised Glorot-uniform with zero biases (Glorot and Bengio 2010, section 4.2.1)."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        convs = [nn.Conv2d(x.c_in, x.c_out, x.k, padding="same") for x in layers if isinstance(x, Conv)]
        for conv in convs:
            nn.init.xavier_uniform_(conv.weight)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        self.convs = nn.ModuleList(convs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output (`b c' h' w'`) for `x` (`b c h w`)."""
        for h in self.steps(x):
            x = h
        return x

    def steps(self, x: Tensor) -> list[Tensor]:
        """Return the output of every layer, in order."""
        outputs = []
        convs = iter(self.convs)
        for layer in self.layers:
            match layer:
                case Conv(activation="relu"):
                    x = torch.relu(next(convs)(x))
                case Conv():
                    x = torch.tanh(next(convs)(x))
                case Pool():
                    x = nn.functional.max_pool2d(x, 2)
                case Upsample():
                    x = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
            outputs.append(x)
        return outputs


class Autoencoder(nn.Module):
    """g_a and g_s together."""

    def __init__(self, wide: Wide = FULL) -> None:
        super().__init__()
        self.wide = wide
        self.g_a = Transform(analysis_layers(wide))
        self.g_s = Transform(synthesis_layers(wide))

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction of `x` (`b 1 h w` in [0, 1], sides multiples of 4) from its float code."""
        x_hat: Tensor = self.g_s(self.g_a(x))
        return x_hat


def grow(narrow: Autoencoder, wide: Wide = FULL) -> Autoencoder:
    """Return a wider autoencoder that computes the same function.

    The channels of `narrow` come first and ignore the new ones (zero weights); the new channels start from the usual
    random values, so that training can put them to use. The idea is Net2Net's (Chen, Goodfellow and Shlens 2016,
    section 2.2), with zero outgoing weights in the place of split copies.

    Raises:
        ValueError: a layer of `wide` has fewer channels than that of `narrow`.
    """
    grown = Autoencoder(wide)
    with torch.no_grad():
        for (name, old), new in zip(narrow.named_parameters(), grown.parameters(), strict=True):
            if any(o > n for o, n in zip(old.shape, new.shape, strict=True)):
                raise ValueError(f"{name} would shrink from {tuple(old.shape)} to {tuple(new.shape)}")
            new[: old.shape[0]] = 0
            new[tuple(slice(n) for n in old.shape)] = old
    return grown
