import pytest
import torch
from torch import Tensor

from vitpareto.search.compress.network import compressible
from vitpareto.search.library.fitting import Twins
from vitpareto.search.library.ridge import ridge_step
from vitpareto.spaces import Block, Policy
from vitpareto.spaces.networks import Network

from ..compress.helpers import architecture, candidate, random_network

NAME = "stages.0.blocks.0.mlp.fc2"
POLICIES = [
    Policy(),
    Policy(weight_bits=4),
    Policy(weight_bits=8, act_bits=8),
    Policy(rank_ratio=0.25),
    Policy(sparsity=0.5),
    Policy(weight_bits=4, rank_ratio=0.5, sparsity=0.25),
]


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def twins(policy: Policy) -> tuple[Network, Twins]:
    a = architecture(Block(num_heads=2, head_dim=8, mlp_hidden=48))
    network = random_network(a).requires_grad_(False)
    return network, Twins(network, compressible(network, candidate(a, policy)))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("noise", [0.0, 1.0, 30.0])
def test_never_farther_than_before(policy: Policy, noise: float) -> None:
    """With its compression in place, weights of tokens and scales of channels included."""
    network, both = twins(policy)
    both.compress("stages.0.blocks.0.mlp")
    before = both.running.get_submodule(NAME)
    inputs, rows, scale = draw(0, 6, 17, 48).relu(), draw(1, 6, 17).abs(), draw(2, 32)
    scale[3] = 0.0
    wanted = scale * before(inputs) + noise * draw(3, 6, 17, 32)
    left = ((scale * before(inputs) - wanted).square().sum(2) * rows).sum()
    outputs = both.fit(NAME, inputs, wanted, rows, scale)
    after = ((scale * outputs - wanted).square().sum(2) * rows).sum()
    assert after <= left
    assert (after < left) == (noise > 0)
    assert torch.allclose(both.running.get_submodule(NAME)(inputs), outputs, atol=1e-4)
    # What is kept is float; compressed again, it is what ran.
    again = Twins(network, both.layers)
    again.compress("stages.0.blocks.0.mlp")
    again_outputs = again.running.get_submodule(NAME)(inputs)
    assert torch.allclose(again_outputs, outputs, atol=2e-3 * float(outputs.abs().max()))


def test_a_step_is_the_ridge_solution() -> None:
    """Compared with weighted least squares on rows that stand for the penalty."""
    inputs, errors, rows = draw(0, 90, 7) + 2, draw(1, 90, 3), draw(2, 90).abs()
    change, shift = ridge_step(inputs, errors, rows)
    mean = (rows @ inputs) / rows.sum()
    held = 0.1 * (((inputs - mean).square() * rows[:, None]).sum(0)).mean()
    root = rows.sqrt()[:, None]
    penalty = torch.cat([torch.eye(7) * held.sqrt(), torch.zeros(7, 1)], 1)
    left = torch.cat([torch.cat([inputs, torch.ones(90, 1)], 1) * root, penalty])
    right = torch.cat([errors * root, torch.zeros(7, 3)])
    solution = torch.linalg.lstsq(left.double(), right.double()).solution.T
    assert torch.allclose(change.double(), solution[:, :7], atol=1e-5)
    assert torch.allclose(shift.double(), solution[:, 7], atol=1e-4)


def test_without_a_bias_nothing_is_shifted() -> None:
    inputs, errors = draw(0, 50, 4) + 3, draw(1, 50, 2) + 1
    change, shift = ridge_step(inputs, errors, torch.ones(50), biased=False)
    assert (shift == 0).all()
    assert (errors - inputs @ change.T).square().sum() < errors.square().sum()


def test_a_layer_in_float_moves_beside_compressed_ones() -> None:
    network, both = twins(Policy(weight_bits=4))
    others = {name: layer for name, layer in both.layers.items() if name != NAME}
    both = Twins(network, others)
    inputs, wanted = draw(0, 6, 17, 48).relu(), draw(1, 6, 17, 32)
    layers = [n.get_submodule(NAME) for n in (both.network, both.running)]
    left = (layers[0](inputs) - wanted).square().sum()
    outputs = both.fit(NAME, inputs, wanted, torch.ones(6, 17), torch.ones(32))
    assert both.running is not both.network
    assert all(layer(inputs).equal(outputs) for layer in layers)
    assert (outputs - wanted).square().sum() < 0.9 * left
