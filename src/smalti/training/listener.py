# SPDX-License-Identifier: MIT
"""The protocol of those who are told how training goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Stage = Literal["training", "exporting", "comparing"]
"""A stage: to train a part, to measure it and write it into the bundle, or to compare the model with other codecs."""


@dataclass(frozen=True)
class Planned:
    """A stage of the whole training before it begins."""

    stage: Stage
    part: str  # "latents", "pixels" or "autoencoder"; "" for the whole model
    seconds: float  # about
    words: str  # what is done, such as "2,000 steps of 192 images"


class Listener(Protocol):
    """Somebody who is told how training goes. In a training by several processes, only the first one tells."""

    def plan(self, stages: Sequence[Planned], words: str) -> None:
        """Hear, before the first stage, of all stages in order; `words` says what else is to be known, if anything."""

    def stage(self, name: Stage, part: str) -> None:
        """Hear that a stage begins; `part` is "latents", "pixels" or "autoencoder", or "" for the whole model."""

    def start(self, total: float, done: float) -> None:
        """Hear that training takes `total` units of work, of which `done` have been done by earlier calls."""

    def step(self, work: float, loss: float) -> None:
        """Hear that a training step of `work` units is done, and what its loss was."""

    def epoch(self, row: dict[str, float], words: str) -> None:
        """Hear that an epoch is done; `row` is its line of the log, `words` says what it means in one short line."""

    def say(self, text: str) -> None:
        """Hear of something else in training that is worth a line."""

    def advance(self, done: int, total: int | None) -> None:
        """Hear that `done` more of the `total` steps of exporting or comparing are done."""

    def finished(self, words: str) -> None:
        """Hear that a part is in the bundle; `words` say how well it was trained, and where its log is."""


class Nobody:
    """A listener that does nothing."""

    def plan(self, stages: Sequence[Planned], words: str) -> None: ...
    def stage(self, name: Stage, part: str) -> None: ...
    def start(self, total: float, done: float) -> None: ...
    def step(self, work: float, loss: float) -> None: ...
    def epoch(self, row: dict[str, float], words: str) -> None: ...
    def say(self, text: str) -> None: ...
    def advance(self, done: int, total: int | None) -> None: ...
    def finished(self, words: str) -> None: ...
