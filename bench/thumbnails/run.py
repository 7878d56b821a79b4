# SPDX-License-Identifier: MIT
"""Run the benchmark of small pictures with loss, and write its tables and pictures."""

import csv
import io
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import smalti
from bench.thumbnails.metrics import HIGH, LOW, Curve, Grid, bd_rate, decibel, grid, log_bytes, ms_ssim_of, psnr_of
from bench.thumbnails.pictures import contact_sheet, plot
from bench.thumbnails.placeholders import blurhash_coded, thumbhash_coded
from bench.thumbnails.rivals import Point, Rival, measured, rivals_for, versions
from bench.thumbnails.sets import held_out
from smalti.rate.target import METRICS
from smalti.types import Pixels

FOR_SSIM = "smalti, ssim"
"""How smalti is called where it works for MS-SSIM."""
QUALITIES = (1, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100)
"""The qualities of smalti."""
SHOWN_QUALITY = 50
"""The quality of smalti at whose bytes pictures are shown beside each other."""
COARSE_QUALITY = 25
"""The quality at which pictures for both metrics are shown."""
LEAST_DB = 32.0
SHOWN_DB = (26, 28, 30, 32, 34, 36)
TIMED_IMAGES = 64
TIMED_DB = 31.0
"""The speed of each codec is measured at the quality that is next to this PSNR."""
ROUNDS = 3
"""The best of so many rounds counts."""
PLACEHOLDER_SETS = ("cifar", "photographs-96")
PLACEHOLDER_BYTES = (12.0, 16.0, 24.0, 36.0)
SHOWN_PLACEHOLDER = 24.0
PLACEHOLDERS = {"thumbhash": thumbhash_coded, "blurhash, 4x3": blurhash_coded}
"""The other placeholders."""
SHOWN_IMAGES = 8


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    only: tuple[str, ...] = ()  # sets; all if there are none
    images: int = 400  # the most of a set
    effort: int = 5  # of smalti
    times: bool = False  # whether speed is measured, too, on a machine that does nothing else


def run(data: Path, output: Path, cache: Path, plan: Plan) -> None:
    """Measure the sets of `data`, and write `thumbnails.csv`, `thumbnails.md` and pictures to `output`."""
    console = Console()
    output.mkdir(parents=True, exist_ok=True)
    found, samples, lines = dict[str, list[Point]](), dict[str, list[Pixels]](), list[str]()
    for name, read in held_out(data, list(plan.only), plan.images).items():
        images = read()
        console.print(f"{name}: {len(images)} images", highlight=False)
        points = [point for rival in rivals_for(images) for point in measured(images, rival, cache)]
        found[name] = [*points, *(point for metric in METRICS for point in _smalti(images, plan.effort, metric))]
        samples[name] = images
        lines += ["", f"**{name}**: {len(images)} images", "", *_bytes_at(found[name])]
    text = ["BD-rate at equal PSNR", "", *_bd_table(found), *lines]
    text += ["", "BD-rate at equal MS-SSIM", "", *_bd_table(found, similar=True)]
    text += ["", "Metrics", "", *_metrics_table(found)]
    text += ["", "Evenness", "", *_evenness(samples, plan.effort)]
    for name in filter(samples.__contains__, PLACEHOLDER_SETS):
        text += ["", f"Placeholders, {name}", "", *_placeholders(samples[name], plan.effort)]
        contact_sheet(_shown_placeholders(samples[name], plan.effort), output / f"thumbnails-{name}-placeholders.png")
    if plan.times:
        text += ["", "Times", "", *_times(samples, found, plan.effort)]
    text += ["", f"Rivals: {versions()}."]
    (output / "thumbnails.md").write_text("\n".join(text) + "\n")
    _write_csv(output / "thumbnails.csv", found)
    for metric in ("psnr", "ms_ssim"):
        plot(found, metric, output / f"thumbnails-{metric.replace('_', '-')}.png")
    for name, images in samples.items():
        contact_sheet(_shown(images, found[name], plan.effort), output / f"thumbnails-{name}.png")
        contact_sheet(both_metrics(images, plan.effort), output / f"thumbnails-{name}-ssim.png")
    console.print("\n".join(text), highlight=False, markup=False, soft_wrap=True)


