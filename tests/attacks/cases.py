# SPDX-License-Identifier: MIT
"""Files that lie, one function each; `tests/attacks/README.md` lists them."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import smalti
from attacks import build
from attacks.build import Torn, archive_of, block_of, bundle_of, deflate, onnx_bytes, onnx_node
from attacks.targets import read_all
from smalti import format as fmt
from smalti.bundle import parse_bundle
from smalti.columns import pack_numbers
from smalti.exchange.sources import open_source
from smalti.single import pack_single

GRAY = fmt.Kind(0, 1, 5, 4)
RAW = b"\xff"


@dataclass(frozen=True)
class Attack:
    """How a file is made, what is done with it, and what smalti must answer."""

    name: str
    idea: str
    make: Callable[[Path], Path]
    work: Callable[[Path], object]
    error: str  # name of the error; "": it is read as it should be
    words: str  # in its message


ATTACKS: list[Attack] = []


def unpack(path: Path) -> object:
    """To a folder that may be there."""
    target = path.parent / "out"
    done = smalti.unpack(path, target, force=True)
    climbed = [p for p in path.parent.parent.rglob("*climbed*") if target not in p.parents]
    assert not climbed, climbed
    return done


def unpack_tar(path: Path) -> object:
    return smalti.unpack(path, path.parent / "out.tar")


def repair(path: Path) -> object:
    done = smalti.repair(path, path.parent / "saved.smalti")
    assert smalti.verify(path.parent / "saved.smalti") == []
    return done


def bundle(path: Path) -> object:
    return parse_bundle(path.read_bytes(), trusted=False)


def source(path: Path) -> object:
    return sum(len(part) for part in open_source(path).parts)


def attack(work: Callable[[Path], object], error: str, words: str = "", name: str = "x.smalti"):
    """Register what a function makes: bytes (to be a file of that name), or the path of what it has made itself."""

    def register(make):
        def made(folder: Path) -> Path:
            found = make(folder) if make.__code__.co_argcount else make()
            if isinstance(found, Path):
                return found
            (folder / name).write_bytes(found)
            return folder / name

        ATTACKS.append(Attack(make.__name__, (make.__doc__ or "").rstrip("."), made, work, error, words))
        return make

    return register


def raw(images: int = 1) -> Torn:
    """An honest archive of raw 5x4 images."""
    pixels = np.arange(images * 20, dtype=np.uint8)
    torn = archive_of(GRAY, images, RAW + pixels.tobytes())
    head = torn.blocks[0]["head"]
    torn.blocks[0]["head"] = head._replace(pixels=fmt.hash64(pixels.tobytes()))
    return torn


def ending(body: bytes, head: bytes | None = None) -> bytes:
    """An archive whose index has these bytes."""
    head = fmt.pack_header(smalti.load_model().id) if head is None else head
    return head + body + fmt.TRAILER.pack(len(body), fmt.hash64(body), fmt.END_MAGIC)


# Sizes


@attack(read_all, "CorruptError", "does not fit")
def images_2_63():
    """An index that counts 2^63 images, in 80 bytes."""
    entry = fmt.MODEL_ENTRY.pack(smalti.load_model().id, 0)
    return ending(fmt.INDEX.pack(fmt.INDEX_MARK, 2**63, 0, 1, 0, 0) + entry)


@attack(read_all, "CorruptError", "does not fit its 4294967295 blocks")
def blocks_2_32():
    """An index that counts 2^32 - 1 blocks, in 60 bytes."""
    return ending(fmt.INDEX.pack(fmt.INDEX_MARK, 2**63, 2**32 - 1, 1, 1, 0))


@attack(read_all, "CorruptError", "claims an index of")
def index_of_4_gib():
    """A trailer that claims an index of 4 GiB."""
    return fmt.pack_header(bytes(8)) + bytes(30) + fmt.TRAILER.pack(2**32 - 1, bytes(8), fmt.END_MAGIC)


@attack(read_all, "TruncatedError", "bytes of 281474976710655")
def end_far_behind():
    """A header that says that the archive has 2^48 - 1 bytes."""
    return fmt.pack_header(bytes(8), 2**48 - 1) + raw().whole()[21:]


@attack(read_all, "TruncatedError", "end is missing")
def end_within_header():
    """A header that says that the archive ends within it."""
    return fmt.pack_header(bytes(8), 5) + raw().whole()[21:]


@attack(read_all, "TruncatedError", "end is missing")
def end_within_block():
    """A header that says that the archive ends within a block."""
    return fmt.pack_header(smalti.load_model().id, 70) + raw().whole()[21:]


@attack(read_all, "CorruptError", "impossible image shape")
def pixels_65535_squared():
    """An archive of one image of 65535x65535, in 110 bytes."""
    return archive_of(fmt.Kind(0, 1, 65535, 65535), 1, b"\x02\0\0").whole()


@attack(read_all, "CorruptError", "impossible image shape")
def samples_beyond_2_24():
    """A block of 4096 images of 65x64: more than 2^24 samples."""
    return archive_of(fmt.Kind(0, 1, 65, 64), 4096, b"\x02\0\0").whole()


@attack(read_all, "CorruptError", "number of images")
def images_of_a_block():
    """A block of 4097 images."""
    return archive_of(GRAY, 4097, RAW).whole()


@attack(read_all, "CorruptError", "too large")
def carried_block_of_4_gib():
    """Carried blocks of 2^32 - 1 bytes each: a message of 4 GiB is asked of the order of two images."""
    torn = raw(2)
    torn.blocks += [{"payload": None, "size": 2**32 - 1, "kind": 0, "images": 1}]
    return torn.say(fmt.CARRIERS, 0, build.inflate(pack_numbers([0, 1, 1]))).whole()


@attack(read_all, "CorruptError", "a set of blocks is too large")
def carried_block_of_32_mib():
    """The same of as many bytes as a block may have."""
    torn = raw(2)
    torn.blocks += [{"payload": None, "size": 1 << 25, "kind": 0, "images": 1}]
    return torn.say(fmt.CARRIERS, 0, build.inflate(pack_numbers([0, 1, 1]))).whole()


@attack(read_all, "CorruptError", "single image, but has")
def single_file_of_8_gib(folder: Path):
    """A file of a single image with 8 GiB behind it, on the disk none."""
    path = folder / "x.smalti"
    with path.open("wb") as file:
        file.write(smalti.encode(np.zeros((28, 28), np.uint8)))
        file.truncate(8 << 30)
    return path


@attack(read_all, "TruncatedError", "end is missing")
def archive_of_8_gib(folder: Path):
    """An archive with 8 GiB of zeros behind it that its header knows nothing of."""
    path = folder / "x.smalti"
    with path.open("wb") as file:
        file.write(raw().whole())
        file.truncate(8 << 30)
    return path


@attack(read_all, "CorruptError", "too small or too large")
def block_of_3_gib(folder: Path):
    """A block that spans 3 GiB of zeros, on the disk none."""
    torn, path = raw(), folder / "x.smalti"
    entry = fmt.BlockEntry(21, 3 << 30, 1, 0)
    data = torn.whole()
    index = fmt.Index((fmt.ModelEntry(torn.model_id, 0),), (GRAY,), (entry,), ())
    with path.open("wb") as file:
        file.write(data[:100])
        file.seek(21 + (3 << 30))
        file.write(fmt.pack_index(index))
    return path


@attack(read_all, "", "")
def kinds_that_nothing_is_of():
    """60000 kinds of which there are no images: slow if each is looked for among all."""
    torn = raw(9)
    torn.kinds = [GRAY, *(fmt.Kind(0, 1, 1 + i // 300, 1 + i % 300 + 300) for i in range(60000))]
    return torn.say(fmt.ORDER, 9, bytes(9)).whole()


# Places


@attack(read_all, "CorruptError", "outside of the file")
def block_in_the_header():
    """A block entry that points into the header."""
    torn = raw()
    torn.index = {"blocks": (fmt.BlockEntry(4, 60, 1, 0),)}
    return torn.whole()


@attack(read_all, "CorruptError", "outside of the file")
def block_in_the_index():
    """A block entry that reaches into the index."""
    torn = raw()
    torn.index = {"blocks": (fmt.BlockEntry(21, 90, 1, 0),)}
    return torn.whole()


@attack(read_all, "CorruptError", "the same bytes")
def entries_that_overlap():
    """A thousand entries of one block, for 4 million images in 17 kB."""
    torn = raw()
    torn.index = {"blocks": tuple(fmt.BlockEntry(21, 59, 1, 0) for _ in range(1000))}
    return torn.whole()


@attack(read_all, "CorruptError", "the same bytes")
def section_within_a_block():
    """A section that is the payload of a block."""
    inner = fmt.pack_section(fmt.NAMES, 0, 1, deflate(b"\0x"))
    torn = archive_of(GRAY, 1, inner)
    torn.index = {"sections": (fmt.SectionEntry(fmt.NAMES, 21 + 38, len(inner), 1),)}
    return torn.whole()


@attack(read_all, "CorruptError", "not the one that the index says")
def blocks_that_are_swapped():
    """Two blocks whose entries are swapped, so that names would be of other images."""
    torn = archive_of(GRAY, 1, RAW + bytes(20), blocks=2)
    data = torn.whole()
    first, last = fmt.BlockEntry(21, 59, 1, 0), fmt.BlockEntry(21 + 59, 59, 1, 0)
    torn.index = {"blocks": (last, first)}
    assert len(data) == len(torn.whole())
    return torn.whole()


@attack(read_all, "CorruptError", "not the one that the index says")
def block_of_another_kind():
    """A block whose head names another size than the index."""
    torn = raw()
    torn.kinds = [GRAY._replace(height=4, width=5)]
    return torn.whole()


# Orders


@attack(read_all, "CorruptError", "no order, or the reverse")
def order_that_is_missing():
    """Images of two kinds without an order."""
    torn = raw()
    torn.kinds.append(GRAY._replace(height=9))
    return torn.whole()


@attack(read_all, "CorruptError", "the order does not fit")
def order_of_other_counts():
    """An order that gives an image to a kind that has none left."""
    torn = raw(3)
    torn.kinds.append(GRAY._replace(height=9))
    return torn.say(fmt.ORDER, 3, b"\0\1\0").whole()


@attack(read_all, "CorruptError", "where 1 is the most")
def order_of_a_kind_that_there_is_not():
    """An order that names kind 99 of two."""
    torn = raw(3)
    torn.kinds.append(GRAY._replace(height=9))
    return torn.say(fmt.ORDER, 3, b"\0\x63\0").whole()


def carried(carriers: list[list[int]], blocks: int = 2, opened: int = 1) -> bytes:
    """Blocks of raw images, the first ones open, and what sets say of them."""
    torn = archive_of(GRAY, 400, RAW + np.random.default_rng(0).integers(0, 256, 8000, np.uint8).tobytes())
    pixels = torn.blocks[0]["payload"][1:]
    torn.blocks[0]["head"] = torn.blocks[0]["head"]._replace(pixels=fmt.hash64(pixels))
    if not opened:
        torn.blocks = []
    torn.blocks += [{"payload": None, "size": 60, "kind": 0, "images": 1}] * (blocks - opened)
    for numbers in carriers:
        torn.sections.append({"code": fmt.CARRIERS, "first": 0, "count": 0, "data": pack_numbers(numbers)})
    return torn.whole()


@attack(read_all, "CorruptError", "nothing carries block 1")
def carried_by_nothing():
    """A carried block, and no set."""
    return carried([])


@attack(read_all, "CorruptError", "a set of blocks is too large")
def carried_by_itself():
    """A set of no open block: one that would carry itself."""
    return carried([[0, 0, 1]], blocks=1, opened=0)


@attack(read_all, "CorruptError", "a set of blocks is impossible")
def carried_in_a_cycle():
    """Two sets, each of which would be opened by what the other carries."""
    return carried([[1, 1, 1], [2, 1, 1]], blocks=3)


@attack(read_all, "CorruptError", "a set of blocks is impossible")
def carried_beyond_the_end():
    """A set of more blocks than there are."""
    return carried([[0, 1, 2]])


@attack(read_all, "CorruptError", "2 is the most")
def carried_2_62():
    """A set of 2^62 blocks."""
    return carried([[0, 1, 2**62]])


@attack(read_all, "CorruptError", "does not say what it should")
def order_that_says_more():
    """An order that says more bytes than the carried block has."""
    return carried([[0, 1, 1]])


# Sections


def said(code: int, data: bytes, count: int = 1) -> bytes:
    return raw(count).say(code, count if code < 4 else 0, data).whole()


@attack(read_all, "CorruptError", "does not end where it should")
def section_of_1_gib():
    """Metadata that inflate to 1 GiB from 1 MB."""
    bomb = zlib.compressobj(9, wbits=-15)
    piece = bytes(1 << 24)
    data = b"".join(bomb.compress(piece) for _ in range(64)) + bomb.flush()
    torn = raw()
    torn.sections.append({"code": fmt.METADATA, "first": 0, "count": 0, "data": data})
    return torn.whole()


@attack(read_all, "CorruptError", "too large")
def section_of_2_32_images():
    """A section that speaks of 2^32 - 1 images."""
    torn = raw()
    torn.sections.append({"code": fmt.NAMES, "first": 0, "count": 2**32 - 1, "data": deflate(b"\0x")})
    return torn.whole()


@attack(read_all, "CorruptError", "unknown code 77")
def section_of_an_unknown_code():
    """A section of a code that there is not."""
    return said(77, b"x")


@attack(read_all, "CorruptError", "more numbers than a section may")
def names_of_16_million_numbers():
    """4096 names of 4096 numbers each, all told by zero bytes: 16 kB."""
    template = fmt.varint(4000) + fmt.varint(1) + b"a" + b"\0" * 4000 + b"\1" * 4000
    torn = archive_of(GRAY, 4000, RAW)
    return torn.say(fmt.NAMES, 4000, b"\1\1" + template + bytes(4000) + bytes(4000 * 4001)).whole()


@attack(read_all, "CorruptError", "")
def names_of_a_template_of_2000_numbers():
    """500 names of 2000 numbers each, each told by all to its left: slow if these are compared as a whole."""
    template = fmt.varint(2000) + b"\0" + b"\1-" * 2000 + b"\1" * 2000
    column = b"\2" + b"\0" * 500
    torn = archive_of(GRAY, 500, RAW)
    return torn.say(fmt.NAMES, 500, b"\1\1" + template + bytes(500) + column * 2000).whole()


@attack(read_all, "CorruptError", "more room than a section may")
def names_filled_up_with_zeros():
    """Names whose numbers are filled up to 4096 digits, again and again: gigabytes of zeros."""
    template = fmt.varint(250) + b"\0" * 251 + fmt.varint(4096) * 250
    return said(fmt.NAMES, b"\1\1" + template + bytes(4000) + bytes(250 * 4001), 4000)


@attack(read_all, "CorruptError", "the most")
def names_of_2_62_templates():
    """2^62 templates of names."""
    return said(fmt.NAMES, b"\1" + fmt.varint(2**62))


@attack(read_all, "CorruptError", "two images have one name")
def names_that_are_the_same():
    """Two images of one name."""
    return said(fmt.NAMES, b"\0x\0x", 2)


@attack(read_all, "CorruptError", "do not fit")
def names_that_are_empty():
    """An image without a name among names."""
    return said(fmt.NAMES, b"\0x\0", 2)


@attack(read_all, "CorruptError", "cannot be read")
def names_that_are_not_utf_8():
    """A name that is no text."""
    return said(fmt.NAMES, b"\0\xff\xfe")


@attack(read_all, "CorruptError", "zero byte")
def names_with_a_zero_byte():
    """A zero byte in a name, by way of a template."""
    return said(fmt.NAMES, b"\1\1\0\3a\0b\0")


@attack(read_all, "CorruptError", "do not fit")
def names_of_5000_bytes():
    """A name that is too long."""
    return said(fmt.NAMES, b"\0" + b"a" * 5000)


@attack(read_all, "CorruptError", "the most")
def labels_of_2_40_numbers():
    """A label that is a list of 2^40 numbers."""
    return said(fmt.LABELS, b"\2" + fmt.varint(2**40))


@attack(read_all, "CorruptError", "the most")
def labels_of_16_million_numbers():
    """Labels of 2^24 numbers, all zero."""
    return said(fmt.LABELS, b"\2" + fmt.varint((1 << 24) - 10) + bytes((1 << 24) - 10))


@attack(read_all, "CorruptError", "is not known")
def labels_of_an_unknown_kind():
    """Labels of a kind that there is not."""
    return said(fmt.LABELS, b"\x09\0")


@attack(read_all, "CorruptError", "several kinds")
def labels_of_several_kinds():
    """Two sections of labels, numbers and texts."""
    torn = archive_of(GRAY, 2, RAW + bytes(40))
    for first, data in ((0, b"\0\2"), (1, b"\1\1a")):
        torn.sections.append({"code": fmt.LABELS, "first": first, "count": 1, "data": deflate(data)})
    return torn.whole()


@attack(read_all, "CorruptError", "no JSON")
def metadata_100000_levels_deep():
    """Metadata nested 10^5 levels deep."""
    return said(fmt.METADATA, b'{"a":' * 100_000 + b"1" + b"}" * 100_000)


@attack(read_all, "CorruptError", "no JSON")
def metadata_of_a_million_digits():
    """A number of 10^6 digits in metadata."""
    return said(fmt.METADATA, b'{"a":' + b"9" * 1_000_000 + b"}")


@attack(read_all, "CorruptError", "no JSON object")
def metadata_that_are_a_list():
    """Metadata that are no object."""
    return said(fmt.METADATA, b"[1]")


# Payloads


@attack(read_all, "CorruptError", "wrong number of pixels")
def plain_image_of_1_gib():
    """A plain image of 20 pixels that inflates to 1 GiB."""
    bomb = zlib.compressobj(9, wbits=-15)
    stream = b"".join(bomb.compress(bytes(1 << 24)) for _ in range(64)) + bomb.flush()
    return archive_of(GRAY, 1, b"\x08\1\0" + b"\0" + fmt.varint(len(stream)) + stream).whole()


@attack(read_all, "CorruptError", "impossible field")
def plain_images_65535():
    """A block of one image that has 65535 plain ones."""
    return archive_of(GRAY, 1, b"\x08\xff\xff").whole()


@attack(read_all, "CorruptError", "impossible field")
def plain_image_of_2_62_bytes():
    """A plain image of 2^62 bytes."""
    return archive_of(GRAY, 1, b"\x08\1\0" + b"\0" + fmt.varint(2**62)).whole()


@attack(read_all, "CorruptError", "impossible field")
def payload_of_unknown_flags():
    """A head of flags that there are not."""
    return archive_of(GRAY, 1, b"\x70").whole()


@attack(read_all, "CorruptError", "within its head")
def payload_of_nothing():
    """A block without a payload."""
    return archive_of(GRAY, 1, b"").whole()


@attack(read_all, "CorruptError", "does not take")
def latents_of_another_size():
    """Images of 5x4 that claim to be coded by latents of 28x28."""
    return archive_of(GRAY, 1, b"\1\0\0").whole()


@attack(read_all, "CorruptError", "other pixels")
def latents_of_nothing():
    """256 images by latents, of an empty stream."""
    return archive_of(fmt.Kind(0, 1, 28, 28), 256, b"\1\0\x40").whole()


@attack(read_all, "CorruptError", "")
def stream_of_garbage():
    """A stream of random bytes."""
    garbage = np.random.default_rng(2).integers(1, 256, 4000, np.uint8).tobytes()
    return archive_of(fmt.Kind(0, 1, 28, 28), 50, b"\3\0\x40\0\x7e" + garbage).whole()


# Single files


def single(mode: int, sides: tuple[int, int] | None, payload: bytes, name: str | None = None) -> bytes:
    return pack_single(smalti.load_model().id, mode, sides, name, payload, bytes(8))


@attack(read_all, "CorruptError", "impossible image shape")
def single_of_65535_squared():
    """A single image of 65535x65535, in 20 bytes."""
    return single(1, (65535, 65535), b"\2\0\0")


@attack(read_all, "CorruptError", "impossible image shape")
def single_of_no_height():
    """A single image of 0x65535."""
    return single(3, (0, 65535), b"\2\0\0")


@attack(read_all, "CorruptError", "cannot be so long")
def single_with_a_name_of_2_62_bytes():
    """A name of 2^62 bytes."""
    data = single(0, None, b"", "x")
    return data[:12] + fmt.varint(2**62) + b"x"


@attack(read_all, "UnknownModelError", "ffffff")
def single_of_an_unknown_model():
    """A model that nobody knows."""
    data = single(0, None, b"\1\0\0")
    return data[:9] + b"\xff" * 3 + data[12:]


@attack(read_all, "CorruptError", "other pixels")
def single_of_other_pixels():
    """A payload that is right but for what it should decode to."""
    return single(1, (5, 4), RAW + bytes(20))


# Models from elsewhere


def embedded(data: bytes, model_id: bytes) -> bytes:
    """An archive that brings that bundle."""
    torn = archive_of(fmt.Kind(0, 1, 4, 4), 1, b"\2\0\0")
    torn.model_id, torn.models = model_id, [[model_id, data]]
    return torn.whole()


@attack(read_all, "CorruptError", "another one")
def model_of_another_id():
    """A bundle whose id is not the one that the index gives."""
    return embedded(build.tiny_bundle(), b"\1" * 8)


@attack(read_all, "ModelError", "damaged, or not one")
def model_of_garbage():
    """A model that is no bundle."""
    return embedded(b"PK\3\4" + bytes(200), b"\1" * 8)


@attack(read_all, "CorruptError", "does not start as one|not the one")
def model_that_is_a_block():
    """A model entry that points at a block."""
    torn = raw()
    torn.models[0][0] = torn.model_id = b"\1" * 8
    torn.blocks.append(block_of(GRAY, 1, RAW + bytes(20), first=1))
    entries = (fmt.BlockEntry(21, 59, 1, 0),)
    torn.index = {"models": (fmt.ModelEntry(b"\1" * 8, 80),), "blocks": entries}
    return torn.whole()


def changed(nodes: list[bytes], constants: dict[str, np.ndarray]) -> bytes:
    """A bundle with another synthesis."""
    network = onnx_bytes(nodes, constants | build.CLIP, {"v": ("r", 1), "anchors": ("n", 9)}, "pixels")
    return bundle_of(build.tiny_members(latents=True) | {"synthesis.onnx": network})


@attack(bundle, "ModelError", "no rule to prove Loop", "x.model")
def network_with_a_loop():
    """A network with a Loop."""
    return changed([onnx_node("Loop", ["v"], "pixels")], {})


@attack(bundle, "ModelError", "too large", "x.model")
def network_with_a_tile_of_10_9():
    """A network that tiles one latent 10^9 times."""
    return changed([onnx_node("Tile", ["v", "times"], "pixels")], {"times": np.array([1, 10**9])})


@attack(bundle, "ModelError", "too large", "x.model")
def network_that_grows_step_by_step():
    """A network whose every Resize makes its tensor 64 times as large."""
    nodes = [onnx_node("Reshape", ["v", "shape"], "t0")]
    for i in range(8):
        how = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest", "nearest_mode": "floor"}
        nodes.append(onnx_node("Resize", [f"t{i}", "", "by"], f"t{i + 1}", **how))
    return changed(nodes, {"shape": np.array([-1, 1, 1, 1]), "by": np.array([1, 1, 8, 8], np.float32)})


@attack(bundle, "ModelError", "beyond the 16777216", "x.model")
def network_beyond_the_accumulator():
    """A matrix whose sums could reach 2^25."""
    nodes = [onnx_node("MatMul", ["v", "w"], "pixels")]
    return changed(nodes, {"w": np.full((1, 16), 2.0**13, np.float32)})


@attack(bundle, "ModelError", "not finite|no integers", "x.model")
def network_of_nan():
    """A matrix of what is no number."""
    return changed([onnx_node("MatMul", ["v", "w"], "pixels")], {"w": np.full((1, 16), np.nan, np.float32)})


@attack(bundle, "ModelError", "", "x.model")
def network_with_a_constant_of_2_60():
    """A constant of 2^60 elements without any bytes."""
    members = build.tiny_members(latents=True)
    tensor = build.onnx_message((1, 1 << 30), (1, 1 << 30), (2, 1), (8, "w"), (9, b""))
    graph = build.onnx_message((2, "g"), (5, tensor))
    network = build.onnx_message((1, 8), (7, graph), (8, build.onnx_message((2, 17))))
    return bundle_of(members | {"synthesis.onnx": network})


@attack(bundle, "ModelError", "which smalti never writes", "x.model")
def network_with_external_data():
    """A constant whose elements are in a file of the reader's machine."""
    members = build.tiny_members(latents=True)
    place = build.onnx_message((1, "location"), (2, "/etc/passwd"))
    tensor = build.onnx_message((1, 1), (2, 1), (8, "w"), (13, place), (14, 1))
    graph = build.onnx_message((2, "g"), (5, tensor))
    network = build.onnx_message((1, 8), (7, graph), (8, build.onnx_message((2, 17))))
    return bundle_of(members | {"synthesis.onnx": network})


