# SPDX-License-Identifier: MIT
"""Write calls.h, which replay.c includes: the structures and functions of the core, as tables."""

from pathlib import Path

from headers import Function, Headers, Struct

RESULTS = {"void": "", "int32_t": "int32_t", "int64_t": "int64_t"}
BEGIN = """/* Made by harness.py. */
#include "smalti.h"
typedef struct { uint32_t offset; uint8_t size, is_pointer, is_kernel; } cell_layout;
typedef struct { size_t size; uint32_t count; const cell_layout *cells; } struct_layout;
typedef struct { const char *name, *kinds; uint32_t parameters; bool is_size; } function_entry;
typedef union { uint64_t i; double d; void *p; } argument;
"""


def write_calls(path: Path) -> None:
    """Write the tables to a file."""
    headers = Headers()
    recorded = [f for f in headers.functions.values() if f.result in RESULTS and all(p.stars < 2 for p in f.parameters)]
    order = {name: i for i, name in enumerate(headers.functions)}
    lines = [BEGIN, *(f'#include "{name}"' for name in headers.names)]
    lines += [_cells(kind) for kind in headers.structs.values()]
    lines.append("static const struct_layout LAYOUTS[] = {")
    for kind in headers.structs.values():
        lines.append(f"    {{sizeof({kind.name}), {len(kind.cells)}, cells_{kind.name}}},")
    lines += ["};", "static const function_entry FUNCTIONS[] = {"]
    for function in headers.functions.values():
        kinds = "".join("p" if p.stars else "d" if p.type == "double" else "i" for p in function.parameters)
        is_size = str(function.name.endswith("_work")).lower()
        lines.append(f'    {{"{function.name}", "{kinds}", {len(kinds)}, {is_size}}},')
    lines.append("};")
    lines.append(f"enum {{ MOST_PARAMETERS = {max(len(f.parameters) for f in headers.functions.values())} }};")
    lines.append("#if defined(__wasm__)")
    names = ", ".join(f"(void *){f.name}" if f in recorded else "0" for f in headers.functions.values())
    lines += [f"static void *const LINKED[] = {{{names}}};", "#endif"]
    lines.append("static int64_t make_call(uint32_t id, void *call, const argument *a) {\n    switch (id) {")
    lines += [_call(order[function.name], function) for function in recorded]
    lines.append("    default:\n        return -1;\n    }\n}")
    path.write_text("\n".join(lines) + "\n")


def _cells(kind: Struct) -> str:
    if not kind.has_pointers:  # its memory is taken as bytes
        return f"static const cell_layout cells_{kind.name}[1];"
    cells = (
        f"    {{offsetof({kind.name}, {c.path}), {0 if c.is_pointer else c.size}, {int(c.is_pointer)},"
        f" {int(c.path == 'kernel')}}},"
        for c in kind.cells
    )
    return "\n".join([f"static const cell_layout cells_{kind.name}[] = {{", *cells, "};"])


def _call(number: int, function: Function) -> str:
    types = ["void *" if p.stars else p.type for p in function.parameters]
    values = [
        f"a[{i}].{'p' if p.stars else 'd' if p.type == 'double' else 'i'}" for i, p in enumerate(function.parameters)
    ]
    values = [value if value[-1] != "i" else f"({kind}){value}" for value, kind in zip(values, types, strict=True)]
    call = f"(({function.result}(*)({', '.join(types) or 'void'}))call)({', '.join(values)})"
    if function.result == "void":
        return f"    case {number}:\n        {call};\n        return 0;"
    return f"    case {number}:\n        return {call};"
