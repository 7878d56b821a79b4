# SPDX-License-Identifier: MIT
"""Zip files and npz files: the same bytes for the same contents, and read without trust in what they claim."""

import io
import math
import zipfile
from collections.abc import Container, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 64 << 20
"""Of all that is read of a zip file, unpacked."""
MAX_MEMBERS = 64
_ENTRY = b"PK\1\2"
"""Begins each entry of the list of members."""
_BY_CHANCE = 256
"""More of these beginnings than this are no chance; a list of millions of members is not read at all."""


def zip_bytes(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file without the time of day."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as bundle:
        for member, data in members.items():
            bundle.writestr(zipfile.ZipInfo(member), data, method, 9)
    return file.getvalue()


def unzip(data: bytes, wanted: Container[str] | None = None) -> dict[str, bytes]:
    """The members of a zip file, those wanted.

    Raises:
        ValueError: there are too many, two of a name, they are too large, or packed in a rare way.
    """
    if data.count(_ENTRY) > _BY_CHANCE:
        raise ValueError("too many members")
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        there = file.infolist()
        if len(there) > MAX_MEMBERS or len({info.filename for info in there}) != len(there):
            raise ValueError(f"more than {MAX_MEMBERS} members, or two of one name")
        there = [info for info in there if wanted is None or info.filename in wanted]
        if (size := sum(info.file_size for info in there)) > MAX_BYTES:
            raise ValueError(f"members of {size} bytes; {MAX_BYTES} are allowed")
        members = {}
        for info in there:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{info.filename} is neither stored nor deflated")
            with file.open(info) as member:
                members[info.filename] = member.read()  # no more than it claims
    return members


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """As `numpy.savez`."""
    members = {}
    for name, array in arrays.items():
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        members[f"{name}.npy"] = file.getvalue()
    return zip_bytes(members, zipfile.ZIP_STORED)


def read_npz(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file.

    Raises:
        ValueError: as of `unzip`, or an array claims more than there is.
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
