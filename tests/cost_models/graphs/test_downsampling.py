"""What leads to the stages of hierarchies: counted, keyed, built and folded as it runs."""

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from vitpareto.cost_models import workload
from vitpareto.cost_models.graphs.folding import folded
from vitpareto.cost_models.graphs.linear_layers import OnnxGraph
from vitpareto.cost_models.graphs.modules import build
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.units.indexer import Indexer
from vitpareto.cost_models.units.unit import Unit, parse_unit, unit_of
from vitpareto.cost_models.units.workload import SubBlock
from vitpareto.spaces import Architecture, Block, Candidate, Stage

from ...spaces.helpers import difference, efficient, images, levit, mobile, randomized

NETWORKS = [mobile(), levit(), efficient()]


def units_of(architecture: Architecture) -> list[Unit]:
    blocks = workload(Candidate.uncompressed(architecture)).sub_blocks
    return [unit_of(block, "float") for block in blocks]


@torch.no_grad()
@pytest.mark.parametrize("architecture", [*NETWORKS, levit(num_classes=0)], ids=lambda _: "")
def test_folding_is_exact_and_leaves_no_norm(architecture: Architecture) -> None:
    """But for one that no layer reads."""
    network, x = randomized(architecture), images(architecture)
    made, expected = folded(network), network(x)
    assert difference(made(x), expected) < 1e-4 * float(expected.abs().max())
    left = [m for m in made.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(left) == (0 if architecture.num_classes else 2)


def test_keys_say_all_that_matters() -> None:
    units = [unit for architecture in NETWORKS for unit in units_of(architecture)]
    for unit in units:
        again = parse_unit(unit.key)
        assert again.key == unit.key
        assert (again.terms, again.numbers) == (unit.terms, unit.numbers)
    keys = [unit.key for unit in units if unit.block.kind in ("downsample", "head")]
    assert len(set(keys)) == 13
    assert "kernel_size=5" in keys[1] and "act=relu" in keys[1] and "stride_1" in keys[2]
    assert "mlp_hidden=40" in keys[5]
    assert "grid=4&inputs=16&tokens=49&kept=16&num_heads=2&head_dim=8&value_dim=32" in keys[6]
    first, second, third, head = keys[9:]
    assert first.startswith("downsample/inverted_bias?") and first.endswith("&odd@float")
    assert "odd" not in second + third and head.endswith("none&head_norm@float")


@torch.no_grad()
@pytest.mark.onnx
def test_attention_that_halves_a_grid_holds_what_is_counted() -> None:
    block = Block("mbconv", mlp_hidden=16, kernel_size=3)
    stages = (Stage(16, (block,)), Stage(24, (block,), "conv_attention"))
    around = {"input_size": 16, "patch_size": 2, "stem": "mobile", "num_classes": 3}
    a = Architecture(stages, **around, pos_embed="none", global_pool="avg")
    network, x = randomized(a), images(a)
    made, expected = folded(network), network(x)
    assert difference(made(x), expected) < 1e-4 * float(expected.abs().max())
    assert not [m for m in made.modules() if isinstance(m, nn.BatchNorm2d)]
    [unit] = [b for b in workload(Candidate.uncompressed(a)).sub_blocks if b.kind == "downsample"]
    model = to_onnx(*build(unit))
    assert all(layer.module for layer in OnnxGraph(model).layers())
    tensors = map(numpy_helper.to_array, model.graph.initializer)
    stored = sum(t.nbytes for t in tensors if t.dtype == np.float32 and t.size > 1)
    assert stored == unit_of(unit, "float").weight_bytes
    assert parse_unit(unit_of(unit, "float").key).key == unit_of(unit, "float").key


@torch.no_grad()
@pytest.mark.onnx
@pytest.mark.parametrize("architecture", NETWORKS, ids=lambda _: "")
def test_sub_blocks_follow_each_other_and_hold_what_is_counted(architecture: Architecture) -> None:
    """Chained they give what the network gives, with the bytes of each."""
    entering = None
    for unit in units_of(architecture):
        module, shape = build(unit.block)
        tensors = map(numpy_helper.to_array, to_onnx(module, shape).graph.initializer)
        stored = sum(t.nbytes for t in tensors if t.dtype == np.float32 and t.size > 1)
        mixer = unit.block.mixer
        gathered = 4 * mixer.constants(unit.block.place) if mixer else 0
        assert stored == unit.weight_bytes + gathered
        assert entering in (None, torch.Size(shape).numel())
        entering = module(torch.zeros(shape)).numel()
    assert entering == architecture.num_classes


def test_many_candidates_are_indexed_as_they_are_walked() -> None:
    numbers: dict[SubBlock, int] = {}
    tried = [Candidate.uncompressed(mobile(act=act)) for act in ("hardswish", "relu", "gelu")]
    tried += [Candidate.uncompressed(levit(input_size=size)) for size in (24, 28, 32)]
    tried += [Candidate.uncompressed(efficient(input_size=size)) for size in (28, 32, 36)]
    found, starts = Indexer(lambda block: numbers.setdefault(block, len(numbers))).index(tried)
    for candidate, start in zip(tried, starts, strict=True):
        blocks = workload(candidate).sub_blocks
        assert [numbers[b] for b in blocks] == list(found[start : start + len(blocks)])
