# SPDX-License-Identifier: MIT
"""The command smalti data."""

from typing import Annotated, Literal

import typer


def data(
    name: Annotated[Literal["mnist"], typer.Argument(help="The name of the data set.")],
) -> None:
    """Download a data set into the user's cache, check its SHA-256, and print the paths of its files.

    Examples:
    smalti data mnist
    """
    from smalti.demo.downloads import fetch

    for path in fetch(name):
        typer.echo(str(path))
