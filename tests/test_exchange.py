"""Sources that are bad or mixed, targets that are refused: what is said, and what is left as it was."""

import contextlib
import gzip
import io
import os
import struct
import sys
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smalti.errors import (
    CorruptError,
    MissingExtraError,
    OutputError,
    OutputExistsError,
    SmaltiError,
    SourceError,
    UsageError,
)
from smalti.exchange import parts as limits
from smalti.exchange.labels import label_of, label_text, parse_label
from smalti.exchange.names import unsafe_name
from smalti.exchange.pictures import decode
from smalti.exchange.sources import open_source, read_images
from smalti.exchange.targets import check_target, png_bytes, write_images
from smalti.images import About, ImageSet

DIGITS = np.random.default_rng(0).integers(0, 256, (20, 6, 5), np.uint8)
PNG = png_bytes(DIGITS[0])
IDX = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x02"


def write(images: ImageSet, target: Path, *, force: bool = False) -> None:
    named, labelled = images.names is not None, images.labels is not None
    write_images([images], About(len(images), frozenset({images.shape}), named, labelled), target, force=force)


def gray(n: int = 1) -> About:
    return About(n, frozenset({(6, 5, 1)}), named=False, labelled=False)


def image_file(mode: str, size=(4, 4), kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


def idx_of(pixels: np.ndarray) -> bytes:
    return b"\0\0\x08\x03" + struct.pack(">3I", *pixels.shape) + pixels.tobytes()


def npy_of(shape: str, data: bytes = b"", kind: str = "|u1", order: str = "False") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + data


def npz_of(**members: bytes) -> bytes:
    return zip_of([(f"{key}.npy", data) for key, data in members.items()], zipfile.ZIP_DEFLATED)


def zip_of(members: list[tuple[str, bytes]], kind: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def tar_of(members: list[tuple[str, bytes | str]]) -> bytes:
    """Members of text are links to what the text says."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            if isinstance(data, str):
                member.type, member.linkname = tarfile.SYMTYPE, data
            else:
                member.size = len(data)
            tar.addfile(member, io.BytesIO(b"" if isinstance(data, str) else data))
    return file.getvalue()


def parquet_of(path: Path, images: list, labels: list | None = None, column: str = "image", kind=None) -> Path:
    arrow = pytest.importorskip("pyarrow")
    columns = {column: arrow.array(images, kind)} | ({} if labels is None else {"label": labels})
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), path)
    return path


def names_of(source) -> list[str]:
    return [name for part in source.parts for name in part.names]


# --- reading


def test_every_kind_of_source_gives_the_same_images(tmp_path):
    folder = tmp_path / "folder"
    for i, image in enumerate(DIGITS):
        path = folder / f"{i % 2}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png_bytes(image))
    (folder / "notes.txt").write_text("not an image")
    (folder / "._00.png").write_text("not an image either")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.png").write_text("nor this")
    (tmp_path / "x-idx3-ubyte").write_bytes(idx_of(DIGITS))
    (tmp_path / "x-idx3-ubyte.gz").write_bytes(gzip.compress(idx_of(DIGITS)))
    np.savez_compressed(tmp_path / "one.npz", images=DIGITS)
    with (tmp_path / "any.zip").open("wb") as file:
        np.savez_compressed(file, x=DIGITS[..., None], labels=np.arange(20))
    np.savez(tmp_path / "two.npz", train=DIGITS[:3], test=DIGITS)
    np.save(tmp_path / "one.npy", DIGITS)

    read = read_images(folder)
    order = [*range(0, 20, 2), *range(1, 20, 2)]
    assert (read.pixels == DIGITS[order]).all()
    assert read.names == tuple(f"{i % 2}/{i:02d}.png" for i in order)
    for name in ("x-idx3-ubyte", "x-idx3-ubyte.gz", "one.npz", "any.zip", "two.npz#test", "one.npy"):
        read = read_images(f"{tmp_path / name}")
        assert (read.pixels == DIGITS).all()
        assert (read.names, read.labels) == (None, None)


def test_sources_follow_one_another_and_those_without_names_get_some(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.png").write_bytes(PNG)
    (tmp_path / "x-idx3-ubyte").write_bytes(idx_of(DIGITS))
    (tmp_path / "x.tar").write_bytes(tar_of([("t.png", PNG)]))
    source = open_source(*(tmp_path / name for name in ("b.png", "a.png", "x-idx3-ubyte", "a.png")))
    assert (source.total, source.named) == (23, True)
    expected = ["b.png", "a.png", *(f"x-idx3-ubyte-{i:05d}.png" for i in range(20)), "a.png"]
    assert names_of(source) == expected
    assert open_source(tmp_path / "x.tar", tmp_path / "a.png").total is None
    assert [len(part) for part in open_source(tmp_path / "a.png", tmp_path / "b.png").parts] == [2]


def test_sources_with_and_without_labels_do_not_mix(tmp_path):
    np.savez(tmp_path / "with.npz", images=DIGITS, labels=np.arange(20))
    np.savez(tmp_path / "without.npz", images=DIGITS)
    with pytest.raises(SourceError, match=r"with\.npz has labels, .*without\.npz has none"):
        open_source(tmp_path / "with.npz", tmp_path / "without.npz")
    assert open_source(tmp_path / "with.npz", tmp_path / "with.npz").labelled


def test_images_of_several_sizes_are_parts_but_no_array(tmp_path):
    (tmp_path / "a.png").write_bytes(image_file("L"))
    (tmp_path / "b.png").write_bytes(image_file("RGB", (5, 4)))
    assert [part.shape for part in open_source(tmp_path).parts] == [(4, 4, 1), (4, 5, 3)]
    with pytest.raises(SourceError, match=r"b\.png is 4x5 RGB, a\.png is 4x4 gray; all must be"):
        read_images(tmp_path)


def test_colours_palettes_and_bilevel_images_are_read(tmp_path):
    rgb = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    rgba = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
    for name, image in {
        "rgb": Image.fromarray(rgb),
        "rgba": Image.fromarray(rgba),
        "palette": Image.fromarray(rgb).quantize(8),
        "bilevel": Image.fromarray(rgb[..., 0] > 20),
        "grays": Image.fromarray(rgb[..., 0]).convert("P"),
    }.items():
        image.save(tmp_path / f"{name}.png")
    Image.fromarray(rgb[..., 0]).convert("P").save(tmp_path / "clear.png", transparency=0)
    assert read_images(tmp_path / "grays.png").shape == (4, 4, 1)
    assert (read_images(tmp_path / "rgb.png").pixels[0] == rgb).all()
    assert (read_images(tmp_path / "rgba.png").pixels[0] == rgba).all()
    assert read_images(tmp_path / "palette.png").shape == (4, 4, 3)
    assert set(read_images(tmp_path / "bilevel.png").pixels.ravel()) == {0, 255}
    assert read_images(tmp_path / "clear.png").pixels[0, 0, 0].tolist() == [0, 0, 0, 0]


def deep_rgb_png() -> bytes:
    """A PNG file of one RGB pixel with 16 bits a sample, which Pillow would cut to 8."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">2I5B", 1, 1, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(7))) + chunk(b"IEND", b"")


def frames(kind: str) -> bytes:
    file = io.BytesIO()
    images = [Image.fromarray(digit) for digit in DIGITS[:3]]
    images[0].save(file, kind, save_all=True, append_images=images[1:])
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "no image"),
        (b"", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "no image"),
        (image_file("L", (40, 40))[:50], "cannot read|damaged"),
        (image_file("LA"), "mode LA;"),
        (image_file("L", transparency=0), "mode L with a transparent colour"),
        (image_file("RGB", transparency=(0, 0, 0)), "mode RGB with a transparent colour"),
        (image_file("I;16"), "mode I;16"),
        (deep_rgb_png(), "16 bits"),
        (b"P6 1 1 65535\n" + bytes(6), "16 bits"),
        (image_file("CMYK", kind="JPEG"), "mode CMYK"),
        (frames("TIFF"), "several images"),
        (frames("GIF"), "several images"),
        (image_file("1", (20000, 20000)), "too large"),
    ],
)
def test_images_that_eight_bits_cannot_hold_are_refused(content, message):
    with pytest.raises(SourceError, match=message):
        decode(content, "here")


