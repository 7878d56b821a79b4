"""What 8-bit gray, RGB or RGBA cannot hold is refused with the way out, or converted by one rule, and said."""

import io
import struct

import numpy as np
import pytest
from PIL import Image
from sources import image_file, names_of, parquet_of, png, tar_of, zip_of

import smalti
from odd_images import cmyk_profile, icns, icon, noise, tiff
from smalti.errors import SourceError
from smalti.exchange.formats.image_files import decode_all
from smalti.exchange.sources import as_source, joined, open_source
from smalti.types import Source

rng = np.random.default_rng(4)
DEEP = rng.integers(0, 1 << 16, (3, 6, 5), np.uint16)


def file_of(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def converted(data: bytes) -> tuple[np.ndarray, list[str]]:
    """The pixels of an image file that is refused unless it is converted, and what was converted."""
    with pytest.raises(SourceError, match=r"^here .*; to convert it to 8-bit sRGB or gray, pack it with convert=True$"):
        decode_all(data, "here")
    (image,) = decode_all(data, "here", convert=True)
    return image.pixels, [reason.one for reason in image.converted]


def taken(source: Source) -> np.ndarray:
    return joined(source).pixels


def deep_png(samples: np.ndarray, key: bytes = b"") -> bytes:
    h, w, c = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return png(w, h, 16, {1: 0, 2: 4, 3: 2, 4: 6}[c], rows, key=key)


@pytest.mark.parametrize("c", [1, 2, 3, 4])
def test_16_bits_a_sample_lose_the_lower_8(c):
    x = rng.integers(0, 1 << 16, (6, 5, c), np.uint16)
    files = [deep_png(x)]
    if c != 2:
        files.append(tiff(x, 1 if c == 1 else 2, (2,) if c == 4 else ()))
        files.append(tiff(x, 1 if c == 1 else 2, (2,) if c == 4 else (), big=">"))
    if c == 3:
        files.append(b"P6 5 6 65535\n" + x.astype(">u2").tobytes())
    if c == 1:
        files.append(b"P5 5 6 65535\n" + x.astype(">u2").tobytes())
    for data in files:
        pixels, said = converted(data)
        if data.startswith(b"P6"):  # Pillow rounds these
            assert abs(pixels - (x / 257)).max() <= 0.5
        else:
            assert (pixels.reshape(x.shape) == x >> 8).all()
        assert said == ["image of 16 bits a sample to 8 bits"]


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_gray_of_deep_jpeg_2000_keeps_the_upper_8_bits(bits):
    codecs = pytest.importorskip("imagecodecs")
    x = rng.integers(0, 1 << bits, (16, 16), np.uint16)
    x[0, 0] = (1 << bits) - 1
    pixels, said = converted(codecs.jpeg2k_encode(x, level=0, codecformat="jp2", bitspersample=bits))
    assert (pixels == x >> (bits - 8)).all()
    assert said[0].endswith(" bits a sample to 8 bits")


@pytest.mark.parametrize(("bits", "c"), [(9, 1), (9, 3), (10, 2), (12, 3), (16, 3), (16, 4)])
def test_deep_jpeg_2000_of_which_pillow_makes_white_black_is_refused(bits, c):
    codecs = pytest.importorskip("imagecodecs")
    x = np.full((16, 16, c), (1 << bits) - 1, np.uint16)
    data = codecs.jpeg2k_encode(np.squeeze(x), level=0, codecformat="jp2", bitspersample=bits)
    for file in (data, icns(b"ic07", data)):
        with pytest.raises(SourceError, match=f"has {bits} bits a sample, which are misread in JPEG 2000; save 8"):
            decode_all(file, "here", convert=True)


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_avif_is_what_pillow_decodes(bits):
    codecs = pytest.importorskip("imagecodecs")
    x = rng.integers(0, 1 << bits, (16, 16, 3), np.uint16)
    x[:8] = (1 << bits) - 1
    data = codecs.avif_encode(x, bitspersample=bits, level=100)
    pixels, said = converted(data)
    assert abs(pixels[:8].astype(int) - 255).max() < 5
    with Image.open(io.BytesIO(data)) as image:
        assert (pixels == np.asarray(image.convert("RGB"))).all()
    assert said == [f"image of {bits} bits a sample to 8 bits"]


def test_gray_of_16_bits_keeps_its_transparent_gray_exactly():
    x = np.array([[[0x1234], [0x1235], [0xFFFF]]], np.uint16)
    pixels, _ = converted(deep_png(x, key=b"\x12\x34"))
    assert pixels.tolist() == [[[0x12, 0], [0x12, 255], [0xFF, 255]]]
    with pytest.raises(SourceError, match="transparent colour of 16 bits"):
        decode_all(deep_png(np.full((1, 1, 3), 0x1234, np.uint16), key=b"\x12\x34" * 3), "here", convert=True)


def test_a_tiff_file_whose_white_is_0_is_turned_at_all_depths():
    x = rng.integers(0, 1 << 16, (6, 5, 1), np.uint16)
    assert (converted(tiff(x, 0))[0] == 255 - (x[..., 0] >> 8)).all()
    assert (decode_all(tiff((x >> 8).astype(np.uint8), 0), "here")[0].pixels == 255 - (x[..., 0] >> 8)).all()


@pytest.mark.parametrize("c", [3, 4])
def test_a_tiff_file_of_16_bits_in_planes_is_refused_since_pillow_misreads_it(c):
    x = rng.integers(0, 1 << 16, (6, 5, c), np.uint16)
    with pytest.raises(SourceError, match="16 bits a sample in planes; save it"):
        decode_all(tiff(x, 2, (2,) if c == 4 else (), planes=True), "here", convert=True)


@pytest.mark.parametrize("extra", [(0,), (0, 0), (2, 0)])
def test_further_channels_are_left_out(extra):
    x = rng.integers(0, 256, (6, 5, 3 + len(extra)), np.uint8)
    pixels, said = converted(tiff(x, 2, extra))
    assert (pixels == x[..., : 4 if extra[0] else 3]).all()
    assert said == ["image without its further channels"]


def test_floats_from_0_to_1_are_scaled_and_others_refused():
    x = rng.random((6, 5, 1)).astype(np.float32)
    pixels, said = converted(tiff(x, 1, kind=3))
    assert (pixels == np.rint(255 * x[..., 0].astype(float))).all()
    assert said == ["image of float32 to 8 bits"]
    for wrong in (-0.5, 1.5, 255, np.nan, np.inf):
        bad = x.copy()
        bad[2, 2] = wrong
        with pytest.raises(SourceError, match=r"here: samples of float32 must be 0 to 1, .*; save x / x\.max"):
            decode_all(tiff(bad, 1, kind=3), "here", convert=True)


def test_ints_of_32_bits_must_be_0_to_255():
    x = rng.integers(0, 256, (6, 5, 1), np.int32)
    pixels, said = converted(tiff(x, 1, kind=2))
    assert (pixels == x[..., 0]).all()
    assert said == ["image of int32 to 8 bits"]
    for wrong in (-1, 256):
        x[1, 1] = wrong
        with pytest.raises(SourceError, match=r'samples of int32 must be 0 to 255, .*x\.astype\("uint16"\)'):
            decode_all(tiff(x, 1, kind=2), "here", convert=True)


def test_16_bits_that_use_only_8_are_refused_and_not_made_black():
    with pytest.raises(SourceError, match=r'uses none above 255.*x\.astype\("uint8"\)'):
        decode_all(deep_png(np.full((2, 2, 1), 255, np.uint16)), "here", convert=True)
    assert (decode_all(deep_png(np.zeros((2, 2, 1), np.uint16)), "here", convert=True)[0].pixels == 0).all()
    for c in (2, 3, 4):
        x = np.full((2, 2, c), 255, np.uint16)
        if c != 3:
            x[..., -1] = 65535
        with pytest.raises(SourceError, match=r"16 bits a sample and is black in the upper 8, .* 0 to 255"):
            decode_all(deep_png(x), "here", convert=True)


def test_a_tiff_file_of_12_bits_keeps_the_upper_8():
    x = rng.integers(0, 1 << 12, (6, 4, 1), np.uint16)
    data = bytearray(tiff(x, 1))
    start, bits = 8, data.index(struct.pack("<HHIH", 258, 3, 1, 16)) + 8
    struct.pack_into("<H", data, bits, 12)
    counts = data.index(struct.pack("<HHII", 279, 4, 1, 48)) + 8
    struct.pack_into("<I", data, counts, 36)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in x.reshape(-1, 2).tolist())
    data[start : start + len(packed)] = packed
    pixels, said = converted(bytes(data))
    assert (pixels == x[..., 0] >> 4).all()
    assert said == ["image of 12 bits a sample to 8 bits"]


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_colours_become_what_pillow_makes_of_them(mode):
    image = Image.merge(mode, [Image.fromarray(rng.integers(0, 256, (6, 5), np.uint8)) for _ in range(3)])
    data = file_of(image, "TIFF")
    with Image.open(io.BytesIO(data)) as opened:
        if opened.mode != mode:
            pytest.skip(f"this Pillow cannot read back the {mode} that it wrote")
        expected = np.asarray(opened.convert("RGB"))
    pixels, said = converted(data)
    assert (pixels == expected).all()
    assert said == [f"{mode} image to RGB"]


