# SPDX-License-Identifier: MIT
"""Models from elsewhere, which must not run before they are proven."""

import io
import struct
import zipfile

import numpy as np
from attacks import build
from attacks.attack import GRAY, RAW, attack, bundle, raw
from attacks.build import archive_of, block_of, bundle_of, onnx_bytes, onnx_node
from attacks.targets import read_all

from smalti.container import format as fmt

# Models from elsewhere


def embedded(data: bytes, model_id: bytes) -> bytes:
    """An archive that brings that bundle."""
    torn = archive_of(fmt.Kind(0, 1, 4, 4), 1, b"\2\0\0")
    torn.model_id, torn.models = model_id, [[model_id, data]]
    return torn.whole()


@attack(read_all, "CorruptError", "another one")
def model_of_another_id():
    """A bundle whose id is not the one that the index gives."""
    return embedded(build.tiny_bundle(), b"\1" * 8)


@attack(read_all, "ModelError", "damaged, or not one")
def model_of_garbage():
    """A model that is no bundle."""
    return embedded(b"PK\3\4" + bytes(200), b"\1" * 8)


@attack(read_all, "CorruptError", "does not start as one|not the one")
def model_that_is_a_block():
    """A model entry that points at a block."""
    torn = raw()
    torn.models[0][0] = torn.model_id = b"\1" * 8
    torn.blocks.append(block_of(GRAY, 1, RAW + bytes(20), first=1))
    entries = (fmt.BlockEntry(21, 59, 1, 0),)
    torn.index = {"models": (fmt.ModelEntry(b"\1" * 8, 80),), "blocks": entries}
    return torn.whole()


def changed(nodes: list[bytes], constants: dict[str, np.ndarray]) -> bytes:
    """A bundle with another synthesis."""
    network = onnx_bytes(nodes, constants | build.CLIP, {"v": ("r", 1), "anchors": ("n", 9)}, "pixels")
    return bundle_of(build.tiny_members(latents=True) | {"synthesis.onnx": network})


@attack(bundle, "ModelError", "no rule to prove Loop", "x.model")
def network_with_a_loop():
    """A network with a Loop."""
    return changed([onnx_node("Loop", ["v"], "pixels")], {})


@attack(bundle, "ModelError", "too large", "x.model")
def network_with_a_tile_of_10_9():
    """A network that tiles one latent 10^9 times."""
    return changed([onnx_node("Tile", ["v", "times"], "pixels")], {"times": np.array([1, 10**9])})


@attack(bundle, "ModelError", "too large", "x.model")
def network_that_grows_step_by_step():
    """A network whose every Resize makes its tensor 64 times as large."""
    nodes = [onnx_node("Reshape", ["v", "shape"], "t0")]
    for i in range(8):
        how = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest", "nearest_mode": "floor"}
        nodes.append(onnx_node("Resize", [f"t{i}", "", "by"], f"t{i + 1}", **how))
    return changed(nodes, {"shape": np.array([-1, 1, 1, 1]), "by": np.array([1, 1, 8, 8], np.float32)})


@attack(bundle, "ModelError", "beyond the 16777216", "x.model")
def network_beyond_the_accumulator():
    """A matrix whose sums could reach 2^25."""
    nodes = [onnx_node("MatMul", ["v", "w"], "pixels")]
    return changed(nodes, {"w": np.full((1, 16), 2.0**13, np.float32)})


@attack(bundle, "ModelError", "not finite|no integers", "x.model")
def network_of_nan():
    """A matrix of what is no number."""
    return changed([onnx_node("MatMul", ["v", "w"], "pixels")], {"w": np.full((1, 16), np.nan, np.float32)})


@attack(bundle, "ModelError", "", "x.model")
def network_with_a_constant_of_2_60():
    """A constant of 2^60 elements without any bytes."""
    members = build.tiny_members(latents=True)
    tensor = build.onnx_message((1, 1 << 30), (1, 1 << 30), (2, 1), (8, "w"), (9, b""))
    graph = build.onnx_message((2, "g"), (5, tensor))
    network = build.onnx_message((1, 8), (7, graph), (8, build.onnx_message((2, 17))))
    return bundle_of(members | {"synthesis.onnx": network})