def claiming(kind: bytes, size: int) -> bytes:
    """The header of a member of a tar file that claims `size` bytes, and an end."""
    member = tarfile.TarInfo("s.png")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


TAR = tar_of([("a.png", PNG), ("b.png", PNG)])
ZIP = zip_of([("a.png", PNG)])
MANY = "(99999999999, 9, 9)"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.png", None, "No such file"),
        ("text.txt", b"hello", "no image"),
        ("zero\0.png", None, "null"),
        ("short-idx3-ubyte", IDX + b"1234567", "does not hold the 2 images"),
        ("long-idx3-ubyte", IDX + b"123456789", "does not hold the 2 images"),
        ("short-idx3-ubyte.gz", gzip.compress(IDX + b"1234567"), "does not hold the 2 images"),
        ("long-idx3-ubyte.gz", gzip.compress(IDX + b"123456789"), "does not hold the 2 images"),
        ("cut-idx3-ubyte.gz", gzip.compress(IDX + bytes(8))[:-9], "damaged"),
        ("labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x01\x07", "not an idx file of images"),
        ("lies-idx3-ubyte", b"\0\0\x08\x03" + b"\xff" * 12, "more than fits"),
        ("lies-idx3-ubyte.gz", gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12), "more than fits"),
        ("none-idx3-ubyte", b"\0\0\x08\x03" + bytes(12), "no images"),
        ("bad.npz", b"PK\x03\x04" + bytes(60), "not an npz file"),
        ("no.npz", b"hello", "not an npz file"),
        ("empty.npz", zip_of([]), "pick one"),
        ("floats.npz", npz_of(a=npy_of("(1, 2, 2)", bytes(16), "<f4")), "uint8"),
        ("objects.npz", npz_of(a=npy_of("(1, 2, 2)", bytes(32), "|O")), "Python objects"),
        ("lies.npz", npz_of(a=npy_of(MANY)), "more than fits"),
        ("less.npz", npz_of(a=npy_of("(2, 2, 2)", bytes(7))), "does not hold"),
        ("fortran.npz", npz_of(a=npy_of("(2, 2, 2)", bytes(8), order="True")), "Fortran"),
        ("two.npz", npz_of(a=npy_of("(1, 1, 1)", b"1"), b=npy_of("(1, 1, 1)", b"1")), "pick one"),
        ("two.npz#c", None, "a, b"),
        ("flat.npz", npz_of(a=npy_of("(4, 4)", bytes(16))), "uint8 of shape n h w"),
        ("words.npz", npz_of(images=npy_of("(1, 1, 1)", b"1"), names=npy_of("(2,)", bytes(8), "<U1")), "2 names for 1"),
        ("codes.npz", npz_of(images=npy_of("(1, 1, 1)", b"1"), names=npy_of("(1,)", b"\xff" * 4, "<U1")), "damaged"),
        ("names.npz", npz_of(images=npy_of("(1, 1, 1)", b"1"), names=npy_of("(1,)", b"1")), "names must be"),
        ("labels.npz", npz_of(images=npy_of("(1, 1, 1)", b"1"), labels=npy_of("(2,)", b"12")), "2 labels for 1"),
        ("real.npz", npz_of(images=npy_of("(1, 1, 1)", b"1"), labels=npy_of("(1,)", bytes(8), "<f8")), "labels must"),
        ("some.npz", npz_of(train_images=npy_of("(1, 1, 1)", b"1"), val_images=npy_of("(1, 1, 1)", b"1"),
                            val_labels=npy_of("(1,)", b"1")), "labels only some"),
        ("lies.npy", npy_of(MANY), "more than fits"),
        ("less.npy", npy_of("(2, 2, 2)", bytes(7)), "does not hold"),
        ("more.npy", npy_of("(2, 2, 2)", bytes(9)), "does not hold"),
        ("none.npy", npy_of("(0, 2, 2)"), "no images"),
        ("minus.npy", npy_of("(-1, 2, -2)", bytes(4)), "not an npy file"),
        ("code.npy", npy_of("(__import__('os').getpid(), 1, 1)"), "not an npy file"),
        ("cut.npy", npy_of("(1, 2, 2)")[:50], "not an npy file"),
        ("huge.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff{}", "a header of"),
        ("empty.tar", b"", "not a tar file"),
        ("none.tar", tar_of([("a.txt", b"x")]), "holds no images"),
        ("cut.tar", TAR[:700], "damaged"),
        ("ends.tar", TAR[: 2048 + 0], "end is missing"),
        ("header.tar", TAR[:1024] + b"\xff" + TAR[1025:], "header is damaged"),
        ("cut.tar.gz", gzip.compress(TAR)[:-9], "damaged"),
        ("sum.tar.gz", gzip.compress(TAR)[:-8] + bytes(8), "damaged"),
