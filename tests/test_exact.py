"""Promise 1: the decoder's networks give the same integers on every engine, in any order of summation."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

import smalti
from smalti.bundle import SYNTHESIS
from smalti.codec import analyse
from smalti.errors import TrainingError
from smalti.images import read_images
from smalti.prior import LATENT_MAX, POINTS, SUBSTEPS, anchor_weights, to_latents
from smalti.search import EFFORTS
from smalti.training.bounds import check_bounds
from smalti.training.reference import run_numpy, run_torch

torch.set_num_threads(1)
MODELS = ("mnist", "mnist-autoencoder")
INPUTS = {"v": LATENT_MAX, "anchors": SUBSTEPS}


def engine(data: bytes, v: np.ndarray, anchors: np.ndarray, *, optimise: bool, threads: int, batch: int) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    parts = []
    for i in range(0, len(v), batch):
        inputs = {"v": v[i : i + batch], "anchors": anchors[i : i + batch]}
        parts.append(session.run(None, {name: inputs[name].astype(np.float32) for name in names})[0])
    return np.concatenate(parts)


def extreme(latents: int, n: int = 40) -> np.ndarray:
    """Random latents of all sizes, to the very limits."""
    rng = np.random.default_rng(9)
    spread = rng.choice([2, 50, 500, 50_000], (n, 1))
    v = np.rint(rng.normal(size=(n, latents)) * spread).clip(-LATENT_MAX, LATENT_MAX)
    v[:3] = np.array([[-LATENT_MAX], [LATENT_MAX], [0]])
    return v.astype(np.int64)


@pytest.mark.parametrize("name", MODELS)
def test_every_engine_gives_the_same_pixels_at_all_extremes(name):
    model = smalti.load_model(name)
    v = extreme(model.latents)[: 12 if name == "mnist-autoencoder" else None]
    points = np.random.default_rng(1).integers(0, POINTS, len(v))
    check_all(model, v, points)


def check_all(model, v, points, *, plain=None):
    """All engines on `v`; the int64 reference, which is slow, on the first `plain` alone."""
    anchors = anchor_weights(points)
    expected = run_torch(model.networks[SYNTHESIS], {"v": v, "anchors": anchors})
    assert (
        run_numpy(model.networks[SYNTHESIS], {"v": v[:plain], "anchors": anchors[:plain]}) == expected[:plain]
    ).all()
    for optimise in (True, False):
        for threads in (1, 2):
            for batch in (1, 7, 256):
                n = 40 if batch == 1 else len(v)
                got = engine(
                    model.networks[SYNTHESIS], v[:n], anchors[:n], optimise=optimise, threads=threads, batch=batch
                )
                assert (got == expected[:n]).all(), (optimise, threads, batch)
    assert expected.min() >= 0
    assert expected.max() <= 255


def test_every_engine_gives_the_same_pixels_on_the_test_set(mnist, model):
    x = read_images(mnist / "t10k-images-idx3-ubyte.gz").pixels
    points = np.arange(len(x)) % POINTS
    code = analyse(x, points, model, EFFORTS[1])
    check_all(model, to_latents(code.symbols, model.grid.steps[points]), points, plain=500)


@pytest.mark.parametrize("name", MODELS)
def test_the_bounds_of_the_built_in_models_are_proven(name):
    check_bounds(smalti.load_model(name).networks[SYNTHESIS], INPUTS)


def doctored(data: bytes, change) -> bytes:
    """The graph with its largest tensor of 8-bit weights changed."""
    model = onnx.load_model_from_string(data)
    weights = max(
        (t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8), key=lambda t: len(t.raw_data)
    )
    weights.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weights)), weights.name))
    return model.SerializeToString()


def test_a_doctored_model_is_refused(model):
    """Full-scale weights could overflow the accumulator; halves of a unit could not be told apart."""
    data = model.networks[SYNTHESIS]
    check_bounds(doctored(data, lambda w: w), INPUTS)
    with pytest.raises(TrainingError, match="beyond the 16777216"):
        check_bounds(doctored(data, lambda w: np.full_like(w, 127)), INPUTS)
    with pytest.raises(TrainingError, match="beyond the 16777216"):
        check_bounds(data, INPUTS | {"v": 40 * LATENT_MAX})
    with pytest.raises(TrainingError, match=r"beyond the 16777216|no integer times a power of two"):
        check_bounds(doctored(data, lambda w: w.astype(np.float32) / 3), INPUTS)


def test_an_operator_that_may_round_is_refused(model):
    graph = onnx.load_model_from_string(model.networks[SYNTHESIS])
    floor = next(node for node in graph.graph.node if node.op_type == "Floor")
    floor.op_type = "Sigmoid"
    with pytest.raises(TrainingError, match="no rule to prove Sigmoid"):
        check_bounds(graph.SerializeToString(), INPUTS)
