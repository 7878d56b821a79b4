# SPDX-License-Identifier: MIT
"""Read a smalti file as a sequence of images that are decoded when they are asked for."""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from smalti.archive.reader import Contents, Images, ModelName, Place
from smalti.archive.reading.ahead import CHUNK_IMAGES, decoded_ahead, in_turn
from smalti.archive.reading.block_cache import BlockCache
from smalti.archive.reading.contact_sheet import SHOWN, Shown, sheet_html, sheet_png, words
from smalti.archive.reading.indexing import number_of, rows_of, within_images
from smalti.archive.reading.places import Places
from smalti.entropy.frequencies import Ints, by_value
from smalti.errors import SeveralShapesError, UsageError
from smalti.types import About, ImageSet, Label, Pixels, Progress, Shape, Source, describe
from smalti.util.parallel import once

CACHE_BYTES = 1 << 26
"""The most bytes of decoded pixels that are kept: those of the blocks that were used last."""
MOST_ALONE = 8
"""A block is decoded as a whole once more than one of so many of its images was read alone."""
LABEL_NAMES = "label_names"
"""The key of the names of classes in the metadata of a file."""

Wanted = slice | Sequence[int] | Sequence[bool] | NDArray[Any]
Index = Wanted | EllipsisType | tuple[Any, ...]


