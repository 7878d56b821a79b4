# SPDX-License-Identifier: MIT
"""The protocol of those who are told how training goes."""

from typing import Literal, Protocol

Stage = Literal["training", "exporting", "comparing"]
"""A stage: to train a part, to measure it and write it into the bundle, or to compare the model with other codecs."""


class Listener(Protocol):
    """Somebody who is told how training goes. In a training by several processes, only the first one tells."""

    def stage(self, name: Stage, part: str) -> None:
        """Hear that a stage begins; `part` is "latents", "pixels" or "autoencoder", or "" for the whole model."""

    def start(self, total: float, done: float) -> None:
        """Hear that training takes `total` units of work, of which `done` have been done by earlier calls."""

    def step(self, work: float, loss: float) -> None:
        """Hear that a training step of `work` units is done, and what its loss was."""

    def epoch(self, row: dict[str, float], words: str) -> None:
        """Hear that an epoch is done; `row` is its line of the log, `words` says what it means."""

    def say(self, text: str) -> None:
        """Hear of something else in training that is worth a line."""

    def advance(self, done: int, total: int | None) -> None:
        """Hear that `done` more of the `total` measurements of exporting or comparing are done."""

    def finished(self, words: str) -> None:
        """Hear that a part is in the bundle; `words` say how well it was trained, and where its log is."""


class Nobody:
    """A listener that does nothing."""

    def stage(self, name: Stage, part: str) -> None: ...
    def start(self, total: float, done: float) -> None: ...
    def step(self, work: float, loss: float) -> None: ...
    def epoch(self, row: dict[str, float], words: str) -> None: ...
    def say(self, text: str) -> None: ...
    def advance(self, done: int, total: int | None) -> None: ...
    def finished(self, words: str) -> None: ...
