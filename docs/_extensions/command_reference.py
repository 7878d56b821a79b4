# SPDX-License-Identifier: MIT
"""A Sphinx extension that writes the reference of the command line from what Typer knows of it.

The directive `smalti-commands` stands for a section for each command: usage, what it does, arguments and options.
"""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import typer
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from smalti.cli import app

_ESCAPED = re.compile(r"[*\[<]")
_BETWEEN_EXAMPLES = re.compile(r"\n\n(?=smalti )")


class Commands(SphinxDirective):
    """A section for each command of smalti."""

    def run(self) -> list[Any]:
        command = typer.main.get_command(app)
        return self.parse_text_to_nodes("\n".join(_sections(command, ("smalti",))), allow_section_headings=True)


def _sections(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines (MyST) of a command, then of the commands in it."""
    context = command.make_context(path[-1], [], resilient_parsing=True)
    if commands := getattr(command, "commands", None):
        for name, one in commands.items():
            yield from _sections(one, (*path, name))
        return
    pieces = " ".join(piece for piece in command.collect_usage_pieces(context))
    yield from (f"## {' '.join(path)}", "", "```text", f"{' '.join(path)} {pieces}", "```", "")
    yield from (*_paragraphs(command.help or ""), "")
    for parameter in command.params:
        if parameter.name != "help":
            yield from _entry(parameter, context)


def _entry(parameter: Any, context: Any) -> Iterator[str]:
    """Yield the lines of an argument or an option."""
    if (record := parameter.get_help_record(context)) is not None:
        name, text = record
        name = name.replace(" <list[str]>", "...")
        yield from (f"`{' '.join(name.split())}`", f": {' '.join(_plain(text))}", "")


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the lines of the help text of a command; examples that follow one another are one block of code."""
    lines = _plain(_BETWEEN_EXAMPLES.sub("\n", text))
    for example, some in itertools.groupby(lines, lambda line: line.startswith("smalti ")):
        fences = (["", "```text"], ["```", ""]) if example else ([], [])
        yield from (*fences[0], *some, *fences[1])


def _plain(text: str) -> list[str]:
    """Return the lines of a help text without what is markup to MyST; examples stay as they are typed."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return [line if line.startswith("smalti ") else _ESCAPED.sub(r"\\\g<0>", line) for line in lines]


def setup(sphinx: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    sphinx.add_directive("smalti-commands", Commands)
    return {"parallel_read_safe": True}
