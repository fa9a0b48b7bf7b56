"""Routers that a start does not have: what their tokens miss, and what is repaired behind them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vitpareto.search.library.parts import Library
from vitpareto.search.library.repair import assemble
from vitpareto.search.library.routes import SPREAD, teach
from vitpareto.search.library.slices import sliced
from vitpareto.search.library.start import Start, trace
from vitpareto.spaces import Architecture, Block, Candidate, Policy, Stage
from vitpareto.spaces.compression import Compression, StagePolicy
from vitpareto.spaces.networks import Network
from vitpareto.spaces.networks.routing import TokenRouter

from ..compress.helpers import images, random_network

PLAIN = Block("softmax", num_heads=2, head_dim=8, mlp_hidden=32)
CONV = Block("pool", mlp_hidden=32)
ROUTED, ROUTED_CONV = (replace(block, mlp_capacity=0.5) for block in (PLAIN, CONV))
MIXED = replace(PLAIN, mixer_capacity=0.5)


def of(*blocks: Block, **fields: object) -> Architecture:
    settings = {"input_size": 16, "patch_size": 4, "num_classes": 5, "in_chans": 1}
    return Architecture((Stage(16, blocks),), **{"global_pool": "avg", **settings, **fields})


def library_of(network: Network) -> Library:
    return Library(Start.of(network, images(network.architecture, 24)))


def router_of(network: Network, block: int, name: str = "router") -> TokenRouter:
    router = network.get_submodule(f"stages.0.blocks.{block}.{name}")
    assert isinstance(router, TokenRouter)
    return router


@torch.no_grad()
def test_those_are_chosen_that_miss_most() -> None:
    """As far as a line can tell; and what they get is hardly scaled."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 1 + 16, 16, generator=generator)
    size = (5 + x[:, :, 0] + 0.1 * torch.randn(8, 17, generator=generator)).clamp_min(0.1)
    wanted = size[:, :, None] * torch.nn.functional.normalize(x, dim=2)
    router = router_of(random_network(of(ROUTED, global_pool="token")), 0)
    teach(router, x, wanted, torch.ones(8, 17))
    index, gate = router(x)
    best = size[:, 1:].topk(8, 1).indices + 1
    assert (
        sum(len(set(a) & set(b)) for a, b in zip(index.tolist(), best.tolist(), strict=True)) > 56
    )
    assert gate is not None and (gate - 1).abs().max() < 3 * SPREAD
    still = router.score.weight.clone()
    teach(router, x, torch.zeros_like(wanted), torch.ones(8, 17))  # nothing is missing anywhere
    assert router.score.weight.isfinite().all() and not router.score.weight.equal(still)


@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize("first", [ROUTED, MIXED], ids=["mlp", "mixer"])
@torch.no_grad()
def test_a_routed_candidate_is_repaired(first: Block, bits: int) -> None:
    """Of tokens and of grids, also with integer weights; its stream comes nearer to the start's."""
    library = library_of(random_network(of(PLAIN, CONV, PLAIN)))
    a = of(first, ROUTED_CONV, PLAIN)
    policies = StagePolicy(*((Policy(bits, bits),) * 3 for _ in range(2)))
    candidate = Candidate(a, Compression((policies,)))
    assembled = assemble(library, candidate)

    def off(network: Network) -> Tensor:
        ours, theirs = trace(network, library.start.images), library.start.trace
        return (ours.enter[0][2] - theirs.enter[0][2]).square().mean()

    assert off(assembled) < 0.9 * off(sliced(library, a))
    x = images(a, 4, seed=1)
    assert assembled(x).isfinite().all()


@torch.no_grad()
def test_a_routed_start_keeps_its_scores() -> None:
    both = replace(ROUTED, mixer_capacity=0.5)
    network = random_network(of(both, ROUTED_CONV))
    library = library_of(network)
    own, wanted = assemble(library, Candidate.uncompressed(network.architecture)), network
    assert all(v.equal(wanted.state_dict()[n]) for n, v in own.state_dict().items())
    fewer = of(replace(both, mlp_capacity=0.25, mixer_capacity=0.75), ROUTED_CONV)
    smaller = assemble(library, Candidate.uncompressed(fewer))
    for block, name in ((0, "router"), (1, "router"), (0, "mixer_router")):
        scores = [router_of(n, block, name).score.weight for n in (smaller, network)]
        assert scores[0].equal(scores[1])


@torch.no_grad()
def test_a_random_route_is_none_of_the_start() -> None:
    """It has no weights by which the two could be told apart."""
    library = library_of(random_network(of(ROUTED, MIXED, PLAIN)))
    a = of(ROUTED, MIXED, PLAIN, token_routing="random")
    repaired = assemble(library, Candidate.uncompressed(a)).state_dict()
    for name in ("stages.0.blocks.0.mlp.fc2.weight", "stages.0.blocks.1.attn.proj.weight"):
        assert not repaired[name].equal(library.start.weights[name])  # for the tokens that it gets
