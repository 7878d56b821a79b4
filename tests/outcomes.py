"""What comes of a source, in the words of docs/what-is-read.md: functions that make a row of its tables."""

import io
import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from sources import PNG, names_of, parquet_of, png, tar_of, zip_of

import smalti
from smalti.errors import SourceError
from smalti.exchange.sources import as_source, open_source
from smalti.exchange.targets import write_images
from smalti.types import About, PassedOver, describe

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
    picture = Image.frombytes("P", (2, 1), b"\0\1")
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


def mode_not_kept(folder: Path) -> str:
    """The outcome of a palette and of one bit a pixel, whose pixels come back in PNG files of another mode."""
    found = set[str]()
    for mode, seen in (("P", "RGB"), ("1", "L")):
        before, place = noise("RGB").convert(mode), folder / mode
        place.mkdir()
        (part,) = open_source(content(of_image(before, "PNG"))(place)).parts
        write_images([part], About(1, frozenset({part.shape}), named=True, labelled=False), place / "out")
        with Image.open(next((place / "out").iterdir())) as after:
            assert after.tobytes() == before.convert(seen).tobytes()
            found.add("not kept" if after.mode == seen else after.mode)
    return " ".join(found)


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
