"""Files of ncnn answer as ONNX Runtime does, and hold what they say."""

import io
import itertools
import zipfile
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import helper

from vitpareto.cost_models import Device
from vitpareto.cost_models.graphs.files import REFERENCE, converted, unit_file
from vitpareto.cost_models.graphs.modules import build, input_shape, network
from vitpareto.cost_models.graphs.quantize import stored_by_recipe
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.ncnn import operators
from vitpareto.cost_models.ncnn.axes import MOST
from vitpareto.cost_models.ncnn.convert import to_ncnn
from vitpareto.cost_models.ncnn.reading import read_file
from vitpareto.cost_models.ncnn.turning import in_steps
from vitpareto.cost_models.runtime_spec import find_runtime
from vitpareto.cost_models.runtimes import open_runtime
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

pytest.importorskip("ncnn")
pytestmark = pytest.mark.onnx
NCNN = Device.load("cpu-ncnn")


WINDOWED = "cascaded_window"  # convolutions of many windows at once, which ncnn has not


def test_convolutions_inside_windows_are_refused() -> None:
    with pytest.raises(CostError, match=r"ncnn: .* cannot be reshaped"):
        unit_file(NCNN, example(WINDOWED), "float", 1)


@pytest.mark.parametrize("kind", slow_but(STAND_INS, (k for k in EXAMPLES if k != WINDOWED)))
@pytest.mark.parametrize("recipe", ["float", "dynamic8"])
def test_every_sub_block_converts(kind: str, recipe: str) -> None:
    """`unit_file` compares its answers; linear layers multiply integers, convolutions floats."""
    model = example(kind)
    file = unit_file(NCNN, model, recipe, 1)
    kernels = open_runtime(NCNN).compile(file.content).kernels()
    linear = sum(kernels.get(f"Gemm:{kind}", 0) for kind in ("int8", "float32"))
    assert kernels.get("Gemm:int8", 0) == (linear if recipe == "dynamic8" else 0)


@pytest.mark.parametrize(("text", "count"), [(ISOTROPIC, 6), (HYBRID, 4)])
def test_whatever_a_space_holds_converts(text: str, count: int) -> None:
    """Tokens that are ranked, windows and grids, which need more axes than ncnn has, included."""
    for place, candidate in enumerate(SearchSpace.from_text(text).sample(count, 3)):
        batch = 1 + place % 2
        graph = to_onnx(network(candidate), input_shape(candidate, batch))
        compiled = open_runtime(NCNN).compile(converted(NCNN, graph, {}))
        assert tuple(compiled.input_shape) == input_shape(candidate, batch)


DROPPED = (
    "mixer/softmax?norm=layer&act=gelu&width=32&grid=4&tokens=16&kept=6&num_heads=2"
    "&head_dim=16&evit@float"
)
ROUTED = "mlp/mlp?norm=layer&act=gelu&width=32&grid=4&routed=6&prefix=1&mlp_hidden=16&{}@float"
MIXED = (
    "mixer/softmax?norm=layer&act=gelu&width=32&grid=4&mixed=6&prefix=1&num_heads=2&head_dim=16"
    "&routed_learned@float"
)


@pytest.mark.parametrize(
    ("key", "operator"),
    [
        (DROPPED, "GatherElements"),
        (ROUTED.format("learned"), "ScatterND"),
        (ROUTED.format("random"), "ScatterND"),
        (MIXED, "ScatterND"),
    ],
)
def test_equal_tokens_keep_their_order(key: str, operator: str) -> None:
    """By layers that compare them all; the first of equal ones is kept, as in ONNX Runtime."""
    module, shape = build(parse_unit(key).block)
    graph = to_onnx(module, shape)
    assert operator in {node.op_type for node in graph.graph.node}
    compiled = open_runtime(NCNN).compile(converted(NCNN, graph, {}))
    wanted = open_runtime(REFERENCE).compile(graph)
    x = RANDOM.standard_normal(shape).astype(np.float32)
    x[:, 3:9] = x[:, 12:] = x[:, :1]
    assert np.abs(compiled.run(x) - wanted.run(x)).max() < 1e-5
    x[:] = 0
    assert np.abs(compiled.run(x) - wanted.run(x)).max() < 1e-5


