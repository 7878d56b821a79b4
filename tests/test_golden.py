"""Files written by earlier commits of this format version decode to the pixels that they decoded to then."""

from pathlib import Path

import numpy as np
import pytest

import smalti

FILES = sorted((Path(__file__).parent / "golden").glob("*.smalti"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_file_decodes_to_the_same_pixels(path):
    with np.load(path.with_suffix(".npz")) as expected:
        assert (smalti.load(path).pixels == expected["pixels"]).all()


def test_there_are_golden_files_of_each_kind():
    kinds = {path.stem.partition("-")[2] for path in FILES}
    assert kinds >= {"latents", "pixels", "mixed", "lossless", "largest-error"}
