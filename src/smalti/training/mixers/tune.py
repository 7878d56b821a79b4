# SPDX-License-Identifier: MIT
"""Tune a model that codes by mixing to one's own collection: its networks, then its counters and mixers.

The networks are trained in turn, a few steps each, for most of the time; now and then they are measured on rows
of images that are held out, and the best weights are kept. Then counters and mixers learn by coding the training
images.
"""

import io
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from smalti.codec.batching import BLOCK, EACH
from smalti.core.library import need_core
from smalti.errors import TrainingError
from smalti.model.mixing.mixer import CHANNELS, Layer, Mixer, check_mixer
from smalti.rate.fitting.fit_model import different, held_out
from smalti.rate.fitting.rows import Rows, RowStore
from smalti.training.checkpoint import CHECKPOINT
from smalti.training.listener import Listener, Planned
from smalti.training.mixers.fit import Fitting
from smalti.training.mixers.prime import prime
from smalti.training.mixers.sets import HELD, PARTS
from smalti.types import Pixels
from smalti.util.atomic import atomic_write

LEAST_IMAGES = 3 * PARTS
"""So many images, at least, are needed."""
NETWORKS_SHARE = 0.75
"""The share of the time in which networks are trained."""
ROWS, LEAST_ROWS = 1_500_000, 2048
"""About so many rows are taken for each network; with fewer than the least, it stays as it is."""
BATCH, RATE, WARM = 8192, 1e-3, 100
TURN = 20
"""Steps of one network after another."""
MEASURED_EACH, SAVED_EACH = 20.0, 60.0
"""Seconds from one measurement, and from one checkpoint, to the next."""
MEASURED_ROWS, MEASURED_SAMPLES = 40_000, 1 << 21
"""The most rows on which a network is measured, and about the most samples of images on which the model is."""
PRIMED_SAMPLES = 1 << 23
"""Counters learn from images of about so many samples."""
LEAST_USED = (100, 20, 4)
"""Lines of counters are kept that were used so often; each is tried."""
FEWER = 0.003
"""More lines are kept if that saves this share of the bytes."""
VERSION = 1
Networks = list[tuple[Layer, Layer, Layer]]


@dataclass(frozen=True, eq=False)
class Tuned:
    """A mixer that was tuned, and what that did on images that it was not trained on."""

    mixer: Mixer
    images: tuple[int, int]  # that it was trained on, and that were held out
    rates: dict[str, tuple[float, float]]  # by packing: bytes an image with the model at the start, and with this one
    bits: tuple[tuple[float, float], ...]  # of each network: bits a sample at the start and in the end
    log: tuple[dict[str, float], ...]
    seconds: float  # of training the networks

    def verdict(self, start: str) -> str:
        """Return in words what tuning did. start: the name of the model at the start."""
        before, after = self.rates[BLOCK]
        kept, better = self.images[1], after < before
        words = f"on {kept:,} images held out: {before:,.1f} bytes an image with {start}, {after:,.1f} with this model"
        return f"{words} ({after / before - 1:+.1%}), the model not counted" + ("" if better else f"; keep to {start}")


