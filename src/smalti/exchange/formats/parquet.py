# SPDX-License-Identifier: MIT
"""Parquet files with a column of encoded images, as Hugging Face has them (needs pyarrow)."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

from smalti.errors import MissingExtraError, SourceError, UsageError
from smalti.exchange.formats.image_files import File, Reading, png_bytes, read_files
from smalti.exchange.labels import class_names, label_of
from smalti.exchange.parts import MAX_MEMBER_BYTES, PART_IMAGES, Parts, Single, damage, grouped
from smalti.types import ImageSet, Label, OnBad, PassedOver, Source

PARQUET = b"PAR1"
"""The first bytes of a parquet file."""
_ROWS = 64  # rows read together; few, because the size of an encoded image has no bound
_FEATURES: dict[str, object] = {
    "int": {"dtype": "int64", "_type": "Value"},
    "str": {"dtype": "string", "_type": "Value"},
    "tuple": {"feature": {"dtype": "int64", "_type": "Value"}, "_type": "Sequence"},
}
"""The kinds of labels as the library `datasets` describes them."""
_Row = tuple[bytes | None, str | None, object]
"""One row of a table: the encoded image, its path, its label."""


class _Encoded(NamedTuple):
    """One encoded image that is not yet in a table."""

    png: bytes
    name: str | None
    label: Label | None


def load_pyarrow() -> ModuleType:
    """Import and return the module `pyarrow`, with `pyarrow.parquet`.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise MissingExtraError("a parquet file", "parquet") from exc
    module: ModuleType = pyarrow
    return module


def open_parquet(path: Path, on_bad: OnBad, *, labelled: bool, convert: bool, side: int | None = None) -> Source:
    """Open the images of a parquet file, in the column `image` or `img`; labels are in `label` or `labels`, if there.

    Raises:
        SourceError: the file is damaged, or has no such column or no rows.
        MissingExtraError: pyarrow is not installed.
    """
    load_pyarrow()
    with _opened(path, labelled=labelled) as (file, image, label):
        total = file.metadata.num_rows
        first = next(_rows(path, file, image, label), [])
        if not first:
            raise SourceError(f"{path} holds no images: it has no rows")
        bare, example = _without_path(path, file, image)
        classes = _class_names(file.schema_arrow.metadata, label)
    named, labelled, passed = bare < total, label is not None, PassedOver()
    reading = Reading(on_bad, PassedOver(), convert, side)
    if named and bare:
        passed.notes.append(f"{path}: {bare} of {total} images have no path; they are named like {example}")
    parts = Parts(lambda: grouped(_singles(path, reading, named=named, labelled=labelled)))
    passed = PassedOver((passed, reading.passed))
    origin = f"the column {label}" if labelled else ""
    return Source(parts, reading.count(total), named, labelled, passed, classes, origin)


