"""Training with rounding sees the kernel that will run, not the branches that it is the sum of."""

import pytest
import torch

from vitpareto.search.compress import deliverable, prepared, run
from vitpareto.search.compress.network import UNCALIBRATED, calibrate
from vitpareto.spaces import Block, Policy
from vitpareto.spaces.networks import Network
from vitpareto.spaces.networks.branches import branches_of, merge, merged

from .helpers import architecture, candidate, images, random_network

BLOCKS = (
    Block("fused_mbconv", mlp_hidden=16, kernel_size=3),
    Block("mbconv", mlp_hidden=16, kernel_size=5, se_hidden=8),
)
POLICIES = (Policy(4, 8), Policy(8, 8, sparsity=0.5))


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_rounding_is_that_of_the_sum(policy: Policy) -> None:
    """Logits are those of a plain network with the summed kernels, before and after folding."""
    a = architecture(*BLOCKS, stem="conv", norm="batch", reparam=True)
    chosen, network, x = candidate(a, policy), random_network(a), images(a)
    plain = Network(architecture(*BLOCKS, stem="conv", norm="batch")).eval()
    state = merged(branches_of(network), network.state_dict())
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    other = candidate(plain.architecture, policy)
    with torch.no_grad():
        wanted = run(plain, plain.state_dict(), other, x)
        assert (run(network, network.state_dict(), chosen, x) - wanted).abs().max() < 1e-5
        assert len(branches_of(network)) == 4
        made, like = deliverable(network, chosen), deliverable(plain, other)
        assert made.state_dict().keys() == like.state_dict().keys()
        for name, value in made.state_dict().items():
            assert (value - like.state_dict()[name]).abs().max() < 1e-5
        seen = [calibrate(n, n.state_dict(), c, x) for n, c in ((network, chosen), (plain, other))]
        for name, ends in seen[1].leaving.items():
            assert seen[0].leaving[name] == pytest.approx(ends, abs=1e-4)


def test_all_branches_learn_through_the_rounding() -> None:
    a = architecture(*BLOCKS, stem="conv", norm="batch", reparam=True)
    chosen = candidate(a, Policy(4, 8))
    network = prepared(random_network(a), chosen, UNCALIBRATED).train()
    ways = branches_of(network)
    assert not any(conv.point.any() for conv in ways.values())  # the sum is in the weight
    merge(network)
    logits = run(network, dict(network.named_parameters()), chosen, images(a))
    logits.square().mean().backward()
    for conv in ways.values():
        for part in (conv.weight, conv.gamma, conv.point):
            assert part.grad is not None and part.grad.any()
