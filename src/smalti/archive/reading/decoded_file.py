# SPDX-License-Identifier: MIT
"""Keep the decoded images of a smalti file in a file beside it, which several processes fill and read together.

The file has a header, a checksum for each block, and room for the pixels of each block. Whoever decodes a block writes
its pixels first and its checksum last, so that a block whose checksum is right is whole, whatever happened meanwhile.
Locks on single bytes say who decodes which block; the operating system lifts them when a process ends.
"""

import contextlib
import hashlib
import itertools
import mmap
import os
import secrets
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from smalti.archive.reader import Contents, Images
from smalti.codec.batching import BLOCK_SAMPLES
from smalti.container.format import MAX_BLOCK_SAMPLES
from smalti.entropy.frequencies import Ints
from smalti.types import Pixels, Shape
from smalti.util.atomic import output_error
from smalti.util.binary import HASH_BYTES, hash64
from smalti.util.storage import LocalFile

MAGIC = b"SMLPIX1\n"
HEAD_BYTES = 64
"""The bytes before the checksums: MAGIC and the key."""
TAIL_BYTES = 1 << 16
"""The bytes at the end of a smalti file that the key depends on: the trailer and, mostly, the whole index."""
SUFFIX = ".pixels"
_PAGE = 4096  # bytes: where pixels begin is a multiple of it
_SHAPE_BYTES = 12  # of the shape of an image of a mixed block: three numbers of 32 bits
_WAIT = 0.002  # seconds between two looks whether another process is done


def key_of(contents: Contents) -> bytes:
    """Return what tells the state of a smalti file: a hash of its size, time of change, index and trailer."""
    storage, changed = contents.storage, 0
    if isinstance(storage, LocalFile):
        changed = storage.changed
    state = hashlib.sha256(repr((storage.size, changed, contents.index)).encode())
    state.update(storage.read(max(0, storage.size - TAIL_BYTES), TAIL_BYTES))
    return state.digest()


def decoded_bytes(contents: Contents) -> int:
    """Return about how many bytes all decoded images take; it is exact where no block is mixed."""
    kinds, largest = contents.index.kinds, max((h * w * c for h, w, c in contents.shapes()), default=0)
    blocks = [(kinds[block.kind], block.images) for block in contents.index.blocks]
    most = max(BLOCK_SAMPLES, largest)  # what smalti puts into a mixed block
    return sum(min(most, n * largest) if kind.mixed else _room(kind.shape, n, largest) for kind, n in blocks)


def _room(shape: Shape | None, images: int, largest: int) -> int:
    """Return the bytes to set aside for the images of a block.

    Room that a mixed block leaves over takes no bytes of the disk, because a file has only those that were written.

    Args:
        shape: the shape (h w c) of all images; None if the block is mixed.
        images: how many they are.
        largest: the most samples of an image of the file.
    """
    if shape is None:
        return images * _SHAPE_BYTES + min(MAX_BLOCK_SAMPLES, images * largest)
    h, w, c = shape
    return images * h * w * c


