# SPDX-License-Identifier: MIT
"""An independent reader of smalti files, versions 1 and 2, written from docs/format.md alone. It runs no model."""

import hashlib
import io
import json
import math
import struct
import zipfile
import zlib
from bisect import bisect_left
from collections import Counter
from dataclasses import make_dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

ORDER, NAMES, LABELS, METADATA, CARRIERS, SHAPES = range(1, 7)
PROFILES = 128
LIMIT = 1 << 24  # values of a block, bytes of a section
MEMBERS = ("synthesis.onnx", "decoder.npz", "features.onnx", "local.npz", "pixels.npz", "dequantiser.onnx")
BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, LookupError, EOFError, RuntimeError, TypeError, ValueError)

Shape = tuple[int, int, int]  # height, width, mode
Kind = NamedTuple("Kind", [("model", int), ("mode", int), ("height", int), ("width", int)])
Entry = NamedTuple("Entry", [("offset", int), ("size", int), ("count", int), ("kind", int)])
Section = NamedTuple("Section", [("code", int), ("offset", int), ("size", int), ("count", int)])
Head = NamedTuple(
    "Head", [("flags", int), ("latents", tuple | None), ("errors", tuple | None), ("plain", int), ("webp", int)]
)
Part = NamedTuple("Part", [("kind", Kind), ("rows", tuple[int, ...]), ("head", Head)])
Block = NamedTuple("Block", [("entry", Entry), ("first", int), ("pixels", bytes), ("head", Any), ("payload", bytes)])
Single = NamedTuple("Single", [("model", bytes), ("shape", Shape | None), ("head", Head), ("payload", bytes)])

# What is known without a model. A carried block has no head, a mixed one has its parts for it; no order is that of the
# blocks; a carrier is (first block, open blocks, carried blocks); a model is (id, bundle or None).
File = make_dataclass("File", [
    ("models", tuple[tuple[bytes, bytes | None], ...], ()), ("kinds", tuple[Kind, ...], ()),
    ("blocks", tuple[Block, ...], ()), ("sections", tuple[Section, ...], ()), ("names", tuple[str, ...], ()),
    ("labels", tuple, ()), ("profiles", tuple, ()), ("shapes", frozenset, frozenset()),
    ("order", tuple, ()), ("metadata", dict | None, None), ("carriers", tuple, ()),
    ("single", Single | None, None), ("count", int, 1)], frozen=True)  # fmt: skip


class SpecError(Exception):
    """What the specification lets a reader refuse."""


def _need(good: bool, what: str) -> None:
    if not good:
        raise SpecError(what)


def _hash(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=8).digest()


class _Cursor(io.BytesIO):
    """Reads bytes one after another, and never beyond the last."""

    def take(self, size: int) -> bytes:
        data = self.read(size)
        _need(len(data) == size, "data end too early")
        return data

    def fields(self, layout: str) -> list[Any]:
        return list(struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout))))

    def varint(self) -> int:
        data = [self.take(1)[0]]
        while data[-1] > 127:
            data += self.take(1)
            _need(len(data) <= 9, "a varint of more than nine bytes")
        return sum((byte & 127) << 7 * place for place, byte in enumerate(data))

    def folded(self) -> int:
        value = self.varint()
        return -((value + 1) >> 1) if value & 1 else value >> 1

    def text(self) -> str:
        return self.take(self.varint()).decode()

    def inflate(self, size: int, most: int) -> bytes:
        stream = zlib.decompressobj(-15)
        out = stream.decompress(self.take(size), most + 1)
        _need(len(out) <= most and stream.eof and not stream.unused_data, "deflate that is too long, or ends elsewhere")
        return out


def _fits(height: int, width: int, mode: int, count: int = 1) -> bool:
    return mode in (1, 2, 3, 4) and 0 < height * width * mode * count <= LIMIT


def _plain(cursor: _Cursor, shape: Shape) -> bytes:
    step, way = divmod(cursor.take(1)[0], 4)
    data = cursor.take(math.prod(shape)) if way == 3 else cursor.inflate(cursor.varint(), math.prod(shape))
    levels = np.frombuffer(data, np.uint8).reshape(shape)  # another number of them is a ValueError
    if way in (1, 2):
        levels = np.cumsum(levels, axis=2 - way, dtype=np.uint8)
    return np.minimum(levels.astype(np.uint16) * (step + 1), 255).astype(np.uint8).tobytes()


