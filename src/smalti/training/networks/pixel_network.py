# SPDX-License-Identifier: MIT
"""The pixel prior in torch: how likely each sample is, given the causal window above it and to its left.

It is a residual MLP over the window, with biases for the row, the column and the largest error: the same network as
`smalti.model.pixel_prior`, in floats. Much of an image may be empty background; where a whole window is empty, the
output depends on the position alone, so only few of these samples are trained on.

Each image of a batch has a largest error of its own. It decides the levels of its samples, also of those in windows.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from smalti.model.masked_mlp import ACTIVATION_MAX, QUALITY_EMBEDDINGS
from smalti.model.pixel_prior import COLUMNS, LEVEL_UNITS, MAX_ERROR, ROWS, SAMPLE_MAX
from smalti.training.networks.integers import LATENT_ONE, LOGIT_ONE, WIDTHS_AN_OCTAVE, round_through, whole_weights
from smalti.training.networks.post_filter import SAMPLE_ONE, PostFilter, error_embeddings
from smalti.training.networks.priors import interval_bits

CENTRE_GAIN, WIDTH_GAIN = 16, 4
"""The factors on the outputs for centres and widths of the logistics, which have a wide range."""
WEIGHT_MAX = (1 << 15) - 1
"""The largest integer weight; the bound on sums allows 8 bits on average, but a few weights are far larger."""
UNIT_ONE = 512
"""The integer that stands for 1.0 in a hidden unit; coarser units would cost one per cent more bytes."""
MOST_SAMPLES = 1 << 15
"""The most samples that the network runs on at once; in training, samples beyond this are left out."""
LEVEL = LEVEL_UNITS / LATENT_ONE
"""The step from one sample value to the next, in the units of the logistics."""
BEYOND = 1e4
"""A value beyond the reach of any logistic, in the same units."""


@dataclass(frozen=True)
class PixelSize:
    """The sizes of the causal window, the network and the post-filter."""

    channels: int = 1
    above: int = 8  # rows of the window above the sample
    reach: int = 8  # pixels to either side, in the rows above
    left: int = 10  # pixels to the left, in the row of the sample
    width: int = 128  # units of each hidden layer
    layers: int = 3  # hidden layers
    components: int = 5  # logistics of a sample
    post_filter: tuple[int, int] = (32, 2)  # channels and inner layers of the post-filter

    @property
    def window(self) -> int:
        """Return the number of samples in the window."""
        return self.above * (2 * self.reach * self.channels + 1) + self.left * self.channels


def pixel_size_record(size: PixelSize) -> dict[str, Any]:
    """Return a size as the provenance of a bundle records it, where "smooth" is the post-filter."""
    return {"smooth" if name == "post_filter" else name: value for name, value in asdict(size).items()}


def pixel_size_from(record: Mapping[str, Any]) -> PixelSize:
    """Return the size that `pixel_size_record` recorded."""
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
    return PixelSize(**{"post_filter" if k == "smooth" else k: v for k, v in fields.items()})


class PixelNet(nn.Module):
    """The network from causal windows to logistic mixtures."""

    def __init__(self, size: PixelSize) -> None:
        super().__init__()
        self.size = size
        inputs, width = size.window, size.width
        self.layers = nn.ModuleList(
            [nn.Linear(inputs, width), *(nn.Linear(width, width) for _ in range(size.layers - 1))]
        )
        self.out = nn.Linear(width, 3 * size.components - 1)
        self.rows = nn.Parameter(torch.zeros(ROWS, width))
        self.columns = nn.Parameter(torch.zeros(COLUMNS * size.channels, width))
        self.errors = nn.Parameter(torch.zeros(QUALITY_EMBEDDINGS, width))
        with torch.no_grad():
            for layer in self.layers:
                layer.weight *= 2.0  # type: ignore[operator, assignment]  # torch types attributes of modules as Tensor or Module
            self.out.weight *= 0.3
            self.out.bias.zero_()
            k = size.components
            self.out.bias[:k] = torch.linspace(0, SAMPLE_MAX * LEVEL / CENTRE_GAIN, k)

    def forward(
        self, x: Tensor, row: Tensor, column: Tensor, error: Tensor, *, exact: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mixtures of samples: centres, log2 widths (`n k`) and logits (`n k-1`).

        x: causal windows (`n window`, 0 to 255); row, column, error: of each sample (`n`).
        """
        x = x / SAMPLE_ONE
        for i, layer in enumerate(self.layers):
            y = F.linear(x, _weights(layer, SAMPLE_MAX if i == 0 else ACTIVATION_MAX, 1, exact=exact), layer.bias)  # type: ignore[arg-type]  # torch types attributes of modules as Tensor or Module
            if i == 0:
                y = y + self.rows[row] + self.columns[column] + self.of_errors()[error]
            x = _activate(y if i == 0 else x + y, exact=exact)
        k = self.size.components
        gains = self.gains
        o = F.linear(x, _weights(self.out, ACTIVATION_MAX, gains[:, None], exact=exact), self.out.bias * gains)
        centres, widths, logits = torch.split(o, [k, k, k - 1], dim=-1)
        if exact:
            centres = round_through(centres * LATENT_ONE) / LATENT_ONE
            widths = round_through(widths * WIDTHS_AN_OCTAVE) / WIDTHS_AN_OCTAVE
            logits = round_through(logits * LOGIT_ONE) / LOGIT_ONE
        return centres, widths, logits

    def of_errors(self) -> Tensor:
        """Return the biases of the first layer for each largest error (`MAX_ERROR+1 width`)."""
        return error_embeddings(torch.arange(MAX_ERROR + 1, device=self.errors.device)) @ self.errors

    @property
    def gains(self) -> Tensor:
        """Return the factor on each output."""
        k = self.size.components
        one = torch.ones(k)
        return torch.cat([CENTRE_GAIN * one, WIDTH_GAIN * one, one[1:]]).to(self.rows.device)


