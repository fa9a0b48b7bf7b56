"""What is scored is what the artifact computes."""

import copy
import random
from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from vitpareto.cost_models.graphs.quantize import apply_recipe, apply_recipes
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.search.compress import calibrate, deliverable, run
from vitpareto.search.compress.quantize import (
    quantize_bias,
    quantize_blocks,
    quantize_dynamic,
    quantize_range,
    quantize_weight,
)
from vitpareto.search.compress.scheme import scheme_of
from vitpareto.spaces import Block, Candidate, Policy
from vitpareto.spaces.compression import Compression, StagePolicy
from vitpareto.spaces.networks import Network

from .conftest import Trained
from .helpers import (
    architecture,
    candidate,
    delivered_logits,
    images,
    random_network,
    relative,
    run_onnx,
)

with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)  # whatever was imported before
    LAYERS = {
        "linear": (nn.Linear(96, 64), (1, 17, 96)),
        "odd inputs": (nn.Linear(40, 24), (1, 5, 40)),
        "convolution": (nn.Conv2d(3, 16, 4, stride=4), (1, 3, 16, 16)),
    }
CASES = [
    *(("float", 32), ("fp16", 16), ("dynamic8", 8), ("dynamic8", 6), ("static8", 8)),
    ("symmetric8", 8),
    *(("static8", 5), ("stored8", 8), ("stored8", 7), ("dynamic4", 4), ("static4", 4)),
    *(("stored4", 4), ("stored4", 2), ("blocks4", 4), ("blocks4", 3), ("blocks4a8", 4)),
    *(("dynamic8_tensor", 8), ("static8_tensor", 8), ("stored8_tensor", 8), ("dynamic4_tensor", 4)),
    *(("blocks4_64", 4), ("blocks4_128", 4), ("blocks4a8_64", 4), ("blocks4a8_128", 4)),
]
DYNAMIC = ("float", "fp16", "dynamic8", "stored8", "dynamic4", "stored4")
STATIC = ("float", "fp16", "static8", "stored8", "static4", "stored4")
BLOCKS = ("float", "fp16", "dynamic8", "stored8", "blocks4a8", "blocks4")


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("recipe", "bits"), CASES)
def test_a_layer_computes_what_its_recipe_does(kind: str, recipe: str, bits: int) -> None:
    layer, shape = LAYERS[kind]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact = layer(x)
        ranges = {"images": np.array([-2.5, 3.0], np.float32), "logits": _limits(exact)}
        found = run_onnx(apply_recipe(_exported(kind), recipe, ranges, bits), x)
        wanted = _simulated(layer, x, recipe, bits, ranges)
    assert relative(found, wanted) < 1e-6
    assert recipe == "float" or relative(wanted, exact) > 1e-5, "nothing was rounded"


@cache
def _exported(kind: str) -> onnx.ModelProto:
    return to_onnx(*LAYERS[kind])


def _limits(x: Tensor) -> np.ndarray:
    return np.array([x.min(), x.max()], np.float32)


def _simulated(
    layer: nn.Module, x: Tensor, recipe: str, bits: int, ranges: dict[str, np.ndarray]
) -> Tensor:
    conv = isinstance(layer, nn.Conv2d)
    scheme = scheme_of(recipe, bits, conv)
    if scheme.acts == "dynamic":
        x = quantize_dynamic(x, len(x))
    elif scheme.acts == "blocks":
        x = quantize_blocks(x, scheme.weights.block)
    elif scheme.acts == "static":
        x = quantize_range(x, *scheme.ends(*map(float, ranges["images"])))
    weight = quantize_weight(layer.weight, scheme.weights)
    if not conv:
        return nn.functional.linear(x, weight, layer.bias)
    if scheme.acts != "static":
        return nn.functional.conv2d(x, weight, layer.bias, layer.stride)
    ends = torch.from_numpy(ranges["images"])
    bias = layer.bias
    if not scheme.symmetric:
        bias = quantize_bias(bias, layer.weight, scheme.weights, *ends)
    y = nn.functional.conv2d(x, weight, bias, layer.stride)
    return quantize_range(y, *scheme.ends(*map(float, ranges["logits"])))


ATTENTION = {"num_heads": 4, "head_dim": 8, "mlp_hidden": 64}
NETWORKS = {
    "softmax": architecture(Block(**ATTENTION), Block(**ATTENTION), layer_scale=True),
    "window": architecture(Block("window", **ATTENTION, window_size=2), norm="rms"),
    "linear": architecture(Block("linear", **ATTENTION, kernel_size=3), layer_scale=True),
    "grouped": architecture(Block("grouped", **ATTENTION, kv_heads=2), global_pool="token"),
    "pooled": architecture(Block("pooled", **ATTENTION, kv_pool=2), act="relu"),
    "batch norm": architecture(
        Block("mbconv", kernel_size=3, mlp_hidden=64),
        Block("pool", mlp_hidden=64),
        Block(**ATTENTION),
        stem="conv",
        norm="batch",
        pos_embed="none",
        layer_scale=True,
    ),
    "token_mlp": architecture(Block("token_mlp", token_hidden=16, mlp_hidden=64)),
    "summaries": architecture(
        Block("linformer", **ATTENTION, kv_tokens=5),
        Block("performer", **ATTENTION, num_features=12),
        Block("banded", **ATTENTION, band=3),
        global_pool="token",
    ),
    "surroundings": architecture(
        Block("halo", **ATTENTION, window_size=2, halo=1),
        Block("focal", **ATTENTION, window_size=2, focal_levels=2),
        Block("aggregate", **ATTENTION, window_size=2, global_tokens=3),
        pos_embed="relative",
    ),
    "convolutions": architecture(
        Block("mbconv", kernel_size=3, mlp_hidden=64, se_hidden=16),
        Block("conv_next", kernel_size=3, mlp_hidden=64),
        Block("multiscale_linear", num_heads=4, head_dim=8, kernel_size=3),
        Block("cascaded", num_groups=2, key_dim=8, kernel_size=3),
        Block("fused_mbconv", kernel_size=3, mlp_hidden=64),
        act="hardswish",
    ),
    "attention pooling": architecture(global_pool="map", pool_heads=4),
}
POLICIES = [
    Policy(8, 8),
    Policy(4, 8),
    Policy(6, 32, sparsity=0.5),
    Policy(rank_ratio=0.4),
    Policy(8, 8, rank_ratio=0.3, sparsity=0.5),
]


