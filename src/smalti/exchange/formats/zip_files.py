# SPDX-License-Identifier: MIT
"""zip files of image files; labels are in `metadata.jsonl` or `metadata.csv`, as in a folder."""

import contextlib
import functools
import itertools
import stat
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from smalti.errors import SourceError
from smalti.exchange.formats.image_files import File, Reading, png_bytes, read_files
from smalti.exchange.labels import METADATA, Table, kinds_of, metadata_labels, metadata_line, tables_of
from smalti.exchange.names import file_name, plain_name, unsafe_name
from smalti.exchange.parts import (
    MAX_MEMBER_BYTES,
    MAX_TEXT_BYTES,
    Parts,
    Single,
    damage,
    grouped,
    read_exactly,
)
from smalti.exchange.recognise import HEAD_BYTES, is_hidden, is_image, no_images
from smalti.types import About, ImageSet, Label, OnBad, PassedOver, Source

ZIP = (b"PK\x03\x04", b"PK\x05\x06")
"""The first bytes of a zip file: with members, and of an empty one."""
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date of zip, always the same, so that equal images make equal files


def open_zip(path: Path, on_bad: OnBad, *, labelled: bool, convert: bool, side: int | None = None) -> Source:
    """Open the images of a zip file, in its order.

    Raises:
        SourceError: the file is damaged, holds no images, or labels only some of them.
    """
    found, reading = PassedOver(), Reading(on_bad, PassedOver(), convert, side)
    with damage(path, "a zip file"), zipfile.ZipFile(path) as file:
        _check_start(file, path)
        members = _images(file, found)
        if not members:
            raise SourceError(no_images(f"{path} holds no images; give a zip file of", found))
        names = [_name(member) for member in members]
        tables = _tables(file, path) if labelled else []
        labels = metadata_labels(tables, path, names, found) if tables else None
    parts = Parts(lambda: grouped(_singles(path, labels, reading)))
    total, passed = reading.count(len(members)), PassedOver((found, reading.passed))
    origin = "" if labels is None else kinds_of(tables)
    return Source(parts, total, named=True, labelled=labels is not None, passed_over=passed, labels_from=origin)


def _check_start(file: zipfile.ZipFile, path: Path) -> None:
    """Refuse a file whose directory leaves out what it starts with, as two zip files in one do.

    Raises:
        SourceError: the file starts with a member that its directory does not list.
    """
    first = min((member.header_offset for member in file.infolist()), default=0)
    with path.open("rb") as raw:
        if first > 0 and raw.read(len(ZIP[0])) == ZIP[0]:
            raise SourceError(
                f"{path} starts with files that its directory does not list, as two zip files in one do;"
                " give each zip file by itself"
            )


def _images(file: zipfile.ZipFile, passed: PassedOver) -> list[zipfile.ZipInfo]:
    found = []
    for member in file.infolist():
        name, head = _name(member), functools.partial(_head, file, member)
        if not _name(member).endswith("/") and is_image(name, head, passed, link=_is_link(member)):
            found.append(member)
    return found


def _is_link(member: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(member.external_attr >> 16)  # the mode of the file on Unix


def _head(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with file.open(member) as stream:
        return stream.read(HEAD_BYTES)


def _tables(file: zipfile.ZipFile, path: Path) -> list[Table]:
    """Return the metadata files of a zip file.

    Raises:
        SourceError: one of them claims too many bytes.
    """
    members = {_name(member): member for member in file.infolist() if not is_hidden(_name(member))}
    tables = []
    for folder, kind in tables_of(members):
        member = members[folder + kind]
        if member.file_size > MAX_TEXT_BYTES:
            raise SourceError(f"{path}: {folder}{kind} claims more than {MAX_TEXT_BYTES} bytes; it is damaged")
        tables.append(Table(folder, kind, functools.partial(_lines, file, member)))
    return tables


@contextlib.contextmanager
def _lines(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[Iterable[bytes]]:
    with file.open(member) as stream:
        yield iter(lambda: stream.readline(1 << 21), b"")


def _name(member: zipfile.ZipInfo) -> str:
    r"""Return the name of a member with "/" between folders, where some programs of Windows write "\"."""
    return plain_name(member.filename.replace("\\", "/"))


def _singles(path: Path, labels: Sequence[Label] | None, reading: Reading) -> Iterator[Single]:
    reading.passed.clear()
    with damage(path, "a zip file"):
        file = zipfile.ZipFile(path)
    with file:
        with damage(path, "a zip file"):
            members = _images(file, PassedOver())
        yield from read_files(_files(file, path, members, labels, reading), reading)


def _files(
    file: zipfile.ZipFile, path: Path, members: list[zipfile.ZipInfo], labels: Sequence[Label] | None, reading: Reading
) -> Iterator[File]:
    for i, member in enumerate(members):
        name = _name(member)
        try:
            data = _read(file, member, f"{path}: {name}")
        except SourceError as exc:
            reading.on_bad(exc)
            continue
        yield File(data, name, f"{path}: {name}", None if labels is None else labels[i])


def _read(file: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> bytes:
    if unsafe_name(_name(member), strict=False):
        raise SourceError(f"{where!r} is no safe name of a file; give it another")
    if _is_link(member):
        raise SourceError(f"{where} is a link, which is not followed; give the file itself")
    if member.file_size > MAX_MEMBER_BYTES:
        raise SourceError(f"{where} claims {member.file_size} bytes, no small image; leave it out")
    try:
        with file.open(member) as stream:
            data = read_exactly(stream, member.file_size)
    except Exception as exc:
        raise SourceError(f"{where} cannot be read ({exc}); leave it out or copy the zip file again") from exc
    if len(data) != member.file_size:
        raise SourceError(f"{where} does not hold the {member.file_size} bytes it claims; copy the zip file again")
    return data


def write_zip(parts: Iterable[ImageSet], about: About, file: BinaryIO, where: str) -> None:
    """Write a zip file of PNG files, stored without deflating them again, and `metadata.jsonl` if there are labels.

    Raises:
        CorruptError: a name is no safe path.
    """
    digits = len(str(about.count - 1))
    numbers, lines = itertools.count(), list[str]()
    with zipfile.ZipFile(file, "w") as archive:
        for part in parts:
            for i, image in enumerate(part.pixels):
                name = part.names[i] if part.names else f"{next(numbers):0{digits}d}"
                name = file_name(name, where, strict=True)
                archive.writestr(_member(name), png_bytes(image, part.profile(i)))
                if part.labels is not None:
                    lines.append(metadata_line(name, part.labels[i], about.label_names))
        if lines:
            archive.writestr(_member(METADATA[0]), "".join(lines), zipfile.ZIP_DEFLATED)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _DATE)
    member.create_system = 3  # Unix, also on other systems, so that equal images make equal files
    member.external_attr = 0o644 << 16
    return member
