"""tar files as people have them: compressed in several ways, with hard links, several in one, without their end."""

import bz2
import gzip
import io
import lzma
import sys
import tarfile

import numpy as np
import pytest
from sources import DIGITS, PNG, names_of, tar_of

from smalti.errors import MissingExtraError, SourceError
from smalti.exchange.formats.tar_stream import SUFFIXES
from smalti.exchange.sources import open_source, read_images
from smalti.exchange.targets import png_bytes

FILES = [(f"{i:02d}.png", png_bytes(image)) for i, image in enumerate(DIGITS)]
TAR = tar_of(FILES)
ENDLESS = TAR.rstrip(b"\0") + bytes(-len(TAR.rstrip(b"\0")) % 512)


def zstd(data: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.compress(data)
    return pytest.importorskip("zstandard").compress(data)


COMPRESS = {"tar": bytes, "gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress, "zst": zstd}


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("name", ["x.tar", "anything"])
def test_a_compressed_tar_file_is_read_whatever_its_name(tmp_path, kind, name):
    (tmp_path / name).write_bytes(COMPRESS[kind](TAR))
    read = read_images(tmp_path / name)
    assert (read.pixels == DIGITS).all()
    assert read.names == tuple(name for name, _ in FILES)


@pytest.mark.parametrize("kind", [*COMPRESS][1:])
def test_a_compressed_tar_file_that_is_cut_or_flipped_is_refused(tmp_path, kind):
    data = COMPRESS[kind](TAR)
    for cut in (20, len(data) // 2, len(data) - 1):
        (tmp_path / f"x.tar.{kind}").write_bytes(data[:cut])
        with pytest.raises(SourceError):
            read_images(tmp_path / f"x.tar.{kind}")
    if kind != "zst":  # whose checksum is optional
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 1
        (tmp_path / f"x.tar.{kind}").write_bytes(flipped)
        with pytest.raises(SourceError):
            read_images(tmp_path / f"x.tar.{kind}")


def test_other_compressed_files_are_no_tar_files(tmp_path):
    for kind in ("xz", "bz2", "zst"):
        (tmp_path / "x").write_bytes(COMPRESS[kind](b"hello"))
        with pytest.raises(SourceError, match="no image or other source"):
            read_images(tmp_path / "x")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the standard library has zstd there")
def test_without_zstandard_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    for name in ("x.tar.zst", "x"):
        (tmp_path / name).write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
        with pytest.raises(MissingExtraError, match=r'pip install "smalti\[zstd\]"'):
            open_source(tmp_path / name)


def test_all_names_of_tar_files_are_known(tmp_path):
    for suffix in SUFFIXES:
        (tmp_path / f"x{suffix}").write_bytes(b"hello")
        with pytest.raises(SourceError, match="not a tar file"):
            open_source(tmp_path / f"x{suffix}")


def linked(members: list[tuple[str, bytes | str]]) -> bytes:
    """A tar file of members; those of text are hard links to what the text names."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            if isinstance(data, str):
                member.type, member.linkname = tarfile.LNKTYPE, data
            else:
                member.size = len(data)
            tar.addfile(member, io.BytesIO(b"" if isinstance(data, str) else data))
    return file.getvalue()


@pytest.mark.parametrize("kind", COMPRESS)
def test_hard_links_give_the_images_and_labels_that_they_link(tmp_path, kind):
    members = [
        *(("a.png", FILES[0][1]), ("a.cls", b"7"), ("b.png", FILES[1][1]), ("b.cls", "a.cls")),
        *(("c.png", "./a.png"), ("c.cls", b"3"), ("d.png", "b.png"), ("d.cls", "b.cls"), ("e", "a.png")),
        ("e.cls", b"1"),
    ]
    (tmp_path / "x").write_bytes(COMPRESS[kind](linked(members)))
    read = read_images(tmp_path / "x")
    assert read.names == ("a.png", "b.png", "c.png", "d.png", "e")
    assert (read.pixels == DIGITS[[0, 1, 0, 1, 0]]).all()
    assert read.labels == (7, 7, 3, 7, 1)


def test_hard_links_to_what_is_not_there_are_bad_images(tmp_path):
    (tmp_path / "x.tar").write_bytes(linked([("a.png", "b.png"), ("b.png", PNG), ("c.png", "d.txt")]))
    told: list[SourceError] = []
    assert names_of(open_source(tmp_path / "x.tar", on_bad=told.append)) == ["b.png"]
    assert all("hard link to" in str(error) and "not in the archive before it" in str(error) for error in told)
    assert len(told) == 2


def test_hard_links_that_would_read_a_compressed_file_too_often_are_refused(tmp_path, monkeypatch):
    members: list[tuple[str, bytes | str]] = [("a.png", PNG), ("b.png", PNG)]
    (tmp_path / "near.tgz").write_bytes(gzip.compress(linked([*members, *((f"{i}.png", "a.png") for i in range(10))])))
    assert len(read_images(tmp_path / "near.tgz")) == 12
    back = [(f"{i}.png", ("b.png", "a.png")[i % 2]) for i in range(100)]
    (tmp_path / "x.tar").write_bytes(linked([*members, *back]))
    assert len(read_images(tmp_path / "x.tar")) == 102
    (tmp_path / "x.tgz").write_bytes(gzip.compress(linked([*members, *back])))
    assert len(read_images(tmp_path / "x.tgz")) == 102
    monkeypatch.setattr("smalti.exchange.formats.tar_stream._MAX_RECENT", len(PNG))
    with pytest.raises(SourceError, match="many hard links in a compressed file; decompress it first"):
        read_images(tmp_path / "x.tgz")


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_tar_file_without_end_blocks_is_read_and_it_is_said(tmp_path, kind):
    (tmp_path / "x").write_bytes(COMPRESS[kind](ENDLESS))
    source = open_source(tmp_path / "x")
    for _ in range(2):
        assert names_of(source) == [name for name, _ in FILES]
        (note,) = source.passed_over.total().notes
        assert "lacks the blocks that end a tar file; check that it was not cut" in note
    for cut in (1, 511, 512 + 100):
        (tmp_path / "x").write_bytes(COMPRESS[kind](ENDLESS[:-cut]))
        with pytest.raises(SourceError):
            read_images(tmp_path / "x")


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("zeros", [0, 512, 1 << 17])
def test_tar_files_that_follow_one_another_in_one_file_are_all_read(tmp_path, kind, zeros):
    parts = [tar_of(FILES[:7]), tar_of(FILES[7:8]) + bytes(zeros), tar_of(FILES[8:])]
    compress = COMPRESS[kind]
    for data in (compress(b"".join(parts)), b"".join(map(compress, parts))):
        (tmp_path / "x").write_bytes(data)
        assert (read_images(tmp_path / "x").pixels == DIGITS).all()


def test_a_hard_link_into_the_second_of_two_tar_files_is_read(tmp_path):
    (tmp_path / "x").write_bytes(gzip.compress(tar_of(FILES[:2]) + linked([FILES[2], ("z.png", "02.png")])))
    assert np.array_equal(read_images(tmp_path / "x").pixels, DIGITS[[0, 1, 2, 2]])


@pytest.mark.parametrize("kind", COMPRESS)
def test_other_data_after_the_end_of_a_tar_file_are_refused(tmp_path, kind):
    (tmp_path / "x").write_bytes(COMPRESS[kind](TAR + b"hello" * 200))
    with pytest.raises(SourceError, match="other data follow its end"):
        read_images(tmp_path / "x")


def test_endless_zeros_after_the_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("smalti.exchange.formats.tar_stream._MAX_PADDING", 1 << 20)
    (tmp_path / "x").write_bytes(gzip.compress(TAR + bytes(1 << 22)))
    with pytest.raises(SourceError, match="zeros follow its end"):
        read_images(tmp_path / "x")
