"""Several at a time, results in order."""

import threading
import time

import pytest

from smalti.util.parallel import AHEAD, bundles, go_on, in_order


def test_results_come_in_the_order_of_the_items():
    def slow(i: int) -> int:
        time.sleep(0.002 * (i % 3))
        return i * i

    assert list(in_order(slow, range(40), threads=4)) == [i * i for i in range(40)]


def test_it_does_not_run_far_ahead():
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    results = in_order(lambda i: i, items(), threads=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(taken) <= 3 + AHEAD * 2 + 1
    results.close()


def test_an_error_comes_out_and_nothing_goes_on():
    def fail(i: int) -> int:
        if i == 2:
            raise ValueError("two")
        return i

    results = in_order(fail, range(10), threads=2)
    with pytest.raises(ValueError, match="two"):
        list(results)
    assert threading.active_count() < 20


def test_work_that_nobody_waits_for_ends_where_it_looks():
    """Also work that has threads of its own."""
    begun, ended = threading.Barrier(3), []

    def endless(i: int) -> None:
        begun.wait(10)
        try:
            for _ in range(1000):
                time.sleep(0.01)
                go_on()
        finally:
            ended.append(i)

    def fail(i: int) -> None:
        if i:
            list(in_order(endless, (1, 2), threads=2))
        begun.wait(10)
        raise ValueError("enough")

    before = time.monotonic()
    with pytest.raises(ValueError, match="enough"):
        list(in_order(fail, (0, 1), threads=2))
    assert sorted(ended) == [1, 2]
    assert time.monotonic() - before < 9
    go_on()  # the caller's own thread always goes on


def test_work_within_work_is_not_begun_any_more_when_nobody_waits():
    begun, done = threading.Event(), []

    def short(i: int) -> None:  # it never looks
        begun.set()
        time.sleep(0.005)
        done.append(i)

    def fail(i: int) -> None:
        if i:
            list(in_order(short, range(1000), threads=2))
        assert begun.wait(10)
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        list(in_order(fail, (0, 1), threads=2))
    assert len(done) < 500


def test_neighbours_of_a_kind_go_together_up_to_a_load():
    """Full bundles while there is enough for all threads, then what is left in equal parts; none lost, none moved."""
    items = [*range(1, 9), *range(101, 103), 5]
    found = list(bundles(items, lambda i: i > 100, sum, 10, threads=2))
    assert found == [[1, 2, 3, 4], [5], [6], [7], [8], [101], [102], [5]]
    assert list(bundles([3] * 7, bool, len, 3, threads=3)) == [[3] * 3, [3] * 3, [3]]


def test_numpy_has_its_threads_again_whoever_ends_first():
    from threadpoolctl import threadpool_info

    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = threads()
    one, two = in_order(abs, [1, 2, 3]), in_order(abs, [4, 5, 6])
    assert [next(one), next(two)] == [1, 4]
    assert threads() == before
    one.close()
    assert list(two) == [5, 6]
    assert threads() == before
