# SPDX-License-Identifier: MIT
"""The images and labels that the benchmarks run on."""

import gzip
import os
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from smalti.demo.downloads import fetch
from smalti.demo.samples import draw_digits
from smalti.exchange.sources import read_images
from smalti.types import Pixels

SHARED = Path(__file__).parents[2] / "shared" / "data"
"""The folder of data sets beside a checkout; the environment variable `SMALTI_DATA` names another."""


def test_images(name: str) -> Pixels:
    """Return the test images of a data set (`n h w`), from `SMALTI_DATA`, from beside the checkout, or downloaded."""
    return draw_digits(1000) if name == "drawn" else read_images(_path(name, "t10k-images-idx3-ubyte.gz")).pixels


def train_images(name: str) -> Pixels:
    """Return the training images of a data set (`n h w`)."""
    return read_images(_path(name, "train-images-idx3-ubyte.gz")).pixels


def labels(name: str, part: Literal["train", "t10k"]) -> NDArray[np.uint8]:
    """Return the labels (`n`) of the training or the test images of a data set."""
    with gzip.open(_path(name, f"{part}-labels-idx1-ubyte.gz")) as file:
        return np.frombuffer(file.read(), np.uint8, offset=8)  # behind magic and count


def folder(name: str) -> Path:
    """Return the folder of a data set, which may be absent."""
    return Path(os.environ.get("SMALTI_DATA", SHARED)) / name


def _path(name: str, file: str) -> Path:
    path = folder(name) / file
    if not path.exists() and name == "mnist":
        return next(path for path in fetch(name) if path.name == file)
    return path
