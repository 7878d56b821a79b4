# SPDX-License-Identifier: MIT
"""Record the calls to the core: what it was given, and what it made of it, so that they can be replayed elsewhere.

It runs with the library of tracker.c in LD_PRELOAD, with PYTHONMALLOC=malloc, and in one thread. A trace is a file of
operations, which replay.c reads. All memory that a call may reach is a block of the trace: raw bytes, or an array of
structures, each of whose numbers and pointers is a cell of 16 bytes there (the number; or a block, and a place in it),
for other machines lay structures out in another way. Only what differs from what the trace already knows is written.
"""

import ctypes
import os
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from headers import Cell, Function, Headers, Struct

import smalti
from smalti.core import library
from smalti.demo.samples import draw_digits

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"

SCRATCH = "work"
"""The name of parameters that are working memory: nobody reads what a call leaves there."""
CODES = {"bool": "<B", "uint8_t": "<B", "int16_t": "<h", "uint16_t": "<H", "int32_t": "<i", "uint32_t": "<I"}
CODES |= {"int64_t": "<q", "uint64_t": "<Q", "float": "<f", "double": "<d"}
GAP = 32
"""Differences with fewer equal bytes between them are written as one."""


@dataclass
class Block:
    """Memory that calls reach."""

    number: int
    at: int
    size: int
    struct: Struct | None
    known: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.uint8))  # what the trace knows of it


class Recorder:
    """It stands before the library of the core, calls it, and writes a trace."""

    def __init__(self, core: ctypes.CDLL) -> None:
        """core: its library, whose functions have their types."""
        self._library, self._headers = core, Headers()
        self._order = {name: i for i, name in enumerate(self._headers.functions)}
        self._structs = {name: i for i, name in enumerate(self._headers.structs)}
        self._find = ctypes.CDLL(None).find_memory
        self._find.argtypes = (ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64), ctypes.POINTER(ctypes.c_uint64))

    def begin(self, trace: BinaryIO) -> None:
        """Write another trace from now on."""
        self._trace, self.calls, self._count = trace, 0, 0
        self._blocks = dict[tuple[int, int, str], Block]()

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._library, name)
        declared = self._headers.functions.get(name)
        if declared is None or {p.stars for p in declared.parameters} not in ({1}, {0, 1}):
            return function  # it takes no memory, or rows of pointers
        return lambda *values: self._call(function, declared, values)

    def _call(self, function: Any, declared: Function, values: Sequence[Any]) -> Any:
        reached, scratch, arguments = dict[int, Block](), list[Block](), list[tuple[int, int]]()
        for parameter, value in zip(declared.parameters, values, strict=True):
            if parameter.stars:
                where, known = _address(value)
                if parameter.name == SCRATCH:
                    block, place = self._block(where, None, 0)
                    scratch += [block] if block else []
                else:
                    block, place = self._reach(where, known, parameter.type, reached)
                arguments.append((block.number if block else 0, place))
            elif parameter.type == "double":
                arguments.append((struct.unpack("<Q", struct.pack("<d", value))[0], 0))
            else:
                arguments.append((int(value) & (2**64 - 1), 0))
        for block in scratch:
            reached.pop(block.number, None)
        for block in reached.values():
            self._write_changes(b"S", block)
        result = function(*values)
        self._trace.write(struct.pack("<cI", b"C", self._order[declared.name]))
        for pair in arguments:
            self._trace.write(struct.pack("<QQ", *pair))
        self._trace.write(struct.pack("<q", result or 0))
        for block in reached.values():
            self._write_changes(b"E", block)
        self._trace.write(struct.pack("<cI", b"K", len(reached)))
        for number in reached:
            self._trace.write(struct.pack("<I", number))
        self.calls += 1
        return result

    def _reach(self, where: int, known: int, kind: str, reached: dict[int, Block]) -> tuple[Block | None, int]:
        """Return the block at an address and the place in it, and add all blocks that can be reached from there."""
        if not where:
            return None, 0
        block, place = self._block(where, self._headers.structs.get(kind), known)
        if block and block.number not in reached:
            reached[block.number] = block
            if block.struct:
                data = ctypes.string_at(block.at, block.size)
                for start in range(0, block.size, block.struct.size):
                    for cell in block.struct.cells:
                        if cell.is_pointer:
                            self._reach(*_pointer(data, start + cell.offset), cell.type, reached)
        return block, place

    def _block(self, where: int, kind: Struct | None, known: int) -> tuple[Block | None, int]:
        """Return the block that holds an address, and the place in it; known: its bytes from there on, or 0."""
        at, size = where, known
        if kind is not None and not kind.has_pointers:
            kind = None
        if kind or not known:
            found, found_size = ctypes.c_uint64(), ctypes.c_uint64()
            if not known:
                if not self._find(where, found, found_size):  # a pointer that nobody follows, to memory that was freed
                    return None, 0
                at, size = found.value, found_size.value
            if kind:
                size = (at + size - where) // kind.size * kind.size
                at = where
        key = at, size, kind.name if kind else ""
        if key not in self._blocks:
            self._count += 1
            self._blocks[key] = Block(self._count, at, size, kind)
            count = size // kind.size if kind else size
            number = self._structs[kind.name] + 1 if kind else 0
            self._trace.write(struct.pack("<cIIQI", b"B", self._count, number, count, at % 64))
        return self._blocks[key], where - at

    def _write_changes(self, letter: bytes, block: Block) -> None:
        """Write how a block differs from what the trace knows of it."""
        data = ctypes.string_at(block.at, block.size)
        now = np.frombuffer(self._cells(block.struct, data) if block.struct else data, np.uint8)
        known = block.known if len(block.known) else np.zeros(len(now), np.uint8)
        places = np.flatnonzero(now != known)
        block.known = now
        if not len(places):
            return
        cuts = np.flatnonzero(np.diff(places) > GAP)
        starts, ends = places[np.r_[0, cuts + 1]], places[np.r_[cuts, len(places) - 1]] + 1
        if block.struct:
            starts, ends = starts // 16 * 16, -(-ends // 16) * 16
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            self._trace.write(struct.pack("<cIQQ", letter, block.number, start, end - start))
            self._trace.write(now[start:end].tobytes())

    def _cells(self, kind: Struct, data: bytes) -> bytes:
        """Return structures as cells."""
        cells = bytearray()
        for start in range(0, len(data), kind.size):
            for cell in kind.cells:
                cells += struct.pack("<QQ", *self._cell(cell, data, start + cell.offset))
        return bytes(cells)

    def _cell(self, cell: Cell, data: bytes, at: int) -> tuple[int, int]:
        if cell.is_pointer:
            where, _ = _pointer(data, at)
            if not where:
                return 0, 0
            block, place = self._block(where, self._headers.structs.get(cell.type), 0)
            return block.number if block else 0, place
        (value,) = struct.unpack_from(CODES[cell.type], data, at)
        if cell.type == "float":
            return struct.unpack("<I", struct.pack("<f", value))[0], 0
        if cell.type == "double":
            return struct.unpack("<Q", struct.pack("<d", value))[0], 0
        return value & (2**64 - 1), 0


