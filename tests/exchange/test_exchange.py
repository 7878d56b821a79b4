"""Sources that are bad or mixed: what is said, and what is left out."""

import contextlib
import gzip
import os
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image
from sources import (
    DIGITS,
    IDX,
    PNG,
    TAR,
    bad_sources,
    deep_rgb_png,
    frames,
    idx_of,
    image_file,
    names_of,
    npy_of,
    npz_of,
    tar_of,
    write,
    zip_of,
)

from smalti.errors import (
    SourceError,
)
from smalti.exchange import parts as limits
from smalti.exchange.formats.image_files import decode
from smalti.exchange.sources import open_source, read_images
from smalti.exchange.targets import png_bytes
from smalti.types import ImageSet


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
        np.savez_compressed(file, x=DIGITS[..., None])
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
    assert read_images(tmp_path / "clear.png").pixels[0, 0, 0].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "no image"),
        (b"", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "no image"),
        (image_file("L", (40, 40))[:50], "cannot read|damaged"),
        (image_file("I;16"), "16 bits a sample"),
        (deep_rgb_png(), "16 bits"),
        (b"P6 1 1 65535\n" + bytes(6), "16 bits"),
        (image_file("CMYK", kind="TIFF"), "mode CMYK"),
        (frames("TIFF"), "3 pages"),
        (frames("GIF"), "3 frames of an animation"),
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
        ("two.npz", npz_of(a=npy_of("(1, 1, 1)", b"1"), b=npy_of("(1, 1, 1)", b"1")), "pick one"),
        ("two.npz#c", None, "a, b"),
        ("flat.npz", npz_of(a=npy_of("(4, 4)", bytes(16))), "uint8 of shape n h w"),
        ("words.npz", npz_of(images=npy_of("(1, 1, 1)", b"1"), names=npy_of("(2,)", bytes(8), "<U1")), "2 names for 1"),
        ("codes.npz", npz_of(images=npy_of("(1, 1, 1)", b"1"), names=npy_of("(1,)", b"\xff" * 4, "<U1")), "damaged"),
        ("names.npz", npz_of(images=npy_of("(1, 1, 1)", b"1"), names=npy_of("(1,)", b"1")), "names must be"),
        ("labels.npz", npz_of(images=npy_of("(1, 1, 1)", b"1"), labels=npy_of("(2,)", b"12")), "2 labels for 1"),
        ("real.npz", npz_of(images=npy_of("(1, 1, 1)", b"1"), labels=npy_of("(1,)", bytes(8), "<c8")), "labels must"),
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
        ("ends.tar", TAR[: 2048 + 100], "damaged"),
        ("header.tar", TAR[:1024] + b"\xff" + TAR[1025:], "header is damaged"),
        ("cut.tar.gz", gzip.compress(TAR)[:-9], "damaged"),
        ("sum.tar.gz", gzip.compress(TAR)[:-8] + bytes(8), "damaged"),
("pax.tar", claiming(tarfile.XHDTYPE, 1 << 33), "a header of"),
        ("mixed.tar", tar_of([("a.png", PNG), ("a.cls", b"1"), ("b.png", PNG)]), "b.png has no label beside it"),
        ("other.tar", tar_of([("a.png", PNG), ("b.png", PNG), ("b.cls", b"1")]), "label all or none"),
        ("apart.tar", tar_of([("0.png", PNG), ("1.png", PNG), ("0.cls", b"1"), ("1.cls", b"2")]), "0.cls is a label"),
        ("first.tar", tar_of([("0.cls", b"1"), ("1.cls", b"2"), ("0.png", PNG), ("1.png", PNG)]), "tar --sort=name"),
        ("last.tar", tar_of([("0.png", PNG), ("0.cls", b"1"), ("1.png", PNG), ("2.png", PNG), ("1.cls", b"2")]),
         "1.png has no label beside it"),
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
    between = range(1024, end, 1024) if name == "x.tar" else ()  # whole members, which may be all
    for cut in {0, 1, 3, 100, *range(512, end, 512), end - 9, end - 1}.difference(between):
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


@pytest.mark.parametrize("name", ["x-idx3-ubyte", "x.npz", "x.zip", "x.tar", "x.parquet"])
def test_an_image_that_claims_too_much_is_refused(tmp_path, monkeypatch, name):
    if "parquet" in name:
        pytest.importorskip("pyarrow")
    for module in ("idx", "npy_stream", "zip_files", "tar", "parquet"):
        monkeypatch.setattr(f"smalti.exchange.formats.{module}.MAX_MEMBER_BYTES", 20)
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


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "d/../../a.png", "./../a.png", ".//a.png", "d//a.png"])
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
    (tmp_path / "x.tar").write_bytes(TAR[:2048] + bytes(100))
    with pytest.raises(SourceError, match="damaged"):
        list(open_source(tmp_path / "x.tar", on_bad=lambda _: None).parts)


def test_what_macos_puts_beside_files_is_no_image(tmp_path):
    apple = b"\x00\x05\x16\x07" + bytes(50)
    (tmp_path / "x.tar").write_bytes(tar_of([("._a.png", apple), ("a.png", PNG)]))
    (tmp_path / "x.zip").write_bytes(zip_of([("a.png", PNG), ("__MACOSX/._a.png", apple)]))
    for name in ("x.tar", "x.zip"):
        assert read_images(tmp_path / name).names == ("a.png",)
