# SPDX-License-Identifier: MIT
"""Files that lie, with right checksums: taken apart, changed, put together and sealed again."""

import hashlib
import io
import json
import tempfile
import zlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

import smalti
from smalti.container import format as fmt
from smalti.container import index as idx
from smalti.container.archive_reader import ArchiveReader
from smalti.demo.samples import draw_digits
from smalti.model.bundle import parse_bundle
from smalti.model.npz import npz_bytes, zip_bytes
from smalti.util import binary
from smalti.util.storage import Memory

MARKS = (fmt.BLOCK_MARK, fmt.MODEL_MARK, fmt.SECTION_MARK)


def deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-15)
    return deflater.compress(data) + deflater.flush()


def inflate(data: bytes, most: int = 1 << 16) -> bytes:
    return zlib.decompressobj(-15).decompress(data, most)


def deflated_zeros(pieces: int) -> bytes:
    """So many times 16 MiB of zeros; only one of them is deflated, for they do not refer to each other."""
    deflater = zlib.compressobj(9, wbits=-15)
    piece = deflater.compress(bytes(1 << 24)) + deflater.flush(zlib.Z_FULL_FLUSH)
    return piece * pieces + zlib.compressobj(9, wbits=-15).flush()


def onnx_field(number: int, value: int | bytes) -> bytes:
    """A field of a protobuf message."""
    if isinstance(value, int):
        return binary.varint(number << 3) + binary.varint(value & (1 << 64) - 1)
    return binary.varint(number << 3 | 2) + binary.varint(len(value)) + value


def onnx_message(*fields: tuple[int, int | bytes | str]) -> bytes:
    """A protobuf message."""
    return b"".join(onnx_field(n, value.encode() if isinstance(value, str) else value) for n, value in fields)


def onnx_node(kind: str, inputs: list[str], output: str, **attributes: int | str | list[int]) -> bytes:
    """An operator."""
    fields = [(1, name) for name in inputs] + [(2, output), (4, kind)]
    for name, value in attributes.items():
        told = [(8, n) for n in value] if isinstance(value, list) else [(4 if isinstance(value, str) else 3, value)]
        code = 7 if isinstance(value, list) else 3 if isinstance(value, str) else 2
        fields.append((5, onnx_message((1, name), *told, (20, code))))
    return onnx_message(*fields)


def onnx_bytes(
    nodes: list[bytes], constants: dict[str, np.ndarray], inputs: dict[str, tuple[int | str, ...]], output: str
) -> bytes:
    """A network, as ONNX."""

    def port(name: str, dims: tuple[int | str, ...]) -> bytes:
        shape = onnx_message(*((1, onnx_message((2 if isinstance(dim, str) else 1, dim))) for dim in dims))
        return onnx_message((1, name), (2, onnx_message((1, onnx_message((1, 1), (2, shape))))))

    def constant(name: str, values: np.ndarray) -> bytes:
        kind = 7 if values.dtype == np.int64 else 1
        return onnx_message(*((1, n) for n in values.shape), (2, kind), (8, name), (9, values.tobytes()))

    graph = [(1, node) for node in nodes] + [(2, "g")] + [(5, constant(*some)) for some in constants.items()]
    graph += [(11, port(*some)) for some in inputs.items()] + [(12, port(output, ("n",)))]
    return onnx_message((1, 8), (7, onnx_message(*graph)), (8, onnx_message((2, 17))))


CLIP = {"low": np.float32(0).reshape(()), "high": np.float32(255).reshape(())}


@cache
def tiny_synthesis() -> bytes:
    """From one latent to 4x4 pixels."""
    nodes = [
        onnx_node("MatMul", ["v", "w"], "many"),
        onnx_node("Reshape", ["many", "shape"], "square"),
        onnx_node("Clip", ["square", "low", "high"], "pixels"),
    ]
    constants = {"w": np.arange(16, dtype=np.float32)[None], "shape": np.array([-1, 1, 4, 4]), **CLIP}
    return onnx_bytes(nodes, constants, {"v": ("r", 1), "anchors": ("n", 9)}, "pixels")