("pax.tar", claiming(tarfile.XHDTYPE, 1 << 33), "a header of"),
        ("mixed.tar", tar_of([("a.png", PNG), ("a.cls", b"1"), ("b.png", PNG)]), "b.png has no label"),
        ("other.tar", tar_of([("a.png", PNG), ("b.png", PNG), ("b.cls", b"1")]), "label all or none"),
        ("blank.tar", tar_of([("a.png", PNG), ("a.cls", b" \n")]), "no label"),
        ("bytes.tar", tar_of([("a.png", PNG), ("a.cls", b"\xff")]), "no label"),
        ("none.zip", zip_of([("a.txt", b"x")]), "holds no images"),
        ("cut.zip", ZIP[:-5], "not a zip file"),
        ("bad.zip", b"PK\x03\x04" + bytes(60), "not a zip file"),
        ("no.zip", b"hello", "not a zip file"),
        ("some.zip", zip_of([("a.png", PNG), ("b.png", PNG), ("metadata.jsonl", b'{"file_name":"a.png","label":1}')]),
         "but not 'b.png'"),
        ("bad.parquet", b"PAR1" + bytes(60), "not a parquet file"),
        ("no.parquet", b"hello", "not a parquet file"),
    ],
)  # fmt: skip
def test_bad_sources_get_an_error_that_says_which(tmp_path, name, content, message):
    if "parquet" in name:
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    if "#" in name:
        np.savez(tmp_path / name.partition("#")[0], a=DIGITS, b=DIGITS)
    with pytest.raises(SourceError, match=message) as caught:
        read_images(f"{path}")
    assert name.partition("#")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


