# SPDX-License-Identifier: MIT
"""What Python programs hold: arrays, tensors, images of Pillow, open files; each is taken once, as plain arrays."""

import io
import os
import shutil
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.errors import SourceError, UsageError
from smalti.exchange.formats.image_files import pixels_of
from smalti.exchange.parts import Parts, Single, grouped
from smalti.limits import MAX_IMAGE_SAMPLES
from smalti.types import COLOURS, ImageSet, Pixels, Shape, Source, describe, not_images, plain_array

_LEAST_SIDE = 8  # pixels: n h 3 of smaller sides are gray images of width 3 rather than one image in colour
_COPIED_IMAGES = 4096  # copied at a time, which bounds the memory that a memory map of many images takes


def is_path(x: object) -> bool:
    """Return whether `x` names a file: a text, or anything that has `__fspath__`."""
    return isinstance(x, str | os.PathLike)


def is_image(x: object) -> bool:
    """Return whether `x` is an image of Pillow, which is not imported for that."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(x, pillow.Image)


def is_array(x: object) -> bool:
    """Return whether `x` is an array or can be made one: of NumPy, a tensor of torch, a Series of pandas."""
    return hasattr(x, "__array__") and not is_image(x)


def is_file(x: object) -> bool:
    """Return whether `x` is an open file."""
    return callable(getattr(x, "read", None)) and not is_path(x) and not is_image(x)


def source_of_set(images: ImageSet) -> Source:
    """Return images as a source whose parts are copies, so that nobody changes them while they are coded.

    Raises:
        SourceError: the images are too large.
    """
    check_samples(images.shape)
    parts = Parts(lambda: _copied(images))
    return Source(parts, len(images), named=images.names is not None, labelled=images.labels is not None)


def _copied(images: ImageSet) -> Iterator[ImageSet]:
    for start in range(0, len(images), _COPIED_IMAGES):
        part = images[start : start + _COPIED_IMAGES]
        yield replace(part, pixels=np.array(part.pixels, np.uint8, order="C", copy=True, subok=False))


def check_samples(shape: Shape) -> None:
    """Refuse images of a shape (h w c) that has too many samples, by the name of the limit.

    Raises:
        SourceError: an image has more samples than a file can hold.
    """
    h, w, c = shape
    if h * w * c > MAX_IMAGE_SAMPLES:
        raise SourceError(
            f"an image is {describe(shape)}, more than a file can hold: {MAX_IMAGE_SAMPLES} samples (height x width x"
            " channels, 4096x4096 gray); cut it into tiles"
        )


def source_of_array(x: Any) -> Source:
    """Return an array of images, `n h w` or `n h w c`, as a source.

    Raises:
        SourceError: it holds something else, or looks like a single image `h w c`.
    """
    array = plain_array(x)
    if (
        array.ndim == 3
        and array.shape[2] in (2, 3, 4)
        and min(array.shape[:2]) >= _LEAST_SIDE
        and array.dtype == np.uint8
    ):
        raise SourceError(
            f"an array of shape {array.shape} looks like one image h w c; give x[None], or smalti.encode(x), for that;"
            f" or smalti.ImageSet(x) for {array.shape[0]} gray images of {array.shape[1]}x{array.shape[2]}"
        )
    return source_of_set(ImageSet(array if isinstance(x, np.ma.MaskedArray) else x))


def source_of_images(images: Sequence[Any]) -> Source:
    """Return single images, each an array `h w` or `h w c` or an image of Pillow, as a source."""
    return Source(Parts(lambda: grouped(_singles(images))), len(images), named=False, labelled=False)


def _singles(images: Sequence[Any]) -> Iterator[Single]:
    for i, image in enumerate(images):
        try:
            yield Single(one_image(image), None, None)
        except SourceError as exc:
            raise SourceError(f"image {i}: {exc}") from exc


def one_image(image: Any) -> Pixels:
    """Return one image, an array-like or an image of Pillow, as a new array `h w`, `h w 2`, `h w 3` or `h w 4`.

    Raises:
        SourceError: it is something else.
    """
    if is_image(image):
        return pixels_of(image, "the image")
    x: NDArray[Any] = plain_array(image)
    if x.ndim == 3 and x.shape[2] == 1:
        x = x[..., 0]
    if x.dtype != np.uint8 or not (x.ndim == 2 or (x.ndim == 3 and x.shape[2] in COLOURS)):
        raise not_images(x, image, single=True)
    if not x.size:
        raise SourceError(f"there is no image: the array has shape {x.shape}")
    check_samples((*x.shape, 1)[:3])
    return np.array(x, np.uint8, order="C", copy=True, subok=False)


def spooled(file: Any, folder: Path, number: int) -> Path:
    """Copy the rest of an open binary file into `folder`, and return the path of the copy.

    Raises:
        SourceError: the file is open as text, or cannot be read.
    """
    name = getattr(file, "name", "")
    path = folder / str(number) / (Path(name).name if isinstance(name, str) and Path(name).name else "stream")
    path.parent.mkdir()
    try:
        if isinstance(file, io.TextIOBase):
            raise SourceError(f"the file {name!r} is open as text; open it with mode 'rb'")
        with path.open("wb") as copy:
            shutil.copyfileobj(file, copy)
    except (OSError, TypeError, ValueError) as exc:
        raise SourceError(f"cannot read the open file {name!r}: {exc}; open it with mode 'rb'") from exc
    return path


class _Temporary:
    """A folder that is removed once nobody reads the files in it any longer."""

    def __init__(self, folder: Path) -> None:
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def kept_until_read(source: Source, folder: Path) -> Source:
    """Return a source that removes a temporary folder when nobody uses the source any longer."""
    owner = _Temporary(folder)

    def parts() -> Iterator[ImageSet]:
        yield from source.parts
        assert owner  # it lives as long as this

    return replace(source, parts=Parts(parts))


def no_source(x: object, where: str = "the source") -> SourceError:
    """Return the error of something that holds no images, or does not say which of what it holds are images."""
    kind = type(x)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    advice = "give an array of images (n h w), a list of arrays or of Pillow's images (h w each), or paths"
    if isinstance(x, Mapping) or hasattr(x, "iloc"):
        advice = 'give its images alone: x["image"], as an array, a list of images or of paths'
    elif isinstance(x, bytes | bytearray | memoryview):
        advice = "give the path of the file, or io.BytesIO(x) for the content of one"
    elif isinstance(x, list | tuple):
        advice = 'give one array: np.array(x, "uint8")'
    return SourceError(f"{where} is of type {name}, which is no source of images; {advice}")


def annotated(source: Source, names: Any, labels: Any) -> Source:
    """Return the same images with other names or labels (None: as they are), one entry for each image.

    Raises:
        UsageError: the source has names or labels of its own.
        SourceError: there are more or fewer entries than images.
    """
    for what, has, given in (("names", source.named, names), ("labels", source.labelled, labels)):
        if has and given is not None:
            raise UsageError(f"the source has {what} of its own; leave out {what}=, or give the images alone")
    columns = {
        what: list_of(column, what) for what, column in (("names", names), ("labels", labels)) if column is not None
    }
    if not columns:
        return source
    for what, column in columns.items():
        if source.total is not None and len(column) != source.total:
            raise _miscounted(what, len(column), source.total)
    parts = Parts(lambda: _annotated(source, columns))
    return replace(
        source, parts=parts, named=source.named or "names" in columns, labelled=source.labelled or "labels" in columns
    )


def list_of(column: Any, what: str) -> list[Any]:
    """Return a column of names or labels as a list.

    Raises:
        SourceError: it is no sequence.
    """
    if isinstance(column, str | bytes | Mapping):
        raise SourceError(f"{what} must be a sequence with one entry for each image, not {column!r:.40}")
    try:
        return list(plain_array(column) if is_array(column) else column)
    except TypeError as exc:
        raise SourceError(f"{what} must be a sequence with one entry for each image, not {column!r:.40}") from exc


def _miscounted(what: str, n: int, images: int) -> SourceError:
    return SourceError(f"there are {n} {what} for {images} images; give one to each, or none")


def _annotated(source: Source, columns: Mapping[str, Sequence[Any]]) -> Iterator[ImageSet]:
    done = 0
    for part in source.parts:
        given = {what: tuple(column[done : done + len(part)]) for what, column in columns.items()}
        done += len(part)
        for what, column in columns.items():
            if len(column) < done:
                raise _miscounted(what, len(column), done)
        yield replace(part, names=given.get("names", part.names), labels=given.get("labels", part.labels))
    for what, column in columns.items():
        if len(column) != done:
            raise _miscounted(what, len(column), done)
