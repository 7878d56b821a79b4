# SPDX-License-Identifier: MIT
"""Open sources of images: recognise the format of each path, and chain several as one source."""

import itertools
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from smalti.errors import SourceError, UsageError
from smalti.exchange.arrays import (
    is_array,
    is_file,
    is_image,
    is_path,
    kept_until_read,
    no_source,
    source_of_array,
    source_of_images,
    source_of_set,
    spooled,
)
from smalti.exchange.formats.folder import open_folder
from smalti.exchange.formats.idx import is_idx, open_idx
from smalti.exchange.formats.image_files import open_image_files
from smalti.exchange.formats.label_files import labelled_parts, miscounted, read_labels
from smalti.exchange.formats.npy_stream import NPY
from smalti.exchange.formats.numpy_files import open_npy, open_npz
from smalti.exchange.formats.parquet import PARQUET, open_parquet
from smalti.exchange.formats.tar import open_tar
from smalti.exchange.formats.tar_stream import SUFFIXES as TAR_SUFFIXES
from smalti.exchange.formats.tar_stream import is_tar
from smalti.exchange.formats.zip_files import ZIP, open_zip
from smalti.exchange.labels import WITHOUT_LABELS
from smalti.exchange.names import stems
from smalti.exchange.parts import GZIP, Parts, damage
from smalti.exchange.resize import reduced_source
from smalti.types import ImageSet, OnBad, PassedOver, Source, describe, raise_it

Images = Any
"""What the public functions take as images: paths, arrays and array-likes, images of Pillow, lists of these, open
binary files, or what was opened already."""

SMALTI = b"\x89SML"
"""The first bytes of a smalti file."""


def as_source(
    source: Images,
    on_bad: OnBad | None = None,
    *,
    labelled: bool = True,
    convert: bool = False,
    side: int | None = None,
) -> Source:
    """Return `source` as a source that can be read part by part.

    Args:
        source: paths, arrays or array-likes, images of Pillow, a list of these, open binary files, or what was opened
            already.
        on_bad: see `open_source`.
        labelled: whether labels are read, where they are in the files that are named.
        convert: see `open_source`.
        side: the long side, in pixels, to which larger images are reduced; None if they stay as they are.

    Raises:
        SourceError: it is none of these, or cannot be opened; see `open_source`.
    """
    how = _How(raise_it if on_bad is None else on_bad, labelled, convert, side)
    opened = _as_opened(source, how)
    return opened if side is None else reduced_source(opened, side)


def _as_opened(source: Images, how: "_How") -> Source:
    if isinstance(source, Source):
        return source
    if isinstance(source, ImageSet):
        return source_of_set(source)
    if callable(opened := getattr(source, "as_source", None)):  # an open smalti file
        return as_source(opened())
    every = _listed(source)
    if every is None:
        return source_of_array(source, convert=how.convert)
    if every and all(is_array(image) or is_image(image) for image in every):
        return source_of_images(every, convert=how.convert, side=how.side)
    for i, one in enumerate(every):
        if is_array(one) or is_image(one):
            raise SourceError("a list holds both images and paths; give images alone, or paths alone")
        if not is_path(one) and not is_file(one):
            raise no_source(one, f"image {i}")
    return _open_paths(every, how)


def _listed(source: Any) -> list[Any] | None:
    """Return images or paths as a list; None for an array of images.

    Raises:
        SourceError: it is no such thing.
    """
    if is_path(source) or is_image(source) or is_file(source):
        return [source]
    if hasattr(source, "iloc") and hasattr(source, "columns"):  # a table of pandas
        raise no_source(source)
    if is_array(source):
        dtype, shape = getattr(source, "dtype", None), getattr(source, "shape", ())
        listed = len(shape) == 1 and getattr(dtype, "kind", "O") in "OUT"  # of paths, or of images of several sizes
        return list(source) if listed else None
    if isinstance(source, bytes | bytearray | memoryview | Mapping) or not isinstance(source, Iterable):
        raise no_source(source)
    return list(source)