def _webp(cursor: _Cursor, shape: Shape) -> bytes:
    height, width, mode = shape
    alpha = mode in (2, 4)
    bits = b"\x2f" + struct.pack("<I", width - 1 + (height - 1 << 14) + (alpha << 28)) + cursor.take(cursor.varint())
    chunk = b"VP8L" + struct.pack("<I", len(bits)) + bits + bytes(len(bits) % 2)
    try:
        image = Image.open(io.BytesIO(b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk), formats=["WEBP"])
        pixels = np.asarray(image.convert("RGBA" if alpha else "RGB"))
    except Exception as error:
        raise SpecError("a bitstream that cannot be decoded") from error
    return pixels[..., {1: [1], 2: [1, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[mode]].tobytes()


def _decode(payload: bytes, shape: Shape | None, count: int = 1) -> tuple[Head, bytes | None]:
    """Checks a payload as far as it goes without the model; also gives the pixels if all images are kept in one way."""
    cursor = _Cursor(payload)
    flags = cursor.take(1)[0]
    if flags == 255:
        _need(shape is None or len(payload) == 1 + math.prod(shape) * count, "raw pixels of another number")
        return Head(flags, None, None, 0, 0), payload[1:]
    _need(flags < 32 and flags & 27 > 0 and flags & 6 != 4, "flags that there are not")
    latents, errors = (tuple(cursor.fields("BB")) if flags & flag else None for flag in (1, 2))
    _need(all(not it or it[0] <= it[1] <= most for it, most in ((latents, 64), (errors, 126))), "a range out of place")
    plain, webp = (cursor.fields("H")[0] if flags & flag else 0 for flag in (8, 16))
    _need(plain + webp <= count, "more images without model than there are")
    _need(flags not in (8, 16, 24) or plain + webp == count, "another number of images without model")
    images = [_plain(cursor, shape) for _ in range(plain)] if shape else []
    images += [_webp(cursor, shape) for _ in range(webp)] if shape else []
    stream = cursor.read() if shape else b""
    _need(not stream or (flags not in (8, 16) and stream[-1] != 0), "a stream that is not empty, or ends in zero")
    return Head(flags, latents, errors, plain, webp), b"".join(images) if flags in (8, 16) and shape else None


def _mixed(payload: bytes, count: int) -> tuple[tuple[Part, ...], bytes | None]:
    """The parts of a mixed payload, and the hash of their hashes if all are decoded."""
    cursor = _Cursor(payload)
    table, numbers = _Cursor(cursor.inflate(cursor.varint(), 1 << 18)), list[int]()
    while table.tell() < len(table.getvalue()):
        numbers.append(table.varint())
    n = numbers[0]
    _need(0 < n <= count and len(numbers) == 1 + 5 * n + count, "a table of another length")
    models, modes, heights, widths, sizes = (numbers[1 + i * n : 1 + (i + 1) * n] for i in range(5))
    begun = list[list[int]]()
    for row, age in enumerate(numbers[1 + 5 * n :]):
        _need(age <= len(begun), "a part that has not begun")
        if age:
            begun[len(begun) - age].append(row)
        else:
            begun.append([row])
    _need(len(begun) == n, "another number of parts")
    kinds = [Kind(*told) for told in zip(models, modes, heights, widths, strict=True)]
    samples = sum(k.height * k.width * k.mode * len(rows) for k, rows in zip(kinds, begun, strict=True))
    _need(len(set(kinds)) == n and samples <= LIMIT, "two parts that are alike, or too large ones")
    _need(all(max(k.height, k.width) < 65536 and _fits(k.height, k.width, k.mode) for k in kinds), "a part too large")
    parts, hashes = list[Part](), list[bytes | None]()
    for kind, size, rows in zip(kinds, sizes, begun, strict=True):
        head, decoded = _decode(cursor.take(size), (kind.height, kind.width, kind.mode), len(rows))
        parts.append(Part(kind, tuple(rows), head))
        hashes.append(None if decoded is None else _hash(decoded))
    _need(not cursor.read(), "bytes behind the parts")
    return tuple(parts), None if None in hashes else _hash(*hashes)


def _record(records: bytes, offset: int, size: int, mark: bytes, layout: str, place: int) -> tuple[list[Any], bytes]:
    """What stands in a record between mark and check, but the size (at a place there), and what follows."""
    _need(21 <= offset <= offset + size <= len(records), "a place outside of the records")
    record, start = records[offset : offset + size], struct.calcsize("<" + layout) + 12
    told, *fields, check = _Cursor(record).fields("4s" + layout + "8s")
    _need(told == mark and fields.pop(place) == size - start, "a record without mark, or of another size")
    _need(check == _hash(record[: start - 8], record[start:]), "a record is damaged")
    return fields, record[start:]


def _block(records: bytes, block: Block, kind: Kind) -> Block:
    (*told, pixels), payload = _record(records, *block.entry[:2], b"\xb1SBK", "IHIHBBHH8s", 0)
    _need(told == [block.entry.count, block.first, block.entry.kind, *kind], "another block than the index says")
    if kind.mode:
        head, decoded = _decode(payload, (kind.height, kind.width, kind.mode), block.entry.count)
        found = None if decoded is None else _hash(decoded)
    else:
        head, found = _mixed(payload, block.entry.count)
    _need(found in (None, pixels), "a block of other pixels")
    return block._replace(pixels=pixels, head=head, payload=payload)


def _bundle(records: bytes, offset: int, number: int, model: bytes) -> bytes:
    size = int.from_bytes(records[offset + 5 : offset + 9], "little")
    (told,), bundle = _record(records, offset, 17 + size, b"\xb1SMO", "BI", 1)
    _need(told == number and size <= 1 << 26, "another model, or too large a one")
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        _need(all(i.file_size <= 1 << 26 and i.compress_type in (0, 8) for i in archive.infolist()), "a bad member")
        decoder = json.dumps(json.loads(archive.read("manifest.json"))["decoder"], sort_keys=True)
        parts = [decoder.encode(), *(archive.read(name) for name in MEMBERS if name in archive.namelist())]
    digests = b"".join(hashlib.sha256(part).digest() for part in parts)
    _need(hashlib.sha256(digests).digest()[:8] == model, "another model")
    return bundle


def _templates(cursor: _Cursor, count: int) -> list[bytes]:
    templates = []
    for _ in range(cursor.varint()):
        places = cursor.varint()
        _need(places <= 4096 and len(templates) < count, "more templates than names, or too many numbers in one")
        texts = [cursor.text().encode() for _ in range(places + 1)]
        templates.append((texts, [cursor.varint() for _ in range(places)], dict[int, int]()))
    names = []
    for image in range(count):
        choice = cursor.varint()
        _need(choice < len(templates), "a template that there is not")
        names.append(templates[choice][0][0])
        templates[choice][2][image] = 0  # stands for the numbers to the left
    _need(sum(len(widths) * len(images) for _, widths, images in templates) <= 1 << 20, "too many numbers")
    for texts, widths, images in templates:
        for text, width in zip(texts[1:], widths, strict=True):
            how, before, last, lefts = cursor.take(1)[0], 0, dict[int, int](), dict[tuple[int, int], int]()
            for image, left in images.items():
                base = (0, before, last.get(left, 0))[how]
                number = base + (cursor.folded() if how else cursor.varint())
                _need(0 <= number < 10**18 and width <= 4096, "a number out of its range, or a name of too many bytes")
                before = last[left] = number
                images[image] = lefts.setdefault((left, number), len(lefts))
                names[image] += (b"%d" % number).zfill(width) + text
                _need(len(names[image]) <= 4096, "a name of too many bytes")
    return names


def _section(records: bytes, section: Section, first: int) -> list[Any]:
    """What a section says, of each image if it does; a label has its kind before it."""
    (code, *told), data = _record(records, section.offset, section.size, b"\xb1SSE", "BIII", 3)
    count = section.count
    _need(section.size <= 25 + 2 * LIMIT, "a section that is too large")
    _need([code, *told] == [section.code, first, count] and count <= 65536, "not the section of the index")
    data = _Cursor(data).inflate(len(data), LIMIT)
    cursor, said = _Cursor(data), list[Any]()
    if code == ORDER:
        said = [cursor.varint() for _ in range(count)]
    elif code == NAMES:
        told = _templates(cursor, count) if cursor.take(1) == b"\1" else cursor.read().split(b"\0", count + 1)
        said = [name.decode() for name in told if name or count]
        _need(data[0] < 2 and len(said) == count, "another number of names")
    elif code == LABELS:
        kind = cursor.take(1)[0]
        tell = (cursor.folded, cursor.text, lambda: tuple(cursor.folded() for _ in range(cursor.varint())))[kind]
        said = [(kind, tell()) for _ in range(count)]
    elif code == METADATA:
        said = [json.loads(cursor.read().decode(), parse_constant=int)]  # int refuses NaN
        json.dumps(said, ensure_ascii=False, allow_nan=False).encode()  # refuses what is infinite, and surrogates
        _need(isinstance(said[0], dict) and count == 0, "metadata are no object, or speak of images")
    elif code == CARRIERS:
        said = [(cursor.varint(), cursor.varint(), cursor.varint())]
        _need(count == 0, "carriers speak of images")
    elif code == SHAPES:
        n = cursor.varint()
        _need(n <= 1 << 20 and count == 0, "too many shapes, or shapes that speak of images")
        modes, heights, widths = ([cursor.varint() for _ in range(n)] for _ in range(3))
        said = list(zip(heights, widths, modes, strict=True))
        _need(all(0 < h < 65536 and 0 < w < 65536 and m in (1, 2, 3, 4) for h, w, m in said), "a shape that cannot be")
    elif code == PROFILES:
        n = cursor.varint()
        _need(n <= count, "more profiles than images")
        listed = [None, *(cursor.take(cursor.varint()) for _ in range(n))]
        said = [listed[cursor.varint()] for _ in range(count)]
    _need(cursor.tell() == len(data), "a section says more than it should, or is of no known code")
    return said


def _check_carriers(carriers: list[tuple[int, int, int]], blocks: list[Block]) -> None:
    seen = list[int]()
    for first, opened, hidden in carriers:
        group = [block.entry for block in blocks[first : first + opened + hidden]]
        _need(opened > 0 < hidden and len(group) == opened + hidden, "a set of blocks that there are not")
        _need(len({entry.kind for entry in group}) == 1 and all(entry.offset for entry in group[:opened]), "no set")
        _need(len(seen) < len(blocks), "blocks that several sets carry")
        images = sum(entry.count for entry in group[:opened])
        _need(images <= 65536 and sum(entry.size for entry in group[opened:]) <= 2 * images, "a set that says too much")
        seen.extend(range(first + opened, first + opened + hidden))
    _need(sorted(seen) == [i for i, block in enumerate(blocks) if not block.entry.offset], "other blocks are carried")


def _archive(data: bytes) -> File:
    _, form, end, check, model = _Cursor(data).fields("4sB6s2s8s")
    size = int.from_bytes(end, "little") or len(data)
    _need(
        form in (1, 2) and check == _hash(end)[:2] and size <= len(data), "of an unknown version, damaged or truncated"
    )
    length, check, magic = _Cursor(data[max(size - 16, 0) : size]).fields("I8s4s")
    start = size - 16 - length
    _need(magic == b"LMS\x89" and length >= 22 and start >= 21, "the end of the file is missing")
    records, cursor = data[:start], _Cursor(data[start : size - 16])
    _need(check == _hash(cursor.getvalue()), "the index is damaged")
    mark, count, *numbers = cursor.fields("4sQIHHH")
    ids = [cursor.fields("8sQ") for _ in range(numbers[1])]
    kinds = [Kind(*cursor.fields("BBHH")) for _ in range(numbers[2])]
    entries = [Entry(*cursor.fields("QIHH")) for _ in range(numbers[0])]
    sections = [Section(*cursor.fields("BQII")) for _ in range(numbers[3])]
    _need(mark == b"\xb1SIX" and not cursor.read() and len(ids) <= 256, "an index of another size")
    _need(ids[0][0] == model and len({told for told, _ in ids}) == len(ids), "another model, or one twice")
    _need(len(set(kinds)) == len(kinds) and (entries or not kinds), "two kinds that are alike, or of no block")
    _need(all(it.count <= 65536 and 25 <= it.size <= 25 + 2 * LIMIT for it in sections), "a section that is too large")
    real = [kind for kind in kinds if kind != (0, 0, 0, 0)]
    _need(all(it.model < len(ids) and _fits(it.height, it.width, it.mode) for it in real), "a kind that cannot be")
    models = [(told, _bundle(records, at, i, told) if at else None) for i, (told, at) in enumerate(ids)]
    firsts, blocks = Counter[int](), list[Block]()
    for entry in entries:
        kind, block = kinds[entry.kind], Block(entry, firsts[entry.kind], b"", None, b"")
        fits = kind not in real or _fits(kind.height, kind.width, kind.mode, entry.count)
        fits = fits and 1 <= entry.count <= 4096
        _need(fits and 38 <= entry.size <= 38 + 2 * LIMIT, "a block that cannot be")
        blocks.append(_block(records, block, kind) if entry.offset else block)
        firsts[entry.kind] += entry.count
    parts = [
        part
        for block in blocks
        if block.entry.kind < len(kinds) and not kinds[block.entry.kind].mode
        for part in block.head or ()
    ]
    _need(all(part.kind.model < len(ids) for part in parts), "a part of a model that there is not")
    said, spoken = {code: list[Any]() for code in (*range(1, 7), PROFILES)}, Counter[int]()
    for section in (section for section in sections if section.code <= 128):
        said[section.code] += _section(records, section, spoken[section.code])
        spoken[section.code] += section.count
    _need(count == firsts.total() and all(spoken[code] == count for code in spoken if code < METADATA), "other counts")
    _need(spoken[PROFILES] <= count, "profiles of more images than there are")
    shapes = frozenset(said[SHAPES])
    _need(all((k.height, k.width, k.mode) in shapes for k, _, _ in parts), "a shape that is not listed")
    _need((ORDER in spoken) == (len(kinds) > 1) and Counter(said[ORDER]) in (firsts, Counter()), "another order")
    _need(len({kind for kind, _ in said[LABELS]}) < 2, "labels of several kinds")
    _check_carriers(said[CARRIERS], blocks)
    labels, metadata = [label for _, label in said[LABELS]], (said[METADATA] or [None])[-1]
    profiles = said[PROFILES] + [None] * (count - len(said[PROFILES])) if said[PROFILES] else []
    columns = map(tuple, (models, kinds, blocks, sections, said[NAMES], labels, profiles))
    return File(*columns, shapes, tuple(said[ORDER]), metadata, tuple(said[CARRIERS]), None, count)


def single_check(data: bytes, pixels: bytes) -> bool:
    """Whether the check of a single file is that of these decoded pixels."""
    return data[5:9] == _hash(data[:5], data[9:], _hash(pixels))[:4]


def _single(data: bytes) -> File:
    _need(len(data) <= 2 * LIMIT + (1 << 21) + 8192, "too large a file of one image")
    cursor = _Cursor(data)
    form, _, model = cursor.fields("5s4s3s")
    code, profiles = form[4] >> 5 & 3, ()
    if form[4] & 15 == 2:
        shape = None
        if code & 1:
            mode, height, width = cursor.take(1)[0], cursor.varint(), cursor.varint()
            shape = height, width, mode
        if code & 2:
            profiles = (cursor.inflate(cursor.varint(), 1 << 20),)
            _need(profiles[0] != b"", "a profile of no bytes")
    else:
        shape = (*cursor.fields("HH"), (1, 3, 4)[code - 1]) if code else None
    _need(shape is None or (max(shape) < 65536 and _fits(*shape)), "sides that cannot be")
    names = (cursor.text(),) if form[4] >> 7 else ()
    payload = cursor.read()
    head, pixels = _decode(payload, shape)
    _need(pixels is None or single_check(data, pixels), "a file of other pixels, or damaged")
    return File(names=names, profiles=profiles, single=Single(model, shape, head, payload))


def read(data: bytes) -> File:
    """Reads a file from its bytes."""
    _need(data[:4] == b"\x89SML" and len(data) > 4 and data[4] & 15 in (1, 2), "not a smalti file of version 1 or 2")
    try:
        file = _single(data) if data[4] & 16 else _archive(data)
    except BROKEN as error:
        raise SpecError("text, JSON, zip, deflate or a code are broken") from error
    fits = all(0 < len(name.encode()) <= 4096 and "\0" not in name for name in file.names)
    _need(fits and len(set(file.names)) == len(file.names), "a name that cannot be, or of two images")
    return file


def carried(open_pixels: list[bytes], sizes: list[int]) -> list[bytes]:
    """The records of the carried blocks, of these sizes, from the decoded pixels of the open images, in order."""
    number, there = 0, list[bytes]()
    for value in reversed(open_pixels):
        place = bisect_left(there, value)
        if there[place : place + 1] != [value]:
            there.insert(place, value)
        number = place + len(there) * number
    _need(number.bit_length() <= 8 * sum(sizes), "the order says more than the carried blocks")
    cursor = _Cursor(number.to_bytes(sum(sizes), "little"))
    return [cursor.take(size) for size in sizes]
