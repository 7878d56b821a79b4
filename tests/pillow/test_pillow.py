# SPDX-License-Identifier: MIT
"""`smalti.pillow`: Pillow opens smalti files, frame by frame, and saves them."""

import copy
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
from helpers import some_images
from PIL import Image, ImageCms, ImageSequence, UnidentifiedImageError

import smalti
import smalti.pillow  # registers the format
from smalti.errors import UsageError

MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def noise(mode: str, size: tuple[int, int] = (13, 9), seed: int = 0) -> Image.Image:
    (w, h), c = size, MODES[mode]
    return Image.fromarray(some_images(2, h, w, c, np.random.default_rng(seed))[seed % 2])


@pytest.fixture(scope="module")
def mixed() -> list[Image.Image]:
    """Images of several modes and sizes, of which some come twice."""
    sizes = [(13, 9), (5, 8), (13, 9), (1, 1)]
    return [noise(mode, size, i) for i, (mode, size) in enumerate(zip(MODES, sizes, strict=True))] * 2


@pytest.mark.parametrize("mode", MODES)
def test_an_image_is_saved_without_loss_and_opened_again(mode, tmp_path):
    image = noise(mode)
    image.save(tmp_path / "x.smalti", lossless=True)
    with Image.open(tmp_path / "x.smalti") as back:
        assert (back.format, back.mode, back.size) == ("SMALTI", mode, image.size)
        assert (back.n_frames, back.is_animated, back.tell()) == (1, False, 0)
        assert back.tobytes() == image.tobytes()
    assert np.array_equal(smalti.load(tmp_path / "x.smalti").pixels[0], np.asarray(image))


def test_frames_of_many_sizes_and_modes_are_sought(mixed, tmp_path):
    mixed[0].save(tmp_path / "x.smalti", save_all=True, append_images=mixed[1:], lossless=True)
    with Image.open(tmp_path / "x.smalti") as file:
        assert (file.n_frames, file.is_animated) == (8, True)
        for number in (3, 0, 7, 2, 2, 5):
            file.seek(number)
            assert (file.tell(), file.mode, file.size) == (number, mixed[number].mode, mixed[number].size)
            assert file.tobytes() == mixed[number].tobytes()
        assert [frame.copy() for frame in ImageSequence.Iterator(file)] == mixed
        for beyond in (8, -1):
            with pytest.raises(EOFError):
                file.seek(beyond)
        assert file.tell() == 7


def test_images_without_save_all_are_one_image(mixed, tmp_path):
    mixed[0].save(tmp_path / "x.smalti", save_all=True, append_images=mixed[1:], lossless=True)
    with Image.open(tmp_path / "x.smalti") as file:
        file.seek(5)
        file.save(tmp_path / "y.smalti", lossless=True)
    with Image.open(tmp_path / "y.smalti") as one:
        assert one.n_frames == 1
        assert one.tobytes() == mixed[5].tobytes()


def test_all_frames_of_appended_files_are_saved(mixed, tmp_path):
    frames = [image.convert("RGB").resize((6, 6)) for image in mixed[:3]]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.tiff") as animation:
        animation.seek(1)
        mixed[0].save(tmp_path / "x.smalti", save_all=True, append_images=[animation, mixed[3]], lossless=True)
        assert animation.tell() == 1
    with smalti.open(tmp_path / "x.smalti") as archive:
        shapes = [image.shape for image in archive]
    assert shapes == [(9, 13), *[(6, 6, 3)] * 3, (1, 1, 4)]


def test_quality_is_what_pack_takes_and_lossless_goes_before_it(digits, tmp_path):
    images = [Image.fromarray(digit) for digit in digits]
    sizes = {}
    for quality in (20, 80):
        images[0].save(tmp_path / "x.smalti", save_all=True, append_images=images[1:], quality=quality)
        smalti.pack(digits, tmp_path / "y.smalti", quality=quality, force=True)
        assert (tmp_path / "x.smalti").read_bytes() == (tmp_path / "y.smalti").read_bytes()
        sizes[quality] = (tmp_path / "x.smalti").stat().st_size
    assert sizes[20] < sizes[80]
    images[0].save(tmp_path / "z.smalti", quality=20, lossless=True)
    assert np.array_equal(smalti.load(tmp_path / "z.smalti").pixels[0], digits[0])


def test_the_largest_error_holds(tmp_path):
    image = noise("RGB")
    image.save(tmp_path / "x.smalti", max_error=3)
    difference = smalti.load(tmp_path / "x.smalti").pixels[0].astype(int) - np.asarray(image)
    assert abs(difference).max() in (1, 2, 3)


