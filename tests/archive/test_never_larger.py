"""Images that no model codes take at most what their WebP lossless files take, RIFF headers included."""

import io

import numpy as np
import pytest
from PIL import Image

import smalti


def drawn_images(n: int, seed: int) -> list[np.ndarray]:
    """Images of all modes, 1x1 to 97x33 pixels: noise, ramps, one colour, drawings, clouds."""
    rng, images = np.random.default_rng(seed), []
    for i in range(n):
        c, (w, h) = 1 + i % 4, (int(rng.integers(1, 98)), int(rng.integers(1, 34)))
        y, x = np.mgrid[:h, :w]
        kinds = (
            rng.integers(0, 256, (h, w, c)),
            np.stack([x * rng.integers(0, 5) + y * rng.integers(0, 5) + rng.integers(0, 256) for _ in range(c)], -1),
            np.broadcast_to(rng.integers(0, 256, c), (h, w, c)),
            rng.integers(0, 256, (4, c))[(x // 5 + y // 4 * 3) % 4],
            128 + 12 * rng.normal(0, 1, (h, w, c)).cumsum(0).cumsum(1) / np.sqrt(h * w),
        )
        image = (np.asarray(kinds[i // 4 % 5]) % 256).astype(np.uint8)
        images.append(image[..., 0] if c == 1 else image)
    return images


def webp_bytes(image: np.ndarray) -> int:
    mode = {1: "RGB", 2: "RGBA", 3: "RGB", 4: "RGBA"}[image.shape[2] if image.ndim == 3 else 1]
    file = io.BytesIO()
    options = {"lossless": True, "method": 6, "quality": 100, "exact": True}
    Image.fromarray(image).convert(mode).save(file, "WEBP", **options)
    return len(file.getvalue())


@pytest.mark.parametrize("n", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_images_of_all_modes_and_sizes_take_less_than_webp(n):
    images, file = drawn_images(n, seed=n), io.BytesIO()
    rivals = [webp_bytes(image) for image in images]
    packed = smalti.pack(images, file, lossless=True, model="none")
    assert packed.bytes <= sum(rivals)
    with smalti.open(file.getvalue()) as archive:
        for i, image in enumerate(images):
            np.testing.assert_array_equal(archive[i], image)
    for image, rival in zip(images, rivals, strict=True):
        single = smalti.encode(image, lossless=True, model="none")
        np.testing.assert_array_equal(smalti.decode(single), image)
        assert len(single) <= rival, image.shape
