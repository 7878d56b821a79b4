# SPDX-License-Identifier: MIT
"""Run the code blocks of a markdown page, in their order, in one folder and one Python namespace.

What runs: `python` blocks; in `sh` blocks each command of smalti, python or the shell; in `console` blocks each line
behind `$ `, whose output must be that of the page (`...` stands for anything, and white space does not count). The
lines of an `sh` block are alternatives: what `-o` names is removed before each of them.

What does not run: `pip install`; a block behind `<!-- not run: REASON -->`; and commands that need the network or much
time (`smalti train`, `smalti data`, URLs, `scripts/`). Of these the options are parsed, so that they are there.
"""

import argparse
import contextlib
import doctest
import io
import itertools
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from helpers import ROOT

BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+) -->\n+)?^(?P<indent> *)```(?P<kind>\w+)\n(?P<code>.*?)^ *```$", re.M | re.S
)
KINDS = {"python", "sh", "console"}
NOT_CODE = {"json", "text"}
_PARSED_ONLY = re.compile(r"^smalti (train|data)\b|://|\bsmalti demo\b|^scripts/")
_COLOURS = {"FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
_CHECKER = doctest.OutputChecker()


class Block(NamedTuple):
    """A code block of a page."""

    line: int
    kind: str
    code: str
    why_not: str | None


def blocks(text: str) -> Iterator[Block]:
    """Yield the code blocks of a page."""
    for found in BLOCK.finditer(text):
        indent = len(found["indent"])
        code = "".join(line[indent:] if line.strip() else line for line in found["code"].splitlines(keepends=True))
        yield Block(text.count("\n", 0, found.start("code")), found["kind"], code, found["why"])


def run_page(path: Path, namespace: dict[str, object]) -> None:
    """Run all blocks of a page in the current folder; raise what they raise."""
    for block in blocks(path.read_text(encoding="utf-8")):
        where = f"{path.name}, line {block.line}"
        if block.kind in NOT_CODE or block.why_not:
            continue
        assert block.kind in KINDS, f"{where}: blocks are of {KINDS | NOT_CODE}, not of {block.kind}"
        try:
            if block.kind == "python":
                code = "\n" * block.line + block.code
                exec(compile(code, str(path), "exec"), namespace)
            elif block.kind == "sh":
                _run_shell(block.code)
            else:
                _run_console(block.code)
        except Exception as exc:
            exc.add_note(where)
            raise


def _commands(code: str) -> Iterator[str]:
    """Yield the commands of a block: continued lines as one, without comments and empty lines."""
    for line in code.replace("\\\n", " ").splitlines():
        if command := re.sub(r"(^|\s)#.*", "", line).strip():
            yield command


def _run_shell(code: str) -> None:
    for command in _commands(code):
        if not _PARSED_ONLY.search(command):
            _remove_target(command)
        _run(command)


def _run_console(code: str) -> None:
    for part in re.split(r"^\$ ", code, flags=re.M)[1:]:
        command, _, expected = part.partition("\n")
        got = _run(command.partition("  #")[0].strip())
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert not expected.strip() or _CHECKER.check_output(expected, got, flags), f"$ {command}\n{got}"


def _remove_target(command: str) -> None:
    words = shlex.split(command)
    for option, value in itertools.pairwise(words):
        if option in ("-o", "--output") and value != "-" and words[0] == "smalti":
            shutil.rmtree(value, ignore_errors=True)
            with contextlib.suppress(OSError):
                Path(value).unlink(missing_ok=True)


def _run(command: str) -> str:
    """Run a command and return what it prints; one that is not run is parsed."""
    if command.startswith("pip install"):
        return ""
    if _PARSED_ONLY.search(command):
        words = shlex.split(command)
        parse_script(*words) if words[0].startswith("scripts/") else _parse(words[1:])
        return ""
    if command.startswith("smalti ") and not set("|<>;&*$") & set(command):
        return _smalti(shlex.split(command)[1:])
    environment = {name: value for name, value in os.environ.items() if name not in _COLOURS}
    python = shlex.quote(sys.executable)
    prelude = f'smalti() {{ {python} -m smalti "$@"; }}; python() {{ {python} "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", prelude + command],
        capture_output=True,
        encoding="utf-8",
        env={**environment, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def _smalti(arguments: list[str]) -> str:
    """Run the command line in this process, which is faster, and return what it prints."""
    from smalti.cli import main

    out, err, was = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["smalti", *arguments]
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as exc:
        code = exc.code
    finally:
        sys.argv = was
    assert code in (0, None), f"smalti {shlex.join(arguments)}\n{err.getvalue()}"
    return out.getvalue()


def _parse(arguments: list[str]) -> None:
    """Parse the arguments of a command, as smalti does, and do not run it."""
    from smalti.cli import app

    if arguments[0].startswith("model") and arguments[0] != "models":
        raise AssertionError("a command of `smalti model` runs at once")
    _parse_by(app, "smalti", arguments)


def _parse_by(app: object, program: str, arguments: list[str]) -> None:
    import typer

    try:
        typer.main.get_command(app).commands[arguments[0]].make_context(arguments[0], arguments[1:])
    except Exception as exc:
        raise AssertionError(f"{program} {shlex.join(arguments)}: {exc}") from exc


class _Parsed(Exception):
    """A script has parsed its arguments."""


def parse_script(script: str, *arguments: str) -> None:
    """Parse the arguments of a script of the repository, as it does, and do not run it."""
    path = ROOT / script
    assert path.is_file(), f"there is no {script}"
    if script == "scripts/bench":
        from bench.__main__ import app

        _parse_by(app, script, list(arguments))
    elif "parse_args()" in path.read_text(encoding="utf-8"):
        parse = argparse.ArgumentParser.parse_args

        def parse_only(self: argparse.ArgumentParser) -> None:
            parse(self, list(arguments))
            raise _Parsed

        with mock.patch.object(argparse.ArgumentParser, "parse_args", parse_only), contextlib.suppress(_Parsed):
            try:
                runpy.run_path(str(path), run_name="__main__")
            except SystemExit as exc:
                raise AssertionError(f"{script} {shlex.join(arguments)} is refused") from exc
            raise AssertionError(f"{script} parses its arguments too late")
    else:
        paths = [argument.split("::")[0] for argument in arguments if not argument.startswith("-")]
        assert all((ROOT / one).exists() for one in paths), f"{script} {shlex.join(arguments)}: no such file"
