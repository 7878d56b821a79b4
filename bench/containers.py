# SPDX-License-Identifier: MIT
"""The containers that are compared: how each is written, opened and read.

Every file holds the labels as well, in the usual way of its format. The functions of a container import its libraries
themselves, so that a process that measures one container holds nothing of the others.
"""

import importlib.util
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 256
"""The images of a chunk, row group or transaction: as many as a block of smalti has."""
PART = 4096
"""The images that are read at a time for packing."""

Pixels = NDArray[np.uint8]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """Images (`n h w`) and labels (`n`) in a folder, as `images.npy` and `labels.npy`."""

    folder: Path

    @property
    def pixels(self) -> Path:
        """Return the file of images."""
        return self.folder / "images.npy"

    @property
    def labels(self) -> Path:
        """Return the file of labels."""
        return self.folder / "labels.npy"

    def mapped(self) -> Pixels:
        """Return all images as a memory map, which takes memory only for what is read."""
        x: Pixels = np.load(self.pixels, mmap_mode="r")
        return x

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of all images: n h w."""
        return self.mapped().shape

    def parts(self, step: int = PART) -> Iterator[Pixels]:
        """Yield all images in parts; each part is mapped anew, so that only one takes memory."""
        for start in range(0, self.shape[0], step):
            yield self.mapped()[start : start + step].copy()

    def singles(self) -> Iterator[tuple[Pixels, int]]:
        """Yield all images, each with its label."""
        labels = np.load(self.labels)
        start = 0
        for part in self.parts():
            yield from zip(part, labels[start : start + len(part)].tolist(), strict=True)
            start += len(part)


@dataclass(frozen=True)
class Opened:
    """An open container."""

    every: Callable[[], Iterator[Pixels]]  # all images in order, some at a time
    read: Callable[[int], Pixels] | None = None  # one image; None if only all can be read
    batch: Callable[[Ints], Pixels] | None = None  # images of these numbers, in that order
    close: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Container:
    """A way to store images. The time and memory of importing `modules` are not counted."""

    name: str
    settings: str
    file: str  # name of the file, or folder, that it makes
    modules: tuple[str, ...]  # imported before anything is measured
    pack: Callable[[Images, Path], object]
    open: Callable[[Path], Opened]
    lossless: bool = True
    sequential: bool = False  # an image can be read only after all images before it

    @property
    def missing(self) -> str:
        """Return the name of the first library that is not installed, or ""."""
        every = (module.split(".")[0] for module in self.modules)
        return next((name for name in every if importlib.util.find_spec(name) is None), "")


def _singly(read: Callable[[int], Pixels], n: int, close: Callable[[], object]) -> Opened:
    """Return an open container whose images are read one by one."""

    def batch(rows: Ints) -> Pixels:
        return np.stack([read(i) for i in rows.tolist()])

    def every() -> Iterator[Pixels]:
        return (batch(np.arange(start, min(start + CHUNK, n))) for start in range(0, n, CHUNK))

    return Opened(every, read, batch, close)


# ---- smalti


def _pack_smalti(images: Images, path: Path, **asked: int | str) -> None:
    import smalti
    from smalti.exchange.sources import open_source

    smalti.pack(open_source(images.pixels, labels=images.labels), path, **asked)  # type: ignore[arg-type]  # mypy takes these for any argument


def _open_smalti(path: Path) -> Opened:
    import smalti

    archive = smalti.open(path)
    every = partial(map, lambda part: part.pixels)
    return Opened(lambda: every(archive.parts()), archive.__getitem__, archive.__getitem__, archive.close)


# ---- arrays in chunks


def _pack_npz(images: Images, path: Path) -> None:
    np.savez_compressed(path, images=np.load(images.pixels), labels=np.load(images.labels))


def _open_npz(path: Path) -> Opened:
    with np.load(path) as file:
        x: Pixels = file["images"]
    return Opened(lambda: iter([x]), x.__getitem__, x.__getitem__)


def _chunks(images: Images) -> tuple[int, ...]:
    n, h, w = images.shape
    return min(CHUNK, n), h, w


def _fill(array: Any, images: Images) -> None:
    start = 0
    for part in images.parts():
        array[start : start + len(part)] = part
        start += len(part)


def _pack_hdf5(images: Images, path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["labels"] = np.load(images.labels)
        _fill(file.create_dataset("images", images.shape, "u1", chunks=_chunks(images), compression="gzip"), images)


def _open_hdf5(path: Path) -> Opened:
    import h5py

    file = h5py.File(path, "r")
    x = file["images"]

    def batch(rows: Ints) -> Pixels:
        wanted, places = np.unique(rows, return_inverse=True)  # h5py takes only rising numbers
        found: Pixels = x[wanted][places]
        return found

    every = range(0, len(x), CHUNK)
    return Opened(lambda: (x[i : i + CHUNK] for i in every), x.__getitem__, batch, file.close)


def _pack_zarr(images: Images, path: Path) -> None:
    import zarr
    from zarr.codecs import BloscCodec

    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.create_array("labels", data=np.load(images.labels))
    codec = BloscCodec(cname="zstd", clevel=5, shuffle="noshuffle")
    x = group.create_array("images", shape=images.shape, dtype="u1", chunks=_chunks(images), compressors=codec)
    _fill(x, images)


def _open_zarr(path: Path) -> Opened:
    import zarr

    x: Any = zarr.open_group(path, mode="r")["images"]

    def every() -> Iterator[Pixels]:
        return (x[start : start + PART] for start in range(0, x.shape[0], PART))

    return Opened(every, x.__getitem__, lambda rows: x.oindex[rows])


# ---- an image file each


def _png(x: Pixels) -> bytes:
    return _pillow(x, "PNG", optimize=True)


def _webp(x: Pixels) -> bytes:
    return _pillow(x, "WEBP", lossless=True, method=4)


def _jpeg(x: Pixels) -> bytes:
    return _pillow(x, "JPEG", quality=75, optimize=True)


def _pillow(x: Pixels, kind: str, **options: object) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(x).save(file, kind, **options)
    return file.getvalue()


def _decode(data: bytes) -> Pixels:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L"))


def _pack_tar(images: Images, path: Path, *, encode: Callable[[Pixels], bytes], suffix: str) -> None:
    import tarfile

    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i, (image, label) in enumerate(images.singles()):
            member, data = tarfile.TarInfo(f"{label}/{i:07}.{suffix}"), encode(image)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            tar.members.clear()  # type: ignore[attr-defined]  # else tarfile keeps them all


def _open_tar(path: Path) -> Opened:
    """Open a tar file, and read all its heads as an index, because nothing else tells where an image is."""
    import tarfile

    places = []
    with tarfile.open(path, "r:") as tar:
        while (member := tar.next()) is not None:
            places.append((member.offset_data, member.size))
            tar.members.clear()  # type: ignore[attr-defined]  # as above
    file = path.open("rb")

    def read(i: int) -> Pixels:
        at, size = places[i]
        file.seek(at)
        return _decode(file.read(size))

    return _singly(read, len(places), file.close)


def _pack_zip(images: Images, path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for i, (image, label) in enumerate(images.singles()):
            file.writestr(zipfile.ZipInfo(f"{label}/{i:07}.png"), _png(image))


def _open_zip(path: Path) -> Opened:
    import zipfile

    file = zipfile.ZipFile(path)
    members = file.infolist()
    return _singly(lambda i: _decode(file.read(members[i])), len(members), file.close)


def _pack_parquet(images: Images, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    labels, start = np.load(images.labels), 0
    with pq.ParquetWriter(path, pa.schema([("image", kind), ("label", pa.int64())])) as writer:
        for part in images.parts(CHUNK):
            column = pa.array([{"bytes": _png(image), "path": None} for image in part], kind)
            numbers = pa.array(labels[start : start + len(part)], pa.int64())
            writer.write_table(pa.table([column, numbers], ["image", "label"]))
            start += len(part)


def _open_parquet(path: Path) -> Opened:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)

    def group(k: int) -> Any:
        return file.read_row_group(k, columns=["image.bytes"]).column(0).combine_chunks().field("bytes")

    def batch(rows: Ints) -> Pixels:
        groups = {k: group(k) for k in np.unique(rows // CHUNK).tolist()}
        return np.stack([_decode(groups[i // CHUNK][i % CHUNK].as_py()) for i in rows.tolist()])

    def every() -> Iterator[Pixels]:
        for k in range(file.num_row_groups):
            yield np.stack([_decode(data) for data in group(k).to_pylist()])

    return Opened(every, lambda i: _decode(group(i // CHUNK)[i % CHUNK].as_py()), batch, file.close)


_KEY = struct.Struct(">I")
"""The key of an image in LMDB, which sorts by number; the value is its label, one byte, and its file."""


def _pack_lmdb(images: Images, path: Path) -> None:
    import lmdb

    n, h, w = images.shape
    with lmdb.open(str(path), subdir=False, lock=False, map_size=(1 << 24) + 4 * n * h * w) as env:
        labels, start = np.load(images.labels), 0
        for part in images.parts(PART):
            with env.begin(write=True) as txn:
                for i, image in enumerate(part, start):
                    txn.put(_KEY.pack(i), bytes([labels[i]]) + _jpeg(image), append=True)
            start += len(part)


def _open_lmdb(path: Path) -> Opened:
    import lmdb

    env = lmdb.open(str(path), subdir=False, lock=False, readonly=True)
    txn: Any = env.begin()
    return _singly(lambda i: _decode(txn.get(_KEY.pack(i))[1:]), env.stat()["entries"], env.close)


def _pack_webdataset(images: Images, path: Path) -> None:
    import webdataset

    with webdataset.TarWriter(str(path), encoder=False, mtime=0) as writer:  # the time of day would take 2 kB an image
        for i, (image, label) in enumerate(images.singles()):
            writer.write({"__key__": f"{i:07}", "png": _png(image), "cls": str(label).encode()})


def _open_webdataset(path: Path) -> Opened:
    import webdataset

    data = webdataset.WebDataset(str(path), shardshuffle=False).decode("l8").to_tuple("png", "cls")
    return Opened(lambda: (np.asarray(image)[None] for image, _ in data))


_SMALTI = ("smalti", "smalti.api", "smalti.exchange.sources")
ALL = (
    Container("smalti lossless", "max_error 0", "x.smalti", _SMALTI, partial(_pack_smalti, max_error=0), _open_smalti),
    Container("smalti mnist", "max_error 0; the model named", "x.smalti", _SMALTI,
              partial(_pack_smalti, max_error=0, model="mnist"), _open_smalti),
    Container("smalti quality 50", "the default; effort 3", "x.smalti", _SMALTI,
              partial(_pack_smalti, quality=50, effort=3), _open_smalti, lossless=False),
    Container("smalti quality 15", "by latents; effort 3", "x.smalti", _SMALTI,
              partial(_pack_smalti, quality=15, effort=3), _open_smalti, lossless=False),
    Container("npz", "savez_compressed", "x.npz", ("numpy",), _pack_npz, _open_npz),
    Container("tar of PNG", "Pillow, optimize", "x.tar", ("PIL.Image", "tarfile"),
              partial(_pack_tar, encode=_png, suffix="png"), _open_tar),
    Container("tar of WebP", "Pillow, lossless, method 4", "x.tar", ("PIL.Image", "tarfile"),
              partial(_pack_tar, encode=_webp, suffix="webp"), _open_tar),
    Container("zip of PNG", "Pillow, optimize; stored", "x.zip", ("PIL.Image", "zipfile"), _pack_zip, _open_zip),
    Container("parquet", f"PNG as above; row groups of {CHUNK}", "x.parquet", ("PIL.Image", "pyarrow.parquet"),
              _pack_parquet, _open_parquet),
    Container("HDF5", f"gzip 4; chunks of {CHUNK}", "x.h5", ("h5py",), _pack_hdf5, _open_hdf5),
    Container("Zarr", f"v3, Blosc zstd 5; chunks of {CHUNK}", "x.zarr", ("zarr", "zarr.codecs"), _pack_zarr,
              _open_zarr),
    Container("LMDB of JPEG", "Pillow, quality 75, optimize", "x.lmdb", ("PIL.Image", "lmdb"), _pack_lmdb, _open_lmdb,
              lossless=False),
    Container("WebDataset", "tar of PNG as above; mtime 0", "x.tar", ("PIL.Image", "webdataset"), _pack_webdataset,
              _open_webdataset, sequential=True),
)  # fmt: skip
