# SPDX-License-Identifier: MIT
"""Storages that bytes are read from at any place: local files, memory, URLs, pipes.

Several threads may read from a storage at once.
"""

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from smalti.errors import MissingExtraError, SourceError, UsageError

COPY_BYTES = 1 << 20
"""Bytes that are copied at a time."""


@runtime_checkable
class Storage(Protocol):
    """Bytes that can be read at any place."""

    where: str  # the name that messages give it
    size: int  # bytes

    def read(self, at: int, size: int) -> bytes:
        """Return `size` bytes from byte `at` on, or fewer at the end.

        Raises:
            SourceError: they cannot be read.
        """
        ...

    def close(self) -> None:
        """Close the storage; reading from it afterwards is an error."""
        ...


@runtime_checkable
class Openable(Protocol):
    """An open binary file, or a file that fsspec can open."""

    def close(self) -> None:
        """Close the file."""
        ...


class Memory:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data, self.size = data, len(data)
        self.where = f"{len(data)} bytes in memory"

    def read(self, at: int, size: int) -> bytes:
        return self._data[at : at + size]

    def close(self) -> None:
        """There is nothing to close."""


class LocalFile:
    """A local file. Reads do not move a position in the file, so threads and forked processes may share it.

    Raises:
        SourceError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.where, self._lock = str(path), threading.Lock()
        try:
            self._file: BinaryIO = path.open("rb")
        except (OSError, ValueError) as exc:  # ValueError: a zero byte in the path
            raise SourceError(f"cannot open {path}: {getattr(exc, 'strerror', None) or exc}; check it") from exc
        try:
            self.size = self._file.seek(0, io.SEEK_END)
            status = os.fstat(self._file.fileno())
            self.identity = status.st_dev, status.st_ino  # the path may name another file later
            self.changed = status.st_mtime_ns
        except OSError as exc:
            self._file.close()
            raise SourceError(f"{path} cannot be read in any order; save it to a file first") from exc

    def read(self, at: int, size: int) -> bytes:
        try:
            if hasattr(os, "pread"):
                return self._whole(lambda done: os.pread(self._file.fileno(), size - done, at + done))
            with self._lock:
                self._file.seek(at)
                return self._file.read(size)
        except (OSError, ValueError) as exc:  # ValueError: closed
            raise SourceError(
                f"cannot read {self.where}: {getattr(exc, 'strerror', None) or exc}; open it again"
            ) from exc

    @staticmethod
    def _whole(read: Callable[[int], bytes]) -> bytes:
        """Call `read` until it gives no more, because one call gives at most 2 GiB."""
        parts, done = [], 0
        while part := read(done):
            parts.append(part)
            done += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        self._file.close()


class Remote:
    """A file that is read by ranges of bytes through fsspec: a URL, or a file of fsspec, open or not.

    Raises:
        MissingExtraError: fsspec is not installed.
        SourceError: the file cannot be opened, or a library that fsspec needs for it is missing.
    """

    def __init__(self, url: str, files: Any = None) -> None:
        """files: the file system, if `url` is a path there."""
        self.where = url
        self._whole: bytes | None = None  # the whole file, if the server sends no smaller parts
        self._files, self._path = files, url
        try:
            if files is None:
                import fsspec

                self._files, self._path = fsspec.core.url_to_fs(url)
            size = self._files.size(self._path)
        except ModuleNotFoundError as exc:
            if exc.name == "fsspec":
                raise MissingExtraError("reading URLs", "remote") from exc
            raise SourceError(f"cannot open {url}: {exc}") from exc
        except ImportError as exc:
            raise SourceError(f"cannot open {url}: {exc}") from exc
        except Exception as exc:  # the file system may raise anything
            why = "it is not there" if isinstance(exc, FileNotFoundError) else f"{type(exc).__name__}: {exc}"
            raise SourceError(f"cannot open {url}: {why}; check it") from exc
        if size is None:
            raise SourceError(f"cannot open {url}: the server does not tell the size; save it to a file first")
        self.size = int(size)

    def read(self, at: int, size: int) -> bytes:
        end = min(at + size, self.size)
        if self._whole is not None or at >= end:
            return b"" if self._whole is None else self._whole[at:end]
        try:
            data: bytes = self._files.cat_file(self._path, start=at, end=end)
        except Exception as exc:  # the file system may raise anything
            raise SourceError(f"cannot read {self.where}: {exc}; try again") from exc
        if len(data) == self.size:  # some servers do not know ranges and send all
            self._whole = data
            return data[at:end]
        if len(data) != end - at:
            raise SourceError(f"{self.where} gave {len(data)} bytes where {end - at} were asked for; try again")
        return data

    def close(self) -> None:
        """There is nothing to close."""


class OpenFile:
    """An open binary file that can be sought in; threads take turns. It stays open when the storage is closed.

    Raises:
        SourceError: it cannot be read in any order.
    """

    def __init__(self, file: Any) -> None:
        self.where, self._file, self._lock = str(getattr(file, "name", "an open file")), file, threading.Lock()
        try:
            self.size = int(file.seek(0, io.SEEK_END))
        except (OSError, ValueError) as exc:
            raise SourceError(f"{self.where} cannot be read in any order; give its bytes: file.read()") from exc

    def read(self, at: int, size: int) -> bytes:
        try:
            with self._lock:
                self._file.seek(at)
                data: bytes = self._file.read(size)
        except Exception as exc:  # a file of somebody else may raise anything
            raise SourceError(f"cannot read {self.where}: {exc}; open it again") from exc
        return data

    def close(self) -> None:
        """Leave the file open: its owner closes it."""


def storage_of(place: object) -> Storage:
    """Return the storage that `place` names.

    Args:
        place: a path, a URL with `://`, the bytes themselves, a storage already, a file of fsspec (open or not), or
            another open binary file that can be sought in.

    Raises:
        SourceError, MissingExtraError: the file or URL cannot be opened.
        UsageError: `place` is none of these.
    """
    if isinstance(place, bytes | bytearray | memoryview):
        return Memory(bytes(place))
    files, path = getattr(place, "fs", None), getattr(place, "path", None)
    if isinstance(path, str) and hasattr(files, "cat_file"):
        return Remote(path, files)
    if hasattr(place, "seek") and hasattr(place, "read"):
        return OpenFile(place)
    if isinstance(place, Storage):
        return place
    if not isinstance(place, str | Path):
        raise UsageError(f"a file is named by a path or a URL, or is its bytes; it is not {type(place).__name__}")
    if isinstance(place, str) and "://" in place:
        return Remote(place)
    return LocalFile(Path(place))


def spool(stream: BinaryIO) -> Storage:
    """Copy all that a pipe gives to a temporary file, and return it as a storage.

    Raises:
        SourceError: the pipe or the temporary file fails.
    """
    import tempfile  # only pipes need it

    file = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with what is returned
    try:
        while part := stream.read(COPY_BYTES):
            file.write(part)
        file.flush()
        return _Spooled(file)
    except OSError as exc:
        file.close()
        raise SourceError(f"cannot read standard input: {exc.strerror or exc}; save it to a file first") from exc


class _Spooled(LocalFile):
    def __init__(self, file: Any) -> None:
        self.where, self._file, self._lock = "standard input", file, threading.Lock()
        self.size, self.changed = file.tell(), 0