def cases() -> Iterator[object]:
    """Every pair of a network, a policy and recipes; triples beyond that are slow."""
    books = (DYNAMIC, STATIC, BLOCKS)
    triples = product(enumerate(NETWORKS), enumerate(POLICIES), enumerate(books))
    for (i, kind), (j, policy), (k, recipes) in triples:
        marks = pytest.mark.slow if (i + j + k) % len(books) else ()
        yield pytest.param(kind, policy, recipes, marks=marks, id=f"{kind}-{policy}-{recipes[4]}")


@pytest.mark.parametrize(("kind", "policy", "recipes"), list(cases()))
def test_a_network_computes_what_its_artifact_does(
    kind: str, policy: Policy, recipes: tuple[str, ...]
) -> None:
    chosen = candidate(NETWORKS[kind], policy)
    network, x = random_network(chosen.architecture), images(chosen.architecture)
    delivered, found = _delivered(chosen, network, x, x, recipes)
    with torch.no_grad():
        exact = network(x)
        wanted = delivered_logits(delivered, chosen, x, recipes, x)
    # Static recipes round the head's bias to the integers of its sums, too.
    allowed = 1e-3 if recipes is STATIC else 1e-5
    if relative(found, wanted) >= allowed:
        # Where a value lies half way between two integers, the last bit of a sum decides, and
        # the difference grows from layer to layer: no two runtimes can be closer than this.
        nudged = (_nudged(delivered, seed) for seed in range(3))
        others = [delivered_logits(other, chosen, x, recipes, x) for other in nudged]
        allowed = 3 * max(relative(other, wanted) for other in others)
    assert relative(found, wanted) < allowed
    assert relative(wanted, exact) > 1e-3, "nothing was compressed"


def pairs() -> Iterator[object]:
    """Every network and every policy; pairs beyond that are slow."""
    for (i, kind), (j, policy) in product(enumerate(NETWORKS), enumerate(POLICIES)):
        marks = pytest.mark.slow if (i + j) % len(POLICIES) else ()
        yield pytest.param(kind, policy, marks=marks, id=f"{kind}-{policy}")


@pytest.mark.parametrize(("kind", "policy"), list(pairs()))
def test_training_sees_nearly_that(kind: str, policy: Policy) -> None:
    """Weights are compressed as they are, before norms are folded into them."""
    chosen = candidate(NETWORKS[kind], policy)
    network, x = random_network(chosen.architecture), images(chosen.architecture)
    params = network.state_dict()
    with torch.no_grad():
        calibration = calibrate(network, params, chosen, x)
        delivered = deliverable(network, chosen, calibration)
        seen = run(network, params, chosen, x, DYNAMIC, calibration)
        wanted = delivered_logits(delivered, chosen, x, DYNAMIC, x)
        # Batch norm before a linear layer is folded into its inputs, which rounds others.
        allowed = 2.0 if chosen.architecture.norm == "batch" else 0.6
        assert relative(seen, wanted) < allowed * relative(wanted, network(x))


def _nudged(network: Network, seed: int) -> Network:
    """A copy whose weights differ by what float32 cannot tell apart in a sum."""
    network, generator = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(1 + 1e-6 * torch.randn(value.shape, generator=generator))
    return network


def _delivered(
    chosen: Candidate, network: Network, x: Tensor, seen: Tensor, recipes: tuple[str, ...]
) -> tuple[Network, Tensor]:
    """The network that is exported, and the logits of its artifact in ONNX Runtime."""
    calibration = calibrate(network, network.state_dict(), chosen, seen)
    delivered = deliverable(network, chosen, calibration)
    graph = to_onnx(delivered, (1, *x.shape[1:]))
    limits = calibrate(delivered, delivered.state_dict(), chosen, seen, recipes).limits
    return delivered, run_onnx(apply_recipes(graph, chosen, recipes, limits), x)


def test_scored_accuracy_is_the_accuracy_of_the_artifact(trained: Trained) -> None:
    """Random policies, a different one for every sub-block."""
    rng = random.Random(0)

    def policy() -> Policy:
        return Policy(
            *(rng.choice([32, 8, 6, 4, 3]), rng.choice([8, 32])),
            rank_ratio=rng.choice([1.0, 0.4]),
            sparsity=rng.choice([0.0, 0.5]),
        )

    gaps: list[float] = []
    for recipes in (DYNAMIC, STATIC, BLOCKS) * 3:
        stage = StagePolicy((policy(), policy()), (policy(), policy()))
        chosen = Candidate(trained.network.architecture, Compression((stage,), policy(), policy()))
        x, seen = trained.held_out, trained.train[:64]
        delivered, found = _delivered(chosen, trained.network, x, seen, recipes)
        wanted = delivered_logits(delivered, chosen, x, recipes, seen)
        labels = trained.held_out_labels
        scores = [(logits.argmax(1) == labels).float().mean().item() for logits in (found, wanted)]
        gaps.append(abs(scores[0] - scores[1]))
    assert np.mean(gaps) <= 0.003
