# SPDX-License-Identifier: MIT
"""What Python programs hold: arrays, tensors, images of Pillow, open files; each is taken once, as plain arrays."""

import io
import os
import shutil
import sys
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.errors import SourceError, UsageError
from smalti.exchange.formats.image_files import Reading, single_of
from smalti.exchange.parts import Parts, Single, grouped, part_length
from smalti.exchange.samples import reason_of, scaled
from smalti.types import (
    COLOURS,
    ImageSet,
    PassedOver,
    Source,
    check_size,
    not_images,
    plain_array,
    shape_of,
)

_LEAST_SIDE = 8  # pixels: n h 3 of smaller sides are gray images of width 3 rather than one image in colour
_CONVERTED = "buif"  # the kinds of NumPy's types that can be converted
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
    check_size(images.shape)
    parts = Parts(lambda: _copied(images))
    labelled = images.labels is not None
    origin = "the ImageSet" if labelled else ""
    return Source(parts, len(images), named=images.names is not None, labelled=labelled, labels_from=origin)


def _copied(images: ImageSet) -> Iterator[ImageSet]:
    for start in range(0, len(images), _COPIED_IMAGES):
        part = images[start : start + _COPIED_IMAGES]
        yield replace(part, pixels=np.array(part.pixels, np.uint8, order="C", copy=True, subok=False))


def source_of_array(x: Any, *, convert: bool = False) -> Source:
    """Return an array of images, `n h w` or `n h w c`, as a source.

    Raises:
        SourceError: it holds something else, or looks like a single image `h w c`.
    """
    array = plain_array(x)
    if (
        array.ndim == 3
        and array.shape[2] in (2, 3, 4)
        and min(array.shape[:2]) >= _LEAST_SIDE
        and (array.dtype == np.uint8 or (convert and array.dtype.kind in _CONVERTED))
    ):
        raise SourceError(
            f"an array of shape {array.shape} looks like one image h w c; give x[None], or smalti.encode(x), for that;"
            f" or smalti.ImageSet(x) for {array.shape[0]} gray images of {array.shape[1]}x{array.shape[2]}"
        )
    if convert and array.dtype != np.uint8 and array.dtype.kind in _CONVERTED:
        return _source_of_samples(array, x)
    return source_of_set(ImageSet(array if isinstance(x, np.ma.MaskedArray) else x))


def _source_of_samples(array: NDArray[Any], given: object) -> Source:
    """Return an array of images of another type than uint8 as a source of images of 8 bits.

    Raises:
        SourceError: it holds something else than images.
    """
    x = array[..., 0] if array.ndim == 4 and array.shape[3] == 1 else array
    if not (x.ndim == 3 or (x.ndim == 4 and x.shape[3] in COLOURS)) or not x.size:
        raise not_images(x, given)
    check_size(shape_of(x))
    passed = PassedOver()
    return Source(Parts(lambda: _scaled(x, passed)), len(x), named=False, labelled=False, passed_over=passed)


def _scaled(x: NDArray[Any], passed: PassedOver) -> Iterator[ImageSet]:
    passed.clear()
    step, reason = part_length(shape_of(x)), reason_of(x.dtype)
    for start in range(0, len(x), step):
        part = np.array(x[start : start + step])
        yield ImageSet(scaled(part, "the array"))
        if reason is not None:
            passed.conversions.note(reason, "the array", len(part))


def source_of_images(images: Sequence[Any], *, convert: bool = False, side: int | None = None) -> Source:
    """Return single images, each an array `h w` or `h w c` or an image of Pillow, as a source."""
    reading = Reading(convert=convert, side=side)
    parts = Parts(lambda: grouped(_singles(images, reading)))
    return Source(parts, len(images), named=False, labelled=False, passed_over=reading.passed)


def _singles(images: Sequence[Any], reading: Reading) -> Iterator[Single]:
    reading.passed.clear()
    for i, image in enumerate(images):
        try:
            yield one_image(image, reading, f"image {i}")
        except SourceError as exc:
            if str(exc).startswith(f"image {i}"):
                raise
            raise SourceError(f"image {i}: {exc}") from exc


def one_image(image: Any, reading: Reading | None = None, where: str = "the image") -> Single:
    """Return one image, an array-like or an image of Pillow, as a new array `h w`, `h w 2`, `h w 3` or `h w 4`.

    Args:
        image: the image.
        reading: whether it is converted, and what is told of that; it is not, if this is left out.
        where: what it is called in messages.

    Raises:
        SourceError: it is something else.
    """
    reading = Reading() if reading is None else reading
    if is_image(image):
        return single_of(image, where, reading)
    x: NDArray[Any] = plain_array(image)
    if x.ndim == 3 and x.shape[2] == 1:
        x = x[..., 0]
    deep = reading.convert and x.dtype.kind in _CONVERTED
    if (x.dtype != np.uint8 and not deep) or not (x.ndim == 2 or (x.ndim == 3 and x.shape[2] in COLOURS)):
        raise not_images(x, image, single=True)
    if not x.size:
        raise SourceError(f"there is no image: the array has shape {x.shape}")
    check_size((*x.shape, 1)[:3])
    if (reason := reason_of(x.dtype)) is not None:
        reading.passed.conversions.note(reason, where)
    return Single(np.array(scaled(x[None], where)[0], np.uint8, order="C", copy=True, subok=False), None, None)


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
        UsageError: the source has names or labels of its own, or a name is given twice.
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
    if twice := [name for name, n in Counter(map(str, columns.get("names", ()))).items() if n > 1]:
        raise UsageError(f"the name {twice[0]!r:.80} is given to two images; give each its own name")
    parts = Parts(lambda: _annotated(source, columns))
    given = replace(source, parts=parts, named=source.named or "names" in columns)
    return replace(given, labelled=True, labels_from="the argument labels") if "labels" in columns else given


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
