# SPDX-License-Identifier: MIT
"""The commands smalti remove, replace and compact."""

from pathlib import Path
from typing import Annotated

import typer

from smalti.cli.console import images, progress, size
from smalti.cli.options import (
    AlphaQuality,
    AskedQuality,
    CodingModel,
    Convert,
    Effort,
    HiddenColours,
    Lossless,
    MaxError,
    Metric,
    MinPsnr,
    ModelOption,
    Resize,
    lossless_error,
)

File = Annotated[str, typer.Argument(metavar="FILE", help="A smalti file.")]
WHICH = "The number of an image, from 0 on, or its name; a number that is the name of an image is taken as the name."


def remove(
    file: File,
    which: Annotated[list[str], typer.Argument(metavar="INDEX-OR-NAME", help=WHICH)],
) -> None:
    """Remove images from a smalti file. A few bytes are appended; `smalti compact` makes the file smaller.

    Examples:
    smalti remove scans.smalti 17 18

    smalti remove scans.smalti letters/0007.png
    """
    from smalti.archive.editing.change import remove as remove_images

    done = remove_images(file, _which(file, which))
    typer.echo(f"{file}: {images(done.images)}, {size(done.bytes)}; smalti compact makes it smaller")


def replace(
    file: File,
    which: Annotated[str, typer.Argument(metavar="INDEX-OR-NAME", help=WHICH)],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The new image: a file that pack reads.")],
    model: CodingModel = "auto",
    quality: AskedQuality = None,
    min_psnr: MinPsnr = None,
    lossless: Lossless = False,
    max_error: MaxError = None,
    effort: Effort = 5,
    metric: Metric = "psnr",
    alpha_quality: AlphaQuality = 100,
    convert: Convert = False,
    resize: Resize = None,
    hidden_colours: HiddenColours = "keep",
) -> None:
    """Replace an image of a smalti file. The new one keeps the name and the label of the old one.

    Examples:
    smalti replace scans.smalti 17 better.png --quality 90
    """
    from smalti.archive.editing.change import replace as replace_images

    with progress("replacing") as advance:
        done = replace_images(
            file,
            _which(file, [which]),
            source,
            model=model,
            quality=quality,
            min_psnr=min_psnr,
            max_error=lossless_error(lossless=lossless, max_error=max_error),
            effort=effort,
            metric=metric,
            alpha_quality=alpha_quality,
            convert=convert,
            resize=resize,
            hidden_colours=hidden_colours,
            progress=advance,
        )
    typer.echo(f"{file}: {size(done.bytes)}")


def compact(file: File, model: ModelOption = None) -> None:
    """Write a smalti file anew, without what was removed, and with small blocks joined. No pixel changes.

    Examples:
    smalti compact scans.smalti
    """
    from smalti.archive.editing.change import compact as compact_file

    before = Path(file).stat().st_size if Path(file).is_file() else 0
    with progress("compacting") as advance:
        done = compact_file(file, model=model, progress=advance)
    typer.echo(f"{file}: {images(done.images)}, {size(done.bytes)} instead of {size(before)}")


def _which(file: str, words: list[str]) -> list[int | str]:
    """Return images that are named on the command line, as numbers or names.

    Raises:
        UsageError: a number is below 0. In Python it counts from the end, but here it is likelier a slip.
    """
    from smalti.archive.reader import Contents
    from smalti.errors import UsageError

    if "://" in file:  # which is refused later
        return list(words)
    contents = Contents(Path(file), models=False)
    try:
        names = set(contents.names() or ())
    finally:
        contents.storage.close()
    for word in words:
        if word not in names and word.startswith("-") and word.lstrip("-").isdecimal():
            raise UsageError(f"{word} is no number of an image; give a number from 0 on, or a name")
    return [int(word) if word not in names and word.isdecimal() else word for word in words]
