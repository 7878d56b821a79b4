# SPDX-License-Identifier: MIT
"""Write a file whole or not at all: to a temporary file beside the target, fsync, rename."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from smalti.errors import OutputError, OutputExistsError


@contextlib.contextmanager
def atomic_write(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends well; otherwise `path` stays as it was.

    Raises:
        OutputExistsError: `path` exists and `force` is false.
        OutputError: the disk is full, the folder is missing, not writable, ...
    """
    refuse_existing(path, force=force)
    temporary = path.parent / f".{path.name[:100]}.{secrets.token_hex(4)}.part"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        refuse_existing(path, force=force)
        temporary.replace(path)
    except OSError as exc:
        raise output_error(path, exc) from exc
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise OutputExistsError if `path` exists and may not be replaced; a folder is never replaced by a file."""
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder; give the name of a file to write")
    if path.exists() and not force:
        raise OutputExistsError(f"{path} exists already; choose another name or add --force to replace it")


def output_error(path: Path, exc: OSError) -> OutputError:
    """The error for a target that the operating system does not let us write."""
    advice = "free some space" if exc.errno == errno.ENOSPC else "choose another place"
    return OutputError(f"cannot write {path}: {exc.strerror or exc}; {advice}")
