"""Sub-blocks, units and the batch walk agree with each other and with the graphs they stand for."""

import hashlib
import random
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from vitpareto.cost_models import SubBlock, workload
from vitpareto.cost_models.graphs.modules import build
from vitpareto.cost_models.graphs.quantize import apply_recipe
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.predict.file_size import SizeModel
from vitpareto.cost_models.units.indexer import Indexer
from vitpareto.cost_models.units.precision_recipes import (
    RECIPES,
    group_of,
    precision_of,
    recipe_for,
    serving,
    stored_bits,
)
from vitpareto.cost_models.units.signature import ROUTES
from vitpareto.cost_models.units.unit import Unit, unit_of
from vitpareto.cost_models.units.vectorized import alike
from vitpareto.spaces import Policy, SearchSpace, UnknownNameError
from vitpareto.spaces.errors import CostError

PRESETS = ("cifar", "deit_tiny", "digits", "mobile_hybrid")


def blocks(preset: str, count: int, seed: int = 0) -> list[SubBlock]:
    found = {
        unit.key: unit
        for candidate in SearchSpace.from_yaml(preset).sample(30, seed)
        for unit in workload(candidate).sub_blocks
    }
    return random.Random(seed).sample(list(found.values()), count)


@pytest.mark.parametrize("preset", PRESETS)
def test_keys_can_be_read_back(preset: str) -> None:
    for block in blocks(preset, 60):
        again = SubBlock.parse(block.key)
        assert again.key == block.key
        left, right = unit_of(block, "float"), unit_of(again, "float")
        assert (left.terms, left.numbers, left.key) == (right.terms, right.numbers, right.key)


# Of 200 candidates of version 0.1.0: their keys, and those of their sub-blocks.
GOLDEN = {
    "cifar": ("c645e29edba3cc83", "ae6fd0c44de21608"),
    "cifar_small": ("4bf971113927f7fb", "35f3dd49e4740353"),
    "deit_tiny": ("e2d077835154c387", "43deec9a962d1faf"),
    "digits": ("f25399b1ccf3c436", "71e015fc9accd441"),
    "mobile_hybrid": ("09cca916374dbb54", "6a2457e4d0cfff99"),
}


@pytest.mark.parametrize("preset", GOLDEN)
def test_golden_keys(preset: str) -> None:
    """A change orphans tables, cost models and run folders: it needs a new version."""
    candidates = SearchSpace.from_yaml(preset).sample(200, seed=3)
    units = dict.fromkeys(b.key for c in candidates for b in workload(c).sub_blocks)
    lines = ("\n".join(keys) for keys in ((c.key for c in candidates), units))
    found = tuple(hashlib.sha256(text.encode()).hexdigest()[:16] for text in lines)
    assert found == GOLDEN[preset]


@pytest.mark.parametrize("key", ["", "mixer/softmax", "mixer/softmax?width=1", "x?width=a&grid=1"])
def test_what_is_not_a_key(key: str) -> None:
    with pytest.raises(CostError, match="not the key of a sub-block"):
        SubBlock.parse(key)


@pytest.mark.parametrize("preset", PRESETS)
def test_batch_walk_is_the_workload(preset: str) -> None:
    candidates = SearchSpace.from_yaml(preset).sample(150, 3)
    numbers: dict[SubBlock, int] = {}
    index, starts = Indexer(lambda u: numbers.setdefault(u, len(numbers))).index(candidates)
    known = [unit_of(block, "float").key for block in numbers]
    for candidate, start, end in zip(candidates, starts, [*starts[1:], len(index)], strict=True):
        expected = [unit_of(unit, "float").key for unit in workload(candidate).sub_blocks]
        assert [known[i] for i in index[start:end]] == expected