@pytest.mark.parametrize("mode", ["HSV", "YCbCr", "LAB", "RGBX", "RGBa", "La", "CMYK", "F", "I", "I;16", "I;16B"])
def test_images_of_pillow_of_all_modes_are_converted(mode):
    image = Image.new(mode, (4, 3))
    with pytest.raises(SourceError, match=r"image 0 has .*convert=True"):
        taken(as_source([image]))
    source = as_source([image], convert=True)
    shape = {"RGBa": (4,), "La": (2,), "F": (), "I": (), "I;16": (), "I;16B": ()}.get(mode, (3,))
    assert taken(source).shape == (1, 3, 4, *shape)
    assert source.passed_over.converted.startswith("1 ")
    assert source.passed_over.converted.endswith("(image 0)")


def gray_of(lightness: np.ndarray) -> np.ndarray:
    """The gray in sRGB, 0 to 255, of L* from 0 to 1."""
    light = np.where(lightness > 0.08, ((100 * lightness + 16) / 116) ** 3, 100 * lightness / 903.3)
    return 255 * np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted_by_its_profile_and_in_jpeg_always(kind, tmp_path):
    image = noise("CMYK", (6, 5))
    for profile in (None, cmyk_profile()):
        data = file_of(image, kind, **({} if profile is None else {"icc_profile": profile}))
        if kind == "TIFF":
            pixels, _ = converted(data)
        else:
            pixels = decode_all(data, "here")[0].pixels
        (made,) = decode_all(data, "here", convert=True)
        assert made.profile is None
        assert (made.pixels == pixels).all()
        if profile is None:
            with Image.open(io.BytesIO(data)) as opened:
                assert (pixels == np.asarray(opened.convert("RGB"))).all()
            assert made.converted[0].one == "CMYK image to RGB without an ICC profile"
        else:
            with Image.open(io.BytesIO(data)) as opened:
                assert abs(pixels - gray_of(1 - np.asarray(opened)[..., 3:] / 255)).max() < 2
            assert made.converted[0].one == "CMYK image to sRGB by its ICC profile"
        assert not made.dropped


