# SPDX-License-Identifier: MIT
"""What users call: pack and unpack whole files, encode and decode one image, open a file."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from smalti.archive import BlockReader, BlockWriter
from smalti.atomic import atomic_write
from smalti.bundle import DEFAULT_MODEL
from smalti.codec import Pixels, block_images
from smalti.control import DEFAULT_EFFORT, Aim, Progress, encode_blocks
from smalti.errors import SourceError, UsageError
from smalti.format import BLOCK, HEADER, INDEX, MAX_BLOCK_SAMPLES, MAX_SIDE, TRAILER, Header
from smalti.images import ImageSet, describe, read_images
from smalti.model import Model
from smalti.sequence import Archive, ModelName, as_model
from smalti.targets import check_target, write_images

Source = Path | str | Pixels | ImageSet


@dataclass(frozen=True)
class Packed:
    """What `pack` wrote."""

    images: int
    bytes: int  # of the whole file

    @property
    def rate(self) -> float:
        """Bytes an image, all in."""
        return self.bytes / self.images


def pack(
    source: Source | Sequence[Path | str],
    path: Path | str,
    *,
    model: ModelName = DEFAULT_MODEL,
    quality: int | None = None,
    psnr: float | None = None,
    min_psnr: float | None = None,
    bytes_an_image: float | None = None,
    max_error: int | None = None,
    effort: int = DEFAULT_EFFORT,
    force: bool = False,
    progress: Progress | None = None,
) -> Packed:
    """Pack images into the smalti file `path`; at most one of quality to max_error may be given.

    Args:
        source: an array (uint8, `n h w` or `n h w 3`), or paths of folders, images, idx or npz files.
        path: the file to write; it appears whole or not at all.
        model: a name, the path of a bundle, or a loaded model.
        quality: 1 (fewest bytes) to 100 (best); 50 if nothing else is asked.
        psnr: dB that all images together shall have: of the squared error averaged over all of them.
        min_psnr: dB that each single image shall have; what the model cannot do so well is coded without it.
        bytes_an_image: that the file shall take at most, names apart.
        max_error: that a pixel (0 to 255) may be off by, at most; 0 is lossless. Images may be of any size and colour.
        effort: 1 (fast) to 9 (fewest bytes); decoding takes the same time.
        force: replace `path` if it exists.
        progress: called with the number of images just done, and of all.

    Raises:
        SourceError: the images cannot be read or do not suit the model.
        UsageError: no such model or quality, `path` exists, or the model cannot do what is asked.
        OutputError: `path` cannot be written.
    """
    aim = Aim(quality, psnr, min_psnr, bytes_an_image, max_error, effort)
    loaded = as_model(model)
    images = _images(source)
    check_fit(images, loaded, lossless=max_error is not None)
    with atomic_write(_path(path), force=force) as file:
        _write(images, file, loaded, aim, progress)
        size = file.tell()
    return Packed(len(images.pixels), size)


def unpack(
    path: Path | str,
    target: Path | str | None = None,
    *,
    model: ModelName | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> ImageSet:
    """Decode all images of the smalti file `path`; write them to `target` if one is given.

    Args:
        path: the file to read.
        target: `*.npz`, `*-idx3-ubyte[.gz]`, else a folder of PNG files; whole or not at all.
        model: where to find the model, if it is not built in.
        force: replace what exists at `target`.
        progress: called with the number of images just done, and of all.

    Raises:
        FormatError: the file is damaged or not a smalti file.
        UnknownModelError: its model is not known here.
        OutputError, UsageError: `target` cannot be written.
    """
    with open_archive(path, model=model) as archive:
        if target is not None:
            check_target(Path(target), gray=archive.image_shape[2] == 1, force=force)
        images = ImageSet(archive.decode_all(progress), archive.names)
    if target is not None:
        write_images(images, Path(target), force=force)
    return images


def encode(
    image: Pixels,
    *,
    model: ModelName = DEFAULT_MODEL,
    quality: int | None = None,
    min_psnr: float | None = None,
    max_error: int | None = None,
    effort: int = DEFAULT_EFFORT,
) -> bytes:
    """One image (uint8, `h w` or `h w 3`) to the bytes of a smalti file. For many images, `pack` takes far fewer.

    Arguments and errors are those of `pack`.

    >>> image = np.zeros((28, 28), np.uint8)
    >>> decode(encode(image)).shape
    (28, 28)
    """
    loaded, images = as_model(model), ImageSet(np.asarray(image)[None])
    check_fit(images, loaded, lossless=max_error is not None)
    file = io.BytesIO()
    _write(images, file, loaded, Aim(quality, min_psnr=min_psnr, max_error=max_error, effort=effort), None)
    return file.getvalue()


def decode(data: bytes | bytearray | memoryview, *, model: ModelName | None = None) -> Pixels:
    """The bytes of a smalti file of one image to the image (`h w` or `h w 3`).

    Raises:
        FormatError: `data` is damaged.
        UsageError: it holds another number of images than one.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise UsageError("decode takes the bytes of a file; to read a file use smalti.open")
    with Archive(BlockReader(bytes(data)), model) as archive:
        if len(archive) != 1:
            raise UsageError(f"the data holds {len(archive)} images; decode takes one: write a file and open it")
        return archive[0]


