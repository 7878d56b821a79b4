# SPDX-License-Identifier: MIT
"""The command line: each command parses its options, calls the library and prints the result.

Heavy modules are imported within the command that needs them, so that the others start fast.
"""

import os
import re
import sys
from typing import Annotated, NoReturn

import typer

from smalti import __version__
from smalti.cli.change import compact, remove, replace
from smalti.cli.console import in_options
from smalti.cli.download import data
from smalti.cli.edit import append, merge, repair, select, verify
from smalti.cli.models import model_app, models
from smalti.cli.pack import info, pack, unpack
from smalti.cli.show import demo, figure
from smalti.cli.train import train
from smalti.core.library import describe_engine
from smalti.errors import SmaltiError

app = typer.Typer(
    name="smalti",
    help="Learned compression for collections of small images.",
    epilog="Start with: smalti demo",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    pack,
    unpack,
    info,
    append,
    remove,
    replace,
    compact,
    merge,
    select,
    verify,
    repair,
    figure,
    demo,
    models,
    train,
    data,
):
    app.command()(command)
app.add_typer(model_app)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and the engine that computes, and exit.")
    ] = False,
) -> None:
    """Learned compression for collections of small images."""
    if version:
        typer.echo(f"smalti {__version__} (engine: {describe_engine()})")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def main() -> None:
    """Run the command line. Every error becomes one line on stderr and the exit code 1, or 2 for wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # it has none if it is closed
            stream.reconfigure(errors="replace")  # a terminal or pipe that cannot show a character shows "?"
    try:
        code = app(prog_name="smalti", standalone_mode=False)
        if sys.stdout:
            sys.stdout.flush()
    except SmaltiError as exc:
        _fail(in_options(str(exc)), exc.exit_code)
    except MemoryError:
        _fail("out of memory; give fewer images at a time", 1)
    except OSError as exc:  # an error of standard output: errors of files were wrapped where they arose
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - so that the interpreter's last flush does not fail
        _fail(f"cannot write the output: {exc.strerror or exc}", 1)
    except Exception as exc:
        if not hasattr(exc, "format_message"):  # else it is an error of Typer's parser, whose class has no public name
            raise
        _fail(f"{_in_words(exc.format_message()).rstrip('.')}. See: smalti --help", getattr(exc, "exit_code", 2))
    sys.exit(code if isinstance(code, int) else 0)


_NO_NUMBER = re.compile(
    r"Invalid value for '([^']+)'.*: (?:'.*' is not|Input should be) a valid (integer|float|number)\b.*", re.DOTALL
)
_NO_CHOICE = re.compile(r"Invalid value for '([^']+)'.*: (?:Value error, )?('.*') is not one of ([^.]+)\.?", re.DOTALL)


def _in_words(message: str) -> str:
    """Return a message of Typer's parser, in plain words where it speaks of types.

    >>> _in_words("Invalid value for '--quality' / '-q': '50.5' is not a valid integer.")
    '--quality takes a whole number.'
    >>> _in_words("Invalid value for '--packing': Value error, 'foo' is not one of 'block', 'each', 'solid'.")
    "--packing takes one of block, each, solid, and not 'foo'."
    """
    if (choice := _NO_CHOICE.fullmatch(message)) is not None:
        return f"{choice[1]} takes one of {choice[3].replace(chr(39), '')}, and not {choice[2]}."
    if (found := _NO_NUMBER.fullmatch(message)) is None:
        return message
    option, kind = found.groups()
    return f"{option} takes a {'whole number' if kind == 'integer' else 'number'}."


def _fail(message: str, code: int) -> NoReturn:
    """Print one line to stderr and exit."""
    typer.echo("smalti: " + " ".join(message.split()), err=True)
    sys.exit(code)
