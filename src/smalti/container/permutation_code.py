# SPDX-License-Identifier: MIT
"""Permutation coding: the order of images that need no order carries bytes of the file.

n different values have n! orders, so that the choice of one carries log2(n!) bits. An archive without an order puts its
first images in the order that carries the bytes of its last blocks, which then need not be stored. The reader decodes
the first images, compares their order with the sorted one, and gets the bytes back.
"""

import bisect
import math
from collections import Counter
from collections.abc import Sequence

from smalti.errors import CorruptError


def capacity(keys: Sequence[bytes]) -> float:
    """Return the bits that the order of `keys` can carry at least; the order of equal keys carries nothing."""
    return math.lgamma(len(set(keys)) + 1) / math.log(2)


def encode_permutation(keys: Sequence[bytes], message: bytes) -> list[int] | None:
    """Return the order of `keys`, as their indices, that carries `message`; None if there are too few keys."""
    values = sorted(set(keys))
    waiting: dict[bytes, list[int]] = {value: [] for value in values}
    for i in reversed(range(len(keys))):
        waiting[keys[i]].append(i)
    number, order = int.from_bytes(message, "little"), []
    for _ in keys:
        number, digit = divmod(number, len(values))
        same = waiting[values[digit]]
        order.append(same.pop())
        if not same:
            del values[digit]
    return None if number else order


def decode_permutation(keys: Sequence[bytes], size: int | None) -> bytes:
    """Return the message of `size` bytes that the order of `keys` carries; with None, the one without zeros at its end.

    Raises:
        CorruptError: the message has more than `size` bytes.

    >>> keys = [bytes([i]) for i in range(30)]
    >>> decode_permutation([keys[i] for i in encode_permutation(keys, b"secret") or []], 6)
    b'secret'
    """
    values, left = sorted(set(keys)), Counter(keys)
    digits = []
    for key in keys:
        digit = bisect.bisect_left(values, key)
        digits.append((digit, len(values)))
        left[key] -= 1
        if not left[key]:
            del values[digit]
    number = 0
    for digit, among in reversed(digits):
        number = number * among + digit
    if size is None:
        size = (number.bit_length() + 7) // 8
    if number >= 1 << 8 * size:
        raise CorruptError("the order of the images carries more bytes than it should; the file is damaged")
    return number.to_bytes(size, "little")
