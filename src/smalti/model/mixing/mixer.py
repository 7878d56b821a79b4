# SPDX-License-Identifier: MIT
"""A mixer: trained networks, tables, and what counters and weights know before the first image (integers only).

Samples are coded bit by bit, as PAQ codes text (Mahoney 2005, "Adaptive Weighing of Context Models"): a
network that was trained says how likely a bit is; counters in several contexts say what followed there before; mixers
weigh all of them in the logistic domain, and they learn from each bit. `docs/format.md`, "By mixing", is the
specification; `core/mixing.inc` and `reference/` follow it.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS, LAYERS = 3, 3
"""Networks, for green, red and blue, and the layers of each."""
INPUTS = (40, 48, 56)
"""The inputs of each network, filled up with zeros."""
DRAWN_INPUTS = (56, 64, 72, 42)
"""The same of the networks for drawn images, of which the last one is for alpha."""
HIDDEN_MAX, OUTPUTS = 256, 9
"""The most units of a hidden layer, and the outputs: three logits, three means and three logarithms of scales."""
INPUT_MAX, UNIT_MAX = 1023, 1024
"""The largest input, positive or negative, and the largest output of a hidden unit."""
TERMS, NODES, SETS, STEPS, SLOTS = 16, 512, 2816, 26, 16
"""Inputs of a mixer; weights by decision; weights by context; steps of a curve; a line: its key and 15 counters."""
MATCHES, MATCH_BITS, COLOURS = 3, 16, 15
"""Contexts of which the pixel that followed is kept, the logarithm of the most of these, and last colours."""
LEAST_BITS = 14
"""The logarithm of the fewest lines of a state."""
WEIGHT_MAX = (1 << 19) - 1
"""The largest weight of a mixer, positive or negative; 2^16 stands for 1."""
COUNTED = 1023
"""The bits of a counter that say how often it was used; the others are its probability."""
CORRECTIONS, CORRECTION_MAX, BIASES = 48, (1 << 20) - 1, (1 << 8) + 7**4
"""Terms of what a network is off by, filled up; the largest weight of one, 2^20 for 1; contexts of its mean errors."""
LOGITS = 256
"""The probabilities that a counter of a bundle may have."""
MAX_PRIMED = 1 << 18
"""The most lines that a mixer brings along."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of a network; weights have 11 fractional bits."""

    weights: NDArray[np.int16]  # outputs inputs
    biases: NDArray[np.int32]  # outputs


@dataclass(frozen=True, eq=False)
class Tables:
    """The functions that coding needs, as tables."""

    squash: NDArray[np.uint16]  # 6144: the probability, of 65536, whose logit is (i - 3072) / 256
    stretch: NDArray[np.int16]  # 6144: logits of 4096 middles of ranges, then of the 2048 lowest probabilities
    logistic: NDArray[np.uint32]  # 4097: 2^24 / (1 + exp(-(i - 2048) / 128))
    scales: NDArray[np.uint32]  # 641: 2^16 exp(-(i - 448) / 64)
    weights: NDArray[np.uint32]  # 768: 2^16 exp(-i / 64)
    rates: NDArray[np.uint16]  # 256: how far a counter moves that was used i times, of 65536
    confidence: NDArray[np.int16]  # 256: how much such a counter counts, of 256
    logs: NDArray[np.int16]  # 2049: 16 log2(i)
    inverses: NDArray[np.int32]  # 2049: 2^19 / i


@dataclass(frozen=True, eq=False)
class Start:
    """What mixers know before the first image; the arrays of `smalti_mix_state` in `core/mixing.h`."""

    node_weights: NDArray[np.int32]  # NODES TERMS
    set_weights: NDArray[np.int32]  # SETS TERMS
    last_weights: NDArray[np.int32]  # NODES 2
    curves: NDArray[np.uint16]  # 2 SETS STEPS
    order0: NDArray[np.uint32]  # NODES
    corrections: NDArray[np.int32]  # 2 CHANNELS CORRECTIONS: of images that are exact, and of others


@dataclass(frozen=True, eq=False)
class Seen:
    """What a state knows of pixels before the first image: those that followed in some contexts, and the last colours.

    A model of a bundle of its own knows none.
    """

    matches: NDArray[np.uint32]  # MATCHES 2^MATCH_BITS 2: a pixel, and how often it was right
    colours: NDArray[np.uint32]  # COLOURS

    def folded(self, bits: int) -> NDArray[np.uint32]:
        """Return the matches (`MATCHES 2^bits 2`) of a state with 2^bits of them.

        Of those that come together, the one counts whose pixel was right most often; of several, one that is not 0.
        """
        together = self.matches.reshape(MATCHES, 1 << bits, -1, 2)
        score = 2 * together[..., 1].astype(np.int64) + (together[..., 0] > 0)
        found: NDArray[np.uint32] = np.take_along_axis(together, score.argmax(2)[..., None, None], 2)[:, :, 0]
        return found


