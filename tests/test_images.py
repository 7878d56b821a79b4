import gzip
import io
import os
import sys

import numpy as np
import pytest
from helpers import write_idx
from PIL import Image

from smalti.errors import CorruptError, OutputError, OutputExistsError, SourceError, UsageError
from smalti.images import ImageSet, read_images
from smalti.targets import png_bytes, write_images


def test_every_kind_of_source_gives_the_same_images(tmp_path, digits):
    folder = tmp_path / "folder"
    for i, image in enumerate(digits):
        path = folder / f"{i % 2}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png_bytes(image))
    (folder / "notes.txt").write_text("not an image")
    (folder / "._00.png").write_text("not an image either")
    idx = write_idx(tmp_path / "x-idx3-ubyte", digits)
    zipped = tmp_path / "x-idx3-ubyte.gz"
    zipped.write_bytes(gzip.compress(idx.read_bytes()))
    np.savez_compressed(tmp_path / "one.npz", images=digits, labels=np.arange(20))
    np.savez(tmp_path / "two.npz", train=digits[:3], test=digits)

    read = read_images(folder)
    order = [*range(0, 20, 2), *range(1, 20, 2)]
    assert (read.pixels == digits[order]).all()
    assert read.names == tuple(f"{i % 2}/{i:02d}.png" for i in order)
    for source in (idx, zipped, tmp_path / "one.npz", f"{tmp_path / 'two.npz'}#test"):
        read = read_images(source)
        assert (read.pixels == digits).all()
        assert read.names is None
    read = read_images(folder / "0" / "04.png", idx)
    assert len(read.pixels) == 21
    assert read.names[:2] == ("04.png", "x-idx3-ubyte-00000.png")


def test_colour_and_palette_and_bilevel_images_are_read(tmp_path):
    rgb = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    Image.fromarray(rgb).quantize(8).save(tmp_path / "palette.png")
    Image.fromarray(rgb[..., 0] > 20).save(tmp_path / "bilevel.png")
    Image.fromarray(rgb[..., 0]).convert("P").save(tmp_path / "grays.png")
    assert read_images(tmp_path / "grays.png").shape == (4, 4, 1)
    assert (read_images(tmp_path / "rgb.png").pixels[0] == rgb).all()
    assert read_images(tmp_path / "palette.png").shape == (4, 4, 3)
    assert set(read_images(tmp_path / "bilevel.png").pixels.ravel()) == {0, 255}


def image_file(mode: str, size=(4, 4), **options) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG", **options)
    return file.getvalue()


