"""The core decodes latents as numpy does: the same symbols of the same mixtures."""

import numpy as np
import pytest
from engines import ENGINES, KERNELS, engine, random_logistics
from helpers import toy_pixels

from smalti.entropy.logistic_mixture import Column
from smalti.entropy.rans import SymbolDecoder, encode_intervals

pytestmark = pytest.mark.skipif(not KERNELS, reason="the core was not built; run scripts/core")


def random_column(rng) -> Column:
    n, components = int(rng.integers(0, 40)), int(rng.choice([1, 2, 3, 32]))
    spread = rng.choice([3, 500, 100_000, (1 << 24) - 1])
    outputs = rng.integers(-spread, spread + 1, (n, 3 * components - 1))
    high = int(rng.choice([0, 1, 30, 4095]))
    tables = random_logistics(rng) if rng.random() < 0.5 else toy_pixels(1).logistics
    return Column(tables, outputs, rng.choice([1, 7, 300, 4095], n), -int(rng.integers(0, 4097)) * (high > 1), high)


@pytest.mark.parametrize("seed", range(200))
def test_columns_come_back(seed):
    rng = np.random.default_rng(seed)
    columns = [random_column(rng) for _ in range(3)]
    streams, expected = [], []
    for i, column in enumerate(columns):
        tables, rows = column.frequencies, np.arange(len(column.outputs))
        symbols = np.minimum(rng.geometric(0.3, len(rows)) - 1, tables.shape[1] - 1)
        starts = np.where(symbols > 0, (tables.cumsum(1) - tables)[rows, symbols], 0)
        streams.append((np.full(len(rows), i), starts, tables[rows, symbols]))
        expected.append(symbols + column.low)
    data = encode_intervals(streams)
    for name in ENGINES[:2]:
        with engine(name):
            decoder = SymbolDecoder(data)
            for column, symbols in zip(columns, expected, strict=True):
                assert (decoder.take_column(column) == symbols).all()
            decoder.finish()


@pytest.mark.parametrize("seed", range(100))
def test_foreign_bytes_give_the_same_symbols(seed):
    rng = np.random.default_rng(1000 + seed)
    columns, data, found = [random_column(rng) for _ in range(3)], rng.bytes(int(rng.integers(0, 300))) + b"\1", []
    for name in ENGINES[:2]:
        with engine(name):
            decoder = SymbolDecoder(data)
            found.append([decoder.take_column(column).tolist() for column in columns])
    assert found[0] == found[1]
