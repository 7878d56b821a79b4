"""Files of images of all kinds, made for tests of `exchange/`."""

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smalti.exchange.targets import png_bytes, write_images
from smalti.types import About, ImageSet

DIGITS = np.random.default_rng(0).integers(0, 256, (20, 6, 5), np.uint8)
PNG = png_bytes(DIGITS[0])
IDX = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x02"


def write(images: ImageSet, target: Path, *, force: bool = False) -> str:
    named, labelled = images.names is not None, images.labels is not None
    return write_images([images], About(len(images), frozenset({images.shape}), named, labelled), target, force=force)


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


TAR = tar_of([("a.png", PNG), ("b.png", PNG)])


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


def png(width: int, height: int, bits: int, colour: int, rows: bytes, key: bytes = b"") -> bytes:
    """A PNG file of rows that start with their filter; `key` is the transparent colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">2I5B", width, height, bits, colour, 0, 0, 0))
    clear = chunk(b"tRNS", key) if key else b""
    return b"\x89PNG\r\n\x1a\n" + head + clear + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_rgb_png() -> bytes:
    """A PNG file of one RGB pixel with 16 bits a sample, which Pillow would cut to 8."""
    return png(1, 1, 16, 2, bytes(7))


def frames(kind: str) -> bytes:
    file = io.BytesIO()
    images = [Image.fromarray(digit) for digit in DIGITS[:3]]
    images[0].save(file, kind, save_all=True, append_images=images[1:])
    return file.getvalue()
