# SPDX-License-Identifier: MIT
"""Write images to a folder, or to a file of the format that its name tells; all or nothing."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from smalti.errors import SourceError, UsageError
from smalti.exchange.formats.folder import check_folder, write_folder
from smalti.exchange.formats.idx import IDX, labels_path, write_idx
from smalti.exchange.formats.image_files import png_bytes
from smalti.exchange.formats.numpy_files import write_npy, write_npz
from smalti.exchange.formats.parquet import load_pyarrow, write_parquet
from smalti.exchange.formats.tar import write_tar
from smalti.exchange.formats.zip_files import write_zip
from smalti.exchange.names import free_name, portable_name, unsafe_name
from smalti.types import About, ImageSet
from smalti.util.atomic import atomic_write, refuse_existing

__all__ = ["check_target", "png_bytes", "unsafe_name", "write_images"]


@dataclass(frozen=True)
class _Format:
    """A format of which one file holds all images."""

    suffixes: tuple[str, ...]  # the ends of the names of its files
    write: Callable[[Iterable[ImageSet], About, BinaryIO, Path], None]  # writes images to the open file of a path
    one_shape: bool = False  # whether all images must be of one size and colour
    pixels_alone: bool = False  # whether names and labels are left out
    profiles: bool = True  # whether each image keeps its ICC profile
    classes: bool = True  # whether the names of classes are kept
    files: bool = False  # whether each image is a file within, which is unpacked on systems of all kinds
    require: Callable[[], object] | None = None  # raises MissingExtraError if an optional library is missing


_FORMATS = (
    _Format(
        (".npz",),
        lambda parts, about, file, target: write_npz(parts, about, file, target.parent),
        one_shape=True,
        profiles=False,
    ),
    _Format(
        (".npy",),
        lambda parts, about, file, _: write_npy(parts, about, file),
        one_shape=True,
        pixels_alone=True,
        profiles=False,
    ),
    _Format((".tar", ".tgz", ".tar.gz"), write_tar, files=True, classes=False),
    _Format((".zip",), lambda parts, about, file, target: write_zip(parts, about, file, str(target)), files=True),
    _Format(
        (".parquet",), lambda parts, about, file, _: write_parquet(parts, file, about.label_names), require=load_pyarrow
    ),
)
"""The formats that are written as one file. A new format is one more entry here, and a file in `formats/`. Folders, and
idx files (which have their labels in a second file), are written by functions of their own: see `write_images`."""
_NOT_WRITTEN = re.compile(
    r"\.(smalti|png|jpe?g|webp|avif|gif|bmp|tiff?|gz|bz2|xz|zst|tbz2|txz|7z|rar|h5|hdf5|csv|tsv|jsonl?|txt|arrow|pt|pth"
    r"|pkl|pickle|lmdb|mdb|mat|tfrecords?|safetensors)$|[.-]idx1(-ubyte)?$",
    re.IGNORECASE,
)
"""The ends of the names of files that smalti does not write. A target of such a name is refused, for hardly anybody
means a folder by it; any other name, also one with a dot, is a folder's."""
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
"""The start of a URL; the drives of Windows have one letter."""
_ALL = "give a folder, or a name that ends with .npz, .npy, .tar, .tar.gz, .zip, .parquet or -idx3-ubyte[.gz]"


def check_target(target: Path, about: About, *, force: bool) -> None:
    """Raise, before any work is done, if `write_images` would refuse `target`.

    Raises:
        OutputExistsError: the target exists and `force` is false.
        UsageError: the format of the target cannot hold these images, or smalti does not write it.
        MissingExtraError: the target is a parquet file, and pyarrow is not installed.
        OutputError: the operating system does not let us see whether the target exists.
    """
    if _ELSEWHERE.match(target.as_posix()):
        raise UsageError(f"{target.as_posix()!r}: images are written to local files only; {_ALL}")
    if str(target) == "-":
        raise UsageError(f"images are not written to standard output; {_ALL}")
    idx, format_ = _is_idx(target), _format_of(target)
    if not idx and format_ is None:
        if _NOT_WRITTEN.search(target.name):
            raise UsageError(f"{target.name} is no kind of file that images are written to; {_ALL}")
        check_folder(target, force=force)
        return
    if idx and any(c != 1 for _, _, c in about.shapes):
        others = "a folder, .npz, .tar or .zip" if len(about.shapes) == 1 else "a folder, .tar, .zip or .parquet"
        raise UsageError(f"{target.name}: idx files hold gray images only; unpack to {others}")
    if (idx or (format_ is not None and format_.one_shape)) and len(about.shapes) != 1:
        raise UsageError(f"{target.name} holds images of one size and colour only; give a folder, tar, zip or parquet")
    if format_ is not None and format_.require is not None:
        format_.require()
    refuse_existing(target, force=force)
    beside = labels_path(target) if idx else None
    if beside is not None:
        refuse_existing(beside, force=force)


def _is_idx(target: Path) -> bool:
    return IDX.search(target.name.lower()) is not None


def _format_of(target: Path) -> _Format | None:
    """Return the format that the end of a name tells; None for a folder, and for an idx file."""
    if _is_idx(target) or not target.suffix:  # a file called ".zip" has no suffix
        return None
    return next((format_ for format_ in _FORMATS if target.name.lower().endswith(format_.suffixes)), None)


