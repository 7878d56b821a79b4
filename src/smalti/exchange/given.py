# SPDX-License-Identifier: MIT
"""Images with the names and labels that the caller has for them, beside what their source says."""

import os
from dataclasses import replace
from pathlib import Path

from smalti.errors import UsageError
from smalti.exchange.arrays import annotated
from smalti.exchange.formats.label_files import read_labels
from smalti.exchange.resize import check_side
from smalti.exchange.sources import Images, as_source
from smalti.types import OnBad, Source


def given_source(
    source: Images,
    on_bad: OnBad | None,
    names: object,
    labels: object,
    *,
    convert: bool,
    resize: int | None = None,
) -> Source:
    """Open a source, and give its images the names and labels that the caller has for them.

    names: one for each image, or None.
    labels: one for each image, the path of a file of them, None, or False to leave out those of the source.
    resize: the long side, in pixels, to which larger images are reduced; None if they stay as they are.

    Raises:
        SourceError: the source cannot be read, or names or labels do not fit its images.
        UsageError: the source has names or labels of its own, or images may be skipped; or `resize` is no side.
    """
    if on_bad is not None and (names is not None or labels not in (None, False)):
        raise UsageError("names and labels are for all images in their order, so none can be skipped; leave out on_bad")
    side = check_side(resize)
    if isinstance(labels, str | os.PathLike):
        given = annotated(
            as_source(source, labelled=False, convert=convert, side=side), names, read_labels(Path(labels))
        )
        return replace(given, labels_from=Path(labels).name)
    images = as_source(source, on_bad, labelled=labels is not False, convert=convert, side=side)
    if labels is False:
        return annotated(images.without_labels(), names, None)
    return annotated(images, names, labels)
