import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from helpers import TINY_PIXELS, toy_pixels
from PIL import Image

torch = pytest.importorskip("torch")

import smalti
from smalti.codec.block_codec import decode_block, encode_block
from smalti.codec.latent_codec import analyse, block_of
from smalti.codec.pixel_codec import quantise
from smalti.codec.rdo import EFFORTS
from smalti.demo.samples import draw_digits
from smalti.errors import SourceError, TrainingError
from smalti.model.latent_prior import to_latents
from smalti.model.operating_points import LMBDA
from smalti.model.spatial_prior import spatial_latents
from smalti.training.export.export_codec import export_bundle
from smalti.training.export.export_pixels import integer_pixels
from smalti.training.export.restore_codec import CEILING, make_room, restore
from smalti.training.export.restore_pixels import restore_pixels
from smalti.training.loop import train_network as train_anywhere
from smalti.training.networks.autoencoder import Autoencoder
from smalti.training.networks.codec_network import Codec
from smalti.training.networks.integers import LATENT_ONE, embedding_weights
from smalti.training.networks.pixel_network import PixelSize
from smalti.training.networks.post_filter import PostFilter
from smalti.training.networks.transforms import Size, size_for
from smalti.training.plan import FAST, REFERENCE, AutoencoderPlan, CodecPlan, Hardware, Phase
from smalti.training.tasks.autoencoder_task import AutoencoderTask, collapse
from smalti.training.tasks.choice import autoencoder_task, codec_task, exporter, pixel_task
from smalti.training.tasks.codec_task import CodecTask
from smalti.training.tasks.pixel_task import PixelPlan, PixelTask
from smalti.training.tasks.post_filter_task import settle

torch.set_num_threads(1)  # toys are faster so, and many times faster on a busy machine

TOY = AutoencoderPlan(
    phases=(Phase(2, 3e-3, wide=(8, 8, 8)), Phase(1, 1e-3, wide=(16, 8, 8))), batch=8, warm_up=4, seed=5
)


TINY = {"analysis": (8, 8, 16), "groups": (4, 8), "synthesis": (16, 8, 8), "details": 8, "prior": 2, "spatial_prior": 2}
SMALL = Size((20, 20, 1), (20, 20), latents=8, spatial=4, **TINY)
TOY_CODEC = CodecPlan(SMALL, steps=45, batch=8, validation=0.1, warm_up=4, seed=5)
TOY_PIXELS = PixelPlan(PixelSize(1, **TINY_PIXELS), steps=60, batch=8, validation=0.1, warm_up=4, seed=5)
TASKS = {
    "autoencoder": AutoencoderTask(TOY),
    "codec": CodecTask(TOY_CODEC),
    "pixels": PixelTask(TOY_PIXELS),
}


@pytest.fixture(autouse=True)
def _short_fits(monkeypatch):
    monkeypatch.setattr("smalti.training.export.prior_fit.STEPS", 20)


def train(pixels, folder, task, listener):
    return train_anywhere(pixels, folder, task, listener, Hardware("cpu"))


class Listener:
    """Counts, and interrupts after so many steps."""

    def __init__(self, stop_after: int = -1) -> None:
        self.steps, self.stop_after, self.said, self.rows = 0, stop_after, [], []

    def start(self, total, done):
        self.total = total

    def step(self, work, loss):
        self.steps += 1
        if self.steps == self.stop_after:
            raise KeyboardInterrupt

    def epoch(self, row, words):
        self.rows.append(row)
        self.said.append(words)

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return draw_digits(130)[:, 4:24, 4:24].copy()


