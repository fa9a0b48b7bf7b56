"""Programs of ExecuTorch answer as ONNX Runtime does, and run in XNNPACK's kernels."""

from collections import Counter

import pytest
from onnx import helper

from vitpareto.cost_models import Device
from vitpareto.cost_models.executorch import operators
from vitpareto.cost_models.executorch.convert import to_executorch
from vitpareto.cost_models.executorch.reading import LINEAR, read_file
from vitpareto.cost_models.graphs.files import converted, unit_file
from vitpareto.cost_models.graphs.modules import input_shape, network
from vitpareto.cost_models.graphs.quantize import stored_by_recipe
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.runtime_spec import find_runtime
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import CostError

from ...shared import STAND_INS, slow_but
from ..graph_cases import (
    CASES,
    EXAMPLES,
    HYBRID,
    ISOTROPIC,
    check_timed,
    example,
    graph_of,
    weights_of,
)

pytest.importorskip("executorch")
pytestmark = pytest.mark.onnx
EXECUTORCH = Device.load("cpu-executorch")
WITHOUT = {"performer": ": operator REDUCE_MAX has no conversion"}  # sub-blocks, and why
REFUSED = {"mean over all, and a maximum": "REDUCE_MAX"}  # of the cases, and for what


@pytest.mark.parametrize("kind", slow_but((*STAND_INS, "performer"), EXAMPLES))
@pytest.mark.parametrize("recipe", ["float", "dynamic8"])
def test_every_sub_block_converts(kind: str, recipe: str) -> None:
    """`unit_file` compares its answers; layers with weights multiply integers where they are."""
    model = example(kind)
    if kind in WITHOUT:
        with pytest.raises(CostError, match=f"ExecuTorch{WITHOUT[kind]}"):
            unit_file(EXECUTORCH, model, recipe, 1)
        return
    file = unit_file(EXECUTORCH, model, recipe, 1)
    kernels = open_runtime(EXECUTORCH).compile(file.content).kernels()
    integers = find_runtime(EXECUTORCH.runtime).integers(kernels)
    nodes = read_file(file.content).nodes
    assert integers == sum(node.integers for node in nodes)
    dense = any(node.kind in LINEAR for node in nodes)
    assert (integers > 0) == (dense and recipe == "dynamic8")


@pytest.mark.parametrize(("text", "count"), [(ISOTROPIC, 6), (HYBRID, 4)])
@pytest.mark.parametrize("batch", [1, 2])
def test_whatever_a_space_holds_converts(text: str, count: int, batch: int) -> None:
    """Tokens that are ranked, windows and grids included."""
    for candidate in SearchSpace.from_text(text).sample(count, 3):
        graph = to_onnx(network(candidate), input_shape(candidate, batch))
        compiled = open_runtime(EXECUTORCH).compile(converted(EXECUTORCH, graph, {}))
        assert tuple(compiled.input_shape) == input_shape(candidate, batch)


@pytest.mark.parametrize("name", CASES)
def test_operators_one_by_one(name: str) -> None:
    shape, nodes, constants, result = CASES[name]
    graph = graph_of(shape, nodes, constants, result)
    if name not in REFUSED:
        converted(EXECUTORCH, graph, {})
    else:
        with pytest.raises(CostError, match=REFUSED[name]):
            converted(EXECUTORCH, graph, {})


def test_recipes_store_and_compute_as_they_say() -> None:
    model = example("mlp")
    weights = weights_of(model)
    for recipe, size in (("float", 4), ("dynamic8", 1)):
        content = converted(EXECUTORCH, model, stored_by_recipe(model, recipe))
        assert len(content) == pytest.approx(weights * size, rel=0.15)
        executed = open_runtime(EXECUTORCH).compile(content).kernels()
        assert find_runtime("executorch").rounds(executed) == (recipe == "dynamic8")


def test_sub_blocks_are_timed_in_a_process_of_their_own() -> None:
    check_timed(EXECUTORCH)


@pytest.mark.parametrize("recipe", ["float", "dynamic8"])
def test_a_wrong_conversion_is_not_believed(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = example("mlp")
    monkeypatch.setitem(operators.OPERATORS, "GELU", operators.OPERATORS["RELU"])
    with pytest.raises(CostError, match=r"executorch: the model answers .* is allowed"):
        converted(EXECUTORCH, model, stored_by_recipe(model, recipe))


def test_an_unknown_operator_is_named() -> None:
    model = graph_of((1, 4), [helper.make_node("Det", ["x"], ["y"])], result=(1, 4))
    with pytest.raises(CostError, match="ExecuTorch: operator Det has no conversion"):
        to_executorch(model)


def test_a_file_says_what_it_holds() -> None:
    model = example("mlp")
    content = to_executorch(model, {}, {"key": '"a"', "class_names": '["ü"]'})
    file = read_file(content)
    assert file.about == {"key": "a", "class_names": ["ü"]}
    assert Counter(node.weights for node in file.nodes)["float32"] >= 2
    assert content == to_executorch(model, {}, {"key": '"a"', "class_names": '["ü"]'})
    for cut in (content[:-1], content[:100], b"garbage" * 9):
        with pytest.raises(CostError):
            read_file(cut)
        with pytest.raises(CostError, match="ExecuTorch refuses the file: "):
            open_runtime(EXECUTORCH).compile(cut)
