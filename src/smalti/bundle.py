# SPDX-License-Identifier: MIT
"""A model bundle: one zip file with all that an encoder and a decoder need. At run time the only user of onnxruntime.

manifest.json        name, image shape, what was measured, SHA-256 of the other members, how it was trained
decoder.npz          integers: the prior, and for each operating point the steps and the ranges of symbols
synthesis.onnx       g_s: latents (integers, as float32, `n*cells latents`) and anchors (`n 9`) to pixels (`n c h w`)
analysis.onnx        g_a: float32 `n c h w` in [0, 1] and anchors to latents (`n*cells latents`); for the encoder alone

A model with local latents also has

features.onnx        the first half of g_s: latents and anchors to features of sites (`n k H W`); synthesis.onnx then
                     takes the features and the local latents (`n c H W`) instead of the latents
local.npz            integers: the prior of the local latents, their steps, where they are coded at all
local-analysis.onnx  the rest of g_a: what it found at the sites, and the features, to local latents

and its g_a is told the steps, rounds by itself, and gives what it found at the sites (`n j H W`) as a second result.
A model for lossless coding has, beside all this or instead of all but the manifest,

pixels.npz           integers: the network that says how likely each sample is
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from smalti.errors import ModelError, SourceError, UnknownModelError, UsageError
from smalti.format import MAX_SIDE
from smalti.local import LocalPrior
from smalti.masked import ACTIVATION_MAX, ANCHORS, POINTS, MaskedMLP, anchor_weights
from smalti.mixture import CDF_RANGE, CDF_STEPS, SCALES, WEIGHT_RANGE, Logistics
from smalti.pixels import PixelPrior, Window
from smalti.prior import LATENT_MAX, Grid, Prior
from smalti.tables import Ints

VERSION = 1
SUFFIX = ".model"
DEFAULT_MODEL = "mnist"
SEARCH_PATH = "SMALTI_MODEL_PATH"
"""Environment variable: folders to look for models in, besides the built-in one."""
MAX_MEMBER_BYTES = 64 << 20
MAX_LATENTS = 1 << 10
MAX_CELLS = 1 << 8
MAX_SITES = 1 << 20
RUN_IMAGES = 64
"""Images a network runs on at a time; more only costs memory."""

MANIFEST, ANALYSIS, SYNTHESIS = "manifest.json", "analysis.onnx", "synthesis.onnx"
FEATURES, LOCAL_ANALYSIS = "features.onnx", "local-analysis.onnx"
DECODER, LOCAL, PIXELS = "decoder.npz", "local.npz", "pixels.npz"
DECODING = (SYNTHESIS, DECODER, FEATURES, LOCAL, PIXELS)
"""Members on which decoding depends, those that there are."""
MEMBERS = (*DECODING, ANALYSIS, LOCAL_ANALYSIS)
NETWORKS = (FEATURES, SYNTHESIS, ANALYSIS, LOCAL_ANALYSIS)
GRID, TABLES = ("steps", "low", "high"), ("cdf", "weights", "inverse")
MLP = tuple(f"{part}{layer}" for layer in "123" for part in "wbqs")
LOCAL_ARRAYS = ("tables", "steps", "octaves", "active")
"""Names of arrays, as they are in `Grid`, `Prior`, `MaskedMLP` and `LocalPrior`."""
GROUP = "group"
"""Of a `MaskedMLP`; 1 where it is missing."""
WINDOW = ("channels", "above", "reach", "left")
MAX_LAYERS = 8
"""Of the network of pixels."""
_BUILT_IN = Path(__file__).parent / "models"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """What the codec does at one operating point, on images it was not trained on, without search."""

    point: int
    bytes: float  # an image, payload
    psnr: float  # dB

    @property
    def quality(self) -> int:
        """The quality of the operating point."""
        return 1 + round(self.point * 99 / (POINTS - 1))


@dataclass(frozen=True, eq=False)
class Model:
    """A learned codec: networks, prior, and what they are for."""

    name: str
    id: bytes  # first 8 bytes of the SHA-256 of what decoding depends on
    image_shape: tuple[int, int, int]  # h w c
    cells: int  # parts of an image, side by side, with a code of their own each
    grid: Grid
    prior: Prior
    multipliers: NDArray[np.float64]  # POINTS: bits that a squared error of 1, on [0, 1] pixels, is worth
    measured: tuple[Measured, ...]  # by rising point
    training: Mapping[str, Any]  # provenance: data, schedule, what it reached
    networks: Mapping[str, bytes]  # ONNX, those of NETWORKS that there are
    local: LocalPrior | None = None
    pixels: PixelPrior | None = None  # for lossless coding
    sites: tuple[int, int] = (0, 0)  # rows and columns of them, if there are local latents
    size: int = 0  # of the bundle, in bytes
    threads: int = 0  # of the network engine; 0: one a core

    @property
    def lossy(self) -> bool:
        """Whether there is more than a part for lossless coding."""
        return SYNTHESIS in self.networks

    @property
    def latents(self) -> int:
        """Latents of a cell."""
        return self.prior.latents

    @property
    def local_shape(self) -> tuple[int, int, int]:
        """Of the local latents of an image: c H W; c is 0 if there are none."""
        return (0 if self.local is None else self.local.mlp.latents, *self.sites)

    def analyse(self, pixels: NDArray[np.uint8], points: Ints) -> tuple[Floats, Floats]:
        """g_a: images (`n h w` or `n h w c`), each for its operating point (`n`), to latents (`n*cells l`).

        And what it found at the sites, for `analyse_local`.
        """
        x = pixels.reshape(-1, *self.image_shape).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)  # n c h w
        steps = self.grid.steps[points.repeat(self.cells)].astype(np.float32)
        y, *sites = self._run(ANALYSIS, {"x": x, "anchors": _anchors(points), "steps": steps})
        self._check(ANALYSIS, y, (len(x) * self.cells, self.latents))
        return y, sites[0] if sites else np.empty((len(x), 0, *self.sites), np.float32)

    def analyse_local(self, sites: Floats, features: Floats, points: Ints) -> Floats:
        """The rest of g_a: what was found at the sites and features of the synthesis to local latents (`n c H W`)."""
        inputs = {"sites": sites, "features": features, "anchors": _anchors(points)}
        (y,) = self._run(LOCAL_ANALYSIS, inputs)
        self._check(LOCAL_ANALYSIS, y, (len(points), *self.local_shape))
        return y

    def features(self, v: Ints, points: Ints) -> Floats:
        """The first half of g_s: latents (`n*cells l`) at operating points (`n`) to features of sites (`n k H W`).

        Without local latents there is no such half, and the latents stay what they are.
        """
        latents = v.astype(np.float32)
        if self.local is None:
            return latents
        (features,) = self._run(FEATURES, {"v": latents, "anchors": _anchors(points)})
        self._check(FEATURES, features, (len(points), self.local.features, *self.sites))
        return features.clip(0, ACTIVATION_MAX)  # so that the proof of the prior holds for any bundle

    def synthesise(self, features: Floats, u: Ints, points: Ints) -> NDArray[np.uint8]:
        """The rest of g_s: features and local latents (`n c H W`) to images (`n h w` or `n h w c`)."""
        h, w, c = self.image_shape
        inputs = {"anchors": _anchors(points)}
        inputs |= {"v": features} if self.local is None else {"features": features, "u": u.astype(np.float32)}
        (pixels,) = self._run(SYNTHESIS, inputs)
        self._check(SYNTHESIS, pixels, (len(points), c, h, w))
        x_hat = pixels.astype(np.uint8).transpose(0, 2, 3, 1)
        return x_hat.reshape(-1, h, w) if c == 1 else x_hat

    def _run(self, network: str, inputs: Mapping[str, Floats]) -> list[Floats]:
        """The results of a network, a few images at a time; an input has one or `cells` rows an image."""
        try:
            session = self._sessions[network]
            known = {i.name for i in session.get_inputs()}
            n = len(inputs["anchors"])
            parts = []
            for i in range(0, max(n, 1), RUN_IMAGES):
                feed = {}
                for name in known:
                    rows = len(inputs[name]) // max(n, 1)
                    feed[name] = inputs[name][i * rows : (i + RUN_IMAGES) * rows]
                parts.append(session.run(None, feed))
        except Exception as exc:  # onnxruntime's errors have no common root of their own
            raise ModelError(f"model {self.name}: {network} does not fit its manifest; use another bundle") from exc
        return [np.concatenate(result) if len(result) > 1 else result[0] for result in zip(*parts, strict=True)]

    def _check(self, network: str, result: Floats, shape: tuple[int, ...]) -> None:
        if result.shape != shape:
            raise ModelError(f"model {self.name}: {network} gives {result.shape}, not {shape}; use another bundle")

    @functools.cached_property
    def _sessions(self) -> dict[str, ort.InferenceSession]:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # else the idle ones starve numpy's
        try:
            return {
                name: ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
                for name, data in self.networks.items()
            }
        except Exception as exc:  # as above
            raise ModelError(f"model {self.name}: its networks cannot be loaded; use another bundle") from exc


def _anchors(points: Ints) -> Floats:
    return anchor_weights(points).astype(np.float32)


def point_of(quality: int) -> int:
    """The operating point of `quality`.

    >>> point_of(1), point_of(50), point_of(100)
    (0, 32, 64)

    Raises:
        UsageError: `quality` is not from 1 to 100.
    """
    if not 1 <= quality <= 100:
        raise UsageError(f"quality is {quality}; give a number from 1 (fewest bytes) to 100 (best)")
    return round((quality - 1) * (POINTS - 1) / 99)


def bundle_bytes(model: Model) -> bytes:
    """The bundle of a model, the same bytes for the same model."""
    members = {}
    if model.lossy:
        grid = {name: getattr(model.grid, name).astype(np.int16) for name in GRID}
        tables = {name: getattr(model.prior.logistics, name) for name in TABLES}
        members[DECODER] = _npz(grid | _mlp_arrays(model.prior.mlp) | tables)
    decoder: dict[str, Any] = {"image_shape": model.image_shape, "cells": model.cells}
    if model.local is not None:
        decoder["sites"] = model.sites
        local = {name: getattr(model.local, name) for name in LOCAL_ARRAYS}
        members[LOCAL] = _npz(local | _mlp_arrays(model.local.mlp))
    if model.pixels is not None:
        members[PIXELS] = _npz(_pixel_arrays(model.pixels))
    members |= model.networks
    manifest = {
        "smalti_model": VERSION,
        "name": model.name,
        "decoder": decoder,
        "multipliers": model.multipliers.tolist(),
        "measured": [vars(m) for m in model.measured],
        "sha256": {name: hashlib.sha256(members[name]).hexdigest() for name in MEMBERS if name in members},
        "training": dict(model.training),
    }
    in_order = {name: members[name] for name in MEMBERS if name in members}
    return _zip({MANIFEST: json.dumps(manifest, indent=1).encode()} | in_order)


def _mlp_arrays(mlp: MaskedMLP) -> dict[str, NDArray[Any]]:
    arrays = {name: getattr(mlp, name) for name in MLP}
    return arrays if mlp.group == 1 else arrays | {GROUP: np.array(mlp.group, np.int16)}


def _pixel_arrays(prior: PixelPrior) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"window": np.array([getattr(prior.window, name) for name in WINDOW], np.int16)}
    for i in range(len(prior.weights)):
        arrays |= {f"w{i + 1}": prior.weights[i], f"b{i + 1}": prior.biases[i], f"s{i + 1}": prior.shifts[i]}
    arrays |= {"rows": prior.rows, "columns": prior.columns}
    return arrays | {name: getattr(prior.logistics, name) for name in TABLES}


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """As `numpy.savez`, but without the time of day."""
    members = {}
    for name, array in arrays.items():
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        members[f"{name}.npy"] = file.getvalue()
    return _zip(members, zipfile.ZIP_STORED)


def _zip(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as bundle:
        for member, data in members.items():
            bundle.writestr(zipfile.ZipInfo(member), data, method, 9)
    return file.getvalue()


def load_model(name: str | Path = DEFAULT_MODEL, threads: int = 0) -> Model:
    """The model of that name (built in, or on `SMALTI_MODEL_PATH`), or in that file.

    Raises:
        UnknownModelError: there is none of that name.
        SourceError: there is no such file.
        ModelError: the bundle is damaged or not a bundle.

    >>> load_model("mnist").image_shape
    (28, 28, 1)
    """
    if isinstance(name, Path) or name.endswith(SUFFIX) or "/" in name or os.sep in name:
        return _load(Path(name), threads)
    known = {path.stem: path for path in reversed(model_paths())}
    if name not in known:
        raise UnknownModelError(f"no model named {name!r}; there are: {', '.join(known)}; or give a path")
    return _load(known[name], threads)


def find_model(model_id: bytes, threads: int = 0) -> Model:
    """The model that a file was packed with.

    Raises:
        UnknownModelError: it is neither built in nor on `SMALTI_MODEL_PATH`.
    """
    for path in model_paths():
        with contextlib.suppress(ModelError, SourceError):  # another bundle's damage is not our concern
            model = _load(path, threads)
            if model.id == model_id:
                return model
    raise UnknownModelError(
        f"the file needs model {model_id.hex()}, which is not built in; name its bundle with --model,"
        f" or put it in a folder named by {SEARCH_PATH}"
    )


def model_paths() -> list[Path]:
    """All bundles that are built in or on the search path, in the order in which a name is looked for."""
    folders = [_BUILT_IN, *(Path(folder) for folder in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if folder)]
    return [path for folder in folders for path in sorted(folder.glob(f"*{SUFFIX}"))]


def _load(path: Path, threads: int) -> Model:
    try:
        return _load_once(path.resolve(), threads, path.stat().st_mtime_ns)
    except (OSError, ValueError) as exc:  # ValueError: a zero byte in the path
        raise SourceError(f"cannot open model {path}: {getattr(exc, 'strerror', None) or exc}; check it") from exc


@functools.lru_cache(maxsize=16)
def _load_once(path: Path, threads: int, _changed: int) -> Model:
    """Read a bundle, anew only if the file has changed."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as bundle:
            there = bundle.namelist()
            names = [MANIFEST, *([PIXELS] if PIXELS in there else [])]
            if set(there) - {MANIFEST, PIXELS} or PIXELS not in there:
                names += [SYNTHESIS, DECODER, ANALYSIS]
            if FEATURES in there:
                names += [FEATURES, LOCAL, LOCAL_ANALYSIS]
            members = {name: _member(bundle, name) for name in names}
        return _parse(members, path.stat().st_size, threads)
    except Exception as exc:
        raise ModelError(f"{path} is not a model bundle, or a damaged one ({exc}); export or copy it again") from exc


