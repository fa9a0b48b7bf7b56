"""Every candidate exports with static shapes, and ONNX Runtime gives the same logits."""

from collections.abc import Iterable
from copy import deepcopy

import pytest
import torch

from vitpareto.spaces import Architecture, Block, Candidate, SearchSpace, Stage
from vitpareto.spaces.architecture import DOWNSAMPLES, TOKEN_REDUCTIONS
from vitpareto.spaces.mixers import MIXERS
from vitpareto.spaces.networks import Network
from vitpareto.spaces.networks.branches import unbranch
from vitpareto.spaces.supernet import Supernet

from .helpers import NUMBERS, difference, images, levit, randomized, run_onnx, small, to_onnx

DYNAMIC = {"Shape", "NonZero", "Range", "Loop", "If", "Scan"}


def agree(network: Network, dynamo: bool = False) -> None:
    """ONNX Runtime gives the network's logits, from a graph that looks at no shape."""
    x = images(network.architecture, 1)
    whole = deepcopy(network)
    unbranch(whole)  # branches are for training
    model = to_onnx(whole, x, dynamo)
    # The fast exporter does not always infer the shape of its output.
    for value in (*model.graph.input, *model.graph.output)[: 1 + dynamo]:
        assert all(d.dim_value > 0 for d in value.type.tensor_type.shape.dim)
    logits, executed = run_onnx(model, x)
    assert not executed & DYNAMIC
    with torch.no_grad():
        expected = network(x)
    assert difference(logits, expected) < 1e-4 * max(1.0, float(expected.abs().max()))


@pytest.mark.onnx
def test_candidates_of_every_preset(supernet: Supernet, candidates: list[Candidate]) -> None:
    agree(supernet.extract(candidates[2]))


def blocks_of(mixers: Iterable[str]) -> list[Block]:
    """A block of each."""
    numbers = {"num_heads": 2, "head_dim": 8, "shift": True, "mlp_hidden": 48, **NUMBERS}
    return [Block(mixer, **numbers) for mixer in mixers]


@pytest.mark.onnx
@pytest.mark.parametrize("dynamo", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("start", range(3))
def test_every_mixer(start: int, dynamo: bool) -> None:
    """Some in one network, as an export takes long to begin; their laws have each alone."""
    agree(randomized(small(*blocks_of(list(MIXERS)[start::3]))), dynamo)


@pytest.mark.onnx
@pytest.mark.parametrize(
    ("norm", "act"),
    [
        *(("layer", "gelu"), ("rms", "relu"), ("batch", "silu")),
        *(("group", "hardswish"), ("affine", "gelu")),
    ],
)
def test_every_norm_and_activation(norm: str, act: str) -> None:
    blocks = (
        Block("softmax", num_heads=2, head_dim=8, mlp_hidden=48),
        Block("pool", mlp_hidden=48),
    )
    agree(randomized(small(*blocks, norm=norm, act=act, stem="conv", layer_scale=True)))


@pytest.mark.onnx
def test_parts_of_poolformer() -> None:
    blocks = (Block("pool", mlp_hidden=48), Block("softmax", num_heads=2, head_dim=8))
    last = {"norm": "group1", "final_norm": "pooled", "final_eps": 1e-3}
    agree(randomized(small(*blocks, stem="overlap", layer_scale=True, **last)))


@pytest.mark.onnx
@pytest.mark.parametrize("pool", ["avg", "token", "distill"])
@pytest.mark.parametrize("how", TOKEN_REDUCTIONS)
def test_token_reduction(pool: str, how: str) -> None:
    dropping = Block("softmax", num_heads=2, head_dim=8, mlp_hidden=48, token_keep=0.5)
    agree(randomized(small(dropping, dropping, global_pool=pool, token_reduction=how)))


@pytest.mark.onnx
@pytest.mark.parametrize("how", ["learned", "random"])
def test_token_routing(how: str) -> None:
    """Whole rows are moved, which no GatherElements does as fast; in batches, too."""
    capacities = {"mlp_capacity": 0.4, "mixer_capacity": 0.6}
    routed = Block("softmax", num_heads=2, head_dim=8, mlp_hidden=48, **capacities)
    grid = Block("pool", mlp_hidden=48, mlp_capacity=0.4)
    agree(randomized(small(routed, grid, token_routing=how)))
    network = randomized(small(routed, global_pool="token", token_routing=how))
    x = images(network.architecture, 3)
    logits, executed = run_onnx(to_onnx(network, x), x)
    assert {"Gather", "ScatterND"} <= executed and not executed & (DYNAMIC | {"GatherElements"})
    with torch.no_grad():
        assert difference(logits, network(x)) < 1e-4


@pytest.mark.onnx
@pytest.mark.slow
@pytest.mark.parametrize("how", ["learned", "random"])
def test_token_routing_that_is_not_traced(how: str) -> None:
    capacities = {"mlp_capacity": 0.4, "mixer_capacity": 0.6}
    routed = Block("softmax", num_heads=2, head_dim=8, mlp_hidden=48, **capacities)
    agree(randomized(small(routed, global_pool="token", token_routing=how)), dynamo=True)


@pytest.mark.onnx
@pytest.mark.parametrize("downsample", DOWNSAMPLES)
def test_stages(downsample: str) -> None:
    block = Block("window", num_heads=2, head_dim=8, window_size=4, shift=True, mlp_hidden=48)
    stages = (Stage(24, (block, block)), Stage(40, (block,), downsample))
    size = {"input_size": 32, "num_classes": 5, "stem": "conv", "patch_size": 4}
    kinds = {"stem_norm": True, "pos_embed": "relative", "global_pool": "avg"}
    agree(randomized(Architecture(stages, **size, **kinds)))


@pytest.mark.onnx
def test_attention_that_halves_grids_of_odd_sides() -> None:
    agree(randomized(levit()))


@pytest.mark.onnx
@pytest.mark.slow
def test_delivered_exporter(space: SearchSpace, supernet: Supernet) -> None:
    """The exporter that follows values instead of a trace, on whole networks."""
    for candidate in space.sample(2, seed=4):
        agree(supernet.extract(candidate), dynamo=True)
