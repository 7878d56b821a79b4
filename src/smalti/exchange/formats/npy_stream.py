# SPDX-License-Identifier: MIT
"""One array in the npy format, read as a stream: its header, then row after row."""

import io
import math
import warnings
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from smalti.errors import SourceError
from smalti.exchange.labels import WITHOUT_LABELS
from smalti.exchange.parts import MAX_BYTES, MAX_MEMBER_BYTES, Readable, read_exactly
from smalti.exchange.samples import CONVERT, reason_of, scaled
from smalti.limits import MAX_NAME_BYTES
from smalti.types import Label, Reason

NPY = npy_format.MAGIC_PREFIX
"""The first bytes of an npy file."""
_MAX_HEADER = 1 << 16  # bytes; NumPy itself reads at most 10000
_MAX_TURNED = 1 << 31  # bytes of an array in Fortran order, which is read as a whole
_MAX_WHOLE = 1 << 53  # the largest number up to which floats are exact
_MAX_ROW = 1 << 20  # bytes of the labels of one image


class NpyStream:
    """An npy file of `size` bytes that is read from its start, row after row.

    Raises:
        SourceError: the array does not have the size that it claims, claims an absurd one, or cannot be streamed.
        Exception: NumPy cannot read the header; the caller wraps whatever it raises.
    """

    def __init__(self, file: Readable, size: int, where: str) -> None:
        self._file, self._where = file, where
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = _Counted(file)
            self.shape, fortran, self._dtype = _read_header(header)
        claimed = math.prod(self.shape) * self._dtype.itemsize
        if self._dtype.hasobject:
            raise SourceError(
                f"{where} holds Python objects, which may hide programs; save numbers as numpy.uint8 and"
                " words as numpy.str_"
            )
        whole = header.count + claimed == size
        if claimed > MAX_BYTES and whole:
            raise SourceError(
                f"{where} has {claimed} bytes, more than the {MAX_BYTES} that a file may have; cut it into several"
            )
        if claimed > MAX_BYTES:
            raise SourceError(f"{where} claims shape {self.shape} of {self._dtype}, more than fits; it is damaged")
        if not whole:
            raise SourceError(f"{where} does not hold the array {self.shape} of {self._dtype} it claims; copy it again")
        self._turned = fortran and len(self.shape) > 1
        if self._turned and claimed > _MAX_TURNED:
            raise SourceError(
                f"{where} is in Fortran order and has more than {_MAX_TURNED} bytes; save it again through"
                " numpy.ascontiguousarray"
            )
        self._whole: NDArray[np.generic] | None = None  # of an array in Fortran order, which has no rows in a row
        self._done = 0  # rows of it

    @property
    def reason(self) -> Reason | None:
        """Return why the images of the array are converted; None if they are not."""
        return reason_of(self._dtype)

    def images(self, *, convert: bool = False) -> tuple[int, ...]:
        """Return the shape `n h w`, `n h w 2`, `n h w 3` or `n h w 4` of an array of images.

        Args:
            convert: whether samples of other types than uint8 and bool are taken.

        Raises:
            SourceError: the array holds something else, or nothing.
        """
        shape = self.shape[:3] if len(self.shape) == 4 and self.shape[3] == 1 else self.shape
        shaped = len(shape) == 3 or (len(shape) == 4 and shape[3] in (2, 3, 4))
        if not shaped or not (self._dtype in (np.uint8, np.bool_) or (convert and self.reason is not None)):
            way = f"; {CONVERT}" if shaped and self.reason is not None else ""
            raise SourceError(
                f"{self._where}: images must be uint8 of shape n h w, n h w 2, n h w 3 or n h w 4,"
                f" not {self._dtype} of shape {self.shape}{way}"
            )
        if not math.prod(shape):
            raise SourceError(f"there are no images: {self._where} has shape {self.shape}")
        if math.prod(shape[1:]) > MAX_MEMBER_BYTES:
            raise SourceError(f"{self._where} claims images of {shape[1:]}, no small ones; it is damaged")
        return shape

    def check_names(self) -> int:
        """Return the number of names in an array of names.

        Raises:
            SourceError: the array holds something else.
        """
        if self._dtype.kind != "U" or len(self.shape) != 1:
            raise SourceError(f"{self._where}: names must be Unicode of shape n, not {self._dtype} of {self.shape}")
        if self._dtype.itemsize > 4 * MAX_NAME_BYTES:
            raise SourceError(f"{self._where} claims names of {self._dtype}, absurdly long; it is damaged")
        return self.shape[0]

    def check_labels(self) -> int:
        """Return the number of labels in an array of labels.

        Raises:
            SourceError: the array holds something else.
        """
        words = self._dtype.kind == "U" and len(self.shape) == 1
        if not words and not (self._dtype.kind in "iubf" and len(self.shape) in (1, 2)):
            raise SourceError(
                f"{self._where}: labels must be ints of shape n or n k, one-hot floats of shape n k, or words of"
                f" shape n, not {self._dtype} of {self.shape}; save them again, or {WITHOUT_LABELS}"
            )
        if not 0 < math.prod(self.shape[1:]) * self._dtype.itemsize <= _MAX_ROW:
            raise SourceError(f"{self._where} claims labels of shape {self.shape} of {self._dtype}; it is damaged")
        return self.shape[0]

    def pixels(self, k: int) -> NDArray[np.uint8]:
        """Read the next `k` images, as uint8.

        Raises:
            SourceError: the samples do not lie in the range of their type; see `scaled`.
        """
        return scaled(self._take(k), self._where).reshape(k, *self.images(convert=True)[1:])

    def names(self, k: int) -> tuple[str, ...]:
        """Read the next `k` names."""
        return tuple(self._take(k).tolist())

    def labels(self, k: int) -> tuple[Label, ...]:
        """Read the next `k` labels: whole numbers saved as floats become ints, and one-hot rows of floats classes.

        Raises:
            SourceError: the floats are neither.
        """
        array = self._take(k)
        if self._dtype.kind == "b":
            array = (array.view(np.uint8) != 0).astype(np.uint8)
        if self._dtype.kind == "f":
            array = _classes(array, self._where)
            return tuple(array.tolist())
        rows = array.tolist()
        return tuple(map(tuple, rows)) if len(self.shape) == 2 else tuple(rows)

    def _take(self, k: int) -> NDArray[np.generic]:
        if self._turned:
            if self._whole is None:
                self._whole = self._read(self.shape[::-1]).T
            self._done += k
            return np.ascontiguousarray(self._whole[self._done - k : self._done])
        return self._read((k, *self.shape[1:]))

    def _read(self, shape: tuple[int, ...]) -> NDArray[np.generic]:
        size = math.prod(shape) * self._dtype.itemsize
        if len(data := read_exactly(self._file, size)) != size:
            raise SourceError(f"{self._where} ends too early; copy it again")
        return np.frombuffer(data, self._dtype).reshape(shape) if size else np.empty(shape, self._dtype)


