"""What is given up first: of units, and of blocks."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vitpareto.search.executors import LocalExecutor
from vitpareto.search.library.making import make_library
from vitpareto.search.library.parts import Library
from vitpareto.search.library.repair import assemble
from vitpareto.search.library.slices import sliced
from vitpareto.search.library.start import Start
from vitpareto.search.library.units import explained_by_units, units_by_importance
from vitpareto.spaces import Block, Candidate, SearchSpace
from vitpareto.spaces.networks import Network

from ..compress.helpers import architecture, images, random_network

BLOCK = Block(num_heads=4, head_dim=8, mlp_hidden=64)


def of(network: Network, n: int = 16) -> Start:
    return Start.of(network, images(network.architecture, n))


def smaller(network: Network, heads: int, hidden: int) -> Candidate:
    stage = network.architecture.stages[0]
    blocks = tuple(replace(b, num_heads=heads, mlp_hidden=hidden) for b in stage.blocks)
    a = replace(network.architecture, stages=(replace(stage, blocks=blocks),))
    return Candidate.uncompressed(a)


@torch.no_grad()
def test_units_that_write_nothing_new_go_first() -> None:
    """Some write nothing, some always the same, which the bias can say: no logit changes."""
    network = random_network(architecture(BLOCK, BLOCK))
    for block in network.stages[0].blocks:
        block.attn.proj.weight[:, 8:16] = 0  # the second head
        block.mlp.fc2.weight[:, :8] = 0
        block.mlp.fc1.weight[8:16] = 0  # constants, with whatever bias they have
        block.mlp.fc2.weight[:, 8:16] *= 10
    start = of(network)
    units = units_by_importance(start)
    assert int(units["stages.0.blocks.0.attn heads"][-1]) == 1
    assert set(units["stages.0.blocks.1.mlp hidden"][-16:].tolist()) == set(range(16))
    candidate, x = smaller(network, 3, 48), images(network.architecture, 8, seed=3)
    library = Library(start, units)
    assert (assemble(library, candidate)(x) - network(x)).abs().max() < 1e-3
    assert (sliced(library, candidate.architecture)(x) - network(x)).abs().max() > 0.1


@torch.no_grad()
def test_twins_can_stand_in_for_each_other() -> None:
    """Of two equal units one can do the work of both; ridge comes close to it."""
    network = random_network(architecture(BLOCK))
    mlp = network.stages[0].blocks[0].mlp
    for part in ("weight", "bias"):
        getattr(mlp.fc1, part)[32:] = getattr(mlp.fc1, part)[:32]
    start = of(network, 64)
    hidden = torch.arange(64)
    library = Library(start, {"stages.0.blocks.0.mlp hidden": hidden})
    candidate, x = smaller(network, 4, 32), images(network.architecture, 8, seed=3)

    def error(cut: Network) -> float:
        return (cut(x) - network(x)).square().mean().item()

    assert error(assemble(library, candidate)) < 0.1 * error(
        sliced(library, candidate.architecture)
    )


def silent(network: Network, *blocks: int) -> None:
    """Let some blocks add nothing to the stream."""
    for j in blocks:
        block = network.stages[0].blocks[j]
        for layer in (block.attn.proj, block.mlp.fc2):
            layer.weight.zero_()
            layer.bias.zero_()


SPACE = """
in_chans: 1
num_classes: 10
input_size: 16
patch_size: 4
global_pool: avg
stages:
  - depth: [2, 3, 4]
    width: 32
    head_dim: 8
    num_heads: 4
    mlp_ratio: 2.0
"""


@torch.no_grad()
def test_blocks_that_do_nothing_are_given_up_first(tmp_path: Path) -> None:
    space = SearchSpace.from_text(SPACE)
    network = random_network(space.largest().architecture)
    silent(network, 0, 2)
    start = of(network, 8)
    library = make_library(start, space, LocalExecutor(), tmp_path / "library.safetensors")
    assert {*library.dropped[0]} == {0, 2}
    missed = [library.missed[f"stages.0.blocks.{j}"] for j in range(4)]
    first, second = (f"stages.0.blocks.{j}" for j in library.dropped[0])
    assert [*library.lost] == [first, second] and library.lost[first] == library.missed[first]
    assert max(missed[0], missed[2]) < 0.1 * min(missed[1], missed[3])
    x = images(network.architecture, 4, seed=2)
    for depth, kept in ((4, (0, 1, 2, 3)), (3, None), (2, (1, 3))):
        candidate = space.candidate({"stages.0.depth": depth})
        found = library.kept(candidate.architecture)[0]
        assert kept in (None, found)
        assert len(found) == depth
        logits: Tensor = assemble(library, candidate)(x)
        assert (logits - network(x)).abs().max() < 1e-3


@torch.no_grad()
def test_a_block_that_is_gone_is_taken_over() -> None:
    """By the MLP before it: what it wrote into every token alike is not lost."""
    network = random_network(architecture(BLOCK, BLOCK, BLOCK))
    silent(network, 1)
    network.stages[0].blocks[1].mlp.fc2.bias.uniform_(-3, 3)
    library = Library(of(network), dropped=((1,),))
    stage = network.architecture.stages[0]
    a = replace(network.architecture, stages=(replace(stage, blocks=stage.blocks[:2]),))
    x = images(network.architecture, 4, seed=2)
    assert (sliced(library, a)(x) - network(x)).abs().max() > 0.3
    assert (assemble(library, Candidate.uncompressed(a))(x) - network(x)).abs().max() < 1e-3


def test_the_share_that_is_explained() -> None:
    """All but nothing is missed where only silent units go; less is explained by fewer."""
    network = random_network(architecture(BLOCK, BLOCK))
    with torch.no_grad():
        network.stages[0].blocks[1].mlp.fc2.weight[:, :32] = 0
    start = of(network, 32)
    counts = {f"stages.0.blocks.{j}.attn heads": {1, 2, 3} for j in (0, 1)}
    counts |= {f"stages.0.blocks.{j}.mlp hidden": {16, 32, 48} for j in (0, 1)}
    shares = explained_by_units(start, units_by_importance(start), counts)
    assert {name: {*by_count} for name, by_count in shares.items()} == counts
    assert shares["stages.0.blocks.1.mlp hidden"][32] > 0.999
    for by_count in shares.values():
        one, two, three = (by_count[count] for count in sorted(by_count))
        assert 0 < one < two <= three + 1e-6
        assert three <= 1
