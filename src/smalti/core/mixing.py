# SPDX-License-Identifier: MIT
"""Context mixing in the compiled core: code images one after another in one stream."""

import ctypes
import weakref
from collections.abc import Callable, Mapping, Sequence
from ctypes import c_int32, c_int64, c_uint32, c_void_p
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import Core
from smalti.core.memory import address, aligned
from smalti.errors import CorruptError

Layers = Sequence[Sequence[tuple[NDArray[np.int16], NDArray[np.int32]]]]
"""For each network and each of its layers: weights (outputs inputs) and biases (outputs)."""
TABLES = ("squash", "stretch", "logistic", "scales", "weights", "rates", "confidence", "logs", "inverses")
"""The tables, in the order of `smalti_mixer` in `core/mixing.h`."""
USES = ("tone", "alpha", "pick", "samples", "candidates", "follows", "corrects")
"""Which contexts a model uses, as bits, its most candidates, and whether it follows pixels and corrects the network."""
STATE = np.dtype(
    [
        ("node_weights", np.int32, (512, 16)),
        ("set_weights", np.int32, (2816, 16)),
        ("last_weights", np.int32, (512, 2)),
        ("curves", np.uint16, (2, 2816, 26)),
        ("order0", np.uint32, (512,)),
        ("corrections", np.int32, (2, 3, 48)),
        ("biases", np.int32, (3, 2657)),
        ("colours", np.uint32, (16,)),
        ("images", np.uint32),
        ("bits", np.int32),
        ("place", np.uint32),
    ]
)
"""`smalti_mix_state` of `core/mixing.h`."""
LISTED = 128
"""Layers behind a hidden one with at least so many inputs are `listed` (`core/layers.inc`); others would be slower."""
MATCHES, MATCH_BITS, SLOTS, CHANNELS, DRAWN, TOLD = 3, 16, 16, 3, 4, 3
PIXEL_BYTES = (0, 51, 67, 107, 123)
"""The most bytes that a pixel takes, by channels.

A decision has a probability of 2^-12 at least, and a bit that the network codes alone one of 2^-13. The range of the
coder has at least two numbers, so its rounding adds at most one bit to each. A sample takes 16 * 14 bits at most; a
drawn pixel 13 bits for each of 14 candidates and then its samples; alpha 10 * 13 bits.
"""
LEAST_ROOM = 64
"""The flag of an image, what the coder still keeps back when the image begins, and the end of a stream fit into it."""


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, c_int32) for name in ("inputs", "outputs", "listed", "reserved")),
        ("weights", c_void_p),
        ("biases", c_void_p),
    )


class _Mixer(ctypes.Structure):
    _fields_ = (
        ("kernel", c_int32),
        ("primed_bits", c_int32),
        ("layers", (_Layer * 3) * CHANNELS),
        ("drawn", (_Layer * 3) * DRAWN),
        ("primed", c_void_p),
        *((name, c_void_p) for name in TABLES),
        *((name, c_int32) for name in USES),
    )


class _Coder(ctypes.Structure):
    _fields_ = (
        *((name, c_uint32) for name in ("low", "high", "value", "decodes")),
        *((name, c_int64) for name in ("at", "size")),
        ("bytes", c_void_p),
    )


class _Rows(ctypes.Structure):
    _fields_ = (("room", c_int64), ("count", c_int64 * DRAWN), ("rows", c_void_p * DRAWN))


class _Image(ctypes.Structure):
    _fields_ = (
        *((name, c_int32) for name in ("height", "width", "channels", "step", "drawn", "reserved")),
        ("samples", c_void_p),
        ("rows", ctypes.POINTER(_Rows)),
    )


@dataclass(frozen=True, eq=False)
class PackedMixer:
    """A mixer as the core takes it; the arrays live as long as it."""

    core: Core
    struct: _Mixer
    start: NDArray[np.void]  # STATE
    arrays: list[NDArray[np.generic]]
    matches: Callable[[int], NDArray[np.uint32]] | None  # those of a state with so many of them, by their logarithm


