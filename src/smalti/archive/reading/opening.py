# SPDX-License-Identifier: MIT
"""Open the records of a smalti file, an archive or a single image, whose model may have to be found."""

import functools

import numpy as np

from smalti.codec.block_codec import decode_block
from smalti.container.archive_reader import ArchiveReader
from smalti.container.format import EMPTY_MODEL, SINGLE_FLAG, START_BYTES, check_start
from smalti.container.reader import Reader
from smalti.container.single_image import SingleReader, read_single
from smalti.errors import CorruptError, ModelError, UnknownModelError, within
from smalti.model.bundle import find_by_prefix, parse_bundle
from smalti.model.model import Model
from smalti.types import Pixels
from smalti.util.binary import hash64
from smalti.util.parallel import ForkLock
from smalti.util.storage import Storage

_LOADING = ForkLock()


def open_reader(storage: Storage, model: Model | None) -> Reader:
    """Open the records of a file. model: the one that the caller gave, if any.

    Raises:
        SourceError, FormatError: the file cannot be read, or is damaged.
        UnknownModelError: it is a file of one image, and its model is not known.
        ModelError: it is a file of one image, and `model` is not its model.
    """
    with within(storage.where):
        form = check_start(storage.read(0, START_BYTES))
    if not form & SINGLE_FLAG:
        return ArchiveReader(storage)
    head, data = read_single(storage)
    if model is not None and not model.id.startswith(head.model):
        if EMPTY_MODEL.startswith(head.model):  # the image does not need the model that is given
            return open_reader(storage, None)
        raise ModelError(
            f"{storage.where} was packed with a model whose id begins with {head.model.hex()}, not with"
            f" {model.name} ({model.id.hex()}); name the right bundle"
        )
    known = [model] if model is not None else find_by_prefix(head.model)
    if head.sides is None and any(each.image_shape == (0, 0, 0) for each in known):
        raise CorruptError(f"{storage.where}: an image without a model has no size; the file is damaged")
    if not known:
        raise UnknownModelError(
            f"{storage.where} needs a model whose id begins with {head.model.hex()}, which is not built in;"
            " name its bundle with --model"
        )
    readers = [SingleReader(storage, head, data, each.id, each.image_shape) for each in known]
    last = len(known) - 1
    return next(single for i, single in enumerate(readers) if i == last or _decodes(single, known[i]))


def _decodes(single: SingleReader, model: Model) -> bool:
    try:
        pixels = decode_block(single.block(0)[1], 1, single.index.kinds[0].shape, model)
    except (CorruptError, ModelError):
        return False
    return single.decodes_to(single.block(0)[0], pixels_hash(pixels))


def pixels_hash(pixels: Pixels) -> bytes:
    """Return the hash of images (`n h w` or `n h w c`) that a block keeps."""
    return hash64(np.ascontiguousarray(pixels).data)


def embedded_model(bundle: bytes) -> Model:
    """Return the model of a bundle that a file holds; it is checked and loaded once for all readers and threads.

    Raises:
        ModelError: it is damaged, or is no bundle.
    """
    with _LOADING:
        return _parse_once(bundle)


@functools.lru_cache(maxsize=4)
def _parse_once(bundle: bytes) -> Model:
    return parse_bundle(bundle, trusted=False)
