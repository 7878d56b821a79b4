# SPDX-License-Identifier: MIT
"""Write a file whole or not at all: to a temporary file beside it, which is then renamed."""

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from smalti.errors import OutputError, OutputExistsError, UsageError

ADVICE = {errno.ENOSPC: "free some space", errno.ENOENT: "make its folder first"}
"""What to do about an error of the operating system, by its number."""


def as_path(path: "os.PathLike[str] | str") -> Path:
    """Return a path, given as a path or a text, as a Path.

    Raises:
        UsageError: it is neither.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"a file is named by a path, not by {path!r}; give a text or a pathlib.Path")
    return Path(path)


@contextlib.contextmanager
def atomic_write(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` when the block ends without an error; otherwise `path` does not change.

    Raises:
        OutputExistsError: `path` exists and `force` is false.
        OutputError: the disk is full, the folder is missing or not writable, ...
    """
    refuse_existing(path, force=force)
    path = Path(os.path.realpath(path))  # a link stays a link: the file that it leads to is replaced
    temporary = path.parent / f".smalti.{secrets.token_hex(6)}.part"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):  # a file keeps its permissions when it is replaced
            shutil.copymode(path, temporary)
        refuse_existing(path, force=force)
        temporary.replace(path)
    except OSError as exc:
        raise output_error(path, exc) from exc
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Check that `path` may be written: it must not exist, or be a regular file and `force` be true.

    Raises:
        OutputExistsError: `path` exists and may not be replaced.
        OutputError: the operating system does not let us see whether it exists.
    """
    try:
        mode = path.stat().st_mode if os.path.lexists(path) else None
    except FileNotFoundError:
        return  # a link that leads nowhere yet
    except (OSError, ValueError) as exc:
        raise output_error(path, exc) from exc
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputExistsError(f"{path} is a folder; give the name of a file to write")
    if mode is not None and not stat.S_ISREG(mode):
        raise OutputExistsError(f"{path} is no regular file; give the name of a file to write")
    if mode is not None and not force:
        raise OutputExistsError(f"{path} exists already; choose another name or add force=True to replace it")


def output_error(path: Path, exc: OSError | ValueError) -> OutputError:
    """Return the error for a target that the operating system does not let us write."""
    number, reason = getattr(exc, "errno", None) or 0, getattr(exc, "strerror", None) or exc
    return OutputError(f"cannot write {path}: {reason}; {ADVICE.get(number, 'choose another place')}")
