# SPDX-License-Identifier: MIT
"""All files that lie, in the order of `tests/attacks/README.md`."""

from attacks import archives, contents, each, mixed, models, outside, sources
from attacks.attack import OF_MODULE

ATTACKS = [
    some
    for module in (archives, contents, mixed, each, models, outside, sources)
    for some in OF_MODULE[module.__name__]
]


def table() -> str:
    """Of the README: idea, how the file is made, what is done with it, and the answer."""
    rows = ["| idea | made by | read by | answer |", "| --- | --- | --- | --- |"]
    for some in ATTACKS:
        words = f": {some.words.replace('|', ' or ')}" if some.words else ""
        answer = f"{some.error}{words}" if some.error else "it is read"
        rows.append(f"| {some.idea} | `{some.name}` | {some.work.__name__} | {answer} |")
    return "\n".join(rows) + "\n"
