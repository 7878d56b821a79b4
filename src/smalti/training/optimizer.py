# SPDX-License-Identifier: MIT
"""The optimiser SOAP, which nearly all trainings use."""

from typing import Any

import torch
from pytorch_optimizer import SOAP


def soap(parameters: Any, learning_rate: float, largest: int) -> torch.optim.Optimizer:
    """Return SOAP (Vyas et al. 2024): Adam in the eigenbasis of Shampoo's preconditioner, for axes up to `largest`."""
    return SOAP(parameters, lr=learning_rate, betas=(0.95, 0.95), weight_decay=0.0, max_precondition_dim=largest)
