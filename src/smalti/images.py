# SPDX-License-Identifier: MIT
"""Where images come from: folders, single images, idx files, npz files, arrays."""

import gzip
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from smalti.errors import SourceError

MAX_BYTES = 1 << 34
"""Bytes of pixels a source may claim; far above need, low enough to refuse a lying header."""
MAX_NAME_BYTES = 4096
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".avif", ".jp2")
)
"""Files in a folder that are taken for images."""
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
IDX_UBYTE_3D = b"\0\0\x08\x03"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size and colour, in order."""

    pixels: NDArray[np.uint8]  # n h w if gray, n h w 3 if RGB
    names: tuple[str, ...] | None = None  # of each image, with "/" between folders

    def __post_init__(self) -> None:
        x = self.pixels
        if x.dtype != np.uint8 or not (x.ndim == 3 or (x.ndim == 4 and x.shape[3] == 3)):
            raise SourceError(f"images must be uint8 of shape n h w or n h w 3, not {x.dtype} of shape {x.shape}")
        if not x.size:
            raise SourceError(f"there are no images: the array has shape {x.shape}")
        if self.names is not None:
            _check_names(self.names, len(x))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of each image: h w c."""
        _, h, w, *c = self.pixels.shape
        return h, w, c[0] if c else 1


def _check_names(names: Sequence[str], n: int) -> None:
    if len(names) != n:
        raise SourceError(f"there are {len(names)} names for {n} images; give each image a name, or none")
    seen = set()
    for name in names:
        if name in seen:
            raise SourceError(f"two images are named {name!r}; give each its own name, or pack their common folder")
        seen.add(name)
        try:
            size = len(name.encode())
        except UnicodeEncodeError as exc:
            raise SourceError(f"the name {name!r} is not Unicode; rename the file") from exc
        if "\0" in name or not 1 <= size <= MAX_NAME_BYTES:
            raise SourceError(
                f"the name {name[:40]!r}... has {size} bytes; allowed are 1 to {MAX_NAME_BYTES}, none zero"
            )


def describe(shape: tuple[int, int, int]) -> str:
    """An image shape `h w c` in words.

    >>> describe((28, 28, 1))
    '28x28 gray'
    """
    h, w, c = shape
    return f"{h}x{w} {'gray' if c == 1 else 'RGB'}"


def read_images(*sources: Path | str) -> ImageSet:
    """The images of all `sources`, one source after another.

    A source is a folder (searched in depth, in the order of the paths; what is hidden, and links to folders, are passed
    over), an image, an idx file of unsigned bytes
    (gzipped or not), or an npz file; `FILE.npz#KEY` picks one array of several.

    Raises:
        SourceError: a source is missing, empty or unreadable, or not all images have one size and colour.
    """
    if not sources:
        raise SourceError("no source of images was given")
    sets = [_read_source(str(source)) for source in sources]
    for source, images in zip(sources, sets, strict=True):
        if images.shape != sets[0].shape:
            raise SourceError(
                f"{source} holds {describe(images.shape)} images, {sources[0]} {describe(sets[0].shape)};"
                " all images of a file must be of one size and colour"
            )
    if len(sets) == 1:
        return sets[0]
    if not any(images.names for images in sets):
        return ImageSet(np.concatenate([images.pixels for images in sets]))
    names = [
        name
        for source, images in zip(sources, sets, strict=True)
        for name in images.names or [f"{Path(source).stem}-{i:05d}.png" for i in range(len(images.pixels))]
    ]
    return ImageSet(np.concatenate([images.pixels for images in sets]), tuple(names))


def _read_source(source: str) -> ImageSet:
    file, _, key = source.rpartition("#") if ".npz#" in source else (source, "", "")
    path = Path(file)
    try:
        if path.is_dir():
            return _read_folder(path)
        with path.open("rb") as stream:
            head = stream.read(4)
            stream.seek(0)
            if head.startswith((_GZIP, IDX_UBYTE_3D[:3])):
                return ImageSet(_read_idx(stream, path, gzipped=head.startswith(_GZIP)))
            if head == _ZIP:
                return _read_npz(stream, path, key)
        return _stack([path], [path.name])
    except (OSError, ValueError) as exc:  # ValueError: a zero byte in the path
        raise SourceError(f"cannot read {path}: {getattr(exc, 'strerror', None) or exc}; check the path") from exc


