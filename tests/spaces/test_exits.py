"""Exits: parts in a row are the network, its exits are counted, and bad ones refused."""

from dataclasses import replace

import pytest
import torch

from vitpareto.cost_models import workload
from vitpareto.cost_models.graphs.modules import locate
from vitpareto.spaces import Architecture, Block, Candidate, SearchSpace, SpaceError, Stage
from vitpareto.spaces.networks import Network
from vitpareto.spaces.networks.parts import EveryExit, input_shapes, parts_of
from vitpareto.spaces.rules import problems
from vitpareto.spaces.supernet import Supernet

from .helpers import difference, images, randomized, small

PLAIN = Block(num_heads=3, head_dim=8, mlp_hidden=48)
GRID = Block("mbconv", kernel_size=3, mlp_hidden=48)
CASES = {
    "class token": small(PLAIN, PLAIN, PLAIN, global_pool="token"),
    "registers": small(PLAIN, PLAIN, PLAIN, registers=2),
    "two class tokens": small(PLAIN, PLAIN, PLAIN, global_pool="distill"),
    "dropped tokens": small(replace(PLAIN, token_keep=0.5), PLAIN, PLAIN),
    "weights for each token": small(*[Block("token_mlp", token_hidden=12, mlp_hidden=48)] * 3),
    "convolutions": small(GRID, GRID, PLAIN, pos_embed="none", norm="batch"),
}
SPACE = """
input_size: 16
patch_size: 4
num_classes: 5
global_pool: avg
num_heads: 2
exits: [none, 1, "2,1"]
stages:
  - depth: [2, 3]
    width: 16
    mlp_ratio: [1, 2]
"""


def leaving(architecture: Architecture, exits: str) -> Architecture:
    first, *others = architecture.stages
    return replace(architecture, stages=(replace(first, exits=exits), *others))


def hierarchy(exits: str) -> Architecture:
    """Exits on a grid, the last of them before a downsampling."""
    stages = (Stage(16, (GRID, GRID), exits=exits), Stage(24, (PLAIN,)))
    return replace(small(PLAIN, pos_embed="none"), stages=stages)


@pytest.mark.parametrize("case", [*CASES, "hierarchy"])
def test_parts_in_a_row_are_the_network(case: str) -> None:
    a = hierarchy("1,2") if case == "hierarchy" else leaving(CASES[case], "1,2")
    network, x = randomized(a), images(a)
    with torch.no_grad():
        every, stream = EveryExit.of(network)(x), x
        for part, shape in zip(parts_of(network), input_shapes(network, 2), strict=True):
            assert tuple(stream.shape) == shape
            found = part(stream)
            logits, stream = found if isinstance(found, tuple) else (found, stream)
            assert difference(logits, every[part.index]) < 1e-5
        assert difference(every[-1], network(x)) == 0
        assert every.shape == (3, 2, 5) and difference(every[0], every[1]) > 1e-3


def test_exits_add_their_heads_and_change_nothing_else() -> None:
    """So keys, weights and answers of networks without them are what they were."""
    a = leaving(CASES["class token"], "1,2")
    candidate = Candidate.uncompressed(a)
    plain = candidate.without_exits()
    assert plain == Candidate.uncompressed(CASES["class token"]) == plain.without_exits()
    assert "exits" not in plain.to_json() and candidate.key != plain.key
    assert Candidate.from_json(candidate.to_json()) == candidate
    network, bare = randomized(a), Network(plain.architecture).eval()
    own = network.state_dict()
    added = own.keys() - bare.state_dict().keys()
    assert added == {f"stages.0.exits.{n}.{p}" for n in (1, 2) for p in ("weight", "bias")}
    bare.load_state_dict({name: value for name, value in own.items() if name not in added})
    with torch.no_grad():
        assert difference(bare(images(a)), network(images(a))) == 0


@pytest.mark.parametrize("case", CASES)
def test_counted_as_built(case: str) -> None:
    candidate = Candidate.uncompressed(leaving(CASES[case], "1,2"))
    counted, plain = workload(candidate), workload(candidate.without_exits())
    built = Network(candidate.architecture)
    assert counted.params == sum(p.numel() for p in built.parameters())
    assert len(counted.sub_blocks) == len(plain.sub_blocks) + 2
    assert counted.macs == plain.macs + 2 * 24 * 5
    assert locate(candidate).keys() == locate(candidate.without_exits()).keys()


def test_an_axis_of_a_space() -> None:
    space = SearchSpace.from_text(SPACE)
    # Networks of two blocks end where the second exit would be.
    assert space.size == 2 * 2 + 3 * 2 == len({c.key for c in space.sample(400)})
    found = {c.architecture.stages[0].exits for c in space.sample(100)}
    assert found == {"none", "1", "1,2"}
    supernet = Supernet(space)
    for candidate in space.sample(20):
        assert candidate in space
        assert space.candidate(space.assignment(candidate)) == candidate
        with torch.no_grad():
            x = images(candidate)
            plain = supernet(candidate.without_exits(), x)
            assert difference(supernet(candidate, x), plain) == 0


BAD = {
    "exits: [0, 1]": "exits: need numbers of blocks after which a head may answer",
    "exits: [none, some]": "or none, got 'some'",
    "exits: 3": "exits '3' of 2 blocks: no block follows the last of them",
    "exits: [none, 7]": "no candidate can have '7': exits '7' of",
    "exits: 1\nnum_classes: 0": "exits '1' need classes to answer with",
}


@pytest.mark.parametrize("given", BAD)
def test_bad_exits_are_refused_when_the_space_is_read(given: str) -> None:
    text = SPACE.replace('exits: [none, 1, "2,1"]', given)
    if "num_classes" in given:
        text = text.replace("num_classes: 5\n", "")
    with pytest.raises(SpaceError, match="exits") as caught:
        SearchSpace.from_text(text)
    assert BAD[given] in str(caught.value)


@pytest.mark.parametrize("exits", ["", "2,1", "0", "1,,2", " 1", "1,1", "x"])
def test_one_spelling(exits: str) -> None:
    (problem, *_) = problems(leaving(CASES["class token"], exits))
    assert "architecture.stages[0]: exits are numbers of blocks from 1 on, ascending" in problem