ALL_PICKS = (1 << 14) - 1
"""All contexts of a pick: those that `Uses` has if nothing is said, two of the picks nearby, and one of the source."""


@dataclass(frozen=True)
class Uses:
    """The contexts that a model uses: bit i is 1 where it uses context i; and what else makes it faster."""

    tone: int = (1 << 6) - 1  # 0: of samples, each bit has the probability that the network says
    alpha: int = (1 << 7) - 1
    pick: int = (1 << 11) - 1  # nine contexts of the pixel, two of the candidate; ALL_PICKS has three more
    samples: int = (1 << 10) - 1  # 0: as in `tone`
    candidates: int = 14  # at most
    bits: int = 21  # the logarithm of the most lines
    follows: int = 0  # whether the second match is the pixel that is followed, see `core/follow.inc`
    corrects: int = 0  # whether errors of the network tell those that come, see `core/correct.inc`

    @property
    def is_quick(self) -> bool:
        """Whether the model is for speed, so that an encoder should not try several ways."""
        return not self.tone


OLD_USES = 6
"""The numbers that a model has at least: one that neither follows pixels nor corrects the network."""


@dataclass(frozen=True, eq=False)
class Mixer:
    """Networks, tables and starting state of a model that codes by mixing."""

    networks: tuple[tuple[Layer, Layer, Layer], ...]  # of green, red and blue
    tables: Tables
    start: Start
    lines: NDArray[np.uint32]  # n SLOTS: lines that are known before: their keys, then counters
    seen: Seen | None = None  # of a fitted model
    drawn: tuple[tuple[Layer, Layer, Layer], ...] = ()  # of green, red, blue and alpha, for drawn images; or none
    uses: Uses = Uses()


TABLE_KINDS: dict[str, tuple[type[np.generic], int, int, int]] = {
    "squash": (np.uint16, 6144, 8, 65527),
    "stretch": (np.int16, 6144, -3071, 3071),
    "logistic": (np.uint32, 4097, 0, 1 << 24),
    "scales": (np.uint32, 641, 1, 1 << 27),
    "weights": (np.uint32, 768, 0, 1 << 16),
    "rates": (np.uint16, 256, 0, 65535),
    "confidence": (np.int16, 256, 0, 256),
    "logs": (np.int16, 2049, 0, 176),
    "inverses": (np.int32, 2049, 0, 1 << 19),
}
"""The type and the length of each table, and the least and the largest value that it may have."""
START_KINDS: dict[str, tuple[type[np.generic], tuple[int, ...], int, int]] = {
    "node_weights": (np.int32, (NODES, TERMS), -WEIGHT_MAX, WEIGHT_MAX),
    "set_weights": (np.int32, (SETS, TERMS), -WEIGHT_MAX, WEIGHT_MAX),
    "last_weights": (np.int32, (NODES, 2), -WEIGHT_MAX, WEIGHT_MAX),
    "curves": (np.uint16, (2, SETS, STEPS), 0, 65535),
    "order0": (np.uint32, (NODES,), 0, 2**32 - 1),
    "corrections": (np.int32, (2, CHANNELS, CORRECTIONS), -CORRECTION_MAX, CORRECTION_MAX),
}
"""The type and the shape of each array of the start, and the least and the largest value that it may have."""


def check_mixer(mixer: Mixer) -> None:
    """Prove that no sum of a mixer can overflow, that no index leaves its table, and that nothing is divided by 0.

    The comments of `core/mixing.inc` tell how the bounds follow from what is checked here.

    Raises:
        ValueError: an array has another type or shape, or a value or a sum may be out of range.
    """
    check_layers(mixer)
    for name in TABLE_KINDS:
        _check_table(mixer.tables, name)
    if (np.diff(mixer.tables.logistic.astype(np.int64)) < 0).any():
        raise ValueError("the logistic function of a mixer falls")
    if not mixer.tables.weights[0]:
        raise ValueError("the largest logit of a mixer has no weight")
    for name, kind in START_KINDS.items():
        _check(getattr(mixer.start, name), name, *kind)
    least, most = Uses(0, 0, 0, 0, 1, LEAST_BITS), Uses(pick=ALL_PICKS, follows=1, corrects=1)
    if not all(low <= of <= high for low, of, high in zip(*map(astuple, (least, mixer.uses, most)), strict=True)):
        raise ValueError(f"a mixer uses contexts that there are not: {mixer.uses}")
    lines = mixer.lines
    if (
        lines.dtype != np.uint32
        or lines.ndim != 2
        or lines.shape[1] != SLOTS
        or len(lines) > MAX_PRIMED
        or len(np.unique(lines[:, 0])) != len(lines)
    ):
        raise ValueError(f"the lines of a mixer are {lines.shape}, or two have one key")
    if not (lines[:, 0] & 1).all() or ((lines[:, 1:] & 1023) > 255).any():
        raise ValueError("a line of a mixer has a key that is even, or a counter that was used too often")


