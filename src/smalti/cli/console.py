# SPDX-License-Identifier: MIT
"""What the commands share in printing: a progress bar on a terminal, sizes for people."""

import contextlib
from collections.abc import Callable, Iterator

Advance = Callable[[float], None]


@contextlib.contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Advance]:
    """A progress bar over `total` images on stderr, gone when done; nothing where stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def size(n: float) -> str:
    """A number of bytes for people.

    >>> size(268), size(1648877)
    ('268 bytes', '1.65 MB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return f"{n:.0f} bytes"
