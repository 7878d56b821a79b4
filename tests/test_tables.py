import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smalti.tables import TOTAL, Table, fit_table, tables_from_bytes, tables_to_bytes

symbols = st.lists(st.integers(-300, 300), min_size=1, max_size=60).map(lambda s: np.array(s, np.int64))


@given(symbols)
def test_a_fitted_table_covers_what_was_seen_and_sums_to_the_whole(seen):
    table = fit_table(seen)
    assert table.low == seen.min()
    assert table.high == seen.max()
    assert table.frequencies.min() >= 1
    assert int(table.frequencies.sum(dtype=np.uint64)) == TOTAL


@given(symbols)
def test_a_symbol_seen_more_often_is_never_less_likely(seen):
    table = fit_table(seen)
    counts = np.bincount(seen - table.low)
    for count in set(counts.tolist()):
        rarer, commoner = table.frequencies[counts < count], table.frequencies[counts >= count]
        assert not len(rarer) or rarer.max() < commoner.min()


@given(st.lists(symbols, max_size=4))
def test_tables_come_back_from_their_bytes(sets):
    tables = tuple(map(fit_table, sets))
    back = tables_from_bytes(tables_to_bytes(tables))
    assert [(t.low, t.frequencies.tolist()) for t in back] == [(t.low, t.frequencies.tolist()) for t in tables]


@pytest.mark.parametrize(
    "frequencies",
    [[TOTAL - 1], [0, TOTAL], [TOTAL, 1], []],
)
def test_frequencies_that_are_no_distribution_are_refused(frequencies):
    with pytest.raises(ValueError, match="frequencies"):
        Table(0, np.array(frequencies, np.uint32))


@given(st.integers(1, 40))
def test_bytes_cut_short_are_refused(cut):
    data = tables_to_bytes((fit_table(np.arange(9)),))
    with pytest.raises(ValueError, match=r"table|frequencies"):
        tables_from_bytes(data[:-cut])


def test_bits_are_the_ideal_code_length():
    table = Table(7, np.array([TOTAL // 2, TOTAL // 4, TOTAL // 4], np.uint32))
    assert table.bits(np.array([7, 8, 9], np.int32)).tolist() == [1.0, 2.0, 2.0]
    assert table.clip(np.array([0, 8, 99])).tolist() == [7, 8, 9]
