"""Classes: whatever our exports can contain has one, and what is unknown keeps its name."""

import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.graphs.modules import input_shape, network
from vitpareto.cost_models.graphs.quantize import apply_recipe
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.profile.operator_classes import CLASSES, OTHER, PRODUCTS, classes_of
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.cost_models.runtimes.kernel import Kernel, Value
from vitpareto.cost_models.tflite.operators import OPERATORS
from vitpareto.spaces import SearchSpace

SPACES = {
    "tokens": "{norm: [layer, rms, group], act: [gelu, hardswish, silu, gelu_tanh, quick_gelu]}"
    "|[softmax, grouped, pooled, window, linear, token_mlp, pool]",
    "grid": "{norm: [batch], act: [relu, hardswish]}|[mbconv, pool, softmax]",
}


def kernel(operator: str, reads: str = "x", weights: str = "", makes: str = "y") -> Kernel:
    values = tuple(Value(name, (1,), 4) for name in makes.split())
    return Kernel(operator, operator, tuple(reads.split()), tuple(weights.split()), values)


def test_no_operator_has_two_classes() -> None:
    listed = [*PRODUCTS, *(operator for some in CLASSES.values() for operator in some)]
    assert len(listed) == len({*listed})


def test_products_are_of_attention_or_linear() -> None:
    weight = kernel("DequantizeLinear", "", "w:int8", "w")
    found = classes_of(
        [
            kernel("MatMul", "q k"),
            kernel("FusedMatMul", "q k"),
            kernel("Gemm", "x", "w b"),
            weight,
            kernel("MatMul", "x w"),  # of a weight that is expanded at every run
            kernel("Softmax"),
        ]
    )
    attention, linear = "attention products", "linear"
    assert found == [attention, attention, linear, "quantization", linear, "softmax"]


def test_what_is_unknown_keeps_its_name() -> None:
    assert classes_of([kernel("Frobnicate")]) == [f"{OTHER}Frobnicate"]


@pytest.mark.parametrize("operator", OPERATORS)
def test_all_that_is_converted_has_a_class(operator: str) -> None:
    """The operators that the converter to LiteRT knows are those of our graphs."""
    assert not classes_of([kernel(operator)])[0].startswith(OTHER)


@pytest.mark.onnx
@pytest.mark.parametrize("name", SPACES)
def test_all_that_is_executed_has_a_class(name: str) -> None:
    network_choices, mixers = SPACES[name].split("|")
    text = f"""
in_chans: 1
num_classes: 3
input_size: 16
patch_size: 4
stem: [patch, conv]
pos_embed: [learned, none]
global_pool: avg
{network_choices.strip("{}").replace(", act", chr(10) + "act")}
stages:
  - depth: 3
    width: 16
    num_heads: 2
    window_size: 2
    blocks: {{mixer: {mixers}, mlp_ratio: 2.0}}
"""
    device, strange = Device.load("cpu-1t"), set[str]()
    recipes = [*device.recipes]
    for i, candidate in enumerate(SearchSpace.from_text(text).sample(10, 0)):
        graph = to_onnx(network(candidate), input_shape(candidate, 1))
        recipe = recipes[i % len(recipes)]
        executed = open_runtime(device).compile(apply_recipe(graph, recipe)).kernels()
        found = classes_of([kernel(operator) for operator in executed])
        strange |= {kind for kind in found if kind.startswith(OTHER)}
    assert not strange