def _member(bundle: zipfile.ZipFile, name: str) -> bytes:
    info = bundle.getinfo(name)
    if info.file_size > MAX_MEMBER_BYTES:
        raise ValueError(f"{name} claims {info.file_size} bytes")
    with bundle.open(info) as file:
        return file.read(MAX_MEMBER_BYTES)


def _parse(members: Mapping[str, bytes], size: int, threads: int) -> Model:
    manifest = json.loads(members[MANIFEST])
    if manifest["smalti_model"] != VERSION:
        raise ValueError(f"bundle version {manifest['smalti_model']}, this release reads {VERSION}")
    for member in members:
        if member != MANIFEST and hashlib.sha256(members[member]).hexdigest() != manifest["sha256"][member]:
            raise ValueError(f"the checksum of {member} is wrong")
    decoder = manifest["decoder"]
    h, w, c = (int(n) for n in decoder["image_shape"])
    cells = int(decoder["cells"])
    if c not in (1, 3) or not (1 <= h <= MAX_SIDE and 1 <= w <= MAX_SIDE) or not 1 <= cells <= MAX_CELLS:
        raise ValueError(f"images of shape {(h, w, c)} in {cells} cells")
    grid, prior = _latents(_arrays(members[DECODER])) if DECODER in members else no_latents()
    local, sites = None, (0, 0)
    if FEATURES in members:
        local = _local(_arrays(members[LOCAL]))
        rows, columns = (int(n) for n in decoder["sites"])
        sites = rows, columns
        if not (1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE and rows * columns <= MAX_SITES):
            raise ValueError(f"sites of shape {sites}")
    multipliers = np.array(manifest["multipliers"], np.float64)
    if multipliers.shape != (POINTS,) or not np.isfinite(multipliers).all() or multipliers.min() <= 0:
        raise ValueError("the Lagrange multipliers are not what they should be")
    if "lossless" in manifest["training"]:
        float(manifest["training"]["lossless"]["bytes_an_image"])
    decoding = [json.dumps(decoder, sort_keys=True).encode()]
    decoding += [members[name] for name in DECODING if name in members]
    return Model(
        name=str(manifest["name"]),
        id=hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in decoding)).digest()[:8],
        image_shape=(h, w, c),
        cells=cells,
        grid=grid,
        prior=prior,
        multipliers=multipliers,
        measured=tuple(Measured(int(m["point"]), float(m["bytes"]), float(m["psnr"])) for m in manifest["measured"]),
        training=dict(manifest["training"]),
        networks={name: members[name] for name in NETWORKS if name in members},
        local=local,
        pixels=_pixels(_arrays(members[PIXELS])) if PIXELS in members else None,
        sites=sites,
        size=size,
        threads=threads,
    )


