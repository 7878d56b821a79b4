"""One image file: it comes in as Pillow decodes it, with all bits, bands and sizes, or it is refused in one line."""

import collections
import contextlib
import io
import itertools
import struct

import numpy as np
import PIL
import pytest
from PIL import Image
from sources import image_file, png

from odd_images import icns, icon, noise, tiff
from smalti.errors import SourceError
from smalti.exchange.formats.image_files import decode, decode_all
from smalti.exchange.sources import open_source

MODES = ["1", "L", "LA", "P", "P transparent", "L transparent", "RGB", "RGB transparent", "RGBA", "I;16", "CMYK"]
SIZES = [(1, 1), (2, 3), (33, 16), (97, 33)]
FORMATS = ["PNG", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA", "PPM", "ICO", "JPEG", "DIB", "PCX"]
CHANNELS = {"1": (1,), "L": (1,), "P": (1, 3), "LA": (2,), "PA": (2, 4), "RGB": (3,), "RGBA": (4,)}
"""The channels that images of Pillow's modes get; those of a palette have fewer where all of its colours are grays."""
rng = np.random.default_rng(3)


def as_rgba(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).convert("RGBA"))


def saved(mode: str, size: tuple[int, int], kind: str) -> bytes | None:
    """An image file of random samples; None if the format has no such images."""
    image, file = noise(mode, size), io.BytesIO()
    options = {"sizes": [image.size]} if kind == "ICO" else {}
    try:
        image.save(file, kind, **image.info, **options)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return file.getvalue()


def check_as_pillow_decodes_it(data: bytes, kind: str) -> str:
    """Check that an image is taken as Pillow decodes it, or refused; return Pillow's mode, or "" if it is refused."""
    with Image.open(io.BytesIO(data)) as opened:
        there = opened.ico.frame(0) if kind == "ICO" else opened  # Pillow forgets the colour of an icon
        in_jpeg = there.mode == "CMYK" and kind == "JPEG"
        taken = in_jpeg or (there.mode in CHANNELS and kind != "PCX")
        if taken:  # Pillow before 13 does not read all PCX files that it writes
            expected = np.asarray(there.convert("RGB").convert("RGBA") if in_jpeg else there.convert("RGBA"))
        mode, clear = there.mode, there.has_transparency_data
    if not taken:
        with pytest.raises(SourceError, match=r"convert it|leave it out"):
            decode(data, "here")
        return ""
    pixels = decode(data, "here")
    assert (as_rgba(pixels) == expected).all()
    channels = CHANNELS.get(mode, (3,))
    assert (pixels.shape[2] if pixels.ndim == 3 else 1) in ([c + c % 2 for c in channels] if clear else channels)
    return mode


@pytest.mark.filterwarnings("ignore")  # Pillow's, where a palette has no room for a transparent colour
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", MODES)
def test_an_image_comes_in_as_pillow_decodes_it_or_is_refused(kind, mode):
    for size in SIZES:
        if (data := saved(mode, size, kind)) is not None:
            check_as_pillow_decodes_it(data, kind)


@pytest.mark.filterwarnings("ignore")
def test_300_images_of_all_modes_sizes_and_formats_come_in_as_pillow_decodes_them_or_are_refused():
    done = collections.Counter()
    for mode, kind in itertools.cycle(itertools.product(MODES, FORMATS)):
        size = (int(rng.integers(1, 98)), int(rng.integers(1, 34)))
        if (data := saved(mode, size, kind)) is not None:
            done[check_as_pillow_decodes_it(data, kind)] += 1
        if done.total() >= 300:
            break
    assert {"", "1", "L", "LA", "P", "RGB", "RGBA", "CMYK"} == {*done}
    assert done[""] < 100


