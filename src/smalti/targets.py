# SPDX-License-Identifier: MIT
"""Write images: to a folder of PNG files, an npz file or an idx file. Whole or not at all."""

import contextlib
import gzip
import re
import secrets
import shutil
from pathlib import Path

import numpy as np

from smalti.atomic import atomic_write, output_error
from smalti.errors import CorruptError, OutputExistsError, UsageError
from smalti.images import ImageSet, idx_bytes, png_bytes, unsafe_name

_IDX = re.compile(r"[.-]idx(3-ubyte)?(\.gz)?$")


def check_target(target: Path, *, gray: bool, force: bool) -> None:
    """Raise, before any work is done, if `write_images` would refuse `target`.

    Raises:
        OutputExistsError: it exists and `force` is false.
        UsageError: it is an idx file and the images are not gray.
    """
    if _IDX.search(target.name) and not gray:
        raise UsageError(f"{target.name}: idx files hold gray images only; unpack to a folder or to .npz")
    if _is_file(target):
        if target.is_dir():
            raise OutputExistsError(f"{target} is a folder; give the name of a file to write")
        if target.exists() and not force:
            raise OutputExistsError(f"{target} exists already; choose another name or add --force to replace it")
    elif target.exists() and not target.is_dir():
        raise OutputExistsError(f"{target} is a file; to unpack into a file name it FILE.npz or FILE-idx3-ubyte[.gz]")
    elif target.is_dir() and any(target.iterdir()) and not force:
        raise OutputExistsError(f"{target} is not empty; choose another folder or add --force to add to it")


def write_images(images: ImageSet, target: Path, *, force: bool = False) -> None:
    """Write `images` to `target`: `*.npz`, `*-idx3-ubyte[.gz]`, `*.idx[.gz]`, else a folder of PNG files.

    Files in a folder are called by the images' names, with .png added where it is not there, or by number. With
    `force`, an npz or idx file is replaced, and files in a folder are replaced where the names are the same.

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
        if target.suffix == ".npz":
            arrays = {"images": images.pixels}
            if images.names is not None:
                arrays["names"] = np.array(images.names)
            np.savez_compressed(file, allow_pickle=False, **arrays)
        elif target.suffix == ".gz":
            with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as zipped:
                zipped.writelines(idx_bytes(images.pixels))
        else:
            file.writelines(idx_bytes(images.pixels))


def _is_file(target: Path) -> bool:
    return target.suffix == ".npz" or _IDX.search(target.name) is not None


def _write_folder(images: ImageSet, folder: Path) -> None:
    """All files to a new folder beside `folder`, then into place."""
    digits = len(str(len(images.pixels) - 1))
    names = images.names or tuple(f"{i:0{digits}d}.png" for i in range(len(images.pixels)))
    if (bad := next((name for name in names if unsafe_name(name)), None)) is not None:
        raise CorruptError(f"the file names an image {bad!r}, which would land outside of {folder}; nothing written")
    names = tuple(name if name.lower().endswith(".png") else name + ".png" for name in names)
    if len(set(names)) < len(names):
        raise CorruptError("the file gives two images the same name; unpack to an npz file instead")
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.part"
    try:
        for name, image in zip(names, images.pixels, strict=True):
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png_bytes(image))
        if folder.exists():
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (temporary / name).replace(folder / name)
        else:
            temporary.replace(folder)
    except OSError as exc:
        raise output_error(folder, exc) from exc
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