@attack(bundle, "ModelError", "fields", "x.model")
def network_of_a_million_fields():
    """A network of 10^6 empty nodes."""
    graph = build.onnx_field(1, b"") * 1_000_000
    network = build.onnx_message((1, 8), (7, graph), (8, build.onnx_message((2, 17))))
    return bundle_of(build.tiny_members(latents=True) | {"synthesis.onnx": network})


@attack(bundle, "ModelError", "are allowed", "x.model")
def bundle_of_1_gib():
    """A bundle whose member inflates to 1 GiB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        with out.open("pixels.npz", "w", force_zip64=True) as member:
            for _ in range(64):
                member.write(bytes(1 << 24))
        out.writestr("manifest.json", "{}")
    return file.getvalue()


@attack(bundle, "ModelError", "too many members", "x.model")
def bundle_of_100000_members():
    """A bundle of 10^5 members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        for i in range(100_000):
            out.writestr(f"{i}", b"")
    return file.getvalue()


@attack(bundle, "ModelError", "", "x.model")
def bundle_that_claims_little():
    """A member that claims 10 bytes and inflates to 64 MiB."""
    data = bytearray(build.zip_bytes({"manifest.json": bytes(1 << 26)}))
    for mark, at in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        place = data.index(mark) + at
        data[place : place + 4] = struct.pack("<I", 10)
    return bytes(data)


