# SPDX-License-Identifier: MIT
"""smalti data."""

from typing import Annotated, Literal

import typer


def data(
    name: Annotated[Literal["mnist"], typer.Argument(help="The data set.")],
) -> None:
    """Download a data set into the user's cache, checked by SHA-256, and print where its files are.

    Examples:
    smalti data mnist
    """
    from smalti.demo.downloads import fetch

    for path in fetch(name):
        typer.echo(str(path))