@pytest.mark.parametrize("recipe", NCNN.recipes)
def test_recipes_store_and_compute_as_they_say(recipe: str) -> None:
    model = example("mlp")
    content = converted(NCNN, model, stored_by_recipe(model, recipe))
    bits = {"float": 32, "fp16": 16, "stored8": 8, "dynamic8": 8}[recipe]
    weights = weights_of(model)
    assert len(content) == pytest.approx(weights * bits / 8, rel=0.15)
    kinds = {"float": "float32", "fp16": "float16", "stored8": "int8 table", "dynamic8": "int8"}
    stored = [layer.weights for layer in read_file(content).layers if layer.kind == "Gemm"]
    assert stored == [kinds[recipe]] * 2
    executed = open_runtime(NCNN).compile(content).kernels()
    spec = find_runtime(NCNN.runtime)
    assert spec.integers(executed) == (2 if recipe == "dynamic8" else 0)
    assert spec.rounds(executed) == (recipe == "dynamic8")


def test_sizes_add_up() -> None:
    check_sizes(NCNN)


def test_sub_blocks_are_timed_in_a_process_of_their_own() -> None:
    check_timed(NCNN)


@pytest.mark.parametrize("recipe", ["float", "dynamic8"])
def test_a_wrong_conversion_is_not_believed(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = example("mlp")
    monkeypatch.setitem(operators.OPERATORS, "Gelu", operators.OPERATORS["Relu"])
    with pytest.raises(CostError, match=r"ncnn: the model answers .* is allowed"):
        converted(NCNN, model, stored_by_recipe(model, recipe))


def test_an_unknown_operator_is_named() -> None:
    model = graph_of((1, 4), [helper.make_node("Det", ["x"], ["y"])], result=(1, 4))
    with pytest.raises(CostError, match="ncnn: operator Det has no conversion"):
        to_ncnn(model)
    steps = {name: np.array([value]) for name, value in (("a", 0), ("b", 4), ("c", 1), ("d", 2))}
    cut = helper.make_node("Slice", ["x", "a", "b", "c", "d"], ["y"])
    with pytest.raises(CostError, match=r"operator Slice beside 'a' with steps \[2\] has no"):
        to_ncnn(graph_of((1, 4), [cut], steps, (1, 2)))


@pytest.mark.parametrize("model", padding_themselves())
def test_padding_that_follows_from_sizes_is_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(CostError, match=r"ncnn: operator .* with padding by itself has no conv"):
        to_ncnn(model)


def test_images_of_a_batch_are_never_mixed() -> None:
    shape, *rest = CASES["product with keys that lie transposed"]
    converted(NCNN, graph_of(shape, *rest), {})  # moves the batch, which is 1
    turned = [node("Transpose", "x", "y", perm=[1, 0, 2])]
    for nodes in (turned, [node("ReduceMean", "x zero", "y", keepdims=1)]):
        with pytest.raises(CostError, match=r"ncnn: operator .* mixes the images of a batch"):
            to_ncnn(graph_of((2, 2, 5), nodes, {"zero": whole(0)}, (2, 2, 5)))


OWN = {
    "places in several runs": (
        (1, 7, 4),
        [node("Gather", "x some", "y", axis=1)],
        {"some": whole(1, 2, 4, 6)},
        (1, 4, 4),
    ),
    "places that come twice": (
        (1, 7, 4),
        [node("Gather", "x some", "y", axis=1)],
        {"some": whole(1, 2, 2, 3, 4, 0)},
        (1, 6, 4),
    ),
    "norm of channels that lie last": (
        (3, 4),
        [node("BatchNormalization", "x s b m v", "y")],
        {name: RANDOM.random(4).astype(np.float32) for name in "sbmv"},
        (3, 4),
    ),
    "cut on two axes": (
        (1, 5, 6, 2),
        [node("Slice", "x from to on", "y")],
        {"from": whole(1, 2), "to": whole(4, 6), "on": whole(1, 2)},
        (1, 3, 4, 2),
    ),
    "zeros around an image whose channels lie last": (
        (1, 3, 4, 2),
        [node("Pad", "x pads", "y")],
        {"pads": whole(0, 1, 0, 0, 0, 2, 3, 0)},
        (1, 6, 7, 2),
    ),
    "images split into windows whose channels lie first": (
        (1, 3, 4, 6),
        [
            node("Reshape", "x s", "a"),
            node("Transpose", "a", "b", perm=[0, 2, 4, 3, 5, 1]),
            node("Reshape", "b t", "y"),
        ],
        {"s": whole(1, 3, 2, 2, 3, 2), "t": whole(6, 4, 3)},
        (6, 4, 3),
    ),
    "a number less a value": (
        (1, 3, 4),
        [node("Sub", "one x", "y")],
        {"one": np.float32([1])},
        (1, 3, 4),
    ),
    "rows that meet columns": (
        (1, 3, 1, 4),
        [node("Transpose", "x", "t", perm=[0, 3, 2, 1]), node("Add", "t c", "y")],
        {"c": RANDOM.random((1, 1, 5, 3)).astype(np.float32)},
        (1, 4, 5, 3),
    ),
    "what comes in goes out": ((1, 3, 4), [node("Identity", "x", "y")], {}, (1, 3, 4)),
}


@pytest.mark.parametrize("name", [*CASES, *OWN])
def test_operators_one_by_one(name: str) -> None:
    shape, nodes, constants, result = (CASES | OWN)[name]
    converted(NCNN, graph_of(shape, nodes, constants, result), {})


def test_axes_in_any_order() -> None:
    """As numpy turns them; five axes in one or two steps of four at most."""
    counts: Counter[int] = Counter()
    for axes in itertools.permutations(range(5)):
        steps = in_steps(axes)
        assert steps is not None
        value = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
        wanted = value.transpose(axes)
        for step in steps:
            assert len(step.groups) <= MOST
            order = [step.before[place] for group in step.order for place in step.groups[group]]
            value = value.transpose([step.before.index(axis) for axis in order])
        assert np.array_equal(value, wanted)
        counts[len(steps)] += 1
    assert counts[1] > 20 and counts[2] > 20


def test_what_was_given_is_left_as_it_was() -> None:
    """A norm that works in place has a copy to work on."""
    scale = {"s": np.ones(8, np.float32), "b": np.zeros(8, np.float32)}
    model = graph_of((1, 6, 8), [node("LayerNormalization", "x s b", "y")], scale, (1, 6, 8))
    x = RANDOM.standard_normal((1, 6, 8)).astype(np.float32)
    before = x.copy()
    open_runtime(NCNN).compile(to_ncnn(model)).run(x)
    assert np.array_equal(x, before)


def test_a_file_says_what_it_holds() -> None:
    model = example("mlp")
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    content = to_ncnn(model, {}, {"key": '"a"', "class_names": '["ü"]'})
    file = read_file(content)
    assert file.about["key"] == "a" and file.about["class_names"] == ["ü"]
    assert file.about["input_shape"] == shape == file.about["output_shape"]
    assert [layer.name for layer in file.layers if layer.kind == "Gemm"] == [
        "module.mlp.fc1",
        "module.mlp.fc2",
    ]
    assert content == to_ncnn(model, {}, {"key": '"a"', "class_names": '["ü"]'})


def test_a_file_that_was_cut_is_refused() -> None:
    model = example("head")
    content = to_ncnn(model)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for cut in ({"model.ncnn.bin": parts["model.ncnn.bin"][:-4]}, {"about.json": b"{"}):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for name, part in (parts | cut).items():
                archive.writestr(name, part)
        with pytest.raises(CostError):
            read_file(stream.getvalue())
        with pytest.raises(CostError, match="ncnn refuses the file: "):
            open_runtime(NCNN).compile(stream.getvalue())