KINDS = ["x-idx3-ubyte.gz", "x.npz", "x.npy", "x.tar", "x.tar.gz", "x.zip", "x.parquet"]


@pytest.mark.parametrize("name", KINDS)
def test_damage_anywhere_is_a_source_error_or_other_images_but_nothing_else(tmp_path, name):
    pytest.importorskip("pyarrow")
    labels = None if "idx" in name or "npy" in name else tuple(range(3))
    names = None if labels is None else ("a", "b", "ü")
    whole = tmp_path / name
    write(ImageSet(DIGITS[:3], names, labels), whole)
    data = whole.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for i in range(300):
        at = int(rng.integers(len(data)))
        bad = data[:at] if i % 3 == 0 else data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :]
        whole.write_bytes(bad)
        with contextlib.suppress(SourceError):
            read_images(whole)
            refused -= 1
        refused += 1
    assert refused > 100


@pytest.mark.parametrize("name", KINDS)
def test_a_source_that_is_cut_short_is_refused(tmp_path, name):
    pytest.importorskip("pyarrow")
    write(ImageSet(DIGITS[:3]), tmp_path / name)
    data = (tmp_path / name).read_bytes()
    end = len(data.rstrip(b"\0")) if name == "x.tar" else len(data)
    for cut in [0, 1, 3, 100, *range(512, end, 512), end - 9, end - 1]:
        (tmp_path / name).write_bytes(data[: min(cut, end - 1)])
        with pytest.raises(SourceError):
            read_images(tmp_path / name)


@pytest.mark.parametrize(("name", "data"), [("x-idx3-ubyte", IDX + bytes(7)), ("x.npy", npy_of("(2, 2, 2)", bytes(7)))])
def test_a_claim_that_the_size_of_a_file_denies_is_refused_before_reading(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match="does not hold"):
        open_source(tmp_path / name)


def test_folders_without_images_and_other_files_are_refused(tmp_path):
    with pytest.raises(SourceError, match="holds no images"):
        open_source(tmp_path)
    with pytest.raises(SourceError, match="no source"):
        open_source()


@pytest.mark.skipif(os.name == "nt", reason="there are no named pipes in folders there")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(SourceError, match="no regular file"):
        open_source(tmp_path / "a.png")
    with pytest.raises(SourceError, match="no regular file"):
        read_images(tmp_path)


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="file names are Unicode there")
def test_a_file_name_that_is_not_unicode_is_one_error(tmp_path):
    (tmp_path / os.fsdecode(b"\xfc.png")).write_bytes(PNG)
    with pytest.raises(SourceError, match="not Unicode"):
        read_images(tmp_path)


def test_an_image_that_claims_too_much_is_refused(tmp_path, monkeypatch):
    for module in ("idx", "npy", "zips", "tar", "parquet"):
        monkeypatch.setattr(f"smalti.exchange.{module}.MAX_MEMBER_BYTES", 20)
    for name in ("x-idx3-ubyte", "x.npz", "x.zip", "x.tar", "x.parquet"):
        write(ImageSet(DIGITS[:1]), tmp_path / name)
        with pytest.raises(SourceError, match=r"claims|no small image"):
            read_images(tmp_path / name)


def test_a_claim_allocates_nothing():
    asked = []

    class Short:
        def read(self, size: int, /) -> bytes:
            asked.append(size)
            return b"" if len(asked) > 1 else b"x"

    assert limits.read_exactly(Short(), 1 << 40) == b"x"
    assert max(asked) <= 1 << 20


# --- images that cannot be read, one by one


def bad_sources(folder: Path) -> dict[str, Path]:
    members = [("a.png", PNG), ("b.png", b"broken"), ("c.png", PNG)]
    for name, data in members:
        path = folder / "folder" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    (folder / "x.zip").write_bytes(zip_of(members))
    (folder / "x.tar").write_bytes(tar_of(members))
    rows = [{"bytes": data, "path": name} for name, data in members]
    parquet_of(folder / "x.parquet", rows)
    return {name: folder / name for name in ("folder", "x.zip", "x.tar", "x.parquet")}


@pytest.mark.parametrize("kind", ["folder", "x.zip", "x.tar", "x.parquet"])
def test_an_unreadable_image_is_left_out_only_where_that_is_asked_for(tmp_path, kind):
    path = bad_sources(tmp_path)[kind]
    with pytest.raises(SourceError, match=r"b\.png|row 1"):
        read_images(path)
    told: list[SourceError] = []
    assert names_of(open_source(path, on_bad=told.append)) == ["a.png", "c.png"]
    assert len(told) == 1
    assert "no image" in str(told[0])