def _classes(labels: NDArray[Any], where: str) -> NDArray[Any]:
    """Return labels in floats as ints: whole numbers `n`, or one-hot rows `n k`.

    Raises:
        SourceError: they are neither.
    """
    if labels.ndim == 1:
        if not (np.isfinite(labels) & (np.abs(labels) <= _MAX_WHOLE) & (labels == np.floor(labels))).all():
            raise SourceError(f"{where}: labels must be whole numbers; save them as ints, or {WITHOUT_LABELS}")
        return labels.astype(np.int64)
    if not (((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all()):
        raise SourceError(f"{where}: rows of floats must be one-hot; save other labels as ints, or {WITHOUT_LABELS}")
    return np.asarray(labels.argmax(1))


class _Counted:
    """A file that counts the bytes that were read from it."""

    def __init__(self, file: Readable) -> None:
        self._file, self.count = file, 0

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise ValueError(f"a header of {size} bytes")
        data = self._file.read(size)
        self.count += len(data)
        return data


def _read_header(file: _Counted) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Read the header: the shape, whether the array is in Fortran order, and the type."""
    version = npy_format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the npy format")
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if any(n < 0 for n in shape):
        raise ValueError(f"a shape of {shape}")
    return shape, fortran, dtype


def npy_header(kind: str, shape: tuple[int, ...]) -> bytes:
    """Return the start of an npy file: `kind` is the type of the array as NumPy writes it ("|u1", "<U5")."""
    file = io.BytesIO()
    npy_format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()
