# SPDX-License-Identifier: MIT
"""Which names of images may become names of files, and how."""

import os

from smalti.errors import CorruptError

_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", "conin$", "conout$", *(f"{d}{i}" for d in ("com", "lpt") for i in "0123456789¹²³"))
)
"""Files that are devices on Windows, in every folder and with every suffix."""
_MAX_PARTS = 100
"""Folders in folders: beyond that, operating systems and Python itself give up."""


def unsafe_name(name: str, *, strict: bool = os.name == "nt") -> bool:
    r"""Whether a file of that name could land outside the target folder, nowhere, or where another name lands too.

    `strict` counts what Windows makes of a name: for archives that are written, which are carried to other machines.
    What is only read is a name, and no file yet.

    >>> [unsafe_name(name) for name in ("a/b.png", "../a.png", "/a.png", "./a.png", "a//b.png", "")]
    [False, True, True, True, True, True]
    >>> [unsafe_name(name, strict=True) for name in ("a.b/c d.png", "a\\b.png", "C:a.png", "d/NUL.png", "a./b.png")]
    [False, True, True, True, True]
    """
    parts = name.split("/")
    if not set(parts).isdisjoint(("", ".", "..")) or "\0" in name or len(parts) > _MAX_PARTS:
        return True
    return strict and any(_bad_on_windows(part) for part in parts)


def plain_name(name: str) -> str:
    """A name as the images of a folder have it, where an archive was made of "." or metadata lists "./a.png".

    >>> [plain_name(name) for name in ("./a/b.png", "a.png", "../a.png")]
    ['a/b.png', 'a.png', '../a.png']
    """
    while name.startswith("./"):
        name = name[2:]
    return name


def _bad_on_windows(part: str) -> bool:
    if part.endswith((".", " ")) or any(c in '\\:*?"<>|' or ord(c) < 32 for c in part):
        return True
    return part.partition(".")[0].rstrip().lower() in _DEVICES


def file_name(name: str, target: str, *, strict: bool = os.name == "nt") -> str:
    """The file of an image in a folder or an archive: its name, with .png added where it is not there.

    `strict` as in `unsafe_name`.

    Raises:
        CorruptError: the name is no safe path.
    """
    if unsafe_name(name, strict=strict):
        other = "a parquet file (or npz, if all are of one size)" if unsafe_name(name) else "a folder or a parquet file"
        raise CorruptError(f"an image is named {name!r:.80}, which is no safe path in {target}; unpack to {other}")
    return name if name.lower().endswith(".png") else name + ".png"
