# SPDX-License-Identifier: MIT
"""Files whose additions of version 2 lie: mixed blocks, WebP bitstreams, profiles, shapes, later versions."""

from attacks.attack import GRAY, RAW, attack, raw, repair
from attacks.build import archive_of, deflate, deflated_zeros
from attacks.targets import read_all

from smalti.codec.webp_codec import encode_webp
from smalti.container import format as fmt
from smalti.container.mixed_payload import mixed_hash
from smalti.container.single_image import pack_single
from smalti.demo.samples import draw_digits
from smalti.util import binary

PIXELS = bytes(20)


def table(*numbers: int) -> bytes:
    """The table of a mixed block, of these numbers, with its size before it."""
    data = deflate(b"".join(map(binary.varint, numbers)))
    return binary.varint(len(data)) + data


def mixed(payload: bytes, images: int = 1, pixels: bytes = PIXELS) -> bytes:
    """An archive of a mixed block with that payload, whose hash is that of a part of these pixels."""
    torn = archive_of(fmt.MIXED, images, payload)
    torn.blocks[0]["head"] = torn.blocks[0]["head"]._replace(pixels=mixed_hash([binary.hash64(pixels)]))
    return torn.whole()


HONEST = table(1, 0, 1, 5, 4, 21, 0) + RAW + PIXELS


@attack(read_all, "")
def mixed_block_that_is_honest():
    """A mixed block of one raw image."""
    return mixed(HONEST)


@attack(read_all, "CorruptError", "table of a mixed block does not end")
def table_of_1_gib():
    """A table that inflates to 1 GiB from 1 MB."""
    data = deflated_zeros(64)
    return mixed(binary.varint(len(data)) + data)


@attack(read_all, "CorruptError", "table of a mixed block does not end")
def table_beyond_the_payload():
    """A table that says that it has 2^60 bytes."""
    return mixed(binary.varint(1 << 60) + HONEST[1:])


@attack(read_all, "CorruptError", "cannot be inflated")
def table_of_noise():
    """A table that is no deflate stream."""
    return mixed(b"\x05\xff\xff\xff\xff\xff" + RAW + PIXELS)


@attack(read_all, "CorruptError", "a number does not end")
def mixed_block_of_nothing():
    """A mixed block without a byte."""
    return mixed(b"")


@attack(read_all, "CorruptError", "does not fit its images")
def parts_2_62():
    """A table that counts 2^62 parts."""
    return mixed(table(1 << 62) + RAW)


@attack(read_all, "CorruptError", "does not fit its images")
def parts_beyond_the_images():
    """Two parts of one image."""
    return mixed(table(2, 0, 0, 1, 1, 5, 6, 4, 4, 21, 25, 0) + RAW)


@attack(read_all, "CorruptError", "a part that does not exist")
def part_that_was_not_begun():
    """The first image is of a part that was begun before."""
    return mixed(table(1, 0, 1, 5, 4, 21, 1) + RAW + PIXELS)


@attack(read_all, "CorruptError", "a part that does not exist")
def part_behind_the_last():
    """A second part of a block that has one."""
    return mixed(table(1, 0, 1, 5, 4, 21, 0, 0) + RAW + PIXELS, 2)


@attack(read_all, "CorruptError", "number of parts")
def part_without_images():
    """Two parts, and no image of the second."""
    return mixed(table(2, 0, 0, 1, 1, 5, 6, 4, 4, 41, 0, 0, 1) + RAW + PIXELS * 2, 2)


@attack(read_all, "CorruptError", "number of parts")
def parts_that_are_alike():
    """Two parts of one model and shape."""
    return mixed(table(2, 0, 0, 1, 1, 5, 5, 4, 4, 21, 21, 0, 0) + (RAW + PIXELS) * 2, 2)


@attack(read_all, "CorruptError", "impossible image shape")
def part_of_2_32_samples():
    """A part of 65535x65535."""
    return mixed(table(1, 0, 1, 65535, 65535, 1, 0) + RAW)


@attack(read_all, "CorruptError", "impossible image shape")
def parts_of_more_than_2_24_samples():
    """Two parts of 2^24 samples, each of which a block may have."""
    return mixed(table(2, 0, 0, 1, 1, 4096, 2048, 4096, 8192, 1, 0, 0, 0) + RAW, 2)