@attack(bundle, "ModelError", "", "x.model")
def bundle_of_a_deep_manifest():
    """A manifest nested 10^5 levels deep."""
    return build.zip_bytes({"manifest.json": b"[" * 100_000 + b"]" * 100_000, **build.tiny_members()})


@attack(bundle, "ModelError", "images of shape", "x.model")
def bundle_of_images_of_10_9():
    """A manifest that is for images of 10^9 x 10^9."""
    return bundle_of(build.tiny_members(), decoder={"image_shape": [10**9, 10**9, 1], "cells": 1})


def _arrays(member: str, **arrays: np.ndarray) -> bytes:
    from smalti.zips import npz_bytes, read_npz

    members = build.tiny_members(latents=True)
    return bundle_of(members | {member: npz_bytes(read_npz(members[member]) | arrays)})


@attack(bundle, "ModelError", "", "x.model")
def bundle_of_steps_of_60_mib():
    """Steps of a million latents, in bytes that become 64-bit integers."""
    return _arrays("decoder.npz", steps=np.ones((65, 900_000), np.int8))


@attack(bundle, "ModelError", "beyond the 16777216", "x.model")
def bundle_of_a_layer_of_7000_squared():
    """A prior with a layer of 7000x7000, 47 MiB of bytes."""
    n = 7000
    arrays = {f"w{i}": np.ones(shape, np.int8) for i, shape in ((1, (n, 1)), (2, (n, n)), (3, (8, n)))}
    for i, outputs in ((1, n), (2, n), (3, 8)):
        arrays |= {f"b{i}": np.full(outputs, 1 << 23, np.int32), f"s{i}": np.zeros(outputs, np.uint8)}
        arrays |= {f"q{i}": np.zeros((9, outputs), np.int32)}
    arrays["b2"] = np.full(n, (1 << 24) - 1, np.int32)
    return _arrays("decoder.npz", **arrays)


