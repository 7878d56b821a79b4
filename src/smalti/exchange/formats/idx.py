# SPDX-License-Identifier: MIT
"""idx files, the format of MNIST: gray images of one size, labels in a second file.

The bytes are unsigned; images have three dimensions and labels have one (yann.lecun.com/exdb/mnist).
"""

import contextlib
import gzip
import os
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from smalti.errors import SourceError
from smalti.exchange.parts import GZIP, MAX_BYTES, MAX_MEMBER_BYTES, Parts, damage, part_length, read_exactly
from smalti.exchange.samples import CONVERT, reason_of, scaled
from smalti.types import About, ImageSet, Label, PassedOver, Source
from smalti.util.atomic import atomic_write

IDX = re.compile(r"[.-]idx(3-ubyte)?(\.gz)?$", re.IGNORECASE)
"""The end of the name of an idx file to write."""
IDX_IMAGES, IDX_LABELS = b"\0\0\x08\x03", b"\0\0\x08\x01"
"""The first bytes of an idx file of images, and of one of labels."""
_INTS = {b"\x08": ">u1", b"\x09": ">i1", b"\x0b": ">i2", b"\x0c": ">i4"}
"""The ints that labels may be, by the third byte of an idx file."""
_KINDS = _INTS | {b"\x0d": ">f4", b"\x0e": ">f8"}
"""The numbers that images may be; all but bytes need a conversion."""
_MAX_NUMBERS = 1 << 16  # of the label of one image
_IMAGES = re.compile("images-idx3", re.IGNORECASE)


def open_idx(path: Path, *, convert: bool) -> Source:
    """Open the images of an idx file, gzipped or not.

    Raises:
        SourceError: the file is no idx file of images, or does not hold what it claims.
    """
    with _opened(path) as (file, size):
        (n, _, _), kind = _shape(path, file, size)
    if kind != np.uint8 and not convert:
        raise SourceError(f"{path} holds images of {kind.name}, not of unsigned bytes; {CONVERT}")
    passed = PassedOver()
    return Source(Parts(lambda: _parts(path, passed)), n, named=False, labelled=False, passed_over=passed)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """Yield the open file, and its size in bytes unless it is gzipped."""
    with contextlib.ExitStack() as stack:
        with damage(path, "an idx file"):
            raw = stack.enter_context(path.open("rb"))
            zipped = raw.read(2) == GZIP
            raw.seek(0)
            file = stack.enter_context(gzip.GzipFile(fileobj=raw)) if zipped else raw
            size = None if zipped else path.stat().st_size
        yield cast("BinaryIO", file), size


def is_idx(head: bytes) -> bool:
    """Return whether a file starts as an idx file of images, or one of bytes does."""
    return head.startswith(IDX_IMAGES[:3]) or (
        head[:2] == IDX_IMAGES[:2] and head[2:3] in _KINDS and head[3:4] == b"\3"
    )


def _shape(path: Path, file: BinaryIO, size: int | None) -> tuple[tuple[int, int, int], np.dtype[Any]]:
    """Read the header, and return the shape `n h w` and the type of the samples."""
    with damage(path, "an idx file"):
        head = read_exactly(file, 16)
    if len(head) < 16 or not is_idx(head) or head[3] != IDX_IMAGES[3]:
        if size is None and head[:2] != IDX_IMAGES[:2]:
            raise SourceError(f"{path} is a gzip file of something else than a tar or idx file; unpack it with gunzip")
        raise SourceError(f"{path} is not an idx file of images (unsigned bytes in three dimensions)")
    n, h, w = struct.unpack(">3I", head[4:])
    kind = np.dtype(_KINDS[head[2:3]])
    if n * h * w * kind.itemsize > MAX_BYTES or h * w > MAX_MEMBER_BYTES:
        raise SourceError(f"{path} claims {n} images of {h}x{w}, more than fits; it is damaged")
    if not n * h * w:
        raise SourceError(f"there are no images: {path} claims {n} of {h}x{w}")
    if size is not None and size != 16 + n * h * w * kind.itemsize:
        raise _wrong_size(path, n, h, w)
    return (n, h, w), kind


def _wrong_size(path: Path, n: int, h: int, w: int) -> SourceError:
    return SourceError(f"{path} does not hold the {n} images of {h}x{w} that it claims; copy it again")


