# SPDX-License-Identifier: MIT
"""`scripts/bench NAME ...` runs one of the benchmarks."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from bench.data import test_images
from smalti.bundle import DEFAULT_MODEL
from smalti.control import DEFAULT_EFFORT
from smalti.errors import SmaltiError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _benchmarks() -> None:
    """Benchmarks of smalti."""


@app.command()
def rd(
    data: Annotated[Literal["mnist", "fashion-mnist", "drawn"], typer.Option(help="Test images.")] = "mnist",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the CSV, the table and the plot.")] = Path(
        "bench-out"
    ),
    images: Annotated[int | None, typer.Option(min=4, help="Only so many images, from the first.")] = None,
    model: Annotated[str, typer.Option(help="Name or path of the model.")] = DEFAULT_MODEL,
    effort: Annotated[list[int], typer.Option(min=1, max=9, help="Of smalti; may be given more than once.")] = [  # noqa: B006 - Typer reads it, nobody changes it
        DEFAULT_EFFORT
    ],
) -> None:
    """Rate, distortion and speed of smalti and of every codec a user would pick instead."""
    from bench.rd import run

    run(test_images(data)[:images], output, data, model, effort)


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="scripts/bench")
    except SmaltiError as exc:
        typer.echo(f"bench: {exc}", err=True)
        sys.exit(exc.exit_code)


if __name__ == "__main__":
    main()
