# SPDX-License-Identifier: MIT
"""Train the networks of a mixer on rows of samples, each channel's by itself, on a CPU or a GPU.

The loss is the bits of a sample under a mixture of logistics (Salimans et al. 2017, "PixelCNN++", section 2.1), as the
network alone would code it. Weights stay within what 16 bits hold at export.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from smalti.model.mixing.mixer import INPUT_MAX, UNIT_MAX, Layer
from smalti.rate.fitting.rows import TOLD, Rows

LOGISTICS = 3
FRACTION, INPUT_FRACTION = 11, 6
"""Fractional bits of weights, and of inputs and units."""
LARGEST = 7.9
"""The largest weight; 11 fractional bits of it fit in 16 bits."""
MOST_BITS = 14.0
"""A sample counts at most so many bits, so that rare jumps do not rule a step."""
WIDTHS = (256, 48)
"""The units of the hidden layers of networks that are trained from nothing."""


@dataclass(frozen=True)
class FitPlan:
    """How long the network of a channel is trained, and how."""

    seconds: float  # of a processor, or of a GPU's clock
    batch: int = 8192  # rows
    rate: float = 4e-3  # the learning rate at the start; it falls linearly
    widths: tuple[int, int] = WIDTHS


Told = Callable[[int, int, float, float], None]
"""What is called now and then, with the channel, the step, the share of the time that is over, and bits a sample."""


class Fitting:
    """The network of a channel while it is trained, with its optimiser."""

    def __init__(
        self,
        channel: int,
        rows: Rows,
        widths: tuple[int, int] = WIDTHS,
        start: tuple[Layer, ...] | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Begin; the arguments are those of `fit_network`."""
        self.channel, self.rows, self.steps = channel, rows, 0
        self._device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._rng = np.random.default_rng(channel)
        torch.manual_seed(channel)
        self._inputs = len(rows[:1][0]) - TOLD
        self.net = _network(self._inputs, widths if start is None else (len(start[0].weights), len(start[1].weights)))
        if start is not None:
            _restore(self.net, start)
        self.net.to(self._device)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), betas=(0.9, 0.98), weight_decay=1e-4)
        self._half = self._device.type == "cuda" or bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())

    def step(self, batch: int, rate: float) -> float:
        """Train for one step of so many rows, and return the bits of a sample."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        n = len(self.rows)
        picked = self._rng.integers(0, max(1, n - 8), batch // 8)[:, None] + np.arange(min(8, n))
        loss = self._bits(self.rows[picked.ravel()]).clamp(max=MOST_BITS).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            for layer in _linear(self.net):
                layer.weight.clamp_(-LARGEST, LARGEST)
        self.steps += 1
        return float(loss.detach())

    def bits(self, rows: Rows) -> float:
        """Return the bits of a sample on other rows."""
        with torch.no_grad():
            parts = [self._bits(rows[i : i + 8192]).clamp(max=MOST_BITS) for i in range(0, len(rows), 8192)]
            return float(torch.cat(parts).mean())

    def layers(self) -> tuple[Layer, Layer, Layer]:
        """Return the layers in integers."""
        return tuple(_layer(layer, i) for i, layer in enumerate(_linear(self.net)))  # type: ignore[return-value]

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"steps": self.steps, "net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint kept; other rows are picked from here on."""
        self.steps = state["steps"]
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._rng = np.random.default_rng((self.channel, self.steps))

    def _bits(self, rows: Rows) -> torch.Tensor:
        inputs = self._inputs
        batch = torch.from_numpy(rows).to(self._device).float()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            out = self.net(batch[:, :inputs] / (1 << INPUT_FRACTION))
        return bits_of(out.float(), batch, inputs)


