# SPDX-License-Identifier: MIT
"""The networks of a transform in floats, as they are trained; `export.py` makes integers of them.

Coefficients are in units of samples, in the order of `model/transform/transform.py`. The place of a quantisation step s
is q = (log2(s) - 5) / 1.5; biases and gains depend on it as 1, q, q^2.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as fn
from numpy.typing import NDArray
from torch import Tensor, nn

from smalti.model.transform.transform import (
    COEFFICIENTS,
    COLOURS,
    CONTEXT,
    FAR,
    FAR_COEFFICIENTS,
    GROUPS,
    MEANS,
    NEAR,
    OF_GRAY,
    OUTPUTS,
    SIDE,
    STARTS,
)

CENTRE, WIDTH = 5.0, 1.5
"""The logarithm (base 2) of the step at place 0, and how much it grows to place 1."""
WIDEST = 1.2, 0.2
"""The wide logistic is exp(1.2 softplus(o) + 0.2) times as wide as the narrow one, o the last output."""

LARGE = (
    ("analysis.first.weight",),
    ("analysis.second.weight",),
    ("analysis.third.weight",),
    ("synthesis.first.weight",),
    ("synthesis.second.weight",),
    ("synthesis.third.weight",),
    ("context.weight", "own"),
    ("second",),
)
"""The weights that take most of the bytes of a model; those of a group have the same fractional bits."""
EXACT, COARSE, DEVIATION = 14, 9, 4.0
"""The fractional bits of weights that are not coarse, the most of coarse ones, and the deviation of these in steps."""


def place_of(log2_step: Tensor) -> Tensor:
    """Return the places of quantisation steps."""
    return (log2_step - CENTRE) / WIDTH


def basis() -> NDArray[np.float32]:
    """Return the discrete cosine transform of three decorrelated colours: each coefficient's samples of a block."""
    n = np.arange(SIDE)
    waves = np.cos((2 * n + 1) * n[:, None] * math.pi / (2 * SIDE)) * np.where(n[:, None], 0.5, math.sqrt(1 / SIDE))
    colours = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    zigzag = sorted(np.ndindex(SIDE, SIDE), key=lambda p: (sum(p), p[0] if sum(p) % 2 else p[1]))
    order, used = list[tuple[int, int]](), {True: 0, False: 0}
    for size, of_gray in zip(GROUPS, OF_GRAY, strict=True):
        each = size if of_gray else size // 2
        places = range(used[of_gray], used[of_gray] + each)
        order += [(c, i) for c in ((0,) if of_gray else (1, 2)) for i in places]
        used[of_gray] += each
    rows = [np.einsum("c,y,x->cyx", colours[c], waves[zigzag[i][0]], waves[zigzag[i][1]]).ravel() for c, i in order]
    return np.stack(rows).astype(np.float32)


