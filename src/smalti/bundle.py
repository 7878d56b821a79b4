# SPDX-License-Identifier: MIT
"""A model bundle: one zip file with all that an encoder and a decoder need. At run time the only user of onnxruntime.

manifest.json    name, shapes, operating points, SHA-256 of the other members, how it was trained
analysis.onnx    g_a: float32 `n c h w` in [0, 1] to the latents y, any shape `n ...`
synthesis.onnx   g_s: quantised latents to float32 `n c h w`
tables.bin       frequency tables, one a latent, for each operating point in turn
"""

import contextlib
import functools
import hashlib
import io
import json
import math
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
from smalti.tables import Table, tables_from_bytes, tables_to_bytes

VERSION = 0
SUFFIX = ".model"
DEFAULT_MODEL = "mnist-autoencoder"
SEARCH_PATH = "SMALTI_MODEL_PATH"
"""Environment variable: folders to look for models in, besides the built-in one."""
MAX_MEMBER_BYTES = 64 << 20
MAX_LATENTS = 1 << 16
MAX_SIDE = (1 << 16) - 1
MAX_POINTS = 256
RUN_IMAGES = 32
"""Images a network runs on at a time; more only costs memory."""

MANIFEST, ANALYSIS, SYNTHESIS, TABLES = "manifest.json", "analysis.onnx", "synthesis.onnx", "tables.bin"
_BUILT_IN = Path(__file__).parent / "models"


@dataclass(frozen=True)
class Point:
    """An operating point: one trade of bytes for quality."""

    quality: int  # 1 to 100
    step: float  # quantisation step, in units of the latents
    tables: tuple[Table, ...]  # one a latent


