# SPDX-License-Identifier: MIT
"""Prime a mixer: let its counters and weights learn from images, and keep what is of use for others."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from smalti.codec.mixing_codec import is_drawn, to_levels
from smalti.core.library import need_core
from smalti.core.mixing import CoreMixing
from smalti.model.mixing.engine import as_start, learned, mixing_encoder, packed_mixer
from smalti.model.mixing.mixer import CHANNELS, CORRECTIONS, COUNTED, MAX_PRIMED, Mixer, rounded
from smalti.types import Pixels

STATE_BITS = 21
"""Lines, as a power of two, while images are coded: so many that hardly any is replaced."""
LEAST_USED = 100
"""A line is kept if so many decisions, at least, began in its context; 255 is the most that is counted."""
TRUST = 30
"""A counter of a kept line counts as if it was used at most so often, so that it soon follows new images."""
LOSSY = 1, 2, 4
"""The largest errors of images from which corrections learn that are for images which are not exact."""
LEAST_OF_COUNTER = 2
"""A counter that was used less often is not kept."""


def prime(
    mixer: Mixer,
    images: Sequence[Pixels],
    least_used: int = LEAST_USED,
    told: Callable[[int], None] | None = None,
) -> Mixer:
    """Return a mixer that starts with what it has learned when it has coded all images (`h w c`), in that order.

    Weights of corrections stay as they are: `with_corrections` is for these.

    Args:
        mixer: the mixer; what it knew before is kept as far as the images use it.
        images: the images.
        least_used: a line of counters is kept if it was used about so often.
        told: is called after each image with the number of the images so far.

    Raises:
        UsageError: numpy computes, not the compiled core.
    """
    packed = packed_mixer(mixer)
    if packed is None:
        need_core("priming a mixer")
        raise AssertionError("a mixer is packed wherever there is a core")
    run = CoreMixing(packed, STATE_BITS, None)
    for i, image in enumerate(images):
        run.encode(image, 1, drawn=is_drawn(image, mixer))
        if told is not None:
            told(i + 1)
    lines = run.lines()
    start = replace(as_start(run.learned()), corrections=mixer.start.corrections)
    return replace(mixer, start=start, lines=rounded(kept_lines(lines, least_used), mixer.tables))


def with_corrections(mixer: Mixer, images: Sequence[Pixels], told: Callable[[int], None] | None = None) -> Mixer:
    """Return a mixer that corrects its networks, and begins with weights which it learned from images (`h w c`).

    These are the means of the weights after each image of the second half; all images are coded as continuous tone,
    once exactly and once with errors of up to each of LOSSY in turn. What the mixer knew of corrections is forgotten.

    Args:
        mixer: the mixer.
        images: at least one.
        told: as for `prime`; each image counts twice.

    Raises:
        UsageError: numpy computes, not the compiled core.
    """
    need_core("priming a mixer")
    means, first = np.zeros((2, CHANNELS, CORRECTIONS)), len(images) // 2
    start = replace(mixer.start, corrections=means.astype(np.int32))
    corrects = replace(mixer, start=start, uses=replace(mixer.uses, corrects=1))
    for lossy, errors in enumerate(((0,), LOSSY)):
        run = mixing_encoder(corrects, STATE_BITS)
        for i, image in enumerate(images):
            error = errors[i % len(errors)]
            run.encode(to_levels(image[None], error)[0], 2 * error + 1, drawn=False)
            if i >= first:
                means[lossy] += learned(run)[0].corrections[lossy]
            if told is not None:
                told(lossy * len(images) + i + 1)
    weights = np.rint(means / (len(images) - first)).astype(np.int32)
    return replace(corrects, start=replace(start, corrections=weights))


def kept_lines(lines: NDArray[np.uint32], least_used: int) -> NDArray[np.uint32]:
    """Return the lines that were used often, with less trust in their counters; at most MAX_PRIMED."""
    used = (lines[:, 1] & COUNTED).astype(np.int64) * (lines[:, 0] > 0)
    rows = np.flatnonzero(used >= least_used)
    rows = np.sort(rows[np.argsort(-used[rows], kind="stable")[:MAX_PRIMED]])
    kept = lines[rows]
    times = np.minimum(kept[:, 1:] & COUNTED, TRUST)
    kept[:, 1:] = np.where(times >= LEAST_OF_COUNTER, kept[:, 1:] & ~np.uint32(COUNTED) | times, 0)
    return kept
