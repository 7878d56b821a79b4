"""Thumbnails of images: their size, their colours, and what is said of them."""

import io
import os
import tarfile
import threading
import tracemalloc
import warnings
import zipfile
from fractions import Fraction

import numpy as np
import pytest
from helpers import run
from PIL import Image, ImageCms

import smalti
from smalti.errors import SourceError, UsageError
from smalti.exchange.formats import image_files
from smalti.exchange.resize import reduced, to_srgb
from smalti.exchange.sources import as_source, open_source
from smalti.types import ImageSet

ORIENTATION = 0x0112


def picture(w: int, h: int, mode: str = "RGB") -> Image.Image:
    """Return a smooth picture that is dark at the left and at the top, so that a turn shows."""
    x = np.linspace(0, 1, w)[None, :] * np.ones((h, 1))
    y = np.linspace(0, 1, h)[:, None] * np.ones((1, w))
    image = Image.fromarray((np.stack([x, y, x * y], -1) * 255).astype(np.uint8))
    return image.convert(mode)


def pixels_of(*source, **options) -> list[np.ndarray]:
    return [image for part in as_source(list(source), **options).parts for image in part.pixels]


def wide_gamut() -> bytes:
    """Return the ICC profile of a space in which the same numbers mean other colours than in sRGB: a gamma of 1."""
    gamma = 1.0
    curve = b"curv\0\0\0\0\0\0\0\1" + int(gamma * 256).to_bytes(2, "big") + b"\0\0"
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data, count = bytearray(srgb), int.from_bytes(srgb[128:132], "big")
    at = len(data)
    data += curve
    for i in range(count):
        entry = 132 + 12 * i
        if data[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            data[entry + 4 : entry + 12] = at.to_bytes(4, "big") + len(curve).to_bytes(4, "big")
    data[:4] = len(data).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((400, 300), 100, (75, 100)),
        ((300, 400), 100, (100, 75)),
        ((1000, 3), 50, (1, 50)),  # no side vanishes
        ((3, 1000), 50, (50, 1)),
        ((101, 100), 100, (99, 100)),
        ((100, 40), 100, (40, 100)),
        ((60, 40), 100, (40, 60)),  # nothing is enlarged
        ((1, 1), 1, (1, 1)),
        ((4001, 3001), 256, (192, 256)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_long_side_is_what_was_asked_and_nothing_is_enlarged(tmp_path, size, side, expected, kind):
    path = tmp_path / f"a.{kind.lower()}"
    picture(*size).save(path, quality=95)
    (made,) = pixels_of(path, side=side)
    assert made.shape == (*expected, 3)
    assert made.shape == pixels_of(Image.open(path), side=side)[0].shape
    if max(size) <= side:
        assert (made == np.asarray(Image.open(path))).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_thumbnail_is_turned_as_viewers_turn_the_photo(tmp_path, orientation, kind):
    image, exif = picture(320, 200), Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(tmp_path / f"a.{kind}", exif=exif, quality=95)
    (whole,) = pixels_of(tmp_path / f"a.{kind}")
    (made,) = pixels_of(tmp_path / f"a.{kind}", side=40)
    assert made.shape == ((40, 25, 3) if orientation > 4 else (25, 40, 3))
    plain = np.asarray(Image.fromarray(whole).resize(made.shape[1::-1], Image.Resampling.LANCZOS))
    assert np.abs(plain.astype(int) - made).mean() < 1.5


def test_colours_become_srgb_by_their_profile(tmp_path):
    image, profile = picture(64, 48), wide_gamut()
    for name, mode in (("c.png", "RGB"), ("a.png", "RGBA"), ("c.jpg", "RGB")):
        image.convert(mode).save(tmp_path / name, icc_profile=profile, quality=100, subsampling=0)
        source = open_source(tmp_path / name, side=32)
        (part,) = source.parts
        assert part.profiles is None
        assert source.passed_over.converted.count("1 image to sRGB by its ICC profile") == 1
        assert source.passed_over.converted.count("1 image reduced to 32 pixels") == 1
        linear = np.asarray(image.resize((32, 24), Image.Resampling.LANCZOS)) / 255
        expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
        assert np.abs(part.pixels[0][..., :3] - expected).mean() < 3, name
        if mode == "RGBA":
            assert (part.pixels[0][..., 3] == 255).all()


def test_a_profile_of_srgb_changes_no_pixel_and_a_damaged_one_is_reported(tmp_path):
    image = picture(64, 48)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "srgb.png", icc_profile=srgb)
    image.save(tmp_path / "damaged.png", icc_profile=srgb[:200])
    source = open_source(tmp_path / "srgb.png", tmp_path / "damaged.png", side=64)
    parts = list(source.parts)
    assert all((one == np.asarray(image)).all() for part in parts for one in part.pixels)
    assert all(part.profiles is None for part in parts)
    assert source.passed_over.converted == ""
    assert "1 ICC profile that could not be used (damaged.png)" in str(source.passed_over)


def test_gray_stays_gray_and_alpha_stays_alpha(tmp_path):
    gray = wide_gamut()  # of colours, so that it cannot be used for gray
    for mode, channels in (("L", 0), ("LA", 2), ("RGB", 3), ("RGBA", 4)):
        picture(90, 60, mode).save(tmp_path / "x.png", icc_profile=gray if mode == "L" else None)
        (made,) = pixels_of(tmp_path / "x.png", side=30)
        assert made.shape == ((20, 30, channels) if channels else (20, 30))


def test_colours_under_alpha_0_do_not_bleed():
    image = np.zeros((64, 64, 4), np.uint8)
    image[:, :32] = 255, 0, 0, 255
    image[:, 32:] = 0, 255, 0, 0  # green that nobody sees
    made = reduced(image, 16)
    seen = made[made[..., 3] > 8]
    assert len(seen)
    assert seen[:, 1].max() < 8
    assert seen[:, 0].min() > 247


def test_all_sources_are_reduced(tmp_path):
    image = picture(64, 48)
    x = np.asarray(image)
    image.save(tmp_path / "a.png")
    folder = tmp_path / "folder"
    folder.mkdir()
    image.save(folder / "a.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.write(tmp_path / "a.png", "a.png")
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.add(tmp_path / "a.png", "a.png")
    np.save(tmp_path / "a.npy", x[None])
    np.savez(tmp_path / "a.npz", images=x[None])
    expected = reduced(x, 32)
    opened_file = (tmp_path / "a.png").open("rb")
    for source in (
        *(tmp_path / name for name in ("a.png", "folder", "a.zip", "a.tar", "a.npy", "a.npz")),
        x[None],
        [x],
        image,
        [image],
        ImageSet(x[None]),
        opened_file,
    ):
        opened = as_source(source, side=32)
        found = [one for part in opened.parts for one in part.pixels]
        assert len(found) == 1
        assert np.array_equal(found[0], expected), source
        assert "1 image reduced to 32 pixels" in opened.passed_over.converted, source
    opened_file.close()


def test_an_image_of_the_caller_stays_as_it_is(tmp_path):
    picture(640, 480).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert pixels_of(image, side=40)[0].shape == (30, 40, 3)
        assert image.size == (640, 480)


def test_parquet_is_reduced(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    file = io.BytesIO()
    picture(64, 48).save(file, "PNG")
    pq.write_table(pa.table({"image": [{"bytes": file.getvalue(), "path": "a.png"}]}), tmp_path / "a.parquet")
    assert pixels_of(tmp_path / "a.parquet", side=32)[0].shape == (24, 32, 3)


def test_order_names_labels_and_errors_are_those_of_the_files(tmp_path):
    rng = np.random.default_rng(0)
    shades = rng.permutation(200)[:40]
    for i, shade in enumerate(shades):
        Image.new("L", (int(rng.integers(40, 400)), 40), int(shade)).save(tmp_path / f"{i:02d}.png")
    (tmp_path / "07.png").write_bytes((tmp_path / "07.png").read_bytes()[:60])
    bad = []
    source = as_source(tmp_path, bad.append, side=20)
    found = [(name, int(one.max())) for part in source.parts for name, one in zip(part.names, part.pixels, strict=True)]
    assert found == [(f"{i:02d}.png", shade) for i, shade in enumerate(shades) if i != 7]
    assert [str(error).count("07.png") for error in bad] == [1]
    with pytest.raises(SourceError, match=r"07\.png"):
        list(as_source(tmp_path, side=20).parts)


def test_files_are_decoded_by_several_threads(tmp_path, monkeypatch):
    for i in range(6):
        picture(100, 80).save(tmp_path / f"{i}.png")
    decode, threads = image_files.decode_all, set()
    together = threading.Barrier(2, timeout=20)

    def noted(*arguments, **options):
        threads.add(threading.get_ident())
        together.wait()  # passes only when two threads are here
        return decode(*arguments, **options)

    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(image_files, "decode_all", noted)
    assert len(pixels_of(tmp_path, side=20)) == 6
    assert len(threads) == 2


def test_warnings_are_as_before_when_threads_have_read(tmp_path):
    for i in range(8):
        picture(100, 80).save(tmp_path / f"{i}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        pixels_of(tmp_path, side=20)
        assert warnings.filters == before


def test_photos_larger_than_a_file_can_hold_are_reduced(tmp_path):
    Image.new("RGB", (6000, 4000), "navy").save(tmp_path / "a.jpg")
    Image.new("L", (6000, 4000), 7).save(tmp_path / "b.png")
    with pytest.raises(SourceError, match="resize=256"):
        pixels_of(tmp_path / "a.jpg")
    assert [one.shape for one in pixels_of(tmp_path, side=256)] == [(171, 256, 3), (171, 256)]


def test_too_large_photos_are_refused_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_REDUCED", 5000)
    picture(100, 80).save(tmp_path / "a.png")
    with pytest.raises(SourceError, match="another program") as refused:
        pixels_of(tmp_path / "a.png", side=20)
    assert "\n" not in str(refused.value)


def test_jpeg_is_decoded_at_a_part_of_its_size_and_little_is_lost(tmp_path):
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8))
    photo = coarse.resize((2400, 1800), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "a.jpg", quality=95)
    whole = np.asarray(Image.open(tmp_path / "a.jpg"))
    (made,) = pixels_of(tmp_path / "a.jpg", side=200)
    exact = np.asarray(Image.fromarray(whole).resize((200, 150), Image.Resampling.LANCZOS))
    error = Fraction(int(((made.astype(int) - exact) ** 2).sum()), made.size)
    assert float(error) < 4  # 42 dB


def test_memory_does_not_grow_with_the_number_of_photos(tmp_path):
    picture(1200, 900).save(tmp_path / "0000.jpg")
    for i in range(1, 60):
        os.link(tmp_path / "0000.jpg", tmp_path / f"{i:04d}.jpg")

    def peak() -> int:
        tracemalloc.start()
        try:
            assert len(pixels_of(tmp_path, side=16)) == len(list(tmp_path.iterdir()))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    many = peak()
    for i in range(12, 60):
        (tmp_path / f"{i:04d}.jpg").unlink()
    few = peak()
    assert many < few + 200_000


@pytest.mark.parametrize("side", [0, -1, 1 << 16, 2.5, True, "256"])
def test_a_side_that_is_none_is_refused(side, tmp_path):
    with pytest.raises(UsageError, match="resize is"):
        smalti.pack(np.zeros((1, 8, 8), np.uint8), tmp_path / "x.smalti", resize=side)
    assert not list(tmp_path.iterdir())


def test_to_srgb_of_a_foreign_profile_is_told():
    pixels = np.zeros((4, 4), np.uint8)
    same, converted, unused = to_srgb(pixels, wide_gamut())
    assert same is pixels
    assert converted is None
    assert unused is not None


def test_pack_and_append_make_thumbnails_from_the_command_line(tmp_path):
    (tmp_path / "in").mkdir()
    picture(300, 200).save(tmp_path / "in" / "a.jpg")
    picture(20, 30).save(tmp_path / "in" / "b.png")
    file = tmp_path / "x.smalti"

    done = run("pack", tmp_path / "in", "-o", file, "--resize", "48", "--lossless")
    assert done.returncode == 0, done.stderr
    assert "1 image reduced to 48 pixels (a.jpg)" in done.stdout + done.stderr
    with smalti.open(file) as archive:
        assert [image.shape for image in archive] == [(32, 48, 3), (30, 20, 3)]
        assert archive.names == ("a.jpg", "b.png")
    picture(100, 300).save(tmp_path / "c.png")
    done = run("append", file, tmp_path / "c.png", "--resize", "48", "--lossless")
    assert done.returncode == 0, done.stderr
    with smalti.open(file) as archive:
        assert archive[2].shape == (48, 16, 3)
    done = run("pack", tmp_path / "in", "-o", tmp_path / "y.smalti", "--resize", "0")
    assert done.returncode == 2
    assert "resize is 0" in done.stderr
