# SPDX-License-Identifier: MIT
"""Image files, each with one image (PNG, JPEG, WebP, ...): decode them to pixels, encode PNG."""

import io
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from smalti.errors import SourceError
from smalti.exchange.convert import Picture, picture
from smalti.exchange.formats.image_headers import deep_file, jp2_profile
from smalti.exchange.parts import MAX_PIXELS, Parts, Single, grouped
from smalti.exchange.recognise import FURTHER, formats
from smalti.exchange.resize import MAX_REDUCED, draft, of_reduced, one_large, quiet, reduced, to_srgb
from smalti.exchange.samples import EACH
from smalti.types import Label, OnBad, PassedOver, Reason, Source, check_name, check_size, raise_it, shape_of
from smalti.util.parallel import in_order

MAX_ANIMATION_PIXELS = 1 << 25
"""The most pixels of all frames of an animation, or pages of a file."""
_FRAME = Reason("frame of an animation", "frames of animations")
_PAGE = Reason("page of a file of several", "pages of files of several")
_SIZE = Reason("size of an icon", "sizes of icons")


@dataclass(frozen=True, eq=False)
class Reading:
    """How image files are read."""

    on_bad: OnBad = raise_it  # called with the error of an image that cannot be read
    passed: PassedOver = field(default_factory=PassedOver)  # told what is passed over and converted
    convert: bool = False  # whether images that 8-bit gray, RGB or RGBA cannot hold are converted
    side: int | None = None  # the long side, in pixels, to which larger images are reduced; colours become sRGB then

    def count(self, files: int) -> int | None:
        """Return how many images so many files hold, if that is known before they are read."""
        return None if self.convert else files


class Decoded(NamedTuple):
    """An image of a file."""

    added: str  # to the name of the file; "" unless the file holds several images
    pixels: NDArray[np.uint8]  # h w, h w 2, h w 3 or h w 4
    profile: bytes | None  # ICC
    converted: tuple[Reason, ...] = ()
    dropped: tuple[Reason, ...] = ()


class File(NamedTuple):
    """A file to read images from."""

    data: Path | bytes  # its path or its content
    name: str
    where: str  # the file, in words, for messages
    label: Label | None = None
    named: bool = True  # whether its images have names


def open_image_files(paths: Sequence[Path], on_bad: OnBad, *, convert: bool, side: int | None = None) -> Source:
    """Open image files as a source; each image has the name of its file, without the folder."""
    reading = Reading(on_bad, PassedOver(), convert, side)
    parts = Parts(lambda: grouped(_singles(paths, reading)))
    return Source(parts, reading.count(len(paths)), named=True, labelled=False, passed_over=reading.passed)


def _singles(paths: Sequence[Path], reading: Reading) -> Iterator[Single]:
    reading.passed.clear()
    yield from read_files((File(path, path.name, str(path)) for path in paths), reading)


def read_files(files: Iterable[File], reading: Reading) -> Iterator[Single]:
    """Yield the images of files in order, as `read_file` returns them.

    Files whose images are reduced are decoded by several threads at a time: they are large, and Pillow lets other
    threads run meanwhile.
    """
    if reading.side is None:
        for file in files:
            yield from read_file(file, reading)
        return
    kept = list[File]()  # those that are being decoded

    def given() -> Iterator[File]:
        for file in files:
            kept.append(file)
            yield file

    for found in in_order(lambda file: _decoded(file, reading), given()):
        yield from _singles_of(kept.pop(0), found, reading)


def read_file(file: File, reading: Reading) -> list[Single]:
    """Return the images of a file, each with the label of the file; they are several only if converted.

    The images are none if the file cannot be read and `on_bad`, called with the error, returns.
    """
    return _singles_of(file, _decoded(file, reading), reading)


def _decoded(file: File, reading: Reading) -> list[Decoded] | SourceError:
    try:
        check_name(file.name)
        images = decode_all(file.data, file.where, convert=reading.convert, side=reading.side)
        for image in images:
            check_name(file.name + image.added)
            check_size(shape_of(image.pixels[None]), file.where)
    except SourceError as exc:
        return exc
    return images


