# SPDX-License-Identifier: MIT
"""Keep the decoded images of a smalti file in a file beside it, which several processes fill and read together.

The file has a header, a checksum for each block, and room for the pixels of each block. Whoever decodes a block writes
its pixels first and its checksum last, so that a block whose checksum is right is whole, whatever happened meanwhile.
Locks on single bytes say who decodes which block; the operating system lifts them when a process ends. Where images are
read without their neighbours, each image has a checksum, and is stored as soon as it is decoded.
"""

import contextlib
import hashlib
import itertools
import math
import mmap
import operator
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
from smalti.errors import CorruptError
from smalti.types import Pixels, Shape
from smalti.util.atomic import output_error
from smalti.util.binary import HASH_BYTES, hash64
from smalti.util.parallel import by_key
from smalti.util.storage import LocalFile

MAGIC = b"SMLPIX2\n"
HEAD_BYTES = 64
"""The bytes before the checksums: MAGIC and the key."""
TAIL_BYTES = 1 << 16
"""The bytes at the end of a smalti file that the key depends on: the trailer and, mostly, the whole index."""
SUFFIX = ".pixels"
MOST_ALONE = 2
"""A block is decoded as a whole if at least one of so many of its images is wanted at once."""
_ImagePlace = tuple[int, Shape]  # where an image begins, and its shape (h w c)
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


def _in_turn(start: int, shapes: Sequence[Shape]) -> list[_ImagePlace]:
    """Return the places of the images of a mixed block that begins at byte `start`: they follow their shapes."""
    sizes = (h * w * c for h, w, c in shapes)
    ends = itertools.accumulate(sizes, initial=start + len(shapes) * _SHAPE_BYTES)
    return list(zip(ends, shapes, strict=False))


