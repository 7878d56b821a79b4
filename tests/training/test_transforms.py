"""The transform is trained: crops are what resampling gives, training goes on, export and restoring agree."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image

from smalti.demo.samples import draw_digits
from smalti.model.bundle import load_model
from smalti.model.transform.transform import transform_arrays
from smalti.training.transforms.crops import LOBES, Crop, Crops, Shelf, lanczos
from smalti.training.transforms.export import export_transform
from smalti.training.transforms.fit import FitPlan, fit_transform, loss_of, rates_of
from smalti.training.transforms.network import Networks, place_of
from smalti.training.transforms.restore import networks_of


def pictures(n: int, side: int = 48) -> list[np.ndarray]:
    """Return colour pictures: ramps with digits on them."""
    rng, digits = np.random.default_rng(n), draw_digits(n, seed=n)
    ramp = np.linspace(0, 1, side)[:, None, None]
    found = []
    for digit in digits:
        x = rng.integers(0, 200, 3) * ramp + rng.integers(0, 55, 3) + np.zeros((side, side, 1))
        x[8:36, 8:36] = np.maximum(x[8:36, 8:36], digit[..., None])
        found.append(x.astype(np.uint8))
    return found


def crops(seed: int = 1) -> Crops:
    shelf = Shelf(pictures(20), 1)
    return Crops([Crop([shelf], 16, 8), Crop([shelf], 24, 4)], seed)


def test_a_reduced_crop_is_what_lanczos_resampling_of_the_image_gives():
    image = 80 + pictures(1, side=60)[0] // 3  # nothing that overshoots is clipped between rows and columns
    for scale, out in ((2.0, 30), (2.5, 24)):
        margin = int(np.ceil(LOBES * scale))
        weights = lanczos(out, scale, margin, 60 + 2 * margin)
        wide = torch.from_numpy(np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")).float()
        ours = torch.einsum("yh,hwc,xw->yxc", weights, wide, weights).round().clamp(0, 255).numpy()
        theirs = np.asarray(Image.fromarray(image).resize((out, out), Image.Resampling.LANCZOS)).astype(np.float32)
        inside = slice(4, -4)
        assert np.abs(ours[inside, inside] - theirs[inside, inside]).max() <= 1


def test_crops_of_a_shelf_have_the_sizes_that_are_asked_for_and_come_from_its_images():
    shelf = Shelf([np.full((40, 70, 3), 7, np.uint8), np.full((90, 50, 3), 200, np.uint8)], 1, (30, 60))
    rng = torch.Generator()
    x = shelf.crops(24, 40, rng)
    assert x.shape == (40, 3, 24, 24)
    assert set(x.unique().tolist()) == {7.0, 200.0}
    batch = crops().batch()
    assert batch.shape == (8, 3, 16, 16)
    assert -128 <= batch.min() < batch.max() <= 127
    assert torch.equal(batch, crops().batch())


def test_restored_networks_are_exported_to_the_same_integers():
    transform = load_model("colour").transform
    networks = networks_of(transform)
    before, after = transform_arrays(transform), transform_arrays(export_transform(networks))
    for name, array in before.items():
        few = 4 if name.startswith("tables") else 0  # steps follow a parabola
        assert np.abs(array.astype(np.int64) - after[name]).max() <= few


def test_training_lowers_the_cost_goes_on_from_its_checkpoint_and_ends_with_few_bits(tmp_path):
    torch.manual_seed(0)
    x = torch.from_numpy(np.stack(pictures(12))).permute(0, 3, 1, 2).float() - 128
    q = place_of(torch.full((len(x),), 5.0))
    start = Networks(np.full(192, 30, np.float32), 32, 16, (16, 16))

    def cost(networks: Networks) -> float:
        """Return bits and error, as they weigh in training."""
        torch.manual_seed(0)
        with torch.no_grad(), networks.rounded():
            taken, squared = loss_of(networks, x, q, 0.14)[1].sum(1).tolist()
        return taken + squared / (0.14 * 4**5)

    first, steps, path = cost(start), list[int](), tmp_path / "run.fit"
    plan = FitPlan(0.12, coarse_from=2, averaged=0.9)
    made = fit_transform(crops(), plan, path, lambda *_: None, start, lambda step, _: steps.append(step))
    assert cost(made) < 0.98 * first
    assert steps[-1] > 10
    assert not made.coarse
    plan = FitPlan(0.13, coarse_from=0)
    made = fit_transform(crops(), plan, path, lambda *_: None, start, lambda step, _: steps.append(step))
    assert steps[-1] > steps[0]
    assert made.coarse
    assert np.abs(export_transform(made).analysis.first.weights).max() < 256
    rates = rates_of(made, np.stack(pictures(3)), "cpu")
    assert [bits for bits, _ in rates] == sorted((bits for bits, _ in rates), reverse=True)
