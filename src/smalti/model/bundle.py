# SPDX-License-Identifier: MIT
"""Read and write model bundles: a model as one zip file, with all that an encoder and a decoder need.

manifest.json        the name, image shape, measured operating points, SHA-256 of the other members, and provenance
decoder.npz          the prior in integers, and for each operating point the quantisation steps and ranges of symbols
synthesis.onnx       g_s: latents (integers as float32, `n*patches l`) and embedding weights to pixels (`n c h w`)
analysis.onnx        g_a: pixels (float32, `n c h w` in [0, 1]) and embedding weights to latents (`n*patches l`)

Embedding weights, the ONNX inputs `anchors` (`n 9`), tell a network the quality. A model with spatial latents also has

features.onnx        the first half of g_s: latents and embedding weights to features of positions (`n k H W`);
                     synthesis.onnx then takes the features and the spatial latents (`n c H W`) instead of the latents
local.npz            the prior of the spatial latents in integers, their steps, and which of them are coded
local-analysis.onnx  the rest of g_a: its own features of positions, and those of g_s, to spatial latents

Its g_a also takes the steps, rounds by itself, and gives its features of positions (`n j H W`) as a second result. A
model that codes by pixels has the following two members; it may lack all others but the manifest:

pixels.npz           the pixel prior in integers
dequantiser.onnx     the post-filter: decoded samples (integers as float32, `n 4c h/2 w/2`) and largest errors (`n`) to
                     corrections of the samples, in units of the step between levels over 256
mixing.npz           the mixer in integers, of a model that codes by mixing; it may lack all else

fit.npz              what a fitted model changes in the mixer of its base, which the manifest names: it has nothing else
changes.npz          what a tuned model changes in the transform of its base; mixing.npz may stand beside it, no more

The networks that only the encoder needs, analysis.onnx and local-analysis.onnx, may be missing; such a model can only
decode. A bundle that did not come with smalti is checked before any of its networks runs: see `proof/networks.py`.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from smalti.errors import ModelError, SourceError, UnknownModelError, UsageError
from smalti.limits import MAX_SIDE
from smalti.model.empty_model import EMPTY_ID, EMPTY_NAME, empty_model, no_latents
from smalti.model.masked_mlp import POINTS
from smalti.model.mixing.mixer import check_mixer, mixer_arrays, mixer_from
from smalti.model.model import (
    ANALYSIS,
    FEATURES,
    NETWORKS,
    POST_FILTER,
    SPATIAL_ANALYSIS,
    SYNTHESIS,
    Model,
    model_of_parts,
)
from smalti.model.npz import npz_bytes, read_npz, unzip, zip_bytes
from smalti.model.parts.arrays import (
    GRID,
    SPATIAL_ARRAYS,
    TABLES,
    latents_from,
    mlp_arrays,
    pixel_arrays,
    pixels_from,
    spatial_from,
)
from smalti.model.parts.changes import bundle_on_base, tuned_members, tuned_model
from smalti.model.parts.fit_parts import fit_member, fitted_model
from smalti.model.parts.lazy_members import LazyMembers
from smalti.model.parts.measured import measured_points, told_of
from smalti.model.parts.member_names import (
    CHANGES,
    DECODER,
    DECODING,
    ENCODING,
    FIT,
    MANIFEST,
    MEMBERS,
    MIXING,
    PIXELS,
    SPATIAL,
    TRANSFORM,
)
from smalti.model.transform.transform import check_transform, transform_arrays, transform_from
from smalti.util.parallel import ForkLock

VERSION, SUFFIX, DEFAULT_MODEL = 2, ".model", "mnist"
SEARCH_PATH = "SMALTI_MODEL_PATH"
"""The environment variable that names folders to look for models in, besides the built-in one."""
MAX_BUNDLE_BYTES, MAX_MANIFEST_BYTES = 64 << 20, 1 << 20
MAX_NAME, MAX_PATCHES, MAX_POSITIONS = 255, 1 << 8, 1 << 20

PARTS = ("grid", "prior", "spatial", "pixels", "mixer", "transform")
"""The parts of a model that are read of members of its bundle, each when it is needed."""
_BUILT_IN = Path(__file__).resolve().parent / "built_in"
BUILT_IN_IDS = {
    bytes.fromhex("e8fc90d26a234f18"): "mnist",
    bytes.fromhex("f39a117797b9fbe4"): "fashion",
    bytes.fromhex("93777c499c413d86"): "mnist-autoencoder",
    bytes.fromhex("b05f4d5d74f2a51e"): "colour-1",
    bytes.fromhex("c7457f129f16eb7a"): "colour-2",
    bytes.fromhex("d514350fb785a6b8"): "colour-3",
    bytes.fromhex("1e16562d889d4cf8"): "colour-4",
    bytes.fromhex("42c6c4e2a13ecc0d"): "colour",
    bytes.fromhex("e5ac0a377cda1490"): "colour-fast-1",
    bytes.fromhex("a5b0ba8f9bdfa71a"): "colour-fast",
}
"""The names of built-in models by their ids, so that a file's model is found without loading another."""
_LOADING = ForkLock()
"""The lock that lets several threads load a model only once."""


