import torch
from torch import Tensor

from vitpareto.search.compress import run
from vitpareto.spaces import Policy, SearchSpace
from vitpareto.spaces.networks import Network

from .helpers import architecture, candidate, images, random_network


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_uncompressed_candidates_run_as_plain_networks(space: SearchSpace) -> None:
    candidate = space.largest()
    network = Network(candidate.architecture).eval()
    images = normal(3, 1, 16, 16)
    logits = run(network, network.state_dict(), candidate, images)
    assert logits.equal(network(images))


def test_compression_leaves_the_network_as_it_was(space: SearchSpace) -> None:
    candidate = next(c for c in space.sample(20) if c.compression.stages[0].mlp[0].weight_bits == 8)
    network = Network(candidate.architecture).eval()
    images = normal(3, 1, 16, 16)
    before = network(images)
    logits = run(network, network.state_dict(), candidate, images)
    assert not logits.allclose(before, atol=1e-7)
    assert logits.allclose(before, atol=0.1)
    assert network(images).equal(before)


def test_an_image_does_not_depend_on_its_batch(space: SearchSpace) -> None:
    candidate = next(c for c in space.sample(20) if c.compression.stages[0].mlp[0].weight_bits == 8)
    network = Network(candidate.architecture).eval()
    images = normal(4, 1, 16, 16) * torch.tensor([0.1, 1, 10, 100]).view(4, 1, 1, 1)
    together = run(network, network.state_dict(), candidate, images)
    alone = [run(network, network.state_dict(), candidate, image[None]) for image in images]
    assert together.allclose(torch.cat(alone), atol=1e-4)


def test_a_learned_query_is_of_no_batch() -> None:
    a = architecture(global_pool="map", pool_heads=4)
    chosen, network, x = candidate(a, Policy(8, 8)), random_network(a), images(a, 3)
    together = run(network, network.state_dict(), chosen, x)
    alone = [run(network, network.state_dict(), chosen, image[None]) for image in x]
    assert together.allclose(torch.cat(alone), atol=1e-4)
