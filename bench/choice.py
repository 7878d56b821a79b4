# SPDX-License-Identifier: MIT
"""Benchmark of the choice of the model: what tells kinds of images apart, what it costs, and what it gains.

The tables give: the bytes that a model would take to keep images of a kind exactly, as a share of what deflate takes;
the processor time of the choice, beside that of a model that is named; the bytes of a shuffled mixture, beside those of
its parts.
"""

import io
import statistics
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

import smalti
from bench.data import folder, test_images
from smalti.demo.samples import draw_digits
from smalti.model.bundle import load_model
from smalti.rate.estimate import by_pixels, deflated
from smalti.rate.model_choice import MOST_EACH, SUITED
from smalti.types import Pixels

MODELS = ("mnist", "fashion")
OF_A_KIND, SINGLES, RUNS = 100, 15, 3
OPTIMISED = 1000
"""The most images that are packed to measure the time at a quality where rate and distortion are optimised."""
ASKED: dict[str, dict[str, Any]] = {"quality 50": {}, "quality 25": {"quality": 25}, "lossless": {"lossless": True}}
SHIFT = 4  # pixels


def run(images: int | None, output: Path) -> None:
    """Measure on so many images of MNIST and of Fashion-MNIST (None: all test images); write `choice.md`."""
    digits, clothes = test_images("mnist")[:images], test_images("fashion-mnist")[:images]
    console, lines = Console(), list[str]()
    smalti.pack(np.concatenate([digits[:300], clothes[:300]]), io.BytesIO())  # so that nothing below starts a network
    for table in (_shares(digits, clothes), _times(digits), _mixtures(digits, clothes)):
        for line in table:
            lines.append(line)
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        lines.append("")
        console.print()
    output.mkdir(parents=True, exist_ok=True)
    (output / "choice.md").write_text("\n".join(lines), encoding="utf-8")


def _shares(digits: Pixels, clothes: Pixels) -> Iterator[str]:
    """Yield the table of shares, and of the models that are chosen, of each kind of images."""
    yield f"A model suits images up to a share of {SUITED}; {OF_A_KIND} images each."
    yield ""
    yield f"| images (gray) | {' | '.join(MODELS)} | chosen at quality 50 |"
    yield "| --- | ---: | ---: | --- |"
    for what, x in _kinds(digits[:OF_A_KIND], clothes[:OF_A_KIND]):
        plain = deflated(x).sum()
        shares = [by_pixels(x, 0, load_model(name), MOST_EACH).sum() / plain for name in MODELS]
        cells = [f"{share:.2f}" for share in shares]
        yield f"| {what} | {' | '.join(cells)} | {_models(smalti.pack(x, io.BytesIO(), effort=3))} |"


def _kinds(digits: Pixels, clothes: Pixels) -> Iterator[tuple[str, Pixels]]:
    n = len(digits)
    yield "MNIST", digits
    yield "Fashion-MNIST", clothes
    yield "drawn digits", draw_digits(n)
    yield "MNIST, 20x20 of it", np.ascontiguousarray(digits[:, 4:24, 4:24])
    yield "MNIST in 32x32", np.pad(digits, ((0, 0), (2, 2), (2, 2)))
    yield f"MNIST, rolled by {SHIFT} pixels", np.roll(digits, SHIFT, (1, 2))
    yield "Fashion-MNIST in 16x16", _reduced(map(Image.fromarray, clothes), 16)
    yield "MNIST, inverted", 255 - digits
    yield "noise", np.random.default_rng(0).integers(0, 256, digits.shape, dtype=np.uint8)
    colour = folder("colour")
    if not colour.is_dir():
        return
    photos = [Image.open(path).convert("L") for path in sorted((colour / "photos").iterdir())[:n]]
    yield "photographs, 28x28 of them", np.stack([np.asarray(photo)[60:88, 60:88] for photo in photos])
    yield "photographs in 28x28", _reduced(photos, 28)
    yield "emoji in 28x28", _reduced(_strips(colour / "emoji.tar", 64, n), 28)
    yield "traffic signs, 32x32", _reduced(_strips(colour / "signs.tar", 32, n), 32)