def test_other_errors_of_who_is_told_pass_through(tmp_path):
    for path in bad_sources(tmp_path).values():

        def stop(error: SourceError) -> None:
            raise KeyError(str(error))

        with pytest.raises(KeyError):
            list(open_source(path, on_bad=stop).parts)


def test_a_source_of_which_nothing_is_left_is_refused(tmp_path):
    (tmp_path / "a.png").write_text("broken")
    with pytest.raises(SourceError, match="no image could be read"):
        list(open_source(tmp_path, on_bad=lambda _: None).parts)


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "d/../../a.png", "a\\b.png", "C:a.png", "d/nul.png", "./a.png"])
def test_members_with_unsafe_names_are_bad_images(tmp_path, name):
    (tmp_path / "x.zip").write_bytes(zip_of([(name, PNG), ("ok.png", PNG)]))
    (tmp_path / "x.tar").write_bytes(tar_of([(name, PNG), ("ok.png", PNG)]))
    for path in (tmp_path / "x.zip", tmp_path / "x.tar"):
        with pytest.raises(SourceError, match="no safe name"):
            read_images(path)
        told: list[SourceError] = []
        assert names_of(open_source(path, on_bad=told.append)) == ["ok.png"]
        assert len(told) == 1


def test_links_and_devices_in_a_tar_file_are_bad_images(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_of([("a.png", "/etc/passwd"), ("b.png", "c.png"), ("c.png", PNG)]))
    told: list[SourceError] = []
    assert names_of(open_source(tmp_path / "x.tar", on_bad=told.append)) == ["c.png"]
    assert ["is a link" in str(error) for error in told] == [True, True]


def test_a_sparse_file_in_a_tar_file_is_a_bad_image(tmp_path):
    (tmp_path / "x.tar").write_bytes(claiming(tarfile.GNUTYPE_SPARSE, 0)[:512] + TAR)
    told: list[SourceError] = []
    assert names_of(open_source(tmp_path / "x.tar", on_bad=told.append)) == ["a.png", "b.png"]
    assert "sparse file" in str(told[0])


def test_a_damaged_member_of_a_zip_file_is_a_bad_image(tmp_path):
    data = bytearray(zip_of([("a.png", PNG), ("b.png", PNG)]))
    data[40] ^= 1  # within the first image
    (tmp_path / "x.zip").write_bytes(data)
    told: list[SourceError] = []
    assert names_of(open_source(tmp_path / "x.zip", on_bad=told.append)) == ["b.png"]
    assert "cannot be read" in str(told[0])


def test_damage_to_the_whole_is_never_left_out(tmp_path):
    (tmp_path / "x.tar").write_bytes(TAR[:2048])
    with pytest.raises(SourceError, match="end is missing"):
        list(open_source(tmp_path / "x.tar", on_bad=lambda _: None).parts)


def test_what_macos_puts_beside_files_is_no_image(tmp_path):
    apple = b"\x00\x05\x16\x07" + bytes(50)
    (tmp_path / "x.tar").write_bytes(tar_of([("._a.png", apple), ("a.png", PNG)]))
    (tmp_path / "x.zip").write_bytes(zip_of([("a.png", PNG), ("__MACOSX/._a.png", apple)]))
    for name in ("x.tar", "x.zip"):
        assert read_images(tmp_path / name).names == ("a.png",)


# --- labels


LINES = '{"file_name": "a.png", "label": 3}\n{"file_name": "b.png", "label": 4}\n'


@pytest.mark.parametrize(
    ("kind", "text", "labels"),
    [
        ("metadata.jsonl", LINES, (3, 4)),
        ("metadata.jsonl", LINES.replace("4", '"x"').replace("3", "[1, 2]"), ((1, 2), "x")),
        ("metadata.csv", "\ufefffile_name,label\na.png,3\nb.png,4\n", (3, 4)),
        ("metadata.csv", "x,label,file_name\n0,7,a.png\n0,07,b.png\n", ("7", "07")),
        ("metadata.csv", "file_name,text\na.png,3\nb.png,4\n", None),
        ("metadata.jsonl", '{"file_name": "a.png"}\n', None),
    ],
)
def test_labels_of_a_folder_come_from_its_metadata(tmp_path, kind, text, labels):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / kind).write_text(text, encoding="utf-8")
    assert read_images(tmp_path).labels == labels


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("metadata.jsonl", LINES.splitlines()[0], "but not 'b.png'"),
        ("metadata.jsonl", LINES + LINES.replace("3", "5"), "two labels"),
        ("metadata.jsonl", "{", "damaged"),
        ("metadata.jsonl", "[" * 100000, "damaged"),
        ("metadata.jsonl", "[1]", "line 1"),
        ("metadata.jsonl", LINES.replace("4", "0.5"), "neither an int"),
        ("metadata.jsonl", LINES.replace("4", "true"), "neither an int"),
        ("metadata.csv", "name,label\na.png,1\n", "no column"),
        ("metadata.csv", "file_name,label\na.png,1\n", "but not 'b.png'"),
    ],
)
def test_bad_metadata_is_refused(tmp_path, kind, text, message):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / kind).write_text(text)
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path)


