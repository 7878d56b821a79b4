# SPDX-License-Identifier: MIT
"""Work on several things at a time, results in order. It pays where numpy does the work, and lets others run."""

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar, overload

S = TypeVar("S")
T = TypeVar("T")


class once(Generic[T]):  # noqa: N801 - a decorator
    """A property that is computed when first asked for. Threads that ask at the same time may all compute it.

    `functools.cached_property` has, until Python 3.12, one lock for all instances: threads would wait for each other
    without need, and a fork for ever, if another thread had held it.
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
    """`work` of each of `items`, by so many threads (0: one a core), not many of them ahead of who takes the results.

    >>> list(in_order(abs, [-3, 2, -1]))
    [3, 2, 1]
    """
    threads = threads or os.cpu_count() or 1
    pool, ahead = ThreadPoolExecutor(threads), deque[Future[T]]()
    try:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > threads:
                with _ALONE:
                    result = ahead.popleft().result()
                yield result
        while ahead:
            with _ALONE:
                result = ahead.popleft().result()
            yield result
    finally:  # what Ctrl-C interrupts does not go on
        pool.shutdown(cancel_futures=True)


class _Alone:
    """While anybody waits for results, numpy's own threads rest: else they are in the way of ours.

    The limit is one of the whole process: the first who comes in sets it, the last who leaves lifts it.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._limit: Any = None

    def __enter__(self) -> None:
        from threadpoolctl import threadpool_limits

        with self._lock:
            if not self._inside:
                self._limit = threadpool_limits(1, "blas")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._limit is not None:
                self._limit.restore_original_limits()


_ALONE = _Alone()
if hasattr(os, "register_at_fork"):  # another thread may have been inside when this process was forked
    os.register_at_fork(after_in_child=lambda: _ALONE.__init__())  # type: ignore[misc]  # as new, on purpose


def bundles(
    items: Iterable[S], kind: Callable[[S], object], load: Callable[[Sequence[S]], int], most: int, threads: int = 0
) -> Iterator[list[S]]:
    """Neighbours of one kind in lists of a load of at most `most`, smaller where threads would have nothing to do.

    >>> list(bundles("aaaaab", str, len, 4, threads=2))
    [['a', 'a', 'a'], ['a', 'a'], ['b']]
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
        yield from (rest[i : i + each] for i in range(0, len(rest), each))
