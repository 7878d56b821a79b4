# SPDX-License-Identifier: MIT
"""Symbols and tables to bytes and back: asymmetric numeral systems, by constriction, whose only user this file is.

The coder is a stack (rANS, 64-bit state, 32-bit words): encoding goes backwards so that decoding goes forwards, one
latent after another, all images of the block at a time.
"""

from collections.abc import Sequence
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from smalti.entropy.frequencies import Ints
from smalti.errors import CorruptError

WORD = 4


def encode_symbols(columns: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> bytes:
    """Columns of symbols to bytes: each some symbols (`n`), counted from 0, and their frequencies.

    Frequencies are `n k`, or `k` for all of them.
    """
    coder = constriction.stream.stack.AnsCoder()
    for symbols, frequencies in reversed(columns):
        if not len(symbols) or frequencies.shape[-1] == 1:
            continue
        if frequencies.ndim == 1:
            coder.encode_reverse(symbols.astype(np.int32), _model(frequencies))
        else:
            coder.encode_reverse(symbols.astype(np.int32), _model(), _weights(frequencies))
    words: NDArray[np.uint32] = coder.get_compressed()
    return words.astype("<u4").tobytes().rstrip(b"\0")  # the last word is never zero: nothing is lost


class SymbolDecoder:
    """Gives the columns of symbols back, one after another, told their frequencies.

    Raises:
        CorruptError: `data` ends as no encoder would end it.
    """

    def __init__(self, data: bytes) -> None:
        if data.endswith(b"\0"):
            raise CorruptError("a block ends in a zero byte, which no encoder writes; the file is damaged")
        words = np.frombuffer(data + bytes(-len(data) % WORD), "<u4").astype(np.uint32)
        self._coder = constriction.stream.stack.AnsCoder(words)

    def take(self, frequencies: Ints) -> Ints:
        """The next column: a symbol for each row of `frequencies` (`n k`), counted from 0."""
        n, k = frequencies.shape
        if k == 1 or not n:
            return np.zeros(n, np.int64)
        symbols: NDArray[np.int32] = self._coder.decode(_model(), _weights(frequencies))
        return symbols.astype(np.int64)

    def take_alike(self, n: int, frequencies: Ints) -> Ints:
        """The next column of `n` symbols, all of them of the same frequencies (`k`)."""
        symbols: NDArray[np.int32] = self._coder.decode(_model(frequencies), n)
        return symbols.astype(np.int64)

    def finish(self) -> None:
        """Say that all columns are taken.

        Raises:
            CorruptError: something is left over.
        """
        if not self._coder.is_empty():
            raise CorruptError("a block holds more than its images; the file is damaged or of another model")


def _model(frequencies: NDArray[Any] | None = None) -> Any:
    """The coder's model with exactly these frequencies, or those of which it is given the `_weights` later.

    constriction takes floats and turns them into integers: 1 + floor(scale * weight) each, where scale is
    (2^24 - n) / (sum of weights). Weights of frequency - 1 make that scale 1, and all of it exact; a test holds the
    bytes against plain integers.
    """
    if frequencies is None:
        return constriction.stream.model.Categorical(perfect=False)
    return constriction.stream.model.Categorical(_weights(frequencies), perfect=False)


def _weights(frequencies: NDArray[Any]) -> NDArray[np.float64]:
    return frequencies.astype(np.float64) - 1
