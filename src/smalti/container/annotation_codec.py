# SPDX-License-Identifier: MIT
"""Code names, labels, kinds, shapes, profiles and metadata as the data of sections. Standard library only.

Most names are a few texts with numbers that count: `train/7/00123.png`. They are split into a template (the texts, and
the least number of digits of each number) and numbers, and each number is coded as its difference from an earlier one.
"""

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from smalti.container.format import MAX_SECTION_BYTES, MAX_SECTION_NUMBERS, MODES
from smalti.errors import CorruptError
from smalti.limits import MAX_IMAGE_SAMPLES, MAX_NAME_BYTES, MAX_PROFILE_BYTES, MAX_SIDE
from smalti.util.binary import read_varint, varint

TEXT, NUMBERED = 0, 1
"""The codes for how names are coded: as texts, or as templates and numbers."""
AS_IT_IS, FROM_LAST, FROM_LIKE = 0, 1, 2
"""The codes for how a column of numbers is coded: the numbers themselves; their differences from the number before in
the column; or their differences from the last number of the column in a name with the same numbers to the left."""
NUMBERS, WORDS, LISTS = 0, 1, 2
"""The codes for the kinds of labels: ints, texts, lists of ints."""
MAX_SHAPES = 1 << 20
"""The most shapes that a section lists."""
MAX_DIGITS = 18
"""The most digits of a run of digits in a name that is coded as a number."""
_RUN = re.compile(r"([0-9]+)")

Label = int | str | tuple[int, ...]


def pack_names(names: Sequence[str]) -> bytes:
    """Code names (without zero bytes) as the data of a section: as texts or as templates, whichever is shorter."""
    plain = deflate(bytes([TEXT]) + "\0".join(names).encode())
    numbered = _pack_numbered(names)
    return plain if numbered is None else min(plain, deflate(bytes([NUMBERED]) + numbered), key=len)


def unpack_names(data: bytes, count: int) -> tuple[str, ...]:
    """Decode the names of `count` images.

    Raises:
        CorruptError: the data are damaged.
    """
    reader = SectionReader(inflate(data))
    form = reader.byte()
    try:
        if form == TEXT:
            text = reader.rest().decode()
            names = text.split("\0", count) if text or count else []
        elif form == NUMBERED:
            names = _unpack_numbered(reader, count)
        else:
            raise CorruptError(f"the names are coded in an unknown way, {form}; the file is damaged")
        sizes = [len(name.encode()) for name in names]
    except UnicodeError as exc:
        raise CorruptError("the names of the images cannot be read; the file is damaged") from exc
    if len(names) != count or not all(1 <= size <= MAX_NAME_BYTES for size in sizes):
        raise CorruptError(f"the names do not fit the {count} images; the file is damaged")
    if any("\0" in name for name in names):
        raise CorruptError("a name holds a zero byte; the file is damaged")
    return tuple(names)


def _pack_numbered(names: Sequence[str]) -> bytes | None:
    """Code names as templates, the template of each name, and columns of numbers; return None if there are too many."""
    templates: dict[tuple[tuple[str, ...], tuple[int, ...]], int] = {}
    rows: dict[int, list[tuple[int, ...]]] = {}
    chosen = []
    widths: dict[tuple[str, ...], tuple[int, ...]] = {}
    for name in names:
        pieces = _RUN.split(name)
        texts, runs = tuple(pieces[::2]), pieces[1::2]
        if any(len(run) > MAX_DIGITS for run in runs):
            texts, runs = (name,), []
        before = widths.get(texts, (1,) * len(runs))
        width = tuple(
            w if str(int(run)).zfill(w) == run else len(run) if run[0] == "0" else 1
            for run, w in zip(runs, before, strict=True)
        )
        widths[texts] = width
        template = templates.setdefault((texts, width), len(templates))
        chosen.append(template)
        rows.setdefault(template, []).append(tuple(map(int, runs)))
    if (
        len(templates) > len(names) // 8 + 16
        or sum(len(row) for mine in rows.values() for row in mine) > MAX_SECTION_NUMBERS
    ):
        return None
    coded = [varint(len(templates))]
    for texts, width in templates:
        coded.append(varint(len(width)))
        coded += [varint(len(text.encode())) + text.encode() for text in texts]
        coded += [varint(w) for w in width]
    coded += [varint(template) for template in chosen]
    for template in range(len(templates)):
        numbers = rows[template]
        for column in range(len(numbers[0])):
            coded.append(min((_pack_column(numbers, column, way) for way in range(3)), key=_deflated_size))
    return b"".join(coded)