def _latents(arrays: Mapping[str, NDArray[Any]]) -> tuple[Grid, Prior]:
    grid = Grid(**{name: arrays[name].astype(np.int64) for name in GRID})
    if (latents := grid.steps.shape[1]) > MAX_LATENTS:
        raise ValueError(f"{latents} latents")
    return grid, Prior(_mlp(arrays, latents, LATENT_MAX), Logistics(**{name: arrays[name] for name in TABLES}))


def no_latents() -> tuple[Grid, Prior]:
    """What stands in the place of the lossy part where there is none: one latent, always 0."""
    outputs = {"1": 1, "2": 1, "3": 8}
    arrays: dict[str, NDArray[Any]] = {f"w{i}": np.zeros((n, 1), np.int8) for i, n in outputs.items()}
    arrays |= {f"b{i}": np.zeros(n, np.int32) for i, n in outputs.items()}
    arrays |= {f"s{i}": np.zeros(n, np.uint8) for i, n in outputs.items()}
    arrays |= {f"q{i}": np.zeros((ANCHORS, n), np.int32) for i, n in outputs.items()}
    tables = Logistics(
        np.zeros(2 * CDF_RANGE * CDF_STEPS + 1, np.int32),
        np.zeros(2 * WEIGHT_RANGE + 1, np.int32),
        np.ones(SCALES, np.int32),
    )
    nothing = np.zeros((POINTS, 1), np.int64)
    return Grid(nothing + 1, nothing, nothing), Prior(_mlp(arrays, 1, LATENT_MAX), tables)


