# SPDX-License-Identifier: MIT
"""Give the images of a smalti file to PyTorch: a data set for its DataLoader, and a sampler that shuffles by blocks."""

import hashlib
import operator
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from smalti.archive.archive import Archive
from smalti.archive.reader import Images, ModelName, Place
from smalti.archive.reading.decoded_file import SUFFIX, DecodedFile, decoded_bytes, key_of
from smalti.entropy.frequencies import Ints, by_value
from smalti.errors import MissingExtraError, OutputError, UsageError
from smalti.types import Label
from smalti.util.atomic import as_path, output_error
from smalti.util.parallel import once

try:
    import torch
    from torch.utils import data
except ModuleNotFoundError as exc:
    raise ImportError(str(MissingExtraError("smalti.torch", "train"))) from exc

MEMORY_BYTES = 1 << 28
"""The most bytes of decoded images that are kept where there is no cache folder."""
Form = Literal["tensor", "array", "pil"]
"""What an image is given as: a tensor (uint8, `c h w`), an array (uint8, `h w` or `h w c`), or an image of Pillow."""


class Dataset(data.Dataset[Any]):
    """The images of a smalti file with their labels, for `torch.utils.data.DataLoader`.

    An item is an image and its target; if images have no labels, it is the image alone. The target is a class number
    (int64) if labels are numbers or texts, and a list of numbers if labels are. Texts are numbered in their order, as
    in `classes`. Where a file has no labels but every name has a folder, the top folders are the labels, as they are
    for `torchvision.datasets.ImageFolder`.

    The DataLoader may use any number of workers, forked or spawned. They share what they decode, so that each block is
    decoded once, if all decoded images take at most `memory_bytes` or if there is a `cache_dir`.
    """

    def __init__(
        self,
        place: Place,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        *,
        model: ModelName | None = None,
        form: Form = "tensor",
        cache_dir: Path | str | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """Open a file.

        Args:
            place: a path, a URL, or the bytes of a file.
            transform: a function of an image, given in that `form`; the item holds its result.
            target_transform: a function of a label: a class number or a tuple; the item holds its result.
            model: where to find the model, if it is not built in.
            form: what an image is given as: "tensor" (uint8, `c h w`), "array" (uint8, `h w` or `h w c`), or "pil".
            cache_dir: a folder for decoded images, which the next epoch, and the next program, reads from there.
            memory_bytes: the most bytes of decoded images that are kept without such a folder: shared by all workers
                if there is room for all images, else by each worker for itself.

        Raises:
            SourceError, FormatError, UnknownModelError: the file cannot be read, is damaged, or its model is not known.
            OutputError: `cache_dir` cannot be written.
            UsageError: there is no such form.
        """
        if form not in ("tensor", "array", "pil"):
            raise UsageError(f"the form of an image is 'tensor', 'array' or 'pil', not {form!r}")
        self.archive = Archive(place, model, memory_bytes)
        weakref.finalize(self, self.archive.close)  # data sets are not closed, they are forgotten
        self.transform, self.target_transform, self.form = transform, target_transform, form
        self.classes, self.targets = _classes(self.archive)
        self._folder = None if cache_dir is None else as_path(cache_dir).absolute()
        fits = 0 < decoded_bytes(self.archive.contents) <= memory_bytes
        self._shared = self._temporary() if fits and self._folder is None else None
        self._decoded = self._open_decoded()

    def _temporary(self) -> Path | None:
        """Return the path of a file for decoded images, in a folder that nobody else may read and that goes with self.

        It is None if no temporary folder can be made.
        """
        try:
            folder = Path(tempfile.mkdtemp(prefix="smalti-"))
        except OSError:
            return None
        weakref.finalize(self, _remove, folder, os.getpid())
        return folder / f"decoded{SUFFIX}"

    def _open_decoded(self) -> DecodedFile | None:
        contents = self.archive.contents
        if self._folder is not None:
            return DecodedFile(contents, _cache_path(self.archive, self._folder))
        try:
            return DecodedFile(contents, self._shared) if self._shared is not None else None
        except OutputError:  # there is no room for temporary files: each process decodes for itself
            return None

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the place of the file, and not what was read from it."""
        read = ("_decoded", "_labels", "classes", "targets")
        return {name: value for name, value in self.__dict__.items() if name not in read}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        weakref.finalize(self, self.archive.close)
        self.classes, self.targets = _classes(self.archive)
        if self._shared is not None and not self._shared.exists():  # the pickle is older than this program
            self._shared = self._temporary()
        self._decoded = self._open_decoded()

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The number of each class by its name."""
        return {name: i for i, name in enumerate(self.classes or ())}

    @once
    def _labels(self) -> "torch.Tensor | list[torch.Tensor]":
        """The target of each image as a tensor: of all images together where that is possible."""
        targets = self.targets or []
        if len({len(target) if isinstance(target, tuple) else -1 for target in targets}) == 1:
            return torch.tensor(targets, dtype=torch.int64)
        return [torch.tensor(target, dtype=torch.int64) for target in targets]

    def __len__(self) -> int:
        return len(self.archive)

    def __getitem__(self, number: int) -> Any:
        """Return an item: an image and its target, or the image alone; a negative number counts from the end.

        Raises:
            IndexError: there is no such image.
            CorruptError: its block is damaged.
        """
        return self.__getitems__([operator.index(number)])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        """Return the items of these numbers, as `__getitem__` does; each block is decoded at most once for all."""
        rows = self.archive.rows(numbers)
        images = _in_form(self._pixels(rows), self.form)
        if self.transform is not None:
            images = [self.transform(image) for image in images]
        if self.targets is None:
            return images
        if self.target_transform is not None:
            return [(x, self.target_transform(self.targets[i])) for x, i in zip(images, rows.tolist(), strict=True)]
        labels = self._labels
        of_rows = labels[torch.from_numpy(rows)] if isinstance(labels, torch.Tensor) else [labels[i] for i in rows]
        return list(zip(images, of_rows, strict=True))

    def _pixels(self, rows: Ints) -> Images:
        """Return images (`n h w` or `n h w c`), or a list of them if shapes may differ."""
        if self._decoded is not None:
            try:
                return self._decoded.take(*self.archive.places(rows))
            except OutputError:
                if self._folder is not None:
                    raise
                self._decoded = None  # the disk is full: this process decodes for itself from now on
        found: Images = self.archive[rows]
        return found


class BlockShuffle(data.Sampler[list[int]]):
    """A batch sampler for a `Dataset` that shuffles the blocks of the file, and the images of some blocks at a time.

    It is for collections whose decoded images fit neither into memory nor on a disk: each block is decoded once an
    epoch, while a perfect shuffle decodes nearly a block for each image. Neighbours in the file stay close in time.

        dataset = smalti.torch.Dataset("train.smalti")
        loader = DataLoader(dataset, batch_sampler=BlockShuffle(dataset, 64, workers=2), num_workers=2)
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        workers: int = 0,
        blocks: int = 8,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        """Plan the epochs.

        Args:
            dataset: the images.
            batch_size: the images of a batch.
            workers: the `num_workers` of the DataLoader, so that no two workers decode one block.
            blocks: how many blocks are shuffled together; each worker holds so many in memory.
            drop_last: whether the last batch is left out if it is smaller.
            generator: where randomness comes from; None: torch's own.

        Raises:
            UsageError: a number is too small.
        """
        if batch_size < 1 or blocks < 1 or workers < 0:
            raise UsageError(f"{batch_size} images, {blocks} blocks, {workers} workers: give at least 1, 1 and 0")
        self.batch_size, self.blocks, self.drop_last, self.generator = batch_size, blocks, drop_last, generator
        self._streams, self._images = max(1, workers), len(dataset)
        of_rows, _ = dataset.archive.places(np.arange(len(dataset)))
        self._rows = [rows for _, rows in by_value(of_rows)]  # of each block

    def __len__(self) -> int:
        return self._images // self.batch_size if self.drop_last else -(-self._images // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        seed = int(torch.empty((), dtype=torch.int64).random_(generator=self.generator).item())
        rng = np.random.default_rng(seed)
        left = list[int]()
        parts = np.array_split(rng.permutation(len(self._rows)), self._streams)  # the blocks of each worker
        streams = [self._batches(part, rng, left) for part in parts]
        while streams:  # the DataLoader hands batches to its workers in turn
            batches = [next(stream, None) for stream in streams]
            streams = [stream for stream, batch in zip(streams, batches, strict=True) if batch is not None]
            yield from (batch for batch in batches if batch is not None)
        for start in range(0, len(left), self.batch_size):
            batch = left[start : start + self.batch_size]
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def _batches(self, blocks: Ints, rng: np.random.Generator, left: list[int]) -> Iterator[list[int]]:
        """Yield whole batches of the images of some blocks; append to `left` what makes no whole batch."""
        rest = np.zeros(0, np.int64)
        for start in range(0, len(blocks), self.blocks):
            group = np.concatenate([self._rows[block] for block in blocks[start : start + self.blocks]])
            rows = np.concatenate([rest, rng.permutation(group)])
            whole = len(rows) // self.batch_size * self.batch_size
            yield from rows[:whole].reshape(-1, self.batch_size).tolist()
            rest = rows[whole:]
        left += rest.tolist()


def _classes(archive: Archive) -> tuple[tuple[str, ...] | None, list[Any] | None]:
    """Return the names of classes, if they are known, and the target of each image: a number or a tuple of numbers."""
    labels: Sequence[Label] | None = archive.labels
    if labels is None and archive.names and all("/" in name for name in archive.names):
        labels = [name.partition("/")[0] for name in archive.names]
    if not labels:
        return None, None
    if not isinstance(labels[0], str):
        return archive.label_names or None, list(labels)
    classes = sorted({str(label) for label in labels})
    numbers = {name: i for i, name in enumerate(classes)}
    return tuple(classes), [numbers[str(label)] for label in labels]


def _in_form(images: Images, form: Form) -> list[Any]:
    if form == "array":
        return list(images)
    if form == "pil":
        from PIL import Image

        return [Image.fromarray(image) for image in images]
    if isinstance(images, list):
        return [_in_form(image[None], form)[0] for image in images]
    x = torch.from_numpy(images)
    return list((x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()).unbind(0))


def _cache_path(archive: Archive, folder: Path) -> Path:
    """Return the path of decoded images in a cache folder, which is made; remove those of earlier states of the file.

    Raises:
        OutputError: the folder cannot be written.
    """
    where = archive.contents.storage.where
    stem = "".join(c if c.isalnum() else "_" for c in Path(where).stem)[-40:]
    mine = f"{stem}-{hashlib.sha256(where.encode()).hexdigest()[:8]}-"
    path = folder / f"{mine}{key_of(archive.contents).hex()[:16]}{SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.iterdir():
            if other.name.startswith(mine) and other.suffix == SUFFIX and other != path:
                other.unlink(missing_ok=True)
    except OSError as exc:
        raise output_error(folder, exc) from exc
    return path


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # and not in a forked worker
        shutil.rmtree(folder, ignore_errors=True)
