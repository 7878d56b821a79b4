# SPDX-License-Identifier: MIT
"""The compiled core and the reference engine code the same bytes by mixing, and give the same pixels."""

from dataclasses import replace

import numpy as np
import pytest

from smalti.codec.mixing_codec import state_bits, to_levels
from smalti.core.library import KERNELS, core
from smalti.errors import CorruptError, UsageError
from smalti.model.bundle import load_model
from smalti.model.mixing.engine import learned, mixing_decoder, mixing_encoder
from smalti.model.mixing.mixer import (
    ALL_PICKS,
    DRAWN_INPUTS,
    INPUT_MAX,
    INPUTS,
    START_KINDS,
    TABLE_KINDS,
    UNIT_MAX,
    Layer,
    Mixer,
    Start,
    Tables,
    Uses,
    check_mixer,
    known_tables,
    mixer_arrays,
    mixer_from,
    plain_start,
)

RNG = np.random.default_rng(7)


def random_mixer(hidden: tuple[int, int] = (16, 8), largest: int = 400, *, drawn: bool = False) -> Mixer:
    """Return a mixer of random networks, with lines that are known before. drawn: with networks for drawn images."""

    def layer(inputs: int, outputs: int) -> Layer:
        weights = RNG.integers(-largest, largest + 1, (outputs, inputs)).astype(np.int16)
        return Layer(weights, RNG.integers(-(1 << 17), 1 << 17, outputs).astype(np.int32))

    networks, for_drawn = (
        tuple((layer(n, hidden[0]), layer(hidden[0], hidden[1]), layer(hidden[1], 9)) for n in inputs)
        for inputs in (INPUTS, DRAWN_INPUTS if drawn else ())
    )
    tables = known_tables()
    lines = RNG.integers(0, 1 << 32, (500, 16), dtype=np.uint64).astype(np.uint32)
    lines[:, 0] |= 1
    lines[:, 1:] = lines[:, 1:] & ~np.uint32(1023) | RNG.integers(0, 30, (500, 15)).astype(np.uint32)
    mixer = Mixer(networks, tables, plain_start(tables.squash), lines, drawn=for_drawn)
    check_mixer(mixer)
    return mixer


