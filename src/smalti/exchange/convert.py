# SPDX-License-Identifier: MIT
"""The pixels and the ICC profile of an image of Pillow, converted to 8-bit gray, RGB or RGBA where that is asked."""

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from smalti.errors import SourceError
from smalti.exchange.formats.image_headers import deep_image, further_samples, is_negative, misread
from smalti.exchange.parts import MAX_PIXELS
from smalti.exchange.samples import CONVERT, depth, reason_of, scaled
from smalti.types import Reason

MAX_PROFILE_BYTES = 1 << 20
"""The largest ICC profile that is kept."""
_KEPT = {"1": "L", "L": "L", "P": "RGB", "LA": "LA", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"}
"""Pillow's modes that are taken as they are, and those that keep all of their samples."""
_CLEAR = {"L": "LA", "RGB": "RGBA"}
"""Those modes with alpha."""
_COLOURS = {"YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB", "RGBX": "RGB", "RGBa": "RGBA", "La": "LA"}
"""The modes that Pillow converts, and what they become."""
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
_MOST_USED = 1 << 24  # bytes of a profile that is used and not kept
_TO_SRGB = Reason("CMYK image to sRGB by its ICC profile", "CMYK images to sRGB by their ICC profiles")
_TO_RGB = Reason("CMYK image to RGB without an ICC profile", "CMYK images to RGB without ICC profiles")
_FURTHER = Reason("image without its further channels", "images without their further channels")
_LARGE = Reason(
    f"ICC profile of more than {MAX_PROFILE_BYTES} bytes", f"ICC profiles of more than {MAX_PROFILE_BYTES} bytes"
)
_UNUSED = Reason("ICC profile that could not be used", "ICC profiles that could not be used")


class Picture(NamedTuple):
    """An image as it is packed, and what was done to make it."""

    pixels: NDArray[np.uint8]  # h w, h w 2, h w 3 or h w 4
    profile: bytes | None  # ICC
    converted: tuple[Reason, ...]  # what was converted
    dropped: tuple[Reason, ...]  # what was left out


def picture(image: Image.Image, where: str, *, convert: bool, bits: int = 0, most: int = MAX_PIXELS) -> Picture:
    """Return the image of Pillow, turned as its EXIF data says.

    Args:
        image: one image, or an animation at its present frame.
        where: the image, in words, for messages.
        convert: whether images that 8-bit gray, RGB or RGBA cannot hold are converted. CMYK in JPEG always is, for
            viewers show it so as well, and the file has lost samples already.
        bits: the bits a sample that the file says it has, where Pillow does not know.
        most: the most pixels of an image.

    Raises:
        SourceError: the image is too large, damaged, or of a kind that is not taken, or not without `convert`.
    """
    if image.width * image.height > most:
        why = f"a file can hold: {MAX_PIXELS} samples (4096x4096 gray); cut it into tiles, or reduce it with resize=256"
        if most != MAX_PIXELS:
            why = f"is reduced: {most} pixels; reduce it by another program first"
        raise SourceError(f"{where} is an image of {image.height}x{image.width}, more than {why}")
    bits = bits if bits > 8 else max(bits, _bits(image))
    why = _refusal(image, where, bits)
    if why and not (convert or (image.mode == "CMYK" and image.format in ("JPEG", "MPO") and bits <= 8)):
        raise SourceError(f"{where} has {why}; {CONVERT}")
    profile, large = _profile(image)
    reasons, key = _reasons(image, bits), _key(image, where, bits)
    gray = _raw(image) == "LA;16B" or (profile is None and (image.mode in ("P", "PA") or image.format == "GIF"))
    upright = _upright(image)
    if image.mode == "CMYK":
        pixels, by_profile = _from_cmyk(upright, profile)
        reasons = (_TO_SRGB if by_profile else _TO_RGB, *reasons)
        return Picture(pixels, None, reasons, () if by_profile or profile is None else (_UNUSED,))
    if key is not None:
        upright.info["transparency"] = key
    if image.mode in (*_DEEP, "I", "F"):
        pixels = _deep_pixels(image, upright, where, bits)
    else:
        pixels = _pixels(image, upright, gray=gray)
        _check_not_black(pixels, where, bits)
    if profile is not None and (large or image.mode == "LAB"):
        return Picture(pixels, None, reasons, (_LARGE if large else _UNUSED,))
    return Picture(pixels, profile, reasons, ())


def _bits(image: Image.Image) -> int:
    """Return the bits a sample of an image if they are more than 8, or if Pillow knows; else 0."""
    if image.mode in ("I", "F"):
        return (deep_image(image) or 16) if image.format in ("PNG", "PPM") else 0
    bits = deep_image(image)
    return 16 if image.mode in _DEEP and bits <= 8 else bits


def _refusal(image: Image.Image, where: str, bits: int) -> str:
    """Return why the image is not taken as it is, in words; "" if it is.

    Raises:
        SourceError: it is not taken in any way.
    """
    if why := misread(image):
        raise SourceError(f"{where} has {why}")
    if bits > 8 and image.format == "JPEG2000" and image.mode not in _DEEP:  # Pillow makes black of their white
        raise SourceError(f"{where} has {bits} bits a sample, which are misread in JPEG 2000; save 8")
    if image.mode not in _KEPT and image.mode not in (*_COLOURS, *_DEEP, "CMYK", "I", "F"):
        raise SourceError(f"{where} has mode {image.mode}, which is not read; save it as RGB")
    if image.mode not in (*_KEPT, *_DEEP):
        return f"mode {image.mode}"
    return f"{bits} bits a sample, more than the 8 that are kept" if bits > 8 else further_samples(image)


def _reasons(image: Image.Image, bits: int) -> tuple[Reason, ...]:
    """Return what of an image is converted, without CMYK."""
    reasons: list[Reason | None] = []
    if bits > 8:
        reasons.append(depth(bits))
    elif image.mode in ("I", "F"):
        reasons.append(reason_of(np.dtype("int32" if image.mode == "I" else "float32")))
    if (to := _COLOURS.get(image.mode)) is not None:
        reasons.append(Reason(f"{image.mode} image to {to}", f"{image.mode} images to {to}"))
    if further_samples(image):
        reasons.append(_FURTHER)
    return tuple(reason for reason in reasons if reason is not None)


def _profile(image: Image.Image) -> tuple[bytes | None, bool]:
    """Return the ICC profile of an image, if it has one, and whether that is too large to be kept."""
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return None, False
    return profile, len(profile) > MAX_PROFILE_BYTES


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF data says; damaged EXIF data is ignored, as viewers do."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - Pillow raises many kinds of errors here
        return image


def _from_cmyk(image: Image.Image, profile: bytes | None) -> tuple[NDArray[np.uint8], bool]:
    """Return the pixels in RGB, and whether the profile was used."""
    if profile is not None and len(profile) <= _MOST_USED:
        try:
            srgb = ImageCms.createProfile("sRGB")
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, own, srgb, outputMode="RGB")
        except (ImportError, OSError, ValueError, ImageCms.PyCMSError):
            pass  # a profile that is damaged, or of another colour space; or Pillow without LittleCMS
        else:
            assert converted is not None
            return np.asarray(converted, np.uint8), True
    return np.asarray(image.convert("RGB"), np.uint8), False


