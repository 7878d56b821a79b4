# SPDX-License-Identifier: MIT
"""The sets of small pictures that are measured: those that no built-in model was trained on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from smalti.training.mixers.sets import HELD_SIDES, Divided, read_photos, read_strips
from smalti.types import Pixels


def held_out(data: Path, only: list[str], most: int) -> dict[str, Callable[[], list[Pixels]]]:
    """Return for each set, or each of `only`, a function that reads at most `most` held-out images, evenly spread."""
    sets: dict[str, Callable[[], Divided]] = {
        name: partial(read_strips, data, name) for name in ("cifar", "signs", "emoji")
    }
    sets |= {f"photographs-{side}": partial(read_photos, data, ((side,),)) for side in HELD_SIDES}
    return {name: partial(_spread, read, most) for name, read in sets.items() if not only or name in only}


def _spread(read: Callable[[], Divided], most: int) -> list[Pixels]:
    held = read().held
    return held[:: -(-len(held) // most)]
