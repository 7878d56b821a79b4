# SPDX-License-Identifier: MIT
"""Read the ONNX files that smalti writes, without the onnx package, into a graph of plain Python and numpy.

An ONNX file is a protobuf message (https://protobuf.dev/programming-guides/encoding, and onnx.proto3 of ONNX 1.12).
What is proven here must be what other readers of ONNX, such as onnxruntime, would run. So this reader knows only the
fields that smalti writes, and refuses all others, and fields that come twice, which another reader could understand
differently. It allocates no more memory than the bytes of the file justify.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET, IR_VERSION = 17, 8
"""The versions of every file; they are old enough for every onnxruntime that smalti can be installed with."""
MAX_NODES = MAX_CONSTANTS = 512
MAX_FIELDS = 1 << 17
"""The most fields and integers of a file, without raw data; the largest file that training writes has a tenth."""
MAX_RANK = 8
FLOAT, INT64 = 1, 7
"""The types of elements, as ONNX numbers them."""
_DTYPES = {FLOAT: "<f4", 3: "<i1", 5: "<i2", INT64: "<i8", 10: "<f2"}
_TYPED = {FLOAT: 4, 3: 5, 5: 5, INT64: 7, 10: 5}
"""The number of the field that holds the elements of a constant without raw data, by their type."""

Attribute = int | float | str | tuple[int, ...]
Fields = dict[int, list[Any]]
_VARINT, _BYTES, _FIXED32 = 0, 2, 5
"""The wire types of protobuf fields."""


@dataclass(frozen=True)
class Node:
    """An operator of a graph, with the names of the tensors that it takes and gives."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as it was read; all of its inputs and outputs are float32."""

    inputs: Mapping[str, tuple[int | str, ...]]  # name to dimensions; those with a name are free
    outputs: tuple[str, ...]
    constants: Mapping[str, NDArray[Any]]
    nodes: tuple[Node, ...]  # in the order in which they run


def read_onnx(data: bytes) -> Graph:
    """Return the graph of an ONNX file.

    Raises:
        ValueError: it is no ONNX file, or has parts that smalti never writes.
    """
    reader = _Reader()
    model = reader.message(memoryview(data), "model", {1: "v", 7: "b", 8: "B"})
    version = _one(model, 1, "version")
    opsets = [reader.message(opset, "operator set", {1: "b", 2: "v"}) for opset in model.get(8, [])]
    known = [(_text(opset.get(1, [b""])[0]), opset.get(2)) for opset in opsets]
    if version != IR_VERSION or known != [("", [OPSET])]:
        raise ValueError(
            f"a network is of ONNX version {version} with operators {known}; needed are {IR_VERSION} and {OPSET}"
        )
    graph = reader.message(_one(model, 7, "graph"), "graph", {1: "B", 2: "b", 5: "B", 11: "B", 12: "B"})
    if len(graph.get(1, [])) > MAX_NODES or len(graph.get(5, [])) > MAX_CONSTANTS:
        raise ValueError(f"a network has more than {MAX_NODES} operators or {MAX_CONSTANTS} constants")
    nodes = tuple(reader.node(node) for node in graph.get(1, []))
    constants = [reader.constant(tensor) for tensor in graph.get(5, [])]
    inputs, outputs = ([reader.port(port) for port in graph.get(i, [])] for i in (11, 12))
    result = Graph(dict(inputs), tuple(name for name, _ in outputs), dict(constants), nodes)
    names = [name for name, _ in inputs + constants]
    if len(set(names)) != len(names) or "" in names:
        raise ValueError("a network has two tensors of one name, or one without a name")
    return result


