# SPDX-License-Identifier: MIT
"""Find the models that may suit images of a shape, by what their bundles say, without loading them."""

import functools
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smalti.core.library import core
from smalti.errors import ModelError, SourceError
from smalti.model.bundle import MAX_MANIFEST_BYTES, load_model, model_paths
from smalti.model.empty_model import empty_model
from smalti.model.model import SYNTHESIS, Model
from smalti.model.npz import MAX_MEMBERS
from smalti.model.parts.member_names import DECODING, MANIFEST, PIXELS
from smalti.types import Shape

TRIED = ("mnist", "fashion")
"""The built-in models that are tried. `mnist-autoencoder` is left out: at every quality, `mnist` takes fewer bytes."""
GENERAL = "colour"
"""The built-in model that codes images of any size, channels and content, exactly or nearly so."""
QUICK = "colour-fast"
"""The same for speed: it takes more bytes, and is several times as fast."""
LARGER = 2
"""Images are tried with a model by pixels if their sides are at most so many times those of the model's images."""


@dataclass(frozen=True)
class Candidate:
    """A model that may suit some images, as its bundle tells without being loaded."""

    path: Path
    image_shape: Shape  # h w c, as in `Model`
    has_latents: bool
    has_pixels: bool
    embedded: int  # the bytes that it adds to a file which holds it, or 0 if it is built in and files need not hold it

    def may_suit(self, shape: Shape) -> bool:
        """Return whether images of a shape (h w c) are near to those that the model was made for."""
        if shape == self.image_shape:
            return True
        sides = zip(shape[:2], self.image_shape[:2], strict=True)
        near = all(side <= LARGER * own for side, own in sides)
        return self.has_pixels and near and shape[2] == self.image_shape[2]

    def load(self) -> Model | None:
        """Return the model; None if its bundle is damaged, or if it can only decode."""
        try:
            model = load_model(self.path)
        except (ModelError, SourceError):  # another bundle's damage is not the concern of whoever packs
            return None
        return model if model.can_encode else None


def candidates(shape: Shape) -> list[Candidate]:
    """Return the models, built in or on `SMALTI_MODEL_PATH`, that may suit images of a shape (h w c)."""
    return [candidate for candidate in _all() if candidate.may_suit(shape)]


def general_model(*, quick: bool = False) -> Model:
    """Return the model for images that no special one suits: `colour`; the empty one where there is no compiled core.

    Without the core, coding by mixing takes a thousand times as long.

    quick: whether it is the one for speed, which keeps images exactly or nearly so, and in no other way.
    """
    return empty_model() if core() is None else load_model(QUICK if quick else GENERAL)


def _all() -> Iterator[Candidate]:
    paths = model_paths()
    built_in = paths[0].parent if paths else None
    for path in paths:
        if path.parent != built_in or path.stem in TRIED:
            try:
                found = _peeked(path.resolve(), path.stat().st_mtime_ns, built_in=path.parent == built_in)
            except (OSError, ValueError):
                continue
            if found is not None:
                yield found


@functools.lru_cache(maxsize=64)
def _peeked(path: Path, _changed: int, *, built_in: bool) -> Candidate | None:
    """Read the manifest and the list of members of a bundle, anew only if the file has changed."""
    try:
        with zipfile.ZipFile(path) as file:
            members = {info.filename: info for info in file.infolist()[:MAX_MEMBERS]}
            if members[MANIFEST].file_size > MAX_MANIFEST_BYTES:
                return None
            h, w, c = (int(n) for n in json.loads(file.read(MANIFEST))["decoder"]["image_shape"])
    except Exception:  # noqa: BLE001 - zipfile and json raise many kinds for a bundle that is none
        return None
    kept = [info.compress_size for name, info in members.items() if name in (MANIFEST, *DECODING)]
    return Candidate(path, (h, w, c), SYNTHESIS in members, PIXELS in members, 0 if built_in else sum(kept))
