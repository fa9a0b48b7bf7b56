"""Convolutions that are trained in branches: the space, and weights that candidates share."""

from copy import deepcopy
from typing import Any

import pytest
import torch

from vitpareto.spaces import Block, Candidate, SearchSpace, SpaceError
from vitpareto.spaces.mixers import MIXERS, find
from vitpareto.spaces.networks import Network
from vitpareto.spaces.networks.branches import branches_of, merged
from vitpareto.spaces.networks.refit import with_branches
from vitpareto.spaces.supernet import Supernet

from .branched import BLOCKS, SPACE, SPEC, in_branches, plain, plainly
from .helpers import difference, images, randomize, randomized, small


def test_keys_tell_branches_and_nothing_else_changes() -> None:
    tried = in_branches(10)
    assert {find(b.mixer).reparam for c in tried for b in c.architecture.blocks()} == {True, False}
    for candidate in tried:
        assert candidate.key != plain(candidate).key
        assert Candidate.from_json(candidate.to_json()) == candidate
        assert "reparam" not in plain(candidate).to_json()
        for one in (candidate, plain(candidate)):
            assert one in SPACE and SPACE.candidate(SPACE.assignment(one)) == one


def test_where_there_is_nothing_to_branch_it_is_no_choice() -> None:
    """A stem of patches, and a mixer with no weights; pooling is no convolution."""
    stage: dict[str, Any] = {"depth": 1, "width": 8, "mixer": ["pool", "mbconv"]}
    space = SearchSpace({**SPEC, "stem": "patch", "stages": [stage]})
    assert space.size == 1 + 2
    assert not small(Block("pool", mlp_hidden=8), reparam=True).reparam
    assert small(Block("mbconv", mlp_hidden=8, kernel_size=3), reparam=True).reparam


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reparam": True, "mixer": "pool"}, "reparam: true: nothing in this space can be trained"),
        ({"mixer": "pool"}, "reparam: unreachable: no candidate has a use"),
        ({"reparam": True, "mixer": "mbconv", "kernel_size": 1}, "kernel_size cannot be 1"),
        ({"reparam": "RepVGG", "mixer": "mbconv"}, "reparam: need true or false, got 'RepVGG'"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    spec = {**SPEC, "stem": "patch", "stages": [{"depth": 1, "width": 8}], **fields}
    with pytest.raises(SpaceError, match=message):
        SearchSpace(spec)


@torch.no_grad()
def test_a_network_in_branches_starts_as_the_plain_one() -> None:
    """And what its branches learn is in the weights that `merged` gives the plain one."""
    for candidate in in_branches(4):
        network, x = randomized(plainly(candidate.architecture)), images(candidate)
        started = with_branches(network)
        assert branches_of(started)
        assert difference(started(x), network(x)) < 1e-6
        randomize(started.state_dict(), seed=1)
        state = merged(branches_of(started), started.state_dict())
        network.load_state_dict({name: state[name] for name in network.state_dict()})
        expected = started(x)
        assert difference(network(x), expected) < 1e-5 * float(expected.abs().max())


def test_every_mixer_that_says_so_has_branches() -> None:
    seen: set[str] = set()
    for candidate in in_branches(12):
        paths = branches_of(Network(candidate.architecture))
        for mixer in {block.mixer for block in candidate.architecture.blocks()}:
            seen.add(mixer)
            assert find(mixer).reparam == any(f".{mixer}." in path for path in paths)
    assert seen == {*BLOCKS["mixer"]} > {name for name in MIXERS if find(name).reparam}


@torch.no_grad()
def test_shared_weights() -> None:
    """Slices are the extracted network, sorting moves no output, and a network fills them."""
    supernet = Supernet(SPACE)
    fresh = supernet.state_dict()
    assert all(not v.any() for name, v in fresh.items() if name.endswith(".point"))
    randomize(supernet.state_dict())
    tried = in_branches(6)
    for candidate in tried:
        x = images(candidate)
        logits = supernet(candidate, x)
        assert difference(logits, supernet.extract(candidate)(x)) < 1e-5
    largest = max(tried, key=lambda c: sum(b.mlp_hidden for b in c.architecture.blocks()))
    x = images(largest)
    before, ordered = supernet(largest, x), deepcopy(supernet)
    ordered.sort_by_importance()
    # Where it is narrower than the shared weights other units come first; so ask a whole one.
    whole = SPACE.candidate({"reparam": True, "stem": "conv"})
    x = images(whole)
    assert difference(ordered(whole, x), supernet(whole, x)) < 1e-4
    network, other = supernet.extract(largest), Supernet(SPACE, seed=1)
    other.load_network(network)
    x = images(largest)
    assert difference(other(largest, x), before) < 1e-4
    assert difference(other(plain(largest), x), before) < 1e-4