class _Reader:
    """A reader of protobuf messages, which reads at most MAX_FIELDS fields in all."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def message(self, data: memoryview, what: str, known: Mapping[int, str]) -> Fields:
        """Return the fields of a message by their numbers.

        what: the name of the message, for errors.
        known: the kinds of fields by their numbers: v for an integer, f for a float, b for bytes; a capital letter for
            a field that may come more than once.
        """
        fields: Fields = {}
        at = 0
        while at < len(data):
            tag, at = self._varint(data, at)
            number, wire = tag >> 3, tag & 7
            kind = known.get(number)
            if kind is None:
                raise ValueError(f"smalti never writes a field of number {number} in a {what} of a network")
            values: list[Any] = []
            if wire == _VARINT and kind in "vV":
                value, at = self._varint(data, at)
                values = [value]
            elif (wire == _FIXED32 and kind in "fF") or (wire == _BYTES and kind in "bBVF"):
                size, at = (4, at) if wire == _FIXED32 else self._varint(data, at)
                if size > len(data) - at:
                    raise ValueError(f"a {what} of a network is cut off")
                values = self._packed(data[at : at + size], kind)
                at += size
            else:
                raise ValueError(f"field {number} of a {what} of a network is of another kind")
            if number in fields and kind in "vfb":
                raise ValueError(f"field {number} of a {what} of a network comes twice")
            fields.setdefault(number, []).extend(values)
        return fields

    def _varint(self, data: memoryview, at: int) -> tuple[int, int]:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"a network has more than {MAX_FIELDS} fields")
        value = 0
        for i, byte in enumerate(data[at : at + 10]):
            value |= (byte & 127) << 7 * i
            if byte < 128 and value < 1 << 64:
                return value, at + i + 1
        raise ValueError("an integer of a network is cut off, or too large")

    def _packed(self, data: memoryview, kind: str) -> list[Any]:
        if kind != "V":
            return [data]
        values, at = [], 0
        while at < len(data):
            value, at = self._varint(data, at)
            values.append(value)
        return values

    def node(self, data: memoryview) -> Node:
        """Return the operator that a message describes."""
        fields = self.message(data, "node", {1: "B", 2: "B", 3: "b", 4: "b", 5: "B", 7: "b"})
        if _text(fields.get(7, [b""])[0]):
            raise ValueError("a network has operators of another domain")
        inputs, outputs = (tuple(_text(name) for name in fields.get(i, [])) for i in (1, 2))
        attributes = [self._attribute(attribute) for attribute in fields.get(5, [])]
        if len(dict(attributes)) != len(attributes):
            raise ValueError("an operator of a network has two attributes of one name")
        return Node(_text(_one(fields, 4, "operator")), inputs, outputs, dict(attributes))

    def _attribute(self, data: memoryview) -> tuple[str, Attribute]:
        fields = self.message(data, "attribute", {1: "b", 2: "f", 3: "v", 4: "b", 8: "V", 20: "v"})
        name = _text(_one(fields, 1, "name"))
        match _one(fields, 20, "type"), [number for number in fields if number not in (1, 20)]:
            case 1, [2]:
                return name, float(struct.unpack("<f", fields[2][0])[0])
            case 2, [3]:
                return name, _signed(fields[3][0])
            case 3, [4]:
                return name, _text(fields[4][0])
            case 7, [8] | []:
                return name, tuple(_signed(value) for value in fields.get(8, []))
        raise ValueError(f"attribute {name!r} of a network is not one number, text or row of integers")

    def port(self, data: memoryview) -> tuple[str, tuple[int | str, ...]]:
        """Return the name and the dimensions of an input or output."""
        fields = self.message(data, "input or output", {1: "b", 2: "b"})
        kind = self.message(_one(fields, 2, "type"), "type", {1: "b"})
        tensor = self.message(_one(kind, 1, "tensor type"), "tensor type", {1: "v", 2: "b"})
        shape = self.message(_one(tensor, 2, "shape"), "shape", {1: "B"}).get(1, [])
        if _one(tensor, 1, "type of elements") != FLOAT or len(shape) > MAX_RANK:
            raise ValueError(f"an input or output of a network is not float32, or has more than {MAX_RANK} dimensions")
        dims: list[int | str] = []
        for dim in shape:
            found = self.message(dim, "dimension", {1: "v", 2: "b"})
            if len(found) != 1:
                raise ValueError("a dimension of a network is not one number or one name")
            dims.append(_signed(found[1][0]) if 1 in found else _text(found[2][0]))
        return _text(_one(fields, 1, "name")), tuple(dims)

    def constant(self, data: memoryview) -> tuple[str, NDArray[Any]]:
        """Return the name and the values of a constant."""
        fields = self.message(data, "constant", {1: "V", 2: "v", 4: "F", 5: "V", 7: "V", 8: "b", 9: "b"})
        name, kind, dims = _text(_one(fields, 8, "name")), _one(fields, 2, "type"), fields.get(1, [])
        contents = [number for number in (4, 5, 7, 9) if number in fields]
        if kind not in _DTYPES or contents not in ([9], [_TYPED[kind]]):
            raise ValueError(f"constant {name!r} of a network is of no known type")
        if len(dims) > MAX_RANK or not math.prod(dims):
            raise ValueError(f"constant {name!r} of a network is empty, or of more than {MAX_RANK} dimensions")
        raw, dtype = b"".join(fields.get(9, fields.get(4, []))), np.dtype(_DTYPES[kind])
        if contents in ([5], [7]):
            whole, bits = [_signed(value) for value in fields[contents[0]]], 8 * dtype.itemsize
            low, high = (0, 1 << bits) if dtype.kind == "f" else (-1 << bits - 1, 1 << bits - 1)
            if not all(low <= value < high for value in whole):
                raise ValueError(f"constant {name!r} of a network has numbers out of range")
            raw = b"".join(value.to_bytes(dtype.itemsize, "little", signed=low < 0) for value in whole)
        if len(raw) != math.prod(dims) * dtype.itemsize:
            raise ValueError(f"constant {name!r} of a network has {len(raw)} bytes for {dims} elements")
        return name, np.frombuffer(raw, dtype).reshape(dims)


def _one(fields: Fields, number: int, what: str) -> Any:
    if number not in fields:
        raise ValueError(f"a network lacks a {what}")
    return fields[number][0]


def _text(data: memoryview | bytes) -> str:
    return str(data, "utf-8")  # a UnicodeDecodeError is a ValueError


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