def _write_csv(path: Path, found: dict[str, list[Point]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["set", *(f.name for f in fields(Point))], lineterminator="\n")
        writer.writeheader()
        for name, points in found.items():
            writer.writerows(
                {"set": name, **asdict(point)}
                | {"bytes_an_image": f"{point.bytes_an_image:.2f}", "psnr": f"{point.psnr:.3f}"}
                | {"ms_ssim": f"{point.ms_ssim:.5f}"}
                for point in points
            )


def packed(
    images: Sequence[Pixels],
    quality: int | None,
    effort: int,
    metric: str = METRICS[0],
    bytes_an_image: float | None = None,
) -> tuple[int, list[Pixels]]:
    """Return the bytes of a smalti file of `images`, and the images that it gives back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.smalti"
        smalti.pack(list(images), path, quality=quality, effort=effort, metric=metric, bytes_an_image=bytes_an_image)
        with smalti.open(path) as archive:
            return path.stat().st_size, list(archive[list(range(len(images)))])


def _smalti(images: Sequence[Pixels], effort: int, metric: str) -> list[Point]:
    points = []
    codec = "smalti" if metric == METRICS[0] else FOR_SSIM
    for quality in QUALITIES:
        size, back = packed(images, quality, effort, metric)
        similar = ms_ssim_of(images, back)
        rate = size / len(images)
        points.append(Point(codec, "smalti", f"effort {effort}", quality, rate, psnr_of(images, back), similar))
        if math.isinf(points[-1].psnr):  # higher qualities are exact, too
            break
    return points


def curves_of(points: Sequence[Point], codec: str, how: str, *, similar: bool = False) -> list[Curve]:
    """Return the curves of a codec, one for each kind of settings; of all rivals if `codec` is "".

    similar: whether they are of MS-SSIM in dB, and not of PSNR.
    """
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for point in points:
        if point.how == how and codec in ("", point.codec):
            quality = decibel(point.ms_ssim) if similar else point.psnr
            found.setdefault((point.codec, point.settings), []).append((point.bytes_an_image, quality))
    return list(found.values())


def range_of(points: Sequence[Point]) -> Grid:
    """Return the MS-SSIMs, in dB, that smalti has over the range of PSNR at which bytes are compared."""
    ours = sorted((p.psnr, decibel(p.ms_ssim)) for p in points if p.codec == "smalti" and math.isfinite(p.psnr))
    if not ours:
        return grid()
    low, high = np.interp([LOW, HIGH], [one for one, _ in ours], [other for _, other in ours])
    return np.linspace(low, high, len(grid()))


def _rivals(found: dict[str, list[Point]]) -> list[str]:
    return list(dict.fromkeys(point.codec for points in found.values() for point in points if point.how == "files"))


def _bd_table(found: dict[str, list[Point]], *, similar: bool = False) -> list[str]:
    """Return the table of BD-rates of smalti: against each rival as files, against the best, and against sheets.

    similar: whether it is at equal MS-SSIM, and not at equal PSNR.
    """
    rivals = [*_rivals(found), ""]
    columns = [(codec, how) for how in ("files", "sheet") for codec in rivals]
    heads = [f"{codec or 'best'}, {'a file each' if how == 'files' else 'one sheet'}" for codec, how in columns]
    lines = [f"| set | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for name, points in found.items():
        at = range_of(points) if similar else grid()
        ours = log_bytes(curves_of(points, "smalti", "smalti", similar=similar), at)
        theirs = [log_bytes(curves_of(points, codec, how, similar=similar), at) for codec, how in columns]
        cells = [_share(*bd_rate(ours, curve)) for curve in theirs]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _metrics_table(found: dict[str, list[Point]]) -> list[str]:
    """Return the table of BD-rates of smalti where it works for MS-SSIM, against smalti where it works for PSNR."""
    lines = ["| set | at equal MS-SSIM | at equal PSNR |", "| --- | ---: | ---: |"]
    for name, points in found.items():
        cells = []
        for similar in (True, False):
            at = range_of(points) if similar else grid()
            one, other = (
                log_bytes(curves_of(points, codec, "smalti", similar=similar), at) for codec in (FOR_SSIM, "smalti")
            )
            cells.append(_share(*bd_rate(one, other)))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _share(more: float, reached: float) -> str:
    """Return a BD-rate in words, and which share of the range both codecs reach if that is not all of it."""
    if math.isnan(more):
        return ""
    return f"{more:+.0%}" + ("" if reached > 0.99 else f" ({reached:.0%})")


def _bytes_at(points: list[Point]) -> list[str]:
    """Return the table of bytes an image at some PSNRs."""
    at = np.array(SHOWN_DB, float)
    lines = [f"| | {' | '.join(f'{db} dB' for db in SHOWN_DB)} |", "| --- |" + " ---: |" * len(SHOWN_DB)]
    for how in ("files", "sheet", "smalti"):
        for codec in dict.fromkeys(point.codec for point in points if point.how == how):
            logs = log_bytes(curves_of(points, codec, how), at)
            cells = ["" if math.isnan(value) else f"{math.exp(value):.0f}" for value in logs]
            lines.append(f"| {codec}{', one sheet' if how == 'sheet' else ''} | {' | '.join(cells)} |")
    return lines


def _evenness(samples: dict[str, list[Pixels]], effort: int) -> list[str]:
    """Return the table of the worst images of each set: at one quality, and where a least PSNR is asked."""
    lines = [
        f"| set | quality {SHOWN_QUALITY}: bytes, PSNR, least PSNR | least {LEAST_DB:g} dB: bytes, PSNR, least PSNR |",
        "| --- | ---: | ---: |",
    ]
    for name, images in samples.items():
        cells = []
        for options in ({"quality": SHOWN_QUALITY}, {"min_psnr": LEAST_DB}):
            file = io.BytesIO()
            smalti.pack(images, file, effort=effort, **options)
            with smalti.open(file.getvalue()) as archive:
                back = list(archive[list(range(len(images)))])
            each = [psnr_of([x], [x_hat]) for x, x_hat in zip(images, back, strict=True)]
            cells.append(f"{file.tell() / len(images):.0f}, {psnr_of(images, back):.2f}, {min(each):.2f}")
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return lines


def _placeholders(images: Sequence[Pixels], effort: int) -> list[str]:
    """Return the table of placeholders: bytes an image, the whole file counted, and PSNR."""
    lines = ["| | bytes an image | PSNR, dB |", "| --- | ---: | ---: |"]
    for name, coded in PLACEHOLDERS.items():
        found = [coded(image) for image in images]
        size = sum(n for n, _ in found) / len(images)
        lines.append(f"| {name} | {size:.1f} | {psnr_of(images, [x_hat for _, x_hat in found]):.2f} |")
    for most in PLACEHOLDER_BYTES:
        try:
            size, back = packed(images, None, effort, bytes_an_image=most)
        except smalti.errors.UsageError:  # so few images do not pay for the file
            continue
        lines.append(f"| smalti, `--bytes {most:.0f}` | {size / len(images):.1f} | {psnr_of(images, back):.2f} |")
    return lines


def _shown_placeholders(images: Sequence[Pixels], effort: int) -> dict[str, list[Pixels]]:
    """Return what placeholders are shown beside each other."""
    every = slice(None, None, max(1, len(images) // SHOWN_IMAGES))
    some = list(images[every][:SHOWN_IMAGES])
    shown = {"original": some}
    try:
        _, back = packed(images, None, effort, bytes_an_image=SHOWN_PLACEHOLDER)
        shown[f"smalti: {SHOWN_PLACEHOLDER:.0f} bytes"] = back[every][:SHOWN_IMAGES]
    except smalti.errors.UsageError:
        pass
    return shown | {name: [coded(image)[1] for image in some] for name, coded in PLACEHOLDERS.items()}


def _times(samples: dict[str, list[Pixels]], found: dict[str, list[Point]], effort: int) -> list[str]:
    """Return the table of speeds: milliseconds an image, and of smalti million samples a second."""
    lines = [
        "| set | codec | encode, ms an image | decode, ms an image | encode, M samples/s | decode, M samples/s |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, images in samples.items():
        some = images[:: -(-len(images) // TIMED_IMAGES)]
        count = sum(image.size for image in some)
        for rival in rivals_for(images):
            mine = [p for p in found[name] if (p.codec, p.settings, p.how) == (rival.codec, rival.settings, "files")]
            quality = min(mine, key=lambda point: abs(point.psnr - TIMED_DB)).quality
            lines.append(_times_row(name, f"{rival.codec}, {rival.settings}", some, count, *_timed(rival, quality)))
        ours = [point for point in found[name] if point.codec == "smalti"]
        quality = round(min(ours, key=lambda point: abs(point.psnr - TIMED_DB)).quality)
        lines += [
            _times_row(name, f"smalti, effort {hard}", some, count, *_timed_smalti(quality, hard))
            for hard in dict.fromkeys((1, effort))
        ]
    return lines


Timed = tuple[Callable[[Sequence[Pixels]], Any], Callable[[Any], object]]
"""How images are encoded, and how what that gave is decoded."""


def _timed(rival: Rival, quality: float) -> Timed:
    return (
        lambda images: [rival.encode(image, quality) for image in images],
        lambda files: [rival.decode(file) for file in files],
    )


def _timed_smalti(quality: int, effort: int) -> Timed:
    def encode(images: Sequence[Pixels]) -> bytes:
        file = io.BytesIO()
        smalti.pack(list(images), file, quality=quality, effort=effort)
        return file.getvalue()

    def decode(data: bytes) -> list[Pixels]:
        with smalti.open(data) as archive:
            return list(archive[list(range(len(archive)))])

    return encode, decode


def _times_row(
    name: str,
    codec: str,
    images: Sequence[Pixels],
    samples: int,
    encode: Callable[..., Any],
    decode: Callable[..., Any],
) -> str:
    coded = encode(images)
    encoding = min(_seconds(partial(encode, images)) for _ in range(ROUNDS))
    decoding = min(_seconds(partial(decode, coded)) for _ in range(ROUNDS))
    cells = [f"{1e3 * seconds / len(images):.2f}" for seconds in (encoding, decoding)]
    cells += [f"{samples / seconds / 1e6:.2f}" for seconds in (encoding, decoding)]
    return f"| {name} | {codec} | {' | '.join(cells)} |"


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _shown(images: Sequence[Pixels], points: Sequence[Point], effort: int) -> dict[str, list[Pixels]]:
    """Return what is shown beside each other: some images, and what each codec makes of them in as many bytes.

    The quality of each rival is the one at which the set takes the bytes nearest to those of smalti at SHOWN_QUALITY.
    """
    some = list(images[:: max(1, len(images) // SHOWN_IMAGES)][:SHOWN_IMAGES])
    ours = min((p for p in points if p.codec == "smalti"), key=lambda point: abs(point.quality - SHOWN_QUALITY))
    _, back = packed(images, SHOWN_QUALITY, effort)
    shown = {
        "original": some,
        f"smalti: {_told(ours)}": back[:: max(1, len(images) // SHOWN_IMAGES)][:SHOWN_IMAGES],
    }
    for codec in dict.fromkeys(rival.codec for rival in rivals_for(images)):
        mine = [p for p in points if p.codec == codec and p.how == "files"]
        near = min(mine, key=lambda p: (abs(math.log(p.bytes_an_image / ours.bytes_an_image)), -p.psnr))
        rival = next(rival for rival in rivals_for(images) if (rival.codec, rival.settings) == (codec, near.settings))
        shown[f"{codec}: {_told(near)}"] = [rival.decode(rival.encode(image, near.quality)) for image in some]
    return shown


def both_metrics(images: Sequence[Pixels], effort: int) -> dict[str, list[Pixels]]:
    """Return images, what smalti makes of them for PSNR at COARSE_QUALITY, and for MS-SSIM in about as many bytes."""
    some = list(images[:: max(1, len(images) // SHOWN_IMAGES)][:SHOWN_IMAGES])
    size, back = packed(some, COARSE_QUALITY, effort)
    shown, low, high = {"original": some, _named("psnr", size, some, back): back}, 1, 100
    while low < high:  # the lowest quality with as many bytes
        middle = (low + high) // 2
        low, high = (low, middle) if packed(some, middle, effort, "ssim")[0] >= size else (middle + 1, high)
    tried = [packed(some, quality, effort, "ssim") for quality in {max(1, low - 1), low}]
    size, back = min(tried, key=lambda one: abs(one[0] - size))
    return shown | {_named("ssim", size, some, back): back}


def _named(metric: str, size: int, images: Sequence[Pixels], back: Sequence[Pixels]) -> str:
    similar = decibel(ms_ssim_of(images, back))
    return (
        f"--metric {metric}: {size / len(images):.0f} bytes, {psnr_of(images, back):.1f} dB, MS-SSIM {similar:.1f} dB"
    )


def _told(point: Point) -> str:
    return f"{point.bytes_an_image:.0f} bytes, " + ("exact" if math.isinf(point.psnr) else f"{point.psnr:.1f} dB")