def _reduced(pictures: Any, side: int) -> Pixels:
    small = [np.asarray(picture.convert("L").resize((side, side), Image.Resampling.LANCZOS)) for picture in pictures]
    return np.stack(small)


def _strips(path: Path, side: int, n: int) -> list[Image.Image]:
    """Return the first images of a tar file of strips, in each of which squares lie one under another."""
    found = list[Image.Image]()
    with tarfile.open(path) as tar:
        for member in tar:
            data = tar.extractfile(member)
            assert data is not None
            strip = Image.open(data).convert("RGB")
            found += [strip.crop((0, y, side, y + side)) for y in range(0, strip.height, side)]
            if len(found) >= n:
                return found[:n]
    raise AssertionError(f"{path} has fewer than {n} images")


def _times(digits: Pixels) -> Iterator[str]:
    """Yield the table of the time of the choice."""
    few = f"{min(len(digits), OPTIMISED):,} at quality 25"
    yield f"{len(digits):,} images of mnist, {few}; processor time with auto over mnist, medians of {RUNS} runs."
    yield ""
    yield "| | pack | encode, one image | encode with mnist, ms |"
    yield "| --- | ---: | ---: | ---: |"
    for what, asked in ASKED.items():

        def packs(model: str, asked: dict[str, Any] = asked) -> None:
            smalti.pack(digits[: OPTIMISED if "quality" in asked else None], io.BytesIO(), model=model, **asked)

        def encodes(model: str, asked: dict[str, Any] = asked) -> None:
            for image in digits[:SINGLES]:
                smalti.encode(image, model=model, **asked)

        packed, encoded = _beside(packs), _beside(encodes)
        cells = [f"{auto / named:.2f}" for named, auto in (packed, encoded)]
        yield f"| {what} | {' | '.join(cells)} | {encoded[0] / SINGLES * 1000:.1f} |"


def _beside(work: Callable[[str], None]) -> tuple[float, float]:
    """Return the seconds of processor that work takes with mnist and with auto, by turns."""
    times: dict[str, list[float]] = {"mnist": [], "auto": []}
    for model in ("mnist", "auto") * RUNS:
        start = time.process_time()
        work(model)
        times[model].append(time.process_time() - start)
    return statistics.median(times["mnist"]), statistics.median(times["auto"])


def _mixtures(digits: Pixels, clothes: Pixels) -> Iterator[str]:
    """Yield the table of the bytes of both data sets shuffled, one behind the other, and each with its model."""
    yield "MNIST and Fashion-MNIST in one file with auto, beside two files with the models of each; effort 3."
    yield ""
    yield "| | apart, bytes an image | shuffled | over apart | one behind the other | over apart | of clothes alone |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | --- |"
    both = np.concatenate([digits, clothes])
    shuffled = both[np.random.default_rng(0).permutation(len(both))]
    for what, asked in ASKED.items():
        apart = sum(
            smalti.pack(x, io.BytesIO(), model=name, effort=3, **asked).bytes
            for x, name in zip((digits, clothes), MODELS, strict=True)
        ) / len(both)
        rates = [smalti.pack(x, io.BytesIO(), effort=3, **asked).rate for x in (shuffled, both)]
        cells = [f"{rate:.2f} | {rate / apart:.4f}" for rate in rates]
        alone = _models(smalti.pack(clothes, io.BytesIO(), effort=3, **asked))
        yield f"| {what} | {apart:.2f} | {' | '.join(cells)} | {alone} |"


def _models(packed: smalti.Packed) -> str:
    """Return which models code how many images, in words."""
    counts = {**packed.models, **({"none": packed.without_model} if packed.without_model else {})}
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())