@pytest.mark.onnx
@pytest.mark.parametrize("preset", PRESETS)
def test_weight_bytes_are_those_of_the_graph(preset: str) -> None:
    recipes = ["float", "fp16", "dynamic8", "stored8", "stored4", "blocks4"]
    recipes += ["dynamic8_tensor", "static8_tensor", "blocks4_64", "blocks4a8_128"]
    for i, block in enumerate(blocks(preset, 8, seed=1), 5 * PRESETS.index(preset)):
        if block.mixer and block.mixer.constants(block.place):
            continue  # masks and gathered tables are no weights
        recipe = recipes[i % len(recipes)]
        unit = unit_of(block, recipe)
        module, shape = build(unit.block)
        graph = apply_recipe(to_onnx(module, shape), recipe).graph
        floats = [t for t in graph.initializer if t.data_type != TensorProto.INT64]
        stored = sum(
            (int(np.prod(t.dims)) + 1) // 2
            if t.data_type == TensorProto.INT4
            else numpy_helper.to_array(t).nbytes
            for t in floats
            if int(np.prod(t.dims)) > 1
        )
        assert stored == unit.weight_bytes, unit.key


def test_equal_work_has_one_key() -> None:
    block = next(b for b in blocks("cifar", 60) if b.kind == "mlp" and "scale" in b.flags)
    assert "scale" not in unit_of(block, "float").key
    assert Unit(block, "float").group == unit_of(block, "float").group


def test_a_policy_gets_a_recipe_that_holds_it() -> None:
    for bits in (2, 4, 8, 16, 32):
        for acts in (8, 32):
            policy = Policy(bits, acts)
            for name in serving(policy, RECIPES):
                assert RECIPES[name].weights == stored_bits(policy)
                assert (RECIPES[name].activations != "float") == (policy.act_bits == 8)


def test_scales_that_a_policy_asks_for() -> None:
    """It gets these and no others; without a word the usual ones, unless a device has none."""
    for bits, scales in ((8, "channel"), (8, "tensor"), (4, "block32"), (4, "block128")):
        found = serving(Policy(bits, 8, weight_scales=scales), RECIPES)
        assert found and {RECIPES[name].scales for name in found} == {scales}
    usual = serving(Policy(4, 8), RECIPES)
    assert {RECIPES[name].scales for name in usual} == {"channel", "block32"}
    assert serving(Policy(8, 8), ("float", "static8_tensor")) == ["static8_tensor"]
    with pytest.raises(CostError, match="8-bit weights, a scale for each block64, with"):
        serving(Policy(8, 8, weight_scales="block64"), RECIPES)
    assert Policy(16, weight_scales="tensor") == Policy(16)
    block = SubBlock("mlp", blocks("cifar", 1)[0].place, Policy(8, 8), "layer", "mlp")
    asks = replace(block, policy=Policy(8, 8, weight_scales="tensor"))
    book = {group_of(block): "static8", group_of(asks): "static8_tensor"}
    assert [recipe_for(b, book) for b in (block, asks)] == ["static8", "static8_tensor"]


def test_a_precision_without_kernel_is_refused() -> None:
    block = SubBlock("mlp", blocks("cifar", 1)[0].place, Policy(4, 8), "layer", "mlp")
    with pytest.raises(CostError, match="no recipe of this device holds 4-bit weights"):
        recipe_for(block, ["float", "dynamic8"])
    assert recipe_for(block, {"mlp/mlp w4a8": "static4"}) == "static4"

    assert precision_of(block.policy) == "w4a8"
    with pytest.raises(UnknownNameError, match="Did you mean 'dynamic8'"):
        serving(Policy(), ["dynamic9"])


def test_what_was_not_measured_runs_as_its_precision_does_elsewhere() -> None:
    """A convolution too: with what the device is known to have, and no better recipe of others."""
    key = "stem/patch?norm=layer&act=gelu&width=16&grid=4&inputs=1&patch_size=4"
    stem = SubBlock.parse(f"{key}&weight_bits=8&act_bits=8")
    assert recipe_for(stem, {"mlp/mlp w8a8": "dynamic8"}) == "dynamic8"
    assert recipe_for(stem, {"mlp/mlp w8a8": "dynamic8", "head/avg w8a8": "static8"}) == "static8"
    assert recipe_for(stem, {"mlp/mlp w32a32": "float"}) == "static8"


