# SPDX-License-Identifier: MIT
"""Files whose entries lie: the table and the checks of images that are read without their neighbours."""

from attacks.attack import GRAY, attack, one_by_one
from attacks.build import archive_of
from attacks.targets import read_all

from smalti.codec.fallback_codec import raw_record
from smalti.codec.payload.entries import FALLBACK, check_of, pack_entries
from smalti.container import format as fmt
from smalti.demo.samples import draw_digits
from smalti.util import binary

IMAGES = draw_digits(3, seed=3)[:, 10:15, 10:14].copy()
HEAD, BITS = b"\x28\x03\x00", 20  # flags 32 and 8, three images of the fallback
RECORDS = [raw_record(image) + check_of(image, BITS).to_bytes(3, "little") for image in IMAGES]  # 24 bytes each


def each(payload: bytes, images: int = 3, kind: fmt.Kind = GRAY) -> bytes:
    """An archive of a block with that payload, whose hash is that of the three images."""
    torn = archive_of(kind, images, payload)
    torn.blocks[0]["head"] = torn.blocks[0]["head"]._replace(pixels=binary.hash64(IMAGES.tobytes()))
    return torn.whole()


def table(width: int, *rest: int, bits: int = BITS, head: bytes = HEAD) -> bytes:
    return head + bytes([bits, width, *rest])


@attack(one_by_one, "")
def entries_that_are_honest():
    """Three images of the fallback, each with an entry."""
    return each(pack_entries(HEAD, BITS, None, RECORDS))


@attack(read_all, "CorruptError", "not fill their block")
def entries_of_2_60_bytes():
    """Entries of 2^60 bytes each."""
    return each(table(0) + binary.varint(1 << 60) + b"".join(RECORDS))


@attack(one_by_one, "CorruptError", "not fill their block")
def entries_of_2_60_bytes_one_by_one():
    """The same, when a single image is asked for."""
    return each(table(0) + binary.varint(1 << 60) + b"".join(RECORDS))


@attack(one_by_one, "CorruptError", "not fill their block")
def entries_that_leave_bytes():
    """Entries that end before the payload does."""
    return each(table(0, 23) + b"".join(RECORDS))


@attack(one_by_one, "CorruptError", "table of single images is impossible")
def entries_of_lengths_of_255_bits():
    """Lengths of 255 bits."""
    return each(table(255, 24) + b"".join(RECORDS))


@attack(one_by_one, "CorruptError", "table of single images is impossible")
def entries_with_bits_behind_the_last():
    """Lengths of three bits, and bits that are set behind the last."""
    return each(table(3, 24, 0, 0xFE) + b"".join(RECORDS))


@attack(one_by_one, "CorruptError", "within the table")
def entries_of_a_payload_that_ends_in_the_table():
    """4096 images, and a payload that ends within the table of their lengths."""
    return each(b"\x28\x00\x10" + bytes([BITS, 25, 1]) + bytes(9), 4096)


@attack(one_by_one, "CorruptError", "impossible size")
def entries_with_checks_of_no_bit():
    """Checks of no bit, which would fit any image."""
    return each(table(0, 24, bits=0) + b"".join(RECORDS))


@attack(one_by_one, "CorruptError", "impossible size")
def entries_with_checks_of_255_bits():
    """Checks of 255 bits."""
    return each(table(0, 24, bits=255) + b"".join(RECORDS))


@attack(one_by_one, "CorruptError", "other pixels than were packed")
def entry_of_another_check():
    """An image whose check is that of another one."""
    swapped = RECORDS[0][:-3] + RECORDS[1][-3:]
    return each(pack_entries(HEAD, BITS, None, [swapped, *RECORDS[1:]]))


@attack(read_all, "CorruptError", "other pixels than were packed")
def entry_of_another_check_in_a_block():
    """The same, when all images are read, although the hash of the block is right."""
    swapped = RECORDS[0][:-3] + RECORDS[1][-3:]
    return each(pack_entries(HEAD, BITS, None, [swapped, *RECORDS[1:]]))


@attack(one_by_one, "CorruptError", "no check")
def entry_without_a_check():
    """An entry of two bytes, which has no room for a check."""
    return each(pack_entries(HEAD, BITS, None, [b"\3\3", *RECORDS[1:]]))


@attack(one_by_one, "CorruptError", "impossible field")
def entry_whose_record_ends_too_soon():
    """A record that is longer than its entry."""
    return each(pack_entries(HEAD, BITS, None, [RECORDS[0][:10], *RECORDS[1:]]))


@attack(one_by_one, "CorruptError", "does not end where it should")
def entry_with_bytes_behind_the_record():
    """A byte between a record and its check."""
    longer = RECORDS[0][:-3] + b"\0" + RECORDS[0][-3:]
    return each(pack_entries(HEAD, BITS, None, [longer, *RECORDS[1:]]))


@attack(one_by_one, "CorruptError", "images without model that it claims")
def entries_of_a_kind_that_there_is_not():
    """Images of kind 3, where the head offers pixels and the fallback."""
    return each(pack_entries(b"\x2a\0\0\x03\x00", BITS, [3, 3, 3], RECORDS))


@attack(one_by_one, "CorruptError", "images without model that it claims")
def entries_of_other_counts():
    """Two images of the fallback, where the head counts three."""
    return each(pack_entries(b"\x2a\0\0\x03\x00", BITS, [FALLBACK, FALLBACK, 0], RECORDS))


@attack(one_by_one, "CorruptError", "")
def entry_of_a_stream_of_garbage():
    """A stream of random bytes."""
    return each(pack_entries(b"\x22\0\0", BITS, None, [b"\x12\x34\x56" * 9, b"\x01", b"\x02"]))


@attack(one_by_one, "CorruptError", "zero byte")
def entry_of_a_stream_that_ends_in_zero():
    """A stream that ends in a zero byte, which no encoder writes."""
    return each(pack_entries(b"\x22\0\0", BITS, None, [b"\x12\0", b"\x01", b"\x02"]))


@attack(one_by_one, "CorruptError", "of a shape that its model does not take")
def entries_by_latents_of_another_size():
    """Images of 5x4 that claim to be coded by latents of 28x28, each by itself."""
    return each(pack_entries(b"\x21\x10\x10", BITS, None, [b"\x12", b"\x01", b"\x02"]))
