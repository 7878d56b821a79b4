# SPDX-License-Identifier: MIT
"""Benchmark of rate, distortion and speed: all codecs on the same images; CSV, markdown and plot.

The rate is the bytes of the file or files over the number of images. The PSNR is that of the MSE averaged over all
images, after decoding. The speed is measured on the first `SPEED_IMAGES` images, with one thread, and with two threads
that have half of them each.
"""

import csv
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console

import smalti
from bench.others import GENERAL, LOSSLESS, LOSSY, Codec
from bench.plot import plot
from smalti.codec.rdo import FAST_EFFORT
from smalti.demo.baselines import cut, mosaic
from smalti.model.bundle import bundle_bytes
from smalti.rate.metrics import mse, psnr
from smalti.rate.target import DEFAULT_EFFORT
from smalti.types import Pixels

SPEED_IMAGES = 400
SMALTI_SPEED_IMAGES = 4096
"""smalti needs more images for a measurement of its speed: it is faster, and works in blocks of 256."""
LOSSLESS_SPEED_IMAGES = 2048
SPEED_QUALITIES = (15, 20, 50)
"""The qualities at which the speed is measured: some code by latents, others by pixels."""
MAX_ERRORS = (0, 1, 2, 5)
QUALITIES = (1, 15, 29, 40, 50, 60, 70, 85, 100)
SEARCHED_QUALITIES = (10, 20, 30, 40, 50, 65, 80, 100)
"""The qualities at efforts that search latents: fewer, because the search is slow."""

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One line of the result."""

    codec: str
    how: str  # "files", "sheet" or "archive"
    settings: str
    quality: float
    bytes_an_image: float
    psnr: float  # dB; inf if lossless
    encode_1: float = math.nan  # images a second, one thread
    encode_2: float = math.nan  # two threads
    decode_1: float = math.nan
    decode_2: float = math.nan


def run(x: Pixels, output: Path, data: str, model: str, efforts: Sequence[int] = (DEFAULT_EFFORT,)) -> None:
    """Measure all codecs on `x` (`n h w`), and write `rd-DATA.csv`, `.md` and `.png` to `output`."""
    console = Console(stderr=True)
    rows = _measured(_rows(x, model, efforts), output / f"rd-{data}.csv", console)
    size = smalti.load_model(model).size
    counted = f"With the model counted ({size:,} bytes, once for {len(x):,} images): {size / len(x):.1f} bytes more.\n"
    (output / f"rd-{data}.md").write_text("\n".join([summary(rows), counted, table(rows)]), encoding="utf-8")
    plot([asdict(row) for row in rows], f"{len(x):,} test images of {data}", output / f"rd-{data}.png")
    console.print(f"wrote {output}/rd-{data}.csv, .md and .png")


def run_lossless(x: Pixels, output: Path, data: str, model: str) -> None:
    """Measure the lossless codecs alone, and write `lossless-DATA.csv` and `.md`."""
    console = Console(stderr=True)

    def codecs() -> Iterator[Row]:
        yield from _smalti_lossless(x, model)
        yield from _lossless_rivals(x)

    rows = _measured(codecs(), output / f"lossless-{data}.csv", console)
    loaded = smalti.load_model(model)
    part = len(bundle_bytes(replace(loaded, networks={}, spatial=None, measured=())))
    counted = (
        f"With what that needs of the model counted ({part:,} bytes, once for {len(x):,} images):"
        f" {part / len(x):.1f} bytes more; with the whole bundle ({loaded.size:,}): {loaded.size / len(x):.1f} more.\n"
    )
    (output / f"lossless-{data}.md").write_text("\n".join([table(rows), counted]), encoding="utf-8")
    console.print(f"wrote {output}/lossless-{data}.csv and .md")


def _measured(found: Iterator[Row], path: Path, console: Console) -> list[Row]:
    """Print each row when it is measured, write all rows as CSV, and return them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for row in found:
        rows.append(row)
        console.print(
            f"{row.codec:17} {row.how:10} {row.quality:5g} {row.bytes_an_image:8.2f} bytes {row.psnr:6.2f} dB"
            f"  {row.encode_1:9.0f} {row.encode_2:9.0f} {row.decode_1:9.0f} {row.decode_2:9.0f} images/s",
            highlight=False,
            soft_wrap=True,
        )
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    return rows


