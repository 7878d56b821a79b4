"""The tables of docs/what-is-read.md hold: each row is made, and what comes of it is compared."""

import gzip
import struct
from pathlib import Path

import numpy as np
import PIL
import pytest
from outcomes import (
    DEEP,
    RGB,
    SMALL,
    SRGB,
    array,
    beside,
    classes,
    content,
    deep,
    encoded,
    exif_of,
    hard_link,
    held,
    idx_of_floats,
    image,
    in_parquet,
    labels,
    linked,
    metadata,
    mode_not_kept,
    names,
    noise,
    not_kept,
    npz,
    of_image,
    of_labels,
    palette,
    profile,
    rng,
    several,
    source,
    turned,
    twice,
    with_codecs,
)
from PIL import Image
from sources import PNG, frames, idx_of, image_file, npy_of, parquet_of, png, tar_of, zip_of

from odd_images import cmyk_profile, tiff

PAGE = Path(__file__).parents[2] / "docs" / "what-is-read.md"

COLOURS = {
    "Gray": encoded("PNG", "L"),
    "1 bit (black and white)": image(of_image(noise("L").convert("1"), "PNG")),
    "Gray of 2 or 4 bits (PNG)": image(png(4, 1, 2, 0, b"\0\x1b")),
    "Gray with alpha": encoded("PNG", "LA"),
    "Gray with a transparent gray (tRNS)": encoded("PNG", "L", transparency=7),
    "RGB": encoded("PNG", "RGB"),
    "RGB with a transparent colour (tRNS)": encoded("PNG", "RGB", transparency=(1, 2, 3)),
    "RGBA": encoded("PNG", "RGBA"),
    "Palette of colours": palette([1, 2, 3, 4, 4, 4]),
    "Palette of grays": palette([1, 1, 1, 4, 4, 4]),
    "Palette of colours, one transparent": palette([1, 2, 3, 4, 4, 4], transparency=1),
    "Palette of grays, one transparent": palette([1, 1, 1, 4, 4, 4], transparency=1),
    "CMYK in JPEG": encoded("JPEG", "CMYK"),
    "CMYK in TIFF": encoded("TIFF", "CMYK"),
    "YCbCr in TIFF": encoded("TIFF", "YCbCr"),
    "CIELAB in TIFF": encoded("TIFF", "LAB"),
    "Gray of 16 bits (PNG)": deep(1),
    "Gray of 16 bits with a transparent gray": deep(1, key=b"\1\2"),
    "Gray of 16 bits (TIFF)": image(tiff(DEEP[0][..., None], 0)),
    "Gray of 16 bits (PGM)": image(b"P5 5 6 60000\n" + DEEP[0].astype(">u2").tobytes()),
    "Gray of 12 bits (JPEG 2000)": with_codecs(
        lambda codecs: codecs.jpeg2k_encode(DEEP[0] >> 4, level=0, codecformat="jp2", bitspersample=12)
    ),
    "RGB of 12 bits (JPEG 2000)": with_codecs(
        lambda codecs: codecs.jpeg2k_encode(np.stack([DEEP[0] >> 4] * 3, -1), level=0, bitspersample=12)
    ),
    "RGB of 16 bits (PNG)": deep(3),
    "RGBA of 16 bits (PNG)": deep(4),
    "Gray with alpha of 16 bits (PNG)": deep(2),
    "RGB of 16 bits with a transparent colour (tRNS)": deep(3, key=b"\1\2\3\4\5\6"),
    "RGB of 16 bits (TIFF)": image(tiff(np.stack([DEEP[0]] * 3, -1))),
    "RGB of 16 bits in planes (TIFF)": image(tiff(np.stack([DEEP[0]] * 3, -1), planes=True)),
    "RGB of 16 bits (PPM)": image(b"P6 2 2 65535\n" + bytes(range(24))),
    "RGB of 10 bits (AVIF)": with_codecs(
        lambda codecs: codecs.avif_encode(np.stack([DEEP[0] >> 6] * 3, -1), bitspersample=10, level=100)
    ),
    "12 bits in JPEG": with_codecs(lambda codecs: codecs.jpeg8_encode(DEEP[0] >> 4, bitspersample=12)),
    "16 bits of which only 8 are used": image(tiff(DEEP[0][..., None] >> 8, 1)),
    "Floats from 0 to 1 (TIFF)": image(tiff(rng.random((6, 5, 1)).astype(np.float32), 1, kind=3)),
    "Floats beyond 0 to 1 (TIFF)": image(tiff(2 * np.ones((6, 5, 1), np.float32), 1, kind=3)),
    "Ints of 32 bits from 0 to 255 (TIFF)": image(tiff(SMALL[0][..., None].astype(np.int32), 1, kind=2)),
    "Ints of 32 bits beyond 0 to 255 (TIFF)": image(tiff(DEEP[0][..., None].astype(np.int32), 1, kind=2)),
    "Signed bytes (TIFF)": image(tiff(SMALL[0][..., None] // 2, 1, kind=2)),
    "Channels beyond colour and alpha (TIFF)": image(tiff(np.concatenate([RGB, RGB[..., :2]], 2), 2, (0, 0))),
    "More than 2^24 pixels": image(image_file("1", (4097, 4096))),
}
FILES = {
    "PNG": encoded("PNG"),
    "JPEG": encoded("JPEG"),
    "WebP": encoded("WEBP"),
    "BMP": encoded("BMP"),
    "GIF": encoded("GIF", "L"),
    "TIFF": encoded("TIFF"),
    "PPM": encoded("PPM"),
    "AVIF": encoded("AVIF"),
    "JPEG 2000": encoded("JPEG2000"),
    "ICO of one size": image(of_image(noise("RGBA"), "ICO", sizes=[(8, 8)])),
    "TGA": image(of_image(noise("RGB"), "TGA"), "x.tga"),
    "QOI": image(b"qoif" + struct.pack(">2I2B", 1, 1, 3, 0) + b"\xfe\1\2\3" + bytes(7) + b"\1"),
    "MPO (a photo with further images)": several("MPO"),
    "A file without a suffix": encoded("PNG"),
    "An animation (GIF)": image(frames("GIF")),
    "An animation (PNG)": several("PNG"),
    "An animation (WebP)": several("WEBP"),
    "An animation (AVIF)": several("AVIF"),
    "Several pages (TIFF)": several("TIFF"),
    "ICO of several sizes": image(of_image(noise("RGBA").resize((32, 32)), "ICO", sizes=[(16, 16), (32, 32)])),
    "ICNS of several sizes": image(of_image(noise("RGBA").resize((64, 64)), "ICNS")),
    "A damaged image": image(PNG[:50], "x.png"),
    "An image of a format that is not read (PCX)": image(of_image(noise("RGB"), "PCX"), "x.pcx"),
    "SVG in a folder": beside("x.svg", b"<svg/>"),
    "A text in a folder": beside("x.txt", b"text"),
    "A hidden file in a folder": beside(".x.png", PNG),
}
SOURCES = {
    "A folder": source(lambda folder: held(folder, [("a.png", PNG), ("b/c.png", PNG)], "folder")),
    "A folder with a link to a folder": source(linked),
    "zip": source(lambda folder: held(folder, [("a.png", PNG)], "zip")),
    "tar": source(lambda folder: held(folder, [("a.png", PNG)], "tar")),
    "tar compressed with gzip, bzip2 or xz": source(content(gzip.compress(tar_of([("a.png", PNG)])), "x.tar.gz")),
    "Hard link in tar": lambda folder: source(lambda _: hard_link(folder))(folder),
    "Symbolic link in tar": beside("b.txt", "a.png", "tar"),
    "parquet": source(in_parquet([{"bytes": PNG, "path": "a.png"}])),
    "parquet whose column of images holds lists of numbers": source(in_parquet([[1, 2], [3, 4]])),
    "idx of bytes": source(content(idx_of(SMALL))),
    "idx of floats": source(content(idx_of_floats(rng.random((3, 6, 5))))),
    "npy": source(content(npy_of("(1, 2, 2)", bytes(4)))),
    "npz": source(npz(images=SMALL)),
    "npy of Python objects": source(content(npy_of("(1, 2, 2)", bytes(32), "|O"))),
    "A smalti file": source(content(b"\x89SML" + bytes(60))),
    "An empty folder": source(lambda folder: folder),
}
ARRAYS = {
    "uint8, n h w": array(SMALL),
    "uint8, n h w 1": array(SMALL[..., None]),
    "uint8, n h w 2": array(np.stack([SMALL] * 2, -1)),
    "uint8, n h w 3": array(np.stack([SMALL] * 3, -1)),
    "uint8, n h w 4": array(np.stack([SMALL] * 4, -1)),
    "uint8, n h w 5": array(np.stack([SMALL] * 5, -1)),
    "bool, n h w": array(SMALL > 99, in_python=False),
    "uint16, n h w": array(DEEP),
    "uint16 that uses only 8 bits": array(DEEP >> 8),
    "float16, float32 or float64 from 0 to 1": array(rng.random((3, 6, 5))),
    "floats beyond 0 to 1": array(SMALL * 1.0),
    "other ints from 0 to 255": array(SMALL.astype(np.int64)),
    "other ints beyond 0 to 255": array(DEEP.astype(np.int32)),
    "complex numbers": array(SMALL * 1j),
    "Fortran order": array(np.asfortranarray(SMALL)),
}
IMAGE = ("a.png", PNG)
LABELS = {
    "`metadata.jsonl` in a folder or zip": labels(
        [IMAGE, metadata({"file_name": "a.png", "label": 7})], "folder", "zip"
    ),
    "`metadata.csv` in a folder or zip": labels(
        [IMAGE, ("metadata.csv", b"file_name,label\na.png,7\n")], "folder", "zip"
    ),
    "metadata that label no image that is there": labels(
        [IMAGE, metadata({"file_name": "b.png", "label": 7})], "folder", "zip"
    ),
    "metadata that label only some images": labels(
        [IMAGE, ("b.png", PNG), metadata({"file_name": "b.png", "label": 7})], "folder", "zip"
    ),
    "`metadata.jsonl` in tar": labels([IMAGE, metadata({"file_name": "a.png", "label": 7})], "tar"),
    "`.cls` beside the image in tar": labels([IMAGE, ("a.cls", b"7")], "tar"),
    "`.json` beside the image in tar, with one label": labels([IMAGE, ("a.json", b'{"label": 7}')], "tar"),
    "`.json` beside the image in tar, without a clear label": labels(
        [IMAGE, ("a.json", b'{"label": 7, "cls": 8}')], "tar"
    ),
    "`.txt` beside the image in tar": labels([IMAGE, ("a.txt", b"7")], "tar"),
    "array `labels` of an npz file": lambda folder: of_labels(npz(images=SMALL[:1], labels=np.array([7]))(folder)),
    "column `label` of a parquet file": lambda folder: of_labels(parquet_of(folder / "x", [PNG], [7])),
    "names of classes of a parquet file (ClassLabel)": classes,
}
NAMES = {
    "the path within a folder, zip or tar": names(lambda f: held(f, [("b/a.png", PNG)], "folder"), ["b/a.png"]),
    "backslashes in zip": names(content(zip_of([("b/a.png", PNG)]).replace(b"b/a.png", b"b\\a.png")), ["b/a.png"]),
    "array `names` of an npz file": names(npz(images=SMALL[:1], names=np.array(["b/a"])), ["b/a"]),
    "`path` of a parquet file": names(in_parquet([{"bytes": PNG, "path": "b/a.png"}]), ["b/a.png"]),
    "two images of one name": twice,
    "a name in a zip or tar that leads out of its folder (`../a.png`)": names(
        content(zip_of([("../a.png", PNG)])), ["../a.png"]
    ),
    "such a name in npz, parquet or Python": names(npz(images=SMALL[:1], names=np.array(["../a.png"])), ["../a.png"]),
}
ELSE = {
    "ICC profile": profile(image_file("RGB", icc_profile=SRGB), SRGB),
    "ICC profile of more than 2^20 bytes": profile(
        image_file("RGB", kind="TIFF", icc_profile=bytes(1 + (1 << 20))), bytes(1 + (1 << 20))
    ),
    "ICC profile of CMYK": profile(of_image(noise("CMYK"), "JPEG", icc_profile=cmyk_profile()), b"none"),
    "ICC profile of an image whose depth alone is converted": profile(
        of_image(Image.fromarray(DEEP[0]), "PNG", icc_profile=SRGB), SRGB, convert=True
    ),
    "orientation (EXIF)": turned,
    "all else in EXIF, XMP and texts": not_kept(exif=exif_of(0x010F, "maker")),
    "resolution and gamma (pHYs, gAMA, cHRM)": not_kept(dpi=(72, 72)),
    "palette, and fewer than 8 bits a sample": mode_not_kept,
}
SECTIONS = {
    "Colours and samples": COLOURS,
    "Files of images": FILES,
    "Sources": SOURCES,
    "Arrays (npy, npz, idx, and those of Python)": ARRAYS,
    "Labels": LABELS,
    "Names": NAMES,
    "What else a file says of its image": ELSE,
}


def rows_of_the_page() -> dict[str, dict[str, str]]:
    """The outcome of each row of each section of the page."""
    sections: dict[str, dict[str, str]] = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        if title == "Thumbnails":  # it has no rows of what is read
            continue
        cells = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
        sections[title] = {row[0].strip(): row[1].strip() for row in cells[2:]}
        assert len(sections[title]) == len(cells) - 2
    return sections


def test_the_page_has_the_rows_that_are_made_here():
    found = {title: set(rows) for title, rows in rows_of_the_page().items()}
    assert found == {title: set(rows) for title, rows in SECTIONS.items()}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of zipfile, where two files have one name
@pytest.mark.parametrize(("title", "what"), [(title, what) for title, rows in SECTIONS.items() for what in rows])
def test_a_row_of_the_page_holds(title, what, tmp_path):
    if what == "YCbCr in TIFF" and int(PIL.__version__.partition(".")[0]) < 13:
        pytest.skip("Pillow before 13 may not read back the YCbCr that it wrote")
    assert SECTIONS[title][what](tmp_path) == rows_of_the_page()[title][what]
