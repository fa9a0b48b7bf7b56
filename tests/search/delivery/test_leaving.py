"""Thresholds: as good as trying everything, for the accuracy that is asked for."""

import pytest
import torch
from torch import Tensor

from vitpareto.search.delivery.leaving import (
    TradeOff,
    answers_of,
    mean_cost,
    part_of,
    shares_of,
    sureness,
)

COSTS = (1.0, 3.0)


def drawn(parts: int = 2, images: int = 300) -> tuple[Tensor, Tensor]:
    """Logits of exits that get better, and are right as often as they say."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (images,), generator=generator)
    noise = torch.randn(parts, images, 4, generator=generator)
    signal = torch.nn.functional.one_hot(labels, 4) * torch.linspace(1.5, 4, parts)[:, None, None]
    return noise + signal, labels


def test_one_exit_is_as_good_as_trying_every_threshold() -> None:
    logits, labels = drawn()
    trade = TradeOff.of(logits, labels, COSTS)
    every: list[tuple[float, float]] = []
    for limit in (*sureness(logits[0].double()).tolist(), 2.0):
        part = part_of(logits, (limit,))
        right = (answers_of(logits, part).argmax(1) == labels).double().mean().item()
        every.append((mean_cost(part, COSTS)[0], right))
    for point in trade.curve():  # nothing is cheaper and more often right
        assert not any(c < point.cost - 1e-9 and r >= point.accuracy for c, r in every)
    drops = (0.0, 0.004, 0.01, 0.05, 1.0)
    found = [trade.cheapest(trade.whole - drop) for drop in drops]
    for drop, point in zip(drops, found, strict=True):
        assert point.accuracy >= trade.whole - drop - 1e-9
        best = min(c for c, r in every if r >= trade.whole - drop - 1e-9)
        assert point.cost == pytest.approx(best)
    costs = [point.cost for point in found]
    assert costs == sorted(costs, reverse=True) and costs[-1] == 1.0 and costs[0] < 4.0


def test_what_a_point_says_is_what_comes_of_its_thresholds() -> None:
    logits, labels = drawn(3)
    weights = torch.where(labels == 0, 2.0, 0.5)
    trade = TradeOff.of(logits, labels, (1.0, 2.0, 4.0), weights)
    points = trade.curve()
    assert len(points) > 5
    for point in (*points, *(trade.cheapest(least) for least in (0.3, 0.5, 0.7))):
        part = part_of(logits, point.above)
        right = (answers_of(logits, part).argmax(1) == labels).double()
        assert point.accuracy == pytest.approx((right * weights).mean().item())
        assert point.shares == shares_of(part, 3)
        each = torch.tensor([1.0, 3.0, 7.0])[part]
        assert point.cost == pytest.approx(each.mean().item())
        assert point.cost_low <= point.cost <= point.cost_high


def test_exits_that_are_only_worse_are_never_taken() -> None:
    """A guess that is sure of itself must not answer where accuracy is asked for."""
    logits, labels = drawn()
    wrong = torch.nn.functional.one_hot((labels + 1) % 4, 4) * 20.0
    trade = TradeOff.of(torch.stack([wrong, logits[1]]), labels, COSTS)
    point = trade.cheapest(trade.whole)
    right = logits[1].argmax(1) == labels
    # Only where the end is wrong as well may they answer, and all are equally sure.
    assert point.shares == (0.0, 1.0) and point.accuracy == right.double().mean().item()
