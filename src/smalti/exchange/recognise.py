# SPDX-License-Identifier: MIT
"""Which files of a folder or an archive are taken for images, alike for all of them, and why others are not."""

import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from smalti.errors import UsageError
from smalti.exchange.labels import METADATA
from smalti.types import PassedOver, Reason

HIDDEN = Reason("hidden file", "hidden files")
HIDDEN_FOLDER = Reason("hidden folder", "hidden folders")
NO_IMAGE = Reason("file that is no image", "files that are no images")
NOT_READ = Reason("image of a format that smalti does not read", "images of formats that smalti does not read")
UNREADABLE = Reason("file that cannot be read", "files that cannot be read")
LINKED_AGAIN = Reason("link to a folder that is read anyway", "links to folders that are read anyway")
LINK = Reason("link in an archive that is not followed", "links in archives that are not followed")
FURTHER = Reason("further image beside a photo (MPO)", "further images beside photos (MPO)")

HEAD_BYTES = 32
"""The bytes at the start of a file by which it is recognised as an image."""

_FORMATS = (
    *("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "ICNS", "TGA"),
    "QOI",
)
"""The formats that Pillow may decode. Others are left out on purpose: EPS, for one, runs a program."""
_HIDDEN = frozenset(("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"))
"""The files and folders, in lower case, that operating systems put beside images; names that start with a dot are
hidden as well."""
_NOT_READ = frozenset(
    f".{suffix}"
    for line in (
        "heic heif hif jxl jxr svg svgz psd xcf eps exr hdr dds pcx dcx sgi rgb rgba bw ras xbm xpm cur fits fit wmf",
        "emf bpg dng cr2 cr3 nef arw orf rw2 raf",
    )
    for suffix in line.split()
)
"""The suffixes of images that smalti does not read."""
_STARTS = (
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"qoif"),
    *(b"icns", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
)
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes of the second header, by version of the format
_PPM = re.compile(rb"P[1-6]\s+[#0-9]")


@functools.cache
def formats() -> tuple[str, ...]:
    """Return those of the formats that may be decoded that this Pillow can decode."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@functools.cache
def suffixes() -> frozenset[str]:
    """Return the suffixes, in lower case, of the formats of images that are read, as Pillow knows them."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats())


def is_hidden(name: str) -> bool:
    """Return whether a file, by its path within a folder or an archive, is hidden, or in a hidden folder.

    >>> [is_hidden(name) for name in ("a/b.png", "a/.b.png", "__MACOSX/a.png", "Thumbs.db", "../a.png")]
    [False, True, True, True, False]
    """
    parts = name.split("/")
    return any((part.startswith(".") and part not in (".", "..")) or part.lower() in _HIDDEN for part in parts)


def suffix_of(name: str) -> str:
    """Return the suffix of a file in lower case; "" if it has none.

    >>> suffix_of("a.b/c"), suffix_of("a/c.PNG")
    ('', '.png')
    """
    _, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return f".{suffix}".lower() if dot else ""


def refuse_image_suffix(path: Path | str) -> None:
    """Refuse a target of packing that is called like an image.

    Raises:
        UsageError: it has the suffix of an image.
    """
    if suffix_of(Path(path).name) in suffixes():
        raise UsageError(f"{path} is called like an image; end the name of the file to write with .smalti")


def refuse_same_names(paths: Iterable[Path | str]) -> None:
    """Refuse image files that are given one by one and have one name, for images have the names of their files.

    Raises:
        UsageError: two paths end alike.
    """
    known = dict[str, Path]()
    for path in map(Path, paths):
        if suffix_of(path.name) in suffixes():
            other = known.setdefault(path.name, path)
            if other is not path:
                raise UsageError(f"{other} and {path} would have one name, {path.name}; pack their common folder")


def is_image(name: str, head: Callable[[], bytes], passed: PassedOver, *, link: bool = False) -> bool:
    """Return whether a file is taken for an image; if not, note the reason in `passed`.

    Args:
        name: the path of the file within a folder or an archive.
        head: reads the first `HEAD_BYTES` bytes of the file; called only where the suffix says nothing.
        passed: what is passed over.
        link: whether this is a symbolic link in an archive, which has no content.
    """
    suffix = suffix_of(name)
    if is_hidden(name):
        passed.note(HIDDEN, name)
    elif suffix in suffixes():
        return True
    elif suffix in _NOT_READ:
        passed.note(NOT_READ, name)
    elif link:
        passed.note(LINK, name)
    elif name.rpartition("/")[2] not in METADATA:
        try:
            if starts_as_image(head()):
                return True
            passed.note(NO_IMAGE, name)
        except Exception:  # noqa: BLE001 - whatever a damaged archive raises
            passed.note(UNREADABLE, name)
    return False


def starts_as_image(head: bytes) -> bool:
    """Return whether the first `HEAD_BYTES` bytes of a file are those of an image; TGA has nothing to tell it by."""
    if head.startswith(_STARTS) or _PPM.match(head):
        return True
    if head.startswith(b"BM"):
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    if head.startswith(b"\0\0\1\0"):  # an icon: how many sizes, then of the first size a zero byte and 0 or 1 planes
        return len(head) > 11 and head[4] > 0 and head[5] == head[9] == head[11] == 0 and head[10] <= 1
    return head[8:12] == b"WEBP" if head.startswith(b"RIFF") else head[4:12] in (b"ftypavif", b"ftypavis")


def no_images(message: str, passed: PassedOver) -> str:
    """Return the message that a source holds no images, with what was passed over in it."""
    whole = f"{message} PNG, JPEG, WebP, ... files"
    return f"{whole} (passed over: {passed})" if str(passed) else whole
