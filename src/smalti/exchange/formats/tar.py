# SPDX-License-Identifier: MIT
"""tar files of image files, compressed or not; labels as WebDataset has them (`7.png`, `7.cls` or `7.json`)."""

import contextlib
import gzip
import io
import itertools
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO, cast

from smalti.errors import SourceError
from smalti.exchange.formats.image_files import File, Reading, png_bytes, read_file
from smalti.exchange.formats.tar_stream import Member, walk
from smalti.exchange.labels import METADATA, json_label, label_text, parse_label
from smalti.exchange.names import file_name
from smalti.exchange.parts import MAX_MEMBER_BYTES, Parts, Single, grouped
from smalti.exchange.recognise import NO_IMAGE, is_hidden, is_image, no_images
from smalti.types import About, ImageSet, Label, OnBad, PassedOver, Reason, Source

_LABEL, _JSON = ".cls", ".json"
_TABLE = Reason(
    "metadata file, which is read in folders and zip files only", "metadata files, read in folders and zip only"
)
_MAX_LABEL_BYTES = 1 << 16
_MAX_WAITING = 256  # images of one sample that may wait for their label
_MAX_PEEK = 256  # files of the first sample that are searched for a label


def open_tar(path: Path, on_bad: OnBad, *, labelled: bool, convert: bool, side: int | None = None) -> Source:
    """Open the images of a tar file, in its order; their number is known only at its end.

    Raises:
        SourceError: the file is damaged, or holds no images.
    """
    kind, reading = _peek(path), Reading(on_bad, PassedOver(), convert, side)
    parts = Parts(lambda: grouped(_singles(path, reading, kind if labelled else "", checked=labelled)))
    has = labelled and kind != ""
    origin = f"{kind} files" if has else ""
    return Source(parts, None, named=True, labelled=has, passed_over=reading.passed, labels_from=origin)


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


def _peek(path: Path) -> str:
    """Return the suffix of the file of the label that the first image has: ".cls", else ".json"; "" if it has none.

    Raises:
        SourceError: there are no images.
    """
    key, images, found, seen = "", 0, set[str](), 0
    passed = PassedOver()
    for member in walk(path, passed):
        mine, _, suffix = _split(member.name)
        in_json = _is_label(member, suffix, _JSON) and _json_label(member) is not None
        if not in_json and not _wanted(member, suffix, passed):
            continue
        if mine != key and images:
            break
        if mine != key:
            key, found = mine, set()
        if in_json or suffix == _LABEL:
            found.add(suffix)
        else:
            images += member.has_content
        seen += 1
        if images and (_LABEL in found or seen > _MAX_PEEK):
            break
    if not images:
        raise SourceError(no_images(f"{path} holds no images; give a tar file of", passed))
    return min(found, default="")


def _is_label(member: Member, suffix: str, kind: str) -> bool:
    return member.is_file and suffix == kind and not is_hidden(member.name)


def _wanted(member: Member, suffix: str, passed: PassedOver) -> bool:
    """Return whether a member is an image or a label in a `.cls` file; if not, note the reason in `passed`."""
    if not member.is_file or _is_label(member, suffix, _LABEL):
        return member.is_file
    if member.name.rpartition("/")[2] in METADATA and not is_hidden(member.name):
        passed.note(_TABLE, member.name)
        return False
    return is_image(member.name, member.head, passed, link=member.is_link)


def _singles(path: Path, reading: Reading, kind: str, *, checked: bool) -> Iterator[Single]:
    """Yield the images, with their labels, which are in files of a `kind`; "" if there are none.

    Raises:
        SourceError: the images have no labels in `.cls` files, this is `checked`, and there is one.
    """
    sample = _Sample("", path, kind != "")
    reading.passed.clear()
    for member in walk(path, reading.passed):
        key, stem, suffix = _split(member.name)
        in_json = _is_label(member, suffix, kind) and kind == _JSON
        if not in_json and not _wanted(member, suffix, reading.passed):
            continue
        if key != sample.key:
            yield from sample.ready(ended=True)
            sample = _Sample(key, path, kind != "")
        if in_json:
            if (label := _json_label(member)) is None:
                reading.passed.note(NO_IMAGE, member.name)
                continue
            sample.add_label(stem, label)
        elif suffix == _LABEL and kind == _LABEL:
            sample.add_label(stem, _label(member, path))
        elif suffix == _LABEL and checked:
            raise SourceError(
                f"{path}: {member.name} is a label, but the first image has none such beside it; label all or none,"
                " each label next to its image: tar --sort=name"
            )
        elif suffix != _LABEL:
            for image in _images(member, reading):
                sample.add_image(stem, image)
        yield from sample.ready()
    yield from sample.ready(ended=True)


def _json_label(member: Member) -> Label | None:
    return None if member.problem(_MAX_LABEL_BYTES) else json_label(member.data(_MAX_LABEL_BYTES))


def _label(member: Member, path: Path) -> Label:
    try:
        return parse_label(member.data(_MAX_LABEL_BYTES).decode())
    except (SourceError, ValueError) as exc:
        raise SourceError(f"{path}: {member.name} is no label ({exc}); write it again") from exc


def _images(member: Member, reading: Reading) -> list[Single]:
    if problem := member.problem(MAX_MEMBER_BYTES):
        reading.on_bad(SourceError(f"{member.where!r} {problem}; leave it out"))
        return []
    return read_file(File(member.data(MAX_MEMBER_BYTES), member.name, member.where), reading)


def write_tar(parts: Iterable[ImageSet], about: About, file: BinaryIO, target: Path) -> None:
    """Write a tar file of PNG files, each after the file of its label, if it has one; equal images make equal files.

    Raises:
        CorruptError: a name is no safe path.
        UsageError: a `.cls` file cannot hold a label.
    """
    digits = len(str(about.count - 1))
    numbers = itertools.count()
    zipped = target.suffix.lower() in (".gz", ".tgz")
    with (
        gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) if zipped else contextlib.nullcontext(file) as out,
        tarfile.TarFile(fileobj=cast("IO[bytes]", out), mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for part in parts:
            for i, image in enumerate(part.pixels):
                name = part.names[i] if part.names else f"{next(numbers):0{digits}d}"
                name = file_name(name, str(target), strict=True)
                if part.labels is not None:
                    _add(tar, name[: -len(".png")] + _LABEL, label_text(part.labels[i]).encode())
                _add(tar, name, png_bytes(image, part.profile(i)))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
    tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
