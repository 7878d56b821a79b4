# SPDX-License-Identifier: MIT
"""A model bundle: one zip file with all that an encoder and a decoder need. At run time the only user of onnxruntime.

manifest.json    name, image shape, what was measured, SHA-256 of the other members, how it was trained
synthesis.onnx   g_s: latents (integers, as float32, `n*cells latents`) and anchors (`n 9`) to pixels (`n c h w`)
decoder.npz      integers: the prior, and for each operating point the steps and the ranges of symbols
analysis.onnx    g_a: float32 `n c h w` in [0, 1] and anchors to latents (`n*cells latents`); for the encoder alone
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from smalti.errors import ModelError, SourceError, UnknownModelError, UsageError
from smalti.prior import POINTS, Grid, Prior, anchor_weights
from smalti.tables import Ints

VERSION = 1
SUFFIX = ".model"
DEFAULT_MODEL = "mnist"
SEARCH_PATH = "SMALTI_MODEL_PATH"
"""Environment variable: folders to look for models in, besides the built-in one."""
MAX_MEMBER_BYTES = 64 << 20
MAX_LATENTS = 1 << 10
MAX_CELLS = 1 << 8
MAX_SIDE = (1 << 16) - 1
RUN_IMAGES = 64
"""Images a network runs on at a time; more only costs memory."""

MANIFEST, ANALYSIS, SYNTHESIS = "manifest.json", "analysis.onnx", "synthesis.onnx"
DECODER = "decoder.npz"
MEMBERS = (SYNTHESIS, DECODER, ANALYSIS)
_BUILT_IN = Path(__file__).parent / "models"


@dataclass(frozen=True)
class Measured:
    """What the codec does at one operating point, on images it was not trained on; at the default effort."""

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
    networks: Mapping[str, bytes]  # ANALYSIS and SYNTHESIS: ONNX
    size: int = 0  # of the bundle, in bytes
    threads: int = 0  # of the network engine; 0: one a core

    @property
    def latents(self) -> int:
        """Latents of a cell."""
        return self.prior.latents

    def analyse(self, pixels: NDArray[np.uint8], points: Ints) -> NDArray[np.float32]:
        """g_a: images (`n h w` or `n h w c`), each for its operating point (`n`), to latents (`n*cells l`)."""
        x = pixels.reshape(-1, *self.image_shape).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)  # n c h w
        return self._run(ANALYSIS, x, points, len(x) * self.cells, (self.latents,))

    def synthesise(self, v: Ints, points: Ints) -> NDArray[np.uint8]:
        """g_s: latents (`n*cells l`), each image's of its operating point (`n`), to images (`n h w` or `n h w c`)."""
        h, w, c = self.image_shape
        batch = v.astype(np.float32).reshape(-1, self.cells, self.latents)
        pixels = self._run(SYNTHESIS, batch, points, len(batch), (c, h, w)).astype(np.uint8).transpose(0, 2, 3, 1)
        return pixels.reshape(-1, h, w) if c == 1 else pixels

    def _run(
        self, network: str, batch: NDArray[np.float32], points: Ints, rows: int, shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """`n ...` to `rows *shape`, a few images at a time."""
        session, anchors = self._sessions[network], anchor_weights(points).astype(np.float32)
        first, second = (i.name for i in session.get_inputs())
        parts = []
        try:
            for i in range(0, len(batch), RUN_IMAGES):
                part = batch[i : i + RUN_IMAGES]
                if network == SYNTHESIS:
                    part = part.reshape(-1, self.latents)
                parts.append(session.run(None, {first: part, second: anchors[i : i + RUN_IMAGES]})[0])
        except Exception as exc:  # onnxruntime's errors have no common root of their own
            raise ModelError(f"model {self.name}: {network} does not fit its manifest; use another bundle") from exc
        result = np.concatenate(parts) if parts else np.empty((0, *shape), np.float32)
        if result.shape != (rows, *shape):
            raise ModelError(f"model {self.name}: {network} gives {result.shape[1:]}, not {shape}; use another bundle")
        return result

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


def bundle_bytes(
    name: str,
    image_shape: tuple[int, int, int],
    cells: int,
    decoder: Mapping[str, NDArray[Any]],
    multipliers: NDArray[np.float64],
    networks: Mapping[str, bytes],
    measured: tuple[Measured, ...],
    training: Mapping[str, Any],
) -> bytes:
    """The bundle of a model, the same bytes for the same model.

    decoder: the fields of `Grid` and of `Prior`.
    """
    members = {DECODER: _npz(decoder)} | dict(networks)
    manifest = {
        "smalti_model": VERSION,
        "name": name,
        "decoder": {"image_shape": image_shape, "cells": cells},
        "multipliers": multipliers.tolist(),
        "measured": [vars(m) for m in measured],
        "sha256": {member: hashlib.sha256(members[member]).hexdigest() for member in MEMBERS},
        "training": dict(training),
    }
    return _zip({MANIFEST: json.dumps(manifest, indent=1).encode()} | {name: members[name] for name in MEMBERS})


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
            members = {name: _member(bundle, name) for name in (MANIFEST, *MEMBERS)}
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
    for member in MEMBERS:
        if hashlib.sha256(members[member]).hexdigest() != manifest["sha256"][member]:
            raise ValueError(f"the checksum of {member} is wrong")
    decoder = manifest["decoder"]
    h, w, c = (int(n) for n in decoder["image_shape"])
    cells = int(decoder["cells"])
    if c not in (1, 3) or not (1 <= h <= MAX_SIDE and 1 <= w <= MAX_SIDE) or not 1 <= cells <= MAX_CELLS:
        raise ValueError(f"images of shape {(h, w, c)} in {cells} cells")
    arrays = _arrays(members[DECODER])
    grid = Grid(**{field.name: arrays[field.name].astype(np.int64) for field in fields(Grid)})
    prior = Prior(**{field.name: arrays[field.name] for field in fields(Prior)})
    if prior.latents != grid.steps.shape[1] or prior.latents > MAX_LATENTS:
        raise ValueError(f"a prior for {prior.latents} latents, steps for {grid.steps.shape[1]}")
    multipliers = np.array(manifest["multipliers"], np.float64)
    if multipliers.shape != (POINTS,) or not np.isfinite(multipliers).all() or multipliers.min() <= 0:
        raise ValueError("the Lagrange multipliers are not what they should be")
    decoding = json.dumps(decoder, sort_keys=True).encode(), members[SYNTHESIS], members[DECODER]
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
        networks={name: members[name] for name in (ANALYSIS, SYNTHESIS)},
        size=size,
        threads=threads,
    )


def _arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file, none larger than a member may be."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        if sum(info.file_size for info in file.infolist()) > MAX_MEMBER_BYTES:
            raise ValueError("arrays larger than allowed")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
