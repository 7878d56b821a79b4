# SPDX-License-Identifier: MIT
"""The compiled core and the reference engine code the same bytes by mixing, and give the same pixels."""

import numpy as np
import pytest

from smalti.codec.mixing_codec import state_bits, to_levels
from smalti.core.library import KERNELS, core
from smalti.errors import CorruptError
from smalti.model.mixing.engine import mixing_decoder, mixing_encoder
from smalti.model.mixing.mixer import (
    INPUTS,
    Layer,
    Mixer,
    check_mixer,
    known_tables,
    mixer_arrays,
    mixer_from,
    plain_start,
)

RNG = np.random.default_rng(7)


def random_mixer(hidden: tuple[int, int] = (16, 8), largest: int = 400) -> Mixer:
    """Return a mixer of random networks, with lines that are known before."""

    def layer(inputs: int, outputs: int) -> Layer:
        weights = RNG.integers(-largest, largest + 1, (outputs, inputs)).astype(np.int16)
        return Layer(weights, RNG.integers(-(1 << 17), 1 << 17, outputs).astype(np.int32))

    networks = tuple((layer(n, hidden[0]), layer(hidden[0], hidden[1]), layer(hidden[1], 9)) for n in INPUTS)
    tables = known_tables()
    lines = RNG.integers(0, 1 << 32, (500, 16), dtype=np.uint64).astype(np.uint32)
    lines[:, 0] |= 1
    lines[:, 1:] = lines[:, 1:] & ~np.uint32(1023) | RNG.integers(0, 30, (500, 15)).astype(np.uint32)
    mixer = Mixer(networks, tables, plain_start(tables.squash), lines)
    check_mixer(mixer)
    return mixer


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


def coded(mixer: Mixer, images, step: int, flags) -> bytes:
    encoder = mixing_encoder(mixer, state_bits((len(images), *images[0].shape)))
    for image, flag in zip(images, flags, strict=True):
        encoder.encode(image, step, drawn=flag)
    return encoder.finish()


def decoded(mixer: Mixer, stream: bytes, images, step: int) -> list[np.ndarray]:
    decoder = mixing_decoder(mixer, state_bits((len(images), *images[0].shape)), stream)
    found = [decoder.decode(image.shape, step) for image in images]
    decoder.finish()
    return found


@pytest.mark.skipif(core() is None, reason="there is no compiled core")
@pytest.mark.parametrize("step", [1, 5])
@pytest.mark.parametrize("shape", [(13, 11, 3), (9, 14, 4), (12, 10, 1), (7, 9, 2), (1, 1, 3), (1, 20, 4), (17, 1, 3)])
def test_all_kernels_and_the_reference_engine_agree(monkeypatch, shape, step):
    mixer = random_mixer()
    images = [make(*shape) for make in (drawn_image, tone_image, drawn_image)]
    images = [to_levels(image[None], step // 2)[0] for image in images]
    flags = [True, False, False]
    monkeypatch.setenv("SMALTI_ENGINE", "numpy")
    stream = coded(mixer, images, step, flags)
    assert all((a == b).all() for a, b in zip(images, decoded(mixer, stream, images, step), strict=True))
    monkeypatch.setenv("SMALTI_ENGINE", "core")
    for kernel in KERNELS:
        monkeypatch.setenv("SMALTI_KERNEL", kernel)
        try:
            core()
        except Exception:  # noqa: BLE001 - this processor has no such kernel
            continue
        assert coded(random_copy(mixer), images, step, flags) == stream
        assert all(
            (a == b).all() for a, b in zip(images, decoded(random_copy(mixer), stream, images, step), strict=True)
        )


def random_copy(mixer: Mixer) -> Mixer:
    """Return the same mixer as another object, so that nothing that was made for it is used again."""
    return Mixer(mixer.networks, mixer.tables, mixer.start, mixer.lines)


def test_a_damaged_stream_gives_other_pixels_or_an_error():
    mixer = random_mixer()
    images = [drawn_image(12, 12, 4), tone_image(12, 12, 4)]
    stream = coded(mixer, images, 1, [True, False])
    refused = 0
    for at in RNG.integers(0, len(stream), 60):
        damaged = bytearray(stream)
        damaged[at] ^= int(RNG.integers(1, 256))
        try:
            decoded(mixer, bytes(damaged), images, 1)
        except CorruptError:
            refused += 1
    for cut in (0, 1, len(stream) // 2):
        try:
            decoded(mixer, stream[:cut], images, 1)
        except CorruptError:
            refused += 1
    with pytest.raises(CorruptError):
        decoded(mixer, stream + b"xxxxxx", images, 1)


def test_a_mixer_comes_back_from_its_arrays_and_what_could_overflow_is_refused():
    mixer = random_mixer()
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
        check_mixer(Mixer((tuple(heavy), *wide.networks[1:]), mixer.tables, mixer.start, mixer.lines))
    for name, value in (("confidence", 300), ("inverses", -1)):
        arrays = mixer_arrays(mixer)
        arrays[f"tables_{name}"] = arrays[f"tables_{name}"].copy()
        arrays[f"tables_{name}"][3] = value
        with pytest.raises(ValueError, match=name):
            check_mixer(mixer_from(arrays))
