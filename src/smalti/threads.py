# SPDX-License-Identifier: MIT
"""Work on several things at a time, results in order. It pays where numpy does the work, and lets others run."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")
K = TypeVar("K")


def in_order(work: Callable[[S], T], items: Iterable[S], threads: int = 0) -> Iterator[T]:
    """`work` of each of `items`, by so many threads (0: one a core), not many of them ahead of who takes the results.

    >>> list(in_order(abs, [-3, 2, -1]))
    [3, 2, 1]
    """
    from threadpoolctl import threadpool_limits

    threads = threads or os.cpu_count() or 1
    pool, alone = ThreadPoolExecutor(threads), threadpool_limits(1, "blas")  # else numpy's own threads are in the way
    ahead: deque[Future[T]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:  # what Ctrl-C interrupts does not go on
        pool.shutdown(cancel_futures=True)
        alone.restore_original_limits()


def bundles(
    items: Iterable[S], kind: Callable[[S], K], step: Callable[[K], int], threads: int = 0
) -> Iterator[list[S]]:
    """Neighbours of one kind, `step` of them together, or fewer where threads would else have nothing to do.

    >>> list(bundles("aaaaab", str, lambda _: 4, threads=2))
    [['a', 'a', 'a'], ['a', 'a'], ['b']]
    """
    threads = threads or os.cpu_count() or 1
    for key, alike in itertools.groupby(items, kind):
        most = step(key)
        while some := list(itertools.islice(alike, most * threads)):
            each = most if len(some) == most * threads else max(1, -(-len(some) // threads))
            yield from (some[i : i + each] for i in range(0, len(some), each))
