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

import numpy as np
from numpy.typing import NDArray

from smalti.archive.archive import Archive
from smalti.archive.batches import Coded, Intake
from smalti.archive.reader import Contents, ModelName, Place, as_model, parts_of
from smalti.archive.reading.opening import pixels_hash
from smalti.archive.writer import Packed, Packing, packed, write_packed
from smalti.codec.block_codec import encode_as
from smalti.codec.rdo import Effort
from smalti.container.annotations import write_metadata, write_sections
from smalti.container.append import alone, grow
from smalti.container.mixed_payload import Part, with_models
from smalti.container.records import ArchiveWriter
from smalti.entropy.frequencies import Ints, by_value
from smalti.errors import ModelError, SourceError, UnknownModelError, UsageError
from smalti.exchange.given import given_source
from smalti.exchange.sources import Images
from smalti.model.model import Model
from smalti.rate.model_choice import AUTO, ModelChoice
from smalti.rate.target import DEFAULT_EFFORT, Target, as_target, check_model, effort_of, largest_error
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
    packing: Packing = Packing(),  # noqa: B008 - frozen
    on_bad: OnBad | None = None,
    convert: bool = False,
    progress: Progress | None = None,
) -> Packed:
    """Add images to the smalti file `path`, behind those that are there. Targets are given as in `pack`.

    The images that were there stay readable at every moment, whatever happens. New metadata replace the old.

    Args:
        model: the model to code with; if none is given, or "auto", the best of the file's and those that `pack` tries.
        target: the target as one object, in the place of quality, min_psnr, max_error and lossless.
        names, labels: as in `pack`.
        packing: as in `pack`; a new model is put into a file that holds its other models, too. If it does not say which
            images share a stream, they are those that do in the first block of the file.
        convert: as in `pack`.

    Raises:
        SourceError: the images cannot be read, or only they, or only those of the file, have names or labels.
        FormatError: `path` is damaged or not a smalti file.
        OutputError, UsageError: `path` cannot be written, or the target cannot be met.
    """
    most = largest_error(max_error, lossless=lossless)
    asked = as_target(target, Target(quality, min_psnr=min_psnr, max_error=most))
    hard = effort_of(effort)
    if asked.is_mean:
        raise UsageError("images are appended at a quality, a least PSNR or a largest error; give one of those")
    place, given = as_path(path), None if model in (None, AUTO) else as_model(model)
    if "://" in str(path):
        raise UsageError(f"{path} is a URL; what is appended to must be a file of this machine")
    with _opened(place, given) as archive:
        if given is not None:
            check_model(given, asked)
        whole = all(entry.offset for entry in archive.contents.index.models)  # a file that needs no other stays so
        packing = replace(packing, embed=packing.embed or whole, streams=packing.streams or archive.contents.packing())
        images, named, labelled = (
            given_source(source, on_bad, names, labels, convert=convert),
            archive.names is not None,
            archive.labels is not None,
        )
        for what, has, wanted in (("names", images.named, named), ("labels", images.labelled, labelled)):
            if has != wanted:
                way = f"leave them out: --no-{what}" if has else f"append images that have {what}"
                raise SourceError(
                    f"the images to append have {what if has else f'no {what}'}, those of {place} have"
                    f" {what if wanted else f'no {what}'}; {way}"
                )
        choice = given or ModelChoice(asked, images.total, _known_models(archive))
        reader = archive.contents.reader
        if reader.growable:
            with grow(place, reader) as writer:
                added = _add(writer, archive, images, choice, asked, hard, packing, progress)
            return packed(images, added, writer.at, reader.end)
        with alone(place, reader.storage), atomic_write(place, force=True) as file:  # it has no room for more
            writer = ArchiveWriter.start(file, archive.contents.index.models[0].id)
            write_sections(writer, _copy(writer, archive, range(1)), archive.names, None, archive.profiles)
            added = _add(writer, archive, images, choice, asked, hard, packing, progress)
            return packed(images, added, writer.finish(), reader.end)


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
) -> Coded:
    """Write the images to append; return what is known of them."""
    intake = Intake(images, model, packing.block_images, writer, seen=set(archive.names or ()))
    if archive.labels:
        intake.label_kind = type(archive.labels[0])
    write_packed(intake, target, effort, packing, progress)
    if not intake.count:
        raise SourceError("there are no images to append; the file is as it was")
    return intake.coded


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
            kinds, profiles, metadata = list[int](), list[bytes | None](), dict[str, Any]()
            for archive in archives:
                kinds += _copy(writer, archive, range(len(archive)), lambda n: progress(n, total) if progress else None)
                profiles += archive.profiles or [None] * len(archive)
                metadata |= archive.metadata
            of_names, of_labels = _joined(archives, "names", names), _joined(archives, "labels", labels)
            write_sections(writer, kinds, of_names, of_labels, profiles)
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
            kinds = _copy(writer, archive, wanted, lambda n: progress(n, len(wanted)) if progress else None)
            of_names = [archive.names[i] for i in wanted] if names and archive.names is not None else None
            of_labels = [archive.labels[i] for i in wanted] if labels and archive.labels is not None else None
            of_profiles = None if archive.profiles is None else [archive.profiles[i] for i in wanted]
            write_sections(writer, kinds, of_names, of_labels, of_profiles)
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


def _copy(
    writer: ArchiveWriter, archive: Archive, rows: Sequence[int], done: Callable[[int], None] = lambda _: None
) -> list[int]:
    """Write the blocks of those images (rising numbers); return the new number of the kind of each image."""
    contents, models = archive.contents, {}
    for number, entry in enumerate(contents.index.models):
        models[number] = writer.model(entry.id, contents.reader.model(number))
    blocks, offsets = archive.places(np.array(rows))
    kinds = dict[int, int]()
    for block, mine in by_value(blocks):
        number = contents.index.blocks[block].kind
        kind = contents.index.kinds[number]
        head, payload = contents.reader.block(block, contents.record(block))
        inside, new_kind = np.sort(offsets[mine]), kind if kind.mixed else kind._replace(model=models[kind.model])
        if len(inside) == head.images and head.pixels:
            payload = with_models(payload, head.images, models) if kind.mixed else payload
            writer.block(new_kind, len(inside), head.pixels, payload)
            writer.note_shapes(part.kind.shape for part in parts_of(head, payload) if kind.mixed)
        elif kind.mixed:
            writer.mixed_block(
                [
                    (replace(part, kind=part.kind._replace(model=models[part.kind.model])), pixels)
                    for part, pixels in _some(contents, block, inside)
                ]
            )
        else:
            ((part, pixels),) = _some(contents, block, inside)
            writer.block(new_kind, len(inside), pixels, part.payload)
        kinds[number] = writer.kind(new_kind)
        done(len(mine))
    return [kinds[contents.index.blocks[block].kind] for block in blocks.tolist()]


def _some(contents: Contents, block: int, rows: Ints) -> list[tuple[Part, bytes]]:
    """Return some images of a block, as parts with the hashes of their pixels."""
    found = []
    for part, coded in contents.decode_to_blocks(block):
        places = np.array(part.rows)
        wanted = np.flatnonzero(np.isin(places, rows))
        if len(wanted):
            picked = coded.pick(wanted)
            whole = len(wanted) == len(places)
            payload = part.payload if whole else encode_as(part.payload, picked, contents.model(part.kind.model))
            now = tuple(np.searchsorted(rows, places[wanted]).tolist())
            found.append((Part(part.kind, now, payload), pixels_hash(picked.x_hat)))
    return found
