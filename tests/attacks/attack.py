# SPDX-License-Identifier: MIT
"""What an attack is, and what many of them are made with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from attacks.build import Torn, archive_of

import smalti
from smalti.container import format as fmt
from smalti.exchange.sources import open_source
from smalti.model.bundle import parse_bundle
from smalti.util import binary

GRAY = fmt.Kind(0, 1, 5, 4)
RAW = b"\xff"


@dataclass(frozen=True)
class Attack:
    """How a file is made, what is done with it, and what smalti must answer."""

    name: str
    idea: str
    make: Callable[[Path], Path]
    work: Callable[[Path], object]
    error: str  # name of the error; "": it is read as it should be
    words: str  # in its message


OF_MODULE: dict[str, list[Attack]] = {}
"""Attacks of each module that makes some, in its order."""


def unpack(path: Path) -> object:
    """To a folder that may be there."""
    target = path.parent / "out"
    done = smalti.unpack(path, target, force=True)
    climbed = [p for p in path.parent.parent.rglob("*climbed*") if target.name not in (q.name for q in p.parents)]
    assert not climbed, climbed
    return done


def unpack_tar(path: Path) -> object:
    return smalti.unpack(path, path.parent / "out.tar")


def one_by_one(path: Path) -> object:
    """Read each image without its neighbours."""
    found = []
    for i in range(len(smalti.open(path))):
        with smalti.open(path) as archive:
            found.append(archive[i])
    return found


def repair(path: Path) -> object:
    done = smalti.repair(path, path.parent / "saved.smalti")
    assert smalti.verify(path.parent / "saved.smalti") == []
    return done


def bundle(path: Path) -> object:
    return parse_bundle(path.read_bytes(), trusted=False)


def source(path: Path) -> object:
    return sum(len(part) for part in open_source(path).parts)


def convert(path: Path) -> object:
    return sum(len(part) for part in open_source(path, convert=True).parts)


def attack(work: Callable[[Path], object], error: str, words: str = "", name: str = "x.smalti"):
    """Register what a function makes: bytes (to be a file of that name), or the path of what it has made itself."""

    def register(make):
        def made(folder: Path) -> Path:
            found = make(folder) if make.__code__.co_argcount else make()
            if isinstance(found, Path):
                return found
            (folder / name).write_bytes(found)
            return folder / name

        idea = (make.__doc__ or "").rstrip(".")
        OF_MODULE.setdefault(make.__module__, []).append(Attack(make.__name__, idea, made, work, error, words))
        return make

    return register


def raw(images: int = 1) -> Torn:
    """An honest archive of raw 5x4 images."""
    pixels = np.arange(images * 20, dtype=np.uint8)
    torn = archive_of(GRAY, images, RAW + pixels.tobytes())
    head = torn.blocks[0]["head"]
    torn.blocks[0]["head"] = head._replace(pixels=binary.hash64(pixels.tobytes()))
    return torn


def ending(body: bytes, head: bytes | None = None) -> bytes:
    """An archive whose index has these bytes."""
    head = fmt.pack_header(smalti.load_model().id) if head is None else head
    return head + body + fmt.TRAILER.pack(len(body), binary.hash64(body), fmt.END_MAGIC)
