# SPDX-License-Identifier: MIT
"""What the headers of the core say: its structures, laid out as this machine does, and its functions."""

import re
from dataclasses import dataclass
from pathlib import Path

CORE = Path(__file__).parents[1] / "core"
SIZES = {"bool": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2, "int32_t": 4, "uint32_t": 4, "float": 4}
SIZES |= {"int64_t": 8, "uint64_t": 8, "double": 8}
POINTER = 8


@dataclass(frozen=True)
class Cell:
    """A number or a pointer in a structure: where it is, how it is reached in C, and its type."""

    offset: int
    path: str
    type: str
    is_pointer: bool

    @property
    def size(self) -> int:
        """Return its bytes."""
        return POINTER if self.is_pointer else SIZES[self.type]


@dataclass(frozen=True)
class Struct:
    """A structure: its cells in order, and its bytes."""

    name: str
    cells: tuple[Cell, ...]
    size: int
    alignment: int

    @property
    def has_pointers(self) -> bool:
        """Tell whether there is any pointer in it."""
        return any(cell.is_pointer for cell in self.cells)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function."""

    name: str
    type: str
    stars: int  # 1 for a pointer, 2 for a pointer to pointers


@dataclass(frozen=True)
class Function:
    """A function of the core."""

    name: str
    result: str
    parameters: tuple[Parameter, ...]


class Headers:
    """All structures and functions that the headers of the core declare."""

    def __init__(self) -> None:
        """Read the headers.

        Raises:
            ValueError: something in them is not understood.
        """
        self.names = [path.name for path in sorted(CORE.glob("*.h")) if "SMALTI_API" in path.read_text()]
        self.names.sort(key=lambda name: name != "smalti.h")  # the others build on it
        text = "\n".join((CORE / name).read_text() for name in self.names)
        text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
        self._numbers = dict[str, int]()
        for body in re.findall(r"\benum\s*\w*\s*\{(.*?)\}", text, re.DOTALL):
            self._add_enum(body)
        self.structs = dict[str, Struct]()
        for body, name in re.findall(r"typedef struct \{(.*?)\}\s*(\w+);", text, re.DOTALL):
            if "(*" not in body:  # one of functions is for the core alone
                self.structs[name] = self._struct(name, body)
        prototypes = re.findall(r"^SMALTI_API\s+([\w\s]+?\*?)\s*(\w+)\(([^)]*)\);", text, re.MULTILINE)
        self.functions = {name: self._function(name, result, inside) for result, name, inside in prototypes}

    def _add_enum(self, body: str) -> None:
        value = 0
        for entry in filter(None, (entry.strip() for entry in body.split(","))):
            name, _, given = (part.strip() for part in entry.partition("="))
            value = self._number(given) if given else value
            self._numbers[name] = value
            value += 1

    def _number(self, text: str) -> int:
        return int(eval(text, {}, self._numbers))  # it is from our own headers

    def _struct(self, name: str, body: str) -> Struct:
        cells, at, alignment = list[Cell](), 0, 1
        for line in filter(None, (line.strip() for line in body.split(";"))):
            kind, names = re.fullmatch(r"(?:const )?(\w+)\s+(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]  # our own headers match
            for entry in (entry.strip() for entry in names.split(",")):
                stars, field, sizes = re.fullmatch(r"(\**)(?:const )?\s*(\w+)((?:\[[^]]+\])*)", entry).groups()  # type: ignore[union-attr]  # as above
                inner = None if stars else self.structs.get(kind)
                size = POINTER if stars else inner.size if inner else SIZES[kind]
                align = inner.alignment if inner else size
                at += -at % align
                alignment = max(alignment, align)
                places = [field]
                for count in re.findall(r"\[([^]]+)\]", sizes):
                    n = self._number(count)
                    places = [f"{place}[{i}]" for place in places for i in range(n)]
                for place in places:
                    if inner:
                        cells += [Cell(at + c.offset, f"{place}.{c.path}", c.type, c.is_pointer) for c in inner.cells]
                    else:
                        cells.append(Cell(at, place, kind, bool(stars)))
                    at += size
        return Struct(name, tuple(cells), at + -at % alignment, alignment)

    def _function(self, name: str, result: str, inside: str) -> Function:
        parameters = list[Parameter]()
        for entry in (" ".join(entry.split()) for entry in inside.split(",")):
            if entry != "void":
                kind, stars, own = re.fullmatch(r"(?:const )?(\w+) (\*?(?:const \*)?)(\w+)", entry).groups()  # type: ignore[union-attr]  # as above
                parameters.append(Parameter(own, kind, stars.count("*")))
        return Function(name, result, tuple(parameters))