def _activate(x: Tensor, *, exact: bool) -> Tensor:
    x = x.clamp(0, ACTIVATION_MAX / UNIT_ONE)
    return round_through(x * UNIT_ONE) / UNIT_ONE if exact else x


def _weights(layer: nn.Module, most: int, gain: Tensor | int, *, exact: bool) -> Tensor:
    w = layer.weight
    assert isinstance(w, Tensor)
    w = w * gain
    return whole_weights(w, most, WEIGHT_MAX) if exact else w


def level_bits(level: Tensor, error: Tensor, mixture: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the bits that levels (`n`) with largest errors (`n`) cost under mixtures (`n k`)."""
    step = 2 * error + 1
    low = torch.where(level == 0, -BEYOND, (level * step - error - 0.5) * LEVEL)
    top = torch.div(SAMPLE_MAX + error, step, rounding_mode="floor")
    up = torch.where(level == top, BEYOND, (level * step + error + 0.5) * LEVEL)
    return interval_bits(low, up, mixture)


class Windows:
    """The causal windows of all samples of images `x` (`b c h w` in [0, 1]) with largest errors (`b`).

    lowered: the share of its error by which a sample is lowered before it is rounded to a level (`b`).
    """

    def __init__(self, x: Tensor, errors: Tensor, size: PixelSize, lowered: Tensor | float = 0.0) -> None:
        b, c, h, w = x.shape
        samples = torch.round(x * SAMPLE_MAX).permute(0, 2, 3, 1).reshape(b, h, w * c)
        step, offset = 2 * errors + 1, errors - torch.floor(errors * lowered)
        self.levels = torch.floor((samples + offset.view(b, 1, 1)) / step.view(b, 1, 1))
        self.samples = (self.levels * step.view(b, 1, 1)).clamp_max(SAMPLE_MAX)
        self.errors = errors
        reach, left, side = size.reach * c, size.left * c, max(size.reach, size.left) * c
        p = F.pad(self.samples, (side, side, size.above, 0))
        m = w * c
        above = p[:, :-1, side - reach : side + m + reach].unfold(1, size.above, 1)
        self.above = above.unfold(2, 2 * reach + 1, 1)  # b h m above 2*reach+1
        self.left = p[:, size.above :, side - left : side + m - 1].unfold(2, left, 1)  # b h m left
        self.empty = (self.above.amax((-1, -2)) == 0) & (self.left.amax(-1) == 0)
        self.channels = c

    def pick(self, where: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return levels, windows, rows, columns and largest errors at indices (image, row, column)."""
        image, row, column = where
        window = torch.cat([self.above[where].flatten(1), self.left[where]], 1)
        c = self.channels
        place = (column // c).clamp_max(COLUMNS - 1) * c + column % c
        return self.levels[where], window, row.clamp_max(ROWS - 1), place, self.errors[image]


class PixelCodec(nn.Module):
    """The networks that code by pixels: the pixel prior and the post-filter."""

    def __init__(self, size: PixelSize) -> None:
        super().__init__()
        self.size = size
        self.net, self.post_filter = PixelNet(size), PostFilter(size.channels, *size.post_filter)

    def forward(
        self, x: Tensor, errors: Tensor, lowered: Tensor, *, exact: bool, empty: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Return the bits and the mean squared error of each image of `x` (`b c h w` in [0, 1]).

        errors: the largest error of each image (`b`).
        lowered: as for `Windows`.
        exact: whether to compute with the values of the decoder's integers.
        empty: the share of the samples with an empty window that is used; their bits are scaled up to all of them.

        The error that the post-filter leaves is in units of the squared step between levels.
        """
        windows = Windows(x, errors, self.size, lowered)
        some = windows.empty & (torch.rand_like(windows.samples) < empty)
        bits = windows.samples.new_zeros(len(x))
        for chosen, share in ((~windows.empty, 1.0), (some, empty)):
            where = chosen.nonzero(as_tuple=True)
            n = len(where[0])
            if self.training and n > MOST_SAMPLES:  # of large images
                few = torch.randperm(n, device=x.device)[:MOST_SAMPLES]
                where, share = tuple(index[few] for index in where), share * MOST_SAMPLES / n
            for part in zip(*(torch.split(index, MOST_SAMPLES) for index in where), strict=True):
                levels, *rest = windows.pick(part)
                cost = level_bits(levels, rest[-1], self.net(*rest, exact=exact))
                bits = bits.index_add(0, part[0], cost / share)
        b, c, h, w = x.shape
        samples = windows.samples.view(b, h, w, c).permute(0, 3, 1, 2)
        off = self.post_filter(samples, errors, exact=exact) - x * SAMPLE_MAX
        return bits, off.square().mean((1, 2, 3)) / (2 * errors + 1) ** 2
