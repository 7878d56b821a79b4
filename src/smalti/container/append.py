# SPDX-License-Identifier: MIT
"""Append to an archive where it lies: what was there stays readable at every moment.

The header first says where the archive ends now; all that is new goes behind; then the header says where it ends then.
Whatever interrupts this, what lies behind the end counts for nothing, and the next one who appends writes over it.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from smalti.container.format import HEADER, pack_header
from smalti.container.reader import Reader
from smalti.container.records import ArchiveWriter
from smalti.errors import OutputError
from smalti.util.atomic import output_error
from smalti.util.storage import Storage


@contextlib.contextmanager
def grow(path: Path, reader: Reader) -> Iterator[ArchiveWriter]:
    """A writer of what comes behind the archive `path`, which `reader` has read; it counts when the block ends well.

    Raises:
        OutputError: the file cannot be written, or somebody else is appending to it.
    """
    old, model_id = reader.end, reader.model_id
    try:
        with path.open("r+b") as file:
            _lock(file, path, reader.storage)
            header = file.read(HEADER.size)
            _say_end(file, model_id, old)
            file.truncate(old)
            file.seek(old)
            try:
                writer = ArchiveWriter.resume(file, reader.index, old)
                yield writer
                new = writer.finish()
                _sync(file)
            except BaseException:
                with contextlib.suppress(OSError):  # what is left there counts for nothing, but takes room
                    os.ftruncate(file.fileno(), old)
                    file.flush()  # what waited to be written, so that nothing comes behind the truncation
                    file.truncate(old)
                    _sync(file)
                    file.seek(0)
                    file.write(header)
                raise
            _say_end(file, model_id, new)
    except OSError as exc:
        raise output_error(path, exc) from exc


def _say_end(file: BinaryIO, model_id: bytes, end: int) -> None:
    file.seek(0)
    file.write(pack_header(model_id, end))
    _sync(file)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def alone(path: Path, storage: Storage) -> Iterator[None]:
    """Nobody else appends to the file meanwhile, which is still what was opened as `storage`.

    Raises:
        OutputError: somebody does, or it is another one by now, or cannot be written.
    """
    try:
        with path.open("r+b") as file:
            _lock(file, path, storage)
            yield
    except OSError as exc:
        raise output_error(path, exc) from exc


def _lock(file: BinaryIO, path: Path, storage: Storage) -> None:
    """Keep others from appending at the same time, where the operating system has such locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ModuleNotFoundError:
        pass
    except OSError as exc:
        raise OutputError(f"{path} is being written by another process; wait for it") from exc
    now = os.fstat(file.fileno())
    if (now.st_dev, now.st_ino, now.st_size) != (*getattr(storage, "identity", ()), storage.size):
        raise OutputError(f"{path} has changed since it was opened; try again")