@attack(bundle, "ModelError", "beyond the 16777216", "x.model")
def bundle_with_weights_beyond_the_accumulator():
    """A network for pixels whose bias lets a sum reach 2^24."""
    return _arrays("pixels.npz", b1=np.array([0, 1 << 24], np.int32))


@attack(bundle, "ModelError", "", "x.model")
def bundle_of_an_array_that_lies():
    """An array that claims 10^18 elements."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": (10**9, 10**9)})
    members = build.tiny_members() | {"pixels.npz": build.zip_bytes({"window.npy": file.getvalue()}, 0)}
    return bundle_of(members)


# Names that climb out


def named(*names: str) -> bytes:
    return said(fmt.NAMES, b"\0" + b"\0".join(name.encode() for name in names), len(names))


def _climbs(name: str, text: str, work=unpack, error: str = "CorruptError", words: str = "no safe path") -> None:
    def make():
        return named(text)

    make.__name__, make.__doc__ = name, f"An image named `{text if len(text) < 40 else text[:9] + '...'}`."
    attack(work, error, words)(make)


for _name, _text in {
    "name_of_a_parent": "../climbed.png",
    "name_that_is_absolute": "/tmp/climbed.png",
    "name_over_two_parents": "a/../../climbed.png",
    "name_of_a_dot": "./climbed.png",
    "name_of_an_empty_part": "a//climbed.png",
    "name_of_two_dots": "..",
    "name_2000_levels_deep": "a/" * 2000 + "climbed.png",
}.items():
    _climbs(_name, _text)
for _name, _text in {
    "name_of_a_drive": "C:\\climbed.png",
    "name_of_a_device": "sub/CON.png",
    "name_of_a_stream": "x.png:climbed",
    "name_with_a_backslash": "..\\climbed.png",
    "name_that_ends_in_a_dot": "a./climbed.png",
    "name_in_a_tar_of_a_parent": "../climbed.png",
}.items():
    _climbs(_name, _text, unpack_tar)


@attack(unpack, "OutputError", "File name too long|cannot write")
def name_of_a_part_of_4000_bytes():
    """A name that no file system takes."""
    return named("x" * 4000)


@attack(unpack, "OutputError", "two images would be")
def names_that_are_one_file():
    """Two names that differ by `.png` alone."""
    return named("a", "a.png")


@attack(unpack, "OutputError", "cannot write")
def name_within_a_file():
    """A name that lies within the file of another."""
    return named("a.png", "a.png/climbed.png")


@attack(unpack, "OutputExistsError", "leads elsewhere")
def target_with_a_link_to_a_folder(folder: Path):
    """A folder of the target that is a link to somewhere else."""
    (folder / "out").mkdir()
    (folder / "elsewhere").mkdir()
    (folder / "out" / "a").symlink_to(folder / "elsewhere")
    (folder / "x.smalti").write_bytes(named("a/climbed.png"))
    return folder / "x.smalti"


@attack(unpack, "", "")
def target_with_a_link_to_a_file(folder: Path):
    """A file of the target that is a link: it is replaced, what it leads to stays."""
    (folder / "out").mkdir()
    (folder / "kept").write_bytes(b"old")
    (folder / "out" / "a.png").symlink_to(folder / "kept")
    (folder / "x.smalti").write_bytes(named("a.png"))
    return folder / "x.smalti"


# Repair


@attack(repair, "", "")
def repair_of_overlapping_blocks():
    """Blocks that claim the same images, and names that come twice."""
    torn = archive_of(GRAY, 3, RAW + bytes(60), blocks=1)
    torn.blocks.append(block_of(GRAY, 3, RAW + bytes(60), first=1))
    torn.blocks.append(block_of(GRAY._replace(height=4, width=5), 1, RAW + bytes(20), first=9))
    torn.say(fmt.NAMES, 3, b"\0a\0b\0a")
    return torn.whole()[:-30]


@attack(repair, "", "")
def repair_of_sections_that_lie():
    """Names of 2^24 zero bytes, an order that ends too soon, metadata that are none."""
    torn = raw(3).say(fmt.NAMES, 3, bytes(1 << 24)).say(fmt.ORDER, 3, b"\1").say(fmt.METADATA, 0, b"[")
    return torn.whole()[:-30]


@attack(repair, "CorruptError", "nothing can be saved")
def repair_of_marks_alone():
    """A megabyte of marks of blocks that claim to be large."""
    return (fmt.BLOCK_MARK + struct.pack("<I", 1 << 20)) * 100_000


@attack(repair, "", "")
def repair_of_many_kinds():
    """4000 blocks of as many kinds: slow if each is looked for among all."""
    torn = Torn(smalti.load_model().id, [[smalti.load_model().id, None]], [], [], [])
    for i in range(4000):
        kind = fmt.Kind(0, 1, 1, 1 + i)
        torn.blocks.append(block_of(kind, 1, b"\x02\0\0", number=i))
    return torn.whole()[:-30]


# Sources


def png_of(width: int, height: int) -> bytes:
    """A PNG file of black pixels, made without them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compressobj(9)
    row = bytes(1 + width)
    data = b"".join(rows.compress(row) for _ in range(height)) + rows.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def zipped(members: dict[str, bytes]) -> bytes:
    return build.zip_bytes(members)