@cache
def tiny_post_filter() -> bytes:
    """That corrects nothing."""
    zero = {"zero": np.float32(0).reshape(()), "w": np.zeros((4, 4, 1, 1), np.float32)}
    nodes = [onnx_node("Conv", ["x", "w"], "y", pads=[0] * 4)]
    return onnx_bytes(nodes, {"w": zero["w"]}, {"x": ("n", 4, "h", "w"), "errors": ("n",)}, "y")


LOGISTICS = {
    "cdf": np.repeat(np.arange(13, dtype=np.int32) * 5000, [1, *[1024] * 12]),
    "weights": np.full(385, 2048, np.int32),
    "inverse": np.full(112, 1 << 20, np.int32),
}


@cache
def tiny_members(*, latents: bool = False) -> dict[str, bytes]:
    """The members of a bundle made by hand, but its manifest: it codes gray images by pixels, and 4x4 by latents."""
    layers = {"w1": [[4, 0], [0, 4]], "b1": [0, 0], "s1": [0, 0], "w2": [[4, 0], [0, 0]], "b2": [0, 60], "s2": [0, 0]}
    types = {"w": np.int16, "b": np.int32, "s": np.uint8}
    arrays = {"window": np.array([1, 1, 0, 1], np.int16)}  # channels, above, reach, left
    arrays |= {name: np.array(values, types[name[0]]) for name, values in layers.items()}
    arrays |= {name: np.zeros((n, 2), np.int32) for name, n in (("rows", 64), ("columns", 64), ("errors", 127))}
    members = {"pixels.npz": npz_bytes(arrays | LOGISTICS)}
    if latents:
        grid = {"steps": np.full((65, 1), 2), "low": np.full((65, 1), -3), "high": np.full((65, 1), 4)}
        mlp = {}
        for i, n in ((1, 1), (2, 1), (3, 8)):
            mlp |= {f"w{i}": np.ones((n, 1), np.int8), f"b{i}": np.zeros(n, np.int32), f"s{i}": np.zeros(n, np.uint8)}
            mlp |= {f"q{i}": np.zeros((9, n), np.int32)}
        grid = {name: values.astype(np.int16) for name, values in grid.items()}
        members |= {"decoder.npz": npz_bytes(grid | mlp | LOGISTICS)}
        members |= {"synthesis.onnx": tiny_synthesis(), "dequantiser.onnx": tiny_post_filter()}
    return members


def bundle_of(members: dict[str, bytes], **manifest: object) -> bytes:
    """A bundle of those members; `manifest` replaces what is right."""
    point = {"setting": 0, "bytes": 9.0, "psnr": 50.0}
    ways = [point | {"pixels": True}] + ([point | {"pixels": False}] if "synthesis.onnx" in members else [])
    told = {
        "smalti_model": 2,
        "name": "tiny",
        "decoder": {"image_shape": [4, 4, 1], "cells": 1},
        "multipliers": [1.0] * 65,
        "measured": ways,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
        "training": {},
    }
    return zip_bytes({"manifest.json": json.dumps(told | manifest).encode()} | members)


@cache
def tiny_bundle(*, latents: bool = False) -> bytes:
    """A model in a few hundred bytes, made by hand."""
    return bundle_of(tiny_members(latents=latents))


@cache
def tiny_model(*, latents: bool = False) -> smalti.Model:
    """That one."""
    return parse_bundle(tiny_bundle(latents=latents), trusted=False)


