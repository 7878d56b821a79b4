"""The engines give the same numbers: those of networks that decode, and those of networks that round."""

import numpy as np
import pytest
from engines import CORE, KERNELS, engine

import smalti
from random_graphs import FREE, Builder
from smalti.core.library import KERNELS as ALL_KERNELS
from smalti.core.library import Core, core
from smalti.errors import UsageError
from smalti.model.engines.core_engine import CoreNetwork
from smalti.model.engines.network import start
from smalti.model.engines.numpy_engine import NumpyNetwork, sum_in_order
from smalti.model.model import DECODING
from smalti.model.proof.exactness import LIMITS, SIGNED
from smalti.model.proof.onnx_reader import read_onnx

built = pytest.mark.skipif(CORE is None, reason="the core was not built; run scripts/core")


def of_kernel(name: str) -> Core:
    return Core(CORE, ALL_KERNELS.index(name))


def same(found, expected):
    assert len(found) == len(expected)
    for x, y in zip(found, expected, strict=True):
        assert x.shape == y.shape
        assert x.dtype == y.dtype == np.float32
        assert np.array_equal(x, y, equal_nan=True)


@built
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(s, marks=pytest.mark.slow) for s in range(12, 100))])
def test_random_networks_give_the_same_on_every_kernel_and_in_numpy(seed, exact):
    builder = Builder(np.random.default_rng(seed), exact=exact)
    graph = builder.grow(12 if seed % 2 else 30)
    inputs = builder.inputs()
    expected = NumpyNetwork(graph, exact=exact, patches=builder.patches).run(inputs, builder.images)
    for name in KERNELS:
        network = CoreNetwork(of_kernel(name), graph, exact=exact, patches=builder.patches)
        for _ in range(2):  # a program runs more than once
            same(network.run(inputs, builder.images), expected)


def at_bounds(rng, data: bytes, patches: int, n: int) -> dict[str, np.ndarray]:
    given = {}
    for name, dims in read_onnx(data).inputs.items():
        sizes = {"r": patches, **FREE, "n": 1}
        rows, *shape = (dim if isinstance(dim, int) else sizes[dim] for dim in dims)
        most, low = LIMITS.get(name, 1), -LIMITS[name] if name in SIGNED else 0
        values = rng.integers(low, most + 1, (n * rows, *shape))
        values[::2] = rng.choice([low, most], values[::2].shape)
        if name == "anchors":
            values = np.eye(9)[rng.integers(0, 9, n)] * most
        given[name] = values.astype(np.float32) if name != "steps" else values.astype(np.float32) + 100
    return given


@pytest.mark.parametrize("name", ["mnist", "fashion", "mnist-autoencoder", "toy"])
def test_the_networks_of_models_give_the_same_on_every_engine(name, toy):
    ort = pytest.importorskip("onnxruntime")
    del ort
    model = toy if name == "toy" else smalti.load_model(name)
    rng, n = np.random.default_rng(3), 2 if name == "mnist-autoencoder" else 5
    for file, data in model.networks.items():
        exact, inputs = file in DECODING, at_bounds(rng, data, model.patches, n)
        on = ["numpy", *(of_kernel(kernel) for kernel in KERNELS)] + ["onnxruntime"] * exact
        networks = [start(data, engine, exact=exact, patches=model.patches, threads=1) for engine in on]
        expected, *others = [network.run({key: inputs[key] for key in network.inputs}, n) for network in networks]
        for found in others:
            same(found, expected)
        assert any(np.ptp(result) for result in expected), file


@built
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (9, 28, 3), (5, 31, 17)])
def test_images_of_any_size_pass_the_post_filter(shape):
    model = smalti.load_model("mnist")
    n, h, w = shape
    x = np.random.default_rng(1).integers(0, 256, (n, h, w)).astype(np.uint8)
    found = []
    for name in ("numpy", *KERNELS):
        with engine(name):
            found.append(model.post_filter(x, np.arange(2, n + 2)))
    assert all((one == found[0]).all() for one in found)


def test_sums_that_round_are_summed_in_order():
    x, w = np.array([[1, 2**-24, 2**-24]], np.float32), np.ones((3, 1), np.float32)
    assert sum_in_order(x, w)[0, 0] == 1
    assert sum_in_order(x[:, ::-1], w)[0, 0] > 1


@built
def test_a_step_that_leaves_its_tensors_is_refused():
    from smalti.core.operators import ADD, Change, Program, Weights, Window

    rng = np.random.default_rng(0)
    for broken in range(5):
        program = Program(core())
        source = program.tensor(36)
        weights = Weights(core(), rng.normal(size=(5, 9 * 4)).astype(np.float32), None)
        result = program.linear(source, Window(1, 3, 3, 4, 3), weights, [Change(ADD, source if broken == 4 else -1)])
        places = np.arange(45, dtype=np.int32)
        target = program.tensor(45)
        program.copy(result, target, [(places, places + (broken == 2) - 2 * (broken == 3))])
        if broken == 1:
            program._steps[0].h = 4
        inputs = {source: np.ones((2, 36), np.float32)}
        if broken:
            with pytest.raises(ValueError, match="does not stay within its tensors"):
                program.run(inputs, [target], 2, 2)
        else:
            assert len(program.run(inputs, [target], 2, 2)[0]) == 2


def test_an_unknown_engine_is_refused(monkeypatch):
    model = smalti.load_model("mnist")
    monkeypatch.setenv("SMALTI_NETWORKS", "gpu")
    with pytest.raises(UsageError, match="one of: core, numpy, onnxruntime"):
        model.post_filter(np.zeros((1, 4, 4), np.uint8), np.array([9]))
    monkeypatch.setenv("SMALTI_NETWORKS", "core")
    monkeypatch.setenv("SMALTI_ENGINE", "numpy")
    with pytest.raises(UsageError, match="set it to numpy"):
        model.post_filter(np.zeros((1, 4, 4), np.uint8), np.array([9]))
