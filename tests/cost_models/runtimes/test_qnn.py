"""Graphs for Qualcomm's NPUs answer on their emulator as ONNX Runtime does, in float16."""

import subprocess
import sys

import numpy as np
import onnx
import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.graphs.files import REFERENCE, check_answers, converted
from vitpareto.cost_models.graphs.modules import build, input_shape, network
from vitpareto.cost_models.graphs.quantize import stored_by_recipe
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.measure.capabilities import examples
from vitpareto.cost_models.runtimes import available, open_runtime
from vitpareto.cost_models.runtimes.qnn import CHIPS, QnnRuntime
from vitpareto.cost_models.runtimes.qnn_integers import static_integers
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import CostError

from ...shared import needs_runtime
from ..graph_cases import CASES, HYBRID, graph_of, node

pytestmark = pytest.mark.onnx
NPU = Device("npu", "qnn", "sm8650", 1, ("float", "stored8"))
SMALL = graph_of(*CASES["relu whose input is read twice"])


@pytest.fixture(autouse=True, scope="module")
def installed() -> None:
    needs_runtime("qnn")


def test_a_sub_block_and_a_network_convert() -> None:
    module, shape = build(examples()["mlp"])
    model = to_onnx(module, shape)
    kernels = open_runtime(NPU).compile(converted(NPU, model, {})).kernels()
    assert {name.partition(":")[2] for name in kernels} == {"float16"}
    converted(NPU, model, stored_by_recipe(model, "stored8"))
    (candidate,) = SearchSpace.from_text(HYBRID).sample(1, 3)
    converted(NPU, to_onnx(network(candidate), input_shape(candidate, 1)), {})


def test_all_of_a_graph_in_integers() -> None:
    """The NPU runs it alone, and answers as ONNX Runtime does with the same integers."""
    module, shape = build(examples()["softmax"])
    model = to_onnx(module, shape)
    images = np.random.default_rng(0).standard_normal((4, *shape[1:])).astype(np.float32)
    integers = static_integers(model, images)
    types = {tensor.data_type for tensor in integers.graph.initializer}
    assert {onnx.TensorProto.UINT8, onnx.TensorProto.UINT16} <= types
    content = integers.SerializeToString()
    assert len(content) < 0.35 * len(model.SerializeToString())
    check_answers(NPU, content)
    compiled = open_runtime(NPU).compile(content)
    kernels = compiled.kernels()
    assert {name.partition(":")[2] for name in kernels} == {"integers"}
    wanted = open_runtime(REFERENCE).compile(model).run(images[:1])
    assert np.abs(compiled.run(images[:1]) - wanted).max() < 0.03 * np.abs(wanted).max()


@pytest.mark.parametrize("chip", CHIPS)
def test_the_binary_of_a_chip_answers_alike(chip: str) -> None:
    """It is one node with the compiled graph inside, which ONNX Runtime opens."""
    runtime = open_runtime(Device("npu", "qnn", chip, 1, ("float",)))
    assert isinstance(runtime, QnnRuntime)
    content = runtime.convert(SMALL, {}, {})
    binary = runtime.binary(content)
    nodes = onnx.load_model_from_string(binary).graph.node
    assert [n.op_type for n in nodes] == ["EPContext"]
    x = np.random.default_rng(0).standard_normal((1, 4, 3)).astype(np.float32)
    assert np.array_equal(runtime.compile(binary).run(x), runtime.compile(content).run(x))
    with pytest.raises(CostError, match=r"^QNN refuses the graph: "):
        runtime.compile(content).run(x[:, :2])


def test_what_the_processor_would_have_to_do_is_named() -> None:
    graph = graph_of((1, 3, 3), [node("Det", "x", "y")], {}, (1,))
    with pytest.raises(CostError, match=r"^QNN: the NPU has no operator Det"):
        converted(NPU, graph, {})


def test_a_wrong_answer_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    other = graph_of((2, 3, 4), [node("Tanh", "x", "y")], {}, (2, 3, 4))
    graph = graph_of((2, 3, 4), [node("Relu", "x", "y")], {}, (2, 3, 4))
    monkeypatch.setattr(QnnRuntime, "convert", lambda *_: other.SerializeToString())
    with pytest.raises(CostError, match=r"^qnn: the model answers .* 0\.03 is allowed$"):
        converted(NPU, graph, {})


def test_an_unknown_chip_is_refused() -> None:
    words = "device 'x': provider: no such chip 'sm1'. Known: sm8550, sm8650, sm8750, sc8380xp."
    assert available(Device("x", "qnn", "sm1", 1, ("float",))) == words


def test_it_prints_nothing_where_results_are_expected() -> None:
    code = """
import sys
from vitpareto.cost_models import Device
from vitpareto.cost_models.runtimes import open_runtime
model = open_runtime(Device("npu", "qnn", "sm8650", 1, ())).compile(sys.stdin.buffer.read())
print(model.input_shape)
"""
    command, given = [sys.executable, "-c", code], SMALL.SerializeToString()
    assert subprocess.run(command, input=given, capture_output=True).stdout == b"[1, 4, 3]\n"


def test_nothing_is_timed() -> None:
    with pytest.raises(CostError, match=r"^device 'npu': qnn does not run here, where it has the"):
        Bench(NPU)
