"""Mixers of chosen tokens against attention with a mask, and what follows for spaces."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vitpareto.spaces import Architecture, Block, Candidate, SearchSpace, Stage
from vitpareto.spaces.mixers import MIXERS, find
from vitpareto.spaces.networks.attention import Attention
from vitpareto.spaces.networks.block import ResidualBlock
from vitpareto.spaces.networks.routing import RandomRouter, TokenRouter
from vitpareto.spaces.places import places
from vitpareto.spaces.rules import problems
from vitpareto.spaces.supernet import Supernet

from .helpers import NUMBERS, difference, images, place, randomize, randomized, small

PLAIN = Block("softmax", num_heads=3, head_dim=8, mlp_hidden=48)
ROUTED = replace(PLAIN, mixer_capacity=0.3)
MIXED = 11  # of 6 x 6 tokens


def block_of(mixer: str, prefix: int = 0, **fields: object) -> ResidualBlock:
    """A block of capacity 0.3 on 6 x 6 tokens."""
    at = place(prefix, mixer=mixer, mlp_hidden=48, mixer_capacity=0.3, **NUMBERS)
    made = ResidualBlock(replace(at, mixed=MIXED), small(at.block, **fields)).eval()
    randomize(made.state_dict(), 1)
    return made


def tokens(prefix: int = 0) -> Tensor:
    """Two images (2, prefix + 36, 24)."""
    return torch.randn(2, prefix + 36, 24, generator=torch.Generator().manual_seed(prefix))


def scale_of(block: ResidualBlock, x: Tensor, prefix: int) -> Tensor:
    """By what each token of (B, N, C) is scaled, in numbers of Python: (B, N), 0 if not chosen."""
    router = block.mixer_router
    assert isinstance(router, TokenRouter)
    weight, bias = router.score.weight[0].tolist(), router.score.bias.item()
    scale = torch.zeros(x.shape[:2])
    for image in range(len(x)):
        scores = [sum(w * v for w, v in zip(weight, row.tolist(), strict=True)) + bias
                  for row in x[image]]  # fmt: skip
        ranked = sorted(range(prefix, x.shape[1]), key=lambda i: -scores[i])
        for i in ranked[:MIXED]:
            scale[image, i] = 2 / (1 + math.exp(-scores[i]))
        scale[image, :prefix] = 1
    return scale


@pytest.mark.parametrize("prefix", [0, 2])
@torch.no_grad()
def test_routing_is_attention_with_a_mask(prefix: int) -> None:
    """Who is not chosen neither asks nor is seen; class tokens and registers always are."""
    block, x = block_of("softmax", prefix), tokens(prefix)
    scale = scale_of(block, x, prefix)
    attn, normed = block.get_submodule("attn"), block.norm1(x)
    assert isinstance(attn, Attention)
    q, k, v = (
        layer(normed).view(2, -1, 3, 8).transpose(1, 2) for layer in (attn.q, attn.k, attn.v)
    )
    seen = (scale > 0)[:, None, None].expand(-1, -1, x.shape[1], -1)
    mixed = F.scaled_dot_product_attention(q, k, v, seen).transpose(1, 2).flatten(2)
    out = block.mix(x)
    assert difference(out, x + scale[:, :, None] * attn.proj(mixed)) < 1e-5
    assert torch.equal((out != x).any(-1), scale > 0)
    assert (scale > 0).sum(1).tolist() == [prefix + MIXED] * 2


@pytest.mark.parametrize("mixer", ["grouped", "performer"])
@torch.no_grad()
def test_chosen_tokens_are_mixed_alone(mixer: str) -> None:
    """As images of nothing else, and each in its place; whichever order tokens have."""
    block, x = block_of(mixer, layer_scale=True), tokens()
    scale, wanted = scale_of(block, x, 0), x.clone()
    for image in range(2):
        chosen = [i for i in range(36) if scale[image, i] > 0]
        alone = x[image : image + 1, chosen]
        update = block.ls1(block.branch(alone)[0])[0]
        for i, added in zip(chosen, update, strict=True):
            wanted[image, i] += scale[image, i] * added
    out = block.mix(x)
    assert difference(out, wanted) < 1e-5
    order = torch.randperm(36, generator=torch.Generator().manual_seed(0))
    assert difference(block.mix(x[:, order]), out[:, order]) < 1e-5


@torch.no_grad()
def test_capacity_one_is_the_plain_block() -> None:
    whole = small(replace(ROUTED, mixer_capacity=1.0), token_routing="random")
    assert whole == small(PLAIN) and repr(whole) == repr(small(PLAIN))
    assert Candidate.uncompressed(whole).key == Candidate.uncompressed(small(PLAIN)).key
    x = images(whole)
    assert torch.equal(randomized(whole)(x), randomized(small(PLAIN))(x))
    unmixed = Block("identity", mlp_hidden=48)
    assert small(replace(unmixed, mixer_capacity=0.5)) == small(unmixed)  # nothing to get
    # All tokens with a score of 0 get all of it, in whatever order they are taken.
    block, x = block_of("softmax"), tokens()
    assert isinstance(block.mixer_router, TokenRouter)
    block.mixer_router.top = 36
    for parameter in block.mixer_router.parameters():
        parameter.zero_()
    assert difference(block.mix(x), x + block.branch(x)[0]) < 1e-5


def test_gradients_reach_the_score() -> None:
    block = block_of("softmax", 1)
    block.mix(tokens(1)).square().sum().backward()
    assert block.mixer_router is not None
    for parameter in block.mixer_router.parameters():
        assert parameter.grad is not None and parameter.grad.abs().min() > 0


@torch.no_grad()
def test_random_control() -> None:
    """Always the same tokens, others in each block, and others for its MLP."""
    both = replace(ROUTED, mlp_capacity=0.3)
    network = randomized(small(both, both, token_routing="random"))
    blocks = [b for b in network.modules() if isinstance(b, ResidualBlock)]
    routers = [r for b in blocks for r in (b.mixer_router, b.router)]
    subsets = {tuple(r.index.tolist()) for r in routers if isinstance(r, RandomRouter)}
    assert len(subsets) == len(routers) == 4
    assert {len(set(subset)) for subset in subsets} == {19}
    x, router = torch.randn(2, 64, 24), blocks[0].mixer_router
    assert isinstance(router, RandomRouter)
    wanted = x.clone()
    wanted[:, router.index] += blocks[0].branch(x[:, router.index])[0]
    assert difference(blocks[0].mix(x), wanted) < 1e-5


def test_tokens_that_were_dropped_are_not_chosen_among() -> None:
    stage = small(replace(PLAIN, token_keep=0.5), ROUTED)
    assert [(p.tokens, p.mixed, p.kept) for [*ps] in places(stage) for p in ps] == [
        (64, 0, 33),
        (33, 10, 33),
    ]
    assert randomized(stage)(images(stage)).isfinite().all()


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_mixer_mixes_chosen_tokens_or_says_why_not(mixer: str) -> None:
    heads = {"num_heads": 2, "head_dim": 8, "mlp_hidden": 48, **NUMBERS}
    architecture = small(Block(mixer, mixer_capacity=0.5, **heads))
    reasons = [reason for reason in problems(architecture) if "mixer_capacity" in reason]
    if find(mixer).needs_grid and not find(mixer).is_nothing:
        assert reasons == [
            "architecture.stages[0].blocks[0]: mixer_capacity 0.5 takes some of the tokens alone, "
            f"but mixer {mixer!r} needs the whole token grid"
        ]
    else:
        assert not reasons
        assert randomized(architecture)(images(architecture)).isfinite().all()


def space() -> SearchSpace:
    """Routed blocks of two widths, with attention of sets and of windows."""
    stage = {"depth": 2, "width": [16, 24], "num_heads": 2, "head_dim": 8, "window_size": 2}
    blocks = {"mixer": ["softmax", "window"], "mixer_capacity": [1.0, 0.5, 0.25]}
    return SearchSpace(
        {
            **{"input_size": 16, "patch_size": 4, "num_classes": 5, "global_pool": "avg"},
            **{"token_routing": ["learned", "random"], "mlp_ratio": 2.0},
            "stages": [stage | {"blocks": blocks}],
        }
    )


def test_a_space_of_routed_mixers() -> None:
    """Its candidates are read back, and inherit weights that an own network gives the same with."""
    found = space()
    assert found.size == 2 * (2 * 2 + 2 * (4 * 4 - 2 * 2))  # a window has all tokens
    supernet = Supernet(found)
    randomize(supernet.state_dict())
    capacities = set[tuple[str, float]]()
    for candidate in dict.fromkeys([*found.sample(4), *found.covering()]):
        assert Candidate.from_json(candidate.to_json()) == candidate
        assert found.candidate(found.assignment(candidate)) == candidate
        x = images(candidate)
        with torch.no_grad():
            assert difference(supernet(candidate, x), supernet.extract(candidate)(x)) < 1e-4
        capacities |= {(b.mixer, b.mixer_capacity) for b in candidate.architecture.blocks()}
    assert capacities == {("window", 1.0), *(("softmax", share) for share in (1.0, 0.5, 0.25))}


def test_a_router_is_two_parameters_more() -> None:
    def names(architecture: Architecture) -> set[str]:
        return {
            name.partition("blocks.0.")[2]
            for name in randomized(architecture).state_dict()
            if "blocks.0." in name
        }

    more = {"mixer_router.score.weight", "mixer_router.score.bias"}
    assert names(small(ROUTED)) - names(small(PLAIN)) == more
    assert names(small(ROUTED, token_routing="random")) == names(small(PLAIN))


def test_half_precision_keeps_the_stream() -> None:
    """Under autocast the branch is of another precision than what it is added to."""
    a = Architecture((Stage(24, (ROUTED,)),), 32, 3, 5, patch_size=4, layer_scale=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert randomized(a)(images(a)).isfinite().all()
