# SPDX-License-Identifier: MIT
"""The members of a tar file, compressed or not, read once from its start to its end; hard links give what they link."""

import bz2
import contextlib
import gzip
import io
import lzma
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from smalti.errors import MissingExtraError, SourceError
from smalti.exchange.names import plain_name, unsafe_name
from smalti.exchange.parts import GZIP, Readable, damage, read_exactly
from smalti.exchange.recognise import HEAD_BYTES
from smalti.types import PassedOver

SUFFIXES = (
    *(".tar", ".tgz", ".tar.gz", ".txz", ".tar.xz", ".tbz", ".tbz2", ".tar.bz2", ".tzst", ".tar.zst"),
    ".tar.zstd",
)
"""The ends of the names of tar files."""
_XZ, _BZ2, _ZSTD = b"\xfd7zXZ\0", b"BZh", b"\x28\xb5\x2f\xfd"
_BLOCK = 512  # bytes
_MAGIC = slice(257, 262)
_MAX_READ = 1 << 22  # bytes; tarfile asks for as many as a header claims
_MAX_PADDING = 1 << 26  # bytes of zeros after an end
_MAX_WINDOW = 1 << 27  # bytes that a zstd stream may make us keep
_MAX_RECENT = 1 << 24  # bytes of files that hard links led to
_MAX_RESTARTS = 16  # times that a compressed file is read from its start for the sake of hard links


def is_tar(path: Path, head: bytes) -> bool:
    """Return whether a file that starts with `head` is a tar file, or is compressed and has one within.

    Raises:
        SourceError: the file is damaged.
        MissingExtraError: it is compressed with zstd, which needs an extra.
    """
    if not head.startswith((GZIP, _XZ, _BZ2, _ZSTD)):
        return head[_MAGIC] == b"ustar"
    if path.name.lower().endswith(SUFFIXES[1:]):
        return True
    with damage(path, "a compressed file"), contextlib.ExitStack() as stack:
        return _open(path, stack)[0].read(_BLOCK)[_MAGIC] == b"ustar"


def _open(path: Path, stack: contextlib.ExitStack) -> tuple[IO[bytes], bool]:
    """Return a file, decompressed, and whether it is compressed."""
    raw = stack.enter_context(path.open("rb"))
    head = raw.read(len(_XZ))
    raw.seek(0)
    if head.startswith(GZIP):
        return cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=raw))), True
    if head.startswith(_XZ):
        return cast("IO[bytes]", stack.enter_context(lzma.LZMAFile(raw))), True
    if head.startswith(_BZ2):
        return cast("IO[bytes]", stack.enter_context(bz2.BZ2File(raw))), True
    if head.startswith(_ZSTD):
        return cast("IO[bytes]", stack.enter_context(_zstd(raw, path))), True
    return raw, False


def _zstd(raw: IO[bytes], path: Path) -> Any:
    """Return a zstd file, decompressed: by the standard library since Python 3.14, by an extra before."""
    if sys.version_info >= (3, 14):
        from compression import zstd

        options = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW.bit_length() - 1}
        return zstd.ZstdFile(raw, options=options)
    try:
        import zstandard
    except ImportError as exc:
        raise MissingExtraError(f"{path} is compressed with zstd, which", "zstd") from exc
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    return io.BufferedReader(decompressor.stream_reader(raw, read_across_frames=True))


class _Stream:
    """A file for tarfile that is read forwards, and remembers the last bytes read.

    tarfile takes a damaged header for the end of the file; the last bytes tell the two apart.
    """

    def __init__(self, file: IO[bytes], *, seekable: bool) -> None:
        self._file, self._seekable = file, seekable
        self._at, self._again = 0, b""
        self.last = b""

    def read(self, size: int) -> bytes:
        if size > _MAX_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        data, self._again = self._again[:size], self._again[size:]
        if len(data) < size:
            data += self._file.read(size - len(data))
        self._at += len(data)
        self.last = data
        return data

    def seek(self, offset: int) -> int:
        if self._seekable:
            self._at, self._again = self._file.seek(offset), b""
        elif offset < self._at:
            raise tarfile.ReadError("members that overlap")
        while self._at < offset and self.read(min(offset - self._at, _MAX_READ)):
            pass
        return self._at

    def tell(self) -> int:
        return self._at

    def reaches(self, offset: int) -> bool:
        """Return whether the file can be read from there."""
        return self._seekable or offset >= self._at

    def unread(self, data: bytes) -> None:
        """Let the last bytes be read once more."""
        self._again = data + self._again
        self._at -= len(data)


