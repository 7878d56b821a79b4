# SPDX-License-Identifier: MIT
"""Thumbnails: reduce images to a long side, and convert their colours to sRGB by their ICC profiles."""

import contextlib
import functools
import io
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from smalti.errors import UsageError
from smalti.exchange.parts import Parts
from smalti.limits import MAX_SIDE
from smalti.types import ImageSet, PassedOver, Reason, Source

MAX_REDUCED = 1 << 27
"""The most pixels of an image that is reduced; while it is decoded, it takes 3 or 4 bytes for each."""
GAP = 2.0
"""An image is first reduced by a whole factor, as its JPEG decoder can or by means, to at least so many times the size
that is asked; then by Lanczos. What differs from Lanczos alone is below noise of 45 dB (`scripts/bench resizing`)."""
_LARGE = 1 << 24  # pixels; such images are decoded one at a time, which bounds the memory that threads take together
_SRGB = Reason("image to sRGB by its ICC profile", "images to sRGB by their ICC profiles")
_UNUSED = Reason("ICC profile that could not be used", "ICC profiles that could not be used")
_LATTICE = 9
_one_large = threading.Lock()


def check_side(side: object) -> int | None:
    """Return the long side that is asked for, in pixels; None if none is.

    Raises:
        UsageError: it is no number of pixels.
    """
    if side is None:
        return None
    if not isinstance(side, int | np.integer) or isinstance(side, bool) or not 1 <= side <= MAX_SIDE:
        raise UsageError(f"resize is {side!r}; give the long side in pixels, a whole number from 1 to {MAX_SIDE}")
    return int(side)


def of_reduced(side: int) -> Reason:
    """Return the reason of a reduction to a long side."""
    return Reason(f"image reduced to {side} pixels", f"images reduced to {side} pixels")


def draft(image: Image.Image, side: int) -> None:
    """Let the decoder of JPEG reduce an opened image while it decodes, if it can."""
    if image.format in ("JPEG", "MPO"):
        w, h = _target(*image.size, side)
        image.draft(None, (int(w * GAP), int(h * GAP)))  # None keeps the mode


@contextlib.contextmanager
def one_large(image: Image.Image) -> Iterator[None]:
    """Wait until no other thread decodes a large image, if this one is large."""
    with _one_large if image.width * image.height > _LARGE else contextlib.nullcontext():
        yield


def reduced(pixels: NDArray[np.uint8], side: int, full: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Return an image (`h w` or `h w c`) whose long side has at most `side` pixels; one that is smaller as it is.

    Samples are averaged as they are, in sRGB, not in linear light: see docs/what-is-read.md for why. Colours are
    weighed by alpha.

    full: the height and width before a decoder reduced the image, from which the size of the result follows.
    """
    h, w = full or pixels.shape[:2]
    if max(h, w) <= side:
        return pixels
    image = Image.fromarray(pixels)  # Pillow resamples LA and RGBA with premultiplied alpha
    return np.asarray(image.resize(_target(w, h, side), Image.Resampling.LANCZOS, reducing_gap=GAP))


def _target(w: int, h: int, side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(w, h))
    return max(1, round(w * scale)), max(1, round(h * scale))


def to_srgb(pixels: NDArray[np.uint8], profile: bytes) -> tuple[NDArray[np.uint8], Reason | None, Reason | None]:
    """Convert an image (`h w` or `h w c`) to sRGB, or to gray of the same tone curve, by its ICC profile.

    Returns the pixels, the reason if they are converted, and the reason if the profile cannot be used.
    """
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    gray = channels < 3
    transform = _transform(profile, gray=gray)
    if transform is None:
        return pixels, None, _UNUSED
    if transform is _SAME:
        return pixels, None, None
    assert isinstance(transform, ImageCms.ImageCmsTransform)
    colour = pixels if channels in (1, 3) else pixels[..., 0] if gray else pixels[..., :3]
    made = _applied(transform, np.ascontiguousarray(colour), gray=gray)
    if channels in (2, 4):
        made = np.concatenate([made.reshape(*pixels.shape[:2], -1), pixels[..., -1:]], -1)
    return made, _SRGB, None


_SAME = object()
"""Stands for a transform that changes no sample by more than one level: the profile is that of sRGB."""


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, *, gray: bool) -> object:
    """Return the transform to sRGB; `_SAME` if it changes nothing, and None if the profile is damaged or of others."""
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        made = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), "L" if gray else "RGB", "RGB")
        steps = np.rint(np.linspace(0, 255, _LATTICE)).astype(np.uint8)
        grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(_LATTICE, -1, 3)
        probe = np.arange(256, dtype=np.uint8)[None] if gray else grid
        off = _applied(made, probe, gray=gray).astype(int) - probe
    except (ImportError, OSError, TypeError, ValueError, ImageCms.PyCMSError):
        return None  # also where Pillow has no LittleCMS
    return _SAME if abs(off).max() <= 1 else made


def _applied(transform: ImageCms.ImageCmsTransform, colour: NDArray[np.uint8], *, gray: bool) -> NDArray[np.uint8]:
    made = np.asarray(ImageCms.applyTransform(Image.fromarray(colour), transform), np.uint8)
    return np.ascontiguousarray(made[..., 1]) if gray else made


def reduced_source(source: Source, side: int) -> Source:
    """Return a source whose images have long sides of at most `side` pixels and sRGB colours, and no ICC profiles."""
    passed = PassedOver()
    parts = Parts(lambda: _parts(source, side, passed))
    return replace(source, parts=parts, passed_over=PassedOver((source.passed_over, passed)))


def _parts(source: Source, side: int, passed: PassedOver) -> Iterator[ImageSet]:
    passed.clear()
    for part in source.parts:
        large = max(part.shape[:2]) > side
        if not large and part.profiles is None:  # also what readers of files have reduced already
            yield part
            continue
        images = []
        for i, image in enumerate(part.pixels):
            name = part.names[i] if part.names else "image"
            if (profile := part.profile(i)) is not None:
                made, converted, dropped = to_srgb(reduced(image, side), profile)
                note(passed, name, converted, dropped)
            else:
                made = reduced(image, side)
            images.append(made)
        if large:
            passed.conversions.note(of_reduced(side), part.names[0] if part.names else "image", len(part))
        yield replace(part, pixels=np.stack(images), profiles=None)


def note(passed: PassedOver, name: str, converted: Reason | None, dropped: Reason | None) -> None:
    """Count what was done with the profile of an image."""
    if converted is not None:
        passed.conversions.note(converted, name)
    if dropped is not None:
        passed.note(dropped, name)


class _Quiet:
    """A context without warnings that several threads may be in: the first one to enter and the last to leave act."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._caught.__exit__(None, None, None)


quiet = _Quiet()
