# SPDX-License-Identifier: MIT
"""Symbols and tables to bytes and back: asymmetric numeral systems, by constriction, whose only user this file is.

The coder is a stack (rANS, 64-bit state, 32-bit words): encoding goes backwards so that decoding goes forwards, one
position of the code after another, all images of the block at a time.
"""

from collections.abc import Sequence
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from smalti.errors import CorruptError
from smalti.tables import Table

WORD = 4


def encode_symbols(symbols: NDArray[np.int32], tables: Sequence[Table]) -> bytes:
    """`symbols` (`n p`, each within its table) and one table a position (`p`) to bytes."""
    coder = constriction.stream.stack.AnsCoder()
    for column, table in reversed(list(zip(symbols.T, tables, strict=True))):
        if len(table.frequencies) > 1:
            coder.encode_reverse(np.ascontiguousarray(column - table.low), _model(table))
    words: NDArray[np.uint32] = coder.get_compressed()
    return words.astype("<u4").tobytes().rstrip(b"\0")  # the last word is never zero: nothing is lost


def decode_symbols(data: bytes, n: int, tables: Sequence[Table]) -> NDArray[np.int32]:
    """`data` to the symbols (`n p`) of `n` images.

    Raises:
        CorruptError: `data` cannot have been encoded with these tables, or holds more than `n` images.
    """
    words = np.frombuffer(data + bytes(-len(data) % WORD), "<u4").astype(np.uint32)
    if data.endswith(b"\0"):
        raise CorruptError("a block ends in a zero byte, which no encoder writes; the file is damaged")
    coder = constriction.stream.stack.AnsCoder(words)
    symbols = np.empty((n, len(tables)), np.int32)
    for position, table in enumerate(tables):
        coded = len(table.frequencies) > 1
        symbols[:, position] = table.low + (coder.decode(_model(table), n) if coded else 0)
    if not coder.is_empty():
        raise CorruptError("a block holds more than its images; the file is damaged or of another model")
    return symbols


def _model(table: Table) -> Any:
    """The coder's model with exactly the table's frequencies.

    constriction takes floats and turns them into integers: 1 + floor(scale * weight) each, where scale is
    (2^24 - n) / (sum of weights). Weights of frequency - 1 make that scale 1, and all of it exact; a test holds the
    bytes against plain integers.
    """
    return constriction.stream.model.Categorical(table.frequencies.astype(np.float64) - 1, perfect=False)
