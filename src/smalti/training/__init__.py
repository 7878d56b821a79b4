# SPDX-License-Identifier: MIT
"""Train a model and export it as a bundle. This is the only part of smalti that knows torch.

`train(source, output, plan=TrainingPlan(...))` does all that the command `smalti train` does.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smalti.training.listener import Listener
    from smalti.training.train_bundle import TrainedModel, train
    from smalti.training.training_plan import TrainingPlan

__all__ = ["Listener", "TrainedModel", "TrainingPlan", "train"]

_HOME = {
    "Listener": "listener",
    "TrainedModel": "train_bundle",
    "TrainingPlan": "training_plan",
    "train": "train_bundle",
}
"""Where each public name lives; its module is imported when the name is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'smalti.training' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"smalti.training.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
