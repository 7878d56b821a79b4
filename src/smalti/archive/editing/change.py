# SPDX-License-Identifier: MIT
"""Remove and replace images of a smalti file in place; write a file anew so that it takes the fewest bytes."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace as replaced
from pathlib import Path

import numpy as np

from smalti.archive.archive import Archive
from smalti.archive.edit import append_to
from smalti.archive.editing.copying import copied, within_total
from smalti.archive.reader import Contents, ModelName
from smalti.archive.writer import Packed, Packing
from smalti.container.annotations import write_metadata, write_sections
from smalti.container.archive_reader import ArchiveReader
from smalti.container.growing.append import alone, grow
from smalti.container.records import ArchiveWriter
from smalti.entropy.frequencies import Ints
from smalti.errors import SourceError, UsageError
from smalti.exchange.given import given_source
from smalti.exchange.parts import Parts
from smalti.exchange.sources import Images
from smalti.rate.target import DEFAULT_EFFORT, EXACT_ALPHA, Target, as_target, effort_of, largest_error
from smalti.types import ImageSet, Label, Progress, Source
from smalti.util.atomic import as_path, atomic_write

Which = int | str | Sequence[int | str]
"""Images of a file: numbers from 0 on (from the end if negative) or names, one or several."""


def remove(path: Path | str, which: Which) -> Packed:
    """Remove images from the smalti file `path`; the images behind them move up.

    A few bytes are appended to the file. It becomes smaller when `compact` writes it anew, and only then the removed
    images are gone from the disk. The other images stay readable at every moment, whatever happens.

    Args:
        path: the file.
        which: a number, a name, or several of them.

    Returns:
        How many images are left, and the bytes of the file.

    Raises:
        UsageError: there is no such image, or the file is one of a single image.
        FormatError: `path` is damaged or not a smalti file.
        OutputError: `path` cannot be written.
    """
    place = _local(path)
    contents = Contents(place, models=False)
    try:
        rows, reader = rows_of(contents, which), contents.reader
        if not isinstance(reader, ArchiveReader):
            raise UsageError(f"{place} is a file of one image; delete the file instead")
        if not len(rows):
            return Packed(reader.count, reader.end)
        with grow(place, reader) as writer:
            writer.edit([(owner, None) for owner in contents.listing.owners(rows).tolist()])
        return Packed(writer.shown, writer.at)
    finally:
        contents.storage.close()


def replace(
    path: Path | str,
    which: Which,
    source: Images,
    *,
    model: ModelName | None = None,
    target: Target | None = None,
    quality: int | None = None,
    min_psnr: float | None = None,
    max_error: int | None = None,
    lossless: bool = False,
    effort: int = DEFAULT_EFFORT,
    metric: str = "psnr",
    alpha_quality: int = EXACT_ALPHA,
    convert: bool = False,
    resize: int | None = None,
    hidden_colours: str = "keep",
    progress: Progress | None = None,
) -> Packed:
    """Replace images of the smalti file `path` by those of a source, which are coded as `append` codes them.

    A new image keeps the place and the name of the old one, and its label unless the source has labels. The old images
    stay readable until all new ones are there, whatever happens.

    Args:
        path: the file.
        which: a number, a name, or several of them, as many as the source has images.
        source: the new images, in the order of `which`.
        model, target, quality, min_psnr, max_error, lossless: as in `append`.
        effort, metric, alpha_quality, convert, resize, hidden_colours, progress: as in `append`.

    Raises:
        SourceError: the images cannot be read, or are more or fewer than those to replace.
        UsageError: there is no such image, an image is given twice, or the target cannot be met.
        FormatError: `path` is damaged or not a smalti file.
        OutputError: `path` cannot be written.
    """
    rows, listed = np.zeros(0, np.int64), 0

    def images_of(archive: Archive) -> Source:
        nonlocal rows, listed
        rows = rows_of(archive.contents, which)
        listed = archive.contents.index.listed
        given = given_source(
            source, None, None, None, convert=convert, resize=resize, hidden_colours=hidden_colours, renamed=True
        )
        names = None if archive.names is None else [archive.names[i] for i in rows.tolist()]
        labels = None if archive.labels is None else [archive.labels[i] for i in rows.tolist()]
        return _in_place_of(given, len(rows), names, None if given.labelled else labels)

    def then(archive: Archive, writer: ArchiveWriter) -> None:
        if writer.listed - listed != len(rows):
            raise SourceError(f"{writer.listed - listed} images were given for {len(rows)}; give one for each")
        owners = archive.contents.listing.owners(rows).tolist()
        writer.edit([(owner, listed + i) for i, owner in enumerate(owners)])

    most = largest_error(max_error, lossless=lossless)
    asked = as_target(target, Target(quality, min_psnr=min_psnr, max_error=most))
    hard = effort_of(effort, asked, metric, alpha_quality)
    return append_to(_local(path), images_of, model, asked, hard, Packing(), progress, then)


def compact(path: Path | str, *, model: ModelName | None = None, progress: Progress | None = None) -> Packed:
    """Write the smalti file `path` anew, without what was removed, and with small blocks joined, if that is smaller.

    No pixel changes. Blocks are copied as they are; the symbols of small blocks of images of one size are decoded and
    go into one stream, so lossy images are not coded again. A block whose model is not known is copied. Whoever has the
    old file open goes on reading it.

    Args:
        path: the file, which is replaced as a whole or not at all.
        model: the model of the file, if it is not built in and the file does not hold it.
        progress: a function that is called with the number of images just done, and of all.

    Raises:
        FormatError, UnknownModelError: the file is damaged, or its model is not known.
        OutputError: `path` cannot be written.
    """
    place = _local(path)
    with Archive(place, model) as archive:
        reader, done = archive.contents.reader, Packed(len(archive), archive.contents.reader.end)
        if not isinstance(reader, ArchiveReader):
            return done
        with (
            contextlib.suppress(_NotSmallerError),
            alone(place, reader.storage),
            atomic_write(place, force=True) as file,
        ):
            writer = ArchiveWriter.start(file, reader.index.models[0].id)
            rows, report = range(len(archive)), within_total(progress, len(archive))
            kinds, places = copied(writer, archive, rows, join=True, done=report)
            write_sections(writer, kinds, archive.names, archive.labels, archive.profiles, places)
            write_metadata(writer, archive.metadata or None)
            size = writer.finish()
            if size >= reader.storage.size:
                raise _NotSmallerError
            done = Packed(len(archive), size)
    return done


class _NotSmallerError(Exception):
    """What is written would not be smaller than what is there."""


def rows_of(contents: Contents, which: Which) -> Ints:
    """Return the numbers from 0 on of images that are given by numbers or names, in that order.

    Raises:
        UsageError: there is no such image, or an image is given twice.
    """
    wanted = [which] if isinstance(which, int | str | np.integer) else list(which)
    count, where, found = contents.reader.count, contents.storage.where, list[int]()
    names = dict[str, int]()
    if any(isinstance(one, str) for one in wanted):
        names = {name: i for i, name in enumerate(contents.names() or ())}
    for one in wanted:
        if isinstance(one, str):
            if one not in names:
                raise UsageError(f"{where} holds no image named {one!r}; smalti.open(FILE).names has the names")
            found.append(names[one])
        elif not isinstance(one, int | np.integer) or isinstance(one, bool) or not -count <= one < count:
            raise UsageError(f"{where} has {count} images and no image {one!r}; give numbers below that, or names")
        else:
            found.append(int(one) % count)
    if len(set(found)) < len(found):
        raise UsageError("an image is given twice; give each once")
    return np.array(found, np.int64)


def _in_place_of(source: Source, count: int, names: Sequence[str] | None, labels: Sequence[Label] | None) -> Source:
    """Return a source with these names, and with these labels if some are given, in the place of its own."""
    return replaced(
        source,
        parts=Parts(lambda: _annotated(source.parts, count, names, labels)),
        named=names is not None,
        labelled=source.labelled or labels is not None,
    )


def _annotated(
    parts: Iterable[ImageSet], count: int, names: Sequence[str] | None, labels: Sequence[Label] | None
) -> Iterator[ImageSet]:
    start = 0
    for part in parts:
        rows = slice(start, start + len(part))
        if rows.stop > count:
            raise SourceError(f"more images were given than the {count} to replace; give one for each")
        start = rows.stop
        yield replaced(
            part,
            names=None if names is None else tuple(names[rows]),
            labels=part.labels if labels is None else tuple(labels[rows]),
        )


def _local(path: Path | str) -> Path:
    """Return the path of a file that is written.

    Raises:
        UsageError: it is a URL.
    """
    if "://" in str(path):
        raise UsageError(f"{path} is a URL; what is written must be a file of this machine")
    return as_path(path)
