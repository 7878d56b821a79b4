"""Reading networks without the onnx package: the same as with it, and nothing else than what smalti writes."""

import tracemalloc

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper
from onnx_networks import FEW, network, write

import smalti
from smalti.model.proof.onnx_reader import MAX_FIELDS, MAX_NODES, Graph, read_onnx

SMALL = write(network([FEW, ("Add", ["y", "c"], ["z"])], [numpy_helper.from_array(np.ones((2, 3), np.int8), "c")]))


@pytest.mark.parametrize("name", ["mnist", "fashion", "mnist-autoencoder"])
def test_it_reads_what_the_onnx_package_reads(name):
    for data in smalti.load_model(name).networks.values():
        graph, known = read_onnx(data), onnx.load_model_from_string(data).graph
        assert list(graph.inputs) == [port.name for port in known.input]
        for port in known.input:
            dims = port.type.tensor_type.shape.dim
            assert graph.inputs[port.name] == tuple(dim.dim_param or dim.dim_value for dim in dims)
        assert graph.outputs == tuple(port.name for port in known.output)
        assert list(graph.constants) == [tensor.name for tensor in known.initializer]
        for tensor in known.initializer:
            values = numpy_helper.to_array(tensor)
            mine = graph.constants[tensor.name]
            assert (mine.dtype, mine.shape) == (values.dtype, values.shape)
            assert (mine == values).all()
        assert len(graph.nodes) == len(known.node)
        for mine, node in zip(graph.nodes, known.node, strict=True):
            assert (mine.kind, mine.inputs, mine.outputs) == (node.op_type, tuple(node.input), tuple(node.output))
            values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            plain = {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}
            assert mine.attributes == {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.int16, np.int64])
def test_constants_are_read_from_raw_and_from_typed_fields(dtype):
    values = np.array([[-3, 0, 1], [5, 2, 7]]).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    for tensor in (numpy_helper.from_array(values, "c"), helper.make_tensor("c", kind, [2, 3], values)):
        constants = read_onnx(write(network(constants=[tensor]))).constants
        assert constants["c"].dtype == dtype
        assert (constants["c"] == values).all()


def external() -> onnx.TensorProto:
    tensor = TensorProto(name="c", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def changed(**fields) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "c")
    for name, value in fields.items():
        if isinstance(value, list):
            tensor.ClearField(name)
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    return tensor


def nodes_with(**fields) -> onnx.ModelProto:
    model = network()
    for name, value in fields.items():
        setattr(model.graph.node[0], name, value)
    return model


SUBGRAPH = helper.make_graph([], "inner", [], [])
FUNCTION = helper.make_function("smalti", "F", ["x"], ["y"], [], [helper.make_opsetid("", 17)])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (network(constants=[external()]), "field of number 13 in a constant"),
        (network(constants=[changed(dims=[1 << 62])]), "16 bytes for"),
        (network(constants=[changed(dims=[-4])]), "16 bytes for"),
        (network(constants=[changed(dims=[0])]), "empty"),
        (network(constants=[changed(dims=[1] * 9 + [4])]), "more than 8 dimensions"),
        (network(constants=[changed(data_type=8)]), "no known type"),
        (network(constants=[changed(float_data=[1.0])]), "no known type"),
        (network(constants=[changed(), changed()]), "two tensors of one name"),
        (network(constants=[helper.make_tensor("c", 3, [1], [1])] * 600), "more than 512"),
        (network([FEW] * (MAX_NODES + 1)), "more than 512 operators"),
        (network([("If", ["x"], ["y"], {"then_branch": SUBGRAPH})]), "field of number 6 in a attribute"),
        (network([("Floor", ["x"], ["y"], {"a": [1.5, 2.5]})]), "field of number 7 in a attribute"),
        (network(functions=[FUNCTION]), "field of number 25 in a model"),
        (nodes_with(domain="com.microsoft"), "another domain"),
        (network(opset_imports=[helper.make_opsetid("", 18)]), "operators"),
        (network(opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]), "operators"),
        (network(ir_version=9), "version 9"),
        (network(constants=[helper.make_tensor("c", 7, [200_000], range(200_000))]), f"more than {MAX_FIELDS} fields"),
    ],
)
def test_what_smalti_never_writes_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        read_onnx(write(model))


def test_a_second_graph_is_refused_and_not_merged():
    model = network()
    with pytest.raises(ValueError, match="comes twice"):
        read_onnx(write(model) + onnx.ModelProto(graph=model.graph).SerializeToString())


def test_nonsense_is_refused():
    for data in (b"", b"\x80" * 20, b"\x08" + b"\xff" * 10, b"\x3a\xff\xff\xff\xff\x0f", b"\x0b" * 9, b"\0" * 9):
        with pytest.raises(ValueError, match="network"):
            read_onnx(data)


def test_every_prefix_is_refused():
    read_onnx(SMALL)
    for end in range(len(SMALL)):
        with pytest.raises(ValueError, match=r".+"):
            read_onnx(SMALL[:end])


def test_flipped_bytes_are_refused_or_give_a_graph_in_little_memory():
    rng = np.random.default_rng(3)
    data = np.frombuffer(smalti.load_model("mnist").networks["dequantiser.onnx"], np.uint8)
    small = np.frombuffer(SMALL, np.uint8)
    tracemalloc.start()
    try:
        refused = 0
        for i in range(3000):
            changed = (data if i % 30 == 0 else small).copy()
            for at in rng.integers(0, len(changed), rng.integers(1, 4)):
                changed[at] = rng.integers(0, 256)
            try:
                assert isinstance(read_onnx(changed.tobytes()), Graph)
            except ValueError:
                refused += 1
        assert refused > 1000
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