class DecodedFile:
    """The decoded blocks of a smalti file at `path`, which is made if it is not there or belongs to another state.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, contents: Contents, path: Path) -> None:
        self.path, self._contents = path, contents
        kinds, blocks = contents.index.kinds, contents.index.blocks
        self._shapes = [None if kinds[block.kind].mixed else kinds[block.kind].shape for block in blocks]
        largest = max((h * w * c for h, w, c in contents.shapes()), default=0)
        sizes = [_room(shape, block.images, largest) for shape, block in zip(self._shapes, blocks, strict=True)]
        start = -(-(HEAD_BYTES + HASH_BYTES * len(blocks)) // _PAGE) * _PAGE
        self._starts = list(itertools.accumulate(sizes, initial=start))
        self._whole = bytearray(len(blocks))  # whether this process knows that a block is stored, and whole
        self._lock = threading.Lock()
        try:
            self._file = _opened(path, MAGIC + key_of(contents), self._starts[-1])
            weakref.finalize(self, os.close, self._file)
            self._bytes = mmap.mmap(self._file, self._starts[-1], access=mmap.ACCESS_READ)
        except OSError as exc:
            raise output_error(path, exc) from exc
        counts = np.array([block.images for block in blocks], np.int64)
        self._firsts = np.cumsum(counts) - counts
        alike = len(set(self._shapes)) == 1 and self._shapes[0] is not None
        self._every = self._view(start, (int(counts.sum()), *self._shapes[0])) if alike and self._shapes[0] else None

    def take(self, blocks: Ints, offsets: Ints) -> Images:
        """Return copies of images (`n h w` or `n h w c`), or a list of them if shapes may differ.

        blocks, offsets: the block of each of the images, and its place there (`n` each).

        Raises:
            CorruptError: a block is damaged.
            OutputError: the disk is full, ...
        """
        self.ensure(np.unique(blocks).tolist())
        if self._every is not None:
            found: Pixels = self._every[self._firsts[blocks] + offsets]
            return found
        pairs = zip(blocks.tolist(), offsets.tolist(), strict=True)
        images = {block: self.images(block) for block in set(blocks.tolist())}
        return [images[block][offset].copy() for block, offset in pairs]

    def images(self, block: int) -> Images:
        """Return the images of a block that is stored, without a copy."""
        shape, at = self._shapes[block], self._starts[block]
        if shape is not None:
            return self._view(at, (self._contents.index.blocks[block].images, *shape))
        shapes, found = self._mixed_shapes(block), list[Pixels]()
        at += len(shapes) * _SHAPE_BYTES
        for one in shapes:
            found.append(self._view(at, (1, *one))[0])
            at += found[-1].size
        return found

    def _mixed_shapes(self, block: int) -> list[list[int]]:
        n = self._contents.index.blocks[block].images
        shapes: list[list[int]] = np.frombuffer(self._bytes, "<u4", 3 * n, self._starts[block]).reshape(n, 3).tolist()
        return shapes

    def _view(self, at: int, shape: tuple[int, ...]) -> Pixels:
        flat = np.frombuffer(self._bytes, np.uint8, int(np.prod(shape)), at)
        return flat.reshape(shape[:3] if shape[3] == 1 else shape)

    def ensure(self, blocks: Iterable[int]) -> None:
        """Decode and store those of the blocks that are not stored yet; processes that do so at once share the work.

        Raises:
            CorruptError: a block is damaged.
            OutputError: the disk is full, ...
        """
        missing = [block for block in blocks if not self._stored(block)]
        while missing:
            mine, others = self._claimed(missing, 2 * (os.cpu_count() or 1))
            try:
                mine_now = [block for block in mine if not self._stored(block)]
                for block, images in self._contents.decode(mine_now):
                    self._store(block, images)
            finally:
                for block in mine:
                    _unlock(self._file, self._starts[-1] + block)
            if not mine:
                time.sleep(_WAIT)
            missing = [block for block in others if not self._stored(block)]

    def _claimed(self, blocks: Sequence[int], most: int) -> tuple[list[int], list[int]]:
        """Return those of the blocks that this process shall decode now, and all others."""
        mine = list[int]()
        for block in blocks:
            if len(mine) < most and _lock(self._file, self._starts[-1] + block):
                mine.append(block)
        return mine, [block for block in blocks if block not in mine]

    def _stored(self, block: int) -> bool:
        if not self._whole[block]:
            at = HEAD_BYTES + HASH_BYTES * block
            found = self._bytes[at : at + HASH_BYTES]
            self._whole[block] = found != bytes(HASH_BYTES) and found == self._hash(block)
        return bool(self._whole[block])

    def _hash(self, block: int) -> bytes:
        start, end = self._starts[block : block + 2]
        if self._shapes[block] is None:  # its room may be larger than what it takes
            shapes = self._mixed_shapes(block)
            end = min(end, start + len(shapes) * _SHAPE_BYTES + sum(h * w * c for h, w, c in shapes))
        with memoryview(self._bytes) as view:
            return hash64(view[start:end])

    def _store(self, block: int, images: Images) -> None:
        start = self._starts[block]
        if isinstance(images, list):
            shapes = np.array([(*image.shape, 1)[:3] for image in images], "<u4")
            data = b"".join([shapes.tobytes(), *(image.tobytes() for image in images)])
        else:
            data = images.tobytes()
        try:
            self._write(start, data)
            self._write(HEAD_BYTES + HASH_BYTES * block, hash64(data))
        except OSError as exc:
            raise output_error(self.path, exc) from exc
        self._whole[block] = 1

    def _write(self, at: int, data: bytes) -> None:
        """Write all of `data`; a write that fails is an error, and not a signal as in a memory map."""
        view = memoryview(data)
        while view:
            if hasattr(os, "pwrite"):
                done = os.pwrite(self._file, view, at)
            else:
                with self._lock:  # threads share the position
                    os.lseek(self._file, at, os.SEEK_SET)
                    done = os.write(self._file, view)
            at, view = at + done, view[done:]


def _opened(path: Path, head: bytes, size: int) -> int:
    """Open the file, or make it if it is not there or has another head; return its number."""
    flags = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    while True:
        with contextlib.suppress(FileNotFoundError):
            file = os.open(path, flags)
            if os.fstat(file).st_size == size and os.read(file, len(head)) == head:
                return file
            os.close(file)
            path.unlink()
        _make(path, head, size)


def _make(path: Path, head: bytes, size: int) -> None:
    """Make the file, whole, unless another process is faster."""
    temporary = path.with_name(f".smalti.{secrets.token_hex(6)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(head)
            file.truncate(size)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _lock(file: int, at: int) -> bool:
    """Lock byte `at` of a file, where no byte has to be; return False if another process has locked it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, at, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks: processes may do the same work
        pass
    return True


def _unlock(file: int, at: int) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, at, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_UN, 1, at)