def tune(
    images: Sequence[Pixels],
    start: Mixer,
    start_id: bytes,
    folder: Path,
    minutes: float,
    device: str,
    listener: Listener,
) -> Tuned:
    """Tune a mixer to images (`h w` or `h w c`), from the checkpoint in `folder` if there is one.

    Raises:
        UsageError: numpy computes, not the compiled core.
        TrainingError: there are too few images, or the checkpoint is of another training.
        KeyboardInterrupt: the user interrupted it; the last checkpoint is at most SAVED_EACH seconds old.
    """
    need_core("this training")
    some = different(images)
    if len(some) < LEAST_IMAGES:
        raise TrainingError(f"{len(some)} different images are too few to train on; give at least {LEAST_IMAGES}")
    kept = some[HELD::PARTS]
    others = [image for i, image in enumerate(some) if i % PARTS != HELD]
    checksum = 0
    for image in some:
        checksum = zlib.crc32(image.tobytes(), zlib.crc32(repr(image.shape).encode(), checksum))
    fingerprint = {"start": start_id.hex(), "images": len(some), "checksum": checksum, "minutes": minutes}
    seconds = 60 * minutes
    networks = _Networks(others, kept, start, folder, fingerprint, seconds * NETWORKS_SHARE, device, listener)
    networks.run()
    tuned = replace(start, networks=tuple(networks.best[:CHANNELS]), drawn=tuple(networks.best[CHANNELS:]))
    check_mixer(tuned)
    listener.stage("exporting", "mixing")
    held = {streams: held_out(kept, start, 1, streams, MEASURED_SAMPLES) for streams in (BLOCK, EACH)}
    learning = _spread(others, PRIMED_SAMPLES)
    before = {streams: measured.bytes_an_image(start) for streams, measured in held.items()}
    best, rate = start, before[BLOCK]
    for least in LEAST_USED:
        listener.say(f"counters and mixers learn from {len(learning):,} images; lines used {least} times are kept")
        tried = prime(tuned, learning, least, lambda _: listener.advance(1, len(learning) * len(LEAST_USED)))
        now = held[BLOCK].bytes_an_image(tried)
        if now < rate * (1 - FEWER):
            best, rate = tried, now
        else:
            break
    rates = {streams: (before[streams], measured.bytes_an_image(best)) for streams, measured in held.items()}
    return Tuned(best, (len(others), len(kept)), rates, networks.bits, tuple(networks.log), networks.seconds)


def planned(minutes: float, networks: int, images: int) -> tuple[Planned, ...]:
    """Return the stages of tuning a mixer of so many networks."""
    words = f"{networks} networks, on {images:,} images", "counters and mixers learn from these images"
    return (
        Planned("training", "mixing", 60 * minutes * NETWORKS_SHARE, words[0]),
        Planned("exporting", "mixing", 60 * minutes * (1 - NETWORKS_SHARE), words[1]),
    )


def report_lines(start: str, tuned: Tuned) -> list[str]:
    """Return what a report says of a tuned mixer, in Markdown. start: the name of the model at the start."""
    lines = [
        f"On {tuned.images[1]:,} images that it was not trained on, lossless and without the model:",
        "",
        f"| packing | bytes an image, {start} | bytes an image, tuned | less |",
        "| --- | ---: | ---: | ---: |",
    ]
    for streams, (before, after) in tuned.rates.items():
        lines.append(f"| {streams} | {before:,.1f} | {after:,.1f} | {1 - after / before:.1%} |")
    lines += [
        "",
        f"The networks were trained for {tuned.seconds / 60:.1f} minutes. Bits a sample before and after:",
        "",
    ]
    return lines + [f"- {before:.3f}, {after:.3f}" for before, after in tuned.bits]


def _spread(images: Sequence[Pixels], samples: int) -> list[Pixels]:
    """Return images of about so many samples, spread over all."""
    total = sum(image.size for image in images)
    return list(images[:: max(1, round(total / samples))])


