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
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

ORDER, NAMES, LABELS, METADATA, CARRIERS, SHAPES, PLACES, EDITS, PROFILES = *range(1, 7), 8, 9, 128
LIMIT = 1 << 24  # values of a block, bytes of a section
MEMBERS = (
    "synthesis.onnx",
    "decoder.npz",
    "features.onnx",
    "local.npz",
    "pixels.npz",
    "dequantiser.onnx",
    "mixing.npz",
    "fit.npz",
    "transform.npz",
    "changes.npz",
)
BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, LookupError, EOFError, RuntimeError, TypeError, ValueError)

Shape = tuple[int, int, int]  # height, width, mode
Kind = NamedTuple("Kind", [("model", int), ("mode", int), ("height", int), ("width", int)])
Entry = NamedTuple("Entry", [("offset", int), ("size", int), ("count", int), ("kind", int)])
Section = NamedTuple("Section", [("code", int), ("offset", int), ("size", int), ("count", int)])
Head = NamedTuple(
    "Head", [("flags", int), ("latents", tuple | None), ("errors", tuple | None), ("plain", int), ("webp", int)]
)
Part = NamedTuple("Part", [("kind", Kind), ("rows", tuple), ("head", Head), ("payload", bytes), ("images", Any)])
Block = NamedTuple("Block", [("entry", Entry), ("first", int), ("pixels", bytes), ("head", Any), ("payload", bytes),
                             ("parts", tuple[Part, ...])])  # fmt: skip
Single = NamedTuple("Single", [("model", bytes), ("shape", Shape | None), ("head", Head), ("payload", bytes),
                               ("images", Any)])  # fmt: skip

# What is known without a model. A carried block has no head; no order is that of the blocks; a carrier is (first block,
# open blocks, carried blocks); a model is (id, bundle or None). The images of a part are bytes
# where no model is needed. A mixed block has no head; others are one part.
File = make_dataclass("File", [
    ("models", tuple[tuple[bytes, bytes | None], ...], ()), ("kinds", tuple[Kind, ...], ()),
    ("blocks", tuple[Block, ...], ()), ("sections", tuple[Section, ...], ()), ("names", tuple[str, ...], ()),
    ("labels", tuple, ()), ("order", tuple, ()), ("metadata", dict | None, None), ("carriers", tuple, ()),
    ("single", Single | None, None), ("count", int, 1), ("profiles", tuple, ()),
    ("shapes", tuple, ()), ("places", tuple[int, ...], ())], frozen=True)  # fmt: skip


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
    return mode in (1, 2, 3, 4) and max(height, width) < 65536 and 0 < height * width * mode * count <= LIMIT


def _plain(cursor: _Cursor, shape: Shape) -> bytes:
    step, way = divmod(cursor.take(1)[0], 4)
    data = cursor.take(math.prod(shape)) if way == 3 else cursor.inflate(cursor.varint(), math.prod(shape))
    levels = np.frombuffer(data, np.uint8).reshape(shape)  # another number of them is a ValueError
    if way in (1, 2):
        levels = np.cumsum(levels, axis=2 - way, dtype=np.uint8)
    return np.minimum(levels.astype(np.uint16) * (step + 1), 255).astype(np.uint8).tobytes()


