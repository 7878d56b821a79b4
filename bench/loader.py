# SPDX-License-Identifier: MIT
"""Benchmark of loading images with PyTorch: smalti beside a folder and tar files of PNG; a table in markdown."""

import importlib.util
import io
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch.utils.data import Dataset as MapDataset

import smalti
from smalti.torch import Dataset
from smalti.types import Pixels

BATCH, READS, WORKERS = 64, 1000, (0, 2)
SHARDS, BUFFER = 4, 1000
"""The tar files that the images are split into, and the images of which a reader of tar files takes one by chance."""
_EPOCHS = "first batch, s | next 1,000 images, s | rest of epoch 1, s | epoch 2, s"
HEAD = (
    f"| images | kB | 1,000 single reads, s | {_EPOCHS} | 2 workers: {_EPOCHS} |",
    f"| --- |{' ---: |' * 10}",
)


def to_floats(image: "Image.Image | torch.Tensor") -> torch.Tensor:
    """Return an image as floats from 0 to 1, `c h w`."""
    x = image if isinstance(image, torch.Tensor) else torch.from_numpy(np.array(image))[None]
    return x.float() / 255


class PngFolder(MapDataset[Any]):
    """PNG files in a folder for each class, read as `torchvision.datasets.ImageFolder` does."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*/*.png"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        with self.paths[i].open("rb") as file:
            return to_floats(Image.open(file)), int(self.paths[i].parent.name)


class PngTars(IterableDataset[Any]):
    """PNG files in tar files, shuffled in a buffer, as WebDataset does; each worker reads tar files of its own."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.tar"))

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int]]:
        worker, rng, held = get_worker_info(), np.random.default_rng(), list[tuple[bytes, int]]()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for path in self.paths[first::step]:
            with tarfile.open(path) as tar:
                for member in tar:
                    file = tar.extractfile(member)
                    if file is not None:
                        held.append((file.read(), int(member.name.split("/")[0])))
                    if len(held) > BUFFER:
                        yield self._item(held.pop(int(rng.integers(len(held)))))
        yield from (self._item(held[i]) for i in rng.permutation(len(held)))

    @staticmethod
    def _item(entry: tuple[bytes, int]) -> tuple[torch.Tensor, int]:
        return to_floats(Image.open(io.BytesIO(entry[0]))), entry[1]


@dataclass(frozen=True)
class Way:
    """A way to keep the images."""

    name: str
    size: int  # bytes
    open: Callable[[], Any]  # a data set that has decoded nothing yet


def run(x: Pixels, labels: Sequence[int], output: Path, data: str, files: Path | None) -> None:
    """Load `x` (`n h w`) in each way, and write `loader-DATA.md`.

    files: the folder where the files are kept and found again; None: they are written anew and removed.
    """
    console = Console(width=200)
    lines = [f"{len(x):,} images of {data}, {os.cpu_count()} cores, batches of {BATCH}, shuffled", "", *HEAD]
    with tempfile.TemporaryDirectory() as folder:
        for way in _ways(x, labels, files or Path(folder), Path(folder)):
            cells = [f"{way.size / 1e3:,.0f}", _reads(way)]
            for workers in WORKERS:
                cells += _epochs(way, workers, len(x))
            lines.append(f"| {way.name} | " + " | ".join(cells) + " |")
            console.print(lines[-1], highlight=False)
    output.mkdir(parents=True, exist_ok=True)
    (output / f"loader-{data}.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


def _ways(x: Pixels, labels: Sequence[int], files: Path, folder: Path) -> Iterator[Way]:
    """Yield the ways to keep images. folder: where caches are, which are removed."""
    asked: dict[str, dict[str, Any]] = {"quality 50": {"quality": 50}, "lossless": {"lossless": True}}
    for what, target in asked.items():
        for packing in ("each", "block"):
            path = files / f"{what}-{packing}.smalti"
            if not path.exists():
                smalti.pack(smalti.ImageSet(x, labels=tuple(labels)), path, packing=packing, **target)
            size = path.stat().st_size
            yield Way(f"smalti, {what}, {packing}", size, lambda path=path: Dataset(path, to_floats))  # type: ignore[misc]  # a default in a lambda has no type
        caches = (folder / f"cache {what} {i}" for i in range(1 + len(WORKERS)))
        yield Way(
            "the same with `cache_dir`",
            size,
            lambda path=path, caches=caches: Dataset(path, to_floats, cache_dir=next(caches)),  # type: ignore[misc]  # as above
        )
    if not (files / "png").exists():
        _write_png(x, labels, files)
    total = sum(path.stat().st_size for path in (files / "png").glob("*/*.png"))
    yield Way("folder of PNG", total, lambda: PngFolder(files / "png"))
    size = sum(path.stat().st_size for path in files.glob("*.tar"))
    yield Way("tar files of PNG", size, lambda: PngTars(files))
    if importlib.util.find_spec("webdataset") is not None:
        yield Way("WebDataset of PNG", size, lambda: _web_dataset(files))


def _write_png(x: Pixels, labels: Sequence[int], files: Path) -> None:
    """Write images as PNG: to a folder for each class, and to tar files."""
    tars = [tarfile.open(files / f"{i}.tar", "w") for i in range(SHARDS)]  # noqa: SIM115 - closed below
    for i, (image, label) in enumerate(zip(x, labels, strict=True)):
        png = files / "png" / str(label) / f"{i:05d}.png"
        png.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(png)
        tars[i * SHARDS // len(x)].add(png, f"{label}/{png.name}")
    for tar in tars:
        tar.close()


def _web_dataset(files: Path) -> Any:
    web = importlib.import_module("webdataset")
    tars = [str(path) for path in sorted(files.glob("*.tar"))]
    return web.WebDataset(tars, shardshuffle=False, empty_check=False).shuffle(BUFFER).map(_of_web)


def _of_web(sample: dict[str, Any]) -> tuple[torch.Tensor, int]:
    return to_floats(Image.open(io.BytesIO(sample["png"]))), int(sample["__key__"].split("/")[0])


def _reads(way: Way) -> str:
    """Return the seconds that single reads take in random order, after a first one."""
    dataset = way.open()
    if isinstance(dataset, IterableDataset):
        return ""
    first, *rows = np.random.default_rng(0).integers(0, len(dataset), 1 + READS).tolist()
    dataset[first]
    start = time.perf_counter()
    for i in rows:
        dataset[i]
    return f"{time.perf_counter() - start:.2f}"


def _epochs(way: Way, workers: int, n: int) -> list[str]:
    """Return seconds: to the first batch, for the next READS images, for all after the first batch; and for epoch 2."""
    dataset = way.open()
    shuffle = not isinstance(dataset, IterableDataset)
    loader = DataLoader(dataset, BATCH, shuffle=shuffle, num_workers=workers, persistent_workers=workers > 0)
    counts = list[int]()
    for epoch in range(2):
        start, count, marks = time.perf_counter(), 0, dict[int, float]()
        for images, _ in loader:
            count += len(images)
            marks[count] = time.perf_counter()
        counts.append(count)
        if epoch == 0:
            first, *_ = marks.values()
            some = next(mark for read, mark in marks.items() if read >= min(n, BATCH + READS))
            times = [first - start, some - first, max(marks.values()) - first]
    if counts != [n, n]:
        raise AssertionError(f"{way.name} gives {counts} images of {n}")
    return [f"{seconds:.2f}" for seconds in [*times, time.perf_counter() - start]]
