import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from helpers import in_threads, write_idx

import smalti
from smalti.codec.block import Block, Fallback
from smalti.codec.block_codec import block_without_model, decode_block, decode_to_block, encode_block
from smalti.codec.fallback_codec import encode_fallback
from smalti.codec.latent_codec import analyse, encode_latents
from smalti.codec.payload.head import RAW
from smalti.codec.pixel_codec import encode_pixels
from smalti.codec.rdo import EFFORTS, total_cost
from smalti.errors import CorruptError, ModelError, OutputExistsError, SourceError, UnknownModelError, UsageError
from smalti.rate.metrics import mse, psnr


def test_the_public_names_are_those_listed():
    program = "import smalti, types; print(*(n for n in dir(smalti) if not n.startswith('_')))"
    seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.split()
    modules = {"errors", "importlib", "Any", "TYPE_CHECKING"}
    assert set(seen) - modules == set(smalti.__all__) - {"__version__"}
    for name in smalti.__all__:
        assert getattr(smalti, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        smalti.nonsense  # noqa: B018 - asking for it is the test


def test_images_come_back_close_and_small(tmp_path, digits):
    packed = smalti.pack(digits, tmp_path / "x.smalti")
    x_hat = smalti.load(tmp_path / "x.smalti").pixels
    assert x_hat.shape == digits.shape
    assert x_hat.dtype == np.uint8
    assert psnr(mse(digits, x_hat)) > 20
    assert packed.bytes == (tmp_path / "x.smalti").stat().st_size
    assert packed.rate < 40


def test_quality_trades_bytes_for_psnr(tmp_path, digits):
    rates, errors = [], []
    for quality in (1, 25, 60, 100):
        rates.append(smalti.pack(digits, tmp_path / "x.smalti", quality=quality, force=True).rate)
        errors.append(mse(digits, smalti.load(tmp_path / "x.smalti").pixels))
    assert rates == sorted(rates)
    assert errors == sorted(errors, reverse=True)


def test_order_and_names_are_kept_across_blocks(tmp_path, digits):
    names = tuple(f"{i:03d}.png" for i in range(20))
    smalti.pack(smalti.ImageSet(digits, names), tmp_path / "x.smalti", packing=smalti.Packing(7))
    with smalti.open(tmp_path / "x.smalti") as archive:
        whole = archive[:]
        assert archive.names == names
        assert len(archive) == 20
        assert all((image == whole[i]).all() for i, image in enumerate(archive))
        assert (archive[-1] == whole[19]).all()
        assert (archive[np.int64(8)] == whole[8]).all()
        assert (archive[5:16:2] == whole[5:16:2]).all()
        assert archive[20:].shape == (0, 28, 28)
        with pytest.raises(IndexError):
            archive[20]
    means = digits.reshape(20, -1).mean(1)
    assert np.corrcoef(means, whole.reshape(20, -1).mean(1))[0, 1] > 0.95


def test_an_archive_can_be_read_from_threads(tmp_path, digits):
    smalti.pack(digits, tmp_path / "x.smalti", effort=1, packing=smalti.Packing(4))
    with smalti.open(tmp_path / "x.smalti", cache_bytes=9000) as archive:
        whole = archive[:]
        wrong = []

        def read(seed):
            order = np.random.default_rng(seed).integers(0, 20, 15)
            wrong.extend(i for i in order if not (archive[i] == whole[i]).all())

        in_threads(read, range(4))
    assert not wrong


def test_one_image_goes_to_bytes_and_back(digits):
    data = smalti.encode(digits[3], quality=70)
    assert isinstance(data, bytes)
    assert len(data) < 784 / 4
    assert psnr(mse(digits[3:4], smalti.decode(data)[None])) > 20


def test_decode_takes_one_image_only(packed):
    with pytest.raises(UsageError, match="holds 5 images"):
        smalti.decode(packed.read_bytes())


@pytest.mark.parametrize("effort", [1, 7])
def test_a_block_of_latents_is_its_steps_in_order(digits, model, effort):
    block = encode_latents(digits, np.full(20, 29), model, EFFORTS[effort])
    payload = encode_block(block, model)
    assert (decode_block(payload, 20, model.image_shape, model) == block.x_hat).all()
    assert abs(block.rate.sum() + 3 - len(payload)) < 9


@pytest.mark.parametrize("post_filtered", [False, True])
def test_a_block_of_pixels_is_its_steps_in_order(digits, model, post_filtered):
    errors = np.arange(20) * 4 + 3
    (block,) = encode_pixels([digits], errors, 0.1, model, post_filter=post_filtered)
    (bare,) = encode_pixels([digits], errors, 0.1, model, post_filter=False)
    payload = encode_block(block, model)
    x_hat = decode_block(payload, 20, model.image_shape, model)
    assert (x_hat == block.x_hat).all()
    assert (x_hat != bare.x_hat).any() == post_filtered
    assert abs(block.rate.sum() + 3 + 20 * np.log2(77) / 8 - len(payload)) < 9


def mixed_block(digits, model) -> tuple[Block, np.ndarray]:
    """A block of images coded in all ways, in an order that mixes them, and what it decodes to."""
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    by_latents = encode_latents(digits[:14], np.arange(14) * 4, model, EFFORTS[1])
    (by_pixels,) = encode_pixels([digits[14:17]], np.array([0, 9, 40]), 0, model, post_filter=True)
    by_fallback = block_without_model([Fallback(encode_fallback(noise))] * 3, noise.shape)
    block = Block.join([by_latents, by_pixels, by_fallback]).pick(np.random.default_rng(1).permutation(20))
    return block, block.x_hat


def test_a_block_may_hold_images_coded_in_any_way(digits, model):
    block, expected = mixed_block(digits, model)
    payload = encode_block(block, model)
    assert (decode_block(payload, 20, model.image_shape, model) == expected).all()
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    all_fallback = block_without_model([Fallback(encode_fallback(noise))] * 2, noise.shape)
    assert (decode_block(encode_block(all_fallback, model), 2, model.image_shape, model) == noise).all()
    assert (decode_block(bytes([RAW]) + digits.tobytes(), 20, model.image_shape, model) == digits).all()


def test_a_decoded_block_is_encoded_again_to_the_same_bytes(digits, model):
    block, expected = mixed_block(digits, model)
    payload = encode_block(block, model)
    again = decode_to_block(payload, 20, model.image_shape, model)
    assert encode_block(again, model) == payload
    assert (again.x_hat == expected).all()
    assert again.ways == block.ways


@pytest.mark.parametrize("rows", [[3], [0, 1, 2, 5, 19], [19, 4, 7, 0], list(range(20))[::-1]])
def test_images_of_a_block_are_selected_as_if_they_had_been_encoded_alone(digits, model, rows):
    """Tables depend on what else is in a block: what is selected must follow, from an encoder as from a decoder."""
    block, expected = mixed_block(digits, model)
    decoded = decode_to_block(encode_block(block, model), 20, model.image_shape, model)
    payloads = [encode_block(some.pick(np.array(rows)), model) for some in (block, decoded)]
    assert payloads[0] == payloads[1]
    assert (decode_block(payloads[0], len(rows), model.image_shape, model) == expected[rows]).all()


def test_near_lossless_images_of_several_errors_are_selected_as_if_encoded_alone(digits, model):
    errors = np.array([0, 9, 40, 9, 40])
    (block,) = encode_pixels([digits[:5]], errors, 0, model, post_filter=True)
    for rows in ([1, 2], [2, 4], [3], [4, 1, 2]):
        (alone,) = encode_pixels([digits[rows]], errors[rows], 0, model, post_filter=True)
        assert encode_block(block.pick(np.array(rows)), model) == encode_block(alone, model)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x00",  # no way to code an image
        b"\x10\x01\x02",  # an unknown flag
        b"\x01\x05",  # ends in its head
        b"\x01\x05\x04",  # lowest beyond highest
        b"\x01\x05\x41",  # an operating point that there is not
        b"\x02\x00\x7f",  # an error that there is not
        b"\x04\x08\x15\x00",  # dequantised, but nothing coded by pixels
        b"\x08\x15\x00",  # more plain images than images
    ],
)
def test_an_impossible_head_is_refused(model, head):
    with pytest.raises(CorruptError):
        decode_block(head, 20, model.image_shape, model)