def _write(images: ImageSet, file: BinaryIO, model: Model, aim: Aim, progress: Progress | None) -> None:
    x = images.pixels
    block = block_images(images.shape)
    parts = [x[i : i + block] for i in range(0, len(x), block)]
    writer = BlockWriter(file, Header(model.id, *images.shape, block))
    overhead = HEADER.size + INDEX.size + BLOCK.size * len(parts) + TRAILER.size
    for part, payload in zip(parts, encode_blocks(parts, model, aim, overhead), strict=True):
        writer.add(payload)
        if progress:
            progress(len(part), len(x))
    writer.finish(len(x), images.names)


def open_archive(path: Path | str, *, model: ModelName | None = None) -> Archive:
    """Open a smalti file as a sequence of images; `smalti.open` is this function.

    Raises:
        SourceError, FormatError, UnknownModelError: the file cannot be read, is damaged, or its model is not known.
    """
    return Archive(BlockReader(_path(path)), model)


def _path(path: Path | str) -> Path:
    if not isinstance(path, str | Path):
        raise UsageError(f"a file is named by a path, not by {path!r}")
    return Path(path)


def _images(source: Source | Sequence[Path | str]) -> ImageSet:
    if isinstance(source, ImageSet):
        return source
    if isinstance(source, np.ndarray):
        return ImageSet(source)
    paths = [source] if isinstance(source, str | Path) or not isinstance(source, Iterable) else list(source)
    if not all(isinstance(path, str | Path) for path in paths):
        raise SourceError("a source is one array of all images (n h w), or paths; stack the arrays with numpy.stack")
    return read_images(*paths)


def check_fit(images: ImageSet, model: Model, *, lossless: bool = False) -> None:
    """Refuse images whose size or colour `model` does not take. Lossless coding takes all, but wants a part for it.

    Raises:
        SourceError: they do not suit, or are larger than a file can hold.
        UsageError: the model has no part for what is asked.
    """
    h, w, c = images.shape
    if max(h, w) > MAX_SIDE or h * w * c > MAX_BLOCK_SAMPLES:
        raise SourceError(f"the images are {describe(images.shape)}, more than a file can hold; cut them into tiles")
    if lossless and model.pixels is None:
        raise UsageError(
            f"model {model.name} cannot code by pixels; take another, or train one: smalti train --lossless"
        )
    if lossless or not model.has_latents:  # sizes do not matter then
        if model.pixels_for(c) is None:
            raise SourceError(f"the images are gray, but model {model.name} is for RGB ones; convert them")
        return
    if images.shape != model.image_shape:
        raise SourceError(
            f"the images are {describe(images.shape)}, but model {model.name} takes {describe(model.image_shape)};"
            " convert them, pack them with a largest error or lossless, or train a model: smalti train"
        )