def bundle_bytes(model: Model) -> bytes:
    """Return the bundle of a model; the same model always gives the same bytes."""
    members = {}
    if model.fit is not None:
        return bundle_on_base(VERSION, model.name, model.fit.base, {FIT: fit_member(model.fit)}, {})
    if model.base is not None:
        members = tuned_members(model, find_model(model.base))
        return bundle_on_base(VERSION, model.name, model.base, members, model.training)
    if model.has_latents:
        grid = {name: getattr(model.grid, name).astype(np.int16) for name in GRID}
        tables = {name: getattr(model.prior.logistics, name) for name in TABLES}
        members[DECODER] = npz_bytes(grid | mlp_arrays(model.prior.mlp) | tables)
    decoder: dict[str, Any] = {"image_shape": model.image_shape, "cells": model.patches}
    if model.spatial is not None:
        decoder["sites"] = model.positions
        spatial = {name: getattr(model.spatial, name) for name in SPATIAL_ARRAYS}
        members[SPATIAL] = npz_bytes(spatial | mlp_arrays(model.spatial.mlp))
    if model.pixels is not None:
        members[PIXELS] = npz_bytes(pixel_arrays(model.pixels))
    if model.mixer is not None:
        members[MIXING] = npz_bytes(mixer_arrays(model.mixer))
    if model.transform is not None:
        members[TRANSFORM] = npz_bytes(transform_arrays(model.transform))
    members |= model.networks
    manifest = {
        "smalti_model": VERSION,
        "name": model.name,
        "decoder": decoder,
        "multipliers": model.multipliers.tolist(),
        "measured": [told_of(point) for point in model.measured],
        "sha256": {name: hashlib.sha256(members[name]).hexdigest() for name in MEMBERS if name in members},
        "training": dict(model.training),
    }
    in_order = {name: members[name] for name in MEMBERS if name in members}
    return zip_bytes({MANIFEST: json.dumps(manifest, indent=1).encode()} | in_order)


def decoding_bytes(model: Model) -> bytes:
    """Return the bundle of a model without the networks that only its encoder needs; its id stays the same.

    Raises:
        ModelError: the model was changed after it was loaded, so that its id is wrong.
    """
    kept = {name: data for name, data in model.networks.items() if name not in ENCODING}
    data = bundle_bytes(replace(model, networks=kept))
    if parse_bundle(data).id != model.id:
        raise ModelError(f"model {model.name} is not what its id says; load it from a bundle of its own")
    return data