def _rows(x: Pixels, model: str, efforts: Sequence[int]) -> Iterator[Row]:
    yield from _smalti(x, model, efforts)
    yield from _smalti_lossless(x, model)
    for codec in LOSSY:
        for i, quality in enumerate(codec.qualities):
            timed = i == len(codec.qualities) // 2  # speed hardly depends on quality: once a codec is enough
            yield _files(x, codec, quality, timed=timed)
            yield _sheet(x, codec, quality, timed=timed)
    yield from _lossless_rivals(x)


def _lossless_rivals(x: Pixels) -> Iterator[Row]:
    for codec in LOSSLESS:
        yield _files(x, codec, 0, timed=True)
        yield _sheet(x, codec, 0, timed=True)
    for codec in GENERAL:
        yield _whole_set(x, codec)


def _files(x: Pixels, codec: Codec, quality: float, *, timed: bool) -> Row:
    """Measure a codec with one file for each image."""

    def encode(images: Pixels) -> list[bytes]:
        return [codec.encode(image, quality) for image in images]

    def decode(files: list[bytes]) -> Pixels:
        return np.stack([codec.decode(file) for file in files])

    files = [file for part in _spread(encode, _halves(x)) for file in part]
    x_hat = np.concatenate(_spread(decode, [files[: len(x) // 2], files[len(x) // 2 :]]))
    speeds = _speeds(x, encode, decode) if timed else ()
    return _row(x, x_hat, codec, "files", quality, sum(map(len, files)), speeds)


def _sheet(x: Pixels, codec: Codec, quality: float, *, timed: bool) -> Row:
    """Measure a codec with all images on one sheet, or, for the speed, on one sheet for each thread."""
    _, h, w = x.shape

    def encode(images: Pixels) -> tuple[bytes, int]:
        return codec.encode(mosaic(images), quality), len(images)

    def decode(sheet: tuple[bytes, int]) -> Pixels:
        return cut(codec.decode(sheet[0]), sheet[1], h, w)

    sheet = encode(x)
    speeds = _speeds(x, encode, decode) if timed else ()
    return _row(x, decode(sheet), codec, "sheet", quality, len(sheet[0]), speeds)


def _whole_set(x: Pixels, codec: Codec) -> Row:
    """Measure a general compressor on all pixels as one string, image after image."""

    def encode(images: Pixels) -> bytes:
        return codec.encode(images.reshape(-1, 1), 0)

    def decode(data: bytes) -> Pixels:
        return codec.decode(data).reshape(-1, *x.shape[1:])

    data = encode(x)
    return _row(x, decode(data), codec, "archive", 0, len(data), _speeds(x, encode, decode))


def _smalti(x: Pixels, name: str, efforts: Sequence[int]) -> Iterator[Row]:
    """Measure smalti on real files, packed and unpacked at several qualities and efforts."""
    model = smalti.load_model(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.smalti"
        for effort in efforts:
            for quality in QUALITIES if effort <= FAST_EFFORT else SEARCHED_QUALITIES:
                packed = smalti.pack(x, path, model=model, quality=quality, effort=effort, force=True)
                x_hat = smalti.load(path, model=model).pixels
                timed = quality in SPEED_QUALITIES
                images = SMALTI_SPEED_IMAGES if effort <= FAST_EFFORT else SPEED_IMAGES
                speeds = (
                    _smalti_speeds(x, name, path, images, partial(smalti.pack, quality=quality, effort=effort))
                    if timed
                    else ()
                )
                settings = f"{model.name}, effort {effort}"
                yield Row("smalti", "archive", settings, quality, packed.rate, psnr(mse(x, x_hat)), *speeds)


def _smalti_lossless(x: Pixels, name: str) -> Iterator[Row]:
    """Measure smalti on real files, lossless and with several largest errors."""
    model = smalti.load_model(name)
    if model.pixels is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.smalti"
        for max_error in MAX_ERRORS:
            packed = smalti.pack(x, path, model=model, max_error=max_error, force=True)
            x_hat = smalti.load(path, model=model).pixels
            if np.abs(x_hat.astype(int) - x).max() > max_error:
                raise AssertionError(f"smalti is off by more than {max_error}")
            pack = partial(smalti.pack, max_error=max_error)
            speeds = () if max_error else _smalti_speeds(x, name, path, LOSSLESS_SPEED_IMAGES, pack)
            settings = f"{model.name}, largest error {max_error}"
            yield Row("smalti lossless", "archive", settings, max_error, packed.rate, psnr(mse(x, x_hat)), *speeds)


def _smalti_speeds(x: Pixels, name: str, path: Path, images: int, pack: Callable[..., object]) -> tuple[float, ...]:
    """Return what `_speeds` returns, for smalti, which has its own threads; `pack` is `smalti.pack` with a target."""
    x, speeds = x[:images], []
    for threads in (1, 2):
        model = smalti.load_model(name, threads=threads)
        pack(x[:8], path, model=model, force=True)  # starts the engine
        smalti.load(path, model=model)
        encoding = _seconds(partial(pack, x, path, model=model, force=True))
        decoding = _seconds(partial(smalti.load, path, model=model))
        speeds.append((len(x) / encoding, len(x) / decoding))
    return speeds[0][0], speeds[1][0], speeds[0][1], speeds[1][1]


def _speeds(x: Pixels, encode: Callable[[Pixels], T], decode: Callable[[T], Pixels]) -> tuple[float, ...]:
    """Return images a second: encoding with one thread and two, then decoding with one thread and two."""
    x = x[:SPEED_IMAGES]
    coded: list[list[T]] = []
    speeds = []
    for parts in ([x], _halves(x)):
        start = time.perf_counter()
        coded.append(_spread(encode, parts))
        speeds.append(len(x) / (time.perf_counter() - start))
    return (*speeds, *(len(x) / _seconds(partial(_spread, decode, parts)) for parts in coded))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _halves(x: Pixels) -> list[Pixels]:
    return [x[: len(x) // 2], x[len(x) // 2 :]]


def _spread(work: Callable[[S], T], parts: Sequence[S]) -> list[T]:
    """Return `work` on each of `parts`, each in a thread of its own."""
    if len(parts) == 1:
        return [work(parts[0])]
    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(work, parts))


def _row(x: Pixels, x_hat: Pixels, codec: Codec, how: str, quality: float, size: int, speeds: tuple[float, ...]) -> Row:
    error = mse(x, x_hat)
    if codec not in LOSSY and error:
        raise AssertionError(f"{codec.name} is not lossless here")
    return Row(codec.name, how, codec.settings, quality, size / len(x), psnr(error), *speeds)


def summary(rows: Sequence[Row], quality: int = 50) -> str:
    """Return the bytes an image of each lossy codec at the PSNR of smalti at `quality`, in markdown.

    Between measured points, log bytes are interpolated over PSNR; beyond them the cell is empty.
    """
    mine = [row for row in rows if row.codec == "smalti"]
    default = [row for row in mine if row.settings.endswith(f"effort {DEFAULT_EFFORT}")]
    ours = min(default or mine, key=lambda row: abs(row.quality - quality))
    lines = [
        f"At the {ours.psnr:.2f} dB of smalti at quality {ours.quality:g} ({ours.settings}):",
        "",
        "| codec | bytes an image, a file each | bytes an image, one sheet or file of all |",
        "| --- | ---: | ---: |",
    ]
    for codec in dict.fromkeys(row.codec for row in rows if row.how == "files" and math.isfinite(row.psnr)):
        cells = []
        for how in ("files", "sheet"):
            curve = sorted((r.psnr, math.log(r.bytes_an_image)) for r in rows if (r.codec, r.how) == (codec, how))
            inside = curve[0][0] <= ours.psnr <= curve[-1][0]
            log_bytes = float(np.interp(ours.psnr, [p for p, _ in curve], [b for _, b in curve]))
            cells.append(f"{math.exp(log_bytes):.1f}" if inside else "")
        lines.append(f"| {codec} | {cells[0]} | {cells[1]} |")
    lines.append(f"| **smalti** | | **{ours.bytes_an_image:.1f}** |")
    return "\n".join(lines) + "\n"


def table(rows: Sequence[Row]) -> str:
    """Return all rows as a table in markdown."""
    lines = [
        "| codec | how | settings | quality | bytes an image | PSNR, dB |"
        " encode, images/s, 1 and 2 threads | decode, images/s, 1 and 2 threads |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        shown = "lossless" if math.isinf(row.psnr) else f"{row.psnr:.2f}"
        encoding, decoding = (
            "" if math.isnan(one) else f"{one:,.0f}, {two:,.0f}"
            for one, two in ((row.encode_1, row.encode_2), (row.decode_1, row.decode_2))
        )
        quality = "" if math.isinf(row.psnr) or "lossless" in row.codec else f"{row.quality:g}"
        name = f"**{row.codec}**" if row.codec.startswith("smalti") else row.codec
        lines.append(
            f"| {name} | {row.how} | {row.settings} | {quality} | {row.bytes_an_image:.1f} | {shown}"
            f" | {encoding} | {decoding} |"
        )
    return "\n".join(lines) + "\n"
