# SPDX-License-Identifier: MIT
"""tar files of image files, gzipped or not; labels as WebDataset has them (`7.png`, `7.cls`)."""

import contextlib
import gzip
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO, cast

from smalti.errors import SourceError
from smalti.exchange.formats.image_files import SUFFIXES, png_bytes, read_image
from smalti.exchange.labels import label_text, parse_label
from smalti.exchange.names import add_once, file_name, plain_name, unsafe_name
from smalti.exchange.parts import (
    APPLE_DOUBLE,
    GZIP,
    MAX_MEMBER_BYTES,
    Parts,
    Readable,
    Single,
    damage,
    grouped,
    read_exactly,
)
from smalti.types import About, ImageSet, Label, OnBad, Source

_LABEL = ".cls"
_MAX_LABEL_BYTES = 1 << 16
_MAX_READ = 1 << 22  # bytes; tarfile asks for as many as a header claims
_MAX_WAITING = 256  # images of one sample that may wait for their label
_MAX_PEEK = 256  # files of the first sample that are searched for a label
_ZEROS = bytes(512)


def open_tar(path: Path, on_bad: OnBad, *, labelled: bool) -> Source:
    """Open the images of a tar file, in its order; their number is known only at its end.

    Raises:
        SourceError: the file is damaged, or holds no images.
    """
    has = _peek(path)
    parts = Parts(lambda: grouped(_singles(path, on_bad, labelled=labelled and has, checked=labelled)))
    return Source(parts, None, named=True, labelled=labelled and has)


@dataclass
class _Sample:
    """Neighbours in a tar file that share a key: the labels found so far, and the images that wait for theirs."""

    key: str
    where: Path
    labelled: bool  # whether the images of this tar file have labels
    labels: dict[str, Label] = field(default_factory=dict)  # by name without suffix
    waiting: list[tuple[str, Single]] = field(default_factory=list)

    def add_label(self, stem: str, label: Label) -> None:
        self.labels[stem] = label

    def add_image(self, stem: str, image: Single) -> None:
        self.waiting.append((stem, image))

    def ready(self, *, ended: bool = False) -> Iterator[Single]:
        """Yield the waiting images up to the first whose label is not known yet; all, once the sample has `ended`.

        Raises:
            SourceError: an image has no label although the first one has.
        """
        done = 0
        for stem, image in self.waiting:
            label = self.labels.get(stem, self.labels.get(self.key) if ended else None)
            if self.labelled and label is None:
                break
            yield image._replace(label=label)
            done += 1
        del self.waiting[:done]
        if self.waiting and (ended or len(self.waiting) > _MAX_WAITING):
            name = self.waiting[0][1].name
            raise SourceError(
                f"{self.where}: {name} has no label beside it, the first image has one; label all or none,"
                " each label next to its image: tar --sort=name"
            )


