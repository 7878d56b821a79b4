# SPDX-License-Identifier: MIT
"""The types of what is packed: images with names and labels, in parts of one shape.

`exchange/` reads them from other formats and writes them to other formats.
"""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smalti.errors import SourceError
from smalti.limits import MAX_IMAGE_SAMPLES, MAX_NAME_BYTES, MAX_SIDE

COLOURS = {1: "gray", 2: "gray with alpha", 3: "RGB", 4: "RGBA"}
"""The names of the colour modes, by the number of channels."""

_MAX_SHOWN = 40  # characters of a name in a report
Label = int | str | tuple[int, ...]
"""The label of an image: the number of a class, a word, or several numbers."""
Pixels = NDArray[np.uint8]
"""Images (`n h w` if gray, else `n h w c`) or one image (`h w` or `h w c`), with samples from 0 to 255."""
Shape = tuple[int, int, int]
"""The shape of an image: h w c."""
Progress = Callable[[int, int | None], None]
"""A function that is called with the number of images just done, and of all images, if that is known."""
OnBad = Callable[[SourceError], None]
"""A function that is called with the error of an image that cannot be read. It raises the error, or it returns, and the
image is left out."""


def raise_it(error: SourceError) -> None:
    """Raise the error of an image that cannot be read, so that no image is left out.

    Raises:
        SourceError: always.
    """
    raise error


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size and colour, in order, with their names and labels. Arrays `n h w 1` are taken as gray.

    Raises:
        SourceError: the pixels are no array of images, or there is not one name and one label for each image.
    """

    pixels: NDArray[np.uint8]  # n h w if gray, n h w 2 if gray with alpha, n h w 3 if RGB, n h w 4 if RGBA
    names: tuple[str, ...] | None = None  # one for each image, with "/" between folders
    labels: tuple[Label, ...] | None = None  # one for each image
    profiles: tuple[bytes | None, ...] | None = None  # the ICC profile of each image; None if no image has one

    def __post_init__(self) -> None:
        for what in ("names", "labels"):  # arrays and lists are accepted, too
            column = getattr(self, what)
            if column is not None:
                object.__setattr__(self, what, _as_column(column, what))
        x = plain_array(self.pixels)
        if x.ndim == 4 and x.shape[3] == 1:
            x = x[..., 0]
        if x.dtype != np.uint8 or not (x.ndim == 3 or (x.ndim == 4 and x.shape[3] in COLOURS)):
            raise not_images(x, self.pixels)
        object.__setattr__(self, "pixels", x)
        if not x.size:
            raise SourceError(f"there are no images: the array has shape {x.shape}")
        for what, column in (("names", self.names), ("labels", self.labels), ("profiles", self.profiles)):
            if column is not None and len(column) != len(x):
                raise SourceError(f"there are {len(column)} {what} for {len(x)} images; give one to each, or none")

    @property
    def shape(self) -> Shape:
        """Return the shape of each image: h w c."""
        return shape_of(self.pixels)

    def profile(self, i: int) -> bytes | None:
        """Return the ICC profile of an image; None if it has none."""
        return None if self.profiles is None else self.profiles[i]

    def __len__(self) -> int:
        return len(self.pixels)

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> NDArray[Any]:
        """Return the pixels, as NumPy asks for them; without a copy unless `copy` is true or the type changes.

        Raises:
            ValueError: `copy` is False, but another type was asked for.
        """
        if copy is False and dtype is not None and np.dtype(dtype) != self.pixels.dtype:
            raise ValueError(f"pixels of {np.dtype(dtype)} need a copy; leave out copy=False")
        return np.array(self.pixels, dtype) if copy else np.asarray(self.pixels, dtype)

    def __getitem__(self, rows: slice) -> "ImageSet":
        """Return the images of a slice, with their names and labels.

        Raises:
            SourceError: the slice is empty.
        """
        return ImageSet(
            self.pixels[rows],
            None if self.names is None else self.names[rows],
            None if self.labels is None else self.labels[rows],
            None if self.profiles is None else self.profiles[rows],
        )


def plain_array(x: Any) -> NDArray[Any]:
    """Return any array-like as a plain array of NumPy, which may share its memory.

    Taken are arrays of NumPy and their subclasses, tensors of torch (also those of a GPU), and whatever has
    `__array__`. The mask of a masked array is left out, with a warning if samples are masked.

    Raises:
        SourceError: it is no array.
    """
    if isinstance(x, np.ma.MaskedArray):
        if masked := int(np.count_nonzero(np.ma.getmaskarray(x))):
            warnings.warn(
                f"{masked} samples of the masked array are masked; what lies under the mask is taken, and the mask is"
                " left out; give x.filled(0) for zeros there",
                stacklevel=2,
            )
        return np.asarray(np.ma.getdata(x, subok=False))
    try:
        if all(hasattr(x, name) for name in ("detach", "cpu", "numpy")):  # a tensor of torch
            x = x.detach().cpu().numpy()
        if hasattr(x, "__array__"):
            return plain_array(array) if isinstance(array := np.asanyarray(x), np.ma.MaskedArray) else np.asarray(array)
    except SourceError:
        raise
    except Exception as exc:
        raise SourceError(f"the {type(x).__name__} cannot be made an array of NumPy ({exc}); give an array") from exc
    raise SourceError(f"images must be one array (uint8, n h w), not {type(x).__name__}; see numpy.stack")


def not_images(x: NDArray[Any], given: object, *, single: bool = False) -> SourceError:
    """Return the error of an array `x` that does not hold images, or a `single` one, with the line that mends it.

    Args:
        x: the array.
        given: what it was made of, whose type is named.
        single: whether one image is meant.
    """
    shapes = "h w, h w 2, h w 3 or h w 4" if single else "n h w, n h w 2, n h w 3 or n h w 4"
    kind = type(given)
    came = "" if kind is np.ndarray else f" (a {kind.__module__.partition('.')[0]}.{kind.__name__})"
    what = "an image" if single else "images"
    ways = _ways_out(x, first=0 if single else 1)
    mend = f"; give {', and '.join(ways)}" if ways else ""
    if ways and came:
        mend += ", where x = np.asarray(...) of it"
    return SourceError(f"{what} must be uint8 of shape {shapes}, not {x.dtype} of shape {x.shape}{came}{mend}")


def _ways_out(x: NDArray[Any], first: int) -> list[str]:
    """Return what makes images of an array that are none, if that is known; axis `first` is that of rows."""
    ways = []
    if x.dtype.kind == "f":
        ways.append(
            '(x * 255).round().astype("uint8") for samples from 0 to 1 (x.round().astype("uint8") for 0 to 255)'
        )
    elif x.dtype.kind == "b":
        ways.append('x.astype("uint8") * 255')
    elif x.dtype == np.uint16:
        ways.append('(x >> 8).astype("uint8") for samples of 16 bits (x.astype("uint8") for 0 to 255)')
    elif x.dtype.kind in "iu" and x.dtype != np.uint8:
        ways.append('x.astype("uint8") for samples from 0 to 255')
    if x.ndim == first + 3 and x.shape[-1] not in COLOURS and x.shape[first] in COLOURS:
        ways.append(f"np.moveaxis(x, {first}, -1), for channels come last")
    elif first == 1 and x.ndim == 2:
        ways.append("x[None], or smalti.encode(x), for a single image")
    return ways


def _as_column(column: Any, what: str) -> tuple[Any, ...]:
    try:
        entries = column.tolist() if isinstance(column, np.ndarray) else list(column)
    except TypeError as exc:
        raise SourceError(f"{what} must be a sequence with one entry for each image, not {column!r:.40}") from exc
    entries = [entry.item() if isinstance(entry, np.generic) else entry for entry in entries]
    entries = [tuple(entry) if isinstance(entry, list) else entry for entry in entries]
    if what == "names" and not all(isinstance(entry, str) for entry in entries):
        raise SourceError("names must be texts; give each image one, or give none at all")
    return tuple(entries)


class Reason(NamedTuple):
    """Why a file is passed over, or what of it was converted: in words, of one and of many."""

    one: str
    many: str


@dataclass(eq=False)
class Tally:
    """How many files or images something was done to, by reason, with an example of each reason."""

    counts: dict[Reason, int] = field(default_factory=dict)
    examples: dict[Reason, str] = field(default_factory=dict)  # the name of the first, by reason

    def note(self, reason: Reason, name: str, n: int = 1) -> None:
        """Count `n` files or images; `name` is one of them."""
        self.counts[reason] = self.counts.get(reason, 0) + n
        self.examples.setdefault(reason, name)

    def add(self, other: "Tally") -> None:
        """Count what another tally counted."""
        for reason, n in other.counts.items():
            self.note(reason, other.examples[reason], n)

    def clear(self) -> None:
        """Forget everything."""
        self.counts.clear()
        self.examples.clear()

    def __str__(self) -> str:
        """Return all reasons as one line; "" if there are none."""
        words = (f"{n} {r.one if n == 1 else r.many} ({_few(self.examples[r], n)})" for r, n in self.counts.items())
        return ", ".join(words)


@dataclass(eq=False)
class PassedOver:
    """What readers passed over and what they converted, by reason, and what else they have to say.

    They fill it while images are taken.
    """

    parts: tuple["PassedOver", ...] = ()  # of the sources that a source is made of
    files: Tally = field(default_factory=Tally)  # what was passed over, without that of `parts`
    notes: list[str] = field(default_factory=list)  # sentences
    conversions: Tally = field(default_factory=Tally)  # what was converted, without that of `parts`

    @property
    def counts(self) -> dict[Reason, int]:
        """Return how many files or images were passed over, by reason, without those of `parts`."""
        return self.files.counts

    @property
    def examples(self) -> dict[Reason, str]:
        """Return the name of the first file that was passed over, by reason."""
        return self.files.examples

    def note(self, reason: Reason, name: str, n: int = 1) -> None:
        """Count `n` files (or images) that are passed over; `name` is one of them."""
        self.files.note(reason, name, n)

    def clear(self) -> None:
        """Forget everything but `parts`, as a reader does that starts again."""
        self.files.clear()
        self.notes.clear()
        self.conversions.clear()

    def total(self) -> "PassedOver":
        """Return one report of this and all `parts`."""
        whole = PassedOver()
        for report in (*(part.total() for part in self.parts), self):
            whole.files.add(report.files)
            whole.notes += report.notes
            whole.conversions.add(report.conversions)
        return whole

    def __str__(self) -> str:
        """Return what was passed over as one line; "" if that is nothing.

        >>> report = PassedOver()
        >>> report.note(Reason("file that is no image", "files that are no images"), "notes.txt")
        >>> report.note(Reason("hidden file", "hidden files"), ".a.png", 3)
        >>> print(report)
        1 file that is no image (notes.txt), 3 hidden files (.a.png, ...)
        """
        return str(self.total().files)

    @property
    def converted(self) -> str:
        """Return what was converted as one line; "" if that is nothing."""
        return str(self.total().conversions)


def _few(name: str, n: int) -> str:
    name = "".join(c if c.isprintable() else "?" for c in name)
    shown = name if len(name) <= _MAX_SHOWN else "..." + name[3 - _MAX_SHOWN :]
    return shown if n == 1 else f"{shown}, ..."


@dataclass(frozen=True, eq=False)
class Source:
    """Images that are read part by part while they are iterated over; each part may have another size and colour."""

    parts: Iterable[ImageSet]  # in order; all with names or none, all with labels or none
    total: int | None  # the number of images, if it is known before all are read
    named: bool
    labelled: bool
    passed_over: PassedOver = field(default_factory=PassedOver)  # and converted; complete once all parts were taken
    label_names: tuple[str, ...] = ()  # the names of the classes that labels number, if the source has them
    labels_from: str = ""  # where the labels come from, in words that follow "from": a file, an array, a column

    def nameless(self) -> "Source":
        """Return the same images without their names."""
        parts = (replace(part, names=None) for part in self.parts)
        return replace(self, parts=parts, named=False)

    def without_labels(self) -> "Source":
        """Return the same images without their labels."""
        parts = (replace(part, labels=None) for part in self.parts)
        return replace(self, parts=parts, labelled=False, label_names=(), labels_from="")


@dataclass(frozen=True)
class About:
    """What is known about images before they are written."""

    count: int
    shapes: frozenset[Shape]  # the shapes that occur among them
    named: bool  # whether they have names
    labelled: bool  # whether they have labels
    label_names: tuple[str, ...] = ()  # the names of the classes that labels number, if these are known


def check_name(name: str) -> None:
    """Check that a smalti file can hold the name.

    Raises:
        SourceError: the name is empty, too long, has a zero byte, or is not Unicode.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError as exc:
        raise SourceError(f"the name {name!r} is not Unicode; rename the file") from exc
    if "\0" in name or not 1 <= size <= MAX_NAME_BYTES:
        raise SourceError(
            f"the name {name[:40]!r}... has {size} bytes; 1 to {MAX_NAME_BYTES} are allowed, and no zero byte"
        )


def check_size(shape: Shape, what: str = "an image") -> None:
    """Refuse images of a shape (h w c) that no file can hold, by the name of the limit; `what` names them.

    Raises:
        SourceError: such images are too large.
    """
    h, w, c = shape
    if max(h, w) > MAX_SIDE:
        raise SourceError(f"{what} is {describe(shape)}, and no side may exceed {MAX_SIDE} pixels; cut it into tiles")
    if h * w * c > MAX_IMAGE_SAMPLES:
        raise SourceError(
            f"{what} is {describe(shape)}, more than a file can hold: {MAX_IMAGE_SAMPLES} samples (height x width x"
            " channels, 4096x4096 gray); cut it into tiles"
        )


def shape_of(x: Pixels) -> Shape:
    """Return the shape (h w c) of each of the images `x` (`n h w` or `n h w c`)."""
    _, h, w, *c = x.shape
    return h, w, c[0] if c else 1


def describe(shape: Shape) -> str:
    """Return an image shape `h w c` in words.

    >>> describe((28, 28, 1))
    '28x28 gray'
    """
    h, w, c = shape
    return f"{h}x{w} {COLOURS[c]}"
