# SPDX-License-Identifier: MIT
"""The public sets of small colour images that the built-in mixers are trained on.

A tar file holds strips as lossless WebP: images of one size under each other. `photos/` holds photographs; each is
reduced to several sizes. Of each set, whole groups are held out: frames of a track and variants of a tile are alike.
"""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from smalti.errors import SourceError
from smalti.types import Pixels

PARTS, HELD = 12, 5
"""Group i is held out if i modulo PARTS is HELD."""
GROUPS = {"cifar": 1, "signs": 120, "emoji": 32, "tiles": 64}
"""How many images that follow each other make a group."""
SIDES = ((32, 48, 160), (48, 72, 96), (40, 56, 192), (36, 64, 112))
"""The long sides, in pixels, to which photograph i is reduced: those of SIDES[i modulo 4]."""
HELD_SIDES = (48, 96, 192)


@dataclass(frozen=True, eq=False)
class Divided:
    """A set: the images (`h w c` each) to train on, and those that are held out."""

    training: list[Pixels]
    held: list[Pixels]


def read_strips(data: Path, name: str) -> Divided:
    """Read the set `name`, one of GROUPS.

    Raises:
        SourceError: it is not there.
    """
    images = list[Pixels]()
    try:
        with tarfile.open(data / f"{name}.tar") as file:
            for member in sorted(file.getmembers(), key=lambda member: member.name):
                content = file.extractfile(member)
                if content is not None and member.name.endswith(".webp"):
                    strip = np.asarray(Image.open(io.BytesIO(content.read())))
                    images += list(strip.reshape(-1, strip.shape[1], *strip.shape[1:]))
    except (OSError, tarfile.TarError) as exc:
        raise SourceError(
            f"cannot read the set {name} in {data}: {exc}; name the folder that holds {name}.tar"
        ) from exc
    held = [i // GROUPS[name] % PARTS == HELD for i in range(len(images))]
    return Divided(
        [image for image, out in zip(images, held, strict=True) if not out],
        [image for image, out in zip(images, held, strict=True) if out],
    )


def read_photos(data: Path, sides: tuple[tuple[int, ...], ...] = SIDES) -> Divided:
    """Read the photographs, each reduced (by Lanczos) to the long sides of `sides[i modulo len(sides)]`."""
    training, held = list[Pixels](), list[Pixels]()
    for i, path in enumerate(sorted((data / "photos").glob("*.webp"))):
        with Image.open(path) as image:
            colour = image.convert("RGB")
        (held if i % PARTS == HELD else training).extend(reduced(colour, side) for side in sides[i % len(sides)])
    return Divided(training, held)


def reduced(image: Image.Image, side: int) -> Pixels:
    """Return an image whose long side is `side` pixels."""
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))