def _pack_column(rows: Sequence[tuple[int, ...]], column: int, way: int) -> bytes:
    last: dict[tuple[int, ...], int] = {}
    coded = [bytes([way])]
    for row in rows:
        key = row[:column] if way == FROM_LIKE else ()
        coded.append(varint(row[column]) if way == AS_IT_IS else varint(fold(row[column] - last.get(key, 0))))
        last[key] = row[column]
    return b"".join(coded)


def _unpack_numbered(reader: "SectionReader", count: int) -> list[str]:
    templates = []
    for _ in range(reader.number(count)):
        runs = reader.number(MAX_NAME_BYTES)
        texts = [reader.text() for _ in range(runs + 1)]
        templates.append((texts, [reader.number(MAX_NAME_BYTES) for _ in range(runs)]))
    chosen = [reader.number(len(templates) - 1) for _ in range(count)]
    uses = Counter(chosen)
    if sum(uses[template] * len(width) for template, (_, width) in enumerate(templates)) > MAX_SECTION_NUMBERS:
        raise CorruptError("the names hold more numbers than a section may; the file is damaged")
    waiting = [
        iter(_unpack_columns(reader, uses[template], len(width))) for template, (_, width) in enumerate(templates)
    ]
    reader.finish()
    names, room = list[str](), MAX_SECTION_BYTES
    for template in chosen:
        texts, width = templates[template]
        numbers = next(waiting[template])
        name = texts[0] + "".join(str(n).zfill(w) + text for n, w, text in zip(numbers, width, texts[1:], strict=True))
        names.append(name)
        room -= len(name.encode())
        if room < 0:
            raise CorruptError("the names take more room than a section may; the file is damaged")
    return names


def _unpack_columns(reader: "SectionReader", rows: int, columns: int) -> list[tuple[int, ...]]:
    """Decode the numbers of `rows` names of one template, column after column; return them name by name."""
    found, before = list[list[int]](), [0] * rows  # before: which names have the same numbers to the left
    for _ in range(columns):
        way, last, like = reader.byte(), dict[int, int](), dict[tuple[int, int], int]()
        if way > FROM_LIKE:
            raise CorruptError(f"numbers are coded in an unknown way, {way}; the file is damaged")
        column = list[int]()
        for key in before if way == FROM_LIKE else [0] * rows:
            number = reader.number()
            if way != AS_IT_IS:
                number = last.get(key, 0) + unfold(number)
            if not 0 <= number < 10**MAX_DIGITS:
                raise CorruptError("a number in a name is out of range; the file is damaged")
            last[key] = number
            column.append(number)
        before = [like.setdefault(both, len(like)) for both in zip(before, column, strict=True)]
        found.append(column)
    return list(zip(*found, strict=True)) if found else [()] * rows


def pack_labels(labels: Sequence[Label]) -> bytes:
    """Code labels, which are all of one kind, as the data of a section."""
    if isinstance(labels[0], str):
        words = [label.encode() for label in labels if isinstance(label, str)]
        return deflate(bytes([WORDS]) + b"".join(varint(len(word)) + word for word in words))
    if isinstance(labels[0], tuple):
        lists = [label for label in labels if isinstance(label, tuple)]
        coded = (varint(len(label)) + b"".join(varint(fold(n)) for n in label) for label in lists)
        return deflate(bytes([LISTS]) + b"".join(coded))
    return deflate(bytes([NUMBERS]) + b"".join(varint(fold(n)) for n in labels if isinstance(n, int)))


