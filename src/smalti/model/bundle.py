# SPDX-License-Identifier: MIT
"""A model bundle: one zip file with all that an encoder and a decoder need.

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
A model that codes by pixels has, beside all this or instead of all but the manifest,

pixels.npz           integers: the network that says how likely each sample is
dequantiser.onnx     samples as their levels say (integers, as float32, `n 4c h/2 w/2`) and largest errors (`n`) to
                     corrections of them, in steps of a level over 256

What is for the encoder alone may be missing; such a model can only decode. A bundle that did not come with smalti is
checked before anything of it runs: `networks.py`.
"""

import contextlib
import functools
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.entropy.logistic_mixture import CDF_RANGE, CDF_STEPS, SCALES, WEIGHT_RANGE, Logistics
from smalti.errors import ModelError, SourceError, UnknownModelError, UsageError
from smalti.limits import MAX_SIDE
from smalti.model.latent_prior import LATENT_MAX, Grid, LatentPrior
from smalti.model.masked_mlp import ACTIVATION_MAX, POINTS, QUALITY_EMBEDDINGS, MaskedMLP
from smalti.model.model import ANALYSIS, FEATURES, NETWORKS, POST_FILTER, SPATIAL_ANALYSIS, SYNTHESIS, Model
from smalti.model.npz import npz_bytes, read_npz, unzip, zip_bytes
from smalti.model.operating_points import OperatingPoint
from smalti.model.pixel_prior import MAX_ERROR, PixelPrior, Window
from smalti.model.proof.networks import check_networks
from smalti.model.spatial_prior import SpatialPrior

VERSION = 2
SUFFIX = ".model"
DEFAULT_MODEL = "mnist"
SEARCH_PATH = "SMALTI_MODEL_PATH"
"""Environment variable: folders to look for models in, besides the built-in one."""
MAX_BUNDLE_BYTES = 64 << 20
MAX_MANIFEST_BYTES = 1 << 20
MAX_NAME = 255
MAX_LATENTS = 1 << 10
MAX_PATCHES = 1 << 8
MAX_GRID = POINTS * MAX_LATENTS
MAX_POSITIONS = 1 << 20

MANIFEST = "manifest.json"
DECODER, SPATIAL, PIXELS = "decoder.npz", "local.npz", "pixels.npz"
DECODING = (SYNTHESIS, DECODER, FEATURES, SPATIAL, PIXELS, POST_FILTER)
"""Members on which decoding depends, those that there are."""
ENCODING = (ANALYSIS, SPATIAL_ANALYSIS)
"""Members for the encoder alone; a bundle may do without them."""
MEMBERS = (*DECODING, *ENCODING)
GRID, TABLES = ("steps", "low", "high"), ("cdf", "weights", "inverse")
MLP = tuple(f"{part}{layer}" for layer in "123" for part in "wbqs")
SPATIAL_ARRAYS = ("tables", "steps", "octaves", "active")
"""Names of arrays, as they are in `Grid`, `Prior`, `MaskedMLP` and `LocalPrior`."""
GROUP = "group"
"""Of a `MaskedMLP`; 1 where it is missing."""
WINDOW = ("channels", "above", "reach", "left")
MAX_LAYERS = 8
"""Of the network of pixels."""
_BUILT_IN = Path(__file__).parent / "built_in"
BUILT_IN_IDS = {
    bytes.fromhex("e8fc90d26a234f18"): "mnist",
    bytes.fromhex("f39a117797b9fbe4"): "fashion",
    bytes.fromhex("93777c499c413d86"): "mnist-autoencoder",
}
"""Names of built-in models by their ids, so that a file's model is found without loading any other."""


