"""ML programs of Core ML compute what ONNX Runtime does, by the definitions of their operators."""

import io
import zipfile

import numpy as np
import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.coreml import operators
from vitpareto.cost_models.coreml.conversion import MOST
from vitpareto.cost_models.coreml.evaluate import evaluate
from vitpareto.cost_models.coreml.package import BLOB, FOLDER, MANIFEST, MODEL, read_program
from vitpareto.cost_models.graphs.files import converted, unit_file
from vitpareto.cost_models.graphs.modules import input_shape, network
from vitpareto.cost_models.graphs.quantize import stored_by_recipe
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import CostError

from ...shared import needs_runtime
from ..graph_cases import CASES, HYBRID, ISOTROPIC, RANDOM, example, graph_of, node, whole

pytestmark = pytest.mark.onnx
COREML = Device("phone", "coreml", "ALL", 1, ("float", "stored8"))
KINDS = ("performer", "halo", "focal", "cascaded", "conv_next")  # not in the spaces below


@pytest.fixture(autouse=True, scope="module")
def installed() -> None:
    needs_runtime("coreml")


@pytest.mark.parametrize("kind", KINDS)
def test_every_sub_block_converts(kind: str) -> None:
    model = example(kind)
    file = unit_file(COREML, model, "float", 1)  # which compares
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert open_runtime(COREML).compile(file.content).input_shape == shape


@pytest.mark.parametrize("case", CASES)
def test_graphs_of_note(case: str) -> None:
    converted(COREML, graph_of(*CASES[case]), {})


@pytest.mark.parametrize(("text", "count"), [(ISOTROPIC, 4), (HYBRID, 3)])
def test_whatever_a_space_holds_converts(text: str, count: int) -> None:
    """Windows of several images, which are moved in six axes, included."""
    for batch, candidate in enumerate(SearchSpace.from_text(text).sample(count, 3), 1):
        graph = to_onnx(network(candidate), input_shape(candidate, batch))
        program = read_program(converted(COREML, graph, {}))
        assert max(len(operation.shape) for operation in program.operations) <= MOST


def test_integers_are_kept_as_such() -> None:
    model = example("mlp")
    content = converted(COREML, model, stored_by_recipe(model, "stored8"))
    kinds = [operation.kind for operation in read_program(content).operations]
    assert kinds.count("constexpr_affine_dequantize") == kinds.count("linear") == 2
    assert len(content) < 0.4 * len(converted(COREML, model, {}))


def test_axes_that_it_has_not_are_refused_by_name() -> None:
    for many in (6, 8):  # in two steps, or not at all
        shape, turned = (2,) * many, tuple(reversed(range(many)))
        nodes = [node("Reshape", "x s", "a"), node("Transpose", "a", "b", perm=turned)]
        nodes.append(node("Reshape", "b t", "y"))
        constants = {"s": whole(*shape), "t": whole(2**many)}
        graph = graph_of((2**many,), nodes, constants, (2**many,))
        if many == 6:
            converted(COREML, graph, {})
            continue
        words = r"^Core ML: operator Transpose moves 8 axes; Core ML has 5$"
        with pytest.raises(CostError, match=words):
            converted(COREML, graph, {})
    shape = (2,) * 6
    nodes = [node("Reshape", "x s", "a"), node("Relu", "a", "b"), node("Reshape", "b t", "y")]
    constants = {"s": whole(*shape), "t": whole(8, 8)}
    with pytest.raises(CostError, match=r"^Core ML: operator Relu reads 6 axes; Core ML has 5"):
        converted(COREML, graph_of((8, 8), nodes, constants, (8, 8)), {})


def test_an_unknown_operator_is_named() -> None:
    graph = graph_of((1, 3, 3), [node("Det", "x", "y")], {}, (1,))
    with pytest.raises(CostError, match=r"^Core ML: operator Det has no conversion$"):
        converted(COREML, graph, {})


def test_a_wrong_conversion_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(operators.OPERATORS, "Relu", operators.OPERATORS["Tanh"])
    with pytest.raises(CostError, match=r"^coreml: the model answers .* is allowed$"):
        converted(COREML, graph_of(*CASES["relu whose input is read twice"]), {})


def test_a_file_says_what_it_is_and_whether_it_is_whole() -> None:
    graph = graph_of(*CASES["bias that is no bias"])
    runtime = open_runtime(COREML)
    content = runtime.convert(graph, {}, {"key": '"a"', "class_names": '["ü"]'})
    about = read_program(content).about
    assert (about["key"], about["class_names"]) == ('"a"', '["ü"]')
    assert content == runtime.convert(graph, {}, {"key": '"a"', "class_names": '["ü"]'})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert set(parts) == {f"{FOLDER}/{name}" for name in (BLOB, MANIFEST, MODEL)}
    for name, part in ((BLOB, b""), (BLOB, None), (MANIFEST, None), (MODEL, b"\xff")):
        kept = {n: c for n, c in parts.items() if n != f"{FOLDER}/{name}" or part is not None}
        kept |= {f"{FOLDER}/{name}": part} if part is not None else {}
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for each, held in kept.items():
                archive.writestr(each, held)
        with pytest.raises(CostError, match=r"Core ML refuses the file: not an archive with a wh"):
            runtime.compile(stream.getvalue())


def test_shapes_are_those_that_the_program_says() -> None:
    content = open_runtime(COREML).convert(graph_of(*CASES["hard swish"]), {}, {})
    x = RANDOM.standard_normal((1, 2, 4, 3)).astype(np.float32)
    with pytest.raises(CostError, match=r"^Core ML: \w+ '\w+' makes \[1, 2, 4, 3\], the program"):
        evaluate(read_program(content), x)


def test_nothing_is_timed() -> None:
    with pytest.raises(CostError, match=r"^device 'phone': coreml does not run here, where it has"):
        Bench(COREML)
