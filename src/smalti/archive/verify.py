# SPDX-License-Identifier: MIT
"""Verify that a smalti file is whole, and tell whether a damaged one can be repaired."""

from collections.abc import Callable

from smalti.archive.reader import Contents, ModelName, Place
from smalti.container.format import BLOCK_MARK, EXTENDED, HEADER, INDEX_MARK, MAGIC, MODEL_MARK, SECTION_MARK, VERSION
from smalti.container.recovery_scan import has_block
from smalti.errors import FormatError, ModelError, NotSmaltiError
from smalti.types import Progress
from smalti.util.storage import Storage, storage_of

MARKS = (BLOCK_MARK, MODEL_MARK, SECTION_MARK, INDEX_MARK)
"""The marks of what may stand behind the header of an archive."""


def verify(
    path: Place, *, deep: bool = False, model: ModelName | None = None, progress: Progress | None = None
) -> list[str]:
    """Return what is wrong with a smalti file, a line each; nothing if it is whole.

    Checksums are compared; names, labels and order are read. `deep` also decodes all images and compares them with
    what was packed, as is always done with a file of one image.

    Raises:
        SourceError: the file cannot be read.
        UnknownModelError, ModelError: its model is not known, or is not `model`.
        NotSmaltiError: the file does not start as a smalti file does.
    """
    storage = storage_of(path)
    try:
        if _disguised(storage):
            return [f"{storage.where}: the header is not that of an archive, but there are blocks; the file is damaged"]
        return _wrong(Contents(storage, model, models=deep), progress, deep=deep)
    except NotSmaltiError:
        raise
    except FormatError as exc:
        return [str(exc)]
    finally:
        storage.close()


def _wrong(contents: Contents, progress: Progress | None, *, deep: bool) -> list[str]:
    wrong = list[str]()

    def note(work: Callable[[], object]) -> None:
        try:
            work()
        except (FormatError, ModelError) as exc:
            wrong.append(str(exc))

    for what in (
        contents.listing.check,
        contents.names,
        contents.labels,
        contents.profiles,
        contents.metadata,
        contents.order,
        contents.shapes,
        contents.sets,
    ):
        note(what)
    for number in range(len(contents.index.models)):
        note(lambda number=number: contents.reader.model(number))  # type: ignore[misc]  # of the default
    for block, entry in enumerate(contents.index.blocks):
        note(lambda block=block: _look(contents, block, deep=deep))  # type: ignore[misc]  # as above
        if progress:
            progress(entry.images, contents.reader.count)
    return wrong


def _look(contents: Contents, block: int, *, deep: bool) -> None:
    if deep or not contents.reader.stored_checksums:
        list(contents.decode([block]))
    elif contents.index.blocks[block].offset:
        contents.reader.block(block)


def repairable(path: Place) -> bool:
    """Return whether a damaged file has a block that `repair` can save.

    Raises:
        SourceError: the file cannot be read.
    """
    storage = storage_of(path)
    try:
        return has_block(storage)
    finally:
        storage.close()


def _disguised(storage: Storage) -> bool:
    """Return whether a damaged byte makes an archive look like a single file, or one of another version."""
    head = storage.read(0, len(MAGIC) + 1)
    if not head.startswith(MAGIC) or head[len(MAGIC) :] in (bytes([VERSION]), bytes([EXTENDED])):
        return False
    newer = any(form & 0x0F > EXTENDED for form in head[len(MAGIC) :])
    if newer and not storage.read(HEADER.size, len(BLOCK_MARK)).startswith(MARKS):
        return False  # behind the header of a newer version stands the release that the file needs
    return has_block(storage)
