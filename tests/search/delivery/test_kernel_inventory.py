"""What a graph is made of, what is executed, and who else can run it."""

import onnx
import pytest

from vitpareto.cost_models.device import Device
from vitpareto.cost_models.graphs.modules import network
from vitpareto.cost_models.graphs.quantize import apply_recipe
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.search.delivery.converter_operators import TARGETS
from vitpareto.search.delivery.kernel_inventory import (
    Inventory,
    Linear,
    fallbacks,
    inventory_of,
    unsupported,
)

from ..made import Made

pytestmark = pytest.mark.onnx
# Layers of the network: a stem, two blocks of six linears, and a head.
LAYERS = 14


@pytest.fixture(scope="module")
def graph(made: Made) -> onnx.ModelProto:
    return to_onnx(network(made.candidate), (1, 1, 16, 16))


def inventory(graph: onnx.ModelProto, recipe: str) -> Inventory:
    content = (graph if recipe == "float" else apply_recipe(graph, recipe)).SerializeToString()
    device = Device.load("cpu-1t")
    executed = open_runtime(device).compile(content).kernels()
    return inventory_of(content, executed, device.runtime)


@pytest.mark.parametrize(
    ("recipe", "weights", "computes"),
    [
        ("float", "float32", "float32"),
        ("fp16", "float16", "float32"),
        ("dynamic8", "int8", "int8"),
        ("stored8", "int8", "float32"),
        ("dynamic4", "int4", "int8"),
        ("stored4", "int4", "float32"),
        ("blocks4", "int4", "float32"),
    ],
)
def test_every_linear_is_named_with_its_precision(
    made: Made, graph: onnx.ModelProto, recipe: str, weights: str, computes: str
) -> None:
    found = inventory(graph, recipe)
    assert len(found.linears) == LAYERS
    assert len({layer.name for layer in found.linears}) == LAYERS
    assert {layer.name for layer in found.linears} >= {"head", "stages.0.blocks.1.mlp.fc2"}
    assert {(x.weights, x.computes) for x in found.linears} == {(weights, computes)}
    assert found.fallbacks == 0


def test_static_layers_and_their_fallbacks(graph: onnx.ModelProto) -> None:
    found = inventory(graph, "static8")
    assert {(x.weights, x.computes) for x in found.linears} == {("int8", "int8")}
    assert "MatMulIntegerToFloat" in found.fused
    assert "MatMulIntegerToFloat" not in found.stored
    assert fallbacks(found.linears, {"MatMul": 12, "Gemm": 2}, "onnxruntime") == LAYERS
    blocks = [
        Linear("a", "MatMulNBits", "int4", "float32"),
        Linear("b", "MatMulNBits", "int4", "int8"),
    ]
    assert fallbacks(blocks, {"MatMulNBits": 2}, "onnxruntime") == 0
    assert fallbacks(blocks, {"MatMulNBits": 1, "MatMul": 1}, "onnxruntime") == 1


def test_operators_that_other_runtimes_lack(graph: onnx.ModelProto) -> None:
    for target in TARGETS:
        assert target.source and target.version
        assert {"Conv", "MatMul", "Add", "Softmax", "Reshape"} <= target.operators
    found = unsupported(graph.graph)
    assert found["TensorRT"] == []
    assert "Gelu" in found["NNAPI"]
    dynamic = unsupported(apply_recipe(graph, "dynamic8").graph)
    assert "DynamicQuantizeLinear" in dynamic["TensorRT"]
    blocks = unsupported(apply_recipe(graph, "blocks4").graph)
    assert all("com.microsoft:MatMulNBits" in missing for missing in blocks.values())
