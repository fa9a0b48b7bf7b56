"""TFLite files answer as ONNX Runtime does, are run by fast kernels, and say what they hold."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from vitpareto.cost_models import Device
from vitpareto.cost_models.graphs import files
from vitpareto.cost_models.graphs.files import converted, unit_file
from vitpareto.cost_models.graphs.modules import build, input_shape, network
from vitpareto.cost_models.graphs.quantize import stored_by_recipe
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.runtime_spec import find_runtime
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.cost_models.tflite import operators
from vitpareto.cost_models.tflite.convert import to_tflite
from vitpareto.cost_models.tflite.reading import read_file
from vitpareto.cost_models.tflite.view import View, plainly, regrouped
from vitpareto.cost_models.units.unit import parse_unit
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import CostError

from ...shared import STAND_INS, slow_but
from ..graph_cases import (
    CASES,
    EXAMPLES,
    HYBRID,
    ISOTROPIC,
    RANDOM,
    check_sizes,
    check_timed,
    example,
    graph_of,
    node,
    padding_themselves,
    weights_of,
    whole,
)

pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.onnx
LITERT = Device.load("cpu-litert")


PICKING = ("banded", "halo", "focal")  # tokens by their places
# Kernels of one channel have no bits, and pooling and norms no weights that could.
UNROUNDED = ("depthwise", "depthwise_residual", "pool_scaled", "norm2d")


@pytest.mark.parametrize("kind", slow_but((*STAND_INS, "halo", "depthwise"), EXAMPLES))
@pytest.mark.parametrize("recipe", ["float", "dynamic8"])
def test_every_sub_block_converts(kind: str, recipe: str) -> None:
    """`unit_file` compares its answers; all but picking tokens runs in the kernels of XNNPACK."""
    model = example(kind)
    file = unit_file(LITERT, model, recipe, 1)
    kernels = open_runtime(LITERT).compile(file.content).kernels()
    plain = {name for name in kernels if name.startswith("plain")}
    assert plain == ({"plain GATHER:float32"} if kind in PICKING else set())
    integers = {name for name in kernels if name.endswith("int8")}
    assert bool(integers) == (recipe == "dynamic8" and kind not in UNROUNDED)


@pytest.mark.parametrize("preset", ["digits", "mobile_hybrid"])
def test_networks_answer_as_in_onnx_runtime(preset: str) -> None:
    """In batches of 2: `converted` raises where they do not."""
    for candidate in SearchSpace.from_yaml(preset).sample(2, 5):
        content = converted(LITERT, to_onnx(network(candidate), input_shape(candidate, 2)), {})
        compiled = open_runtime(LITERT).compile(content)
        assert tuple(compiled.input_shape) == input_shape(candidate, 2)


@pytest.mark.parametrize(("text", "count"), [(ISOTROPIC, 6), (HYBRID, 4)])
def test_whatever_a_space_holds_converts(text: str, count: int) -> None:
    """Stems, positions, mixers, norms, activations, reductions and pooling of all kinds."""
    for candidate in SearchSpace.from_text(text).sample(count, 3):
        assert converted(LITERT, to_onnx(network(candidate), input_shape(candidate, 1)), {})


@pytest.mark.parametrize("recipe", LITERT.recipes)
def test_recipes_store_and_compute_as_they_say(recipe: str) -> None:
    model = example("mlp")
    content = converted(LITERT, model, stored_by_recipe(model, recipe))
    stored = {"float": 32, "fp16": 16, "stored8": 8, "dynamic8": 8, "stored4": 4, "dynamic4": 4}
    weights = weights_of(model)
    assert len(content) == pytest.approx(weights * stored[recipe] / 8, rel=0.15)
    executed = open_runtime(LITERT).compile(content).kernels()
    spec = find_runtime(LITERT.runtime)
    assert spec.integers(executed) == (2 if recipe.startswith("dynamic") else 0)
    assert spec.rounds(executed) == recipe.startswith("dynamic")


def test_tokens_that_rounding_ranks_otherwise() -> None:
    """What is kept of a token reduction may differ; the conversion is right all the same."""
    unit = parse_unit(
        "mixer/softmax?norm=rms&act=relu&width=64&grid=8&tokens=64&kept=46&num_heads=4"
        "&head_dim=16&evit@dynamic8"
    )
    module, shape = build(unit.block)
    model = to_onnx(module, shape)
    assert any(node.op_type == "TopK" for node in model.graph.node)
    assert unit_file(LITERT, model, unit.recipe, 1).content


@pytest.mark.parametrize(
    ("kind", "chosen", "own"),
    [
        ("mlp/mlp", "routed=6", "mlp_hidden=16&{}"),
        ("mixer/softmax", "mixed=6", "num_heads=2&head_dim=16&routed_{}"),
    ],
)
@pytest.mark.parametrize("how", ["learned", "random"])
def test_chosen_tokens_are_put_back(kind: str, chosen: str, own: str, how: str) -> None:
    """Answers are compared by `unit_file`; of several images, places are refused by name."""
    around = "norm=rms&act=relu&width=32&grid=4"
    unit = parse_unit(f"{kind}?{around}&{chosen}&prefix=1&{own.format(how)}@float")
    module, shape = build(unit.block)
    assert unit_file(LITERT, to_onnx(module, shape), "float", 1).content
    if how == "learned":
        module, shape = build(unit.block, 2)
        with pytest.raises(CostError, match="that are computed has no conversion here"):
            unit_file(LITERT, to_onnx(module, shape), "float", 1)


def test_recipes_of_onnx_alone_are_refused() -> None:
    model = example("head")
    with pytest.raises(CostError, match="recipe 'static8' is for runtimes that read ONNX"):
        unit_file(LITERT, model, "static8", 1)


def test_sizes_add_up() -> None:
    check_sizes(LITERT)


def test_sub_blocks_are_timed_in_a_process_of_their_own() -> None:
    check_timed(LITERT)


def test_a_wrong_conversion_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found on the graph that was converted, in float and beside rounded activations."""
    model = example("mlp")
    monkeypatch.setitem(operators.OPERATORS, "Gelu", operators.OPERATORS["Relu"])
    for recipe in ("float", "dynamic8"):
        with pytest.raises(CostError, match=r"litert: the model answers .* is allowed"):
            converted(LITERT, model, stored_by_recipe(model, recipe))
    monkeypatch.setattr(files, "CLOSE", 1.0)
    converted(LITERT, model, {})


