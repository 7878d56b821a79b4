# SPDX-License-Identifier: MIT
"""Images of odd content, of all colours and sizes, come back as promised, and none takes more than WebP lossless."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

import smalti
from smalti.codec.mixing_codec import drawn_at_sight
from smalti.core.library import core
from smalti.model.candidates import QUICK
from smalti.rate.max_error import plain_bytes
from smalti.rate.quick import is_beyond_webp, surely_not_webp

pytestmark = pytest.mark.skipif(core() is None, reason="without the core, images are kept as WebP")
SIDES = ((1, 1), (1, 9), (9, 1), (17, 23), (32, 32), (40, 40), (7, 300), (300, 7), (50, 50))
CHANNELS = (1, 2, 3, 4)


def noise(rng, h, w):
    return rng.integers(0, 256, (h, w))


def text(rng, h, w):
    image = Image.new("L", (w, h), 255)
    for y in range(0, h, 10):
        letters = "".join(chr(i) for i in rng.integers(33, 120, w // 6 + 1))
        ImageDraw.Draw(image).text((1, y), letters, fill=0)
    return np.asarray(image)


def gradient(rng, h, w):
    slopes = np.add.outer(np.arange(h) * rng.uniform(0, 3), np.arange(w) * rng.uniform(0, 3))
    return np.clip(slopes + rng.integers(100), 0, 255)


def one_colour(rng, h, w):
    return np.full((h, w), rng.integers(256))


def checkerboard(rng, h, w):
    side = rng.integers(1, 9)
    return np.add.outer(np.arange(h) // side, np.arange(w) // side) % 2 * rng.integers(1, 256)


def medical(rng, h, w):
    y, x = np.mgrid[:h, :w]
    tissue = sum(
        rng.uniform(20, 80) * np.exp(-((y - rng.uniform(0, h)) ** 2 + (x - rng.uniform(0, w)) ** 2) / 200)
        for _ in range(6)
    )
    return np.clip(tissue + rng.normal(0, 4, (h, w)), 0, 255)


def fields(rng, h, w):
    """The areas of a map: each pixel has the colour of the nearest of seven places."""
    y, x = np.mgrid[:h, :w]
    away = [(y - rng.uniform(0, h)) ** 2 + (x - rng.uniform(0, w)) ** 2 for _ in range(7)]
    return rng.integers(0, 256, 7)[np.argmin(away, 0)]


def emoji(rng, h, w):
    image = Image.new("L", (8 * w, 8 * h))
    for _ in range(4):
        left, right = sorted(rng.integers(0, 8 * w + 1, 2).tolist())
        top, bottom = sorted(rng.integers(0, 8 * h + 1, 2).tolist())
        ImageDraw.Draw(image).ellipse((left, top, right, bottom), fill=int(rng.integers(1, 256)))
    return np.asarray(image.resize((w, h), Image.Resampling.LANCZOS))


KINDS = (noise, text, gradient, one_colour, checkerboard, medical, fields, emoji)


def odd_image(kind, shape, seed: int) -> np.ndarray:
    """Return an image of a kind; its channels are alike or not, and its alpha is opaque, of areas, or noise."""
    rng, (h, w, c) = np.random.default_rng(seed), shape
    colours = 3 if c > 2 else 1
    first = kind(rng, h, w)
    alike = kind is not noise and seed % 2
    planes = [first] + [first if alike else kind(rng, h, w) for _ in range(colours - 1)]
    if c in (2, 4):
        planes.append((np.full((h, w), 255), fields(rng, h, w), noise(rng, h, w))[seed % 3])
    image = np.stack(planes, -1).astype(np.uint8)
    return image[..., 0] if c == 1 else image


def webp_bytes(image: np.ndarray) -> int:
    planes = image.reshape(*image.shape[:2], -1)
    taken = {1: [0, 0, 0], 2: [0, 0, 0, 1], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[planes.shape[2]]
    colour = Image.fromarray(np.ascontiguousarray(planes[..., taken]))

    def size(method: int, effort: int) -> int:
        file = io.BytesIO()
        colour.save(file, "WEBP", lossless=True, exact=True, method=method, quality=effort)
        return len(file.getvalue())

    return min(size(4, 75), size(6, 100))


def check(images, path, packing: str, max_error: int) -> int:
    """Pack images; check that what comes back is what was promised; return the bytes of the file."""
    smalti.pack(images, path, max_error=max_error, packing=packing, force=True)
    with smalti.open(path) as archive:
        for i, image in enumerate(images):
            away = np.abs(np.asarray(archive[i]).reshape(image.shape).astype(int) - image)
            assert away.max() <= max_error
            assert image.ndim == 2 or image.shape[2] in (1, 3) or not away[..., -1].any()  # alpha is exact
    return path.stat().st_size


@pytest.mark.parametrize("kind", [gradient, checkerboard, one_colour])
def test_a_single_image_takes_at_most_two_bytes_more_than_webp(kind, tmp_path):
    for seed, shape in enumerate([(1, 9, 3), (40, 48, 1), (32, 32, 2), (40, 40, 3), (24, 24, 4), (30, 40, 4)]):
        image = odd_image(kind, shape, seed)
        assert check([image], tmp_path / "a.smalti", "block", 0) <= webp_bytes(image) + 2, shape


def test_images_take_no_more_bytes_if_they_may_be_off(tmp_path):
    images = [odd_image(gradient, (24, 24, c), seed) for c in CHANNELS for seed in range(2)]
    for packing in ("block", "each"):
        exact = check(images, tmp_path / "a.smalti", packing, 0)
        assert check(images, tmp_path / "a.smalti", packing, 2) <= exact + 8


def test_a_fast_guess_knows_plain_images():
    sizes = [plain_bytes(odd_image(kind, (32, 32, 3), 1)) for kind in (one_colour, gradient, noise)]
    assert sizes[0] < 60
    assert sizes[1] < 1000
    assert sizes[2] > 3000


@pytest.mark.slow
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_odd_sets_come_back_and_take_no_more_than_webp(kind, channels, tmp_path):
    images = [odd_image(kind, (*side, channels), seed) for seed, side in enumerate(SIDES * 2)]
    webp = [webp_bytes(image) for image in images]
    for packing in ("block", "each"):
        assert check(images, tmp_path / "a.smalti", packing, 0) <= sum(webp) + 2 * len(webp)
    for max_error, packing in ((1, "block"), (2, "each")):
        check(images, tmp_path / "a.smalti", packing, max_error)
    for image, size in zip(images[:: len(SIDES) - 1], webp[:: len(SIDES) - 1], strict=True):
        assert check([image], tmp_path / "a.smalti", "block", 0) <= size + 2


@pytest.mark.slow
def test_a_mixture_of_all_kinds_takes_no_more_than_its_parts(tmp_path):
    sets = [[odd_image(kind, (32, 32, c), seed) for seed in range(12)] for kind in KINDS for c in (1, 3, 4)]
    parts = sum(check(some, tmp_path / "a.smalti", "block", 0) for some in sets)
    assert (
        check([image for some in zip(*sets, strict=True) for image in some], tmp_path / "b.smalti", "block", 0) <= parts
    )


def packed(images, **options) -> tuple[int, set[str]]:
    """Return the bytes of a file of these images, which come back exactly, and the names of its models."""
    file = io.BytesIO()
    result = smalti.pack(images, file, lossless=True, **options)
    with smalti.open(file.getvalue()) as archive:
        assert all(np.array_equal(a, b) for a, b in zip(archive, images, strict=True))
    return len(file.getvalue()), set(result.models)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_odd_images_take_hardly_more_than_webp_at_effort_1(kind, channels):
    images = [odd_image(kind, (32, 40, channels), seed) for seed in range(6)]
    size, _ = packed(images, effort=1)
    assert size <= 1.02 * sum(webp_bytes(image) + 2 for image in images) + 100  # the file around them


@pytest.mark.parametrize("target", [{"lossless": True}, {"max_error": 3}])
def test_efforts_2_to_9_are_alike_where_no_loss_is_allowed_or_little(tmp_path, target):
    x = np.random.default_rng(2).integers(0, 256, (3, 20, 20, 3)).cumsum(1, np.int64) // 20 % 256
    files = []
    for effort in (1, 2, 5, 9):
        smalti.pack(x.astype(np.uint8), tmp_path / "x.smalti", effort=effort, force=True, **target)
        files.append((tmp_path / "x.smalti").read_bytes())
    assert files[1] == files[2] == files[3] != files[0]


def test_effort_1_takes_the_model_for_speed_where_nothing_else_is_asked():
    images = [odd_image(emoji, (32, 40, 3), seed) for seed in range(4)]
    assert packed(images, effort=1)[1] == {QUICK}
    assert QUICK not in packed(images, effort=2)[1]
    assert QUICK not in packed(images, effort=1, model="colour")[1]
    assert packed(images, model=QUICK)[1] == {QUICK}
    assert QUICK not in smalti.pack(images, io.BytesIO(), quality=50, effort=1).models


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (33, 65)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("packing", ["block", "each"])
def test_any_size_and_mode_comes_back_at_effort_1(shape, channels, packing):
    images = [odd_image(kind, (*shape, channels), 5) for kind in (noise, gradient)]
    packed(images, effort=1, packing=packing)


def test_drawn_images_and_photographs_are_told_apart_at_sight():
    rng = np.random.default_rng(0)
    flat = np.full((1, 20, 20, 3), 7, np.uint8)
    photo = rng.integers(0, 256, (1, 20, 20, 3), dtype=np.uint8)
    assert drawn_at_sight(np.concatenate([flat, photo])).tolist() == [True, False]
    assert drawn_at_sight(flat[..., 0]).tolist() == [True]
    assert drawn_at_sight(np.zeros((1, 4, 4, 4), np.uint8)).tolist() == [True]  # nothing is seen


def test_only_images_without_repetitions_are_surely_not_for_webp():
    rng = np.random.default_rng(1)
    photo = np.cumsum(rng.integers(-9, 10, (1, 40, 40, 3)), 2).astype(np.uint8)
    tiled = np.tile(photo[:, :8, :8], (1, 5, 5, 1))
    assert surely_not_webp(photo, np.array([2000.0])).tolist() == [True]
    assert surely_not_webp(photo, np.array([4500.0])).tolist() == [False]
    assert surely_not_webp(tiled, np.array([2000.0])).tolist() == [False]
    assert not surely_not_webp(np.concatenate([photo, photo[..., :1]], 3), np.array([2000.0])).any()  # with alpha


def rough(seed: int) -> np.ndarray:
    """Return an image like a photograph: smooth colours, and noise that no copy repeats."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(40, 216, (4, 4, 3), dtype=np.uint8)).resize((48, 48), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(small) + rng.normal(0, 8, (48, 48, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("copied", [8, 14, 24])