def _webp(cursor: _Cursor, shape: Shape) -> bytes:
    height, width, mode = shape
    rest = cursor.take(cursor.varint())
    _need(max(height, width) <= 1 << 14, "a WebP image with too long a side")
    chunk = struct.pack("<BI", 0x2F, (width - 1) + ((height - 1) << 14) + ((mode in (2, 4)) << 28)) + rest
    file = b"WEBPVP8L" + struct.pack("<I", len(chunk)) + chunk + bytes(len(chunk) % 2)
    try:
        image = Image.open(io.BytesIO(b"RIFF" + struct.pack("<I", len(file)) + file), formats=["WEBP"])
        samples = np.asarray(image.convert("RGBA" if mode in (2, 4) else "RGB"))
    except Exception as error:  # of whatever type the library likes
        raise SpecError("a WebP bitstream is broken") from error
    _need(samples.shape[:2] == (height, width), "a WebP image of another size")
    return samples[..., {1: [1], 2: [1, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[mode]].tobytes()


def _choices(stream: bytes, count: int, ways: int) -> list[int]:
    """The choices of images, where a stream holds nothing else."""
    _need(not stream.endswith(b"\0"), "a stream that ends in zero")
    words = list(np.frombuffer(stream + bytes(-len(stream) % 4), "<u4").tolist())
    state, found, each = words.pop() if words else 0, list[int](), (1 << 24) // ways
    state = (state << 32) + words.pop() if words else state
    first = (1 << 24) - each * (ways - 1)
    for _ in range(count if ways > 1 else 0):
        quantile = state % (1 << 24)
        symbol = 0 if quantile < first else 1 + (quantile - first) // each
        start, frequency = (first + (symbol - 1) * each, each) if symbol else (0, first)
        state = (state >> 24) * frequency + quantile - start
        state = (state << 32) + words.pop() if state < 1 << 32 and words else state
        found.append(symbol)
    _need(not words and not state, "a stream that is too long")
    return found or [0] * count


def _decode(payload: bytes, shape: Shape | None, count: int = 1) -> tuple[Head, list[bytes] | None]:
    """Checks a payload as far as it goes without the model; also gives the images if none needs one."""
    cursor = _Cursor(payload)
    flags = cursor.take(1)[0]
    if flags == 255:
        size = math.prod(shape) if shape else len(payload) - 1
        _need(len(payload) == 1 + size * count, "raw pixels of another number")
        return Head(flags, None, None, 0, 0), [payload[1 + size * i : 1 + size * (i + 1)] for i in range(count)]
    _need(flags < 255 and flags & 219 > 0 and flags & 6 != 4, "flags that there are not")
    latents, errors, mixed = (tuple(cursor.fields("BB")) if flags & flag else None for flag in (1, 2, 64))
    levels, most = _levels(cursor) if flags & 128 else (None, 40)
    limits = (latents, 64), (errors, 126), (mixed, 126), (levels, most)
    _need(all(not it or it[0] <= it[1] <= most for it, most in limits), "a range out of place")
    plain, webp = (cursor.fields("H")[0] if flags & flag else 0 for flag in (8, 16))
    _need(plain + webp <= count and (flags & 195 or plain + webp == count), "another number of images without model")
    head = Head(flags, latents, errors, plain, webp)
    if flags & 32:
        return head, _entries(cursor, head, shape, count)
    if not shape:
        return head, None
    ways = [[_plain(cursor, shape) for _ in range(plain)]] if flags & 8 else []
    ways += [[_webp(cursor, shape) for _ in range(webp)]] if flags & 16 else []
    for flag in (64, 128):
        if flags & flag:
            ends_in_zero = cursor.take(cursor.varint()).endswith(b"\0")
            _need(flag == 128 or not ends_in_zero, "a stream by mixing that ends in zero")
    stream = cursor.read()
    if flags & 195:
        _need(not stream.endswith(b"\0"), "a stream that ends in zero")
        return head, None
    choices = _choices(stream, count, len(ways))
    _need([choices.count(i) for i in range(len(ways))] == [len(way) for way in ways], "other counts than choices")
    return head, [ways[choice].pop(0) for choice in choices]


def _levels(cursor: _Cursor) -> tuple[tuple[int, ...], int]:
    """The range of levels by transform, and the highest that it may hold: more behind a byte of reductions."""
    first = cursor.take(1)[0]
    if first < 128:
        return (first, *cursor.fields("B")), 40
    _need(first > 128 and first % 8 + (first - 128) // 8 < 5, "reductions that there are not")
    return tuple(cursor.fields("BB")), 57


def _bits(cursor: _Cursor, count: int, width: int) -> list[int]:
    size = -(-count * width // 8)
    packed = int.from_bytes(cursor.take(size), "little")
    _need(packed >> count * width == 0, "bits that must be 0")
    return [packed >> width * i & (1 << width) - 1 for i in range(count)]


def _entries(cursor: _Cursor, head: Head, shape: Shape | None, count: int) -> list[bytes] | None:
    """Checks the entries of images, and gives the images if none needs a model."""
    c = cursor.take(1)[0]
    _need(16 <= c <= 32, "checks of another size")
    offered = (
        [0] * (head.flags & 3 > 0)
        + [1] * (head.flags & 8 > 0)
        + [2] * (head.flags & 16 > 0)
        + [3] * (head.flags & 192 > 0)
    )
    kinds = _bits(cursor, count, 2) if len(offered) > 1 else offered * count
    _need(set(kinds) <= set(offered), "images of a kind that the head does not offer")
    _need((kinds.count(1), kinds.count(2)) == (head.plain, head.webp), "other counts than kinds")
    sizes = [0]
    if count > 1:
        width, least = cursor.take(1)[0], cursor.varint()
        _need(width <= 25, "lengths of too many bits")
        sizes = [least + more for more in _bits(cursor, count, width)]
    rest, images = len(cursor.getvalue()) - cursor.tell(), list[bytes | None]()
    _need(count == 1 or sum(sizes) == rest, "lengths that do not fill the payload")
    for kind, size in zip(kinds, sizes if count > 1 else [rest], strict=True):
        data = cursor.take(size)
        if kind in (0, 3) or not shape:
            _need(kind > 0 or not data.endswith(b"\0"), "a stream that ends in zero")
            images.append(None)
            continue
        record = _Cursor(data)
        images.append((_plain if kind == 1 else _webp)(record, shape))
        check = int.from_bytes(_hash(images[-1] or b"")[:4], "little") % (1 << c)
        _need(record.read() == check.to_bytes(-(-c // 8), "little"), "an image of another check")
    whole = [image for image in images if image is not None]
    return whole if len(whole) == count else None


def _parts(payload: bytes, count: int) -> list[Part]:
    cursor = _Cursor(payload)
    size = cursor.varint()
    table = _Cursor(cursor.inflate(size, 1 << 18))
    n = table.varint()
    _need(1 <= n <= count, "another number of parts")
    models, modes, heights, widths, sizes = ([table.varint() for _ in range(n)] for _ in range(5))
    rows = list[list[int]]()
    for image in range(count):
        age = table.varint()
        _need(age <= len(rows), "a part before the first")
        if not age:
            rows.append([])
        rows[-age if age else -1].append(image)
    kinds = list(map(Kind, models, modes, heights, widths))
    _need(len(rows) == n == len(set(kinds)) and not table.read(), "other parts than the table counts, or two alike")
    _need(all(model < 256 and _fits(*shape, mode) for model, mode, *shape in kinds), "a part that cannot be")
    volume = sum(it.mode * it.height * it.width * len(mine) for it, mine in zip(kinds, rows, strict=True))
    _need(volume <= LIMIT, "parts of too many samples")
    parts = []
    for kind, mine, size in zip(kinds, rows, sizes, strict=True):
        coded = cursor.take(size)
        parts.append(Part(kind, tuple(mine), *_through(coded, kind, len(mine))))
    _need(not cursor.read(), "bytes behind the parts")
    return parts


def _through(payload: bytes, kind: Kind, count: int) -> tuple[Head, bytes, Any]:
    head, images = _decode(payload, (kind.height, kind.width, kind.mode), count)
    return head, payload, images


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
    count, mixed = block.entry.count, not kind.mode
    parts = _parts(payload, count) if mixed else [Part(kind, tuple(range(count)), *_through(payload, kind, count))]
    if all(part.images is not None for part in parts):
        hashes = [_hash(*part.images) for part in parts]
        _need((_hash(*hashes) if mixed else hashes[0]) == pixels, "a block of other pixels")
    return block._replace(pixels=pixels, head=None if mixed else parts[0].head, payload=payload, parts=tuple(parts))


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


def _places(cursor: _Cursor, count: int) -> list[int]:
    said = list[int]()
    new, last = cursor.varint(), -1
    ways = list(cursor.take(count))
    _need(max(ways, default=0) <= 5, "a place of no known code")
    numbers = [0 for way in ways if way > 1]
    for byte in range(4):
        having = [i for i, way in enumerate(way for way in ways if way > 1) if way - 1 > byte]
        for i, value in zip(having, cursor.take(len(having)), strict=True):
            numbers[i] += value << 8 * byte
    for way in ways:
        last = new if way == 0 else last + 1 if way == 1 else numbers.pop(0)
        new += way == 0
        said.append(last)
    return said


def _edits(cursor: _Cursor, count: int) -> list[tuple[int, int]]:
    n, image = cursor.varint(), 0
    _need(count == 0 and n <= 1 << 20, "edits speak of images, or are too many")
    images = [image := image + cursor.folded() for _ in range(n)]
    return [(image, cursor.varint() - 1) for image in images]


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
        _need(count == 0 and n <= 1 << 20, "shapes speak of images, or are too many")
        modes, heights, widths = ([cursor.varint() for _ in range(n)] for _ in range(3))
        said = list(zip(heights, widths, modes, strict=True))
        _need(all(_fits(*shape) for shape in said), "a shape that cannot be")
    elif code == PROFILES:
        n = cursor.varint()
        _need(n <= count, "more profiles than images")
        listed = [None, *(cursor.take(cursor.varint()) for _ in range(n))]
        _need(all(it is None or 0 < len(it) <= 1 << 20 for it in listed), "a profile that cannot be")
        said = [listed[cursor.varint()] for _ in range(count)]
    elif code in (PLACES, EDITS):
        said = _places(cursor, count) if code == PLACES else _edits(cursor, count)
    _need(cursor.tell() == len(data), "a section says more than it should, or is of no known code")
    return said


def _check_carriers(carriers: list[tuple[int, int, int]], blocks: list[Block], kinds: list[Kind]) -> None:
    seen = list[int]()
    for first, opened, hidden in carriers:
        group = [block.entry for block in blocks[first : first + opened + hidden]]
        _need(opened > 0 < hidden and len(group) == opened + hidden, "a set of blocks that there are not")
        _need(len({entry.kind for entry in group}) == 1 and kinds[group[0].kind].mode > 0, "no set")
        _need(all(entry.offset for entry in group[:opened]), "a set of carried open blocks")
        _need(len(seen) < len(blocks), "blocks that several sets carry")
        images = sum(entry.count for entry in group[:opened])
        _need(images <= 65536 and sum(entry.size for entry in group[opened:]) <= 2 * images, "a set that says too much")
        seen.extend(range(first + opened, first + opened + hidden))
    _need(sorted(seen) == [i for i, block in enumerate(blocks) if not block.entry.offset], "other blocks are carried")


def _tables(data: bytes, start: int, cursor: _Cursor, records: bytes) -> list[Any]:
    """The count of an index, and the entries of models, kinds, blocks and sections of it and of earlier ones."""
    parts, taken = list[Any](), [(start, len(data))]
    count, others, own = _own_tables(cursor)
    for offset, size, check in others:
        body = data[offset : offset + size]
        _need(21 <= offset <= offset + size <= start and size >= 22, "an index outside of the file")
        _need(check == _hash(body), "an earlier index is damaged")
        taken.append((offset, offset + size))
        parts.append(_own_tables(_Cursor(body))[2])
    ids, kinds, entries, sections = (list(chain.from_iterable(tables)) for tables in zip(*parts, own, strict=True))
    taken += [(it.offset, it.offset + it.size) for it in [*entries, *sections] if it.offset or isinstance(it, Section)]
    taken += [(at, at + 17) for _, at in ids if at]
    taken.sort()
    _need(all(one[1] <= two[0] for one, two in pairwise(taken)), "bytes that are named twice")
    return [count, ids, kinds, entries, sections]


def _own_tables(cursor: _Cursor) -> tuple[int, list[list[Any]], list[list[Any]]]:
    mark, count = cursor.fields("4sQ")
    _need(mark in (b"\xb1SIX", b"\xb1SI2"), "no index")
    earlier = cursor.fields("H")[0] if mark == b"\xb1SI2" else 0
    blocks, models, kinds, sections = cursor.fields("IHHI" if mark == b"\xb1SI2" else "IHHH")
    _need(earlier <= 64, "too many earlier indexes")
    others = [cursor.fields("QI8s") for _ in range(earlier)]
    tables: list[list[Any]] = [[cursor.fields("8sQ") for _ in range(models)]]
    tables.append([Kind(*cursor.fields("BBHH")) for _ in range(kinds)])
    tables.append([Entry(*cursor.fields("QIHH")) for _ in range(blocks)])
    tables.append([Section(*cursor.fields("BQII")) for _ in range(sections)])
    _need(not cursor.read(), "an index of another size")
    return count, others, tables


def _shown(listed: int, edits: list[tuple[int, int]]) -> list[int]:
    """The listed images that are shown, in order."""
    instead = dict[int, int]()
    others = {other for _, other in edits if other >= 0}
    for image, other in edits:
        _need(0 <= image < listed and other < listed and image not in others, "an edit of an image that it cannot be")
        instead[image] = other
    there = [instead.get(image, image) for image in range(listed) if image not in others]
    return [image for image in there if image >= 0]


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
    count, *tables = _tables(data, start, cursor, records)
    ids, kinds, entries, sections = tables
    _need(1 <= len(ids) <= 256, "no model, or too many")
    _need(ids[0][0] == model and len({told for told, _ in ids}) == len(ids), "another model, or one twice")
    _need(len(set(kinds)) == len(kinds) and (entries or not kinds), "two kinds that are alike, or of no block")
    _need(all(it.count <= 65536 and 25 <= it.size <= 25 + 2 * LIMIT for it in sections), "a section that is too large")
    fit = (it == (0, 0, 0, 0) or (it.model < len(ids) and _fits(it.height, it.width, it.mode)) for it in kinds)
    _need(all(fit), "a kind that cannot be")
    models = [(told, _bundle(records, at, i, told) if at else None) for i, (told, at) in enumerate(ids)]
    firsts, blocks = Counter[int](), list[Block]()
    for entry in entries:
        kind, block = kinds[entry.kind], Block(entry, firsts[entry.kind], b"", None, b"", ())
        fits = not kind.mode or _fits(kind.height, kind.width, kind.mode, entry.count)
        _need(fits and 1 <= entry.count <= 4096 and 38 <= entry.size <= 38 + 2 * LIMIT, "a block that cannot be")
        blocks.append(_block(records, block, kind) if entry.offset else block)
        firsts[entry.kind] += entry.count
    said, spoken = {code: list[Any]() for code in (*range(1, 10), PROFILES)}, Counter[int]()
    for section in (section for section in sections if section.code <= PROFILES):
        said[section.code] += _section(records, section, spoken[section.code])
        spoken[section.code] += section.count
    stored = firsts.total()
    listed = spoken[PLACES] or stored
    _need(all(spoken[code] == total for code, total in ((ORDER, stored), (NAMES, listed), (LABELS, listed))
              if code in spoken), "other counts")  # fmt: skip
    places = said[PLACES] or list(range(stored))
    _need(all(place < stored for place in places), "an image is where none is stored")
    _need(data[start : start + 4] == b"\xb1SI2" or not {PLACES, EDITS} & set(spoken), "edits in an old index")
    shown = _shown(listed, said[EDITS])
    _need(count == len(shown), "another number of images is shown")
    _need((ORDER in spoken) == (len(kinds) > 1) and Counter(said[ORDER]) in (firsts, Counter()), "another order")
    _need(len({kind for kind, _ in said[LABELS]}) < 2, "labels of several kinds")
    named = {part.kind.model for block in blocks for part in block.parts}
    _need(spoken[PROFILES] <= listed and all(model < len(ids) for model in named), "profiles or parts that lie")
    _check_carriers(said[CARRIERS], blocks, kinds)
    labels, metadata = [label for _, label in said[LABELS]], (said[METADATA] or [None])[-1]
    said[PROFILES] += [None] * (listed - len(said[PROFILES])) if PROFILES in spoken else []
    names, labels, profiles = ([it[i] for i in shown] if it else [] for it in (said[NAMES], labels, said[PROFILES]))
    parts = map(tuple, (models, kinds, blocks, sections, names, labels, said[ORDER]))
    places = tuple(places[i] for i in shown)
    rest = None, count, tuple(profiles), tuple(said[SHAPES]), places
    return File(*parts, metadata, tuple(said[CARRIERS]), *rest)


def single_check(data: bytes, pixels: bytes) -> bool:
    """Whether the check of a single file is that of these decoded pixels."""
    return data[5:9] == _hash(data[:5], data[9:], _hash(pixels))[:4]


def _single(data: bytes) -> File:
    _need(len(data) <= 2 * LIMIT + (1 << 21) + 8192, "too large a file of one image")
    cursor, shape, profiles = _Cursor(data), None, ()
    form, _, model = cursor.fields("5s4s3s")
    flags = form[4] >> 5
    if form[4] & 15 == 1 and flags & 3:
        shape = (*cursor.fields("HH"), (1, 3, 4)[(flags & 3) - 1])
    elif form[4] & 15 == 2:
        if flags & 1:
            mode = cursor.take(1)[0]
            shape = (cursor.varint(), cursor.varint(), mode)
        if flags & 2:
            profiles = (cursor.inflate(cursor.varint(), 1 << 20),)
            _need(len(profiles[0]) > 0, "a profile without a byte")
    _need(shape is None or _fits(*shape), "sides that cannot be")
    names = (cursor.text(),) if flags & 4 else ()
    payload = cursor.read()
    head, images = _decode(payload, shape)
    _need(images is None or single_check(data, images[0]), "a file of other pixels, or damaged")
    return File(names=names, single=Single(model, shape, head, payload, images), profiles=profiles)


def read(data: bytes) -> File:
    """Reads a file from its bytes."""
    _need(data[:4] == b"\x89SML" and len(data) > 4 and data[4] & 15 in (1, 2), "not a smalti file of these versions")
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
