# SPDX-License-Identifier: MIT
"""Fit the networks of a transform to crops of images: minimise bits and squared error at all quantisation steps."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from smalti.model.transform.transform import LEVELS, step_of
from smalti.training.transforms.crops import Crops
from smalti.training.transforms.network import CENTRE, WIDTH, Networks, basis, bits, place_of
from smalti.types import Pixels
from smalti.util.atomic import atomic_write

DEAD_ZONE = 0.12
"""By so much of a step an index is rounded towards 0, as the encoder's optimisation does on average."""
WARM_UP, LEAST_RATE = 200, 0.02
"""The steps in which the learning rate rises, and the share of it that is left in the end."""
BASES = 0.02
"""The learning rate of the bases and the gains, as a share of that of all others, unless a plan says another."""
AVERAGED = 0.998
"""How much of the average of the weights is kept in each step."""
KEPT_SECONDS = 300
SAMPLED_BATCHES = 20
"""The batches that tell how much coefficients vary."""
TOLD_STEPS = 100
"""Listeners are told once in so many steps."""
CHECKED, TOGETHER = (4.0, 5.0, 6.0), 32
"""The logarithms of quantisation steps at which networks are checked, and how many images are coded together then."""
ENDS, MIDDLE, IN_MIDDLE = (step_of(0), step_of(LEVELS - 1)), (3.6, 6.6), 0.6
"""Logarithms of quantisation steps that are trained for, those between which qualities in common use lie, and the share
of crops that are trained for these."""
Told = Callable[[int, float, float, float], None]
"""A listener: it takes the step, the share of the time, and bits and weighed squared error of a pixel."""
Checked = Callable[[int, Networks], None]
"""A listener: it takes the step and the average of networks, each time that they are kept."""


@dataclass(frozen=True)
class FitPlan:
    """How long and how fast a transform is fitted."""

    minutes: float
    rate: float = 1.2e-3
    kappa: float = 0.14  # the squared steps of error that a bit is worth
    coarse_from: float = 0.4  # the share of the time after which weights are rounded as they will be stored
    bases: float = BASES  # the learning rate of bases and gains, as a share of that of all others
    pull: float = 0.0  # how far a step pulls large weights to where they were at the start, in learning rates
    averaged: float = AVERAGED
    told_steps: int = TOLD_STEPS
    kept_seconds: float = KEPT_SECONDS
    seed: int = 1


@dataclass
class _Run:
    """What a checkpoint keeps."""

    networks: Networks
    average: dict[str, Tensor]
    optimizer: torch.optim.Adam
    step: int = 0
    seconds: float = 0.0


def fit_transform(
    crops: Crops,
    plan: FitPlan,
    checkpoint: Path,
    told: Told,
    start: Networks | None = None,
    checked: Checked | None = None,
) -> Networks:
    """Return networks that were fitted to crops; a run that was interrupted goes on from its checkpoint.

    The average of the weights over the last steps is what is returned.

    Args:
        crops: what the networks learn from; they are on its device while they do.
        plan: how long, and how.
        checkpoint: the file in which the run is kept.
        told: is called every `told_steps` steps.
        start: the networks with which a run begins, where they are given.
        checked: is called with the average, every few minutes and in the end.
    """
    torch.manual_seed(plan.seed)
    networks = (Networks(deviations_of(crops)) if start is None else start).to(crops.device)
    bases = [networks.forward_basis, networks.backward_basis, networks.gains]
    others = [p for p in networks.parameters() if all(p is not base for base in bases)]
    optimizer = torch.optim.Adam([{"params": others}, {"params": bases}], lr=plan.rate, betas=(0.9, 0.99), fused=True)
    anchors = [some.detach().clone() for group in networks.large() for some in group] if plan.pull else []
    run = _Run(networks, {name: value.clone() for name, value in networks.state_dict().items()}, optimizer)
    if checkpoint.exists():
        _resume(run, checkpoint, crops.device)
    last, kept, sums = time.monotonic(), run.seconds, torch.zeros(2, device=crops.device)
    while run.seconds < 60 * plan.minutes:
        share = run.seconds / (60 * plan.minutes)
        if share >= plan.coarse_from and not networks.coarse:
            networks.set_fractions()
        rate = plan.rate * min(1.0, (run.step + 1) / WARM_UP)
        rate *= LEAST_RATE + (1 - LEAST_RATE) * (1 + math.cos(math.pi * share)) / 2
        for group, factor in zip(optimizer.param_groups, (1.0, plan.bases), strict=True):
            group["lr"] = rate * factor
        sums = 0.98 * sums + 0.02 * _step(run, crops, plan.kappa)
        if plan.pull:
            _pull(networks, anchors, plan.pull * rate)
        decay = min(plan.averaged, 1 - 5 / (run.step + 1)) if run.step > 10 else 0.0
        now = networks.state_dict()
        floats = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([run.average[name] for name in floats], [now[name] for name in floats], 1 - decay)
        now_is = time.monotonic()
        run.seconds, last = run.seconds + now_is - last, now_is
        if run.step % plan.told_steps == 0:
            told(run.step, share, *(sums / (1 - 0.98**run.step)).tolist())
        if run.seconds - kept > plan.kept_seconds:
            _keep(run, checkpoint)
            kept = run.seconds
            if checked is not None:
                checked(run.step, _averaged(run))
    _keep(run, checkpoint)
    if checked is not None:
        checked(run.step, _averaged(run))
    return _averaged(run).cpu()


