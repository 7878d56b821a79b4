# SPDX-License-Identifier: MIT
"""The command line: parse, call, print. Heavy modules are imported by the command that needs them."""

import sys
from typing import Annotated

import typer

from smalti import __version__
from smalti.cli.data import data
from smalti.cli.files import info, pack, unpack
from smalti.cli.show import demo, figure
from smalti.cli.train import models, train
from smalti.errors import SmaltiError

app = typer.Typer(
    name="smalti",
    help="Learned compression for collections of small images.",
    epilog="Start with: smalti demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (pack, unpack, info, figure, demo, models, train, data):
    app.command()(command)


def _version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it with the flag alone
    if wanted:
        typer.echo(f"smalti {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = (
        False
    ),
) -> None:
    """Learned compression for collections of small images."""


def main() -> None:
    """Run the command line; every error of ours is one line on stderr and exit code 1, or 2 for wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal or pipe that cannot show a character shows "?"
    try:
        app(prog_name="smalti")
    except SmaltiError as exc:
        fail(str(exc), exc.exit_code)
    except MemoryError:
        fail("out of memory; give fewer images at a time", 1)


def fail(message: str, code: int) -> None:
    """End with one line on stderr."""
    typer.echo("smalti: " + " ".join(message.split()), err=True)
    sys.exit(code)