@pytest.mark.parametrize("profile", [b"no profile", smalti.__doc__.encode() * 9, cmyk_profile()[:300]])
def test_a_profile_of_cmyk_that_is_damaged_is_not_used_and_said(profile, tmp_path):
    (tmp_path / "a.jpg").write_bytes(file_of(noise("CMYK", (6, 5)), "JPEG", icc_profile=profile))
    source = open_source(tmp_path / "a.jpg")
    assert taken(source).shape == (1, 5, 6, 3)
    assert source.passed_over.converted == "1 CMYK image to RGB without an ICC profile (a.jpg)"
    assert str(source.passed_over) == "1 ICC profile that could not be used (a.jpg)"


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (None, ["converted: 1 CMYK image to RGB without an ICC profile"]),
        (cmyk_profile(), ["converted: 1 CMYK image to sRGB by its ICC profile"]),
        (b"no profile", ["converted: 1 CMYK image to RGB", "left out: 1 ICC profile that could not be used"]),
    ],
)
def test_encode_warns_where_it_converts_an_image_or_leaves_its_profile_out(profile, words, recwarn):
    options = {} if profile is None else {"icc_profile": profile}
    with Image.open(io.BytesIO(data := file_of(noise("CMYK", (6, 5)), "JPEG", **options))) as image:
        packed = smalti.encode(image, lossless=True)
    found = [str(warning.message) for warning in recwarn]
    assert len(found) == len(words)
    assert all(said.startswith(start) for said, start in zip(found, words, strict=True))
    assert all(warning.filename == __file__ for warning in recwarn)
    assert (smalti.decode(packed) == decode_all(data, "here")[0].pixels).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_encode_does_not_warn_of_an_image_that_it_takes_as_it_is(mode):
    smalti.encode(noise(mode, (6, 5)), lossless=True)  # a warning would be an error here


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_frames_and_pages_are_images_of_their_own(kind, mode, tmp_path):
    images = [noise(mode, (9, 7)) for _ in range(3)]
    try:
        data = file_of(images[0], kind, save_all=True, append_images=images[1:])
    except OSError:
        pytest.skip("the format has no such images")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(data)
    with pytest.raises(SourceError, match=r"holds 3 (pages|frames of an animation), .*convert=True"):
        taken(open_source(tmp_path / "a"))
    source = open_source(tmp_path / "a", convert=True)
    assert source.total is None
    found = joined(source)
    assert found.names == ("x/0000.png", "x/0001.png", "x/0002.png")
    what = "pages of files of several" if kind == "TIFF" else "frames of animations"
    assert source.passed_over.converted == f"3 {what} (x/0000.png, ...)"
    with Image.open(io.BytesIO(data)) as opened:
        for i in range(3):
            opened.seek(i)
            pixels = found.pixels[i]
            assert (np.asarray(Image.fromarray(pixels).convert("RGBA")) == np.asarray(opened.convert("RGBA"))).all()
    colours = kind == "WEBP" or (kind == "AVIF" and opened.mode != "L")  # which Pillow before 13 makes of gray AVIF
    if mode == "L" and not colours:
        assert found.shape == (7, 9, 1)