def bundle_bytes(model: Model) -> bytes:
    """The bundle of a model, the same bytes for the same model."""
    members = {}
    if model.has_latents:
        grid = {name: getattr(model.grid, name).astype(np.int16) for name in GRID}
        tables = {name: getattr(model.prior.logistics, name) for name in TABLES}
        members[DECODER] = npz_bytes(grid | _mlp_arrays(model.prior.mlp) | tables)
    decoder: dict[str, Any] = {"image_shape": model.image_shape, "cells": model.patches}
    if model.spatial is not None:
        decoder["sites"] = model.positions
        spatial = {name: getattr(model.spatial, name) for name in SPATIAL_ARRAYS}
        members[SPATIAL] = npz_bytes(spatial | _mlp_arrays(model.spatial.mlp))
    if model.pixels is not None:
        members[PIXELS] = npz_bytes(_pixel_arrays(model.pixels))
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
    return zip_bytes({MANIFEST: json.dumps(manifest, indent=1).encode()} | in_order)


def _mlp_arrays(mlp: MaskedMLP) -> dict[str, NDArray[Any]]:
    arrays = {name: getattr(mlp, name) for name in MLP}
    return arrays if mlp.group == 1 else arrays | {GROUP: np.array(mlp.group, np.int16)}


def _pixel_arrays(prior: PixelPrior) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"window": np.array([getattr(prior.window, name) for name in WINDOW], np.int16)}
    for i in range(len(prior.weights)):
        arrays |= {f"w{i + 1}": prior.weights[i], f"b{i + 1}": prior.biases[i], f"s{i + 1}": prior.shifts[i]}
    arrays |= {"rows": prior.rows, "columns": prior.columns, "errors": prior.errors}
    return arrays | {name: getattr(prior.logistics, name) for name in TABLES}


def decoding_bytes(model: Model) -> bytes:
    """The bundle of a model without what only its encoder needs; of the same id.

    Raises:
        ModelError: the model is not as it was loaded, so its id is of another one.
    """
    kept = {name: data for name, data in model.networks.items() if name not in ENCODING}
    data = bundle_bytes(replace(model, networks=kept))
    if parse_bundle(data).id != model.id:
        raise ModelError(f"model {model.name} is not what its id says; load it from a bundle of its own")
    return data


def load_model(name: str | Path = DEFAULT_MODEL, threads: int = 0) -> Model:
    """The model of that name (built in, or on `SMALTI_MODEL_PATH`), or in that file.

    Raises:
        UnknownModelError: there is none of that name.
        SourceError: there is no such file.
        ModelError: the bundle is damaged or not a bundle.

    >>> load_model("mnist").image_shape
    (28, 28, 1)
    """
    if not isinstance(name, str | Path):
        raise UsageError(f"a model is named, or the path of a bundle, not {name!r}")
    if threads < 0:
        raise UsageError(f"{threads} threads were asked; give 0 for one a core, or more")
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
    if is_known(model_id):
        return _load(_BUILT_IN / f"{BUILT_IN_IDS[model_id]}{SUFFIX}", threads)
    found = find_by_prefix(model_id, threads)
    if not found:
        raise UnknownModelError(
            f"the file needs model {model_id.hex()}, which is not built in; name its bundle with --model,"
            f" or put it in a folder named by {SEARCH_PATH}"
        )
    return found[0]


def find_by_prefix(start: bytes, threads: int = 0) -> list[Model]:
    """All models, built in or on the search path, whose id starts so."""
    found = [_load(_BUILT_IN / f"{name}{SUFFIX}", threads) for i, name in BUILT_IN_IDS.items() if i.startswith(start)]
    for path in model_paths():
        if path.parent != _BUILT_IN:
            with contextlib.suppress(ModelError, SourceError):  # another bundle's damage is not our concern
                model = _load(path, threads)
                if model.id.startswith(start):
                    found.append(model)
    return found


