"""Graphs: folding, exporting and rewriting change bytes and kernels, not what is computed."""

from collections import Counter
from functools import cache

import numpy as np
import onnx
import pytest
import torch

from vitpareto.cost_models import Device, workload
from vitpareto.cost_models.graphs.folding import folded
from vitpareto.cost_models.graphs.modules import build, locate, network, randomize
from vitpareto.cost_models.graphs.quantize import apply_recipe, apply_recipes
from vitpareto.cost_models.graphs.to_onnx import chained, to_onnx
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.cost_models.units.precision_recipes import RECIPES
from vitpareto.cost_models.units.unit import Unit, parse_unit, unit_of
from vitpareto.search.compress import calibrate
from vitpareto.spaces import Architecture, Block, Candidate, SearchSpace, Stage
from vitpareto.spaces.networks import Network

pytestmark = pytest.mark.onnx
PRESETS = (
    *("cifar", "digits", "mobile_hybrid"),
    pytest.param("deit_tiny", marks=pytest.mark.slow),
)


@pytest.fixture(scope="module")
def runtime():
    return open_runtime(Device.load("cpu-1t"))


def difference(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(left - right).max() / np.abs(right).max())


@torch.no_grad()
def test_a_key_is_built_as_its_sub_block() -> None:
    """Without the tokens that it drops, whose share no key says."""
    drawn = SearchSpace.from_yaml("digits").sample(20)
    blocks = {b for c in drawn for b in workload(c).sub_blocks if b.place.kept < b.place.tokens}
    assert blocks
    for block in sorted(blocks, key=lambda block: block.key)[:4]:
        unit = unit_of(block, "float")
        module, shape = build(unit.block)
        again, _ = build(parse_unit(unit.key).block)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        assert torch.equal(module(x), again(x))
        assert module(x).shape[1] == block.place.prefix + block.place.kept


def images(candidate: Candidate, count: int = 1) -> np.ndarray:
    a = candidate.architecture
    shape = (count, a.in_chans, a.input_size, a.input_size)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("preset", PRESETS)
def test_folding_changes_nothing(preset: str) -> None:
    for candidate in SearchSpace.from_yaml(preset).sample(3, 1):
        plain = Network(candidate.architecture).eval()
        randomize(plain)
        x = torch.from_numpy(images(candidate))
        with torch.no_grad():
            assert difference(folded(plain)(x).numpy(), plain(x).numpy()) < 1e-4
        left = [m for m in folded(plain).modules() if isinstance(m, torch.nn.BatchNorm2d)]
        # Only norms with no layer beside them that could take them stay.
        assert len(left) <= sum(b.mixer == "pool" for b in candidate.architecture.blocks())


@pytest.mark.parametrize("preset", PRESETS)
def test_sub_blocks_follow_each_other(preset: str, runtime) -> None:
    """The output of each has as many elements as the next one takes."""

    @cache  # candidates are made of the same few
    def ends(unit: Unit) -> tuple[int, int]:
        """Elements of the input and of the output."""
        module, shape = build(unit.block)
        x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
        y = runtime.compile(to_onnx(module, shape)).run(x.numpy())
        assert difference(y, module(x).detach().numpy()) < 1e-4
        return x.numel(), y.size

    for candidate in SearchSpace.from_yaml(preset).sample(2, 5):
        before = images(candidate).size
        for block in workload(candidate).sub_blocks:
            taken, given = ends(unit_of(block, "float"))
            assert taken == before, block.key
            before = given
        assert before == candidate.architecture.num_classes


def hybrid() -> Candidate:
    """A convolution and an attention, in a stage each."""
    around = {"input_size": 32, "patch_size": 4, "num_classes": 5, "global_pool": "avg"}
    first = Block("mbconv", kernel_size=3, mlp_hidden=32)
    second = Block("softmax", num_heads=2, head_dim=8, mlp_hidden=48)
    stages = (Stage(16, (first,)), Stage(24, (second,), "conv"))
    return Candidate.uncompressed(Architecture(stages, stem="conv", **around))


@pytest.mark.parametrize(
    "preset", ["", *(pytest.param(n, marks=pytest.mark.slow) for n in ("cifar", "mobile_hybrid"))]
)
def test_the_fast_export_runs_the_same_kernels(preset: str, runtime) -> None:
    candidate = SearchSpace.from_yaml(preset).sample(1, 8)[0] if preset else hybrid()
    built, x = network(candidate), images(candidate)
    graphs = [runtime.compile(to_onnx(built, x.shape, fast=fast)) for fast in (True, False)]
    assert difference(graphs[0].run(x), graphs[1].run(x)) < 1e-4
    heavy = ("Gemm", "MatMul", "FusedMatMul", "Conv", "FusedConv", "LayerNormalization", "Softmax")
    kernels = [Counter({k: g.kernels().get(k, 0) for k in heavy}) for g in graphs]
    assert kernels[0] == kernels[1]


