# SPDX-License-Identifier: MIT
"""Say which images an index means, as NumPy understands it."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.entropy.frequencies import Ints


def rows_of(wanted: Sequence[Any] | NDArray[Any] | slice, n: int) -> Ints:
    """Return the numbers from 0 on of some of `n` images: a slice, numbers that may be negative, or a mask.

    Raises:
        IndexError: there are no such images.
        TypeError: `wanted` holds neither whole numbers nor a mask.

    >>> rows_of([0, -1], 4), rows_of(slice(1, None, 2), 4)
    (array([0, 3]), array([1, 3]))
    """
    if isinstance(wanted, slice):
        return np.arange(n)[wanted]
    rows = np.asarray(wanted)
    if rows.dtype == np.bool_:
        if rows.shape != (n,):
            raise IndexError(f"a mask of shape {rows.shape} for {n} images")
        return np.flatnonzero(rows)
    if not rows.size:
        rows = rows.astype(np.int64)
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise TypeError(f"a list of images is one of whole numbers, not of {rows.dtype} in {rows.ndim} dimensions")
    if len(rows) and not (-n <= int(rows.min()) and int(rows.max()) < n):
        raise IndexError(f"images {rows.min()} to {rows.max()} of {n}")
    return rows.astype(np.int64) % max(n, 1)


def number_of(index: Any, n: int) -> int:
    """Return the number from 0 on of one of `n` images; a negative one counts from the end.

    Raises:
        IndexError: there is no such image.
        TypeError: the index is no whole number.
    """
    try:
        i = operator.index(index)
    except TypeError as exc:
        raise TypeError(f"images are numbered by whole numbers, slices, lists or masks, not by {index!r}") from exc
    if not -n <= i < n:
        raise IndexError(f"image {i} of {n}")
    return i % n


def within_images(index: tuple[Any, ...], images: Callable[[Any], Any]) -> Any:
    """Return what NumPy returns for a tuple as an index of an array of images.

    Args:
        index: the tuple; its first entry says which images, the others which rows, columns and channels of them.
        images: a function that returns the images that an index without tuple means.

    Raises:
        IndexError, TypeError: there is no such part of the array.
    """
    first: Any = index[0] if index else ...
    rest = index[1:]
    every = first is Ellipsis
    found = images(slice(None) if every else first)
    if not rest:
        return found
    if isinstance(found, list):
        raise TypeError("images of several shapes have no common rows and columns; look into each image")
    if every:
        return found[index]
    if isinstance(first, slice):
        return found[(slice(None), *rest)]
    return found[(np.arange(len(found)), *rest)] if np.ndim(first) else found[None][(0, *rest)]
