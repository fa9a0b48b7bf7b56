"""Routed MLPs against dense computations of the same, and what follows for spaces and networks."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from vitpareto.spaces import Architecture, Block, Candidate, SearchSpace
from vitpareto.spaces.networks.block import ResidualBlock
from vitpareto.spaces.networks.routing import RandomRouter, TokenRouter
from vitpareto.spaces.places import places
from vitpareto.spaces.supernet import Supernet

from .helpers import difference, images, place, randomize, randomized, small

PLAIN = Block("softmax", num_heads=3, head_dim=8, mlp_hidden=48)
ROUTED = replace(PLAIN, mlp_capacity=0.3)
POOLED = Block("pool", mlp_hidden=48, mlp_capacity=0.3)


def block_of(block: Block, prefix: int = 0, **fields: str) -> ResidualBlock:
    """A block of capacity 0.3 on 6 x 6 tokens, of which 11 get the MLP."""
    at = replace(place(prefix), block=block, routed=11)
    made = ResidualBlock(at, small(block, **fields)).eval()
    randomize(made.state_dict(), 1)
    return made


def tokens(prefix: int = 0) -> Tensor:
    """Two images (2, prefix + 36, 24)."""
    return torch.randn(2, prefix + 36, 24, generator=torch.Generator().manual_seed(prefix))


@torch.no_grad()
def masked(block: ResidualBlock, x: Tensor, prefix: int) -> Tensor:
    """The same for tokens (B, N, C), with the MLP of all of them and a mask."""
    router = block.router
    assert isinstance(router, TokenRouter)
    scores = torch.einsum("bnc,c->bn", x, router.score.weight[0]) + router.score.bias
    scale = 2 / (1 + (-scores).exp())
    for image in range(len(x)):
        ranked = sorted(range(prefix, x.shape[1]), key=lambda i: -scores[image, i].item())
        scale[image, ranked[11:]] = 0
    scale[:, :prefix] = 1
    return x + scale[:, :, None] * block.update(x)


@pytest.mark.parametrize("prefix", [0, 2])
@torch.no_grad()
def test_routing_is_the_masked_mlp(prefix: int) -> None:
    block, x = block_of(ROUTED, prefix), tokens(prefix)
    out = block.feed(x)
    assert difference(out, masked(block, x, prefix)) < 1e-5
    moved = (out != x).any(-1)
    assert moved.sum(1).tolist() == [prefix + 11] * 2 and moved[:, :prefix].all()


@torch.no_grad()
def test_a_grid_is_routed_like_its_tokens() -> None:
    grid, flat, x = block_of(POOLED), block_of(ROUTED), tokens()
    own = grid.state_dict()
    flat.load_state_dict(
        flat.state_dict() | {n: own[n].view_as(v) for n, v in flat.state_dict().items() if n in own}
    )
    out = grid.feed(x.transpose(1, 2).unflatten(-1, (6, 6)))
    assert difference(out.flatten(2).transpose(1, 2), flat.feed(x)) < 1e-5


@torch.no_grad()
def test_order_of_tokens_does_not_matter() -> None:
    block, x = block_of(ROUTED), tokens()
    order = torch.randperm(36, generator=torch.Generator().manual_seed(0))
    assert difference(block.feed(x[:, order]), block.feed(x)[:, order]) < 1e-5


@torch.no_grad()
def test_capacity_one_is_todays_block() -> None:
    whole = replace(ROUTED, mlp_capacity=1.0)
    assert small(whole, token_routing="random") == small(PLAIN)
    assert (
        difference(
            randomized(small(whole))(images(small(whole))),
            randomized(small(PLAIN))(images(small(PLAIN))),
        )
        == 0
    )
    # Without an MLP there is nothing to get; all tokens with a score of 0 get all of it.
    assert small(replace(ROUTED, mlp_hidden=0)) == small(replace(PLAIN, mlp_hidden=0))
    block, x = block_of(ROUTED), tokens()
    assert isinstance(block.router, TokenRouter)
    block.router.top = 36
    nn.init.zeros_(block.router.score.weight)
    nn.init.zeros_(block.router.score.bias)
    assert difference(block.feed(x), x + block.update(x)) < 1e-6


def test_gradients_reach_the_score() -> None:
    block = block_of(ROUTED, 1)
    block.feed(tokens(1)).square().sum().backward()
    assert isinstance(block.router, TokenRouter)
    for parameter in block.router.parameters():
        assert parameter.grad is not None and parameter.grad.abs().min() > 0


@torch.no_grad()
def test_random_control() -> None:
    """Always the same tokens, others in each block, and all of the MLP for them."""
    blocks = [b for b in randomized(small(ROUTED, ROUTED, token_routing="random")).modules()
              if isinstance(b, ResidualBlock)]  # fmt: skip
    first, second = (b.router for b in blocks)
    assert isinstance(first, RandomRouter) and isinstance(second, RandomRouter)
    assert not first.index.equal(second.index) and len(first.index.unique()) == 19
    x = torch.randn(2, 64, 24)
    out, wanted = blocks[0].feed(x), x.clone()
    wanted[:, first.index] += blocks[0].update(x)[:, first.index]
    assert difference(out, wanted) < 1e-5


def test_dropped_tokens_are_not_chosen_among() -> None:
    both = replace(ROUTED, token_keep=0.5)
    assert [(p.tokens, p.kept, p.routed) for [p] in places(small(both))] == [(64, 33, 10)]


def space() -> SearchSpace:
    """Routed blocks of two widths, with attention and convolutions."""
    stage = {"depth": 2, "width": [16, 24], "num_heads": 2, "head_dim": 8}
    blocks = {"mixer": ["softmax", "pool"], "mlp_capacity": [1.0, 0.5, 0.25]}
    return SearchSpace(
        {
            **{"input_size": 16, "patch_size": 4, "num_classes": 5, "global_pool": "avg"},
            **{"token_routing": ["learned", "random"], "mlp_ratio": 2.0},
            "stages": [stage | {"blocks": blocks}],
        }
    )


def test_a_space_of_routed_blocks() -> None:
    """Its candidates are read back, and inherit weights that an own network gives the same with."""
    found = space()
    assert found.size == 2 * 4 * (2 * (9 - 1) + 1)  # which tokens matters unless all get the MLP
    supernet = Supernet(found)
    randomize(supernet.state_dict())
    capacities = set[float]()
    for candidate in found.sample(6):
        assert Candidate.from_json(candidate.to_json()) == candidate
        assert found.candidate(found.assignment(candidate)) == candidate
        x = images(candidate)
        with torch.no_grad():
            assert difference(supernet(candidate, x), supernet.extract(candidate)(x)) < 1e-4
        capacities |= {block.mlp_capacity for block in candidate.architecture.blocks()}
    assert capacities == {1.0, 0.5, 0.25}


def test_half_precision_keeps_the_stream() -> None:
    """Under autocast the branch is of another precision than what it is added to."""
    network = randomized(small(ROUTED, POOLED))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert network(images(network.architecture)).isfinite().all()


def _names(architecture: Architecture) -> set[str]:
    return set(randomized(architecture).state_dict())


def test_a_router_is_two_parameters_more() -> None:
    more = _names(small(ROUTED)) - _names(small(PLAIN))
    assert {name.rpartition("blocks.0.")[2] for name in more} == {
        "router.score.weight",
        "router.score.bias",
    }
    assert _names(small(ROUTED, token_routing="random")) == _names(small(PLAIN))
