"""Sparse weights are stored without their zeros, and executed as if nothing had been done."""

import numpy as np
import onnx
import pytest
import torch

from vitpareto.cost_models import Device, workload
from vitpareto.cost_models.calibration.bundle import maker_of
from vitpareto.cost_models.graphs.files import network_file
from vitpareto.cost_models.graphs.modules import input_shape, network
from vitpareto.cost_models.graphs.quantize import apply_recipe
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.graphs.zeros import without_zeros
from vitpareto.cost_models.measure.bench import GraphMaker
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.cost_models.units.precision_recipes import find_recipe, recipe_for
from vitpareto.cost_models.units.unit import unit_of
from vitpareto.cost_models.units.zeros import saved_bytes, zeros_of
from vitpareto.search.compress.sparsity import follows_n_m, sparsify, sparsify_blocks, sparsify_n_m
from vitpareto.search.delivery.kernel_inventory import inventory_of
from vitpareto.spaces import Architecture, Block, Policy, Stage

from ...search.compress.helpers import architecture, candidate

pytestmark = pytest.mark.onnx
CPU = Device.load("cpu-1t")
ZEROS = {
    "anywhere": lambda w: sparsify(w, 0.9),
    "2:4": lambda w: sparsify_n_m(w, "2:4"),
    "blocks": lambda w: sparsify_blocks(w, 0.5),
}
RECIPES = ("float", "fp16", "stored8", "dynamic8", "static8", "stored4", "dynamic4", "static4")


@pytest.mark.parametrize(
    ("zeros", "recipe"),
    [
        *(("anywhere", r) for r in RECIPES),
        *((z, r) for z in ("2:4", "blocks") for r in RECIPES[3:7:3]),
    ],
)
def test_what_is_packed_computes_the_same_bit_by_bit(zeros: str, recipe: str) -> None:
    layer, shape = torch.nn.Linear(96, 128), (1, 9, 96)
    with torch.no_grad():
        layer.weight.copy_(ZEROS[zeros](layer.weight))
    dense = apply_recipe(to_onnx(layer, shape), recipe)
    packed = without_zeros(dense)
    onnx.checker.check_model(packed)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    before, after = (open_runtime(CPU).compile(model) for model in (dense, packed))
    assert after.run(x).tobytes() == before.run(x).tobytes()
    assert after.kernels() == before.kernels(), "zeros are put in when it is loaded"
    bits = find_recipe(recipe).weights
    kept, index = {"anywhere": (0.1, 1), "2:4": (0.5, 1), "blocks": (0.5, 1 / 16)}[zeros]
    saved = 96 * 128 * (bits - kept * bits - index) / 8
    assert dense.ByteSize() - packed.ByteSize() == pytest.approx(saved, abs=450 + 64 * bits / 8)
    (linear,) = inventory_of(packed.SerializeToString(), after.kernels(), "onnxruntime").linears
    (plain,) = inventory_of(dense.SerializeToString(), before.kernels(), "onnxruntime").linears
    assert linear == plain


def test_dense_weights_and_convolutions() -> None:
    layer = torch.nn.Linear(96, 128)
    dense = apply_recipe(to_onnx(layer, (1, 9, 96)), "dynamic8")
    assert without_zeros(dense) is dense
    conv, shape = torch.nn.Conv2d(16, 64, 3), (1, 16, 6, 6)
    with torch.no_grad():
        conv.weight.copy_(sparsify(conv.weight, 0.8))
    dense = to_onnx(conv, shape)
    packed = without_zeros(dense)
    assert packed.ByteSize() < 0.3 * dense.ByteSize()
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found = [open_runtime(CPU).compile(model).run(x) for model in (packed, dense)]
    assert found[0].tobytes() == found[1].tobytes()


def test_patterns_are_told_apart() -> None:
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    assert follows_n_m(sparsify_n_m(weight, "2:4"), 2, 4)
    assert not follows_n_m(weight, 2, 4) and not follows_n_m(sparsify(weight, 0.5), 2, 4)
    blocks = sparsify_blocks(weight, 0.5).view(8, 2, 16)
    assert (blocks != 0).all(2).sum(1).eq(1).all() and (blocks == 0).all(2).sum(1).eq(1).all()


POLICIES = [
    Policy(sparsity=0.9),
    Policy(8, 8, n_m="2:4"),
    Policy(4, block_sparsity=0.5),
    Policy(8, 8, sparsity=0.6, rank_ratio=0.4),
    Policy(8, sparsity=0.1),  # saves nothing
]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_files_become_as_small_as_counted(policy: Policy) -> None:
    blocks = (Block(num_heads=4, head_dim=32, mlp_hidden=256),)
    a = Architecture((Stage(128, blocks),), 16, 1, 10, patch_size=4, global_pool="avg")
    sizes = []
    for each in (policy.only(lambda transform: transform.kept is None), policy):
        chosen = candidate(a, each)
        graph = to_onnx(network(chosen), input_shape(chosen, 1))
        sizes.append(len(network_file(CPU, graph, chosen, CPU.recipes, {}).content))
    saved = 0
    for block in workload(chosen).sub_blocks:
        unit = unit_of(block, recipe_for(block, CPU.recipes))
        saved += saved_bytes(unit.ops, find_recipe(unit.recipe).weights, zeros_of(policy))
    # What is rounded to zero is left out, too.
    assert 0.99 * saved - 300 <= sizes[0] - sizes[1] <= 1.1 * saved + 300
    assert (saved > 0) == (policy.sparsity != 0.1)


@pytest.mark.parametrize(("name", "packs"), [("cpu-1t", True), ("cpu-openvino", False)])
def test_files_for_another_machine_are_those_of_its_runtime(name: str, packs: bool) -> None:
    """Whatever makes them here: only ONNX Runtime's lack zeros."""
    sparse = candidate(architecture(), Policy(others=(("sparsity", 0.9),)))
    graph = GraphMaker(maker_of(Device.load(name))).network(sparse, ["float"])
    assert (graph.graph_bytes < 4 * workload(sparse).params) == packs
