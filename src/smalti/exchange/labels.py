# SPDX-License-Identifier: MIT
"""Labels in other formats: as text, as lines of a metadata file, as an array, and back."""

import contextlib
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smalti.errors import SmaltiError, SourceError, UsageError
from smalti.exchange.names import plain_name
from smalti.types import Label, PassedOver

METADATA = ("metadata.jsonl", "metadata.csv")
"""The files with the labels of the images beside them, as Hugging Face's ImageFolder has them; the first that exists
is read."""
WITHOUT_LABELS = "leave labels out: labels=False"
"""The advice at the end of messages about labels that cannot be used."""
MAX_LINE = 1 << 20
"""The most bytes of a line of a metadata file."""
_INT = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_INTS = re.compile(rf"(?:{_INT.pattern})(?:,(?:{_INT.pattern}))*,?")


def label_text(label: Label) -> str:
    """Return a label as the text of a `.cls` file: `7`, `cat`, `1,0,1`; in JSON's quotes if it would be misread.

    >>> [label_text(label) for label in (7, "cat", (1, 0), (1,), "7", "")]
    ['7', 'cat', '1,0', '1,', '"7"', '""']

    Raises:
        UsageError: the label has a number of more than 19 digits.
    """
    if isinstance(label, str):
        plain = label.isprintable() and bool(label.strip()) and parse_label(label) == label
        return label if plain else json.dumps(label, ensure_ascii=_broken(label))
    text = ",".join(map(str, label)) + "," * (len(label) < 2) if isinstance(label, tuple) else str(int(label))
    if parse_label(text) != label:
        raise UsageError(
            f"the label {text[:40]} is beyond what this kind of target holds; give an npz file or a folder"
        )
    return text


def _broken(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


def parse_label(text: str) -> Label:
    """Return the label that `label_text` wrote; any other text is a word.

    Raises:
        SourceError: the text is empty.
    """
    text = text.strip()
    if not text:
        raise SourceError("there is no label; write a number, several with commas between, or a word")
    if _INT.fullmatch(text):
        return int(text)
    if text == "," or _INTS.fullmatch(text):
        return tuple(int(number) for number in text.split(",") if number)
    if text.startswith('"'):
        try:
            word = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return word if isinstance(word, str) else text
    return text


def label_of(value: object) -> Label:
    """Return what JSON or a table holds as a label: an int, a word, or a list of ints.

    Raises:
        SourceError: the value is something else.
    """
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in value):
        return tuple(value)
    raise SourceError(f"the label {str(value)[:40]!r} is neither an int, a word nor a list of ints; {WITHOUT_LABELS}")


