# SPDX-License-Identifier: MIT
"""What reads bytes from strangers: each target takes any bytes and may raise nothing but a SmaltiError."""

import contextlib
import gzip
import io
import struct
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from attacks.build import deflate, goldens, inflate, tiny_bundle, tiny_post_filter, tiny_synthesis

import smalti
from smalti.codec.block_codec import decode_block
from smalti.container.annotation_codec import (
    pack_labels,
    pack_names,
    pack_numbers,
    unpack_labels,
    unpack_names,
    unpack_numbers,
)
from smalti.container.format import MAX_SECTION_IMAGES
from smalti.container.recovery_scan import scan
from smalti.errors import SourceError
from smalti.exchange.formats.image_files import png_bytes
from smalti.exchange.sources import open_source
from smalti.model.bundle import parse_bundle
from smalti.model.proof.exactness import check_bounds
from smalti.model.proof.onnx_reader import read_onnx
from smalti.util.storage import Memory

SUFFIXES = ("-idx3-ubyte", ".npz", ".npy", ".tar", ".zip", ".tar.gz")
MOST_SAMPLES = 1 << 16
"""Of a block: larger ones take their time, which is no finding."""


def read(data: bytes) -> list:
    """All that a file says."""
    with smalti.open(data) as archive:
        found = []
        for ask in ("names", "labels", "metadata"):
            try:
                found.append(getattr(archive, ask))
            except smalti.SmaltiError as exc:
                found.append(exc)
        blocks, kinds = archive.contents.index.blocks, archive.contents.index.kinds
        if len(archive) < 1 << 16 and all(np.prod(kinds[b.kind].shape) * b.images < MOST_SAMPLES for b in blocks):
            found.append(list(archive))
            archive[:]
        return found


def read_all(path: Path) -> str:
    """All of a file, however large; any error is raised."""
    with smalti.open(path) as archive:
        archive.contents.sets()
        said, _ = (archive.names, archive.labels, archive.metadata), archive.profiles
        images = list(archive)
        for image, again in zip(images, archive[:], strict=True):
            assert (image == again).all()
        return f"{len(images)} images, {said}"


def single(data: bytes) -> None:
    """A file of one image, which needs no checksum to be decoded."""
    if len(data) >= 16:
        form = 0x11 | data[4] & 0xE0
        read(b"\x89SML" + bytes([form]) + data[5:9] + smalti.load_model().id[:3] + data[12:])


def columns(data: bytes) -> None:
    """Names, labels, numbers, of what is deflated or not."""
    if len(data) < 3:
        return
    count = int.from_bytes(data[1:3], "little") % 300 if data[0] & 1 else MAX_SECTION_IMAGES
    told = deflate(data[3:]) if data[0] & 2 else data[3:]
    for unpack in (unpack_names, unpack_labels, lambda told, count: unpack_numbers(told, count, 100)):
        try:
            found = unpack(told, count)
        except smalti.SmaltiError:
            continue
        again = {unpack_names: pack_names, unpack_labels: pack_labels}.get(unpack, pack_numbers)
        if found and len({type(some) for some in found}) == 1:
            assert tuple(unpack(again(found), count)) == tuple(found)


def repair(data: bytes) -> None:
    """What is saved must be whole."""
    heads = [head for head, _ in scan(Memory(data)).blocks]
    if any(np.prod(head.kind.shape) * head.images > MOST_SAMPLES for head in heads):
        return
    with tempfile.TemporaryDirectory() as folder:
        path, target = Path(folder, "x.smalti"), Path(folder, "y.smalti")
        path.write_bytes(data)
        if data[4:5] == b"\1":
            smalti.verify(path)
        done = smalti.repair(path, target)
        assert smalti.verify(target) == [], done
        with smalti.open(target, model=None) as archive:
            assert len(archive) == done.images


def bundle(data: bytes) -> None:
    """A model from elsewhere, or the file of a network."""
    if data[:1] == b"P":
        model = parse_bundle(data, trusted=False)
        decode_block(b"\2\0\0", 2, (4, 4, 1), model)
        return
    with contextlib.suppress(ValueError, KeyError):  # as `parse_bundle`, which wraps them
        check_bounds(read_onnx(data))


def sources(data: bytes) -> None:
    """Files of images of other kinds; the first byte says which."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x" + SUFFIXES[data[0] % len(SUFFIXES)])
        path.write_bytes(data[1:])
        for convert in (True, False):
            with contextlib.suppress(SourceError) if convert else contextlib.nullcontext():
                for part in open_source(path, on_bad=lambda _: None, convert=convert).parts:
                    assert len(part)


def guarded(work):
    """The target, for which our errors are answers."""

    def one(data: bytes) -> None:
        if not data:
            return
        with contextlib.suppress(smalti.SmaltiError):
            work(data)

    return one


WORK = {work.__name__: guarded(work) for work in (read, single, columns, repair, bundle, sources)}
WORK["reader"] = WORK.pop("read")


def seeds(target: str) -> dict[str, bytes]:
    """Small files to start from."""
    match target:
        case "single":
            return {name: data for name, data in goldens().items() if name.startswith("single")}
        case "columns":
            return _columns()
        case "bundle":
            bundles = {"tiny": tiny_bundle(), "latents": tiny_bundle(latents=True)}
            return bundles | {"synthesis": tiny_synthesis(), "dequantiser": tiny_post_filter()}
        case "sources":
            return _sources()
    return {name: data for name, data in goldens().items() if not name.startswith("single") or target == "reader"}


def _columns() -> dict[str, bytes]:
    told = {
        "names": pack_names([f"a/{i // 3}/{i:04d}.png" for i in range(30)]),
        "texts": pack_names(["a", "ü", "x/y"] * 1 + [f"n{i}" for i in range(3)]),
        "labels": pack_labels([1, -2, 3]),
        "words": pack_labels(["cat", "", "dog"]),
        "lists": pack_labels([(1, 2), (), (3,)]),
        "numbers": pack_numbers([0, 1, 1, 0]),
    }
    counts = {"names": 30, "texts": 6, "labels": 3, "words": 3, "lists": 3, "numbers": 4}
    return {name: b"\3" + struct.pack("<H", counts[name]) + inflate(data) for name, data in told.items()}


def _sources() -> dict[str, bytes]:
    x = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    npy, npz, tar, zipped = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, x)
    np.savez_compressed(npz, images=x, labels=np.array([1, 2]), names=np.array(["a", "b"]))
    with tarfile.open(fileobj=tar, mode="w") as file:
        for name, data in (("1.png", png_bytes(x[0])), ("1.cls", b"7"), ("2.png", png_bytes(x[1])), ("2.cls", b"8")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", png_bytes(x[0]))
        file.writestr("metadata.jsonl", '{"file_name": "a.png", "label": 3}\n')
    idx = b"\0\0\x08\x03" + struct.pack(">3I", *x.shape) + x.tobytes()
    files = [idx, npz.getvalue(), npy.getvalue(), tar.getvalue(), zipped.getvalue(), gzip.compress(tar.getvalue())]
    return {f"{i}": bytes([i]) + data for i, data in enumerate(files)} | {"6": b"\0" + gzip.compress(idx)}
