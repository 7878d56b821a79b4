"""--convert: what 8 bits cannot hold is refused in one line that names it, or converted, and that is said."""

import numpy as np
import pytest
from helpers import run
from PIL import Image, ImageCms

import smalti
from smalti.exchange.sources import read_images

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
rng = np.random.default_rng(7)


@pytest.fixture
def odd(tmp_path):
    """A folder of images that 8-bit gray, RGB or RGBA cannot hold, beside one that they can."""
    folder = tmp_path / "odd"
    folder.mkdir()
    frames = [Image.fromarray(rng.integers(0, 256, (6, 5), np.uint8)) for _ in range(3)]
    frames[0].save(folder / "a.png")
    frames[0].save(folder / "b.gif", save_all=True, append_images=frames[1:])
    Image.new("CMYK", (5, 6)).save(folder / "c.tif")
    Image.fromarray(rng.integers(0, 1 << 16, (6, 5), np.uint16)).save(folder / "d.png")
    Image.new("RGBA", (32, 32)).save(folder / "e.ico", sizes=[(16, 16), (32, 32)])
    return folder


def test_pack_and_append_refuse_in_one_line_that_names_the_option(tmp_path, odd):
    target = tmp_path / "x.smalti"
    assert run("pack", odd / "a.png", "-o", target).returncode == 0
    for name, words in (
        ("b.gif", "holds 3 frames of an animation, not one image; to take each as an image of its own"),
        ("c.tif", "has mode CMYK; to convert it to 8-bit sRGB or gray"),
        ("d.png", "has 16 bits a sample, more than the 8 that are kept; to convert it to 8-bit sRGB or gray"),
        ("e.ico", "holds 2 sizes of an icon, not one image; to take each as an image of its own"),
    ):
        for command in (("pack", odd / name, "-o", tmp_path / "y.smalti"), ("append", target, odd / name)):
            done = run(*command)
            assert done.returncode == 1
            assert done.stderr == f"smalti: {odd / name} {words}, pack it with --convert\n"
    assert not (tmp_path / "y.smalti").exists()
    with smalti.open(target) as archive:
        assert archive.names == ("a.png",)


def test_convert_takes_all_and_says_what_it_did(tmp_path, odd):
    done = run("pack", odd, "-o", tmp_path / "x.smalti", "--convert", "--lossless")
    assert done.returncode == 0
    assert done.stderr == (
        "converted: 3 frames of animations (b.gif/0000.png, ...), 1 CMYK image to RGB without an ICC profile (c.tif),"
        " 1 image of 16 bits a sample to 8 bits (d.png), 2 sizes of icons (e.ico/32x32.png, ...)\n"
    )
    assert run("unpack", tmp_path / "x.smalti", "-o", tmp_path / "out").returncode == 0
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    frames = [f"b.gif/{i:04d}.png" for i in range(3)]
    assert files == ["a.png", *frames, "c.tif.png", "d.png", "e.ico/16x16.png", "e.ico/32x32.png"]
    with Image.open(odd / "d.png") as deep:
        assert (read_images(tmp_path / "out" / "d.png").pixels[0] == np.asarray(deep) >> 8).all()
    done = run("append", tmp_path / "x.smalti", odd / "b.gif", "--convert")
    assert done.returncode == 1  # the names are there already
    assert "two images are named 'b.gif/0000.png'" in done.stderr


def test_what_is_skipped_is_named_with_the_option(tmp_path, odd):
    done = run("pack", odd, "-o", tmp_path / "x.smalti", "--on-error", "skip")
    assert done.returncode == 1
    assert done.stderr.count("--convert") == 4
    assert "convert=True" not in done.stderr
    with smalti.open(tmp_path / "x.smalti") as archive:
        assert archive.names == ("a.png",)


def test_cmyk_of_jpeg_is_converted_without_the_option_and_said(tmp_path):
    Image.new("CMYK", (5, 6)).save(tmp_path / "a.jpg")
    done = run("pack", tmp_path / "a.jpg", "-o", tmp_path / "x.smalti", "--lossless")
    assert done.returncode == 0
    assert done.stderr == "converted: 1 CMYK image to RGB without an ICC profile (a.jpg)\n"
    assert (smalti.load(tmp_path / "x.smalti").pixels == 255).all()


def test_gray_with_alpha_and_profiles_come_back_from_a_folder(tmp_path):
    (tmp_path / "in").mkdir()
    samples = rng.integers(0, 256, (7, 5, 2), np.uint8)
    Image.fromarray(samples).save(tmp_path / "in" / "a.png", icc_profile=SRGB)
    Image.fromarray(samples).save(tmp_path / "in" / "b.png")
    Image.fromarray(samples[..., 0]).save(tmp_path / "in" / "c.png", transparency=int(samples[0, 0, 0]))
    done = run("pack", tmp_path / "in", "-o", tmp_path / "x.smalti", "--lossless")
    assert (done.returncode, done.stderr) == (0, "")
    for target in ("out", "x.zip", "x.tar"):
        done = run("unpack", tmp_path / "x.smalti", "-o", tmp_path / target)
        assert (done.returncode, done.stderr) == (0, "")
        read = read_images(tmp_path / target)
        assert read.profiles == (SRGB, None, None)
        assert (read.pixels[:2] == samples).all()
        assert (read.pixels[2, ..., 0] == samples[..., 0]).all()
        assert (read.pixels[2, ..., 1] == 255 * (samples[..., 0] != samples[0, 0, 0])).all()
    done = run("unpack", tmp_path / "x.smalti", "-o", tmp_path / "x.npz")
    assert done.stderr == "smalti: the ICC profile of 1 image is left out: npz files hold none\n"
