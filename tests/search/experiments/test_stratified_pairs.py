"""Stratified pairs: they cover the space, and each differs along its axis alone."""

from collections import Counter

import pytest

from vitpareto.cost_models import workload
from vitpareto.search.experiments.stratified_pairs import axis_of, stratified_pairs
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import SpaceError


@pytest.mark.parametrize("name", ["digits", "cifar", "mobile_hybrid"])
def test_pairs_differ_along_their_axis_alone(name: str) -> None:
    space = SearchSpace.from_yaml(name)
    pairs = stratified_pairs(space, 15, seed=1)
    candidates = [c for pair in pairs for c in (pair.first, pair.second)]
    assert len({c.key for c in candidates}) == 30
    for pair in pairs:
        assert pair.first in space and pair.second in space
        a, b = space.assignment(pair.first), space.assignment(pair.second)
        differ = [name for name in a.keys() & b.keys() if a[name] != b[name]]
        assert {axis_of(name) for name in differ} <= {pair.axis}
        for values in (a, b):
            assert len({values[name] for name in differ}) <= 1, "one value on each side"


def test_fewer_pairs_are_the_first_of_more() -> None:
    space = SearchSpace.from_yaml("digits")
    assert stratified_pairs(space, 5, seed=0) == stratified_pairs(space, 12, seed=0)[:5]
    assert stratified_pairs(space, 5, seed=0) != stratified_pairs(space, 5, seed=1)


def test_axes_take_turns_and_sizes_spread() -> None:
    space = SearchSpace.from_yaml("digits")
    pairs = stratified_pairs(space, 22, seed=0)
    counts = Counter(pair.axis for pair in pairs)
    assert set(counts) >= {"patch_size", "width", "depth", "mixer", "norm", "act", "mlp_ratio"}
    assert max(counts.values()) - min(counts.values()) <= 2
    macs = sorted(workload(pair.first).macs for pair in pairs)
    drawn = sorted(workload(candidate).macs for candidate in space.sample(400, seed=9))
    assert macs[0] < drawn[40] and macs[-1] > drawn[-40]


def test_a_space_that_is_too_small() -> None:
    spec = SearchSpace.from_yaml("digits").spec | {"norm": "layer", "act": "gelu", "patch_size": 8}
    stage = {
        "depth": 2,
        "width": [48, 64],
        "head_dim": 16,
        "blocks": {"mixer": "softmax", "num_heads": 2, "mlp_ratio": 2.0},
    }
    space = SearchSpace(spec | {"stages": [stage]})
    assert len(stratified_pairs(space, 1, 0)) == 1
    with pytest.raises(SpaceError, match=r"10 candidates in pairs.* only 2 were found"):
        stratified_pairs(space, 5, 0)
