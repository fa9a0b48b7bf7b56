import pytest
import torch
from torch import nn

from vitpareto.cost_models.units.workload import workload
from vitpareto.search.compress import calibrate, deliverable, prepared, run
from vitpareto.search.compress.low_rank import Factored, directions, factorized, factors, truncated
from vitpareto.search.compress.network import compressed, compressible
from vitpareto.spaces import Block, Policy
from vitpareto.spaces.ops import rank

from .conftest import Trained
from .helpers import architecture, candidate, images, largest, random_network, relative

GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(48, 32, generator=GENERATOR)
INPUTS = torch.randn(500, 32, generator=GENERATOR) * torch.logspace(0, -2, 32)
INPUTS = INPUTS @ torch.randn(32, 32, generator=GENERATOR)
GRAM = INPUTS.T @ INPUTS / len(INPUTS)


@pytest.mark.parametrize("gram", [None, GRAM], ids=["plain", "weighted"])
def test_full_rank_is_the_matrix_itself(gram: torch.Tensor | None) -> None:
    assert relative(truncated(WEIGHT, 32, gram), WEIGHT) < 1e-5


def test_error_falls_with_rank_and_is_less_where_inputs_count() -> None:
    exact = INPUTS @ WEIGHT.T
    plain, weighted = (
        [relative(INPUTS @ truncated(WEIGHT, r, gram).T, exact) for r in range(2, 32, 3)]
        for gram in (None, GRAM)
    )
    assert weighted == sorted(weighted, reverse=True)
    assert all(w < p for w, p in zip(weighted, plain, strict=True))
    weights = [relative(truncated(WEIGHT, r), WEIGHT) for r in range(2, 32, 3)]
    assert weights == sorted(weights, reverse=True)


def test_weighting_is_the_best_there_is() -> None:
    """No other matrix of the rank is closer on these inputs: Eckart-Young after whitening."""
    exact = INPUTS @ WEIGHT.T
    left, values, right = torch.linalg.svd(exact, full_matrices=False)
    bound = relative((left[:, :8] * values[:8]) @ right[:8], exact)
    assert relative(INPUTS @ truncated(WEIGHT, 8, GRAM).T, exact) < 1.02 * bound


def test_what_is_between_the_factors_is_white() -> None:
    _, right = factors(WEIGHT, 8, GRAM)
    assert (right @ GRAM @ right.T).allclose(torch.eye(8), atol=0.05)


def test_gradients_stay_in_the_kept_space() -> None:
    weight = WEIGHT.clone().requires_grad_()
    truncated(weight, 8).square().sum().backward()
    assert weight.grad is not None
    assert torch.linalg.matrix_rank(weight.grad) == 8


def test_two_layers_are_the_matrix_they_replace() -> None:
    layer = nn.Linear(32, 48)
    read, right = directions(WEIGHT, 8, GRAM)
    scale = torch.rand(48, 1, generator=GENERATOR) + 0.5
    with torch.no_grad():
        layer.weight.copy_(scale * WEIGHT @ read @ right)
        pair = factorized(layer, read)
        assert largest(pair(INPUTS), layer(INPUTS)) < 1e-4
        assert largest(pair[0].weight, right) < 1e-3, "rows that are scaled keep the right factor"
    assert not hasattr(pair[0], "bias") or pair[0].bias is None


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7])
def test_networks_are_factored_only_where_that_is_smaller(ratio: float) -> None:
    blocks = (Block(num_heads=4, head_dim=8, mlp_hidden=64),) * 2
    chosen = candidate(architecture(*blocks, layer_scale=True), Policy(rank_ratio=ratio))
    network, x = random_network(chosen.architecture), images(chosen.architecture)
    calibration = calibrate(network, network.state_dict(), chosen, x)
    delivered = deliverable(network, chosen, calibration)
    pairs = [m for m in delivered.modules() if isinstance(m, Factored)]
    assert len(pairs) == 2 * (4 * bool(rank(32, 32, ratio)) + 2 * bool(rank(32, 64, ratio))) + bool(
        rank(32, 10, ratio)
    )
    with torch.no_grad():
        scored = run(network, network.state_dict(), chosen, x, calibration=calibration)
        assert largest(delivered(x), scored) < 1e-4
    scales = sum(m.gamma.numel() for m in network.modules() if hasattr(m, "gamma"))
    assert sum(p.numel() for p in delivered.parameters()) == workload(chosen).params - scales


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_what_was_trained_at_a_rank_is_delivered(sparsity: float) -> None:
    chosen = candidate(architecture(), Policy(rank_ratio=0.3, sparsity=sparsity))
    network, x = random_network(chosen.architecture), images(chosen.architecture)
    calibration = calibrate(network, network.state_dict(), chosen, x)
    start = prepared(network, chosen, calibration)
    with torch.no_grad():
        weighted = run(network, network.state_dict(), chosen, x, calibration=calibration)
        # The zeros of factors depend on their basis, which is another one from now on.
        assert sparsity or relative(run(start, start.state_dict(), chosen, x), weighted) < 1e-4
    optimizer = torch.optim.SGD(start.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        run(start, dict(start.named_parameters()), chosen, x).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        trained_logits = run(start, start.state_dict(), chosen, x)
        assert relative(trained_logits, weighted) > 0.01
        delivered = deliverable(start, chosen)
        assert relative(delivered(x), trained_logits) < 1e-4
    pairs = [pair for pair in delivered.modules() if isinstance(pair, Factored)]
    assert pairs
    for part in (part for pair in pairs for part in pair):
        inputs = part.weight.shape[1]
        assert (part.weight != 0).sum(1).eq(round(inputs * (1 - sparsity))).all()


def test_weighting_saves_accuracy(trained: Trained) -> None:
    chosen = candidate(trained.network.architecture, Policy(rank_ratio=0.25))
    state = trained.network.state_dict()
    calibration = calibrate(trained.network, state, chosen, trained.train[:128])
    with torch.no_grad():
        exact = trained.network(trained.held_out)
        plain = run(trained.network, state, chosen, trained.held_out)
        weighted = run(trained.network, state, chosen, trained.held_out, calibration=calibration)
    assert relative(weighted, exact) < 0.8 * relative(plain, exact)


def test_autocast_does_not_reach_the_factors() -> None:
    chosen = candidate(architecture(), Policy(8, 8, rank_ratio=0.3))
    network = random_network(chosen.architecture)
    layers, state = compressible(network, chosen), network.state_dict()
    wanted = compressed(state, layers)
    with torch.autocast("cpu", torch.bfloat16):
        found = compressed(state, layers)
    assert all(found[name].equal(wanted[name]) for name in wanted)
