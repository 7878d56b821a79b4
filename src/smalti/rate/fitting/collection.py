# SPDX-License-Identifier: MIT
"""Fit the general model to the images of a source that it will code, before they are packed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from smalti.codec.mixing_codec import to_levels
from smalti.errors import UsageError
from smalti.model.bundle import is_known
from smalti.model.candidates import GENERAL, general_model
from smalti.model.model import Model
from smalti.rate.fitting.fit_model import Fitted, Told, fit_model
from smalti.rate.model_choice import ModelChoice
from smalti.rate.target import Target
from smalti.types import ImageSet, Pixels, Source

MOST_SAMPLES = 1 << 26
"""A fit is made from the first images, of about so many samples; they are in memory meanwhile."""


def check_fit(model: Model | None) -> None:
    """Check that a model that is named can be fitted; None: the models are chosen.

    Raises:
        UsageError: it cannot.
    """
    if model is not None and (model.mixer is None or not is_known(model.id)):
        raise UsageError(f"model {model.name} cannot be fitted, only the built-in {GENERAL}; leave out the model")


def fit_to(images: Source, model: Model | None, target: Target, streams: str, told: Told) -> tuple[Fitted, Source]:
    """Fit the general model to those images that it will code; return what came of it, and a source of all images.

    Args:
        images: the images.
        model: the model of all of them; None if one is chosen for each.
        target: what is asked.
        streams: which images share a stream.
        told: is called with the share of the work that is done.
    """
    parts, first, samples = iter(images.parts), list[ImageSet](), 0
    for part in parts:
        first.append(part)
        samples += part.pixels.size
        if samples >= MOST_SAMPLES:
            break
    seen, mine = sum(map(len, first)), list[Pixels]()
    choice = ModelChoice(target, images.total)
    error = int(target.max_error or 0)
    for part in first:
        for chosen, rows in [(model, range(len(part)))] if model is not None else choice.groups(part.pixels):
            if chosen.mixer is not None:
                mine += list(to_levels(part.pixels[list(rows)], error))
    total = round((images.total or seen) * len(mine) / max(seen, 1))
    fitted = fit_model(mine, model or general_model(), total, streams, error, told) if mine else Fitted(None, 0, 0, 0)
    return fitted, replace(images, parts=_chained(first, parts))


def _chained(seen: Sequence[ImageSet], rest: Iterable[ImageSet]) -> Iterator[ImageSet]:
    yield from seen
    yield from rest
