# SPDX-License-Identifier: MIT
"""What tests share: drawn digits, the built-in model, toy models, the data sets where they are."""

import gc
import os

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # before numpy is loaded: the tests run on all cores already

from dataclasses import replace
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from helpers import ROOT, toy_model, toy_pixels

import smalti
from smalti.demo.samples import draw_digits

DATA_SETS = Path(os.environ.get("SMALTI_DATA", ROOT.parent / "shared" / "data"))
collect_ignore = ["attacks"]
"""It holds no tests; pytest would import it a second time, under another name."""

hypothesis.settings.register_profile("smalti", deadline=None)  # machines may be busy
hypothesis.settings.load_profile("smalti")


def pytest_collection_finish() -> None:
    """Let Python look for garbage among what tests make alone: modules and tests stay to the end."""
    gc.freeze()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a parameter of bytes by its number: compressed files hold the time, so that workers would differ."""
    return "bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    return draw_digits(20)


@pytest.fixture(scope="session")
def model() -> smalti.Model:
    return smalti.load_model()


@pytest.fixture(scope="session")
def toy() -> smalti.Model:
    """A small model with spatial latents for images of 28x28, its random weights never trained."""
    return toy_model()


@pytest.fixture(scope="session")
def lossless(toy: smalti.Model) -> smalti.Model:
    """A model that also codes gray images by pixels."""
    return replace(toy, pixels=toy_pixels(1), training={"note": 1})


@pytest.fixture(scope="session")
def mnist() -> Path:
    """The folder of MNIST's four files."""
    folder = DATA_SETS / "mnist"
    if not folder.is_dir():
        pytest.skip(f"MNIST is not at {folder}; set SMALTI_DATA to the folder that holds mnist/")
    return folder


@pytest.fixture(scope="session")
def packed_once(tmp_path_factory: pytest.TempPathFactory, digits: np.ndarray) -> bytes:
    """The bytes of a small smalti file with names."""
    path = tmp_path_factory.mktemp("packed") / "digits.smalti"
    smalti.pack(smalti.ImageSet(digits[:5], tuple(f"a/{i}.png" for i in range(5))), path)
    return path.read_bytes()


@pytest.fixture
def packed(tmp_path: Path, packed_once: bytes) -> Path:
    """A small smalti file with names."""
    path = tmp_path / "digits.smalti"
    path.write_bytes(packed_once)
    return path