class _Networks:
    """The networks while they are trained. They go on from the checkpoint in `folder`, or begin anew."""

    def __init__(
        self,
        images: Sequence[Pixels],
        kept: Sequence[Pixels],
        start: Mixer,
        folder: Path,
        fingerprint: dict[str, Any],
        limit: float,
        device: str,
        listener: Listener,
    ) -> None:
        """limit: the seconds of training, over all runs."""
        self.listener, self.folder, self._fingerprint, self._limit = listener, folder, fingerprint, limit
        place = torch.device("cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu")
        rows, measured = _rows(images, start, ROWS), _rows(kept, start, MEASURED_ROWS)
        self.best: Networks = list(start.networks + start.drawn)
        self._measured = measured
        self._fittings = [
            Fitting(k, rows[k], start=network, device=place)
            for k, network in enumerate(self.best)
            if len(rows[k]) >= LEAST_ROWS and len(measured[k])
        ]
        self._first = {fitting.channel: fitting.bits(measured[fitting.channel]) for fitting in self._fittings}
        self._least = dict(self._first)
        self.log = list[dict[str, float]]()
        self.seconds = 0.0
        self._load()

    @property
    def bits(self) -> tuple[tuple[float, float], ...]:
        """The bits a sample of each network that was trained, at the start and at best."""
        return tuple((self._first[k], self._least[k]) for k in self._first)

    def run(self) -> None:
        """Train until the time is over."""
        self.listener.stage("training", "mixing")
        self.listener.start(self._limit, self.seconds)
        measured = saved = now = time.monotonic()
        while self._fittings and self.seconds < self._limit:
            share = self.seconds / self._limit
            losses = list[float]()
            for fitting in self._fittings:
                for _ in range(TURN):
                    rate = RATE * (min(1.0, (fitting.steps + 1) / WARM) * (1 - share) + 0.01)
                    losses.append(fitting.step(BATCH, rate))
            last, now = now, time.monotonic()
            self.seconds += now - last
            self.listener.step(min(now - last, self._limit), sum(losses) / len(losses))
            if now - measured >= MEASURED_EACH or self.seconds >= self._limit:
                measured = now
                self._measure()
            if now - saved >= SAVED_EACH or self.seconds >= self._limit:
                saved = now
                self._save()

    def _measure(self) -> None:
        """Measure all networks on rows that are held out, and keep the best weights."""
        row = {"epoch": float(len(self.log) + 1), "seconds": self.seconds}
        for fitting in self._fittings:
            k = fitting.channel
            bits = fitting.bits(self._measured[k])
            row[f"bits_{k + 1}"] = bits
            if bits < self._least[k]:
                self._least[k], self.best[k] = bits, fitting.layers()
        self.log.append(row)
        now, first = (sum(values.values()) / len(values) for values in (self._least, self._first))
        self.listener.epoch(row, f"{now:.3f} bits a sample on images held out, {first:.3f} at the start")

    def _save(self) -> None:
        content = {
            "version": VERSION,
            "plan": self._fingerprint,
            "seconds": self.seconds,
            "log": self.log,
            "least": self._least,
            "best": [[(torch.from_numpy(a.weights), torch.from_numpy(a.biases)) for a in net] for net in self.best],
            "fittings": [fitting.state() for fitting in self._fittings],
        }
        data = io.BytesIO()
        torch.save(content, data)
        with atomic_write(self.folder / CHECKPOINT, force=True) as file:
            file.write(data.getbuffer())

    def _load(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            matches = saved["version"] == VERSION and saved["plan"] == self._fingerprint
        except Exception as exc:
            raise TrainingError(f"cannot read the checkpoint {path}; delete it to start anew") from exc
        if not matches:
            raise TrainingError(f"{path} is of other images or another plan; delete it or choose another output")
        self.seconds, self.log, self._least = saved["seconds"], saved["log"], saved["least"]
        restored = ([Layer(w.numpy(), b.numpy()) for w, b in network] for network in saved["best"])
        self.best = [(one, two, three) for one, two, three in restored]
        for fitting, state in zip(self._fittings, saved["fittings"], strict=True):
            fitting.restore(state)


def _rows(images: Sequence[Pixels], mixer: Mixer, most: int) -> list[Rows]:
    """Return about so many rows for each network."""
    store = RowStore(mixer)
    pixels = sum(image.shape[0] * image.shape[1] for image in images)
    each = max(1, pixels // (4 * most))  # of very many images, one in so many is looked at
    store.add(images[::each], min(1.0, most * each / max(pixels, 1)))
    return [rows[:most] for rows in store.all_rows()]