def test_names_labels_and_profiles_come_back_in_info(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    first, second = noise("RGB"), noise("RGB", seed=1)
    first.info["icc_profile"] = profile
    first.save(
        tmp_path / "x.smalti", save_all=True, append_images=[second], lossless=True, names=["a", "b"], labels=[7, 8]
    )
    with Image.open(tmp_path / "x.smalti") as file:
        assert file.info == {"icc_profile": profile, "name": "a", "label": 7}
        file.seek(1)
        assert file.info == {"name": "b", "label": 8}
        file.seek(0)
        file.save(tmp_path / "y.smalti", lossless=True)
        file.save(tmp_path / "z.smalti", lossless=True, icc_profile=None)
    assert smalti.load(tmp_path / "y.smalti").profiles == (profile,)
    assert smalti.load(tmp_path / "z.smalti").profiles is None


def test_pixels_are_saved_as_they_are_and_not_turned(tmp_path):
    image = noise("RGB", (7, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as png:
        assert png.getexif()[0x0112] == 6
        png.save(tmp_path / "x.smalti", lossless=True)
    with Image.open(tmp_path / "x.smalti") as back:
        assert (back.size, back.tobytes()) == ((7, 4), image.tobytes())


def test_palettes_become_colours_and_deep_images_are_refused(tmp_path):
    palette = noise("RGB").quantize(8)
    palette.save(tmp_path / "x.smalti", lossless=True)
    with Image.open(tmp_path / "x.smalti") as back:
        assert back.tobytes() == palette.convert("RGB").tobytes()
    with pytest.raises(OSError, match="16 bits"):
        Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4) * 999).save(tmp_path / "y.smalti")
    assert not (tmp_path / "y.smalti").exists()


def test_streams_are_read_and_written():
    image, stream = noise("RGBA"), io.BytesIO()
    image.save(stream, "smalti", lossless=True)
    with Image.open(stream) as back:
        assert back.tobytes() == image.tobytes()
    assert not stream.closed


def test_an_image_changes_without_the_file(packed):
    with Image.open(packed) as image:
        was = image.getpixel((0, 0))
        image.putpixel((0, 0), 255 - was)
        assert image.getpixel((0, 0)) == 255 - was
        image.seek(1)
        image.seek(0)
        assert image.getpixel((0, 0)) == was


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda image: pickle.loads(pickle.dumps(image))])
def test_a_copy_of_an_opened_image_keeps_its_pixels(packed, twin):
    with Image.open(packed) as image:
        image.seek(2)
        assert twin(image).tobytes() == image.tobytes()


def test_a_damaged_file_is_an_oserror_and_a_smaltierror(packed):
    data = packed.read_bytes()
    for damaged in (data[:-5], data[:20], data[: len(data) // 2] + b"?" + data[len(data) // 2 + 1 :]):
        with pytest.raises(OSError, match=r"\w") as caught, Image.open(io.BytesIO(damaged)) as image:
            image.load()
        assert isinstance(caught.value, smalti.SmaltiError)


def test_a_file_without_images_is_not_identified(packed):
    smalti.remove(packed, list(range(5)))
    with pytest.raises(UnidentifiedImageError):
        Image.open(packed)


def test_other_files_are_left_to_others(tmp_path):
    noise("RGB").save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / "x.smalti")
    with Image.open(tmp_path / "x.smalti") as image:
        assert image.format == "PNG"


@pytest.mark.parametrize("wrong", [{"quality": 101}, {"quality": 20, "max_error": 2}, {"model": "nobody"}])
def test_wrong_options_are_refused_and_leave_no_file(wrong, tmp_path):
    with pytest.raises(UsageError):
        noise("L").save(tmp_path / "x.smalti", **wrong)
    assert not (tmp_path / "x.smalti").exists()


def test_files_are_closed(packed, mixed, tmp_path):
    mixed[0].save(tmp_path / "x.smalti", lossless=True)
    for path in (packed, tmp_path / "x.smalti"):
        with Image.open(path) as image:
            file = image._fp
            assert not file.closed
            image.load()
        assert file.closed
        Image.open(path).close()
    Image.open(tmp_path / "x.smalti").load()  # warnings are errors: an open file would be one


def test_an_image_of_a_large_file_is_opened_without_decoding(packed, monkeypatch):
    monkeypatch.setattr("smalti.archive.archive.Archive.__getitem__", lambda *_: pytest.fail("decoded"))
    with Image.open(packed) as image:
        image.seek(3)
        assert (image.size, image.mode) == ((28, 28), "L")


def test_without_the_import_pillow_knows_no_smalti_file(packed):
    code = f"import smalti; from PIL import Image; Image.open({str(packed)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UnidentifiedImageError" in done.stderr
    assert subprocess.run([sys.executable, "-c", code.replace("smalti;", "smalti.pillow;", 1)]).returncode == 0