def check_layers(mixer: Mixer) -> None:
    """Prove that no sum of the networks of a mixer can overflow.

    Raises:
        ValueError: an array has another type or shape, or a sum may be out of range.
    """
    if len(mixer.networks) != CHANNELS or len(mixer.drawn) not in (0, len(DRAWN_INPUTS)):
        raise ValueError(f"a mixer has {len(mixer.networks)} networks and {len(mixer.drawn)} for drawn images")
    networks = zip(INPUTS + DRAWN_INPUTS[: len(mixer.drawn)], mixer.networks + mixer.drawn, strict=True)
    for inputs, network in networks:
        sizes, most = [inputs], INPUT_MAX
        for layer in network:
            outputs = len(layer.weights)
            if _as(layer.weights, np.int16).shape != (outputs, sizes[-1]) or layer.biases.shape != (outputs,):
                raise ValueError(f"a layer of a mixer has weights of shape {layer.weights.shape}")
            biases = _as(layer.biases, np.int32).astype(np.int64)
            sums = np.abs(layer.weights.astype(np.int64)).sum(1) * most + np.abs(biases)
            if int(sums.max(initial=0)) >= 1 << 31:
                raise ValueError("a sum of a mixer's network may need more than 32 bits")
            sizes.append(outputs)
            most = UNIT_MAX
        hidden = sizes[1:-1]
        if sizes[-1] != OUTPUTS or len(network) != LAYERS or any(n % 2 or not 2 <= n <= HIDDEN_MAX for n in hidden):
            raise ValueError(f"a network of a mixer has layers of {sizes} units")


def _check_table(tables: Tables, name: str) -> None:
    dtype, length, low, high = TABLE_KINDS[name]
    _check(getattr(tables, name), name, dtype, (length,), low, high)


def _check(
    array: NDArray[Any], name: str, dtype: type[np.generic], shape: tuple[int, ...], low: int, high: int
) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"the array {name} of a mixer is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
    if int(array.min()) < low or int(array.max()) > high:
        raise ValueError(f"the array {name} of a mixer has values that are not from {low} to {high}")


def known_tables() -> Tables:
    """Return the tables that training writes into models; decoding takes those of the model."""
    middles = np.concatenate([(np.arange(4096) + 0.5) / 4096, (np.arange(2048) + 0.5) / 65536])
    used = np.arange(256)
    values = np.arange(2049)
    values[0] = 1
    return Tables(
        np.clip(np.rint(65536 * _logistic((np.arange(6144) - 3072) / 256)), 8, 65527).astype(np.uint16),
        np.clip(np.rint(256 * np.log(middles / (1 - middles))), -3071, 3071).astype(np.int16),
        np.rint((1 << 24) * _logistic((np.arange(4097) - 2048) / 128)).astype(np.uint32),
        np.rint(65536 * np.exp(-(np.arange(641) - 448) / 64)).astype(np.uint32),
        np.rint(65536 * np.exp(-np.arange(768) / 64)).astype(np.uint32),
        np.rint(65536 / (np.minimum(used, MOST_USED) + AT_FIRST)).astype(np.uint16),
        np.rint(256 * used / (used + 1.5)).astype(np.int16),
        np.rint(16 * np.log2(values)).astype(np.int16),
        np.rint((1 << 19) / values).astype(np.int32),
    )


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x)))


MOST_USED = 24
"""A counter that was used so often moves no more slowly."""
AT_FIRST = 1.05
"""A counter that was not used yet moves by one part of so many: it believes nearly all of what it sees first."""


def plain_start(squash: NDArray[np.uint16]) -> Start:
    """Return the state of mixers that have learned nothing: they trust the network."""
    weights = np.full(TERMS, 3 << 12, np.int32)
    weights[0], weights[-1] = 1 << 16, 0
    curve = squash[np.minimum(np.arange(STEPS) * 256, len(squash) - 1)]
    return Start(
        np.tile(weights, (NODES, 1)),
        np.tile(weights, (SETS, 1)),
        np.full((NODES, 2), 1 << 15, np.int32),
        np.tile(curve, (2, SETS, 1)),
        np.full(NODES, 1 << 31, np.uint32),
        _no_corrections(),
    )