def pack_mixer(
    core: Core,
    layers: Layers,
    drawn: Layers,
    tables: Mapping[str, NDArray[np.generic]],
    start: NDArray[np.void],
    lines: NDArray[np.uint32],
    uses: Mapping[str, int],
    matches: Callable[[int], NDArray[np.uint32]] | None = None,
) -> PackedMixer:
    """Return a mixer as the core takes it.

    Args:
        core: the core.
        layers: of each network.
        drawn: of each network for drawn images; or none.
        tables: by the names of TABLES.
        start: a record of STATE.
        lines: `n SLOTS`, the lines that are known before.
        uses: by the names of USES.
        matches: returns the matches (`MATCHES 2^bits 2`) that a state with 2^bits of them begins with.
    """
    arrays: list[NDArray[np.generic]] = []
    struct = _Mixer(kernel=core.kernel)

    def keep(array: NDArray[np.generic]) -> int:
        arrays.append(aligned(array, array.dtype.type))
        return int(arrays[-1].ctypes.data)

    for to, networks in ((struct.layers, layers), (struct.drawn, drawn)):
        for k, network in enumerate(networks):
            for i, (weights, biases) in enumerate(network):
                outputs, inputs = -(-len(weights) // 16) * 16, weights.shape[1]
                padded, sums = np.zeros((outputs, inputs), np.int16), np.zeros(outputs, np.int32)
                padded[: len(weights)], sums[: len(weights)] = weights, biases
                listed = i > 0 and inputs >= LISTED
                packed = padded.T if listed else padded.reshape(outputs // 16, 16, inputs // 2, 2).swapaxes(1, 2)
                to[k][i] = _Layer(inputs, outputs, listed, 0, keep(packed), keep(sums))
    for name in TABLES:
        setattr(struct, name, keep(tables[name]))
    for name in USES:
        setattr(struct, name, uses[name])
    struct.primed_bits, primed = _open_addressed(lines)
    struct.primed = keep(primed)
    return PackedMixer(core, struct, start, arrays, matches)


def _open_addressed(lines: NDArray[np.uint32]) -> tuple[int, NDArray[np.uint32]]:
    """Return a hash table of lines by their keys, at most half full, and the logarithm of its length, or 0."""
    if not len(lines):
        return 0, np.zeros((1, SLOTS), np.uint32)
    bits = (2 * len(lines) - 1).bit_length()
    rows = np.full(1 << bits, -1, np.int64)
    waiting, places = np.arange(len(lines)), lines[:, 0].astype(np.int64) >> (32 - bits)
    while len(waiting):  # each round, the first of those that want a free place gets it
        free = rows[places] < 0
        rows[places[free][::-1]] = waiting[free][::-1]
        left = rows[places] != waiting
        waiting, places = waiting[left], (places[left] + 1) & ((1 << bits) - 1)
    table = np.zeros((1 << bits, SLOTS), np.uint32)
    table[rows >= 0] = lines[rows[rows >= 0]]
    return bits, table


class CoreMixing:
    """One stream by mixing, with the state that its images share."""

    def __init__(self, packed: PackedMixer, bits: int, stream: bytes | None) -> None:
        """bits: the logarithm of the lines of the state. stream: what is decoded; None if images are encoded."""
        self._packed, self._library, follows = packed, packed.core.library, packed.struct.follows
        self.state = np.empty(int(self._library.smalti_mix_state_size(bits, follows)) + 63, np.uint8)
        self.state = self.state[-self.state.ctypes.data % 64 :]
        self._library.smalti_mix_start(self.state.ctypes.data, packed.start.ctypes.data, bits, follows)
        self._bits = bits
        if packed.matches is not None:
            self.matches()[:] = packed.matches(min(bits, MATCH_BITS))
        self._done = list[bytes]()
        self._stream = stream
        self._buffer = np.frombuffer(stream or b"\0", np.uint8)
        size = 0 if stream is None else len(stream)
        self._coder = _Coder(decodes=stream is not None, size=size, bytes=self._buffer.ctypes.data)
        self._library.smalti_coder_start(ctypes.byref(self._coder))

    @property
    def size(self) -> int:
        """The bytes that are coded up to now."""
        return sum(map(len, self._done)) + (self._coder.at if self._stream is not None else 0)

    def encode(self, image: NDArray[np.uint8], step: int, *, drawn: bool) -> None:
        """Encode an image (`h w c`) whose samples are levels of `step`."""
        h, w, c = image.shape
        self._room(h * w * PIXEL_BYTES[c] + LEAST_ROOM)
        self._code(image.copy(), step, drawn=drawn)
        self._done.append(self._buffer[: self._coder.at].tobytes())

    def rows(self, image: NDArray[np.uint8]) -> list[NDArray[np.int16]]:
        """Encode a drawn image (`h w c`), and return what the networks for drawn images saw, and TOLD more numbers."""
        h, w, c = image.shape
        sizes = [self._packed.struct.drawn[k][0].inputs + TOLD for k in range(DRAWN)]
        found = [np.empty((h * w, size), np.int16) for size in sizes]
        kept = _Rows(h * w, (c_int64 * DRAWN)(), (c_void_p * DRAWN)(*(some.ctypes.data for some in found)))
        self._room(h * w * PIXEL_BYTES[c] + LEAST_ROOM)
        self._code(image.copy(), 1, drawn=True, rows=kept)
        self._done.append(self._buffer[: self._coder.at].tobytes())
        return [some[:count].copy() for some, count in zip(found, kept.count, strict=True)]

    def decode(self, shape: tuple[int, int, int], step: int) -> NDArray[np.uint8]:
        """Decode an image of `shape` (h w c)."""
        image = np.zeros(shape, np.uint8)
        self._code(image, step, drawn=False)
        return image

    def finish(self) -> bytes:
        """End the stream, and return it.

        Raises:
            CorruptError: the stream that was decoded has another end.
        """
        if self._stream is None:
            self._room(LEAST_ROOM)
            self._library.smalti_coder_end(ctypes.byref(self._coder))
            data = b"".join([*self._done, self._buffer[: self._coder.at].tobytes()])
            return data.rstrip(b"\0")
        if len(self._stream) > self._coder.at or self._stream[-1:] == b"\0":
            raise CorruptError("a stream by mixing has another end than its images; the file is damaged")
        return self._stream

    def lines(self) -> NDArray[np.uint32]:
        """Return the lines of counters (`2^bits SLOTS`); a key of 0 means that there is none."""
        at = STATE.itemsize + self.matches().nbytes
        at += -(self.state.ctypes.data + at) % 64
        return self.state[at : at + (4 * SLOTS << self._bits)].view(np.uint32).reshape(-1, SLOTS)

    def matches(self) -> NDArray[np.uint32]:
        """Return the matches of the state (`MATCHES 2^bits 2`, at most 2^MATCH_BITS): pixels and hits."""
        bits = min(self._bits, MATCH_BITS)
        size = MATCHES * 8 << bits
        return self.state[STATE.itemsize : STATE.itemsize + size].view(np.uint32).reshape(MATCHES, 1 << bits, 2)

    def learned(self) -> NDArray[np.void]:
        """Return what the mixers have learned, a record of STATE."""
        learned: NDArray[np.void] = self.state[: STATE.itemsize].view(STATE).copy()
        return learned

    def _room(self, size: int) -> None:
        if len(self._buffer) < size:
            self._buffer = np.empty(size, np.uint8)
        self._coder.at, self._coder.size, self._coder.bytes = 0, len(self._buffer), self._buffer.ctypes.data

    def _code(self, image: NDArray[np.uint8], step: int, *, drawn: bool, rows: _Rows | None = None) -> None:
        h, w, c = image.shape
        work = np.empty(int(self._library.smalti_mix_work(h, w)), np.uint8)
        struct = _Image(h, w, c, step, drawn, 0, address(image, np.uint8), ctypes.pointer(rows) if rows else None)
        packed = ctypes.byref(self._packed.struct)
        state, coder = self.state.ctypes.data, ctypes.byref(self._coder)
        full = self._library.smalti_mix(packed, state, coder, ctypes.byref(struct), work.ctypes.data)
        assert not full  # PIXEL_BYTES


def network_rows(packed: PackedMixer, image: NDArray[np.uint8]) -> list[NDArray[np.int16]]:
    """Return for each channel what its network sees of each pixel of an image (`h w c`), and TOLD more numbers."""
    h, w, c = image.shape
    sizes = [packed.struct.layers[k][0].inputs + TOLD for k in range(CHANNELS if c > 2 else 1)]
    rows = [np.empty((h * w, size), np.int16) for size in sizes]
    pointers = (c_void_p * CHANNELS)(*(some.ctypes.data for some in rows))
    work = np.empty(int(packed.core.library.smalti_mix_work(h, w)), np.uint8)
    struct = _Image(h, w, c, 1, 0, 0, address(image, np.uint8))
    packed.core.library.smalti_mix_inputs(ctypes.byref(packed.struct), ctypes.byref(struct), pointers, work.ctypes.data)
    return rows


KNOWN: "weakref.WeakKeyDictionary[object, PackedMixer]" = weakref.WeakKeyDictionary()
"""Mixers that are packed, by the objects that they were made of."""
