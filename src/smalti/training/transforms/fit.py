# SPDX-License-Identifier: MIT
"""Fit the networks of a transform to crops of images: minimise bits and squared error at all quantisation steps."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from smalti.model.transform.transform import LEVELS, step_of
from smalti.training.transforms.crops import Crops
from smalti.training.transforms.network import CENTRE, WIDTH, Networks, basis, bits
from smalti.util.atomic import atomic_write

DEAD_ZONE = 0.12
"""By so much of a step an index is rounded towards 0, as the encoder's optimisation does on average."""
WARM_UP, LEAST_RATE = 200, 0.02
"""The steps in which the learning rate rises, and the share of it that is left in the end."""
BASES = 0.02
"""The learning rate of the bases and the gains, as a share of that of all others."""
AVERAGED = 0.998
"""How much of the average of the weights is kept in each step."""
KEPT_SECONDS = 300
SAMPLED_BATCHES = 20
"""The batches that tell how much coefficients vary."""
Told = Callable[[int, float, float, float], None]
"""A listener: it takes the step, the share of the time, and bits and weighed squared error of a pixel."""


@dataclass(frozen=True)
class FitPlan:
    """How long and how fast a transform is fitted."""

    minutes: float
    rate: float = 1.2e-3
    kappa: float = 0.14  # the squared steps of error that a bit is worth
    seed: int = 1


@dataclass
class _Run:
    """What a checkpoint keeps."""

    networks: Networks
    average: dict[str, Tensor]
    optimizer: torch.optim.Adam
    step: int = 0
    seconds: float = 0.0


def fit_transform(crops: Crops, plan: FitPlan, checkpoint: Path, told: Told, start: Path | None = None) -> Networks:
    """Return networks that were fitted to crops; a run that was interrupted goes on from its checkpoint.

    The average of the weights over the last steps is what is returned. A run begins with the average that another run's
    checkpoint, `start`, holds, where that is given.
    """
    torch.manual_seed(plan.seed)
    networks = Networks(deviations_of(crops))
    if start is not None:
        networks.load_state_dict(torch.load(start, weights_only=True)["average"])
    bases = [networks.forward_basis, networks.backward_basis, networks.gains]
    others = [p for p in networks.parameters() if all(p is not base for base in bases)]
    optimizer = torch.optim.Adam([{"params": others}, {"params": bases}], lr=plan.rate, betas=(0.9, 0.99))
    run = _Run(networks, {name: value.clone() for name, value in networks.state_dict().items()}, optimizer)
    if checkpoint.exists():
        _resume(run, checkpoint)
    last, kept, sums = time.monotonic(), run.seconds, np.zeros(2)
    while run.seconds < 60 * plan.minutes:
        share = run.seconds / (60 * plan.minutes)
        rate = plan.rate * min(1.0, (run.step + 1) / WARM_UP)
        rate *= LEAST_RATE + (1 - LEAST_RATE) * (1 + math.cos(math.pi * share)) / 2
        for group, factor in zip(optimizer.param_groups, (1.0, BASES), strict=True):
            group["lr"] = rate * factor
        x = torch.from_numpy(crops.batch())
        log2_steps = crops.rng.uniform(step_of(0), step_of(LEVELS - 1), len(x)).astype(np.float32)
        loss, parts = loss_of(networks, x, torch.from_numpy((log2_steps - CENTRE) / WIDTH), plan.kappa)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        run.step += 1
        decay = min(AVERAGED, 1 - 5 / (run.step + 1)) if run.step > 10 else 0.0
        for name, value in networks.state_dict().items():
            run.average[name].lerp_(value, 1 - decay)
        now = time.monotonic()
        run.seconds, last = run.seconds + now - last, now
        sums = 0.98 * sums + 0.02 * np.array(parts)
        told(run.step, share, *(sums / (1 - 0.98**run.step)))
        if run.seconds - kept > KEPT_SECONDS:
            _keep(run, checkpoint)
            kept = run.seconds
    _keep(run, checkpoint)
    networks.load_state_dict(run.average)
    return networks


def deviations_of(crops: Crops) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the standard deviation of each coefficient over some batches."""
    found, rows = list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]](), basis()
    for _ in range(SAMPLED_BATCHES):
        x = crops.batch()
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // 8, 8, w // 8, 8).transpose(0, 2, 4, 1, 3, 5).reshape(-1, c * 64)
        found.append(blocks @ rows.T)
    deviations: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = np.concatenate(found).std(0).astype(np.float32)
    return deviations


def loss_of(networks: Networks, x: Tensor, q: Tensor, kappa: float) -> tuple[Tensor, tuple[float, float]]:
    """Return the loss of images (`n 3 h w`) at places (`n`), and its parts: bits and weighed error of a pixel.

    The prior learns from what is coded; the analysis learns from noise in its place, through which derivatives go. What
    the prior sees is found in two steps: first with noise, then with what that predicts and quantises.
    """
    y = networks.analyse(x, q)
    n, rows, columns, c = y.shape
    steps = networks.steps(q)
    of_each = steps[:, None].expand(n, rows * columns, c).reshape(-1, c)
    flat = y.reshape(-1, c)
    with torch.no_grad():
        seen = y + (torch.rand_like(y) - 0.5) * steps[:, None, None]
        means = networks.predict(seen, q)[0]
        seen = (means + quantised(flat, means, of_each) * of_each).view(y.shape)
    said = networks.predict(y + (seen - y).detach(), q)
    with torch.no_grad():
        index = quantised(flat, said[0], of_each)
    coded = bits(said[0] + index * of_each, said, of_each)
    noisy = bits(
        flat + (torch.rand_like(flat) - 0.5) * of_each,
        (said[0].detach(), said[1].detach(), said[2].detach(), said[3].detach()),
        of_each,
    )
    decoded = flat + (said[0] + index * of_each - flat).detach() + index * (of_each - of_each.detach())
    x_hat = networks.synthesise(decoded.view(y.shape), q)
    error = ((x_hat - x) ** 2).sum((1, 2, 3)) / (kappa * torch.exp2(2 * (CENTRE + WIDTH * q)))
    blocks = rows * columns
    taken, expected = (some.view(n, -1).sum(1) / blocks for some in (coded, noisy))
    loss = 10 * ((error / blocks + taken + expected) / (20 + taken.detach())).mean()  # all qualities count alike
    pixels = x[0, 0].numel() / blocks
    return loss, (float(taken.detach().mean()) / pixels, float((error / blocks).detach().mean()) / pixels)


def quantised(y: Tensor, means: Tensor, steps: Tensor) -> Tensor:
    """Return the indices of coefficients."""
    off = (y - means) / steps
    return torch.sign(off) * torch.floor(off.abs() + 0.5 - DEAD_ZONE).clamp(min=0)


def _keep(run: _Run, path: Path) -> None:
    state = {
        "networks": run.networks.state_dict(),
        "average": run.average,
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "seconds": run.seconds,
    }
    with atomic_write(path, force=True) as file:
        torch.save(state, file)


def _resume(run: _Run, path: Path) -> None:
    state = torch.load(path, weights_only=True)
    run.networks.load_state_dict(state["networks"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.average, run.step, run.seconds = state["average"], int(state["step"]), float(state["seconds"])