@attack(read_all, "CorruptError", "impossible image shape")
def part_of_a_side_beyond_16_bits():
    """A part of 2^24 by 1."""
    return mixed(table(1, 0, 1, 1 << 24, 1, 1, 0) + RAW)


@attack(read_all, "CorruptError", "impossible image shape")
def part_that_is_mixed():
    """A part that is a mixed block."""
    return mixed(table(1, 0, 0, 0, 0, len(HONEST), 0) + HONEST)


@attack(read_all, "CorruptError", "a model that does not exist")
def part_of_no_model():
    """A part of model 9 of one."""
    return mixed(table(1, 9, 1, 5, 4, 21, 0) + RAW + PIXELS)


@attack(repair, "")
def repair_of_a_part_of_no_model():
    """The same without its index, which would say that there is no such model: its image is raw and needs none."""
    return mixed(table(1, 9, 1, 5, 4, 21, 0) + RAW + PIXELS)[:-20]


@attack(repair, "CorruptError", "nothing can be saved")
def repair_of_a_table_of_noise():
    """A mixed block with a right checksum and a table of noise, when it is repaired."""
    return mixed(b"\x05\xff\xff\xff\xff\xff" + RAW + PIXELS)


@attack(read_all, "CorruptError", "do not fill it")
def parts_that_leave_bytes():
    """Parts that end before the block does."""
    return mixed(HONEST + b"x")


@attack(read_all, "CorruptError", "do not fill it")
def parts_beyond_the_end():
    """A part of 2^60 bytes."""
    return mixed(table(1, 0, 1, 5, 4, 1 << 60, 0) + RAW + PIXELS)


@attack(read_all, "CorruptError", "impossible image shape")
def mixed_kind_with_a_size():
    """A mixed kind that has a height."""
    return archive_of(fmt.MIXED._replace(height=9), 1, HONEST).whole()


@attack(read_all, "CorruptError", "a set of blocks is impossible")
def carried_by_mixed_blocks():
    """A set whose open block is mixed."""
    torn = archive_of(fmt.MIXED, 1, HONEST)
    torn.blocks.append({"payload": None, "size": 40, "kind": 0, "images": 1})
    torn.sections.append({"code": fmt.CARRIERS, "first": 0, "count": 0, "data": deflate(b"\0\1\1")})
    return torn.whole()


# WebP


DIGITS = fmt.Kind(0, 1, 28, 28)


def webp(record: bytes, kind: fmt.Kind = DIGITS) -> bytes:
    return archive_of(kind, 1, b"\x10\1\0" + record).whole()


DIGIT = encode_webp(draw_digits(1, seed=1)[0]) or b""


@attack(read_all, "CorruptError", "impossible field")
def webp_beyond_the_payload():
    """A WebP record of 2^40 bytes."""
    return webp(binary.varint(1 << 40) + DIGIT)


@attack(read_all, "CorruptError", "cannot be decoded")
def webp_of_nothing():
    """A WebP record without a bitstream."""
    return webp(b"\0")


@attack(read_all, "CorruptError", "cannot be decoded")
def webp_of_zeros():
    """A bitstream that is too short for its image."""
    return webp(b"\2\0\0", fmt.Kind(0, 3, 4096, 1365))


@attack(read_all, "CorruptError", "other pixels")
def webp_of_other_pixels():
    """A bitstream of another image than the hash says."""
    return webp(DIGIT)


@attack(read_all, "CorruptError", "impossible field")
def webp_of_a_side_beyond_2_14():
    """A bitstream of an image with a side that WebP cannot have."""
    return webp(DIGIT, fmt.Kind(0, 1, 1, 1 << 15))


@attack(read_all, "CorruptError", "impossible field")
def webp_of_more_images_than_there_are():
    """A head that counts 65535 bitstreams and 65535 images of the fallback, of one image."""
    return archive_of(GRAY, 1, b"\x18\xff\xff\xff\xff").whole()


# Profiles, shapes


