# SPDX-License-Identifier: MIT
"""One array in the npy format, read as a stream: its header, then row after row."""

import io
import math
import warnings

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from smalti.errors import SourceError
from smalti.exchange.parts import MAX_BYTES, MAX_MEMBER_BYTES, Readable, read_exactly
from smalti.limits import MAX_NAME_BYTES
from smalti.types import Label

NPY = npy_format.MAGIC_PREFIX
"""The first bytes of an npy file."""
_MAX_HEADER = 1 << 16  # bytes; NumPy itself reads at most 10000
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
            raise SourceError(f"{where} holds Python objects, which may hide programs; save it again as uint8")
        if claimed > MAX_BYTES:
            raise SourceError(f"{where} claims shape {self.shape} of {self._dtype}, more than fits; it is damaged")
        if header.count + claimed != size:
            raise SourceError(f"{where} does not hold the array {self.shape} of {self._dtype} it claims; copy it again")
        if fortran and len(self.shape) > 1:
            raise SourceError(f"{where} is in Fortran order; save it again through numpy.ascontiguousarray")

    def images(self) -> tuple[int, ...]:
        """Return the shape `n h w`, `n h w 3` or `n h w 4` of an array of images.

        Raises:
            SourceError: the array holds something else, or nothing.
        """
        shape = self.shape[:3] if len(self.shape) == 4 and self.shape[3] == 1 else self.shape
        if self._dtype != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (3, 4))):
            raise SourceError(
                f"{self._where}: images must be uint8 of shape n h w, n h w 3 or n h w 4,"
                f" not {self._dtype} of shape {self.shape}"
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
        if not words and not (self._dtype.kind in "iu" and len(self.shape) in (1, 2)):
            raise SourceError(
                f"{self._where}: labels must be ints of shape n or n k, or words of shape n,"
                f" not {self._dtype} of {self.shape}; save them again, or leave labels out: labels=False"
            )
        if not 0 < math.prod(self.shape[1:]) * self._dtype.itemsize <= _MAX_ROW:
            raise SourceError(f"{self._where} claims labels of shape {self.shape} of {self._dtype}; it is damaged")
        return self.shape[0]

    def pixels(self, k: int) -> NDArray[np.uint8]:
        """Read the next `k` images."""
        return self._take(k).astype(np.uint8, copy=False).reshape(k, *self.images()[1:])

    def names(self, k: int) -> tuple[str, ...]:
        """Read the next `k` names."""
        return tuple(self._take(k).tolist())

    def labels(self, k: int) -> tuple[Label, ...]:
        """Read the next `k` labels."""
        rows = self._take(k).tolist()
        return tuple(map(tuple, rows)) if len(self.shape) == 2 else tuple(rows)

    def _take(self, k: int) -> NDArray[np.generic]:
        shape = (k, *self.shape[1:])
        size = math.prod(shape) * self._dtype.itemsize
        if len(data := read_exactly(self._file, size)) != size:
            raise SourceError(f"{self._where} ends too early; copy it again")
        return np.frombuffer(data, self._dtype).reshape(shape) if size else np.empty(shape, self._dtype)


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