def unpack_labels(data: bytes, count: int) -> tuple[Label, ...]:
    """Decode the labels of `count` images.

    Raises:
        CorruptError: the data are damaged.
    """
    reader, room = SectionReader(inflate(data)), MAX_SECTION_NUMBERS
    kind, labels = reader.byte(), list[Label]()
    if kind not in (NUMBERS, WORDS, LISTS):
        raise CorruptError(f"the labels are of a kind {kind} that is not known; the file is damaged")
    for _ in range(count):
        if kind == NUMBERS:
            labels.append(unfold(reader.number()))
        elif kind == WORDS:
            labels.append(reader.text())
        else:
            length = reader.number(room)
            room -= length
            labels.append(tuple(unfold(reader.number()) for _ in range(length)))
    reader.finish()
    return tuple(labels)


def type_of_labels(data: bytes) -> type[int] | type[str] | type[tuple[int, ...]]:
    """Return the type of the labels that the data of a section hold, without a look at each.

    Raises:
        CorruptError: the data are damaged.
    """
    kind = SectionReader(inflate(data)).byte()
    if kind not in (NUMBERS, WORDS, LISTS):
        raise CorruptError(f"the labels are of a kind {kind} that is not known; the file is damaged")
    return int if kind == NUMBERS else str if kind == WORDS else tuple


def parse_metadata(data: bytes) -> dict[str, Any]:
    """Return the metadata that the data of a section hold.

    Raises:
        CorruptError: the data are no metadata.
    """
    try:
        found = json.loads(unpack_text(data))
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # what is read can be written
    except (ValueError, RecursionError) as exc:
        raise CorruptError("the metadata is no JSON; the file is damaged") from exc
    if not isinstance(found, dict):
        raise CorruptError("the metadata is no JSON object; the file is damaged")
    return found


def pack_numbers(numbers: Sequence[int]) -> bytes:
    """Code numbers of at least 0, such as the kind of each image, as the data of a section."""
    return deflate(b"".join(map(varint, numbers)))


def unpack_numbers(data: bytes, count: int, most: int) -> bytes | list[int]:
    """Decode `count` numbers; they are bytes if each is below 128, the usual case.

    Raises:
        CorruptError: the data are damaged, or a number is above `most`.
    """
    told = inflate(data)
    if len(told) == count and max(told, default=0) <= min(most, 0x7F):
        return told
    reader = SectionReader(told)
    found = [reader.number(most) for _ in range(count)]
    reader.finish()
    return found


def pack_shapes(shapes: Sequence[tuple[int, int, int]]) -> bytes:
    """Code shapes (h w c) of images as the data of a section: all modes, then all heights, then all widths."""
    columns = ([shape[i] for shape in shapes] for i in (2, 0, 1))
    return deflate(b"".join(varint(n) for column in ([len(shapes)], *columns) for n in column))


def unpack_shapes(data: bytes) -> list[tuple[int, int, int]]:
    """Decode shapes (h w c).

    Raises:
        CorruptError: the data are damaged, or a shape is impossible.
    """
    reader = SectionReader(inflate(data))
    count = reader.number(MAX_SHAPES)
    modes, heights, widths = ([reader.number(MAX_SIDE) for _ in range(count)] for _ in range(3))
    reader.finish()
    if not all(
        mode in MODES and 0 < h * w * mode <= MAX_IMAGE_SAMPLES
        for mode, h, w in zip(modes, heights, widths, strict=True)
    ):
        raise CorruptError("the shapes of the images are impossible; the file is damaged")
    return list(zip(heights, widths, modes, strict=True))


def pack_profiles(profiles: Sequence[bytes | None]) -> bytes:
    """Code the ICC profiles of images (None: it has none) as the data of a section; each is written once."""
    numbers = {profile: i for i, profile in enumerate(dict.fromkeys(p for p in profiles if p), 1)}
    listed = b"".join(varint(len(profile)) + profile for profile in numbers)
    return deflate(varint(len(numbers)) + listed + b"".join(varint(numbers[p] if p else 0) for p in profiles))