def test_labels_of_their_own_file_go_with_one_source(tmp_path):
    images = tmp_path / "x-idx3-ubyte"
    images.write_bytes(idx_of(DIGITS))
    labels = tmp_path / "x-idx1-ubyte"
    labels.write_bytes(b"\0\0\x08\x01\0\0\0\x14" + bytes(range(20)))
    np.save(tmp_path / "labels.npy", np.arange(20, dtype=">i4"))
    np.savez(tmp_path / "own.npz", images=DIGITS, labels=np.arange(20))
    for file in (labels, tmp_path / "labels.npy"):
        source = open_source(images, labels=file)
        assert source.labelled
        assert [label for part in source.parts for label in part.labels] == list(range(20))
    with pytest.raises(SourceError, match="can label one source, not 2"):
        open_source(images, images, labels=labels)
    with pytest.raises(SourceError, match="labels of its own"):
        open_source(tmp_path / "own.npz", labels=labels)
    (tmp_path / "a.tar").write_bytes(TAR)
    (tmp_path / "a.png").write_bytes(PNG)
    with pytest.raises(SourceError, match=r"20 labels, .* 1 images"):
        open_source(tmp_path / "a.png", labels=labels)
    with pytest.raises(SourceError, match=r"20 labels, .* 2 images"):
        list(open_source(tmp_path / "a.tar", labels=labels).parts)
    np.save(tmp_path / "one.npy", np.arange(1))
    with pytest.raises(SourceError, match=r"1 labels, .* 2 images"):
        list(open_source(tmp_path / "a.tar", labels=tmp_path / "one.npy").parts)


def test_an_image_left_out_does_not_shift_labels_of_their_own_file(tmp_path):
    path = bad_sources(tmp_path)["folder"]
    np.save(tmp_path / "labels.npy", np.arange(3))
    with pytest.raises(SourceError, match=r"b\.png"):
        list(open_source(path, labels=tmp_path / "labels.npy", on_bad=lambda _: None).parts)


@pytest.mark.parametrize("kind", ["folder", "x.zip", "x.tar", "x.parquet"])
def test_labels_stay_with_their_images_when_one_is_left_out(tmp_path, kind):
    pytest.importorskip("pyarrow")
    target = tmp_path / kind
    write(ImageSet(DIGITS[:3], ("a.png", "b.png", "c.png"), (1, 2, 3)), target)
    if target.is_dir():
        (target / "b.png").write_text("broken")
    else:
        data = target.read_bytes()
        assert data.count(png_bytes(DIGITS[1])) == 1 or kind == "x.parquet"
        if kind == "x.parquet":
            rows = [{"bytes": x, "path": n} for x, n in ((PNG, "a.png"), (b"broken", "b.png"), (PNG, "c.png"))]
            parquet_of(target, rows, [1, 2, 3])
        else:
            bad = data.replace(png_bytes(DIGITS[1]), bytes(len(png_bytes(DIGITS[1]))))
            target.write_bytes(bad)
    parts = list(open_source(target, on_bad=lambda _: None).parts)
    assert [(n, label) for p in parts for n, label in zip(p.names, p.labels, strict=True)] == [
        ("a.png", 1),
        ("c.png", 3),
    ]


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08\x01\0\0\0\x02\x01", b"\0\0\x08\x01\0\0\0\x01\x01\x02", IDX + bytes(8)]
)
def test_bad_files_of_labels_are_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(SourceError, match="labels"):
        open_source(tmp_path / "a.png", labels=tmp_path / "labels")
    with pytest.raises(SourceError, match="No such file"):
        open_source(tmp_path / "a.png", labels=tmp_path / "missing")


@pytest.mark.parametrize("kind", ["<f4", "<U0", "|O"])
def test_labels_of_other_types_are_refused(tmp_path, kind):
    (tmp_path / "a.png").write_bytes(PNG)
    size = {"<f4": 4, "<U0": 0, "|O": 8}[kind]
    (tmp_path / "labels.npy").write_bytes(npy_of("(1,)", bytes(size), kind))
    with pytest.raises(SourceError, match=r"labels"):
        open_source(tmp_path / "a.png", labels=tmp_path / "labels.npy")


def test_labels_as_text_come_back_as_they_were():
    for label in (
        0,
        -5,
        2**63,
        "cat",
        "07",
        "7",
        "1,2",
        "1,",
        ",",
        "",
        " ",
        "a b",
        '"',
        '"q"',
        "a\n",
        "ü",
        "\udc80",
        (),
        (1,),
    ):
        text = label_text(label)
        assert parse_label(text) == label
        assert text.encode().decode().splitlines() == [text]
    with pytest.raises(UsageError, match="beyond"):
        label_text(10**30)
    with pytest.raises(SourceError, match="neither"):
        label_of(None)


