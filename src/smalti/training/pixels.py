# SPDX-License-Identifier: MIT
"""The lossless model while training: how likely each sample is, given those above it and to its left.

A plain MLP over a causal window, residual, with biases for the row and the column; `smalti.pixels` in floats. Most
of an image may be empty background; where a whole window is, the network's answer depends on the place alone, so
few of those are trained on.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from smalti.masked import ACTIVATION_MAX
from smalti.pixels import COLUMNS, LEVEL_UNITS, ROWS, SAMPLE_MAX
from smalti.training.integers import LATENT_ONE, LOGIT_ONE, WIDTHS_AN_OCTAVE, round_through, whole_weights
from smalti.training.optimizer import soap
from smalti.training.priors import interval_bits
from smalti.training.report import plot_bits
from smalti.training.task import Row

CENTRE_GAIN, WIDTH_GAIN = 16, 4
"""Of the outputs that place and widen the logistics: they have far to go."""
EMPTY_SHARE = 0.05
"""Of the samples with nothing in their window that are trained on."""
WEIGHT_MAX = (1 << 15) - 1
"""Of an integer weight. The bound on sums allows 8 bits on average, but a few weights are far larger than most."""
UNIT_ONE = 512
"""The integer that stands for 1.0 in a unit; coarser ones cost a per cent of the bytes."""
MOST_SAMPLES = 1 << 15
"""Of a batch: what is more is left out, or comes in turns."""
SAMPLE_ONE = 256
"""The integer that stands for 1.0 in a sample."""
LEVEL = LEVEL_UNITS / LATENT_ONE
"""A step from one level of a sample to the next, in the units of logistics."""
BEYOND = 1e4
"""In those units, further than any logistic reaches."""


@dataclass(frozen=True)
class PixelSize:
    """What the network sees and how wide it is."""

    channels: int = 1
    above: int = 8  # rows
    reach: int = 8  # pixels to either side, in the rows above
    left: int = 10  # pixels, in the row itself
    width: int = 128  # units of each layer
    layers: int = 3  # with units
    components: int = 5  # logistics of a sample

    @property
    def window(self) -> int:
        """Samples in the window."""
        return self.above * (2 * self.reach * self.channels + 1) + self.left * self.channels


@dataclass(frozen=True)
class PixelPlan:
    """How the lossless model is trained."""

    size: PixelSize
    steps: int = 12000  # about; whole epochs are trained
    batch: int = 32  # images a step, over all processes
    seed: int = 0
    validation: float = 0.05  # share of the images held out, but no more than `most_validation`
    most_validation: int = 500
    learning_rate: float = 3e-3  # cosine to 0 after a warm-up
    warm_up: int = 100  # steps
    exact: float = 0.7  # from here on everything is computed as its integers will be


class PixelNet(nn.Module):
    """Windows to mixtures of logistics."""

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
        with torch.no_grad():
            for layer in self.layers:
                layer.weight *= 2.0  # type: ignore[operator, assignment]
            self.out.weight *= 0.3
            self.out.bias.zero_()
            k = size.components
            self.out.bias[:k] = torch.linspace(0, SAMPLE_MAX * LEVEL / CENTRE_GAIN, k)

    def forward(self, x: Tensor, row: Tensor, column: Tensor, *, exact: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Windows (`n window`, 0 to 255) at rows and columns (`n`) to centres, log2 widths and logits (`n k`)."""
        x = x / SAMPLE_ONE
        for i, layer in enumerate(self.layers):
            y = F.linear(x, _weights(layer, SAMPLE_MAX if i == 0 else ACTIVATION_MAX, 1, exact=exact), layer.bias)  # type: ignore[arg-type]
            if i == 0:
                y = y + self.rows[row] + self.columns[column]
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

    @property
    def gains(self) -> Tensor:
        """Of the outputs."""
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


