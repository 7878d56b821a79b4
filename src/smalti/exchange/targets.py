# SPDX-License-Identifier: MIT
"""Where images go to: a folder, or one file of any kind that is read. Whole or not at all."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from smalti.errors import SourceError, UsageError
from smalti.exchange.formats.folder import check_folder, write_folder
from smalti.exchange.formats.idx import IDX, labels_path, write_idx
from smalti.exchange.formats.numpy_files import write_npy, write_npz
from smalti.exchange.formats.parquet import load_pyarrow, write_parquet
from smalti.exchange.formats.pictures import png_bytes
from smalti.exchange.formats.tar import write_tar
from smalti.exchange.formats.zips import write_zip
from smalti.exchange.names import unsafe_name
from smalti.types import About, ImageSet
from smalti.util.atomic import atomic_write, refuse_existing

__all__ = ["check_target", "png_bytes", "unsafe_name", "write_images"]

_KINDS = ("npz", "npy", "tar", "tgz", "zip", "parquet")
_NOT_WRITTEN = re.compile(
    r"\.(smalti|png|jpe?g|webp|avif|gif|bmp|tiff?|gz|bz2|xz|zst|tbz2|txz|7z|rar|h5|hdf5|csv|tsv|jsonl?|txt|arrow|pt|pth"
    r"|pkl|pickle|lmdb|mdb|mat|tfrecords?|safetensors)$|[.-]idx1(-ubyte)?$",
    re.IGNORECASE,
)
"""How files of other kinds are called; a folder of such a name is hardly meant. Other dots are for folders to have."""
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
"""How the path made of a URL starts; drives have one letter."""
_ALL = "give a folder, or a name that ends with .npz, .npy, .tar, .tar.gz, .zip, .parquet or -idx3-ubyte[.gz]"


def check_target(target: Path, about: About, *, force: bool) -> None:
    """Raise, before any work is done, if `write_images` would refuse `target`.

    Raises:
        OutputExistsError: it exists and `force` is false.
        UsageError: it is a kind of file that does not hold these images, or one that is not written.
        MissingExtraError: it is a parquet file, and pyarrow is not installed.
        OutputError: the operating system does not even let us look.
    """
    kind = _kind(target)
    if _ELSEWHERE.match(target.as_posix()):
        raise UsageError(f"{target.as_posix()!r}: images are written to local files only; {_ALL}")
    if str(target) == "-":
        raise UsageError(f"images are not written to standard output; {_ALL}")
    if kind == "folder":
        if _NOT_WRITTEN.search(target.name):
            raise UsageError(f"{target.name} is no kind of file that images are written to; {_ALL}")
        check_folder(target, force=force)
        return
    if kind == "idx" and any(c != 1 for _, _, c in about.shapes):
        raise UsageError(f"{target.name}: idx files hold gray images only; unpack to a folder, .npz, .tar or .zip")
    if kind in ("idx", "npz", "npy") and len(about.shapes) != 1:
        raise UsageError(f"{target.name} holds images of one size and colour only; give a folder, tar, zip or parquet")
    if kind == "parquet":
        load_pyarrow()
    refuse_existing(target, force=force)
    beside = labels_path(target) if kind == "idx" else None
    if beside is not None:
        refuse_existing(beside, force=force)


def _kind(target: Path) -> str:
    name = target.name.lower()
    if IDX.search(name):
        return "idx"
    if name.endswith(".tar.gz"):
        return "tgz"
    suffix = target.suffix.lower()[1:]
    return suffix if suffix in _KINDS else "folder"


def _left_out(kind: str, about: About, target: Path, labels: Path | None) -> str:
    """What became of names and labels, where images alone are in `target`; labels may be in a file of their own."""
    place = labels_path(target) if kind == "idx" and about.labelled else None
    lost = [what for what, there in (("names", about.named), ("labels", about.labelled and not place)) if there]
    notes = [f"{' and '.join(lost)} are left out: {kind} files hold pixels alone"] if lost else []
    if labels is not None:
        notes.append(f"labels are in {labels.name}")
    elif place is not None:
        notes.append("labels are left out: not all are 0 to 255, and idx files hold no others")
    return "; ".join(notes)


def write_images(parts: Iterable[ImageSet], about: About, target: Path, *, force: bool = False) -> str:
    """Write images to `target`: a file by the end of its name (see `check_target`), else a folder of PNG files.

    Files in a folder, a tar or a zip file are called by the images' names, with .png added where it is not there, or
    by number. With `force`, a file is replaced; in a folder, files of the same names are, one by one, once all are
    written. Returns what was left out or is in another file, in words; "" if everything is in `target`.

    Raises:
        OutputExistsError, UsageError, MissingExtraError: see `check_target`; or the target cannot hold the labels.
        OutputError: the disk is full, not writable, ...; the target is as it was.
        CorruptError: a name leads outside of the folder.
        SourceError: the images are not what `about` says.
    """
    check_target(target, about, force=force)
    parts = _checked(parts, about)
    kind = _kind(target)
    if kind == "folder":
        write_folder(parts, about, target)
        return ""
    if kind == "idx":
        return _left_out(kind, about, target, write_idx(parts, about, target, force=force))
    with atomic_write(target, force=force) as file:
        match kind:
            case "npz":
                write_npz(parts, about, file, target.parent)
            case "npy":
                write_npy(parts, about, file)
            case "tar" | "tgz":
                write_tar(parts, about, file, target)
            case "zip":
                write_zip(parts, about, file, str(target))
            case _:
                write_parquet(parts, file)
    return _left_out(kind, about, target, None) if kind == "npy" else ""


def _checked(parts: Iterable[ImageSet], about: About) -> Iterator[ImageSet]:
    """The parts, as long as they are what they were said to be."""
    count = 0
    for part in parts:
        count += len(part)
        what = (part.shape in about.shapes, (part.names is not None) == about.named)
        if not all(what) or (part.labels is not None) != about.labelled or count > about.count:
            raise SourceError("the images are not as announced: another shape or number, or names or labels amiss")
        yield part
    if count != about.count:
        raise SourceError(f"there are {count} images, {about.count} were announced")