def _pointer(data: bytes, at: int) -> tuple[int, int]:
    return struct.unpack_from("<Q", data, at)[0], 0


def _address(value: Any) -> tuple[int, int]:
    """Return the address of an argument, and how many bytes it has, or 0 if that is not known."""
    if value is None:
        return 0, 0
    if isinstance(value, int):
        return value, 0
    inner = getattr(value, "_obj", value)  # of ctypes.byref
    return ctypes.addressof(inner), ctypes.sizeof(inner)


def workloads(folder: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield what is recorded: each golden file is read, and a few images are packed in each way of coding."""
    for path in sorted(GOLDEN.glob("*.smalti")):
        yield path.stem, partial(read, path)
    digits, colours = draw_digits(5), np.repeat(draw_digits(3)[:, ::2, ::2, None], 3, 3) // np.uint8(3)
    for name, images, options in (
        ("pack-lossless", digits, {"max_error": 0}),
        ("pack-quality-50", digits, {"quality": 50}),
        ("pack-quality-15", digits, {"quality": 15}),
        ("pack-colours", colours, {"max_error": 0}),
        ("pack-colours-near", colours, {"max_error": 2}),
    ):
        yield name, partial(smalti.pack, images, Path(folder, "packed.smalti"), force=True, **options)


def read(path: Path) -> None:
    """Read a golden file, and hold its images against those that it must have."""
    with smalti.open(path) as archive, np.load(path.with_suffix(".npz")) as arrays:
        for image, right in zip(archive, [arrays[f"arr_{i}"] for i in range(len(arrays))], strict=True):
            assert (image == right).all(), path.name


def main(folder: Path, names: Sequence[str]) -> None:
    """Write a trace of each workload, or of those that have one of these names, to a folder."""
    found, reason = library._load()
    assert found is not None, reason
    os.cpu_count = lambda: 1  # one thread
    recorder = Recorder(found)
    library._load = lambda: (recorder, "")  # type: ignore[assignment, return-value]
    with tempfile.TemporaryDirectory() as temporary:
        for name, work in workloads(temporary):
            if not names or name in names:
                with (folder / f"{name}.trace").open("wb") as trace:
                    recorder.begin(trace)
                    work()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
