# SPDX-License-Identifier: MIT
"""What the commands share for printing: a progress bar, numbers of images and bytes."""

import contextlib
from collections.abc import Callable, Iterator

Advance = Callable[[int, int | None], None]
"""A function that is called with the number of images just done, and of all images, if that is known."""


_OPTIONS = {
    "add force=True to": "add --force to",
    "leave labels out: labels=False": "leave labels out: --no-labels",
    "convert=True": "--convert",
    "resize=256": "--resize 256",
    "alpha_quality=": "--alpha-quality ",
}
"""What messages call arguments of functions, and what the command line calls them."""


def in_options(message: str) -> str:
    """Return a message of the library with options of the command line in the place of arguments."""
    for argument, option in _OPTIONS.items():
        message = message.replace(argument, option)
    return message


@contextlib.contextmanager
def progress(what: str) -> Iterator[Advance]:
    """Show a progress bar over images on stderr while the block runs, if stderr is a terminal.

    Yields the function that advances the bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, advance=done, total=total)


@contextlib.contextmanager
def share(what: str, *, shown: bool = True) -> Iterator[Callable[[float], None]]:
    """Show a progress bar over a share of some work on stderr, if stderr is a terminal, until the work is done.

    Yields the function that takes the share, 0 to 1.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        if not shown or not console.is_terminal:
            yield lambda _: None
            return
        bar = stack.enter_context(Progress(*columns, console=console, transient=True))
        task = bar.add_task(what, total=1.0)

        def tell(done: float) -> None:
            bar.update(task, completed=done)
            if done >= 1:
                bar.stop()

        yield tell


def images(n: int) -> str:
    """Return a number of images as text.

    >>> images(1), images(1200)
    ('1 image', '1,200 images')
    """
    return f"{n:,} image" + ("s" if n != 1 else "")


def size(n: float) -> str:
    """Return a number of bytes as text.

    >>> size(268), size(1648877)
    ('268 bytes', '1.65 MB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return f"{n:.0f} bytes"
