"""What does nothing goes; what looks like it stays."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from vitpareto.cost_models import Device
from vitpareto.cost_models.graphs import to_onnx as exporting
from vitpareto.cost_models.graphs.idle_nodes import without_idle
from vitpareto.cost_models.graphs.modules import input_shape, network
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.spaces import Candidate, SearchSpace

pytestmark = pytest.mark.onnx


def graph_of(nodes: list[onnx.NodeProto], **constants: list[int]) -> onnx.ModelProto:
    """A graph from `x` to `y`, both (2, 3)."""
    kind = onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, kind, (2, 3)) for name in "xy"]
    tensors = [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "test", ends[:1], ends[1:], tensors)
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def left(model: onnx.ModelProto) -> list[str]:
    """Kinds of the nodes that stay, with the answers as before."""
    x, runtime = np.arange(6, dtype=np.float32).reshape(2, 3), open_runtime(Device.load("cpu-1t"))
    before = runtime.compile(model).run(x)
    without_idle(model)
    assert (runtime.compile(model).run(x) == before).all()
    return [node.op_type for node in model.graph.node]


def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def test_nodes_that_change_nothing() -> None:
    nodes = [
        node("Pad", "x zeros", "a"),
        node("Slice", "a first last axis step", "b"),
        node("Slice", "b first first axis step", "none"),
        node("Concat", "none b", "c", axis=1),
        node("Neg", "c", "y"),
    ]
    constants = {"zeros": [0] * 4, "first": [0], "last": [3], "axis": [1], "step": [1]}
    assert left(graph_of(nodes, **constants)) == ["Neg"]


def test_nodes_that_only_keep_the_shape() -> None:
    """Columns in reverse, and a shift by one: what is padded on one side is cut on the other."""
    back = [node("Slice", "x last first axis step", "a"), node("Neg", "a", "y")]
    constants = {"last": [-1], "first": [-9], "axis": [1], "step": [-1]}
    assert left(graph_of(back, **constants)) == ["Slice", "Neg"]
    shift = [node("Pad", "x around", "a"), node("Neg", "a", "y")]
    assert left(graph_of(shift, around=[0, 1, 0, -1])) == ["Pad", "Neg"]


def test_the_last_node_stays() -> None:
    """The name of the result is that of the graph."""
    assert left(graph_of([node("Pad", "x zeros", "y")], zeros=[0] * 4)) == ["Pad"]


def idle(model: onnx.ModelProto) -> list[str]:
    """Empty tensors, Pads of nothing, and Slices that keep everything."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    empty = [name for name, shape in shapes.items() if 0 in shape]
    same = [
        n.output[0]
        for n in inferred.node
        if n.op_type in ("Pad", "Slice") and shapes[n.input[0]] == shapes[n.output[0]]
    ]
    return empty + same


def drops_tokens(candidate: Candidate) -> bool:
    return any(block.token_keep < 1 for block in candidate.architecture.blocks())


def test_hybrids_that_drop_tokens_hold_nothing_idle() -> None:
    """They have no class token, so that their prefix is of no tokens; QNN and pnnx fail on it."""
    space = SearchSpace.from_yaml("mobile_hybrid@64")
    drawn = [*filter(drops_tokens, space.sample(30, 1))][:4]
    mixers = {block.mixer for c in drawn for block in c.architecture.blocks()}
    assert len(drawn) == 4 and {"window", "mbconv"} <= mixers
    for candidate in (space.largest(), *drawn):
        built, shape = network(candidate), input_shape(candidate, 1)
        assert idle(exporting.to_onnx(built, shape)) == []


def test_networks_hold_no_empty_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """And give the same answers as with what was removed."""
    runtime = open_runtime(Device.load("cpu-1t"))
    removed = 0
    for candidate in SearchSpace.from_yaml("digits").sample(2, 5):
        shape, built = input_shape(candidate, 1), network(candidate)
        lean = exporting.to_onnx(built, shape)
        with monkeypatch.context() as patch:
            patch.setattr(exporting, "without_idle", lambda model: None)
            full = exporting.to_onnx(built, shape)
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        assert (runtime.compile(lean).run(x) == runtime.compile(full).run(x)).all()
        values = onnx.shape_inference.infer_shapes(lean).graph.value_info
        shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in values]
        assert shapes and not any(0 in shape for shape in shapes)
        removed += len(full.graph.node) - len(lean.graph.node)
    assert removed > 0
