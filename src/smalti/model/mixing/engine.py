# SPDX-License-Identifier: MIT
"""Choose what codes by mixing: the compiled core where there is one, or else the reference engine."""

import functools
import weakref
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import core
from smalti.core.mixing import KNOWN, STATE, CoreMixing, PackedMixer, network_rows, pack_mixer
from smalti.model.mixing.mixer import COLOURS, Mixer, Seen, Start, Tables

if TYPE_CHECKING:
    from smalti.model.mixing.reference.decisions import Known
    from smalti.model.mixing.reference.image import ReferenceMixing

Pixels = NDArray[np.uint8]


class MixingEncoder(Protocol):
    """A stream by mixing while it is encoded."""

    @property
    def size(self) -> int:
        """The bytes that are coded up to now."""
        ...

    def encode(self, image: Pixels, step: int, *, drawn: bool) -> None:
        """Encode an image (`h w c`) whose samples are levels of `step`."""
        ...

    def finish(self) -> bytes:
        """End the stream, and return it."""
        ...


class MixingDecoder(Protocol):
    """A stream by mixing while it is decoded."""

    def decode(self, shape: tuple[int, int, int], step: int) -> Pixels:
        """Decode an image of `shape` (h w c)."""
        ...

    def finish(self) -> bytes:
        """Check that the stream ends with its last image."""
        ...


def mixing_encoder(mixer: Mixer, bits: int) -> MixingEncoder:
    """Return the encoder of a new stream, whose state has 2^bits lines."""
    packed = packed_mixer(mixer)
    return _reference(mixer, bits, None) if packed is None else CoreMixing(packed, bits, None)


def mixing_decoder(mixer: Mixer, bits: int, stream: bytes) -> MixingDecoder:
    """Return the decoder of a stream, whose state has 2^bits lines."""
    packed = packed_mixer(mixer)
    return _reference(mixer, bits, stream) if packed is None else CoreMixing(packed, bits, stream)


def learned(coding: MixingEncoder | MixingDecoder) -> tuple[Start, NDArray[np.uint32], Seen]:
    """Return what mixers, lines of counters (`n SLOTS`) and the rest of a state learned from the images up to now.

    The state has 2^MATCH_BITS lines or more.
    """
    if isinstance(coding, CoreMixing):
        lines, state = coding.lines(), coding.learned()
        return as_start(state), lines[lines[:, 0] > 0], Seen(coding.matches().copy(), state["colours"][0][:COLOURS])
    from smalti.model.mixing.reference.image import ReferenceMixing  # only where there is no core

    assert isinstance(coding, ReferenceMixing)
    return coding.learned()


def _reference(mixer: Mixer, bits: int, stream: bytes | None) -> "ReferenceMixing":
    from smalti.model.mixing.reference.decisions import Known  # only where there is no core
    from smalti.model.mixing.reference.image import ReferenceMixing

    known = _KNOWN.get(mixer)
    if known is None:
        known = _KNOWN[mixer] = Known(mixer)
    return ReferenceMixing(known, bits, stream)


_KNOWN: "weakref.WeakKeyDictionary[Mixer, Known]" = weakref.WeakKeyDictionary()
"""Mixers as the reference engine takes them."""


def mixing_rows(mixer: Mixer, image: Pixels) -> list[NDArray[np.int16]]:
    """Return for each channel what its network sees of each pixel of an image (`h w c`): see `network_rows`."""
    packed = packed_mixer(mixer)
    assert packed is not None
    return network_rows(packed, image)


def packed_mixer(mixer: Mixer) -> PackedMixer | None:
    """Return a mixer as the core takes it; None if there is no core."""
    library = core()
    if library is None:
        return None
    found = KNOWN.get(mixer)
    if found is None or found.core != library:
        layers, drawn = (
            [[(layer.weights, layer.biases) for layer in network] for network in networks]
            for networks in (mixer.networks, mixer.drawn)
        )
        tables = {field.name: getattr(mixer.tables, field.name) for field in fields(Tables)}
        state, matches = as_state(mixer.start), None
        if mixer.seen is not None:
            state["colours"][0, :COLOURS] = mixer.seen.colours
            matches = functools.cache(mixer.seen.folded)
        found = KNOWN[mixer] = pack_mixer(
            library, layers, drawn, tables, state, mixer.lines, asdict(mixer.uses), matches
        )
    return found


def as_state(start: Start) -> NDArray[np.void]:
    """Return the starting state of mixers as the core takes it."""
    state = np.zeros(1, STATE)
    for name, array in asdict(start).items():
        state[name][0] = array
    return state


def as_start(state: NDArray[np.void]) -> Start:
    """Return a starting state from that of the core; the reverse of `as_state`."""
    return Start(**{field.name: state[field.name][0] for field in fields(Start)})
