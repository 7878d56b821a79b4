# SPDX-License-Identifier: MIT
"""Where images come from: what a path is, and several as one."""

import gzip
import itertools
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from smalti.errors import SourceError, UsageError
from smalti.exchange.formats.folder import open_folder
from smalti.exchange.formats.idx import IDX_IMAGES, open_idx, read_labels
from smalti.exchange.formats.npy import NPY
from smalti.exchange.formats.numpy_files import open_npy, open_npz, read_npy_labels
from smalti.exchange.formats.parquet import PARQUET, open_parquet
from smalti.exchange.formats.pictures import open_pictures
from smalti.exchange.formats.tar import open_tar
from smalti.exchange.formats.zips import ZIP, open_zip
from smalti.exchange.labels import WITHOUT_LABELS
from smalti.exchange.parts import GZIP, Parts, damage
from smalti.types import ImageSet, Label, OnBad, Pixels, Source, describe, parts_of, raise_it

Images = Path | str | Pixels | ImageSet | Source | Sequence[Path | str] | Sequence[Pixels]

SMALTI = b"\x89SML"
_TAR_MAGIC = slice(257, 262)


def as_source(source: Images, on_bad: OnBad | None = None) -> Source:
    """Where images come from.

    Raises:
        SourceError: they cannot be had.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, np.ndarray):
        source = ImageSet(source)
    if isinstance(source, ImageSet):
        return Source([source], len(source), named=source.names is not None, labelled=source.labels is not None)
    every: list[Any] = [source] if isinstance(source, str | Path) or not isinstance(source, Iterable) else list(source)
    if every and all(isinstance(image, np.ndarray) for image in every):
        return Source(parts_of(every), len(every), named=False, labelled=False)
    if not all(isinstance(path, str | Path) for path in every):
        raise SourceError("a source is an array of images (n h w), a list of arrays (h w each), or paths")
    return open_source(*every) if on_bad is None else open_source(*every, on_bad=on_bad)


def open_source(
    *paths: Path | str, labels: Path | str | None = None, on_bad: OnBad = raise_it, labelled: bool = True
) -> Source:
    """The images of all `paths`, one after another.

    A path is a folder, an image, an idx file (gzipped or not), an npz or npy file, a tar file (gzipped or not) or a zip
    file of images, or a parquet file; `FILE.npz#KEY` picks one array of several. `labels` is an idx or npy file with
    the labels of the images of the only path. Where the images shall not be `labelled`, no labels are read at all,
    so that those that are amiss do not matter.

    `on_bad` is told of each image in a folder or an archive, or given by itself, that cannot be read. If it returns,
    the image is left out, and `total` counts it none the less. Damage to an archive as a whole is always raised.

    Raises:
        SourceError: a source is missing, empty or damaged, or some are labelled and some not.
        UsageError: there are `labels`, and `on_bad` may leave images out.
        MissingExtraError: there is a parquet file, but no pyarrow.
    """
    if not paths:
        raise SourceError("no source of images was given")
    if labels is not None and labelled:
        if on_bad is not raise_it:
            raise UsageError(f"{labels} labels all images in their order, so none can be skipped; stop at errors")
        return _open_labelled(paths, Path(labels))
    opened = _open_all([str(path) for path in paths], on_bad, labelled=labelled)
    if len({source.labelled for _, source in opened}) > 1:
        bare, full = (
            next(path for path, source in opened if source.labelled is labelled) for labelled in (False, True)
        )
        raise SourceError(f"{full} has labels, {bare} has none; give sources that all have labels, or {WITHOUT_LABELS}")
    named = any(source.named for _, source in opened)
    totals = [source.total for _, source in opened]
    total = sum(n for n in totals if n is not None) if None not in totals else None
    return Source(Parts(lambda: _chained(opened, named=named)), total, named, opened[0][1].labelled)


def _open_all(paths: Sequence[str], on_bad: OnBad, *, labelled: bool) -> list[tuple[str, Source]]:
    """Each source with its path; single images in a row are one."""
    opened: list[tuple[str, Source]] = []
    pictures: list[Path] = []
    for path in [*paths, None]:
        source = None if path is None else _open(path, on_bad, labelled=labelled)
        if source is None and path is not None:
            pictures.append(Path(path))
            continue
        if pictures:
            opened.append((str(pictures[0]), open_pictures(pictures, on_bad)))
            pictures = []
        if path is not None and source is not None:
            opened.append((path, source))
    return opened


def _chained(opened: Sequence[tuple[str, Source]], *, named: bool) -> Iterator[ImageSet]:
    found = False
    for (_, source), stem in zip(opened, _stems([path for path, _ in opened]), strict=True):
        i = 0
        for part in source.parts:
            names = tuple(f"{stem}-{i + k:05d}.png" for k in range(len(part))) if named else None
            yield part if source.named or not named else replace(part, names=names)
            i += len(part)
            found = True
    if not found:
        raise SourceError(f"{', '.join(path for path, _ in opened)[:400]}: no image could be read; check the images")


def _stems(paths: Sequence[str]) -> list[str]:
    """What names start with that are made for the images of each source: `x`, and `x-2`, ... where others have it.

    >>> _stems(["a/x.npy", "b/x.npy", "x-2.npy", "y.npz#train"])
    ['x', 'x-2', 'x-2-2', 'y']
    """
    stems: dict[str, None] = {}  # in order
    for path in paths:
        stem = Path(path).stem
        numbered = (f"{stem}-{k}" for k in itertools.count(2))
        stems[next(name for name in itertools.chain([stem], numbered) if name not in stems)] = None
    return list(stems)


def _open(path: str, on_bad: OnBad, *, labelled: bool) -> Source | None:
    """A source by what it is; None if it is a single image, or nothing that is known."""
    file, _, key = path.rpartition("#") if ".npz#" in path else (path, "", "")
    where = Path(file)
    with damage(where, "a source of images"):
        folder = where.is_dir()
        if not folder and not where.is_file():
            where.stat()  # says why
            raise SourceError(f"{where} is no regular file; give a file or a folder")
    match "folder" if folder else _kind(where):
        case "folder":
            return open_folder(where, on_bad, labelled=labelled)
        case "idx":
            return open_idx(where)
        case "npy":
            return open_npy(where)
        case "npz":
            return open_npz(where, key, labelled=labelled)
        case "zip":
            return open_zip(where, on_bad, labelled=labelled)
        case "tar":
            return open_tar(where, on_bad, labelled=labelled)
        case "parquet":
            return open_parquet(where, on_bad, labelled=labelled)
    return None


def _kind(path: Path) -> str:
    """By the first bytes, or by the name where these do not tell; "" is a single image."""
    name = path.name.lower()
    with damage(path, "a source of images"), path.open("rb") as file:
        head = file.read(512)
    if head.startswith(SMALTI):
        raise SourceError(f"{path} is a smalti file already; see smalti merge and select, or unpack it first")
    if head.startswith(ZIP):
        return "npz" if name.endswith(".npz") or _holds_arrays(path) else "zip"
    if head.startswith(GZIP) and not name.endswith((".tgz", ".tar.gz")):
        return "tar" if _gzip_head(path)[_TAR_MAGIC] == b"ustar" else "idx"
    for kind, start in (("idx", IDX_IMAGES[:3]), ("npy", NPY), ("parquet", PARQUET)):
        if head.startswith(start):
            return kind
    if name.endswith((".tar", ".tgz", ".tar.gz")) or head[_TAR_MAGIC] == b"ustar":
        return "tar"
    suffix = path.suffix.lower()
    return suffix[1:] if suffix in (".npz", ".npy", ".zip", ".parquet") else ""


def _holds_arrays(path: Path) -> bool:
    with damage(path, "a zip file"), zipfile.ZipFile(path) as file:
        names = file.namelist()
        return bool(names) and all(name.endswith(".npy") for name in names)


def _gzip_head(path: Path) -> bytes:
    with damage(path, "a gzip file"), gzip.open(path) as file:
        return file.read(512)


def _open_labelled(paths: Sequence[Path | str], labels: Path) -> Source:
    """One source whose labels are in a file of their own."""
    if len(paths) != 1:
        raise SourceError(f"{labels} can label one source, not {len(paths)}; pack their images from one source")
    path = str(paths[0])
    source = open_source(path)
    if source.labelled:
        raise SourceError(f"{path} has labels of its own; leave out {labels}")
    found = _read_labels(labels)
    if source.total is not None and source.total != len(found):
        raise _miscounted(labels, len(found), path, source.total)
    return replace(source, parts=Parts(lambda: _labelled(source, found, labels, path)), labelled=True)


def _miscounted(labels: Path, n: int, path: str, images: int) -> SourceError:
    return SourceError(f"{labels} holds {n} labels, {path} {images} images; give the labels of these images")


def _labelled(source: Source, found: Sequence[Label], labels: Path, path: str) -> Iterator[ImageSet]:
    done = 0
    for part in source.parts:
        mine = tuple(found[done : done + len(part)])
        done += len(part)
        if len(mine) < len(part):
            raise _miscounted(labels, len(found), path, done)
        yield replace(part, labels=mine)
    if done != len(found):
        raise _miscounted(labels, len(found), path, done)


def _read_labels(path: Path) -> tuple[Label, ...]:
    with damage(path, "a file of labels"), path.open("rb") as file:
        head = file.read(len(NPY))
    if head.startswith(NPY):
        return read_npy_labels(path)
    return read_labels(path)


def read_images(*paths: Path | str, labelled: bool = True) -> ImageSet:
    """The images of all `paths` (see `open_source`) in one array.

    Raises:
        SourceError: a source is missing, empty or unreadable, or not all images have one size and colour.
        MissingExtraError: there is a parquet file, but no pyarrow.
    """
    source = open_source(*paths, labelled=labelled)
    parts: list[ImageSet] = []
    for part in source.parts:
        if parts and part.shape != parts[0].shape:
            first, other = (
                f"{_called(p, n)} is {describe(p.shape)}" for p, n in ((parts[0], 0), (part, sum(map(len, parts))))
            )
            raise SourceError(f"{other}, {first}; all must be of one size and colour")
        parts.append(part)
    names = tuple(name for part in parts for name in part.names or ())
    labels = tuple(label for part in parts for label in part.labels or ())
    return ImageSet(np.concatenate([part.pixels for part in parts]), names or None, labels or None)


def _called(part: ImageSet, i: int) -> str:
    return part.names[0] if part.names else f"image {i}"
