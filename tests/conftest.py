# SPDX-License-Identifier: MIT
"""What tests share: drawn digits, the built-in model, the data sets where they are."""

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import smalti
from smalti.samples import draw_digits

DATA = Path(os.environ.get("SMALTI_DATA", Path(__file__).parents[2] / "shared" / "data"))


hypothesis.settings.register_profile("smalti", deadline=None)  # machines may be busy
hypothesis.settings.load_profile("smalti")


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    return draw_digits(20)


@pytest.fixture(scope="session")
def model() -> smalti.Model:
    return smalti.load_model()


@pytest.fixture(scope="session")
def mnist() -> Path:
    """The folder of MNIST's four files."""
    folder = DATA / "mnist"
    if not folder.is_dir():
        pytest.skip(f"MNIST is not at {folder}; set SMALTI_DATA to the folder that holds mnist/")
    return folder


@pytest.fixture
def packed(tmp_path: Path, digits: np.ndarray) -> Path:
    """A small smalti file with names."""
    path = tmp_path / "digits.smalti"
    images = smalti.ImageSet(digits[:5], tuple(f"a/{i}.png" for i in range(5)))
    smalti.pack(images, path)
    return path