def _mlp(arrays: Mapping[str, NDArray[Any]], latents: int, largest: int) -> MaskedMLP:
    group = int(arrays[GROUP]) if GROUP in arrays else 1
    return MaskedMLP(**{name: arrays[name] for name in MLP}, latents=latents, largest=largest, group=group)


def _local(arrays: Mapping[str, NDArray[Any]]) -> LocalPrior:
    latents = arrays["steps"].shape[1]
    if latents > MAX_LATENTS:
        raise ValueError(f"{latents} local latents")
    return LocalPrior(
        _mlp(arrays, latents, ACTIVATION_MAX),
        arrays["tables"],
        arrays["steps"].astype(np.int64),
        arrays["octaves"].astype(np.int64),
        arrays["active"].astype(bool),
    )


def _pixels(arrays: Mapping[str, NDArray[Any]]) -> PixelPrior:
    layers = range(1, 1 + sum(f"w{i}" in arrays for i in range(1, MAX_LAYERS + 1)))
    weights, biases, shifts = (tuple(arrays[f"{part}{i}"] for i in layers) for part in "wbs")
    if arrays["window"].dtype != np.int16 or arrays["window"].shape != (len(WINDOW),):
        raise ValueError("pixels: the window is not four integers of 16 bits")
    window = Window(**dict(zip(WINDOW, map(int, arrays["window"]), strict=True)))
    tables = Logistics(**{name: arrays[name] for name in TABLES})
    return PixelPrior(window, weights, biases, shifts, arrays["rows"], arrays["columns"], tables)


def _arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file, none larger than a member may be."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        if sum(info.file_size for info in file.infolist()) > MAX_MEMBER_BYTES:
            raise ValueError("arrays larger than allowed")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