def _step(run: _Run, crops: Crops, kappa: float) -> Tensor:
    """Take a step, and return bits and weighed error of a pixel, in one tensor.

    Where weights are stored with few bits, derivatives are those at the rounded weights; the weights themselves move.
    """
    x = crops.batch()
    places, middle = (
        low + (high - low) * torch.rand(len(x), generator=crops.rng, device=crops.device)
        for low, high in (ENDS, MIDDLE)
    )
    in_middle = torch.rand(len(x), generator=crops.rng, device=crops.device) < IN_MIDDLE
    q = place_of(torch.where(in_middle, middle, places))
    with run.networks.rounded():
        loss, (taken, squared) = loss_of(run.networks, x, q, kappa)
        run.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
    for parameter in run.networks.parameters():
        if parameter.grad is not None:
            torch.nan_to_num_(parameter.grad, 0.0, 0.0, 0.0)
    torch.nn.utils.clip_grad_norm_(run.networks.parameters(), 1.0)
    run.optimizer.step()
    run.step += 1
    weighed = squared / (kappa * torch.exp2(2 * (CENTRE + WIDTH * q)))
    return torch.stack([taken.mean(), weighed.mean()]) / x[0, 0].numel()


def _pull(networks: Networks, anchors: Sequence[Tensor], by: float) -> None:
    """Move large weights nearer to anchors, by a fixed distance, so that those stay there that hardly matter."""
    with torch.no_grad():
        for some, anchor in zip((one for group in networks.large() for one in group), anchors, strict=True):
            off = some - anchor
            some.copy_(anchor + torch.sign(off) * (off.abs() - by).clamp(min=0))


def _averaged(run: _Run) -> Networks:
    networks = copy.deepcopy(run.networks)
    networks.load_state_dict(run.average)
    return networks


def deviations_of(crops: Crops) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the standard deviation of each coefficient over some batches."""
    found, rows = list[Tensor](), torch.from_numpy(basis())
    for _ in range(SAMPLED_BATCHES):
        x = crops.batch().cpu()
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // 8, 8, w // 8, 8).permute(0, 2, 4, 1, 3, 5).reshape(-1, c * 64)
        found.append(blocks @ rows.T)
    deviations: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = torch.cat(found).std(0, correction=0).numpy()
    return deviations


def loss_of(networks: Networks, x: Tensor, q: Tensor, kappa: float) -> tuple[Tensor, Tensor]:
    """Return the loss of images (`n 3 h w`) at places (`n`), and their bits and squared errors (`2 n`).

    The prior learns from what is coded; analysis and steps learn from noise in its place, through which derivatives go.
    What the prior sees is found in two steps: first with noise, then with what that predicts and quantises.
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
    coded = bits(said[0] + (index * of_each).detach(), said, of_each.detach())
    noisy = bits(
        flat + (torch.rand_like(flat) - 0.5) * of_each,
        (said[0].detach(), said[1].detach(), said[2].detach(), said[3].detach()),
        of_each,
    )
    decoded = flat + (said[0] + index * of_each - flat).detach() + index * (of_each - of_each.detach())
    x_hat = networks.synthesise(decoded.view(y.shape), q)
    squared = ((x_hat - x) ** 2).sum((1, 2, 3))
    error = squared / (kappa * torch.exp2(2 * (CENTRE + WIDTH * q)))
    blocks = rows * columns
    taken, expected = (some.view(n, -1).sum(1) / blocks for some in (coded, noisy))
    loss = 10 * ((error / blocks + taken + expected) / (20 + taken.detach())).mean()  # all qualities count alike
    return loss, torch.stack([taken.detach() * blocks, squared.detach()])


def rates_of(networks: Networks, images: Pixels, device: str) -> list[tuple[float, float]]:
    """Return bits a pixel and the PSNR in decibels of images (`n h w 3`, sides multiples of SIDE), at CHECKED steps."""
    x, found = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() - 128, list[tuple[float, float]]()
    for log2_step in CHECKED:
        q = torch.full((TOGETHER,), log2_step, device=device)
        sums = torch.zeros(2, device=device)
        with torch.no_grad(), networks.rounded():
            for i in range(0, len(x), TOGETHER):
                some = x[i : i + TOGETHER]
                sums += loss_of(networks, some, place_of(q[: len(some)]), 1.0)[1].sum(1)
        taken, squared = sums.tolist()
        found.append((taken / (x.numel() / 3), 10 * math.log10(255**2 * x.numel() / squared)))
    return found


def quantised(y: Tensor, means: Tensor, steps: Tensor) -> Tensor:
    """Return the indices of coefficients."""
    off = (y - means) / steps
    return torch.sign(off) * torch.floor(off.abs() + 0.5 - DEAD_ZONE).clamp(min=0)


def _keep(run: _Run, path: Path) -> None:
    state = {
        "networks": run.networks.state_dict(),
        "fractions": run.networks.fractions,
        "average": run.average,
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "seconds": run.seconds,
    }
    with atomic_write(path, force=True) as file:
        torch.save(state, file)


def _resume(run: _Run, path: Path, device: str) -> None:
    state = torch.load(path, weights_only=True, map_location=device)
    run.networks.load_state_dict(state["networks"])
    run.networks.fractions = state["fractions"]
    run.optimizer.load_state_dict(state["optimizer"])
    run.average, run.step, run.seconds = state["average"], int(state["step"]), float(state["seconds"])
