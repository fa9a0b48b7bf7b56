"""Exports are lean: constants are folded, nothing is left of training, no tensor is turned more."""

from collections import Counter

import numpy as np
import onnx
import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.graphs import to_onnx as exporting
from vitpareto.cost_models.graphs.modules import input_shape, network
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.spaces import SearchSpace

pytestmark = pytest.mark.onnx
STEPS = ("_unalias", "_fold_transposes", "without_idle")  # that change a graph in place
OF_TRAINING = ("Dropout", "Identity")


@pytest.fixture(scope="module", params=["digits", "cifar", "mobile_hybrid@64"])
def graphs(request: pytest.FixtureRequest) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A network as the exporter writes it, and as it is delivered."""
    (candidate,) = SearchSpace.from_yaml(request.param).sample(1, 2)
    built, shape = network(candidate), input_shape(candidate, 1)
    lean = exporting.to_onnx(built, shape)
    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(exporting, name, lambda graph: None)
        patch.setattr(exporting, "simplify", lambda model: model)
        raw = exporting.to_onnx(built, shape)
    return raw, lean


def constants(graph: onnx.GraphProto) -> set[str]:
    """What is known before a graph runs: its tensors, and what nodes make of these alone."""
    known = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if all(name in known for name in node.input if name):
            known |= {*node.output}
    return known - {tensor.name for tensor in graph.initializer}


def test_nothing_is_computed_that_is_known(graphs) -> None:
    raw, lean = (model.graph for model in graphs)
    assert constants(raw) and not constants(lean)
    assert len(lean.node) < 0.8 * len(raw.node)
    kinds = Counter(node.op_type for node in lean.node)
    assert not any(kinds[kind] for kind in OF_TRAINING), kinds


def test_the_answers_are_as_before(graphs) -> None:
    runtime = open_runtime(Device.load("cpu-1t"))
    raw, lean = (runtime.compile(model) for model in graphs)
    x = np.random.default_rng(0).standard_normal(lean.input_shape).astype(np.float32)
    wanted = raw.run(x)
    assert np.abs(lean.run(x) - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_no_tensor_is_turned_more_often(graphs) -> None:
    """Neither by the export nor by ONNX Runtime, which counts its own layouts apart."""
    raw, lean = (sum(node.op_type == "Transpose" for node in model.graph.node) for model in graphs)
    executed = open_runtime(Device.load("cpu-1t")).compile(graphs[1]).kernels()
    assert executed.get("Transpose", 0) <= lean <= raw
