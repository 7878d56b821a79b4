# SPDX-License-Identifier: MIT
"""Folders of image files, with subfolders; labels are in `metadata.jsonl` or `metadata.csv`."""

import contextlib
import errno
import functools
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from smalti.errors import OutputError, OutputExistsError, SourceError
from smalti.exchange.formats.image_files import File, Reading, png_bytes, read_files
from smalti.exchange.labels import (
    METADATA,
    Table,
    csv_labels,
    json_rows,
    kinds_of,
    lines_of,
    metadata_labels,
    metadata_line,
    tables_of,
)
from smalti.exchange.names import file_name
from smalti.exchange.parts import Parts, Single, damage, grouped
from smalti.exchange.recognise import HEAD_BYTES, HIDDEN_FOLDER, LINKED_AGAIN, is_hidden, is_image, no_images
from smalti.types import About, ImageSet, Label, OnBad, PassedOver, Source
from smalti.util.atomic import output_error

_TWO = "two images would be one file, or one the folder of the other"
_NAME_PROBLEMS = {
    errno.ENAMETOOLONG: "its name is too long",
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), _TWO),
}
"""The reasons why a folder cannot hold a name that another target could hold, by the number of the error."""


def open_folder(folder: Path, on_bad: OnBad, *, labelled: bool, convert: bool, side: int | None = None) -> Source:
    """Open the images of a folder in the order of their paths.

    Links to folders are followed, each real folder is read once, and hidden files and folders are passed over.

    Raises:
        SourceError: the folder cannot be read, holds no images, or labels only some of them.
    """
    found, reading = PassedOver(), Reading(on_bad, PassedOver(), convert, side)
    with damage(folder, "a folder that can be read"):
        names, files = _find(folder, found)
    if not names:
        raise SourceError(no_images(f"{folder} holds no images; give a folder of", found))
    tables = [Table(*table, _opener(folder, *table)) for table in tables_of(files)]
    labels = metadata_labels(tables, folder, names, found) if labelled and tables else None
    parts = Parts(lambda: grouped(_singles(folder, names, labels, reading)))
    total, passed = reading.count(len(names)), PassedOver((found, reading.passed))
    origin = "" if labels is None else kinds_of(tables)
    return Source(parts, total, named=True, labelled=labels is not None, passed_over=passed, labels_from=origin)


def _opener(folder: Path, within: str, kind: str) -> Callable[[], BinaryIO]:
    return lambda: (folder / within / kind).open("rb")


def _find(folder: Path, passed: PassedOver) -> tuple[list[str], list[str]]:
    """Return the names of the images of a folder, in order, and those of its metadata files.

    Each real folder is read once, whatever links to it.
    """
    found: list[str] = []
    metadata: list[str] = []
    read: set[tuple[int, int]] = set()
    tops = [folder]
    while tops:  # first what is in the folder itself, then what its links lead to
        links: list[Path] = []
        for top in tops:
            for name in _find_within(top, folder, read, links, passed):
                (metadata if name.rpartition("/")[2] in METADATA else found).append(name)
        tops = sorted(links)
    return sorted(found), sorted(metadata)


def _find_within(
    top: Path, folder: Path, read: set[tuple[int, int]], links: list[Path], passed: PassedOver
) -> Iterator[str]:
    """Yield the names of the images and metadata files below `top`; add links to folders, not followed, to `links`."""

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(top, onerror=fail):
        status = Path(parent).stat()
        key = (status.st_dev, status.st_ino)
        if key in read:
            passed.note(LINKED_AGAIN, Path(parent).relative_to(folder).as_posix())
            folders.clear()
            continue
        read.add(key)
        here = Path(parent).relative_to(folder).as_posix()
        before = "" if here == "." else here + "/"
        within: list[str] = []
        for name in folders:
            if is_hidden(name):
                passed.note(HIDDEN_FOLDER, before + name)
            elif _is_link(path := Path(parent, name)):
                links.append(path)
            else:
                within.append(name)
        folders[:] = sorted(within)
        for file in sorted(files):
            path = Path(parent, file)
            if is_image(before + file, functools.partial(_head, path), passed) or (file in METADATA and path.is_file()):
                yield before + file


def _is_link(folder: Path) -> bool:
    junction = getattr(os.path, "isjunction", None)  # of Windows; since Python 3.12
    return folder.is_symlink() or (junction is not None and junction(folder))


def _head(path: Path) -> bytes:
    if not path.is_file():  # a pipe would be waited for
        path.stat()
        return b""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _singles(folder: Path, names: Sequence[str], labels: Sequence[Label] | None, reading: Reading) -> Iterator[Single]:
    reading.passed.clear()
    files = (
        File(folder / name, name, str(folder / name), None if labels is None else labels[i])
        for i, name in enumerate(names)
    )
    yield from read_files(files, reading)


def check_folder(folder: Path, *, force: bool) -> None:
    """Raise, before any work is done, if `write_folder` would refuse `folder`.

    Raises:
        OutputExistsError: the folder is a file, or is not empty and `force` is false.
        OutputError: the operating system does not let us see whether the folder exists.
    """
    try:
        if folder.is_dir():
            if any(folder.iterdir()) and not force:
                raise OutputExistsError(f"{folder} is not empty; choose another folder or add force=True to add to it")
        elif os.path.lexists(folder):
            raise OutputExistsError(f"{folder} is a file; to write one, end its name with .npz, .tar, .zip, .parquet")
    except (OSError, ValueError) as exc:
        raise output_error(folder, exc) from exc