@attack(source, "SourceError", "more than fits|does not hold", "x-idx3-ubyte")
def idx_of_2_32_images():
    """An idx file of 2^32 - 1 images, in 16 bytes."""
    return b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 28, 28)


@attack(source, "SourceError", "more than fits", "x-idx3-ubyte.gz")
def idx_of_one_image_of_900_mb():
    """A gzipped idx file of one image of 30000x30000."""
    return gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 1, 30000, 30000) + bytes(900_000_000), 1)


@attack(source, "SourceError", "more than fits|does not hold", "x.npz")
def npz_of_10_18():
    """An npz file whose array claims 10^9 x 10^9 pixels."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (1, 10**9, 10**9)})
    return zipped({"images.npy": file.getvalue()})


@attack(source, "SourceError", "Python objects", "x.npy")
def npy_of_objects():
    """An npy file of pickled objects."""
    file = io.BytesIO()
    np.save(file, np.array([{1: 2}], object), allow_pickle=True)
    return file.getvalue()


@attack(source, "SourceError", "", "x.npy")
def npy_of_a_deep_header():
    """An npy file whose header is nested 4000 levels deep."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': " + b"(" * 4000 + b")" * 4000 + b"}\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header


@attack(source, "SourceError", "more than a file can hold", "x.png")
def png_of_12000_squared():
    """A PNG file of 144 million pixels, 140 kB."""
    return png_of(12000, 12000)