def extreme_mixer(seed: int) -> Mixer:
    """Return a mixer whose numbers are at the ends of the ranges that `check_mixer` allows, or anywhere in them."""
    rng = np.random.default_rng(seed)

    def values(dtype: type, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
        kinds = (rng.integers(low, high, shape, endpoint=True), rng.choice((low, high), shape))
        return kinds[rng.integers(2)].astype(dtype)

    def layer(inputs: int, outputs: int, most: int) -> Layer:
        bias = int(rng.choice((0, 1 << 20, 1 << 30)))
        each = min(32767, ((1 << 31) - 1 - bias) // most // inputs)
        return Layer(values(np.int16, (outputs, inputs), -each, each), values(np.int32, (outputs,), -bias, bias))

    first, second = (2 * int(n) for n in rng.integers(1, 8, 2))
    networks, for_drawn = (
        tuple((layer(n, first, INPUT_MAX), layer(first, second, UNIT_MAX), layer(second, 9, UNIT_MAX)) for n in inputs)
        for inputs in (INPUTS, DRAWN_INPUTS if seed % 3 else ())
    )
    tables = {name: values(dtype, (length,), *ends) for name, (dtype, length, *ends) in TABLE_KINDS.items()}
    tables["logistic"].sort()
    tables["weights"][0] |= 1
    tables["weights"] = np.minimum(tables["weights"], 1 << 16)
    start = Start(**{name: values(*kind) for name, kind in START_KINDS.items()})
    uses = (
        Uses() if seed % 2 else Uses(*(int(rng.integers(n)) for n in (64, 128, 16384, 1024)), int(rng.integers(1, 15)))
    )
    uses = replace(uses, corrects=seed // 8 % 2)
    mixer = Mixer(networks, Tables(**tables), start, random_lines(rng, 40), drawn=for_drawn, uses=uses)
    check_mixer(mixer)
    return mixer


def random_lines(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return `n` lines of counters that were used up to 255 times."""
    lines = rng.integers(0, 1 << 32, (n, 16), dtype=np.uint64).astype(np.uint32)
    lines[:, 0] |= 1
    lines[:, 1:] = lines[:, 1:] & ~np.uint32(1023) | rng.integers(0, 256, (n, 15)).astype(np.uint32)
    return lines


def drawn_image(h: int, w: int, c: int) -> np.ndarray:
    """Return an image of a few colours in blocks, with transparent parts if it has alpha, and a little noise."""
    palette = RNG.integers(0, 256, (5, c), dtype=np.uint8)
    if c in (2, 4):
        palette[:, -1] = (0, 255, 255, 90, 255)
    small = RNG.integers(0, 5, (-(-h // 3), -(-w // 3)))
    image = palette[small.repeat(3, 0).repeat(3, 1)[:h, :w]]
    spots = RNG.random((h, w)) < 0.1
    image[spots] = RNG.integers(0, 256, (int(spots.sum()), c))
    return image


def tone_image(h: int, w: int, c: int) -> np.ndarray:
    """Return an image of ramps with noise."""
    ramp = np.add.outer(np.arange(h) * 3, np.arange(w) * 5)[..., None] + np.arange(c) * 20
    return np.clip(ramp % 300 + RNG.normal(0, 6, (h, w, c)), 0, 255).astype(np.uint8)


def coded(mixer: Mixer, images, step: int, flags, bits: int | None = None) -> bytes:
    encoder = mixing_encoder(mixer, bits or state_bits((len(images), *images[0].shape), mixer))
    for image, flag in zip(images, flags, strict=True):
        encoder.encode(image, step, drawn=flag)
    return encoder.finish()


def decoded(mixer: Mixer, stream: bytes, images, step: int, bits: int | None = None) -> list[np.ndarray]:
    decoder = mixing_decoder(mixer, bits or state_bits((len(images), *images[0].shape), mixer), stream)
    found = [decoder.decode(image.shape, step) for image in images]
    decoder.finish()
    return found


@pytest.mark.skipif(core() is None, reason="there is no compiled core")
@pytest.mark.parametrize("step", [1, 5])
@pytest.mark.parametrize("shape", [(10, 9, 3), (7, 11, 4), (12, 10, 1), (7, 9, 2), (1, 1, 3), (1, 20, 4), (17, 1, 3)])
@pytest.mark.parametrize("drawn", [False, True])
def test_all_kernels_and_the_reference_engine_agree(monkeypatch, shape, step, drawn):
    agree(monkeypatch, random_mixer(drawn=drawn), shape, step)


@pytest.mark.skipif(core() is None, reason="there is no compiled core")
@pytest.mark.parametrize(
    "hidden", [(2, 2), (4, 6), (6, 10), (10, 4), (18, 16), (128, 48), (130, 80), (254, 130), (256, 254)]
)
def test_they_agree_on_hidden_layers_of_any_size(monkeypatch, hidden):
    agree(monkeypatch, random_mixer(hidden, drawn=True), (5, 6, 4), 3)


OTHER = (
    Uses(0, 5, 0x12, 0, 14, 16),
    Uses(0, 0, 0, 0, 1, 14),
    Uses(9, 64, 0x400, 0x201, 3, 15),
    Uses(pick=ALL_PICKS & 0x1FFF),
    Uses(pick=0x812),
    Uses(pick=ALL_PICKS, follows=1),
    Uses(0, 5, 0x2812, 0, 14, 16, 1),
    Uses(corrects=1),
    Uses(0, 5, 0x2812, 0, 14, 16, 1, 1),
)
"""Models that use other contexts than those that are used if a model says nothing."""


@pytest.mark.skipif(core() is None, reason="there is no compiled core")
@pytest.mark.parametrize("uses", OTHER)
@pytest.mark.parametrize(
    ("step", "shape"), [(1, (9, 14, 4)), (5, (13, 11, 3)), (1, (12, 10, 1)), (253, (7, 9, 2)), (5, (17, 1, 3))]
)
def test_they_agree_on_models_that_use_other_contexts(monkeypatch, uses, step, shape):
    agree(monkeypatch, replace(random_mixer(), uses=uses), shape, step)


def test_what_a_model_uses_is_kept_with_it_and_checked():
    for uses in (*OTHER, Uses()):
        mixer = replace(random_mixer(), uses=uses)
        check_mixer(mixer)
        assert mixer_from(mixer_arrays(mixer)).uses == uses
    assert "uses" not in mixer_arrays(random_mixer())
    for bad in (
        {"tone": 64},
        {"alpha": 128},
        {"pick": 16384},
        {"samples": 1024},
        {"candidates": 0},
        {"candidates": 15},
        {"follows": 2},
        {"corrects": 2},
    ):
        with pytest.raises(ValueError, match="uses contexts"):
            check_mixer(replace(random_mixer(), uses=Uses(**bad)))
    arrays = mixer_arrays(replace(random_mixer(), uses=Uses(corrects=1)))
    for wrong in (
        {name: array for name, array in arrays.items() if name != "start_corrections"},
        {name: array for name, array in arrays.items() if name != "uses"},
    ):
        with pytest.raises(ValueError, match="corrects nothing, or the other way round"):
            mixer_from(wrong)
    for bits in (13, 22):
        with pytest.raises(ValueError, match="uses contexts"):
            check_mixer(replace(random_mixer(), uses=Uses(bits=bits)))


@pytest.mark.skipif(core() is None, reason="there is no compiled core")
@pytest.mark.parametrize("seed", range(32))
def test_they_agree_on_mixers_at_the_ends_of_what_is_allowed(monkeypatch, seed):
    shape = (int(RNG.integers(1, 9)), int(RNG.integers(1, 9)), 1 + seed % 4)
    agree(monkeypatch, extreme_mixer(seed), shape, (1, 3, 9, 253)[seed // 2 % 4])


@pytest.mark.skipif(core() is None, reason="there is no compiled core")
def test_they_agree_where_places_of_pixels_that_are_followed_come_round(monkeypatch):
    mixer = replace(random_mixer(drawn=True), uses=Uses(pick=ALL_PICKS, follows=1))
    agree(monkeypatch, mixer, (6, 5, 4), 1, bits=7)


def test_what_is_seen_again_is_followed_through_what_differs():
    first = drawn_image(40, 40, 4)
    again = np.roll(first, (2, 3), (0, 1))
    again[::5, ::4] = RNG.integers(0, 256, (8, 10, 4))
    sizes = []
    for follows in (0, 1):
        mixer = replace(random_mixer(drawn=True), uses=Uses(pick=ALL_PICKS, follows=follows))
        sizes.append(len(coded(mixer, [first, again], 1, [True, True])))
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("step", [1, 7])
def test_errors_of_the_network_are_corrected(step):
    """The noise of this image hangs together, which the network does not expect."""
    noise = np.random.default_rng(2).normal(0, 30, (60, 60, 3))
    for axis in (0, 1):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, 2, axis)
    image = to_levels((128 + noise / 3).clip(0, 255).astype(np.uint8)[None], step // 2)[0]
    mixer, sizes = load_model("colour-fast").mixer, []
    for corrects in (0, 1):
        mixer = replace(mixer, uses=replace(mixer.uses, corrects=corrects))
        sizes.append(len(stream := coded(mixer, [image], step, [False])))
        assert (decoded(mixer, stream, [image], step)[0] == image).all()
    assert sizes[1] < 0.97 * sizes[0]


def test_weights_of_corrections_go_on_in_the_next_image_and_apart_where_images_are_not_exact():
    mixer = replace(random_mixer(), uses=Uses(corrects=1))
    encoder = mixing_encoder(mixer, 17)
    encoder.encode(tone_image(20, 20, 3), 1, drawn=False)
    once = learned(encoder)[0].corrections
    assert once[0].any()
    assert not once[1].any()
    encoder.encode(tone_image(20, 20, 3), 5, drawn=False)
    twice = learned(encoder)[0].corrections
    assert (twice[0] == once[0]).all()
    assert twice[1].any()


def agree(monkeypatch, mixer: Mixer, shape: tuple[int, int, int], step: int, bits: int | None = None) -> None:
    images = [make(*shape) for make in (drawn_image, tone_image, drawn_image)]
    images += [np.roll(images[0], 1, 1)] * mixer.uses.follows
    images = [to_levels(image[None], step // 2)[0] for image in images]
    flags = [True, False, False, True][: len(images)]
    monkeypatch.setenv("SMALTI_ENGINE", "numpy")
    stream = coded(mixer, images, step, flags, bits)
    assert all((a == b).all() for a, b in zip(images, decoded(mixer, stream, images, step, bits), strict=True))
    monkeypatch.setenv("SMALTI_ENGINE", "core")
    for kernel in KERNELS:
        monkeypatch.setenv("SMALTI_KERNEL", kernel)
        try:
            core()
        except UsageError:  # this processor has no such kernel
            continue
        again = replace(mixer)  # for which nothing was packed yet
        assert coded(again, images, step, flags, bits) == stream, kernel
        found = decoded(again, stream, images, step, bits)
        assert all((a == b).all() for a, b in zip(images, found, strict=True)), kernel


@pytest.mark.parametrize("drawn", [False, True])
def test_a_damaged_stream_gives_other_pixels_or_an_error_on_all_engines_alike(monkeypatch, drawn):
    mixer = random_mixer(drawn=drawn)
    images = [drawn_image(6, 7, 4), tone_image(6, 7, 4)]
    stream = coded(mixer, images, 1, [True, False])

    def outcome(damaged: bytes) -> list[bytes] | None:
        found = []
        for engine in ("core", "numpy") if core() is not None else ("numpy",):
            with monkeypatch.context() as here:
                here.setenv("SMALTI_ENGINE", engine)
                try:
                    found.append([image.tobytes() for image in decoded(mixer, damaged, images, 1)])
                except CorruptError:
                    found.append(None)
        assert found[0] == found[-1]
        return found[0]

    right = [image.tobytes() for image in images]
    assert outcome(stream) == right
    for at in RNG.integers(0, len(stream), 20):
        damaged = bytearray(stream)
        damaged[at] ^= int(RNG.integers(1, 256))
        found = outcome(bytes(damaged))
        assert found != right or at == len(stream) - 1  # another last byte may end the stream as well
    for cut in (0, 1, len(stream) // 2):
        assert outcome(stream[:cut]) != right
    assert outcome(stream + b"xxxxxx") is None
    assert outcome(stream + b"\0") is None


@pytest.mark.parametrize("drawn", [False, True])
def test_a_mixer_comes_back_from_its_arrays_and_what_could_overflow_is_refused(drawn):
    mixer = random_mixer(drawn=drawn)
    again = mixer_from(mixer_arrays(mixer))
    check_mixer(again)
    assert (np.sort(again.lines[:, 0]) == np.sort(mixer.lines[:, 0])).all()
    assert mixer_arrays(again).keys() == mixer_arrays(mixer).keys()
    assert all(
        (a == b).all()
        for a, b in zip(
            mixer_arrays(again).values(), mixer_arrays(mixer_from(mixer_arrays(again))).values(), strict=True
        )
    )
    wide = random_mixer((256, 8), largest=20)
    heavy = [Layer(np.full_like(layer.weights, 32767), layer.biases) for layer in wide.networks[0]]
    with pytest.raises(ValueError, match="32 bits"):
        check_mixer(replace(wide, networks=(tuple(heavy), *wide.networks[1:])))
    if drawn:
        with pytest.raises(ValueError, match="for drawn images"):
            check_mixer(replace(mixer, drawn=mixer.drawn[:3]))
        last = random_mixer((256, 8), largest=20, drawn=True).drawn[3]
        heavy = [Layer(np.full_like(layer.weights, 32767), layer.biases) for layer in last]
        with pytest.raises(ValueError, match="32 bits"):
            check_mixer(replace(mixer, drawn=(*mixer.drawn[:3], tuple(heavy))))


@pytest.mark.parametrize("name", TABLE_KINDS)
def test_a_table_of_another_type_or_size_or_range_is_refused(name):
    mixer = random_mixer()
    table, (_, _, low, high) = getattr(mixer.tables, name), TABLE_KINDS[name]
    wrong = [table.astype(np.int64), table[:-1], table[None], table.astype(np.float32), table.astype(np.uint8)]
    wrong += [table.astype(table.dtype.newbyteorder(">"))]
    for value in (low - 1, high + 1):
        if np.iinfo(table.dtype).min <= value <= np.iinfo(table.dtype).max:
            wrong.append(table.copy())
            wrong[-1][3] = value
    for one in wrong:
        with pytest.raises(ValueError, match=name):
            check_mixer(replace(mixer, tables=replace(mixer.tables, **{name: one})))


def test_what_would_divide_by_zero_or_fall_is_refused():
    mixer = random_mixer()
    for name, at, message in (("weights", 0, "no weight"), ("logistic", 2048, "falls")):
        table = getattr(mixer.tables, name).copy()
        table[at] = 0
        with pytest.raises(ValueError, match=message):
            check_mixer(replace(mixer, tables=replace(mixer.tables, **{name: table})))


@pytest.mark.parametrize("name", START_KINDS)
def test_a_start_of_another_type_or_shape_or_range_is_refused(name):
    mixer = random_mixer()
    array, (_, _, _, high) = getattr(mixer.start, name), START_KINDS[name]
    wrong = [array.astype(np.int64), array[:-1]]
    if high < np.iinfo(array.dtype).max:
        wrong.append(np.full_like(array, high + 1))
    for one in wrong:
        with pytest.raises(ValueError, match=name):
            check_mixer(replace(mixer, start=replace(mixer.start, **{name: one})))


def test_lines_that_would_not_be_found_or_counted_are_refused():
    mixer = random_mixer()
    for row, column, value in ((1, 0, 2), (1, 0, mixer.lines[0, 0]), (2, 5, 256)):
        lines = mixer.lines.copy()
        lines[row, column] = value
        with pytest.raises(ValueError, match="line"):
            check_mixer(replace(mixer, lines=lines))


@pytest.mark.skipif(core() is None, reason="there is no compiled core")
def test_what_networks_for_drawn_images_see_is_of_the_samples_that_are_coded():
    from smalti.core.mixing import CoreMixing
    from smalti.model.mixing.engine import packed_mixer

    image, coding = drawn_image(12, 15, 4), CoreMixing(packed_mixer(random_mixer(drawn=True)), 16, None)
    rows = coding.rows(image)
    assert [some.shape[1] for some in rows] == [n + 3 for n in DRAWN_INPUTS]
    assert len(rows[0]) == len(rows[1]) == len(rows[2]) > 5
    pixels = {tuple(pixel[:3]) for pixel in image.reshape(-1, 4).tolist()}
    assert {(r, g, b) for g, r, b in zip(*(some[:, -3].tolist() for some in rows[:3]), strict=True)} <= pixels
    assert 5 < len(rows[3]) < 12 * 15
    assert set(rows[3][:, -3].tolist()) <= set(image[..., 3].ravel().tolist())