def _singles_of(file: File, images: list[Decoded] | SourceError, reading: Reading) -> list[Single]:
    if isinstance(images, SourceError):
        reading.on_bad(images)
        return []
    for image in images:
        for reason in image.converted:
            reading.passed.conversions.note(reason, file.name + image.added)
        for reason in image.dropped:
            reading.passed.note(reason, file.name + image.added)
    return [
        Single(image.pixels, file.name + image.added if file.named else None, file.label, image.profile)
        for image in images
    ]


def decode(data: Path | bytes, where: str) -> NDArray[np.uint8]:
    """Decode an image file to `h w`, `h w 2`, `h w 3` or `h w 4`, turned as its EXIF data says, as viewers show it.

    Raises:
        SourceError: the file cannot be read, or its pixels do not fit 8-bit gray, RGB or RGBA.
    """
    (image,) = decode_all(data, where)
    return image.pixels


def decode_all(data: Path | bytes, where: str, *, convert: bool = False, side: int | None = None) -> list[Decoded]:
    """Decode an image file to its image; if it is converted, to all of its frames, pages or sizes.

    What is added to the names of several images is "/0000.png", ... for frames and pages, "/64x64.png", ... for the
    sizes of an icon.

    Args:
        data: the path or the content of the file.
        where: the file, in words, for messages.
        convert: whether images that 8-bit gray, RGB or RGBA cannot hold are converted.
        side: the long side, in pixels, to which larger images are reduced; None if they stay as they are.

    Raises:
        SourceError: the file cannot be read, or is not taken, or not without `convert`.
    """
    bits = 0
    try:
        if isinstance(data, Path) and not stat.S_ISREG(data.stat().st_mode):
            raise SourceError(f"{where} is no regular file; give an image file")
        with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as file, quiet:
            bits, profile = deep_file(file), jp2_profile(file)
            with Image.open(file, formats=formats()) as image:
                if profile is not None:
                    image.info.setdefault("icc_profile", profile)
                if image.format == "ICNS" and bits > 8:
                    raise SourceError(f"{where} has {bits} bits a sample, which are misread in JPEG 2000; save 8")
                return _images(image, where, bits, convert=convert, side=side)
    except SourceError:
        raise
    except UnidentifiedImageError as exc:
        if bits > 8:  # of JPEG
            raise SourceError(f"{where} has {bits} bits a sample, which are not read in its format; save 8") from exc
        raise SourceError(f"{where} is no image or other source that smalti knows; leave it out") from exc
    except OSError as exc:
        raise SourceError(f"cannot read {where}: {exc.strerror or exc}; check the file") from exc
    except Exception as exc:
        raise SourceError(f"{where} is a damaged or too large image ({exc}); leave it out or copy it again") from exc


def single_of(image: Image.Image, where: str, reading: Reading) -> Single:
    """Return an image of Pillow, turned as its EXIF data says, without a name.

    Raises:
        SourceError: the image cannot be read, or is not taken, or not without `convert`; or it holds several images.
    """
    try:
        frames, what, _ = _several(image)
        if frames > 1 and image.format != "MPO":
            raise SourceError(
                f"{where} holds {frames} {what}, not one image; give x.copy() for the present one, or the path of the"
                " file with convert=True for all"
            )
        made = _picture(image, where, convert=reading.convert, side=reading.side, drafted=False)
    except SourceError:
        raise
    except Exception as exc:
        raise SourceError(f"{where} cannot be read ({exc}); load it again") from exc
    for reason in made.converted:
        reading.passed.conversions.note(reason, where)
    for reason in made.dropped:
        reading.passed.note(reason, where)
    return Single(made.pixels, None, None, made.profile)


def _picture(
    image: Image.Image, where: str, *, convert: bool, bits: int = 0, side: int | None = None, drafted: bool = True
) -> Picture:
    """Return an image of Pillow as `picture` does, reduced and in sRGB if there is a `side`.

    drafted: whether the decoder may reduce it, which changes the object; the caller's must stay as it is.
    """
    if side is None:
        return picture(image, where, convert=convert, bits=bits)
    h, w = image.height, image.width
    if drafted:
        draft(image, side)
    with one_large(image):
        made = picture(image, where, convert=convert, bits=bits, most=MAX_REDUCED)
        turned = made.pixels.shape[:2] != (image.height, image.width)
        pixels = reduced(made.pixels, side, (w, h) if turned else (h, w))
    converted, dropped, profile = made.converted, made.dropped, made.profile
    if pixels is not made.pixels:
        converted = (*converted, of_reduced(side))
    if profile is not None:
        pixels, by_profile, unused = to_srgb(pixels, profile)
        converted, dropped = (*converted, *filter(None, [by_profile])), (*dropped, *filter(None, [unused]))
    return Picture(pixels, None, converted, dropped)