def is_known(model_id: bytes) -> bool:
    """Whether a model is built in; none is loaded to say so."""
    return model_id in BUILT_IN_IDS


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
    """Read a bundle, anew only if the file has changed; check it unless it came with smalti."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BUNDLE_BYTES + 1)
        model = _read(data, threads)
        if path.parent != _BUILT_IN.resolve():
            check_networks(model)
    except Exception as exc:
        raise ModelError(f"{path} is not a model bundle, or a damaged one ({exc}); export or copy it again") from exc
    return model


def parse_bundle(data: bytes, *, trusted: bool = True) -> Model:
    """The model of a bundle's bytes.

    trusted: nobody has damaged it, and it was proven at export; else it is checked before any of it can run.

    Raises:
        ModelError: it is not trusted, and is damaged or not a bundle.
    """
    if trusted:
        return _read(data, 0)
    try:
        model = _read(data, 0)
        check_networks(model)
    except Exception as exc:
        raise ModelError(f"a model bundle is damaged, or not one ({exc}); use another") from exc
    return model


def _read(data: bytes, threads: int) -> Model:
    if len(data) > MAX_BUNDLE_BYTES:
        raise ValueError(f"it has more than {MAX_BUNDLE_BYTES} bytes")
    found = unzip(data, {MANIFEST, *MEMBERS})
    names = [MANIFEST, *([PIXELS] if PIXELS in found else [])]
    names += [POST_FILTER] if POST_FILTER in found else []
    if set(found) - set(names) or PIXELS not in found:
        names += [SYNTHESIS, DECODER, *([ANALYSIS] if ANALYSIS in found else [])]
    if FEATURES in found:
        names += [FEATURES, SPATIAL, *([SPATIAL_ANALYSIS] if SPATIAL_ANALYSIS in found else [])]
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    if len(found[MANIFEST]) > MAX_MANIFEST_BYTES:
        raise ValueError(f"a manifest of more than {MAX_MANIFEST_BYTES} bytes")
    return _parse({name: found[name] for name in names}, len(data), threads)


def _parse(members: Mapping[str, bytes], size: int, threads: int) -> Model:
    manifest = json.loads(members[MANIFEST])
    if manifest["smalti_model"] != VERSION:
        raise ValueError(f"bundle version {manifest['smalti_model']}, this release reads {VERSION}")
    for member in members:
        if member != MANIFEST and hashlib.sha256(members[member]).hexdigest() != manifest["sha256"][member]:
            raise ValueError(f"the checksum of {member} is wrong")
    decoder = manifest["decoder"]
    h, w, c = (int(n) for n in decoder["image_shape"])
    patches = int(decoder["cells"])
    if c not in (1, 3) or not (1 <= h <= MAX_SIDE and 1 <= w <= MAX_SIDE) or not 1 <= patches <= MAX_PATCHES:
        raise ValueError(f"images of shape {(h, w, c)} in {patches} patches")
    grid, prior = _latents(read_npz(members[DECODER])) if DECODER in members else no_latents()
    spatial, positions = None, (0, 0)
    if FEATURES in members:
        spatial = _spatial(read_npz(members[SPATIAL]))
        rows, columns = (int(n) for n in decoder["sites"])
        positions = rows, columns
        if not (1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE and rows * columns <= MAX_POSITIONS):
            raise ValueError(f"positions of shape {positions}")
    multipliers = np.array(manifest["multipliers"], np.float64)
    if multipliers.shape != (POINTS,) or not (multipliers >= 1e-9).all() or not (multipliers <= 1e12).all():
        raise ValueError("the Lagrange multipliers are not what they should be")
    name, training = _told(manifest)
    decoding = [json.dumps(decoder, sort_keys=True).encode()]
    decoding += [members[name] for name in DECODING if name in members]
    pixels = _pixels(read_npz(members[PIXELS])) if PIXELS in members else None
    if pixels is not None and pixels.window.channels not in (1, c):
        raise ValueError(f"a network for pixels of {pixels.window.channels} channels beside images of {c}")
    return Model(
        name=name,
        id=hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in decoding)).digest()[:8],
        image_shape=(h, w, c),
        patches=patches,
        grid=grid,
        prior=prior,
        multipliers=multipliers,
        measured=_measured(manifest["measured"], members),
        training=training,
        networks={name: members[name] for name in NETWORKS if name in members},
        spatial=spatial,
        pixels=pixels,
        positions=positions,
        size=size,
        threads=threads,
    )


def _told(manifest: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and provenance."""
    name, training = str(manifest["name"]), dict(manifest["training"])
    if not name.isprintable() or not 1 <= len(name) <= MAX_NAME:
        raise ValueError("a name that cannot be shown")
    if "pixels" in training:
        training["pixels"] = {**training["pixels"], "bytes_an_image": float(training["pixels"]["bytes_an_image"])}
    return name, training