def test_parts_of_a_photograph_that_are_copies_leave_it_to_webp(axis, copied):
    image = np.moveaxis(rough(copied), axis, 0)
    image[-copied:] = image[:copied]
    image = np.ascontiguousarray(np.moveaxis(image, 0, axis))
    assert copied < 14 or not surely_not_webp(image[None], np.array([1.0])).any()
    assert len(smalti.encode(image, lossless=True)) <= webp_bytes(image) + 2


def test_samples_that_wrap_around_are_left_to_webp():
    image = rough(0) + np.uint8(128)
    assert not is_beyond_webp(image, 0.9 * webp_bytes(image))
    assert len(smalti.encode(image, lossless=True)) <= webp_bytes(image) + 2


def test_a_photograph_is_spared_the_try_as_webp_if_it_takes_far_fewer_bytes():
    image = rough(1)
    size = webp_bytes(image)
    assert is_beyond_webp(image, 0.75 * size)
    assert not is_beyond_webp(image, 0.9 * size)
    few = image // 86 * 86  # at most 27 colours
    assert not is_beyond_webp(few, 1.0)


@pytest.mark.parametrize("effort", [1, 5])
@pytest.mark.parametrize("channels", [3, 4])
def test_pixel_art_of_few_colours_takes_no_more_than_webp(effort, channels):
    """Also where each pixel was enlarged, so that a list of colours and packed pixels are far better than planes."""
    for seed, (colours, times) in enumerate([(2, 8), (4, 4), (4, 8), (16, 2), (40, 1)]):
        rng = np.random.default_rng(seed)
        palette = rng.integers(0, 256, (colours, channels)).astype(np.uint8)
        image = palette[rng.integers(0, colours, (32 // times, 32 // times))].repeat(times, 0).repeat(times, 1)
        assert len(smalti.encode(image, lossless=True, effort=effort)) <= webp_bytes(image) + 2, (colours, times)
        near = smalti.decode(smalti.encode(image, max_error=3, effort=effort)).astype(int)
        assert np.abs(near - image).max() <= 3
