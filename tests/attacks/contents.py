# SPDX-License-Identifier: MIT
"""Archives whose sections or payloads lie, and files of one image that do."""

import numpy as np
from attacks.attack import GRAY, RAW, attack, raw
from attacks.build import archive_of, deflate, deflated_zeros
from attacks.targets import read_all

import smalti
from smalti.container import format as fmt
from smalti.container.single_image import pack_single
from smalti.util import binary

# Sections


def said(code: int, data: bytes, count: int = 1) -> bytes:
    return raw(count).say(code, count if code < 4 else 0, data).whole()


@attack(read_all, "CorruptError", "does not end where it should")
def section_of_1_gib():
    """Metadata that inflate to 1 GiB from 1 MB."""
    torn = raw()
    torn.sections.append({"code": fmt.METADATA, "first": 0, "count": 0, "data": deflated_zeros(64)})
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
    template = binary.varint(4000) + binary.varint(1) + b"a" + b"\0" * 4000 + b"\1" * 4000
    torn = archive_of(GRAY, 4000, RAW)
    return torn.say(fmt.NAMES, 4000, b"\1\1" + template + bytes(4000) + bytes(4000 * 4001)).whole()


@attack(read_all, "CorruptError", "")
def names_of_a_template_of_2000_numbers():
    """500 names of 2000 numbers each, each told by all to its left: slow if these are compared as a whole."""
    template = binary.varint(2000) + b"\0" + b"\1-" * 2000 + b"\1" * 2000
    column = b"\2" + b"\0" * 500
    torn = archive_of(GRAY, 500, RAW)
    return torn.say(fmt.NAMES, 500, b"\1\1" + template + bytes(500) + column * 2000).whole()


@attack(read_all, "CorruptError", "more room than a section may")
def names_filled_up_with_zeros():
    """Names whose numbers are filled up to 4096 digits, again and again: gigabytes of zeros."""
    template = binary.varint(250) + b"\0" * 251 + binary.varint(4096) * 250
    return said(fmt.NAMES, b"\1\1" + template + bytes(4000) + bytes(250 * 4001), 4000)


@attack(read_all, "CorruptError", "the most")
def names_of_2_62_templates():
    """2^62 templates of names."""
    return said(fmt.NAMES, b"\1" + binary.varint(2**62))


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
    return said(fmt.LABELS, b"\2" + binary.varint(2**40))


@attack(read_all, "CorruptError", "the most")
def labels_of_16_million_numbers():
    """Labels of 2^24 numbers, all zero."""
    return said(fmt.LABELS, b"\2" + binary.varint((1 << 24) - 10) + bytes((1 << 24) - 10))


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


@attack(read_all, "CorruptError", "no JSON")
def metadata_that_are_not_a_number():
    """`NaN` in metadata."""
    return said(fmt.METADATA, b'{"a": NaN}')


@attack(read_all, "CorruptError", "no JSON")
def metadata_beyond_all_numbers():
    """`1e999` in metadata, which is infinite."""
    return said(fmt.METADATA, b'{"a": 1e999}')


@attack(read_all, "CorruptError", "no JSON")
def metadata_with_half_a_character():
    """Half of a pair of surrogates in metadata."""
    return said(fmt.METADATA, b'{"a": "\\ud800"}')


# Payloads


@attack(read_all, "CorruptError", "wrong number of pixels")
def plain_image_of_1_gib():
    """A plain image of 20 pixels that inflates to 1 GiB."""
    stream = deflated_zeros(64)
    return archive_of(GRAY, 1, b"\x08\1\0" + b"\0" + binary.varint(len(stream)) + stream).whole()


@attack(read_all, "CorruptError", "impossible field")
def plain_images_65535():
    """A block of one image that has 65535 plain ones."""
    return archive_of(GRAY, 1, b"\x08\xff\xff").whole()


@attack(read_all, "CorruptError", "impossible field")
def plain_image_of_2_62_bytes():
    """A plain image of 2^62 bytes."""
    return archive_of(GRAY, 1, b"\x08\1\0" + b"\0" + binary.varint(2**62)).whole()


@attack(read_all, "CorruptError", "impossible field")
def payload_of_flags_without_a_way():
    """A head that names a post-filter, and no way in which an image is coded."""
    return archive_of(GRAY, 1, b"\x04").whole()


@attack(read_all, "CorruptError", "impossible field")
def payload_of_a_level_beyond_all():
    """A head of a level of coding by transform that there is not."""
    return archive_of(GRAY, 1, b"\x80\x00\x29more").whole()


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
    return data[:12] + binary.varint(2**62) + b"x"


@attack(read_all, "UnknownModelError", "ffffff")
def single_of_an_unknown_model():
    """A model that nobody knows."""
    data = single(0, None, b"\1\0\0")
    return data[:9] + b"\xff" * 3 + data[12:]


@attack(read_all, "CorruptError", "other pixels")
def single_of_other_pixels():
    """A payload that is right but for what it should decode to."""
    return single(1, (5, 4), RAW + bytes(20))