def _open_paths(every: Sequence[Any], how: "_How") -> Source:
    """Open paths and open binary files; the latter are copied to files first, so that their format can be told."""
    if not any(is_file(one) for one in every):
        return _open_source([os.fsdecode(path) for path in every], how)
    folder = Path(tempfile.mkdtemp(prefix="smalti-"))
    try:
        paths = [str(spooled(one, folder, i)) if is_file(one) else os.fsdecode(one) for i, one in enumerate(every)]
        return kept_until_read(_open_source(paths, how), folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def open_source(
    *paths: Path | str,
    labels: Path | str | None = None,
    on_bad: OnBad = raise_it,
    labelled: bool = True,
    convert: bool = False,
    side: int | None = None,
) -> Source:
    """Open the images of all `paths`, one after another, as one source.

    A path names a folder, an image file, an idx file (gzipped or not), an npz or npy file, a tar file (compressed or
    not) or a zip file of images, or a parquet file; `FILE.npz#KEY` picks one array of several. `labels` names an idx
    or npy file with the labels of the images, and needs a single path. If `labelled` is false, no labels are read at
    all, so that damaged labels do no harm.

    `on_bad` is called with the error of each image file that cannot be read, in a folder, in an archive or given by
    itself. If it returns, the image is left out, although `total` counts it. Damage to a whole archive always raises.

    With `convert`, images of other colours, more than 8 bits a sample, floats, animations, pages and icons of several
    sizes are converted to 8-bit sRGB or gray, image by image; docs/what-is-read.md says how. Without it, they cannot be
    read. `passed_over` of the source says what was converted.

    With a `side`, images whose long side has more pixels are reduced to it, and colours are converted to sRGB by their
    ICC profiles.

    Raises:
        SourceError: a source is missing, empty or damaged, or some sources have labels and others have none.
        UsageError: there are `labels`, and `on_bad` may leave images out.
        MissingExtraError: a path names a parquet file, and pyarrow is not installed.
    """
    if labels is not None and labelled:
        if on_bad is not raise_it:
            raise UsageError(f"{labels} labels all images in their order, so none can be skipped; stop at errors")
        return _open_labelled(paths, Path(labels), convert=convert, side=side)
    source = _open_source([str(path) for path in paths], _How(on_bad, labelled, convert, side))
    return source if side is None else reduced_source(source, side)


def _open_source(paths: Sequence[str], how: "_How") -> Source:
    """Open the images of all `paths` as one source, without labels that are in another file."""
    if not paths:
        raise SourceError("no source of images was given")
    if "" in paths:
        raise UsageError("a source is an empty path; name a folder or a file, or give . for the working folder")
    opened = _open_all(paths, how)
    if len({source.labelled for _, source in opened}) > 1:
        bare, full = (
            next(path for path, source in opened if source.labelled is labelled) for labelled in (False, True)
        )
        raise SourceError(f"{full} has labels, {bare} has none; give sources that all have labels, or {WITHOUT_LABELS}")
    named = any(source.named for _, source in opened)
    totals = [source.total for _, source in opened]
    total = sum(n for n in totals if n is not None) if None not in totals else None
    passed = PassedOver(tuple(source.passed_over for _, source in opened))
    labelled = opened[0][1].labelled
    classes = {source.label_names for _, source in opened} if labelled else {()}
    if len(classes) > 1:
        raise SourceError(
            f"the classes of {opened[0][0]} have other names than those of the other sources; pack each apart"
        )
    origins = dict.fromkeys(source.labels_from for _, source in opened if source.labels_from)
    parts = Parts(lambda: _chained(opened, named=named))
    return Source(parts, total, named, labelled, passed, classes.pop(), ", ".join(origins))


def _open_all(paths: Sequence[str], how: "_How") -> list[tuple[str, Source]]:
    """Open each path, and return the sources with their paths; neighbours that are image files make one source."""
    opened: list[tuple[str, Source]] = []
    images: list[Path] = []
    for path in [*paths, None]:
        source = None if path is None else _open(path, how)
        if source is None and path is not None:
            images.append(Path(path))
            continue
        if images:
            found = open_image_files(images, how.on_bad, convert=how.convert, side=how.side)
            opened.append((str(images[0]), found))
            images = []
        if path is not None and source is not None:
            opened.append((path, source))
    return opened


def _chained(opened: Sequence[tuple[str, Source]], *, named: bool) -> Iterator[ImageSet]:
    found = False
    for (_, source), stem in zip(opened, stems([_split(path)[0] for path, _ in opened]), strict=True):
        i = 0
        for part in source.parts:
            names = tuple(f"{stem}-{i + k:05d}.png" for k in range(len(part))) if named else None
            yield part if source.named or not named else replace(part, names=names)
            i += len(part)
            found = True
    if not found:
        raise SourceError(f"{', '.join(path for path, _ in opened)[:400]}: no image could be read; check the images")


def _split(path: str) -> tuple[str, str]:
    """Return the file and the key of `FILE#KEY`, for formats that hold several arrays; the key is "" without any."""
    ends = [f"{suffix}#" for format_ in _FORMATS if format_.keyed for suffix in format_.suffixes]
    file, _, key = path.rpartition("#") if any(end in path for end in ends) else (path, "", "")
    return file, key


def _open(path: str, how: "_How") -> Source | None:
    """Open one source by its format; return None for a single image file, and for a file of no known format."""
    file, key = _split(path)
    where = Path(file)
    with damage(where, "a source of images"):
        folder = where.is_dir()
        if not folder and not where.is_file():
            where.stat()  # its error says why the path cannot be read
            raise SourceError(f"{where} is no regular file; give a file or a folder")
    if folder:
        return open_folder(where, how.on_bad, labelled=how.labelled, convert=how.convert, side=how.side)
    with damage(where, "a source of images"), where.open("rb") as opened:
        asked = _Asked(where, opened.read(512), key, how)
    if asked.head.startswith(SMALTI):
        raise SourceError(f"{where} is a smalti file already; see smalti merge and select, or unpack it first")
    by_bytes = (format_ for format_ in _FORMATS if format_.recognises(asked))
    by_name = (format_ for format_ in _FORMATS if asked.name.endswith(format_.suffixes))
    found = next(itertools.chain(by_bytes, by_name), None)
    return None if found is None else found.open(asked)


@dataclass(frozen=True)
class _How:
    """How sources are opened: the arguments of `open_source`."""

    on_bad: OnBad
    labelled: bool
    convert: bool
    side: int | None


@dataclass(frozen=True)
class _Asked:
    """A file that is to be opened as a source, and what was asked of it."""

    path: Path
    head: bytes  # the first 512 bytes of the file, or fewer
    key: str  # the array of an npz file that was asked for; "" if none was
    how: _How

    @property
    def name(self) -> str:
        return self.path.name.lower()


@dataclass(frozen=True)
class _Format:
    """One format of files that hold images."""

    suffixes: tuple[str, ...]  # the ends of the names by which a file is taken for it, if no bytes tell
    recognises: Callable[[_Asked], bool]  # whether the bytes of a file tell that it has this format
    open: Callable[[_Asked], Source]
    keyed: bool = False  # whether `FILE#KEY` asks for one of several arrays of a file


def _is_npz(file: _Asked) -> bool:
    """Return whether a zip file holds nothing but arrays, or is called so."""
    if not file.head.startswith(ZIP):
        return False
    if file.name.endswith(".npz"):
        return True
    with damage(file.path, "a zip file"), zipfile.ZipFile(file.path) as opened:
        names = opened.namelist()
        return bool(names) and all(name.endswith(".npy") for name in names)


def _is_idx(file: _Asked) -> bool:
    """Return whether a file starts as an idx file of images does, or is gzipped and no tar file."""
    return is_idx(file.head) or (file.head.startswith(GZIP) and not is_tar(file.path, file.head))


def _npz(file: _Asked) -> Source:
    return open_npz(file.path, file.key, labelled=file.how.labelled, convert=file.how.convert)


def _archive(opener: Callable[..., Source], file: _Asked) -> Source:
    how = file.how
    return opener(file.path, how.on_bad, labelled=how.labelled, convert=how.convert, side=how.side)


_FORMATS = (
    _Format((".npz",), _is_npz, _npz, keyed=True),
    _Format(
        (".zip",),
        lambda file: file.head.startswith(ZIP),
        lambda file: _archive(open_zip, file),
    ),
    _Format((), _is_idx, lambda file: open_idx(file.path, convert=file.how.convert)),
    _Format(
        (".npy",), lambda file: file.head.startswith(NPY), lambda file: open_npy(file.path, convert=file.how.convert)
    ),
    _Format(
        (".parquet",),
        lambda file: file.head.startswith(PARQUET),
        lambda file: _archive(open_parquet, file),
    ),
    _Format(
        TAR_SUFFIXES,
        lambda file: is_tar(file.path, file.head),
        lambda file: _archive(open_tar, file),
    ),
)
"""The formats of files with images, in the order in which they are tried: by the bytes of a file first, and if no
format recognises these, by its name. A new format is one more entry here, and a file in `formats/`; CONTRIBUTING.md
says what else."""


def _open_labelled(paths: Sequence[Path | str], labels: Path, *, convert: bool, side: int | None) -> Source:
    """Open one source whose labels are in a file of their own."""
    if len(paths) != 1:
        raise SourceError(f"{labels} can label one source, not {len(paths)}; pack their images from one source")
    path = str(paths[0])
    source = open_source(path, convert=convert, side=side)
    if source.labelled:
        raise SourceError(f"{path} has labels of its own; leave out {labels}")
    found = read_labels(labels)
    if source.total is not None and source.total != len(found):
        raise miscounted(labels, len(found), path, source.total)
    parts = Parts(lambda: labelled_parts(source, found, labels, path))
    return replace(source, parts=parts, labelled=True, labels_from=labels.name)


def read_images(*paths: Path | str, labelled: bool = True) -> ImageSet:
    """Read the images of all `paths` (see `open_source`) into one array.

    Raises:
        SourceError: a source is missing, empty or damaged, or the images are not all of one size and colour.
        MissingExtraError: a path names a parquet file, and pyarrow is not installed.
    """
    return joined(open_source(*paths, labelled=labelled))


def joined(source: Source) -> ImageSet:
    """Return the images of `source` as one array.

    Raises:
        SourceError: a part cannot be read, or the images are not all of one size and colour.
    """
    parts: list[ImageSet] = []
    for part in source.parts:
        if parts and part.shape != parts[0].shape:
            first, other = (
                f"{_called(p, n)} is {describe(p.shape)}" for p, n in ((parts[0], 0), (part, sum(map(len, parts))))
            )
            raise SourceError(f"{other}, {first}; all must be of one size and colour")
        parts.append(part)
    if not parts:
        raise SourceError("there are no images in the source; give some")
    names = tuple(name for part in parts for name in part.names or ())
    labels = tuple(label for part in parts for label in part.labels or ())
    profiles = tuple(part.profile(i) for part in parts for i in range(len(part)))
    pixels = np.concatenate([part.pixels for part in parts])
    return ImageSet(pixels, names or None, labels or None, profiles if any(profiles) else None)


def _called(part: ImageSet, i: int) -> str:
    return part.names[0] if part.names else f"image {i}"