def write_folder(parts: Iterable[ImageSet], about: About, folder: Path) -> None:
    """Write all files to a hidden folder, beside the new one or within the existing one, then move them into place.

    In an existing folder, files of the same names are replaced together with their labels; others keep theirs.

    Raises:
        CorruptError: a name is no safe path.
        OutputExistsError: a folder, or a link to one, is where a file should go; or some images of the folder would
            have labels and others none.
        OutputError: the disk is full, the folder is not writable, ...; the target is as it was before.
    """
    there = folder.is_dir()
    temporary = (folder if there else folder.parent) / f".smalti.{secrets.token_hex(6)}.part"
    try:
        files = temporary / "files"
        files.mkdir(parents=True)
        names, lines = _write_files(parts, about, files, folder)
        if there:
            _move_into(temporary, names, lines, folder)
        else:
            _write_lines(lines, files / METADATA[0])
            files.replace(folder)
    except (OSError, ValueError) as exc:
        raise output_error(folder, exc) from exc
    finally:
        with contextlib.suppress(OSError, ValueError):
            shutil.rmtree(temporary)


def _write_files(parts: Iterable[ImageSet], about: About, temporary: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Write the image files; return their names, and the lines of `metadata.jsonl` if there are labels."""
    digits = len(str(about.count - 1))
    names: list[str] = []
    lines: list[str] = []
    for part in parts:
        for i, image in enumerate(part.pixels):
            name = file_name(part.names[i] if part.names else f"{len(names):0{digits}d}", str(folder))
            with _created(temporary / name, name, folder) as file:
                file.write(png_bytes(image, part.profile(i)))
            names.append(name)
            if part.labels is not None:
                lines.append(metadata_line(name, part.labels[i], about.label_names))
    return names, lines


def _created(path: Path, name: str, folder: Path) -> BinaryIO:
    """Create the file of the image `name`, which must not exist yet: two names must never be one file.

    Raises:
        OutputError: the folder cannot hold a file of that name, by itself or beside the others.
        OSError: the file cannot be created for another reason.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")
    except OSError as exc:
        if (reason := _NAME_PROBLEMS.get(exc.errno or 0)) is None:
            raise
        other = "a parquet file (or npz, if all are of one size)"
        raise OutputError(f"{folder} cannot hold the image {name!r:.80}: {reason}; unpack to {other}") from exc


def _write_lines(lines: Sequence[str], path: Path) -> None:
    if lines:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)


def _move_into(temporary: Path, names: Sequence[str], lines: Sequence[str], folder: Path) -> None:
    """Move files into an existing folder; what could fail is tried before the first file is moved.

    The labels of replaced files go first and the new labels come last, so that no image ever has the label of
    another, even if the process is killed in between.
    """
    kept = _kept(folder, names, labelled=bool(lines))
    for parent in dict.fromkeys(Path(name).parent for name in names):
        _refuse_links(folder, parent)
        (folder / parent).mkdir(parents=True, exist_ok=True)
    metadata = folder / METADATA[0]
    for name in (*names, METADATA[0]) if lines else names:
        if (folder / name).is_dir():
            raise OutputExistsError(f"{folder / name} is a folder where a file should go; choose another target")
    _write_lines(kept, temporary / "kept")
    _write_lines([*kept, *lines], temporary / "all")
    if kept:
        (temporary / "kept").replace(metadata)
    elif metadata.is_file():
        metadata.unlink()
    for name in names:
        (temporary / "files" / name).replace(folder / name)
    if lines:
        (temporary / "all").replace(metadata)


def _kept(folder: Path, names: Sequence[str], *, labelled: bool) -> list[str]:
    """Return the lines of `metadata.jsonl` that stay when the files `names`, labelled or not, come into a folder.

    Raises:
        OutputExistsError: some images would have labels and others none, or `metadata.csv` has labels.
        SourceError: `metadata.jsonl` or `metadata.csv` is damaged.
    """
    written, kept, known = set(names), list[str](), set[str]()
    metadata, table = (folder / kind for kind in METADATA)
    if metadata.is_file():
        with damage(folder, f"a folder with {metadata.name}"), metadata.open("rb") as file:
            for line, row in json_rows(lines_of(file), metadata.name):
                if row["file_name"] not in written:
                    kept.append(line.rstrip("\r\n") + "\n")
                    known.update([row["file_name"]] if row.get("label") is not None else [])
    _, tables = _find(folder, PassedOver())
    if (other := next((name for name in tables if "/" in name), None)) is not None:
        raise OutputExistsError(f"{folder} has labels in {other}, which is not written; choose another folder")
    if table.is_file():
        with damage(folder, f"a folder with {table.name}"), table.open("rb") as file:
            if any(csv_labels(lines_of(file))):
                raise OutputExistsError(f"{folder} has labels in {table.name}, which is not written; choose another")
    others = (name for name in _find(folder, PassedOver())[0] if name not in written)
    if (other := next((name for name in others if (name in known) != labelled), None)) is not None:
        has, have = ("no label", "some") if labelled else ("a label", "none")
        raise OutputExistsError(f"{folder / other} has {has}, the images to add have {have}; choose another folder")
    return kept


def _refuse_links(folder: Path, parent: Path) -> None:
    """Refuse a subfolder that is a link: the folder that it leads to is not part of the target.

    Raises:
        OutputExistsError: the subfolder, or one above it, is a link.
    """
    if os.path.normcase((folder / parent).resolve()) != os.path.normcase(folder.resolve() / parent):
        raise OutputExistsError(f"{folder / parent} leads elsewhere by a link; choose another target")