def test_more_effort_finds_better_symbols(digits, model):
    points = np.full(20, 40)
    costs = [total_cost(digits, analyse(digits, points, model, EFFORTS[e]), model).sum() for e in (3, 4, 6)]
    assert costs[0] > costs[1] > costs[2]


def test_foreign_blocks_are_our_error_or_images(digits, model):
    rng = np.random.default_rng(5)
    payload = encode_block(encode_latents(digits, np.full(20, 29), model, EFFORTS[1]), model)
    for i in range(60):
        data = bytearray(payload if i % 3 else rng.bytes(60))
        if i % 3 == 1:
            data[rng.integers(0, len(data))] ^= 1 << rng.integers(0, 8)
        if i % 3 == 2:
            data = data[: rng.integers(0, len(data))]
        try:
            assert decode_block(bytes(data), 20, model.image_shape, model).shape == (20, 28, 28)
        except CorruptError:
            continue


def test_what_is_no_images_is_refused(tmp_path):
    for pixels, words in (
        (np.zeros((2, 28, 28, 5), np.uint8), "shape"),
        (np.zeros((2, 28, 28)), "uint8"),
        (np.zeros((0, 28, 28), np.uint8), "no images"),
        (np.zeros(5, np.uint8), "shape"),
        ([np.zeros((28, 28), np.uint8), "a"], "or paths"),
        ([np.zeros((28, 28))], "uint8"),
        ([], "no source"),
    ):
        with pytest.raises(SourceError, match=words):
            smalti.pack(pixels, tmp_path / "x.smalti")
    assert not list(tmp_path.iterdir())