def sample_bits(x: Tensor, mixture: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """What samples `x` (`n`, 0 to 255) cost under mixtures (`n k`), in bits."""
    low = torch.where(x == 0, -BEYOND, (x - 0.5) * LEVEL)
    up = torch.where(x == SAMPLE_MAX, BEYOND, (x + 0.5) * LEVEL)
    return interval_bits(low, up, mixture)


class Windows:
    """The windows of all samples of images `x` (`b c h w` in [0, 1])."""

    def __init__(self, x: Tensor, size: PixelSize) -> None:
        b, c, h, w = x.shape
        self.samples = torch.round(x * SAMPLE_MAX).permute(0, 2, 3, 1).reshape(b, h, w * c)
        reach, left, side = size.reach * c, size.left * c, max(size.reach, size.left) * c
        p = F.pad(self.samples, (side, side, size.above, 0))
        m = w * c
        above = p[:, :-1, side - reach : side + m + reach].unfold(1, size.above, 1)
        self.above = above.unfold(2, 2 * reach + 1, 1)  # b h m above 2*reach+1
        self.left = p[:, size.above :, side - left : side + m - 1].unfold(2, left, 1)  # b h m left
        self.empty = (self.above.amax((-1, -2)) == 0) & (self.left.amax(-1) == 0)
        self.channels = c

    def pick(self, where: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Samples, windows, rows and columns at indices (image, row, column)."""
        _, row, column = where
        window = torch.cat([self.above[where].flatten(1), self.left[where]], 1)
        c = self.channels
        place = (column // c).clamp_max(COLUMNS - 1) * c + column % c
        return self.samples[where], window, row.clamp_max(ROWS - 1), place


class PixelTask:
    """See `task.Task`."""

    def __init__(self, plan: PixelPlan) -> None:
        self.plan = plan

    def held_out(self, n: int) -> int:
        return min(self.plan.most_validation, max(1, round(n * self.plan.validation)))

    def epochs(self, steps: int) -> tuple[int, ...]:
        return (max(1, math.ceil(self.plan.steps / steps)),)

    def work(self, phase: int) -> float:  # noqa: ARG002 - there is one phase
        return 1.0

    def build(self, phase: int, before: nn.Module | None) -> nn.Module:  # noqa: ARG002 - the protocol's
        return PixelNet(self.plan.size)

    def optimizer(self, model: nn.Module, phase: int) -> torch.optim.Optimizer:  # noqa: ARG002 - the protocol's
        return soap(model.parameters(), self.plan.learning_rate, 256)

    def learning_rate(self, phase: int, step: int, steps: int) -> float:  # noqa: ARG002 - the protocol's
        rise = min(1.0, (step + 1) / self.plan.warm_up)
        return max(1e-6, self.plan.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / steps)))

    def loss(self, model: nn.Module, x: Tensor, done: float) -> Tensor:
        windows = Windows(x, self.plan.size)
        few = torch.rand_like(windows.samples) < EMPTY_SHARE
        full, empty = (~windows.empty).nonzero(as_tuple=True), (windows.empty & few).nonzero(as_tuple=True)
        total = windows.samples.new_zeros(())
        for where, share in ((full, 1.0), (empty, EMPTY_SHARE)):
            n = len(where[0])
            if n > MOST_SAMPLES:  # of large images
                some = torch.randperm(n, device=x.device)[:MOST_SAMPLES]
                where = tuple(index[some] for index in where)
            if n:
                samples, *rest = windows.pick(where)
                cost = sample_bits(samples, model(*rest, exact=done >= self.plan.exact))
                total = total + cost.mean() * n / share
        return total / windows.samples.numel()

    def sums(self, model: nn.Module, x: Tensor, done: float) -> Tensor:
        bits = torch.zeros(1, dtype=torch.float64, device=x.device)
        for part in torch.split(x, max(1, MOST_SAMPLES // x[0].numel())):
            windows = Windows(part, self.plan.size)
            every = torch.ones_like(windows.empty).nonzero(as_tuple=True)
            for where in zip(*(torch.split(index, MOST_SAMPLES) for index in every), strict=True):
                samples, *rest = windows.pick(where)
                bits += sample_bits(samples, model(*rest, exact=done >= self.plan.exact)).double().sum()
        return bits / 8

    def row(self, means: list[float], done: float) -> Row:
        return {"bytes": means[0], "final": float(done >= self.plan.exact)}

    def score(self, row: Row) -> float:
        return row["bytes"] if row["final"] else math.inf

    def describe(self, row: Row) -> str:
        return f"{row['bytes']:.2f} bytes an image"

    def plot(self, path: Path, rows: list[Row]) -> None:
        plot_bits(path, rows)

    def dead(self, model: nn.Module, x: Tensor, phase: int, step: int) -> str:  # noqa: ARG002 - the protocol's
        return ""
