"""Heads of exits: fitted to what is frozen, and as sure as they are right."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from vitpareto.search.data.dataset import Data
from vitpareto.search.training.exits import fit_exits, fit_linear, temperature
from vitpareto.search.training.teacher import Lessons
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.networks import Network
from vitpareto.spaces.networks.parts import EveryExit

from ..small import data, lessons, space

__all__ = ["data", "lessons", "space"]


def test_temperature_is_the_likeliest() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 5, generator=generator) * 2
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert temperature(logits, labels) == pytest.approx(1.0, abs=0.06)
    heat = temperature(3 * logits, labels)
    assert heat == pytest.approx(3.0, abs=0.2)
    losses = [F.cross_entropy(3 * logits / t, labels) for t in (0.98 * heat, heat, 1.02 * heat)]
    assert losses[1] == min(losses)


def test_a_linear_layer_has_the_least_loss() -> None:
    """Its gradient is nothing, whatever the scales of the features."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 6, generator=generator) * torch.tensor([1e-2, 1, 1, 1, 10, 100]) + 3
    labels = torch.randint(3, (200,), generator=generator)
    weight, bias = fit_linear(x, 3, lambda z: F.cross_entropy(z, labels))
    moved = (x - x.mean(0)) / x.std(0)
    w = (weight * x.std(0)).requires_grad_()
    b = (bias + weight @ x.mean(0)).requires_grad_()
    (F.cross_entropy(F.linear(moved, w, b), labels) + 1e-4 * w.square().sum()).backward()
    assert w.grad is not None and b.grad is not None
    assert max(w.grad.abs().max(), b.grad.abs().max()) < 2e-3


def test_exits_learn_and_the_network_stays(
    space: SearchSpace, data: Data, lessons: Lessons
) -> None:
    a = space.largest().architecture
    stage = replace(a.stages[0], exits="1")
    candidate = Candidate.uncompressed(replace(a, stages=(stage,)))
    torch.manual_seed(0)
    network, split = Network(candidate.architecture), data.split("validation")
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def right() -> float:
        with torch.no_grad():
            logits = EveryExit.of(network.eval())(split.images)[0]
        return (logits.argmax(1) == split.labels).double().mean().item()

    guessing = right()
    fit_exits(candidate, network, lessons, split, 64, 0)
    after = network.state_dict()
    changed = {name for name, value in after.items() if not value.equal(before[name])}
    assert changed == {"stages.0.exits.1.weight", "stages.0.exits.1.bias"}
    assert right() > guessing + 0.2
    with torch.no_grad():  # calibrated: no other temperature is likelier
        logits = EveryExit.of(network)(split.images)[0]
    assert temperature(logits, split.labels) == pytest.approx(1.0, abs=1e-3)
