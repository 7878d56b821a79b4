# SPDX-License-Identifier: MIT
"""Code where listed images are stored, and which of them are removed or replaced, as the data of sections.

Names, labels and profiles speak of listed images. Places tell of each which stored image it is, so that an image which
is there twice is stored once. Edits tell which listed images are not shown, or shown in the place of another one.
"""

from collections.abc import Iterable, Sequence

from smalti.container.annotation_codec import SectionReader, deflate, fold, inflate, unfold
from smalti.errors import CorruptError
from smalti.util.binary import varint

NEW, NEXT, NUMBERED = 0, 1, 2
"""The codes of a place: the first stored image that no listed image before has introduced; the stored image behind that
of the image before; or a number, of (code - NUMBERED + 1) bytes."""
MAX_NUMBER_BYTES = 4
MAX_EDITS = 1 << 20
"""The most edits that a section lists."""
PLACES_IMAGES = 1 << 14
"""The most images of a section of places that a writer writes: to read one image, its section is read."""

Edit = tuple[int, int | None]
"""A listed image, and the listed image that is shown in its place; None: it is removed."""


def pack_places(places: Sequence[int], new: int) -> bytes:
    """Code the stored images of listed ones as the data of a section.

    Args:
        places: for each listed image, the number of its stored image.
        new: the number of stored images that the listed images before introduced.
    """
    codes, columns, before, start = bytearray(), [bytearray() for _ in range(MAX_NUMBER_BYTES)], -1, new
    for place in places:
        if place == new:
            codes.append(NEW)
            new += 1
        elif place == before + 1:
            codes.append(NEXT)
        else:
            size = max(1, (place.bit_length() + 7) // 8)
            codes.append(NUMBERED + size - 1)
            for i, byte in enumerate(place.to_bytes(size, "little")):
                columns[i].append(byte)
        before = place
    return deflate(varint(start) + bytes(codes) + b"".join(columns))


def unpack_places(data: bytes, count: int) -> tuple[int, list[int]]:
    """Decode the stored images of `count` listed ones; also return how many were introduced before.

    Raises:
        CorruptError: the data are damaged.
    """
    reader = SectionReader(inflate(data))
    start = new = reader.number()
    codes = reader.take(count)
    if codes and max(codes) >= NUMBERED + MAX_NUMBER_BYTES:
        raise CorruptError("a place of an image is coded in an unknown way; the file is damaged")
    lengths = [code - NUMBERED + 1 for code in codes if code >= NUMBERED]
    columns = [iter(reader.take(sum(length > i for length in lengths))) for i in range(MAX_NUMBER_BYTES)]
    reader.finish()
    places, before = list[int](), -1
    for code in codes:
        if code == NEW:
            before, new = new, new + 1
        elif code == NEXT:
            before += 1
        else:
            before = sum(next(columns[i]) << 8 * i for i in range(code - NUMBERED + 1))
        places.append(before)
    return start, places


def introduced(places: Iterable[int], new: int) -> int:
    """Return how many stored images are introduced when these places come behind `new` that were."""
    for place in places:
        new += place == new
    return new


def pack_edits(edits: Sequence[Edit]) -> bytes:
    """Code edits as the data of a section: all numbers of the images, then all of what is shown there."""
    coded, before = [varint(len(edits))], 0
    for image, _ in edits:
        coded.append(varint(fold(image - before)))
        before = image
    coded += [varint(0 if shown is None else shown + 1) for _, shown in edits]
    return deflate(b"".join(coded))


def unpack_edits(data: bytes, listed: int) -> list[Edit]:
    """Decode the edits of an archive that lists so many images.

    Raises:
        CorruptError: the data are damaged, or name an image that is not listed.
    """
    reader = SectionReader(inflate(data))
    count, images, image = reader.number(MAX_EDITS), list[int](), 0
    for _ in range(count):
        image += unfold(reader.number())
        images.append(image)
    shown = [reader.number(listed) for _ in range(count)]
    reader.finish()
    if not all(0 <= image < listed for image in images):
        raise CorruptError("an image that is not listed is edited; the file is damaged")
    return [(image, number - 1 if number else None) for image, number in zip(images, shown, strict=True)]