# --- tables


def test_a_plain_column_of_images_and_other_names_of_columns_are_read(tmp_path):
    parquet_of(tmp_path / "x.parquet", [PNG, PNG], [["1"], ["2"]][0] * 2, column="img")
    read = read_images(tmp_path / "x.parquet")
    assert (len(read), read.names, read.labels) == (2, None, ("1", "1"))


@pytest.mark.parametrize(
    ("images", "labels", "column", "message"),
    [
        ([PNG], None, "picture", "has the columns picture"),
        (["text"], None, "image", "must be bytes"),
        ([None, PNG], None, "image", "row 0 has no bytes"),
        ([{"bytes": PNG, "path": "a"}] * 64 + [{"bytes": PNG, "path": None}], None, "image", "row 64 has no path"),
        ([PNG], [0.5], "image", "row 0: the label '0.5'"),
        ([PNG], [None], "image", "row 0: the label 'None'"),
    ],
)
def test_bad_tables_are_refused(tmp_path, images, labels, column, message):
    parquet_of(tmp_path / "x.parquet", images, labels, column)
    with pytest.raises(SourceError, match=message):
        read_images(tmp_path / "x.parquet")


def test_a_table_where_some_of_the_first_rows_have_no_path_has_no_names(tmp_path):
    parquet_of(tmp_path / "x.parquet", [{"bytes": PNG, "path": "a"}, {"bytes": PNG, "path": ""}])
    assert read_images(tmp_path / "x.parquet").names is None


def test_a_table_without_rows_is_refused(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet_of(tmp_path / "x.parquet", [], kind=arrow.binary())
    with pytest.raises(SourceError, match="no rows"):
        open_source(tmp_path / "x.parquet")


def test_without_pyarrow_parquet_files_say_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"smalti\[parquet\]"):
        open_source(tmp_path / "x.parquet")
    with pytest.raises(MissingExtraError, match=r"smalti\[parquet\]"):
        check_target(tmp_path / "y.parquet", gray(), force=False)


# --- writing


TARGETS = [
    "folder",
    "x.npz",
    "x.npy",
    "x-idx3-ubyte",
    "x-idx3-ubyte.gz",
    "x.idx",
    "x.tar",
    "x.tgz",
    "x.zip",
    "x.parquet",
]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_is_there_is_kept_unless_forced(tmp_path, target):
    pytest.importorskip("pyarrow")
    write(ImageSet(DIGITS), tmp_path / target)
    with pytest.raises(OutputExistsError, match="--force"):
        check_target(tmp_path / target, gray(), force=False)
    with pytest.raises(OutputExistsError, match="--force"):
        write(ImageSet(DIGITS[:2]), tmp_path / target)
    assert (read_images(tmp_path / target).pixels == DIGITS).all()
    write(ImageSet(DIGITS[::-1]), tmp_path / target, force=True)
    assert (read_images(tmp_path / target).pixels == DIGITS[::-1]).all()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_whole_or_not_there(tmp_path, target):
    pytest.importorskip("pyarrow")

    def broken():
        yield ImageSet(DIGITS[:3])
        raise SourceError("the source broke")

    with pytest.raises(SourceError, match="the source broke"):
        write_images(broken(), gray(6), tmp_path / target)
    for count in (2, 4):
        with pytest.raises(SourceError, match="announced"):
            write_images([ImageSet(DIGITS[:3])], gray(count), tmp_path / target)
    with pytest.raises(SourceError, match="announced"):
        write_images([ImageSet(DIGITS[:3, :2])], gray(3), tmp_path / target)
    assert not list(tmp_path.iterdir())


def test_names_become_paths_and_gain_png_where_it_is_missing(tmp_path):
    write(ImageSet(DIGITS[:3], ("a/1.png", "a/2.jpg", "3")), tmp_path / "out")
    written = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png"))
    assert written == ["3.png", "a/1.png", "a/2.jpg.png"]


@pytest.mark.parametrize("target", ["folder", "x.tar", "x.zip"])
def test_images_without_names_get_numbers_that_sort(tmp_path, target):
    write(ImageSet(DIGITS), tmp_path / target)
    assert names_of(open_source(tmp_path / target)) == [f"{i:02d}.png" for i in range(20)]


