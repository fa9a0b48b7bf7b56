"""Training with the compression in the loop wins back what compressing afterwards loses."""

import pytest
import torch

from vitpareto.search.compress import calibrate, candidate_at, prepared, run
from vitpareto.spaces import Candidate, Policy
from vitpareto.spaces.networks import Network

from .conftest import Trained
from .helpers import candidate

STEPS = 160


def accuracy(trained: Trained, network: Network, chosen: Candidate) -> float:
    return trained.accuracy(lambda x: run(network.eval(), network.state_dict(), chosen, x))


@pytest.mark.parametrize(
    "policy",
    [
        Policy(3, 8),
        pytest.param(Policy(8, 8, rank_ratio=0.3), marks=pytest.mark.slow),
        pytest.param(Policy(8, 8, sparsity=0.6), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_compression_in_steps_wins_back_accuracy(trained: Trained, policy: Policy) -> None:
    chosen = candidate(trained.network.architecture, policy)
    exact = trained.accuracy(trained.network)
    before = accuracy(trained, trained.network, chosen)
    state, seen = trained.network.state_dict(), trained.train[:128]
    network = prepared(trained.network, chosen, calibrate(trained.network, state, chosen, seen))
    optimizer = torch.optim.AdamW(network.parameters())
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        picked = torch.randint(len(trained.train), (64,), generator=generator)
        params = dict(network.train().named_parameters())
        now = candidate_at(chosen, step / STEPS, 0.5)
        logits = run(network, params, now, trained.train[picked])
        loss = torch.nn.functional.cross_entropy(logits, trained.train_labels[picked])
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / STEPS)
        optimizer.step()
    assert before < exact - 0.2
    assert accuracy(trained, network, chosen) > before + 0.6 * (exact - before)