def _class_names(metadata: dict[bytes, bytes] | None, label: str | None) -> tuple[str, ...]:
    """Return the names of the classes that `datasets` keeps beside a column of labels (ClassLabel), if it does."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
    return class_names(names)


def _without_path(path: Path, file: Any, image: str) -> tuple[int, str]:
    """Return how many rows have no path, and the name that the first of these gets."""
    kind = file.schema_arrow.field(image).type
    if not hasattr(kind, "num_fields") or "path" not in [kind.field(i).name for i in range(kind.num_fields)]:
        return file.metadata.num_rows, ""
    bare, example, row = 0, "", 0
    with damage(path, "a parquet file"):
        for batch in file.iter_batches(columns=[f"{image}.path"]):
            for value in batch.column(image).to_pylist():
                if not (value or {}).get("path"):
                    example = example or _made_name(path, row)
                    bare += 1
                row += 1
    return bare, example


def _made_name(path: Path, row: int) -> str:
    return f"{path.stem}-{row:05d}.png"


@contextlib.contextmanager
def _opened(path: Path, *, labelled: bool) -> Iterator[tuple[Any, str, str | None]]:
    """Yield the open file, the name of its column of images and, if labels are asked for, of its column of labels."""
    with contextlib.ExitStack() as stack:
        with damage(path, "a parquet file"):
            raw = stack.enter_context(path.open("rb"))
            file = stack.enter_context(load_pyarrow().parquet.ParquetFile(raw))
            columns = list(file.schema_arrow.names)
        image = next((name for name in ("image", "img") if name in columns), None)
        if image is None:
            raise SourceError(f"{path} has the columns {', '.join(columns)[:400]}; the images must be in image or img")
        labels = (name for name in ("label", "labels") if labelled and name in columns)
        yield file, image, next(labels, None)


def _rows(path: Path, file: Any, image: str, label: str | None) -> Iterator[list[_Row]]:
    """Yield the rows, batch by batch."""
    with damage(path, "a parquet file"):
        batches = file.iter_batches(batch_size=_ROWS, columns=[image, label] if label else [image])
    while True:
        with damage(path, "a parquet file"):
            batch = next(batches, None)
            if batch is None:
                return
            images = batch.column(image).to_pylist()
            labels = batch.column(label).to_pylist() if label else [None] * len(images)
            rows = [(*_image_of(value), labels[i]) for i, value in enumerate(images)]
        yield rows


def _image_of(value: object) -> tuple[bytes | None, str | None]:
    """Return the encoded image and its path, from the value of a row."""
    data, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if not isinstance(data, bytes | None) or not isinstance(name, str | None):
        raise SourceError(
            f"the column of images holds {type(value).__name__}s where there must be bytes, or a struct of bytes and"
            " path, of one image; write each image in a row of its own"
        )
    return data, name


def _singles(path: Path, reading: Reading, *, named: bool, labelled: bool) -> Iterator[Single]:
    reading.passed.clear()
    yield from read_files(_files(path, reading, named=named, labelled=labelled), reading)


def _files(path: Path, reading: Reading, *, named: bool, labelled: bool) -> Iterator[File]:
    row = -1
    with _opened(path, labelled=labelled) as (file, image, label_column):
        for batch in _rows(path, file, image, label_column):
            for data, name, value in batch:
                row += 1
                where = f"{path}: row {row}"
                label = _label(value, where) if label_column else None
                if (data := _bounded(data, where, reading.on_bad)) is not None:
                    called = (name or _made_name(path, row)) if named else f"row {row}"
                    yield File(data, called, where, label, named)


def _bounded(data: bytes | None, where: str, on_bad: OnBad) -> bytes | None:
    if data is None:
        on_bad(SourceError(f"{where} has no bytes of an image; leave it out, or embed the file it names"))
    elif len(data) > MAX_MEMBER_BYTES:
        on_bad(SourceError(f"{where} has {len(data)} bytes, no small image; leave it out"))
        return None
    return data


def _label(value: object, where: str) -> Label:
    try:
        return label_of(value)
    except SourceError as exc:
        raise SourceError(f"{where}: {exc}") from exc


def write_parquet(parts: Iterable[ImageSet], file: BinaryIO, classes: Sequence[str] = ()) -> None:
    """Write PNG files in a column `image` and labels in a column `label`, with the schema that `datasets` reads.

    The labels are a ClassLabel if `classes` names them.

    Raises:
        UsageError: the labels are of several kinds, or beyond 64 bits.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = load_pyarrow()
    writer = None
    kind = None
    try:
        for rows in _batches(parts):
            kind = _kind(rows[0].label) if kind is None else kind
            table = _table(arrow, rows, kind, classes)
            writer = writer or arrow.parquet.ParquetWriter(file, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _batches(parts: Iterable[ImageSet]) -> Iterator[list[_Encoded]]:
    """Yield the encoded images of all parts in row groups of PART_IMAGES, however small the parts are."""
    waiting: list[_Encoded] = []
    for part in parts:
        for i, image in enumerate(part.pixels):
            label = None if part.labels is None else part.labels[i]
            waiting.append(_Encoded(png_bytes(image, part.profile(i)), part.names[i] if part.names else None, label))
            if len(waiting) == PART_IMAGES:
                yield waiting
                waiting = []
    if waiting:
        yield waiting


def _table(arrow: ModuleType, rows: list[_Encoded], kind: str, classes: Sequence[str]) -> Any:
    """Return a row group as a table; its labels must all be of `kind`."""
    images = [{"bytes": row.png, "path": row.name} for row in rows]
    image_type = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    columns = {"image": arrow.array(images, image_type)}
    features: dict[str, object] = {"image": {"_type": "Image"}}
    if kind:
        if any(_kind(row.label) != kind for row in rows):
            raise UsageError("the labels are of several kinds, which no column holds; give a folder, tar or zip")
        types = {"int": arrow.int64(), "str": arrow.string(), "tuple": arrow.list_(arrow.int64())}
        try:
            columns["label"] = arrow.array([row.label for row in rows], types[kind])
        except (ValueError, OverflowError) as exc:
            raise UsageError(f"a parquet file cannot hold these labels ({exc}); give a folder") from exc
        named = bool(classes) and kind == "int"
        features["label"] = {"names": list(classes), "_type": "ClassLabel"} if named else _FEATURES[kind]
    about = json.dumps({"info": {"features": features}})
    return arrow.table(columns).replace_schema_metadata({b"huggingface": about.encode()})


def _kind(label: Label | None) -> str:
    return "" if label is None else "str" if isinstance(label, str) else "tuple" if isinstance(label, tuple) else "int"
