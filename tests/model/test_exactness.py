"""What a network from elsewhere may not do: be inexact, or large."""

from dataclasses import replace

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import helper, numpy_helper
from onnx_networks import network, write

from smalti.errors import ModelError
from smalti.model.bundle import bundle_bytes, decoding_bytes, parse_bundle
from smalti.model.model import ANALYSIS, FEATURES, POST_FILTER, SYNTHESIS
from smalti.model.proof.exactness import check_bounds
from smalti.model.proof.onnx_reader import read_onnx
from smalti.model.proof.shape_inference import fold, infer


def constant(name: str, values, dtype=np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype), name)


def prove(nodes, constants=(), x=("n", 4, 8, 8)) -> None:
    check_bounds(read_onnx(write(network(nodes, constants, x=x))))


W = constant("w", np.ones((4, 4, 3, 3)), np.float32)
LARGE = constant("w", np.ones((1, 4, 9, 9)), np.float32)
CONV = ("Conv", ["x", "w"], ["y"])
NEAREST = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
ZERO, HALF = constant("zero", 0, np.float32), constant("half", 0.5, np.float32)
ROWS = ("n", 4)


def test_what_smalti_itself_does_is_proven():
    prove([("Conv", ["x", "w"], ["c"], {"pads": [1] * 4}), ("Floor", ["c"], ["y"])], [W])
    prove([("Resize", ["x", "", "s"], ["y"], NEAREST)], [constant("s", [1, 1, 2, 2], np.float32)])


@pytest.mark.parametrize(
    ("node", "constants", "x"),
    [
        (("Loop", ["x"], ["y"]), [], ROWS),
        (("Sqrt", ["x"], ["y"]), [], ROWS),
        (("Mul", ["x", "x"], ["y"]), [], ROWS),
        (("Floor", ["x"], ["y"], {"fast": 1}), [], ROWS),
        (("Floor", ["x", "x"], ["y"]), [], ROWS),
        (("Floor", ["z"], ["y"]), [], ROWS),
        (("Floor", ["x"], ["x"]), [], ROWS),
        (("Floor", ["x"], ["y", "z"]), [], ROWS),
        (("Floor", [], ["y"]), [], ROWS),
        (("Resize", ["", "", ""], ["y"], NEAREST), [], ROWS),
        (("Add", ["x", ""], ["y"]), [], ROWS),
        (("Add", ["x", "c"], ["y"]), [constant("c", np.ones(8), np.float32)], ("n", 4, 8, 8)),
        (("MatMul", ["x", "x"], ["y"]), [], ("n", 1)),
        (CONV, [W], None),
        ((*CONV, {"pads": [2] * 4}), [W], None),
        ((*CONV, {"pads": [1 << 20] * 4}), [W], None),
        ((*CONV, {"pads": [1] * 4, "dilations": [9, 9]}), [W], None),
        ((*CONV, {"pads": [1] * 4, "group": 2}), [W], None),
        ((*CONV, {"pads": [1] * 4, "strides": [1, 2]}), [W], None),
        ((*CONV, {"pads": [4] * 4}), [LARGE], None),
        ((*CONV, {"pads": [1] * 4, "auto_pad": "SAME_UPPER"}), [W], None),
        (("Tile", ["x", "t"], ["y"]), [constant("t", [1, 1 << 30, 1, 1])], None),
        (("Tile", ["x", "t"], ["y"]), [constant("t", [2, 1, 1, 1])], None),
        (("Tile", ["x", "t"], ["y"]), [constant("t", [1, 0, 1, 1])], None),
        (("Resize", ["x", "", "s"], ["y"], NEAREST), [constant("s", [1, 1, 1e9, 1e9], np.float32)], None),
        (("Resize", ["x", "", "s"], ["y"], NEAREST), [constant("s", [1, 1, 1.5, 1.5], np.float32)], None),
        (("Resize", ["x", "", "s"], ["y"], NEAREST), [constant("s", [1, 1, np.nan, 2], np.float32)], None),
        (("Resize", ["x", "", "s"], ["y"], NEAREST | {"mode": "linear"}), [constant("s", [1, 1, 2, 2], "f4")], None),
        (("Reshape", ["x", "s"], ["y"]), [constant("s", [-1, 512])], None),
        (("Reshape", ["x", "s"], ["y"]), [constant("s", [1, -1])], None),
        (("Reshape", ["x", "s"], ["y"]), [constant("s", [-1, 0])], None),
        (("Transpose", ["x"], ["y"], {"perm": [1, 0, 2, 3]}), [], None),
        (("Transpose", ["x"], ["y"], {"perm": [0, 1, 1, 3]}), [], None),
        (("Concat", ["x", "x"], ["y"], {"axis": 0}), [], None),
        (("DepthToSpace", ["x"], ["y"], {"blocksize": 1 << 20, "mode": "CRD"}), [], None),
        (("Slice", ["x", "a", "b", "b"], ["y"]), [constant("a", [0]), constant("b", [9])], None),
        (("Slice", ["x", "a", "b", "a"], ["y"]), [constant("a", [0]), constant("b", [1])], None),
        (("Gather", ["t", "x"], ["y"]), [constant("t", range(9), np.float32)], ROWS),
        (("Cast", ["x"], ["y"], {"to": 7}), [], ROWS),
        (("Cast", ["x"], ["y"], {"to": 10}), [], ROWS),
        (("Clip", ["x", "zero", "half"], ["y"]), [ZERO, HALF], ROWS),
        (("Clip", ["x", "half", "half"], ["y"]), [HALF], ROWS),
        (("Add", ["x", "c"], ["y"]), [constant("c", np.inf, np.float32)], ROWS),
        (("Add", ["x", "c"], ["y"]), [constant("c", 2.0**-70, np.float32)], ROWS),
        (("Floor", ["x"], ["y"]), [], ("n", 1 << 25)),
        (("Floor", ["x"], ["y"]), [], ("q", 4)),
        (("Floor", ["x"], ["y"]), [], (1, 4)),
        (("Floor", ["x"], ["anchors"]), [], ROWS),
    ],
)
def test_what_smalti_never_does_is_refused(node, constants, x):
    with pytest.raises(
        ValueError, match=r"network|operator|tensor|prove|inputs|input|takes|not|could|Add|Clip|weights"
    ):
        prove([node], constants, x or ("n", 4, 8, 8))


