# SPDX-License-Identifier: MIT
"""The functions that users call: pack and unpack files, encode and decode one image, open a file."""

import io
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from smalti.archive.archive import LABEL_NAMES, Archive
from smalti.archive.batches import Coded, Intake
from smalti.archive.reader import ModelName, Place, as_model
from smalti.archive.writer import Packed, Packing, as_packing, overhead, packed, write_packed
from smalti.codec.batching import BLOCK, Batch
from smalti.codec.rdo import Effort
from smalti.container.format import EMPTY_MODEL
from smalti.container.records import ArchiveWriter
from smalti.container.single_image import pack_single
from smalti.errors import SourceError, UsageError
from smalti.exchange.arrays import one_image
from smalti.exchange.formats.image_files import Reading
from smalti.exchange.given import given_source
from smalti.exchange.recognise import refuse_image_suffix
from smalti.exchange.sources import Images
from smalti.exchange.targets import write_images
from smalti.model.bundle import is_known
from smalti.model.model import Model
from smalti.rate.mean import encode_batches
from smalti.rate.model_choice import AUTO, ModelChoice
from smalti.rate.target import DEFAULT_EFFORT, EXACT_ALPHA, Target, as_target, check_model, effort_of, largest_error
from smalti.types import ImageSet, Label, OnBad, Pixels, Progress, Source, check_name, check_size
from smalti.util.atomic import as_path, atomic_write

if TYPE_CHECKING:
    from smalti.rate.fitting.fit_model import Told


@dataclass(frozen=True)
class Unpacked:
    """The result of `unpack`."""

    images: int
    left_out: str  # what the output cannot hold, in words; empty if it holds all


def pack(
    source: Images,
    path: Path | str | BinaryIO,
    *,
    model: ModelName = AUTO,
    target: Target | None = None,
    quality: int | None = None,
    psnr: float | None = None,
    min_psnr: float | None = None,
    bytes_an_image: float | None = None,
    max_error: int | None = None,
    lossless: bool = False,
    names: Sequence[str] | None = None,
    labels: Sequence[Label] | Path | str | Literal[False] | None = None,
    effort: int = DEFAULT_EFFORT,
    metric: str = "psnr",
    alpha_quality: int = EXACT_ALPHA,
    packing: Packing | str = Packing(),  # noqa: B008 - frozen
    on_bad: OnBad | None = None,
    convert: bool = False,
    resize: int | None = None,
    hidden_colours: str = "keep",
    force: bool = False,
    progress: Progress | None = None,
    fit: "bool | Told" = False,
) -> Packed:
    """Pack images into the smalti file `path`.

    At most one of target, quality, psnr, min_psnr, bytes_an_image and max_error may be given. Images that the latents
    of a model which is named do not suit are coded by pixels or without the model. Images are taken as they are needed;
    a mean (psnr, bytes_an_image) needs all of them at once.

    Args:
        source: an array or array-like (uint8, `n h w`, `n h w 2`, `n h w 3` or `n h w 4`; also a tensor of torch), a
            list of arrays or of Pillow's images of any sizes, or paths: folders, images, idx, npz, npy, tar, zip and
            parquet files; or open binary files of these kinds.
        path: the file to write, whole or not at all; or a binary stream.
        model: "auto", a name, the path of a bundle, or a loaded model. "auto" tries the built-in models, and those on
            `SMALTI_MODEL_PATH`, on a sample of each kind of images, and takes for each image the one that is best for
            what is asked; the general model `colour` codes images that no special one suits. Where there is no compiled
            core, these are kept exactly. The file holds models that are not built in.
        target: the target as one object, in the place of the five arguments that follow.
        quality: 1 (fewest bytes) to 100 (best); 50 if no target is given.
        psnr: the PSNR in dB of the squared error averaged over all images.
        min_psnr: the least PSNR in dB of every image; an image that the model cannot code so well is coded without it.
        bytes_an_image: the most bytes of the file for each image, without names, labels, ICC profiles, metadata and
            models that the file holds.
        max_error: the most that a sample (0 to 255) may be off by; 0 is lossless.
        lossless: whether every image comes back equal; it means a largest error of 0.
        names: one for each image, if the source has none.
        labels: one for each image, or an idx or npy file of them, if the source has none; False leaves labels out.
        effort: how long the encoder searches where images may lose something, 1 (fastest) to 9 (longest), for fewer
            bytes or less loss. With 1, lossless images of any kind are coded by the general model for speed,
            `colour-fast`: several times as fast, also to decode, and some percent larger. For lossless images, 2 to 9
            are alike; only where no model codes at all, 8 and 9 try more settings of WebP.
        metric: what the encoder works for where the general model codes images with loss: "psnr", so that the squared
            error is small; or "ssim", so that multi-scale SSIM is large, which is nearer to what people see. Targets in
            dB are met in PSNR in both cases.
        alpha_quality: 1 to 100 (exact), where the general model codes images with loss: no alpha is off by more than
            (100 - alpha_quality) / 4; 0 and 255 stay as they are.
        packing: how the file is made: images of a block, whether it holds its model, whether order is kept, metadata;
            or only which images share a stream: "block", "each" to read every image without its neighbours, or "solid"
            for the fewest bytes.
        on_bad: a function that is called with the error of an image that cannot be read; if it returns, the image is
            left out. Without it, the error is raised.
        convert: whether images of other colours, more than 8 bits a sample, floats, animations, pages and icons of
            several sizes are converted to 8-bit sRGB or gray, image by image; `passed_over.converted` tells which.
        resize: the long side, in pixels, to which larger images are reduced; smaller ones are not enlarged. The colours
            of all images are converted to sRGB by their ICC profiles, which are not kept then.
        hidden_colours: "drop" makes colours black where alpha is 0, which takes fewer bytes; "keep" keeps all exactly.
        force: whether `path` is replaced if it exists.
        progress: a function that is called with the number of images just done, and of all (None if not known).
        fit: whether a small part of the general model `colour` is first fitted to the images that it will code, which
            takes minutes and saves bytes if these are many of one kind; or a function that is called with the share of
            that work that is done. The fit is in the file, with at most 64 kB; it is left out where it does not pay.

    Raises:
        SourceError: the images cannot be read.
        UsageError: the model or quality does not exist, `path` exists, a name is given twice, the target cannot be met,
            or the model that is named cannot be fitted.
        OutputError: `path` cannot be written.
    """
    most = largest_error(max_error, lossless=lossless)
    asked = as_target(target, Target(quality, psnr, min_psnr, bytes_an_image, most))
    hard, loaded = effort_of(effort, asked, metric, alpha_quality), None if model == AUTO else as_model(model)
    if loaded is not None:
        check_model(loaded, asked)
    fitting = fit if callable(fit) else (lambda _: None) if fit else None
    if fitting is not None:
        from smalti.rate.fitting.collection import check_fit

        check_fit(loaded)
        if asked.max_error is None:
            raise UsageError(
                "a fit is for lossless coding; give --lossless or --max-error beside --fit, or leave it out"
            )
    images = given_source(source, on_bad, names, labels, convert=convert, resize=resize, hidden_colours=hidden_colours)
    packing = _with_classes(as_packing(packing), images.label_names)
    if not isinstance(path, str | os.PathLike):
        if not hasattr(path, "write"):
            raise UsageError(f"what is written is named by a path, or is a binary stream; it is not {path!r}")
        return _write(images, path, loaded, asked, hard, packing, progress, fitting)
    refuse_image_suffix(as_path(path))
    with atomic_write(as_path(path), force=force) as file:
        return _write(images, file, loaded, asked, hard, packing, progress, fitting)