def _read_folder(folder: Path) -> ImageSet:
    def fail(error: OSError) -> None:
        raise error

    found = {}
    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, file) for file in files if not file.startswith(".")):
            if path.suffix.lower() in SUFFIXES and not path.is_dir():
                found[path.relative_to(folder).as_posix()] = path
    if not found:
        raise SourceError(f"{folder} holds no images; give a folder of PNG, JPEG, WebP, ... files")
    names = sorted(found)
    return _stack([found[name] for name in names], names)


def _stack(paths: Sequence[Path], names: Sequence[str]) -> ImageSet:
    images = [_read_image(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            first, other = (describe((*x.shape, 1)[:3]) for x in (images[0], image))
            raise SourceError(f"{path} is {other}, {paths[0]} is {first}; all must be of one size and colour")
    return ImageSet(np.stack(images), tuple(names))


def _read_image(path: Path) -> NDArray[np.uint8]:
    """An image file to `h w` or `h w 3`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return _pixels(image, path)
    except SourceError:
        raise
    except UnidentifiedImageError as exc:
        raise SourceError(f"{path} is no image, idx or npz file that smalti knows") from exc
    except OSError as exc:
        raise SourceError(f"cannot read {path}: {exc.strerror or exc}; check the file") from exc
    except Exception as exc:
        raise SourceError(f"{path} is a damaged or too large image ({exc}); leave it out or copy it again") from exc


def _pixels(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    if getattr(image, "n_frames", 1) > 1:
        raise SourceError(f"{path} holds several images; save each in a file of its own")
    mode = {"1": "L", "P": "RGB"}.get(image.mode, image.mode)
    if mode not in ("L", "RGB") or "transparency" in image.info:
        raise SourceError(f"{path} has mode {image.mode}; convert it to 8-bit gray or RGB first")
    pixels = np.asarray(image.convert(mode), np.uint8)
    if image.mode == "P" and (pixels == pixels[..., :1]).all():
        return np.ascontiguousarray(pixels[..., 0])  # a palette of grays
    return pixels


def _read_idx(stream: BinaryIO, path: Path, *, gzipped: bool) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes in three dimensions to `n h w` (format: yann.lecun.com/exdb/mnist)."""
    try:
        file = gzip.GzipFile(fileobj=stream) if gzipped else stream
        head = file.read(16)
        if len(head) < 16 or not head.startswith(IDX_UBYTE_3D):
            raise SourceError(f"{path} is not an idx file of images (unsigned bytes in three dimensions)")
        n, h, w = struct.unpack(">3I", head[4:])
        if n * h * w > MAX_BYTES:
            raise SourceError(f"{path} claims {n} images of {h}x{w}, more than fits; it is damaged")
        data = file.read(n * h * w) if gzipped or path.stat().st_size == 16 + n * h * w else b""
        if len(data) != n * h * w or file.read(1):
            raise SourceError(f"{path} does not hold the {n} images of {h}x{w} that it claims; copy it again")
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise SourceError(f"{path} is damaged ({exc}); copy it again") from exc
    return np.frombuffer(data, np.uint8).reshape(n, h, w)


def _read_npz(stream: BinaryIO, path: Path, key: str) -> ImageSet:
    """One array of an npz file: `key`, or "images" (with "names", as `unpack` writes them), or the only one."""
    try:
        with np.load(stream, allow_pickle=False) as arrays:
            keys = [name for name in arrays if "label" not in name]
            key = key or ("images" if "images" in keys else keys[0] if len(keys) == 1 else "")
            if key not in arrays:
                raise SourceError(f"{path} holds the arrays {', '.join(arrays)}; pick one: {path}#KEY")
            pixels = arrays[key]
            names = arrays["names"] if key == "images" and "names" in arrays else None
    except SourceError:
        raise
    except Exception as exc:
        raise SourceError(f"{path} is not an npz file, or a damaged one ({exc}); save it again") from exc
    if not isinstance(pixels, np.ndarray):
        raise SourceError(f"{path}: {key} is no array; save it again with numpy.savez")
    return ImageSet(pixels, None if names is None else tuple(map(str, names.ravel().tolist())))
