"""Promise 1: the decoder's networks give the same integers on every engine, in any order of summation."""

import numpy as np
import onnxruntime as ort
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from onnx import numpy_helper

import smalti
from smalti.codec.latent_codec import analyse, block_of
from smalti.codec.rdo import EFFORTS
from smalti.exchange.sources import read_images
from smalti.model.latent_prior import LATENT_MAX, to_latents
from smalti.model.masked_mlp import ACTIVATION_MAX, POINTS, embedding_weights
from smalti.model.model import FEATURES, POST_FILTER, SYNTHESIS
from smalti.model.pixel_prior import MAX_ERROR, SAMPLE_MAX
from smalti.model.proof.exactness import LIMITS, check_bounds
from smalti.model.proof.onnx_reader import read_onnx
from smalti.model.spatial_prior import spatial_latents
from smalti.training.export.reference_engine import run_numpy, run_torch

torch.set_num_threads(1)
MODELS = ("mnist", "fashion", "mnist-autoencoder")


def check(data: bytes, **limits: int) -> None:
    check_bounds(read_onnx(data), limits=LIMITS | limits)


def engine(data: bytes, inputs: dict[str, np.ndarray], *, optimise: bool, threads: int, batch: int) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    parts = []
    for i in range(0, len(next(iter(inputs.values()))), batch):
        part = {name: values[i : i + batch].astype(np.float32) for name, values in inputs.items()}
        parts.append(session.run(None, part)[0])
    return np.concatenate(parts)


def extreme(shape: tuple[int, ...], most: int, low: int) -> np.ndarray:
    """Random integers of all sizes, to the very limits."""
    rng = np.random.default_rng(9)
    spread = rng.choice([2, 50, 500, 50_000], (shape[0], *[1] * (len(shape) - 1)))
    v = np.rint(rng.normal(size=shape) * spread).clip(low, most)
    v[0], v[1], v[2] = low, most, 0
    return v.astype(np.int64)


def check_all(data: bytes, inputs: dict[str, np.ndarray], *, plain: int | None = None) -> np.ndarray:
    """All engines on `inputs`; the int64 reference, which is slow, on the first `plain` alone. What they give."""
    expected = run_torch(data, inputs)
    assert (run_numpy(data, {name: values[:plain] for name, values in inputs.items()}) == expected[:plain]).all()
    for optimise in (True, False):
        for threads in (1, 2):
            for batch in (1, 7, 256):
                n = 40 if batch == 1 else None
                some = {name: values[:n] for name, values in inputs.items()}
                got = engine(data, some, optimise=optimise, threads=threads, batch=batch)
                assert (got == expected[:n]).all(), (optimise, threads, batch)
    return expected


@pytest.fixture(params=[*MODELS, "toy"])
def any_model(request, toy):
    return toy if request.param == "toy" else smalti.load_model(request.param)


@pytest.mark.parametrize("name", ["mnist", "fashion"])
def test_every_engine_dequantises_alike_at_all_extremes(name):
    rng = np.random.default_rng(4)
    x = rng.integers(0, SAMPLE_MAX + 1, (60, 4, 14, 13))
    x[::2] = rng.choice([0, SAMPLE_MAX], x[::2].shape)
    data = smalti.load_model(name).networks[POST_FILTER]
    corrections = check_all(data, {"x": x, "errors": rng.integers(0, MAX_ERROR + 1, 60)}, plain=20)
    assert corrections.min() < 0 < corrections.max()
    check(data)
    with pytest.raises(ValueError, match="beyond"):
        check(data, x=SAMPLE_MAX << 8)


def test_every_engine_gives_the_same_pixels_at_all_extremes(any_model):
    model, n = any_model, 5 if any_model.name == "mnist-autoencoder" else 40
    embeddings = embedding_weights(np.random.default_rng(1).integers(0, POINTS, n))
    inputs = {"v": extreme((n, model.latents), LATENT_MAX, -LATENT_MAX), "anchors": embeddings}
    if model.spatial is not None:
        features = check_all(model.networks[FEATURES], inputs)
        assert features.max() <= ACTIVATION_MAX
        u = extreme((n, *model.spatial_shape), LATENT_MAX, -LATENT_MAX)
        assert check_all(model.networks[SYNTHESIS], {"features": features, "u": u, "anchors": embeddings}).min() >= 0
        features = extreme(features.shape, ACTIVATION_MAX, 0)
        inputs = {"features": features, "u": u[::-1], "anchors": embeddings}
    pixels = check_all(model.networks[SYNTHESIS], inputs)
    assert 0 <= pixels.min() <= pixels.max() <= 255


@pytest.mark.parametrize(
    ("data", "name", "images"),
    [
        ("mnist", "mnist", 200),
        ("fashion-mnist", "fashion", 200),
        pytest.param("mnist", "mnist", 2_000, marks=pytest.mark.slow),
        pytest.param("fashion-mnist", "fashion", 2_000, marks=pytest.mark.slow),
    ],
)
def test_every_engine_gives_the_same_pixels_on_the_test_set(mnist, data, name, images):
    folder, model = mnist.with_name(data), smalti.load_model(name)
    if not folder.is_dir():
        pytest.skip(f"{data} is not at {folder}")
    x = read_images(folder / "t10k-images-idx3-ubyte.gz").pixels[:images]
    points = np.arange(len(x)) % POINTS
    code = analyse(x, points, model, EFFORTS[1])
    embeddings = embedding_weights(points)
    inputs = {"v": to_latents(code.symbols[:, 0], model.grid.steps[points]), "anchors": embeddings}
    if model.spatial is not None:
        features = check_all(model.networks[FEATURES], inputs, plain=500)
        u = spatial_latents(model.spatial, code.spatial, points)
        inputs = {"features": features, "u": u, "anchors": embeddings}
    pixels = check_all(model.networks[SYNTHESIS], inputs, plain=500)
    assert (pixels[:, 0] == block_of(code, model).x_hat).all()


def doctored(data: bytes, change) -> bytes:
    """The graph with its largest tensor of 8-bit weights changed."""
    model = onnx.load_model_from_string(data)
    weights = max(
        (t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8), key=lambda t: len(t.raw_data)
    )
    weights.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weights)), weights.name))
    return model.SerializeToString()


def test_a_doctored_model_is_refused(toy):
    """Full-scale weights could overflow the accumulator; halves of a unit could not be told apart."""
    for part, name in ((FEATURES, "v"), (SYNTHESIS, "features"), (SYNTHESIS, "u")):
        data = toy.networks[part]
        check(doctored(data, lambda w: w))
        with pytest.raises(ValueError, match="beyond the 16777216"):
            check(doctored(data, lambda w: np.full_like(w, 127) * np.float32(40)))
        with pytest.raises(ValueError, match="beyond the 16777216"):
            check(data, **{name: 400 * LATENT_MAX})
        with pytest.raises(ValueError, match=r"beyond the 16777216|no integer times a power of two"):
            check(doctored(data, lambda w: w.astype(np.float32) / 3))


def test_an_operator_that_may_round_is_refused(model):
    graph = onnx.load_model_from_string(model.networks[SYNTHESIS])
    floor = next(node for node in graph.graph.node if node.op_type == "Floor")
    floor.op_type = "Sigmoid"
    with pytest.raises(ValueError, match="no rule to prove Sigmoid"):
        check(graph.SerializeToString())
