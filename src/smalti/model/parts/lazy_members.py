# SPDX-License-Identifier: MIT
"""Members of a bundle that are unpacked and checked only when they are needed."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from smalti.model.parts.packed_member import CHANGED, FORMS, PACKED, SHARED, changed_member, unpacked

Others = Callable[[str], bytes]
"""What returns the bundle of another built-in model by its name."""


class LazyMembers(Mapping[str, bytes]):
    """The members of a bundle that came with smalti, by their names. It unpacks a member when it is asked for."""

    def __init__(self, data: bytes, names: Iterable[str], others: Others) -> None:
        """data: the bundle; names: those of the members that it may have; others: gives bundles that share members."""
        self.digests: Mapping[str, str] = {}  # the SHA-256 of members in hexadecimal, as far as they are known
        self._data, self._others = data, others
        with zipfile.ZipFile(io.BytesIO(data)) as bundle:
            there = set(bundle.namelist())
        self._names = [name for name in names if any(name + form in there for form in ("", *FORMS))]

    def only(self, names: Iterable[str]) -> "LazyMembers":
        """Return the members of these names alone."""
        found = object.__new__(LazyMembers)
        found.digests, found._data, found._others = self.digests, self._data, self._others
        found._names = [name for name in names if name in self._names]
        return found

    def __getitem__(self, name: str) -> bytes:
        if name not in self._names:
            raise KeyError(name)
        data = _read(self._data, name, self._others)
        if name in self.digests and hashlib.sha256(data).hexdigest() != self.digests[name]:
            raise ValueError(f"the checksum of {name} is wrong")
        return data

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __or__(self, others: Mapping[str, bytes]) -> dict[str, bytes]:
        return dict(self) | dict(others)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return a dictionary of all members, as what is pickled."""
        return dict, (dict(self),)


def _read(bundle: bytes, name: str, others: Others) -> bytes:
    """Return a member of a bundle, which may be packed, or that of another bundle, or nearly so."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as file:  # not one for all: it has a lock, which a fork may copy
        there = set(file.namelist())
        if name in there:
            return file.read(name)
        if name + PACKED in there:
            return unpacked(file.read(name + PACKED))
        if name + CHANGED in there:
            other, _, arrays = file.read(name + CHANGED).partition(b"\n")
            return changed_member(_read(others(other.decode()), name, others), arrays)
        other = file.read(name + SHARED)
    return _read(others(other.decode()), name, others)
