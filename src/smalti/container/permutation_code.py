# SPDX-License-Identifier: MIT
"""Images in no order: what their order could say carries blocks of the file, log2(n!) bits.

n different things can be put in n! orders; which of them it is says a number below n!. So the first images are put in
the order that says the bytes of the last blocks, and those need not be stored. The reader decodes the first ones,
sorts them, and reads the number.
"""

import bisect
import math
from collections import Counter
from collections.abc import Sequence

from smalti.errors import CorruptError


def capacity(keys: Sequence[bytes]) -> float:
    """Bits that the order of things of those values can say at least; equal ones say nothing to each other."""
    return math.lgamma(len(set(keys)) + 1) / math.log(2)


def encode_permutation(keys: Sequence[bytes], message: bytes) -> list[int] | None:
    """The order (indices) of things of those values that says `message`; None if they are too few."""
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
    """The message of `size` bytes that the order of things of those values says; None: without zero bytes at its end.

    Raises:
        CorruptError: it says something longer.

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
        raise CorruptError("the order of the images does not say what it should; the file is damaged")
    return number.to_bytes(size, "little")