class DecodedFile:
    """The decoded images of a smalti file at `path`, which is made if it is not there or belongs to another state.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, contents: Contents, path: Path) -> None:
        self.path, self._contents = path, contents
        kinds, blocks = contents.index.kinds, contents.index.blocks
        self._shapes = [None if kinds[block.kind].mixed else kinds[block.kind].shape for block in blocks]
        largest = max((h * w * c for h, w, c in contents.shapes()), default=0)
        sizes = [_room(shape, block.images, largest) for shape, block in zip(self._shapes, blocks, strict=True)]
        counts = np.array([block.images for block in blocks], np.int64)
        self._firsts = np.cumsum(counts) - counts
        self._by_image = contents.reads_singly  # whether each image has a checksum, and not each block
        self._whole = np.zeros(int(counts.sum()) if self._by_image else len(blocks), np.bool_)
        """Whether this process knows that an image, or a block, is stored and whole."""
        start = -(-(HEAD_BYTES + HASH_BYTES * len(self._whole)) // _PAGE) * _PAGE
        self._starts = list(itertools.accumulate(sizes, initial=start))
        self._places: dict[int, list[_ImagePlace]] = {}  # of the images of mixed blocks, as far as they are known
        self._split: dict[int, bool] = {}  # whether each image of a mixed block has a checksum, as far as it is known
        self._lock = threading.Lock()
        try:
            self._file = _opened(path, MAGIC + key_of(contents), self._starts[-1])
            weakref.finalize(self, os.close, self._file)
            self._bytes = mmap.mmap(self._file, self._starts[-1], access=mmap.ACCESS_READ)
        except OSError as exc:
            raise output_error(path, exc) from exc
        alike = len(set(self._shapes)) == 1 and self._shapes[0] is not None
        self._every = self._view(start, (int(counts.sum()), *self._shapes[0])) if alike and self._shapes[0] else None

    def take(self, blocks: Ints, offsets: Ints) -> Images:
        """Return copies of images (`n h w` or `n h w c`), or a list of them if shapes may differ.

        blocks, offsets: the block of each of the images, and its place there (`n` each).

        Raises:
            CorruptError: a block is damaged.
            OutputError: the disk is full, ...
        """
        if self._by_image:
            self._ensure_images(blocks, offsets)
        else:
            self._ensure(np.unique(blocks).tolist())
        if self._every is not None:
            found: Pixels = self._every[self._firsts[blocks] + offsets]
            return found
        return [self._image(*place).copy() for place in zip(blocks.tolist(), offsets.tolist(), strict=True)]

    def _image(self, block: int, offset: int) -> Pixels:
        """Return an image that is stored, without a copy."""
        at, shape = self._place(block, offset)
        image: Pixels = self._view(at, (1, *shape))[0]
        return image

    def _place(self, block: int, offset: int) -> _ImagePlace:
        """Return where an image is; the shapes of a mixed block are those that are stored, unless they are known."""
        shape, at = self._shapes[block], self._starts[block]
        if shape is not None:
            return at + offset * math.prod(shape), shape
        if block not in self._places:
            shapes = np.frombuffer(self._bytes, "<u4", 3 * self._images(block), at).reshape(-1, 3)
            self._places[block] = _in_turn(at, [tuple(one) for one in shapes.tolist()])
        return self._places[block][offset]

    def _images(self, block: int) -> int:
        return self._contents.index.blocks[block].images

    def _view(self, at: int, shape: tuple[int, ...]) -> Pixels:
        flat = np.frombuffer(self._bytes, np.uint8, math.prod(shape), at)
        return flat.reshape(shape[:3] if shape[3] == 1 else shape)

    def _ensure_images(self, blocks: Ints, offsets: Ints) -> None:
        """Decode and store those of the images that are not stored yet: one by one where they are few of their block.

        Two processes that want one image at once may both decode it.

        Raises:
            CorruptError, OutputError: as in `take`.
        """
        left = np.flatnonzero(~self._whole[self._firsts[blocks] + offsets])
        wanted = dict.fromkeys(zip(blocks[left].tolist(), offsets[left].tolist(), strict=True))
        missing = [place for place in wanted if not self._stored(*(place if self._is_split(place[0]) else place[:1]))]
        together, alone = dict[int, None](), list[tuple[int, int]]()
        for block, places in by_key(missing, operator.itemgetter(0)):
            if self._is_split(block) and len(places) * MOST_ALONE < self._images(block):
                alone += places
            else:
                together[block] = None
        for place, image in zip(alone, self._contents.decode_single(alone), strict=True):
            if image is None:
                together[place[0]] = None
            else:
                self._store(self._place(*place)[0], [image.tobytes()], self._firsts[place[0]] + place[1])
        self._ensure(list(together))

    def _is_split(self, block: int) -> bool:
        """Return whether each image of a block has a checksum."""
        if not self._by_image or self._shapes[block] is not None:
            return self._by_image
        if block not in self._split:
            shapes = self._contents.single_shapes(block)
            if shapes is not None:
                places = _in_turn(self._starts[block], shapes)
                if places[-1][0] + math.prod(places[-1][1]) > self._starts[block + 1]:
                    raise CorruptError(f"the images of block {block} have impossible sizes; the file is damaged")
                self._places[block] = places
            self._split[block] = shapes is not None
        return self._split[block]

    def _ensure(self, blocks: Iterable[int]) -> None:
        """Decode and store those of the blocks that are not stored yet; processes that do so at once share the work.

        Raises:
            CorruptError, OutputError: as in `take`.
        """
        missing = [block for block in blocks if not self._stored(block)]
        while missing:
            mine, others = self._claimed(missing, 2 * (os.cpu_count() or 1))
            try:
                mine_now = [block for block in mine if not self._stored(block)]
                for block, images in self._contents.decode(mine_now):
                    self._store_block(block, images)
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

    def _stored(self, block: int, offset: int | None = None) -> bool:
        """Return whether a block is stored, or one image of a block that is split."""
        split = self._is_split(block)
        first = int(self._firsts[block]) if self._by_image else block
        if offset is None:
            count = self._images(block) if self._by_image else 1
            offsets = range(count if split else 1)
        else:
            first, count, offsets = first + offset, 1, range(offset, offset + 1)
        slots = slice(first, first + count)
        if not self._whole[slots].all():
            self._whole[slots] = all(self._is_whole(first + i, block, at) for i, at in enumerate(offsets))
        return bool(self._whole[slots].all())

    def _is_whole(self, slot: int, block: int, offset: int) -> bool:
        at = HEAD_BYTES + HASH_BYTES * slot
        found = self._bytes[at : at + HASH_BYTES]
        if found == bytes(HASH_BYTES):
            return False
        start, end = self._starts[block : block + 2]
        if self._is_split(block):
            start, shape = self._place(block, offset)
            end = start + math.prod(shape)
        elif self._shapes[block] is None:  # its room may be larger than what it takes
            shapes = np.frombuffer(self._bytes, "<u4", 3 * self._images(block), start).reshape(-1, 3)
            end = min(end, start + shapes.size * 4 + int(shapes.astype(np.int64).prod(1).sum()))
        with memoryview(self._bytes) as view:
            return found == hash64(view[start:end])

    def _store_block(self, block: int, images: Images) -> None:
        parts = [image.tobytes() for image in images]
        start, slot = self._starts[block], int(self._firsts[block]) if self._by_image else block
        if self._shapes[block] is None:
            shapes = np.array([(*image.shape, 1)[:3] for image in images], "<u4").tobytes()
            if self._is_split(block):
                start += len(shapes)
            else:
                parts.insert(0, shapes)
        self._store(start, parts if self._is_split(block) else [b"".join(parts)], slot)

    def _store(self, at: int, parts: Sequence[bytes], slot: int) -> None:
        """Write what follows each other from byte `at` on, and then the checksum of each, from number `slot` on."""
        try:
            self._write(at, b"".join(parts))
            self._write(HEAD_BYTES + HASH_BYTES * slot, b"".join(map(hash64, parts)))
        except OSError as exc:
            raise output_error(self.path, exc) from exc
        self._whole[slot : slot + len(parts)] = True

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