LOW_RANK = """
name: ranks
input_size: 32
patch_size: 4
norm: layer
token_routing: [learned, random]
stages:
  - depth: [1, 2]
    width: [32, 48, 64]
    head_dim: 16
    mlp_ratio: [1.0, 2.0, 4.0]
    blocks:
      num_heads: [1, 2, 3]
      weight_bits: [32, 8]
      act_bits: 8
      rank_ratio: [1.0, 0.5, 0.9]
      mlp_capacity: [1.0, 0.5, 0.3]
      mixer_capacity: [1.0, 0.5]
"""


@pytest.mark.onnx
def test_routed_parts_are_told_apart() -> None:
    """By their keys, in the batch walk, and in bytes, of which those of scores stay float."""
    space = SearchSpace.from_text(LOW_RANK)
    candidates = space.sample(12, 3)
    numbers: dict[SubBlock, int] = {}
    index, _ = Indexer(lambda u: numbers.setdefault(u, len(numbers))).index(candidates)
    known, walked = list(numbers), [b for c in candidates for b in workload(c).sub_blocks]
    assert [known[i].key for i in index] == [block.key for block in walked]
    flags = {flag: how for routes in ROUTES.values() for flag, how in routes.items()}
    for flag, how in flags.items():
        block = min((b for b in walked if flag in b.flags), key=lambda block: block.macs)
        again = SubBlock.parse(block.key)
        assert (again.key, again.macs) == (block.key, block.macs) and f"&{flag}" in block.key
        plain = replace(block, flags=(), place=replace(block.place, routed=0, mixed=0))
        assert block.macs < plain.macs and block.key != plain.key
        unit = unit_of(replace(block, policy=Policy(8, 8)), "dynamic8")
        module, shape = build(unit.block)
        graph = apply_recipe(to_onnx(module, shape), "dynamic8").graph
        floats = [t for t in graph.initializer if t.data_type != TensorProto.INT64]
        stored = sum(numpy_helper.to_array(t).nbytes for t in floats if int(np.prod(t.dims)) > 1)
        assert stored + 4 * (how == "learned") == unit.weight_bytes  # and a bias of one number
        integers = [t for t in graph.initializer if t.data_type == TensorProto.INT8]
        layers = {"mixer": 4, "mlp": 2}[block.kind]
        assert len([t for t in integers if np.prod(t.dims) > 1]) == layers  # but no score


@pytest.mark.parametrize("preset", [*PRESETS, LOW_RANK])
def test_alike_units_are_counted_at_once(preset: str) -> None:
    """One unit whose numbers are arrays says what each of its units says."""
    space = SearchSpace.from_text(preset) if preset is LOW_RANK else SearchSpace.from_yaml(preset)
    found = {b for c in space.sample(60, 4) for b in workload(c).sub_blocks}
    recipes = {8: "static8", 32: "float", 16: "fp16", 4: "blocks4"}
    units = [unit_of(b, recipes[stored_bits(b.policy)]) for b in found]
    size = SizeModel.fit([])
    seen: list[int] = []
    for indices, together in alike(units):
        seen += indices
        for place, one in enumerate(units[index] for index in indices):
            for name in ("terms", "numbers"):
                expected, columns = getattr(one, name), getattr(together, name)
                assert columns.keys() == expected.keys()
                values = [np.broadcast_to(v, len(indices))[place] for v in columns.values()]
                assert values == pytest.approx(list(expected.values()), rel=1e-12)
            for count in (lambda u: u.weight_bytes, lambda u: u.peak_bytes, size.graph_bytes):
                assert np.broadcast_to(count(together), len(indices))[place] == count(one)
            assert together.group == one.group
    assert sorted(seen) == list(range(len(units)))
    assert max(len(indices) for indices, _ in alike(units)) > 5
