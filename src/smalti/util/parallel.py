# SPDX-License-Identifier: MIT
"""Work on several items at a time by threads, in order; and what threads and forked processes may share.

Threads are faster where numpy or the core does the work, because these let other threads run meanwhile.
"""

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from concurrent.futures import Future

S = TypeVar("S")
T = TypeVar("T")
K = TypeVar("K")

AHEAD = 2
"""So many items for each thread are worked on or wait to be taken: some take several times as long as others."""


class once(Generic[T]):  # noqa: N801 - a decorator
    """A property that is computed when it is first read; threads that read it at the same time may each compute it.

    Until Python 3.12, `functools.cached_property` has one lock for all instances: threads would wait for each other
    without need, and a forked process would wait for ever if another thread held the lock at the fork.
    """

    def __init__(self, work: Callable[[Any], T]) -> None:
        self._work, self.__doc__ = work, work.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "once[T]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> "once[T] | T":
        if instance is None:
            return self
        found = instance.__dict__[self._name] = self._work(instance)
        return found


def in_order(work: Callable[[S], T], items: Iterable[S], threads: int = 0) -> Iterator[T]:
    """Yield `work(item)` for each of `items`, in order, computed by so many threads (0: one for each core).

    The work is only a few items ahead of the results that were taken. The caller's thread works on a single item.
    When the caller stops early, for an error or Ctrl-C, work that has begun ends where it next calls `go_on`. Of
    several items, this function calls it before each.

    >>> list(in_order(abs, [-3, 2, -1]))
    [3, 2, 1]
    """
    left = iter(items)
    first = list(itertools.islice(left, 2))
    if len(first) < 2:
        yield from map(work, first)
        return
    from concurrent.futures import ThreadPoolExecutor  # a first image needs no threads

    threads = threads or os.cpu_count() or 1
    pool, ahead = ThreadPoolExecutor(threads), deque["Future[T]"]()
    stops = (*_stops(), threading.Event())

    def begin(item: S) -> T:
        _THREAD.stops = stops
        return work(item)

    try:
        for item in itertools.chain(first, left):
            go_on()
            ahead.append(pool.submit(begin, item))
            if len(ahead) > AHEAD * threads:
                with ALONE:
                    result = ahead.popleft().result()
                yield result
        while ahead:
            with ALONE:
                result = ahead.popleft().result()
            yield result
    finally:  # after Ctrl-C, work that waits is not begun
        stops[-1].set()
        pool.shutdown(cancel_futures=True)


_THREAD = threading.local()
"""What a thread of `in_order` looks at in `go_on`: `stops`, set once nobody takes the results of its callers."""


def _stops() -> tuple[threading.Event, ...]:
    return getattr(_THREAD, "stops", ())


def go_on() -> None:
    """End the work of a thread of `in_order` whose result nobody takes any more; long work calls it now and then.

    Raises:
        CancelledError: the caller of `in_order` has stopped. Nobody sees it, because nobody takes the result.
    """
    if any(stop.is_set() for stop in _stops()):
        from concurrent.futures import CancelledError

        raise CancelledError


class _Alone:
    """A context in which numpy's own threads rest, because they would slow down the threads of `in_order`.

    The limit holds for the whole process: the first thread that enters sets it, and the last that leaves lifts it.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._libraries: Any = None
        self._limit: Any = None

    def __enter__(self) -> None:
        from threadpoolctl import ThreadpoolController

        with self._lock:
            if self._libraries is None:  # to find the libraries takes milliseconds, and numpy's is there from the start
                self._libraries = ThreadpoolController()
            if not self._inside:
                self._limit = self._libraries.limit(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._limit is not None:
                self._limit.restore_original_limits()


ALONE = _Alone()
"""Work in which numpy's own threads rest. Once they have worked, they wait busily for tens of milliseconds."""
if hasattr(os, "register_at_fork"):  # another thread may be inside when the process is forked
    os.register_at_fork(after_in_child=lambda: ALONE.__init__())  # type: ignore[misc]  # the child starts afresh


class ForkLock:
    """A lock that a forked process finds open, although another thread may have held it at the fork.

    The thread that holds it may take it again. Make few of them, because none is freed before the process ends.
    """

    def __init__(self) -> None:
        self._open()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._open)

    def _open(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def by_key(items: Iterable[S], key: Callable[[S], K]) -> Iterator[tuple[K, list[S]]]:
    """Yield each key of the items, in the order in which they first occur, with all items of that key.

    >>> list(by_key("abca", str.upper))
    [('A', ['a', 'a']), ('B', ['b']), ('C', ['c'])]
    """
    found: dict[K, list[S]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    yield from found.items()


def bundles(
    items: Iterable[S], kind: Callable[[S], object], load: Callable[[Sequence[S]], int], most: int, threads: int = 0
) -> Iterator[list[S]]:
    """Yield neighbours of one kind in lists. The last ones are shorter where that gives each thread a list.

    `kind` returns the kind of an item, `load` the load of a list of items. A list of several items has a load of at
    most `most`.

    >>> list(bundles("aaaaab", str, len, 4, threads=2))
    [['a', 'a', 'a'], ['a', 'a'], ['b']]
    >>> list(bundles([1, 1, 1, 1, 8, 2], lambda _: 0, sum, 10, threads=2))
    [[1, 1, 1, 1], [8, 2]]
    """
    threads = threads or os.cpu_count() or 1
    for _, alike in itertools.groupby(items, kind):
        full, last = list[list[S]](), list[S]()
        for item in alike:
            if last and load([*last, item]) > most:
                full.append(last)
                last = []
            if len(full) == threads:
                yield from full
                full = []
            last.append(item)
        rest = [item for some in (*full, last) for item in some]
        each = -(-len(rest) // threads)
        even = [rest[i : i + each] for i in range(0, len(rest), each)]
        fits = all(len(some) == 1 or load(some) <= most for some in even)
        yield from even if fits else (*full, last)