def _split(name: str) -> tuple[str, str, str]:
    """Return the key of a file's sample (its name up to the first dot), its name without the suffix, and the suffix.

    >>> _split("a.b/c.left.png")
    ('a.b/c', 'a.b/c.left', '.png')
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, suffix = base.rpartition(".")
    before = folder + slash
    return before + base.partition(".")[0], before + (stem if dot else base), dot + suffix.lower() if dot else ""


def _peek(path: Path) -> bool:
    """Return whether the first image has a label.

    Raises:
        SourceError: there are no images.
    """
    key, images, label, seen = "", 0, False, 0
    for _, member in _walk(path):
        mine, _, suffix = _split(member.name)
        if suffix not in SUFFIXES and suffix != _LABEL:
            continue
        if mine != key and images:
            break
        if mine != key:
            key, label = mine, False
        images += suffix != _LABEL and member.isreg()
        label |= suffix == _LABEL
        seen += 1
        if images and (label or seen > _MAX_PEEK):
            break
    if not images:
        raise SourceError(f"{path} holds no images; give a tar file of PNG, JPEG, WebP, ... files")
    return label


def _singles(path: Path, on_bad: OnBad, *, labelled: bool, checked: bool) -> Iterator[Single]:
    """Yield the images, with their labels if they are `labelled`.

    Raises:
        SourceError: the images are not `labelled`, this is `checked`, and there is a label.
    """
    sample = _Sample("", path, labelled)
    for tar, member in _walk(path):
        key, stem, suffix = _split(member.name)
        if member.isdir() or (suffix not in SUFFIXES and suffix != _LABEL):
            continue
        if key != sample.key:
            yield from sample.ready(ended=True)
            sample = _Sample(key, path, labelled)
        if suffix == _LABEL and not labelled and not checked:
            continue
        if suffix == _LABEL and not labelled:
            raise SourceError(
                f"{path}: {member.name} is a label, but the first image has none beside it; label all or none,"
                " each label next to its image: tar --sort=name"
            )
        if suffix == _LABEL:
            sample.add_label(stem, _label(tar, member, path))
            yield from sample.ready()
        elif (image := _image(tar, member, path, on_bad)) is not None:
            sample.add_image(stem, image)
            yield from sample.ready()
    yield from sample.ready(ended=True)


def _label(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Label:
    try:
        return parse_label(_data(tar, member, path, _MAX_LABEL_BYTES).decode())
    except (SourceError, ValueError) as exc:
        raise SourceError(f"{path}: {member.name} is no label ({exc}); write it again") from exc


def _image(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, on_bad: OnBad) -> Single | None:
    where = f"{path}: {member.name}"
    problem = _problem(member, MAX_MEMBER_BYTES)
    if problem:
        on_bad(SourceError(f"{where!r} {problem}; leave it out"))
        return None
    data = _data(tar, member, path, MAX_MEMBER_BYTES)
    if data.startswith(APPLE_DOUBLE):  # a file that macOS puts beside each file
        return None
    pixels = read_image(data, member.name, where, on_bad)
    return None if pixels is None else Single(pixels, member.name, None)


def _problem(member: tarfile.TarInfo, most: int) -> str:
    """Return why a member is not read, in words; "" if it may be read."""
    if unsafe_name(member.name, strict=False):
        return "is no safe name of a file"
    if not member.isreg() or member.issparse():
        return "is a link, a device or a sparse file"
    return f"claims {member.size} bytes, more than fits" if not 0 <= member.size <= most else ""


def _data(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, most: int) -> bytes:
    if problem := _problem(member, most):
        raise SourceError(f"{path}: {member.name!r} {problem}")
    with damage(path, "a tar file"):
        file = tar.extractfile(member)
        data = read_exactly(cast("Readable", file), member.size)
        if len(data) != member.size:
            raise tarfile.ReadError("unexpected end")
    return data


class _Watched:
    """A file for tarfile that remembers the last bytes read.

    tarfile takes a damaged header for the end of the file; the last bytes tell the two apart.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.last = file, b""

    def read(self, size: int) -> bytes:
        if size > _MAX_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.last = self._file.read(size)
        return self.last

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()


def _walk(path: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the members; each must be read before the next is asked for."""
    with contextlib.ExitStack() as stack:
        with damage(path, "a tar file"):
            raw = stack.enter_context(path.open("rb"))
            zipped = raw.read(2) == GZIP
            raw.seek(0)
            file = stack.enter_context(gzip.GzipFile(fileobj=raw)) if zipped else raw
            watched = _Watched(cast("IO[bytes]", file))
            tar = tarfile.TarFile(fileobj=cast("IO[bytes]", watched))
        while True:
            with damage(path, "a tar file"):
                member = tar.next()
                tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
            if member is None:
                break
            member.name = plain_name(member.name)
            yield tar, member
        with damage(path, "a tar file"):
            if watched.last != _ZEROS:
                raise tarfile.ReadError("its end is missing, or a header is damaged")
            file.read(1 << 20)  # on to the end, where gzip compares its checksum


def write_tar(parts: Iterable[ImageSet], about: About, file: BinaryIO, target: Path) -> None:
    """Write a tar file of PNG files, each after the file of its label, if it has one; equal images make equal files.

    Raises:
        CorruptError: a name is no safe path.
        UsageError: a `.cls` file cannot hold a label.
        OutputError: two names would be one file.
    """
    digits = len(str(about.count - 1))
    seen: set[str] = set()
    zipped = target.suffix.lower() in (".gz", ".tgz")
    with (
        gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) if zipped else contextlib.nullcontext(file) as out,
        tarfile.TarFile(fileobj=cast("IO[bytes]", out), mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for part in parts:
            for i, image in enumerate(part.pixels):
                name = part.names[i] if part.names else f"{len(seen):0{digits}d}"
                name = file_name(name, str(target), strict=True)
                add_once(name, seen, str(target))
                if part.labels is not None:
                    _add(tar, name[: -len(".png")] + _LABEL, label_text(part.labels[i]).encode())
                _add(tar, name, png_bytes(image))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
    tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
