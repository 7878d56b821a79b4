# SPDX-License-Identifier: MIT
"""Who is told how training goes."""

from typing import Protocol


class Listener(Protocol):
    """Whoever wants to know how training goes."""

    def start(self, total: float, done: float) -> None:
        """Training has `total` units of work, of which `done` are behind it."""

    def step(self, work: float, loss: float) -> None:
        """A step of `work` units is done."""

    def epoch(self, row: dict[str, float], words: str) -> None:
        """An epoch is done; `row` is its line of the log, `words` says what it means."""

    def say(self, text: str) -> None:
        """Something worth a line happened."""


class Nobody:
    """The listener of the other processes."""

    def start(self, total: float, done: float) -> None: ...
    def step(self, work: float, loss: float) -> None: ...
    def epoch(self, row: dict[str, float], words: str) -> None: ...
    def say(self, text: str) -> None: ...