def _measured(known: list[Mapping[str, Any]], members: Mapping[str, bytes]) -> tuple[OperatingPoint, ...]:
    """Ways to code: none of a part that there is not, and some of the latents, if there are any."""
    by_quality = tuple(_point(way) for way in known)
    if not by_quality:
        raise ValueError("it names no way to code")
    if any(point.pixels for point in by_quality) and PIXELS not in members:
        raise ValueError("it names ways to code by pixels, which it has not")
    if any(not point.pixels for point in by_quality) != (SYNTHESIS in members):
        raise ValueError("it names no way to code by its latents, or one without latents")
    return by_quality


def _point(known: Mapping[str, Any]) -> OperatingPoint:
    point = OperatingPoint(bool(known["pixels"]), int(known["setting"]), float(known["bytes"]), float(known["psnr"]))
    most = MAX_ERROR if point.pixels else POINTS - 1
    if not (0 <= point.setting <= most and 0 <= point.bytes < math.inf and 0 <= point.psnr <= 200):
        raise ValueError(f"a way to code that cannot be: {point}")
    return point


def _latents(arrays: Mapping[str, NDArray[Any]]) -> tuple[Grid, LatentPrior]:
    if (latents := arrays["steps"].shape[1]) > MAX_LATENTS or any(arrays[name].size > MAX_GRID for name in GRID):
        raise ValueError(f"{latents} latents")
    grid = Grid(**{name: arrays[name].astype(np.int64) for name in GRID})
    return grid, LatentPrior(_mlp(arrays, latents, LATENT_MAX), Logistics(**{name: arrays[name] for name in TABLES}))


def no_latents() -> tuple[Grid, LatentPrior]:
    """What stands in the place of latents where there is none: one latent, always 0."""
    outputs = {"1": 1, "2": 1, "3": 8}
    arrays: dict[str, NDArray[Any]] = {f"w{i}": np.zeros((n, 1), np.int8) for i, n in outputs.items()}
    arrays |= {f"b{i}": np.zeros(n, np.int32) for i, n in outputs.items()}
    arrays |= {f"s{i}": np.zeros(n, np.uint8) for i, n in outputs.items()}
    arrays |= {f"q{i}": np.zeros((QUALITY_EMBEDDINGS, n), np.int32) for i, n in outputs.items()}
    tables = Logistics(
        np.zeros(2 * CDF_RANGE * CDF_STEPS + 1, np.int32),
        np.zeros(2 * WEIGHT_RANGE + 1, np.int32),
        np.ones(SCALES, np.int32),
    )
    nothing = np.zeros((POINTS, 1), np.int64)
    return Grid(nothing + 1, nothing, nothing), LatentPrior(_mlp(arrays, 1, LATENT_MAX), tables)


def _mlp(arrays: Mapping[str, NDArray[Any]], latents: int, largest: int) -> MaskedMLP:
    group = int(arrays[GROUP]) if GROUP in arrays else 1
    return MaskedMLP(**{name: arrays[name] for name in MLP}, latents=latents, largest=largest, group=group)


def _spatial(arrays: Mapping[str, NDArray[Any]]) -> SpatialPrior:
    latents = arrays["steps"].shape[1]
    if latents > MAX_LATENTS:
        raise ValueError(f"{latents} local latents")
    return SpatialPrior(
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
    rows, columns, errors = (arrays[name] for name in ("rows", "columns", "errors"))
    return PixelPrior(window, weights, biases, shifts, rows, columns, errors, tables)