def fit_network(
    channel: int, rows: Rows, plan: FitPlan, start: tuple[Layer, ...] | None = None, told: Told | None = None
) -> tuple[Layer, Layer, Layer]:
    """Train the network of a channel on `rows` (`n inputs+3`) and return its layers in integers.

    Args:
        channel: 0 to 2: green, red or blue; 3: alpha. It is the seed, too.
        rows: rows of samples.
        plan: how long and how.
        start: the layers from which training goes on; None: it starts from nothing.
        told: is called every few hundred steps.
    """
    fitting = Fitting(channel, rows, plan.widths, start)
    clock = time.monotonic if torch.cuda.is_available() else time.process_time
    began, mean = clock(), 0.0
    while (share := (clock() - began) / plan.seconds) < 1:
        loss = fitting.step(plan.batch, plan.rate * (min(1.0, fitting.steps / 100) * (1 - share) + 0.01))
        if fitting.steps % 200 == 0:
            mean = loss if not mean else 0.9 * mean + 0.1 * loss
            if told is not None:
                told(channel, fitting.steps, share, mean)
    return fitting.layers()


def bits_of(out: torch.Tensor, rows: torch.Tensor, inputs: int) -> torch.Tensor:
    """Return the bits (`n`) of samples under the mixtures that the outputs (`n 9`) say. rows: `n inputs+3`."""
    value, prediction, energy = (rows[:, inputs + i : inputs + i + 1] for i in range(3))
    energy, away = energy / 8, value - prediction
    weights = torch.log_softmax(out[:, :LOGISTICS], 1)
    means = out[:, LOGISTICS : 2 * LOGISTICS] * energy
    inverse = torch.exp(-out[:, 2 * LOGISTICS :].clamp(-7, 3)) / energy
    above, below = torch.sigmoid((away + 0.5 - means) * inverse), torch.sigmoid((away - 0.5 - means) * inverse)
    above = torch.where(value >= 255, torch.ones_like(above), above)
    below = torch.where(value <= 0, torch.zeros_like(below), below)
    return -torch.log2((weights.exp() * (above - below)).sum(1) + 1e-6)


def _network(inputs: int, widths: tuple[int, int]) -> nn.Sequential:
    clip = UNIT_MAX / (1 << INPUT_FRACTION)
    net = nn.Sequential(
        nn.Linear(inputs, widths[0]),
        nn.Hardtanh(0, clip),
        nn.Linear(widths[0], widths[1]),
        nn.Hardtanh(0, clip),
        nn.Linear(widths[1], 3 * LOGISTICS),
    )
    last = _linear(net)[-1]
    with torch.no_grad():
        last.weight.mul_(0.3)
        starts = torch.tensor([0.3, 0, -0.3]), torch.zeros(LOGISTICS), torch.tensor([-2.0, -1.0, 0.0])
        last.bias.copy_(torch.cat(starts))
    return net


def _linear(net: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in net if isinstance(layer, nn.Linear)]


def _layer(layer: nn.Linear, number: int) -> Layer:
    """Return a layer in integers, such that no sum needs more than 31 bits."""
    scale, most = float(1 << FRACTION), INPUT_MAX if number == 0 else UNIT_MAX
    weights: NDArray[np.float64] = layer.weight.detach().double().cpu().numpy() * scale
    biases = layer.bias.detach().double().cpu().numpy() * scale * (1 << INPUT_FRACTION)
    room = (2**31 - 1 - np.abs(biases)) / most - weights.shape[1] / 2
    weights *= np.minimum(1, room / np.maximum(np.abs(weights).sum(1), 1))[:, None]
    return Layer(np.rint(weights).astype(np.int16), np.rint(biases).astype(np.int32))


def _restore(net: nn.Sequential, layers: tuple[Layer, ...]) -> None:
    with torch.no_grad():
        for linear, layer in zip(_linear(net), layers, strict=True):
            linear.weight.copy_(torch.from_numpy(layer.weights.astype(np.float32) / (1 << FRACTION)))
            linear.bias.copy_(torch.from_numpy(layer.biases.astype(np.float32) / (1 << FRACTION + INPUT_FRACTION)))