def load_model(name: str | Path = DEFAULT_MODEL, threads: int = 0) -> Model:
    """Return the model of that name (built in, or on `SMALTI_MODEL_PATH`), or the model in that file.

    Raises:
        UnknownModelError: there is no model of that name.
        SourceError: there is no such file.
        ModelError: the file is no bundle, or a damaged one.

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
    if name == EMPTY_NAME:
        return empty_model()
    if name not in known:
        raise UnknownModelError(f"no model named {name!r}; there are: {', '.join(known)}; or give a path")
    return _load(known[name], threads)


def find_model(model_id: bytes, threads: int = 0) -> Model:
    """Return the model that a file was packed with.

    Raises:
        UnknownModelError: the model is neither built in nor on `SMALTI_MODEL_PATH`.
    """
    if model_id == EMPTY_ID:
        return empty_model()
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
    """Return all models, built in or on the search path, whose id begins with `start`."""
    found = [_load(_BUILT_IN / f"{name}{SUFFIX}", threads) for i, name in BUILT_IN_IDS.items() if i.startswith(start)]
    found += [empty_model()] if EMPTY_ID.startswith(start) else []
    for path in model_paths():
        if path.parent != _BUILT_IN:
            with contextlib.suppress(ModelError, SourceError):  # another bundle's damage is not our concern
                model = _load(path, threads)
                if model.id.startswith(start):
                    found.append(model)
    return found


def is_known(model_id: bytes) -> bool:
    """Say whether a model is built in, without loading any."""
    return model_id in BUILT_IN_IDS or model_id == EMPTY_ID


def model_paths() -> list[Path]:
    """Return the paths of all bundles, built in or on the search path, in the order in which names are looked up."""
    folders = [_BUILT_IN, *(Path(folder) for folder in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if folder)]
    return [path for folder in folders for path in sorted(folder.glob(f"*{SUFFIX}"))]


def _load(path: Path, threads: int) -> Model:
    try:
        with _LOADING:
            return _load_once(path if path.parent == _BUILT_IN else path.resolve(), threads, path.stat().st_mtime_ns)
    except (OSError, ValueError) as exc:  # ValueError: a zero byte in the path
        raise SourceError(f"cannot open model {path}: {getattr(exc, 'strerror', None) or exc}; check it") from exc


@functools.lru_cache(maxsize=16)
def _load_once(path: Path, threads: int, _changed: int) -> Model:
    """Read a bundle, anew only if the file has changed; check it unless it came with smalti."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BUNDLE_BYTES + 1)
        if path.parent == _BUILT_IN and path.stem in BUILT_IN_IDS.values():
            return _read_lazily(data, path, threads)
        model = _read(data, threads)
        if path.parent != _BUILT_IN:
            _check(model)
    except Exception as exc:
        raise ModelError(f"{path} is not a model bundle, or a damaged one ({exc}); export or copy it again") from exc
    return model


def parse_bundle(data: bytes, *, trusted: bool = True) -> Model:
    """Return the model of a bundle's bytes.

    trusted: the bytes are intact, and the networks were proven at export; if not, they are checked before any can run.

    Raises:
        ModelError: an untrusted bundle is damaged, or is no bundle.
    """
    if trusted:
        return _read(data, 0)
    try:
        model = _read(data, 0)
        _check(model)
    except Exception as exc:
        raise ModelError(f"a model bundle is damaged, or not one ({exc}); use another") from exc
    return model


def _check(model: Model) -> None:
    from smalti.model.proof.networks import check_networks  # built-in models need no proof here

    if model.mixer is not None:
        check_mixer(model.mixer)
    if model.transform is not None:
        check_transform(model.transform)
    check_networks(model)


def _read(data: bytes, threads: int) -> Model:
    if len(data) > MAX_BUNDLE_BYTES:
        raise ValueError(f"the bundle has more than {MAX_BUNDLE_BYTES} bytes")
    found = unzip(data, {MANIFEST, *MEMBERS})
    names = [MANIFEST, *(name for name in (PIXELS, POST_FILTER, MIXING, TRANSFORM) if name in found)]
    if set(found) - set(names) or not (PIXELS in found or MIXING in found):
        names += [SYNTHESIS, DECODER, *([ANALYSIS] if ANALYSIS in found else [])]
    if FEATURES in found:
        names += [FEATURES, SPATIAL, *([SPATIAL_ANALYSIS] if SPATIAL_ANALYSIS in found else [])]
    names = [MANIFEST, FIT] if FIT in found else names
    if CHANGES in found:
        names = [MANIFEST, *([MIXING] if MIXING in found else []), CHANGES]
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"the bundle lacks {', '.join(missing)}")
    if len(found[MANIFEST]) > MAX_MANIFEST_BYTES:
        raise ValueError(f"the manifest has more than {MAX_MANIFEST_BYTES} bytes")
    return _parse({name: found[name] for name in names}, len(data), threads)


def _read_lazily(data: bytes, path: Path, threads: int) -> Model:
    """Return a built-in model, of whose bundle each part is read, and compared with its SHA-256, when it is needed."""
    (model_id,) = (model_id for model_id, name in BUILT_IN_IDS.items() if name == path.stem)
    folder = path.parent
    members = LazyMembers(data, (MANIFEST, *MEMBERS), lambda name: (folder / f"{name}{SUFFIX}").read_bytes())
    return _parse(members, len(data), threads, model_id)


