import numpy as np
import pytest
from engines import KERNELS, engine
from hypothesis import given
from hypothesis import strategies as st

from smalti.entropy.frequencies import PRECISION, TOTAL, bits, uniform
from smalti.entropy.rans import SymbolDecoder, encode_intervals
from smalti.errors import CorruptError


@pytest.fixture(scope="module", autouse=True, params=["numpy", *KERNELS[:1]])
def of_engine(request):
    """All of this holds for constriction and for the core."""
    with engine(request.param):
        yield


@st.composite
def coded(draw):
    """Columns of symbols with frequencies of their own for each image, skewed as real ones are."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, columns = draw(st.integers(0, 70)), []
    for _ in range(draw(st.integers(1, 6))):
        k = draw(st.integers(1, 300))
        weights = rng.random((n, k)) ** draw(st.integers(1, 30))
        frequencies = 1 + np.floor(weights / weights.sum(1, keepdims=True) * (TOTAL - k)).astype(np.int64)
        frequencies[:, draw(st.integers(0, k - 1))] += TOTAL - frequencies.sum(1)
        columns.append((rng.integers(0, k, n), frequencies))
    return columns


def encoded(columns) -> bytes:
    """Columns of symbols with their tables (`n k`, or `k` for all), encoded by their intervals."""
    streams = []
    for i, (symbols, frequencies) in enumerate(columns):
        tables = np.broadcast_to(frequencies, (len(symbols), np.shape(frequencies)[-1]))
        rows = np.arange(len(symbols))
        starts = (tables.cumsum(1) - tables)[rows, symbols]
        streams.append((np.full(len(symbols), i), starts, tables[rows, symbols]))
    return encode_intervals([tuple(np.concatenate(parts) for parts in zip(*streams, strict=True))] if streams else [])


def decoded(data, columns):
    decoder = SymbolDecoder(data)
    symbols = [decoder.take(frequencies) for _, frequencies in columns]
    decoder.finish()
    return symbols


def plain_rans(columns) -> bytes:
    """The same coder in plain integers: 64-bit state, 32-bit words, last symbol first."""
    state, words = 0, []
    for symbols, frequencies in reversed(columns):
        if frequencies.shape[1] == 1:
            continue
        for symbol, row in reversed(list(zip(symbols.tolist(), frequencies.tolist(), strict=True))):
            if state >> (64 - PRECISION) >= row[symbol]:
                words.append(state & 0xFFFFFFFF)
                state >>= 32
            state = (state // row[symbol] << PRECISION) + sum(row[:symbol]) + state % row[symbol]
    while state:
        words.append(state & 0xFFFFFFFF)
        state >>= 32
    return b"".join(word.to_bytes(4, "little") for word in words).rstrip(b"\0")


@given(coded())
def test_symbols_come_back(columns):
    for (symbols, _), back in zip(columns, decoded(encoded(columns), columns), strict=True):
        assert (symbols == back).all()


@given(coded())
def test_symbols_of_one_table_are_as_those_of_many_alike(columns):
    alike = [(symbols, frequencies[0]) for symbols, frequencies in columns if len(symbols)]
    repeated = [(symbols, np.tile(row, (len(symbols), 1))) for symbols, row in alike]
    data = encoded(alike)
    assert data == plain_rans(repeated)
    decoder = SymbolDecoder(data)
    for symbols, row in alike:
        if len(row) > 1:
            assert (decoder.take_alike(len(symbols), row) == symbols).all()
    decoder.finish()


@given(coded())
def test_the_bytes_follow_from_the_integer_tables_alone(columns):
    assert encoded(columns) == plain_rans(columns)


@given(coded())
def test_the_bytes_are_as_few_as_the_tables_allow(columns):
    ideal = sum(bits(f, s).sum() for s, f in columns if f.shape[1] > 1) / 8
    assert len(encoded(columns)) <= ideal * 1.001 + 9


@given(coded(), st.binary(max_size=40))
def test_foreign_bytes_give_symbols_of_the_tables_or_our_error(columns, data):
    try:
        back = decoded(data, columns)
    except CorruptError:
        return
    for symbols, (_, frequencies) in zip(back, columns, strict=True):
        assert ((symbols >= 0) & (symbols < frequencies.shape[1])).all()


def test_bytes_left_over_are_an_error():
    data = encoded([(np.ones(300, np.int64), uniform(300, 2))])
    with pytest.raises(CorruptError, match="more than its images"):
        decoded(data, [(None, uniform(100, 2))])
    with pytest.raises(CorruptError, match="zero byte"):
        SymbolDecoder(data + b"\0")