def _parts(path: Path, passed: PassedOver) -> Iterator[ImageSet]:
    passed.clear()
    with _opened(path) as (file, size):
        (n, h, w), kind = _shape(path, file, size)
        step = part_length((h, w, 1))
        for start in range(0, n, step):
            k = min(step, n - start)
            with damage(path, "an idx file"):
                data = read_exactly(file, k * h * w * kind.itemsize)
                more = start + k == n and file.read(1)
            if len(data) != k * h * w * kind.itemsize or more:
                raise _wrong_size(path, n, h, w)
            if (reason := reason_of(kind)) is not None:
                passed.conversions.note(reason, path.name, k)
            yield ImageSet(scaled(np.frombuffer(data, kind).reshape(k, h, w), str(path)))


def read_idx_labels(path: Path) -> tuple[Label, ...]:
    """Return the labels of an idx file of ints, gzipped or not: `n` ints, or of `n k` k ints for each image (QMNIST).

    Raises:
        SourceError: the file is no such file, or does not hold what it claims.
    """
    with _opened(path) as (file, size), damage(path, "an idx file of labels"):
        head = read_exactly(file, 4)
        kind, dimensions = _INTS.get(head[2:3]), head[3] if len(head) == 4 else 0
        if head[:2] != b"\0\0" or kind is None or dimensions not in (1, 2):
            raise SourceError(f"{path} is not an idx file of labels (ints of 8 to 32 bits in one or two dimensions)")
        sides = read_exactly(file, 4 * dimensions)
        n, *more = struct.unpack(f">{dimensions}I", sides)
        k = more[0] if more else 1
        claimed = n * k * np.dtype(kind).itemsize
        right = size in (None, 4 + len(sides) + claimed) and claimed <= MAX_BYTES and k <= _MAX_NUMBERS
        data = read_exactly(file, claimed) if right else b""
        if len(data) != claimed or file.read(1) or not k:
            raise SourceError(f"{path} does not hold the {n} labels that it claims; copy it again")
    rows = np.frombuffer(data, kind).reshape(n, k).tolist()
    return tuple(map(tuple, rows)) if more else tuple(row[0] for row in rows)


def labels_path(target: Path) -> Path | None:
    """Return the file of the labels for the images in `target`: for `a-images-idx3-ubyte`, `a-labels-idx1-ubyte`."""
    name = _IMAGES.sub("labels-idx1", target.name)
    return None if name == target.name else target.with_name(name)


def write_idx(parts: Iterable[ImageSet], about: About, target: Path, *, force: bool) -> Path | None:
    """Write gray images of one size, and their labels to a second file if all are 0 to 255 and `labels_path` names it.

    Existing labels go before the images are replaced, and new labels come after them, so that no image ever has the
    label of another, even if the process is killed in between. Returns the file of the labels, if one was written.

    Raises:
        OutputExistsError, OutputError: see `atomic_write`.
    """
    beside = labels_path(target)
    ((h, w, _),) = about.shapes
    labels: list[Label] = []
    with contextlib.ExitStack() as after, atomic_write(target, force=force) as file:
        with _zipped(file, target) as images:
            images.write(IDX_IMAGES + struct.pack(">3I", about.count, h, w))
            for part in parts:
                images.write(part.pixels.tobytes())
                labels.extend(part.labels or ())
        if beside is None:
            return None
        data = _bytes_of(labels)
        if data:
            with _zipped(after.enter_context(atomic_write(beside, force=force)), beside) as out:
                out.write(IDX_LABELS + struct.pack(">I", len(data)) + data)
        file.flush()
        os.fsync(file.fileno())  # whatever can fail, fails before the old labels go
        (Path(os.path.realpath(beside)) if data else beside).unlink(missing_ok=True)
    return beside if data else None


def _bytes_of(labels: list[Label]) -> bytes:
    """Return the labels as bytes; none, if not all of them are 0 to 255."""
    numbers = [label for label in labels if isinstance(label, int) and 0 <= label <= 255]
    return bytes(numbers) if len(numbers) == len(labels) else b""


@contextlib.contextmanager
def _zipped(file: BinaryIO, target: Path) -> Iterator[BinaryIO]:
    """Yield `file`, or a gzip stream into it if the name of `target` ends with .gz."""
    if target.suffix.lower() != ".gz":
        yield file
        return
    with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as zipped:
        yield cast("BinaryIO", zipped)
