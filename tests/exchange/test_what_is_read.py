"""The tables of docs/what-is-read.md hold: each row is made, and what comes of it is compared."""

import gzip
import io
import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from sources import PNG, frames, idx_of, image_file, names_of, npy_of, parquet_of, png, tar_of, zip_of

import smalti
from odd_images import cmyk_profile, tiff
from smalti.errors import SourceError
from smalti.exchange.sources import as_source, open_source
from smalti.exchange.targets import write_images
from smalti.types import About, PassedOver, describe

PAGE = Path(__file__).parents[2] / "docs" / "what-is-read.md"
rng = np.random.default_rng(6)
DEEP = rng.integers(0, 1 << 16, (3, 6, 5), np.uint16)
SMALL = (DEEP >> 8).astype(np.uint8)
RGB = rng.integers(0, 256, (6, 5, 3), np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
Row = Callable[[Path], str]


def outcome(source: object) -> str:
    """What comes of a source, in the words of the page."""
    refusal = ""
    try:
        taken, passed = images_of(source, convert=False)
    except SourceError as exc:
        refusal = str(exc)
    if not refusal:
        return f"converted to {taken}" if passed.converted else f"read as {taken}"
    try:
        taken, passed = images_of(source, convert=True)
    except SourceError:
        return "refused"
    assert "convert=True" in refusal or (isinstance(source, np.ndarray) and 'astype("uint8")' in refusal)
    assert passed.converted
    return f"--convert: {taken}"


def images_of(source: object, *, convert: bool) -> tuple[str, PassedOver]:
    """The colour of all images, and the report of the reader."""
    opened = as_source(source, convert=convert)
    (colour,) = {describe(part.shape).partition(" ")[2] for part in opened.parts}
    return colour, opened.passed_over


def image(data: bytes, name: str = "x") -> Row:
    def made(folder: Path) -> str:
        (folder / name).write_bytes(data)
        return outcome(folder / name)

    return made


def encoded(kind: str, mode: str = "RGB", **options: object) -> Row:
    return image(of_image(noise(mode), kind, **options))


def noise(mode: str) -> Image.Image:
    bands = Image.new(mode, (1, 1)).getbands()
    return Image.merge(mode, [Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)) for _ in bands])


