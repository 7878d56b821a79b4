# SPDX-License-Identifier: MIT
"""Keep the decoded blocks that were used last, within a bound on their bytes."""

import os
import threading
from collections import OrderedDict

from smalti.archive.reader import Images


class BlockCache:
    """The decoded blocks that were used last, up to `room` bytes; threads share it, a forked process starts anew."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._clear()

    def _clear(self) -> None:
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._kept: OrderedDict[int, Images] = OrderedDict()
        self._bytes = 0

    def __contains__(self, block: int) -> bool:
        return self._pid == os.getpid() and block in self._kept

    def get(self, block: int) -> Images | None:
        if self._pid != os.getpid():  # another thread may have held the lock when this process was forked
            self._clear()
        with self._lock:
            if block in self._kept:
                self._kept.move_to_end(block)
            return self._kept.get(block)

    def put(self, block: int, pixels: Images) -> None:
        with self._lock:
            if block not in self._kept:
                self._kept[block] = pixels
                self._bytes += _bytes_of(pixels)
            while self._bytes > self.room and len(self._kept) > 1:
                _, old = self._kept.popitem(last=False)
                self._bytes -= _bytes_of(old)


def _bytes_of(images: Images) -> int:
    return sum(image.nbytes for image in images) if isinstance(images, list) else images.nbytes