class _Links:
    """Where the files of an archive are, so that a hard link to one of them can be read."""

    def __init__(self, path: Path, stack: contextlib.ExitStack) -> None:
        self.places: dict[str, tuple[int, int]] = {}  # start and size, by name
        self._path, self._stack = path, stack
        self._stream: _Stream | None = None
        self._restarts = 0
        self._recent: dict[tuple[int, int], bytes] = {}  # by place, the last one used at the end
        self._held = 0  # bytes

    def read(self, place: tuple[int, int], where: str) -> bytes:
        """Return the bytes at a place; in a compressed file this is quick in the order of places, and once more.

        Raises:
            SourceError: a compressed file would have to be read from its start too often.
        """
        if (data := self._recent.pop(place, None)) is None:
            data = self._read(place, where)
            self._held += len(data)
        self._recent[place] = data
        while self._held > _MAX_RECENT:
            self._held -= len(self._recent.pop(next(iter(self._recent))))
        return data

    def _read(self, place: tuple[int, int], where: str) -> bytes:
        offset, size = place
        if self._stream is None or not self._stream.reaches(offset):
            if self._restarts == _MAX_RESTARTS:
                raise SourceError(f"{where} is one of many hard links in a compressed file; decompress it first")
            self._restarts += 1
            self._stack.close()
            file, compressed = _open(self._path, self._stack)
            self._stream = _Stream(file, seekable=not compressed)
        self._stream.seek(offset)
        return read_exactly(self._stream, size)


class Member:
    """One member of a tar file, to be read before the next is asked for."""

    def __init__(self, tar: tarfile.TarFile, info: tarfile.TarInfo, path: Path, links: _Links) -> None:
        self.name = plain_name(info.name)
        self.where = f"{path}: {self.name}"
        self.is_file, self.is_link = not info.isdir(), info.issym()
        self._tar, self._info, self._path, self._links = tar, info, path, links
        self._place: tuple[int, int] | None = None
        if info.isreg() and not info.issparse():
            self._place = (info.offset_data, info.size)
        elif info.islnk():
            self._place = links.places.get(plain_name(info.linkname))
        if self._place is not None:
            links.places[self.name] = self._place
        self.has_content = self._place is not None
        self._file: Readable | None = None
        self._start = b""

    def problem(self, most: int) -> str:
        """Return why the member is not read, in words; "" if it may be read: at most `most` bytes."""
        if unsafe_name(self.name, strict=False):
            return "is no safe name of a file"
        if self._place is None and self._info.islnk():
            return f"is a hard link to {self._info.linkname!r:.80}, which is not in the archive before it"
        if self._place is None:
            return "is a link, a device or a sparse file"
        return f"claims {self._place[1]} bytes, more than fits" if not 0 <= self._place[1] <= most else ""

    def head(self) -> bytes:
        """Return the first bytes of the member; none if it is no file."""
        if self._place is None or self._info.islnk():
            return self._linked()[:HEAD_BYTES] if self._place is not None and self._place[1] <= _MAX_READ else b""
        self._start = self._start or read_exactly(self._content(), HEAD_BYTES)
        return self._start

    def data(self, most: int) -> bytes:
        """Return all bytes of the member.

        Raises:
            SourceError: there is a `problem`, or the archive is damaged.
        """
        if problem := self.problem(most):
            raise SourceError(f"{self.where!r} {problem}; leave it out")
        assert self._place is not None
        size = self._place[1]
        with damage(self._path, "a tar file"):
            if self._info.islnk():
                data = self._linked()
            else:
                data = self._start + read_exactly(self._content(), size - len(self._start))
            if len(data) != size:
                raise tarfile.ReadError("unexpected end")
        return data

    def _linked(self) -> bytes:
        assert self._place is not None
        return self._links.read(self._place, self.where)

    def _content(self) -> Readable:
        if self._file is None:
            self._file = cast("Readable", self._tar.extractfile(self._info))
        return self._file


def walk(path: Path, passed: PassedOver) -> Iterator[Member]:
    """Yield the members of a tar file, or of several that follow one another in one file.

    Raises:
        SourceError: the file is damaged.
        MissingExtraError: it is compressed with zstd, which needs an extra.
    """
    with contextlib.ExitStack() as stack:
        with damage(path, "a tar file"):
            file, compressed = _open(path, stack)
            stream = _Stream(file, seekable=not compressed)
        links = _Links(path, stack.enter_context(contextlib.ExitStack()))
        more = True
        while more:
            with damage(path, "a tar file"):
                tar = tarfile.TarFile(fileobj=cast("IO[bytes]", stream))
            while (info := _next(tar, path)) is not None:
                yield Member(tar, info, path, links)
            with damage(path, "a tar file"):
                more = _another(stream, path, passed)


def _next(tar: tarfile.TarFile, path: Path) -> tarfile.TarInfo | None:
    with damage(path, "a tar file"):
        info = tar.next()
        tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
    return info


def _another(stream: _Stream, path: Path, passed: PassedOver) -> bool:
    """Return whether another tar file starts after the end of one, in the same file.

    Raises:
        tarfile.ReadError: the end is none, or something else follows.
    """
    if not stream.last:
        passed.notes.append(f"{path} lacks the blocks that end a tar file; check that it was not cut")
        return False
    if stream.last != bytes(_BLOCK):
        raise tarfile.ReadError("its end is missing, or a header is damaged")
    padding = 0
    while block := stream.read(_BLOCK * 128):
        if rest := block.lstrip(b"\0"):
            start = (len(block) - len(rest)) // _BLOCK * _BLOCK
            if block[start:][_MAGIC] != b"ustar":
                raise tarfile.ReadError("other data follow its end")
            stream.unread(block[start:])
            return True
        padding += len(block)
        if padding > _MAX_PADDING:
            raise tarfile.ReadError(f"more than {_MAX_PADDING} zeros follow its end")
    return False