@dataclass
class Torn:
    """An archive in its parts; `whole` puts it together with right sizes, places and checksums."""

    model_id: bytes
    models: list[list]  # id, bundle or None
    kinds: list[fmt.Kind]
    blocks: list[dict]  # head, payload (None: carried), size if carried
    sections: list[dict]  # code, first, count, data
    index: dict = field(default_factory=dict)  # fields of the index to put in the place of the right ones
    end: int = 0

    @classmethod
    def of(cls, data: bytes) -> "Torn":
        reader = ArchiveReader(Memory(data))
        index = reader.index
        blocks = []
        for i, entry in enumerate(index.blocks):
            if entry.offset:
                head, payload = reader.block(i)
                blocks.append({"head": head, "payload": payload, "kind": entry.kind, "images": entry.images})
            else:
                blocks.append({"payload": None, "size": entry.size, "kind": entry.kind, "images": entry.images})
        sections = []
        for entry in index.sections:
            code, first, count, told = fmt.unpack_section(data[entry.offset : entry.offset + entry.size])
            sections.append({"code": code, "first": first, "count": count, "data": told})
        models = [[entry.id, reader.model(i)] for i, entry in enumerate(index.models)]
        return cls(reader.model_id, models, list(index.kinds), blocks, sections)

    def whole(self) -> bytes:
        file = io.BytesIO()
        file.write(fmt.pack_header(self.model_id, self.end))

        def put(record: bytes) -> tuple[int, int]:
            at = file.tell()
            file.write(record)
            return at, len(record)

        models, blocks, sections = [], [], []
        for number, (model_id, bundle) in enumerate(self.models):
            at = 0 if bundle is None else put(fmt.pack_model(number, bundle))[0]
            models.append(fmt.ModelEntry(model_id, at))
        for block in self.blocks:
            if block["payload"] is None:
                blocks.append(fmt.BlockEntry(0, block["size"], block["images"], block["kind"]))
            else:
                place = put(fmt.pack_block(block["head"], block["payload"]))
                blocks.append(fmt.BlockEntry(*place, block["images"], block["kind"]))
        for told in self.sections:
            place = put(fmt.pack_section(told["code"], told["first"], told["count"], told["data"]))
            sections.append(fmt.SectionEntry(told["code"], *place, told["count"]))
        parts = {"models": models, "kinds": self.kinds, "blocks": blocks, "sections": sections} | self.index
        file.write(
            idx.pack_index(idx.Index(*(tuple(parts[name]) for name in ("models", "kinds", "blocks", "sections"))))
        )
        return file.getvalue()

    def section(self, code: int) -> dict:
        """The first of that code."""
        return next(told for told in self.sections if told["code"] == code)

    def say(self, code: int, count: int, data: bytes) -> "Torn":
        """One section of that code, whatever was there; `data` are deflated."""
        self.sections = [told for told in self.sections if told["code"] != code]
        self.sections.append({"code": code, "first": 0, "count": count, "data": deflate(data)})
        return self


def block_of(
    kind: fmt.Kind, images: int, payload: bytes, number: int = 0, first: int = 0, pixels: bytes = bytes(8)
) -> dict:
    head = fmt.BlockHead(kind, number, images, first, pixels)
    return {"head": head, "payload": payload, "kind": number, "images": images}


def archive_of(kind: fmt.Kind, images: int, payload: bytes, blocks: int = 1) -> Torn:
    """An archive of the built-in model with such blocks."""
    several = [block_of(kind, images, payload, first=i * images) for i in range(blocks)]
    model_id = smalti.load_model().id
    return Torn(model_id, [[model_id, None]], [kind], several, [])


