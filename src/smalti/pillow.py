# SPDX-License-Identifier: MIT
"""Let Pillow open and save smalti files: importing this module registers the format.

>>> import io, smalti.pillow
>>> from PIL import Image
>>> file = io.BytesIO()
>>> Image.new("RGB", (40, 30), "teal").save(file, "SMALTI", lossless=True)
>>> with Image.open(file) as image:
...     image.format, image.size, image.getpixel((0, 0))
('SMALTI', (40, 30), (0, 128, 128))
"""

import contextlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile, ImageSequence

from smalti.api import pack
from smalti.archive.archive import Archive
from smalti.container.format import MAGIC
from smalti.errors import SmaltiError, UsageError
from smalti.exchange.arrays import annotated
from smalti.exchange.formats.image_files import Reading, single_of
from smalti.exchange.parts import Parts, Single, grouped
from smalti.rate.model_choice import AUTO
from smalti.rate.target import DEFAULT_EFFORT
from smalti.types import Shape, Source

FORMAT = "SMALTI"
"""The name of the format in Pillow."""
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_KEPT = (
    "icc_profile",
    "transparency",
)  # of what Pillow knows beside the pixels; these are saved as they are, not turned


class ImageError(SmaltiError, OSError):
    """A smalti file cannot be read or written through Pillow; those who catch Pillow's `OSError` catch it, too."""


class SmaltiImageFile(ImageFile.ImageFile):
    """A smalti file that Pillow has opened; its images are the frames.

    `info` holds of the present image what the file says of it: `icc_profile`, `name` and `label`. An image is decoded
    when its pixels are first asked for. After `seek`, `size` and `mode` are those of the image that was sought, which
    may differ from image to image.
    """

    format = FORMAT
    format_description = "smalti file"
    _archive: Archive | None = None  # stays None in an object that was unpickled: that one has its pixels already
    _frame, _decoded = 0, False

    def _open(self) -> None:
        assert self.fp is not None
        self._fp: Any = self.fp  # Pillow closes the file by this name
        with _as_pillow():
            self._archive = Archive(self._fp)
            self.n_frames = len(self._archive)
        if not self.n_frames:
            raise SyntaxError("the smalti file holds no images")
        self.is_animated = self.n_frames > 1
        self._close_exclusive_fp_after_loading = False
        self._show(0)

    def seek(self, frame: int) -> None:
        """Go to the image of that number, from 0 on.

        Raises:
            EOFError: there is no such image.
            ImageError: the file is damaged.
        """
        if self._seek_check(frame):
            self._show(frame)

    def tell(self) -> int:
        """Return the number of the present image."""
        return self._frame

    def load(self) -> Any:
        """Decode the present image, unless that is done.

        Raises:
            ImageError: its block is damaged, or the file cannot be read.
        """
        if self._archive is not None and not self._decoded:
            with _as_pillow():
                pixels = self._archive[self._frame]
            self.im = Image.fromarray(pixels).copy().im
            self.tile, self.readonly, self._decoded = [], 0, True
            if self.n_frames == 1 and self._exclusive_fp:
                self._fp.close()
        return super().load()

    def _show(self, frame: int) -> None:
        archive = self._archive
        assert archive is not None
        with _as_pillow():
            h, w, c = _shape(archive, frame)
            about = (("icc_profile", archive.profiles), ("name", archive.names), ("label", archive.labels))
            self.info = {key: of[frame] for key, of in about if of is not None and of[frame] is not None}
        self._mode, self._size, self._frame, self._decoded = _MODES[c], (w, h), frame, False


def _shape(archive: Archive, number: int) -> Shape:
    """Return the shape (h w c) of an image; images of mixed blocks are decoded for that, and kept."""
    blocks, _ = archive.places(np.array([number]))
    index = archive.contents.index
    kind = index.kinds[index.blocks[int(blocks[0])].kind]
    if not kind.mixed:
        return kind.shape
    shape = archive[number].shape
    return shape[0], shape[1], shape[2] if len(shape) == 3 else 1


@contextlib.contextmanager
def _as_pillow() -> Iterator[None]:
    """Turn errors of smalti into errors that those who use Pillow expect; wrong arguments stay what they are."""
    try:
        yield
    except UsageError:
        raise
    except SmaltiError as exc:
        raise ImageError(str(exc)) from exc


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:  # noqa: ARG001 - Pillow calls it so
    _write([image], 1, image.encoderinfo, file)


def _save_all(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:  # noqa: ARG001 - Pillow calls it so
    images = [image, *image.encoderinfo.get("append_images", ())]
    frames = sum(getattr(one, "n_frames", 1) for one in images)
    present = [one.tell() for one in images]
    try:
        _write((frame for one in images for frame in ImageSequence.Iterator(one)), frames, image.encoderinfo, file)
    finally:
        for one, frame in zip(images, present, strict=True):
            one.seek(frame)


def _write(images: Any, total: int, options: dict[str, Any], file: Any) -> None:
    """Pack Pillow's images, which are gone through once, by the options that were given to `save`."""
    reading = Reading()
    parts = Parts(lambda: grouped(_singles(images, options, reading)))
    source = Source(parts, total, named=False, labelled=False, passed_over=reading.passed)
    exact = bool(options.get("lossless", False))
    with _as_pillow():
        pack(
            annotated(source, options.get("names"), options.get("labels")),
            file,
            model=options.get("model", AUTO),
            quality=None if exact else options.get("quality"),
            min_psnr=options.get("min_psnr"),
            max_error=options.get("max_error"),
            lossless=exact,
            effort=options.get("effort", DEFAULT_EFFORT),
        )


def _singles(images: Any, options: dict[str, Any], reading: Reading) -> Iterator[Single]:
    for number, image in enumerate(images):
        plain = image.copy()  # of the present frame alone
        plain.info = {key: plain.info[key] for key in _KEPT if key in plain.info}
        if "icc_profile" in options:
            plain.info["icc_profile"] = options["icc_profile"]
        yield single_of(plain, f"image {number}", reading)


Image.register_open(FORMAT, SmaltiImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_save_all(FORMAT, _save_all)
Image.register_extension(FORMAT, ".smalti")