def test_a_look_behind_the_end_of_a_table_is_refused():
    nodes = [("Cast", ["x"], ["i"], {"to": 7}), ("Gather", ["t", "i"], ["y"])]
    prove(nodes, [constant("t", range(256), np.float32)], ROWS)
    with pytest.raises(ValueError, match="behind the end"):
        prove(nodes, [constant("t", range(255), np.float32)], ROWS)


def test_chains_that_double_are_refused():
    doubling = [("Concat", [f"x{i}" if i else "x"] * 2, [f"x{i + 1}"], {"axis": 1}) for i in range(40)]
    with pytest.raises(ValueError, match="too large"):
        prove([*doubling, ("Floor", ["x40"], ["y"])])
    growing = [("Add", [f"x{i}" if i else "x"] * 2, [f"x{i + 1}"]) for i in range(40)]
    with pytest.raises(ValueError, match="beyond the 16777216"):
        prove([*growing, ("Floor", ["x40"], ["y"])])
    weights = [("Mul", ["c" if i == 0 else f"x{i}", "c"], [f"x{i + 1}"]) for i in range(40)]
    with pytest.raises(ValueError, match="weights"):
        prove([*weights, ("Floor", ["x"], ["y"])], [constant("c", np.ones(1 << 20), np.int8)])


def test_much_work_in_small_tensors_is_refused():
    w = constant("w", np.zeros((512, 512)), np.int8)
    nodes = [("Cast", ["w"], ["m"], {"to": 1})]
    nodes += [("MatMul", [f"x{i}" if i else "r", "m"], [f"x{i + 1}"]) for i in range(4)]
    reshape = ("Reshape", ["x", "s"], ["r"])
    with pytest.raises(ValueError, match="too large"):
        prove([reshape, *nodes, ("Floor", ["x4"], ["y"])], [w, constant("s", [-1, 512])], ("n", 1 << 14, 1 << 10))


