# SPDX-License-Identifier: MIT
"""Files that hold the labels of images in another file: idx or npy."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from smalti.errors import SourceError
from smalti.exchange.formats.idx import read_idx_labels
from smalti.exchange.formats.npy_stream import NPY
from smalti.exchange.formats.numpy_files import read_npy_labels
from smalti.exchange.parts import damage
from smalti.types import ImageSet, Label, Source


def miscounted(labels: Path, n: int, path: str, images: int) -> SourceError:
    """Return the error of a file of `n` labels for a source of other so many images."""
    return SourceError(f"{labels} holds {n} labels, {path} {images} images; give the labels of these images")


def labelled_parts(source: Source, found: Sequence[Label], labels: Path, path: str) -> Iterator[ImageSet]:
    """Yield the parts of a source with the labels `found` in the file `labels`.

    Raises:
        SourceError: there are more or fewer labels than images.
    """
    done = 0
    for part in source.parts:
        mine = tuple(found[done : done + len(part)])
        done += len(part)
        if len(mine) < len(part):
            raise miscounted(labels, len(found), path, done)
        yield replace(part, labels=mine)
    if done != len(found):
        raise miscounted(labels, len(found), path, done)


def read_labels(path: Path) -> tuple[Label, ...]:
    """Read a file of labels: idx (gzipped or not) or npy.

    Raises:
        SourceError: it is neither, or damaged.
    """
    with damage(path, "a file of labels"), path.open("rb") as file:
        head = file.read(len(NPY))
    if head.startswith(NPY):
        return read_npy_labels(path)
    return read_idx_labels(path)
