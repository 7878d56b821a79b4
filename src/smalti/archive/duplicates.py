# SPDX-License-Identifier: MIT
"""Find images that came before, by hashes of their pixels: about 20 bytes of memory for each different image."""

import hashlib
import struct

import numpy as np
from numpy.typing import NDArray

from smalti.entropy.frequencies import Ints
from smalti.types import Pixels, shape_of

HASH_BYTES = 16
"""The bytes of the hash (BLAKE2b) of an image: as long as nobody finds two images of one hash, no two are confused."""

Run = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint32]]
"""The two halves of some hashes, sorted by the first, and the number of each image."""


class Originals:
    """The different images of a source, numbered from `first` on in the order in which they came."""

    def __init__(self, first: int = 0) -> None:
        self.count = first
        self._runs: list[Run] = []  # each at least twice as long as the next one

    def take(self, x: Pixels) -> tuple[Ints, NDArray[np.bool_]]:
        """Return the number of each of some images (`n h w` or `n h w c`), and which of them are new (`n`)."""
        upper, lower = _hashes(x)
        numbers = np.full(len(x), -1, np.int64)
        for first, second, known in self._runs:
            at = np.minimum(np.searchsorted(first, upper), len(first) - 1)
            same = (first[at] == upper) & (second[at] == lower)
            numbers[same] = known[at[same]]
        new = np.zeros(len(x), np.bool_)
        here = dict[tuple[int, int], int]()
        for i in np.flatnonzero(numbers < 0).tolist():
            key = int(upper[i]), int(lower[i])
            if key not in here:
                here[key], new[i] = self.count, True
                self.count += 1
            numbers[i] = here[key]
        if new.any():
            self._add((upper[new], lower[new], numbers[new].astype(np.uint32)))
        return numbers, new

    def _add(self, run: Run) -> None:
        runs = [run]
        while self._runs and len(self._runs[-1][0]) < 2 * sum(len(some[0]) for some in runs):
            runs.append(self._runs.pop())
        upper, lower, numbers = (np.concatenate(column) for column in zip(*runs, strict=True))
        order = np.argsort(upper, kind="stable")
        self._runs.append((upper[order], lower[order], numbers[order]))


def _hashes(x: Pixels) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the two halves of the hash of each image; images of different shapes have different ones."""
    shape = struct.pack("<III", *shape_of(x))
    flat = np.ascontiguousarray(x).reshape(len(x), -1)
    found = b"".join(hashlib.blake2b(image.data, digest_size=HASH_BYTES, person=shape).digest() for image in flat)
    halves = np.frombuffer(found, "<u8").reshape(-1, 2).astype(np.uint64)
    return halves[:, 0].copy(), halves[:, 1].copy()
