# SPDX-License-Identifier: MIT
"""npy and npz files of images; npz also with the keys of MedMNIST (`train_images`, ...)."""

import contextlib
import itertools
import math
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from smalti.errors import SourceError, UsageError
from smalti.exchange.formats.npy_stream import NpyStream, npy_header
from smalti.exchange.labels import WITHOUT_LABELS, class_names, int_array
from smalti.exchange.parts import Parts, damage, part_length, read_exactly
from smalti.types import About, ImageSet, Label, PassedOver, Source

SPLITS = ("train", "val", "test")
CLASSES = "label_names"
"""The array with the names of the classes that labels number."""
_MAX_CLASSES = 1 << 16
_SPLIT_NAME = re.compile(r"(train|val|test)/(0|[1-9][0-9]*)")
_ROLES = {
    "images": frozenset(("images", "image", "imgs", "img", "data", "x")),
    "labels": frozenset(("labels", "label", "targets", "target", "classes", "class", "y")),
    "names": frozenset(("names", "name", "filenames", "filename", "files", "file", "paths", "path")),
}
"""The words that tell what an array of an npz file holds; the last such word of its key decides."""
_WORDS_AT_ONCE = 4096  # how many words are converted together, to bound the memory that is taken
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date of zip, always the same, so that equal images make equal files


def open_npy(path: Path, *, convert: bool) -> Source:
    """Open the images of an npy file.

    Raises:
        SourceError: the file is damaged, or holds something else.
    """
    with damage(path, "an npy file"), path.open("rb") as file:
        n = NpyStream(file, path.stat().st_size, str(path)).images(convert=convert)[0]
    passed = PassedOver()
    parts = Parts(lambda: _npy_parts(path, passed, convert=convert))
    return Source(parts, n, named=False, labelled=False, passed_over=passed)


def _npy_parts(path: Path, passed: PassedOver, *, convert: bool) -> Iterator[ImageSet]:
    passed.clear()
    with contextlib.ExitStack() as stack:
        with damage(path, "an npy file"):
            file = stack.enter_context(path.open("rb"))
            rows = NpyStream(file, path.stat().st_size, str(path))
            shape = rows.images(convert=convert)
        for k in _steps(shape):
            with damage(path, "an npy file"):
                pixels = rows.pixels(k)
            _note(rows, path.name, k, passed)
            yield ImageSet(pixels)


def _note(rows: NpyStream, name: str, n: int, passed: PassedOver) -> None:
    if (reason := rows.reason) is not None:
        passed.conversions.note(reason, name, n)


def _steps(shape: tuple[int, ...]) -> Iterator[int]:
    """Yield how many images go into each part, for an array of images of that shape."""
    n, h, w, *c = shape
    step = part_length((h, w, c[0] if c else 1))
    return (min(step, n - start) for start in range(0, n, step))


def read_npy_labels(path: Path) -> tuple[Label, ...]:
    """Read the labels of an npy file: ints or words `n`, or ints `n k`.

    Raises:
        SourceError: the file is damaged, or holds something else.
    """
    with damage(path, "an npy file of labels"), path.open("rb") as file:
        rows = NpyStream(file, path.stat().st_size, str(path))
        return rows.labels(rows.check_labels())


@dataclass(frozen=True)
class _Group:
    """The keys of the arrays of an npz file that belong together."""

    images: str
    names: str | None = None
    labels: str | None = None
    prefix: str | None = None  # the start of the names that the images of a split get if they have none


def open_npz(path: Path, key: str, *, labelled: bool, convert: bool) -> Source:
    """Open the images of an npz file.

    They are those of the array `key`, if it is given; else of "images", else of MedMNIST's splits, else of the only
    array of images. An array whose key says labels ("labels", "y", "targets", ...) or names ("names", "filenames", ...)
    goes with them if it has one entry an image; images called "train_images" or "x_train" take "train_labels" or
    "y_train".

    Raises:
        SourceError: the file is damaged, holds several arrays of images or none, or labels only some of its splits.
    """
    with damage(path, "an npz file"), zipfile.ZipFile(path) as file:
        groups = _groups(file, path, key, labelled=labelled)
        total = sum(_check(file, group, path, convert=convert) for group in groups)
        classes = _class_names(file, path) if groups[0].labels is not None else ()
    if len({group.labels is None for group in groups}) > 1:
        raise SourceError(f"{path} labels only some of its splits; pick one: {path}#KEY")
    named = any(group.names or group.prefix for group in groups)
    passed = PassedOver()
    parts = Parts(lambda: _npz_parts(path, groups, passed, convert=convert))
    return Source(parts, total, named, groups[0].labels is not None, passed, classes)


def _class_names(file: zipfile.ZipFile, path: Path) -> tuple[str, ...]:
    """Return the names of the classes, in an array of texts; none, if it is not there or holds something else."""
    if f"{CLASSES}.npy" not in file.NameToInfo:
        return ()
    try:
        with _rows(file, CLASSES, path) as rows:
            n = rows.check_names()
            return class_names(list(rows.names(n))) if n <= _MAX_CLASSES else ()
    except SourceError:
        return ()


