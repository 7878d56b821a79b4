# SPDX-License-Identifier: MIT
"""Write the state of a training to a checkpoint, atomically, and read it back."""

import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smalti.errors import TrainingError
from smalti.training.schedule import differences
from smalti.util.atomic import atomic_write

CHECKPOINT = "checkpoint.pt"
VERSION = 2


@dataclass
class State:
    """The state of a training; together with weights and optimiser it makes a checkpoint."""

    seed: int
    phase: int = 0
    epoch: int = 0  # in the phase
    step: int = 0  # in the epoch
    best_score: float = math.inf  # on the validation images, in this phase
    best_epoch: int = 0  # counted over all phases, from 1
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    loss_sum: float = 0.0  # over the epoch's steps so far
    seconds: float = 0.0  # spent in training, over all runs
    log: list[dict[str, float]] = field(default_factory=list)


def save(
    folder: Path, fingerprint: dict[str, Any], state: State, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write a checkpoint; `fingerprint` identifies the plan and the images of the training."""
    content = {
        "version": VERSION,
        "plan": fingerprint,
        "state": vars(state),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    data = io.BytesIO()
    torch.save(content, data)  # not into the file: torch has errors of its own for a full disk
    with atomic_write(folder / CHECKPOINT, force=True) as file:
        file.write(data.getbuffer())


def load(folder: Path, fingerprint: dict[str, Any]) -> dict[str, Any] | None:
    """Return what `save` wrote ("state", "model" and "optimizer"), or None if there is no checkpoint.

    Raises:
        TrainingError: the checkpoint cannot be read, or is of another training.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        matches = saved["version"] == VERSION and saved["plan"] == fingerprint
    except Exception as exc:
        raise TrainingError(f"cannot read the checkpoint {path}; delete it to start anew") from exc
    if not matches:
        others = differences(saved.get("plan"), fingerprint)
        raise TrainingError(f"{path} is of a training with {others}; give that again, or delete {folder} to begin anew")
    return saved