def test_frames_of_several_colours_get_those_of_all():
    gray, red = Image.new("RGB", (4, 4), (9, 9, 9)), Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    data = file_of(gray, "GIF", save_all=True, append_images=[red], disposal=2)
    shapes = {image.pixels.shape for image in decode_all(data, "here", convert=True)}
    assert len(shapes) == 1


def test_pages_of_several_sizes_and_depths_are_taken_each_by_its_rule():
    pages = [Image.new("L", (4, 4), 7), Image.fromarray(DEEP[0]), Image.new("CMYK", (3, 2)), Image.new("F", (1, 1))]
    images = decode_all(file_of(pages[0], "TIFF", save_all=True, append_images=pages[1:]), "here", convert=True)
    assert [image.pixels.shape for image in images] == [(4, 4), (6, 5), (2, 3, 3), (1, 1)]
    assert (images[1].pixels == DEEP[0] >> 8).all()
    assert [len(image.converted) for image in images] == [1, 2, 2, 2]


def test_an_animation_of_too_many_pixels_is_refused(monkeypatch):
    monkeypatch.setattr("smalti.exchange.formats.image_files.MAX_ANIMATION_PIXELS", 100)
    data = file_of(noise("L", (9, 9)), "PNG", save_all=True, append_images=[noise("L", (9, 9))])
    with pytest.raises(SourceError, match="more than 100 pixels in all frames of an animation"):
        decode_all(data, "here", convert=True)


