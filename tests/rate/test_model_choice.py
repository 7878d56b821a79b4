"""Which model codes which images, chosen by estimates."""

import numpy as np
import pytest
from engines import KERNELS, engine

import smalti
from smalti.codec.block_codec import encode_exactly
from smalti.demo.samples import draw_digits
from smalti.model.candidates import candidates
from smalti.model.model import Model
from smalti.rate.estimate import by_pixels
from smalti.rate.model_choice import ModelChoice
from smalti.rate.target import Target

LOSSLESS = Target(max_error=0)
ASKED = [Target(), Target(quality=10), Target(quality=90), LOSSLESS, Target(min_psnr=35), Target(psnr=30)]


def chosen(x: np.ndarray, target: Target, total: int | None = None) -> dict[str, list[int]]:
    """Return the numbers of the images that each model codes, by its name."""
    found: dict[str, list[int]] = {}
    for model, rows in ModelChoice(target, total).groups(x):
        found.setdefault(model.name, []).extend(rows.tolist())
    return {name: sorted(rows) for name, rows in found.items()}


def smooth(n: int, h: int, w: int, seed: int = 0) -> np.ndarray:
    """Return images of soft hills with a little noise, as photographs are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w] / 28
    hills = [
        sum(rng.normal() * np.sin(rng.normal(0, 4, 2) @ [y.ravel(), x.ravel()]) for _ in range(6)) for _ in range(n)
    ]
    x = np.stack(hills).reshape(n, h, w)
    return (128 + 30 * x + rng.normal(0, 4, x.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["mnist", "fashion"])
def test_an_estimate_of_all_samples_is_what_the_codec_takes(digits, name):
    model = smalti.load_model(name)
    (block,) = encode_exactly([digits[:6]], 0, model)
    assert by_pixels(digits[:6], 0, model, 1) == pytest.approx(block.bits, rel=1e-3)


def test_an_estimate_of_some_samples_is_near(digits, model):
    every, some = (by_pixels(digits, 0, model, each).sum() for each in (1, 8))
    assert some == pytest.approx(every, rel=0.1)


@pytest.mark.skipif(not KERNELS, reason="the core was not built; run scripts/core")
@pytest.mark.parametrize("error", [0, 3])
def test_all_engines_estimate_the_same(digits, model, error):
    found = []
    for name in ("numpy", KERNELS[0], KERNELS[-1]):
        with engine(name):
            found.append([by_pixels(digits, error, model, each, lmbda) for each in (1, 8) for lmbda in (0, 0.1)])
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@pytest.mark.skipif(not KERNELS, reason="the core was not built; run scripts/core")
@pytest.mark.parametrize("options", [{"quality": 20, "effort": 3}, {"quality": 50}], ids=str)
def test_all_engines_choose_the_same_models_and_write_the_same_file(options, tmp_path):
    """The model of clothes suits some blurred digits better. The general model has another name where no core mixes."""
    x, path = draw_digits(40, seed=1).astype(np.int64), tmp_path / "x.smalti"
    blurred = (x + np.roll(x, 1, 1) + np.roll(x, 1, 2) + np.roll(x, -1, 1)) // 4
    mixture = np.concatenate([draw_digits(40), blurred.astype(np.uint8)])
    choices, files = list[dict[str, list[int]]](), set()
    for name in ("numpy", KERNELS[0], KERNELS[-1]):
        with engine(name):
            found = chosen(mixture, Target(quality=options["quality"]))
            choices.append({"" if model in ("none", "colour") else model: rows for model, rows in found.items()})
            smalti.pack(draw_digits(16), path, force=True, model="auto", **options)
        files.add(path.read_bytes())
    assert choices[1] == choices[0]
    assert choices[2] == choices[0]
    assert len(files) == 1


@pytest.mark.parametrize("target", ASKED, ids=str)
def test_digits_are_coded_by_the_model_of_digits(target):
    assert set(chosen(draw_digits(40, seed=3), target)) == {"mnist"}


@pytest.mark.parametrize("target", [Target(), LOSSLESS, Target(quality=20)], ids=str)
@pytest.mark.parametrize("size", [20, 28, 32])
def test_digits_of_other_sizes_are_coded_by_it_too(target, size):
    x = draw_digits(30, seed=2)
    x = x[:, 4:24, 4:24] if size == 20 else np.pad(x, ((0, 0), (2, 2), (2, 2))) if size == 32 else x
    assert set(chosen(np.ascontiguousarray(x), target)) == {"mnist"}


@pytest.mark.parametrize("quality", [10, 25, 50, 90])
def test_what_is_unlike_all_models_is_kept_without(quality):
    noise = np.random.default_rng(1).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    for x in (noise, smooth(12, 28, 28), 255 - draw_digits(12), np.full((12, 28, 28), 200, np.uint8)):
        assert set(chosen(x, Target(quality=quality))) == {"colour"}


@pytest.mark.parametrize("shape", [(9, 64, 64), (9, 28, 28, 3), (9, 28, 28, 4), (9, 300, 20)])
def test_no_model_is_tried_on_colours_or_much_larger_images(shape, monkeypatch):
    monkeypatch.setattr(ModelChoice, "_costs", None)
    assert set(chosen(np.zeros(shape, np.uint8), Target())) == {"colour"}


@pytest.mark.parametrize("target", [Target(), Target(quality=25), LOSSLESS], ids=str)
def test_a_mixture_is_divided(target):
    x = np.concatenate([draw_digits(150), 255 - draw_digits(50, seed=1)])
    order = np.random.default_rng(0).permutation(len(x))
    found = chosen(x[order], target)
    digits = {i for i, place in enumerate(order) if place < 150}
    assert len(digits ^ set(found["mnist"])) <= (50 if target == LOSSLESS else 2)  # a block keeps others exactly


def test_images_that_no_model_suits_are_soon_tried_no_more(monkeypatch):
    choice, x = ModelChoice(Target()), smooth(40, 30, 30)
    choice.groups(x)
    choice.groups(x)
    monkeypatch.setattr(ModelChoice, "_costs", None)
    ((model, rows),) = choice.groups(x)
    assert model.name == "colour"
    assert len(rows) == 40


@pytest.mark.parametrize("target", [Target(), LOSSLESS], ids=str)
@pytest.mark.parametrize("before", [2, 4, 5, 7, 12])
def test_another_kind_is_seen_however_many_batches_one_model_coded(before, target):
    choice, x = ModelChoice(target), draw_digits(40)
    for _ in range(before):
        ((model, _),) = choice.groups(x)
        assert model.name == "mnist"
    ((model, rows),) = choice.groups(smooth(40, 28, 28))
    assert (model.name, len(rows)) == ("colour", 40)
    ((model, _),) = choice.groups(x)
    assert model.name == "mnist"


def test_each_image_is_in_one_group(model):
    x = np.concatenate([draw_digits(30), smooth(30, 28, 28)])
    groups = ModelChoice(Target()).groups(x)
    assert sorted(np.concatenate([rows for _, rows in groups]).tolist()) == list(range(60))
    assert all(isinstance(chosen, Model) for chosen, _ in groups)


def test_a_model_of_the_search_path_is_known_by_its_bundle(tmp_path, monkeypatch):
    from helpers import DATA

    for name in ("toy-rgb.model", "toy.model"):
        (tmp_path / name).write_bytes((DATA / name).read_bytes())
    (tmp_path / "broken.model").write_bytes(b"no bundle")
    monkeypatch.setenv("SMALTI_MODEL_PATH", str(tmp_path))
    assert [c.path.stem for c in candidates((28, 28, 1))] == ["fashion", "mnist", "toy"]
    colour = smalti.load_model(tmp_path / "toy-rgb.model").image_shape
    assert [c.path.stem for c in candidates(colour)] == ["toy-rgb"]
    toy = next(c for c in candidates((28, 28, 1)) if c.path.stem == "toy")
    assert 0 < toy.embedded <= (tmp_path / "toy.model").stat().st_size
    assert set(chosen(draw_digits(40), Target())) == {"mnist"}


@pytest.mark.parametrize(
    "target", [{}, {"lossless": True}, {"quality": 20, "effort": 3}, {"psnr": 28, "effort": 3}, {"bytes_an_image": 300}]
)
def test_a_shuffled_file_comes_back_and_takes_no_more_than_its_parts(tmp_path, target):
    x, y = draw_digits(60, seed=5), smooth(20, 28, 28)
    both = np.concatenate([x, y])[np.random.default_rng(0).permutation(80)]
    packed = smalti.pack(both, tmp_path / "x.smalti", **target)
    back = smalti.load(tmp_path / "x.smalti").pixels
    assert sum(packed.models.values()) + packed.without_model == 80
    if "lossless" in target:
        assert (back == both).all()
    if "bytes_an_image" in target:
        assert packed.rate <= 300
    if "psnr" not in target and "bytes_an_image" not in target:
        apart = [smalti.pack(some, tmp_path / f"{i}.smalti", **target).bytes for i, some in enumerate((x, y))]
        assert packed.bytes <= 1.02 * sum(apart)