def _parse(members: Mapping[str, bytes], size: int, threads: int, model_id: bytes | None = None) -> Model:
    """Return the model of members. model_id: its id, if the members are a model's that is known and read lazily."""
    manifest = json.loads(members[MANIFEST])
    if manifest["smalti_model"] != VERSION:
        raise ValueError(f"the bundle is of version {manifest['smalti_model']}; this release reads version {VERSION}")
    if (lazy := members if isinstance(members, LazyMembers) else None) is not None:
        lazy.digests = manifest["sha256"]
    for member in members if lazy is None else ():
        if member != MANIFEST and hashlib.sha256(members[member]).hexdigest() != manifest["sha256"][member]:
            raise ValueError(f"the checksum of {member} is wrong")
    decoder = manifest["decoder"]
    if FIT in members or CHANGES in members:
        if not is_known(base := bytes.fromhex(decoder["base"])):  # every reader has it, and it is no change of another
            raise ValueError(f"the base of a fitted or tuned model is {base.hex()}, which is not built in")
        (name, training), model_id = _told(manifest), _id_of(decoder, members)
        if FIT in members:
            return fitted_model(find_model(base), members[FIT], name, model_id, size)
        return tuned_model(find_model(base), members, name, training, model_id, size)
    (h, w, c), patches, positions = _sizes(decoder, spatial=FEATURES in members)
    multipliers = np.array(manifest["multipliers"], np.float64)
    if multipliers.shape != (POINTS,) or not (multipliers >= 1e-9).all() or not (multipliers <= 1e12).all():
        raise ValueError(f"the Lagrange multipliers are not {POINTS} numbers from 1e-9 to 1e12")
    name, training = _told(manifest)
    name = BUILT_IN_IDS.get(model_id or b"", name)  # its manifest has the name that it had as the newest one
    model_id = model_id or _id_of(decoder, members)
    networks = {name: members[name] for name in NETWORKS if name in members} if lazy is None else lazy.only(NETWORKS)
    known: dict[str, Any] = {
        "name": name,
        "id": model_id,
        "image_shape": (h, w, c),
        "patches": patches,
        "multipliers": multipliers,
        "measured": measured_points(manifest["measured"], members),
        "training": training,
        "networks": networks,
        "positions": positions,
        "size": size,
        "threads": threads,
    }
    parts = {name: functools.partial(_part, members, name, c) for name in PARTS}
    return model_of_parts(known, parts) if lazy else Model(**known, **{name: read() for name, read in parts.items()})


def _id_of(decoder: Mapping[str, Any], members: Mapping[str, bytes]) -> bytes:
    decoding = [json.dumps(decoder, sort_keys=True).encode(), *(members[n] for n in DECODING if n in members)]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in decoding)).digest()[:8]


def _sizes(decoder: Mapping[str, Any], *, spatial: bool) -> tuple[tuple[int, int, int], int, tuple[int, int]]:
    """Return the shape of images (h w c), the number of patches, and that of rows and columns of positions."""
    h, w, c = (int(n) for n in decoder["image_shape"])
    patches = int(decoder["cells"])
    if c not in (1, 3) or not (1 <= h <= MAX_SIDE and 1 <= w <= MAX_SIDE) or not 1 <= patches <= MAX_PATCHES:
        raise ValueError(f"the manifest tells of images of shape {(h, w, c)} in {patches} patches")
    if not spatial:
        return (h, w, c), patches, (0, 0)
    rows, columns = (int(n) for n in decoder["sites"])
    if not (1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE and rows * columns <= MAX_POSITIONS):
        raise ValueError(f"the manifest tells of positions of shape {(rows, columns)}")
    return (h, w, c), patches, (rows, columns)


def _part(members: Mapping[str, bytes], name: str, channels: int) -> Any:
    """Return a part of the model: its grid, or one of its priors."""
    if name == "spatial":
        return spatial_from(read_npz(members[SPATIAL])) if FEATURES in members else None
    if name == "mixer":
        return mixer_from(read_npz(members[MIXING])) if MIXING in members else None
    if name == "transform":
        return transform_from(read_npz(members[TRANSFORM])) if TRANSFORM in members else None
    if name in ("grid", "prior"):
        grid, prior = latents_from(read_npz(members[DECODER])) if DECODER in members else no_latents()
        return grid if name == "grid" else prior
    pixels = pixels_from(read_npz(members[PIXELS])) if PIXELS in members else None
    if pixels is not None and pixels.window.channels not in (1, channels):
        raise ValueError(f"the pixel prior is for {pixels.window.channels} channels, the images have {channels}")
    return pixels


def _told(manifest: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name and the provenance that a manifest states."""
    name, training = str(manifest["name"]), dict(manifest["training"])
    if not name.isprintable() or not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"the name is not printable, or not of 1 to {MAX_NAME} characters")
    if "pixels" in training:
        training["pixels"] = {**training["pixels"], "bytes_an_image": float(training["pixels"]["bytes_an_image"])}
    return name, training