IDX = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x02"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.png", None, "No such file"),
        ("text.txt", b"hello", "no image"),
        ("empty.png", b"", "no image"),
        ("cut.png", image_file("L", (40, 40))[:50], r"cannot read|damaged"),
        ("alpha.png", image_file("RGBA"), "mode RGBA"),
        ("deep.png", image_file("I;16"), "mode I;16"),
        ("short-idx3-ubyte", IDX + b"1234567", "does not hold the 2 images"),
        ("long-idx3-ubyte", IDX + b"123456789", "does not hold the 2 images"),
        ("short-idx3-ubyte.gz", gzip.compress(IDX + b"1234567"), "does not hold the 2 images"),
        ("cut-idx3-ubyte.gz", gzip.compress(IDX + bytes(8))[:-9], "damaged"),
        ("labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x01\x07", "not an idx file of images"),
        ("lies-idx3-ubyte", b"\0\0\x08\x03" + b"\xff" * 12, "more than fits"),
        ("lies-idx3-ubyte.gz", gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12), "more than fits"),
        ("none-idx3-ubyte", b"\0\0\x08\x03" + bytes(12), "no images"),
        ("bad.npz", b"PK\x03\x04" + bytes(60), "not an npz file"),
    ],
)
def test_bad_sources_get_an_error_that_says_which(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        read_images(path)
    assert name in str(caught.value) or "no images" in message


def test_bad_arrays_get_an_error(tmp_path, digits):
    np.savez(tmp_path / "two.npz", a=digits, b=digits)
    np.savez(tmp_path / "floats.npz", a=digits / 255)
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    for name, message in (
        ("two.npz", "pick one"),
        ("two.npz#c", "the arrays a, b"),
        ("floats.npz", "uint8"),
        ("objects.npz", "not an npz file"),
    ):
        with pytest.raises(SourceError, match=message):
            read_images(tmp_path / name)


def test_folders_without_images_or_of_mixed_sizes_are_refused(tmp_path):
    with pytest.raises(SourceError, match="holds no images"):
        read_images(tmp_path)
    (tmp_path / "a.png").write_bytes(image_file("L"))
    (tmp_path / "b.png").write_bytes(image_file("L", (5, 4)))
    with pytest.raises(SourceError, match=r"b\.png is 4x5 gray, .*a\.png is 4x4 gray"):
        read_images(tmp_path)
    with pytest.raises(SourceError, match=r"two images are named 'a\.png'"):
        read_images(tmp_path / "a.png", tmp_path / "a.png")


@pytest.mark.parametrize("target", ["folder", "x.npz", "x-idx3-ubyte", "x-idx3-ubyte.gz", "x.idx"])
def test_what_is_written_reads_back(tmp_path, digits, target):
    write_images(ImageSet(digits), tmp_path / target)
    assert (read_images(tmp_path / target).pixels == digits).all()
    with pytest.raises(OutputExistsError, match="--force"):
        write_images(ImageSet(digits), tmp_path / target)
    write_images(ImageSet(digits[:2]), tmp_path / target, force=True)
    assert not list(tmp_path.glob(".*"))


def test_names_become_paths_and_gain_png_where_it_is_missing(tmp_path, digits):
    write_images(ImageSet(digits[:3], ("a/1.png", "a/2.jpg", "3")), tmp_path / "out")
    written = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png"))
    assert written == ["3.png", "a/1.png", "a/2.jpg.png"]


def test_force_adds_to_a_folder_and_leaves_other_files(tmp_path, digits):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    write_images(ImageSet(digits[:1], ("0.png",)), tmp_path / "out", force=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "mine.txt"]


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x.png", "./b.png", "a//b.png", "a/", ".."])
def test_names_that_climb_out_or_mean_another_are_refused(tmp_path, digits, name):
    with pytest.raises(CorruptError, match="no safe path"):
        write_images(ImageSet(digits[:2], (name, "b.png")), tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("*.png"))


def test_two_names_of_one_file_lose_nothing(tmp_path, digits):
    with pytest.raises(OutputError, match="exists"):
        write_images(ImageSet(digits[:2], ("a.jpg", "a.jpg.png")), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_way_is_found_before_anything_is_moved(tmp_path, digits):
    (tmp_path / "out" / "1.png").mkdir(parents=True)
    (tmp_path / "out" / "0.png").write_text("mine")
    with pytest.raises(OutputExistsError, match="should go"):
        write_images(ImageSet(digits[:2], ("0.png", "1.png")), tmp_path / "out", force=True)
    assert (tmp_path / "out" / "0.png").read_text() == "mine"


def test_an_npz_file_keeps_names(tmp_path, digits):
    write_images(ImageSet(digits[:2], ("a", "b/ü")), tmp_path / "x.NPZ")
    assert read_images(tmp_path / "x.NPZ").names == ("a", "b/ü")


@pytest.mark.parametrize("target", ["x.zip", "x.tar", "x.png", "x.smalti", "x.GZ"])
def test_kinds_of_files_that_are_not_written_are_refused(tmp_path, digits, target):
    with pytest.raises(UsageError, match="give a folder"):
        write_images(ImageSet(digits), tmp_path / target)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a",), "1 names for 2"),
        ((), "0 names for 2"),
        (("a", "a"), "two images are named"),
        (("a", "x" * 4097), "1 to 4096"),
        (("a", ""), "1 to 4096"),
        (("a", "b\0c"), "none zero"),
        (("a", "\udcfc"), "not Unicode"),
    ],
)
def test_names_that_a_file_cannot_keep_are_refused(digits, names, message):
    with pytest.raises(SourceError, match=message):
        ImageSet(digits[:2], names)


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="file names are Unicode there")
def test_a_file_name_that_is_not_unicode_is_one_error(tmp_path, digits):
    (tmp_path / os.fsdecode(b"\xfc.png")).write_bytes(png_bytes(digits[0]))
    with pytest.raises(SourceError, match="not Unicode"):
        read_images(tmp_path)


def test_an_image_of_several_frames_is_refused(tmp_path, digits):
    frames = [Image.fromarray(digit) for digit in digits[:3]]
    frames[0].save(tmp_path / "x.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(SourceError, match="several images"):
        read_images(tmp_path / "x.tif")


def test_idx_is_for_gray_only(tmp_path):
    with pytest.raises(UsageError, match="gray"):
        write_images(ImageSet(np.zeros((1, 2, 2, 3), np.uint8)), tmp_path / "x-idx3-ubyte")
