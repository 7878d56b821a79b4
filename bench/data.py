# SPDX-License-Identifier: MIT
"""The images that benchmarks run on."""

import os
from pathlib import Path

from smalti.codec import Pixels
from smalti.datasets import fetch
from smalti.images import read_images
from smalti.samples import draw_digits

SHARED = Path(__file__).parents[2] / "shared" / "data"
"""Where data sets lie beside a checkout; `SMALTI_DATA` names another folder."""


def test_images(name: str) -> Pixels:
    """The test images of a data set (`n h w`): from `SMALTI_DATA`, beside the checkout, or downloaded."""
    if name == "drawn":
        return draw_digits(1000)
    folder = Path(os.environ.get("SMALTI_DATA", SHARED)) / name
    file = "t10k-images-idx3-ubyte.gz"
    path = folder / file
    if not path.exists() and name == "mnist":
        path = next(path for path in fetch(name) if path.name == file)
    return read_images(path).pixels
