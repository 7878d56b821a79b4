# SPDX-License-Identifier: MIT
"""Zip and npz files in memory: written to the same bytes each time, read without trust in their sizes."""

import io
import math
import zipfile
from collections.abc import Container, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 64 << 20
"""The most bytes that are read of a zip file, unpacked."""
MAX_MEMBERS = 64
_ENTRY = b"PK\1\2"
"""The bytes that begin each entry of the list of members."""
_BY_CHANCE = 256
"""Compressed data hold these bytes so often at most by chance; a list of millions of members is not read at all."""


def zip_bytes(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip file of these members, without the time of day."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as bundle:
        for member, data in members.items():
            bundle.writestr(zipfile.ZipInfo(member), data, method, 9)
    return file.getvalue()


def unzip(data: bytes, wanted: Container[str] | None = None) -> dict[str, bytes]:
    """Return the members of a zip file by their names; only those wanted, if `wanted` is given.

    Raises:
        ValueError: there are too many members, or two of one name; they are too large, or neither stored nor deflated.
    """
    if data.count(_ENTRY) > _BY_CHANCE:
        raise ValueError("the zip file has too many members")
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        there = file.infolist()
        if len(there) > MAX_MEMBERS or len({info.filename for info in there}) != len(there):
            raise ValueError(f"the zip file has more than {MAX_MEMBERS} members, or two of one name")
        there = [info for info in there if wanted is None or info.filename in wanted]
        if (size := sum(info.file_size for info in there)) > MAX_BYTES:
            raise ValueError(f"the zip file has members of {size} bytes; {MAX_BYTES} are allowed")
        members = {}
        for info in there:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{info.filename} is neither stored nor deflated")
            with file.open(info) as member:
                members[info.filename] = member.read()  # no more than it claims
    return members


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return an npz file of these arrays, as `numpy.savez` writes it."""
    members = {}
    for name, array in arrays.items():
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        members[f"{name}.npy"] = file.getvalue()
    return zip_bytes(members, zipfile.ZIP_STORED)


def read_npz(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file by their names.

    Raises:
        ValueError: `unzip` refuses the file, or an array claims another size than it has.
    """
    arrays = {}
    for name, member in unzip(data).items():
        file = io.BytesIO(member)
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} is no array of a known version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(member) - file.tell():
            raise ValueError(f"{name} claims to be of shape {shape}, but has {len(member)} bytes")
        arrays[name.removesuffix(".npy")] = np.load(io.BytesIO(member), allow_pickle=False)
    return arrays