class Corrections(nn.Module):
    """Two convolutions over 3x3 blocks and a layer, which correct coefficients by multiples of their steps."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(COEFFICIENTS + 1, units, 3, padding=1)
        self.second = nn.Conv2d(units, units, 3, padding=1)
        self.third = nn.Conv2d(units, COEFFICIENTS, 1)
        nn.init.zeros_(self.third.weight)
        nn.init.zeros_(self.third.bias)  # type: ignore[arg-type]  # it has one
        self.by_place = nn.Parameter(torch.zeros(2, 3, units))

    def forward(self, u: Tensor, q: Tensor) -> Tensor:
        """Return corrections (`n rows columns c`, in steps) of coefficients, in units of their deviations."""
        u = u.permute(0, 3, 1, 2)
        u = torch.cat([u, torch.ones_like(u[:, :1])], 1).to(memory_format=torch.channels_last)
        with torch.autocast(u.device.type, torch.bfloat16):
            for layer, more in zip((self.first, self.second), self.by_place, strict=True):
                u = fn.relu(layer(u) + at_place(more, q)[:, :, None, None])
            u = self.third(u)
        return u.float().permute(0, 2, 3, 1)


class Networks(nn.Module):
    """All networks of a transform."""

    deviations: Tensor  # of the coefficients of images, by which inputs are divided
    before: Tensor  # which coefficients a group sees
    spreads: Tensor  # about those of coefficients of which the blocks around are known

    def __init__(
        self,
        deviations: NDArray[np.float32],
        hidden: int = 256,
        second: int = 64,
        corrections: tuple[int, int] = (128, 160),
    ) -> None:
        """Begin as the discrete cosine transform.

        Args:
            deviations: of coefficients, over images.
            hidden, second: the units of the hidden layers of the prior.
            corrections: those of the analysis and of the synthesis.
        """
        super().__init__()
        start, n = torch.tensor(basis()), len(GROUPS)
        self.forward_basis, self.backward_basis = nn.Parameter(start.clone()), nn.Parameter(start.clone())
        spreads = deviations * np.where(np.arange(COEFFICIENTS) < MEANS, 0.15, 0.5)
        self.register_buffer("deviations", torch.tensor(deviations, dtype=torch.float32))
        self.register_buffer("spreads", torch.tensor(spreads, dtype=torch.float32))
        self.fractions = [EXACT] * len(LARGE)  # the most fractional bits of the weights of LARGE
        self.output_bits: list[int] | None = None  # those of each output of the prior; None: as many as fit
        self.gains = nn.Parameter(torch.zeros(3, COEFFICIENTS))
        self.analysis, self.synthesis = map(Corrections, corrections)
        self.context = nn.Linear(CONTEXT, hidden)
        nn.init.normal_(self.context.weight, std=0.5 / math.sqrt(CONTEXT))
        self.own = nn.Parameter(torch.randn(n, COEFFICIENTS, hidden) * 0.03)
        before = torch.zeros(n, COEFFICIENTS, 1)
        for g, first in enumerate(STARTS):
            before[g, :first] = 1
        self.register_buffer("before", before)
        self.first_biases = nn.Parameter(torch.zeros(3, n, 1, hidden))
        self.second = nn.Parameter(torch.randn(n, hidden, second) * math.sqrt(1.5 / hidden))
        self.second_biases = nn.Parameter(torch.zeros(3, n, 1, second))
        self.third = nn.ParameterList([nn.Parameter(torch.randn(second, OUTPUTS * size) * 0.02) for size in GROUPS])
        self.third_biases = nn.Parameter(torch.tensor([0.0, -0.5, 1.0, 0.0]).repeat(COEFFICIENTS, 1))

    @property
    def coarse(self) -> bool:
        """Whether large weights are rounded to few bits."""
        return max(self.fractions) <= COARSE

    def large(self) -> list[list[nn.Parameter]]:
        """Return the parameters of LARGE."""
        return [[self.get_parameter(name) for name in names] for names in LARGE]

    def set_fractions(self) -> None:
        """Let the weights of LARGE have so few fractional bits that their deviation is about DEVIATION steps."""
        for i, parameters in enumerate(self.large()):
            deviation = torch.cat([some.detach().flatten() for some in parameters]).std()
            self.fractions[i] = min(max(round(math.log2(DEVIATION / float(deviation))), 0), COARSE)

    @contextmanager
    def rounded(self) -> Iterator[None]:
        """Round large weights to their fractional bits; they are what they were afterwards."""
        rounds = min(self.fractions) < EXACT
        parameters = [some for group in self.large() for some in group] if rounds else []
        kept = [some.detach().clone() for some in parameters]
        with torch.no_grad():
            for fraction, group in zip(self.fractions, self.large() if rounds else [], strict=False):
                for some in group:
                    some.copy_((some * 2.0**fraction).round() * 2.0**-fraction)
        yield
        with torch.no_grad():
            for some, before in zip(parameters, kept, strict=True):
                some.copy_(before)

    def analyse(self, x: Tensor, q: Tensor) -> Tensor:
        """Return the coefficients (`n rows columns c`) of images (`n 3 h w`, sides multiples of SIDE)."""
        n, _, h, w = x.shape
        blocks = x.view(n, COLOURS, h // SIDE, SIDE, w // SIDE, SIDE).permute(0, 2, 4, 1, 3, 5)
        y = blocks.reshape(n, h // SIDE, w // SIDE, COEFFICIENTS) @ self.forward_basis.t()
        corrections: Tensor = self.analysis(y / self.deviations, q)
        return y + corrections * self.steps(q)[:, None, None]

    def synthesise(self, y: Tensor, q: Tensor) -> Tensor:
        """Return the images of coefficients; the reverse of `analyse`."""
        n, rows, columns, _ = y.shape
        z = y + self.synthesis(y / self.deviations, q) * self.steps(q)[:, None, None]
        blocks = (z @ self.backward_basis).view(n, rows, columns, COLOURS, SIDE, SIDE)
        x: Tensor = blocks.permute(0, 3, 1, 4, 2, 5).reshape(n, COLOURS, rows * SIDE, columns * SIDE)
        return x

    def steps(self, q: Tensor) -> Tensor:
        """Return the quantisation step of each coefficient (`n c`) at places (`n`)."""
        return torch.exp2(CENTRE + WIDTH * q)[:, None] * torch.exp2(at_place(self.gains, q))

    def predict(self, y: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what the prior says of coefficients, as the decoder knows them (`n rows columns c`).

        Returns:
            Means, logarithms of narrow scales, logits of their shares, and widths (`n*rows*columns c` each).
        """
        n, rows, columns, _ = y.shape
        inside = torch.cat([y, torch.ones_like(y[..., :1])], -1)
        wide = fn.pad(inside, (0, 0, 2, 2, 2, 0))

        def at(place: tuple[int, int]) -> Tensor:
            down, right = place
            return wide[:, 2 + down : 2 + down + rows, 2 + right : 2 + right + columns]

        beside = at(NEAR[0]) + at(NEAR[1])
        means = beside[..., :MEANS] / beside[..., -1:].clamp(min=1)

        def seen(blocks: Tensor, size: int) -> Tensor:
            there = blocks[..., -1:]
            less = blocks[..., :MEANS] - means * there
            scaled = torch.cat([less, blocks[..., MEANS:size]], -1) / self.deviations[:size]
            return torch.cat([scaled, there], -1)

        parts = [seen(at(place), COEFFICIENTS) for place in NEAR]
        parts += [seen(at(place), FAR_COEFFICIENTS) for place in FAR]
        around = torch.cat([*parts, means / self.deviations[:MEANS]], -1).reshape(n * rows * columns, CONTEXT)
        own = torch.cat([y[..., :MEANS] - means, y[..., MEANS:]], -1).reshape(-1, COEFFICIENTS) / self.deviations
        groups, each = len(GROUPS), rows * columns
        with torch.autocast(y.device.type, torch.bfloat16):
            sums = torch.matmul(own, self.own * self.before) + self.context(around)
            units = self._units(sums, self.first_biases, q, each)
            units = self._units(torch.bmm(units, self.second.to(units.dtype)), self.second_biases, q, each)
            out = [torch.matmul(units[g], self.third[g]).view(n * each, GROUPS[g], OUTPUTS) for g in range(groups)]
        said = torch.cat(out, 1).float() + self.third_biases
        mean = said[..., 0] * self.spreads
        mean = torch.cat([mean[:, :MEANS] + means.reshape(-1, MEANS), mean[:, MEANS:]], 1)
        return mean, said[..., 1] + self.spreads.log(), said[..., 2], said[..., 3]

    @staticmethod
    def _units(sums: Tensor, biases: Tensor, q: Tensor, each: int) -> Tensor:
        """Return the units of sums (`groups n*each units`) whose biases depend on the places of images (`n`)."""
        by_place = biases[0] + biases[1] * q.view(1, -1, 1) + biases[2] * (q * q).view(1, -1, 1)
        groups, _, units = sums.shape
        found = fn.relu(sums.view(groups, len(q), each, units) + by_place[:, :, None].to(sums.dtype))
        return found.view(groups, len(q) * each, units)


def at_place(parameter: Tensor, q: Tensor) -> Tensor:
    """Return what a parameter (`3 k`) is at places (`n`)."""
    q = q[:, None]
    return parameter[0] + parameter[1] * q + parameter[2] * q * q


def bits(y: Tensor, said: tuple[Tensor, Tensor, Tensor, Tensor], steps: Tensor) -> Tensor:
    """Return the bits of the interval of a step around each coefficient, given what the prior says."""
    mean, scale, share, width = said
    off, narrow = (y - mean).abs(), torch.exp(-scale)
    wide = narrow * torch.exp(-WIDEST[0] * fn.softplus(width) - WIDEST[1])
    low, high = off - steps / 2, off + steps / 2
    first, second = (torch.sigmoid(-low * s) - torch.sigmoid(-high * s) for s in (narrow, wide))
    weight = torch.sigmoid(share)
    return -torch.log2(0.9995 * (weight * first + (1 - weight) * second) + 1e-6)