def test_force_adds_to_a_folder_and_leaves_other_files(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    write(ImageSet(DIGITS[:1], ("0.png",), (1,)), tmp_path / "out", force=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "metadata.jsonl", "mine.txt"]


UNSAFE = ["../x.png", "/x.png", "a/../../x.png", "./b.png", "a//b.png", "a/", "..", "a\0.png", ""]


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("target", ["out", "x.tar", "x.zip"])
def test_names_that_climb_out_or_mean_another_are_refused(tmp_path, name, target):
    (tmp_path / "deep").mkdir()
    with pytest.raises(CorruptError, match="no safe path"):
        write(ImageSet(DIGITS[:2], ("b.png", name)), tmp_path / "deep" / target)
    assert [p.name for p in tmp_path.rglob("*")] == ["deep"]


WINDOWS = [
    "a\\b",
    "..\\b",
    "C:b",
    "C:/b",
    "con",
    "d/NUL.png",
    "com1.x.png",
    "LPT¹",
    "aux .png",
    "a.",
    "a ",
    "a?",
    "a\n",
]


@pytest.mark.parametrize("name", WINDOWS)
def test_what_windows_makes_of_a_name_is_refused_in_archives_everywhere(tmp_path, name):
    assert unsafe_name(name, strict=True)
    assert not unsafe_name(name, strict=False)
    for target in ("x.tar", "x.zip"):
        with pytest.raises(CorruptError, match="no safe path"):
            write(ImageSet(DIGITS[:1], (name,)), tmp_path / target)


@pytest.mark.parametrize("name", ["console.png", "a.con", "com10", "d.e/nul_.png", "a b.png", "ü", "..a", "a..b"])
def test_names_that_only_look_unsafe_are_kept(name):
    assert not unsafe_name(name, strict=True)


@pytest.mark.parametrize("target", ["out", "x.tar", "x.zip"])
def test_two_names_of_one_file_lose_nothing(tmp_path, target):
    with warnings.catch_warnings(), pytest.raises(OutputError, match=r"exists|two images"):
        write(ImageSet(DIGITS[:2], ("a.jpg", "a.jpg.png")), tmp_path / target)
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_way_is_found_before_anything_is_moved(tmp_path):
    (tmp_path / "out" / "1.png").mkdir(parents=True)
    (tmp_path / "out" / "0.png").write_text("mine")
    with pytest.raises(OutputExistsError, match="should go"):
        write(ImageSet(DIGITS[:2], ("0.png", "1.png")), tmp_path / "out", force=True)
    assert (tmp_path / "out" / "0.png").read_text() == "mine"


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
@pytest.mark.parametrize("name", ["sub/1.png", "sub/deep/1.png"])
def test_a_link_within_a_folder_is_not_written_through(tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputExistsError, match="by a link"):
        write(ImageSet(DIGITS[:2], ("0.png", name)), tmp_path / "out", force=True)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["sub"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_the_target_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    write(ImageSet(DIGITS[:2], ("a/0.png", "1.png")), tmp_path / "out")
    assert read_images(tmp_path / "real").names == ("1.png", "a/0.png")


@pytest.mark.parametrize("target", ["x.png", "x.smalti", "x.GZ", "x.jpg"])
def test_kinds_of_files_that_are_not_written_are_refused(tmp_path, target):
    with pytest.raises(UsageError, match="give a folder"):
        write(ImageSet(DIGITS), tmp_path / target)


def test_what_a_kind_of_file_cannot_hold_is_refused_before_any_work(tmp_path):
    two = About(2, frozenset({(6, 5, 1), (6, 6, 1)}), named=False, labelled=False)
    for name in ("x-idx3-ubyte", "x.npz", "x.npy"):
        with pytest.raises(UsageError, match="give a folder, tar, zip or parquet"):
            check_target(tmp_path / name, two, force=False)
    colour = About(1, frozenset({(2, 2, 3)}), named=False, labelled=False)
    with pytest.raises(UsageError, match="gray"):
        check_target(tmp_path / "x-idx3-ubyte", colour, force=False)
    (tmp_path / "x-labels-idx1-ubyte").write_text("mine")
    labelled = About(1, frozenset({(6, 5, 1)}), named=False, labelled=True)
    with pytest.raises(OutputExistsError, match="labels-idx1"):
        check_target(tmp_path / "x-images-idx3-ubyte", labelled, force=False)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputExistsError, match="is a file"):
        check_target(tmp_path / "file", gray(), force=False)


@pytest.mark.parametrize(
    ("target", "named", "labelled", "note"),
    [
        ("x.idx", True, True, "names and labels are left out: idx files hold pixels alone"),
        ("x.npy", False, True, "labels are left out: npy files hold pixels alone"),
        ("x-images-idx3-ubyte", True, False, "names are left out: idx files hold pixels alone"),
        ("x.npy", False, False, ""),
        ("x.npz", True, True, ""),
        ("folder", True, True, ""),
    ],
)
def test_what_is_left_out_is_said_before(tmp_path, target, named, labelled, note):
    about = About(1, frozenset({(6, 5, 1)}), named=named, labelled=labelled)
    assert check_target(tmp_path / target, about, force=False) == note


def test_every_refusal_is_one_of_our_errors(tmp_path):
    for target in (tmp_path / "missing" / "x.npz", tmp_path / "missing" / "x.zip", tmp_path / "zero\0"):
        with pytest.raises(SmaltiError, match="cannot write"):
            write(ImageSet(DIGITS), target)
