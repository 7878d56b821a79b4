# SPDX-License-Identifier: MIT
"""Keep what was made last of some bytes, for processes that meet the same bytes again and again."""

from typing import Generic, TypeVar

from smalti.util.parallel import ForkLock

T = TypeVar("T")


class Kept(Generic[T]):
    """What was made of bytes, by their checksums. Threads may share it; what it gives must not be changed.

    >>> kept = Kept[str](most=3)
    >>> kept.put(b"ab", b"1", "first"), kept.put(b"cd", b"2", "second")
    (None, None)
    >>> kept.get(b"ab", b"1"), kept.get(b"cd", b"2"), kept.get(b"ce", b"2")
    (None, 'second', None)
    """

    def __init__(self, most: int) -> None:
        """most: the most bytes of which something is kept, all together; what was not used for longest is forgotten."""
        self._lock, self._found, self._most, self._bytes = ForkLock(), dict[bytes, tuple[bytes, T]](), most, 0

    def get(self, data: bytes, check: bytes) -> T | None:
        """Return what was kept of `data`, whose checksum is `check`; None if nothing was, or of other bytes."""
        with self._lock:
            found = self._found.pop(check, None)
            if found is not None:
                self._found[check] = found  # it was used last
        return found[1] if found is not None and found[0] == data else None

    def put(self, data: bytes, check: bytes, made: T) -> None:
        """Keep what was made of `data`, if they are few enough."""
        if len(data) > self._most:
            return
        with self._lock:
            self._bytes += len(data) - len(self._found.pop(check, (b"",))[0])
            self._found[check] = data, made
            while self._bytes > self._most:
                self._bytes -= len(self._found.pop(next(iter(self._found)))[0])

    @property
    def sizes(self) -> list[int]:
        """The numbers of bytes of which something is kept, those that were used last at the end."""
        return [len(data) for data, _ in self._found.values()]