def test_an_unknown_operator_is_named() -> None:
    model = graph_of((1, 4), [helper.make_node("Det", ["x"], ["y"])], result=(1, 4))
    with pytest.raises(CostError, match="LiteRT: operator Det has no conversion"):
        to_tflite(model)
    steps = {name: np.array([value]) for name, value in (("a", 0), ("b", 4), ("c", 1), ("d", 2))}
    node = helper.make_node("Slice", ["x", "a", "b", "c", "d"], ["y"])
    with pytest.raises(CostError, match=r"operator Slice beside 'a' with steps \[2\] has no"):
        to_tflite(graph_of((1, 4), [node], steps, (1, 2)))


@pytest.mark.parametrize("model", padding_themselves())
def test_padding_that_follows_from_sizes_is_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(CostError, match=r"LiteRT: operator .* with padding by itself has no conv"):
        to_tflite(model)


@pytest.mark.parametrize("name", CASES)
def test_operators_one_by_one(name: str) -> None:
    shape, nodes, constants, result = CASES[name]
    converted(LITERT, graph_of(shape, nodes, constants, result), {})


def test_transposes_that_cancel_are_not_made() -> None:
    """A grid made of tokens and back, between convolutions that want channels last."""
    weight = RANDOM.standard_normal((8, 8, 1, 1)).astype(np.float32)
    nodes = [
        node("Transpose", "x", "a", perm=[0, 2, 1]),
        node("Reshape", "a grid", "b"),
        node("Conv", "b w", "c", kernel_shape=[1, 1]),
        node("Reshape", "c row", "d"),
        node("Transpose", "d", "y", perm=[0, 2, 1]),
    ]
    constants = {"w": weight, "grid": whole(1, 8, 4, 4), "row": whole(1, 8, 16)}
    content = converted(LITERT, graph_of((1, 16, 8), nodes, constants, (1, 16, 8)), {})
    assert Counter(o.kind for o in read_file(content).operators) == {"RESHAPE": 2, "CONV_2D": 1}


def test_reshaped_where_nothing_is_in_the_way() -> None:
    """Axes that stay together keep their place; the others have to move first."""
    image = View(0, (2, 8, 8, 3), (0, 2, 3, 1))
    assert image.shape == (2, 3, 8, 8)
    assert regrouped(image, (2, 3, 64)) == ((2, 64, 3), (0, 2, 1))
    assert regrouped(image, (6, 64)) is None  # images and channels are not neighbors
    assert regrouped(plainly(0, (4, 6)), (2, 2, 1, 6)) == ((2, 2, 1, 6), (0, 1, 2, 3))
    rows = np.arange(24).reshape(2, 3, 4)
    for axes in ((0, 1, 2), (1, 0, 2), (2, 0, 1), (2, 1, 0)):
        lying = View(0, tuple(rows.shape[a] for a in axes), axes)
        for shape in ((6, 4), (2, 12), (24,), (2, 3, 2, 2), (2, 1, 3, 4), (3, 8)):
            fitting = regrouped(lying, shape)
            if fitting is not None:
                lies, order = fitting
                moved = rows.transpose(axes).reshape(lies)
                assert (moved.transpose(np.argsort(order)) == rows.reshape(shape)).all()


def test_a_file_says_what_it_holds() -> None:
    model = example("mlp")
    about = {"key": '"a"', "class_names": '["ü"]'}
    file = read_file(to_tflite(model, stored_by_recipe(model, "dynamic4"), about))
    assert file.about == about and not file.external
    assert Counter(tensor.kind for tensor in file.tensors)["int4"] == 2
    named = {tensor.name for tensor in file.tensors if tensor.name}
    assert {"module.mlp.fc1.weight", "module.mlp.fc2.weight", "images"} <= named
    for content in (b"", b"no model" * 9, b"\x00" * 4 + b"TFL3" + b"\xff" * 64):
        with pytest.raises(CostError, match="TFLite file"):
            read_file(content)


def test_images_that_lie_as_the_file_has_them() -> None:
    """Channels first for the caller, wherever they are in memory."""
    module = torch.nn.Conv2d(3, 4, 3)
    model = to_onnx(module.eval(), (2, 3, 8, 8))
    compiled = open_runtime(LITERT).compile(converted(LITERT, model, {}))
    x = RANDOM.standard_normal((2, 3, 8, 8)).astype(np.float32)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert compiled.input_shape == [2, 3, 8, 8] and compiled.run(x).shape == (2, 4, 6, 6)
    assert (compiled.run(x) == compiled.run(last)).all()
    with torch.no_grad():
        assert np.abs(compiled.run(x) - module(torch.from_numpy(x)).numpy()).max() < 1e-5


def test_threads_are_those_of_the_device() -> None:
    assert LITERT.clock == "thread" and replace(LITERT, threads=2).clock == "wall"