def profiles(*numbers: int | bytes, count: int = 1) -> bytes:
    data = b"".join(n if isinstance(n, bytes) else binary.varint(n) for n in numbers)
    return raw(count).say(fmt.PROFILES, count, data).whole()


@attack(read_all, "CorruptError", "is the most")
def profile_of_2_60_bytes():
    """A profile that is longer than its section."""
    return profiles(1, 1 << 60)


@attack(read_all, "CorruptError", "impossible size")
def profile_of_2_mib():
    """A profile of 2 MiB, which deflates to 2 kB."""
    return profiles(1, 1 << 21, bytes(1 << 21), 1)


@attack(read_all, "CorruptError", "impossible size")
def profile_without_a_byte():
    """A profile of no byte."""
    return profiles(1, 0, 1)


@attack(read_all, "CorruptError", "is the most")
def profiles_beyond_the_images():
    """A section of 2^40 profiles for one image."""
    return profiles(1 << 40)


@attack(read_all, "CorruptError", "is the most")
def profile_that_there_is_not():
    """An image of profile 2 of one."""
    return profiles(1, 1, b"x", 2)


@attack(read_all, "CorruptError", "do not fit")
def profiles_of_more_images():
    """Profiles of two images in a file of one."""
    return raw().say(fmt.PROFILES, 2, b"\0\0\0").whole()


def shapes(*numbers: int) -> bytes:
    return raw().say(fmt.SHAPES, 0, b"".join(map(binary.varint, numbers))).whole()


@attack(read_all, "CorruptError", "is the most")
def shapes_2_40():
    """A list of 2^40 shapes."""
    return shapes(1 << 40)


@attack(read_all, "CorruptError", "shapes of the images are impossible")
def shape_of_2_32_samples():
    """A listed shape of 65535x65535."""
    return shapes(1, 1, 65535, 65535)


@attack(read_all, "CorruptError", "shapes of the images are impossible")
def shape_of_mode_5():
    """A listed shape of five channels."""
    return shapes(1, 5, 4, 4)


# Single files


def single(rest: bytes, form: int) -> bytes:
    """A single file of version 2 of the empty model."""
    return fmt.MAGIC + bytes([0x12 | form]) + bytes(7) + rest


@attack(read_all, "CorruptError", "no size")
def single_of_the_empty_model_without_sides():
    """A single file of the empty model, whose images have no size."""
    return pack_single(fmt.EMPTY_MODEL, 0, None, None, HONEST, bytes(8))


@attack(read_all, "CorruptError", "impossible image shape")
def single_of_2_62_rows():
    """A single file that says that it has 2^62 rows."""
    return single(b"\1" + binary.varint(1 << 62) + b"\1\xff", 0x20)


@attack(read_all, "CorruptError", "impossible image shape")
def single_of_mode_9():
    """A single file of nine channels."""
    return single(b"\x09\1\1\xff", 0x20)


@attack(read_all, "CorruptError", "ICC profile does not end")
def single_profile_of_1_gib():
    """A profile that inflates to 1 GiB from 1 MB."""
    data = deflated_zeros(64)
    return single(binary.varint(len(data)) + data, 0x40)


@attack(read_all, "CorruptError", "ICC profile does not end")
def single_profile_without_a_byte():
    """A profile of no byte."""
    return single(b"\2" + deflate(b"") + b"\xff", 0x40)


@attack(read_all, "CorruptError", "ICC profile does not end")
def single_profile_beyond_the_end():
    """A profile that has more bytes than the file."""
    return single(binary.varint(1 << 50) + deflate(b"x"), 0x40)


# Later versions


@attack(read_all, "VersionError", "install smalti 9.1 or newer")
def version_3():
    """An archive of version 3, which names the release that it needs."""
    return fmt.MAGIC + b"\3" + bytes(16) + b"\x09\1" + bytes(9)


@attack(read_all, "VersionError", "install a newer smalti")
def version_3_cut():
    """An archive of version 3 that ends within those bytes."""
    return fmt.MAGIC + b"\3" + bytes(16) + b"\x09"


@attack(read_all, "VersionError", "install smalti 9.1 or newer")
def version_15_single():
    """A single file of version 15."""
    return fmt.MAGIC + b"\x1f" + bytes(7) + b"\x09\1"
