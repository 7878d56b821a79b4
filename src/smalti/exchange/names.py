# SPDX-License-Identifier: MIT
"""Names of images as names of files: which names are safe, and what a file is called."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from smalti.errors import CorruptError

_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", "conin$", "conout$", *(f"{d}{i}" for d in ("com", "lpt") for i in "0123456789¹²³"))
)
"""The names that stand for devices on Windows, in every folder and with every suffix."""
_NOT_ON_WINDOWS = '\\:*?"<>|'
PNG = ".png"
"""The suffix of the files of images."""
_MAX_PARTS = 100
"""The most folders in folders, the file itself included; operating systems and Python itself fail with many more."""


def unsafe_name(name: str, *, strict: bool = os.name == "nt") -> bool:
    r"""Return whether a file of that name could land outside the target folder, nowhere, or where another name lands.

    `strict` also refuses what is unsafe on Windows. Archives that are written need it, because they are carried to
    other machines; archives that are read do not, because their names are not yet names of files.

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
    """Return a name without the "./" that archives of the folder "." and some metadata files put before it.

    >>> [plain_name(name) for name in ("./a/b.png", "a.png", "../a.png")]
    ['a/b.png', 'a.png', '../a.png']
    """
    while name.startswith("./"):
        name = name[2:]
    return name


def _bad_on_windows(part: str) -> bool:
    if part.endswith((".", " ")) or any(c in _NOT_ON_WINDOWS or ord(c) < 32 for c in part):
        return True
    return part.partition(".")[0].rstrip().lower() in _DEVICES


def portable_name(name: str, *, strict: bool = True) -> str:
    r"""Return a name that stays in its folder: what is unsafe in it is written as `%` and two digits.

    These are slashes that no folder stands before, and the parts `.` and `..`; if `strict`, also what Windows refuses,
    so that every system takes the name. Names of too many parts, empty ones and those with a zero byte stay unsafe.

    >>> [portable_name(name) for name in ("12:00.png", "a\\b.png", "NUL.png", "a./b.png", "a/b%.png")]
    ['12%3A00.png', 'a%5Cb.png', '%4EUL.png', 'a%2E/b.png', 'a/b%.png']
    >>> [portable_name(name, strict=False) for name in ("../a.png", "/a.png", "a//b.png", "a/", "12:00.png")]
    ['%2E%2E/a.png', '%2Fa.png', 'a/%2Fb.png', 'a%2F', '12:00.png']
    """
    if not unsafe_name(name, strict=strict) or not name or "\0" in name:
        return name
    parts, slashes = list[str](), ""
    for part in name.split("/"):
        if part:
            dots = part.replace(".", _escaped(".")) if part in (".", "..") else part
            parts.append(slashes + (_portable(dots) if strict and _bad_on_windows(dots) else dots))
        slashes = "" if part else slashes + _escaped("/")
    if slashes:  # at the end
        parts[-1:] = [(parts[-1] if parts else "") + slashes]
    return "/".join(parts)


def _portable(part: str) -> str:
    part = "".join(_escaped(c) if c in _NOT_ON_WINDOWS or ord(c) < 32 else c for c in part)
    if part.endswith((".", " ")):
        part = part[:-1] + _escaped(part[-1])
    return _escaped(part[0]) + part[1:] if _bad_on_windows(part) else part


def _escaped(c: str) -> str:
    return f"%{ord(c):02X}"


def file_name(name: str, target: str, *, strict: bool = os.name == "nt") -> str:
    """Return the name of the file of an image in a folder or an archive, with .png added unless it is there.

    `strict` has the meaning that it has in `unsafe_name`.

    Raises:
        CorruptError: the name is no safe path, also after `portable_name`.
    """
    if unsafe_name(name, strict=strict):
        other = "a parquet file (or npz, if all are of one size)" if unsafe_name(name) else "a folder or a parquet file"
        raise CorruptError(f"an image is named {name!r:.80}, which is no safe path in {target}; unpack to {other}")
    return with_png(name)


def free_name(name: str, taken: set[str]) -> str:
    """Return the name, or one with a number whose file is none of those that are `taken`; add its file to these.

    >>> taken = set()
    >>> [free_name(name, taken) for name in ("a", "a.png", "a.PNG", "b", "a-2.png")]
    ['a', 'a-2.png', 'a.PNG', 'b', 'a-2-2.png']
    """
    file = with_png(name)
    if file in taken:
        numbered = (f"{file[: -len(PNG)]}-{k}{PNG}" for k in itertools.count(2))
        name = file = next(other for other in numbered if other not in taken)
    taken.add(file)
    return name


def with_png(name: str) -> str:
    """Return the name of an image with .png added, unless it is there."""
    return name if name.lower().endswith(PNG) else name + PNG


def stems(paths: Sequence[str]) -> list[str]:
    """Return what the names made for the images of each file start with: `x`, then `x-2`, ... for further files `x`.

    >>> stems(["a/x.npy", "b/x.npy", "x-2.npy", "y.npz"])
    ['x', 'x-2', 'x-2-2', 'y']
    """
    found: dict[str, None] = {}  # in order
    for path in paths:
        stem = Path(path).stem
        numbered = (f"{stem}-{k}" for k in itertools.count(2))
        found[next(name for name in itertools.chain([stem], numbered) if name not in found)] = None
    return list(found)