def of_image(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def palette(colours: list[int], **options: object) -> Row:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    picture.putpalette(colours)
    return image(of_image(picture, "PNG", **options))


def deep(c: int, **options: bytes) -> Row:
    x = rng.integers(0, 1 << 16, (6, 5, c), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in x)
    return image(png(5, 6, 16, {1: 0, 2: 4, 3: 2, 4: 6}[c], rows, **options))


def with_codecs(make: Callable[[object], bytes]) -> Row:
    return lambda folder: image(make(pytest.importorskip("imagecodecs")))(folder)


def several(kind: str) -> Row:
    pictures = [noise("RGB") for _ in range(3)]
    return image(of_image(pictures[0], kind, save_all=True, append_images=pictures[1:]))


def beside(name: str, data: bytes | str, kind: str = "folder") -> Row:
    """The outcome of a file beside an image that is read."""

    def made(folder: Path) -> str:
        opened = open_source(held(folder, [("a.png", PNG), (name, data)], kind))
        names = names_of(opened)
        if names == ["a.png"] and str(opened.passed_over):
            return "passed over"
        return "read" if len(names) == 2 else "lost"

    return made


def held(folder: Path, files: list[tuple[str, bytes]], kind: str) -> Path:
    """The files as a folder, zip or tar."""
    if kind == "folder":
        (folder / "in").mkdir()
        for name, data in files:
            (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "in" / name).write_bytes(data)
        return folder / "in"
    (folder / "x").write_bytes(zip_of(files) if kind == "zip" else tar_of(files))
    return folder / "x"


def source(make: Callable[[Path], object]) -> Row:
    """The outcome of a source of gray images, of which no colour is told where it is read."""
    return lambda folder: "read" if (found := outcome(make(folder))).startswith("read as") else found


def content(data: bytes, name: str = "x") -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return made


def linked(folder: Path) -> Path:
    held(folder, [("real/a.png", PNG)], "folder")
    (folder / "in" / "link").symlink_to(folder / "in" / "real")
    return folder / "in"


def hard_link(folder: Path) -> Path:
    with tarfile.open(folder / "x.tar", "w") as tar:
        for name, link, data in (("a.png", "", PNG), ("b.png", "a.png", b"")):
            member = tarfile.TarInfo(name)
            member.size, member.linkname, member.type = len(data), link, tarfile.LNKTYPE if link else tarfile.REGTYPE
            tar.addfile(member, io.BytesIO(data))
    assert names_of(open_source(folder / "x.tar")) == ["a.png", "b.png"]
    return folder / "x.tar"


def in_parquet(column: list) -> Callable[[Path], Path]:
    return lambda folder: parquet_of(folder / "x.parquet", column)


def npz(**arrays: np.ndarray) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        np.savez(folder / "x.npz", **arrays)
        return folder / "x.npz"

    return made


def array(x: np.ndarray, *, in_python: bool = True) -> Row:
    """The outcome of an array in an npy file, and in Python the same."""

    def made(folder: Path) -> str:
        np.save(folder / "x.npy", x)
        found = outcome(folder / "x.npy")
        assert not in_python or outcome(x) == found
        return found

    return made


def labels(files: list[tuple[str, bytes]], *kinds: str) -> Row:
    """The outcome of labels in folders, zip or tar files."""

    def made(folder: Path) -> str:
        found = set()
        for kind in kinds:
            (folder / kind).mkdir()
            found.add(of_labels(held(folder / kind, files, kind)))
        (only,) = found
        return only

    return made


def of_labels(path: Path) -> str:
    try:
        opened = open_source(path)
        found = [label for part in opened.parts for label in part.labels or ()]
    except SourceError:
        return "refused"
    if found:
        assert found == [7]
        return "read"
    return "passed over" if str(opened.passed_over) else "lost"


def classes(folder: Path) -> str:
    pytest.importorskip("pyarrow")
    about = About(1, frozenset({(6, 5, 1)}), named=False, labelled=True, label_names=("cat", "dog"))
    part = next(iter(as_source(SMALL[:1]).parts))
    write_images([type(part)(part.pixels, labels=(1,))], about, folder / "x.parquet")
    return "read" if open_source(folder / "x.parquet").label_names == ("cat", "dog") else "lost"


def names(make: Callable[[Path], Path], expected: list[str]) -> Row:
    def made(folder: Path) -> str:
        try:
            opened = open_source(make(folder))
            found = names_of(opened)
        except SourceError:
            return "refused"
        return "read" if found == expected else "lost"

    return made


def twice(folder: Path) -> str:
    (folder / "x.zip").write_bytes(zip_of([("a.png", PNG), ("b.png", PNG)]).replace(b"b.png", b"a.png"))
    try:
        smalti.pack(folder / "x.zip", folder / "x.smalti")
    except SourceError:
        return "refused"
    return "lost"


def profile(data: bytes, kept: bytes, *, convert: bool = False) -> Row:
    """The outcome of an ICC profile."""

    def made(folder: Path) -> str:
        opened = open_source(content(data)(folder), convert=convert)
        (part,) = opened.parts
        if part.profile(0) == kept:
            return "kept"
        return (
            "passed over"
            if "ICC" in str(opened.passed_over)
            else "used"
            if "ICC" in opened.passed_over.converted
            else "lost"
        )

    return made


def turned(folder: Path) -> str:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = content(of_image(Image.new("RGB", (4, 2)), "PNG", exif=exif))(folder)
    (part,) = open_source(path).parts
    return "applied" if part.shape == (4, 2, 3) else "lost"


def not_kept(**options: object) -> Row:
    """The outcome of what does not come back in the PNG file that is unpacked, of which Pillow knows the key."""

    def made(folder: Path) -> str:
        path = content(of_image(Image.new("RGB", (4, 2)), "PNG", **options))(folder)
        with Image.open(path) as before:
            assert before.info
        (part,) = open_source(path).parts
        write_images([part], About(1, frozenset({part.shape}), named=True, labelled=False), folder / "out")
        with Image.open(next((folder / "out").iterdir())) as after:
            return "kept" if after.info else "not kept"

    return made


def metadata(*rows: dict) -> tuple[str, bytes]:
    return "metadata.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def exif_of(tag: int, value: str) -> Image.Exif:
    exif = Image.Exif()
    exif[tag] = value
    return exif


def idx_of_floats(x: np.ndarray) -> bytes:
    return b"\0\0\x0d\3" + struct.pack(">3I", *x.shape) + x.astype(">f4").tobytes()


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
    "a name that leads out of the folder (`../a.png`)": names(content(zip_of([("../a.png", PNG)])), ["../a.png"]),
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
    assert SECTIONS[title][what](tmp_path) == rows_of_the_page()[title][what]