@pytest.fixture(scope="module")
def largest() -> tuple[onnx.ModelProto, np.ndarray]:
    """The graph of a network of digits, and an image."""
    candidate = SearchSpace.from_yaml("digits").largest()
    x = images(candidate)
    return to_onnx(network(candidate), x.shape), x


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_stay_close_and_get_smaller(recipe: str, runtime, largest) -> None:
    plain, x = largest
    small = apply_recipe(plain, recipe)
    onnx.checker.check_model(small) if RECIPES[recipe].weights > 4 else None
    error = difference(runtime.compile(small).run(x), runtime.compile(plain).run(x))
    coarse = RECIPES[recipe].layout == "tensor"
    assert error < {4: 0.9 if coarse else 0.6, 8: 0.2, 16: 0.01, 32: 1e-6}[RECIPES[recipe].weights]
    if recipe != "float":
        assert error > 0
        assert small.ByteSize() < plain.ByteSize() * (RECIPES[recipe].weights / 32 + 0.15)


def test_each_sub_block_has_its_own_precision(runtime) -> None:
    space = SearchSpace.from_yaml("cifar")
    candidate = next(
        c for c in space.sample(50, 0)
        if len({u.policy.weight_bits for u in workload(c).sub_blocks}) == 3
    )  # fmt: skip
    plain = to_onnx(network(candidate), images(candidate).shape)
    mixed = apply_recipes(plain, candidate, ["float", "dynamic8", "dynamic4", "static8"])
    types: dict[str, set[int]] = {}
    for tensor in mixed.graph.initializer:
        path = next((p for p in locate(candidate) if tensor.name.startswith(f"{p}.")), "")
        if ".weight" in tensor.name and len(tensor.dims) == 2:
            types.setdefault(path, set()).add(tensor.data_type)
    expected = {32: onnx.TensorProto.FLOAT, 8: onnx.TensorProto.INT8, 4: onnx.TensorProto.INT4}
    for path, unit in locate(candidate).items():
        if path in types:
            assert types[path] == {expected[unit.policy.weight_bits]}, path
    assert runtime.compile(mixed).run(images(candidate)).shape == (1, 10)


def test_calibration_images_give_better_scales(runtime) -> None:
    """On the whole: where a norm comes before, the fixed range is already a good one."""
    errors: list[list[float]] = []
    for candidate in SearchSpace.from_yaml("digits").sample(24, 3):
        if any(p.weight_bits != 8 for p in candidate.compression.stages[0].mlp):
            continue
        made, recipes = network(candidate), ["static8", "float"]
        plain = to_onnx(made, images(candidate).shape)
        x = images(candidate, 8) * 3
        exact = runtime.compile(plain).run(x[:1])
        seen = calibrate(made, made.state_dict(), candidate, torch.from_numpy(x), recipes)
        both = [apply_recipes(plain, candidate, recipes, c) for c in (seen.limits, None)]
        errors.append([difference(runtime.compile(graph).run(x[:1]), exact) for graph in both])
    calibrated, fixed = np.median(errors, axis=0)  # one of them ranks its tokens otherwise
    assert len(errors) > 3
    assert calibrated < fixed


def test_copies_in_a_row(runtime) -> None:
    block = next(
        u for c in SearchSpace.from_yaml("digits").sample(5, 0)
        for u in workload(c).sub_blocks if u.kind == "mlp"
    )  # fmt: skip
    module, shape = build(block)
    graph = to_onnx(module, shape)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    once, thrice = runtime.compile(graph), runtime.compile(chained(graph, 3))
    expected = once.run(once.run(once.run(x)))
    assert difference(thrice.run(x), expected) < 1e-5


@pytest.mark.parametrize("recipe", [r.name for r in RECIPES.values() if r.activations != "float"])
def test_the_largest_products_overflow_nothing(recipe: str, runtime) -> None:
    """All weights and activations at their top, where sums in 16 bits would overflow."""
    layer = torch.nn.Linear(64, 32, bias=False)
    torch.nn.init.ones_(layer.weight)
    x = np.full((1, 4, 64), 4.0, np.float32)  # the top of the fixed range, too
    graph = apply_recipe(to_onnx(layer, x.shape), recipe)
    assert difference(runtime.compile(graph).run(x), np.full((1, 4, 32), 256.0)) < 0.02
    stored = [onnx.numpy_helper.to_array(c) for c in graph.graph.initializer]
    assert all(abs(w.astype(int)).max() <= 63 for w in stored if w.dtype == np.int8)
