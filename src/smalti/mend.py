# SPDX-License-Identifier: MIT
"""Verify that a smalti file is whole, and repair one that is not."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smalti.api import as_path
from smalti.archive import ArchiveReader, ArchiveWriter
from smalti.atomic import atomic_write
from smalti.bundle import find_by_prefix, find_model, parse_bundle
from smalti.codec import decode_block
from smalti.columns import Label, unpack_labels, unpack_names, unpack_numbers
from smalti.contents import Contents, ModelName, Place, as_model, parse_metadata
from smalti.control import Progress
from smalti.errors import (
    CorruptError,
    FormatError,
    ModelError,
    NotSmaltiError,
    SmaltiError,
    UnknownModelError,
    UsageError,
)
from smalti.format import (
    HEADER,
    LABELS,
    MAGIC,
    METADATA,
    NAMES,
    ORDER,
    SINGLE_FLAG,
    BlockHead,
    Index,
    check_start,
    hash64,
    unpack_block,
)
from smalti.model import Model
from smalti.scan import Found, first_record, scan
from smalti.sections import write_metadata, write_sections
from smalti.single import SingleReader
from smalti.storage import storage_of
from smalti.unordered import spoken


@dataclass(frozen=True)
class Repaired:
    """What `repair` saved."""

    images: int
    notes: tuple[str, ...]  # what was found, line by line


def verify(
    path: Place, *, deep: bool = False, model: ModelName | None = None, progress: Progress | None = None
) -> list[str]:
    """What is wrong with a smalti file, a line each; nothing if it is whole.

    Checksums are compared; names, labels and order are read. `deep` also decodes all images and compares them with
    what was packed, as is always done with a file of one image.

    Raises:
        SourceError, UnknownModelError: it cannot be read, or not be decoded here.
        NotSmaltiError: it does not even start as a smalti file.
    """
    try:
        contents = Contents(path, model, models=deep)
    except NotSmaltiError:
        raise
    except FormatError as exc:
        return [str(exc)]
    wrong = list[str]()

    def note(work: Callable[[], object]) -> None:
        try:
            work()
        except (FormatError, ModelError) as exc:
            wrong.append(str(exc))

    try:
        for what in (contents.names, contents.labels, contents.metadata, contents.order, contents.sets):
            note(what)
        for number in range(len(contents.index.models)):
            note(lambda number=number: contents.reader.model(number))  # type: ignore[misc]
        for block, entry in enumerate(contents.index.blocks):
            note(lambda block=block: _look(contents, block, deep=deep))  # type: ignore[misc]
            if progress:
                progress(entry.images, contents.reader.count)
    finally:
        contents.storage.close()
    return wrong


def _look(contents: Contents, block: int, *, deep: bool) -> None:
    if deep or isinstance(contents.reader, SingleReader):
        list(contents.decode([block]))
    elif contents.index.blocks[block].offset:
        contents.reader.block(block)


def repair(
    path: Path | str,
    target: Path | str,
    *,
    model: ModelName | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Repaired:
    """Write all that is whole of a damaged archive to `target`: every block whose checksum is right, index or not.

    Names and labels that are lost are replaced: `lost-0000042`, -1 or nothing.

    Args:
        model: of the file's images, if that cannot be told any more.

    Raises:
        SourceError: it cannot be read.
        CorruptError: nothing can be saved.
        UnknownModelError: a model is not known here.
        OutputError, UsageError: `target` cannot be written.
    """
    storage = storage_of(path)
    try:
        head, index = storage.read(0, HEADER.size), None
        if head.startswith(MAGIC) and check_start(head) & SINGLE_FLAG:
            raise CorruptError(f"{path} is a file of a single image, which is whole or lost: smalti verify says which")
        with contextlib.suppress(FormatError):  # it is done without
            index = ArchiveReader(storage).index
        saved = _Saved(scan(storage), index, None if model is None else as_model(model), str(path))
    finally:
        storage.close()
    with atomic_write(as_path(target), force=force) as file:
        saved.write(ArchiveWriter.start(file, saved.ids[min(saved.ids)]), progress)
    return Repaired(len(saved.numbers), tuple(saved.notes))


class _Saved:
    """What was found, and where it belongs."""

    def __init__(self, found: Found, index: Index | None, given: Model | None, where: str) -> None:
        self.found, self.index, self.given, self.where = found, index, given, where
        self.notes = ["the index is whole" if index else "the index is lost; blocks were looked for"]
        self.ids: dict[int, bytes] = {}
        self.nameless = False  # whether names and labels cannot be given to images any more
        self._models: dict[int, Model] = {}
        blocks = {(head.number, head.first): (head, payload) for head, payload in [*found.blocks, *self._carried()]}
        self.blocks = self._fitting([blocks[place] for place in sorted(blocks)])
        if not self.blocks:
            raise CorruptError(f"{where}: no block of it is whole; nothing can be saved")
        for head, payload in self.blocks:
            self._model(head, payload)
        self.numbers, self.kinds = self._places()
        total = index.count if index else max(first + count for _, first, count, _ in [*found.sections, (0, 0, 0, b"")])
        total = max(total, int(self.numbers.max()) + 1)
        self.notes.append(f"{len(self.numbers)} of {total} images are saved")

    def _fitting(self, blocks: list[tuple[BlockHead, bytes]]) -> list[tuple[BlockHead, bytes]]:
        """Those that can be of one archive: of the kind that their number has, and of images that no other holds."""
        kinds = dict(enumerate(self.index.kinds)) if self.index else {}
        after, fitting = dict[int, int](), list[tuple[BlockHead, bytes]]()
        for head, payload in blocks:
            if head.number not in kinds and head.kind not in kinds.values():
                kinds[head.number] = head.kind
            if kinds.get(head.number) == head.kind and head.first >= after.get(head.number, 0):
                after[head.number] = head.first + head.images
                fitting.append((head, payload))
        if len(fitting) < len(blocks):
            self.notes.append(f"{len(blocks) - len(fitting)} blocks do not fit the others, and are left out")
        return fitting

    def _model(self, head: BlockHead, payload: bytes) -> Model | None:
        """The model of a block; None where its id is known, but nothing else."""
        number = head.kind.model
        if number in self.ids:
            return self._models.get(number)
        known = self.index.models[number].id if self.index and number < len(self.index.models) else None
        known = self.found.model_id if known is None and number == 0 else known
        tried = [] if self.given is None else [self.given]
        if number in self.found.models:
            tried.append(parse_bundle(self.found.models[number], trusted=False))
        if known is not None:
            self.ids[number] = known
            tried = [model for model in tried if model.id == known]
            try:
                tried.append(find_model(known))
            except UnknownModelError:
                if not tried:
                    return None
        else:
            tried += find_by_prefix(b"")
            tried = [model for model in tried if _decodes(model, head, payload)]
            if not tried:
                raise UnknownModelError(f"{self.where}: it cannot be told which model it needs; name it with --model")
            self.ids[number] = tried[0].id
        self._models[number] = tried[0]
        return tried[0]

    def _carried(self) -> list[tuple[BlockHead, bytes]]:
        """Blocks that the order of others carries, where all of those are there."""
        found = []
        for end, data in self.found.carriers:
            try:
                _, opened, count = unpack_numbers(data, 3, 1 << 32)
                mine, keys = self.found.blocks[max(0, end - opened) : end], list[bytes]()
                after = mine[0][0].first if mine else 0
                for head, payload in mine:
                    model = self._model(head, payload)
                    if head.first != after or model is None:
                        raise CorruptError("an open block is missing")
                    after += head.images
                    keys += [x.tobytes() for x in decode_block(payload, head.images, head.kind.shape, model)]
                if len(mine) != opened:
                    raise CorruptError("an open block is missing")
                message = spoken(keys, None)
                for _ in range(count):
                    record = first_record(message)
                    found.append(unpack_block(record))
                    message = message[len(record) :]
            except SmaltiError as exc:
                self.notes.append(f"images that the order of others carried are lost: {exc}")
        return found

    def _places(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Of all saved images, in their order: their number in the file, and the number of their kind."""
        several: dict[int, list[np.ndarray[Any, Any]]] = {}
        for head, _ in self.blocks:  # kinds rise
            several.setdefault(head.number, []).append(_ranks(head))
        ranks = {n: np.concatenate(mine) for n, mine in several.items()}
        kinds = np.concatenate([np.full(len(mine), n) for n, mine in ranks.items()])
        order = self._order()
        if order is None and len(ranks) == 1:
            return next(iter(ranks.values())), kinds
        counts = np.bincount(order if order is not None else [], minlength=max(ranks) + 1)
        if order is None or any(mine.max() >= counts[n] for n, mine in ranks.items()):
            self.notes.append("the order of the images is lost, and with it whose names and labels are whose")
            self.nameless = True
            return np.arange(len(kinds)), kinds
        sort, starts = np.argsort(order, kind="stable"), np.cumsum(counts) - counts
        numbers = np.concatenate([sort[starts[n] + mine] for n, mine in ranks.items()])
        sort = np.argsort(numbers)
        return numbers[sort], kinds[sort]

    def _order(self) -> np.ndarray[Any, Any] | None:
        """The kind of each image, as far as sections say it without a gap; None if there is one kind."""
        found, parts = list[int](), sorted((f, n, data) for code, f, n, data in self.found.sections if code == ORDER)
        for first, count, data in parts:
            if first != len(found):
                break
            try:
                found += unpack_numbers(data, count, 1 << 16)
            except CorruptError:
                break
        several = bool(parts) or (self.index is not None and len(self.index.kinds) > 1)
        return np.array(found, np.int64) if several else None

    def _column(self, code: int, unpack: Callable[[bytes, int], tuple[Any, ...]]) -> dict[int, Any] | None:
        """What sections of that code say, by number of image; None if there is none."""
        parts = [(first, count, data) for told, first, count, data in self.found.sections if told == code]
        if not parts and not (self.index and any(entry.code == code for entry in self.index.sections)):
            return None
        found = dict[int, Any]()
        if self.nameless:
            return found
        for first, count, data in parts:
            try:
                found |= {first + i: entry for i, entry in enumerate(unpack(data, count))}
            except CorruptError as exc:
                self.notes.append(f"what is said of images {first} to {first + count - 1} is lost: {exc}")
        return found

    def write(self, writer: ArchiveWriter, progress: Progress | None) -> None:
        """Write all that is saved."""
        models = {}
        for number in sorted(self.ids):
            models[number] = writer.model(self.ids[number], self.found.models.get(number))
        kinds = {}
        for head, payload in self.blocks:
            kind = head.kind._replace(model=models[head.kind.model])
            kinds[head.number] = writer.kind(kind)
            writer.block(kind, head.images, head.pixels, payload)
            if progress:
                progress(head.images, len(self.numbers))
        names, labels = self._column(NAMES, unpack_names), self._column(LABELS, unpack_labels)
        write_sections(
            writer,
            [kinds[kind] for kind in self.kinds.tolist()],
            None if names is None else self._names(names),
            None if labels is None else self._labels(labels),
        )
        metadata = [data for code, _, _, data in self.found.sections if code == METADATA]
        try:
            if metadata:
                write_metadata(writer, parse_metadata(metadata[-1]))
        except (CorruptError, UsageError) as exc:
            self.notes.append(f"the metadata are lost: {exc}")
        writer.finish()

    def _names(self, names: dict[int, str]) -> list[str]:
        """All different, as names of an archive must be."""
        real, found = set(names.values()), dict[str, None]()
        for i in self.numbers.tolist():
            name = names.get(i)
            if name is None or name in found:
                name = f"lost-{i:07d}"
                while name in real:
                    name += "-"
            found[name] = None
        return list(found)

    def _labels(self, labels: dict[int, Label]) -> list[Label]:
        kind = type(next(iter(labels.values()), 0))
        missing: Label = {int: -1, str: "", tuple: ()}[kind]  # type: ignore[assignment]
        labels = {i: label for i, label in labels.items() if type(label) is kind}
        return [labels.get(i, missing) for i in self.numbers.tolist()]


def _ranks(head: BlockHead) -> np.ndarray[Any, Any]:
    return np.arange(head.first, head.first + head.images)


def _decodes(model: Model, head: BlockHead, payload: bytes) -> bool:
    try:
        pixels = decode_block(payload, head.images, head.kind.shape, model)
    except (CorruptError, ModelError):
        return False
    return hash64(np.ascontiguousarray(pixels).data) == head.pixels