def test_wrong_requests_are_usage_errors(tmp_path, digits):
    path = tmp_path / "x.smalti"
    for quality in (0, 101):
        with pytest.raises(UsageError, match=r"1 .* to 100"):
            smalti.pack(digits, path, quality=quality)
    with pytest.raises(UnknownModelError, match="mnist-autoencoder"):
        smalti.pack(digits, path, model="nonsense")
    path.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="force=True"):
        smalti.pack(digits, path)
    assert path.read_bytes() == b"mine"
    smalti.pack(digits, path, force=True)
    assert len(smalti.load(path).pixels) == 20


@pytest.mark.skipif(os.name == "nt", reason="there are no such permissions")
def test_what_replaces_a_file_may_be_read_by_the_same_people(tmp_path, digits):
    path = tmp_path / "x.smalti"
    smalti.pack(digits[:1], path)
    path.chmod(0o600)
    smalti.pack(digits[:1], path, force=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    smalti.append(path, digits[1:2])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failure_half_way_leaves_nothing_behind(tmp_path, monkeypatch, digits):
    def fail(*_):
        raise ModelError("half way")

    monkeypatch.setattr("smalti.rate.target.seal", fail)
    (tmp_path / "x.smalti").write_bytes(b"old")
    with pytest.raises(ModelError, match="half way"):
        smalti.pack(digits, tmp_path / "x.smalti", force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x.smalti"]
    assert (tmp_path / "x.smalti").read_bytes() == b"old"


def test_what_is_read_belongs_to_the_reader(packed):
    with smalti.open(packed) as archive:
        first = archive[0]
        before = first.copy()
        first[:] = 77
        next(iter(archive))[:] = 78
        assert (archive[0] == before).all()
    archive = smalti.open(packed)
    archive.close()
    with pytest.raises(SourceError, match="closed"):
        archive[0]


def test_progress_counts_every_image(tmp_path, digits):
    idx, done = write_idx(tmp_path / "x-idx3-ubyte", digits), []
    smalti.pack(idx, tmp_path / "x.smalti", progress=lambda *counts: done.append(counts))
    smalti.unpack(tmp_path / "x.smalti", tmp_path / "out", progress=lambda *counts: done.append(counts))
    assert done == [(20, 20), (20, 20)]
    assert len(list((tmp_path / "out").glob("*.png"))) == 20