@attack(source, "SourceError", "no small image", "x.zip")
def zip_of_1_gib():
    """A zip file whose image inflates to 500 MB."""
    return zipped({"x.bmp": bytes(500_000_000)})


@attack(source, "SourceError", "no safe name", "x.zip")
def zip_that_climbs():
    """A zip file with `../climbed.png`."""
    return zipped({"../climbed.png": png_of(2, 2)})


@attack(source, "SourceError", "nested too deep|damaged", "x.zip")
def zip_of_deep_labels():
    """Labels in a zip file nested 10^5 levels deep."""
    return zipped({"x.png": png_of(2, 2), "metadata.jsonl": b'{"file_name":' + b"[" * 100_000 + b"]" * 100_000 + b"}"})


@attack(source, "", "", "x.zip")
def zip_of_labels_of_nothing():
    """A zip file with 200000 lines that label one image, and others that are not there."""
    lines = b"file_name,label\n" + b"x.png,7\n" * 100_000 + b"".join(b"y%d.png,7\n" % i for i in range(100_000))
    return zipped({"x.png": png_of(2, 2), "metadata.csv": lines})


def tarred(**fields) -> bytes:
    """A tar file of one member with those fields."""
    file, data = io.BytesIO(), fields.pop("data", png_of(2, 2))
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as out:
        member = tarfile.TarInfo(fields.pop("name", "x.png"))
        member.size = len(data)
        for name, value in fields.items():
            setattr(member, name, value)
        out.addfile(member, io.BytesIO(data))
    return file.getvalue()