@dataclass(frozen=True, eq=False)
class Model:
    """A learned codec: networks, tables and what they are for."""

    name: str
    id: bytes  # first 8 bytes of the SHA-256 of what decoding depends on
    image_shape: tuple[int, int, int]  # h w c
    latent_shape: tuple[int, ...]  # without the batch
    points: tuple[Point, ...]  # by rising quality
    training: Mapping[str, Any]  # provenance: data, schedule, what it reached
    networks: Mapping[str, bytes]  # ANALYSIS and SYNTHESIS: ONNX
    threads: int = 0  # of the network engine; 0: one a core

    def point(self, quality: int) -> int:
        """The index of the operating point nearest to `quality` (1 to 100).

        Raises:
            UsageError: `quality` is out of range.
        """
        if not 1 <= quality <= 100:
            raise UsageError(f"quality is {quality}; give a number from 1 (fewest bytes) to 100 (best)")
        return min(range(len(self.points)), key=lambda i: abs(self.points[i].quality - quality))

    def analyse(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """g_a: images (`n h w` or `n h w c`) to latents (`n p`)."""
        x = pixels.reshape(-1, *self.image_shape).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)  # n c h w
        return self._run(ANALYSIS, x, self.latent_shape).reshape(len(x), -1)

    def synthesise(self, y_hat: NDArray[np.float32]) -> NDArray[np.uint8]:
        """g_s: quantised latents (`n p`) to images (`n h w` if gray, else `n h w c`)."""
        h, w, c = self.image_shape
        x_hat = self._run(SYNTHESIS, y_hat.reshape(-1, *self.latent_shape), (c, h, w))  # n c h w
        pixels = np.floor(x_hat.clip(0, 1) * 255 + 0.5).astype(np.uint8).transpose(0, 2, 3, 1)
        return pixels.reshape(-1, h, w) if c == 1 else pixels

    def _run(self, network: str, batch: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """`n ...` to `n *shape`, a few images at a time."""
        session = self._sessions[network]
        name = session.get_inputs()[0].name
        try:
            parts = [session.run(None, {name: batch[i : i + RUN_IMAGES]})[0] for i in range(0, len(batch), RUN_IMAGES)]
        except Exception as exc:  # onnxruntime's errors have no common root of their own
            raise ModelError(f"model {self.name}: {network} does not fit its manifest; use another bundle") from exc
        if any(part.shape[1:] != shape for part in parts):
            raise ModelError(
                f"model {self.name}: {network} gives {parts[0].shape[1:]}, not {shape}; use another bundle"
            )
        return np.concatenate(parts)

    @functools.cached_property
    def _sessions(self) -> dict[str, ort.InferenceSession]:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        try:
            return {
                name: ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
                for name, data in self.networks.items()
            }
        except Exception as exc:  # as above
            raise ModelError(f"model {self.name}: its networks cannot be loaded; use another bundle") from exc


def bundle_bytes(
    name: str,
    image_shape: tuple[int, int, int],
    latent_shape: tuple[int, ...],
    points: tuple[Point, ...],
    training: Mapping[str, Any],
    networks: Mapping[str, bytes],
) -> bytes:
    """The bundle of a model, the same bytes for the same model."""
    members = dict(networks) | {TABLES: b"".join(tables_to_bytes(point.tables) for point in points)}
    manifest = {
        "smalti_model": VERSION,
        "name": name,
        "decoder": {
            "image_shape": image_shape,
            "latent_shape": latent_shape,
            "points": [{"quality": point.quality, "step": point.step} for point in points],
        },
        "sha256": {member: hashlib.sha256(data).hexdigest() for member, data in members.items()},
        "training": dict(training),
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for member, data in {MANIFEST: json.dumps(manifest, indent=1).encode(), **members}.items():
            bundle.writestr(zipfile.ZipInfo(member), data, zipfile.ZIP_DEFLATED, 9)
    return file.getvalue()


def load_model(name: str | Path = DEFAULT_MODEL, threads: int = 0) -> Model:
    """The model of that name (built in, or on `SMALTI_MODEL_PATH`), or in that file.

    Raises:
        UnknownModelError: there is none of that name.
        SourceError: there is no such file.
        ModelError: the bundle is damaged or not a bundle.

    >>> load_model("mnist-autoencoder").latent_shape
    (1, 7, 7)
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
            members = {name: _member(bundle, name) for name in (MANIFEST, ANALYSIS, SYNTHESIS, TABLES)}
        return _parse(members, threads)
    except Exception as exc:
        raise ModelError(f"{path} is not a model bundle, or a damaged one ({exc}); export or copy it again") from exc


def _member(bundle: zipfile.ZipFile, name: str) -> bytes:
    info = bundle.getinfo(name)
    if info.file_size > MAX_MEMBER_BYTES:
        raise ValueError(f"{name} claims {info.file_size} bytes")
    with bundle.open(info) as file:
        return file.read(MAX_MEMBER_BYTES)


def _parse(members: Mapping[str, bytes], threads: int) -> Model:
    manifest = json.loads(members[MANIFEST])
    if manifest["smalti_model"] != VERSION:
        raise ValueError(f"bundle version {manifest['smalti_model']}, this release reads {VERSION}")
    for member in (ANALYSIS, SYNTHESIS, TABLES):
        if hashlib.sha256(members[member]).hexdigest() != manifest["sha256"][member]:
            raise ValueError(f"the checksum of {member} is wrong")
    decoder = manifest["decoder"]
    h, w, c = (int(n) for n in decoder["image_shape"])
    latent_shape = tuple(int(n) for n in decoder["latent_shape"])
    latents = math.prod(latent_shape)
    if c not in (1, 3) or not (1 <= h <= MAX_SIDE and 1 <= w <= MAX_SIDE):
        raise ValueError(f"images of shape {(h, w, c)}")
    if min(latent_shape, default=0) < 1 or latents > MAX_LATENTS:
        raise ValueError(f"latents of shape {latent_shape}")
    tables = tables_from_bytes(members[TABLES])
    if not 1 <= len(decoder["points"]) <= MAX_POINTS or len(tables) != latents * len(decoder["points"]):
        raise ValueError(f"{len(tables)} tables for {len(decoder['points'])} points of {latents} latents")
    points = tuple(
        Point(int(point["quality"]), float(point["step"]), tables[i * latents : (i + 1) * latents])
        for i, point in enumerate(decoder["points"])
    )
    qualities = [point.quality for point in points]
    if qualities != sorted(set(qualities)) or not (qualities[0] >= 1 and qualities[-1] <= 100):
        raise ValueError(f"qualities {qualities}")
    if not all(math.isfinite(point.step) and 1e-6 < point.step < 1e6 for point in points):
        raise ValueError("a quantisation step out of range")
    decoding = json.dumps(decoder, sort_keys=True).encode(), members[SYNTHESIS], members[TABLES]
    model_id = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in decoding)).digest()[:8]
    networks = {name: members[name] for name in (ANALYSIS, SYNTHESIS)}
    training = dict(manifest["training"])
    return Model(str(manifest["name"]), model_id, (h, w, c), latent_shape, points, training, networks, threads)