def test_an_image_alone_decides_what_comes_of_it():
    """Of tensors of several rows an image none meets one of another number of rows."""
    nodes = [("Reshape", ["x", "s"], ["a"]), ("Reshape", ["x", "t"], ["b"]), ("Add", ["a", "b"], ["y"])]
    with pytest.raises(ValueError, match="not used"):
        prove(nodes, [constant("s", [-1, 4]), constant("t", [-1, 1])], ROWS)


def test_networks_of_the_encoder_may_round_but_not_grow():
    def sizes(kind: str, **attributes) -> None:
        graph = read_onnx(write(network([(kind, ["x"], ["y"], attributes)], x=("n", 4, 8, 8))))
        infer(graph, *fold(graph), {"n": 1}, exact=False)

    sizes("Relu")
    sizes("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    with pytest.raises(ValueError, match="not used"):
        sizes("MaxPool", kernel_shape=[1 << 20] * 2, strides=[1, 1])
    with pytest.raises(ValueError, match="no rule to prove Softmax harmless"):
        sizes("Softmax")


def retouched(data: bytes, change) -> bytes:
    model = onnx.load_model_from_string(data)
    change(model.graph)
    return model.SerializeToString()


def wide_open(graph) -> None:
    """Its last ceiling is a million."""
    ceilings = [t for t in graph.initializer if numpy_helper.to_array(t).tolist() in (255, 1023)]
    ceilings[-1].CopyFrom(numpy_helper.from_array(np.float32(1e6), ceilings[-1].name))


def negative(graph) -> None:
    """It forgets its last Clip."""
    clips = [node for node in graph.node if node.op_type == "Clip"]
    clips[-1].op_type, clips[-1].input[1:] = "Floor", []


def renamed(graph) -> None:
    for node in graph.node:
        node.input[:] = ["a" if name == "anchors" else name for name in node.input]
    next(port for port in graph.input if port.name == "anchors").name = "a"


def dropped(graph) -> None:
    """It takes one latent more than there are."""
    graph.input[0].type.tensor_type.shape.dim[1].dim_value += 1


@pytest.mark.parametrize("network_name", [FEATURES, SYNTHESIS])
@pytest.mark.parametrize("change", [wide_open, negative, renamed, dropped])
def test_a_bundle_with_another_network_is_refused_before_it_runs(toy, network_name, change):
    data = bundle_bytes(toy)
    assert parse_bundle(data, trusted=False).id == toy.id
    networks = toy.networks | {network_name: retouched(toy.networks[network_name], change)}
    with pytest.raises(ModelError, match=network_name):
        parse_bundle(bundle_bytes(replace(toy, networks=networks)), trusted=False)


def test_a_network_of_the_encoder_is_checked_too(toy):
    networks = toy.networks | {ANALYSIS: write(network([("Softmax", ["x"], ["y"])]))}
    with pytest.raises(ModelError, match=r"analysis.onnx: no rule to prove Softmax harmless"):
        parse_bundle(bundle_bytes(replace(toy, networks=networks)), trusted=False)


def test_a_post_filter_for_images_of_one_size_is_refused(model):
    def cut(graph) -> None:
        graph.initializer.append(constant("cut", [-1, 4, 64, 64]))
        graph.node[-1].CopyFrom(helper.make_node("Reshape", [graph.node[-1].input[0], "cut"], ["result1"]))

    networks = model.networks | {POST_FILTER: retouched(model.networks[POST_FILTER], cut)}
    with pytest.raises(ModelError, match=r"dequantiser.onnx: Reshape"):
        parse_bundle(bundle_bytes(replace(model, networks=networks)), trusted=False)


def test_a_bundle_for_decoding_alone_is_checked_too(model):
    assert parse_bundle(decoding_bytes(model), trusted=False).id == model.id
