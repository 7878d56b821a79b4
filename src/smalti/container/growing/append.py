# SPDX-License-Identifier: MIT
"""Append records to an archive in place, so that it stays readable at every moment.

First the old end of the archive is written into the header; then the new records are written behind it; then the new
end is written into the header. If this is interrupted, readers ignore what lies behind the old end, and the next
process that appends overwrites it.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from smalti.container.archive_reader import ArchiveReader
from smalti.container.format import EXTENDED, HEADER, VERSION, pack_header
from smalti.container.records import ArchiveWriter
from smalti.errors import OutputError
from smalti.util.atomic import output_error
from smalti.util.file_lock import lock
from smalti.util.storage import Storage


@contextlib.contextmanager
def grow(path: Path, reader: ArchiveReader) -> Iterator[ArchiveWriter]:
    """Yield a writer that appends to the archive `path`, which `reader` has read.

    What it writes becomes part of the archive when the block ends without an error.

    Raises:
        OutputError: the file cannot be written, has changed, or another process is writing it.
    """
    old, model_id, extended = reader.end, reader.model_id, reader.extended
    try:
        with path.open("r+b") as file:
            _lock(file, path, reader.storage)
            header = file.read(HEADER.size)
            if header != pack_header(model_id, old, EXTENDED if extended else VERSION):
                _say_end(file, model_id, old, extended=extended)
            file.truncate(old)
            file.seek(old)
            try:
                writer = ArchiveWriter.resume(file, reader)
                yield writer
                new = writer.finish()
                _sync(file)
            except BaseException:
                with contextlib.suppress(OSError):  # readers ignore what is left behind the end, but it takes room
                    os.ftruncate(file.fileno(), old)
                    file.flush()  # buffered bytes are written now, so that none come after the truncation
                    file.truncate(old)
                    _sync(file)
                    file.seek(0)
                    file.write(header)
                raise
            _say_end(file, model_id, new, extended=writer.extended)
    except OSError as exc:
        raise output_error(path, exc) from exc


def _say_end(file: BinaryIO, model_id: bytes, end: int, *, extended: bool) -> None:
    file.seek(0)
    file.write(pack_header(model_id, end, EXTENDED if extended else VERSION))
    _sync(file)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def alone(path: Path, storage: Storage) -> Iterator[None]:
    """Keep other processes from writing the file while the block runs.

    Raises:
        OutputError: another process is writing it, the file is no longer the one that was opened as `storage`, or it
            cannot be written.
    """
    try:
        with path.open("r+b") as file:
            _lock(file, path, storage)
            yield
    except OSError as exc:
        raise output_error(path, exc) from exc


def _lock(file: BinaryIO, path: Path, storage: Storage) -> None:
    """Lock a file against other processes that write it, and check that it is the one that was opened as `storage`.

    Raises:
        OutputError: another process holds the lock, or the file is another one, or has changed.
    """
    if not lock(file):
        raise OutputError(f"{path} is being written by another process; wait for it")
    now, named = os.fstat(file.fileno()), path.stat()  # the file may have been replaced before it was locked
    here = now.st_dev, now.st_ino
    if here != (named.st_dev, named.st_ino) or (*here, now.st_size) != (
        *getattr(storage, "identity", ()),
        storage.size,
    ):
        raise OutputError(f"{path} has changed since it was opened; try again")
