# SPDX-License-Identifier: MIT
"""Where images go to: a folder of PNG files, an npz file or an idx file. Whole or not at all."""

import contextlib
import gzip
import io
import os
import re
import secrets
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smalti.atomic import atomic_write, output_error, refuse_existing
from smalti.errors import CorruptError, OutputExistsError, UsageError
from smalti.images import IDX_UBYTE_3D, ImageSet

_IDX = re.compile(r"[.-]idx(3-ubyte)?(\.gz)?$", re.IGNORECASE)
_NOT_YET = (".zip", ".tar", ".tgz", ".gz", ".parquet", ".npy", ".png", ".smalti")
_UNSAFE_HERE = '\\:*?"<>|' if os.name == "nt" else ""
"""Characters that mean something to this operating system within a name."""


def check_target(target: Path, *, gray: bool, force: bool) -> None:
    """Raise, before any work is done, if `write_images` would refuse `target`.

    Raises:
        OutputExistsError: it exists and `force` is false.
        UsageError: it is an idx file and the images are not gray, or a kind of file that is not written.
        OutputError: the operating system does not even let us look.
    """
    if _is_file(target):
        if _IDX.search(target.name) and not gray:
            raise UsageError(f"{target.name}: idx files hold gray images only; unpack to a folder or to .npz")
        refuse_existing(target, force=force)
        return
    if target.suffix.lower() in _NOT_YET:
        raise UsageError(f"{target.name}: give a folder, FILE.npz or FILE-idx3-ubyte[.gz]")
    try:
        if target.is_dir():
            if any(target.iterdir()) and not force:
                raise OutputExistsError(f"{target} is not empty; choose another folder or add --force to add to it")
        elif os.path.lexists(target):
            raise OutputExistsError(f"{target} is a file; to unpack into one name it FILE.npz or FILE-idx3-ubyte[.gz]")
    except (OSError, ValueError) as exc:
        raise output_error(target, exc) from exc


def write_images(images: ImageSet, target: Path, *, force: bool = False) -> None:
    """Write `images` to `target`: `*.npz`, `*-idx3-ubyte[.gz]`, `*.idx[.gz]`, else a folder of PNG files.

    Files in a folder are called by the images' names, with .png added where it is not there, or by number. With
    `force`, an npz or idx file is replaced; in a folder, files of the same names are, one by one, once all are written.

    Raises:
        OutputExistsError, UsageError: see `check_target`.
        OutputError: the disk is full, not writable, ...; the target is as it was.
        CorruptError: a name leads outside of the folder.
    """
    check_target(target, gray=images.pixels.ndim == 3, force=force)
    if not _is_file(target):
        _write_folder(images, target)
        return
    with atomic_write(target, force=force) as file:
        if target.suffix.lower() == ".npz" and images.names is not None:
            np.savez_compressed(file, images=images.pixels, names=np.array(images.names))
        elif target.suffix.lower() == ".npz":
            np.savez_compressed(file, images=images.pixels)
        elif target.suffix.lower() == ".gz":
            with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as zipped:
                zipped.writelines(idx_bytes(images.pixels))
        else:
            file.writelines(idx_bytes(images.pixels))


def _is_file(target: Path) -> bool:
    return target.suffix.lower() == ".npz" or _IDX.search(target.name) is not None


def _write_folder(images: ImageSet, folder: Path) -> None:
    """All files to a hidden folder beside the new one, or within the one that is there; then into place."""
    digits = len(str(len(images.pixels) - 1))
    names = images.names or tuple(f"{i:0{digits}d}.png" for i in range(len(images.pixels)))
    if (bad := next((name for name in names if unsafe_name(name)), None)) is not None:
        raise CorruptError(
            f"an image is named {bad!r}, which is no safe path in {folder}; unpack to an npz file instead"
        )
    names = tuple(name if name.lower().endswith(".png") else name + ".png" for name in names)
    there = folder.is_dir()
    temporary = (folder if there else folder.parent) / f".{folder.name[:60]}.{secrets.token_hex(4)}.part"
    try:
        for name, image in zip(names, images.pixels, strict=True):
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:  # "x": two names must never be one file
                file.write(png_bytes(image))
        if there:
            _move_into(temporary, names, folder)
        else:
            temporary.replace(folder)
    except (OSError, ValueError) as exc:
        raise output_error(folder, exc) from exc
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)


def _move_into(temporary: Path, names: tuple[str, ...], folder: Path) -> None:
    """Move files over those of a folder that is there; what could fail is tried before the first is moved."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (folder / name).is_dir():
            raise OutputExistsError(f"{folder / name} is a folder where a file should go; choose another target")
    for name in names:
        (temporary / name).replace(folder / name)


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """An image (`h w` or `h w 3`) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def idx_bytes(pixels: NDArray[np.uint8]) -> Iterator[bytes]:
    """Gray images (`n h w`) as an idx file, part by part."""
    yield IDX_UBYTE_3D + struct.pack(">3I", *pixels.shape)
    yield from (image.tobytes() for image in pixels)


def unsafe_name(name: str) -> bool:
    """Whether a file of that name could land outside the target folder, nowhere, or where another name lands too.

    >>> [unsafe_name(name) for name in ("a/b.png", "../a.png", "/a.png", "./a.png", "a//b.png", "")]
    [False, True, True, True, True, True]
    """
    parts = name.split("/")
    return not set(parts).isdisjoint(("", ".", "..")) or any(c in name for c in _UNSAFE_HERE + "\0")