def _with_classes(packing: Packing, names: tuple[str, ...]) -> Packing:
    """Keep the names of classes in the metadata of the file, unless the caller's have some."""
    if not names or LABEL_NAMES in (packing.metadata or {}):
        return packing
    return replace(packing, metadata={**(packing.metadata or {}), LABEL_NAMES: list(names)})


def unpack(
    path: Place,
    output: Path | str,
    *,
    model: ModelName | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Unpacked:
    """Decode all images of a smalti file and write them to `output`.

    Args:
        path: the file to read: a path, a URL, or its bytes.
        output: `*.npz`, `*.npy`, `*.tar[.gz]`, `*.zip`, `*.parquet`, `*-idx3-ubyte[.gz]`, else a folder of PNG files;
            whole or not at all.
        model: where to find the model, if it is not built in.
        force: whether `output` is replaced if it exists.
        progress: a function that is called with the number of images just done, and of all.

    Raises:
        FormatError: the file is damaged or not a smalti file.
        UnknownModelError: its model is not known here.
        OutputError, UsageError: `output` cannot be written, or cannot hold such images.
    """
    where = as_path(output)
    with Archive(path, model) as archive:
        about = archive.about
        left_out = write_images(archive.parts(progress), about, where, force=force)
        return Unpacked(about.count, left_out)


def load(path: Place, *, model: ModelName | None = None, progress: Progress | None = None) -> ImageSet:
    """Decode all images of a smalti file into one array, with names and labels.

    Raises:
        FormatError, UnknownModelError: as in `unpack`.
        UsageError: the images have several shapes, or there are none; use `smalti.open`.
    """
    with Archive(path, model) as archive:
        _ = archive.image_shape
        x = np.concatenate([part.pixels for part in archive.parts(progress)])
        return ImageSet(x, archive.names, archive.labels, archive.profiles)


def encode(
    image: Any,
    *,
    model: ModelName = AUTO,
    target: Target | None = None,
    quality: int | None = None,
    min_psnr: float | None = None,
    max_error: int | None = None,
    lossless: bool = False,
    effort: int = DEFAULT_EFFORT,
    metric: str = "psnr",
    alpha_quality: int = EXACT_ALPHA,
) -> bytes:
    """Encode one image (uint8, `h w` or `h w c`, c 2 to 4; or one of Pillow) to the bytes of a smalti file.

    For many images, `pack` takes far fewer bytes. Arguments and errors are those of `pack`. A warning says if an image
    of Pillow is converted (CMYK in JPEG is), or if its ICC profile is left out.

    >>> image = np.zeros((28, 28), np.uint8)
    >>> decode(encode(image)).shape
    (28, 28)
    """
    file = io.BytesIO()
    one = one_image(image, reading := Reading())
    if converted := reading.passed.converted:
        warnings.warn(f"converted: {converted}; for other colours give the image in RGB", stacklevel=2)
    if left_out := str(reading.passed):
        warnings.warn(f"left out: {left_out}", stacklevel=2)
    x = ImageSet(one.pixels[None], profiles=None if one.profile is None else (one.profile,))
    most = largest_error(max_error, lossless=lossless)
    asked = as_target(target, Target(quality, min_psnr=min_psnr, max_error=most))
    pack(x, file, model=model, target=asked, effort=effort, metric=metric, alpha_quality=alpha_quality)
    return file.getvalue()


def decode(data: bytes | bytearray | memoryview, *, model: ModelName | None = None) -> Pixels:
    """Decode the bytes of a smalti file of one image.

    Raises:
        FormatError: `data` is damaged.
        UsageError: `data` does not hold exactly one image.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise UsageError("decode takes the bytes of a file; to read a file use smalti.open")
    with Archive(bytes(data), model) as archive:
        if len(archive) != 1:
            raise UsageError(f"the data holds {len(archive)} images; decode takes one: write a file and open it")
        return archive[0]


def _write(
    images: Source,
    file: BinaryIO,
    model: Model | None,
    target: Target,
    effort: Effort,
    packing: Packing,
    progress: Progress | None,
    fitting: "Told | None",
) -> Packed:
    first, images = _peeked(images)
    fitted = None
    if fitting is not None and first is None:
        from smalti.rate.fitting.collection import fit_to

        fitted, images = fit_to(images, model, target, packing.streams or BLOCK, fitting)
    general = None if fitted is None else fitted.model
    choice = (general or model) if model is not None else ModelChoice(target, images.total, (), general, effort)
    lonely = first is not None and not images.labelled and not packing.embed and packing.metadata is None
    if lonely and first is not None:
        chosen = model or _without_embedding(choice, first)
        if chosen is not None:
            data, coded = _single(first, chosen, target, effort)
            file.write(data)
            if progress:
                progress(1, 1)
            return packed(images, coded, len(data))
    writer = ArchiveWriter.start(file)
    intake = Intake(
        images, choice, packing.block_size[0], writer, samples=packing.block_size[1], once=not target.is_mean
    )
    write_packed(intake, target, effort, packing, progress)
    if not intake.count:
        raise SourceError("there are no images to pack; nothing is written")
    if not intake.coded.models and not any(is_known(entry.id) for entry in writer.models):
        writer.need_no_model()
    return replace(packed(images, intake.coded, writer.finish()), fitted=fitted)


def _without_embedding(choice: Model | ModelChoice, image: ImageSet) -> Model | None:
    """Return the model that is chosen for a single image; None if a file must hold it, for a single file cannot."""
    check_size(image.shape)
    ((model, _),) = choice.groups(image.pixels) if isinstance(choice, ModelChoice) else [(choice, None)]
    return model if is_known(model.id) or not model.measured else None


def _peeked(images: Source) -> tuple[ImageSet | None, Source]:
    """Return the image of a source that has one only, else None; and a source of all images."""
    parts = iter(images.parts)
    first = next(parts, None)
    second = next(parts, None) if first is not None and len(first) == 1 else None
    seen = [part for part in (first, second) if part is not None]
    whole = replace(images, parts=_chained(seen, parts))
    return (first if first is not None and len(first) == 1 and second is None else None), whole


def _chained(seen: Sequence[ImageSet], rest: Iterable[ImageSet]) -> Iterable[ImageSet]:
    yield from seen
    yield from rest


def _single(image: ImageSet, model: Model, target: Target, effort: Effort) -> tuple[bytes, Coded]:
    check_size(image.shape)
    batches, thorough = [Batch(image.pixels, model)], replace(effort, thorough=True)
    (block,) = encode_batches(batches, target, thorough, lambda batches: overhead(batches, [0], [[0]]))
    h, w, c = image.shape
    name = None if image.names is None else image.names[0]
    if name is not None:
        check_name(name)
    needed = block.by_model or is_known(model.id)  # with a model that is built in, the header is shorter
    mode, sides = (0, None) if needed and image.shape == model.image_shape else (c, (h, w))
    profile = None if image.profiles is None else image.profiles[0]
    coded = Coded()
    coded.add(block)
    if name is not None:
        coded.add_name(name)
    model_id = model.id if needed else EMPTY_MODEL
    return pack_single(model_id, mode, sides, name, block.payload, block.pixels, profile), coded
