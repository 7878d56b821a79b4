# SPDX-License-Identifier: MIT
"""Archives whose sizes, places and orders lie."""

from pathlib import Path

import numpy as np
from attacks import build
from attacks.attack import GRAY, RAW, attack, ending, raw
from attacks.build import archive_of, deflate
from attacks.targets import read_all

import smalti
from smalti.container import format as fmt
from smalti.container import index as idx
from smalti.container.annotation_codec import pack_numbers
from smalti.util import binary

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
    index = idx.Index((fmt.ModelEntry(torn.model_id, 0),), (GRAY,), (entry,), ())
    with path.open("wb") as file:
        file.write(data[:100])
        file.seek(21 + (3 << 30))
        file.write(idx.pack_index(index))
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
    torn.blocks[0]["head"] = torn.blocks[0]["head"]._replace(pixels=binary.hash64(pixels))
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


@attack(read_all, "CorruptError", "a set of blocks is impossible")
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


@attack(read_all, "CorruptError", "carries more bytes than it should")
def order_that_says_more():
    """An order that says more bytes than the carried block has."""
    return carried([[0, 1, 1]])