@pytest.fixture(scope="module")
def all_trained(images, tmp_path_factory):
    """A toy model of each kind, trained without interruption, and the folder it left."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in TASKS}
    return {kind: (train(images, folders[kind], task, Listener()), folders[kind]) for kind, task in TASKS.items()}


@pytest.fixture(params=list(TASKS))
def kind(request) -> str:
    return request.param


@pytest.fixture
def trained(all_trained, kind):
    return all_trained[kind]


def weights(trained) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trained.model.parameters()])


def test_interrupted_training_ends_in_the_same_weights_as_another_from_its_seed(images, kind, trained, tmp_path):
    for steps in (1, 5, 17, 4):
        with pytest.raises(KeyboardInterrupt):
            train(images, tmp_path, TASKS[kind], Listener(stop_after=steps))
    listener = Listener()
    again = train(images, tmp_path, TASKS[kind], listener)
    assert "going on from" in listener.said[0]
    assert torch.equal(weights(again), weights(trained[0]))
    assert [row["epoch"] for row in again.state.log] == [row["epoch"] for row in trained[0].state.log]


def test_the_autoencoder_learns_and_leaves_a_log_and_a_plot(all_trained):
    result, folder = all_trained["autoencoder"]
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    assert [row["phase"] for row in rows] == ["1", "1", "2"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert result.state.best_score == min(float(row["validation_mse"]) for row in rows if row["phase"] == "2")
    with Image.open(folder / "loss.png") as picture:
        assert picture.size[0] > 400
    assert not set(result.train_index) & set(result.validation_index)
    assert len(result.validation_index) == 26


def test_the_codec_learns_and_leaves_a_log_and_a_plot(all_trained):
    result, folder = all_trained["codec"]
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    assert float(rows[-1]["train_loss"]) < 0.8 * float(rows[0]["train_loss"])
    assert [float(row["final"]) for row in rows] == sorted(float(row["final"]) for row in rows)
    assert result.state.best_score == min(float(row["cost"]) for row in rows if float(row["final"]))
    with Image.open(folder / "loss.png") as picture:
        assert picture.size[0] > 400


def test_the_model_of_pixels_learns_and_leaves_a_log_and_a_plot(all_trained):
    result, folder = all_trained["pixels"]
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    assert float(rows[-1]["bytes"]) < 0.95 * float(rows[0]["bytes"])
    assert result.state.best_score == min(float(row["mean"]) for row in rows if float(row["final"]))
    with Image.open(folder / "loss.png") as picture:
        assert picture.size[0] > 400


def test_a_checkpoint_of_another_plan_or_other_images_is_refused(images, all_trained):
    folder = all_trained["autoencoder"][1]
    for pixels, plan in ((images[::-1], AutoencoderPlan(TOY.phases, 8, seed=6)), (images[:100], TOY)):
        with pytest.raises(TrainingError, match="other images" if plan == TOY else "--seed 5, not 6"):
            train(pixels, folder, AutoencoderTask(plan), Listener())


def test_a_damaged_checkpoint_is_named(images, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"junk")
    with pytest.raises(TrainingError, match="delete it"):
        train(images, tmp_path, TASKS["codec"], Listener())


def test_too_few_images_or_odd_sizes_are_refused(tmp_path, kind):
    with pytest.raises(TrainingError, match="too few"):
        train(np.zeros((4, 20, 20), np.uint8), tmp_path, TASKS[kind], Listener())
    for shape, words in (((21, 20, 1), "multiples of 4"), ((20, 20, 3), "gray")):
        with pytest.raises(SourceError, match=words):
            autoencoder_task(shape, schedule="fast", epochs=None, seed=0)
    for shape in ((7, 20, 1), (20, 129, 3)):
        with pytest.raises(SourceError, match="8 to 128"):
            codec_task(shape, 100, steps=1, batch=1, seed=0)


def test_a_dead_code_and_a_dead_synthesis_are_noticed():
    torch.manual_seed(0)
    model, x = Autoencoder((4, 4, 4)), torch.rand(8, 1, 28, 28)
    for p in model.parameters():
        p.data.abs_().mul_(0.1)
    assert collapse(model, x) == ""
    model.g_s.convs[0].weight.data.neg_()
    assert "layer 1 of the synthesis" in collapse(model, x)
    model.g_a.convs[-1].weight.data.neg_()
    assert "0% of the code" in collapse(model, x)


def test_training_restarts_with_the_next_seed_and_says_so(images, monkeypatch, tmp_path):
    checks = iter(["tested", "tested again"])
    monkeypatch.setattr("smalti.training.tasks.autoencoder_task.collapse", lambda *_: next(checks, ""))
    listener = Listener()
    result = train(images, tmp_path, TASKS["autoencoder"], listener)
    assert listener.said[:2] == [
        "seed 5 collapsed at step 0 (tested); trying seed 6",
        "seed 6 collapsed at step 0 (tested again); trying seed 7",
    ]
    assert result.state.seed == 7


def test_images_all_alike_end_in_an_error(tmp_path):
    with pytest.raises(TrainingError, match="all alike"):
        train(np.zeros((64, 8, 8), np.uint8), tmp_path, TASKS["autoencoder"], Listener())


def test_the_reference_schedule_is_the_published_one():
    (phase,) = REFERENCE
    assert (phase.epochs, phase.learning_rate, phase.decay, phase.optimizer) == (20, 1e-3, False, "adam")
    assert phase.wide == FAST[-1].wide == (256, 128, 64)
    assert AutoencoderPlan().batch == 32
    assert AutoencoderPlan().validation == 0.2


def test_an_exported_model_packs_images(kind, trained, images, tmp_path):
    result = trained[0]
    pixels, held_out = images[result.train_index], images[result.validation_index]
    data = exporter(result.model)(result.model, "toy", pixels, held_out, {"note": 1})
    (tmp_path / "toy.model").write_bytes(data)
    model = smalti.load_model(tmp_path / "toy.model")
    assert model.image_shape == (20, 20, 1)
    if kind == "pixels":
        assert model.training["pixels"]["note"] == 1
        size = smalti.pack(images, tmp_path / "x.smalti", model=model, max_error=0).bytes
        assert (smalti.load(tmp_path / "x.smalti", model=model).pixels == images).all()
        assert size < 0.6 * images.nbytes
        lossy = smalti.pack(images, tmp_path / "y.smalti", model=model, quality=50).bytes
        assert smalti.load(tmp_path / "y.smalti", model=model).pixels.shape == images.shape
        assert lossy < 0.8 * size
        assert smalti.encode(np.zeros((5, 4, 3), np.uint8), model=model)  # of another size and colour
        return
    assert model.training["note"] == 1
    assert len(model.measured) == 17
    smalti.pack(images, tmp_path / "x.smalti", model=model, quality=90, effort=1)
    assert smalti.load(tmp_path / "x.smalti", model=model).pixels.shape == images.shape


@pytest.mark.parametrize(
    ("shape", "patches"), [((8, 8, 1), 1), ((28, 28, 3), 1), ((33, 21, 3), 1), ((64, 45, 1), 4), ((70, 50, 3), 4)]
)
def test_any_size_and_colour_is_coded_by_integers_that_agree_with_training(tmp_path, shape, patches):
    """The exported integer networks compute what training with `exact` computed, but for the rounding of biases."""
    torch.manual_seed(1)
    size = replace(size_for(shape), latents=12, spatial=3, **TINY)
    model = Codec(size).eval()
    for p in model.parameters():
        p.data += 0.02 * torch.randn_like(p)
    h, w, c = shape
    pixels = np.random.default_rng(0).integers(0, 256, (20, h, w, c), dtype=np.uint8)
    pixels = pixels[..., 0] if c == 1 else pixels
    (tmp_path / "x.model").write_bytes(export_bundle(model, "x", pixels, pixels[:4], {}))
    loaded = smalti.load_model(tmp_path / "x.model")
    assert loaded.patches == patches
    points = np.arange(20) * 3
    code = analyse(pixels, points, loaded, EFFORTS[1])
    x_hat = block_of(code, loaded).x_hat
    assert x_hat.shape == pixels.shape
    steps = loaded.grid.steps[points.repeat(patches)]
    v = torch.from_numpy(to_latents(code.symbols.reshape(-1, 12), steps)).float() / LATENT_ONE
    u = torch.from_numpy(spatial_latents(loaded.spatial, code.spatial, points)).float() / LATENT_ONE
    embeddings = embedding_weights(torch.from_numpy(points) / 64)
    x = torch.from_numpy(np.atleast_3d(pixels).reshape(20, h, w, c)).permute(0, 3, 1, 2) / 255
    rounding = torch.from_numpy(steps).float() / LATENT_ONE
    with torch.no_grad():
        features = model.g_s.features(v, embeddings, exact=True)
        expected = model.g_s.pixels(features, u, embeddings, exact=True)
        found, of_patches = model.g_a.features(x, embeddings)
        _, y = model.g_a.latents(of_patches, embeddings, lambda y, first: nearest_step(y, rounding, first))
        y_spatial = model.spatial_g_a(found, features, embeddings)
    expected = (expected * 256 + 0.5).floor().clamp(0, 255).permute(0, 2, 3, 1).numpy().reshape(pixels.shape)
    assert np.abs(expected - x_hat).max() <= 3
    analysed, positions = loaded.analyse(pixels, points)
    assert np.mean(np.abs(analysed / LATENT_ONE - y.numpy()) > 1e-3) < 0.05  # some lie half way between two symbols
    at_positions = loaded.features(to_latents(code.symbols.reshape(-1, 12), steps), points)
    assert np.abs(at_positions / 128 - features.numpy()).max() <= 2 / 128
    assert np.abs(loaded.analyse_spatial(positions, at_positions, points) / LATENT_ONE - y_spatial.numpy()).max() < 0.05
    payload = encode_block(block_of(code, loaded), loaded)
    assert (decode_block(payload, 20, loaded.image_shape, loaded) == x_hat).all()


def nearest_step(y, steps, first):
    mine = steps[:, first : first + y.shape[1]]
    return torch.floor(y / mine + 0.5) * mine


def test_a_bundle_can_be_trained_further(all_trained, images, tmp_path):
    """What comes back from a bundle computes what was exported, and learns on."""
    trained = all_trained["codec"][0]
    data = export_bundle(trained.model, "toy", images, images[:8], {})
    (tmp_path / "toy.model").write_bytes(data)
    model = smalti.load_model(tmp_path / "toy.model")
    codec = restore(model).eval()
    x = torch.from_numpy(images[:, None].copy()).float() / 255
    quality = torch.linspace(0, 1, len(x))
    with torch.no_grad():
        one, two = (c(x, quality, "rounded", exact=True) for c in (trained.model, codec))
    for before, after in zip(one, two, strict=True):
        assert abs(float(after.mean() / before.mean()) - 1) < 0.02
    task = codec_task((20, 20, 1), len(images), steps=20, batch=8, seed=0, start=model)
    further = train(images, tmp_path / "further", task, Listener())
    assert further.state.best_score < math.inf
    assert (tmp_path / "toy.model").read_bytes() == export_bundle(trained.model, "toy", images, images[:8], {})


def test_room_for_larger_steps_changes_nothing_else():
    torch.manual_seed(2)
    codec = Codec(SMALL).eval()
    for parameter in codec.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    codec.spatial_steps.data[:6], codec.spatial_steps.data[6:] = 1.0, 0.0  # far beyond the ceiling, and not
    x, top = torch.rand(5, 1, 20, 20), torch.ones(5)
    before = codec(x, top, "rounded", exact=False)
    make_room(codec)
    after = codec(x, top, "rounded", exact=False)
    assert codec.log_spatial_steps.max() <= CEILING
    assert (codec.log_spatial_steps[1:] <= codec.log_spatial_steps[:-1] + 1).all()
    for one, two in zip(before, after, strict=True):
        torch.testing.assert_close(one, two, rtol=2e-3, atol=1e-3)


def test_only_a_codec_for_such_images_can_be_trained_further(model, images):
    with pytest.raises(SourceError, match="train from scratch"):
        codec_task((20, 20, 1), 100, steps=1, batch=1, seed=0, start=model)
    with pytest.raises(TrainingError, match="cannot be trained further"):
        codec_task((28, 28, 1), 100, steps=1, batch=1, seed=0, start=smalti.load_model("mnist-autoencoder"))


def test_what_codes_by_pixels_can_be_trained_further(all_trained, images, tmp_path):
    """What comes back from a bundle computes what was exported, and learns on."""
    trained = all_trained["pixels"][0]
    data = exporter(trained.model)(trained.model, "toy", images, images[:8], {})
    (tmp_path / "toy.model").write_bytes(data)
    model = smalti.load_model(tmp_path / "toy.model")
    codec = restore_pixels(model).eval()
    prior = integer_pixels(codec.net)
    for name in ("weights", "biases", "shifts"):
        for one, two in zip(getattr(prior, name), getattr(model.pixels, name), strict=True):
            assert np.abs(one.astype(int) - two).max() <= 1
    assert np.abs(prior.errors - model.pixels.errors).max() <= 2
    errors = np.arange(len(images)) % 120 + 2
    expected = model.post_filter(images, errors)
    with torch.no_grad():
        planes = torch.from_numpy(images[:, None].copy()).float()
        found = codec.post_filter(planes, torch.from_numpy(errors), exact=True)[:, 0].numpy()
    assert np.abs(found - expected).max() <= 1
    task = pixel_task((20, 20, 1), len(images), steps=3, batch=8, seed=1, start=model)
    assert task.plan.start == model.id.hex()
    assert np.isfinite(train(images, tmp_path / "on", task, Listener()).state.log[-1]["bytes"])
    assert pixel_task((20, 20, 3), 40, steps=3, batch=8, seed=1, start=model).plan.start is None
    with pytest.raises(TrainingError, match="does not code by pixels"):
        restore_pixels(smalti.load_model("mnist-autoencoder"))


def test_the_dequantiser_learns_what_the_encoder_makes(images):
    torch.manual_seed(3)
    network, prior = PostFilter(1, 8, 1), toy_pixels(1)
    errors = np.full(len(images), 40)
    coded = quantise([images], errors, prior, LMBDA)[0][0]

    def off() -> float:
        with torch.no_grad():
            planes = torch.from_numpy(coded[:, None].copy()).float()
            found = network.eval()(planes, torch.from_numpy(errors), exact=True)[:, 0].numpy()
        return float(((found - images) ** 2).mean())

    before = off()
    settle(network, prior, np.concatenate([images] * 4))
    assert off() < 0.9 * before
