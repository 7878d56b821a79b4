# SPDX-License-Identifier: MIT
"""What an image file says of its samples where Pillow says nothing: Pillow cuts 16 bits to 8, and leaves out bands."""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

_MAX_HEADER = 1 << 24  # bytes that are searched for the properties of an AVIF file, or for a palette
_JPEG_ENDS = (0xD9, 0xDA)  # the end of the image, and the start of its data
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_J2K = b"\xff\x4f\xff\x51"
_BITS, _MEANING, _SAMPLES, _PLANES, _COLOURS, _FORMAT = 258, 262, 277, 284, 320, 339  # tags of TIFF
_MODES = (
    *((1, ("1", "L", "P", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")), (2, ("LA", "PA"))),
    *((3, ("RGB", "YCbCr", "LAB")), (4, ("RGBA", "CMYK"))),
)
_BANDS = {mode: bands for bands, modes in _MODES for mode in modes}


def deep_file(file: BinaryIO) -> int:
    """Return the most bits a sample that a JPEG, JPEG 2000, AVIF or ICNS file says it has; 0 for all other files.

    The file is left at its start.
    """
    file.seek(0)
    head = file.read(16)
    bits = 0
    if head.startswith(b"\xff\xd8"):
        bits = _jpeg(file)
    elif head.startswith(_J2K):
        bits = _codestream(file, 0)
    elif head.startswith(b"icns"):
        bits = max(_streams_within(file), default=0)
    elif head[4:8] == b"jP  " or head[4:8] == b"ftyp":
        bits = max(_boxes_bits(file), default=0)
    file.seek(0)
    return bits


def _jpeg(file: BinaryIO) -> int:
    """Return the precision of the first frame header (ITU-T T.81, B.2.2)."""
    file.seek(2)
    while len(start := file.read(2)) == 2 and start[0] == 0xFF:
        while start[1] == 0xFF and (more := file.read(1)):  # a marker may have any number of fill bytes before it
            start = b"\xff" + more
        if start[1] in _JPEG_ENDS or len(size := file.read(2)) < 2:
            break
        if start[1] in _JPEG_FRAMES:
            return (file.read(1) or b"\0")[0]
        file.seek(max(0, int.from_bytes(size, "big") - 2), os.SEEK_CUR)
    return 0


def _codestream(file: BinaryIO, start: int) -> int:
    """Return the most bits a component of a JPEG 2000 codestream (ISO/IEC 15444-1, A.5.1); signed ones count as 9."""
    file.seek(start)
    head = file.read(42)
    if not head.startswith(_J2K) or len(head) < 42:
        return 0
    sizes = file.read(3 * int.from_bytes(head[40:], "big"))[::3]
    return max(map(_component_bits, sizes), default=0)


def _streams_within(file: BinaryIO) -> Iterator[int]:
    """Yield the bits a component of each JPEG 2000 codestream that starts somewhere in an icon."""
    file.seek(0)
    data, at = file.read(_MAX_HEADER), -1
    while (at := data.find(_J2K, at + 1)) >= 0:
        yield _codestream(file, at)


def _component_bits(size: int) -> int:
    return max((size & 0x7F) + 1, 9 if size & 0x80 else 0)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes between two places: kind, start of the content, end."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        content = start + 8
        if size == 1:
            size, content = int.from_bytes(file.read(8), "big"), start + 16
        stop = end if size == 0 else start + size
        if stop < content or stop > end:
            break
        yield kind, content, stop
        start = stop


def _boxes_bits(file: BinaryIO) -> Iterator[int]:
    """Yield the bits a sample of each stream and palette in a JP2 or AVIF file."""
    end = file.seek(0, os.SEEK_END)
    for kind, start, stop in _boxes(file, 0, end):
        if kind == b"jp2c":
            yield _codestream(file, start)
        elif kind == b"jp2h":
            yield from _palette_bits(file, start, stop)
        elif kind in (b"meta", b"moov"):
            file.seek(start)
            yield from _av1_bits(file.read(min(stop - start, _MAX_HEADER)))


def jp2_profile(file: BinaryIO) -> bytes | None:
    """Return the ICC profile in a JP2 file (ISO/IEC 15444-1, I.5.3.3); None without any. Pillow does not read it.

    The file is left at its start.
    """
    file.seek(0)
    profile, end = None, file.seek(0, os.SEEK_END) if file.read(8)[4:] == b"jP  " else 0
    for kind, start, stop in _boxes(file, 0, end):
        for inner, content, after in _boxes(file, start, stop) if kind == b"jp2h" else ():
            file.seek(content)
            if inner == b"colr" and profile is None and file.read(3)[:1] in (b"\2", b"\3"):
                profile = file.read(min(after - content - 3, _MAX_HEADER)) or None
    file.seek(0)
    return profile


def _palette_bits(file: BinaryIO, start: int, end: int) -> Iterator[int]:
    for kind, content, _ in _boxes(file, start, end):
        if kind == b"pclr":
            file.seek(content)
            columns = file.read(3)[2:]
            yield from map(_component_bits, file.read(columns[0] if columns else 0))


def _av1_bits(properties: bytes) -> Iterator[int]:
    """Yield the depth of each AV1 configuration (its version byte is 0x81) in the properties of an AVIF file."""
    at = -1
    while (at := properties.find(b"av1C\x81", at + 1)) >= 0:
        flags = properties[at + 6] if at + 6 < len(properties) else 0
        yield 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


def deep_image(image: Image.Image) -> int:
    """Return the most bits a sample of an opened PNG, PPM or TIFF file; 0 if Pillow loses none of them."""
    arguments = [tile[3] for tile in getattr(image, "tile", ())]
    if image.format == "PPM":
        most = max((int(args[-1]) for args in arguments if isinstance(args, tuple) and len(args) == 2), default=0)
        return most.bit_length()
    if image.format == "PNG":
        return 16 if any(";16" in str(args) for args in arguments) else 0
    return 0 if (tags := getattr(image, "tag_v2", None)) is None else _tiff_bits(tags)


def _tiff_bits(tags: dict[int, tuple[int, ...]]) -> int:
    bits = max(tags.get(_BITS, (1,)))
    colours = tags.get(_COLOURS, ())  # of 16 bits each, of which only the upper 8 are kept
    if all(c % 257 == 0 for c in colours) or all(c % 256 == 0 for c in colours):
        return bits
    return max(bits, 16)


def misread(image: Image.Image) -> str:
    """Return what of an opened TIFF file Pillow takes for something else, and what to do, in words; "" if nothing."""
    if (tags := getattr(image, "tag_v2", None)) is None:
        return ""
    if image.mode not in ("I", "F") and not {1, 4}.issuperset(tags.get(_FORMAT, (1,))):
        return "samples that are no unsigned integers; save it with unsigned ones"
    bits = max(tags.get(_BITS, (1,)))
    if bits > 8 and tags.get(_SAMPLES, 1) > 1 and tags.get(_PLANES, 1) != 1:
        return f"{bits} bits a sample in planes; save it with the samples of a pixel together"
    return ""


def is_negative(image: Image.Image) -> bool:
    """Return whether 0 is white in an opened TIFF file."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(_MEANING, 1) == 0


def further_samples(image: Image.Image) -> str:
    """Return what samples of an opened TIFF file Pillow leaves out, in words; "" if it takes all."""
    if (tags := getattr(image, "tag_v2", None)) is None:
        return ""
    there, kept = tags.get(_SAMPLES, 1), _BANDS.get(image.mode, 4)
    return f"{there} samples a pixel, of which only {kept} are colour or alpha" if there > kept else ""
