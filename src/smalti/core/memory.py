# SPDX-License-Identifier: MIT
"""Arrays as the core takes them: their addresses, and memory at the right places."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64


def address(array: NDArray[Any], dtype: type[np.generic]) -> int:
    """Return where the entries of an array are; they must be of that type and follow each other."""
    assert array.dtype == dtype, (array.dtype, dtype)
    assert array.flags.c_contiguous
    return int(array.ctypes.data)


def aligned(values: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """Return a copy of an array in that type, which begins at an address that vectors like."""
    size = values.size * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    copy = memory[start : start + size].view(dtype).reshape(values.shape)
    copy[...] = values
    return copy
