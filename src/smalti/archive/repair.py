# SPDX-License-Identifier: MIT
"""Repair a damaged archive: save every block that is whole, and say what is lost."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from smalti.archive.editing.saved_listing import saved_listing
from smalti.archive.reader import Contents, ModelName, Place, as_model, parts_of
from smalti.archive.reading.salvage import saved_singly
from smalti.archive.repair_models import needed_models
from smalti.codec.block_codec import decode_block
from smalti.container.annotation_codec import (
    parse_metadata,
    unpack_labels,
    unpack_names,
    unpack_numbers,
    unpack_profiles,
)
from smalti.container.annotations import write_metadata, write_sections
from smalti.container.archive_reader import read_index
from smalti.container.format import (
    LABELS,
    MAGIC,
    METADATA,
    NAMES,
    ORDER,
    PROFILES,
    SINGLE_FLAG,
    START_BYTES,
    BlockHead,
    check_start,
    unpack_block,
)
from smalti.container.index import Index
from smalti.container.mixed_payload import with_models
from smalti.container.permutation_code import decode_permutation
from smalti.container.records import ArchiveWriter
from smalti.container.recovery_scan import Found, first_record, scan
from smalti.errors import (
    CorruptError,
    FormatError,
    SmaltiError,
    UnknownModelError,
    UsageError,
    within,
)
from smalti.model.model import Model
from smalti.types import Label, Progress
from smalti.util.atomic import as_path, atomic_write
from smalti.util.storage import Storage, storage_of

MOST_SPANS = 20
"""The most spans of images whose names or labels are lost that a note lists."""


@dataclass(frozen=True)
class Repaired:
    """The result of `repair`."""

    images: int  # saved
    notes: tuple[str, ...]  # what is saved and what is lost, a line each
    complete: bool = False  # whether all that was in the file is saved, for certain


def repair(
    path: Place,
    output: Path | str,
    *,
    model: ModelName | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Repaired:
    """Write every block of a damaged archive whose checksum is right to `output`, even if the index is lost.

    Lost names and labels are replaced by `lost-0000042`, -1 or nothing. The notes say what is lost, as far as
    that can be known.

    Args:
        model: the model of the file, if its id is lost.

    Raises:
        SourceError: the file cannot be read.
        CorruptError: nothing can be saved.
        UnknownModelError: a model is not known here.
        OutputError, UsageError: `output` cannot be written.
    """
    storage = storage_of(path)
    try:
        found, index = scan(storage), None
        with contextlib.suppress(FormatError):  # blocks can be found without it
            index, _ = read_index(storage, found.end)
        if index is None and found.nothing:
            _check_archive(storage)
        given = None if model is None else as_model(model)
        before = len(found.blocks)
        if index is not None:
            found.blocks += _saved_singly(storage, found, given)
        saved = _Saved(found, index, given, storage.where)
        if found.blocks[before:]:
            n = sum(head.images for head, _ in found.blocks[before:])
            saved.notes.append(f"{n} of the saved images are of damaged blocks, whose images are packed each by itself")
    finally:
        storage.close()
    with atomic_write(as_path(output), force=force) as file:
        saved.write(file, progress)
    return Repaired(len(saved.numbers), tuple(saved.notes), saved.complete)


def _saved_singly(storage: Storage, found: Found, given: Model | None) -> list[tuple[BlockHead, bytes]]:
    """Return blocks of the images of damaged blocks that can be saved one by one."""
    with contextlib.suppress(SmaltiError):
        contents = Contents(storage, given, models=False)
        return list(saved_singly(contents, {(head.number, head.first) for head, _ in found.blocks}))
    return []


def _check_archive(storage: Storage) -> None:
    """Refuse a file that holds nothing of an archive.

    Raises:
        FormatError: it is a file of a single image, or no smalti file.
    """
    head = storage.read(0, START_BYTES)
    with within(storage.where):
        if head.startswith(MAGIC) and check_start(head) & SINGLE_FLAG:
            raise CorruptError("this is a file of a single image, which is whole or lost: smalti verify says which")


class _Saved:
    """The records that were found, and where they belong in the repaired file."""

    def __init__(self, found: Found, index: Index | None, given: Model | None, where: str) -> None:
        self.found, self.index = found, index
        self.notes = ["the index is whole" if index else "the index is lost; blocks were looked for"]
        self.complete = index is not None  # else there may have been more than is found
        self.nameless = False  # whether names and labels cannot be given to images any more
        if not found.blocks:
            raise CorruptError(f"{where}: no block of it is whole; nothing can be saved")
        try:
            self.models = needed_models(found, index, given)
        except UnknownModelError as exc:
            raise UnknownModelError(f"{where}: {exc}") from exc
        self.notes += [needed.note for needed in self.models.values() if needed.note]
        blocks = {(head.number, head.first): (head, payload) for head, payload in [*found.blocks, *self._carried()]}
        self.blocks = self._fitting([blocks[place] for place in sorted(blocks)])
        if not self.blocks:
            raise CorruptError(f"{where}: no block of it is whole; nothing can be saved")
        self.numbers, self.kinds = self._places()
        self.listing = None if self.nameless else saved_listing(found, index, self.numbers)
        if self.listing is not None:
            self.numbers = self.listing.listed
            for note in self.listing.notes:
                self._lose(note)
        self.notes.append(self._count())

    def _count(self) -> str:
        n, told = len(self.numbers), [first + count for _, first, count, _ in self.found.sections]
        total = max([self.index.count] if self.index else told, default=0)
        total = self.listing.total if self.listing else max(total, int(self.numbers.max()) + 1)
        if self.index is None:
            return f"{n} of at least {total} images are saved; how many there were is not known"
        self.complete &= n == total
        return f"{n} of {total} images are saved" + (f"; {total - n} are lost" if n < total else "")

    def _lose(self, note: str) -> None:
        """Note what is lost."""
        self.notes.append(note)
        self.complete = False

    def _fitting(self, blocks: list[tuple[BlockHead, bytes]]) -> list[tuple[BlockHead, bytes]]:
        """Return the blocks that can be of one archive: of their number's kind, with images that no other holds."""
        kinds = dict(enumerate(self.index.kinds)) if self.index else {}
        after, fitting = dict[int, int](), list[tuple[BlockHead, bytes]]()
        for head, payload in blocks:
            if head.number not in kinds and head.kind not in kinds.values():
                kinds[head.number] = head.kind
            if head.kind.mixed and not self._readable(head, payload):
                continue
            if kinds.get(head.number) == head.kind and head.first >= after.get(head.number, 0):
                after[head.number] = head.first + head.images
                fitting.append((head, payload))
        if len(fitting) < len(blocks):
            self._lose(f"{len(blocks) - len(fitting)} blocks do not fit the others, and are left out")
        return fitting

    def _readable(self, head: BlockHead, payload: bytes) -> bool:
        """Return whether the table of a mixed block can be read, and names models of the file alone."""
        with contextlib.suppress(CorruptError):
            return all(part.kind.model in self.models for part in parts_of(head, payload))
        return False

    def _carried(self) -> list[tuple[BlockHead, bytes]]:
        """Return the blocks that the order of images carries, as far as all open blocks of their sets were found."""
        found = []
        for end, data in self.found.carriers:
            try:
                _, opened, count = unpack_numbers(data, 3, 1 << 32)
                mine, keys = self.found.blocks[max(0, end - opened) : end], list[bytes]()
                if not 0 < opened == len(mine):
                    raise CorruptError("an open block is missing")
                first = mine[0][0]
                if first.kind.mixed:
                    raise CorruptError("no order can carry images of mixed blocks")
                after, model = first.first, self.models[first.kind.model].model
                for head, payload in mine:
                    if head.first != after or model is None or head.kind != first.kind:
                        raise CorruptError("an open block is missing")
                    after += head.images
                    keys += [x.tobytes() for x in decode_block(payload, head.images, head.kind.shape, model)]
                message = decode_permutation(keys, None)
                for _ in range(count):
                    record = first_record(message)
                    head, payload = unpack_block(record)
                    if head.kind != first.kind:
                        raise CorruptError("a carried block is of another kind")
                    found.append((head, payload))
                    message = message[len(record) :]
            except SmaltiError as exc:
                self._lose(f"images that the order of others carried are lost: {exc}")
        return found

    def _places(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return the number in the file of each saved image, in order, and the number of its kind."""
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
            self._lose("the order of the images is lost, and with it whose names and labels are whose")
            self.nameless = True
            return np.arange(len(kinds)), kinds
        sort, starts = np.argsort(order, kind="stable"), np.cumsum(counts) - counts
        numbers = np.concatenate([sort[starts[n] + mine] for n, mine in ranks.items()])
        sort = np.argsort(numbers)
        return numbers[sort], kinds[sort]

    def _order(self) -> np.ndarray[Any, Any] | None:
        """Return the kind of each image, as far as sections hold it without a gap; None if there is one kind."""
        found, parts = list[int](), sorted((f, n, data) for code, f, n, data in self.found.sections if code == ORDER)
        for first, count, data in parts:
            if first > len(found):
                break
            with contextlib.suppress(CorruptError):  # several may speak of the same images, where a file has grown
                found[first : first + count] = unpack_numbers(data, count, 1 << 16)
        several = bool(parts) or (self.index is not None and len(self.index.kinds) > 1)
        return np.array(found, np.int64) if several else None

    def _column(self, code: int, unpack: Callable[[bytes, int], tuple[Any, ...]]) -> dict[int, Any] | None:
        """Return the entries of all sections of that code, by number of image; None if there was no such section."""
        parts = [(first, count, data) for told, first, count, data in self.found.sections if told == code]
        if not parts and not (self.index and any(entry.code == code for entry in self.index.sections)):
            return None
        found = dict[int, Any]()
        if self.nameless:
            return found
        for first, count, data in parts:
            with contextlib.suppress(CorruptError):  # a note says what is missing
                found |= {first + i: entry for i, entry in enumerate(unpack(data, count))}
        return found

    def write(self, file: BinaryIO, progress: Progress | None) -> None:
        """Write all that is saved, as a new archive."""
        numbers = sorted({part.kind.model for block in self.blocks for part in parts_of(*block)})
        writer = ArchiveWriter.start(file, self.models[numbers[0]].id)
        models = {number: writer.model(self.models[number].id, self.models[number].bundle) for number in numbers}
        kinds = {}
        for head, payload in self.blocks:
            kind, coded = head.kind, payload
            if kind.mixed:
                coded = with_models(payload, head.images, models)
                writer.note_shapes(part.kind.shape for part in parts_of(head, payload))
            else:
                kind = kind._replace(model=models[kind.model])
            kinds[head.number] = writer.kind(kind)
            writer.block(kind, head.images, head.pixels, coded)
            if progress:
                progress(head.images, len(self.numbers))
        names, labels = self._column(NAMES, unpack_names), self._column(LABELS, unpack_labels)
        profiles = self._profiles()
        write_sections(
            writer,
            [kinds[kind] for kind in self.kinds.tolist()],
            None if names is None else self._names(names),
            None if labels is None else self._labels(labels),
            None if profiles is None else [profiles.get(i) for i in self.numbers.tolist()],
            None if self.listing is None else self.listing.places.tolist(),
        )
        self._write_metadata(writer)
        absent = {"names": names is None, "labels": labels is None, "ICC profiles": profiles is None}
        absent["metadata"] = not self.found.metadata
        if self.index is None and any(absent.values()):
            words = " or ".join(what for what, missing in absent.items() if missing)
            self.notes.append(f"no {words} were found; whether there were any is not known")
        writer.finish()

    def _write_metadata(self, writer: ArchiveWriter) -> None:
        """Write the last metadata of the file that can be read."""
        told = [entry.offset for entry in self.index.sections if entry.code == METADATA] if self.index else None
        for place in reversed(told := list(self.found.metadata) if told is None else told):
            with contextlib.suppress(KeyError, CorruptError, UsageError):
                write_metadata(writer, parse_metadata(self.found.metadata[place]))
                if place != told[-1]:
                    self._lose("the metadata are lost; older ones of the file take their place")
                return
        if told:
            self._lose("the metadata are lost")

    def _names(self, names: dict[int, str]) -> list[str]:
        """Return a name for each saved image, all different."""
        real, found, lost = set(names.values()), dict[str, None](), list[int]()
        for i in self.numbers.tolist():
            name = names.get(i)
            if name is None or name in found:
                lost.append(i)
                name = f"lost-{i:07d}"
                while name in real:
                    name += "-"
            found[name] = None
        self._note_lost("names", lost)
        return list(found)

    def _profiles(self) -> dict[int, Any] | None:
        """Return the ICC profiles of images by their numbers, as far as they are known; None if there are none."""
        profiles = self._column(PROFILES, unpack_profiles)
        if profiles is None:
            return None
        told = sum(entry.images for entry in self.index.sections if entry.code == PROFILES) if self.index else 0
        told = told or max(first + n for code, first, n, _ in self.found.sections if code == PROFILES)
        if self.nameless:
            self._lose("the ICC profiles of the images are lost")
        self._note_lost("ICC profiles", [i for i in self.numbers.tolist() if i < told and i not in profiles])
        if self.index is None and not self.nameless and self.numbers.max(initial=0) >= told:
            self.notes.append(f"whether images from {told} on had ICC profiles is not known")
        return profiles

    def _labels(self, labels: dict[int, Label]) -> list[Label]:
        kind = type(next(iter(labels.values()), 0))
        missing: Label = {int: -1, str: "", tuple: ()}[kind]  # type: ignore[assignment]  # mypy joins them to object
        labels = {i: label for i, label in labels.items() if type(label) is kind}
        self._note_lost("labels", [i for i in self.numbers.tolist() if i not in labels])
        return [labels.get(i, missing) for i in self.numbers.tolist()]

    def _note_lost(self, what: str, images: Sequence[int]) -> None:
        if images and not self.nameless:
            self._lose(f"the {what} of {len(images)} saved images are lost: {_spans(images)}")


def _spans(numbers: Sequence[int]) -> str:
    """Return rising numbers in few words.

    >>> _spans([0, 1, 2, 5, 7, 8])
    '0 to 2, 5, 7 to 8'
    """
    ends = [i for i, n in enumerate(numbers) if i + 1 == len(numbers) or numbers[i + 1] != n + 1]
    firsts = [0, *(i + 1 for i in ends)]
    spans = [(numbers[a], numbers[b]) for a, b in zip(firsts, ends, strict=False)]
    words = [f"{a}" if a == b else f"{a} to {b}" for a, b in spans[:MOST_SPANS]]
    return ", ".join(words) + (" and more" if len(spans) > MOST_SPANS else "")


def _ranks(head: BlockHead) -> np.ndarray[Any, Any]:
    return np.arange(head.first, head.first + head.images)
