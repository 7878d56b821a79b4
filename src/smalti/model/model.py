# SPDX-License-Identifier: MIT
"""A model in memory, its networks, priors and operating points; it runs the networks.

The networks are ONNX graphs; the engines that run them are in `engines`. The methods of `Model` say what each network
takes and gives. `bundle.py` reads and writes a model as one file.
"""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smalti.entropy.frequencies import Ints
from smalti.errors import ModelError, UsageError
from smalti.model.engines.network import Network, engine, start
from smalti.model.latent_prior import Grid, LatentPrior
from smalti.model.masked_mlp import ACTIVATION_MAX, EXACT, embedding_weights
from smalti.model.mixing.fit import Fit
from smalti.model.mixing.mixer import Mixer
from smalti.model.operating_points import OperatingPoint, OperatingPoints
from smalti.model.pixel_prior import SAMPLE_MAX, PixelPrior
from smalti.model.spatial_prior import SpatialPrior
from smalti.model.transform.transform import Transform
from smalti.util.parallel import once

LATER = "_later"
"""The entry of a model's dictionary that holds functions which read its parts."""
RUN_IMAGES = 64
"""A network runs on so many images at a time; more would only cost memory."""

ANALYSIS, SYNTHESIS = "analysis.onnx", "synthesis.onnx"
FEATURES, SPATIAL_ANALYSIS = "features.onnx", "local-analysis.onnx"
POST_FILTER = "dequantiser.onnx"
NETWORKS = (FEATURES, SYNTHESIS, ANALYSIS, SPATIAL_ANALYSIS, POST_FILTER)
DECODING = (FEATURES, SYNTHESIS, POST_FILTER)
"""The networks that decode, which are proven exact."""
COARSE = 2
"""The post-filter runs on images whose largest error is at least this."""
CORRECTION_BITS = 8
"""The post-filter corrects a sample by multiples of the step between levels divided by 2^8."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Model:
    """A learned codec: its networks, its priors, and the images and operating points that they are made for."""

    name: str
    id: bytes  # first 8 bytes of the SHA-256 of what decoding depends on
    image_shape: tuple[int, int, int]  # h w c
    patches: int  # of an image; each has latents of its own
    grid: Grid
    prior: LatentPrior
    multipliers: NDArray[np.float64]  # POINTS: bits that a squared error of 1, on [0, 1] pixels, is worth
    measured: tuple[OperatingPoint, ...]  # on images that it was not trained on
    training: Mapping[str, Any]  # provenance: data, schedule, what it reached
    networks: Mapping[str, bytes]  # ONNX files by name, those of NETWORKS that the model has
    spatial: SpatialPrior | None = field(default_factory=lambda: None)  # a default in the class would be found too soon
    pixels: PixelPrior | None = field(default_factory=lambda: None)  # if the model can code by pixels
    mixer: Mixer | None = field(default_factory=lambda: None)  # if the model can code by mixing
    transform: Transform | None = field(default_factory=lambda: None)  # if the model can code by transform
    positions: tuple[int, int] = (0, 0)  # rows and columns of positions, if there are spatial latents
    size: int = 0  # of the bundle, in bytes
    fit: Fit | None = None  # if it is another model whose mixer was fitted to a collection
    base: bytes | None = None  # the id of the built-in model that was tuned, whose parts it has but for those tuned
    threads: int = 0  # of onnxruntime, if it is used; 0: one for each core

    @property
    def has_latents(self) -> bool:
        """Say whether the model can code by latents."""
        return SYNTHESIS in self.networks

    @property
    def can_encode(self) -> bool:
        """Say whether no network of the encoder is missing; coding without latents needs none of them."""
        needed = {ANALYSIS} if self.spatial is None else {ANALYSIS, SPATIAL_ANALYSIS}
        return not self.has_latents or needed <= self.networks.keys()

    @property
    def is_general(self) -> bool:
        """Say whether the model takes images of any size and content, so that no other need suit them."""
        return self.mixer is not None or not self.measured

    @once
    def operating_points(self) -> OperatingPoints:
        """Return the operating points of the model, in the order of their bytes."""
        if any(point.transform for point in self.measured):
            return OperatingPoints.by_transform(self.measured)
        return OperatingPoints(self.measured, self.multipliers, int(np.prod(self.image_shape)))

    @property
    def latents(self) -> int:
        """Return how many latents a patch has."""
        return self.prior.latents

    @property
    def spatial_shape(self) -> tuple[int, int, int]:
        """Return the shape of an image's spatial latents, c H W; c is 0 if there are none."""
        return (0 if self.spatial is None else self.spatial.mlp.latents, *self.positions)

    def pixels_for(self, channels: int) -> PixelPrior | None:
        """Return the prior that codes images of so many channels by pixels, or None.

        A prior for gray images also codes colour images, one channel after another.
        """
        return self.pixels if self.pixels is not None and self.pixels.window.channels in (1, channels) else None

    def fitting(self, point: OperatingPoint, shape: tuple[int, int, int]) -> OperatingPoint | None:
        """Return the operating point at which images of `shape` (h w c) are coded when `point` is asked for.

        It is `point` itself if the model can code such images there. If it cannot, because the latents are made for
        another shape, it is the point that codes by pixels with the fewest bytes; None if there is none.
        """
        if point.transform or (point.pixels and self.mixer is not None):
            return point
        if not point.pixels and self.has_latents and shape == self.image_shape:
            return point
        lowest = self.operating_points.first_by_pixels
        if self.pixels_for(shape[2]) is None or lowest is None:
            return None
        return point if point.pixels else self.operating_points.all[lowest]

    def post_filter(self, x: NDArray[np.uint8], errors: Ints) -> NDArray[np.uint8]:
        """Return likelier images for those that near-lossless quantisation gave (`n h w` or `n h w c`).

        errors: the largest error of each image (`n`); images below COARSE come back unchanged.
        """
        prior = self.pixels_for(x.shape[3] if x.ndim == 4 else 1)
        coarse = errors >= COARSE
        if prior is None or POST_FILTER not in self.networks or not coarse.any():
            return x
        if not coarse.all():
            likelier = x.copy()
            likelier[coarse] = self.post_filter(x[coarse], errors[coarse])
            return likelier
        samples = x.reshape(*x.shape[:3], -1).transpose(0, 3, 1, 2)  # n c h w
        c, (h, w) = prior.window.channels, x.shape[1:3]
        samples = samples.reshape(-1, c, h, w)
        steps = 2 * errors.repeat(len(samples) // len(x)) + 1
        even = np.pad(samples, ((0, 0), (0, 0), (0, h % 2), (0, w % 2)), mode="edge") if h % 2 or w % 2 else samples
        rows, columns = even.shape[2] // 2, even.shape[3] // 2
        quads = even.reshape(-1, c, rows, 2, columns, 2).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 4 * c, rows, columns)
        inputs = {"x": quads.astype(np.float32), "errors": (steps // 2).astype(np.float32)}
        (found,) = self._run(POST_FILTER, inputs)
        self._check(POST_FILTER, found, quads.shape)
        corrections = found.astype(np.int64).reshape(-1, c, 2, 2, rows, columns).transpose(0, 1, 4, 2, 5, 3)
        corrections = corrections.reshape(even.shape)[:, :, :h, :w] * steps[:, None, None, None]
        corrected = samples + ((corrections + (1 << CORRECTION_BITS - 1)) >> CORRECTION_BITS)
        images: NDArray[np.uint8] = corrected.clip(0, SAMPLE_MAX).astype(np.uint8)
        return images.reshape(len(x), -1, h, w).transpose(0, 2, 3, 1).reshape(x.shape)

    def analyse(self, pixels: NDArray[np.uint8], points: Ints) -> tuple[Floats, Floats]:
        """Run g_a on images (`n h w` or `n h w c`), each at its operating point (`n`).

        Returns:
            Latents (`n*patches l`), and the features of positions (`n j H W`) that `analyse_spatial` takes.

        Raises:
            UsageError: the model came without the networks of the encoder.
        """
        if not self.can_encode:
            raise UsageError(
                f"model {self.name} can only decode: it came without {ANALYSIS}; encode with its whole bundle"
            )
        x = pixels.reshape(-1, *self.image_shape).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)  # n c h w
        steps = self.grid.steps[points.repeat(self.patches)].astype(np.float32)
        y, *positions = self._run(ANALYSIS, {"x": x, "anchors": _embeddings(points), "steps": steps})
        self._check(ANALYSIS, y, (len(x) * self.patches, self.latents))
        return y, positions[0] if positions else np.empty((len(x), 0, *self.positions), np.float32)

    def analyse_spatial(self, positions: Floats, features: Floats, points: Ints) -> Floats:
        """Run the rest of g_a: return spatial latents (`n c H W`).

        positions: features of positions that `analyse` gave (`n j H W`).
        features: what the decoder knows of the image: the result of `features` (`n k H W`).
        """
        inputs = {"sites": positions, "features": features, "anchors": _embeddings(points)}
        (y,) = self._run(SPATIAL_ANALYSIS, inputs)
        self._check(SPATIAL_ANALYSIS, y, (len(points), *self.spatial_shape))
        return y

    def features(self, v: Ints, points: Ints) -> Floats:
        """Run the first half of g_s: latents (`n*patches l`) at operating points (`n`) to features (`n k H W`).

        A model without spatial latents has no such half; the latents are then returned as they are.
        """
        latents = v.astype(np.float32)
        if self.spatial is None:
            return latents
        (features,) = self._run(FEATURES, {"v": latents, "anchors": _embeddings(points)})
        self._check(FEATURES, features, (len(points), self.spatial.features, *self.positions))
        return features.clip(0, ACTIVATION_MAX)  # the bounds proven for the spatial prior count on it

    def synthesise(self, features: Floats, u: Ints, points: Ints) -> NDArray[np.uint8]:
        """Run the rest of g_s: features and spatial latents (`n c H W`) to images (`n h w` or `n h w c`)."""
        h, w, c = self.image_shape
        inputs = {"anchors": _embeddings(points)}
        inputs |= {"v": features} if self.spatial is None else {"features": features, "u": u.astype(np.float32)}
        (pixels,) = self._run(SYNTHESIS, inputs)
        self._check(SYNTHESIS, pixels, (len(points), c, h, w))
        x_hat = pixels.astype(np.uint8).transpose(0, 2, 3, 1)
        return x_hat.reshape(-1, h, w) if c == 1 else x_hat

    def _run(self, network: str, inputs: Mapping[str, Floats]) -> list[Floats]:
        """Return the results of a network, run on RUN_IMAGES images at a time.

        An input has one row for each image, or one for each patch.
        """
        n = len(next(iter(inputs.values()))) if "anchors" not in inputs else len(inputs["anchors"])
        try:
            session = self._session(network)
            parts = []
            for i in range(0, max(n, 1), RUN_IMAGES):
                feed = {}
                for name in session.inputs:
                    rows = len(inputs[name]) // max(n, 1)
                    feed[name] = inputs[name][i * rows : (i + RUN_IMAGES) * rows]
                parts.append(session.run(feed, min(RUN_IMAGES, n - i)))
        except (ValueError, KeyError) as exc:
            raise ModelError(f"model {self.name}: {network} does not fit its manifest; use another bundle") from exc
        return [np.concatenate(result) if len(result) > 1 else result[0] for result in zip(*parts, strict=True)]

    def _check(self, network: str, result: Floats, shape: tuple[int, ...]) -> None:
        if result.shape != shape:
            raise ModelError(f"model {self.name}: {network} gives {result.shape}, not {shape}; use another bundle")
        if not (np.abs(result) <= EXACT).all():  # nor is NaN
            raise ModelError(f"model {self.name}: {network} gives impossible numbers; use another bundle")

    if not TYPE_CHECKING:  # else a type checker would believe that there is any attribute

        def __getattr__(self, name: str) -> Any:
            """Return a part of `model_of_parts` that was not needed before.

            Raises:
                ModelError: it is damaged.
            """
            read = self.__dict__.get(LATER, {}).get(name)
            if read is None:
                raise AttributeError(f"a model has no attribute {name!r}")
            try:
                self.__dict__[name] = read()
            except Exception as exc:
                raise ModelError(f"the bundle of model {self.name} is damaged ({exc}); install smalti again") from exc
            return self.__dict__[name]

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the fields, without the engine and without cached values."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    def _session(self, network: str) -> Network:
        """Return a network that is ready to run; it is made ready when it is first needed, once for all threads.

        A forked process starts anew, for the threads of an engine do not survive a fork.
        """
        sessions: _Sessions | None = self.__dict__.get("_sessions")
        if sessions is None or sessions.process != os.getpid():
            _LEFT_ALONE.append(sessions)
            sessions = self.__dict__["_sessions"] = _Sessions(os.getpid(), threading.Lock(), {})
        on = engine()
        with sessions.lock:
            if (network, on) not in sessions.networks:
                exact = network in DECODING
                sessions.networks[network, on] = start(
                    self.networks[network], on, exact=exact, patches=self.patches, threads=self.threads
                )
            return sessions.networks[network, on]


class _Sessions(NamedTuple):
    """The networks that a process has made ready to run."""

    process: int
    lock: threading.Lock
    networks: dict[tuple[str, object], Network]


_LEFT_ALONE: list[object] = []
"""Networks of the process that this one was forked from; ending one could wait for threads that do not exist here."""


def _embeddings(points: Ints) -> Floats:
    return embedding_weights(points).astype(np.float32)


def model_of_parts(known: Mapping[str, Any], later: Mapping[str, Callable[[], Any]]) -> Model:
    """Return a model of fields that are known, and of others, each of which is read when it is first needed."""
    model = object.__new__(Model)
    model.__dict__.update(known)
    model.__dict__[LATER] = dict(later)
    return model