def _images(image: Image.Image, where: str, bits: int, *, convert: bool, side: int | None) -> list[Decoded]:
    """Return the image of an opened file, or all that it holds if they are converted."""
    frames, what, reason = _several(image)
    if frames == 1 or image.format == "MPO":
        made = _picture(next(_opened(image))[1], where, convert=convert, bits=bits, side=side)
        return [Decoded("", *made[:3], (*made.dropped, *(FURTHER,) * (frames - 1)))]
    if not convert:
        raise SourceError(f"{where} holds {frames} {what}, not one image; {EACH}")
    images: list[Decoded] = []
    seen: Counter[str] = Counter()
    most = MAX_PIXELS if reason is _SIZE else MAX_ANIMATION_PIXELS
    pixels = frames * image.width * image.height if reason is _FRAME else 0
    for name, frame in _opened(image):
        pixels += 0 if reason is _FRAME else frame.width * frame.height
        if pixels > most:
            raise SourceError(f"{where} claims more than {most} pixels in all {what}; cut it into several files")
        seen[name] += 1  # an icon may hold a size several times, with fewer colours
        added = f"/{name}-{seen[name]}.png" if seen[name] > 1 else f"/{name}.png"
        made = _picture(frame, f"{where}{added}", convert=True, bits=bits, side=side)
        images.append(Decoded(added, *made[:2], (reason, *made.converted), made.dropped))
    return _alike(images) if reason is _FRAME else images


def _several(image: Image.Image) -> tuple[int, str, Reason]:
    """Return how many images an opened file holds, what they are in words, and the reason if they are converted."""
    if image.format == "ICO":
        return len(image.ico.entry), "sizes of an icon", _SIZE  # type: ignore[attr-defined]  # of a subclass that Pillow does not name
    if image.format == "ICNS":
        return len(image.info["sizes"]), "sizes of an icon", _SIZE
    frames = getattr(image, "n_frames", 1)
    return (frames, "pages", _PAGE) if image.format == "TIFF" else (frames, "frames of an animation", _FRAME)


def _opened(image: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """Yield each image that an opened file holds, icons from the largest to the smallest, and what it is called."""
    if image.format == "ICO":
        icon = image.ico  # type: ignore[attr-defined]  # of a subclass that Pillow does not name
        for i in range(len(icon.entry)):
            frame = icon.frame(i)
            yield f"{frame.width}x{frame.height}", frame
    elif image.format == "ICNS":
        for size in sorted(image.info["sizes"], key=lambda size: (size[0] * size[2], size), reverse=True):
            w, h, scale = size
            yield f"{w}x{h}" + (f"@{scale}x" if scale > 1 else ""), image.icns.getimage(size)  # type: ignore[attr-defined]  # of a subclass that Pillow does not name
    else:
        frames = getattr(image, "n_frames", 1)
        for i in range(frames):
            if i:
                image.seek(i)
            yield f"{i:0{max(4, len(str(frames - 1)))}d}", image


def _alike(images: list[Decoded]) -> list[Decoded]:
    """Give all frames of an animation the colour and alpha that some of them have; no pixel looks otherwise."""
    channels = {image.pixels.shape[2] if image.pixels.ndim == 3 else 1 for image in images}
    if len(channels) == 1:
        return images
    mode = ("RGB" if max(channels) > 2 else "L") + "A" * (not channels.isdisjoint((2, 4)))
    for i, image in enumerate(images):  # one by one, which bounds the memory that is taken
        images[i] = image._replace(pixels=np.asarray(Image.fromarray(image.pixels).convert(mode)))
    return images


def png_bytes(pixels: NDArray[np.uint8], profile: bytes | None = None) -> bytes:
    """Encode an image (`h w`, `h w 2`, `h w 3` or `h w 4`) as a PNG file, with its ICC profile if it has one."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", icc_profile=profile)
    return file.getvalue()