def _left_out(kind: str, about: About, *, labels_kept: bool = False) -> list[str]:
    """Return what is lost when a file of that kind holds the images, in words; labels may be kept elsewhere."""
    lost = [what for what, there in (("names", about.named), ("labels", about.labelled and not labels_kept)) if there]
    return [f"{' and '.join(lost)} are left out: {kind} files hold pixels alone"] if lost else []


def _write_idx(parts: Iterable[ImageSet], about: About, target: Path, *, force: bool) -> list[str]:
    """Write an idx file, and one of the labels where they can be kept; return what was left out, in words."""
    labels = write_idx(parts, about, target, force=force)
    place = labels_path(target) if about.labelled else None
    notes = _left_out("idx", about, labels_kept=place is not None)
    if labels is not None:
        notes.append(f"labels are in {labels.name}")
        notes += [_without_classes("idx")] if about.label_names else []
    elif place is not None:
        notes.append("labels are left out: not all are 0 to 255, and idx files hold no others")
    return notes


def write_images(parts: Iterable[ImageSet], about: About, target: Path, *, force: bool = False) -> str:
    """Write images to `target`: a file of the format that its name tells, else a folder of PNG files.

    The files in a folder, a tar or a zip file have the images' names, with .png added unless it is there; images
    without names get numbers, and so does a file that would be that of another image. Names that would lead out of the
    target are escaped, and in archives (and in folders on Windows) those that Windows refuses.
    With `force`, a file is replaced; in a folder, the files of the same names are replaced one by one, after all new
    ones are written. Returns what was left out, is in another file or is named otherwise, in words; "" if everything is
    in `target` as it was.

    Raises:
        OutputExistsError, MissingExtraError: see `check_target`.
        UsageError: see `check_target`; or the format cannot hold the labels.
        OutputError: the disk is full, the folder is not writable, ...; the target is as it was before.
        CorruptError: a name is no safe path, also if it is escaped.
        SourceError: the images are not what `about` says.
    """
    check_target(target, about, force=force)
    renamed, profiles = list[str](), list[int]()
    parts = _checked(parts, about, profiles)
    if _is_idx(target):
        notes = _write_idx(parts, about, target, force=force)
        return "; ".join([*notes, *_without_profiles(profiles, "idx")])
    if (format_ := _format_of(target)) is None:
        write_folder(_portable(parts, renamed, strict=os.name == "nt"), about, target)
        return "; ".join(_said(renamed))
    if format_.files:
        parts = _portable(parts, renamed, strict=True)
    with atomic_write(target, force=force) as file:
        format_.write(parts, about, file, target)
    kind = target.suffix.lower()[1:]
    notes = _left_out(kind, about) if format_.pixels_alone else _said(renamed)
    if about.label_names and not format_.classes:
        notes.append(_without_classes("tar"))
    return "; ".join([*notes, *([] if format_.profiles else _without_profiles(profiles, kind))])


def _without_classes(kind: str) -> str:
    return f"the names of the classes are left out: {kind} files hold none"


def _without_profiles(profiles: list[int], kind: str) -> list[str]:
    """Return in words that ICC profiles, so many in each part, are left out; nothing if there are none."""
    if not (n := sum(profiles)):
        return []
    return [
        f"the ICC profile{'s of' if n > 1 else ' of'} {n} image{'s' * (n > 1)} {'are' if n > 1 else 'is'} left out:"
        f" {kind} files hold none"
    ]


def _portable(parts: Iterable[ImageSet], renamed: list[str], *, strict: bool) -> Iterator[ImageSet]:
    """Yield the parts with names that files can have, each its own, and add to `renamed` what was done, in words.

    strict: whether every system shall take them.
    """
    taken = set[str]()
    for part in parts:
        names = part.names and tuple(free_name(portable_name(name, strict=strict), taken) for name in part.names)
        pairs = zip(part.names or (), names or (), strict=True)
        renamed += [f"{old!r:.80} as {new!r:.80}" for old, new in pairs if old != new]
        yield part if names == part.names else replace(part, names=names)


def _said(renamed: list[str]) -> list[str]:
    """Return in words that files were named otherwise; nothing if none was."""
    if not renamed:
        return []
    what = "1 name is" if len(renamed) == 1 else f"{len(renamed)} names are"
    return [
        f"{what} written otherwise, for no file can be called so on every system, or another is: {renamed[0]}"
        + ", ..." * (len(renamed) > 1)
    ]


def _checked(parts: Iterable[ImageSet], about: About, profiles: list[int]) -> Iterator[ImageSet]:
    """Yield the parts as long as they are what `about` says, and add to `profiles` how many each part has."""
    count = 0
    for part in parts:
        count += len(part)
        what = (part.shape in about.shapes, (part.names is not None) == about.named)
        if not all(what) or (part.labels is not None) != about.labelled or count > about.count:
            raise SourceError("the images are not as announced: their shapes, number, names or labels differ")
        profiles.append(sum(profile is not None for profile in part.profiles or ()))
        yield part
    if count != about.count:
        raise SourceError(f"there are {count} images, but {about.count} were announced")