def unpack_profiles(data: bytes, count: int) -> tuple[bytes | None, ...]:
    """Decode the ICC profiles of `count` images; None where an image has none.

    Raises:
        CorruptError: the data are damaged.
    """
    reader = SectionReader(inflate(data))
    listed = [None, *(reader.raw() for _ in range(reader.number(count)))]
    if not all(profile is None or 1 <= len(profile) <= MAX_PROFILE_BYTES for profile in listed):
        raise CorruptError("an ICC profile is of an impossible size; the file is damaged")
    found = tuple(listed[reader.number(len(listed) - 1)] for _ in range(count))
    reader.finish()
    return found


def pack_text(text: str) -> bytes:
    """Code metadata as the data of a section."""
    return deflate(text.encode())


def unpack_text(data: bytes) -> str:
    """Decode metadata.

    Raises:
        CorruptError: the data are damaged, or are not UTF-8.
    """
    try:
        return inflate(data).decode()
    except UnicodeDecodeError as exc:
        raise CorruptError("the metadata cannot be read; the file is damaged") from exc


def fold(n: int) -> int:
    """Map signed numbers to unsigned ones: 0, -1, 1, -2, ... become 0, 1, 2, 3, ..."""
    return 2 * n if n >= 0 else -2 * n - 1


def unfold(n: int) -> int:
    """Map unsigned numbers back to signed ones: 0, 1, 2, 3, ... become 0, -1, 1, -2, ..."""
    return -(n + 1) // 2 if n & 1 else n // 2


def _streams(data: bytes) -> Iterator[bytes]:
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY):
        deflater = zlib.compressobj(9, wbits=-15, strategy=strategy)
        yield deflater.compress(data) + deflater.flush()


def deflate(data: bytes) -> bytes:
    """Return the data of a section as a deflate stream."""
    assert len(data) <= MAX_SECTION_BYTES, "the data of a section are too long"
    return min(_streams(data), key=len)


def _deflated_size(data: bytes) -> int:
    return min(map(len, _streams(data)))


def inflate(data: bytes) -> bytes:
    """Return what the deflate stream of a section holds.

    Raises:
        CorruptError: it is no whole stream, or gives too much.
    """
    inflater = zlib.decompressobj(-15)
    try:
        found = inflater.decompress(data, MAX_SECTION_BYTES + 1)
    except zlib.error as exc:
        raise CorruptError("a section cannot be inflated; the file is damaged") from exc
    if len(found) > MAX_SECTION_BYTES or not inflater.eof or inflater.unused_data:
        raise CorruptError("a section does not end where it should; the file is damaged")
    return found


class SectionReader:
    """A reader of the inflated data of a section, from their start on."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        if self._at >= len(self._data):
            raise CorruptError("a section ends too soon; the file is damaged")
        self._at += 1
        return self._data[self._at - 1]

    def number(self, most: int | None = None) -> int:
        value, self._at = read_varint(self._data, self._at)
        if most is not None and value > most:
            raise CorruptError(f"a section has the number {value} where {most} is the most; the file is damaged")
        return value

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise CorruptError("a section ends too soon; the file is damaged")
        self._at += size
        return self._data[self._at - size : self._at]

    def raw(self) -> bytes:
        size = self.number(len(self._data) - self._at)
        self._at += size
        return self._data[self._at - size : self._at]

    def text(self) -> str:
        try:
            return self.raw().decode()
        except UnicodeDecodeError as exc:
            raise CorruptError("a section holds text that is not UTF-8; the file is damaged") from exc

    def rest(self) -> bytes:
        start, self._at = self._at, len(self._data)
        return self._data[start:]

    def finish(self) -> None:
        if self._at != len(self._data):
            raise CorruptError("a section holds more than its images; the file is damaged")