@attack(bundle, "ModelError", "smalti never writes", "x.model")
def network_with_external_data():
    """A constant whose elements are in a file of the reader's machine."""
    members = build.tiny_members(latents=True)
    place = build.onnx_message((1, "location"), (2, "/etc/passwd"))
    tensor = build.onnx_message((1, 1), (2, 1), (8, "w"), (13, place), (14, 1))
    graph = build.onnx_message((2, "g"), (5, tensor))
    network = build.onnx_message((1, 8), (7, graph), (8, build.onnx_message((2, 17))))
    return bundle_of(members | {"synthesis.onnx": network})


@attack(bundle, "ModelError", "fields", "x.model")
def network_of_a_million_fields():
    """A network of 10^6 empty nodes."""
    graph = build.onnx_field(1, b"") * 1_000_000
    network = build.onnx_message((1, 8), (7, graph), (8, build.onnx_message((2, 17))))
    return bundle_of(build.tiny_members(latents=True) | {"synthesis.onnx": network})


@attack(bundle, "ModelError", "are allowed", "x.model")
def bundle_of_1_gib():
    """A bundle whose member inflates to 1 GiB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        with out.open("pixels.npz", "w", force_zip64=True) as member:
            for _ in range(64):
                member.write(bytes(1 << 24))
        out.writestr("manifest.json", "{}")
    return file.getvalue()


@attack(bundle, "ModelError", "too many members", "x.model")
def bundle_of_100000_members():
    """A bundle of 10^5 members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        for i in range(100_000):
            out.writestr(f"{i}", b"")
    return file.getvalue()


@attack(bundle, "ModelError", "", "x.model")
def bundle_that_claims_little():
    """A member that claims 10 bytes and inflates to 64 MiB."""
    data = bytearray(build.zip_bytes({"manifest.json": bytes(1 << 26)}))
    for mark, at in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        place = data.index(mark) + at
        data[place : place + 4] = struct.pack("<I", 10)
    return bytes(data)


@attack(bundle, "ModelError", "", "x.model")
def bundle_of_a_deep_manifest():
    """A manifest nested 10^5 levels deep."""
    return build.zip_bytes({"manifest.json": b"[" * 100_000 + b"]" * 100_000, **build.tiny_members()})


@attack(bundle, "ModelError", "images of shape", "x.model")
def bundle_of_images_of_10_9():
    """A manifest that is for images of 10^9 x 10^9."""
    return bundle_of(build.tiny_members(), decoder={"image_shape": [10**9, 10**9, 1], "cells": 1})


def _arrays(member: str, **arrays: np.ndarray) -> bytes:
    from smalti.model.npz import npz_bytes, read_npz

    members = build.tiny_members(latents=True)
    return bundle_of(members | {member: npz_bytes(read_npz(members[member]) | arrays)})


@attack(bundle, "ModelError", "", "x.model")
def bundle_of_steps_of_60_mib():
    """Steps of a million latents, in bytes that become 64-bit integers."""
    return _arrays("decoder.npz", steps=np.ones((65, 900_000), np.int8))


@attack(bundle, "ModelError", "beyond the 16777216", "x.model")
def bundle_of_a_layer_of_7000_squared():
    """A prior with a layer of 7000x7000, 47 MiB of bytes."""
    n = 7000
    arrays = {f"w{i}": np.ones(shape, np.int8) for i, shape in ((1, (n, 1)), (2, (n, n)), (3, (8, n)))}
    for i, outputs in ((1, n), (2, n), (3, 8)):
        arrays |= {f"b{i}": np.full(outputs, 1 << 23, np.int32), f"s{i}": np.zeros(outputs, np.uint8)}
        arrays |= {f"q{i}": np.zeros((9, outputs), np.int32)}
    arrays["b2"] = np.full(n, (1 << 24) - 1, np.int32)
    return _arrays("decoder.npz", **arrays)


@attack(bundle, "ModelError", "beyond the 16777216", "x.model")
def bundle_with_weights_beyond_the_accumulator():
    """A network for pixels whose bias lets a sum reach 2^24."""
    return _arrays("pixels.npz", b1=np.array([0, 1 << 24], np.int32))


@attack(bundle, "ModelError", "", "x.model")
def bundle_of_an_array_that_lies():
    """An array that claims 10^18 elements."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": (10**9, 10**9)})
    members = build.tiny_members() | {"pixels.npz": build.zip_bytes({"window.npy": file.getvalue()}, 0)}
    return bundle_of(members)