class Archive:
    """The images of a smalti file, decoded on demand, a block at a time; blocks that were used last are kept.

    It behaves as a sequence and, where all images have one shape, as an array `n h w` or `n h w c` that is indexed as
    arrays of NumPy are. Threads may share it; it can be pickled, and used in forks. Images are uint8, `h w`, `h w 2`,
    `h w 3` or `h w 4`.

    >>> import smalti
    >>> from smalti.demo.samples import draw_digits
    >>> archive = Archive(smalti.encode(draw_digits(1)[0]))
    >>> len(archive), archive[0].shape, archive[:1].shape, archive.names
    (1, (28, 28), (1, 28, 28), None)
    """

    def __init__(self, place: Place, model: ModelName | None = None, cache_bytes: int = CACHE_BYTES) -> None:
        """place: a path, a URL that fsspec knows, or the bytes; model: where to find the model, if it is not built in.

        Raises:
            SourceError, FormatError, UnknownModelError: the file cannot be read, is damaged, or its model is not known.
        """
        local = isinstance(place, Path) or (isinstance(place, str) and "://" not in place)
        self._place = Path(str(place)).absolute() if local else place  # so that a pickle means the same file elsewhere
        self._model, self._contents, self._cache = model, Contents(place, model), BlockCache(cache_bytes)
        self._alone: dict[int, int] = {}  # how many images of a block were read alone

    def __reduce__(self) -> tuple[Any, ...]:
        return Archive, (self._place, self._model, self._cache.room)

    @property
    def contents(self) -> Contents:
        """The blocks and annotations of the file, for callers that need more than a sequence."""
        return self._contents

    @once
    def names(self) -> tuple[str, ...] | None:
        """The name of each image; None if images have no names."""
        return self._contents.names()

    @once
    def labels(self) -> tuple[Label, ...] | None:
        """The label of each image; None if images have no labels."""
        return self._contents.labels()

    @once
    def profiles(self) -> tuple[bytes | None, ...] | None:
        """The ICC profile of each image (None: it has none); None if no image has one."""
        return self._contents.profiles()

    @once
    def metadata(self) -> dict[str, Any]:
        """The metadata of the file, as they were given when it was packed."""
        return self._contents.metadata()

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the classes that labels number, if the metadata of the file have them."""
        from smalti.exchange.labels import class_names  # to open a file, no other format is needed

        return class_names((self.metadata or {}).get(LABEL_NAMES)) if self.labels is not None else ()

    def as_source(self) -> Source:
        """Return all images with names and labels, to be packed into another file."""
        from smalti.exchange.parts import Parts

        named, labelled = self.names is not None, self.labels is not None
        return Source(Parts(self.parts), len(self), named=named, labelled=labelled, label_names=self.label_names)

    @once
    def _by_name(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names or ())}

    def find(self, name: str) -> int:
        """Return the number of the image of that name.

        Raises:
            UsageError: no image has that name.
        """
        if name not in self._by_name:
            raise UsageError(f"{self._contents.storage.where} holds no image named {name!r}")
        return self._by_name[name]

    @once
    def shapes(self) -> frozenset[Shape]:
        """The shapes (h w c) that images of the file have."""
        return self._contents.shapes()

    @property
    def image_shape(self) -> Shape:
        """The shape (h w c) of every image, if all have the same.

        Raises:
            UsageError: images have several shapes, or there are no images.
        """
        if len(self.shapes) != 1:
            raise SeveralShapesError(f"the images are of {len(self.shapes)} shapes; look at each, or at `shapes`")
        return next(iter(self.shapes))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array of all images: `n h w` if they are gray, else `n h w c`.

        Raises:
            UsageError: images have several shapes, or there are no images; `hasattr` then finds no shape.
        """
        h, w, c = self.image_shape
        return (len(self), h, w) if c == 1 else (len(self), h, w, c)

    @property
    def ndim(self) -> int:
        """The number of axes of that array: 3 or 4; the errors are those of `shape`."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """The type of all samples: uint8."""
        return np.dtype(np.uint8)

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> NDArray[Any]:
        """Return an array of all images, as NumPy asks for it.

        Raises:
            UsageError: images have several shapes, or there are no images.
            ValueError: `copy` is False, but decoding always makes a new array.
        """
        if copy is False:
            raise ValueError("decoded images are always a new array; leave out copy=False")
        _ = self.image_shape
        return np.asarray(self[:], dtype)

    @property
    def about(self) -> About:
        """The facts that a writer of the images needs to know before it starts."""
        return About(len(self), self.shapes, self.names is not None, self.labels is not None, self.label_names)

    def __len__(self) -> int:
        return self._contents.reader.count

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: Index) -> Any: ...
    def __getitem__(self, index: int | Index) -> Any:
        """Return an image; for a slice, numbers or a mask, an array of images, or a list if shapes differ.

        A tuple is taken as NumPy takes it: first images, then rows, columns and channels. Only the blocks that hold
        these images are decoded, each once, several at a time.

        Raises:
            IndexError: there is no such image.
            TypeError: the index is none of these, or looks into images of several shapes.
        """
        if isinstance(index, tuple):
            return within_images(index, self.__getitem__)
        if index is ...:
            return self[:]
        if isinstance(index, slice | list | range) or (isinstance(index, np.ndarray) and index.ndim):
            return self._stacked(self.rows(index))
        block, row = self._places.of_one(number_of(index, len(self)))
        kept = self._cache.get(block)
        if kept is None and self._reads_alone(block, 1):
            (alone,) = self._contents.decode_single([(block, row)])
            if alone is not None:
                return alone
        image: Pixels = (self._block(block) if kept is None else kept)[row]
        return image.copy()

    def _reads_alone(self, block: int, images: int) -> bool:
        """Count images of a block that is not kept; return whether they are so few that each is read by itself."""
        self._alone[block] = self._alone.get(block, 0) + images
        return self._alone[block] <= 1 + self._contents.index.blocks[block].images // MOST_ALONE

    def __getitems__(self, numbers: Sequence[int]) -> list[Pixels]:
        """Return images of these numbers; each block is decoded once. Loaders of torch ask in this way."""
        return self._gathered(self.rows(numbers))

    def __iter__(self) -> Iterator[Pixels]:
        for images in self._every():
            for image in images:
                yield image.copy()  # one that is kept keeps no other

    def iterate(self, wanted: Wanted) -> Iterator[Pixels]:
        """Yield the images of a slice, of numbers or of a mask, in that order; only some are in memory at a time.

        Raises:
            IndexError, TypeError: as for an index.
        """
        rows = self.rows(wanted)
        step = CHUNK_IMAGES * 2 * (os.cpu_count() or 1)  # enough blocks for every core
        for start in range(0, len(rows), step):
            yield from self._gathered(rows[start : start + step])

    def parts(self, progress: Progress | None = None) -> Iterator[ImageSet]:
        """Yield all images in order, with names and labels, some at a time.

        progress: a function that is called with the number of images just decoded, and of all.
        """
        start = 0
        for pixels in self._every():
            rows = slice(start, start + len(pixels))
            start = rows.stop
            names = None if self.names is None else self.names[rows]
            labels = None if self.labels is None else self.labels[rows]
            profiles = None if self.profiles is None else self.profiles[rows]
            yield ImageSet(pixels, names, labels, profiles)
            if progress:
                progress(len(pixels), len(self))

    def _every(self) -> Iterator[Pixels]:
        if self._places.in_order:
            for _, images in self._contents.decode(range(len(self._contents.index.blocks))):
                yield from _runs(images) if isinstance(images, list) else [images]
            return
        blocks, offsets = self.places(np.arange(len(self)))
        if (shown := in_turn(blocks)) is not None:
            yield from itertools.chain.from_iterable(map(_runs, decoded_ahead(self._contents, shown, blocks, offsets)))
            return
        for start in range(0, len(self), CHUNK_IMAGES):
            yield from _runs(self._gathered(np.arange(start, min(start + CHUNK_IMAGES, len(self)))))

    def rows(self, wanted: Wanted) -> Ints:
        """Return numbers of images from 0 on, for a slice, for numbers that may be negative, or for a mask.

        Raises:
            IndexError: there are no such images.
            TypeError: `wanted` holds neither whole numbers nor a mask.
        """
        return rows_of(wanted, len(self))

    def _stacked(self, rows: Ints) -> Pixels | list[Pixels]:
        if len(self.shapes) > 1:
            return self._gathered(rows)
        if not len(rows):
            h, w, c = next(iter(self.shapes), (0, 0, 1))
            return np.empty((0, h, w) if c == 1 else (0, h, w, c), np.uint8)
        blocks, offsets = self.places(rows)
        found: Pixels | None = None
        where = dict(by_value(blocks))
        for place, image in self._singly(where, offsets):
            found = np.empty((len(rows), *image.shape), np.uint8) if found is None else found
            found[place] = image
        for block, images in self._blocks(list(where)):
            pixels = np.stack(images) if isinstance(images, list) else images
            if found is None:
                found = np.empty((len(rows), *pixels.shape[1:]), np.uint8)
            places = where[block]
            found[places] = pixels[offsets[places]]
        assert found is not None
        return found

    def _gathered(self, rows: Ints) -> list[Pixels]:
        blocks, offsets = self.places(rows)
        found = [np.empty(0, np.uint8)] * len(rows)
        where = dict(by_value(blocks))
        for place, image in self._singly(where, offsets):
            found[place] = image
        for block, pixels in self._blocks(list(where)):
            for i in where[block].tolist():
                found[i] = pixels[offsets[i]].copy()
        return found

    def _singly(self, where: dict[int, Ints], offsets: Ints) -> Iterator[tuple[int, Pixels]]:
        """Yield those images that are read alone, each with its number; take their blocks out of `where`.

        where: for each block, the numbers of images in it; offsets: the place of each image in its block.
        """
        blocks = [block for block, some in where.items() if block not in self._cache]
        few = [block for block in blocks if self._reads_alone(block, len(where[block]))]
        numbers = [(block, i) for block in few for i in where[block].tolist()]
        found = self._contents.decode_single([(block, int(offsets[i])) for block, i in numbers])
        together = {block for (block, _), image in zip(numbers, found, strict=True) if image is None}
        for (block, i), image in zip(numbers, found, strict=True):
            if image is not None and block not in together:
                where.pop(block, None)
                yield i, image

    @once
    def _places(self) -> Places:
        return Places(self._contents.index, self._contents.order(), self._contents.listing)

    def places(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return the block of each of those images and its place there."""
        return self._places.of(rows)

    def _block(self, block: int) -> Images:
        return next(self._blocks([block]))[1]

    def _blocks(self, blocks: Iterable[int]) -> Iterator[tuple[int, Images]]:
        """Yield decoded blocks, not in order: first those that are kept."""
        missing = []
        for block in blocks:
            pixels = self._cache.get(block)
            if pixels is None:
                missing.append(block)
            else:
                yield block, pixels
        for block, pixels in self._contents.decode(missing) if missing else ():
            self._cache.put(block, pixels)
            self._alone.pop(block, None)
            yield block, pixels

    def close(self) -> None:
        """Close the file."""
        self._contents.storage.close()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Archive of {len(self)} images ({self._shown_shapes}): {self._contents.storage.where}>"

    @property
    def _shown_shapes(self) -> str:
        return ", ".join(map(describe, sorted(self.shapes)[:3])) + ", ..." * (len(self.shapes) > 3)

    @property
    def _summary(self) -> str:
        each = self._contents.reader.end / max(len(self), 1)
        return f"{len(self):,} image{'s' * (len(self) != 1)}, {self._shown_shapes}, {each:,.1f} bytes an image"

    def _repr_png_(self) -> bytes:
        """Return a picture (PNG) of the first images, with their names and labels, for notebooks."""
        names, labels = self.names or [None] * SHOWN, self.labels or [None] * SHOWN
        return sheet_png(
            list(map(Shown, self.__getitems__(range(min(SHOWN, len(self)))), names, labels)), self._summary
        )

    def _repr_html_(self) -> str:
        """Return a table of what the file holds and a picture of the first images, for notebooks."""
        facts = [("file", self._contents.storage.where), ("images", self._summary)]
        if self.names:
            facts.append(("names", f"{self.names[0]}{', ...' * (len(self) > 1)}"))
        if self.labels:
            few = list(dict.fromkeys(map(words, self.labels)))
            facts.append(("labels", f"{', '.join(few[:10])}{', ...' * (len(few) > 10)}"))
        if self.metadata:
            facts.append(("metadata", ", ".join(self.metadata)))
        return sheet_html(self._repr_png_(), facts)


Sequence.register(Archive)


def open_archive(path: Place, *, model: ModelName | None = None, cache_bytes: int = CACHE_BYTES) -> Archive:
    """Open a smalti file as a sequence of images; `smalti.open` is this function.

    Args:
        path: a path, a URL that fsspec knows (`https://`, `s3://`, ...; `pip install "smalti[remote]"`), or bytes.
        model: where to find the model, if it is not built in.
        cache_bytes: the most bytes of decoded pixels that are kept.

    Raises:
        SourceError, FormatError, UnknownModelError: the file cannot be read, is damaged, or its model is not known.
    """
    return Archive(path, model, cache_bytes)


def _runs(images: Sequence[Pixels]) -> Iterator[Pixels]:
    """Yield single images as arrays, neighbours of one shape together."""
    for _, some in itertools.groupby(images, lambda image: image.shape):
        yield np.stack(list(some))
