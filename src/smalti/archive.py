# SPDX-License-Identifier: MIT
"""A smalti file as a row of blocks: write them one after another, read any of them. Bytes, not images."""

import io
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from smalti.errors import CorruptError, SourceError
from smalti.format import (
    HEADER,
    TRAILER,
    Header,
    Index,
    pack_header,
    pack_index,
    unpack_header,
    unpack_index,
    unpack_trailer,
)


class BlockWriter:
    """Writes a smalti file in one pass; `finish` makes it whole."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file, self._header = file, header
        self._blocks: list[tuple[int, int]] = []
        file.write(pack_header(header))

    def add(self, payload: bytes) -> None:
        """Append a block."""
        self._file.write(payload)
        self._blocks.append((len(payload), zlib.crc32(payload)))

    def finish(self, count: int, names: Sequence[str] | None) -> None:
        """Write index and trailer: `count` images in all, with their names if they have any."""
        index = Index(count, tuple(self._blocks), None if names is None else tuple(names))
        self._file.write(pack_index(self._header, index))


class BlockReader:
    """Reads blocks of a smalti file in any order, from several threads if need be.

    Raises:
        SourceError: the file cannot be opened or read.
        FormatError: it is not a smalti file, or a damaged one.
    """

    def __init__(self, source: Path | bytes) -> None:
        self.where = f"{len(source)} bytes in memory" if isinstance(source, bytes) else str(source)
        self._lock = threading.Lock()
        try:
            self._file: BinaryIO = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
        except (OSError, ValueError) as exc:  # ValueError: a zero byte in the path
            raise SourceError(f"cannot open {self.where}: {getattr(exc, 'strerror', None) or exc}; check it") from exc
        try:
            self._read_ends()
        except BaseException:
            self.close()
            raise

    def _read_ends(self) -> None:
        try:
            self.size = self._file.seek(0, io.SEEK_END)
        except OSError as exc:
            raise SourceError(f"{self.where} cannot be read in any order; save it to a file first") from exc
        self.header = unpack_header(self._read(0, HEADER.size))
        index_size, crc = unpack_trailer(self._read(max(0, self.size - TRAILER.size), TRAILER.size), self.size)
        self._index_at = self.size - TRAILER.size - index_size
        self.index = unpack_index(self.header, self._read(self._index_at, index_size), crc, self.size)
        self._starts = [HEADER.size]
        for size, _ in self.index.blocks:
            self._starts.append(self._starts[-1] + size)

    @property
    def payload_size(self) -> int:
        """Bytes of all blocks together."""
        return self._starts[-1] - HEADER.size

    def images_in(self, block: int) -> int:
        """How many images block `block` holds."""
        return min(self.header.block_images, self.index.count - block * self.header.block_images)

    def read(self, block: int) -> bytes:
        """The payload of block `block`.

        Raises:
            CorruptError: its checksum is wrong.
        """
        size, crc = self.index.blocks[block]
        payload = self._read(self._starts[block], size)
        if zlib.crc32(payload) != crc:
            raise CorruptError(f"{self.where}: the checksum of block {block} is wrong; the file is damaged")
        return payload

    def _read(self, at: int, size: int) -> bytes:
        try:
            with self._lock:
                self._file.seek(at)
                return self._file.read(size)
        except (OSError, ValueError) as exc:  # ValueError: closed
            reason = getattr(exc, "strerror", None) or exc
            raise SourceError(f"cannot read {self.where}: {reason}; open it again") from exc

    def close(self) -> None:
        """Close the file; reading afterwards is an error."""
        self._file.close()
