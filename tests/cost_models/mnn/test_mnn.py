"""Files of MNN answer as ONNX Runtime does, or are refused: its converter is not ours."""

import subprocess
import sys

import numpy as np
import onnx
import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.graphs.files import REFERENCE, converted, unit_file
from vitpareto.cost_models.graphs.modules import build, input_shape, network
from vitpareto.cost_models.graphs.quantize import stored_by_recipe
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.mnn.convert import to_mnn
from vitpareto.cost_models.mnn.exact_gelu import exact_gelu
from vitpareto.cost_models.mnn.fields import about_of
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.cost_models.tables.anchors import SMALL
from vitpareto.cost_models.units.unit import Unit
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import CostError

from ...shared import needs_runtime
from ..graph_cases import CASES, HYBRID, ISOTROPIC, RANDOM, example, graph_of, node

pytestmark = pytest.mark.onnx
MNN = Device.load("cpu-mnn")
KINDS = ("performer", "halo", "cascaded", "fused_mbconv", "conv_next")  # not in the spaces below


@pytest.fixture
def installed() -> None:
    needs_runtime("mnn")


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_a_gelu_is_written_in_other_operators(approximate: str) -> None:
    graph = graph_of((1, 400), [node("Gelu", "x", "y", approximate=approximate)], {}, (1, 400))
    written = exact_gelu(graph)
    onnx.checker.check_model(written, full_check=True)
    assert not {"Gelu"} & {n.op_type for n in written.graph.node}
    x = np.linspace(-9, 9, 400, dtype=np.float32).reshape(1, 400)
    runtime = open_runtime(REFERENCE)
    wanted = runtime.compile(graph).run(x)
    assert np.abs(runtime.compile(written).run(x) - wanted).max() < 2e-6
    assert {n.op_type for n in graph.graph.node} == {"Gelu"}  # what was given stays as it is


@pytest.mark.parametrize("kind", KINDS)
def test_every_sub_block_converts(kind: str, installed: None) -> None:
    """`unit_file` compares its answers."""
    file = unit_file(MNN, example(kind), "float", 1)
    assert open_runtime(MNN).compile(file.content).kernels()


@pytest.mark.parametrize(("text", "count"), [(ISOTROPIC, 4), (HYBRID, 3)])
def test_whatever_a_space_holds_converts(text: str, count: int, installed: None) -> None:
    for batch, candidate in enumerate(SearchSpace.from_text(text).sample(count, 3), 1):
        graph = to_onnx(network(candidate), input_shape(candidate, batch))
        compiled = open_runtime(MNN).compile(converted(MNN, graph, {}))
        assert tuple(compiled.input_shape) == input_shape(candidate, batch)


def test_what_it_converts_wrong_is_not_believed(installed: None) -> None:
    """It takes an addition for a bias that is none, and says nothing."""
    with pytest.raises(CostError, match=r"^mnn: the model answers .* is allowed$"):
        converted(MNN, graph_of(*CASES["bias that is no bias"]), {})


def test_what_it_dies_of_is_one_line(installed: None) -> None:
    """This process goes on."""
    words = r"^MNN: the file that its converter made stops with SIG\w+$"
    with pytest.raises(CostError, match=words):
        converted(MNN, graph_of(*CASES["average that counts zeros around"]), {})


def test_what_it_does_not_know_is_named(installed: None) -> None:
    graph = graph_of((1, 4), [node("Nothing", "x c", "y")], {"c": np.float32([1])}, (1, 4))
    with pytest.raises(CostError, match=r"^MNN: operator Nothing beside 'c' has no conversion$"):
        to_mnn(graph)


def test_weights_are_rounded_and_integers_refused(installed: None) -> None:
    nodes = [node("MatMul", "x w", "a"), node("Gemm", "a v", "y", transB=1)]
    weights = {name: RANDOM.standard_normal((4, 4)).astype(np.float32) for name in "wv"}
    model = graph_of((1, 4), nodes, weights, (1, 4))
    converted(MNN, model, stored_by_recipe(model, "stored4"))  # which compares
    with pytest.raises(CostError, match=r"^MNN: layer 'w' is to multiply integers"):
        to_mnn(model, stored_by_recipe(model, "dynamic8"))


def test_a_file_says_what_it_is(installed: None) -> None:
    graph = graph_of(*CASES["relu whose input is read twice"])
    content = to_mnn(graph, {}, {"key": '"a"', "class_names": '["ü"]'})
    assert about_of(content) == {"key": "a", "class_names": ["ü"]}
    assert content == to_mnn(graph, {}, {"key": '"a"', "class_names": '["ü"]'})
    for cut in (b"", b"\xff" * 64, content[:80]):
        with pytest.raises(CostError, match="not a file of MNN"):
            about_of(cut)
        with pytest.raises(CostError, match="MNN refuses the file: not a file of MNN 3"):
            open_runtime(MNN).compile(cut)


def test_inputs_of_another_shape_are_refused(installed: None) -> None:
    """Of which MNN says nothing: it reads what is behind them."""
    compiled = open_runtime(MNN).compile(graph_of(*CASES["relu whose input is read twice"]))
    message = r"MNN refuses the graph: inputs are \[1, 2, 3\], the file takes \[1, 4, 3\]"
    with pytest.raises(CostError, match=message):
        compiled.run(RANDOM.standard_normal((1, 2, 3)).astype(np.float32))


def test_it_prints_nothing_where_results_are_expected(installed: None) -> None:
    code = """
from vitpareto.cost_models import Device
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.spaces.errors import CostError
open_runtime(Device.load("cpu-mnn"))
try:
    open_runtime(Device.load("cpu-mnn")).compile(b"no file")
except CostError:
    print("and that is all")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "and that is all\n", done.stderr


def test_sizes_add_up(installed: None) -> None:
    """But for what the converter folds in one copy and not in the next."""
    module, shape = build(SMALL[0])
    one, three = (unit_file(MNN, to_onnx(module, shape), "float", copies) for copies in (1, 3))
    assert three.body_bytes == pytest.approx(one.body_bytes, rel=0.05)


def test_sub_blocks_are_timed_in_a_process_of_their_own(installed: None) -> None:
    bench = Bench(MNN)
    graph = bench.unit(Unit(SMALL[0], "float"))
    rows = bench.time([graph], rounds=3)
    assert len(rows) == 1 and rows[0].median_ms > 0
    assert bench.footprint(graph).growth_mb > 0