def json_label(data: bytes) -> Label | None:
    """Return the label that a `.json` file of WebDataset holds; None if it holds none, or several.

    It holds one as a whole number, or in an object under "label" or "cls".

    >>> [json_label(text) for text in (b"7", b'{"label": "cat", "width": 9}', b'{"label": 1, "cls": 2}', b'"a"')]
    [7, 'cat', None, None]
    """
    try:
        value = json.loads(data)
        if isinstance(value, dict):
            found = {json.dumps(value[key]): value[key] for key in ("label", "cls") if value.get(key) is not None}
            return label_of(*found.values()) if len(found) == 1 else None
    except (ValueError, RecursionError, SourceError):
        return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def class_names(names: object) -> tuple[str, ...]:
    """Return `names` as names of classes; none, if they are no list of different texts."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names) if len(set(names)) == len(names) else ()


def metadata_line(file: str, label: Label, classes: Sequence[str] = ()) -> str:
    """Return the line of `metadata.jsonl` that gives a file its label, and the name of its class if that is known."""
    known = isinstance(label, int) and 0 <= label < len(classes)
    named = {"label_name": classes[int(label)]} if known and isinstance(label, int) else {}
    return json.dumps({"file_name": file, "label": label, **named}) + "\n"


class Table(NamedTuple):
    """A metadata file: it labels the images of the folder that it is in, and of the folders below."""

    folder: str  # the folder of the file within the source: "", or a path that ends with "/"
    kind: str  # "metadata.jsonl" or "metadata.csv"
    lines: Callable[[], contextlib.AbstractContextManager[Iterable[bytes]]]  # opens the lines of the file


def tables_of(files: Iterable[str]) -> list[tuple[str, str]]:
    """Return the folder and kind of each metadata file among `files`: of each folder the first kind of METADATA.

    >>> tables_of(["b/metadata.csv", "b/metadata.jsonl", "b/a.png", "metadata.csv"])
    [('', 'metadata.csv'), ('b/', 'metadata.jsonl')]
    """
    found: dict[str, list[str]] = {}
    for file in files:
        folder, slash, base = file.rpartition("/")
        if base in METADATA:
            found.setdefault(folder + slash, []).append(base)
    return [(folder, min(kinds, key=METADATA.index)) for folder, kinds in sorted(found.items())]


def metadata_labels(
    tables: Sequence[Table], where: Path, names: Sequence[str], passed: PassedOver
) -> tuple[Label, ...] | None:
    """Return the labels of the images `names` from metadata files; None if these have no labels.

    Args:
        tables: the metadata files.
        where: the folder or archive, for messages.
        names: the images, in order.
        passed: is told of files that are labelled and not there, and of tables without labels.

    Raises:
        SourceError: a metadata file is damaged, labels no image that is there, or some images have no label.
    """
    labels, absent = _gathered(tables, where, set(names), passed)
    if absent and not labels:
        raise SourceError(
            f"{where}: the metadata label {len(absent)} files, none of which is an image here ({absent[0]!r:.80}, ...);"
            f" name files as beside the metadata file, or {WITHOUT_LABELS}"
        )
    if absent:
        few = f"{absent[0]!r:.80}" + ", ..." * (len(absent) > 1)
        passed.notes.append(f"{where}: the metadata label {len(absent)} files that are not here ({few})")
    if not labels:
        return None
    if (bare := next((name for name in names if name not in labels), None)) is not None:
        raise SourceError(f"{where}: the metadata label some images, but not {bare!r}; label all, or {WITHOUT_LABELS}")
    return tuple(labels[name] for name in names)


def _gathered(
    tables: Sequence[Table], where: Path, wanted: set[str], passed: PassedOver
) -> tuple[dict[str, Label], list[str]]:
    """Return the labels of the images `wanted`, and the files that are labelled and not wanted."""
    labels: dict[str, Label] = {}
    absent: list[str] = []
    words, numbers = list[str](), True  # the labels of tables in CSV may be numbers
    for table in tables:
        rows = 0
        with _damaged(where, table):
            for file, label in _rows(table):
                rows += 1
                numbers &= not table.kind.endswith(".csv") or _INT.fullmatch(str(label)) is not None
                if (name := _found(table.folder + file, wanted)) is None:
                    absent.append(table.folder + file)
                elif labels.setdefault(name, label) != label:
                    raise SourceError(f"{where}: {table.kind} gives {name!r} two labels; leave one")
                else:
                    words += [name] * table.kind.endswith(".csv")
        if not rows:
            passed.notes.append(f"{where / table.folder / table.kind} holds no labels: none of its rows has a label")
    if numbers:
        labels |= {name: int(str(labels[name])) for name in words}
    return labels, absent


def _rows(table: Table) -> Iterator[tuple[str, Label]]:
    with table.lines() as text:
        lines = lines_of(text)
        yield from csv_labels(lines) if table.kind.endswith(".csv") else _json_labels(lines, table.kind)


def _found(file: str, wanted: set[str]) -> str | None:
    """Return the image that a metadata file means, which may have been written on Windows."""
    return next((name for name in (file, plain_name(file.replace("\\", "/"))) if name in wanted), None)


@contextlib.contextmanager
def _damaged(where: Path, table: Table) -> Iterator[None]:
    """Turn every error of reading a metadata file into a SourceError that names the file.

    Raises:
        SourceError: the block raised an error that is none of smalti's.
    """
    try:
        yield
    except SmaltiError:
        raise
    except Exception as exc:
        reason = " ".join(str(exc).split())[:200] or type(exc).__name__
        path = where / table.folder / table.kind
        raise SourceError(f"cannot take labels from {path}: {reason}; mend it, or {WITHOUT_LABELS}") from exc


def _json_labels(lines: Iterable[str], kind: str) -> Iterator[tuple[str, Label]]:
    for _, row in json_rows(lines, kind):
        if row.get("label") is not None:
            yield row["file_name"], label_of(row["label"])


def json_rows(lines: Iterable[str], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the lines of `metadata.jsonl` that are not empty, each with the JSON object that it holds.

    Raises:
        ValueError: a line is damaged, or names no file.
    """
    for i, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except RecursionError as exc:
            raise ValueError(f"line {i} of {kind} is nested too deep") from exc
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
            raise ValueError(f'line {i} of {kind} is no object with "file_name"')
        row["file_name"] = plain_name(row["file_name"])
        yield line, row


def csv_labels(lines: Iterable[str]) -> Iterator[tuple[str, Label]]:
    """Yield the files that `metadata.csv` labels, each with its label as text.

    Raises:
        ValueError: there is no column of file names.
    """
    for row in csv.DictReader(lines):
        if "file_name" not in row:
            columns = ", ".join(str(key) for key in row)[:200]
            raise ValueError(f'it has the columns {columns}, but no column "file_name"')
        if row["file_name"] and row.get("label"):
            yield plain_name(row["file_name"]), row["label"]


def lines_of(text: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines of a file in UTF-8, without the byte order mark that it may start with.

    Raises:
        ValueError: the file is not UTF-8, or a line has more than MAX_LINE bytes.
    """
    for i, line in enumerate(text):
        if len(line) > MAX_LINE:
            raise ValueError(f"line {i + 1} has more than {MAX_LINE} bytes")
        yield line.decode("utf-8-sig" if i == 0 else "utf-8")


def int_array(labels: Sequence[Label]) -> NDArray[np.uint8] | NDArray[np.int64]:
    """Return ints as an array `n`, or lists of ints as `n k`: of uint8 if all are 0 to 255, else of int64.

    Raises:
        UsageError: the labels are of several kinds or lengths, are words, or have more than 64 bits.
    """
    lengths = {len(label) if isinstance(label, tuple) else None for label in labels}
    if lengths == {0}:
        raise UsageError("the labels are lists without numbers, which no array can hold; give a folder, tar or zip")
    if len(lengths) > 1 or any(isinstance(label, str) for label in labels):
        raise UsageError("the labels are of several kinds, which no array holds; give a folder, tar or zip")
    try:
        numbers = np.array(labels, np.int64)
    except OverflowError as exc:
        raise UsageError("a label has more than 64 bits, which no array holds; give a folder") from exc
    small = not numbers.size or (numbers.min() >= 0 and numbers.max() <= 255)
    return numbers.astype(np.uint8) if small else numbers
