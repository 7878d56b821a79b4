"""ICC profiles come in with their images and go out with them, byte for byte, or it is said."""

import contextlib
import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from sources import DIGITS, image_file, parquet_of, tar_of, write, zip_of

from odd_images import tiff
from smalti.errors import SourceError
from smalti.exchange.convert import MAX_PROFILE_BYTES
from smalti.exchange.formats.image_files import decode_all
from smalti.exchange.sources import as_source, joined, open_source, read_images
from smalti.types import ImageSet

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
OTHER = bytes(range(256)) * 3  # nothing that LittleCMS takes; it is kept all the same
PROFILES = (SRGB, None, OTHER)
LABELLED = ImageSet(DIGITS[:3], ("a.png", "b.png", "c.png"), (1, 2, 3), PROFILES)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "MPO", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_profiles_are_read_from_every_format_that_holds_them(kind, mode):
    for profile in PROFILES[::2]:
        (image,) = decode_all(image_file(mode, (8, 8), kind, icc_profile=profile), "here")
        assert image.profile == profile
        assert not image.converted
        assert not image.dropped


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "1"])
def test_profiles_of_all_modes_of_png_are_read(mode):
    (image,) = decode_all(image_file(mode, icc_profile=SRGB), "here")
    assert image.profile == SRGB
    assert image.pixels.shape == {"P": (4, 4, 3), "LA": (4, 4, 2), "RGBA": (4, 4, 4), "1": (4, 4)}[mode]


def test_profiles_of_jpeg_2000_are_read_though_pillow_does_not():
    data = image_file("RGB", (8, 8), "JPEG2000")
    start = data.index(b"jp2h") - 4
    size, colours = struct.unpack_from(">I", data, start)[0], data.index(b"colr") - 4
    old = data[colours : colours + struct.unpack_from(">I", data, colours)[0]]
    for method in (2, 3):
        box = struct.pack(">I4s3B", 11 + len(SRGB), b"colr", method, 0, 0) + SRGB
        changed = struct.pack(">I", size - len(old) + len(box)) + data[start + 4 : start + size].replace(old, box)
        (image,) = decode_all(data[:start] + changed + data[start + size :], "here")
        assert image.profile == SRGB
    assert decode_all(data, "here")[0].profile is None
    for cut in range(len(data[:start]), len(data[:start]) + 60):  # never an error of another kind
        with contextlib.suppress(SourceError):
            decode_all((data[:start] + changed)[:cut], "here")


def test_a_profile_stays_with_an_image_whose_depth_alone_is_converted():
    file = io.BytesIO()
    Image.fromarray(np.arange(20, dtype=np.uint16).reshape(4, 5) * 999).save(file, "PNG", icc_profile=SRGB)
    (image,) = decode_all(file.getvalue(), "here", convert=True)
    assert image.profile == SRGB


def test_a_profile_that_is_too_large_is_left_out_and_said(tmp_path):
    for size, kept in ((MAX_PROFILE_BYTES, True), (MAX_PROFILE_BYTES + 1, False)):
        (tmp_path / "a.tif").write_bytes(image_file("RGB", (4, 4), "TIFF", icc_profile=bytes(size)))
        source = open_source(tmp_path / "a.tif")
        (part,) = source.parts
        assert part.profile(0) == (bytes(size) if kept else None)
        said = "" if kept else f"1 ICC profile of more than {MAX_PROFILE_BYTES} bytes (a.tif)"
        assert str(source.passed_over) == said


def test_the_profile_of_lab_is_left_out_and_said():
    file = io.BytesIO()
    with Image.open(io.BytesIO(tiff(np.zeros((4, 4, 3), np.uint8), 8))) as image:
        image.save(file, "TIFF", icc_profile=SRGB)
    (made,) = decode_all(file.getvalue(), "here", convert=True)
    assert made.profile is None
    assert made.dropped[0].one == "ICC profile that could not be used"


def test_profiles_come_from_all_sources_and_stay_with_their_images(tmp_path):
    files = [(f"{i}.png", image_file("RGB", (4, 4), icc_profile=profile)) for i, profile in enumerate(PROFILES)]
    (tmp_path / "in").mkdir()
    for name, data in files:
        (tmp_path / "in" / name).write_bytes(data)
    (tmp_path / "x.zip").write_bytes(zip_of(files))
    (tmp_path / "x.tar").write_bytes(tar_of(files))
    parquet_of(tmp_path / "x.parquet", [{"bytes": data, "path": name} for name, data in files])
    images = [Image.open(io.BytesIO(data)) for _, data in files]
    for source in ("in", "x.zip", "x.tar", "x.parquet"):
        assert read_images(tmp_path / source).profiles == PROFILES
    assert joined(as_source(images)).profiles == PROFILES
    assert joined(as_source(ImageSet(DIGITS[:3], profiles=PROFILES))).profiles == PROFILES
    assert read_images(tmp_path / "in" / "1.png").profiles is None
    assert joined(as_source(ImageSet(DIGITS[:3], profiles=PROFILES)))[1:].profiles == PROFILES[1:]


@pytest.mark.parametrize("target", ["folder", "x.zip", "x.tar", "x.tar.gz", "x.parquet"])
def test_targets_of_png_files_give_profiles_back(target, tmp_path):
    assert write(LABELLED, tmp_path / target) == ""
    read = read_images(tmp_path / target)
    assert read.profiles == PROFILES
    assert (read.pixels == LABELLED.pixels).all()
    assert read.labels == LABELLED.labels


@pytest.mark.parametrize("target", ["x.npz", "x.npy", "x-images-idx3-ubyte", "x.idx"])
def test_targets_of_arrays_say_that_they_leave_profiles_out(target, tmp_path):
    kind = "npz" if target == "x.npz" else "npy" if target == "x.npy" else "idx"
    said = f"the ICC profiles of 2 images are left out: {kind} files hold none"
    assert write(LABELLED, tmp_path / target).split("; ")[-1] == said
    one = ImageSet(DIGITS[:1], profiles=(SRGB,))
    assert write(one, tmp_path / target, force=True) == said.replace("s of 2 images are", " of 1 image is")
    assert "ICC" not in write(ImageSet(DIGITS[:1], profiles=(None,)), tmp_path / target, force=True)


@pytest.mark.parametrize("shape", [(3, 6, 5), (3, 6, 5, 2), (3, 6, 5, 3), (3, 6, 5, 4)])
@pytest.mark.parametrize("target", ["folder", "x.zip", "x.tar", "x.parquet", "x.npz", "x.npy"])
def test_all_colours_come_back_from_all_targets(shape, target, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    assert write(ImageSet(pixels), tmp_path / target) == ""
    assert (read_images(tmp_path / target).pixels == pixels).all()