def _key(image: Image.Image, where: str, bits: int) -> object:
    """Return the transparent colour of an image that is not loaded, or the alpha of its palette; None without any.

    Raises:
        SourceError: the colour has more bits than the samples that Pillow gives.
    """
    key = image.info.get("transparency")
    if bits > 8 and key is not None and image.mode == "RGB":
        raise SourceError(f"{where} has a transparent colour of {bits} bits a sample; save it with alpha")
    if not isinstance(key, int):
        return key
    if image.mode == "1":  # Pillow before 12.1 leaves it as it is in the file
        return 255 * bool(key)
    return key * _GRAYS.get(_raw(image), 1)  # Pillow leaves it as it is in the file


def _raw(image: Image.Image) -> str:
    """Return how samples are kept in a PNG file that is not loaded, as Pillow names it; "" for other files."""
    raw = next((tile[3] for tile in getattr(image, "tile", ())), "")
    return raw if isinstance(raw, str) and image.format == "PNG" else ""


def _pixels(image: Image.Image, upright: Image.Image, *, gray: bool) -> NDArray[np.uint8]:
    """Return the pixels of an image that is not CMYK, and has 8 bits a sample as Pillow gives it.

    Args:
        image: the image, which knows the file.
        upright: the same image as it is shown.
        gray: whether it becomes gray if all of its colours are grays.
    """
    mode = _KEPT.get(image.mode) or _COLOURS[image.mode]
    if "transparency" in upright.info or image.has_transparency_data:
        mode = _CLEAR.get(mode, mode)
    pixels = np.asarray(upright.convert(mode), np.uint8)
    if gray and mode.startswith("RGB") and (pixels[..., :3] == pixels[..., :1]).all():
        return np.ascontiguousarray(pixels[..., 0] if mode == "RGB" else pixels[..., 2:])
    return pixels


def _check_not_black(pixels: NDArray[np.uint8], where: str, bits: int) -> None:
    """Refuse an image of more than 8 bits whose upper 8, which are all that Pillow gives of colours, are black.

    Raises:
        SourceError: nothing is left of the image.
    """
    if bits > 8 and pixels.ndim == 3 and not pixels[..., : 3 if pixels.shape[2] > 2 else 1].any():
        raise SourceError(
            f"{where} has {bits} bits a sample and is black in the upper 8, so that nothing would be left of it; if its"
            " samples are 0 to 255, save them as 8 bits"
        )


def _deep_pixels(image: Image.Image, upright: Image.Image, where: str, bits: int) -> NDArray[np.uint8]:
    x = np.asarray(upright)
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        x = x.astype(np.uint16)
    pixels: NDArray[np.uint8] = scaled(x[None], where, bits if image.format == "TIFF" and bits else 16)[0]
    if is_negative(image):
        pixels = ~pixels  # Pillow turns gray of 8 bits only
    if (key := upright.info.get("transparency")) is None:
        return pixels
    return np.stack([pixels, np.where(x == key, np.uint8(0), np.uint8(255))], -1)


_GRAYS = {"L;2": 85, "L;4": 17}
"""What grays of 2 and 4 bits are multiplied with, by Pillow's name for them."""