def reseal(data: bytes) -> bytes:
    """The same bytes with right checksums, wherever a record, an index or a header can be made out."""
    found = bytearray(data)
    if len(found) < fmt.HEADER.size or not found.startswith(fmt.MAGIC) or found[4] & fmt.SINGLE_FLAG:
        return data
    if int.from_bytes(found[5:11], "little") > len(found):
        found[5:11] = bytes(6)
    found[11:13] = binary.hash64(bytes(found[5:11]))[:2]
    layouts = {fmt.BLOCK_MARK: (fmt.BLOCK, 1), fmt.MODEL_MARK: (fmt.MODEL, 2), fmt.SECTION_MARK: (fmt.SECTION, 4)}
    for mark, (layout, place) in layouts.items():
        at = found.find(mark)
        while at >= 0:
            if at + layout.size <= len(found):
                size = int(layout.unpack_from(found, at)[place])
                start, check = at + layout.size, at + layout.size - binary.HASH_BYTES
                if start + size <= len(found):
                    found[check:start] = binary.hash64(bytes(found[at:check]), bytes(found[start : start + size]))
            at = found.find(mark, at + 1)
    end = int.from_bytes(found[5:11], "little") or len(found)
    start = found.rfind(fmt.INDEX_MARK, 0, end)
    if start >= 0 and end - fmt.TRAILER.size - start >= fmt.INDEX.size:
        body = bytes(found[start : end - fmt.TRAILER.size])
        found[end - fmt.TRAILER.size : end] = fmt.TRAILER.pack(len(body), binary.hash64(body), fmt.END_MAGIC)
    return bytes(found)


def packed(source, **how) -> bytes:
    file = io.BytesIO()
    smalti.pack(source, file, **how)
    return file.getvalue()


@cache
def goldens() -> dict[str, bytes]:
    """Small files of every feature."""
    digits = draw_digits(12, seed=3)
    noise = np.random.default_rng(1)
    shapes = [(5, 4), (3, 3, 3), (5, 4), (2, 2, 4), (5, 4), (3, 3, 3)]
    mixed = [noise.integers(0, 256, shape, dtype=np.uint8) // 20 for shape in shapes]
    names = tuple(f"a/{i:03d}.png" for i in range(6))
    parts = [smalti.ImageSet(x[None], (name,), (i % 3,)) for i, (x, name) in enumerate(zip(mixed, names, strict=True))]
    several = smalti.Source(parts, 6, named=True, labelled=True)
    unlike = digits[:3].copy()
    unlike[1] = noise.integers(0, 256, unlike[1].shape)
    words = smalti.ImageSet(digits[:2], ("ü.png", "Ω"), ("cat", "dog"))
    lists = smalti.ImageSet(digits[2:4], ("1", "2"), ((1, 2), ()))
    tiny, tinies = tiny_model(), noise.integers(0, 3, (2, 4, 4), dtype=np.uint8)
    small = noise.integers(0, 256, (200, 3, 3), dtype=np.uint8)
    made = {
        "latents": packed(digits[:2], quality=10, effort=1),
        "pixels": packed(digits[:2], quality=60),
        "lossless": packed(digits[:2], max_error=0),
        "fallback": packed(unlike, min_psnr=30, effort=1),
        "plain": packed(mixed[0][None].repeat(2, 0), model="mnist-autoencoder", quality=50),
        "mixed": packed(several, max_error=0, packing=smalti.Packing(2, metadata={"from": "noise", "n": [1, None]})),
        "words": packed(words, quality=10, effort=1),
        "lists": packed(lists, quality=10, effort=1),
        "embedded": packed(tinies, model=tiny, max_error=0, packing=smalti.Packing(embed=True)),
        "unordered": packed(small, max_error=0, packing=smalti.Packing(20, unordered=True)),
        "single": smalti.encode(digits[0], quality=10, effort=1),
        "single-lossless": smalti.encode(mixed[1], max_error=0),
        "single-named": packed(smalti.ImageSet(digits[:1], ("x.png",)), quality=10, effort=1),
    }
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder, "one.smalti"), Path(folder, "two.smalti")
        one.write_bytes(made["latents"])
        smalti.append(one, mixed[1][None], max_error=0)
        made["appended"] = one.read_bytes()
        two.write_bytes(made["embedded"])
        smalti.merge([one, two], Path(folder, "merged.smalti"))
        made["merged"] = Path(folder, "merged.smalti").read_bytes()
    return made
