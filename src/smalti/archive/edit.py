# SPDX-License-Identifier: MIT
"""Edit smalti files: append to one, merge several, select images; blocks are copied as they are."""

import contextlib
import fnmatch
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from smalti.archive.archive import Archive
from smalti.archive.batches import Coded, Intake
from smalti.archive.editing.copying import copied, within_total
from smalti.archive.reader import ModelName, Place, as_model
from smalti.archive.reading.annotations import TakenNames
from smalti.archive.writer import Packed, Packing, packed, write_packed
from smalti.codec.rdo import Effort
from smalti.container.annotation_codec import type_of_labels
from smalti.container.annotations import write_metadata, write_sections
from smalti.container.archive_reader import ArchiveReader
from smalti.container.format import LABELS, NAMES
from smalti.container.growing.append import alone, grow
from smalti.container.records import ArchiveWriter
from smalti.errors import ModelError, SourceError, UnknownModelError, UsageError
from smalti.exchange.given import given_source
from smalti.exchange.sources import Images
from smalti.model.model import Model
from smalti.rate.model_choice import AUTO, ModelChoice
from smalti.rate.target import DEFAULT_EFFORT, EXACT_ALPHA, Target, as_target, check_model, effort_of, largest_error
from smalti.types import Label, OnBad, Progress, Source
from smalti.util.atomic import as_path, atomic_write


def append(
    path: Path | str,
    source: Images,
    *,
    model: ModelName | None = None,
    target: Target | None = None,
    quality: int | None = None,
    min_psnr: float | None = None,
    max_error: int | None = None,
    lossless: bool = False,
    names: Sequence[str] | None = None,
    labels: Sequence[Label] | Path | str | Literal[False] | None = None,
    effort: int = DEFAULT_EFFORT,
    metric: str = "psnr",
    alpha_quality: int = EXACT_ALPHA,
    packing: Packing = Packing(),  # noqa: B008 - frozen
    on_bad: OnBad | None = None,
    convert: bool = False,
    resize: int | None = None,
    hidden_colours: str = "keep",
    progress: Progress | None = None,
) -> Packed:
    """Add images to the smalti file `path`, behind those that are there. Targets are given as in `pack`.

    The images that were there stay readable at every moment, whatever happens. New metadata replace the old.

    Args:
        model: the model to code with; if none is given, or "auto", the best of the file's and those that `pack` tries.
        target: the target as one object, in the place of quality, min_psnr, max_error and lossless.
        names, labels, metric, alpha_quality: as in `pack`.
        packing: as in `pack`; a new model is put into a file that holds its other models, too. If it does not say which
            images share a stream, they are those that do in the first block of the file.
        convert, resize, hidden_colours: as in `pack`.

    Raises:
        SourceError: the images cannot be read, or only they, or only those of the file, have names or labels.
        FormatError: `path` is damaged or not a smalti file.
        OutputError, UsageError: `path` cannot be written, or the target cannot be met.
    """

    def images_of(_: Archive) -> Source:
        return given_source(
            source, on_bad, names, labels, convert=convert, resize=resize, hidden_colours=hidden_colours
        )

    most = largest_error(max_error, lossless=lossless)
    asked = as_target(target, Target(quality, min_psnr=min_psnr, max_error=most))
    return append_to(path, images_of, model, asked, effort_of(effort, asked, metric, alpha_quality), packing, progress)


