# SPDX-License-Identifier: MIT
"""Say at the end of pack and append what was taken, what was passed over and why, and what it takes."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from smalti.cli.console import size
from smalti.core.library import why_numpy

if TYPE_CHECKING:
    from smalti.archive.writer import Packed
    from smalti.rate.fitting.fit_model import Fitted
    from smalti.types import PassedOver, Tally

WIDTH = 80
"""The columns that a line takes at most, or those of the terminal if it has more."""
_CUT = "..."
_JOIN = "\xa0"  # a space at which no line ends
_MAX_NOTES = 3  # lines on stderr
_EXAMPLES = (40, 24, 12, 0)  # the most columns of the name of a file beside a reason, tried in this order
_LEAST_NAME = 32  # columns that are left of the name of the output, however much is said of it


def report(output: Path | str, packed: "Packed", *, as_json: bool, piped: bool = False) -> None:
    """Print the report: in at most five lines, or as one JSON object; and the notes of readers to stderr.

    piped: whether the file was written to standard output, so that the lines go to stderr.
    """
    if as_json:
        typer.echo(json.dumps(facts_of(output, packed)))
    else:
        width = max(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
        for line in lines_of(output, packed, width):
            typer.echo(line, err=piped)
        if packed.fitted is not None:
            for line in wrapped(fit_words(packed.fitted), width):
                typer.echo(line, err=piped)
    notes = packed.passed_over.total().notes
    for note in notes[:_MAX_NOTES]:
        typer.echo(f"smalti: {note}", err=True)
    if len(notes) > _MAX_NOTES:
        typer.echo(f"smalti: {len(notes) - _MAX_NOTES} more of these", err=True)


def report_unsuited(packed: "Packed", model: str, *, lossless: bool, exact: bool) -> None:
    """Print to stderr if lossy packing found no model that suits some images, or if the one that was named does not.

    exact: whether images without a model are kept exactly.
    """
    from smalti.model.candidates import GENERAL
    from smalti.model.empty_model import EMPTY_NAME
    from smalti.rate.model_choice import AUTO

    n, total, train = packed.unsuited, packed.images, "smalti train SRC -o my.model".replace(" ", _JOIN)
    if lossless or not n or model in (EMPTY_NAME, GENERAL):
        return
    if model == AUTO:
        which = "these images" if n == total else f"{n:,} of {_counted(total, 'image')}"
        kept = "they are kept exactly" if exact else "they are coded without one"
        words = f"no lossy model here suits {which}; {kept}. For fewer bytes, "
        why = why_numpy()
        words += f"train a model: {train}" if why is None else f"use the compiled core. Numpy computes here: {why}"
    else:
        which = "these images" if n == total else "some of these images"
        words = f"model {model} does not suit {which}: they take many bytes, or come back blurred. Leave out --model,"
        words += f" or train a model: {train}"
    for line in wrapped(f"smalti: {words}", max(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)):
        typer.echo(line, err=True)


def fit_words(fitted: "Fitted") -> str:
    """Return what came of fitting the general model to the images, in words."""
    if not fitted.general:
        return "fit: none; there are too few images that the general model codes"
    saved = f"{fitted.general:,.1f} bytes an image without it, {fitted.fitted:,.1f} with it, as measured on some images"
    if fitted.model is None:
        return f"fit: none, since it does not pay: {saved}; it would take {size(fitted.size)} in the file"
    return f"fit: {saved}; it takes {size(fitted.size)} in the file"


def facts_of(output: Path | str, packed: "Packed") -> dict[str, Any]:
    """Return the facts of the report by their names; nothing is shortened."""
    from smalti.types import describe

    whole = packed.passed_over.total()
    labels = {"from": packed.labels_from, "different": packed.labels} if packed.labels_from else None
    psnr, least = packed.psnr, packed.least_psnr
    return {
        "file": str(output),
        "images": packed.images,
        "sizes": [{"size": describe(shape), "images": n} for shape, n in packed.shapes],
        "named": packed.named,
        "labels": labels,
        "passed_over": _tally_facts(whole.files),
        "converted": _tally_facts(whole.conversions),
        "models": [{"name": name, "images": n} for name, n in packed.models.items()],
        "images_without_model": packed.without_model,
        "copies": packed.copies,
        "bytes": packed.bytes,
        "bytes_before": packed.before,
        "bytes_an_image": round(packed.rate, 3),
        "exact": psnr == math.inf,
        "psnr": round(psnr, 3) if psnr is not None and math.isfinite(psnr) else None,
        "least_psnr": round(least, 3) if least is not None and math.isfinite(least) else None,
        "fit": None if packed.fitted is None else _fit_facts(packed.fitted),
        "notes": whole.notes,
    }


def _fit_facts(fitted: "Fitted") -> dict[str, Any]:
    used, saved = fitted.model is not None, (round(fitted.general, 3), round(fitted.fitted, 3))
    return {"used": used, "bytes": fitted.size, "bytes_an_image_without": saved[0], "bytes_an_image_with": saved[1]}


def _tally_facts(tally: "Tally") -> list[dict[str, Any]]:
    return [
        {"count": n, "reason": reason.one if n == 1 else reason.many, "example": tally.examples[reason]}
        for reason, n in tally.counts.items()
    ]


def lines_of(output: Path | str, packed: "Packed", width: int) -> list[str]:
    """Return the report in at most five lines of at most `width` columns, which is at least WIDTH.

    What was passed over gets a second line where it needs one, if the model and the cost fit on one.
    """
    whole = packed.passed_over.total()
    lines = [_head(str(output), packed, width), _annotations(packed, width)]
    cost, both = _cost(packed), _models(f"{_cost(packed)}; ", packed, width)
    apart = [_models("", packed, width), cost]
    passed, converted = (_reasons(*words, width, 1) for words in _done(whole))
    if passed and converted:
        return [*lines, *passed, *converted, both]
    (longer,) = [_reasons(*words, width, 2) for words in _done(whole) if words[1].counts] or [[]]
    if len(longer) > 1 and not both.endswith(_CUT):
        return [*lines, *longer, both]
    return [*lines, *passed, *converted, *apart]


def _done(whole: "PassedOver") -> tuple[tuple[str, "Tally"], tuple[str, "Tally"]]:
    return ("passed over", whole.files), ("converted", whole.conversions)


def _head(output: str, packed: "Packed", width: int) -> str:
    from smalti.types import describe

    count = _counted(packed.images, "more image" if packed.before else "image")
    shapes = [describe(shape) for shape, _ in packed.shapes]
    room = width - min(columns(output), _LEAST_NAME) - len(": ")
    said = fitting(lambda k: f"{count} ({_listed(shapes, k, 'more size')})", len(shapes), room)
    return f"{shortened(output, width - columns(said) - 2)}: {said}"


def _annotations(packed: "Packed", width: int) -> str:
    start = f"names: {'kept' if packed.named else 'none'}; labels: "
    if not packed.labels_from:
        return start + "none"
    start += f"{packed.labels:,} different, from "
    return start + shortened(packed.labels_from, width - columns(start), end=True)


def _reasons(what: str, tally: "Tally", width: int, most: int) -> list[str]:
    """Return in at most `most` lines what was done to files or images and why; reasons go before examples."""
    counts = sorted(tally.counts.items(), key=lambda pair: -pair[1])
    if not counts:
        return []

    def listed(k: int, room: int) -> list[str]:
        words = [
            f"{n:,}{_JOIN}{reason.one if n == 1 else reason.many}" + _example(tally.examples[reason], n, room)
            for reason, n in counts[:k]
        ]
        left = sum(n for _, n in counts[k:])
        return wrapped(f"{what}: {', '.join(words)}" + (f", {left:,} other{'s' * (left > 1)}" if left else ""), width)

    tried = (listed(k, room) for k in range(len(counts), 0, -1) for room in _EXAMPLES)
    return next((lines for lines in tried if len(lines) <= most), [shortened(listed(1, 0)[0], width, end=True)])


def _example(name: str, n: int, room: int) -> str:
    return f" ({shortened(name, room)}{', ...' if n > 1 else ''})" if room else ""


def _models(before: str, packed: "Packed", width: int) -> str:
    """Return the line that says which models code the images, behind what comes `before` in it."""
    models, without, copies = list(packed.models.items()), packed.without_model, packed.copies
    if not models and not copies:
        how = "kept exactly," if packed.psnr == math.inf else "coded"
        return f"{before}model: none" + ("" if before else f"; every image is {how} without a model")
    if len(models) == 1 and not without and not copies:
        return shortened(f"{before}model: {models[0][0]}", width, end=True)
    every = [*models, ("none", without), ("copies", copies)]  # the counts of which are those of all images
    words = [f"{name} ({n:,})" if i else f"{name} ({_counted(n, 'image')})" for i, (name, n) in enumerate(every) if n]
    of_models, rest = words[: len(models)], "".join(f", {word}" for word in words[max(1, len(models)) :])
    title = "models" if len(models) > 1 else "model"
    line = fitting(
        lambda k: f"{before}{title}: {_listed(of_models or words[:1], k, 'more model')}{rest}", len(of_models), width
    )
    return shortened(line, width, end=True)


def _cost(packed: "Packed") -> str:
    quality = "exact" if packed.psnr == math.inf else f"{packed.psnr:.2f} dB"
    if packed.images > 1 and packed.least_psnr is not None and math.isfinite(packed.least_psnr):
        quality += f" (least {packed.least_psnr:.2f})"
    if not packed.before:
        return f"{size(packed.bytes)}, {packed.rate:,.2f} bytes an image, {quality}"
    return f"{size(packed.bytes)} in all; {packed.rate:,.2f} bytes an image more, {quality}"


def _listed(words: Sequence[str], k: int, more: str) -> str:
    """Return the first `k` words, and how many more there are.

    >>> _listed(["8x8 gray", "9x9 gray", "9x8 gray"], 1, "more size")
    '8x8 gray, 2 more sizes'
    """
    left = len(words) - k
    return ", ".join([*words[:k], *([_counted(left, more)] if left else [])])


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" + "s" * (n != 1)


def fitting(text: Callable[[int], str], most: int, width: int) -> str:
    """Return the text of the largest number, from `most` down to 1, that takes at most `width` columns; else that of 1.

    >>> fitting(lambda k: "x" * k, 9, 5)
    'xxxxx'
    """
    return next((line for k in range(most, 1, -1) if columns(line := text(k)) <= width), text(1))


def columns(text: str) -> int:
    """Return the columns that a text takes on a terminal.

    >>> columns("a.png"), columns("絵.png")
    (5, 6)
    """
    from rich.cells import cell_len

    return cell_len(text)


def wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines of at most `width` columns, unless a word is longer; all but the first are indented.

    >>> wrapped("three words here", 12)
    ['three words', '  here']
    """
    lines = [""]
    for word in text.split(" "):
        if lines[-1].strip() and columns(f"{lines[-1]} {word}") > width:
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return [line.replace(_JOIN, " ") for line in lines]


def shortened(text: str, width: int, *, end: bool = False) -> str:
    """Return a text in at most `width` columns, without its start (or its `end`) if it is longer; on one line.

    >>> shortened("a/long/path/x.smalti", 11), shortened("three words here", 11, end=True)
    ('...x.smalti', 'three wo...')
    """
    text = "".join(c if c.isprintable() else "?" for c in text)
    if columns(text) <= width:
        return text
    while text and columns(text) > width - len(_CUT):
        text = text[:-1] if end else text[1:]
    return f"{text}{_CUT}" if end else f"{_CUT}{text}"
