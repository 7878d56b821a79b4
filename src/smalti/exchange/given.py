# SPDX-License-Identifier: MIT
"""Images with the names and labels that the caller has for them, beside what their source says."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from smalti.errors import UsageError
from smalti.exchange.arrays import annotated, is_path
from smalti.exchange.formats.label_files import read_labels
from smalti.exchange.parts import Parts
from smalti.exchange.recognise import refuse_same_names
from smalti.exchange.resize import check_side
from smalti.exchange.sources import Images, as_source
from smalti.types import ImageSet, OnBad, PassedOver, Reason, Source

KEEP, DROP = "keep", "drop"
"""What is done with colours where alpha is 0, which nobody sees: they come back exactly, or black."""
_HIDDEN = Reason("image without its hidden colours", "images without their hidden colours")


def given_source(
    source: Images,
    on_bad: OnBad | None,
    names: object,
    labels: object,
    *,
    convert: bool,
    resize: int | None = None,
    hidden_colours: str = KEEP,
    renamed: bool = False,
) -> Source:
    """Open a source, and give its images the names and labels that the caller has for them.

    names: one for each image, or None.
    labels: one for each image, the path of a file of them, None, or False to leave out those of the source.
    resize: the long side, in pixels, to which larger images are reduced; None if they stay as they are.
    hidden_colours: KEEP, or DROP to make all colours black where alpha is 0.
    renamed: whether images get other names later, so that those of their files do not matter.

    Raises:
        SourceError: the source cannot be read, or names or labels do not fit its images.
        UsageError: the source has names or labels of its own, or a name comes twice, or images may be skipped; or
            `resize` is no side, or `hidden_colours` is none of the two.
    """
    if hidden_colours not in (KEEP, DROP):
        raise UsageError(f"hidden colours are {hidden_colours!r}; give {KEEP!r} or {DROP!r}")
    if on_bad is not None and (names is not None or labels not in (None, False)):
        raise UsageError("names and labels are for all images in their order, so none can be skipped; leave out on_bad")
    side = check_side(resize)
    if not renamed and isinstance(source, list | tuple) and all(is_path(one) for one in source):
        refuse_same_names(map(os.fsdecode, source))
    if isinstance(labels, str | os.PathLike):
        given = annotated(
            as_source(source, labelled=False, convert=convert, side=side), names, read_labels(Path(labels))
        )
        images = replace(given, labels_from=Path(labels).name)
    else:
        images = as_source(source, on_bad, labelled=labels is not False, convert=convert, side=side)
        images = annotated(
            images.without_labels() if labels is False else images, names, None if labels is False else labels
        )
    return images if hidden_colours == KEEP else without_hidden_colours(images)


def without_hidden_colours(source: Source) -> Source:
    """Return the same images with all colours black where alpha is 0; the report counts those that this changed."""
    report = PassedOver((source.passed_over,))

    def parts() -> Iterator[ImageSet]:
        report.conversions.clear()
        for part in source.parts:
            if part.pixels.ndim == 3 or part.pixels.shape[3] not in (2, 4):
                yield part
                continue
            hidden = (part.pixels[..., -1:] == 0) & (part.pixels > 0)
            changed = hidden.any((1, 2, 3))
            if changed.any():
                first = part.names[int(changed.argmax())] if part.names else ""
                report.conversions.note(_HIDDEN, first, int(changed.sum()))
                part = replace(part, pixels=np.where(hidden, np.uint8(0), part.pixels))
            yield part

    return replace(source, parts=Parts(parts), passed_over=report)
