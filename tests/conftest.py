# SPDX-License-Identifier: MIT
"""What tests share: drawn digits, the built-in model, the data sets where they are."""

import os
from dataclasses import replace
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from helpers import random_pixels

import smalti
from smalti.demo.samples import draw_digits
from smalti.training.export.export_codec import export_bundle
from smalti.training.networks.codec_network import Codec
from smalti.training.networks.transforms import Size

DATA = Path(os.environ.get("SMALTI_DATA", Path(__file__).parents[2] / "shared" / "data"))
collect_ignore = ["attacks"]
"""No tests in there; pytest would import it a second time, under another name."""

hypothesis.settings.register_profile("smalti", deadline=None)  # machines may be busy
hypothesis.settings.load_profile("smalti")


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    return draw_digits(20)


@pytest.fixture(scope="session")
def model() -> smalti.Model:
    return smalti.load_model()


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> smalti.Model:
    """A small model with local latents for images of 28x28, its random weights never trained."""
    torch.manual_seed(1)
    widths = {"analysis": (8, 16, 16), "groups": (4, 8), "synthesis": (16, 16, 8), "details": 8}
    codec = Codec(Size((28, 28, 1), (28, 28), latents=12, spatial=6, **widths, prior=2, spatial_prior=3)).eval()
    for p in codec.parameters():
        p.data += 0.02 * torch.randn_like(p)
    path = tmp_path_factory.mktemp("toy") / "toy.model"
    path.write_bytes(export_bundle(codec, "toy", draw_digits(40), draw_digits(10, seed=2), {"note": 1}))
    return smalti.load_model(path)


@pytest.fixture(scope="session")
def lossless(toy: smalti.Model) -> smalti.Model:
    """A model that also codes gray images by pixels."""
    return replace(toy, pixels=random_pixels(1), training={"note": 1})


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
