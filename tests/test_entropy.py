import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smalti.entropy import decode_symbols, encode_symbols
from smalti.errors import CorruptError
from smalti.tables import PRECISION, TOTAL, Table, fit_table


@st.composite
def coded(draw):
    """Tables of some positions, and symbols (`n p`) within them, skewed as real ones are."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    tables, columns = [], []
    n = draw(st.integers(0, 70))
    for _ in range(draw(st.integers(1, 6))):
        weights = rng.random(draw(st.integers(1, 300))) ** draw(st.integers(1, 30))
        seen = rng.choice(len(weights), 2000, p=weights / weights.sum()) + draw(st.integers(-1000, 1000))
        tables.append(fit_table(seen))
        columns.append(rng.integers(tables[-1].low, tables[-1].high + 1, n))
    return np.array(columns, np.int32).T.reshape(n, len(tables)), tables


def plain_rans(symbols, tables) -> bytes:
    """The same coder in plain integers: 64-bit state, 32-bit words, last symbol first."""
    state, words = 0, []
    for column, table in reversed(list(zip(symbols.T, tables, strict=True))):
        if len(table.frequencies) == 1:
            continue
        starts = [0, *np.cumsum(table.frequencies.astype(np.uint64)).tolist()]
        for symbol in reversed((column - table.low).tolist()):
            frequency = int(table.frequencies[symbol])
            if state >> (64 - PRECISION) >= frequency:
                words.append(state & 0xFFFFFFFF)
                state >>= 32
            state = (state // frequency << PRECISION) + starts[symbol] + state % frequency
    while state:
        words.append(state & 0xFFFFFFFF)
        state >>= 32
    return b"".join(word.to_bytes(4, "little") for word in words).rstrip(b"\0")


@given(coded())
def test_symbols_come_back(case):
    symbols, tables = case
    assert (decode_symbols(encode_symbols(symbols, tables), len(symbols), tables) == symbols).all()


@given(coded())
def test_the_bytes_follow_from_the_integer_tables_alone(case):
    symbols, tables = case
    assert encode_symbols(symbols, tables) == plain_rans(symbols, tables)


@given(coded())
def test_the_bytes_are_as_few_as_the_tables_allow(case):
    symbols, tables = case
    ideal = sum(t.bits(column).sum() for column, t in zip(symbols.T, tables, strict=True)) / 8
    assert len(encode_symbols(symbols, tables)) <= ideal * 1.001 + 9


@given(coded(), st.binary(max_size=40))
def test_foreign_bytes_give_symbols_of_the_tables_or_our_error(case, data):
    symbols, tables = case
    try:
        back = decode_symbols(data, len(symbols), tables)
    except CorruptError:
        return
    for column, table in zip(back.T, tables, strict=True):
        assert ((table.low <= column) & (column <= table.high)).all()


def test_bytes_left_over_are_an_error():
    table = Table(0, np.array([TOTAL // 2, TOTAL // 2], np.uint32))
    data = encode_symbols(np.ones((300, 1), np.int32), [table])
    with pytest.raises(CorruptError, match="more than its images"):
        decode_symbols(data, 100, [table])
    with pytest.raises(CorruptError, match="zero byte"):
        decode_symbols(data + b"\0", 300, [table])