def append_to(
    path: Path | str,
    images_of: Callable[[Archive], Source],
    model: ModelName | None,
    asked: Target,
    effort: Effort,
    packing: Packing,
    progress: Progress | None,
    then: Callable[[Archive, ArchiveWriter], None] | None = None,
) -> Packed:
    """Append images as `append` does.

    Args:
        images_of: a function that returns the images to append to an archive.
        then: a function that writes more to the file, behind images that take the names of others; None if there is
            none.
    """
    if asked.is_mean:
        raise UsageError("images are appended at a quality, a least PSNR or a largest error; give one of those")
    place, given = as_path(path), None if model in (None, AUTO) else as_model(model)
    if "://" in str(path):
        raise UsageError(f"{path} is a URL; what is appended to must be a file of this machine")
    with _opened(place, given) as archive:
        reader = archive.contents.reader
        if given is not None:
            check_model(given, asked)
        whole = all(entry.offset for entry in reader.index.models)  # a file that needs no other stays so
        packing = replace(packing, embed=packing.embed or whole, streams=packing.streams or archive.contents.packing())
        images = images_of(archive)
        _check_alike(place, images, named=reader.has(NAMES), labelled=reader.has(LABELS))
        choice = given or ModelChoice(asked, images.total, _known_models(archive), effort=effort)
        if isinstance(reader, ArchiveReader):
            with grow(place, reader) as writer:
                names = TakenNames() if then is not None else archive.contents.taken_names()
                added = _add(writer, archive, images, choice, asked, effort, packing, progress, names)
                if then is not None:
                    then(archive, writer)
            return packed(images, added, writer.at, reader.end)
        if then is not None:
            raise UsageError(f"{place} is a file of one image; pack another one in its place")
        with alone(place, reader.storage), atomic_write(place, force=True) as file:  # it has no room for more
            writer = ArchiveWriter.start(file, reader.index.models[0].id)
            write_sections(writer, copied(writer, archive, range(1))[0], archive.names, None, archive.profiles)
            names = archive.contents.taken_names()
            added = _add(writer, archive, images, choice, asked, effort, packing, progress, names)
            return packed(images, added, writer.finish(), reader.end)


def _check_alike(place: Path, images: Source, *, named: bool, labelled: bool) -> None:
    """Check that images have names and labels if those of a file have some, and only then.

    Raises:
        SourceError: they differ in that.
    """
    for what, has, wanted in (("names", images.named, named), ("labels", images.labelled, labelled)):
        if has != wanted:
            way = f"leave them out: --no-{what}" if has else f"append images that have {what}"
            raise SourceError(
                f"the images to append have {what if has else f'no {what}'}, those of {place} have"
                f" {what if wanted else f'no {what}'}; {way}"
            )


def _known_models(archive: Archive) -> list[Model]:
    """Return the models of a file that are known here, or that it holds."""
    found = []
    for number in range(len(archive.contents.index.models)):
        with contextlib.suppress(UnknownModelError):
            found.append(archive.contents.model(number))
    return found


def _opened(path: Path, given: Model | None) -> Archive:
    """Open the file; `given` may be its model or another one."""
    try:
        return Archive(path, given)
    except ModelError:
        return Archive(path)


def _add(
    writer: ArchiveWriter,
    archive: Archive,
    images: Source,
    model: Model | ModelChoice,
    target: Target,
    effort: Effort,
    packing: Packing,
    progress: Progress | None,
    names: TakenNames,
) -> Coded:
    """Write the images to append, whose names are none of `names`; return what is known of them."""
    intake = Intake(
        images, model, packing.block_size[0], writer, samples=packing.block_size[1], once=not target.is_mean, seen=names
    )
    intake.label_kind = _label_kind(archive)
    write_packed(intake, target, effort, packing, progress)
    if not intake.count:
        raise SourceError("there are no images to append; the file is as it was")
    return intake.coded


def _label_kind(archive: Archive) -> type | None:
    """Return the type of the labels of a file; None if it has none."""
    reader = archive.contents.reader
    for number in range(len(reader.firsts(LABELS))):
        count, data = reader.section(LABELS, number)
        if count:
            return type_of_labels(data)
    return None


