"""What a file says of its models: those that its images need, and no others."""

import io

import numpy as np
import pytest
from helpers import DATA

import smalti
from smalti.archive.info import describe_file
from smalti.errors import UnknownModelError

RNG = np.random.default_rng(11)
NOISE = RNG.integers(0, 256, (6, 20, 21), np.uint8)


@pytest.fixture
def own():
    """A model that codes by pixels, though badly, and that is not built in."""
    return smalti.load_model(DATA / "toy-gray.model")


def packed(x, **asked):
    file = io.BytesIO()
    done = smalti.pack(x, file, **asked)
    return done, file.getvalue()


@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.parametrize("packing", ["block", "each", "solid"])
@pytest.mark.parametrize("model", ["auto", "mnist", "none", "own"])
def test_info_names_no_model_where_none_is_needed(n, packing, model, own):
    done, data = packed(NOISE[:n], model=own if model == "own" else model, lossless=True, packing=packing)
    assert done.models == {}
    assert describe_file(data)["models"] == []
    with smalti.open(data) as archive:  # also where the model that was named is unknown
        assert (np.stack(list(archive)) == NOISE[:n]).all()
    if model in ("none", "own"):  # what is given is not needed
        with smalti.open(data, model=own) as archive:
            assert (archive[n - 1] == NOISE[n - 1]).all()


@pytest.mark.parametrize("packing", ["block", "each"])
def test_info_names_a_model_that_one_image_needs(digits, packing, toy):
    done, data = packed([*NOISE[:3], digits[0], *NOISE[3:]], model="mnist", lossless=True, packing=packing)
    assert done.models == {"mnist": 1}
    assert [name.split()[0] for name in describe_file(data)["models"]] == ["mnist"]
    done, data = packed(digits[:2], model=toy, quality=20, packing=packing)
    assert done.models == {"toy": 2}
    assert describe_file(data)["models"] == [f"unknown here ({toy.id.hex()})"]
    with pytest.raises(UnknownModelError):
        smalti.open(data)


def test_info_looks_beyond_the_first_block(digits):
    x = np.concatenate([RNG.integers(0, 256, (12, 28, 28), np.uint8), digits[:3]])
    done, data = packed(x, model="mnist", lossless=True, packing=smalti.Packing(block_images=4))
    assert done.models == {"mnist": 3}
    assert [name.split()[0] for name in describe_file(data)["models"]] == ["mnist"]


def test_a_model_in_the_file_is_named_although_no_image_needs_it(own):
    _, data = packed(NOISE, model=own, lossless=True, packing=smalti.Packing(embed=True))
    assert describe_file(data)["models"] == [f"unknown here ({own.id.hex()}), in the file; no image needs it"]


def test_a_damaged_block_counts_as_one_that_needs_its_model():
    _, data = packed(NOISE, model="mnist", lossless=True, packing=smalti.Packing(block_images=2, embed=True))
    assert describe_file(data)["models"][0].endswith("no image needs it")
    with smalti.open(data) as archive:
        at = archive.contents.index.blocks[1].offset
    torn = data[: at + 60] + bytes([data[at + 60] ^ 1]) + data[at + 61 :]
    assert not describe_file(torn)["models"][0].endswith("no image needs it")


def test_a_file_without_a_model_can_grow(tmp_path, digits):
    smalti.pack(NOISE, tmp_path / "x.smalti", model="mnist", lossless=True)
    assert describe_file(tmp_path / "x.smalti")["models"] == []
    smalti.append(tmp_path / "x.smalti", digits[:2], lossless=True)
    assert len(describe_file(tmp_path / "x.smalti")["models"]) == 1
    with smalti.open(tmp_path / "x.smalti") as archive:
        assert (archive[5] == NOISE[5]).all()
        assert (archive[7] == digits[1]).all()
    assert smalti.verify(tmp_path / "x.smalti", deep=True) == []
