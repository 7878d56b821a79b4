"""Smalti files for the tests of `smalti.torch`, and what is compared with their images."""

import numpy as np

import smalti

rng = np.random.default_rng(17)


def noise(n, *shape):
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8)


def packed(path, images, names=None, labels=None, block=4, streams="block", **metadata):
    parts = [
        smalti.ImageSet(
            np.asarray(x)[None], None if names is None else (names[i],), None if labels is None else (labels[i],)
        )
        for i, x in enumerate(images)
    ]
    source = smalti.Source(parts, len(parts), named=names is not None, labelled=labels is not None)
    packing = smalti.Packing(block, metadata=metadata or None, streams=streams)
    smalti.pack(source, path, lossless=True, packing=packing, force=True)
    return path


def chw(image):
    return image[None] if image.ndim == 2 else np.moveaxis(image, 2, 0)


def same(items, images):
    pairs = zip(items, images, strict=True)
    return all(tuple(x.shape) == chw(y).shape and (x.numpy() == chw(y)).all() for x, y in pairs)