def _groups(file: zipfile.ZipFile, path: Path, key: str, *, labelled: bool) -> list[_Group]:
    keys = [name.removesuffix(".npy") for name in file.namelist()]
    splits = [split for split in SPLITS if f"{split}_images" in keys]
    if not key and "images" not in keys and splits:
        groups = [_group(file, f"{split}_images", keys, path, labelled=labelled) for split in splits]
        return [replace(group, prefix=f"{s}/") for s, group in zip(splits, groups, strict=True)]
    likely = [name for name in keys if _role(name)[0] == "images"] if len(keys) > 1 else keys
    if (picked := key or ("images" if "images" in keys else likely[0] if len(likely) == 1 else "")) not in keys:
        raise SourceError(f"{path} holds the arrays {', '.join(keys)[:400]}; pick one: {path}#KEY")
    return [_group(file, picked, keys, path, labelled=labelled, chosen=bool(key))]


def _role(key: str) -> tuple[str, tuple[str, ...]]:
    """Return what an array holds by its key, and the other words of the key, which tell it from others of its role.

    >>> _role("labels"), _role("train_images"), _role("y_train")
    (('labels', ()), ('images', ('train',)), ('labels', ('train',)))
    """
    words = re.split(r"[\W_]+", key.lower())
    roles = [role for word in words for role, known in _ROLES.items() if word in known]
    role = roles[-1] if roles else "labels" if "label" in key.lower() else "images"
    return role, tuple(word for word in words if word not in _ROLES[role] | _ROLES["images"])


def _group(
    file: zipfile.ZipFile, images: str, keys: Sequence[str], path: Path, *, labelled: bool, chosen: bool = False
) -> _Group:
    """Find the names and labels of an array of images, which the user has `chosen` or not."""
    names = _beside(file, images, "names", keys, path, chosen=chosen)
    return _Group(images, names, _beside(file, images, "labels", keys, path, chosen=chosen) if labelled else None)


def _beside(
    file: zipfile.ZipFile, images: str, role: str, keys: Sequence[str], path: Path, *, chosen: bool
) -> str | None:
    """Find the array of names or labels (`role`) that goes with an array of images.

    Raises:
        SourceError: there are several.
    """
    _, which = _role(images)
    found = [key for key in keys if key != images and _role(key)[0] == role]
    alike = [key for key in found if _role(key)[1] == which] or [key for key in found if not _role(key)[1]]
    if not alike and role == "labels" and sum(_role(key)[0] == "images" for key in keys) == 1:
        alike = found
    n = _length(file, images, path) if alike else 0
    fitting = [key for key in alike if _length(file, key, path) == n]
    if not fitting and not chosen:  # `_check` will refuse it, because it has too few entries or too many
        fitting = [key for key in alike[:1] if role == "labels" or key == "names"]
    usual = [key for key in fitting if key in (role, images.removesuffix("images") + role)]
    if len(usual or fitting) > 1:
        advice = f", or {WITHOUT_LABELS}" if role == "labels" else ""
        raise SourceError(
            f"{path} holds {role} of {images} in {', '.join(fitting)[:400]}; save those to take as {role!r}{advice}"
        )
    return next(iter(usual or fitting), None)


@contextlib.contextmanager
def _rows(file: zipfile.ZipFile, key: str, path: Path) -> Iterator[NpyStream]:
    names = file.NameToInfo
    member = names[key + ".npy"] if key + ".npy" in names else names[key]
    with file.open(member) as stream:
        yield NpyStream(stream, member.file_size, f"{path}#{key}")


def _length(file: zipfile.ZipFile, key: str, path: Path) -> int:
    with _rows(file, key, path) as rows:
        return rows.shape[0] if rows.shape else 0


def _check(file: zipfile.ZipFile, group: _Group, path: Path, *, convert: bool) -> int:
    """Return the number of images of a group, after checking that its arrays fit each other."""
    with _rows(file, group.images, path) as rows:
        n = rows.images(convert=convert)[0]
    for key in (group.names, group.labels):
        if key is None:
            continue
        with _rows(file, key, path) as rows:
            claimed = rows.check_names() if key == group.names else rows.check_labels()
        if claimed != n:
            raise SourceError(f"{path} holds {claimed} {key} for {n} {group.images}; give one to each, or none")
    return n


def _npz_parts(path: Path, groups: Sequence[_Group], passed: PassedOver, *, convert: bool) -> Iterator[ImageSet]:
    passed.clear()
    with contextlib.ExitStack() as stack:
        with damage(path, "an npz file"):
            file = stack.enter_context(zipfile.ZipFile(path))
        for group in groups:
            yield from _group_parts(file, group, path, passed, convert=convert)