def merge(
    paths: Sequence[Place],
    output: Path | str,
    *,
    model: ModelName | None = None,
    names: bool = True,
    labels: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> Packed:
    """Write all images of several smalti files into one, in order; blocks are copied, whatever their models.

    Metadata are joined; where two files have the same key, the later file counts.

    Args:
        names, labels: whether to keep them.

    Raises:
        SourceError: some files have names or labels and others do not, or two images have one name.
        FormatError: a file is damaged.
        OutputError, UsageError: `output` cannot be written.
    """
    if not paths:
        raise UsageError("no file to merge was given")
    with contextlib.ExitStack() as stack:
        archives = [stack.enter_context(Archive(path, model)) for path in paths]
        total = sum(map(len, archives))
        with atomic_write(as_path(output), force=force) as file:
            writer = ArchiveWriter.start(file, archives[0].contents.index.models[0].id)
            kinds, places, profiles, metadata = list[int](), list[int](), list[bytes | None](), dict[str, Any]()
            for archive in archives:
                mine, where = copied(writer, archive, range(len(archive)), done=within_total(progress, total))
                places += [len(kinds) + place for place in where]
                kinds += mine
                profiles += archive.profiles or [None] * len(archive)
                metadata |= archive.metadata
            of_names, of_labels = _joined(archives, "names", names), _joined(archives, "labels", labels)
            write_sections(writer, kinds, of_names, of_labels, profiles, places)
            write_metadata(writer, metadata or None)
            return Packed(total, writer.finish())


def _joined(archives: Sequence[Archive], what: str, wanted: bool) -> tuple[Any, ...] | None:  # noqa: FBT001 - private
    columns = [getattr(archive, what) for archive in archives if len(archive)]
    if not wanted or all(column is None for column in columns):
        return None
    if any(column is None for column in columns):
        raise SourceError(f"some of the files have {what} and others not; leave them out: --no-{what}")
    joined = tuple(itertools.chain.from_iterable(columns))
    if what == "names" and len(set(joined)) < len(joined):
        twice = next(name for name, n in Counter(joined).items() if n > 1)
        raise SourceError(f"two images are named {twice!r}; pack one under another name, or leave them out: --no-names")
    if len({type(entry) for entry in joined}) > 1:
        raise SourceError(f"the {what} of the files are of several kinds; leave them out: --no-{what}")
    return joined


def select(
    path: Place,
    output: Path | str,
    rows: Sequence[int] | Sequence[bool] | NDArray[Any],
    *,
    model: ModelName | None = None,
    names: bool = True,
    labels: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> Packed:
    """Write some images of a smalti file into a file of their own, in the same order.

    Blocks of which all images are wanted are copied; of other blocks, the symbols of the wanted images are
    entropy-coded once more. No pixel changes.

    Args:
        rows: numbers of images, in any order and from the end if negative, or a mask; `matching` finds them.
        names, labels: whether to keep them.

    Raises:
        FormatError, UnknownModelError: the file is damaged, or its model is not known.
        OutputError, UsageError: `output` cannot be written, or no image is wanted.
    """
    with Archive(path, model) as archive:
        wanted = sorted(set(archive.rows(rows).tolist()))
        if not wanted:
            raise UsageError(f"none of the {len(archive)} images of {archive.contents.storage.where} is wanted")
        with atomic_write(as_path(output), force=force) as file:
            writer = ArchiveWriter.start(file, archive.contents.index.models[0].id)
            kinds, places = copied(writer, archive, wanted, done=within_total(progress, len(wanted)))
            of_names = [archive.names[i] for i in wanted] if names and archive.names is not None else None
            of_labels = [archive.labels[i] for i in wanted] if labels and archive.labels is not None else None
            of_profiles = None if archive.profiles is None else [archive.profiles[i] for i in wanted]
            write_sections(writer, kinds, of_names, of_labels, of_profiles, places)
            write_metadata(writer, archive.metadata or None)
            return Packed(len(wanted), writer.finish())


def matching(
    archive: Archive, *, start: int = 0, stop: int | None = None, name: str | None = None, label: str | None = None
) -> list[int]:
    """Return the numbers of the images from `start` to before `stop` whose name fits a glob and whose label is `label`.

    Raises:
        UsageError: names or labels are asked for where there are none.
    """
    found: Iterable[int] = range(*slice(start, stop).indices(len(archive)))
    for what, asked, column in (("names", name, archive.names), ("labels", label, archive.labels)):
        if asked is not None and column is None:
            raise UsageError(f"{archive.contents.storage.where} has no {what}; choose in another way")
    if name is not None and archive.names is not None:
        names, fits = archive.names, re.compile(fnmatch.translate(name)).match
        found = [i for i in found if fits(names[i])]
    if label is not None and archive.labels is not None:
        labels = archive.labels
        found = [i for i in found if label in _readings(labels[i])]
    return list(found)


def _readings(label: Label) -> tuple[str, ...]:
    if not isinstance(label, tuple):
        return (str(label),)
    text = ",".join(map(str, label))
    return text, f"{text},"