@attack(source, "SourceError", "no safe name", "x.tar")
def tar_that_climbs():
    """A tar file with `../climbed.png`."""
    return tarred(name="../climbed.png")


@attack(source, "SourceError", "holds no images", "x.tar")
def tar_of_a_link():
    """A tar file whose image is a link to /etc/passwd."""
    return tarred(type=tarfile.SYMTYPE, linkname="/etc/passwd", data=b"")


@attack(source, "SourceError", "holds no images", "x.tar")
def tar_of_a_device():
    """A tar file whose image is a device."""
    return tarred(type=tarfile.CHRTYPE, data=b"")


def _tar_head(size_field: bytes, name: bytes = b"x.png", kind: bytes = b"0") -> bytes:
    head = bytearray(tarred()[:512])
    head[0:100] = name.ljust(100, b"\0")
    head[124:136] = size_field.ljust(12, b"\0")
    head[156:157] = kind
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


@attack(source, "SourceError", "", "x.tar")
def tar_of_a_negative_size():
    """A tar file whose member has a negative size: the next one lies before it, for ever."""
    return _tar_head(b"\xff" * 10 + b"\xfe\x00", name=b"x.txt") * 2 + bytes(1024)


@attack(source, "SourceError", "", "x.tar")
def tar_of_2_60_bytes():
    """A tar file whose image claims 2^60 bytes."""
    return _tar_head(b"\x80" + bytes(3) + struct.pack(">Q", 1 << 60)) + bytes(1024)