def _group_parts(
    file: zipfile.ZipFile, group: _Group, path: Path, passed: PassedOver, *, convert: bool
) -> Iterator[ImageSet]:
    """Read the arrays of a group side by side, so that none is ever whole in memory."""
    with contextlib.ExitStack() as stack:
        with damage(path, "an npz file"):
            _check(file, group, path, convert=convert)
            images, names, labels = (
                stack.enter_context(_rows(file, key, path)) if key else None
                for key in (group.images, group.names, group.labels)
            )
            assert images is not None
            shape = images.images(convert=convert)
        done = 0
        for k in _steps(shape):
            with damage(path, "an npz file"):
                given = tuple(f"{group.prefix}{i}" for i in range(done, done + k)) if group.prefix else None
                pixels, classes = images.pixels(k), labels.labels(k) if labels else None
                part = ImageSet(pixels, names.names(k) if names else given, classes)
            _note(images, group.images, k, passed)
            yield part
            done += k


def write_npy(parts: Iterable[ImageSet], about: About, file: BinaryIO) -> None:
    """Write images of one size as an npy file; names and labels are left out."""
    ((h, w, c),) = about.shapes
    file.write(npy_header("|u1", (about.count, h, w) if c == 1 else (about.count, h, w, c)))
    for part in parts:
        file.write(part.pixels.tobytes())


def write_npz(parts: Iterable[ImageSet], about: About, file: BinaryIO, folder: Path) -> None:
    """Write images of one size as the arrays "images", "names", "labels" and "label_names", or as those of MedMNIST.

    The latter is done if the names are those that `open_npz` gives to the splits of MedMNIST, which is known only after
    the last name: until then the pixels wait in a temporary file in `folder`.

    Raises:
        UsageError: the labels are of several kinds, or a word ends with a zero character.
    """
    names: list[str] = []
    labels: list[Label] = []
    ((h, w, c),) = about.shapes
    row = (h, w) if c == 1 else (h, w, c)
    with tempfile.TemporaryFile(dir=folder) as pixels:
        for part in parts:
            pixels.write(part.pixels.tobytes())
            names.extend(part.names or ())
            labels.extend(part.labels or ())
        pixels.seek(0)
        splits = _splits(names)
        with zipfile.ZipFile(file, "w") as archive:
            start = 0
            for prefix, n in splits or [("", about.count)]:
                _write_pixels(archive, f"{prefix}images", pixels, (n, *row))
                if names and not splits:
                    _write_column(archive, "names", names)
                if labels:
                    _write_column(archive, f"{prefix}labels", labels[start : start + n])
                start += n
            if about.label_names:
                _write_column(archive, CLASSES, about.label_names)


def _splits(names: Sequence[str]) -> list[tuple[str, int]]:
    """Return the prefix and length of each split if `names` are those that `open_npz` gives to splits, else none."""
    matches = [_SPLIT_NAME.fullmatch(name) for name in names]
    splits = [(split, len(list(group))) for split, group in itertools.groupby(m[1] if m else "" for m in matches)]
    ordered = [split for split in SPLITS if split in dict(splits)] == [split for split, _ in splits]
    counted = [f"{split}/{i}" for split, n in splits for i in range(n)]
    return [(f"{split}_", n) for split, n in splits] if ordered and counted == list(names) else []


def _open_member(archive: zipfile.ZipFile, key: str) -> IO[bytes]:
    member = zipfile.ZipInfo(f"{key}.npy", _DATE)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3  # Unix, also on other systems, so that equal images make equal files
    return archive.open(member, "w", force_zip64=True)


def _write_pixels(archive: zipfile.ZipFile, key: str, pixels: IO[bytes], shape: tuple[int, ...]) -> None:
    """Write the next images of the file `pixels` as an array of that shape."""
    with _open_member(archive, key) as member:
        member.write(npy_header("|u1", shape))
        left = math.prod(shape)
        while left:
            data = read_exactly(pixels, min(left, 1 << 20))
            assert data
            member.write(data)
            left -= len(data)


def _write_column(archive: zipfile.ZipFile, key: str, column: Sequence[Label]) -> None:
    """Write names or labels as an array."""
    words = [value for value in column if isinstance(value, str)]
    with _open_member(archive, key) as member:
        if len(words) < len(column):
            numbers = int_array(column)
            member.write(npy_header("|u1" if numbers.dtype == np.uint8 else "<i8", numbers.shape))
            member.write(numbers.astype(numbers.dtype.newbyteorder("<")).tobytes())
            return
        if (bad := next((word for word in words if word.endswith("\0")), None)) is not None:
            raise UsageError(f"{bad!r} ends with a zero, which no array holds; give a folder, tar or zip")
        kind = f"<U{max(1, *map(len, words), 1)}"
        member.write(npy_header(kind, (len(words),)))
        for start in range(0, len(words), _WORDS_AT_ONCE):
            member.write(np.array(words[start : start + _WORDS_AT_ONCE], kind).tobytes())