def test_a_label_goes_to_all_frames_and_a_file_that_is_not_read_counts_nothing(tmp_path):
    data = file_of(noise("L", (9, 9)), "GIF", save_all=True, append_images=[noise("L", (9, 9))])
    files = [("a.gif", data), ("b.png", data[:60]), ("c.png", image_file("L", (9, 9)))]
    metadata = b"".join(b'{"file_name": "%s", "label": %d}\n' % (n.encode(), i) for i, (n, _) in enumerate(files))
    (tmp_path / "x.zip").write_bytes(zip_of([*files, ("metadata.jsonl", metadata)]))
    labels = [item for name, data in files for item in [(f"{name[0]}.cls", b"%d" % "abc".index(name[0])), (name, data)]]
    (tmp_path / "x.tar").write_bytes(tar_of(labels))
    for kind in ("x.zip", "x.tar"):
        bad: list[SourceError] = []
        source = open_source(tmp_path / kind, on_bad=bad.append, convert=True)
        parts = list(source.parts)
        assert [label for part in parts for label in part.labels] == [0, 0, 2]
        assert [name for part in parts for name in part.names] == ["a.gif/0000.png", "a.gif/0001.png", "c.png"]
        assert source.passed_over.converted == "2 frames of animations (a.gif/0000.png, ...)"
        assert len(bad) == 1


def test_what_is_converted_is_counted_once_in_every_kind_of_source(tmp_path):
    deep, cmyk = deep_png(DEEP[0][..., None]), image_file("CMYK", kind="JPEG")
    files = [("a.png", deep), ("b.png", deep), ("c.jpg", cmyk), ("d.png", image_file("L"))]
    (tmp_path / "in").mkdir()
    for name, data in files:
        (tmp_path / "in" / name).write_bytes(data)
    (tmp_path / "x.zip").write_bytes(zip_of(files))
    (tmp_path / "x.tar").write_bytes(tar_of(files))
    parquet_of(tmp_path / "x.parquet", [{"bytes": data, "path": name} for name, data in files])
    single = [tmp_path / "in" / name for name, _ in files]
    for source in ([tmp_path / "in"], [tmp_path / "x.zip"], [tmp_path / "x.tar"], [tmp_path / "x.parquet"], single):
        opened = open_source(*source, convert=True)
        for _ in range(2):
            assert names_of(opened) == [name for name, _ in files]
            assert opened.passed_over.converted == (
                "2 images of 16 bits a sample to 8 bits (a.png, ...), 1 CMYK image to RGB without an ICC profile"
                " (c.jpg)"
            )
        with pytest.raises(SourceError, match="16 bits a sample"):
            names_of(open_source(*source))


def test_pack_and_append_take_convert(tmp_path):
    (tmp_path / "a.png").write_bytes(deep_png(DEEP[0][..., None]))
    (tmp_path / "b.png").write_bytes(deep_png(DEEP[1][..., None]))
    with pytest.raises(SourceError, match="convert=True"):
        smalti.pack(tmp_path / "a.png", tmp_path / "x.smalti")
    done = smalti.pack(tmp_path / "a.png", tmp_path / "x.smalti", convert=True, lossless=True)
    assert done.passed_over.converted == "1 image of 16 bits a sample to 8 bits (a.png)"
    smalti.append(tmp_path / "x.smalti", tmp_path / "b.png", convert=True, max_error=0)
    assert (smalti.load(tmp_path / "x.smalti").pixels == DEEP[:2] >> 8).all()


def test_convert_changes_nothing_of_what_is_taken_without_it(tmp_path):
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        data = file_of(noise(mode, (7, 5)), "PNG")
        (plain,), (made,) = decode_all(data, "here"), decode_all(data, "here", convert=True)
        assert (plain.pixels == made.pixels).all()
        assert not made.converted


def test_icons_of_both_kinds_give_all_sizes_only_if_converted():
    for data in (
        icon([(8, image_file("RGBA", (8, 8))), (4, image_file("RGBA"))]),
        file_of(noise("RGBA", (64, 64)), "ICNS"),
    ):
        with pytest.raises(SourceError, match=r"sizes of an icon, not one image; to take each .*convert=True"):
            decode_all(data, "here")
        assert {image.converted[0].one for image in decode_all(data, "here", convert=True)} == {"size of an icon"}
    assert len(decode_all(icns(b"ic07", image_file("RGBA", (128, 128))), "here")) == 1