@attack(source, "SourceError", "", "x.tar")
def tar_of_long_names_in_a_row():
    """A tar file of 5000 headers that each only say how long the next one's name is."""
    return (_tar_head(b"00000000001", kind=b"L") + b"x".ljust(512, b"\0")) * 5000 + bytes(1024)


@attack(source, "SourceError", "", "x.parquet")
def parquet_that_lies():
    """A parquet file whose footer claims 2 GiB."""
    return b"PAR1" + bytes(100) + struct.pack("<I", 2**31 - 1) + b"PAR1"


@attack(source, "SourceError", "", "x.parquet")
def parquet_of_garbage():
    """A parquet file whose footer is garbage."""
    return b"PAR1" + bytes(range(256)) + struct.pack("<I", 200) + b"PAR1"


@attack(source, "SourceError", "", "x.png")
def postscript_called_png():
    """A PostScript program in the place of an image: nobody runs it."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/climbed) (w) file closefile\n"


@attack(source, "SourceError", "several images|damaged|too large", "x.gif")
def gif_of_many_frames():
    """A GIF file of 300 frames."""
    from PIL import Image

    file = io.BytesIO()
    frames = [Image.fromarray(np.full((4, 4), i % 256, np.uint8)) for i in range(300)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def table() -> str:
    """Of the README: idea, how the file is made, what is done with it, and the answer."""
    rows = ["| idea | made by | read by | answer |", "| --- | --- | --- | --- |"]
    for some in ATTACKS:
        words = f": {some.words.replace('|', ' or ')}" if some.words else ""
        answer = f"{some.error}{words}" if some.error else "it is read"
        rows.append(f"| {some.idea} | `{some.name}` | {some.work.__name__} | {answer} |")
    return "\n".join(rows) + "\n"
