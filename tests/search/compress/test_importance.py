from dataclasses import replace

import pytest
import torch

from vitpareto.search.compress.importance import allot, prune, taylor, unit_scores, units_of
from vitpareto.spaces import Architecture, Block, SearchSpace
from vitpareto.spaces.networks import Network
from vitpareto.spaces.supernet import Supernet

from .conftest import Trained
from .helpers import architecture, images, largest, random_network


def resized(a: Architecture, heads: int, hidden: int) -> Architecture:
    stages = tuple(
        replace(
            stage,
            blocks=tuple(replace(b, num_heads=heads, mlp_hidden=hidden) for b in stage.blocks),
        )
        for stage in a.stages
    )
    return replace(a, stages=stages)


ATTENTION = {"num_heads": 4, "head_dim": 8, "mlp_hidden": 64}
KINDS = [
    Block(**ATTENTION),
    Block("window", **ATTENTION, window_size=2),
    Block("linear", **ATTENTION, kernel_size=3),
    Block("pooled", **ATTENTION, kv_pool=2),
]


@pytest.mark.parametrize("block", KINDS, ids=lambda b: b.mixer)
def test_masked_is_sliced(block: Block) -> None:
    """Zeroing what the least important units write is the same as not having them."""
    a = architecture(block, block)
    network, x = random_network(a).double(), images(a).double()
    scores = {name: torch.rand_like(p) for name, p in network.named_parameters()}
    smaller = resized(a, 2, 24)
    masked = Network(a).double()
    masked.load_state_dict(network.state_dict())
    with torch.no_grad():
        for units, values in unit_scores(network, scores).items():
            kept = {"heads": 2, "hidden": 24}[units.axis]
            gone = values.argsort(descending=True, stable=True)[kept:]
            module = masked.get_submodule(units.module)
            last = module.proj if units.axis == "heads" else module.fc2
            last.weight.view(32, units.length, -1)[:, gone] = 0
        pruned = prune(network, smaller, scores).double()
        assert largest(pruned(x), masked.eval()(x)) < 1e-12
        assert largest(pruned(x), network(x)) > 1e-2
    shapes = {name: p.shape for name, p in pruned.named_parameters()}
    assert shapes["stages.0.blocks.0.attn.q.weight"] == (16, 32)
    assert shapes["stages.0.blocks.1.mlp.fc2.weight"] == (32, 24)


OTHERS = [
    Block("mbconv", kernel_size=3, mlp_hidden=64),
    Block("token_mlp", token_hidden=16, mlp_hidden=64),
    Block("conv_next", kernel_size=3, mlp_hidden=64),
    Block("aggregate", **ATTENTION, window_size=2, global_tokens=3),
]


@pytest.mark.parametrize("block", KINDS + OTHERS, ids=lambda b: b.mixer)
def test_pruning_nothing_only_sorts(block: Block) -> None:
    a = architecture(block, Block("grouped", **ATTENTION, kv_heads=2))
    network, x = random_network(a), images(a)
    pruned = prune(network, a)
    with torch.no_grad():
        assert largest(pruned(x), network(x)) < 1e-5
    own = network.state_dict()
    moved = {name for name, value in pruned.state_dict().items() if not value.equal(own[name])}
    assert {name.split(".")[3] for name in moved if ".attn." not in name} == {"0", "1"}
    heads = {units.module for units in units_of(network) if units.axis == "heads"}
    assert heads == ({"stages.0.blocks.0.attn"} if block.num_heads else set()), (
        "heads that share keys cannot be cut one by one"
    )


def test_mbconv_loses_hidden_channels_with_their_statistics() -> None:
    a = architecture(OTHERS[0])
    network, x = random_network(a), images(a)
    smaller = architecture(replace(OTHERS[0], mlp_hidden=40))
    pruned = prune(network, smaller)
    assert pruned.get_submodule("stages.0.blocks.0.mbconv.bn2").running_var.shape == (40,)
    with torch.no_grad():
        [(units, values)] = unit_scores(
            network, {n: p.square() for n, p in network.named_parameters()}
        ).items()
        gone = values.argsort(descending=True, stable=True)[40:]
        network.get_submodule(f"{units.module}.conv_pwl").weight[:, gone] = 0
        assert largest(pruned(x), network(x)) < 1e-5


def scores_of(trained: Trained, batches: int = 4) -> dict[str, torch.Tensor]:
    params = dict(trained.network.named_parameters())
    losses = (trained.loss(trained.network, 64 * i) for i in range(batches))
    return taylor(params, losses)


def test_scores_accumulate_over_batches(trained: Trained) -> None:
    first, second = scores_of(trained, 1), scores_of(trained, 2)
    assert first.keys() == {name for name, _ in trained.network.named_parameters()}
    assert all((second[name] >= first[name]).all() for name in first)
    assert any((second[name] > first[name]).any() for name in first)


def test_taylor_beats_random_and_inverse_order(trained: Trained) -> None:
    scores = scores_of(trained)
    smaller = resized(trained.network.architecture, 3, 32)

    def after(order: dict[str, torch.Tensor]) -> float:
        pruned = prune(trained.network, smaller, order)
        with torch.inference_mode():
            return trained.loss(pruned, 512, 512).item()

    best, worst = after(scores), after({name: -value for name, value in scores.items()})
    generator = torch.Generator().manual_seed(0)
    random = [
        after({n: torch.rand(v.shape, generator=generator) for n, v in scores.items()})
        for _ in range(5)
    ]
    assert best < min(random)
    assert max(random) < worst


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9])
def test_units_are_ranked_among_their_like(trained: Trained, share: float) -> None:
    scores = scores_of(trained)
    # Heads and hidden units have scores of different size: one ranking of both would cut one kind.
    smaller = allot(trained.network, scores, share)
    heads = sum(b.num_heads for b in smaller.blocks())
    hidden = sum(b.mlp_hidden for b in smaller.blocks())
    assert heads == pytest.approx(8 * (1 - share), abs=2)
    assert hidden == pytest.approx(128 * (1 - share), abs=16)
    assert all(b.num_heads >= 1 and b.mlp_hidden >= 8 for b in smaller.blocks())
    pruned = prune(trained.network, smaller, scores)
    if share == 0:
        assert smaller == trained.network.architecture
        assert trained.accuracy(pruned) == trained.accuracy(trained.network)


def test_a_supernet_sorts_by_the_same_scores() -> None:
    space = SearchSpace.from_yaml("digits")
    supernet = Supernet(space)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.normal_(0, 0.1)
    largest_candidate = space.largest()
    x = images(largest_candidate.architecture, 4)
    losses = (supernet(largest_candidate, x[i : i + 2]).square().sum() for i in (0, 2))
    scores = taylor(supernet.params, losses)
    assert scores.keys() == supernet.params.keys()
    with torch.no_grad():
        before = supernet(largest_candidate, x)
        supernet.sort_by_importance(scores)
        assert largest(supernet(largest_candidate, x), before) < 1e-4