def test_a_transparent_colour_of_a_png_file_becomes_alpha():
    pixels = np.array([[[1, 2, 3], [1, 2, 4]]], np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", transparency=(1, 2, 3))
    assert decode(file.getvalue(), "here").tolist() == [[[1, 2, 3, 0], [1, 2, 4, 255]]]
    file = io.BytesIO()
    Image.fromarray(np.array([[1, 9]], np.uint8)).save(file, "PNG", transparency=9)
    assert decode(file.getvalue(), "here").tolist() == [[[1, 255], [9, 0]]]
    assert decode(image_file("LA"), "here").tolist() == [[[0, 0]] * 4] * 4


@pytest.mark.parametrize(("bits", "key"), [(1, 1), (1, 0), (2, 3), (2, 1), (4, 15), (4, 2), (8, 200)])
def test_a_transparent_gray_is_found_whatever_its_bits(bits, key):
    grays = [0, 1, key, (1 << bits) - 1]
    row = sum(gray << bits * (3 - i) for i, gray in enumerate(grays)) << -4 * bits % 8
    data = png(4, 1, bits, 0, b"\0" + row.to_bytes(max(1, 4 * bits // 8), "big"), key=struct.pack(">H", key))
    scale = 255 // ((1 << bits) - 1)
    assert decode(data, "here").tolist() == [[[gray * scale, 255 * (gray != key)] for gray in grays]]


def test_a_palette_of_grays_becomes_gray_and_with_a_transparent_one_gray_with_alpha():
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([9, 9, 9, 100, 100, 100, 7, 7, 7])
    file, clear = io.BytesIO(), io.BytesIO()
    image.save(file, "PNG")
    image.save(clear, "PNG", transparency=1)
    assert decode(file.getvalue(), "here").tolist() == [[9, 100, 7]]
    assert decode(clear.getvalue(), "here").tolist() == [[[9, 255], [100, 0], [7, 255]]]


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("big", ["", ">"])
@pytest.mark.parametrize("c", [1, 3, 4])
def test_a_tiff_file_of_16_bits_is_refused_and_one_of_8_is_read(c, big, planes):
    samples = rng.integers(0, 256, (8, 8, c), np.uint8)
    extra = (2,) if c == 4 else ()
    photometric = 1 if c == 1 else 2
    pixels = decode(tiff(samples, photometric, extra, planes=planes, big=big), "here")
    assert (pixels.reshape(samples.shape) == samples).all()
    with pytest.raises(SourceError, match=r"16 bits a sample"):
        decode(tiff(samples.astype(np.uint16), photometric, extra, planes=planes, big=big), "here")


@pytest.mark.parametrize(
    ("photometric", "extra"), [(1, (0,)), (2, (0,)), (2, (0, 0)), (2, (0, 0, 0)), (2, (2, 0)), (2, (1, 0, 0))]
)
def test_a_tiff_file_with_bands_beside_colour_and_alpha_is_refused(photometric, extra):
    samples = rng.integers(0, 256, (8, 8, (1 if photometric == 1 else 3) + len(extra)), np.uint8)
    unknown = photometric == 1 and int(PIL.__version__.partition(".")[0]) < 13  # to Pillow
    words = "no image or other source" if unknown else "samples a pixel, of which only"
    with pytest.raises(SourceError, match=words):
        decode(tiff(samples, photometric, extra), "here")


def test_a_tiff_file_of_signed_samples_is_refused():
    with pytest.raises(SourceError, match="no unsigned integers"):
        decode(tiff(rng.integers(0, 100, (8, 8, 1), np.uint8), 1, kind=2), "here")


@pytest.mark.parametrize("low", [0, 1])
def test_a_tiff_palette_of_16_bits_is_taken_only_if_8_say_as_much(low):
    file = io.BytesIO()
    Image.new("P", (4, 4)).save(file, "TIFF")
    with Image.open(file) as image:
        start, colours = file.getvalue().find(struct.pack("<HHI", 320, 3, 768)), image.tag_v2[320]
    (at,) = struct.unpack_from("<I", file.getvalue(), start + 8)
    data = bytearray(file.getvalue())
    struct.pack_into("<H", data, at + 2, colours[1] + low)
    if low:
        with pytest.raises(SourceError, match="16 bits"):
            decode(bytes(data), "here")
    else:
        assert decode(bytes(data), "here").shape == (4, 4)


def deep_files() -> dict[str, bytes]:
    """Files with more than 8 bits a sample, by what they are."""
    codecs = pytest.importorskip("imagecodecs")
    x = rng.integers(0, 1 << 16, (128, 128, 4), np.uint16)
    files = {}
    for bits, c in itertools.product((10, 12), (1, 3, 4)):
        pixels = np.squeeze(x[:16, :16, :c] >> (16 - bits))
        files[f"AVIF {bits} {c}"] = codecs.avif_encode(pixels, bitspersample=bits, level=100)
    for bits, c, kind in itertools.product((9, 12, 16), (1, 2, 3, 4), ("jp2", "j2k")):
        pixels = np.squeeze(x[:16, :16, :c] >> (16 - bits))
        files[f"{kind} {bits} {c}"] = codecs.jpeg2k_encode(pixels, level=0, codecformat=kind, bitspersample=bits)
    files["JPEG 12 1"] = codecs.jpeg8_encode(x[:16, :16, 0] >> 4, bitspersample=12)
    for c in (2, 3, 4):
        files[f"PNG 16 {c}"] = codecs.png_encode(x[..., :c].copy())
    files["icon 16 4"] = icon([(16, codecs.png_encode(np.ascontiguousarray(x[:16, :16])))])
    files["icons 16 4"] = icon([(8, image_file("RGBA", (8, 8))), (16, codecs.png_encode(x[:16, :16].copy()))])
    files["PNG in ICNS 16 4"] = icns(b"ic07", codecs.png_encode(x))
    files["jp2 in ICNS 16 4"] = icns(b"ic07", codecs.jpeg2k_encode(x, level=0, codecformat="jp2"))
    files["PPM 10 3"] = b"P6 1 1 1023\n" + bytes(6)
    files["plain PPM 9 3"] = b"P3 1 1 256\n1 2 3"
    return files


def test_more_than_8_bits_a_sample_are_refused_in_every_format():
    for name, data in deep_files().items():
        with pytest.raises(
            SourceError, match=f"has {name.split()[-2]} bits a sample, .* (convert it|save 8)|sizes of an icon"
        ):
            decode_all(data, "here")


def test_signed_samples_of_jpeg_2000_are_refused():
    data = pytest.importorskip("imagecodecs").jpeg2k_encode(np.zeros((8, 8), np.int8), level=0)
    with pytest.raises(SourceError, match="bits a sample"):
        decode(data, "here")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF", "AVIF"])
def test_animations_and_pages_are_refused_with_their_number(kind):
    file = io.BytesIO()
    images = [noise("RGB", (9, 9)) for _ in range(3)]
    images[0].save(file, kind, save_all=True, append_images=images[1:])
    what = "pages" if kind == "TIFF" else "frames of an animation"
    with pytest.raises(SourceError, match=f"holds 3 {what}, not one image"):
        decode(file.getvalue(), "here")


def test_the_first_image_of_an_mpo_file_is_taken_and_the_others_are_counted(tmp_path):
    images = [noise("RGB", (9, 9)) for _ in range(3)]
    images[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=images[1:])
    images[0].save(tmp_path / "b.png")
    source = open_source(tmp_path)
    for _ in range(2):  # nothing is counted twice when images are taken twice
        with Image.open(tmp_path / "a.jpg") as photo:
            assert (next(iter(source.parts)).pixels[0] == np.asarray(photo.convert("RGB"))).all()
        assert str(source.passed_over) == "2 further images beside photos (MPO) (a.jpg, ...)"


def test_all_sizes_of_an_icon_are_images_of_their_own(tmp_path):
    image = noise("RGBA", (64, 64))
    image.save(tmp_path / "a.ico", sizes=[(16, 16), (32, 32), (64, 64)])
    image.save(tmp_path / "b.ico", sizes=[(16, 16)])
    with pytest.raises(SourceError, match=r"a\.ico holds 3 sizes of an icon, .*convert=True"):
        list(open_source(tmp_path).parts)
    source = open_source(tmp_path, convert=True)
    found = {name: part.pixels[i] for part in source.parts for i, name in enumerate(part.names)}
    assert [*found] == ["a.ico/64x64.png", "a.ico/32x32.png", "a.ico/16x16.png", "b.ico"]
    assert source.total is None
    with Image.open(tmp_path / "a.ico") as icon_file:
        for side in (16, 32, 64):
            icon_file.size = (side, side)
            icon_file.load()
            assert (found[f"a.ico/{side}x{side}.png"] == np.asarray(icon_file)).all()


def test_a_size_that_an_icon_holds_twice_gets_two_names():
    red, green = (np.asarray(Image.new("RGBA", (8, 8), colour)) for colour in ("red", "green"))
    data = icon([(8, image_of(red)), (8, image_of(green)), (4, image_file("RGBA"))])
    images = {image.added: image.pixels for image in decode_all(data, "here", convert=True)}
    assert [*images] == ["/8x8.png", "/8x8-2.png", "/4x4.png"]
    assert sorted(images[name][0, 0].tolist() for name in ("/8x8.png", "/8x8-2.png")) == [
        [0, 128, 0, 255],
        [255, 0, 0, 255],
    ]
    with pytest.raises(SourceError, match="holds 3 sizes of an icon"):
        decode(data, "here")


def image_of(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_the_sizes_of_a_macos_icon_have_their_scale_in_the_name():
    file = io.BytesIO()
    noise("RGBA", (64, 64)).save(file, "ICNS")
    shapes = {image.added: image.pixels.shape[0] for image in decode_all(file.getvalue(), "here", convert=True)}
    assert (shapes["/32x32@2x.png"], shapes["/256x256.png"]) == (64, 256)
    assert len(shapes) > 4


def test_an_icon_that_names_one_large_image_many_times_is_refused(monkeypatch):
    monkeypatch.setattr("smalti.exchange.formats.image_files.MAX_PIXELS", 200)
    image = image_file("RGBA", (8, 8))
    head = struct.pack("<3H", 0, 1, 100)
    entry = struct.pack("<4B2H2I", 8, 8, 0, 0, 1, 32, len(image), 6 + 16 * 100)
    with pytest.raises(SourceError, match="claims more than 200 pixels"):
        decode_all(head + entry * 100 + image, "here", convert=True)


def test_headers_that_are_cut_or_flipped_are_our_errors_or_other_images():
    files = [*deep_files().values(), tiff(rng.integers(0, 256, (8, 8, 3), np.uint8))]
    for i in range(400):
        data = bytearray(files[i % len(files)])
        at = int(rng.integers(min(len(data), 400)))
        data[at] ^= int(rng.integers(1, 256))
        with contextlib.suppress(SourceError):
            decode_all(bytes(data[: at + 1] if i % 3 == 0 else data), "here", convert=i % 2 == 0)