def mixer_arrays(mixer: Mixer) -> dict[str, NDArray[Any]]:
    """Return a mixer as named arrays, as a bundle keeps it."""
    arrays: dict[str, NDArray[Any]] = {}
    for k, network in enumerate(mixer.networks + mixer.drawn):
        for i, layer in enumerate(network):
            arrays |= {f"w{k}{i}": layer.weights, f"b{k}{i}": layer.biases}
    for part in (mixer.tables, mixer.start):
        arrays |= {f"{type(part).__name__.lower()}_{field.name}": getattr(part, field.name) for field in fields(part)}
    lines = mixer.lines[np.argsort(mixer.lines[:, 0])]
    used = lines[:, 1:] & 255
    logits = np.searchsorted(_probabilities(mixer.tables), lines[:, 1:] >> 16)
    logits = np.where(used > 0, np.minimum(logits, LOGITS - 1), 0)
    corrections = arrays.pop("start_corrections")
    if mixer.uses != Uses():
        numbers = list(astuple(mixer.uses))
        while not numbers[-1] and len(numbers) > OLD_USES:
            numbers.pop()
        arrays["uses"] = np.array(numbers, np.uint16)
    arrays |= {"keys": lines[:, 0], "logits": logits.T.astype(np.uint8), "used": used.T.astype(np.uint8)}
    return arrays | ({"start_corrections": corrections} if mixer.uses.corrects else {})


def rounded(lines: NDArray[np.uint32], tables: Tables) -> NDArray[np.uint32]:
    """Return lines (`n SLOTS`) with the probabilities of their counters as a bundle keeps them."""
    counters = lines[:, 1:]
    known = _probabilities(tables)
    at = np.searchsorted((known[1:] + known[:-1]) >> 1, counters >> 16)
    found = lines.copy()
    found[:, 1:] = np.where(counters & 255, known[at] << 16 | counters & 255, 0)
    return found


def _probabilities(tables: Tables) -> NDArray[np.uint32]:
    """Return the LOGITS probabilities, of 65536 and rising, that a bundle's counters may have."""
    return tables.squash[24 * np.arange(LOGITS) + 12].astype(np.uint32)


def mixer_from(arrays: Mapping[str, NDArray[Any]]) -> Mixer:
    """Return the mixer of named arrays; the reverse of `mixer_arrays`.

    Raises:
        KeyError, ValueError: an array is missing, or of another type or shape. `check_mixer` looks at values.
    """

    def layer(k: int, i: int) -> Layer:
        return Layer(_as(arrays[f"w{k}{i}"], np.int16), _as(arrays[f"b{k}{i}"], np.int32))

    count = CHANNELS + len(DRAWN_INPUTS) * (f"w{CHANNELS}0" in arrays)
    networks = tuple((layer(k, 0), layer(k, 1), layer(k, 2)) for k in range(count))
    tables = Tables(**{field.name: arrays[f"tables_{field.name}"] for field in fields(Tables)})
    uses = Uses()
    if "uses" in arrays:
        if arrays["uses"].ndim != 1 or not OLD_USES <= len(arrays["uses"]) <= len(fields(Uses)):
            raise ValueError("a mixer uses another number of contexts")
        uses = Uses(*_as(arrays["uses"], np.uint16).tolist())
    if ("start_corrections" in arrays) != bool(uses.corrects):
        raise ValueError("a mixer has weights of corrections and corrects nothing, or the other way round")
    corrections = arrays["start_corrections"] if uses.corrects else _no_corrections()
    learned = {name: arrays[f"start_{name}"] for name in START_KINDS if name != "corrections"}
    start = Start(**learned, corrections=corrections)
    keys, logits, used = arrays["keys"], arrays["logits"], _as(arrays["used"], np.uint8).T
    if keys.ndim != 1 or logits.T.shape != (len(keys), SLOTS - 1) or used.shape != logits.T.shape:
        raise ValueError("the lines of a mixer have different lengths")
    _check_table(tables, "squash")
    known = _probabilities(tables)
    lines = np.empty((len(keys), SLOTS), np.uint32)
    lines[:, 0] = _as(keys, np.uint32)
    lines[:, 1:] = np.where(used > 0, known[_as(logits, np.uint8).T] << 16 | used, 0)
    return Mixer(networks[:CHANNELS], tables, start, lines, drawn=networks[CHANNELS:], uses=uses)


def _no_corrections() -> NDArray[np.int32]:
    return np.zeros((2, CHANNELS, CORRECTIONS), np.int32)


def _as(array: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    if array.dtype != dtype:
        raise ValueError(f"an array of a mixer is {array.dtype}, not {np.dtype(dtype)}")
    return array
