# SPDX-License-Identifier: MIT
"""Colours of transparent pixels are kept, or dropped where that is asked, and it is said."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import smalti
from smalti.cli import app
from smalti.errors import UsageError

RNG = np.random.default_rng(5)


def icons(n: int = 6, channels: int = 4) -> np.ndarray:
    images = RNG.integers(0, 256, (n, 12, 10, channels), dtype=np.uint8)
    images[..., -1] = RNG.choice([0, 90, 255], images.shape[:3])
    return images


def images_of(path) -> list[np.ndarray]:
    with smalti.open(path) as archive:
        return [np.asarray(image) for image in archive]


def without_hidden(images: np.ndarray) -> np.ndarray:
    return np.where(images[..., -1:] == 0, 0, images)


@pytest.mark.parametrize("channels", [2, 4])
def test_they_are_kept_unless_it_is_asked(tmp_path, channels):
    images = icons(channels=channels)
    smalti.pack(images, tmp_path / "kept.smalti", lossless=True)
    done = smalti.pack(images, tmp_path / "a.smalti", lossless=True, hidden_colours="drop")
    assert (np.stack(images_of(tmp_path / "kept.smalti")) == images).all()
    assert (np.stack(images_of(tmp_path / "a.smalti")) == without_hidden(images)).all()
    assert done.bytes < (tmp_path / "kept.smalti").stat().st_size
    assert done.passed_over.converted.startswith("6 images without their hidden colours")


def test_images_without_such_colours_are_not_counted(tmp_path):
    images = [icons(1)[0], without_hidden(icons(1))[0], icons(1)[0][..., :3], icons(1)[0][..., 0]]
    done = smalti.pack(images, tmp_path / "a.smalti", lossless=True, hidden_colours="drop")
    assert "1 image without its hidden colours" in done.passed_over.converted
    assert all(
        (a == b).all()
        for a, b in zip(images_of(tmp_path / "a.smalti"), [without_hidden(images[0]), *images[1:]], strict=True)
    )


def test_the_command_says_so(tmp_path):
    (tmp_path / "icons").mkdir()
    for i, image in enumerate(icons()):
        Image.fromarray(image).save(tmp_path / "icons" / f"{i}.png")
    asked = [
        "pack",
        str(tmp_path / "icons"),
        "-o",
        str(tmp_path / "a.smalti"),
        "--lossless",
        "--hidden-colours",
        "drop",
    ]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "without their hidden colours" in done.output


@pytest.mark.parametrize("hidden", ["keep", "drop"])
def test_lossy_coding_keeps_none_where_that_is_asked(tmp_path, hidden):
    """Some images are kept exactly at any quality, because that takes fewer bytes: these are meant."""
    n = 6
    flat = np.zeros((n, 24, 20, 4), np.uint8)
    flat[:, :12] = (200, 30, 10, 255)
    if hidden == "drop":  # else they would be copies of each other
        flat[:, :12, :, 0] = 200 - np.arange(n)[:, None, None]
    flat[:, 12:] = np.stack([np.arange(n) + 7, *[np.full(n, 9)] * 2, np.zeros(n)], 1)[:, None, None]
    y, x = np.mgrid[:24, :20]
    photo = np.stack([9 * y, 120 + 5 * x, 90 + 3 * x + 4 * y, 255 * (x + y > 12)], 2).astype(np.uint8)
    images = [*flat, *(photo + RNG.integers(0, 9, (n, 24, 20, 1), np.uint8) * (1, 1, 1, 0)).astype(np.uint8)]
    done = smalti.pack(images, tmp_path / "a.smalti", quality=40, hidden_colours=hidden)
    assert bool(done.passed_over.converted) == (hidden == "drop")
    back = images_of(tmp_path / "a.smalti")
    black = [not image[image[..., 3] == 0][:, :3].any() for image in back]
    assert all(black[n:])
    assert all(black[:n]) == (hidden == "drop")
    exact = without_hidden(flat) if hidden == "drop" else flat
    assert sum((a == b).all() for a, b in zip(back[:n], exact, strict=True)) > n // 2
    assert all((a == b).all() for a, b, none in zip(back[:n], flat, black[:n], strict=True) if not none)
    assert any((a != b).any() for a, b in zip(back[n:], without_hidden(np.stack(images[n:])), strict=True))


def test_appended_images_lose_them_too(tmp_path):
    images = icons(8)
    smalti.pack(images[:4], tmp_path / "a.smalti", lossless=True)
    smalti.append(tmp_path / "a.smalti", images[4:], lossless=True, hidden_colours="drop")
    back = np.stack(images_of(tmp_path / "a.smalti"))
    assert (back[:4] == images[:4]).all()
    assert (back[4:] == without_hidden(images[4:])).all()


def test_another_word_is_refused(tmp_path):
    with pytest.raises(UsageError, match="keep"):
        smalti.pack(icons(), tmp_path / "a.smalti", lossless=True, hidden_colours="lose")
